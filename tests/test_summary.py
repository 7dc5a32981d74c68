"""The numbers of a run, of effects that are known."""

import dataclasses
import json

import numpy as np
import pytest
from small_runs import planted_run

from andor.prompts import Prompt
from andor.runs import files
from andor.runs.summary import summarise, table


def test_summary_of_planted_effects():
    # v(N) - v(∅) = 2 - 0.5 + 0.01 + 1.49 = 3: order 1: +2.01, 2: -0.5, 3: OR +1.49.
    factors = {"one": 1.0, "twice": 2.0}
    summary = summarise(planted_run(factors, {0b001: 2.0, 0b011: -0.5, 0b010: 0.01}, {0b111: 1.49}, constant=0.5))
    one, twice = summary["models"]["one"], summary["models"]["twice"]
    assert one["rise"] == pytest.approx(3.0) and twice["rise"] == pytest.approx(6.0)
    assert one["certified"]["salient"] == 3  # 0.01 is below 5% of 2
    assert one["certified"]["strength"] == pytest.approx(4) and twice["certified"]["strength"] == pytest.approx(8)
    assert one["certified"]["positive"] == pytest.approx([2.01 / 4, 0, 1.49 / 4])
    assert one["certified"]["negative"] == pytest.approx([0, 0.5 / 4, 0])
    assert one["certified"]["relative_strength"] == pytest.approx(1)
    assert twice["certified"]["positive"] == pytest.approx(one["certified"]["positive"])
    assert one["certified"]["cancellation"] == pytest.approx(1 - 3 / 4)
    assert one["certified"]["r2_top_100"] == pytest.approx(1.0)
    # The OR of three players is AND-only: +1.49 at orders 1 and 3, -1.49 at order 2, three times each or once.
    assert one["and_only"]["positive"][2] == pytest.approx(1.49 / 4)
    assert one["and_only"]["negative"][1] == pytest.approx((3 * 1.49 + 0.5) / 4)
    assert one["tokens"] == 1234 and one["seconds"] == 2.0 and one["without_unit"] == 0
    (pair,) = summary["pairs"]
    assert pair["models"] == ["one", "twice"]
    assert pair["overlap"] == pytest.approx(1.0) and np.isnan(pair["s_and_10"]) and pair["shown_overlap"] == 1.0
    assert summary["worst"]["identity_error"]["value"] < 1e-12 and summary["worst"]["not_converged"] == 0


def test_means_are_over_prompts():
    prompts = tuple(Prompt("a b c", list("abc"), "x", name) for name in ("p", "q"))
    run = planted_run({"one": 1.0}, {0b001: 2.0}, {0b111: 1.0}, prompts=prompts)
    explanation = run["one", "q"]
    values = dataclasses.replace(explanation.values, target_probability=0.25, seconds=3.0)
    run.keep(("one", "q"), dataclasses.replace(explanation, values=values))
    one = summarise(run)["models"]["one"]
    assert one["prompts"] == 2 and one["target_probability"] == 0.5 and one["seconds"] == 5.0 and one["tokens"] == 2468
    assert one["rise"] == pytest.approx(3) and one["certified"]["strength"] == pytest.approx(3)


def changed(run, key, **changes):
    solution = dataclasses.replace(run[key].solution, **changes)
    run.keep(key, dataclasses.replace(run[key], solution=solution))


def test_a_broken_identity_shows():
    run = planted_run({"good": 1.0, "bad": 1.0}, {0b001: 2.0}, {}, constant=0.5)
    changed(run, ("bad", "p"), and_effects=run["bad", "p"].effects[0] + 0.2 * (np.arange(8) == 7))
    worst = summarise(run)["worst"]["identity_error"]
    assert worst == {"value": pytest.approx(0.1), "model": "bad", "prompt": "p"}


def test_the_worst_gap_and_what_missed_its_tolerance_show():
    run = planted_run({"good": 1.0, "bad": 1.0}, {0b001: 2.0}, {})
    changed(run, ("bad", "p"), gap=0.25, status="not converged: raise max_steps.")
    summary = summarise(run)
    assert summary["worst"]["gap"] == {"value": 0.25, "model": "bad", "prompt": "p"}
    assert summary["worst"]["not_converged"] == 1 and summary["models"]["bad"]["worst_gap"] == 0.25
    assert summary["prompts"]["p"]["models"]["bad"]["status"] == "not converged: raise max_steps."


def test_a_prompt_without_unit_is_counted_and_left_out():
    summary = summarise(planted_run({"one": 1.0, "constant": 0.0}, {0b001: 2.0}, {}, constant=0.5))
    constant = summary["models"]["constant"]
    assert constant["without_unit"] == 1 and constant["without_effects"] == 1
    assert constant["certified"]["positive"] == [] and constant["certified"]["strength"] == 0
    assert np.isnan(constant["certified"]["spindle_share"]) and np.isnan(summary["pairs"][0]["overlap"])
    assert summary["models"]["one"]["without_unit"] == 0
    json.dumps(files.jsonable(summary), allow_nan=False)


def test_three_models_make_three_pairs():
    summary = summarise(planted_run({"a": 1.0, "b": 2.0, "c": -1.0}, {0b101: 1.0}, {0b011: -0.4}))
    assert [pair["models"] for pair in summary["pairs"]] == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert [pair["overlap"] for pair in summary["pairs"]] == pytest.approx([1.0, 0.0, 0.0])


def test_a_table_has_a_row_for_every_prompt_and_model():
    summary = summarise(planted_run({"a": 1.0, "b": 2.0}, {0b101: 1.0}, {0b011: -0.4}))
    first, second = table(summary)
    assert (first["prompt"], first["model"], second["model"], first["n_players"]) == ("p", "a", "b", 3)
    numbers = summary["prompts"]["p"]["models"]["b"]
    assert second["rise"] == numbers["rise"] and second["and_only_strength"] == numbers["and_only"]["strength"]
    assert list(first) == list(second) and not any(isinstance(each, dict) for each in first.values())


def test_another_tau_counts_other_effects():
    run = planted_run({"one": 1.0}, {0b001: 2.0, 0b010: 0.5}, {})
    counts = []
    for tau in (0.05, 0.3):
        run.tau = tau
        counts.append(summarise(run)["models"]["one"]["certified"]["salient"])
    assert counts == [2, 1]
