"""Training dynamics: effects by order along a training run, the two phases, and where the generalisation gap opens.

Reproduces:  arXiv 2407.19198 (NeurIPS 2024), two phases: first the effects of middle and high order that random weights
             have vanish, then effects of higher and higher order are learnt, and there the gap between training and
             test loss begins to open. Here a Llama of 0.2 M parameters on 5% of the SST-2 phrases, into overfitting
             (no dropout, no weight decay, constant rate), watched at 14 log-spaced steps, from three seeds.
Command:     python -m experiments dynamics --corpus DATA      (DATA holds sst2/train.tsv and sst2/dev.tsv)
Hardware:    1 CPU core
Minutes:     18
Published:   two phases, and the gap opens where the second begins (2407.19198; vision and language classifiers, effects
             without certificate).

It trains its own models, so --models is refused. Prompts: 40 dev sentences of 8 or 9 players with their true label,
the same at every step. Beside the certified optimum (noise bound 2% of |v(N) - v(∅)|) stand AND effects alone and the
published solver (20,000 steps).

*Mean order* and the other numbers are those of the strength of all prompts together: a prompt weighs as much as its
effects have strength, in nats. Before the model reads the words |v(N) - v(∅)| is a small part of what it is at the end
(`range`), and of some prompts next to nothing; if every prompt counted the same, those would decide as much as the
prompts whose words the model already reads.
*Range* at the change: mean |v(N) - v(∅)| at the step found, over that at the end. Where it is near 0, what changes
there are the effects of a model that hardly reads the words yet.
*Phase change* (`phase_change`): the watched step where the mean order is least, if it first falls to there and then
grows. Whether it does is tested on other prompts than the step was chosen on. The interval resamples prompts.
*Gap* (`gap_opening`): label cross-entropy on held-out phrases (drawn like the training phrases) less that on training
phrases. It opens at the first watched step from which on it is above 0 with 97.5% confidence at every step. That step
has no interval of its own.
*Coincide*: the gap opens at a step inside the interval of the phase change, or next to it in the list of watched steps.
"""

import dataclasses
import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from andor.figures import panels, style
from experiments.lab.corpus import choose
from experiments.lab.methods import FEW_STEPS, LABELS, look, published_solvers
from experiments.lab.sentiment import METHODS, Orders, follow, orders_of, pooled, read_task
from experiments.lab.training import Recipe, new_model
from experiments.studies.phases import coincide, gap_interval, gap_opening, phase_change
from experiments.study import PUBLISHED_NOISE, Row, Settings, with_interval

OWN_MODELS = True


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is run: steps of training, share of the phrases, watched steps, prompts, seeds, layers, and resamples
    behind the interval of a spindle share (15 ms each)."""

    steps: int = 2000
    fraction: float = 0.05
    watched: int = 14
    first: int = 8
    prompts: int = 40
    seeds: int = 3
    layers: int = 2
    resamples: int = 40


PLANS = {
    "full": Plan(),
    "quick": Plan(steps=1200, fraction=0.03, watched=10, prompts=30, seeds=1),
    "smoke": Plan(steps=6, fraction=0.5, watched=4, first=1, prompts=4, seeds=1, layers=1, resamples=2),
}


def recipe_of(plan: Plan, seed: int) -> Recipe:
    """0.2 M parameters, nothing that holds overfitting back."""
    return Recipe(
        family="llama",
        steps=plan.steps,
        learning_rate=3e-3,
        width=64,
        layers=plan.layers,
        decay_to_zero=False,
        weight_decay=0.0,
        dropout=0.0,
        fraction=plan.fraction,
        row_tokens=128,
        seed=seed,
    )


def measure(settings: Settings) -> dict:
    """Losses, order strengths, phase change and gap of every seed."""
    plan = PLANS[settings.scale]
    task = read_task(settings, plan.prompts)
    at = [0, *np.unique(np.geomspace(plan.first, plan.steps, plan.watched - 1).round().astype(int)).tolist()]
    runs, published = [], published_solvers(settings, FEW_STEPS)
    for number in range(plan.seeds):
        recipe = recipe_of(plan, seed=10 * settings.seed + number)
        phrases = choose(task.train, plan.fraction, 0.0, recipe.seed)
        print(f"dynamics: seed {recipe.seed}, {len(phrases)} phrases", flush=True)
        snapshots = follow(task, recipe, phrases, at, settings.work / "dynamics")
        found = [orders_of(snapshot.v, published) for snapshot in snapshots]
        gaps = np.array([gap_interval(snapshot.validation, snapshot.train) for snapshot in snapshots])
        opens = gap_opening(gaps)
        ranges = np.array([np.mean([abs(v[-1] - v[0]) for v in snapshot.v]) for snapshot in snapshots])
        changes = {method: change_of([each[method] for each in found], ranges) for method in METHODS}
        runs.append(
            {
                "seed": recipe.seed,
                "recipe": dataclasses.asdict(recipe),
                "phrases": len(phrases),
                "step": at,
                "train": [snapshot.train.mean() for snapshot in snapshots],
                "validation": [snapshot.validation.mean() for snapshot in snapshots],
                "dev": [snapshot.dev.mean() for snapshot in snapshots],
                "accuracy": [snapshot.accuracy for snapshot in snapshots],
                "range": ranges,
                "gap": gaps,
                "gap_opens": opens,
                "best_validation": int(np.argmin([snapshot.validation.mean() for snapshot in snapshots])),
                **{method: [pooled(each[method], plan.resamples) for each in found] for method in METHODS},
                "change": changes,
                "coincide": {method: coincide(change, opens) for method, change in changes.items()},
            }
        )
    return {
        "plan": dataclasses.asdict(plan),
        "model": {
            "parameters": new_model(recipe, task.tokenizer.get_vocab_size()).parameters,
            "dtype": "float32",
            "noise": PUBLISHED_NOISE,
            "solver": "InteriorPoint()",
            "published": list(map(repr, published)),
            "prompts": [prompt.text for prompt in task.prompts],
        },
        "runs": runs,
    }


def change_of(found: list[Orders], ranges: np.ndarray) -> dict:
    """`phase_change` of one method's effects, an entry per step; `range`: mean |v(N) - v(∅)| there / at the end."""
    change = phase_change(*(np.stack([getattr(each, of) for each in found], axis=1) for of in ("mean_order", "total")))
    return change | {"range": None if change["index"] is None else ranges[change["index"]] / ranges[-1]}


# ------------------------------------------------------------------------------------------------- drawing


def draw(result: dict) -> Figure:
    """Above, the first seed: losses, and strength by order at every method. Below: numbers of all seeds."""
    runs, first = result["runs"], result["runs"][0]
    figure = style.new_figure(style.TWO_COLUMNS, 4.6)
    style.title(figure, _claim(result))
    axes = figure.subplots(2, 4, sharex=True)
    x = _places(first["step"])
    losses, *by_order = axes[0]
    for name, colour, line in (
        ("train", style.MODELS[3], "-"),
        ("validation", style.MODELS[4], "-"),
        ("dev", style.MODELS[4], ":"),
    ):
        losses.plot(x, first[name], color=colour, ls=line, label=name)
    late = len(x) // 2  # before, the model learns that a label follows at all
    losses.set_ylim(0, 1.1 * max(*first["validation"][late:], *first["dev"][late:]))
    losses.set_ylabel("label cross-entropy (nats)")
    losses.legend(loc="lower left")
    losses.set_title(f"Losses, seed {first['seed']}")
    for ax, method in zip(by_order, METHODS, strict=True):
        shares = np.array([np.add(each["positive"], each["negative"]) for each in first[method]], float)
        _stack(ax, x, shares / shares.sum(axis=1, keepdims=True))
        ax.set_title(LABELS[method])
    by_order[0].set_ylabel("share of strength by order")
    for ax, number, label in zip(
        axes[1], ("mean_order", "high", "spindle_share", "cancellation"),
        ("mean order of the strength", "share at order 3 and above", "spindle share", "cancellation"), strict=True,
    ):  # fmt: skip
        for method in METHODS:
            for run in reversed(runs):
                numbers = np.array([each[number] for each in run[method]], float)
                if run is first:
                    panels.band(ax, x, numbers, label=LABELS[method], **look(method))
                else:
                    ax.plot(x, numbers[:, 0], alpha=0.35, lw=0.7, **look(method))
        ax.set_ylabel(label)
        ax.set_xlabel("training step")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS))
    for ax in axes[1, 1:]:
        ax.set_ylim(0, 1)
    for ax in axes.ravel():
        _mark(ax, x, first, show_change=ax is not losses)
        ax.grid(axis="y")
        ax.set_xlim(x[0], x[-1])
        ax.xaxis.set_major_locator(FixedLocator(x[[0, *range(1, len(x), 3)]]))
        ax.xaxis.set_minor_locator(FixedLocator(x))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xticklabels([f"{first['step'][i]:,}" for i in [0, *range(1, len(x), 3)]])
    return figure


def _places(steps: list[int]) -> np.ndarray:
    """Watched steps side by side: they are log-spaced, and step 0 comes before the first."""
    return np.arange(len(steps), dtype=float)


def _stack(ax, x, shares: np.ndarray) -> None:
    """Shares of strength by order, light to dark."""
    kept = np.column_stack([shares[:, :5], shares[:, 5:].sum(axis=1)])
    colours = ["#DCEBF5", "#A9CDE5", "#6FAAD0", "#3A85B8", "#14618F", "#083A5A"]
    ax.stackplot(x, kept.T, colors=colours, lw=0)
    ax.set_ylim(0, 1)
    level = np.concatenate([[0], np.cumsum(kept[0])])
    for order, (low, high) in enumerate(itertools.pairwise(level), start=1):
        if high - low > 0.06:
            text = f"{order}" if order < 6 else "6+"
            ax.text(
                x[0] + 0.15, (low + high) / 2, text, va="center", fontsize=6.5, color="white" if order > 3 else "black"
            )


def _mark(ax, x, run: dict, show_change: bool) -> None:
    """A band where the phase changes, a line where the gap opens."""
    change = run["change"]["certified"]
    if show_change and change["index"] is not None:
        ax.axvspan(change["low"] - 0.25, change["high"] + 0.25, color=style.model_colour(2), alpha=0.22, lw=0)
    if run["gap_opens"] is not None:
        ax.axvline(x[run["gap_opens"]], color=style.MODELS[1], lw=1.0)


def _claim(result: dict) -> str:
    runs = result["runs"]
    found = [run for run in runs if run["change"]["certified"]["index"] is not None]
    if not found:
        return "No phase change at the certified optimum: the mean order does not first fall and then grow"
    change_at = [(run["step"], run["change"]["certified"]) for run in found]
    least = ", ".join(f"{steps[change['index']]:,}" for steps, change in change_at)
    ranges = ", ".join(f"{change['range']:.1%}" for _, change in change_at)
    opens = ", ".join("never" if run["gap_opens"] is None else f"{run['step'][run['gap_opens']]:,}" for run in found)
    return (
        f"Order falls, then grows, in {len(found)} of {len(runs)} runs at the certified optimum; least at step {least} "
        f"(band: first run), where |v(N) − v(∅)| is {ranges} of the end's; the gap opens at {opens} (line)"
    )


def rows(result: dict) -> list[Row]:
    """Steps of phase change and gap of every seed, by method, and whether they coincide."""
    runs = result["runs"]
    gaps = "; ".join(
        f"seed {run['seed']}: {'never' if run['gap_opens'] is None else run['step'][run['gap_opens']]}" for run in runs
    )
    agree = "; ".join(
        f"{LABELS[method]} in {sum(run['coincide'][method] is True for run in runs)} of {len(runs)} runs"
        for method in METHODS
    )
    return [
        Row(
            "training: step of the phase change (mean order least), and |v(N) - v(∅)| there as a share of the end's",
            "two phases (2407.19198)",
            "; ".join(f"{LABELS[method]}: {'; '.join(_told(run, method) for run in runs)}" for method in METHODS),
        ),
        Row(
            "training: step where the gap opens, and whether the phase change coincides with it",
            "where the second phase begins (2407.19198)",
            f"{gaps}; coincides, {agree}",
        ),
    ]


def _told(run: dict, method: str) -> str:
    """Step of one run's phase change with its interval and range."""
    change, steps = run["change"][method], run["step"]
    if change["index"] is None:
        rise = np.array(change["rise"], float)
        return f"seed {run['seed']}: no change (rise {with_interval(rise, '+.2f')})"
    low, middle, high = (steps[change[key]] for key in ("low", "index", "high"))
    return f"seed {run['seed']}: {middle} [{low}, {high}], {change['range']:.1%}"
