"""Convergent representations: how many of their effects do two models share, and compared with what?

Reproduces: arXiv 2401.16318, figures 3 and 5 (transfer of effects between two models, extracted apart and jointly) and
            the claim of 2606.08129 that shared effects are of lower order and cancel less than distinctive ones. Beside
            it, what the number means: the same model measured again, two models of different training seeds, and one
            model's effects shuffled among subsets of equal order (extracted jointly: v of one with its players
            permuted). Shared effects are of low order by chance too, as there are few subsets of order 1: so shared and
            distinctive effects are compared with what shuffling gives.
Command:    python -m experiments convergence [--corpus DATA] [--models A B] [--quick] [--smoke]
            Without the corpus (sst2, tinystories), pairs of models that are trained on it and are not in WORK are left
            out: the two seeds, and two models of the zoo, which know sentiment alone.
Hardware:   2 CPU cores
Minutes:    9, and 20 for training another seed
Published:  32% of the 50 strongest effects shared when extracted apart, 50% jointly (2401.16318)
"""

import dataclasses
from collections.abc import Callable

import numpy as np

import andor
from andor.core import lattice
from andor.core.effects import effect_name
from andor.core.text import visible
from andor.figures.convergence import Effect, compared
from andor.measures import metrics
from andor.measures.bootstrap import interval
from andor.measures.metrics import Pair
from andor.measures.profile import profile
from andor.measures.reported import closest_to_median, mean_of_defined
from andor.runs.run import Run
from experiments.lab import seeds, zoo
from experiments.lab.corpus import TEMPLATE
from experiments.lab.methods import LABELS, effects, unbatched
from experiments.lab.zoo_effects import zoo_config
from experiments.studies import sharing
from experiments.studies.convergence_figure import draw as draw
from experiments.studies.sharing import TRANSFER_K
from experiments.study import Row, Settings, comparison, described, prompts_of, with_interval

JOINT, SEEDS = "two models, extracted jointly", "two training seeds, one recipe"
TWO_MODELS = {method: f"two models, {label}" for method, label in LABELS.items()}
OTHER_DATA = "two seeds and data parts, sentiment"
AGAIN, BFLOAT16 = "one model, measured again", "one model, in bfloat16"
SHUFFLED, JOINT_SHUFFLED = "effects shuffled within orders", "extracted jointly, players permuted"

ZOO = ("llama-tiny-reference-1", "llama-tiny-reference-2")
"""Two models of `lab.zoo`: one recipe for sentiment, another seed and another fifth of the sentences each."""

SHUFFLES = 20
WORDS = 12
"""Effects of one prompt in the figure."""

PUBLISHED_K = 50
SHOWN_K = (10, PUBLISHED_K)

CHANCE = 10
"""Shuffles behind what shared and distinctive effects are by chance."""


def measure(settings: Settings) -> dict:
    """Overlap of the first two models and of every baseline, prompt by prompt; shared against distinctive effects."""
    if len(settings.models) < 2:
        raise ValueError(f"convergence compares two models; got --models {' '.join(settings.models)}.")
    found = effects(settings)
    run, pair = found.run, found.run.models[:2]
    ids = _with_range(run, pair)
    rng = np.random.default_rng(settings.seed)

    def between(pair_of: Callable[[str, str], Pair]) -> list[sharing.Overlap]:
        """Overlap of the two models on every prompt."""
        return [sharing.overlap(*(pair_of(model, p) for model in pair), _ranges(run, pair, p)) for p in ids]

    cases = {TWO_MODELS[m]: between(lambda model, p, m=m: found.pair(m, model, p)) for m in LABELS}
    for name, players_of in ((JOINT, np.arange), (JOINT_SHUFFLED, rng.permutation)):
        values = {p: [run[model, p].values.v for model in pair] for p in ids}
        joint = {p: _joint(*values[p], run.recipe.noise, players_of) for p in ids}
        cases[name] = between(lambda model, p, joint=joint: joint[p][pair.index(model)])
    measured = comparison(settings, noise="measured")
    cases[AGAIN] = [sharing.mean([_again(measured, run, model, p, rng) for model in pair]) for p in ids]
    rounded = comparison(settings, dtype="bfloat16")
    cases[BFLOAT16] = [sharing.mean([_across((run, rounded), model, p) for model in pair]) for p in ids]
    runs = [*found.runs, measured, rounded]
    trained = seeds.trained(settings)
    if trained:
        runs.append(comparison(settings, models=trained))
        cases[SEEDS] = _between(runs[-1])
    sentiment = [prompt for prompt in prompts_of(settings) if prompt.text.endswith(TEMPLATE)]
    if sentiment and settings.corpus is not None:
        members = zoo.main(dataclasses.replace(zoo_config(settings), only=ZOO))
        runs.append(comparison(settings, models=[str(each.folder) for each in members], prompts=sentiment))
        cases[OTHER_DATA] = _between(runs[-1])
    for name in (SEEDS, OTHER_DATA):
        if name not in cases:
            print(f"convergence: without --corpus there is no “{name}”", flush=True)
    cases[SHUFFLED] = [_shuffled(run, pair, p, rng) for p in ids]
    return {
        "runs": [described(each) for each in runs],
        "models": [run.labels[model] for model in pair],
        "transfer_k": TRANSFER_K,
        "cases": {name: _case(overlaps, settings.seed) for name, overlaps in cases.items()},
        "groups": {
            method: _groups(lambda model, p, m=method: found.pair(m, model, p), pair, ids, settings.seed)
            for method in LABELS
        },
        "words": _words(run, {p: x.overlap for p, x in zip(ids, cases[TWO_MODELS["certified"]], strict=True)}),
    }


def _between(run: Run) -> list[sharing.Overlap]:
    """Overlap of the two models of a run on every prompt that has a unit."""
    return [
        sharing.overlap(*(run[model, p].pair() for model in run.models), _ranges(run, run.models, p))
        for p in _with_range(run, run.models)
    ]


def _ranges(run: Run, models, prompt_id: str) -> tuple[float, float]:
    first, second = (run[model, prompt_id].range for model in models)
    return first, second


def _with_range(run: Run, models) -> tuple[str, ...]:
    """Ids of the prompts on which v(N) differs from v(∅) under every one of these models: the others have no unit."""
    return tuple(p.id for p in run.prompts if min(run[model, p.id].range for model in models) > 0)


def _joint(first, second, noise: float, players_of: Callable[[int], np.ndarray]) -> list[Pair]:
    """(AND, OR) effects of each model at the optimum of the joint objective (arXiv 2401.16318, eq. 6), where player i
    of the second v is players_of(n_players)[i] of its prompt."""
    masks, moved = np.arange(second.size), np.zeros(second.size, int)
    for player, other in enumerate(players_of(lattice.n_players_of(second))):
        moved |= (masks >> player & 1) << int(other)
    return unbatched(andor.extract_joint(np.stack([first, second[moved]]), noise))


def _again(measured: Run, run: Run, model: str, prompt_id: str, rng) -> sharing.Overlap:
    """A model's effects against those of its v plus noise of the measured size."""
    values = measured[model, prompt_id].values
    v = values.v + values.forward_noise * rng.normal(size=values.v.shape)
    solution = andor.extract(v, run.recipe.noise)
    again = solution.and_effects, solution.or_effects
    ranges = run[model, prompt_id].range, metrics.output_range(v)
    return sharing.overlap(run[model, prompt_id].pair(), again, ranges)


def _across(runs: tuple[Run, Run], model: str, prompt_id: str) -> sharing.Overlap:
    """One model's effects in two runs."""
    first, second = (run[model, prompt_id] for run in runs)
    return sharing.overlap(first.pair(), second.pair(), (first.range, second.range))


def _shuffled(run: Run, models, prompt_id: str, rng) -> sharing.Overlap:
    first, second = (run[model, prompt_id].pair() for model in models)
    ranges = _ranges(run, models, prompt_id)
    return sharing.mean([sharing.overlap(first, sharing.shuffled(second, rng), ranges) for _ in range(SHUFFLES)])


def _case(overlaps: list[sharing.Overlap], seed: int) -> dict:
    numbers = [each.overlap for each in overlaps]
    transfers = {kind: np.array([getattr(each, kind) for each in overlaps], float) for kind in ("s_and", "s_or")}
    return {
        "overlap": numbers,
        "mean_overlap": interval(numbers, seed=seed),
        **{kind: [interval(column, seed=seed) for column in values.T] for kind, values in transfers.items()},
    }


def _groups(pair_of: Callable[[str, str], Pair], models, ids, seed: int) -> dict:
    """Shared and distinctive effects, mean over prompts and the two models; their differences, and those by chance."""
    rng = np.random.default_rng(seed)
    pairs = [[pair_of(model, p) for model in models] for p in ids]
    found = [sharing.groups(of_prompt, rng) for of_prompt in pairs]

    def numbers(found: list, name: str, what: str) -> np.ndarray:
        """One number per prompt: mean of the models where both have one."""
        return np.array([np.mean([getattr(model[name], what) for model in prompt]) for prompt in found])

    def strength(name: str) -> np.ndarray:
        means = [np.mean([model[name].strength for model in prompt], axis=0) for prompt in found]
        orders = [metrics.OrderStrength(*mean, (mean.shape[1],)) for mean in means]
        return profile(orders, [1.0] * len(orders)).strengths

    summary = {}
    for name in ("shared", "distinctive"):
        each = strength(name)
        summary[name] = {
            "strength": [[interval(column, seed=seed) for column in side.T] for side in each.transpose(1, 0, 2)],
            "share": interval(each.sum(axis=(1, 2)), seed=seed),
            **{what: interval(numbers(found, name, what), seed=seed) for what in ("order", "cancellation", "matched")},
        }
    shuffles = [
        [sharing.groups([first, sharing.shuffled(second, rng)], rng) for first, second in pairs] for _ in range(CHANCE)
    ]
    summary |= {"difference": {}, "chance": {}, "beyond chance": {}}
    for what in ("order", "matched"):
        real, *chance = (
            numbers(each, "distinctive", what) - numbers(each, "shared", what) for each in (found, *shuffles)
        )
        expected = np.array([mean_of_defined(of_prompt) for of_prompt in np.transpose(chance)])
        summary["difference"][what] = interval(real, seed=seed)
        summary["chance"][what] = interval(expected, seed=seed)
        summary["beyond chance"][what] = interval(real - expected, seed=seed)
    return summary


def _words(run: Run, overlaps: dict[str, float]) -> dict:
    """The strongest salient effects of both models on the prompt of median overlap, shared ones first."""
    shown = closest_to_median(overlaps)
    (prompt,) = (each for each in run.prompts if each.id == shown)
    return {
        "id": shown,
        "text": " ".join(prompt.text.split()),
        "target": run[run.models[0], shown].target,
        "overlap": overlaps[shown],
        "effects": _in_words(run, shown, WORDS, 26),
    }


def _in_words(run: Run, prompt_id: str, count: int, longest: int) -> list[dict]:
    """The strongest of `compared` for the figure, with names of so many characters at most.

    Shared ones come first, then those of the first model, then those of the second.
    """

    def group(effect: Effect) -> int:
        return 0 if effect.shared else 1 if abs(effect.values[0]) >= abs(effect.values[1]) else 2

    words = [visible(word) for word in run[run.models[0], prompt_id].values.players]
    return [
        {
            "name": effect_name(words, each.subset, each.is_or, longest),
            "is_or": each.is_or,
            "shared": each.shared,
            "values": each.values,
        }
        for each in sorted(compared(run, prompt_id)[:count], key=group)
    ]


def rows(result: dict) -> list[Row]:
    """Transfer at the published k, weighted overlap beside its baselines, and shared against distinctive effects."""
    cases = result["cases"]
    found = []

    def transfer(name: str, k: int) -> str:
        place = TRANSFER_K.index(k)
        s_and, s_or = (with_interval(cases[name][kind][place]) for kind in ("s_and", "s_or"))
        return f"AND {s_and}, OR {s_or}"

    for name, baseline, published in (
        (TWO_MODELS["certified"], SHUFFLED, "32% (k = 50)"),
        (JOINT, JOINT_SHUFFLED, "50% (k = 50)"),
    ):
        for k in SHOWN_K:
            ours = f"{transfer(name, k)}; {baseline}: {transfer(baseline, k)}"
            found.append(Row(f"{k} strongest effects shared: {name}", published, ours))
    others = [name for name in cases if name != TWO_MODELS["certified"]]
    baselines = "; ".join(f"{name} {with_interval(cases[name]['mean_overlap'])}" for name in others)
    ours = with_interval(cases[TWO_MODELS["certified"]]["mean_overlap"])
    found.append(Row("weighted overlap of two models", "not published", f"{ours}; {baselines}"))
    for what, claim in (
        ("order", "mean order of distinctive less that of shared effects"),
        ("matched", "cancellation of distinctive less that of equally many shared effects"),
    ):
        parts = []
        for method, label in LABELS.items():
            groups = result["groups"][method]
            parts.append(
                f"{label} {with_interval(groups['difference'][what])}, by chance {groups['chance'][what][0]:.2f}, "
                f"beyond chance {with_interval(groups['beyond chance'][what])}"
            )
        found.append(Row(claim, "above 0 (2606.08129)", "; ".join(parts)))
    return found
