"""Does the spindle share of a few prompts say how far a model's loss on new data is above that on its training data?

Reproduces:  arXiv 2502.10162: effects that do not generalise form a spindle; so the spindle share of a model, measured
             on a few prompts without their labels, should rise with its train-dev gap. Tested on the models of `zoo`:
             Spearman's rank correlation between scores of n prompts (dev sentences that no model was trained on) and
             the true gap of label cross-entropy on SST-2, n = 1, 3, 10, 30, over many draws of prompts; beside it what
             is known without any effect: certainty (1 bit less the entropy of the label) and loss of the same prompts.
Command:     python -m experiments generalisation --corpus DATA
Hardware:    2 CPU cores
Minutes:     7 once the zoo and its effects are there (`spindle`), else 60
Published:   no correlation is published
Intervals:   95%, over prompts and models at once: every replicate takes one draw of n prompts, with replacement (also
             where n is all of them), and resamples the models. Models of one kind share their data (`zoo`: 7 kinds, 3
             architectures of each), so whole kinds are resampled, with replacement. Seven are few: the intervals are
             rather too short than too long. What is given for all prompts is from all of them; for fewer it is the mean
             over draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.stats import rankdata

from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import Resampled, clustered_draw
from andor.measures.profile import Profile, profile, strength
from experiments.lab.methods import LABELS, look
from experiments.lab.zoo_effects import ZooRun, zoo_described, zoo_runs
from experiments.study import Row, Settings, with_interval

PROMPT_COUNTS = (1, 3, 10, 30)
DRAWS, SMOKE_DRAWS = 30, 3
REPLICATES, SMOKE_REPLICATES = 500, 10
GIVEN = "certainty"
"""The score without effects that the partial correlation holds fixed."""
OWN_MODELS = True

SPLIT = "spindle share"
TESTED = f"certified {SPLIT}"
SCORES = {
    SPLIT: "spindle share",
    "high orders": "share of orders ≥ 3",
    "mean order": "mean order",
    "salient": "salient effects",
    "strength": "strength of effects",
    "cancellation": "cancellation",
}
"""Scores from effects, by either method; the first is the one that is tested, the others are for comparison.

Strength is in nats, cancellation that within a prompt.
"""
PLAIN = {"certainty": "certainty", "loss": "loss (needs labels)"}
"""Scores without effects."""

_MARKERS = {"reference": "o", "all": "*", "part": "s", "third": "D", "tenth": "^", "few": "v", "noise": "X"}
LINES = {
    **{f"{method} {SPLIT}": look(method) | {"label": f"{SPLIT}, {LABELS[method]}"} for method in LABELS},
    "certainty": {"color": style.MODELS[2], "ls": "-", "label": "certainty (1 bit less entropy)"},
    "loss": {"color": style.MODELS[3], "ls": "-", "label": "loss (needs labels)"},
}
"""Score of the panel over the number of prompts -> its look and name."""
ALSO = {f"certified {name}": f"{SCORES[name]}, {LABELS['certified']}" for name in ("mean order", "strength")}
"""Simpler scores, at the same optimum, that have to be beaten."""
RIVALS = (f"and_only {SPLIT}", f"published {SPLIT}", *PLAIN)
"""Scores from which the tested one is told apart, on the same draws."""
_POINTS = dict(zip(LINES, "osv^D", strict=True))


@dataclass(frozen=True, eq=False)
class Score:
    """A score of every model from n prompts.

    Attributes:
      estimates: `[draws, models]`, of draws with replacement; of all prompts at once, one row, where n is all of them.
      resampled: `[draws, models]`, of draws with replacement, for the interval.
    """

    estimates: np.ndarray
    resampled: np.ndarray


def measure(settings: Settings) -> dict:
    runs = zoo_runs(settings)
    per_prompt = [_numbers(each) for each in runs]
    n_prompts = len(runs[0].run.prompts)
    kinds = [each.scored.member.kind for each in runs]
    gaps = {
        "gap": np.array([each.scored.gap for each in runs]),
        "validation gap": np.array([each.scored.validation_gap for each in runs]),
        "dev loss": np.array([each.scored.scores["dev"]["cross_entropy"] for each in runs]),
    }
    every = _scores(per_prompt, [np.arange(n_prompts)])
    rng, n_draws = np.random.default_rng(settings.seed), SMOKE_DRAWS if settings.smoke else DRAWS
    counts = [*(count for count in PROMPT_COUNTS if count < n_prompts), n_prompts]
    scores = {}
    for count in counts:
        draws = list(rng.integers(0, n_prompts, (n_draws, count)))
        for name, values in _scores(per_prompt, draws).items():
            scores[count, name] = Score(every[name] if count == n_prompts else values, values)

    def found(statistic: Callable, count: int, names: Sequence[str], against: str = "gap") -> tuple:
        return _interval(statistic, [scores[count, name] for name in names], gaps[against], kinds, settings)

    return {
        "correlations": [
            {"prompts": count, "score": name, "against": against, "rho": found(_rho, count, [name], against)}
            for count, name in scores
            for against in gaps
        ],
        "differences": [
            {"prompts": count, "first": TESTED, "second": name, "rho": found(_difference, count, [TESTED, name])}
            for count in counts
            for name in RIVALS
        ],
        "partial": [
            {"prompts": count, "score": TESTED, "given": GIVEN, "rho": found(_partial, count, [TESTED, GIVEN])}
            for count in counts
        ],
        "within": _within(every, gaps["gap"], [each.scored.architecture for each in runs]),
        "models": [
            {
                "model": each.scored.member.name,
                "kind": each.scored.member.kind,
                **{name: truth[place] for name, truth in gaps.items()},
                **{name: values[0][place] for name, values in every.items()},
            }
            for place, each in enumerate(runs)
        ],
        "draws": n_draws,
        **zoo_described(runs),
    }


def _numbers(each: ZooRun) -> dict[str, np.ndarray | Profile]:
    """What scores are made of: profiles by method, in units of the strength at the optimum, and numbers `[prompts]`."""
    ids = [prompt.id for prompt in each.run.prompts]
    total = np.array([strength(each.pair("certified", p)) for p in ids])
    units = np.where(total > 0, total, 1.0).tolist()
    found: dict[str, np.ndarray | Profile] = {"usable": total > 0}
    for method in LABELS:
        pairs = {p: each.pair(method, p) for p in ids}
        orders = [metrics.order_strength(*np.multiply(each.direction(p), pair)) for p, pair in pairs.items()]
        found |= {
            f"{method} profile": profile(orders, units),
            f"{method} salient": np.array([metrics.salient_count(*pair) for pair in pairs.values()], float),
            f"{method} strength": np.array([strength(pair) for pair in pairs.values()]),
            f"{method} cancellation": np.array([metrics.cancellation(of_prompt).overall for of_prompt in orders]),
        }
    whole = np.array([each.run[each.name, prompt].values.v[-1] for prompt in ids])
    # The whole prompt leaves next to nothing but the two labels, so 1 - p stands for the other label.
    log_p, log_q = -np.logaddexp(0, -whole), -np.logaddexp(0, whole)
    found["certainty"] = np.log(2) + np.exp(log_p) * log_p + np.exp(log_q) * log_q
    found["loss"] = -np.where(each.positive, log_p, log_q)
    return found


def _scores(per_prompt: list[dict], draws: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Name of a score, with its method -> `[draws, models]`."""

    def each_draw(of: Callable[[dict, np.ndarray], float]) -> np.ndarray:
        return np.array([[of(numbers, chosen) for numbers in per_prompt] for chosen in draws])

    found = {}
    for method in LABELS:
        profiles = [
            [each[f"{method} profile"].of(chosen[each["usable"][chosen]]) for each in per_prompt] for chosen in draws
        ]
        found[f"{method} {SPLIT}"] = np.array([[each.split.spindle_share for each in row] for row in profiles])
        found[f"{method} high orders"] = np.array([[1 - each.low_orders for each in row] for row in profiles])
        found[f"{method} mean order"] = np.array([[each.mean_order for each in row] for row in profiles])
        for name in (f"{method} {what}" for what in ("salient", "strength", "cancellation")):
            found[name] = each_draw(lambda numbers, chosen, name=name: np.nanmean(numbers[name][chosen]))
    return found | {name: each_draw(lambda numbers, chosen, name=name: numbers[name][chosen].mean()) for name in PLAIN}


def _rho(values: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's rank correlation over the models for which the score is defined; nan where nothing varies."""
    defined = ~np.isnan(values)
    if defined.sum() < 3 or np.ptp(values[defined]) == 0 or np.ptp(truth[defined]) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(values[defined]), rankdata(truth[defined]))[0, 1])


def _difference(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> float:
    """Correlation of the first score less that of the second."""
    return _rho(first, truth) - _rho(second, truth)


def _partial(values: np.ndarray, given: np.ndarray, truth: np.ndarray) -> float:
    """Partial rank correlation of a score with the truth, given another score."""
    defined = ~(np.isnan(values) | np.isnan(given))
    values, given, truth = values[defined], given[defined], truth[defined]
    with_given, of_given = _rho(values, given), _rho(given, truth)
    unexplained = (1 - with_given**2) * (1 - of_given**2)
    return (_rho(values, truth) - with_given * of_given) / np.sqrt(unexplained) if unexplained > 1e-12 else float("nan")


def _interval(
    statistic: Callable[..., float],
    scores: Sequence[Score],
    truth: np.ndarray,
    kinds: Sequence[str],
    settings: Settings,
) -> tuple[float, float, float]:
    """A statistic of scores and truth over the models, and its interval over draws of prompts and kinds of model.

    All scores get the same draws and models.
    """
    estimates = np.array([statistic(*rows, truth) for rows in zip(*(each.estimates for each in scores), strict=True)])
    estimate = np.nan if np.isnan(estimates).all() else float(np.nanmean(estimates))
    rng = np.random.default_rng(settings.seed)
    replicates = []
    for _ in range(SMOKE_REPLICATES if settings.smoke else REPLICATES):
        models = clustered_draw(kinds, rng)
        draw = rng.integers(0, len(scores[0].resampled))
        replicates.append(statistic(*(each.resampled[draw][models] for each in scores), truth[models]))
    return Resampled(estimate, np.array(replicates)).interval()


def _within(every: dict[str, np.ndarray], gap: np.ndarray, architectures: list[str]) -> dict:
    """Correlation with the gap among the models of each architecture, all prompts."""
    of = np.array(architectures)
    return {
        name: {each: _rho(values[0][of == each], gap[of == each]) for each in sorted(set(architectures))}
        for name, values in every.items()
    }


# ------------------------------------------------------------------------------------------------- drawing


def draw(result: dict) -> Figure:
    """Spindle share against the gap; correlation against the number of prompts; all scores on all prompts."""
    figure = style.new_figure(style.TWO_COLUMNS, 5.0)
    style.title(figure, _claim(result))
    above, below = figure.subfigures(2, 1)
    upper = above.subplots(1, len(LABELS), sharey=True)
    for ax, method in zip(upper, LABELS, strict=True):
        _draw_models(ax, result, method)
    upper[0].set_ylabel("spindle share, all prompts")
    handles, kinds = upper[0].get_legend_handles_labels()
    families = [Patch(color=style.model_colour(i), label=name) for i, name in enumerate(("Llama", "Qwen2"))]
    above.legend(handles=[*families, *handles], labels=["Llama", "Qwen2", *kinds], loc="outside lower center", ncols=9)
    counts, scores = below.subplots(1, 2)
    _draw_counts(counts, result)
    _draw_scores(scores, result)
    return figure


def _draw_models(ax, result: dict, method: str) -> None:
    for kind, marker in _MARKERS.items():
        chosen = [each for each in result["models"] if each["kind"] == kind]
        colours = [style.model_colour(0 if each["model"].startswith("llama") else 1) for each in chosen]
        x, y = ([each[key] for each in chosen] for key in ("gap", f"{method} {SPLIT}"))
        ax.scatter(x, y, c=colours, marker=marker, s=16, lw=0)
        ax.scatter([], [], c=style.MUTED, marker=marker, s=16, lw=0, label=kind)
    most = max(each["prompts"] for each in result["correlations"])
    rho = correlation(result, most, f"{method} {SPLIT}")
    ax.set_title("{}\nρ = {} [{}, {}]".format(LABELS[method], *map(style.number, rho.tolist())))
    ax.set_xlabel("dev less train label cross-entropy, nats")
    ax.set_ylim(0, 1)
    ax.grid()


def _draw_counts(ax, result: dict) -> None:
    counts = sorted({each["prompts"] for each in result["correlations"]})
    for place, (name, line) in enumerate(LINES.items()):
        rho = np.array([correlation(result, count, name) for count in counts])
        x = np.array(counts) * 1.06 ** (place - 2)
        panels.points(ax, x, rho, marker=_POINTS[name], elinewidth=0.7, **line)
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.set_ylim(-1, 1.05)
    ax.set_xlabel("prompts")
    ax.set_ylabel("Spearman's ρ with the gap")
    ax.set_title("From few prompts (95%: draws and kinds of model)")
    ax.grid(axis="y")
    ax.legend(loc="lower right", fontsize=6.5)


def _draw_scores(ax, result: dict) -> None:
    most = max(each["prompts"] for each in result["correlations"])
    names = [*SCORES, *PLAIN]
    for row, name in enumerate(names):
        if name in PLAIN:
            keys = {name: (LINES[name]["color"], _POINTS[name])}
        else:
            keys = {f"{method} {name}": (look(method)["color"], _POINTS[f"{method} {SPLIT}"]) for method in LABELS}
        for place, (key, (colour, point)) in enumerate(keys.items()):
            rho = correlation(result, most, key)
            y = row + (0 if len(keys) == 1 else 0.22 * (place - 1))
            panels.interval_row(ax, y, rho, lw=0.8, color=colour, marker=point)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(names)), [{**SCORES, **PLAIN}[name] for name in names])
    ax.invert_yaxis()
    ax.set_xlim(-1.02, 1.02)
    ax.set_xticks([-1, -0.5, 0, 0.5, 1])
    ax.set_xlabel("Spearman's ρ with the gap")
    ax.set_title(f"All scores, {most} prompts")
    ax.grid(axis="x")


def correlation(result: dict, count: int, score: str, against: str = "gap") -> np.ndarray:
    """Correlation, low, high; nan where it is undefined."""
    (rho,) = (
        each["rho"]
        for each in result["correlations"]
        if (each["prompts"], each["score"], each["against"]) == (count, score, against)
    )
    return np.array(rho, float)


def _claim(result: dict) -> str:
    count = max(each["prompts"] for each in result["correlations"])
    few = min(10, count)
    share, certainty = (style.number(float(correlation(result, few, name)[0])) for name in (TESTED, GIVEN))
    return (
        f"{few} prompts rank {len(result['models'])} models by train-dev gap: ρ {share} by spindle share, {certainty} "
        "by certainty"
    )


def rows(result: dict) -> list[Row]:
    counts = sorted({each["prompts"] for each in result["correlations"]})
    names = {name: line["label"] for name, line in LINES.items()} | ALSO
    of = f"{len(result['models'])} models, {' / '.join(map(str, counts))} prompts"
    numbers = {
        f"rank correlation of {label} with the train-dev gap, {of}": [
            correlation(result, count, name) for count in counts
        ]
        for name, label in names.items()
    }
    partial = [each["rho"] for each in result["partial"]]
    numbers[f"the same of {names[TESTED]}, given {GIVEN} (partial rank correlation)"] = partial
    for name in RIVALS:
        less = [each["rho"] for each in result["differences"] if each["second"] == name]
        numbers[f"correlation of {names[TESTED]} less that of {names[name]}, same draws"] = less
    return [Row(claim, "none", " / ".join(map(with_interval, each))) for claim, each in numbers.items()]
