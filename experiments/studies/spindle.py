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
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from andor.core import games, lattice
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import draws, interval
from andor.measures.profile import Profile, profile_of, strength
from experiments.lab import methods
from experiments.lab.methods import FEW_STEPS, LABELS, by_method, look, published_solvers
from experiments.lab.zoo_effects import ModelEffects, ZooRun, zoo_described, zoo_runs
from experiments.study import SMOKE_PLAYERS, Row, Settings, described, with_interval

OWN_PART = 0
"""The part of the data that no reference is trained on."""
OVERFIT = 0.3
"""Least train-dev gap of label cross-entropy of a model that overfits, nats."""
ORDERS = 10
"""Orders of a profile; more where a prompt has more players."""
LOW = 2
"""The highest order that counts as low."""
RESAMPLES, SMOKE_RESAMPLES = 200, 2  # a split takes 15 ms

PROMPT_COUNTS = (1, 3, 10, 30)
"""Of planted mixtures."""
NOISES = (0.002, 0.01)
"""Levels of noise on their v, in units of |v(N) - v(∅)|. The published solver, which is slow, gets the first only."""

NAMES = LABELS | {"effects": "effects given"}
SETS = {
    "regularised": "regularised models, one another's references",
    "overfit": "overfit models",
    "given": "given models, one another's references",
}
"""Set of models that are shown together -> what it is called."""
SEEN = 20
"""Salient effects of an order from which on a share of them is drawn."""

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


def validate(settings: Settings) -> list[dict]:
    """Errors of the spindle share on planted mixtures: one record per kind of game, noise, prompts and method."""
    sizes = {"full": (20, max(PROMPT_COUNTS), 9), "quick": (8, max(PROMPT_COUNTS), 8), "smoke": (2, 2, SMOKE_PLAYERS)}
    trials, prompts, n_players = sizes[settings.scale]
    records = []
    for or_too, noise in itertools.product((True, False), NOISES):
        rng = np.random.default_rng([settings.seed, n_players, or_too])  # the same games at every noise
        solvers = published_solvers(settings, FEW_STEPS) if noise == NOISES[0] else ()
        errors: dict[tuple[str, int], list[float]] = {}
        for _ in range(trials):
            share, rate, ratio = rng.uniform(0, 1), rng.uniform(0.3, 1.5), np.exp(rng.uniform(-np.log(2), np.log(2)))
            mixtures = [games.mixture(rng, n_players, share, rate, ratio, or_too, noise) for _ in range(prompts)]
            v = np.stack([game.v for game, _ in mixtures])
            found = {"effects": [(game.and_effects, game.or_effects) for game, _ in mixtures]}
            found |= by_method(v, solvers)
            for (method, pairs), count in itertools.product(found.items(), PROMPT_COUNTS):
                if count <= prompts:
                    split = profile_of(pairs[:count]).split
                    true = np.mean([true_share for _, true_share in mixtures[:count]])
                    errors.setdefault((method, count), []).append(split.spindle_share - true)
        for (method, count), found_errors in errors.items():
            of = {"players": n_players, "or_effects": or_too, "noise": noise, "method": method, "prompts": count}
            error, bias = interval(np.abs(found_errors), seed=settings.seed), float(np.mean(found_errors))
            records.append(of | {"trials": trials, "error": error, "bias": bias})
    return records


# ------------------------------------------------------------------------------------------------- labels


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
    effects = methods.effects(settings, FEW_STEPS)
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
    counts, chance = (
        _padded([np.sum([getattr(each, name) for each in found[place]], axis=0) for place in kept], orders)
        for name in ("counts", "chance")
    )
    salient, labelled = counts.transpose(1, 0, 2)
    groups = {
        "labelled": strengths[:, 0],
        "others": strengths[:, 1] + strengths[:, 2],
        "other salient": strengths[:, 1],
    }
    of_kept = tuple(players[place] for place in kept)
    means = [strengths[each].mean(axis=0) for each in draws(len(strengths), 1000, settings.seed)]
    low, high = np.quantile(means, [0.025, 0.975], axis=0)

    def ratio(part: np.ndarray, whole: np.ndarray) -> tuple[float, float, float]:
        return _ratio(*(each.reshape(len(kept), -1).sum(axis=1) for each in (part, whole)), settings.seed)

    return {
        "models": [model.run.labels[model.name] for model, _ in cases],
        "mean": strengths.mean(axis=0),
        "low": low,
        "high": high,
        "salient": salient.sum(axis=0),
        "labelled": labelled.sum(axis=0),
        "chance": chance.sum(axis=0),
        "labelled_share_of_salient": ratio(labelled, salient),
        "labelled_by_chance": ratio(chance, salient),
        "labelled_in_low_orders": ratio(labelled[:, :LOW], labelled),
        "low_orders_by_chance": ratio(chance[:, :LOW], chance),
        "labelled_share_of_strength": ratio(strengths[:, 0], strengths),
        "groups": {name: _shape(Profile(each, of_kept), settings) for name, each in groups.items()},
    }


def _padded(by_prompt: list[np.ndarray], orders: int) -> np.ndarray:
    """Arrays by order, one per prompt, with zeros up to the same number of orders."""
    return np.array([np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, orders - each.shape[-1])]) for each in by_prompt])


def _ratio(part: np.ndarray, whole: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Sum over sum, with its interval over prompts; nan of nothing."""
    if not whole.any():
        return (np.nan,) * 3
    return interval(np.stack([part, whole], axis=1), lambda rows: rows[:, 0].sum() / rows[:, 1].sum(), seed=seed)


def _shape(found: Profile, settings: Settings) -> dict:
    """Shape of the order profile of some effects, with intervals over prompts."""
    seed, repeats = settings.seed, SMOKE_RESAMPLES if settings.smoke else RESAMPLES
    by_order = found.strengths.mean(axis=0).sum(axis=0)
    return {
        "spindle_share": found.interval(lambda some: some.split.spindle_share, seed, repeats),
        "misfit": found.split.misfit,
        "mean_order": found.interval(lambda some: some.mean_order, seed),
        "low_orders": found.interval(lambda some: some.low_orders, seed),
        "positive": found.interval(lambda some: some.positive, seed),
        "balance": found.interval(lambda some: some.balance, seed),
        "peak": int(1 + np.argmax(by_order)) if by_order.any() else None,
    }


# ------------------------------------------------------------------------------------------------- drawing

GROUPS = {
    "in most reference models": style.MODELS[3],
    "salient, but not in most": style.MODELS[4],
    "below the salient threshold": style.NOISE,
}
"""Groups of effects -> their colours."""


def draw(result: dict) -> Figure:
    """A row of profiles by label for every set of models; behind them what chance labels, and the validation."""
    names = [name for name in SETS if f"{name} certified" in result["labels"]]
    rows = max(len(names), 2)
    figure = style.new_figure(style.TWO_COLUMNS, 4.6)
    style.title(figure, _claim(result, names))
    axes = figure.subplots(rows, 4)
    for row, column in itertools.product(range(rows), range(3)):
        ax, method = axes[row, column], list(LABELS)[column]
        if row >= len(names):
            style.empty(ax, "no second set of models" if column == 0 else "")
            continue
        _draw_profile(ax, result["labels"][f"{names[row]} {method}"])
        if row == 0:
            ax.set_title(LABELS[method])
        if row == len(names) - 1:
            ax.set_xlabel("order |S|")
        if column == 0:
            ax.set_ylabel(f"{names[row]} models\nstrength / total at the optimum\n← negative     positive →")
    _draw_labelled(axes[0, -1], result, names)
    if result["validation"]:
        _draw_validation(axes[1, -1], result["validation"])
    else:
        style.empty(axes[1, -1], "no planted games")
    handles = [Patch(color=colour, label=text) for text, colour in GROUPS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _draw_profile(ax, found: dict) -> None:
    mean = np.array(found["mean"])
    order = np.arange(1, 1 + mean.shape[-1])
    low, high = np.array(found["low"]), np.array(found["high"])
    for side, sign in ((0, 1), (1, -1)):
        bottom = np.zeros(order.size)
        for group, colour in enumerate(GROUPS.values()):
            ax.bar(order, sign * mean[group, side], 0.8, bottom=sign * bottom, color=colour, lw=0)
            if group < 2:  # intervals of the two groups that are compared, side by side
                at = order + (-0.15, 0.15)[group]
                top = bottom + mean[group, side]
                error = np.abs(np.stack([mean[group, side] - low[group, side], high[group, side] - mean[group, side]]))
                ax.errorbar(at, sign * top, error[::sign], fmt="none", ecolor="black", elinewidth=0.6)
            bottom = bottom + mean[group, side]
    panels.order_axes(ax, order.size)
    ax.grid(axis="y")


def _draw_labelled(ax, result: dict, names: list[str]) -> None:
    """Share of the salient effects of each order that most references have, and what chance gives."""
    highest = 0.0
    for name, marker, colour in zip(names, "os", (style.MODELS[2], style.MODELS[1]), strict=False):
        found = result["labels"][f"{name} certified"]
        salient = np.array(found["salient"], float)
        order = np.arange(1, 1 + salient.size)
        seen = salient >= SEEN
        share = np.array(found["labelled"], float)[seen] / salient[seen]
        chance = np.array(found["chance"], float)[seen] / salient[seen]
        ax.plot(order[seen], share, color=colour, marker=marker, ms=3, label=name)
        ax.plot(order[seen], chance, color=colour, marker=marker, mfc="white", ms=2.5, ls=":", lw=1)
        ax.set_xticks(order)
        highest = max([highest, *share, *chance])
    ax.plot([], [], color=style.MUTED, marker="o", mfc="white", ms=2.5, ls=":", lw=1, label="by chance")
    ax.set_title("Labelled (optimum)")
    ax.set_ylabel("share of salient effects")
    ax.set_ylim(0, 1.35 * highest or 1.0)  # room for the legend
    ax.set_xlabel("order |S|")
    ax.grid(axis="y")
    ax.legend(loc="upper right")


def _draw_validation(ax, validation: list[dict]) -> None:
    """Mean error of the spindle share against the number of prompts, at the least noise; hollow without OR effects."""
    noise = min(each["noise"] for each in validation)
    lines = {"effects": {"color": style.MODELS[2], "ls": "-."}} | {method: look(method) for method in LABELS}
    for (method, line), or_too in itertools.product(lines.items(), (True, False)):
        of = noise, method, or_too
        chosen = [each for each in validation if (each["noise"], each["method"], each["or_effects"]) == of]
        prompts, errors = [each["prompts"] for each in chosen], [each["error"][0] for each in chosen]
        hollow = {"mfc": line["color"], "label": NAMES[method]} if or_too else {"mfc": "white"}
        ax.plot(prompts, errors, marker="o", ms=3, lw=1, **hollow, **line)
    ax.axhline(0.05, color=style.MUTED, lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks(prompts, list(map(str, prompts)))
    ax.minorticks_off()
    ax.set_ylim(0, 2.1 * max(each["error"][0] for each in validation if each["noise"] == noise))  # room for the legend
    ax.set_title(f"Planted, noise {noise:.1%}")
    ax.set_ylabel("error of the spindle share")
    ax.set_xlabel("prompts (hollow: no OR)")
    ax.grid(axis="y")
    ax.legend(loc="upper right", fontsize=6.5, handlelength=1.2)


def _claim(result: dict, names: list[str]) -> str:
    if not names:
        return "No model of this zoo has references"
    optimum, and_only = (result["labels"][f"{names[-1]} {method}"] for method in ("certified", "and_only"))
    rest = [each["groups"]["others"] for each in (optimum, and_only)]
    shares = [style.number(np.array(each["spindle_share"], float)[0]) for each in rest]
    return (
        f"Effects of {names[-1]} models that most references lack have a spindle share of {shares[0]} (AND "
        f"only {shares[1]})"
    )


def rows(result: dict) -> list[Row]:
    found = [_validation_row(result["validation"])] if result["validation"] else []
    for name, method in itertools.product(SETS, LABELS):
        if each := result["labels"].get(f"{name} {method}"):
            found += _label_rows(f"{SETS[name]}, {LABELS[method]}", each)
    return found


def _validation_row(validation: list[dict]) -> Row:
    most, players = (max(each[of] for each in validation) for of in ("prompts", "players"))

    def errors(method: str, noise: float) -> str:
        of = method, noise, players, most
        keys = ("method", "noise", "players", "prompts")
        return " / ".join(f"{x['error'][0]:.2f}" for x in validation if tuple(x[key] for key in keys) == of)

    def measured(noise: float) -> str:
        return ", ".join(f"{NAMES[method]} {errors(method, noise)}" for method in NAMES if errors(method, noise))

    claim = f"error of the spindle share, planted with / without OR effects, {most} prompts, {players} players"
    ours = "; ".join(f"noise {noise:.1%}: {measured(noise)}" for noise in NOISES)
    return Row(claim, "none (wanted: under 0.05)", ours)


def _label_rows(of: str, each: dict) -> list[Row]:
    """What is said of a set of models by one method."""
    labelled, others = each["groups"]["labelled"], each["groups"]["others"]
    misfits = " / ".join(with_interval([group["misfit"]] * 3).split()[0] for group in (labelled, others))

    def both(name: str) -> str:
        return f"{with_interval(labelled[name])} / {with_interval(others[name])}"

    def beside_chance(name: str, chance: str) -> str:
        return f"{with_interval(each[name])}, {with_interval(each[chance])}"

    shape = f"{both('spindle_share')} ({misfits}; well above 0.1 the share says little)"
    found = (
        (
            "share of salient effects that most references have, and by chance",
            "none",
            beside_chance("labelled_share_of_salient", "labelled_by_chance"),
        ),
        (
            "share of these that are of orders 1 and 2, and of those that chance labels",
            "none",
            beside_chance("labelled_in_low_orders", "low_orders_by_chance"),
        ),
        (
            "spindle share of effects that most references have / of the others (misfit)",
            "decay / spindle (2502.10162)",
            shape,
        ),
        (
            "strength in orders 1 and 2; strongest order",
            "low / middle (2502.10162)",
            f"{both('low_orders')}; {labelled['peak']} / {others['peak']}",
        ),
        ("balance of positive and negative strength", "low / balanced (2502.10162)", both("balance")),
    )
    return [Row(f"{of}: {claim}", published, ours) for claim, published, ours in found]
