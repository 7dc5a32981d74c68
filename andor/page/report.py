"""Fills page.html from a run: one file with its script, style, values and figures, which asks the network for nothing.

What comes from prompts, models and files is escaped: in HTML by Jinja, in the data of the script as JSON without "<".
The policy of the page lets it run its one script and its one style, known by their hashes, and nothing else.

v goes in with 18 bits a mask, three characters, such that v and p are printed with the digits that the float64 of the
run gives (`packed`).
"""

import base64
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import jinja2
import numpy as np
from jaxtyping import Float
from matplotlib import rc_context

from andor.core import lattice
from andor.core.effects import distinct
from andor.core.explained import Compared
from andor.core.text import hides, one_line, percent, r2_text, visible
from andor.figures import FIGURES, style
from andor.measures import terms
from andor.measures.reported import labelled, mean_of_defined
from andor.page import vector

MOST_VALUES = 3_000_000
"""Characters of the page that may go to values; 3 for every mask, prompt and model. 200 prompts of 10 words under two
models take 1.2 million."""

MOST_PAIRS = 3
"""Pairs of models whose overlap is a headline."""

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@runtime_checkable
class Reported(Compared, Protocol):
    """What the page reads of a run, besides what figures do (`andor.Run`)."""

    recipe: Any
    summary: Mapping
    skipped: Sequence

    def plot(self, name: str) -> Any:
        """A figure."""

    def target_from(self, prompt: Any) -> str:
        """Who chose the target of a prompt."""


def page(
    run: Reported,
    values: Sequence[str] = (),
    remarks: Sequence[str] = (),
    drawn: Mapping[str, bytes] = MappingProxyType({}),
) -> str:
    """The page of a finished run, as HTML.

    Args:
      run: with its summary.
      values: ids of prompts whose values go in first. Where those of all prompts would take more than `MOST_VALUES`,
        the page has them for these and then for as many others as fit, in order, and says so.
      remarks: sentences on the run as a whole, which the overview tells.
      drawn: figures by name that are there, as SVG with text; others are drawn.

    Raises:
      ValueError: an id is of no prompt of the run.
    """
    ids = [each.id for each in run.prompts]
    if unknown := sorted(set(values) - set(ids)):
        shown = ", ".join(ids[:8]) + ", …" * (len(ids) > 8)
        raise ValueError(f"values must be ids of prompts of the run; got {', '.join(unknown)}. Prompts: {shown}.")
    held = _held(run, values)
    script, looks = (_dense(_file(name)) for name in ("page.js", "page.css"))
    rows = [_row(run, prompt) for prompt in run.prompts]
    content = {
        "title": _title(run),
        "sentence": _sentence(run),
        "remarks": list(remarks),
        "headlines": _headlines(run),
        "columns": _columns(run),
        "rows": rows,
        "doubted": sum(bool(row["warnings"]) for row in rows),
        "tables": _tables(run),
        "figures": _figures(run, drawn),
        "made": _made(run, len(held)),
        "data": _json(_data(run, held)),
        "script": script,
        "style": looks,
        "script_hash": _hash(script),
        "style_hash": _hash(looks),
    }
    return _environment().get_template("page.html").render(content)


def packed(v: Float[np.ndarray, "s"], is_log_odds: bool = True) -> dict:
    """v for the page: low, step, and a number for each mask, in characters of `_DIGITS`, the high one first.

    v read back as low + step · number is off by one and a half steps at most, and printed with the same digits as v
    itself, as is its p: numbers are moved by one where they would not, and where that does not help, all by part of a
    step. Three characters are enough unless v ranges over hundreds of nats.
    """
    wanted = [_printed(x, is_log_odds) for x in v.tolist()]
    for width, shift in itertools.product((3, 4, 5), np.linspace(2, 1, 8).tolist()):
        step = float(np.ptp(v)) / (64**width - 5)
        low = float(v.min()) - shift * step
        numbers = np.rint((v - low) / (step or 1.0)).astype(int).tolist()
        moved = [
            next((n + d for d in (0, 1, -1) if _printed(low + step * (n + d), is_log_odds) == text), None)
            for n, text in zip(numbers, wanted, strict=True)
        ]
        if None not in moved:
            break
    else:
        raise ValueError(f"values from {v.min()} to {v.max()} cannot be told apart on a page.")
    text = "".join(_DIGITS[n >> 6 * place & 63] for n in moved for place in reversed(range(width)))
    return {"low": low, "step": step, "v": text}


def _printed(v: float, is_log_odds: bool) -> tuple[str, ...]:
    return (f"{v:.2f}", percent(1 / (1 + math.exp(-v)) if v > -700 else 0.0)) if is_log_odds else (f"{v:.2f}",)


def _held(run: Reported, first: Sequence[str]) -> set[str]:
    """Ids of the prompts whose values are in the page."""
    left, held = MOST_VALUES, set()
    for prompt in sorted(run.prompts, key=lambda each: each.id not in first):
        left -= 3 * 2**prompt.n_players * len(run.models)
        if left < 0 and (held or not first):
            break
        held.add(prompt.id)
    return held


def _data(run: Reported, held: set[str]) -> dict:
    return {
        "models": [{"name": name, "label": run.labels[name]} for name in run.models],
        "score": run.recipe.score,
        "hiding": "".join(sorted({each for text in _texts(run) for each in text.replace("\r\n", "\n") if hides(each)})),
        "prompts": [_prompt(run, prompt, prompt.id in held) for prompt in run.prompts],
    }


def _texts(run: Reported) -> Iterator[str]:
    """What the script writes of prompts and models."""
    yield from run.labels.values()
    for prompt in run.prompts:
        yield prompt.text
        for name in run.models:
            yield run[name, prompt.id].target
            yield from run[name, prompt.id].warnings


def _prompt(run: Reported, prompt: Any, has_values: bool) -> dict:
    explained = [run[name, prompt.id] for name in run.models]
    compact = [each.compact for each in explained]
    shown = [_stacked((each.and_effects, each.or_effects)) for each in compact]
    others = [[_stacked(each.pair(method)) for each in explained] for method in ("certified", "and_only")]
    effects = [
        [kind, subset, [_short(each[kind][subset], 8) for each in shown]]
        + [[_short(each[kind][subset], 4) for each in other] for other in others]
        for kind in (0, 1)
        for subset in np.flatnonzero(np.any([each[kind] for each in shown], axis=0)).tolist()
    ]
    if any(each.intervals is not None for each in explained):
        for effect in effects:
            effect.append([_interval(each.intervals, *effect[:2]) for each in explained])
    return {
        "id": prompt.id,
        "text": prompt.text,
        "players": [[_utf16(prompt.text, place) for place in span] for span in prompt.players],
        "words": list(distinct(prompt.words)),
        "effects": effects,
        "models": [
            {
                "target": each.target,
                "p": each.values.target_probability,
                "empty": float(few.and_effects[0]),
                "warnings": list(each.warnings),
                **({} if math.isnan(each.unreliable()) else {"unreliable": _short(each.unreliable(), 4)}),
                **(packed(each.values.v, run.recipe.score == "product") if has_values else {"v": None}),
            }
            for each, few in zip(explained, compact, strict=True)
        ],
    }


def _interval(intervals: Any, kind: int, subset: int) -> list[float | int] | None:
    """At least and at most of the size of an effect; None where it is not bounded."""
    found = None if intervals is None else intervals.of(bool(kind), subset)
    return None if found is None else [_short(each, 4) for each in found]


def _stacked(pair: Any) -> np.ndarray:
    """AND and OR effects, without the constant. float64 `[2, s]`."""
    effects = np.stack(pair)
    effects[0, 0] = 0.0
    return effects


def _short(x: float, digits: int) -> float | int:
    """With so many digits: eight for those whose sum is printed with two."""
    return float(f"{x:.{digits}g}") or 0


def _utf16(text: str, place: int) -> int:
    return len(text[:place].encode("utf-16-le")) // 2


def _row(run: Reported, prompt: Any) -> dict:
    """A row of the overview."""
    explained = [run[name, prompt.id] for name in run.models]
    numbers = run.summary["prompts"][prompt.id]
    who = run.target_from(prompt)
    own = numbers["target"] is None
    cells = [(each.values.target_probability, percent) for each in explained]
    if numbers["pairs"]:
        cells.append((numbers["pairs"][0]["shown_overlap"], "{:.2f}".format))
    if labelled(run):
        cells += [(each.unreliable(), "{:.0%}".format) for each in explained]
    fits = [each.compact.r2 for each in explained]
    cells.append((min(fits, key=lambda x: math.inf if math.isnan(x) else x), r2_text))
    defined = [(x, form) if x is not None and not math.isnan(x) else (None, form) for x, form in cells]
    return {
        "id": prompt.id,
        "text": one_line(prompt.text, 160),
        "target": "each model’s own" if own else numbers["target"].strip() or repr(numbers["target"]),
        "predicted": "" if own or who == "given" else f"the most probable next text of {run.labels[who]}",
        "cells": [
            {"value": "" if x is None else repr(float(x)), "text": "–" if x is None else form(x)} for x, form in defined
        ],
        "warnings": list(dict.fromkeys(text for each in explained for text in each.warnings)),
    }


def _columns(run: Reported) -> list[dict]:
    several = len(run.models) > 1
    rows = [
        ("prompt", "Sort in the order of the run", False),
        ("text", "Sort by text", False),
        ("target", "The text whose probability is explained", False),
        *((f"p {run.labels[name]}", "Probability of the target, no word masked", True) for name in run.models),
        *[(terms.AGREEMENT.short, f"{terms.AGREEMENT.definition} Of the first two models.", True)] * several,
        *[(f"unreliable {run.labels[name]}", terms.UNRELIABLE.definition, True) for name in run.models * labelled(run)],
        ("R²", terms.FIT.definition + " The lower one of the models." * several, True),
        ("⚠", "Warnings", True),
    ]
    return [{"name": name, "meaning": meaning, "numeric": numeric} for name, meaning, numeric in rows]


def _title(run: Reported) -> str:
    models = _listed(list(run.labels.values()))
    if len(run.prompts) == 1:
        return f"{models} on “{one_line(run.prompts[0].text, 60)}”"
    return f"{models} on {len(run.prompts)} prompts"


def _sentence(run: Reported) -> str:
    counts = sorted({prompt.n_players for prompt in run.prompts})
    words = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    same = "the same" if len(run.models) > 1 else "a"
    return (
        f"Each prompt was given to the model with its {words} bold words masked in all 2ⁿ ways. An effect is what "
        f"words add to the log-odds of {same} target text, by themselves or together, in nats: +0.69 doubles the odds. "
        f"Masked words become {_masks(run)}."
    )


def _masks(run: Reported) -> str:
    masks = {each.name: each.baseline.removeprefix("token:") for each in run.recipe.models}
    if len(set(masks.values())) == 1:
        return next(iter(masks.values()))
    return ", ".join(f"{mask} in {run.labels[name]}" for name, mask in masks.items())


def _headlines(run: Reported) -> list[dict]:
    """Three numbers, each with what it means."""
    fit = {name: run.summary["models"][name]["shown"]["r2"] for name in run.models}
    together = {
        name: mean_of_defined([_together(run[name, prompt.id].compact) for prompt in run.prompts])
        for name in run.models
    }

    def headline(term: terms.Term, texts: Mapping[str, str]) -> dict:
        parts = [
            {"label": run.labels[name] if len(run.models) > 1 and name else "", "place": place % 6, "text": text}
            for place, (name, text) in enumerate(texts.items())
        ]
        return {"name": term.name, "meaning": f"{term.definition} {term.reading}", "parts": parts}

    if run.summary["pairs"]:
        first = headline(terms.AGREEMENT, {})
        pairs = run.summary["pairs"][:MOST_PAIRS]
        first["parts"] = [
            {
                "label": " | ".join(run.labels[name] for name in each["models"])
                if len(pairs) > 1
                else "the two models",
                "place": "",
                "text": terms.AGREEMENT.text(each),
            }
            for each in pairs
        ]
        by_chance = max((each["shuffled_overlap"] for each in pairs), key=lambda x: -1 if x is None else x)
        first["parts"].append({"label": "by chance", "place": "", "text": _number(by_chance, ".2f")})
    else:
        found = {name: percent(run.summary["models"][name]["target_probability"]) for name in run.models}
        first = headline(terms.CONFIDENCE, found)
    return [
        first,
        headline(terms.FIT, {name: r2_text(x) for name, x in fit.items()}),
        headline(terms.TOGETHER, {name: _number(x, ".0%") for name, x in together.items()}),
    ]


def _together(compact: Any) -> float:
    """Share of the strength that is in effects of two words or more; nan without effects."""
    sizes = np.abs(_stacked((compact.and_effects, compact.or_effects))).sum(axis=0)
    total = sizes.sum()
    return float(sizes[lattice.orders(lattice.n_players_of(sizes)) > 1].sum() / total) if total else math.nan


def _tables(run: Reported) -> list[dict]:
    """The closing tables, their rows with terms."""
    summaries = [run.summary["models"][name] for name in run.models]

    found = [
        {"name": name, "heads": list(run.labels.values()), "rows": _rows(rows, summaries)}
        for name, rows in terms.sections(run.tau, labelled(run))
    ]
    if pairs := run.summary["pairs"]:
        rows = (*terms.PAIRS, terms.CONTROL) if "control" in run.summary else terms.PAIRS
        heads = [" | ".join(run.labels[name] for name in pair["models"]) for pair in pairs]
        found.append({"name": "Pair of models, mean over prompts", "heads": heads, "rows": _rows(rows, pairs)})
    return found


def _rows(rows: Sequence[terms.Term], numbers: Sequence[Mapping]) -> list[dict]:
    return [{"term": row, "cells": [_typeset(row.text(each)) for each in numbers]} for row in rows]


def _figures(run: Reported, drawn: Mapping[str, bytes]) -> list[dict]:
    found = []
    for name, figure in FIGURES.items():
        if name == "convergence" and len(run.models) < 2:
            continue
        described = f"Figure: {name}. The text below says what it shows."
        with style.missing_glyphs_in_one_line(), rc_context(style.style()):
            try:
                svg = vector.inline(drawn[name], name, described)
            except (KeyError, ValueError):  # what is damaged is drawn as what is not there
                svg = vector.inline(figure.plot(run), name, described)
        found.append({"name": name, "svg": svg, "caption": figure.caption(run)})
    return found


def _made(run: Reported, held: int) -> list[tuple[str, list[dict]]]:
    """What is to be known of how the numbers came about: (name, lines)."""
    recipe, made, worst = run.recipe, run.recipe.made, run.summary["worst"]
    git = made.get("git") or {}
    commit = f"{git['commit'][:12]}{', with changes' * bool(git.get('changed'))}" if git else ""
    versions = ", ".join(f"{name} {each}" for name, each in (made.get("versions") or {}).items())
    by = sorted(
        {
            each.origin.get("made_by", "")
            for each in (run[key] for key in itertools.product(run.models, (each.id for each in run.prompts)))
        }
        - {""}
    )
    score = {"product": "log-odds of the product of the target's tokens", "sum": "sum of the log-odds of its tokens"}
    solvers: dict[str, list[int]] = {}
    for n in sorted(map(int, recipe.solvers)):
        solvers.setdefault(_settings(recipe.solvers[str(n)]), []).append(n)
    gap, error = worst["gap"], worst["identity_error"]
    where = f"{gap['prompt']}, {run.labels[gap['model']]}"
    certificate = [
        f"Worst certified gap {_number(gap['value'], '.1e')} ({where}): every solution is within that of the least "
        f"strength possible. Worst identity error {_number(error['value'], '.1e')} of the range of v."
    ]
    if worst["not_converged"]:
        certificate.append(f"Solutions that missed their tolerance: {worst['not_converged']}.")
    lines: dict[str, Sequence[str]] = {
        "command": [made.get("command", "")],
        "begun": [" on ".join(filter(None, (made.get("started", ""), made.get("host", ""))))],
        "device": [made.get("device", "")],
        "computed by": by,
        "versions": [versions, f"Python {made['python']}" if made.get("python") else "", commit and f"commit {commit}"],
        "models": [
            f"{each.name}: {each.family}, {each.parameters:,} parameters in {each.dtype}"
            + (f", revision {each.revision}" if each.revision else "")
            for each in recipe.models
        ],
        "masked words become": [f"{run.labels[each.name]}: {each.baseline}" for each in recipe.models],
        "in the control they become": [run.summary.get("control", "")],
        "v": [score[recipe.score]],
        "noise bound": [terms.noise_bound(recipe.noise)],
        "least strength by": [f"{each}, for {_listed(list(map(str, ns)))} words" for each, ns in solvers.items()]
        + [f"penalty {_settings(recipe.penalty)}"],
        "certificate": certificate,
        "left out": [f"{each.id} ({run.labels.get(each.model, each.model)}): {each.why}" for each in run.skipped]
        + list(made.get("left_out", ()))
        or ["nothing"],
        "values in this page": [
            "of all prompts, on every mask"
            if held == len(run.prompts)
            else f"of {held} of {len(run.prompts)} prompts, since a page with all would take too long to open. "
            "andor report RUN --values ID ... chooses them."
        ],
    }
    found = [(name, [{"text": each, "pre": False} for each in texts if each]) for name, texts in lines.items()]
    for name, texts in made.get("remarks", {}).items():
        found.append((f"remark on {name}", [{"text": each, "pre": False} for each in texts]))
    found += [(name, [{"text": text, "pre": True}]) for name, text in _chats(run)]
    return [(name, texts) for name, texts in found if texts]


def _ends(run: Reported) -> list:
    """A (model, prompt id) of each model."""
    return [(name, run.prompts[0].id) for name in run.models] if run.prompts else []


def _chats(run: Reported) -> list[tuple[str, str]]:
    """What each model read in place of the first message, where prompts are chats."""
    chats = [each for each in run.prompts if each.chat]
    return [
        (f"{chats[0].id} as sent to {run.labels[name]}", chat[0] + chats[0].text + chat[1])
        for name in (run.models if chats else ())
        if (chat := _around(run, name, chats[0]))
    ]


def _around(run: Reported, name: str, prompt: Any) -> tuple[str, str] | None:
    if isinstance(prompt.chat, tuple):
        return prompt.chat
    return next(each.chat for each in run.recipe.models if each.name == name)


def _settings(settings: Mapping) -> str:
    rest = ", ".join(f"{name} {each}" for name, each in settings.items() if name != "name")
    return f"{settings['name']}{f' ({rest})' if rest else ''}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _number(value: float | int | None, form: str) -> str:
    return _typeset(terms.number(value, form))


def _typeset(text: str) -> str:
    return text.replace("-", "−")


def _json(content: dict) -> str:
    """JSON for a script element: nothing in it can end the element, or hide."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return "".join(json.dumps(each)[1:-1] if hides(each) else each for each in text)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _file(name: str) -> str:
    return resources.files("andor.page").joinpath(name).read_text(encoding="utf-8")


def _dense(code: str) -> str:
    """A script or a style without indentation and lines that only explain: a tenth of the page is this."""
    lines = (line.strip() for line in code.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*")))


def _environment() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(_file)
    undefined = jinja2.StrictUndefined
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=undefined
    )
    environment.filters["visible"] = visible
    return environment
