"""Ground truth, training dynamics and causes: that they run, and that what they count and find is right."""

import itertools
import json

import numpy as np
import pytest

from andor.core import lattice
from andor.core.games import random_rules
from andor.measures.profile import Profile
from andor.measures.recovery import score
from experiments import study
from experiments.lab import training
from experiments.lab.corpus import choose
from experiments.lab.logical_language import SPECIAL, Language, Recipe, _batch
from experiments.lab.sentiment import Orders, follow, orders_of, pooled, read_task
from experiments.studies import causes, dynamics, ground_truth
from experiments.studies.ground_truth import optima


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Made-up reviews of three or four content words, in the layout of SST-2."""
    folder = tmp_path_factory.mktemp("corpus") / "sst2"
    folder.mkdir()
    words, things = {"good": 1, "fine": 1, "warm": 1, "bad": 0, "dull": 0, "cold": 0}, ("film", "story", "cast")
    rows = [
        f"a {first} {thing} about {second} people \t{words[first]}"
        for first, second, thing in itertools.product(words, words, things)
    ]
    for part in ("train", "dev"):
        (folder / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return folder.parent


@pytest.mark.parametrize("name", ["ground_truth", "dynamics", "causes"])
def test_smoke(name, corpus, tmp_path, monkeypatch):
    settings = study.Settings(smoke=True, corpus=corpus, work=tmp_path)
    result = study.execute(name, settings)
    for ending in ("json", "png", "pdf"):
        assert (settings.folder / f"{name}.{ending}").stat().st_size > 1000
    assert all(row.ours for row in study.study(name).rows(result))
    if name == "ground_truth":
        assert all(0 <= x <= 1 for cell in result["exact"] for x in (*cell["precision"], *cell["recall"]))
        kept = [json.loads(file.read_text()) for file in (tmp_path / name).glob("*.json")]
        assert len(kept) == 2 and all(set(each) == {"parameters", "fingerprint", "dtype", "v"} for each in kept)
        assert {cell["solver"] for cell in result["exact"]} == {"true bound", "rule", "published", "and only"}
    if name == "dynamics":
        (run,) = result["runs"]
        assert all(set(run[each]) == {"certified", "and_only", "published"} for each in ("change", "coincide"))
        assert len(run["step"]) == len(run["train"]) == len(run["certified"]) == len(run["and_only"])
        recipe, task = training.Recipe(**run["recipe"]), read_task(settings, dynamics.PLANS["smoke"].prompts)
        phrases = choose(task.train, recipe.fraction, 0.0, recipe.seed)
        monkeypatch.setattr(training, "train", None)  # what was followed is read from disk
        again = follow(task, recipe, phrases, run["step"], tmp_path / name)
        assert [each.train.mean() for each in again] == pytest.approx(run["train"])
        assert [each.accuracy for each in again] == pytest.approx(run["accuracy"])
    if name == "causes":
        assert {each["model"] for each in result["models"]} > {"base", "base, first", "few", "few, early stop", "hard"}
        assert all(each["certified"]["score"][0] <= 1 for each in result["models"])
        assert all(len(each["published"]["score_by_seed"]) == 1 for each in result["changes"])
        assert {causes.sign(each, "score") for each in result["changes"]} == {"0"}  # one seed says nothing


def test_a_corpus_is_asked_for():
    with pytest.raises(ValueError, match="--corpus"):
        read_task(study.Settings(smoke=True), 2)


def test_training_sentences_follow_the_rules_of_the_words_that_are_left():
    language = Language(seed=3)
    tokens, yes = _batch(language, Recipe(batch=50), np.random.default_rng(0))
    present = np.zeros((50, language.n_words), bool)
    for row, sentence in zip(present, tokens, strict=True):
        row[sentence[sentence >= len(SPECIAL)] - len(SPECIAL)] = True
    np.testing.assert_allclose(np.log(yes / (1 - yes)), language.rules.log_odds(present), atol=1e-4)
    assert 0.3 < present.sum() / (50 * language.sentence_words) < 0.7
    prompt = language.prompt(np.array([2, 0, 5]))
    ids = language.tokenizer().encode(prompt.text).ids
    assert ids == [0, *(len(SPECIAL) + i for i in (2, 0, 5)), SPECIAL.index(":")]


def test_rules_come_back_without_noise():
    rng = np.random.default_rng(2)
    planted = [random_rules(8, (1, 2, 3), (2, 3), rng).effects(np.arange(8)) for _ in range(5)]
    v = np.stack([lattice.zeta(a) + lattice.or_sums(b) for a, b in planted])
    found = optima(v, np.zeros_like(v))["true bound"]
    recalls = [score(*each)["recall"] for each in zip(found, planted, strict=True)]
    assert np.mean(recalls) > 0.9


def curves(shape, noise=0.3, prompts=40, seed=0):
    rng = np.random.default_rng(seed)
    return np.asarray(shape) + rng.normal(size=(prompts, 1)) + noise * rng.normal(size=(prompts, len(shape)))


def change_of(curves, strength=None):
    return dynamics.phase_change(curves, np.ones(curves.shape) if strength is None else strength)


def test_phase_change_is_found_where_it_is():
    found = change_of(curves([3.3, 3.0, 2.4, 1.6, 1.3, 1.6, 1.9, 2.2]))
    assert found["index"] == 4 and found["low"] >= 3 and found["high"] <= 5
    assert found["fall"][0] == pytest.approx(2.0, abs=0.2) and found["rise"][0] == pytest.approx(0.9, abs=0.2)


@pytest.mark.parametrize("shape", [[3, 2.5, 2, 1.5, 1.2, 1.1], [1.1, 1.2, 1.5, 2, 2.5, 3], [3, 2, 1.5, 1.5, 1.5, 1.5]])
def test_curves_of_one_phase_have_no_change(shape):
    assert change_of(curves(shape))["index"] is None


def test_noise_has_no_phase_change():
    found = [change_of(curves(np.full(12, 2.0), seed=seed))["index"] is not None for seed in range(40)]
    assert np.mean(found) <= 0.1


def test_phase_change_is_that_of_the_prompts_with_strength():
    shape, strength = curves([3, 2, 1, 2, 3]), np.ones((40, 5))
    shape[5:9, 0], strength[5:9, 0] = np.nan, 0
    assert change_of(shape, strength)["index"] == 2
    assert change_of(shape[5:9], strength[5:9])["index"] is None
    many_weak = np.concatenate([curves([3, 1, 2, 2.5, 3], prompts=60), curves([3, 2.5, 2, 1, 2], prompts=20)])
    strength = np.repeat([0.001, 1.0], [60, 20])[:, None] * np.ones(5)
    assert change_of(many_weak)["index"] == 1 and change_of(many_weak, strength)["index"] == 3


def test_pooled_numbers_are_those_of_the_strength_of_all_prompts():
    strengths = np.zeros((3, 2, 8))
    strengths[0, 0, 0] = 1  # 3 nats of order 1
    strengths[1, :, 2] = 0.5  # 1 nat of order 3, of both signs
    strengths[2] = np.nan
    found = pooled(Orders(Profile(strengths, (8, 8, 8)), np.array([3.0, 1.0, 0.0])), 2)
    estimates = [found[number][0] for number in ("mean_order", "high", "cancellation")]
    np.testing.assert_allclose(estimates, [1.5, 0.25, 0.25])
    assert found["positive"][0] == 0.75 and found["negative"][2] == 0.125
    assert found["mean_order"][1] == 1 and found["mean_order"][2] == 3


def test_gap_opening():
    def gaps(*low):
        return np.array([(x + 0.1, x, x + 0.2) for x in low])

    assert dynamics.gap_opening(gaps(-1, 1, -1, 1, 1)) == 3
    assert dynamics.gap_opening(gaps(1, 1)) == 0
    assert dynamics.gap_opening(gaps(1, -1)) is None
    estimate, low, high = dynamics.gap_interval(np.full(50, 0.7), np.random.default_rng(0).normal(0.5, 0.1, 200))
    assert low < estimate < high and estimate == pytest.approx(0.2, abs=0.03)


def test_coincide():
    change = {"index": 4, "low": 3, "high": 5}
    assert [dynamics.coincide(change, opens) for opens in (1, 2, 6, 7, None)] == [False, True, True, False, None]


def test_orders_of_known_effects():
    and_effects = np.zeros(8)
    and_effects[[0b001, 0b111]] = 3.0, -1.0
    v = lattice.zeta(and_effects)
    found = orders_of([v, np.zeros(4)], ())["and_only"]
    assert found.mean_order[0] == pytest.approx(1.5) and found.cancellation[0] == pytest.approx(0.5)
    assert found.high[0] == pytest.approx(0.25)
    assert np.isnan(found.profile.strengths[1]).all() and found.total.tolist() == [4.0, 0.0]


def planted_orders(first_order, prompts=20):
    """Order strengths with these shares at order 1, of 8 players, the rest at order 3; one seed."""
    strengths = np.zeros((prompts, 2, 8))
    strengths[:, 0, 0], strengths[:, 0, 2] = first_order, 1 - np.asarray(first_order)
    return Orders(Profile(strengths, (8,) * prompts), np.where(np.isnan(first_order), 0.0, 1.0) * np.ones(prompts))


def test_seeds_that_disagree_make_a_change_uncertain():
    before = [planted_orders(np.full(20, 0.9)) for _ in range(5)]

    def change(*shares):
        after = [planted_orders(np.full(20, share)) for share in shares]
        one, two = (causes.sampled(found, 3) for found in (before[: len(after)], after))
        return (two["mean_order"] - one["mean_order"]), two["score"]

    sure, _ = change(0.5, 0.6, 0.5, 0.6, 0.5)
    assert sure.interval()[1] > 0 and sure.value == pytest.approx(2 * (0.9 - 0.54))
    np.testing.assert_allclose(sure.by_seed, [0.8, 0.6, 0.8, 0.6, 0.8])
    unsure, score = change(0.1, 0.9, 1.0, 0.9, 0.9)  # every prompt of one seed changes, none of the others
    assert unsure.interval()[1] <= 0 < unsure.interval()[2]
    assert len(score.by_seed) == 5 and len(score.resampled) == 3
    saved = {"certified": {"score": sure.interval(), "score_by_seed": sure.by_seed}}
    assert causes.sign(saved, "score") == "+"
    saved["certified"]["score_by_seed"] = sure.by_seed[:1]
    assert causes.sign(saved, "score") == "0"


def test_prompts_without_effects_have_no_weight():
    found = planted_orders(np.array([0.9, 0.5, np.nan]), prompts=3)
    numbers = causes.sampled([found], 2)
    assert numbers["mean_order"].value == pytest.approx(np.mean([1.2, 2.0]))
    assert numbers["score"].value == pytest.approx(found.scores(np.array([[0, 1]]))[0])


def test_intervals_of_trained_models_are_over_languages():
    values, language = np.repeat([0.2, 0.8, 0.5], 10), np.repeat([0, 1, 2], 10)
    values[:9] = np.nan  # one sentence of the first language is left, and its language counts as much as the others
    estimate, low, high = ground_truth.over_languages(values, language)
    assert (estimate, low, high) == pytest.approx((0.5, 0.2, 0.8))
    assert ground_truth.over_languages(np.r_[[np.nan] * 10, values[10:]], language)[0] == pytest.approx(0.65)
