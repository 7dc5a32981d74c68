"""Ways of masking: tree, naive evaluation and definition agree, and each is what it says it is."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import SETTINGS, assert_close, forward, random_decoder, save_checkpoint

import andor
from andor.core import lattice
from andor.evaluation.background import background_loss
from andor.evaluation.evaluate import tokenized_for
from andor.evaluation.spot_check import spot_check
from andor.prompts import read_mask, tokenize
from andor.prompts.masks import DRAWS

TEXT = "so the film is not good , but it is never dull ."
WORDS = ["film", "not good", "never"]
MASKS = ["delete", "attention", "resample::2"]  # a token and an embedding: tests/test_evaluation.py


@pytest.fixture(scope="module", params=["llama-gqa", "gemma3"])
def either(request, tmp_path_factory):
    return loaded(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return loaded("qwen2-window", tmp_path_factory)


def loaded(name, tmp_path_factory):
    settings = SETTINGS[name]
    folder = save_checkpoint(tmp_path_factory.mktemp("model"), settings, random_decoder(settings))
    config = folder / "tokenizer_config.json"
    template = "<eos>user {{ messages[0]['content'] }}<eos>model "
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": template}))
    return andor.load(str(folder))


SAMPLE = np.array([0, 5, 7])
"""Masks that are evaluated by definition: every length of a prompt is compiled by itself."""


def by_definition(model, prompt, baseline, target=None):
    """v of `SAMPLE` from one forward pass per mask and target token, without padding, and float64 probabilities.

    What is deleted is not in the sequence; of what nobody attends to only the positions are left, in a segment of its
    own.
    """
    tokenized, embedding = tokenized_for(model, prompt, target or prompt.continuation, baseline)
    kind, v = tokenized.mask.kind, []
    for row in lattice.masks(prompt.n_players)[SAMPLE]:
        masked = np.array([player >= 0 and not row[player] for player in tokenized.player_of_token])
        of_draws = []
        for draw in tokenized.draws:
            p = 1.0
            for index, token in enumerate(draw.target_ids):
                ids = np.concatenate([draw.token_ids, draw.target_ids[:index]])
                out = np.concatenate([masked, np.zeros(index, bool)])
                if kind == "delete":
                    logits = forward(model.decoder, jnp.asarray(ids[~out])[None])
                elif kind == "attention":
                    logits = forward(model.decoder, jnp.asarray(ids)[None], None, jnp.asarray(out)[None].astype(int))
                else:
                    ids = jnp.asarray(np.where(out, draw.instead[: len(ids)], ids))[None]
                    embedded = model.decoder.embed(ids, embedding)
                    logits = model.decoder.logits(model.decoder.hidden(embedded))
                logits = np.asarray(logits[0, -1], np.float64)
                p *= np.exp(logits[token]) / np.exp(logits).sum()
            of_draws.append(np.log(p) - np.log1p(-p))
        v.append(np.mean(of_draws))
    return np.array(v)


@pytest.mark.parametrize("baseline", MASKS)
def test_tree_naive_and_definition_agree(either, baseline):
    prompt = andor.Prompt(TEXT, players=WORDS, target="never again")
    values = andor.evaluate(either, prompt, baseline=baseline, tokens_per_batch=32, measure_noise=True)
    naive = andor.evaluate(either, prompt, baseline=baseline, method="naive", tokens_per_batch=64)
    assert_close(values.v[SAMPLE], by_definition(either, prompt, baseline), 1e-4)
    assert_close(values.v, naive.v, 1e-4)
    assert np.ptp(values.v) > 0.05 and values.forward_noise < 1e-4
    tokenized = tokenize(prompt, either.tokenizer, baseline=baseline)
    player, behind = tokenized.player_of_token, len(tokenized.target_ids) - 1
    if tokenized.mask.leaves_out:  # what is left out is evaluated only where it is there
        started = np.maximum.accumulate(player) + 1
        assert values.tokens_evaluated == np.sum(2 ** np.where(player >= 0, player, started)) + 8 * behind
    expected_naive = 8 * (len(player) + behind) - (baseline == "delete") * 4 * np.sum(player >= 0)
    assert naive.tokens_evaluated == expected_naive * len(tokenized.draws)


@pytest.mark.parametrize("baseline", ["delete", "attention"])
def test_in_a_chat_behind_a_long_beginning(model, baseline):
    """The beginning is longer than a window, and is no list of keys."""
    text = "a good film . " * 12 + TEXT
    players = [(text.rindex(word), text.rindex(word) + len(word)) for word in WORDS]
    prompt = andor.Prompt(text, players=players, target="good", chat=True)
    values = andor.evaluate(model, prompt, baseline=baseline)
    assert_close(values.v[SAMPLE], by_definition(model, prompt, baseline), 1e-4)


def test_where_the_last_words_are_deleted_the_word_before_them_predicts(model):
    prompt = andor.Prompt("so the film is never dull", players=["film", "never", "dull"], target="good")
    values, naive = (andor.evaluate(model, prompt, baseline="delete", method=each) for each in ("tree", "naive"))
    assert_close(values.v[SAMPLE], by_definition(model, prompt, "delete"), 1e-4)
    assert_close(values.v, naive.v, 1e-4)
    shorter = andor.Prompt("so the is", players=["so"])
    assert np.isclose(values.v[0], andor.evaluate(model, shorter, target=" good").v[1], atol=1e-4)


def test_what_leaves_nothing_to_predict_from_is_refused(model):
    with pytest.raises(ValueError, match=r"player 'dull' holds the last token.*mask with delete"):
        andor.evaluate(model, andor.Prompt("a film so dull", players=["dull"], target="good"), baseline="attention")
    with pytest.raises(ValueError, match="nothing is left when all are deleted"):
        andor.evaluate(model, andor.Prompt("a film", players=["a film"], target="good"), baseline="delete")


@pytest.mark.parametrize("baseline", ["delete", "resample::2"])
def test_values_from_elsewhere_are_checked_under_their_mask(model, baseline):
    prompt = andor.Prompt(TEXT, players=WORDS, target="good")
    values = andor.evaluate(model, prompt, baseline=baseline)
    options = {"measure_noise": True, "seed": 0}
    checked, difference = spot_check(model, prompt, values, baseline=baseline, **options)
    assert difference < 1e-4 and checked.forward_noise < 1e-4
    assert spot_check(model, prompt, values, baseline="mean", **options)[1] > 0.01


def test_words_are_drawn_from_the_corpus(model, tmp_path):
    corpus = tmp_path / "corpus:2.txt"
    corpus.write_text("good never dull", encoding="utf-8")
    prompt = andor.Prompt(TEXT, players=WORDS)
    drawn = tokenize(prompt, model.tokenizer, baseline=f"resample:{corpus}:40:5")
    assert drawn.drawn.shape == (40, len(drawn.token_ids)) and len(drawn.draws) == 40
    texts = [model.tokenizer.decode(row) for row in drawn.drawn]
    assert len(set(texts)) > 10
    kept = drawn.player_of_token < 0
    assert np.all(drawn.drawn[:, kept] == drawn.token_ids[kept])
    assert set(" ".join(texts).split()) <= set(TEXT.split()) | {"good", "never", "dull"}
    again, other = (tokenize(prompt, model.tokenizer, baseline=f"resample:{corpus}:40:{seed}") for seed in (5, 6))
    assert np.array_equal(again.drawn, drawn.drawn) and not np.array_equal(other.drawn, drawn.drawn)
    assert again.mask.key == {"corpus": drawn.mask.corpus.digest, "draws": 40, "seed": 5}
    assert tokenize(prompt, model.tokenizer, baseline="resample").drawn.shape[0] == DRAWS
    corpus.write_text("extraordinarily", encoding="utf-8")
    with pytest.raises(ValueError, match="found none among 1 words"):
        tokenize(prompt, model.tokenizer, baseline=f"resample:{corpus}")


@pytest.mark.parametrize(
    ("baseline", "message"),
    [("resample::0", "at least one draw"), ("resample:{}", "has none"), ("token:nonsense", "no such token")],
)
def test_masks_that_are_none_are_refused(model, baseline, message, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(ValueError, match=message):
        read_mask(baseline.format(empty), model.tokenizer)
    with pytest.raises(OSError, match="no-such-file"):
        read_mask("resample:no-such-file", model.tokenizer)


def test_a_token_that_is_called_like_a_mask_is_asked_for_as_a_token():
    tokenizer = type(
        "Tokenizer", (), {"get_vocab": lambda _: {"mean": 3}, "convert_ids_to_tokens": lambda _, id: "mean"}
    )()
    assert read_mask("mean", tokenizer).name == "mean embedding"
    token = read_mask("token:mean", tokenizer)
    assert (token.kind, token.token_id, token.name) == ("token", 3, "mean")


@pytest.mark.parametrize("baseline", MASKS)
def test_loss_of_the_background_is_that_of_the_masked_prompts(model, baseline):
    prompt = andor.Prompt(TEXT, players=WORDS)
    loss = background_loss(model, prompt, " good", baseline=baseline)
    tokenized = tokenize(prompt, model.tokenizer, baseline=baseline)
    player = tokenized.player_of_token

    def by_hand(masked, draw):
        ids, out = draw.token_ids, masked & (player >= 0)
        scored = (player < 0) & (np.arange(len(ids)) > np.flatnonzero(player >= 0)[0])
        segments = None
        if baseline == "delete":
            ids, scored = ids[~out], scored[~out]
        elif baseline == "attention":
            segments = jnp.asarray(out)[None].astype(int)
        else:
            ids = np.where(out, draw.instead, ids)
        logits = np.asarray(forward(model.decoder, jnp.asarray(ids)[None], None, segments)[0], np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        there = np.ones(len(ids), bool) if baseline != "attention" else ~out
        before = [np.flatnonzero(there[:at])[-1] for at in np.flatnonzero(scored)]
        return -np.mean(log_p[before, ids[scored]])

    full, masked = (np.mean([by_hand(all_, draw) for draw in tokenized.draws]) for all_ in (False, True))
    assert_close([loss.full, loss.masked], [full, masked], 1e-4)
    assert np.isfinite(loss.half) and loss.half != loss.full


GROUPS = """
import json, sys
import andor
from andor.devices.mesh import make_mesh

errors = []
one, many = (andor.load(sys.argv[1], mesh=mesh) for mesh in (None, make_mesh(data=4)))
for baseline, text in (("delete", "so never dull"), ("delete", "never , but dull ."), ("attention", "never dull .")):
    prompt = andor.Prompt(text, ["never", "dull"], "never again")
    v, of_groups = (andor.evaluate(each, prompt, baseline=baseline).v for each in (one, many))
    errors.append(float(abs(v - of_groups).max()))
print(json.dumps(errors))
"""


def test_groups_of_masks_on_several_devices(tmp_path):
    folder = save_checkpoint(tmp_path, SETTINGS["gemma3"], random_decoder(SETTINGS["gemma3"]))
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    arguments = [sys.executable, "-c", GROUPS, str(folder)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 3 and max(errors) < 1e-4, errors
