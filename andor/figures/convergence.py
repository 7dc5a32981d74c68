"""Claim: two models share effects. The strongest effects of both on the same prompts, in words, and overlap numbers.

Arxiv 2401.16318, definition 1 and figure 3. Only the first two models of a run are drawn.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from andor.core.effects import effect_name
from andor.core.explained import Compared
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.reported import TRANSFER_K, median_of_defined

TOP = 15
"""Effects drawn per prompt, at most."""

TRANSFER_AT = TRANSFER_K[-1]

_AND_TRANSFER, _OR_TRANSFER = (f"{kind} transfer, k = {TRANSFER_AT}" for kind in ("AND", "OR"))
_LONGEST = 38  # characters of an effect's name
_THINNEST = 0.004  # of the longest bar: what is shorter is thinner than its own outline


@dataclass(frozen=True)
class Effect:
    """One effect in both models, each value divided by its model's |v(N) - v(∅)|.

    Attributes:
      salient: whether it is salient in the first, in the second model.
    """

    subset: int
    is_or: bool
    values: tuple[float, float]
    salient: tuple[bool, bool]

    @property
    def shared(self) -> bool:
        """Salient in both models, with one sign."""
        return all(self.salient) and self.values[0] * self.values[1] > 0


def compared(run: Compared, prompt_id: str) -> list[Effect]:
    """Effects that are salient in a model of the first pair, strongest (in either model) first."""
    pairs = [run[model, prompt_id].pair() for model in run.models[:2]]
    scales = [run[model, prompt_id].range for model in run.models[:2]]
    chosen = [metrics.salient(*pair, run.tau) for pair in pairs]
    effects = [
        Effect(
            int(subset),
            bool(is_or),
            tuple(float(pair[is_or][subset] / scale) for pair, scale in zip(pairs, scales, strict=True)),
            tuple(bool(salient[is_or][subset]) for salient in chosen),
        )
        for is_or in (0, 1)
        for subset in np.flatnonzero(chosen[0][is_or] | chosen[1][is_or])
    ]
    return sorted(effects, key=lambda effect: -max(map(abs, effect.values)))


def in_words(run: Compared, prompt_id: str, count: int, longest: int) -> list[dict]:
    """The strongest of `compared` for `panels.effect_bars`, with names of so many characters at most.

    Shared ones come first, then those of the first model, then those of the second.
    """

    def group(effect: Effect) -> int:
        return 0 if effect.shared else 1 if abs(effect.values[0]) >= abs(effect.values[1]) else 2

    words = [style.visible(word) for word in run[run.models[0], prompt_id].values.players]
    return [
        {
            "name": effect_name(words, each.subset, each.is_or, longest),
            "is_or": each.is_or,
            "shared": each.shared,
            "values": each.values,
        }
        for each in sorted(compared(run, prompt_id)[:count], key=group)
    ]


def overlaps(run: Compared) -> dict[str, dict[str, float]]:
    """Name of the measure -> prompt id -> number in [0, 1], nan where it is undefined."""
    found = {"weighted overlap": {}, "salient effects shared": {}, _AND_TRANSFER: {}, _OR_TRANSFER: {}}
    for p in (each.id for each in run.prompts):
        pairs = [run[model, p].pair() for model in run.models[:2]]
        ranges = tuple(run[model, p].range for model in run.models[:2])
        if min(ranges) == 0:  # there is no unit to compare in
            continue
        transfer = metrics.transfer(*pairs, k=TRANSFER_AT)
        effects = compared(run, p)
        found["weighted overlap"][p] = metrics.weighted_overlap(*pairs, ranges)
        found["salient effects shared"][p] = sum(e.shared for e in effects) / len(effects) if effects else float("nan")
        found[_AND_TRANSFER][p] = transfer.s_and
        found[_OR_TRANSFER][p] = transfer.s_or
    return found


def shown_prompts(run: Compared) -> tuple[str, ...]:
    """The prompts at the upper and the lower quartile of the weighted overlap; one or none when there are fewer."""
    if len(run.models) < 2:
        return ()
    overlap = {p: x for p, x in overlaps(run)["weighted overlap"].items() if not np.isnan(x)}
    ranked = sorted(overlap, key=lambda p: -overlap[p])
    if len(ranked) <= 2:
        return tuple(ranked)
    quarter = round((len(ranked) - 1) / 4)
    return ranked[quarter], ranked[-1 - quarter]


def plot(run: Compared, width: float = style.TWO_COLUMNS) -> Figure:
    """One row of two panels per prompt, a bar per effect, model by model; below, overlap over all prompts."""
    shown = shown_prompts(run)
    if not shown:
        figure = style.new_figure(style.TWO_COLUMNS, 1.5)
        style.title(figure, "Nothing to compare")
        style.empty(figure.subplots(), "needs two models, and a prompt on which both have effects")
        return figure
    charts = {p: in_words(run, p, TOP, _LONGEST) for p in shown}
    # Inches: per prompt a line for its text and the bars with their axis; the numbers; title and legend.
    heights = [height for chart in charts.values() for height in (0.2, 0.5 + 0.135 * len(chart))] + [0.2, 0.85]
    figure = style.new_figure(style.TWO_COLUMNS, 0.9 + sum(heights))
    style.title(figure, _claim(run))
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    texts = {p.id: " ".join(p.text.split()) for p in run.prompts}
    for place, (p, effects) in enumerate(charts.items()):
        _plot_heading(figure.add_subplot(grid[2 * place, :]), f"{p}: “{texts[p]}”")
        left = figure.add_subplot(grid[2 * place + 1, 0])
        right = figure.add_subplot(grid[2 * place + 1, 1], sharex=left, sharey=left)
        panels.effect_bars((left, right), effects, [run.labels[m] for m in run.models[:2]], lw=0.7, least=_THINNEST)
        for ax in (left, right):
            ax.set_xlabel(f"effect on “{style.visible(run[run.models[0], p].target.strip())}” / |v(N) − v(∅)|")
    found = overlaps(run)
    heading = f"overlap on each of {len(found['weighted overlap'])} prompts (dots), and its median (bars)"
    _plot_heading(figure.add_subplot(grid[-2, :]), heading)
    _plot_overlaps(figure.add_subplot(grid[-1, :]), found)
    figure.legend(handles=style.shared_and_distinctive(), loc="outside lower center", ncols=4)
    return figure


def caption(run: Compared) -> str:
    """What the figure shows, and its numbers."""
    shown = shown_prompts(run)
    if not shown:
        return "Convergence. Nothing to compare: it takes two models, and a prompt on which both have effects."
    names = " and ".join(run.labels[model] for model in run.models[:2])
    texts = {p.id: " ".join(p.text.split()) for p in run.prompts}
    found = overlaps(run)
    numbers = ", ".join(f"{name} {_median(x)}" for name, x in found.items())
    drawn = []
    for p in shown:
        effects = compared(run, p)
        shared = sum(effect.shared for effect in effects)
        note = f"{p} “{texts[p]}”: {shared} of {len(effects)} effects shared, weighted overlap "
        drawn.append(note + style.number(found["weighted overlap"][p]))
    more = f" (the first two of {len(run.models)} models)" if len(run.models) > 2 else ""
    return (
        f"Convergence of {names}{more}. Above: their {TOP} strongest salient effects in words, each divided by its "
        f"model's |v(N) − v(∅)|; filled: shared (salient in both, with one sign); hatched: distinctive (salient in "
        f"one, or of opposite sign). Prompts at the upper and lower quartile of weighted overlap: {'; '.join(drawn)}. "
        f"Below: overlap over {len(found['weighted overlap'])} prompts (dots) and its median (bar); transfer is the "
        f"share of common effects among the {TRANSFER_AT} strongest. Medians: {numbers}."
    )


def _claim(run: Compared) -> str:
    first, second = (run.labels[model] for model in run.models[:2])
    median = median_of_defined(overlaps(run)["weighted overlap"].values())
    more = "" if len(run.models) == 2 else f" (first two of {len(run.models)} models)"
    share = f"{median:.0%} of the strength of their effects"
    return f"{first} and {second}{more} share {share} in the median prompt"


def _plot_heading(ax, text: str) -> None:
    ax.set_axis_off()
    # From the left edge of the figure, not of the panels; kept out of the layout, which would make room for its width.
    edge = blended_transform_factory(ax.figure.transFigure, ax.transAxes)
    ax.text(0.01, 0.0, style.shortened(text), transform=edge, va="bottom", color=style.MUTED).set_in_layout(False)


def _plot_overlaps(ax, found: dict[str, dict[str, float]]) -> None:
    for row, by_prompt in enumerate(found.values()):
        numbers = [x for x in by_prompt.values() if not np.isnan(x)]
        look = {"ms": 2.5, "color": style.MUTED, "alpha": 0.7, "clip_on": False}
        middle = [median_of_defined(numbers)]
        panels.dots(ax, row, numbers, middle, _median(by_prompt), half=0.36, lw=1.8, offset=8, **look)
    panels.row_axes(ax, list(found))
    ax.set_xlim(0, 1)
    ax.annotate(
        "median", (1, 1), xycoords="axes fraction", xytext=(3, 4), textcoords="offset points", color=style.MUTED
    )  # fmt: skip


def _median(by_prompt: dict[str, float]) -> str:
    return style.number(median_of_defined(by_prompt.values()))
