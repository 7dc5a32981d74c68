"""Drawing of `studies.ground_truth`: recall and precision by solver."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from andor.figures import panels
from andor.figures.style import AND_ONLY, CERTIFIED, MUTED, TWO_COLUMNS, new_figure, title

SOLVERS = {
    "true bound": ("certified optimum, true bound", CERTIFIED, "o", "-."),
    "rule": ("certified optimum, 2% rule", CERTIFIED, "s", "-"),
    "published": ("published solver, 2% rule", MUTED, "^", ":"),
    "and only": ("AND only (Harsanyi)", AND_ONLY, "x", "--"),
}
"""Name in the result -> label, colour, marker, line."""


def draw(result: dict) -> Figure:
    """Recall above, precision below; against noise, against players, and along the training of models."""
    plan, last = result["plan"], result["model"][-1]["step"]
    figure = new_figure(TWO_COLUMNS, 4.3)
    shares = {name: f"{cell_of(result, plan, name)['precision'][0]:.0%}" for name in SOLVERS}
    title(
        figure,
        f"Precision at {plan['shown_players']} players, noise {plan['shown_noise']:g}: {shares['true bound']} at the "
        f"optimum with the true bound, {shares['rule']} with the 2% rule, {shares['published']} by the published "
        f"solver, {shares['and only']} with AND only",
    )
    axes = figure.subplots(2, 3, sharey=True, sharex="col", width_ratios=[1.15, 0.8, 1.15])
    for row, number in enumerate(("recall", "precision")):
        for name, (label, colour, marker, line) in SOLVERS.items():
            look = {"color": colour, "marker": marker, "ls": line, "ms": 4, "lw": 1.2, "label": label}
            exact = [each for each in result["exact"] if each["solver"] == name]
            cut = [each for each in exact if each["n_players"] == plan["shown_players"]]
            _curve(axes[row, 0], range(len(cut)), [each[number] for each in cut], look)
            cut = [each for each in exact if each["noise"] == plan["shown_noise"]]
            _curve(axes[row, 1], [each["n_players"] for each in cut], [each[number] for each in cut], look)
            for source, extra in (("model", {}), ("noise", {"lw": 0.6, "ms": 0, "label": None})):
                cut = [each for each in result["model"] if each["solver"] == name and each["source"] == source]
                if not cut:
                    continue
                x = [each["rms_error"][0] for each in cut]
                _curve(axes[row, 2], x, [each[number] for each in cut], look | extra, band=source == "model")
        axes[row, 0].set_ylabel(number)
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 0].set_title(f"Exact function, {plan['shown_players']} players")
    axes[0, 1].set_title(f"Exact, noise {plan['shown_noise']:g}")
    axes[0, 2].set_title(f"Model, {last} steps from right to left")
    axes[1, 0].set_xticks(range(len(plan["noise"])), [f"{noise:g}" for noise in plan["noise"]])
    axes[1, 0].set_xlabel("noise of v (nats)")
    axes[1, 1].set_xticks(plan["n_players"])
    axes[1, 1].set_xlabel("players")
    stages = [each for each in result["model"] if each["solver"] == "rule" and each["source"] == "model"]
    errors = [each["rms_error"][0] for each in stages]
    axes[1, 2].set_xscale("log")
    axes[1, 2].xaxis.set_major_locator(FixedLocator(errors))
    axes[1, 2].xaxis.set_minor_locator(NullLocator())
    axes[1, 2].set_xticklabels([f"{error:.2g}" for error in errors])
    axes[1, 2].set_xlabel("error of the model's v (nats, rms)\nthin lines: exact function with noise as large")
    for ax in axes.ravel():
        ax.grid(axis="y")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _curve(ax, x, triples, look: dict, band: bool = True) -> None:
    if band:
        panels.band(ax, x, triples, **look)
    else:
        ax.plot(x, np.array(triples, float)[:, 0], **look)


def cell_of(result: dict, plan: dict, solver: str) -> dict:
    return next(
        each
        for each in result["exact"]
        if (each["n_players"], each["noise"], each["solver"]) == (plan["shown_players"], plan["shown_noise"], solver)
    )
