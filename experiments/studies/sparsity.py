"""Sparsity: how many effects are salient, and how many does it take to give v on all masks?

Reproduces: arXiv 2401.16318, figure 2, and 2305.01939 ("around 100" salient effects): strength of all effects in
            descending order over prompts, salient counts, and the least number of strongest effects that explains 95%
            of the variance of v over all masks, at the certified optimum, with AND effects alone and with the published
            solver.
Command:    python -m experiments sparsity [--models A B] [--quick] [--smoke]
Hardware:   2 CPU cores
Minutes:    4, or 1 after `matching`, which makes the same runs
Published:  around 100 of 2 * 2^10 effects are salient and give v
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import interval
from andor.measures.metrics import SALIENT
from experiments.lab.methods import LABELS, beside, effects, look
from experiments.study import Row, Settings, described

EXPLAINED = 0.95
"""R² on all masks that counts as giving v."""

POINTS = 60
"""Ranks at which the curves are kept, evenly spread over their logarithm."""


def measure(settings: Settings) -> dict:
    """Per model and method: strength over rank, salient effects and effects that it takes, prompt by prompt."""
    found = effects(settings)
    run, seed = found.run, settings.seed
    most = max(2 ** (prompt.n_players + 1) - prompt.n_players - 2 for prompt in run.prompts)
    ranks = np.unique(np.round(np.geomspace(1, most, POINTS)).astype(int))
    numbers: dict[str, dict] = {run.labels[model]: {} for model in run.models}
    for (model, label), method in ((of, method) for of in run.labels.items() for method in LABELS):
        pairs = {p.id: found.pair(method, model, p.id) for p in run.prompts}
        curves = metrics.sparsity_curves(list(pairs.values()))[:, ranks - 1]
        salient = [metrics.salient_count(*pair) for pair in pairs.values()]
        needed = [metrics.effects_needed(run[model, p].values.v, *pair, EXPLAINED) for p, pair in pairs.items()]
        numbers[label][method] = {
            "curve": [interval(column, np.median, seed=seed) for column in curves.T],
            "salient": salient,
            "needed": needed,
            "mean_salient": interval(salient, seed=seed),
            "median_salient": interval(salient, np.median, seed=seed),
            "median_needed": interval(needed, np.median, seed=seed),
        }
    about = {"runs": [described(each) for each in found.runs], "tau": SALIENT, "explained": EXPLAINED}
    return about | {"ranks": ranks, "numbers": numbers}


def draw(result: dict) -> Figure:
    """Above, strength against rank, a panel per model; below, the two counts of every prompt."""
    models = list(result["numbers"])
    figure = style.new_figure(style.ONE_COLUMN, 5.6)
    certified, and_only = (
        style.listed([result["numbers"][model][method]["median_salient"][0] for model in models], "g")
        for method in ("certified", "and_only")
    )
    claim = f"{certified} effects are salient in the median prompt; with AND effects alone {and_only}"
    style.title(figure, claim)
    above, below = figure.subfigures(2, 1, height_ratios=[2.3, 3.0])
    upper = above.subplots(1, min(len(models), 2), squeeze=False, sharey=True)[0]
    for place, (ax, model) in enumerate(zip(upper, models, strict=False)):
        _draw_curves(ax, result, model, place)
        ax.set_title(model, color=style.model_colour(place), fontweight="bold")
        ax.set_xlabel("rank of the effect")
    upper[0].set_ylabel("strength / strongest")
    salient, needed = below.subplots(2, 1, sharex=True)
    _draw_counts(salient, result, "salient", f"salient effects (above {result['tau']:.0%} of the strongest)")
    explain = f"strongest effects that explain {result['explained']:.0%} of v on all masks"
    _draw_counts(needed, result, "needed", explain)
    below.supxlabel("number of effects; bar: median with 95% interval; dotted: published", fontsize=7)
    handles = [Line2D([], [], **look(method, 0), label=LABELS[method]) for method in LABELS]
    above.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _draw_curves(ax, result: dict, model: str, place: int) -> None:
    tau = result["tau"]
    for method in reversed(LABELS):
        curve = np.maximum(np.array(result["numbers"][model][method]["curve"], float), panels.FLOOR / 10)
        panels.band(ax, np.array(result["ranks"]), curve, shade=0.2, lw=1.1, **look(method, place))
    ax.axhline(tau, color=style.MUTED, lw=0.7, ls=(0, (1, 1)))
    ax.annotate(f"τ = {tau:g}", (1.1, tau), xytext=(0, -8), textcoords="offset points", fontsize=7)
    panels.strength_axes(ax, 1.3)
    ax.xaxis.set_minor_locator(NullLocator())


def _draw_counts(ax, result: dict, what: str, heading: str) -> None:
    names = []
    for method in LABELS:
        for place, (model, of_model) in enumerate(result["numbers"].items()):
            row, numbers = len(names), of_model[method]
            counts = np.array([x for x in np.array(numbers[what], float) if not np.isnan(x)])
            median = np.array(numbers[f"median_{what}"], float)
            look_ = {"ms": 2, "color": style.model_colour(place), "alpha": 0.55}
            panels.dots(ax, row, counts, median, f"{median[0]:g}", half=0.4, offset=3, spread=0.55, **look_)
            names.append(f"{LABELS[method].split(' (')[0]}, {model}" if place == 0 else model)
    panels.row_axes(ax, names)
    ax.set_xscale("log")
    ax.set_xlim(0.9, None)
    ax.xaxis.set_major_formatter(panels.count)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.axvline(100, color=style.MUTED, lw=0.7, ls=(0, (1, 1)))
    ax.set_title(heading, fontsize=7.5, loc="right")


def rows(result: dict) -> list[Row]:
    """Salient counts and the effects that it takes, by model."""
    claims = {
        "salient": "salient effects of the median prompt",
        "needed": f"effects that explain {result['explained']:.0%} of v on all masks, median prompt",
    }
    return [
        Row(
            f"{claim}, {model}",
            "about 100 (2305.01939, 2401.16318)",
            beside({method: each[f"median_{what}"] for method, each in numbers.items()}, ".3g"),
        )
        for model, numbers in result["numbers"].items()
        for what, claim in claims.items()
    ]
