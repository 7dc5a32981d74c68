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
from scipy.stats import rankdata

from andor.measures import metrics
from experiments.generalisation_figure import LINES, PLAIN, SCORES, SPLIT, TESTED, correlation
from experiments.generalisation_figure import draw as draw
from experiments.methods import LABELS, mean_split
from experiments.study import Row, Settings, with_interval
from experiments.zoo_effects import ZooRun, zoo_described, zoo_runs

PROMPT_COUNTS = (1, 3, 10, 30)
DRAWS, SMOKE_DRAWS = 30, 3
REPLICATES, SMOKE_REPLICATES = 500, 10
GIVEN = "certainty"
"""The score without effects that the partial correlation holds fixed."""
OWN_MODELS = True


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
    players = tuple(prompt.n_players for prompt in runs[0].run.prompts)
    kinds = [each.scored.member.kind for each in runs]
    gaps = {
        "gap": np.array([each.scored.gap for each in runs]),
        "validation gap": np.array([each.scored.validation_gap for each in runs]),
        "dev loss": np.array([each.scored.scores["dev"]["cross_entropy"] for each in runs]),
    }
    every = _scores(per_prompt, players, [np.arange(len(players))])
    rng, n_draws = np.random.default_rng(settings.seed), SMOKE_DRAWS if settings.smoke else DRAWS
    counts = [*(count for count in PROMPT_COUNTS if count < len(players)), len(players)]
    scores = {}
    for count in counts:
        draws = list(rng.integers(0, len(players), (n_draws, count)))
        for name, values in _scores(per_prompt, players, draws).items():
            scores[count, name] = Score(every[name] if count == len(players) else values, values)

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
            for name in (f"and_only {SPLIT}", f"published {SPLIT}", *PLAIN)
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


def _numbers(each: ZooRun) -> dict[str, np.ndarray]:
    """What scores are made of, for every prompt: strengths `[prompts, 2, orders]` by method, numbers `[prompts]`."""
    ids = [prompt.id for prompt in each.run.prompts]
    found: dict[str, np.ndarray] = {}
    highest = max(prompt.n_players for prompt in each.run.prompts)
    for method in LABELS:
        strengths = np.zeros((len(ids), 2, highest))
        salient, cancelled = np.zeros(len(ids)), np.zeros(len(ids))
        for row, prompt in enumerate(ids):
            pair = each.pair(method, prompt)
            strength = metrics.order_strength(*pair)
            sides = (
                (strength.positive, strength.negative)
                if each.direction(prompt) > 0
                else (strength.negative, strength.positive)
            )
            strengths[row, :, : strength.positive.size] = np.stack(sides)
            salient[row] = metrics.salient_count(*pair)
            cancelled[row] = metrics.cancellation(strength).overall
        found |= {f"{method} strengths": strengths, f"{method} salient": salient, f"{method} cancellation": cancelled}
    whole = np.array([each.run[each.name, prompt].values.v[-1] for prompt in ids])
    # The whole prompt leaves next to nothing but the two labels, so 1 - p stands for the other label.
    log_p, log_q = -np.logaddexp(0, -whole), -np.logaddexp(0, whole)
    found["certainty"] = np.log(2) + np.exp(log_p) * log_p + np.exp(log_q) * log_q
    found["loss"] = -np.where(each.positive, log_p, log_q)
    return found


def _scores(per_prompt: list[dict], players: tuple[int, ...], draws: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Name of a score, with its method -> `[draws, models]`."""
    found = {}
    for method in LABELS:
        strengths = [each[f"{method} strengths"] for each in per_prompt]
        totals = [each["certified strengths"].sum(axis=(1, 2)) for each in per_prompt]
        profiles = [[_profile(s, t, chosen) for s, t in zip(strengths, totals, strict=True)] for chosen in draws]
        order = np.arange(1, strengths[0].shape[2] + 1)
        found[f"{method} {SPLIT}"] = np.array(
            [
                [mean_split(profile[None], [players[i] for i in chosen]).spindle_share for profile in row]
                for row, chosen in zip(profiles, draws, strict=True)
            ]
        )
        by_order = np.array(profiles).sum(axis=2)  # [draws, models, orders]
        whole = by_order.sum(axis=2)
        found[f"{method} high orders"] = by_order[:, :, 2:].sum(axis=2) / whole
        found[f"{method} mean order"] = (by_order * order).sum(axis=2) / whole
        means = {
            "salient": [each[f"{method} salient"] for each in per_prompt],
            "strength": [s.sum(axis=(1, 2)) for s in strengths],
            "cancellation": [each[f"{method} cancellation"] for each in per_prompt],
        }
        for name, values in means.items():
            found[f"{method} {name}"] = np.array([[np.nanmean(each[chosen]) for each in values] for chosen in draws])
    for name in PLAIN:
        found[name] = np.array([[each[name][chosen].mean() for each in per_prompt] for chosen in draws])
    return found


def _profile(strengths: np.ndarray, totals: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the chosen prompts, each in units of its strength at the optimum (as `andor.runs.results.profile`)."""
    kept = chosen[totals[chosen] > 0]
    return (strengths[kept] / totals[kept, None, None]).sum(axis=0) / max(len(kept), 1)


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
    clusters = [np.flatnonzero(np.array(kinds) == kind) for kind in sorted(set(kinds))]
    rng = np.random.default_rng(settings.seed)
    replicates = []
    for _ in range(SMOKE_REPLICATES if settings.smoke else REPLICATES):
        models = np.concatenate([clusters[i] for i in rng.integers(0, len(clusters), len(clusters))])
        draw = rng.integers(0, len(scores[0].resampled))
        replicates.append(statistic(*(each.resampled[draw][models] for each in scores), truth[models]))
    if np.isnan(replicates).all():
        return estimate, np.nan, np.nan
    return estimate, *np.nanquantile(replicates, [0.025, 0.975])


def _within(every: dict[str, np.ndarray], gap: np.ndarray, architectures: list[str]) -> dict:
    """Correlation with the gap among the models of each architecture, all prompts."""
    of = np.array(architectures)
    return {
        name: {each: _rho(values[0][of == each], gap[of == each]) for each in sorted(set(architectures))}
        for name, values in every.items()
    }


ALSO = {f"certified {name}": f"{SCORES[name]}, {LABELS['certified']}" for name in ("mean order", "strength")}
"""Simpler scores, at the same optimum, that have to be beaten."""


def rows(result: dict) -> list[Row]:
    counts = sorted({each["prompts"] for each in result["correlations"]})
    names = {name: line["label"] for name, line in LINES.items()} | ALSO
    given = [each["rho"] for each in result["partial"]]
    found = [
        Row(
            f"rank correlation of {label} with the train-dev gap, {len(result['models'])} models, "
            f"{' / '.join(map(str, counts))} prompts",
            "none",
            " / ".join(with_interval(correlation(result, count, name)) for count in counts),
        )
        for name, label in names.items()
    ]
    found.append(
        Row(
            f"the same of {names[TESTED]}, given {GIVEN} (partial rank correlation)",
            "none",
            " / ".join(map(with_interval, given)),
        )
    )
    for name in (f"and_only {SPLIT}", f"published {SPLIT}", *PLAIN):
        of_name = [each for each in result["differences"] if each["second"] == name]
        found.append(
            Row(
                f"correlation of {names[TESTED]} less that of {names[name]}, same draws",
                "none",
                " / ".join(with_interval(each["rho"]) for each in of_name),
            )
        )
    return found
