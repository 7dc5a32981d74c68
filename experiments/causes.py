"""Causes: what training length, data, label noise and hard samples do to the effects, and which remedy undoes it.

Reproduces:  the article's last section, as an experiment: one cause is varied at a time, everything else stays. Llamas
             of 0.2 M parameters on SST-2, 3 seeds for each setting, without dropout and weight decay.
Command:     python -m experiments causes --corpus DATA      (DATA holds sst2/train.tsv and sst2/dev.tsv)
Hardware:    1 CPU core
Minutes:     12, quick 4
Published:   no numbers; claimed: what does not generalise shows as higher orders that cancel (arXiv 2502.10162).

Base: 5% of the phrases, 800 steps. Length: the base runs at earlier steps. Data: a quarter and four times as many
phrases. Label noise: a share of the labels flipped. Samples: the easiest and the hardest third of 15% of the phrases,
by the label cross-entropy of the embedded tiny-llama (which was trained on phrases of this file; its loss ranks them).
Remedies: more data, clean labels, early stop (the watched step of least validation loss), weight decay 1.

Prompts: 30 dev sentences of 8 or 9 players, the same for all models. Every number is the mean over seeds of a prompt's
number, then over prompts, with a 95% interval over prompts; differences are of the same prompts. Score: 1 - spindle
share of the mean order strengths. Gap: label cross-entropy on held-out phrases less that on the clean or noisy
training phrases, nats.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from andor.solvers import InteriorPoint
from experiments import training
from experiments.cause_settings import CHANGES, EARLY, NUMBERS, SETTINGS, Setting
from experiments.causes_figure import draw as draw
from experiments.causes_figure import named, sign
from experiments.corpus import choose
from experiments.methods import FEW_STEPS, NOISE, published_solvers
from experiments.sentiment import (
    METHODS,
    Orders,
    Snapshot,
    Task,
    by_difficulty,
    follow,
    orders_of,
    read_task,
    spindle_change,
)
from experiments.study import Row, Settings, interval, with_interval


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes:
      at: steps at which models are watched, the last one the end.
      fraction: share of the phrases that the base is trained on.
      settings: names of those trained; all if empty.
      resamples: behind the interval of a spindle share (15 ms each).
    """

    at: tuple[int, ...] = (400, 550, 800)
    prompts: int = 30
    seeds: int = 3
    fraction: float = 0.05
    layers: int = 2
    settings: tuple[str, ...] = ()
    resamples: int = 40


PLANS = {
    "full": Plan(),
    "quick": Plan(at=(300, 400, 550), seeds=1),
    "smoke": Plan(
        at=(2, 4), prompts=3, seeds=1, fraction=0.3, layers=1, settings=("base", "few", "easy", "hard"), resamples=2
    ),
}


_ROWS = 8  # of 128 tokens: about 47 phrases a step


def measure(settings: Settings) -> dict:
    """Numbers of every model, and differences with their intervals for every change."""
    plan = PLANS[settings.scale]
    task = read_task(settings, plan.prompts)
    models: dict[str, list[Snapshot]] = {}
    recipes = {}
    for name in plan.settings or SETTINGS:
        for seed in seeds_of(plan, settings):
            recipe = recipe_of(plan, SETTINGS[name], seed)
            recipes[name] = dataclasses.asdict(recipe)
            watched = run(name, seed, plan, task, settings)
            models.setdefault(name, []).append(watched[-1])
            if SETTINGS[name].early:
                best = min(watched, key=lambda each: each.validation.mean())
                models.setdefault(f"{name}, {EARLY}", []).append(best)
            if name == "base":
                for place, snapshot in enumerate(watched[:-1]):
                    models.setdefault(f"base, step {snapshot.step}" if place else "base, first", []).append(snapshot)
    published = published_solvers(settings, FEW_STEPS)
    found = {name: [orders_of(each.v, published) for each in snapshots] for name, snapshots in models.items()}
    return {
        "plan": dataclasses.asdict(plan),
        "recipes": recipes,
        "model": {
            "parameters": training.new_model(recipe, task.tokenizer.get_vocab_size()).parameters,
            "dtype": "float32",
            "noise": NOISE,
            "solver": repr(InteriorPoint()),
            "published": list(map(repr, published)),
            "prompts": [prompt.text for prompt in task.prompts],
        },
        "models": [_model(name, models[name], found[name], plan.resamples) for name in models],
        "changes": [
            _change(each, found, plan.resamples) for each in CHANGES if each[2] in models and each[3] in models
        ],
    }


def recipe_of(plan: Plan, setting: Setting, seed: int) -> training.Recipe:
    """0.2 M parameters, nothing that holds overfitting back but what the setting says."""
    return training.Recipe(
        family="llama",
        steps=plan.at[-1],
        learning_rate=3e-3,
        width=64,
        layers=plan.layers,
        decay_to_zero=False,
        weight_decay=setting.weight_decay,
        dropout=0.0,
        label_weight=16.0,
        fraction=plan.fraction * setting.data,
        label_noise=setting.label_noise,
        row_tokens=128,
        seed=seed,
    )


def seeds_of(plan: Plan, settings: Settings) -> list[int]:
    """Seeds of the training runs of one setting."""
    return [10 * settings.seed + number for number in range(plan.seeds)]


def run(name: str, seed: int, plan: Plan, task: Task, settings: Settings) -> list[Snapshot]:
    """A setting trained from one seed and watched; read from disk if it was before."""
    setting, recipe, folder = SETTINGS[name], recipe_of(plan, SETTINGS[name], seed), settings.work / "causes"
    print(f"causes: {name}, seed {seed}", flush=True)
    if setting.samples == "mixed":  # more data has the same phrases, and others
        phrases = choose(task.train, recipe.fraction, setting.label_noise, seed)
    else:
        ranked = by_difficulty(choose(task.train, 3 * plan.fraction, 0.0, settings.seed), folder)
        third = len(ranked) // 3
        phrases = ranked[:third] if setting.samples == "easy" else ranked[-third:]
    return follow(task, recipe, phrases, plan.at if setting.early else plan.at[-1:], folder, rows=_ROWS)


# ------------------------------------------------------------------------------------------------- numbers


def _over_seeds(found: Sequence[dict[str, Orders]], method: str) -> Orders:
    """Mean order strengths of every prompt over the seeds."""
    strengths = np.nanmean([each[method].strengths for each in found], axis=0)
    return Orders(strengths, found[0][method].players)


def _per_prompt(found: Sequence[dict[str, Orders]], method: str, number: str) -> np.ndarray:
    """A number of every prompt, mean over the seeds."""
    return np.nanmean([getattr(each[method], number) for each in found], axis=0)


def _losses(snapshots: Sequence[Snapshot]) -> dict:
    train, validation = (
        np.mean([getattr(each, part).mean() for each in snapshots]) for part in ("train", "validation")
    )
    return {
        "train": train,
        "validation": validation,
        "dev": np.mean([each.dev.mean() for each in snapshots]),
        "gap": validation - train,
        "accuracy": np.mean([each.accuracy for each in snapshots]),
    }


def _model(name: str, snapshots: Sequence[Snapshot], found: Sequence[dict[str, Orders]], resamples: int) -> dict:
    numbers = {"model": name, "steps": [each.step for each in snapshots], **_losses(snapshots)}
    for method in METHODS:
        both = _over_seeds(found, method)
        share = both.spindle_share(resamples)
        numbers[method] = {
            "score": (1 - share[0], 1 - share[2], 1 - share[1]),
            "score_by_seed": [1 - each[method].spindle_share(repeats=1)[0] for each in found],
            "mean_order": interval(_per_prompt(found, method, "mean_order")),
            "mean_order_by_seed": [float(np.nanmean(each[method].mean_order)) for each in found],
            "cancellation": interval(_per_prompt(found, method, "cancellation")),
            "cancellation_by_seed": [float(np.nanmean(each[method].cancellation)) for each in found],
            "by_order": np.nanmean(both.strengths, axis=0),
        }
    return numbers


def _change(change: tuple[str, str, str, str], found: dict, resamples: int) -> dict:
    """Differences, after less before, with intervals over prompts."""
    kind, what, before, after = change
    numbers = {"kind": kind, "what": what, "before": before, "after": after}
    for method in METHODS:
        pair = [_over_seeds(found[name], method) for name in (before, after)]
        numbers[method] = {"score": tuple(-x for x in np.array(spindle_change(*pair, resamples))[[0, 2, 1]])}
        for number in ("mean_order", "cancellation"):
            one, two = (_per_prompt(found[name], method, number) for name in (before, after))
            numbers[method][number] = interval(two - one)
    return numbers


def rows(result: dict) -> list[Row]:
    """Changes of the score by cause and by remedy."""
    texts = {
        kind: "; ".join(
            f"{named(each)}: {with_interval(each['certified']['score'], '+.2f')} "
            f"(AND only {each['and_only']['score'][0]:+.2f})"
            for each in result["changes"]
            if each["kind"].startswith(kind)
        )
        for kind in ("cause", "remedy")
    }
    accuracy = {each["model"]: each["accuracy"] for each in result["models"]}
    profiles = "; ".join(
        f"{each['what']}: {', '.join(sign(each['certified'][number]) for number in NUMBERS)}, "
        f"accuracy {accuracy[each['before']]:.0%} to {accuracy[each['after']]:.0%}"
        for each in result["changes"]
        if each["kind"] == "cause"
    )
    return [
        Row("causes: change of the score (1 - spindle share)", "none", texts["cause"]),
        Row("remedies: change of the score", "none", texts["remedy"]),
        Row(
            "diagnosis: which way score, mean order and cancellation go (0: not certain); dev accuracy",
            "none",
            profiles,
        ),
    ]
