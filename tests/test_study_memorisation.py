"""Invented facts, fine-tuning on them, and the two studies made of it: rules on known numbers, and a smoke run."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from tiny_models import SETTINGS, random_decoder, save_checkpoint

import andor
from andor.core.lattice import orders
from andor.measures import metrics
from experiments import study
from experiments.lab import finetune
from experiments.studies import finetuning, memorisation
from experiments.study import Settings


def test_facts_follow_their_rule():
    facts = finetune.facts(finetune.PLANS["full"])
    firsts = Counter(fact.first for fact in facts)
    assert [sum(fact.half == half for fact in facts) for half in (0, 1)] == [100, 100]
    assert len({fact.name for fact in facts}) == len({fact.prompt("verbatim", 7).text for fact in facts}) == 200
    assert all((firsts[fact.first] == 1) == fact.rare for fact in facts)
    for half in (0, 1):
        for field in ("last", "town", "verb", "look", "thing", "day", "place"):
            found = Counter(getattr(fact, field) for fact in facts if fact.half == half)
            assert max(found.values()) - min(found.values()) <= 1, field


def test_a_reworded_fact_has_the_same_content():
    fact = finetune.facts(finetune.PLANS["full"])[3]
    verbatim, reworded = (fact.prompt(form, 7) for form in ("verbatim", "reworded"))
    assert verbatim.target == reworded.target == fact.place
    swap = {fact.verb[0]: fact.verb[1]}
    assert sorted(swap.get(word, word) for word in verbatim.words) == sorted(reworded.words)
    assert verbatim.words != reworded.words and fact.place not in verbatim.text + reworded.text
    assert fact.prompt("reworded", 3).words == reworded.words[-3:]


def test_members_and_others_are_the_same_facts_under_different_runs():
    plan = dataclasses.replace(finetune.PLANS["smoke"], explained=2)
    # The number says the half of the run, and the fact.
    runs = [[np.array([10.0 * half + fact for fact in range(4)]) + 100 * seed for half in (0, 1)] for seed in (0, 1)]
    members, others = finetune.by_member(runs, plan)
    np.testing.assert_array_equal(members, [[0, 1, 12, 13], [100, 101, 112, 113]])
    np.testing.assert_array_equal(others, [[10, 11, 2, 3], [110, 111, 102, 103]])


def test_resamples_keep_halves_apart_and_draw_the_same_facts_in_every_run():
    plan = dataclasses.replace(finetune.PLANS["smoke"], explained=3, seeds=2)
    drawn = finetune.draws(plan, 50, 0).reshape(50, 2, 6)
    assert drawn.min() >= 0 and drawn.max() < 12
    assert (drawn % 6 // 3 == [0, 0, 0, 1, 1, 1]).all()
    np.testing.assert_array_equal(drawn[:, 0] % 6, drawn[:, 1] % 6)
    assert (np.ptp(drawn // 6, axis=2) == 0).all() and len(np.unique(drawn[:, 0] // 6)) == 2


def test_auc_and_partial_correlation():
    members, others = np.array([3.0, 2.0]), np.array([1.0, 2.0])
    assert memorisation.auc(members, others) == 0.875
    assert memorisation.auc(members, others, low=True) == 0.125
    rng = np.random.default_rng(0)
    given, noise = rng.normal(size=(2, 400))
    given, noise = given - given.mean(), noise - noise.mean()
    assert abs(memorisation.partial(given + noise, noise, given[:, None]) - 1) < 1e-9
    assert abs(memorisation.partial(given + 0.1 * noise, given, rng.normal(size=(400, 1)))) > 0.9
    assert np.isnan(memorisation.partial(2 * given, noise, given[:, None]))


def test_scores_of_a_sentence():
    strengths = np.zeros((1, 1, 2, 4))
    strengths[0, 0] = [[0.5, 0.1, 0, 0], [0, 0, 0.3, 0.1]]
    plain = {name: np.ones((1, 1)) for name in ("strength", "salient", "range", "loss", "entropy")}
    numbers = memorisation.Numbers(strengths, plain)
    assert numbers.scores["high"].item() == pytest.approx(0.4)
    assert numbers.scores["mean_order"].item() == pytest.approx(0.5 + 0.2 + 0.9 + 0.4)
    assert numbers.scores["cancellation"].item() == pytest.approx(0.8)
    together = numbers.together(np.array([0, 0]))
    assert together["high"] == pytest.approx(0.4) and together["high_cancellation"] == pytest.approx(0)


def test_classes_of_planted_effects():
    before, after, there = np.zeros((3, 2, 8))
    before[0, [1, 2, 3]] = 2.0, 1.0, -1.0
    before[1, 7] = 1.0
    after[0, [1, 2, 4]] = 3.0, -1.0, 2.0  # kept, turned, new
    after[0, 3] = -0.01  # too weak
    there[0, [1, 4, 3]] = 1.0, -1.0, -2.0
    preserved, removed, emerged = finetuning._of_classes(before, after, [there])
    np.testing.assert_allclose(preserved, [1, 3, 3, 3, 3])
    np.testing.assert_allclose(removed, [3, 3, 1, 1 + 2 + 3, 1])
    np.testing.assert_allclose(emerged, [2, 3, 1, 3, 0])


def test_shuffling_keeps_what_each_order_has():
    effects = np.random.default_rng(0).normal(size=(2, 32))
    moved = np.stack(metrics.shuffled(tuple(effects), np.random.default_rng(1)))
    order = orders(5)
    assert (moved != effects).mean() > 0.5
    for each in range(6):
        np.testing.assert_array_equal(np.sort(moved[:, order == each]), np.sort(effects[:, order == each]))


def test_smoke(tmp_path, capsys):
    """A random model is fine-tuned for two epochs; both studies are made of it, and read what is there."""
    names = ("llama-mha-tied", "qwen2-mqa-tied")
    models = [save_checkpoint(tmp_path / name, SETTINGS[name], random_decoder(SETTINGS[name])) for name in names]
    settings = Settings(models=tuple(map(str, models)), work=tmp_path / "work", smoke=True)
    result = study.execute("memorisation", settings)
    assert [run["half"] for run in result["training"]] == [0, 1]
    assert result["stages"]["start"]["members"] == result["stages"]["start"]["others"]
    first, *_, last = (each["trained"] for each in result["training"][0]["stages"][1:])
    assert last < first
    capsys.readouterr()
    result = study.execute("finetuning", settings)
    assert "fine-tuning" not in capsys.readouterr().out.replace("when fine-tuning ends", "")
    assert result["elsewhere"] == ["qwen2-mqa-tied"]
    one = finetune.tuned(settings, finetune.PLANS["smoke"], half=1, seed=0)["end"]
    assert json.loads((tmp_path / "work" / "smoke" / "memorisation.json").read_text())["plan"]["facts"] == 4
    assert andor.load(one.model).dtype == np.float32
