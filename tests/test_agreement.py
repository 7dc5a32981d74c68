"""Agreement of two models, beside what an agreement of this size is worth."""

import dataclasses
import functools
import re

import numpy as np
import pytest
from games import planted
from small_runs import explanation_of, recipe_of, values_of

import andor
from andor.core import lattice
from andor.core.compact import Compact
from andor.measures.trust import trust
from andor.prompts import Prompt
from andor.runs.agreement import agreement, controlled, overlap, under_other_mask, verdicts
from andor.runs.run import Run
from andor.runs.summary import summarise

PROMPTS = tuple(Prompt("a b c d e", list("abcde"), "x", f"p{i}") for i in range(6))


@functools.cache
def effects_of(v):
    """The optimum and the compact explanation of v, given as a tuple."""
    v = np.array(v)
    solution = andor.extract(v)
    return solution, andor.compact(v, 20, start=solution)


def run_of(values, names=("one", "two")):
    """A run with v given by (model, prompt id), and effects as they are found."""
    recipe = recipe_of(names, PROMPTS)
    explanations = {}
    for (name, prompt_id), v in values.items():
        prompt = next(each for each in PROMPTS if each.id == prompt_id)
        of_prompt = dataclasses.replace(values_of(prompt), v=v)
        explanations[name, prompt_id] = explanation_of(recipe, name, prompt, of_prompt, *effects_of(tuple(v.tolist())))
    run = Run(None, recipe, tau=0.05, explanations=explanations)
    run.summary = summarise(run)
    return run


@pytest.fixture(scope="module")
def clean():
    return {each.id: planted(5, seed, n_and=5, n_or=3, sigma=0.0) for seed, each in enumerate(PROMPTS)}


@pytest.fixture(scope="module")
def run(clean):
    """A model, and one that has other effects."""
    other = {p: planted(5, 50 + seed, n_and=5, n_or=3) for seed, p in enumerate(clean)}
    return run_of(
        {("one", p): v for p, v in clean.items()} | {("two", p): 0.1 * v + other[p] for p, v in clean.items()}
    )


def test_a_model_agrees_with_itself_in_any_unit(run):
    one = run["one", "p0"]
    v = 2 * one.values.v + 1
    twice = dataclasses.replace(one, values=dataclasses.replace(one.values, v=v), compact=andor.compact(v, 20))
    found = agreement(one, twice)
    assert (
        found.overlap == pytest.approx(1) and found.correlation == pytest.approx(1) and found.noise == pytest.approx(1)
    )
    assert found.shuffled < 0.5


def test_the_unit_is_the_spread_of_v(clean):
    v = clean["p0"]
    pair = andor.compact(v, 5).pair
    doubled = tuple(2 * each for each in pair)
    assert overlap((v, 2 * v), (pair, doubled)) == pytest.approx(1)
    assert overlap((v, v), (pair, doubled)) == pytest.approx(0.5)


def test_other_effects_agree_less_than_noise_would_leave(run):
    for prompt in PROMPTS:
        found = agreement(run["one", prompt.id], run["two", prompt.id])
        assert found == agreement(run["one", prompt.id], run["two", prompt.id])
        assert -1 <= found.correlation < 1 and 0 <= found.shuffled < 0.6 and 0 <= found.overlap < 0.6
        assert 0 <= found.noise < 1 and (found.correlation > 0 or found.noise == 0)
    own = dataclasses.replace(run["two", "p0"].values, target=" another")
    other = agreement(run["one", "p0"], dataclasses.replace(run["two", "p0"], values=own))
    assert np.isnan([other.overlap, other.noise]).all()
    (pair,) = run.summary["pairs"]
    assert pair["shown_overlap"] == pytest.approx(
        np.mean([agreement(run["one", p.id], run["two", p.id]).overlap for p in PROMPTS])
    )


def verdict(run, control):
    """What is said of two runs."""
    return verdicts(run, controlled(run, run.summary, control, "mean"))[-1]


def test_the_verdict_is_against_the_other_mask(run, clean):
    same = run_of({key: run[key].values.v + 1e-6 for key in run})
    of_models = under_other_mask(run, same)
    assert of_models["one"] == pytest.approx([1] * 6, abs=1e-3)
    said = verdict(run, same)
    assert said.startswith(
        "one and two agree less than each with itself under the other mask, mean: overlap of effects 0."
    )
    numbers = controlled(run, run.summary, same, "mean")
    assert [each["control_overlap"] for each in numbers["pairs"]] == pytest.approx([1.0], abs=1e-3)
    unlike = run_of(
        {("one", p): planted(5, 90 + i) for i, p in enumerate(clean)}
        | {("two", p): planted(5, 70 + i) for i, p in enumerate(clean)}
    )
    twins = run_of({(name, p): v for name in ("one", "two") for p, v in clean.items()})
    assert "agree more than each with itself under the other mask, mean" in verdict(twins, unlike)
    alone = run_of({("one", p): v for p, v in clean.items()}, ("one",))
    assert verdicts(alone, alone.summary) == []


def test_what_is_constant_has_no_agreement(run):
    constant = run_of(
        {("one", "p0"): np.ones(32), ("two", "p0"): run["one", "p0"].values.v}
        | {(m, p.id): np.ones(32) for m in ("one", "two") for p in PROMPTS[1:]}
    )
    found = agreement(constant["one", "p0"], constant["two", "p0"])
    assert np.isnan([found.overlap, found.correlation, found.noise, found.shuffled]).all()
    assert verdicts(constant, constant.summary) == []


# ------------------------------------------------------------------------------------------------------------- trust


def trusted(v, pair=None, p=0.5, last=False):
    few = andor.compact(v, 20) if pair is None else Compact.of(v, pair, np.zeros_like(v))
    return trust(v, few, p, last)


def test_nothing_speaks_against_a_good_explanation():
    v = lattice.zeta(np.where(np.isin(np.arange(16), (1, 2, 12)), 1.0, 0.0))
    found = trusted(v)
    assert found.warnings == () and found.r2 == pytest.approx(1) and found.count == 3
    assert found.strength == pytest.approx(3) and found.range == pytest.approx(3)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("few", r"The 1 effects that are shown give v badly: R² −?0\.\d+ on all masks"),
        ("constant", "there is nothing to explain"),
        ("last", "The last word is a player"),
        ("small range", "far less than v varies over the masks"),
        ("cancels", r"sizes add up to \d+ times what all words together do"),
        ("improbable", "hardly expects this target: p 0.30%"),
    ],
)
def test_what_speaks_against_an_explanation_is_said(case, said):
    v = planted(4, 3)
    pair, p, last = None, 0.5, case == "last"
    if case == "few":
        effects = np.zeros(16)
        effects[[0, 5]] = v[0], 0.1
        pair = effects, np.zeros(16)
    if case == "constant":
        v = np.ones(16)
    if case == "small range":
        v = np.where(np.arange(16) == 15, v[0] + 0.01, v)
    if case == "cancels":
        effects = np.zeros(16)
        effects[[1, 3, 15]] = 20.0, -20.0, 1.0
        v, pair = np.where(np.arange(16) == 15, 1.0, 0.0), (effects, np.zeros(16))
    if case == "improbable":
        p = 0.003
    with np.errstate(all="raise"):
        warnings = trusted(v, pair, p, last).warnings
    assert any(re.search(said, each) for each in warnings), warnings


def test_a_last_player_is_one_where_the_text_ends_and_no_chat_goes_on():
    v = planted(2, 0)
    for text, chat, last in (
        ("a b", False, True),
        ("a b ", False, True),
        ("a b .", False, False),
        ("a b", ("<", ">"), False),
    ):
        prompt = Prompt(text, ["a", "b"], "x", "p", chat=chat)
        recipe = recipe_of(("one",), (prompt,))
        explanation = explanation_of(
            recipe, "one", prompt, dataclasses.replace(values_of(prompt), v=v), andor.extract(v)
        )
        assert explanation.trust.last_masked == last


def test_compact_says_what_it_gives_up():
    v = planted(4, 1)
    few = Compact.of(v, andor.compact(v, 3).pair, np.zeros(16))
    assert few.least_strength == 0 and np.isnan(few.excess)
