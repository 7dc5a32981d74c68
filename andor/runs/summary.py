"""The numbers of a run: per model, per pair of models, per prompt. A pure function of the saved arrays.

Every number that depends on effects is given three times: for the compact explanation, which is shown; for the
certified optimum; and for the AND-only (Harsanyi) effects of the same v, since part of what these show is cancellation
that the others do without.

Means are over prompts. A prompt whose v(N) = v(∅) has no unit to divide by: it is left out of every mean that needs
one, and counted in `without_unit`. A number that is undefined for a prompt (nan) is left out of its mean.

Order profiles are in units of the prompt's strength (sum of |effects|) at the certified optimum, so that every prompt
weighs the same, and what another explanation is stronger shows. In units of |v(N) - v(∅)| the mean would be that of the
one prompt whose v(N) happens to be next to v(∅). Prompts on which a model of the run has no effect at all are left out
of all profiles, and counted.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from andor.core.certificate import reconstruct
from andor.core.explained import METHODS, Compared, Explained, Pair
from andor.core.lattice import n_players_of
from andor.measures import metrics
from andor.measures.profile import Profile, prompts_with_effects, run_profile
from andor.measures.reported import SHARES, TOP_K, TRANSFER_K, labelled, mean_of_defined, median_of_defined, top_counts
from andor.runs import files
from andor.runs.agreement import agreement


def summarise(run: Compared) -> dict:
    """Summary of a run, as summary.json holds it (there nan is null).

    Returns:
      models      model name -> numbers of `_model_numbers`
      pairs       one object per pair of models: models (two names), and means of `_pair_numbers`
      prompts     prompt id -> target, n_players, models (name -> numbers of `_prompt_numbers`), pairs (as above)
      worst       gap and identity_error over all prompts and models, with the model and prompt where they occur;
                  not_converged: number of solutions that missed their tolerance
    """
    prompts = {
        prompt.id: {
            "target": None if run.target_from(prompt) == "own" else run[run.models[0], prompt.id].target,
            "n_players": prompt.n_players,
            "models": {name: _prompt_numbers(run, name, prompt.id) for name in run.models},
            "pairs": [_pair_numbers(run, pair, prompt.id) for pair in itertools.combinations(run.models, 2)],
        }
        for prompt in run.prompts
    }
    return {
        "models": {name: _model_numbers(run, name, prompts) for name in run.models},
        "pairs": [
            {"models": list(pair), **_means([record["pairs"][index] for record in prompts.values()], skip="models")}
            for index, pair in enumerate(itertools.combinations(run.models, 2))
        ],
        "prompts": prompts,
        "worst": {
            "gap": _worst(prompts, "gap"),
            "identity_error": _worst(prompts, "identity_error"),
            "not_converged": sum(
                numbers["status"] != "converged" for record in prompts.values() for numbers in record["models"].values()
            ),
        },
    }


def table(summary: Mapping) -> list[dict]:
    """The numbers of every prompt under every model as flat rows of one table: prompt, model, and what
    `_prompt_numbers` gives, with names like "certified_salient"."""
    rows = []
    for prompt, record in summary["prompts"].items():
        for model, numbers in record["models"].items():
            row = {"prompt": prompt, "model": model, "n_players": record["n_players"]}
            for name, value in numbers.items():
                value = " ".join(value) if name == "warnings" else value
                nested = {f"{name}_{key}": x for key, x in value.items()} if isinstance(value, dict) else {name: value}
                row |= nested
            rows.append(row)
    return rows


def certain_table(run: Compared) -> list[dict]:
    """Effects of the certified optima that have an interval as flat rows: prompt, model, kind, words, effect (nats),
    and at_least and at_most of its size in all that is nearly optimal. Empty where no intervals were asked for."""
    return [
        {
            "prompt": prompt.id,
            "model": name,
            "kind": each.kind,
            "words": " ".join(each.words),
            "effect": each.effect,
            "at_least": at_least,
            "at_most": at_most,
        }
        for prompt in run.prompts
        for name in run.models
        if run[name, prompt.id].intervals is not None
        for each, at_least, at_most in run[name, prompt.id].certain(len(run[name, prompt.id].intervals))
    ]


def _certain(explanation: Explained) -> dict:
    """What is certain of the optimum: effects (that have an interval), surely_there (of these, in all that is nearly
    optimal), low_orders_at_least and low_orders_at_most (share of orders 1 and 2). nan where nobody asked."""
    found = explanation.intervals
    if found is None:
        return dict.fromkeys(("effects", "surely_there", "low_orders_at_least", "low_orders_at_most"), float("nan"))
    at_least, at_most = found.low_orders
    return {
        "effects": len(found),
        "surely_there": found.surely_there,
        "low_orders_at_least": at_least,
        "low_orders_at_most": at_most,
    }


def _prompt_numbers(run: Compared, name: str, prompt_id: str) -> dict:
    """Numbers of one prompt under one model.

    target_probability, rise (v(N) - v(∅), nats), gap (certified), identity_error (largest |v - effects - noise| over
    the range of v), noise_bound (of the optimum, nats), status, steps, score (of the values), tokens, seconds (of the
    evaluation), spread (standard deviation of v over the masks), shown (`_shown`), certain (`_certain`), warnings
    (sentences), and compact, certified and and_only (`_effect_numbers`; in a run with labels also unreliable,
    `Explanation.unreliable`).
    """
    explanation = run[name, prompt_id]
    values, solution = explanation.values, explanation.solution
    rebuilt = reconstruct(solution.and_effects, solution.or_effects) + solution.noise
    error, spread = float(np.abs(values.v - rebuilt).max()), float(np.ptp(values.v))
    return {
        "target_probability": values.target_probability,
        "rise": float(values.v[-1] - values.v[0]),
        "gap": float(solution.gap),
        "identity_error": error / spread if spread > 0 else error,
        "noise_bound": float(solution.noise_bound),
        "status": solution.status,
        "steps": int(solution.steps),
        "score": values.score,
        "tokens": values.tokens_evaluated,
        "seconds": values.seconds,
        "spread": explanation.trust.spread,
        "shown": _shown(explanation),
        "certain": _certain(explanation),
        "warnings": list(explanation.warnings),
        **{
            kind: _effect_numbers(values.v, explanation.pair(kind), run.tau)
            | ({"unreliable": explanation.unreliable(kind)} if labelled(run) else {})
            for kind in METHODS
        },
    }


def _shown(explanation: Explained) -> dict:
    """What the compact explanation gives and gives up: count, r2, worst_error (nats), error_in_spreads, excess
    (strength / least strength for as large errors), walsh_r2 (of as many Walsh coefficients)."""
    compact, spread = explanation.compact, explanation.trust.spread
    return {
        "count": compact.count,
        "r2": compact.r2,
        "worst_error": compact.worst_error,
        "error_in_spreads": compact.worst_error / spread if spread > 0 else float("nan"),
        "excess": compact.excess,
        "walsh_r2": metrics.walsh_r2(explanation.values.v, compact.count),
    }


def _effect_numbers(v: np.ndarray, pair: Pair, tau: float) -> dict:
    """salient (number), strength (sum of |effects|, nats), r2_top_1%, _3%, _5%, _10%, r2_top_100, cancellation (over
    the effects of all orders together)."""
    *counts, top = top_counts(n_players_of(v))
    return {
        "salient": metrics.salient_count(*pair, tau),
        "strength": float(metrics.sparsity_curve(*pair).sum()),
        f"r2_top_{TOP_K}": metrics.matching(v, *pair, k=top).r2,
        **{f"r2_top_{share:.0%}": metrics.matching(v, *pair, k=k).r2 for share, k in zip(SHARES, counts, strict=True)},
        "cancellation": metrics.cancellation(metrics.order_strength(*pair)).overall,
    }


def _pair_numbers(run: Compared, pair: Sequence[str], prompt_id: str) -> dict:
    """Two models on one prompt: of the compact explanations shown_overlap, correlation, noise_overlap and
    shuffled_overlap (`andor.runs.agreement.Agreement`); of the optima overlap, and s_and and s_or at each k, nan where
    neither model has k effects of the kind."""
    agrees = agreement(*(run[name, prompt_id] for name in pair), seed=int(files.key_of(prompt_id)[:8], 16))
    first, second = (run[name, prompt_id].pair() for name in pair)
    ranges = tuple(run[name, prompt_id].range for name in pair)
    transfers = [metrics.transfer(first, second, k) for k in TRANSFER_K]
    return {
        "models": list(pair),
        "shown_overlap": agrees.overlap,
        "correlation": agrees.correlation,
        "noise_overlap": agrees.noise,
        "shuffled_overlap": agrees.shuffled,
        "overlap": metrics.weighted_overlap(first, second, ranges),
        **{f"s_and_{each.k}": each.s_and if each.and_effects >= each.k else np.nan for each in transfers},
        **{f"s_or_{each.k}": each.s_or if each.or_effects >= each.k else np.nan for each in transfers},
    }


def _model_numbers(run: Compared, name: str, prompts: dict) -> dict:
    """Numbers of one model over all prompts.

    prompts, without_unit, without_effects (numbers of prompts), target_probability, rise (means), worst_gap,
    worst_identity_error, tokens, seconds (sums), with_warnings (number of prompts), shown (medians of `_shown`), and
    for every method means of `_effect_numbers`; and the order profile (see above): positive, negative (entry o - 1 is
    order o), relative_strength (their sum, 1 for certified), low_orders (share of orders 1 and 2), spindle_share and
    spindle_misfit.
    """
    numbers = [record["models"][name] for record in prompts.values()]
    summary = {
        "prompts": len(numbers),
        "without_effects": len(numbers) - len(prompts_with_effects(run)),
        "without_unit": sum(each["rise"] == 0 for each in numbers),
        "target_probability": mean_of_defined([each["target_probability"] for each in numbers]),
        "rise": mean_of_defined([each["rise"] for each in numbers]),
        "worst_gap": max(each["gap"] for each in numbers),
        "worst_identity_error": max(each["identity_error"] for each in numbers),
        "tokens": sum(each["tokens"] for each in numbers),
        "seconds": sum(each["seconds"] for each in numbers),
        "with_warnings": sum(bool(each["warnings"]) for each in numbers),
        "shown": _medians([each["shown"] for each in numbers]),
    }
    for kind in METHODS:
        summary[kind] = _means([each[kind] for each in numbers]) | _order_numbers(run_profile(run, name, kind))
    return summary


def _order_numbers(profile: Profile) -> dict:
    if not profile.players:
        nan = float("nan")
        return {"positive": [], "negative": []} | dict.fromkeys(
            ("relative_strength", "low_orders", "spindle_share", "spindle_misfit"), nan
        )
    split = profile.split
    return {
        "positive": profile.mean.positive.tolist(),
        "negative": profile.mean.negative.tolist(),
        "relative_strength": profile.total,
        "low_orders": profile.low_orders,
        "spindle_share": split.spindle_share,
        "spindle_misfit": split.misfit,
    }


def _worst(prompts: dict, what: str) -> dict:
    value, model, prompt = max(
        (numbers[what], model, prompt)
        for prompt, record in prompts.items()
        for model, numbers in record["models"].items()
    )
    return {"value": value, "model": model, "prompt": prompt}


def _medians(records: list[dict]) -> dict:
    return {key: median_of_defined([record[key] for record in records]) for key in records[0]}


def _means(records: list[dict], skip: str | None = None) -> dict:
    return {key: mean_of_defined([record[key] for record in records]) for key in records[0] if key != skip}
