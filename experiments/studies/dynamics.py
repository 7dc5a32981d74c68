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
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullFormatter

from andor.figures import panels, style
from andor.measures.bootstrap import Resampled, draws, interval
from experiments.lab.corpus import choose
from experiments.lab.methods import FEW_STEPS, LABELS, look, published_solvers
from experiments.lab.sentiment import (
    METHODS,
    Orders,
    follow,
    orders_of,
    overfitting,
    pooled,
    read_task,
    task_described,
)
from experiments.study import Row, Settings, with_interval

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


NUMBERS = {
    "mean_order": "mean order of the strength",
    "high": "share at order 3 and above",
    "spindle_share": "spindle share",
    "cancellation": "cancellation",
}
"""Of the strength of all prompts together (`sentiment.pooled`) -> what the figure calls them."""


def measure(settings: Settings) -> dict:
    """Losses, order strengths, phase change and gap of every seed."""
    plan = PLANS[settings.scale]
    task = read_task(settings, plan.prompts)
    at = [0, *np.unique(np.geomspace(plan.first, plan.steps, plan.watched - 1).round().astype(int)).tolist()]
    runs, published = [], published_solvers(settings, FEW_STEPS)
    for seed in (10 * settings.seed + number for number in range(plan.seeds)):
        recipe = overfitting(steps=plan.steps, layers=plan.layers, fraction=plan.fraction, seed=seed)
        phrases = choose(task.train, plan.fraction, 0.0, seed)
        print(f"dynamics: seed {seed}, {len(phrases)} phrases", flush=True)
        snapshots = follow(task, recipe, phrases, at, settings.work / "dynamics")
        found = [orders_of(snapshot.v, published) for snapshot in snapshots]
        losses = {
            part: [getattr(snapshot, part).mean() for snapshot in snapshots] for part in ("train", "validation", "dev")
        }
        gaps = np.array([gap_interval(snapshot.validation, snapshot.train) for snapshot in snapshots])
        opens = gap_opening(gaps)
        ranges = np.array([np.mean([abs(v[-1] - v[0]) for v in snapshot.v]) for snapshot in snapshots])
        changes = {method: change_of([each[method] for each in found], ranges) for method in METHODS}
        runs.append(
            {
                "seed": seed,
                "recipe": dataclasses.asdict(recipe),
                "phrases": len(phrases),
                "step": at,
                **losses,
                "accuracy": [snapshot.accuracy for snapshot in snapshots],
                "range": ranges,
                "gap": gaps,
                "gap_opens": opens,
                "best_validation": int(np.argmin(losses["validation"])),
                **{method: [pooled(each[method], plan.resamples) for each in found] for method in METHODS},
                "change": changes,
                "coincide": {method: coincide(change, opens) for method, change in changes.items()},
            }
        )
    return {"plan": dataclasses.asdict(plan), "model": task_described(task, recipe, published), "runs": runs}


# ------------------------------------------------------------------------------------------------- phases


def change_of(found: list[Orders], ranges: np.ndarray) -> dict:
    """`phase_change` of one method's effects, an entry per step; `range`: mean |v(N) - v(∅)| there / at the end."""
    change = phase_change(*(np.stack([getattr(each, of) for each in found], axis=1) for of in ("mean_order", "total")))
    return change | {"range": None if change["index"] is None else ranges[change["index"]] / ranges[-1]}


def phase_change(
    mean_order: Float[np.ndarray, "prompts steps"], strength: Float[np.ndarray, "prompts steps"], seed: int = 0
) -> dict:
    """Where falling turns into growing, and whether it does.

    The curve is the mean order of the strength of all prompts together: a prompt weighs as much as it has strength. The
    change is at the step where it is least. It counts if the fall (first step less least step) and the rise (last step
    less least step) are both above 0 with 97.5% confidence. The least of many noisy numbers always looks low, so for
    this test the prompts are divided in two, and each half's step is tested on the other half's prompts.

    Args:
      mean_order: of each prompt's effects at each step; anything where it has none.
      strength: total strength of the same effects, nats; 0 where there are none.
      seed: of the resampling.

    Returns:
      index: the step's place in the list of steps, None if there is no change.
      low, high: 95% interval of the place, over prompts.
      fall, rise: (estimate, low, high) of the test, in orders. nan with fewer than 4 prompts, or where a half of them
        has no effects at some step.
    """
    moment = np.where(strength > 0, strength * mean_order, 0.0)
    halves = np.arange(len(strength)) % 2
    if len(strength) < 4 or not all(strength[halves == half].any(axis=0).all() for half in (0, 1)):
        return dict.fromkeys(("index", "low", "high")) | dict.fromkeys(("fall", "rise"), (np.nan,) * 3)
    chosen = np.array([_curve(moment[halves != half], strength[halves != half]).argmin() for half in (0, 1)])
    every = np.arange(len(strength))
    at_least = moment[every, chosen[halves]], strength[every, chosen[halves]]
    fall, rise = (
        interval(np.column_stack([moment[:, end], strength[:, end], *at_least]), _difference, seed) for end in (0, -1)
    )
    resampled = [_curve(moment[each], strength[each]).argmin() for each in draws(len(strength), seed=seed)]
    low, high = (int(np.quantile(resampled, q, method="nearest")) for q in (0.025, 0.975))
    found = fall[1] > 0 and rise[1] > 0
    index = int(_curve(moment, strength).argmin())
    places = {"index": index, "low": low, "high": high} if found else dict.fromkeys(("index", "low", "high"))
    return places | {"fall": fall, "rise": rise}


def _curve(moment: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Mean order of the strength of all prompts at each step; infinite where there is none."""
    total = strength.sum(axis=0)
    return np.divide(moment.sum(axis=0), total, out=np.full(total.shape, np.inf), where=total > 0)


def _difference(rows: Float[np.ndarray, "prompts 4"]) -> float:
    """Mean order of the first two columns (moment, strength) less that of the last two; nan where one has none."""
    one, one_strength, other, other_strength = rows.sum(axis=0)
    return one / one_strength - other / other_strength if one_strength and other_strength else np.nan


def gap_interval(held_out: Float[np.ndarray, "a"], train: Float[np.ndarray, "b"]) -> tuple[float, float, float]:
    """Mean of the first less mean of the second, with a 95% interval; both are resampled."""
    rng = np.random.default_rng(0)
    means = [Resampled(each.mean(), each[draws(len(each), seed=rng)].mean(axis=1)) for each in (held_out, train)]
    return (means[0] - means[1]).interval()


def gap_opening(gaps: Float[np.ndarray, "steps 3"]) -> int | None:
    """Place of the first step from which on the gap's interval is above 0; None if it is not so at the last step."""
    open_ = gaps[:, 1] > 0
    if not open_[-1]:
        return None
    return int(len(open_) - np.argmin(open_[::-1])) if not open_.all() else 0


def coincide(change: dict, gap_opens: int | None) -> bool | None:
    """Whether the gap opens at a step inside the interval of the phase change, or next to it in the list of watched
    steps. The step where it opens has no interval. None: there is no change, or the gap does not open."""
    if change["index"] is None or gap_opens is None:
        return None
    return change["low"] - 1 <= gap_opens <= change["high"] + 1


# ------------------------------------------------------------------------------------------------- drawing


def draw(result: dict) -> Figure:
    """Above, the first seed: losses, and strength by order at every method. Below: numbers of all seeds."""
    runs, first = result["runs"], result["runs"][0]
    figure = style.new_figure(style.TWO_COLUMNS, 4.6)
    style.title(figure, _claim(result))
    axes = figure.subplots(2, 4, sharex=True)
    x = np.arange(len(first["step"]), dtype=float)  # side by side: they are log-spaced, and step 0 is before the first
    losses, *by_order = axes[0]
    for name, place, line in (("train", 3, "-"), ("validation", 4, "-"), ("dev", 4, ":")):
        losses.plot(x, first[name], color=style.MODELS[place], ls=line, label=name)
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
    for ax, (number, label) in zip(axes[1], NUMBERS.items(), strict=True):
        for method in METHODS:
            for run in reversed(runs):
                numbers = np.array([each[number] for each in run[method]], float)
                if run is first:
                    panels.band(ax, x, numbers, label=LABELS[method], **look(method))
                else:
                    ax.plot(x, numbers[:, 0], alpha=0.35, lw=0.7, **look(method))
        ax.set_ylabel(label)
        ax.set_xlabel("training step")
    handles, _ = axes[1, 0].get_legend_handles_labels()
    handles.append(Patch(color=style.model_colour(2), alpha=0.22, label=f"mean order is least, seed {first['seed']}"))
    handles.append(Line2D([], [], color=style.MODELS[1], lw=1.0, label=f"the gap opens, seed {first['seed']}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(METHODS))
    for ax in axes[1, 1:]:
        ax.set_ylim(0, 1)
    shown = [0, *range(1, len(x), 3)]
    for ax in axes.ravel():
        _mark(ax, x, first, show_change=ax is not losses)
        ax.grid(axis="y")
        ax.set_xlim(x[0], x[-1])
        ax.xaxis.set_major_locator(FixedLocator(x[shown]))
        ax.xaxis.set_minor_locator(FixedLocator(x))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xticklabels([f"{first['step'][i]:,}" for i in shown])
    return figure


def _stack(ax, x, shares: np.ndarray) -> None:
    """Shares of strength by order, light to dark."""
    kept = np.column_stack([shares[:, :5], shares[:, 5:].sum(axis=1)])
    colours = ["#DCEBF5", "#A9CDE5", "#6FAAD0", "#3A85B8", "#14618F", "#083A5A"]
    ax.stackplot(x, kept.T, colors=colours, lw=0)
    ax.set_ylim(0, 1)
    level = np.concatenate([[0], np.cumsum(kept[0])])
    for order, (low, high) in enumerate(itertools.pairwise(level), start=1):
        if high - low > 0.06:
            text, colour = f"{order}" if order < 6 else "6+", "white" if order > 3 else "black"
            ax.text(x[0] + 0.15, (low + high) / 2, text, va="center", fontsize=6.5, color=colour)


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
    return f"The mean order falls, then grows, in {len(found)} of {len(runs)} runs at the certified optimum"


def rows(result: dict) -> list[Row]:
    """Steps of phase change and gap of every seed, by method, and whether they coincide."""
    runs = result["runs"]
    gaps = "; ".join(f"seed {run['seed']}: {_opens(run, '')}" for run in runs)
    agree = "; ".join(
        f"{LABELS[method]} in {sum(run['coincide'][method] is True for run in runs)} of {len(runs)} runs"
        for method in METHODS
    )
    changes = "; ".join(f"{LABELS[method]}: {'; '.join(_told(run, method) for run in runs)}" for method in METHODS)
    phase = "training: step of the phase change (mean order least), and |v(N) - v(∅)| there as a share of the end's"
    gap = "training: step where the gap opens, and whether the phase change coincides with it"
    return [
        Row(phase, "two phases (2407.19198)", changes),
        Row(gap, "where the second phase begins (2407.19198)", f"{gaps}; coincides, {agree}"),
    ]


def _opens(run: dict, form: str) -> str:
    """Step where the gap of a run opens."""
    return "never" if run["gap_opens"] is None else format(run["step"][run["gap_opens"]], form)


def _told(run: dict, method: str) -> str:
    """Step of one run's phase change with its interval and range."""
    change, steps = run["change"][method], run["step"]
    if change["index"] is None:
        rise = np.array(change["rise"], float)
        return f"seed {run['seed']}: no change (rise {with_interval(rise, '+.2f')})"
    low, middle, high = (steps[change[key]] for key in ("low", "index", "high"))
    return f"seed {run['seed']}: {middle} [{low}, {high}], {change['range']:.1%}"
