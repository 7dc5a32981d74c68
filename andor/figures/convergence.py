"""Claim: two models share effects. How much of their effects is common, on every prompt.

Arxiv 2401.16318, definition 1 and figure 3. Only the first two models of a run are drawn. Their effects in words are
the picture of a prompt (`andor.figures.prompt`).
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from andor.core.explained import Compared
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.reported import TRANSFER_K, median_of_defined

TRANSFER_AT = TRANSFER_K[-1]

_AND_TRANSFER, _OR_TRANSFER = (f"{kind} transfer, k = {TRANSFER_AT}" for kind in ("AND", "OR"))


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


def overlaps(run: Compared) -> dict[str, dict[str, float]]:
    """Name of the measure -> prompt id -> number in [0, 1], nan where it is undefined."""
    found = {"weighted overlap": {}, "salient effects shared": {}, _AND_TRANSFER: {}, _OR_TRANSFER: {}}
    for p in (each.id for each in run.prompts):
        pairs = [run[model, p].pair() for model in run.models[:2]]
        if min(run[model, p].range for model in run.models[:2]) == 0:  # there is no unit to compare in
            continue
        shown = [run[model, p].pair("compact") for model in run.models[:2]]
        spreads = tuple(float(run[model, p].values.v.std()) for model in run.models[:2])
        transfer = metrics.transfer(*pairs, k=TRANSFER_AT)
        effects = compared(run, p)
        found["weighted overlap"][p] = metrics.weighted_overlap(*shown, spreads)
        found["salient effects shared"][p] = sum(e.shared for e in effects) / len(effects) if effects else float("nan")
        found[_AND_TRANSFER][p] = transfer.s_and
        found[_OR_TRANSFER][p] = transfer.s_or
    return found


def plot(run: Compared, width: float = style.TWO_COLUMNS) -> Figure:
    """A row per measure of overlap, with a dot per prompt."""
    found = overlaps(run) if len(run.models) > 1 else {}
    if not _defined(found):
        figure = style.new_figure(width, 1.5)
        style.title(figure, "Nothing to compare")
        style.empty(figure.subplots(), "needs two models, and a prompt\non which both have effects")
        return figure
    figure = style.new_figure(width, 1.75)
    style.title(figure, _claim(run))
    ax = figure.subplots()
    _plot_overlaps(ax, found)
    count = len(found["weighted overlap"])
    ax.set_xlabel(f"shared, 1: all (dots: {count} prompts, bars: medians)" if count > 1 else "shared, 1: all")
    return figure


def caption(run: Compared) -> str:
    """What the figure shows, and its numbers."""
    found = overlaps(run) if len(run.models) > 1 else {}
    if not _defined(found):
        return "Convergence. Nothing to compare: it takes two models, and a prompt on which both have effects."
    names = " and ".join(run.labels[model] for model in run.models[:2])
    numbers = ", ".join(f"{name} {_median(x)}" for name, x in found.items())
    ranked = sorted(_defined(found), key=lambda p: -found["weighted overlap"][p])
    ends = dict.fromkeys((ranked[0], ranked[-1]))
    most_and_least = ", ".join(f"{p} {style.number(found['weighted overlap'][p])}" for p in ends)
    more = f" (the first two of {len(run.models)} models)" if len(run.models) > 2 else ""
    return (
        f"Convergence of {names}{more} on {len(found['weighted overlap'])} prompts (dots), and the median (bar): "
        f"weighted overlap of the effects that are shown, each divided by the spread of its v; of the certified "
        f"optima the share of salient effects that are salient in both with one sign, and transfer, the share of "
        f"common effects among the {TRANSFER_AT} strongest. Medians: {numbers}. Most and least weighted overlap: "
        f"{most_and_least}."
    )


def _defined(found: dict[str, dict[str, float]]) -> list[str]:
    """Prompts that have an overlap."""
    return [p for p, x in found.get("weighted overlap", {}).items() if not np.isnan(x)]


def _claim(run: Compared) -> str:
    first, second = (run.labels[model] for model in run.models[:2])
    median = median_of_defined(overlaps(run)["weighted overlap"].values())
    more = "" if len(run.models) == 2 else f" (first two of {len(run.models)} models)"
    share = f"{median:.0%} of the strength of their effects"
    return f"{first} and {second}{more} share {share} in the median prompt"


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
