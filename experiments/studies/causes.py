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
are after less before, from the same seeds on the same prompts. The 95% intervals resample seeds, then prompts
(`studies.cause_numbers`); the change of every seed is in the result and in the figure's table. A change has a sign
only if its interval leaves out 0. A quick run has one seed: its intervals are over prompts only, and no change has a
sign. Gap: label cross-entropy on held-out phrases less that on the clean or noisy training phrases, nats.
"""

import dataclasses

import numpy as np

from andor.solvers import InteriorPoint
from experiments.lab import training
from experiments.lab.corpus import choose
from experiments.lab.methods import FEW_STEPS, LABELS, published_solvers
from experiments.lab.sentiment import METHODS, Snapshot, Task, by_difficulty, follow, orders_of, read_task
from experiments.studies.cause_numbers import of_change, of_model, sampled, sign
from experiments.studies.cause_settings import CHANGES, EARLY, NUMBERS, SETTINGS, Setting
from experiments.studies.causes_figure import draw as draw
from experiments.studies.causes_figure import named
from experiments.study import PUBLISHED_NOISE, Row, Settings, with_interval

OWN_MODELS = True


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


PLANS = {
    "full": Plan(),
    "quick": Plan(at=(300, 400, 550), seeds=1, resamples=40),
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
    # An early stop may be at a step that stands for another model too.
    distinct = {id(each): each for snapshots in models.values() for each in snapshots}
    orders = {key: orders_of(each.v, published) for key, each in distinct.items()}
    found = {name: [orders[id(each)] for each in snapshots] for name, snapshots in models.items()}
    numbers = {
        name: {method: sampled([each[method] for each in of_seeds], plan.resamples) for method in METHODS}
        for name, of_seeds in found.items()
    }
    return {
        "plan": dataclasses.asdict(plan),
        "recipes": recipes,
        "model": {
            "parameters": training.new_model(recipe, task.tokenizer.get_vocab_size()).parameters,
            "dtype": "float32",
            "noise": PUBLISHED_NOISE,
            "solver": repr(InteriorPoint()),
            "published": list(map(repr, published)),
            "prompts": [prompt.text for prompt in task.prompts],
        },
        "models": [of_model(name, models[name], numbers[name], found[name]) for name in models],
        "changes": [of_change(each, numbers) for each in CHANGES if each[2] in models and each[3] in models],
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


def rows(result: dict) -> list[Row]:
    """Changes of the score by cause and by remedy, seed by seed and by method; the diagnosis."""
    texts = {
        kind: "; ".join(_told(each) for each in result["changes"] if each["kind"].startswith(kind))
        for kind in ("cause", "remedy")
    }
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
    return [
        Row(f"causes: change of the score, 1 - spindle share ({over})", "none", texts["cause"]),
        Row(f"remedies: change of the score ({over})", "none", texts["remedy"]),
        Row(
            f"diagnosis: which way score, mean order and cancellation go (0: {uncertain}); dev accuracy",
            "none",
            profiles,
        ),
    ]


def _told(change: dict) -> str:
    """The change of the score by every method, and that of each seed."""
    certified, *others = METHODS
    by_seed = ", ".join(f"{x:+.2f}" for x in np.array(change[certified]["score_by_seed"], float))
    beside = ", ".join(f"{LABELS[method]} {with_interval(change[method]['score'], '+.2f')}" for method in others)
    return f"{named(change)}: {with_interval(change[certified]['score'], '+.2f')} (by seed {by_seed}; {beside})"
