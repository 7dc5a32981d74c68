"""Do effects that generalise decay with their order, and do the others form a balanced spindle?

Reproduces:  arXiv 2502.10162: effects that generalise fall off with their order, the others are strongest at middle
             orders, positive and negative alike. There an effect of a model generalises if a model trained on other
             data for the same task has it too; here, if it is salient (tau = 0.05), of the same sign and on the same
             prompt, in most of several reference models of the same architecture. These are four regularised models,
             each trained on a part of SST-2 of its own (parts 1 to 4). Two sets of models are labelled:
               regularised   the reference models themselves, each by the other three of its architecture
               overfit       models trained into overfitting on part 0 (gap of 0.3 nats or more), by all four
             So no model is labelled by one that has seen its data. Two models rarely have the same effect of high
             order by accident, so beside the labels stands what chance labels: every reference has its effects on
             other subsets, drawn by lot among those of equal order and kind.
             Before that, the estimator of the split (`andor.spindle`) on planted mixtures, with the effects given and
             with the effects found again from v, at two levels of noise.
Command:     python -m experiments spindle --corpus DATA
             With --models (two or more, not the default pair) it explains these on --prompts instead, each labelled by
             most of the others; no corpus, and no planted mixtures.
Hardware:    2 CPU cores
Minutes:     55 with the zoo (20) and its effects (20), both shared with `generalisation`
Published:   a decay for effects that generalise, a balanced spindle for the others; no estimator of the split
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from andor.core import lattice
from andor.measures import metrics
from andor.measures.bootstrap import draws, interval, resampled
from andor.measures.profile import Profile, strength
from experiments.lab import methods
from experiments.lab.methods import LABELS
from experiments.lab.planted import NOISES, validate
from experiments.lab.zoo_effects import ModelEffects, ZooRun, zoo_described, zoo_runs
from experiments.studies.spindle_figure import NAMES, SETS
from experiments.studies.spindle_figure import draw as draw
from experiments.study import Row, Settings, described, with_interval

OWN_PART = 0
"""The part of the data that no reference is trained on."""
OVERFIT = 0.3
"""Least train-dev gap of label cross-entropy of a model that overfits, nats."""
ORDERS = 10
"""Orders of a profile; more where a prompt has more players."""
LOW = 2
"""The highest order that counts as low."""
RESAMPLES, SMOKE_RESAMPLES = 200, 5  # a split takes 15 ms

Case = tuple[ModelEffects, list[ModelEffects]]
"""A model and its references."""


def measure(settings: Settings) -> dict:
    if settings.models != Settings.models:
        given = given_models(settings)
        made = [described(run) for run in given[0][0].effects.runs]
        return {"validation": [], "labels": _labels({"given": given}, settings), "runs": made}
    validation = validate(settings)
    runs = zoo_runs(settings)
    return {"validation": validation, "labels": _labels(sets_of(runs), settings), **zoo_described(runs)}


def sets_of(runs: Sequence[ZooRun]) -> dict[str, list[Case]]:
    """The models of the zoo that are labelled. No reference is its own, nor has it seen the data of what it labels."""
    references = [each for each in runs if each.scored.member.kind == "reference"]

    def case(model: ZooRun) -> Case:
        architecture = model.scored.architecture
        return model, [each for each in references if each is not model and each.scored.architecture == architecture]

    overfit = [each for each in runs if each.scored.member.part == OWN_PART and each.scored.gap >= OVERFIT]
    return {"regularised": [case(each) for each in references], "overfit": [case(each) for each in overfit]}


def given_models(settings: Settings) -> list[Case]:
    """The models and prompts of the settings; the references of a model are all others."""
    if len(settings.models) < 2:
        raise ValueError(f"a model is labelled by others; got only {settings.models}: give two --models or more.")
    effects = methods.effects(settings, methods.FEW_STEPS)
    models = [ModelEffects(effects, name) for name in effects.run.models]
    return [(model, [each for each in models if each is not model]) for model in models]


def _labels(sets: dict[str, list[Case]], settings: Settings) -> dict:
    """Set and method -> numbers, for every set that has models."""
    present = [(name, method) for name, method in itertools.product(sets, LABELS) if sets[name]]
    return {f"{name} {method}": _profiles(sets[name], method, settings) for name, method in present}


@dataclass(frozen=True, eq=False)
class Labelled:
    """Order strengths of one model on one prompt by group of effects, in units of its strength at the optimum.

    Attributes:
      strengths: `[groups, 2, orders]`, positive and negative.
      counts: `[2, orders]`, number of salient effects, and of labelled ones.
      chance: `[orders]`, labelled effects to expect if every reference had its effects on other subsets, drawn by lot
        among those of equal order and kind.
    """

    strengths: np.ndarray
    counts: np.ndarray
    chance: np.ndarray


def label(pair: metrics.Pair, others: list[metrics.Pair], unit: float) -> Labelled:
    """Divide the effects of a model by whether most reference models have them, salient and with the same sign.

    `unit` is the strength at the optimum, with the sign of what counts as positive.
    """
    effects = np.stack(pair)
    n_players = lattice.n_players_of(effects)
    order = lattice.orders(n_players)
    salient = np.stack(metrics.salient(*pair))
    signs = [np.stack(metrics.salient(*other)) * np.sign(np.stack(other)) for other in others]
    votes = sum((sign == np.sign(effects)) & salient for sign in signs)
    generalises = salient & (votes > len(others) / 2)
    groups = (generalises, salient & ~generalises, ~salient)
    by_group = [metrics.order_strength(*np.where(chosen, effects / unit, 0.0)) for chosen in groups]
    strengths, chance = np.array([[each.positive, each.negative] for each in by_group]), np.zeros(n_players)
    edges = np.arange(1, n_players + 2) - 0.5  # of the orders; ∅ is left out
    counts = [np.histogram(np.tile(order, 2)[each.ravel()], edges)[0] for each in (salient, generalises)]
    for kind, o, sign in itertools.product((0, 1), range(1, n_players + 1), (-1, 1)):
        of_order = order == o
        own = np.sum(salient[kind, of_order] & (np.sign(effects[kind, of_order]) == sign))
        if own:
            has = [np.mean(each[kind, of_order] == sign) for each in signs]
            chance[o - 1] += own * _majority(has)
    return Labelled(strengths, np.array(counts), chance)


def _majority(probabilities: list[float]) -> float:
    """Probability that more than half of independent events happen."""
    distribution = np.ones(1)
    for p in probabilities:
        distribution = np.convolve(distribution, [1 - p, p])
    return float(distribution[np.arange(distribution.size) > len(probabilities) / 2].sum())


def _profiles(cases: list[Case], method: str, settings: Settings) -> dict:
    """Numbers of a set of models by one method: means over models, intervals over prompts."""
    run = cases[0][0].run
    players = tuple(prompt.n_players for prompt in run.prompts)
    orders = max(ORDERS, *players)
    found = []  # [prompts][models]
    for prompt in (each.id for each in run.prompts):
        row = []
        for model, references in cases:
            unit = strength(model.pair("certified", prompt))
            if unit > 0:
                others = [each.pair(method, prompt) for each in references]
                row.append(label(model.pair(method, prompt), others, unit * model.direction(prompt)))
        found.append(row)
    kept = [place for place, row in enumerate(found) if row]
    strengths = _padded([np.mean([each.strengths for each in found[place]], axis=0) for place in kept], orders)
    counts = _padded([np.sum([each.counts for each in found[place]], axis=0) for place in kept], orders)
    chance = _padded([np.sum([each.chance for each in found[place]], axis=0) for place in kept], orders)
    labelled = counts[:, 1]
    players = tuple(players[place] for place in kept)
    groups = {
        "labelled": strengths[:, 0],
        "others": strengths[:, 1] + strengths[:, 2],
        "other salient": strengths[:, 1],
    }
    return {
        "models": [model.run.labels[model.name] for model, _ in cases],
        "mean": strengths.mean(axis=0),
        "low": _band(strengths, 0.025, settings.seed),
        "high": _band(strengths, 0.975, settings.seed),
        "salient": counts[:, 0].sum(axis=0),
        "labelled": labelled.sum(axis=0),
        "chance": chance.sum(axis=0),
        "labelled_share_of_salient": _ratio(labelled.sum(axis=1), counts[:, 0].sum(axis=1), settings.seed),
        "labelled_by_chance": _ratio(chance.sum(axis=1), counts[:, 0].sum(axis=1), settings.seed),
        "labelled_in_low_orders": _ratio(labelled[:, :LOW].sum(axis=1), labelled.sum(axis=1), settings.seed),
        "low_orders_by_chance": _ratio(chance[:, :LOW].sum(axis=1), chance.sum(axis=1), settings.seed),
        "labelled_share_of_strength": _ratio(
            strengths[:, 0].sum(axis=(1, 2)), strengths.sum(axis=(1, 2, 3)), settings.seed
        ),
        "groups": {name: _shape(Profile(each, players), settings) for name, each in groups.items()},
    }


def _padded(by_prompt: list[np.ndarray], orders: int) -> np.ndarray:
    """Arrays by order, one per prompt, with zeros up to the same number of orders."""
    return np.array([np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, orders - each.shape[-1])]) for each in by_prompt])


def _ratio(part: np.ndarray, whole: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Sum over sum, with its interval over prompts; nan of nothing."""
    if not whole.any():
        return (np.nan,) * 3
    return interval(np.stack([part, whole], axis=1), lambda rows: rows[:, 0].sum() / rows[:, 1].sum(), seed=seed)


def _band(samples: np.ndarray, quantile: float, seed: int) -> np.ndarray:
    """A bound of the interval of the mean over prompts, of every entry."""
    return np.quantile([samples[each].mean(axis=0) for each in draws(len(samples), 1000, seed)], quantile, axis=0)


def _shape(found: Profile, settings: Settings) -> dict:
    """Shape of the order profile of some effects, with intervals over prompts."""
    if not found.strengths.any():
        undefined = dict.fromkeys(("spindle_share", "mean_order", "low_orders", "positive", "balance"), (np.nan,) * 3)
        return undefined | {"misfit": np.nan, "peak": None}

    def over_prompts(statistic, **options):
        def of_places(places):
            some = found.of(places)
            return statistic(some) if some.strengths.any() else np.nan

        return resampled(len(found.players), of_places, settings.seed, **options).interval()

    return {
        "spindle_share": over_prompts(
            lambda some: some.split.spindle_share, repeats=SMOKE_RESAMPLES if settings.smoke else RESAMPLES
        ),
        "misfit": found.split.misfit,
        "mean_order": over_prompts(lambda some: some.mean_order),
        "low_orders": over_prompts(lambda some: some.low_orders),
        "positive": over_prompts(lambda some: some.strengths[:, 0].sum() / some.strengths.sum()),
        "balance": over_prompts(lambda some: 1 - np.abs(some.mean.positive - some.mean.negative).sum() / some.total),
        "peak": int(1 + np.argmax(found.mean.positive + found.mean.negative)),
    }


def rows(result: dict) -> list[Row]:
    found = [_validation_row(result["validation"])] if result["validation"] else []
    for name, method in itertools.product(SETS, LABELS):
        if each := result["labels"].get(f"{name} {method}"):
            found += _label_rows(f"{SETS[name]}, {LABELS[method]}", each)
    return found


def _validation_row(validation: list[dict]) -> Row:
    most = max(each["prompts"] for each in validation)
    players = max(each["players"] for each in validation)

    def errors(method: str, noise: float) -> str:
        chosen = [each for each in validation if (each["method"], each["noise"]) == (method, noise)]
        return " / ".join(
            f"{each['error'][0]:.2f}" for each in chosen if (each["players"], each["prompts"]) == (players, most)
        )

    def measured(noise: float) -> str:
        return ", ".join(f"{NAMES[method]} {errors(method, noise)}" for method in NAMES if errors(method, noise))

    return Row(
        f"error of the spindle share, planted with / without OR effects, {most} prompts, {players} players",
        "none (wanted: under 0.05)",
        "; ".join(f"noise {noise:.1%}: {measured(noise)}" for noise in NOISES),
    )


def _label_rows(of: str, each: dict) -> list[Row]:
    """What is said of a set of models by one method."""
    labelled, others = each["groups"]["labelled"], each["groups"]["others"]
    misfits = " / ".join(with_interval([group["misfit"]] * 3).split()[0] for group in (labelled, others))
    return [
        Row(
            f"{of}: share of salient effects that most references have, and by chance",
            "none",
            f"{with_interval(each['labelled_share_of_salient'])}, {with_interval(each['labelled_by_chance'])}",
        ),
        Row(
            f"{of}: share of these that are of orders 1 and 2, and of those that chance labels",
            "none",
            f"{with_interval(each['labelled_in_low_orders'])}, {with_interval(each['low_orders_by_chance'])}",
        ),
        Row(
            f"{of}: spindle share of effects that most references have / of the others (misfit)",
            "decay / spindle (2502.10162)",
            f"{with_interval(labelled['spindle_share'])} / {with_interval(others['spindle_share'])} ({misfits}; "
            "well above 0.1 the share says little)",
        ),
        Row(
            f"{of}: strength in orders 1 and 2; strongest order",
            "low / middle (2502.10162)",
            f"{with_interval(labelled['low_orders'])} / {with_interval(others['low_orders'])}; "
            f"{labelled['peak']} / {others['peak']}",
        ),
        Row(
            f"{of}: balance of positive and negative strength",
            "low / balanced (2502.10162)",
            f"{with_interval(labelled['balance'])} / {with_interval(others['balance'])}",
        ),
    ]
