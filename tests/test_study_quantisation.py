"""The study of rounded weights: the rounding itself, identities, and a smoke run."""

import numpy as np
import pytest

import andor
from experiments import study
from experiments.studies import quantisation
from experiments.studies.quantisation import BLOCK, LEVELS, NOISES, ORIGINAL, Damage, damaged, noised, rounded


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).standard_normal((6, 4 * BLOCK)).astype(np.float32)


def test_rounded_weights_are_few_multiples_of_one_scale_a_block(weights):
    for bits in (2, 3, 4, 6, 8):
        for block, original in zip(rounded(weights, bits).reshape(-1, BLOCK), weights.reshape(-1, BLOCK), strict=True):
            scale = np.abs(original).max() / 2 ** (bits - 1)
            steps = block / scale
            assert np.abs(steps - np.round(steps)).max() < 1e-4
            assert len(np.unique(np.round(steps))) <= 2**bits
            extreme = np.abs(original).argmax()
            assert block[extreme] == pytest.approx(original[extreme])  # the extreme weight is on the grid
            assert np.abs(block - original).max() <= scale * 1.001  # half a step, and a step where the grid ends


def test_rounding_again_changes_nothing_and_more_bits_err_less(weights):
    errors = [np.abs(rounded(weights, bits) - weights).mean() for bits in (8, 6, 4, 3, 2)]
    assert errors == sorted(errors)
    assert (rounded(rounded(weights, 4), 4) == rounded(weights, 4)).all()
    assert not rounded(np.zeros((1, BLOCK), np.float32), 4).any()
    with pytest.raises(ValueError, match="multiple of 32"):
        rounded(weights[:, :-1], 4)


def test_noise_is_as_large_as_the_rounding_error_in_every_block(weights):
    noise = (noised(weights, 3, np.random.default_rng(1)) - weights).reshape(-1, BLOCK)
    error = (rounded(weights, 3) - weights).reshape(-1, BLOCK)
    assert np.allclose((noise**2).mean(axis=1), (error**2).mean(axis=1), rtol=1e-3)
    assert np.abs(np.corrcoef(noise.ravel(), error.ravel())[0, 1]) < 0.2


def test_a_damaged_model_differs_in_its_linear_layers_alone_and_is_called_so():
    model = andor.load("tiny-llama")
    found = {damage: damaged(model, damage, seed=0) for damage in (*LEVELS, *NOISES)}
    assert found[ORIGINAL] is model
    assert len({each.fingerprint for each in found.values()}) == len(found)
    again = damaged(model, Damage(4), seed=5)
    assert again.fingerprint == found[Damage(4)].fingerprint
    assert damaged(model, NOISES[0], seed=5).fingerprint != found[NOISES[0]].fingerprint
    was, now = model.decoder.model.layers[0], found[Damage(3)].decoder.model.layers[0]
    assert (now.mlp.gate_proj.weight[...] != was.mlp.gate_proj.weight[...]).any()
    assert (now.self_attn.q_proj.weight[...] != was.self_attn.q_proj.weight[...]).any()
    assert (now.input_layernorm.weight[...] == was.input_layernorm.weight[...]).all()
    assert (found[Damage(3)].decoder.head == model.decoder.head).all()


def test_smoke(tmp_path, capsys, monkeypatch):
    settings = study.Settings(models=("tiny-llama",), smoke=True, work=tmp_path)
    result = study.execute("quantisation", settings)
    rows = study.study("quantisation").rows(result)
    assert rows[0].ours in capsys.readouterr().out
    models = result["models"]
    assert [*models] == [damage.label for damage in (*LEVELS, *NOISES)]
    assert models["original"]["certified"]["overlap"][0] == pytest.approx(1)
    assert models["original"]["certified"]["change"]["spindle"] == [0, 0, 0]
    assert models["2 bits"]["perplexity"] > models["8 bits"]["perplexity"]
    assert models["8 bits"]["certified"]["overlap"][0] > models["2 bits"]["certified"]["overlap"][0]
    # A second run reads what is there: no model is loaded.
    monkeypatch.setattr(quantisation.Kept, "model", None)
    assert study.execute("quantisation", settings)["models"] == models


def test_models_must_be_named():
    with pytest.raises(ValueError, match="is of pretrained models"):
        study.check("quantisation", study.Settings())
