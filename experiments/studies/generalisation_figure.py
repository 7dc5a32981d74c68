"""Drawing of `studies.generalisation`: scores against the gap, and their correlations with it."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from andor.figures import panels, style
from experiments.lab.methods import LABELS, look

SPLIT = "spindle share"
TESTED = f"certified {SPLIT}"
SCORES = {
    SPLIT: "spindle share",
    "high orders": "share of orders ≥ 3",
    "mean order": "mean order",
    "salient": "salient effects",
    "strength": "strength of effects",
    "cancellation": "cancellation",
}
"""Scores from effects, by either method; the first is the one that is tested, the others are for comparison.

Strength is in nats, cancellation that within a prompt.
"""
PLAIN = {"certainty": "certainty", "loss": "loss (needs labels)"}
"""Scores without effects."""


_MARKERS = {"reference": "o", "all": "*", "part": "s", "third": "D", "tenth": "^", "few": "v", "noise": "X"}
LINES = {
    **{f"{method} {SPLIT}": look(method) | {"label": f"{SPLIT}, {LABELS[method]}"} for method in LABELS},
    "certainty": {"color": style.MODELS[2], "ls": "-", "label": "certainty (1 bit less entropy)"},
    "loss": {"color": style.MODELS[3], "ls": "-", "label": "loss (needs labels)"},
}
"""Score of the panel over the number of prompts -> its look and name."""
_POINTS = dict(zip(LINES, "osv^D", strict=True))


def draw(result: dict) -> Figure:
    """Spindle share against the gap; correlation against the number of prompts; all scores on all prompts."""
    figure = style.new_figure(style.TWO_COLUMNS, 5.0)
    style.title(figure, _claim(result))
    above, below = figure.subfigures(2, 1)
    upper = above.subplots(1, len(LABELS), sharey=True)
    for ax, method in zip(upper, LABELS, strict=True):
        _draw_models(ax, result, method)
    upper[0].set_ylabel("spindle share, all prompts")
    handles, kinds = upper[0].get_legend_handles_labels()
    families = [Patch(color=style.model_colour(i), label=name) for i, name in enumerate(("Llama", "Qwen2"))]
    above.legend(handles=[*families, *handles], labels=["Llama", "Qwen2", *kinds], loc="outside lower center", ncols=9)
    counts, scores = below.subplots(1, 2)
    _draw_counts(counts, result)
    _draw_scores(scores, result)
    return figure


def _draw_models(ax, result: dict, method: str) -> None:
    for kind, marker in _MARKERS.items():
        chosen = [each for each in result["models"] if each["kind"] == kind]
        colours = [style.model_colour(0 if each["model"].startswith("llama") else 1) for each in chosen]
        x, y = ([each[key] for each in chosen] for key in ("gap", f"{method} {SPLIT}"))
        ax.scatter(x, y, c=colours, marker=marker, s=16, lw=0)
        ax.scatter([], [], c=style.MUTED, marker=marker, s=16, lw=0, label=kind)
    most = max(each["prompts"] for each in result["correlations"])
    rho = correlation(result, most, f"{method} {SPLIT}")
    ax.set_title(f"{LABELS[method]}\nρ = {_text(rho)}")
    ax.set_xlabel("dev less train label cross-entropy, nats")
    ax.set_ylim(0, 1)
    ax.grid()


def _draw_counts(ax, result: dict) -> None:
    counts = sorted({each["prompts"] for each in result["correlations"]})
    for place, (name, line) in enumerate(LINES.items()):
        rho = np.array([correlation(result, count, name) for count in counts])
        x = np.array(counts) * 1.06 ** (place - 2)
        panels.points(ax, x, rho, marker=_POINTS[name], elinewidth=0.7, **line)
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.set_ylim(-1, 1.05)
    ax.set_xlabel("prompts")
    ax.set_ylabel("Spearman's ρ with the gap")
    ax.set_title("From few prompts (95%: draws and kinds of model)")
    ax.grid(axis="y")
    ax.legend(loc="lower right", fontsize=6)


def _draw_scores(ax, result: dict) -> None:
    most = max(each["prompts"] for each in result["correlations"])
    names = [*SCORES, *PLAIN]
    for row, name in enumerate(names):
        if name in PLAIN:
            keys = {name: (LINES[name]["color"], _POINTS[name])}
        else:
            keys = {f"{method} {name}": (look(method)["color"], _POINTS[f"{method} {SPLIT}"]) for method in LABELS}
        for place, (key, (colour, point)) in enumerate(keys.items()):
            rho = correlation(result, most, key)
            y = row + (0 if len(keys) == 1 else 0.22 * (place - 1))
            ax.plot(rho[1:], [y, y], color=colour, lw=0.8)
            ax.plot(rho[0], y, color=colour, marker=point, ms=3)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(names)), [{**SCORES, **PLAIN}[name] for name in names])
    ax.invert_yaxis()
    ax.set_xlim(-1.02, 1.02)
    ax.set_xticks([-1, -0.5, 0, 0.5, 1])
    ax.set_xlabel("Spearman's ρ with the gap")
    ax.set_title(f"All scores, {most} prompts")
    ax.grid(axis="x")


def correlation(result: dict, count: int, score: str, against: str = "gap") -> np.ndarray:
    """Correlation, low, high; nan where it is undefined."""
    (rho,) = (
        each["rho"]
        for each in result["correlations"]
        if (each["prompts"], each["score"], each["against"]) == (count, score, against)
    )
    return np.array(rho, float)


def _text(rho: np.ndarray) -> str:
    return f"{style.number(float(rho[0]))} [{style.number(float(rho[1]))}, {style.number(float(rho[2]))}]"


def _claim(result: dict) -> str:
    count = max(each["prompts"] for each in result["correlations"])
    few = min(10, count)
    share, and_only, published, certainty, loss = (
        style.number(float(correlation(result, few, name)[0])) for name in LINES
    )
    mean_order = style.number(float(correlation(result, few, "certified mean order")[0]))
    return (
        f"Rank correlation with the train-dev gap of {len(result['models'])} models, {few} prompts: spindle share "
        f"{share} (AND only {and_only}, published solver {published}), mean order {mean_order}, certainty {certainty}, "
        f"loss {loss}"
    )
