"""A run as tables for people: what the command line prints. Built from settings and summary, nothing is computed here.

Text from prompts and models goes in as `Text`, so that brackets in it are never taken for markup.
"""

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from andor.core.effects import DUST, distinct, effect_name
from andor.core.lattice import subset_of
from andor.core.text import percent, r2_text, visible
from andor.core.values import Values
from andor.evaluation.noise_floor import SAMPLE
from andor.evaluation.planning import EFFICIENCY, Share
from andor.measures import terms
from andor.measures.reported import TOP_K, TRANSFER_K, labelled
from andor.measures.terms import number
from andor.prompts import PlayerRow, Prompt
from andor.runs.agreement import verdicts
from andor.runs.explanation import MOST_SHOWN, AtBound, Explanation
from andor.runs.masks import OfMask
from andor.runs.run import Run

MOST_ORDERS = 10
MOST_PROMPTS = 40
FIRST, IN_WORDS = 3, 4
"""Prompts whose effects are told in words, and how many."""

SUM = "the sum of the log-odds of the target's tokens"
BAR = 8
"""Cells of the longest bar in the table of effects, to either side."""


def players(
    rows: Sequence[PlayerRow],
    labels: Mapping[str, str],
    chats: Mapping[str, tuple[str, str] | None] | None = None,
    chosen: Sequence[tuple[int, int]] | None = None,
) -> RenderableType:
    """What masking each player does in each model, shown before any model runs.

    Args:
      rows: a player each.
      labels: model name -> label.
      chats: model name -> what its chat template puts before and after the text.
      chosen: spans of the content words of which the players are those nearest the target, where nobody named them.
    """
    table = _table()
    table.add_column("word", overflow="fold")
    table.add_column("characters")
    for label in labels.values():
        table.add_column(_text(f"token ids in {label}"), overflow="fold")
    for row, word in zip(rows, distinct([row.word for row in rows]), strict=True):
        ids = (" ".join(map(str, row.token_ids[name])) for name in labels)
        table.add_row(_text(word), f"{row.span[0]} to {row.span[1]}", *ids)
    masks = "; ".join(f"in {label} by {rows[0].replaced_by[name]}" for name, label in labels.items())
    notes = [f"Each token of a masked player is replaced {masks}."]
    if chosen is not None:
        taken = sum(start >= rows[0].span[0] for start, _ in chosen)
        which = "all" if taken == len(chosen) else f"the {taken} nearest the target of {len(chosen)}"
        joined = f", as {len(rows)} players: neighbours that share a token are one" if taken > len(rows) else ""
        notes.append(f"Nobody named players, so these are {which} content words{joined}.")
    for name, around in (chats or {}).items():
        if around is not None:
            notes.append(f"{labels[name]} reads the text between {around[0]!r} and {around[1]!r}.")
    return _titled("Players", table, "\n".join(notes))


def plan(
    model: str,
    parameters: int,
    dtype,
    free: int,
    shares: Mapping[str, Share],
    rate: float,
) -> RenderableType:
    """What prompts will take under a model.

    Args:
      model: its name.
      parameters, dtype: number and dtype of its weights.
      free: bytes of memory of a device.
      shares: by prompt.
      rate: of large matrix products on a device, in operations per second.
    """
    table = _table()
    table.add_column("prompt", no_wrap=True, max_width=20)
    for title in ("n", "tokens", "evaluated", "from scratch", "ratio", "batches", "operations", "cache", "time"):
        table.add_column(title, justify="right")
    for name, share in list(shares.items())[:MOST_PROMPTS]:
        tree = share.tree
        table.add_row(
            _text(name),
            str(tree.n_players + tree.groups_players),
            str(len(tree.levels)),
            f"{share.tokens:,}",
            f"{share.naive_tokens:,}",
            f"{share.naive_tokens / share.tokens:.1f}",
            f"{tree.n_batches} x {tree.n_rows}",
            f"{share.operations * share.n_devices:.2g}",
            _bytes(share.memory.cache),
            _seconds(share.seconds(rate)),
        )
    first = next(iter(shares.values()))
    tokens, naive = (sum(getattr(x, count) for x in shares.values()) for count in ("tokens", "naive_tokens"))
    seconds, exchanged = (
        sum(share.seconds(rate) for share in shares.values()),
        sum(x.exchanged for x in shares.values()),
    )
    several = first.n_devices > 1
    lines = [
        f"{len(shares)} prompt{'s' * (len(shares) != 1)}: {tokens:,} tokens evaluated ({naive:,} from scratch), about "
        f"{_seconds(seconds)} at {EFFICIENCY:.0%} of {rate / 1e12:.3g} TFLOP/s{' a device' * several}, compilation not "
        "counted.",
        f"Memory{f' of each of {first.n_devices} devices' * several}: {_bytes(first.weights)} of weights and at most "
        f"{_bytes(max(share.beside for share in shares.values()))} beside them, of {_bytes(free)}.",
    ]
    if exchanged:
        lines.append(
            f"Devices that hold a copy together exchange {_bytes(exchanged)} each, for which time is to be added."
        )
    weights = parameters * dtype.itemsize
    return Group(
        _text(f"{model}: {parameters:,} parameters, {_bytes(weights)} in {dtype}"),
        Text(),
        table,
        Text(),
        *map(_text, lines),
    )


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def comparison(run: Run) -> RenderableType:
    """The closing tables of `andor compare`."""
    tables = [prompts(run), in_words(run), models(run), orders(run)]
    return Group(*_spaced(tables + [pairs(run)] * (len(run.models) > 1)))


def prompts(run: Run) -> RenderableType:
    """One line per prompt: the target all models explain, and how sure each model is of it."""
    table = _table()
    table.add_column("prompt", no_wrap=True, max_width=20)
    table.add_column("n", justify="right")
    table.add_column("target", no_wrap=True, max_width=20)
    for label in run.labels.values():
        table.add_column(_text(label), justify="right", overflow="fold", max_width=18)
    if len(run.models) > 1:
        table.add_column("overlap", justify="right")
    doubted = any(x["with_warnings"] for x in run.summary["models"].values())
    if doubted:
        table.add_column("")
    for prompt in run.prompts[:MOST_PROMPTS]:
        numbers = run.summary["prompts"][prompt.id]
        each = [numbers["models"][name] for name in run.models]
        table.add_row(
            _text(prompt.id),
            str(numbers["n_players"]),
            _text(_target(run, prompt, numbers)),
            *(f"{percent(x['target_probability'])} {number(x['rise'], '+6.2f')}" for x in each),
            *([number(numbers["pairs"][0]["shown_overlap"], ".2f")] if numbers["pairs"] else []),
            *["!" * any(x["warnings"] for x in each)] * doubted,
        )
    notes = ["n: players. Per model: probability of the target on the full prompt, and v(N) - v(∅) in nats."]
    models = run.recipe.models
    masks = "; ".join(f"{each.baseline} in {run.labels[each.name]}{_in_brackets(each.why)}" for each in models)
    notes.append(f"Masked words are replaced by {masks}.")
    notes += [f"v is {SUM}."] * (run.recipe.score == "sum")
    notes += [f"!: of a model there is a warning; {run.path / 'prompts.csv'} has it."] * doubted
    predicted = {run.target_from(prompt) for prompt in run.prompts} - {"given", "own"}
    notes += [
        f"*: the most probable next text of {run.labels[name]}; all others were given with the prompt."
        for name in predicted
    ]
    if len(run.models) > 2:
        notes.append("overlap: of the first two models.")
    if len(run.prompts) > MOST_PROMPTS:
        hidden = len(run.prompts) - MOST_PROMPTS
        notes.append(f"{hidden} of {len(run.prompts)} prompts are only in {run.path / 'prompts.csv'}.")
    return _titled("Prompts, and the target text that every model explains", table, "\n".join(notes))


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _target(run: Run, prompt: Prompt, numbers: Mapping) -> str:
    if numbers["target"] is None:
        return "each model's own"
    return repr(numbers["target"]) + ("" if prompt.target is not None else " *")


def in_words(run: Run) -> RenderableType:
    """The strongest effects of every model on the first prompts."""
    table = _table()
    table.add_column("prompt", no_wrap=True, max_width=20)
    table.add_column("model", overflow="fold", max_width=18)
    table.add_column("strongest effects, nats", overflow="fold")
    table.add_column("R² of all", justify="right")
    first = run.prompts[:FIRST]
    for prompt in first:
        for place, (name, label) in enumerate(run.labels.items()):
            explanation = run[name, prompt.id]
            found = [
                f"{each.effect:+.2f} "
                + effect_name(explanation.values.players, subset_of(each.players), each.kind == "OR", 30)
                for each in explanation.top(IN_WORDS)
            ]
            table.add_row(
                _text(prompt.id if place == 0 else ""),
                _text(label),
                _text("; ".join(found) or "no effects"),
                r2_text(explanation.compact.r2),
            )
    notes = "∧: all of these words (AND), ∨: any of them (OR). R² of all: of v on all masks by all "
    notes += "effects of the explanation, of which these are the strongest."
    if len(first) < len(run.prompts):
        notes += f" The first {len(first)} of {len(run.prompts)} prompts."
    return _titled("Strongest effects in words", table, notes)


def models(run: Run) -> RenderableType:
    """One column per model, with the rows of `andor.measures.terms`."""
    summaries = [run.summary["models"][name] for name in run.models]
    table = _table()
    table.add_column("")
    for label in run.labels.values():
        table.add_column(_text(label), justify="right")
    for heading, rows in terms.sections(run.tau, labelled(run)):
        table.add_section()
        table.add_row(_text(heading, "bold"))
        for row in rows:
            table.add_row(_text(row.name), *map(row.text, summaries))
    notes = (
        "Means over prompts unless it says median. In parentheses: AND effects alone (Harsanyi dividends of the same "
        f"v). Noise bound of the optimum: {terms.noise_bound(run.recipe.noise)}."
    )
    for label, x in zip(run.labels.values(), summaries, strict=True):
        if x["without_unit"]:
            notes += (
                f" {label}: v(N) = v(∅) in {x['without_unit']} of {x['prompts']} prompts, left out where it divides."
            )
    return _titled("Models", table, notes)


def orders(run: Run) -> RenderableType:
    """Order profile: positive and negative strength per order, certified optimum and AND-only."""
    table = _table()
    table.add_column("order", overflow="fold", max_width=20)
    table.add_column("effects")
    table.add_column("")
    highest = max(len(run.summary["models"][name]["certified"]["positive"]) for name in run.models)
    shown = highest if highest <= MOST_ORDERS else MOST_ORDERS - 1
    for order in range(1, shown + 1):
        table.add_column(str(order), justify="right")
    if shown < highest:
        table.add_column(f"{shown + 1}+", justify="right")
    for name, label in run.labels.items():
        for kind, title in (("certified", "AND-OR"), ("and_only", "AND only")):
            for sign, mark in (("positive", "+"), ("negative", "-")):
                profile = run.summary["models"][name][kind][sign]
                cells = profile[:shown] + ([math.fsum(profile[shown:])] if shown < highest else [])
                first = (_text(label) if kind == "certified" else "", title) if mark == "+" else ("", "")
                table.add_row(*first, mark, *(number(100 * x, ".1f") for x in cells))
        table.add_section()
    notes = "AND only: Harsanyi dividends of the same v, in the same unit. +, -: positive, negative effects."
    left_out = run.summary["models"][run.models[0]]["without_effects"]
    if left_out:
        notes += f" Left out, without effects: {left_out} of {len(run.prompts)} prompts."
    return _titled(
        "Order profile: strength per order, % of the strength at the optimum, mean over prompts", table, notes
    )


def pairs(run: Run) -> RenderableType:
    """One line per pair of models, and whether the first two agree more than each with itself."""
    table = _table()
    table.add_column("pair")
    k = TRANSFER_K[-1]
    for row in terms.PAIRS:
        table.add_column(row.short, justify="right")
    for record in run.summary["pairs"]:
        names = " | ".join(run.labels[name] for name in record["models"])
        table.add_row(_text(names), *(row.text(record) for row in terms.PAIRS))
    notes = (
        "overlap: of the effects that are shown, weighted; 1 = the same at the same relative strength, 0 = none in "
        "common. corr. of v: over all masks. noise: overlap of a model with itself where noise on v leaves that "
        "correlation. shuffled: overlap by chance, effects shuffled within their orders. of optima: overlap of the "
        f"certified optima. top {k}: share of their {k} strongest that both have; –: neither has {k} on any prompt."
    )
    sentences = (_text(each, "bold") for each in verdicts(run, run.summary))
    return Group(_titled("Pairs of models: means over prompts", table, notes), *sentences)


def effects(explanation: Explanation, top: int) -> RenderableType:
    """The strongest effects of one prompt, in words."""
    table = _table()
    table.add_column("", justify="right")
    table.add_column("kind")
    table.add_column("order", justify="right")
    table.add_column("words")
    table.add_column("effect", justify="right")
    table.add_column("share", justify="right")
    table.add_column("at the optimum", justify="right", overflow="fold", max_width=11)
    table.add_column("-", justify="right")
    table.add_column("+")
    shown, optima = explanation.top(top), explanation.pair("certified")
    for rank, each in enumerate(shown, start=1):
        bar = "█" * round(BAR * abs(each.effect) / abs(shown[0].effect))
        name = effect_name(explanation.values.players, subset_of(each.players), each.kind == "OR", 40)
        optimum = float(optima[each.kind == "OR"][subset_of(each.players)])
        table.add_row(
            str(rank),
            each.kind,
            str(each.order),
            _text(name),
            f"{each.effect:+.3f}",
            f"{each.share:.0%}",
            f"{optimum:+.3f}" if abs(optimum) > DUST else "–",
            *((bar, "") if each.effect < 0 else ("", bar)),
        )
    compact = explanation.compact
    unreliable = explanation.unreliable()
    of_labels = (
        ""
        if math.isnan(unreliable)
        else f" Unreliable: {unreliable:.0%} of the strength is in effects with words labelled irrelevant or forbidden."
    )
    notes = (
        "effect: nats, added to v when all words (AND) or any word (OR) are there. share: of the strength of these "
        f"effects, the sum of their sizes. R² {r2_text(compact.r2)} of v on all masks by "
        f"{'these' if len(shown) == compact.count else 'all'} {compact.count} effects, worst error "
        f"{compact.worst_error:.2g} nats; their strength is {number(compact.excess, '.2f')} times the least that "
        "errors as large allow. at the optimum: the same effect in the certified optimum, another explanation that "
        "is about as good; where the two differ v does not tell how large the effect is (--intervals bounds it)."
        + of_labels
    )
    title = f"Strongest effects on the log-odds of {explanation.target!r}"
    return Group(_titled(title, table, notes), *doubts(explanation))


def certain(explanation: Explanation, k: int) -> RenderableType:
    """The strongest effects of the certified optimum, and what all explanations that are nearly as weak agree on."""
    table = _table()
    table.add_column("kind")
    table.add_column("words")
    for title in ("effect", "at least", "at most"):
        table.add_column(title, justify="right")
    for each, low, high in explanation.certain(k):
        name = effect_name(explanation.values.players, subset_of(each.players), each.kind == "OR", 40)
        table.add_row(each.kind, _text(name), f"{each.effect:+.3f}", f"{low:.3f}", f"{high:.3f}")
    share, *bounds = (number(each, ".2f") for each in explanation.share_of_orders())
    notes = (
        "at least, at most: bounds on the size of the effect over all explanations within the noise bound "
        f"({explanation.solution.noise_bound:.2g} nats) whose strength is within a thousandth of the least; 0: it may "
        f"be none. Share of orders 1 and 2 in the strength: {share}, likewise {bounds[0]} to {bounds[1]}."
    )
    return _titled("Least strength, certified: what is certain", table, notes)


def path(explanation: Explanation, points: Sequence[AtBound]) -> RenderableType:
    """How the certified optimum changes with the noise bound: a line per bound (`Explanation.path`)."""
    table = _table()
    for title in ("bound", "nats", "salient", f"R² of {MOST_SHOWN}", "orders 1, 2", "spindle share"):
        table.add_column(title, justify="right")
    for each in points:
        table.add_row(
            f"{each.bound:.0%}",
            number(each.bound * explanation.trust.spread, ".2g"),
            str(each.salient),
            *(number(share, ".2f") for share in (each.r2, each.low_orders, each.spindle_share)),
        )
    notes = (
        "bound: on the noise, in units of the spread of v over the masks; the optimum of this explanation has a bound "
        f"of {explanation.solution.noise_bound:.2g} nats. R²: of v on all masks by the strongest {MOST_SHOWN} effects. "
        "orders 1, 2: share in the strength. spindle share: of the strengths by order as a decay and a spindle. What "
        "changes from line to line is said of the bound as much as of the model."
    )
    return _titled("Least strength, certified: by the noise bound", table, notes)


def doubts(explanation: Explanation) -> list[Text]:
    """What speaks against an explanation, a line each."""
    return [_text(f"! {each}", "yellow") for each in explanation.warnings]


def masks(model: str, rows: Sequence[OfMask]) -> RenderableType:
    """One line per way of masking: medians over prompts, and their intervals below."""
    columns = {
        "loss_masked": ("all", ".2f"),
        "loss_half": ("half", ".2f"),
        "v_empty": ("v(∅)", "+.1f"),
        "range": ("range", ".1f"),
        "low_orders": ("orders 1, 2", ".2f"),
        "r2": (f"R² of {MOST_SHOWN}", ".2f"),
        "gain": ("less the first", "+.2f"),
    }
    full = next(row.numbers["loss_full"] for row in rows if row.numbers)
    notes = (
        "Median over prompts, and its 95% bootstrap interval. all, half: loss per background token behind the first "
        f"player with all players masked, with half; of the full prompt it is {full[0]:.2f} nats ({full[1]:.2f}… "
        f"{full[2]:.2f}). v(∅): log-odds of the target without any player. range: of v over all masks, nats. orders 1, "
        f"2: share in the strength of the compact explanation, which has {MOST_SHOWN} effects at most. R²: of v on all "
        "masks by these; less the first: of the first mask, on the same prompts."
    )
    return _titled(f"Masks of {model}", _of_masks(rows, columns), notes)


def under_masks(model: str, rows: Sequence[OfMask]) -> RenderableType:
    """How well v is explained under each mask, and what is certain of it: as `masks`."""
    columns = {
        "r2": ("compact", ".2f"),
        "r2_optimum": (f"best {MOST_SHOWN}", ".2f"),
        f"r2_{TOP_K}": (f"best {TOP_K}", ".2f"),
        "walsh": ("Walsh", ".2f"),
        "salient": ("salient", ".0f"),
        "optimum_low_orders": ("orders 1, 2", ".2f"),
        "at_least": ("at least", ".2f"),
        "at_most": ("at most", ".2f"),
        "warned": ("warned", ".0%"),
    }
    notes = (
        "Median over prompts, and its 95% bootstrap interval. R² of v on all masks: compact, of the effects that are "
        f"shown, {MOST_SHOWN} at most; best {MOST_SHOWN}, best {TOP_K}, of the strongest of the certified optimum; "
        f"Walsh, of {MOST_SHOWN} Walsh coefficients. salient, orders 1, 2: effects of the optimum above 5% of the "
        "largest, and share of strength; at least, at most: of that share in all that is nearly optimal. warned: share "
        "of prompts with any warning."
    )
    return _titled(f"Explanations by {model} under each mask", _of_masks(rows, columns), notes)


def _of_masks(rows: Sequence[OfMask], columns: Mapping[str, tuple[str, str]]) -> Table:
    """Two lines per mask: numbers by name, under a title and in a form, and their intervals."""
    table = _table()
    table.add_column("mask", overflow="fold", max_width=20)
    table.add_column("prompts", justify="right")
    for title, _ in columns.values():
        table.add_column(title, justify="right", overflow="fold")
    for row in rows:
        cells = [(row.numbers.get(key, (math.nan,) * 3), form) for key, (_, form) in columns.items()]
        middle = (number(each[0], form) for each, form in cells)
        around = (f"{number(each[1], form)}…{number(each[2], form)}" for each, form in cells)
        table.add_row(_text(row.baseline.removeprefix("token:")), str(row.n_prompts), *middle)
        table.add_row("", "", *(_text(each, "dim") for each in around))
    return table


def noise_floor(values: Values) -> RenderableType:
    """What the measured noise of v means for the effects of each order."""
    size = values.forward_noise
    orders = ", ".join(f"{size * 2 ** (order / 2):.1e}" for order in range(1, len(values.players) + 1))
    return _text(
        f"Forward noise of v: {size:.1e} nats on {min(SAMPLE, len(values.v))} masks evaluated again, bound "
        f"{values.measured_noise:.1e} on all. "
        f"AND-only effects of order 1, 2, ... are known to within {orders}."
    )


def certificate(run: Run) -> Text:
    """How far from exact and from optimal the worst solution is."""
    worst = run.summary["worst"]
    gap, error = worst["gap"], worst["identity_error"]
    where = f" ({gap['prompt']}, {run.labels[gap['model']]})" if len(run.prompts) > 1 else ""
    line = (
        f"Least strength: worst certified gap {number(gap['value'], '.1e')}{where}. Worst identity "
        f"error {number(error['value'], '.1e')} of the range of v."
    )
    if worst["not_converged"]:
        line += f" Solutions that missed their tolerance: {worst['not_converged']}; see status in {run.path}."
    return _text(line)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _titled(title: str, table: Table, notes: str) -> Group:
    return Group(_text(title, "bold"), Text(), table, _text(notes, "dim"))


def _text(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)


def _spaced(tables: Sequence[RenderableType]) -> list[RenderableType]:
    return [part for table in tables for part in (table, Text())]
