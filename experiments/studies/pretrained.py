"""Pretrained language models: do the published claims on AND-OR effects hold, by certified effects and beside controls?

Reproduces: the claims of arXiv 2305.01939, 2401.16318, 2502.10162 and 2606.08129 on models that others trained. Every
            claim has what would refute it, written before any v was evaluated (`CLAIMS`), and controls. A claim takes
            several things to hold, each under every mask; its p is the largest of theirs (an intersection-union test),
            and it holds where p, adjusted by Holm over the six claims, is below 0.05. It fails where one of these
            things is the other way, p below 0.05 by Bonferroni over them, and is open where it does neither.
Prompts:    64 of our own (pretrained.jsonl: facts, reasoning in two steps, code; seven players each, words that hold
            the answer, marked when the sentence was written), and with --corpus the ten of the demo and every 28th of
            the 700 SQuAD beginnings of arXiv 2401.16318, of whose players the seven nearest to the target are taken.
            The last word is never a player. The target is one text for all models, since effects of different targets
            cannot be shared: the written answer; of demo and SQuAD, which have none, the word that every model predicts
            first. Kept is a prompt whose target has p >= 0.3 under each model, and on which |v(N) - v(∅)| is at least
            the spread of v under each model and mask; what falls out under a mask is not evaluated under the next. How
            many fall out, and why, is in the result.
Masks:      masked words deleted, and replaced by the mean embedding: neither needs a token of its own.
Effects:    R² of the compact explanation (20 effects at most), of the optimum's and Walsh's strongest; orders of the
            certified optimum at six bounds on the noise, in units of the spread of v, and at the estimated one;
            overlap as `andor.runs.agreement` has it.
Command:    python -m experiments pretrained --models A B C --corpus DATA
            For instance --models Qwen/Qwen2.5-7B deepseek-ai/DeepSeek-R1-Distill-Llama-8B on one GPU. DATA holds
            squad_next_word/first_700.jsonl and symtrust_demo/prompts.jsonl. Values that are in WORK are read, so that
            a run that was stopped goes on; all that is behind them takes minutes.
Hardware:   2 CPU cores for models of up to half a billion parameters, one GPU for the seed's pair
Minutes:    60
Published:  about 100 effects suffice; strength decays with the order; models share a third to half of their strongest
            effects, of lower order and with less cancellation; more so better models; worse ones have a spindle

Intervals resample models (or pairs of them) and prompts, both with replacement (two-way bootstrap); of two or three
models that says little about other models. Differences between given models resample prompts alone.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import andor
from andor.core.explained import Pair
from andor.core.values import Values
from andor.evaluation import MATMUL_PRECISION
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import REPEATS, Resampled, crossed_draws, holm
from andor.measures.profile import Profile, profile, strength
from andor.measures.reported import mean_of_defined
from andor.measures.sharing import groups
from andor.models import find
from andor.prompts import Prompt, read_mask, read_prompts
from andor.runs import cache, files
from andor.runs.agreement import agreement, overlap, under_other_mask
from andor.runs.explanation import MOST_SHOWN
from andor.runs.run import Run
from experiments.lab.controls import optimum_and_compact, permuted, random_model
from experiments.study import Row, Settings, comparison, described, with_interval

NEEDS_MODELS = True

OWN = Path(__file__).with_suffix(".jsonl")
SQUAD, DEMO = "squad_next_word/first_700.jsonl", "symtrust_demo/prompts.jsonl"
EVERY = 28
"""Of the SQuAD beginnings every so many-th is taken."""

PLAYERS = {"full": 7, "quick": 7, "smoke": 3}
"""Of each prompt at most."""

CANDIDATES = {"full": 1, "quick": 4, "smoke": 32}
"""Every so many-th candidate is taken."""

LEAST_P = 0.3
"""Of the target under each model; smoke runs keep every prompt."""

MASKS = ("delete", "mean")

BOUNDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
"""On the noise, in units of the spread of v; beside them the bound that is estimated from v."""

AUTO = "estimated"

JUDGED = (*BOUNDS[3:], AUTO)
"""Bounds at which strength is to decay, near the published one; at smaller ones every wiggle of v is an effect."""

MANY = 100
"""Effects that are said to suffice."""

RANDOM_PROMPTS = {"full": 12, "quick": 4, "smoke": 1}
"""Prompts on which models of random weights are evaluated, under the first mask: they take as long as trained ones."""


class Resampling(NamedTuple):
    """How often clusters and prompts are drawn: of most numbers, and of spindle shares, which take 15 ms each, on a
    curve and in a test."""

    repeats: int
    on_curve: int
    in_test: int
    seed: int = 0


RESAMPLING = {"full": Resampling(REPEATS, 60, 400), "quick": Resampling(500, 30, 60), "smoke": Resampling(20, 2, 5)}

CHANCE = 10
"""Shuffles behind what shared and distinctive effects are by chance."""

SOLVED = 512
"""Rows of v in one solve."""

KINDS = {"model": "model", "permuted": "v permuted within mask sizes", "random": "random weights"}
"""Kinds of v -> what they are called."""

R2 = {
    "compact": f"compact, {MOST_SHOWN} effects",
    "walsh": f"Walsh, top {MOST_SHOWN}",
    "pairs": "words and pairs",
    "optimum_many": f"optimum, top {MANY}",
}
"""Ways of giving v by few numbers -> what they are called."""

OVERLAPS = {
    "overlap": "two models",
    "other_mask": "each under the other mask",
    "noise": "each with matched noise",
    "other_prompt": "two models, two prompts",
    "shuffled": "shuffled within orders",
}

TOGETHER = "all"

LEVEL = 0.05


class Claim(NamedTuple):
    """What figures call a claim, the published sentence, and what would refute it, written before looking."""

    title: str
    published: str
    refuted_by: str


CLAIMS = {
    "few": Claim(
        "Few effects suffice",
        "few AND-OR effects give v on all masks (2305.01939, 2401.16318)",
        f"R² of {MOST_SHOWN} effects below 0.9, or no more than that of {MOST_SHOWN} Walsh coefficients, of v permuted "
        "within mask sizes, or of random weights",
    ),
    "decay": Claim(
        "Strength decays with order",
        "strength decays with the order (2502.10162)",
        "orders 1 and 2 carry less than half, or no more than of permuted v, at the estimated bound on the noise or at "
        "5, 10 or 20% of the spread of v (published are 2 to 5% of |v(N) - v(∅)|, which is several times the spread)",
    ),
    "shared": Claim(
        "Two models share most",
        "two models share most of their effects (2401.16318, the article)",
        "less than half of the strength is in effects that both have, or the overlap is no more than that of each "
        "model with itself under the other mask or with matched noise, of shuffled effects, or of another prompt",
    ),
    "simpler": Claim(
        "Shared effects are simpler",
        "shared effects are of lower order and cancel less (2606.08129)",
        "either difference from distinctive effects is no more than with effects shuffled within orders",
    ),
    "better": Claim(
        "More so in better models",
        "better models share more, and more simply (the article)",
        "the two models of least loss do not overlap more than the two of most, or orders 1 and 2 carry no more in the "
        "model of least loss than in that of most",
    ),
    "spindle": Claim(
        "Larger spindle if weaker",
        "effects of a worse model form a spindle (2502.10162)",
        "the model of most loss has no larger spindle share than the one of least",
    ),
}
"""Loss: mean -log p of the written answers, over all candidates."""


# Prompts and values


def candidates(settings: Settings) -> list[Prompt]:
    """All prompts before any model has seen one; those of demo and SQuAD have no target."""
    found = read_prompts(OWN)
    if settings.corpus is not None:
        squad = read_prompts(settings.corpus / SQUAD)[::EVERY]
        found += [dataclasses.replace(each, target=None) for each in (*read_prompts(settings.corpus / DEMO), *squad)]
    every = CANDIDATES[settings.scale]
    return [_with_players(prompt, PLAYERS[settings.scale]) for prompt in found[::every]]


def _with_players(prompt: Prompt, most: int) -> Prompt:
    """The prompt with the players nearest to the target, its last word not among them."""
    last = prompt.text.rstrip().rfind(" ") + 1
    return dataclasses.replace(prompt, players=[span for span in prompt.players if span[1] <= last][-most:])


def screened(run: Run, prompts: Sequence[Prompt], least: float) -> tuple[list[Prompt], dict]:
    """The prompts with the target that all models have in common, where each gives it p of at least `least`.

    Args:
      run: the prompts with one player each, and own targets where they have none.

    Returns:
      The prompts, and why the others fell out: how many, in all and by kind, and how many under each model by itself.
    """
    kept, unlike = [], []
    p = {label: {} for label in run.labels.values()}
    read = {prompt.id for prompt in run.prompts}
    for prompt in prompts:
        if prompt.id in read:
            values = [run[model, prompt.id].values for model in run.models]
            for label, each in zip(p, values, strict=True):
                p[label][prompt.id] = each.target_probability
            if len({each.target for each in values}) > 1:
                unlike.append(prompt.id)
            elif min(each.target_probability for each in values) >= least:
                kept.append(dataclasses.replace(prompt, target=values[0].target, exact=True))
    low = {label: [name for name, each in of_model.items() if each < least] for label, of_model in p.items()}
    fallen = {prompt.id for prompt in prompts} - {prompt.id for prompt in kept}
    return kept, {
        "candidates": _by_kind([prompt.id for prompt in prompts]),
        "unreadable": [each.id for each in run.skipped],
        "different_predictions": _by_kind(unlike),
        "low_p": {label: _by_kind(names) for label, names in low.items()},
        "after_p": _by_kind([prompt.id for prompt in kept]),
        "fallen_by_p": sorted(fallen),
        "loss": {
            label: float(np.mean([-np.log(of_model[each.id]) for each in prompts if each.target and each.id in read]))
            for label, of_model in p.items()
        },
        "p": p,
    }


def _by_kind(ids: Sequence[str]) -> dict[str, int]:
    """Number of prompts by what their ids begin with, and of all."""
    kinds = [name.rpartition("-")[0] for name in ids]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)} | {TOGETHER: len(ids)}


def _small_range(run: Run, least: float) -> dict[str, list[str]]:
    """Label of a model -> ids of the prompts on which its |v(N) - v(∅)| is below `least` times the spread of v."""

    def is_small(explained) -> bool:
        spread = explained.values.v.std()
        return not (spread > 0 and explained.range >= least * spread)

    return {
        run.labels[model]: [each.id for each in run.prompts if is_small(run[model, each.id])] for model in run.models
    }


def random_values(
    model: str, prompts: Sequence[Prompt], mask: str, settings: Settings
) -> Float[np.ndarray, "prompts s"]:
    """v of the model's architecture with random weights, on prompts with targets; kept in WORK."""
    found, root = find(model), settings.work / "runs" / "random-weights"
    dtype = found.dtype_on(None, settings.dtype)
    name = f"{found.family.model_type}, random weights"
    decides = (found.fingerprint, settings.seed, str(dtype), MATMUL_PRECISION, read_mask(mask, found.tokenizer).key)
    loaded = functools.cache(lambda: random_model(model, settings.dtype, settings.seed))  # only where v is missing

    def evaluated(prompt: Prompt) -> Values:
        return andor.evaluate(loaded(), prompt, baseline=mask)

    values, by = [], "python -m experiments pretrained"
    for prompt in prompts:
        key = files.key_of("random weights", *decides, prompt.text, prompt.players, prompt.target)
        made = functools.partial(evaluated, prompt)
        values.append(cache.kept_values(root, name, prompt.id, made, key=key, made_by=by).v)
    print(f"random weights, {Path(model).name}: {len(values)} prompts", flush=True)
    return np.array(values)


# Numbers of one v


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One kind of v under one mask: `[models, prompts]`.

    Attributes:
      numbers: name of a number -> `[models, prompts]`: R² (`R2`), and salient effects of the optimum at the estimated
        bound.
      strengths: `[models, prompts, bounds + 1, 2, orders]`, positive and negative strength of the optimum at `BOUNDS`,
        then at the estimated bound, over its sum.
      pairs: all effects of the optimum at the estimated bound, `[models][prompts]`.
    """

    numbers: dict[str, Float[np.ndarray, "models prompts"]]
    strengths: Float[np.ndarray, "models prompts bounds 2 orders"]
    pairs: list[list[Pair]]


def _sample(v: Float[np.ndarray, "models prompts s"], found: list[list[tuple[Pair, Pair]]] | None = None) -> Sample:
    """Every number of v; `found` are its (optimum, compact) effects at the estimated bound, made here unless given."""
    models, prompts, size = v.shape
    flat = v.reshape(-1, size)
    if found is None:
        pairs = [optimum_and_compact(each) for each in flat]
    else:
        pairs = [each for of_model in found for each in of_model]
    numbers = {
        "compact": [metrics.matching(each, *few, MOST_SHOWN).r2 for each, (_, few) in zip(flat, pairs, strict=True)],
        "walsh": [metrics.walsh_r2(each, MOST_SHOWN) for each in flat],
        "pairs": [metrics.low_order_r2(each) for each in flat],
        "optimum_many": [metrics.matching(each, *all_, MANY).r2 for each, (all_, _) in zip(flat, pairs, strict=True)],
        "salient": [metrics.salient_count(*all_) for all_, _ in pairs],
    }
    at_bounds = [
        [*by_bound, all_] for by_bound, (all_, _) in zip(_optima(flat), pairs, strict=True)
    ]  # `[v][bounds + 1]`
    strengths = np.array([[_normalised(pair) for pair in of_v] for of_v in at_bounds])
    return Sample(
        {name: np.array(each, float).reshape(models, prompts) for name, each in numbers.items()},
        strengths.reshape(models, prompts, *strengths.shape[1:]),
        [[pairs[at * prompts + p][0] for p in range(prompts)] for at in range(models)],
    )


def _optima(v: Float[np.ndarray, "rows s"]) -> list[list[Pair]]:
    """The optimum of each v at each of `BOUNDS`."""
    rows, bounds = np.repeat(v, len(BOUNDS), axis=0), np.tile(BOUNDS, len(v))
    found = []
    for start in range(0, len(rows), SOLVED):
        part = slice(start, start + SOLVED)
        solution = andor.extract(rows[part], bounds[part], noise_unit="spread")
        found += zip(solution.and_effects, solution.or_effects, strict=True)
    return [found[at : at + len(BOUNDS)] for at in range(0, len(found), len(BOUNDS))]


def _normalised(pair: Pair) -> Float[np.ndarray, "2 orders"]:
    of = metrics.order_strength(*pair)
    return np.stack([of.positive, of.negative]) / (strength(pair) or 1.0)


def _profile(strengths: Float[np.ndarray, "*any 2 orders"]) -> Profile:
    """Profile of normalised strengths of any number of v."""
    rows = strengths.reshape(-1, *strengths.shape[-2:])
    n_players = (rows.shape[-1],)
    return profile([metrics.OrderStrength(*row, n_players) for row in rows], [1.0] * len(rows))


# Two models


def _agreements(runs: dict[str, Run], mask: str, ids: Sequence[str], seed: int) -> dict:
    """Name of `OVERLAPS`, "correlation" of v and "in_both" -> `[pairs, prompts]`."""
    run, (other,) = runs[mask], [runs[each] for each in runs if each != mask]
    pairs = list(itertools.combinations(run.models, 2))
    itself = under_other_mask(run, other)
    place = {prompt.id: at for at, prompt in enumerate(run.prompts)}
    found: dict = {name: np.full((len(pairs), len(ids)), np.nan) for name in (*OVERLAPS, "correlation", "in_both")}
    for row, pair in enumerate(pairs):
        for column, prompt_id in enumerate(ids):
            first, second = (run[model, prompt_id] for model in pair)
            each = agreement(first, second, seed)
            elsewhere = run[pair[1], ids[(column + 1) % len(ids)]]
            there = first, elsewhere
            found["overlap"][row, column] = each.overlap
            found["correlation"][row, column] = each.correlation
            found["noise"][row, column] = each.noise
            found["shuffled"][row, column] = each.shuffled
            found["other_mask"][row, column] = np.mean([itself[model][place[prompt_id]] for model in pair])
            found["other_prompt"][row, column] = overlap([e.values.v for e in there], [e.compact.pair for e in there])
            found["in_both"][row, column] = _in_both(first.compact.pair, second.compact.pair)
    return found


def _in_both(first: Pair, second: Pair) -> float:
    """Share of the strength that is in effects that the other has too, with the same sign; mean of both."""
    one, two = (np.concatenate([pair[0][1:], pair[1]]) for pair in (first, second))
    common = one * two > 0
    return float(np.mean([np.abs(each[common]).sum() / (np.abs(each).sum() or np.nan) for each in (one, two)]))


def _differences(first: Pair, second: Pair, rng: np.random.Generator) -> tuple[float, float]:
    """Mean order, and cancellation of equally many, of distinctive less shared salient effects; mean of both models."""
    found = groups((first, second), rng)
    return tuple(
        float(np.mean([getattr(each["distinctive"], what) - getattr(each["shared"], what) for each in found]))
        for what in ("order", "matched")
    )


def _simpler(pairs: list[list[Pair]], seed: int) -> dict[str, np.ndarray]:
    """ "order", "cancellation" and the same by "chance" and "beyond": `[pairs of models, prompts]`."""
    rng = np.random.default_rng(seed)
    rows = []
    for first, second in itertools.combinations(pairs, 2):
        rows.append([])
        for one, two in zip(first, second, strict=True):
            by_chance = [_differences(one, metrics.shuffled(two, rng), rng) for _ in range(CHANCE)]
            chance = [mean_of_defined(column) for column in np.transpose(by_chance)]
            rows[-1].append((_differences(one, two, rng), chance))
    table = np.array(rows)  # [pairs, prompts, (measured, by chance), (order, cancellation)]
    return {
        name: {
            "measured": table[:, :, 0, at],
            "chance": table[:, :, 1, at],
            "beyond": table[:, :, 0, at] - table[:, :, 1, at],
        }
        for at, name in enumerate(("order", "cancellation"))
    }


# The measurement


def measure(settings: Settings) -> dict:
    """Which prompts are kept, numbers of every kind of v, what two models share, and what becomes of each claim."""
    if len(settings.models) < 2:
        raise ValueError(f"pretrained compares models; got --models {' '.join(settings.models)}. Give two or more.")
    prompts, smoke = candidates(settings), settings.smoke
    how = RESAMPLING[settings.scale]._replace(seed=settings.seed)
    one_player = [dataclasses.replace(prompt, players=prompt.players[-1:]) for prompt in prompts]
    first = comparison(settings, prompts=one_player, own_targets=True)
    chosen, fallen = screened(first, prompts, 0.0 if smoke else LEAST_P)
    ids, runs, small = [prompt.id for prompt in chosen], {}, {}
    for mask in MASKS:
        if len(ids) > 1:
            left = [prompt for prompt in chosen if prompt.id in ids]
            runs[mask] = comparison(settings, prompts=left, baseline=mask, noise="auto")
            small[mask] = _small_range(runs[mask], 0.0 if smoke else 1.0)
            fell = {name for names in small[mask].values() for name in names}
            ids = [prompt.id for prompt in runs[mask].prompts if prompt.id not in fell]
            print(f"values of {len(left)} prompts, {mask}: done", flush=True)
    if len(ids) < 2:
        raise ValueError(
            f"pretrained keeps {len(ids)} of {len(prompts)} prompts with these models ({len(chosen)} have a target "
            f"with p of at least {LEAST_P} in all): too few. Give models that know more, or more prompts with --corpus."
        )
    of_kind = _samples(runs, ids, settings)
    labels = [first.labels[model] for model in first.models]
    pairs = [" and ".join(pair) for pair in itertools.combinations(labels, 2)]
    two = {mask: _agreements(runs, mask, ids, settings.seed) for mask in runs}
    simpler = {mask: _simpler(of_kind[mask]["model"].pairs, settings.seed) for mask in runs}
    print("agreements: done", flush=True)
    by_loss = np.argsort([fallen["loss"][label] for label in labels])
    both = [ids.index(each.id) for each in some_of(runs[MASKS[0]].prompts, settings) if each.id in ids]
    tests = _tests(of_kind, two, simpler, both, by_loss, how)
    return {
        "runs": [described(run) for run in (first, *runs.values())],
        "models": [
            {"label": each.label, "parameters": each.parameters, "loss": fallen["loss"][each.label]}
            for each in first.recipe.models
        ],
        "prompts": {name: each for name, each in fallen.items() if name not in ("p", "loss")}
        | {"small_range": small, "kept": _by_kind(ids), "players": chosen[0].n_players},
        "p": {label: {name: round(each, 4) for name, each in of.items()} for label, of in fallen["p"].items()},
        "kept": ids,
        "bounds": [*BOUNDS, AUTO],
        "estimated_bound": {
            mask: {run.labels[m]: _estimated_bound([run[m, name] for name in ids]) for m in run.models}
            for mask, run in runs.items()
        },
        "r2": {mask: _r2(samples, labels, how) for mask, samples in of_kind.items()},
        "curves": {mask: _curves(samples, labels, how) for mask, samples in of_kind.items()},
        "pairs": {mask: _of_pairs(each, pairs, how) for mask, each in two.items()},
        "simpler": {
            mask: {
                what: {name: _mean(table, how).interval() for name, table in of.items()} for what, of in each.items()
            }
            for mask, each in simpler.items()
        },
        "claims": _verdicts(tests),
        "by_prompt": {
            mask: {
                "r2": dict(zip(labels, np.round(samples["model"].numbers["compact"], 3).tolist(), strict=True)),
                "overlap": dict(zip(pairs, np.round(two[mask]["overlap"], 3).tolist(), strict=True)),
                "correlation": dict(zip(pairs, np.round(two[mask]["correlation"], 3).tolist(), strict=True)),
            }
            for mask, samples in of_kind.items()
        },
    }


def _estimated_bound(explained: Sequence) -> float:
    return float(np.median([each.solution.noise_bound / each.values.v.std() for each in explained]))


def _samples(runs: dict[str, Run], ids: Sequence[str], settings: Settings) -> dict[str, dict[str, Sample]]:
    """Mask -> kind of v -> its numbers; random weights under the first mask alone, on some of the prompts."""
    rng = np.random.default_rng(settings.seed)
    found = {}
    for mask, run in runs.items():
        explained = [[run[model, name] for name in ids] for model in run.models]
        v = np.array([[each.values.v for each in of_model] for of_model in explained])
        effects = [[(each.pair(), each.pair("compact")) for each in of_model] for of_model in explained]
        mixed = np.array([[permuted(each, rng) for each in of_model] for of_model in v])
        found[mask] = {"model": _sample(v, effects), "permuted": _sample(mixed)}
        if mask == MASKS[0]:
            some = some_of(run.prompts, settings)
            values = np.array([random_values(model, some, mask, settings) for model in run.models])
            found[mask]["random"] = _sample(values[:, [prompt.id in ids for prompt in some]])
        print(f"effects of {', '.join(found[mask])}, {mask}: done", flush=True)
    return found


def some_of(prompts: Sequence[Prompt], settings: Settings) -> list[Prompt]:
    """The prompts on which models of random weights are evaluated, spread over all."""
    count = min(RANDOM_PROMPTS[settings.scale], len(prompts))
    return [prompts[round(place)] for place in np.linspace(0, len(prompts) - 1, count)]


# Intervals


def _crossed(statistic: Callable[[np.ndarray], float], shape: tuple[int, int], seed: int, repeats: int) -> Resampled:
    """A statistic of `[clusters, prompts]` that is told places in the flat table; both are drawn."""
    clusters, prompts = shape
    everything = statistic(np.arange(clusters * prompts))
    return Resampled(
        everything, np.array([statistic(each) for each in crossed_draws(clusters, prompts, repeats, seed)])
    )


def _median(table: Float[np.ndarray, "clusters prompts"], how: Resampling) -> Resampled:
    return _crossed(lambda places: float(np.median(table.ravel()[places])), table.shape, how.seed, how.repeats)


def _mean(table: Float[np.ndarray, "clusters prompts"], how: Resampling) -> Resampled:
    """Mean of what is defined."""
    flat, defined = np.nan_to_num(table.ravel()), ~np.isnan(table.ravel())

    def mean(places):
        count = defined[places].sum()
        return float(flat[places].sum() / count) if count else float("nan")

    return _crossed(mean, table.shape, how.seed, how.repeats)


def _low_orders(strengths: Float[np.ndarray, "clusters prompts 2 orders"], how: Resampling) -> Resampled:
    """Share of the mean strength that orders 1 and 2 carry."""
    by_order = strengths.sum(axis=2)
    low, all_ = by_order[..., :2].sum(axis=-1).ravel(), by_order.sum(axis=-1).ravel()

    def share(places: np.ndarray) -> float:
        return float(low[places].sum() / max(all_[places].sum(), 1e-9))

    return _crossed(share, by_order.shape[:2], how.seed, how.repeats)


def _spindle(strengths: Float[np.ndarray, "clusters prompts 2 orders"], seed: int, repeats: int) -> Resampled:
    of = _profile(strengths)
    return _crossed(lambda places: of.of(places).split.spindle_share, strengths.shape[:2], seed, repeats)


def _rows_of(labels: Sequence[str]) -> dict[str, slice]:
    """Each label -> its row of a table, and `TOGETHER` -> all of them."""
    return {label: slice(at, at + 1) for at, label in enumerate(labels)} | {TOGETHER: slice(None)}


def _r2(samples: dict[str, Sample], labels: Sequence[str], how: Resampling) -> dict:
    """Kind -> label -> name -> median over prompts, with its interval."""
    return {
        kind: {
            label: {name: _median(each[at], how).interval() for name, each in sample.numbers.items()}
            for label, at in _rows_of(labels).items()
        }
        for kind, sample in samples.items()
    }


def _curves(samples: dict[str, Sample], labels: Sequence[str], how: Resampling) -> dict:
    """Kind -> label -> low orders, spindle share and the strongest order at every bound, the estimated one last."""
    found: dict = {}
    for kind, (label, at) in itertools.product(("model", "permuted"), _rows_of(labels).items()):
        by_bound = np.moveaxis(samples[kind].strengths[at], 2, 0)
        found.setdefault(kind, {})[label] = {
            "low_orders": [_low_orders(each, how).interval() for each in by_bound],
            "spindle": [_spindle(each, how.seed, how.on_curve).interval() for each in by_bound],
            "strongest": [int(1 + np.argmax(each.sum(axis=(0, 1, 2)))) for each in by_bound],
        }
    print("curves: done", flush=True)
    return found


def _of_pairs(two: dict[str, np.ndarray], pairs: Sequence[str], how: Resampling) -> dict:
    """Pair of models, and `TOGETHER` -> every number of two models, mean over prompts."""
    return {
        label: {name: _mean(each[at], how).interval() for name, each in two.items()}
        for label, at in _rows_of(pairs).items()
    }


# What becomes of the claims


def _tests(
    of_kind, two, simpler, both: Sequence[int], by_loss: np.ndarray, how: Resampling
) -> dict[str, list[tuple[str, str, Resampled]]]:
    """Claim -> (what, mask, number that must be above 0). `both` are the places of prompts with random weights."""
    found: dict = {name: [] for name in CLAIMS}
    best, worst = by_loss[0], by_loss[-1]
    pairs = list(itertools.combinations(range(len(by_loss)), 2))
    for mask, samples in of_kind.items():
        of_model, of_permuted, table = samples["model"], samples["permuted"], two[mask]
        few = of_model.numbers["compact"]
        r2 = {name: _median(of_model.numbers[name], how) for name in ("compact", "walsh")}
        of_claim = {
            "few": {
                f"R² of {MOST_SHOWN} effects less 0.9": _less(r2["compact"], 0.9),
                f"R², less that of {MOST_SHOWN} Walsh coefficients": r2["compact"] - r2["walsh"],
                "R², less that of permuted v": r2["compact"] - _median(of_permuted.numbers["compact"], how),
            },
            "decay": {},
            "shared": {"share of strength in both less a half": _less(_mean(table["in_both"], how), 0.5)},
            "simpler": {
                f"{name} of distinctive less that of shared effects, beyond chance": _mean(each["beyond"], how)
                for name, each in simpler[mask].items()
            },
            "better": {},
        }
        if "random" in samples:
            null = _median(samples["random"].numbers["compact"], how)
            of_claim["few"]["R², less that of random weights"] = _median(few[:, both], how) - null
        for at, bound in enumerate((*BOUNDS, AUTO)):
            if bound in JUDGED:
                low, null = (_low_orders(each.strengths[:, :, at], how) for each in (of_model, of_permuted))
                of_claim["decay"][f"share of orders 1 and 2 less a half, bound {bound}"] = _less(low, 0.5)
                of_claim["decay"][f"share of orders 1 and 2 less that of permuted v, bound {bound}"] = low - null
        for name, what in OVERLAPS.items():
            if name != "overlap":
                difference = _mean(table["overlap"] - table[name], how)
                of_claim["shared"][f"overlap less that of {what}"] = difference
        if len(by_loss) > 2:
            first, last = (pairs.index(tuple(sorted(ends))) for ends in (by_loss[:2], by_loss[-2:]))
            difference = table["overlap"][[first]] - table["overlap"][[last]]
            of_claim["better"]["overlap of the two of least loss less that of the two of most"] = _mean(difference, how)
        at_estimate = of_model.strengths[:, :, -1]
        low = [_low_orders(at_estimate[[model]], how) for model in (best, worst)]
        of_claim["better"]["share of orders 1 and 2, model of least loss less that of most"] = low[0] - low[1]
        spindle = [_spindle(at_estimate[[model]], how.seed, how.in_test) for model in (worst, best)]
        of_claim["spindle"] = {"spindle share, model of most loss less that of least": spindle[0] - spindle[1]}
        for name, numbers in of_claim.items():
            found[name] += [(what, mask, number) for what, number in numbers.items()]
    return found


def _less(number: Resampled, constant: float) -> Resampled:
    return Resampled(number.value - constant, number.resampled - constant)


def _verdicts(tests: dict[str, list[tuple[str, str, Resampled]]]) -> dict:
    """Claim -> its tests with intervals, its p (the largest of theirs), adjusted by Holm, and whether it holds."""
    found = {}
    for claim, of_claim in tests.items():
        rows_ = [
            {
                "what": what,
                "mask": mask,
                "interval": number.interval(),
                "p": number.p_above(),
                "other_way": _p_below(number),
            }
            for what, mask, number in of_claim
        ]
        found[claim] = {**CLAIMS[claim]._asdict(), "p": max(each["p"] for each in rows_), "tests": rows_}
    for each, adjusted in zip(found.values(), holm([each["p"] for each in found.values()]), strict=True):
        other_way = min(row["other_way"] for row in each["tests"]) * len(each["tests"])
        each["adjusted_p"] = float(adjusted)
        each["verdict"] = "holds" if adjusted < LEVEL else "fails" if other_way < LEVEL else "open"
    return found


def _p_below(number: Resampled) -> float:
    return Resampled(-number.value, -number.resampled).p_above()


# What is drawn and said


def draw(result: dict) -> Figure:
    """One panel for each claim."""
    verdicts = {verdict: [] for verdict in ("holds", "fails", "open")}
    for name, claim in result["claims"].items():
        verdicts[claim["verdict"]].append(CLAIMS[name].title.lower())
    said = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in verdicts.items() if names)
    figure = style.new_figure(style.TWO_COLUMNS, 6.4)
    kept, models = result["prompts"]["kept"][TOGETHER], len(result["models"])
    style.title(figure, f"Six claims on {models} pretrained models and {kept} prompts. {said[:1].upper()}{said[1:]}")
    axes = dict(zip(CLAIMS, figure.subplots(3, 2).flat, strict=True))
    for name, ax in axes.items():
        ax.set_title(f"{CLAIMS[name].title}: {result['claims'][name]['verdict']}", x=-0.25)
    _draw_r2(axes["few"], result)
    _draw_curve(axes["decay"], result, "low_orders", "share of orders 1, 2")
    _draw_overlaps(axes["shared"], result)
    _draw_simpler(axes["simpler"], result)
    _draw_ladder(axes["better"], result)
    _draw_curve(axes["spindle"], result, "spindle", "spindle share")
    masks = [Line2D([], [], color=style.MUTED, label=mask, **_look(at)) for at, mask in enumerate(result["r2"])]
    null = Line2D([], [], color=style.NOISE, lw=1.0, ls=":", label="permuted v")
    colours = [
        Line2D([], [], color=style.model_colour(at), lw=4, label=each["label"])
        for at, each in enumerate(result["models"])
    ]
    figure.legend(handles=[*colours, *masks, null], loc="outside lower center", ncols=6)
    return figure


MARKERS = "os"
"""Of the masks."""


def _look(mask: int) -> dict:
    """Marker and dashes of a mask."""
    return {"marker": MARKERS[mask], "ls": ("-", (0, (3, 1.5)))[mask], "ms": 3, "lw": 1.1}


def _draw_r2(ax, result: dict) -> None:
    drawn = {
        f"{MOST_SHOWN} effects": ("model", "compact"),
        f"{MOST_SHOWN} Walsh": ("model", "walsh"),
        "words, pairs": ("model", "pairs"),
        "of permuted v": ("permuted", "compact"),
        "of random weights": ("random", "compact"),
    }
    labels = [each["label"] for each in result["models"]]
    step = 0.8 / (len(labels) * len(result["r2"]))
    for (row, (kind, name)), (at, of_mask) in itertools.product(
        enumerate(drawn.values()), enumerate(result["r2"].values())
    ):
        for place, label in enumerate(labels) if kind in of_mask else ():
            y = row - 0.4 + step * (at * len(labels) + place + 0.5)
            numbers = np.clip(np.array(of_mask[kind][label][name], float), 0, 1)
            panels.interval_row(ax, y, numbers, color=style.model_colour(place), marker=MARKERS[at], clip_on=False)
    panels.row_axes(ax, list(drawn))
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("R² on all masks, median (below 0 at 0)")


def _draw_curve(ax, result: dict, name: str, what: str) -> None:
    x = np.arange(len(result["bounds"]))
    for at, of_mask in enumerate(result["curves"].values()):
        for place, each in enumerate(result["models"]):
            numbers = of_mask["model"][each["label"]][name]
            panels.band(ax, x, numbers, color=style.model_colour(place), shade=0.08, **_look(at))
        ax.plot(x, [each[0] for each in of_mask["permuted"][TOGETHER][name]], color=style.NOISE, lw=1.0, ls=":")
    ax.set_xticks(x, ["est." if each == AUTO else f"{100 * each:g}%" for each in result["bounds"]])
    ax.set_ylim(0, 1.02)
    ax.grid(axis="y")
    ax.set_xlabel("noise bound / spread of v (est.: estimated)")
    ax.set_ylabel(what)


def _draw_overlaps(ax, result: dict) -> None:
    names = ("in_both", *OVERLAPS)
    for row, name in enumerate(names):
        for at, of_mask in enumerate(result["pairs"].values()):
            pairs = [label for label in of_mask if label != TOGETHER]
            y = row - 0.2 + 0.4 * at
            panels.interval_row(ax, y, of_mask[TOGETHER][name], color=style.MUTED, marker=MARKERS[at], clip_on=False)
            ax.plot([of_mask[pair][name][0] for pair in pairs], [y] * len(pairs), "|", color=style.MUTED, ms=5)
    panels.row_axes(ax, ["strength in both", "overlap", "other mask", "matched noise", "other prompt", "shuffled"])
    ax.plot([0.5, 0.5], [-0.5, 0.5], color="black", lw=0.8)
    ax.set_xlim(0, 1)
    ax.set_xlabel("mean over prompts and pairs (|: each pair)")


def _draw_simpler(ax, result: dict) -> None:
    said = {"measured": "", "chance": " by chance", "beyond": " beyond"}
    drawn = [(what, name) for what in ("order", "cancellation") for name in said]
    for (row, (what, name)), (at, of_mask) in itertools.product(
        enumerate(drawn), enumerate(result["simpler"].values())
    ):
        panels.interval_row(
            ax, row - 0.2 + 0.4 * at, of_mask[what][name], color=style.MUTED, marker=MARKERS[at], clip_on=False
        )
    panels.row_axes(ax, [f"{what}{said[name]}" for what, name in drawn])
    ax.axvline(0, color="black", lw=0.6)
    ax.set_xlabel("distinctive less shared effects")


def _draw_ladder(ax, result: dict) -> None:
    """Share of low orders of a model over its loss, and overlap of a pair over its mean loss."""
    loss = {each["label"]: each["loss"] for each in result["models"]}
    pairs = list(itertools.combinations(loss, 2))
    for at, (mask, of_mask) in enumerate(result["pairs"].items()):
        look = _look(at) | {"ls": "none"}
        for first, second in pairs:
            number = of_mask[f"{first} and {second}"]["overlap"]
            panels.points(ax, [(loss[first] + loss[second]) / 2], [number], color=style.MUTED, **look)
        for place, label in enumerate(loss):
            number = result["curves"][mask]["model"][label]["low_orders"][-1]
            panels.points(ax, [loss[label]], [number], color=style.model_colour(place), **look)
    ax.set_ylim(0, 1.02)
    ax.grid(axis="y")
    ax.set_xlabel("loss of the written answers, nats")
    ax.set_ylabel("orders 1, 2; overlap (grey)")


def rows(result: dict) -> list[Row]:
    """Prompts that are kept, then every claim: numbers under both masks, p and whether it holds."""
    prompts = result["prompts"]

    def of_kinds(counts: dict) -> str:
        return f"{counts[TOGETHER]} (" + ", ".join(f"{k} {n}" for k, n in counts.items() if k != TOGETHER) + ")"

    low = ", ".join(f"{label} {each[TOGETHER]}" for label, each in prompts["low_p"].items())
    small = "; ".join(
        f"{mask}: " + ", ".join(f"{label} {len(names)}" for label, names in of.items())
        for mask, of in prompts["small_range"].items()
    )
    found = [
        Row(
            "prompts kept",
            "none",
            f"{of_kinds(prompts['kept'])} of {of_kinds(prompts['candidates'])}, {prompts['players']} players each. p "
            f"below {LEAST_P}: {low}; other predictions: {prompts['different_predictions'][TOGETHER]}; |v(N) - v(∅)| "
            f"below the spread of v: {small}",
        )
    ]
    for name, claim in result["claims"].items():
        numbers = "; ".join(f"{mask}: {_said(name, result, mask)}" for mask in result["r2"])
        verdict = f"{claim['verdict']} (p {claim['adjusted_p']:.2g} by Holm)"
        found.append(Row(CLAIMS[name].title.lower(), claim["published"], f"{verdict}. {numbers}"))
    return found


def _said(claim: str, result: dict, mask: str) -> str:
    """The numbers behind a claim under one mask, all models together."""
    r2, pairs = result["r2"][mask], result["pairs"][mask][TOGETHER]
    if claim == "few":
        parts = [f"R² of {what} {with_interval(r2['model'][TOGETHER][name])}" for name, what in R2.items()]
        nulls = [f"{KINDS[kind]} {with_interval(r2[kind][TOGETHER]['compact'])}" for kind in r2 if kind != "model"]
        salient = with_interval(r2["model"][TOGETHER]["salient"], ".0f")
        return ", ".join([*parts, *(f"compact of {each}" for each in nulls), f"salient {salient}"])
    if claim in ("decay", "spindle"):
        name = {"decay": "low_orders", "spindle": "spindle"}[claim]
        curves = result["curves"][mask]
        lines = {
            label: curves["model"][label][name] for label in curves["model"] if claim == "spindle" or label == TOGETHER
        }
        lines[KINDS["permuted"]] = curves["permuted"][TOGETHER][name]
        bounds = " / ".join(each if each == AUTO else f"{100 * each:g}%" for each in result["bounds"])
        what = {"decay": "share of orders 1 and 2", "spindle": "spindle share"}[claim]
        said = "; ".join(f"{label} " + " / ".join(f"{each[0]:.2f}" for each in line) for label, line in lines.items())
        return f"{what} at bounds of {bounds} of the spread: {said}"
    if claim == "shared":
        parts = [f"{what} {with_interval(pairs[name])}" for name, what in OVERLAPS.items()]
        return f"strength in both {with_interval(pairs['in_both'])}, overlap of " + ", ".join(parts)
    if claim == "simpler":
        return ", ".join(
            f"{what} {with_interval(of['measured'])}, by chance {with_interval(of['chance'])}, beyond "
            f"{with_interval(of['beyond'])}"
            for what, of in result["simpler"][mask].items()
        )
    loss = {each["label"]: each["loss"] for each in result["models"]}
    low = {label: result["curves"][mask]["model"][label]["low_orders"][-1] for label in loss}
    models = ", ".join(
        f"{label} (loss {loss[label]:.2f}) {with_interval(low[label])}" for label in sorted(loss, key=loss.get)
    )
    overlaps = ", ".join(
        f"{pair} {with_interval(of['overlap'])}" for pair, of in result["pairs"][mask].items() if pair != TOGETHER
    )
    return f"orders 1 and 2 {models}; overlap {overlaps}"


def table(result: dict) -> str:
    """Every test of every claim, with its interval."""
    lines = ["# Six claims on pretrained models", ""]
    lines += ["| model | parameters | loss of the written answers |", "|---|---|---|"]
    lines += [f"| {each['label']} | {each['parameters']:,} | {each['loss']:.3f} |" for each in result["models"]]
    for name, claim in result["claims"].items():
        lines += ["", f"## {CLAIMS[name].title}: {claim['verdict']}", ""]
        lines += [f"Published: {claim['published']}.", "", f"Refuted by: {claim['refuted_by']}.", ""]
        lines += [f"p {claim['p']:.3g}, by Holm {claim['adjusted_p']:.3g}. Above 0 where the claim holds:", ""]
        lines += ["| number | mask | 95% interval | p |", "|---|---|---|---|"]
        lines += [
            f"| {each['what']} | {each['mask']} | {with_interval(each['interval'], '+.3f')} | {each['p']:.2g} |"
            for each in claim["tests"]
        ]
    return "\n".join(lines) + "\n"
