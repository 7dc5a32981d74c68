"""Universal matching: do a few effects give the model's output on all 2^n masked prompts?

Reproduces: arXiv 2401.16318, figure 6, and 2305.01939 (universal matching): v on all masks, sorted, against the logical
            model of the strongest 1, 3, 5 and 10% of the effects; R² and errors over all prompts, at the certified
            optimum, with AND effects alone and with the published solver, each given the same number of effects.
Command:    python -m experiments matching [--models A B] [--quick] [--smoke]
Hardware:   2 CPU cores
Minutes:    4
Published:  the top 3 to 5% of effects suffice; about 100 of 2 * 2^10
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from andor.core.text import r2_text
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import interval
from andor.measures.reported import SHARES, TOP_K, closest_to_median, top_counts
from andor.runs.run import Run
from experiments.lab.methods import LABELS, beside, effects, look
from experiments.study import Row, Settings, described

SHOWN = 2
"""Models in the figure; all are in the result."""

PUBLISHED_SHARE = 1
"""Place in `SHARES` of the published number: 3%."""

NUMBERS = {"r2": "r2", "mean_error": "mean_error", "max_error": "max_error", "mean_error_of_spread": "spread_error"}
"""Name in the result -> that in `metrics.Matching`: R², and errors over masks in both units."""


def measure(settings: Settings) -> dict:
    """R² and errors at every number of effects, over prompts; and the sorted values of one prompt."""
    found = effects(settings)
    run, numbers, summary = found.run, {}, {}
    for model in run.models:
        of_model = numbers[run.labels[model]] = {
            method: _numbers([_matches(found, method, model, prompt) for prompt in run.prompts]) for method in LABELS
        }
        summary[run.labels[model]] = {
            method: {
                name: [interval(column, np.median, seed=settings.seed) for column in values.T]
                for name, values in of_method.items()
            }
            for method, of_method in of_model.items()
        }
    r2 = np.mean([of_model["certified"]["r2"][:, PUBLISHED_SHARE] for of_model in numbers.values()], axis=0)
    shown = closest_to_median(dict(zip((prompt.id for prompt in run.prompts), r2.tolist(), strict=True)))
    about = {"runs": [described(each) for each in found.runs], "shares": SHARES, "top": TOP_K}
    return about | {"numbers": numbers, "summary": summary, "shown": _sorted_values(run, shown)}


def _matches(found, method: str, model: str, prompt) -> list[metrics.Matching]:
    v, pair = found.run[model, prompt.id].values.v, found.pair(method, model, prompt.id)
    return [metrics.matching(v, *pair, k) for k in top_counts(prompt.n_players)]


def _numbers(matches: list[list[metrics.Matching]]) -> dict[str, np.ndarray]:
    """The `NUMBERS`, `[prompts, numbers of effects]` each."""
    return {
        name: np.round([[getattr(each, field) for each in of_prompt] for of_prompt in matches], 5)
        for name, field in NUMBERS.items()
    }


def _sorted_values(run: Run, prompt_id: str) -> dict:
    """v of one prompt in ascending order and what the strongest effects at the optimum make of it, per model."""
    prompt = next(p for p in run.prompts if p.id == prompt_id)
    counts, models = top_counts(prompt.n_players)[: len(SHARES)], {}
    for model in run.models[:SHOWN]:
        v, pair = run[model, prompt_id].values.v, run[model, prompt_id].pair()
        by_value = np.argsort(v, kind="stable")
        models[run.labels[model]] = {
            "v": np.round(v[by_value], 3),
            "tops": np.round([metrics.logic_model(*pair, k)[by_value] for k in counts], 3),
            "counts": counts,
            "r2": [metrics.matching(v, *pair, k).r2 for k in counts],
        }
    target = run[run.models[0], prompt_id].target
    return {"id": prompt_id, "text": " ".join(prompt.text.split()), "target": target, "models": models}


def draw(result: dict) -> Figure:
    """A column per model: its sorted values under 1, 3, 5 and 10% of the effects; below, what is left unexplained."""
    shown, models = result["shown"], list(result["shown"]["models"])
    figure = style.new_figure(style.ONE_COLUMN, 6.6)
    medians = [result["summary"][model]["certified"]["r2"][PUBLISHED_SHARE][0] for model in models]
    style.title(
        figure,
        f"The strongest {SHARES[PUBLISHED_SHARE]:.0%} of the effects give v on all masks with a median R² of "
        f"{style.listed(medians, '.3f')}",
    )
    above, below = figure.subfigures(2, 1, height_ratios=[4.3, 2.0])
    style.heading(above, f"{shown['id']}: v on all masks and what effects make of it")
    axes = above.subplots(len(SHARES), len(models), squeeze=False, sharex=True, sharey="col")
    for column, model in enumerate(models):
        _draw_values(axes[:, column], shown["models"][model], style.model_colour(column))
        axes[0, column].set_title(model, color=style.model_colour(column), fontweight="bold")
        axes[-1, column].set_xlabel("masks, by v")
    for ax in axes[:, 0]:
        ax.set_ylabel("v, nats")
    lower = below.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for column, (ax, model) in enumerate(zip(lower, models, strict=True)):
        _draw_unexplained(ax, result["summary"][model], column)
        ax.set_xlabel("strongest effects")
    lower[0].set_ylabel("1 − R², median prompt")
    handles = [
        Line2D([], [], color="black", lw=0.9, label="v"),
        *(Line2D([], [], **look(method, 0), marker="o", ms=3, label=LABELS[method]) for method in LABELS),
    ]
    below.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _draw_values(axes, values: dict, colour: str) -> None:
    box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.5}
    for ax, top, count, r2, share in zip(axes, values["tops"], values["counts"], values["r2"], SHARES, strict=True):
        panels.sorted_values(ax, values["v"], top, lw=0.8, ms=1.3, color=colour, alpha=0.6)
        text = f"{share:.0%} ({count}), R² {r2_text(r2)}"
        ax.text(0.03, 0.95, text, transform=ax.transAxes, va="top", fontsize=7, bbox=box)
        ax.margins(y=0.12)


def _draw_unexplained(ax, summary: dict, place: int) -> None:
    x = np.arange(len(SHARES) + 1)
    for offset, method in zip((0, -0.12, 0.12), LABELS, strict=True):
        left = 1 - np.array(summary[method]["r2"], float)[:, [0, 2, 1]]
        floor = 1e-4  # what is explained to the last bit has no place on a logarithmic axis
        panels.points(ax, x + offset, np.maximum(left, floor), **look(method, place))
    ax.set_yscale("log")
    ax.set_xticks(x, [*(f"{share:.0%}" for share in SHARES), f"top\n{TOP_K}"])
    ax.yaxis.set_major_formatter(panels.plain)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y")


def rows(result: dict) -> list[Row]:
    """Median R² of the top 3% and of the top 100, by model."""
    share = f"top {SHARES[PUBLISHED_SHARE]:.0%}", PUBLISHED_SHARE, "3 to 5% of effects suffice (2401.16318)"
    return [
        Row(
            f"median R² on all masks of the {what} of effects, {model}",
            published,
            beside({method: each["r2"][place] for method, each in summary.items()}, ".3f"),
        )
        for what, place, published in (share, (f"top {TOP_K}", len(SHARES), "about 100 suffice (2305.01939)"))
        for model, summary in result["summary"].items()
    ]
