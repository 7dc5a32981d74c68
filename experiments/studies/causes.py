"""Causes: what training length, data, label noise and hard samples do to the effects, and which remedy undoes it.

Reproduces:  the article's last section, as an experiment: one cause is varied at a time, everything else stays. Llamas
             of 0.2 M parameters on SST-2, 5 seeds for each setting, without dropout and weight decay.
Command:     python -m experiments causes --corpus DATA      (DATA holds sst2/train.tsv and sst2/dev.tsv)
             It trains its own models, so --models is refused.
Hardware:    1 CPU core
Minutes:     55
Published:   no numbers; claimed: what does not generalise shows as higher orders that cancel (arXiv 2502.10162).

Base: 5% of the phrases, 800 steps. Length: the base runs at earlier steps. Data: a quarter and four times as many
phrases. Label noise: a share of the labels flipped. Samples: the easiest and the hardest third of 15% of the phrases,
by the label cross-entropy of the embedded tiny-llama (which was trained on phrases of this file; its loss ranks them).
Remedies: more data, clean labels, early stop (the watched step of least validation loss), weight decay 1.

Prompts: 30 dev sentences of 8 or 9 players, the same for all models, each prompt's strengths divided by their sum.
Every number is the mean over seeds and prompts; score: 1 - spindle share of the order strengths averaged so. Changes
are after less before, from the same seeds on the same prompts. What is changed, the training, differs from run to run,
so each resample of the 95% intervals draws seeds, then prompts, both with replacement; all numbers are resampled with
the same draws. Resampling so few seeds makes intervals somewhat too narrow: with 5, the standard error of a mean by a
factor of 0.9. The change of every seed is in the result. A change has a sign only if its
interval leaves out 0. A quick run has one seed: its intervals are over prompts only, and no change has a sign. Gap:
label cross-entropy on held-out phrases less that on the clean or noisy training phrases, nats.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from andor.figures import panels, style
from andor.measures.bootstrap import REPEATS, Resampled, crossed_draws
from andor.measures.profile import Profile
from experiments.lab import training
from experiments.lab.corpus import choose
from experiments.lab.methods import FEW_STEPS, LABELS, look, published_solvers
from experiments.lab.sentiment import (
    METHODS,
    Orders,
    Snapshot,
    Task,
    by_difficulty,
    follow,
    orders_of,
    overfitting,
    read_task,
    task_described,
)
from experiments.study import Row, Settings, with_interval

OWN_MODELS = True


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way of training.

    Attributes:
      data: phrases, as a multiple of the base.
      label_noise: share of flipped labels.
      samples: "mixed", "easy" or "hard".
      weight_decay: of AdamW.
      early: whether the model is also looked at before the end.
    """

    data: float = 1.0
    label_noise: float = 0.0
    samples: str = "mixed"
    weight_decay: float = 0.0
    early: bool = False


SETTINGS = {
    "base": Setting(early=True),
    "few": Setting(data=0.25, early=True),
    "more": Setting(data=4.0),
    "noise 15%": Setting(label_noise=0.15),
    "noise 30%": Setting(label_noise=0.3, early=True),
    "easy": Setting(samples="easy"),
    "hard": Setting(samples="hard"),
    "few, decay": Setting(data=0.25, weight_decay=1.0),
}

EARLY = "early stop"
"""Behind the name of a setting: at the watched step of least validation loss."""

CAUSES = {
    "training steps": None,  # the base at every watched step
    "phrases": ("few", "base", "more"),
    "flipped labels": ("base", "noise 15%", "noise 30%"),
    "samples": ("easy", "base", "hard"),
}
"""Cause -> models in order of its strength."""

CHANGES = (
    ("cause", "trained longer", "base, first", "base"),
    ("cause", "less data", "more", "few"),
    ("cause", "noisy labels", "base", "noise 30%"),
    ("cause", "hard samples", "easy", "hard"),
    ("remedy for long training", "early stop", "base", f"base, {EARLY}"),
    ("remedy for long training", "more data", "base", "more"),
    ("remedy for little data", "more data", "few", "base"),
    ("remedy for little data", "early stop", "few", f"few, {EARLY}"),
    ("remedy for little data", "weight decay", "few", "few, decay"),
    ("remedy for noisy labels", "clean labels", "noise 30%", "base"),
    ("remedy for noisy labels", "early stop", "noise 30%", f"noise 30%, {EARLY}"),
)
"""(kind, what is changed, model before, model after)."""

NUMBERS = {"score": "score", "mean_order": "mean order", "cancellation": "cancellation"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes:
      at: steps at which models are watched, the last one the end.
      fraction: share of the phrases that the base is trained on.
      settings: names of those trained; all if empty.
      resamples: behind the interval of a score (15 ms each).
    """

    at: tuple[int, ...] = (400, 550, 800)
    prompts: int = 30
    seeds: int = 5
    fraction: float = 0.05
    layers: int = 2
    settings: tuple[str, ...] = ()
    resamples: int = 100


_SMOKE = ("base", "few", "easy", "hard")
PLANS = {
    "full": Plan(),
    "quick": Plan(at=(300, 400, 550), seeds=1, resamples=40),
    "smoke": Plan(at=(2, 4), prompts=3, seeds=1, fraction=0.3, layers=1, settings=_SMOKE, resamples=2),
}

_ROWS = 8  # of 128 tokens: about 47 phrases a step


def measure(settings: Settings) -> dict:
    """Numbers of every model, and differences with their intervals for every change."""
    plan = PLANS[settings.scale]
    task = read_task(settings, plan.prompts)
    models: dict[str, list[Snapshot]] = {}
    recipes = {}
    for name in plan.settings or SETTINGS:
        for seed in (10 * settings.seed + number for number in range(plan.seeds)):
            recipe, watched = run(name, seed, plan, task, settings)
            recipes[name] = dataclasses.asdict(recipe)
            models.setdefault(name, []).append(watched[-1])
            if SETTINGS[name].early:
                best = min(watched, key=lambda each: each.validation.mean())
                models.setdefault(f"{name}, {EARLY}", []).append(best)
            if name == "base":
                for place, snapshot in enumerate(watched[:-1]):
                    models.setdefault(f"base, step {snapshot.step}" if place else "base, first", []).append(snapshot)
    published = published_solvers(settings, FEW_STEPS)
    # An early stop may be at a step that stands for another model too.
    distinct = {id(each): each for snapshots in models.values() for each in snapshots}
    orders = {key: orders_of(each.v, published) for key, each in distinct.items()}
    records, numbers = [], {}
    for name, snapshots in models.items():
        found = {method: [orders[id(each)][method] for each in snapshots] for method in METHODS}
        numbers[name] = {method: sampled(found[method], plan.resamples) for method in METHODS}
        record = {"model": name, "steps": [each.step for each in snapshots], **_losses(snapshots)}
        for method in METHODS:
            strengths = np.concatenate([each.profile.strengths for each in found[method]])
            record[method] = _saved(numbers[name][method]) | {"by_order": np.nanmean(strengths, axis=0)}
        records.append(record)
    changes = [
        {"kind": kind, "what": what, "before": before, "after": after}
        | {m: _saved({key: numbers[after][m][key] - numbers[before][m][key] for key in NUMBERS}) for m in METHODS}
        for kind, what, before, after in CHANGES
        if before in models and after in models
    ]
    about = {"plan": dataclasses.asdict(plan), "recipes": recipes, "model": task_described(task, recipe, published)}
    return about | {"models": records, "changes": changes}


def run(name: str, seed: int, plan: Plan, task: Task, settings: Settings) -> tuple[training.Recipe, list[Snapshot]]:
    """A setting trained from one seed and watched; read from disk if it was before."""
    setting, folder = SETTINGS[name], settings.work / "causes"
    recipe = overfitting(
        steps=plan.at[-1],
        layers=plan.layers,
        weight_decay=setting.weight_decay,
        label_weight=16.0,
        fraction=plan.fraction * setting.data,
        label_noise=setting.label_noise,
        seed=seed,
    )
    print(f"causes: {name}, seed {seed}", flush=True)
    if setting.samples == "mixed":  # more data has the same phrases, and others
        phrases = choose(task.train, recipe.fraction, setting.label_noise, seed)
    else:
        ranked = by_difficulty(choose(task.train, 3 * plan.fraction, 0.0, settings.seed), folder)
        third = len(ranked) // 3
        phrases = ranked[:third] if setting.samples == "easy" else ranked[-third:]
    return recipe, follow(task, recipe, phrases, plan.at if setting.early else plan.at[-1:], folder, rows=_ROWS)


# ------------------------------------------------------------------------------------------------- numbers


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled(Resampled):
    """A number of one model, or of a change: over all seeds and prompts, on resamples of both, and by seed."""

    by_seed: Float[np.ndarray, "seeds"]


def sampled(found: Sequence[Orders], resamples: int) -> dict[str, Sampled]:
    """The `NUMBERS` of one model by one method.

    Args:
      found: order strengths on the same prompts, one entry per seed.
      resamples: behind the interval of the score, which takes 15 ms each.
    """
    n_seeds, n_prompts = len(found), len(found[0].total)
    strengths = Profile(np.concatenate([each.profile.strengths for each in found]), found[0].profile.players * n_seeds)
    every = Orders(strengths, total=np.concatenate([each.total for each in found]))
    statistics = {
        "score": (every.scores, resamples),
        "mean_order": (lambda places: _mean(every.mean_order[places]), REPEATS),
        "cancellation": (lambda places: _mean(every.cancellation[places]), REPEATS),
    }
    seeds = np.arange(n_seeds * n_prompts).reshape(n_seeds, n_prompts)
    return {
        number: Sampled(
            value=float(statistic(seeds.reshape(1, -1))[0]),
            resampled=statistic(crossed_draws(n_seeds, n_prompts, repeats)),
            by_seed=statistic(seeds),
        )
        for number, (statistic, repeats) in statistics.items()
    }


def _mean(values: Float[np.ndarray, "rows pairs"]) -> Float[np.ndarray, "rows"]:
    """Mean of each row's entries that are not nan."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1)


def _saved(numbers: dict[str, Sampled]) -> dict:
    intervals = {key: each.interval() for key, each in numbers.items()}
    return intervals | {f"{key}_by_seed": each.by_seed for key, each in numbers.items()}


def _losses(snapshots: Sequence[Snapshot]) -> dict:
    means = {
        part: np.mean([getattr(each, part).mean() for each in snapshots]) for part in ("train", "validation", "dev")
    }
    accuracy = np.mean([each.accuracy for each in snapshots])
    return means | {"gap": means["validation"] - means["train"], "accuracy": accuracy}


def sign(change: dict, number: str, method: str = "certified") -> str:
    """ "+" or "−" where there are several seeds and the interval of a saved change leaves out 0, else "0"."""
    _, low, high = np.array(change[method][number], float)
    if len(change[method][f"{number}_by_seed"]) < 2:
        return "0"
    return "+" if low > 0 else "−" if high < 0 else "0"


# ------------------------------------------------------------------------------------------------- drawing


def draw(result: dict) -> Figure:
    """The numbers against each cause."""
    figure = style.new_figure(style.TWO_COLUMNS, 4.0)
    by_name = {each["model"]: each for each in result["models"]}
    style.title(figure, _claim(result["changes"]))
    axes = figure.subplots(3, 4, sharey="row", sharex="col")
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
        ticks = {  # what a model has of each cause
            "training steps": lambda name: f"{by_name[name]['steps'][0]:,}",
            "phrases": lambda name: f"{result['plan']['fraction'] * SETTINGS[name].data:.3g}".lstrip("0"),
            "flipped labels": lambda name: f"{SETTINGS[name].label_noise:.0%}",
            "samples": lambda name: SETTINGS[name].samples,
        }
        column[-1].set_xticks(range(len(names)), list(map(ticks[cause], names)))
        column[-1].set_xlim(-0.4, len(names) - 0.6)
    for ax, label in zip(axes[:, 0], NUMBERS.values(), strict=True):
        ax.set_ylabel(label)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _claim(changes: list[dict]) -> str:
    """The cause that changes the score most."""
    causes = [each for each in changes if each["kind"] == "cause"]
    if not causes:
        return "Score, mean order and cancellation against what models are trained on"
    most = max(causes, key=lambda each: abs(each["certified"]["score"][0]))
    return f"Of the causes “{most['what']}” changes the score most: {with_interval(most['certified']['score'], '+.2f')}"


def named(change: dict) -> str:
    """A cause as it is; a remedy behind the trouble."""
    trouble = change["kind"].removeprefix("remedy for ")
    return change["what"] if change["kind"] == "cause" else f"{trouble} → {change['what']}"


def rows(result: dict) -> list[Row]:
    """Changes of the score by cause and by remedy, seed by seed and by method; the diagnosis."""
    causes, remedies = (
        "; ".join(_told(each) for each in result["changes"] if each["kind"].startswith(kind))
        for kind in ("cause", "remedy")
    )
    accuracy = {each["model"]: each["accuracy"] for each in result["models"]}
    profiles = "; ".join(
        f"{each['what']}: {', '.join(sign(each, number) for number in NUMBERS)}, "
        f"accuracy {accuracy[each['before']]:.0%} to {accuracy[each['after']]:.0%}"
        for each in result["changes"]
        if each["kind"] == "cause"
    )
    seeds = result["plan"]["seeds"]
    over = f"{seeds} seeds, intervals over seeds and prompts" if seeds > 1 else "1 seed, intervals over prompts only"
    uncertain = "interval with 0" if seeds > 1 else "not certain, from 1 seed"
    diagnosis = f"diagnosis: which way score, mean order and cancellation go (0: {uncertain}); dev accuracy"
    return [
        Row(f"causes: change of the score, 1 - spindle share ({over})", "none", causes),
        Row(f"remedies: change of the score ({over})", "none", remedies),
        Row(diagnosis, "none", profiles),
    ]


def _told(change: dict) -> str:
    """The change of the score by every method, and that of each seed."""
    certified, *others = METHODS
    by_seed = ", ".join(f"{x:+.2f}" for x in np.array(change[certified]["score_by_seed"], float))
    beside = ", ".join(f"{LABELS[method]} {with_interval(change[method]['score'], '+.2f')}" for method in others)
    return f"{named(change)}: {with_interval(change[certified]['score'], '+.2f')} (by seed {by_seed}; {beside})"
