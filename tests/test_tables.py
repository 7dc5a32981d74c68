import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from andor.core.lattice import or_sums, zeta
from andor.core.problem import Solution
from andor.core.values import Values
from andor.runs import files, store
from andor.runs.summary import summarise
from andor.show import tables


def planted_run(names, prompt_ids=("one", "[bold]two"), target=" [red]not"):
    """Models that share an AND of a and b; v adds up exactly."""
    a, b = np.zeros((2, 8))
    a[[0, 0b001, 0b011]], b[0b110] = [-1.0, 2.0, -0.5], 0.25
    v, zero = zeta(a) + or_sums(b), np.zeros(8)
    values = Values(v, ("[a]", "b", "c"), target, 0.75, 1234, 2.0)
    solution = Solution(a, b, zero, zero, 0.0, 2.75, 2.75, 0.0, 9, "converged")
    settings = {
        "models": [{"name": n, "label": k} for n, k in zip(names, store.model_labels(names), strict=True)],
        "prompts": [
            {
                "id": prompt_id,
                "text": "[a] b c",
                "chat": False,
                "players": [[0, 3], [4, 5], [6, 7]],
                "target": target,
                "target_from": names[0] if index else "given",
            }
            for index, prompt_id in enumerate(prompt_ids)
        ],
        "tau": 0.05,
    }
    run = store.Run(
        Path("run"),
        settings,
        {},
        {name: dict.fromkeys(prompt_ids, values) for name in names},
        {name: dict.fromkeys(prompt_ids, solution) for name in names},
    )
    run.summary.update(files.jsonable(summarise(run)))
    return run


def printed(renderable) -> str:
    out = io.StringIO()
    Console(file=out, width=100, markup=False, highlight=False, emoji=False).print(renderable)
    return out.getvalue()


def test_text_of_prompts_is_never_markup():
    text = printed(tables.comparison(planted_run(("one/model", "two"))))
    assert "[bold]two" in text and "' [red]not'" in text and "model | two" in text
    assert "' [red]not' *" in text and "*: predicted by model" in text


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_closing_tables_fit_100_columns(count):
    names = tuple(f"organisation/model-number-{i}" for i in range(count))
    text = printed(tables.comparison(planted_run(names)))
    assert max(map(len, text.splitlines())) <= 100
    assert ("Pairs of models" in text) == (count > 1)


def test_undefined_numbers_are_dashes():
    run = planted_run(("one", "two"))
    run.summary["models"]["two"]["certified"]["spindle_share"] = None
    line = next(line for line in printed(tables.models(run)).splitlines() if line.startswith("spindle"))
    assert "– (" in line and "nan" not in line


def test_the_misfit_stands_below_the_spindle_share():
    run = planted_run(("one",))
    run.summary["models"]["one"]["certified"] |= {"spindle_share": 0.125, "spindle_misfit": 0.625}
    lines = printed(tables.models(run)).splitlines()
    row = next(row for row, line in enumerate(lines) if line.startswith("spindle"))
    assert "0.125 (" in lines[row] and "misfit" in lines[row + 1] and "0.625 (" in lines[row + 1]


def test_orders_beyond_the_width_are_summed():
    run = planted_run(("one",))
    for kind in ("certified", "and_only"):
        for sign in ("positive", "negative"):
            run.summary["models"]["one"][kind][sign] = [0.125] * 20
    text = printed(tables.orders(run))
    assert "10+" in text and "137.5" in text and "11+" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_long_lists_of_prompts_are_cut():
    ids = tuple(f"prompt-{i:04d}" for i in range(50))
    text = printed(tables.prompts(planted_run(("one",), ids)))
    assert "10 of 50 prompts are only in" in text and "prompt-0039" in text and "prompt-0040" not in text


def test_effects_in_words_strongest_first():
    run = planted_run(("one",))

    def name(words, subset, is_or, longest):
        return (" or " if is_or else " and ").join(word for i, word in enumerate(words) if subset >> i & 1)

    lines = printed(tables.effects(run, "one", "one", 12, name)).splitlines()
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [row[1] for row in rows] == ["AND", "AND", "OR"], "no rows for effects that are zero"
    assert rows[0][2:5] == ["1", "[a]", "+2.000"] and "█" * tables.BAR in lines[4]
    assert "b or c" in lines[6] and "+0.250" in lines[6]


def test_certificate_names_the_worst_and_what_missed():
    run = planted_run(("one", "two"))
    assert "missed" not in printed(tables.certificate(run))
    run.summary["worst"] |= {"not_converged": 3, "gap": {"value": 0.5, "model": "two", "prompt": "one"}}
    text = " ".join(printed(tables.certificate(run)).split())
    assert "5.0e-01 (one, two)" in text and "missed their tolerance: 3" in text


def test_small_probabilities_are_not_zero():
    run = planted_run(("one",))
    run.summary["prompts"]["one"]["models"]["one"]["target_probability"] = 3.1e-5
    assert "3e-05" in printed(tables.prompts(run)) and "0.000" not in printed(tables.prompts(run))
