"""Do effects that generalise decay with their order, and do the others form a balanced spindle?

Reproduces:  arXiv 2502.10162: effects that generalise fall off with their order, the others are strongest at middle
             orders, positive and negative alike. There an effect of a model generalises if a model trained on other
             data for the same task has it too; here, if it is salient (tau = 0.05), of the same sign and on the same
             prompt, in most of four reference models of the same architecture, each trained on a part of SST-2 of its
             own. Before that, the estimator of the split (`andor.spindle`) on planted mixtures, with the effects given
             and with the effects found again from v.
Command:     python -m experiments spindle --corpus DATA
Hardware:    2 CPU cores
Minutes:     30 of one core with the zoo (20) and its effects (5), both shared with `generalisation`; quick 4
Published:   a decay for effects that generalise, a balanced spindle for the others; no estimator of the split
"""

import itertools
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from andor import lattice, metrics, results
from andor.figures import style
from andor.metrics import OrderStrength
from andor.spindle import spindle_split
from experiments.methods import LABELS
from experiments.planted import validate
from experiments.study import Row, Settings, interval, with_interval
from experiments.zoo_effects import ZooRun, zoo_described, zoo_runs

NAMES = LABELS | {"effects": "effects given"}
GROUPS = ("labelled", "other", "weak")
"""Salient and in most references; salient and not so; below the salient threshold."""
SETS = ("regularised", "overfit")
"""Which models are shown together: trained on all data with regularisation; and those that overfit, `OVERFIT`."""
OVERFIT = 0.3
"""Least train-dev gap of label cross-entropy of a model that overfits, nats."""
ORDERS = 10
RESAMPLES, SMOKE_RESAMPLES = 200, 5  # a split takes 15 ms


# ------------------------------------------------------------------------------------------------------- labels


def measure(settings: Settings) -> dict:
    validation = validate(settings)
    runs = zoo_runs(settings)
    references = {}
    for each in runs:
        if each.scored.member.kind == "reference":
            references.setdefault(each.scored.architecture, []).append(each)
    found = {}
    for name in SETS:
        models = [each for each in runs if _set_of(each) == name]
        if models:
            for method in LABELS:
                found[f"{name} {method}"] = _profiles(models, references, method, settings)
    return {"validation": validation, "labels": found, **zoo_described(runs)}


def _set_of(model: ZooRun) -> str | None:
    kind = model.scored.member.kind
    if kind == "all":
        return "regularised"
    return "overfit" if kind != "reference" and model.scored.gap >= OVERFIT else None


@dataclass(frozen=True, eq=False)
class Labelled:
    """Order strengths of one model on one prompt by group of effects, in units of its strength at the optimum.

    Attributes:
      strengths: `[groups, 2, ORDERS]`, positive and negative.
      counts: `[2, ORDERS]`, number of salient effects, and of labelled ones.
      chance: `[ORDERS]`, labelled effects to expect if every reference had its effects on other subsets, drawn by lot
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
    order = lattice.orders(lattice.n_players_of(effects))
    salient = np.stack(metrics.salient(*pair))
    signs = [np.stack(metrics.salient(*other)) * np.sign(np.stack(other)) for other in others]
    votes = sum((sign == np.sign(effects)) & salient for sign in signs)
    generalises = salient & (votes > len(others) / 2)
    groups = (generalises, salient & ~generalises, ~salient)
    strengths = np.zeros((len(GROUPS), 2, ORDERS))
    counts, chance = np.zeros((2, ORDERS)), np.zeros(ORDERS)
    for group, chosen in enumerate(groups):
        strength = metrics.order_strength(*np.where(chosen, effects / unit, 0.0))
        strengths[group, :, : strength.positive.size] = np.stack([strength.positive, strength.negative])
    for row, chosen in enumerate((salient, generalises)):
        counts[row] += np.bincount(np.tile(order, 2)[chosen.ravel()], minlength=ORDERS + 1)[1:]
    for kind, o, sign in itertools.product((0, 1), range(1, order.max() + 1), (-1, 1)):
        of_order = order == o
        own = np.sum(salient[kind, of_order] & (np.sign(effects[kind, of_order]) == sign))
        if own:
            has = [np.mean(each[kind, of_order] == sign) for each in signs]
            chance[o - 1] += own * _majority(has)
    return Labelled(strengths, counts, chance)


def _majority(probabilities: list[float]) -> float:
    """Probability that more than half of independent events happen."""
    distribution = np.ones(1)
    for p in probabilities:
        distribution = np.convolve(distribution, [1 - p, p])
    return float(distribution[np.arange(distribution.size) > len(probabilities) / 2].sum())


def _profiles(models: list[ZooRun], references: dict[str, list[ZooRun]], method: str, settings: Settings) -> dict:
    """Numbers of a set of models by one method: means over models, intervals over prompts."""
    ids = results.prompt_ids(models[0].run)
    players = tuple(prompt.n_players for prompt in models[0].run.prompts)
    found = []  # [prompts][models]
    for prompt in ids:
        row = []
        for model in models:
            optimum = metrics.order_strength(*results.optimum(model.run, model.name, prompt))
            unit = float(optimum.positive.sum() + optimum.negative.sum())
            if unit > 0:
                others = [each.pair(method, prompt) for each in references[model.scored.architecture]]
                unit *= model.direction(prompt)
                row.append(label(model.pair(method, prompt), others, unit))
        found.append(row)
    kept = [place for place, row in enumerate(found) if row]
    strengths = np.array([np.mean([each.strengths for each in found[place]], axis=0) for place in kept])
    counts = np.array([np.sum([each.counts for each in found[place]], axis=0) for place in kept])
    chance = np.array([np.sum([each.chance for each in found[place]], axis=0) for place in kept])
    players = tuple(players[place] for place in kept)
    groups = {
        "labelled": strengths[:, 0],
        "others": strengths[:, 1] + strengths[:, 2],
        "other salient": strengths[:, 1],
    }
    return {
        "models": [model.scored.member.name for model in models],
        "mean": strengths.mean(axis=0),
        "low": _band(strengths, 0.025, settings.seed),
        "high": _band(strengths, 0.975, settings.seed),
        "salient": counts[:, 0].sum(axis=0),
        "labelled": counts[:, 1].sum(axis=0),
        "chance": chance.sum(axis=0),
        "labelled_share_of_salient": _ratio(counts[:, 1].sum(axis=1), counts[:, 0].sum(axis=1), settings.seed),
        "labelled_by_chance": _ratio(chance.sum(axis=1), counts[:, 0].sum(axis=1), settings.seed),
        "labelled_share_of_strength": _ratio(
            strengths[:, 0].sum(axis=(1, 2)), strengths.sum(axis=(1, 2, 3)), settings.seed
        ),
        "groups": {name: _shape(each, players, settings) for name, each in groups.items()},
    }


def _ratio(part: np.ndarray, whole: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Sum over sum, with its interval over prompts; nan of nothing."""
    if not whole.any():
        return (np.nan,) * 3
    return interval(np.stack([part, whole], axis=1), lambda rows: rows[:, 0].sum() / rows[:, 1].sum(), seed=seed)


def _band(samples: np.ndarray, quantile: float, seed: int) -> np.ndarray:
    """A bound of the interval of the mean over prompts, of every entry."""
    chosen = np.random.default_rng(seed).integers(0, len(samples), (1000, len(samples)))
    return np.quantile([samples[each].mean(axis=0) for each in chosen], quantile, axis=0)


def _shape(strengths: np.ndarray, players: tuple[int, ...], settings: Settings) -> dict:
    """Shape of the order profile of some effects, `[prompts, 2, ORDERS]`, with intervals over prompts."""
    order = np.arange(1, ORDERS + 1)
    highest = max(players)
    if not strengths.any():
        return dict.fromkeys(("spindle_share", "mean_order", "low_orders", "positive", "balance"), (np.nan,) * 3)

    def split(chosen):
        positive, negative = strengths[chosen].mean(axis=0)[:, :highest]
        return spindle_split(OrderStrength(positive, negative, tuple(players[i] for i in chosen)))

    def over_prompts(statistic):
        def of_rows(rows):
            chosen = rows.reshape(-1, 2, ORDERS)
            return statistic(chosen) if chosen.any() else np.nan

        return interval(strengths.reshape(len(strengths), -1), of_rows, seed=settings.seed)

    rng = np.random.default_rng(settings.seed)
    repeats = SMOKE_RESAMPLES if settings.smoke else RESAMPLES
    resampled = [split(rng.integers(0, len(strengths), len(strengths))).spindle_share for _ in range(repeats)]
    whole = split(np.arange(len(strengths)))
    return {
        "spindle_share": (whole.spindle_share, *np.nanquantile(resampled, [0.025, 0.975])),
        "misfit": whole.misfit,
        "mean_order": over_prompts(lambda s: (s.sum(axis=(0, 1)) * order).sum() / s.sum()),
        "low_orders": over_prompts(lambda s: s[:, :, :2].sum() / s.sum()),
        "positive": over_prompts(lambda s: s[:, 0].sum() / s.sum()),
        "balance": over_prompts(
            lambda s: 1 - np.abs(s[:, 0].mean(axis=0) - s[:, 1].mean(axis=0)).sum() / s.mean(axis=0).sum()
        ),
        "peak": int(1 + np.argmax(strengths.mean(axis=0).sum(axis=0))),
    }


# ------------------------------------------------------------------------------------------------------ drawing


def draw(result: dict) -> Figure:
    """Above the models trained on all data, below those into overfitting: profiles by label, and the validation."""
    figure = style.new_figure(style.TWO_COLUMNS, 4.6)
    style.title(figure, _claim(result))
    axes = figure.subplots(2, 4)
    names = [name for name in SETS if f"{name} certified" in result["labels"]]
    for row, name in enumerate(SETS):
        for column, method in enumerate(LABELS):
            ax = axes[row, column]
            if name not in names:
                style.empty(ax, "no such models in this run")
                continue
            _draw_profile(ax, result["labels"][f"{name} {method}"])
            if row == 0:
                ax.set_title(LABELS[method])
            if column == 0:
                ax.set_ylabel(f"{name} models\nstrength / total at the optimum\n← negative     positive →")
    for ax in axes[1, :-1]:
        ax.set_xlabel("order |S|")
    _draw_labelled(axes[0, -1], result, names)
    _draw_validation(axes[1, -1], result["validation"])
    handles = [
        Patch(color=colour, label=text)
        for colour, text in zip(
            _COLOURS,
            ("in most reference models", "salient, but not in most", "below the salient threshold"),
            strict=True,
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


_COLOURS = (style.MODELS[3], style.MODELS[4], style.NOISE)


def _draw_profile(ax, found: dict) -> None:
    order = np.arange(1, ORDERS + 1)
    mean = np.array(found["mean"])
    low, high = np.array(found["low"]), np.array(found["high"])
    for side, sign in ((0, 1), (1, -1)):
        bottom = np.zeros(ORDERS)
        for group in range(len(GROUPS)):
            ax.bar(order, sign * mean[group, side], 0.8, bottom=sign * bottom, color=_COLOURS[group], lw=0)
            if group < 2:  # intervals of the two groups that are compared, side by side
                at = order + (-0.15, 0.15)[group]
                top = bottom + mean[group, side]
                error = np.abs(np.stack([mean[group, side] - low[group, side], high[group, side] - mean[group, side]]))
                ax.errorbar(at, sign * top, error[::sign], fmt="none", ecolor="black", elinewidth=0.6)
            bottom = bottom + mean[group, side]
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xticks(order)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{abs(y):g}"))
    ax.grid(axis="y")


def _draw_labelled(ax, result: dict, names: list[str]) -> None:
    """Share of the salient effects of each order that most references have, and what chance gives."""
    order = np.arange(1, ORDERS + 1)
    for name, marker in zip(names, "os", strict=False):
        found = result["labels"][f"{name} certified"]
        salient = np.array(found["salient"], float)
        seen = salient >= 20
        share = np.array(found["labelled"], float)[seen] / salient[seen]
        chance = np.array(found["chance"], float)[seen] / salient[seen]
        colour = style.MODELS[2 - names.index(name)]
        ax.plot(order[seen], share, color=colour, marker=marker, ms=3, label=name)
        ax.plot(order[seen], chance, color=colour, ls=":", lw=1)
    ax.plot([], [], color=style.MUTED, ls=":", lw=1, label="by chance")
    ax.set_title("In most references, optimum")
    ax.set_ylabel("share of salient effects")
    ax.set_ylim(0, None)
    ax.set_xticks(order)
    ax.set_xlabel("order |S|")
    ax.grid(axis="y")
    ax.legend(loc="upper right")


def _draw_validation(ax, validation: list[dict]) -> None:
    """Mean error of the spindle share against the number of prompts."""
    players = max(each["players"] for each in validation)
    looks = {
        "effects": {"color": style.MUTED, "marker": "D"},
        "certified": {"color": style.AND, "marker": "o"},
        "and_only": {"color": style.AND_ONLY, "marker": "s"},
        "published": {"color": style.MODELS[4], "marker": "^"},
    }
    for (method, look), or_too in itertools.product(looks.items(), (True, False)):
        chosen = [
            each
            for each in validation
            if each["players"] == players and each["method"] == method and each["or_effects"] == or_too
        ]
        ax.plot(
            [each["prompts"] for each in chosen],
            [each["error"][0] for each in chosen],
            ms=3,
            lw=1,
            ls="-" if or_too else "--",
            label=NAMES[method] if or_too else None,
            **look,
        )
    ax.axhline(0.05, color=style.MUTED, lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks([each["prompts"] for each in chosen], [str(each["prompts"]) for each in chosen])
    ax.minorticks_off()
    ax.set_ylim(0, 1.6 * max(each["error"][0] for each in validation))  # room for the legend
    ax.set_title("Planted games")
    ax.set_ylabel("error of the spindle share")
    ax.set_xlabel("prompts (dashed: no OR effects)")
    ax.grid(axis="y")
    ax.legend(loc="upper right")


def _claim(result: dict) -> str:
    if not result["labels"]:
        return "No model of this zoo is regularised or overfits"
    name = "overfit" if "overfit certified" in result["labels"] else "regularised"
    low, shares, peaks = [], [], []
    for method in LABELS:
        groups = result["labels"][f"{name} {method}"]["groups"]
        low.append(np.array(groups["labelled"]["low_orders"], float)[0])
        shares.append(np.array(groups["others"]["spindle_share"], float)[0])
        peaks.append(groups["others"].get("peak"))
    return (
        f"{name.capitalize()} models: {low[0]:.0%} of what most references share is in orders 1 and 2 (AND only "
        f"{low[1]:.0%}); the rest has spindle share {shares[0]:.2f} and peaks at order {peaks[0]} (AND only "
        f"{shares[1]:.2f}, order {peaks[1]})"
    )


def rows(result: dict) -> list[Row]:
    validation = result["validation"]
    most = max(each["prompts"] for each in validation)
    players = max(each["players"] for each in validation)
    errors = {
        method: " / ".join(
            f"{each['error'][0]:.2f}"
            for each in validation
            if each["players"] == players and each["prompts"] == most and each["method"] == method
        )
        for method in ("effects", *LABELS)
    }
    found = [
        Row(
            f"error of the spindle share, planted with / without OR effects, {most} prompts, {players} players",
            "none (wanted: under 0.05)",
            "; ".join(f"{NAMES[method]} {error}" for method, error in errors.items()),
        )
    ]
    for name, method in itertools.product(SETS, LABELS):
        if f"{name} {method}" in result["labels"]:
            each = result["labels"][f"{name} {method}"]
            labelled, others = each["groups"]["labelled"], each["groups"]["others"]
            of = f"{name} models, {LABELS[method]}"
            found += [
                Row(
                    f"{of}: share of salient effects that most references have, and by chance",
                    "none",
                    f"{with_interval(each['labelled_share_of_salient'])}, {each['labelled_by_chance'][0]:.2f}",
                ),
                Row(
                    f"{of}: spindle share of effects that most references have / of the others",
                    "decay / spindle (2502.10162)",
                    f"{with_interval(labelled['spindle_share'])} / {with_interval(others['spindle_share'])}",
                ),
                Row(
                    f"{of}: strength in orders 1 and 2; strongest order",
                    "low / middle (2502.10162)",
                    f"{with_interval(labelled['low_orders'])} / {with_interval(others['low_orders'])}; "
                    f"{labelled.get('peak')} / {others.get('peak')}",
                ),
                Row(
                    f"{of}: balance of positive and negative strength",
                    "low / balanced (2502.10162)",
                    f"{with_interval(labelled['balance'])} / {with_interval(others['balance'])}",
                ),
            ]
    return found
