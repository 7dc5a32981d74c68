"""Drawing of `studies.causes`: the numbers against each cause, and the diagnosis table."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from andor.figures import panels, style
from experiments.lab.methods import LABELS, look
from experiments.studies.cause_numbers import sign
from experiments.studies.cause_settings import CAUSES, EARLY, NUMBERS, SETTINGS


def draw(result: dict) -> Figure:
    """Above, the numbers against each cause; below, the diagnosis table."""
    figure = style.new_figure(style.TWO_COLUMNS, 7.0)
    by_name = {each["model"]: each for each in result["models"]}
    style.title(figure, _claim(by_name, result["plan"]["seeds"]))
    above, below = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    axes = above.subplots(3, 4, sharey="row", sharex="col")
    for column, (cause, names) in zip(axes.T, CAUSES.items(), strict=True):
        names = names or [*(name for name in by_name if name.startswith("base, ") and EARLY not in name), "base"]
        names = [name for name in names if name in by_name]
        for ax, number in zip(column, NUMBERS, strict=True):
            for shift, method in zip((-0.1, 0, 0.1), LABELS, strict=True):
                line = look(method) | {"label": LABELS[method]}
                x = np.arange(len(names)) + shift
                panels.points(ax, x, [by_name[name][method][number] for name in names], **line)
                seeds = np.array([by_name[name][method][f"{number}_by_seed"] for name in names], float)
                ax.plot(x, seeds, ls="", marker=".", ms=2.5, color=line["color"], alpha=0.5)
            ax.grid(axis="y")
        column[0].set_title(cause)
        column[-1].set_xticks(range(len(names)), _ticks(cause, names, result["plan"], by_name))
        column[-1].set_xlim(-0.4, len(names) - 0.6)
    for ax, label in zip(axes[:, 0], NUMBERS.values(), strict=True):
        ax.set_ylabel(label)
    above.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    _table(below.subplots(), result["changes"], by_name)
    return figure


def _claim(by_name: dict, seeds: int) -> str:
    """Scores at the ends of the causes, and whether the models learnt the task at all."""
    said = {"more": "much data", "few": "little data", "noise 30%": "noisy labels", "hard": "hard samples"}
    parts = [
        f"{text} {style.number(by_name[name]['certified']['score'][0])} ({by_name[name]['accuracy']:.0%})"
        for name, text in said.items()
        if name in by_name
    ]
    over = f"{seeds} seeds" if seeds > 1 else "1 seed, intervals over prompts only"
    return f"Score at the certified optimum (accuracy on dev; {over}): {', '.join(parts)}"


def _ticks(cause: str, names: Sequence[str], plan: dict, by_name: dict) -> list[str]:
    if cause == "training steps":
        return [f"{by_name[name]['steps'][0]:,}" for name in names]
    if cause == "phrases":
        return [f"{plan['fraction'] * SETTINGS[name].data:.3g}".lstrip("0") for name in names]
    if cause == "flipped labels":
        return [f"{SETTINGS[name].label_noise:.0%}" for name in names]
    return [SETTINGS[name].samples for name in names]


def named(change: dict) -> str:
    """A cause as it is; a remedy behind the trouble."""
    trouble = change["kind"].removeprefix("remedy for ")
    return change["what"] if change["kind"] == "cause" else f"{trouble} → {change['what']}"


def _table(ax, changes: list[dict], by_name: dict) -> None:
    """One line a change; bold where it has a sign."""
    ax.set_axis_off()
    heads = ("", "change of score", "by seed", "of mean order", "of cancellation", "accuracy", "gap")
    places = (0.0, 0.185, 0.325, 0.545, 0.685, 0.835, 0.925)
    lines = len(changes) + 2
    for place, head in zip(places, heads, strict=True):
        ax.text(place, 1, head, va="top", fontsize=6.5, color=style.MUTED)
    for row, change in enumerate(changes, start=1):
        y = 1 - row / lines
        ax.text(places[0], y, named(change), va="top", fontsize=6.5)
        for place, number in zip((places[1], *places[3:5]), NUMBERS, strict=True):
            weight = "normal" if sign(change, number) == "0" else "bold"
            value, low, high = map(style.number, np.array(change["certified"][number], float))
            ax.text(place, y, f"{value} [{low}, {high}]", va="top", fontsize=5.5, weight=weight)
        by_seed = map(style.number, np.array(change["certified"]["score_by_seed"], float))
        ax.text(places[2], y, " ".join(by_seed), va="top", fontsize=5.5)
        for place, key in zip(places[5:], ("accuracy", "gap"), strict=True):
            ends = (style.number(by_name[change[end]][key]) for end in ("before", "after"))
            ax.text(place, y, " → ".join(ends), va="top", fontsize=5.5)
