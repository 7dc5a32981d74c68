"""What notebooks show of an explanation and of a run: a picture and a table, static, safe to keep and to send on."""

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

from andor.core.text import one_line, percent, r2_text, visible
from andor.measures import terms
from andor.page import vector
from andor.page.report import Reported

EFFECTS = 10
"""Effects in the table of an explanation."""

PROMPTS = 20
"""Prompts in the table of a run."""


def of_explanation(explanation: Any) -> str:
    """An `andor.Explanation` as HTML."""
    e = explanation
    rows = [
        ["word" if each.order == 1 else each.kind, each.name, f"{each.effect:+.2f}", f"{each.share:.0%}"]
        for each in e.top(EFFECTS)
    ]
    v, r2 = e.values.v, e.compact.r2
    fit = "" if math.isnan(r2) else f" R² {r2_text(r2)} of all {e.compact.count} effects."
    target = e.target.strip() or repr(e.target)
    head = (
        f"What moves “{target}” in {e.model}: p {percent(e.values.target_probability)}, v "
        f"{v[0]:+.2f} (all masked) → {v[-1]:+.2f} nats.{fit}"
    )
    picture = _picture(e.plot(), f"effects of the words of: {e.prompt.text}")
    return _block(head, e.warnings, picture, _table(["kind", "words", "effect, nats", "share"], rows, numeric=(2, 3)))


def of_run(run: Reported) -> str:
    """An `andor.Run` as HTML: its prompts, and the picture of the first."""
    labels = list(run.labels.values())
    agreement = [terms.AGREEMENT.short] if len(labels) > 1 and run.summary else []
    rows = []
    for prompt in run.prompts[:PROMPTS]:
        explained = [run[name, prompt.id] for name in run.models]
        row = [prompt.id, one_line(prompt.text), explained[0].target.strip()]
        row += [percent(each.values.target_probability) for each in explained]
        if agreement:
            overlap = run.summary["prompts"][prompt.id]["pairs"][0]["shown_overlap"]
            row.append(terms.number(overlap, ".2f"))
        rows.append(row)
    more = len(run.prompts) - len(rows)
    head = f"{', '.join(labels)} on {len(run.prompts)} prompts"
    notes = [f"{more} more prompts are not in this table."] * (more > 0)
    if not run.prompts:
        return _block(head, (), "", "")
    names = ["prompt", "text", "target", *(f"p {each}" for each in labels), *agreement]
    table = _table(names, rows, numeric=range(3, len(names)))
    picture = _picture(run.plot("words"), f"effects of the words of: {run.prompts[0].text}")
    return _block(head, notes, picture, table)


def _block(head: str, notes: Iterable[str], picture: str, table: str) -> str:
    notes = "".join(f"<p>⚠ {_text(each)}</p>" for each in notes)
    return f"<div><p><b>{_text(head)}</b></p>{notes}{picture}{table}</div>"


def _picture(figure: Figure, described: str) -> str:
    svg = base64.b64encode(vector.inline(figure, "e", described).encode()).decode()
    style = "max-width:100%;background:white"
    return f'<img alt="{_text(described)}" style="{style}" src="data:image/svg+xml;base64,{svg}">'


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], numeric: Iterable[int]) -> str:
    numeric = set(numeric)

    def cells(tag: str, texts: Sequence[str]) -> str:
        aligned = ("right" if place in numeric else "left" for place in range(len(texts)))
        return "".join(
            f'<{tag} style="text-align:{side}"><bdi>{_text(each)}</bdi></{tag}>'
            for side, each in zip(aligned, texts, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', names)}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    return escape(visible(text))
