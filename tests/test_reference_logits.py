"""Parity with stored logits of transformers' PyTorch models: needs no PyTorch. See reference_logits.py."""

import jax.numpy as jnp
import numpy as np
import pytest
import reference_logits
from tiny_models import assert_close, forward

from andor.models import FAMILIES
from andor.models.config import read_config
from andor.models.weights import load_decoder

STORED = reference_logits.read()


def log_odds(logits):
    p = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.log(p) - np.log1p(-p)


def test_the_configs_are_those_of_the_script():
    assert {name: settings for name, (settings, *_) in STORED.items()} == reference_logits.CONFIGS


@pytest.mark.parametrize("name", STORED)
def test_logits_and_log_odds(name, tmp_path):
    settings, weights, ids, positions, padding, expected = STORED[name]
    reference_logits.write_checkpoint(tmp_path, settings, weights)
    family = FAMILIES[settings["model_type"]]
    decoder = load_decoder(tmp_path, read_config(settings, family), family, jnp.float32)
    rows = padding.astype(bool)
    actual = np.asarray(forward(decoder, *(jnp.asarray(each) for each in (ids, positions, padding))))[rows]
    assert np.abs(expected[rows]).max() > 1
    assert_close(actual, expected[rows], 1e-4)
    assert_close(log_odds(actual), log_odds(expected[rows]), 1e-4)


@pytest.mark.parametrize("name", STORED)
def test_torch_still_gives_the_stored_logits(name):
    pytest.importorskip("torch")
    settings, weights, ids, positions, padding, expected = STORED[name]
    logits = reference_logits.torch_logits(settings, weights, ids, positions, padding)
    assert_close(logits * padding[..., None], expected, 1e-5)
