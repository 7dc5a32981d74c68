import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import SETTINGS, assert_close, forward, random_decoder, save_checkpoint
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import andor
from andor.core import lattice
from andor.evaluation import evaluate_all
from andor.evaluation import tree as tree_module
from andor.evaluation.log_odds import log_odds, target_and_others
from andor.evaluation.naive import NaiveEvaluation
from andor.evaluation.planning import plan_tree
from andor.evaluation.tree import TreeEvaluation
from andor.prompts import tokenize

TEXT = "the film is not good , but it is never dull ."


@pytest.fixture(scope="module", params=["llama-gqa", "qwen2-mqa-tied"])
def model(request, tmp_path_factory):
    settings = SETTINGS[request.param]
    return andor.load(str(save_checkpoint(tmp_path_factory.mktemp("model"), settings, random_decoder(settings))))


def by_definition(model, prompt, target=None):
    """v from unpadded forward passes, one per target token, and float64 probabilities."""
    tokenized = tokenize(prompt, model.tokenizer, target)
    present = lattice.masks(prompt.n_players)
    masked = [
        [
            tokenized.mask.token_id if player >= 0 and not row[player] else token
            for token, player in zip(tokenized.token_ids, tokenized.player_of_token, strict=True)
        ]
        for row in present
    ]
    p = np.ones(len(masked))
    for index, token in enumerate(tokenized.target_ids):
        ids = np.array([row + list(tokenized.target_ids[:index]) for row in masked], np.int32)
        logits = np.asarray(forward(model.decoder, jnp.asarray(ids))[:, -1], np.float64)
        p *= np.exp(logits[:, token]) / np.exp(logits).sum(axis=-1)
    return np.log(p) - np.log1p(-p)


@pytest.mark.parametrize("target", [None, "good", "never again"])
def test_values_equal_the_definition(model, target):
    prompt = andor.Prompt(TEXT, players=["film", "not good", "never"], target=target)
    values = andor.evaluate(model, prompt)
    expected_target = andor.predict_target(model, prompt) if target is None else None
    assert_close(values.v, by_definition(model, prompt, expected_target), 1e-4)
    assert values.v.dtype == np.float64
    assert values.players == ("film", "not good", "never")
    assert values.target == (expected_target if target is None else f" {target}")
    tokenized = tokenize(prompt, model.tokenizer, values.target)
    length = len(tokenized.token_ids) + len(tokenized.target_ids) - 1
    naive = andor.evaluate(model, prompt, method="naive")
    assert_close(values.v, naive.v, 1e-4)
    assert naive.tokens_evaluated == 8 * length
    started = np.maximum.accumulate(tokenized.player_of_token) + 1
    assert values.tokens_evaluated == np.sum(2**started) + 8 * (length - started.size)
    assert np.isclose(values.target_probability, 1 / (1 + np.exp(-values.v[-1])))


def test_the_sum_of_the_tokens_log_odds_is_a_score_too(model):
    """Each token's log-odds as those of a target of one token, after a prompt that the tokens before it end."""
    prompt = andor.Prompt(TEXT, players=["film", "not good", "never"], target="never again")
    product, summed, naive = (
        andor.evaluate(model, prompt, measure_noise=True, **options)
        for options in ({}, {"score": "sum"}, {"score": "sum", "method": "naive"})
    )
    target_ids = tokenize(prompt, model.tokenizer).target_ids
    pieces = [model.tokenizer.decode([token]) for token in target_ids]
    assert len(pieces) > 1 and "".join(pieces) == " never again"
    texts = [TEXT + "".join(pieces[:count]) for count in range(len(pieces))]
    alone = [
        andor.evaluate(model, andor.Prompt(text, prompt.players), target=piece)
        for text, piece in zip(texts, pieces, strict=True)
    ]
    assert_close(summed.v, sum(each.v for each in alone), 1e-4)
    assert_close(naive.v, summed.v, 1e-4)
    assert (product.score, summed.score) == ("product", "sum") and "sum of the tokens" in repr(summed)
    assert np.abs(summed.v - product.v).max() > 0.01 and summed.forward_noise < 1e-4
    assert np.isclose(summed.target_probability, product.target_probability, rtol=1e-5)
    one = andor.Prompt(TEXT, prompt.players, target="!")
    assert_close(andor.evaluate(model, one, score="sum").v, andor.evaluate(model, one).v, 0)


def test_what_is_odd_about_a_prompt_is_said_once(model):
    with pytest.warns(UserWarning) as said:
        andor.evaluate(model, andor.Prompt("so the film is ", players=["film"], target="good"))
        andor.evaluate(model, andor.Prompt("so good a film", players=["film"], target="!", id="end"))
    assert [str(each.message).split(":")[0] for each in said] == ["prompt 'so the film is '", "prompt 'end'"]
    assert "Leave the space out of the prompt" in str(said[0].message) and "last token" in str(said[1].message)


def test_a_mask_that_has_no_embedding_is_refused(tmp_path):
    settings = SETTINGS["llama-gqa"]
    folder = save_checkpoint(tmp_path / "model", settings, random_decoder(settings))
    config = folder / "tokenizer_config.json"
    # transformers adds a token that the vocabulary lacks, behind its end.
    config.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>"}))
    tokenizer_json = json.loads((folder / "tokenizer.json").read_text())
    filler = {f"unused {number}": 300 - number for number in range(1, 301 - len(tokenizer_json["model"]["vocab"]))}
    tokenizer_json["model"]["vocab"] |= filler
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json))
    model, prompt = andor.load(str(folder)), andor.Prompt(TEXT, players=["film"], target="good")
    with pytest.raises(
        ValueError, match=r"replaced by token 30\d, which has no embedding: its vocab_size is 300.*baseline"
    ):
        andor.evaluate(model, prompt)
    assert andor.evaluate(model, prompt, baseline="mean").v.shape == (2,)


WORDS = TEXT.split()


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3), min_size=4, max_size=9), st.sampled_from([None, "good", "never again"]), st.data())
def test_tree_equals_naive(model, widths, target, data):
    """Players of 1 to 3 words anywhere: adjacent, first, last, the whole text."""
    words = (WORDS * 3)[: max(sum(max(width, 1) for width in widths), 1)]
    text, players, position = " ".join(words), [], 0
    for width in widths:  # 0 is a word of background
        start = len(" ".join(words[:position])) + (position > 0)
        position += max(width, 1)
        if width:
            players.append((start, len(" ".join(words[:position]))))
    if not players:
        players = [(0, len(text))]
    prompt = andor.Prompt(text, players, target=target or "dull")
    tokens = data.draw(st.sampled_from([None, 1, 16, 100]))
    tree = andor.evaluate(model, prompt, tokens_per_batch=tokens)
    naive = andor.evaluate(model, prompt, method="naive")
    assert_close(tree.v, naive.v, 1e-4)
    assert tree.tokens_evaluated <= naive.tokens_evaluated


@pytest.mark.parametrize("n_players", [1, 16])
def test_tree_equals_naive_from_one_player_to_sixteen(model, n_players):
    text = " ".join((WORDS * 2)[: n_players + 2])
    tokenized = tokenize(andor.Prompt(text, text.split()[-n_players:], target="good"), model.tokenizer)
    tree = plan_tree(model.decoder.config, 4, tokenized, None, available=10**9)
    values = run(TreeEvaluation(model.decoder, tree))
    sample = np.random.default_rng(0).integers(0, 2**n_players, 100)
    assert_close(values[sample], run(NaiveEvaluation(model.decoder, tokenized, 1000, subsets=sample)), 1e-4)


def run(evaluation):
    for step in evaluation.steps():
        step.done.block_until_ready()
    return evaluation.values()


@pytest.mark.parametrize("baseline", ["mean", "zero", "Ġfilm"])
def test_baselines_other_than_the_mask(model, baseline):
    prompt = andor.Prompt(TEXT, players=["film", "not", "dull"], target="good")
    tree, naive = (andor.evaluate(model, prompt, baseline=baseline, method=each) for each in ("tree", "naive"))
    assert_close(tree.v, naive.v, 1e-4)
    tokenized = tokenize(prompt, model.tokenizer)
    tokens = jnp.asarray(tokenized.token_ids)[None]
    embeddings = model.decoder.embed(tokens)
    every = model.decoder.embed(jnp.arange(300)[None])[0]
    film = model.tokenizer.convert_tokens_to_ids("Ġfilm")
    instead = {"mean": every.mean(axis=0), "zero": jnp.zeros(32), "Ġfilm": every[film]}[baseline]
    masked = jnp.where((tokenized.player_of_token >= 0)[None, :, None], instead[None, None], embeddings)
    logits = model.decoder.logits(model.decoder.hidden(masked))[:, -1]
    assert np.isclose(tree.v[0], log_odds_of_logits(logits, tokenized.target_ids), atol=1e-4)
    assert np.isclose(tree.v[-1], andor.evaluate(model, prompt).v[-1], atol=1e-4)


def test_a_long_beginning_is_evaluated_once(model):
    beginning = "a good film . " * 20
    prompt = andor.Prompt(beginning + TEXT, players=["not good", "never", "dull"], target="good")
    tree, naive = (andor.evaluate(model, prompt, method=method) for method in ("tree", "naive"))
    assert_close(tree.v, naive.v, 1e-4)
    assert tree.tokens_evaluated < 0.3 * naive.tokens_evaluated


@pytest.mark.parametrize("name", ["mistral-window", "gemma3", "olmo2-gqa"])
def test_windows_and_norms_of_a_family_are_in_the_tree(name, tmp_path):
    """A matter of the decoder alone: tree, naive evaluation and float32 reference all ask it.

    The prompt is longer than a window, and so is what stands before the first player.
    """
    settings = SETTINGS[name]
    model = andor.load(str(save_checkpoint(tmp_path, settings, random_decoder(settings))))
    text = f"{TEXT} " * 3 + TEXT
    players = [(text.rindex(word), text.rindex(word) + len(word)) for word in ("film", "not good", "never")]
    prompt = andor.Prompt(text, players=players, target="never again")
    tree = andor.evaluate(model, prompt, tokens_per_batch=64, baseline="mean", measure_noise=True)
    naive = andor.evaluate(model, prompt, method="naive", baseline="mean")
    assert_close(tree.v, naive.v, 1e-4)
    assert np.ptp(tree.v) > 0.1
    assert tree.forward_noise < 1e-4


def test_prompts_of_a_size_share_their_compilations(model):
    prompts = [
        andor.Prompt(" ".join(WORDS[first:] + WORDS[:first]), players=WORDS[first : first + 3], target="good")
        for first in range(5)
    ]
    andor.evaluate(model, prompts[0])
    before = tree_module._layer._cache_size()
    list(evaluate_all(model, prompts))
    assert tree_module._layer._cache_size() <= before + 2


@pytest.mark.parametrize("method", ["tree", "naive"])
def test_batches_do_not_change_values_and_report_progress(model, method):
    prompt = andor.Prompt(TEXT, players=["film", "not", "good", "never", "dull"], target="good")
    expected = andor.evaluate(model, prompt)
    done = []
    batched = andor.evaluate(model, prompt, method=method, tokens_per_batch=64, progress=done.append)
    assert_close(batched.v, expected.v, 1e-5)
    assert done == sorted(done) and done[-1] == 32 and len(done) > 3


def test_many_prompts_are_evaluated_in_order_one_ahead_of_the_other(model):
    prompts = [
        andor.Prompt(TEXT, players=["film", "not", "good", "never", "dull"][:n], target="good") for n in (5, 1, 3, 2)
    ]
    done = []
    values = list(evaluate_all(model, prompts, progress=lambda index, masks: done.append((index, masks))))
    for prompt, each in zip(prompts, values, strict=True):
        assert_close(each.v, andor.evaluate(model, prompt).v, 1e-5)
    assert [index for index, _ in done] == sorted(index for index, _ in done)
    assert {index: masks for index, masks in done} == {0: 32, 1: 2, 2: 8, 3: 4}


def test_predicted_target_is_the_most_probable_token(model):
    prompt = andor.Prompt(TEXT, players=["film"])
    ids = tokenize(prompt, model.tokenizer).token_ids
    logits = np.asarray(forward(model.decoder, jnp.asarray(ids)[None])[0, -1])
    texts = [model.tokenizer.decode([token]) for token in range(len(model.tokenizer))]
    usable = [
        token
        for token, text in enumerate(texts)
        if text and "\ufffd" not in text and token not in model.tokenizer.all_special_ids
    ]
    best = max(usable, key=lambda token: logits[token])
    if logits[best] == logits.max():
        assert andor.predict_target(model, prompt) == texts[best]
    else:
        with pytest.warns(UserWarning, match="which is no text by itself.*is explained; give a target"):
            assert andor.predict_target(model, prompt) == texts[best]


def test_what_is_predicted_and_cannot_be_explained_is_said(model, monkeypatch):
    usual = andor.predict_target(model, andor.Prompt("a film is", players=["film"]))
    monkeypatch.setattr(type(model.tokenizer), "all_special_ids", model.tokenizer.encode(usual))
    with pytest.warns(
        UserWarning,
        match=r"the most probable next token of .* is the special token .* \(p [\d.]+%\), which is no text by itself",
    ):
        assert andor.predict_target(model, andor.Prompt("a film is", players=["film"])) != usual


def log_odds_of_logits(logits, targets):
    """v of one prompt whose target tokens have these logits."""
    head = jnp.eye(logits.shape[1])
    return log_odds(*(np.asarray(part)[:, None] for part in target_and_others(head, logits, jnp.asarray(targets))))[0]


def test_log_odds_is_exact_at_both_ends():
    # Probabilities within 1e-13 of one, where p and 1 - p lose all digits in float32.
    assert np.isclose(log_odds_of_logits(jnp.array([[30.0, 0.0, 0.0]]), [0]), 30 - np.log(2), rtol=1e-6)
    assert np.isclose(log_odds_of_logits(jnp.array([[-30.0, 0.0, 0.0]]), [0]), -30 - np.log(2), rtol=1e-6)
    # Where exp(others - target) underflows.
    assert np.isclose(log_odds_of_logits(jnp.array([[300.0, 0.0, 0.0]]), [0]), 300 - np.log(2), rtol=1e-6)


def test_log_odds_of_two_tokens_is_that_of_their_product():
    logits = jnp.array([[1.0, 0.2, -0.5], [0.3, 2.0, 0.1]])
    p = jax.nn.softmax(logits, axis=-1)
    product = float(p[0, 2] * p[1, 1])
    assert np.isclose(log_odds_of_logits(logits, [2, 1]), np.log(product / (1 - product)), rtol=1e-5)


@pytest.mark.parametrize(("vocab_size", "shards"), [(7, 1), (64, 1), (100, 1), (300, 1), (300, 4), (100, 2), (8, 8)])
def test_the_vocabulary_is_reduced_in_pieces(vocab_size, shards, monkeypatch):
    monkeypatch.setattr("andor.evaluation.log_odds.VOCABULARY_PIECE", 64)
    rng = np.random.default_rng(vocab_size)
    head, hidden = rng.normal(size=(vocab_size, 5)), rng.normal(size=(2, 6, 5))
    targets = rng.integers(0, vocab_size, (2, 6))
    targets[0, :2] = 0, vocab_size - 1
    logits = hidden @ head.T
    is_target = np.arange(vocab_size) == targets[..., None]
    expected = np.log(np.sum(np.where(is_target, 0.0, np.exp(logits)), axis=-1))
    target, others = target_and_others(jnp.float32(head), jnp.float32(hidden), jnp.asarray(targets), shards)
    assert_close(target, logits[is_target].reshape(2, 6), 1e-5)
    assert_close(others, expected, 1e-5)


@pytest.mark.parametrize("options", [{"tokens_per_batch": 0}, {"tokens_per_batch": 10**9}, {"tokens_per_batch": True}])
def test_bad_options_are_refused(model, options):
    with pytest.raises(ValueError, match=rf"{next(iter(options))}=\.\.\."):
        andor.evaluate(model, andor.Prompt(TEXT, players=["film"]), **options)


def test_many_prompts_want_many_targets(model):
    prompt = andor.Prompt(TEXT, players=["film"])
    for targets in (["good", "dull"], "g"):
        with pytest.raises(ValueError, match="one for each of 1 prompts"):
            evaluate_all(model, [prompt], targets=targets)


def test_a_model_that_gives_nan_is_reported(tmp_path):
    settings = SETTINGS["llama-gqa"]
    decoder = random_decoder(settings)
    decoder.model.norm.weight[...] = decoder.model.norm.weight[...].at[0].set(jnp.nan)
    model = andor.load(str(save_checkpoint(tmp_path, settings, decoder)))
    with pytest.raises(ValueError, match="NaN"):
        andor.evaluate(model, andor.Prompt(TEXT, players=["film"], target="good"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    settings = {**SETTINGS["llama-gqa"], "vocab_size": 200}
    folder = save_checkpoint(tmp_path, settings, random_decoder(settings), tokenizer=False)
    save_checkpoint(tmp_path / "other", SETTINGS["llama-gqa"], random_decoder(SETTINGS["llama-gqa"]))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ValueError, match="do not belong together"):
        andor.evaluate(andor.load(str(folder)), andor.Prompt(TEXT, players=["film"], target="good"))


def test_a_prompt_longer_than_the_context_is_refused(model):
    with pytest.raises(ValueError, match="at most 512"):
        andor.evaluate(model, andor.Prompt("film " * 600, players=["film"], target="good"))


def test_predicted_and_given_targets_keep_their_space_under_a_sentencepiece_tokenizer(tmp_path):
    """Such tokenizers drop the space of a token that is decoded by itself."""
    words = ["<mask>", "<unk>", "\u2581a", "\u2581film", "\u2581is", "\u2581good", "good"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    settings = {**SETTINGS["llama-gqa"], "vocab_size": len(words)}
    decoder = random_decoder(settings)
    # The head prefers the token for " good" whatever the prompt.
    head = decoder.lm_head.weight[...]
    folder = save_checkpoint(tmp_path, settings, decoder, tokenizer=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "<mask>", "unk_token": "<unk>"})
    )
    model = andor.load(str(folder))
    assert model.tokenizer.decode([5]) == "good"
    prompt = andor.Prompt("a film is", players=["film"])
    hidden = model.decoder.hidden(model.decoder.embed(jnp.array([tokenize(prompt, model.tokenizer).token_ids])))
    model.decoder.lm_head.weight[...] = head.at[5].set(100 * hidden[0, -1])
    assert andor.predict_target(model, prompt) == " good"
    assert andor.evaluate(model, andor.Prompt("a film is", players=["film"], target="good")).target == " good"
