import dataclasses
import io

import pytest
from rich.console import Console
from small_runs import planted_run

from andor.prompts import Prompt
from andor.runs import files
from andor.runs.summary import summarise
from andor.show import tables


def summarised(names, prompt_ids=("one", "[bold]two"), target=" [red]not"):
    """Models that share an AND of a and b; v adds up exactly. The target of the first prompt is given."""
    prompts = [
        Prompt("[a] b c", [(0, 3), (4, 5), (6, 7)], None if index else target, prompt_id)
        for index, prompt_id in enumerate(prompt_ids)
    ]
    factors = dict.fromkeys(names, 1.0)
    run = planted_run(factors, {1: 2.0, 3: -0.5}, {6: 0.25}, constant=-1.0, prompts=prompts, target=target)
    run.summary = files.jsonable(summarise(run))
    return run


def printed(renderable) -> str:
    out = io.StringIO()
    Console(file=out, width=100, markup=False, highlight=False, emoji=False).print(renderable)
    return out.getvalue()


def test_text_of_prompts_is_never_markup():
    text = printed(tables.comparison(summarised(("one/model", "two"))))
    assert "[bold]two" in text and "' [red]not'" in text and "model" in text.split("Pairs of models")[1]
    assert "' [red]not' *" in text and "*: the most probable next text of model" in text


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_closing_tables_fit_100_columns(count):
    names = tuple(f"organisation/model-number-{i}" for i in range(count))
    text = printed(tables.comparison(summarised(names)))
    assert max(map(len, text.splitlines())) <= 100
    assert ("Pairs of models" in text) == (count > 1)


def test_undefined_numbers_are_dashes():
    run = summarised(("one", "two"))
    run.summary["models"]["two"]["certified"]["spindle_share"] = None
    line = next(line for line in printed(tables.models(run)).splitlines() if line.startswith("spindle"))
    assert "– (" in line and "nan" not in line


def test_the_misfit_stands_below_the_spindle_share():
    run = summarised(("one",))
    run.summary["models"]["one"]["certified"] |= {"spindle_share": 0.125, "spindle_misfit": 0.625}
    lines = printed(tables.models(run)).splitlines()
    row = next(row for row, line in enumerate(lines) if line.startswith("spindle"))
    assert "0.125 (" in lines[row] and "misfit" in lines[row + 1] and "0.625 (" in lines[row + 1]


def test_orders_beyond_the_width_are_summed():
    run = summarised(("one",))
    for kind in ("certified", "and_only"):
        for sign in ("positive", "negative"):
            run.summary["models"]["one"][kind][sign] = [0.125] * 20
    text = printed(tables.orders(run))
    assert "10+" in text and "137.5" in text and "11+" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_long_lists_of_prompts_are_cut():
    ids = tuple(f"prompt-{i:04d}" for i in range(50))
    text = printed(tables.prompts(summarised(("one",), ids)))
    assert "10 of 50 prompts are only in" in text and "prompt-0039" in text and "prompt-0040" not in text


def test_effects_in_words_strongest_first():
    run = summarised(("one",))
    lines = printed(tables.effects(run["one", "one"], 12)).splitlines()
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [row[1] for row in rows] == ["AND", "AND", "OR"], "no rows for effects that are zero"
    assert rows[0][2:6] == ["1", "[a]", "+2.000", "73%"] and "█" * tables.BAR in lines[5]
    assert "b ∨ c" in lines[7] and "+0.250" in lines[7] and "[a] ∧ b" in lines[6] and "-0.500" in lines[6]
    assert all(line.count(each) == 2 for line, each in zip(lines[5:8], ("+2.000", "-0.500", "+0.250"), strict=True))
    assert "' [red]not'" in lines[0]
    few = printed(tables.effects(run["one", "one"], 1))
    assert "+2.000" in few and "-0.500" not in few


def test_certificate_names_the_worst_and_what_missed():
    run = summarised(("one", "two"))
    assert "missed" not in printed(tables.certificate(run))
    run.summary["worst"] |= {"not_converged": 3, "gap": {"value": 0.5, "model": "two", "prompt": "one"}}
    text = " ".join(printed(tables.certificate(run)).split())
    assert "5.0e-01 (one, two)" in text and "missed their tolerance: 3" in text


def test_small_probabilities_are_not_zero():
    run = summarised(("one",))
    run.summary["prompts"]["one"]["models"]["one"]["target_probability"] = 3.1e-5
    assert "0.0031%" in printed(tables.prompts(run))


def test_targets_that_each_model_chose_are_told():
    run = summarised(("one", "two"))
    run.summary["prompts"]["one"]["target"] = None
    line = next(line for line in printed(tables.prompts(run)).splitlines() if line.startswith("one"))
    assert "each model's own" in line and "[red]" not in line


def test_the_noise_floor_tells_what_it_means_for_effects():
    values = dataclasses.replace(summarised(("one",))["one", "one"].values, forward_noise=1e-5, forward_bound=3e-5)
    text = " ".join(printed(tables.noise_floor(values)).split())
    assert "Forward noise of v: 1.0e-05 nats on 8 masks evaluated again" in text
    assert f"bound {values.measured_noise:.1e} on all" in text and "to within 1.4e-05, 2.0e-05, 2.8e-05." in text
