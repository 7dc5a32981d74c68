"""What does fine-tuning do to a model's effects: which does it keep, which does it remove, and which are new?

Reproduces:  arXiv 2605.17967: supervised fine-tuning mostly removes noise-like effects and rarely adds reliable ones;
             that takes little time, and what comes later is overfitting. Here a pretrained model learns 100 invented
             facts by heart (`lab.finetune`, the models of `memorisation`), and its effects on sentences that it
             learned, and on others of the kind, are compared with those before.
Command:     python -m experiments finetuning --models smollm2-135m.gguf gemma3-270m.gguf --out figures
             (the first of --models is fine-tuned, the others stay as they are)
Hardware:    1 CPU core
Minutes:     5 after `memorisation`, else 55
Published:   removed effects are noise, new ones overfitted; larger models, no chance level, no seeds (2605.17967)

Written before looking. Three claims, and what would refute each:
  removal first     the strength that is removed exceeds that which emerges, at the first stage and at the last; refuted
                    where the 95% interval of removed less emerged is not above 0
  removed is noise  removed effects are of higher order, cancel more and are found less in another architecture than
                    preserved ones, beyond chance; refuted where an interval is not on that side
  little is new     effects that emerge are found in another architecture no more than chance has it, and by another
                    seed no more than chance; refuted where an interval is above chance
Of invented facts nothing can be shared with a model that was not fine-tuned but what all sentences of the kind have in
common, so for members the seed is the test of the third claim.

Explained is the place, with 7 players, masked words deleted; effects at the certified optimum, noise bound 5% of the
spread of v.
*Preserved*: salient (above 5% of the strongest) before and after, and of one sign. *Removed*: salient before, not
preserved. *Emerged*: salient after, not preserved. Their strength, nats, is that after; of removed effects before.
*Chance*: the effects after are shuffled within orders, AND and OR apart, which keeps how strong each order is; then
classes are made anew. For what is found elsewhere, the effects there are shuffled. Mean over shuffles.
*Found elsewhere*: share of a class's strength whose effects are salient there too, with the same sign.
*Cancellation*: 1 - |sum of effects| / sum of |effects| of a class within a sentence, sentences by their strength.
Intervals resample sentences and seeds, 95%.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from andor.core import lattice
from andor.core.explained import Pair
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import Resampled
from andor.runs.recipe import model_labels
from experiments.lab import finetune
from experiments.lab.finetune import STAGES
from experiments.study import Row, Settings, with_interval

CLASSES = ("preserved", "removed", "emerged")
SENTENCES = {"members": "learned by heart", "others": "not seen"}
SHUFFLES = {"full": 50, "quick": 20, "smoke": 3}
REPEATS = {"full": 1000, "quick": 400, "smoke": 5}

SEED = "another seed"
"""What effects are looked for in beside other models: the same model, fine-tuned with another order of sentences."""

_MOMENTS = ("count", "strength", "sum", "order")
"""Of the effects of a class on one sentence: how many, sum of |effect|, |sum of effects|, sum of |effect| times order.
Behind them come sums of |effect| that are found elsewhere."""


def measure(settings: Settings) -> dict:
    plan, shuffles = finetune.PLANS[settings.scale], SHUFFLES[settings.scale]
    tuned = [[finetune.tuned(settings, plan, half, seed) for half in (0, 1)] for seed in range(plan.seeds)]
    ids = [fact.prompt("verbatim", plan.players).id for fact in finetune.explained(plan)]
    runs, pairs = [], {}
    for stage in STAGES:
        of_stage = [[finetune.verbatim(settings, plan, each[stage].model) for each in of_seed] for of_seed in tuned]
        runs += [run for of_seed in of_stage for run in of_seed]
        stacked = [[np.array(finetune.bounded(run, ids)) for run in of_seed] for of_seed in of_stage]
        pairs[stage] = dict(zip(SENTENCES, finetune.by_member(stacked, plan), strict=True))
    labels = model_labels(settings.models)[1:]
    others = [finetune.verbatim(settings, plan, model) for model in settings.models[1:]]
    elsewhere = [np.array(finetune.bounded(run, ids)) for run in others]
    places, rng = finetune.draws(plan, REPEATS[settings.scale], settings.seed), np.random.default_rng(settings.seed)
    stages = {}
    for stage in STAGES[1:]:
        stages[stage] = {}
        for which in SENTENCES:
            before, after = pairs["start"][which], pairs[stage][which]
            moments = [
                _moments(
                    before[seed, fact],
                    after[seed, fact],
                    [*(each[fact] for each in elsewhere), *(after[(seed + 1) % plan.seeds, fact],) * (plan.seeds > 1)],
                    shuffles,
                    rng,
                )
                for seed in range(plan.seeds)
                for fact in range(len(ids))
            ]
            stages[stage][which] = _numbers(np.array(moments), [*labels, *[SEED] * (plan.seeds > 1)], places)
    return {
        "plan": dataclasses.asdict(plan),
        "models": finetune.described_models([*runs, *others]),
        "elsewhere": [*labels, *[SEED] * (plan.seeds > 1)],
        "stages": stages,
    }


def _moments(
    before: Pair, after: Pair, elsewhere: Sequence[Pair], shuffles: int, rng: np.random.Generator
) -> np.ndarray:
    """`[2, classes, moments]`, as they are and as chance has them."""

    def moved(effects: np.ndarray) -> np.ndarray:
        return np.stack(metrics.shuffled(tuple(effects), rng))

    real = _of_classes(before, after, elsewhere)
    chance = np.mean(
        [
            np.concatenate(
                [
                    _of_classes(before, moved(after), [])[:, : len(_MOMENTS)],
                    _of_classes(before, after, [moved(each) for each in elsewhere])[:, len(_MOMENTS) :],
                ],
                axis=1,
            )
            for _ in range(shuffles)
        ],
        axis=0,
    )
    return np.stack([real, chance])


def _of_classes(before: Pair, after: Pair, elsewhere: Sequence[Pair]) -> np.ndarray:
    """`[classes, moments]` of one sentence."""
    before, after = np.asarray(before), np.asarray(after)
    was, is_ = _salient(before), _salient(after)
    same = was & is_ & (before * after > 0)
    order = np.broadcast_to(lattice.orders(lattice.n_players_of(before[0])), before.shape)
    found = []
    for chosen, effects in ((same, after), (was & ~same, before), (is_ & ~same, after)):
        of_class = effects[chosen]
        size = np.abs(of_class)
        there = [size[(_salient(np.asarray(each)) & (each * effects > 0))[chosen]].sum() for each in elsewhere]
        found.append([len(of_class), size.sum(), abs(of_class.sum()), size @ order[chosen], *there])
    return np.array(found, float)


def _salient(effects: np.ndarray) -> np.ndarray:
    return np.stack(metrics.salient(*effects)) & (effects != 0) if np.any(effects) else np.zeros(effects.shape, bool)


def _numbers(moments: np.ndarray, elsewhere: Sequence[str], places: np.ndarray) -> dict:
    """Kind ("real", "chance", "beyond") -> class -> number with interval; "less": differences of two classes."""

    def of(kind: int, row: int, chosen: np.ndarray) -> dict[str, float]:
        count, strength, sums, order, *there = moments[chosen, kind, row].mean(axis=0)
        share = dict(zip(elsewhere, (_ratio(each, strength) for each in there), strict=True))
        return {
            "count": count,
            "strength": strength,
            "order": _ratio(order, strength),
            "cancellation": 1 - _ratio(sums, strength),
        } | share

    every = np.arange(len(moments))
    resampled = [
        [finetune.resampled(lambda chosen, k=k, row=row: of(k, row, chosen), places, every) for row in range(3)]
        for k in (0, 1)
    ]
    by_kind = {"real": resampled[0], "chance": resampled[1]}
    by_kind["beyond"] = [{key: one[key] - other[key] for key in one} for one, other in zip(*resampled, strict=True)]
    pairs = {"removed less emerged": (1, 2), "removed less preserved": (1, 0), "emerged less preserved": (2, 0)}
    return {
        kind: {
            **{name: _intervals(each) for name, each in zip(CLASSES, of_kind, strict=True)},
            **{
                name: _intervals({key: of_kind[a][key] - of_kind[b][key] for key in of_kind[a]})
                for name, (a, b) in pairs.items()
            },
        }
        for kind, of_kind in by_kind.items()
    }


def _intervals(numbers: dict[str, Resampled]) -> dict[str, tuple[float, float, float]]:
    return {key: each.interval() for key, each in numbers.items()}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


# ------------------------------------------------------------------------------------------------- drawing

_COLOURS = dict(zip(CLASSES, (style.MODELS[0], style.MODELS[2], style.MODELS[4]), strict=True))


def draw(result: dict) -> Figure:
    """Strength of the classes over the fine-tuning; order, cancellation and what is found elsewhere, beside chance."""
    figure = style.new_figure(style.TWO_COLUMNS, 2.9)
    style.title(figure, _claim(result))
    elsewhere = result["elsewhere"][:2]
    panels_ = {"order": "Mean order", "cancellation": "Cancellation"} | {each: f"Found in {each}" for each in elsewhere}
    axes = figure.subplots(1, 1 + len(panels_), width_ratios=[1.5, *[1] * len(panels_)])
    _draw_strength(axes[0], result)
    for ax, (key, title) in zip(axes[1:], panels_.items(), strict=True):
        _draw_classes(ax, result, key)
        ax.set_title(title)
        if ax is not axes[1]:
            ax.set_yticklabels([])
    lines = [
        Line2D([], [], color="black", marker="o", ms=4, label="learned by heart"),
        Line2D([], [], color="black", marker="o", mfc="white", ls=(0, (3, 1.5)), ms=4, label="not seen"),
        Line2D([], [], color=style.MUTED, marker="|", ms=7, ls="none", label="chance: shuffled within orders"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
    return figure


def _draw_strength(ax, result: dict) -> None:
    x = np.arange(len(STAGES) - 1)
    for which, dashes in (("members", "-"), ("others", (0, (3, 1.5)))):
        for name in CLASSES:
            numbers = [result["stages"][stage][which]["real"][name]["strength"] for stage in STAGES[1:]]
            label = name if which == "members" else None
            fill = _COLOURS[name] if which == "members" else "white"
            panels.band(
                ax, x, numbers, color=_COLOURS[name], ls=dashes, marker="o", ms=3, mfc=fill, label=label, shade=0.1
            )
    ax.set_xticks(x, STAGES[1:])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("stage of the fine-tuning")
    ax.set_ylabel("nats per sentence")
    ax.set_title("Strength of salient effects")
    ax.legend(loc="upper left")
    ax.grid(axis="y")


def _draw_classes(ax, result: dict, key: str) -> None:
    end = result["stages"][STAGES[-1]]
    for row, name in enumerate(CLASSES):
        for place, which in enumerate(SENTENCES):
            y, colour = row + 0.3 * (place - 0.5), _COLOURS[name]
            middle, low, high = np.array(end[which]["real"][name][key], float)
            ax.plot([low, high], [y, y], color=colour, lw=1.0, ls="-" if which == "members" else (0, (3, 1.5)))
            ax.plot(middle, y, "o", color=colour, mfc=colour if which == "members" else "white", ms=4)
            ax.plot(np.array(end[which]["chance"][name][key], float)[0], y, "|", color=style.MUTED, ms=9, mew=1.4)
    panels.row_axes(ax, CLASSES)
    if key == "order":
        ax.set_xlim(left=1)
    else:
        ax.set_xlim(0, 1)


def _claim(result: dict) -> str:
    removed, emerged = (
        [result["stages"][stage]["members"]["real"][name]["strength"][0] for stage in (STAGES[1], STAGES[-1])]
        for name in ("removed", "emerged")
    )
    return (
        f"Of sentences learned by heart {removed[0]:.1f} nats of effects are removed and {emerged[0]:.1f} emerge in "
        f"the first epoch, {removed[1]:.1f} and {emerged[1]:.1f} by the end"
    )


def rows(result: dict) -> list[Row]:
    """Strength and count of every class by stage; the three claims, with chance."""
    found, end = [], STAGES[-1]
    for which, label in SENTENCES.items():
        stages = {stage: result["stages"][stage][which] for stage in STAGES[1:]}
        real, chance, beyond = (stages[end][kind] for kind in ("real", "chance", "beyond"))
        ours = "; ".join(
            f"{stage}: " + ", ".join(f"{name} {with_interval(each['real'][name]['strength'])}" for name in CLASSES)
            for stage, each in stages.items()
        )
        found.append(Row(f"strength of salient effects per sentence, nats, sentences {label}", "none", ours))
        ours = "; ".join(
            f"{stage} {with_interval(each['real']['removed less emerged']['strength'], '+.2f')}"
            for stage, each in stages.items()
        )
        found.append(Row(f"strength removed less emerged, nats, sentences {label}", "above 0 (2605.17967)", ours))
        for key, published in (
            ("count", "none"),
            ("order", "none"),
            ("cancellation", "removed effects are noise (2605.17967)"),
            *((each, "emerged effects are rarely reliable (2605.17967)") for each in result["elsewhere"]),
        ):
            what = {"count": key, "cancellation": key, "order": "mean order"}.get(key, f"share found in {key}")
            ours = "; ".join(
                f"{name} {with_interval(real[name][key])} (chance {chance[name][key][0]:.2f})" for name in CLASSES
            )
            found.append(Row(f"{what} when fine-tuning ends, sentences {label}", published, ours))
        ours = "; ".join(
            f"{key} {with_interval(real['removed less preserved'][key], '+.2f')}, beyond chance "
            f"{with_interval(beyond['removed less preserved'][key], '+.2f')}"
            for key in ("order", "cancellation", *result["elsewhere"])
        )
        found.append(Row(f"removed less preserved, sentences {label}", "removed effects are noise (2605.17967)", ours))
    return found
