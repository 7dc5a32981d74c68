"""What the figures read from a run: effects per model and prompt, at the certified optimum and with AND only."""

import numpy as np
from jaxtyping import Float

from andor import lattice
from andor.metrics import output_range
from andor.store import Run

Pair = tuple[Float[np.ndarray, "s"], Float[np.ndarray, "s"]]


def optimum(run: Run, model: str, prompt_id: str) -> Pair:
    """(AND effects, OR effects) of the saved solution."""
    solution = run.effects[model][prompt_id]
    return solution.and_effects, solution.or_effects


def and_only(run: Run, model: str, prompt_id: str) -> Pair:
    """Harsanyi dividends (arXiv 2305.01939): the one set of AND effects that adds up to v, noise and all; no OR."""
    v = run.values[model][prompt_id].v
    return lattice.moebius(v), np.zeros_like(v)


def value_range(run: Run, model: str, prompt_id: str) -> float:
    """|v(N) - v(∅)|, the unit in which models and prompts are compared."""
    return output_range(run.values[model][prompt_id].v)


def prompt_ids(run: Run) -> tuple[str, ...]:
    """Ids of the prompts, in order."""
    return tuple(prompt.id for prompt in run.prompts)


def with_range(run: Run, models: tuple[str, ...]) -> tuple[str, ...]:
    """Ids of the prompts on which v(N) differs from v(∅) under every one of these models: the others have no unit."""
    return tuple(p for p in prompt_ids(run) if all(value_range(run, model, p) > 0 for model in models))


def mean_of_defined(numbers) -> float:
    """Mean of the numbers that are not nan; nan when none is left."""
    defined = [x for x in numbers if not np.isnan(x)]
    return float(np.mean(defined)) if defined else float("nan")


def median_of_defined(numbers) -> float:
    """Median of the numbers that are not nan; nan when none is left."""
    defined = [x for x in numbers if not np.isnan(x)]
    return float(np.median(defined)) if defined else float("nan")


def closest_to_median(numbers: dict[str, float]) -> str:
    """The key whose number is the lower median; the first of equals. Numbers that are nan come last."""
    ranked = sorted(numbers, key=lambda key: (np.isnan(numbers[key]), numbers[key]))
    defined = sum(not np.isnan(x) for x in numbers.values()) or len(ranked)
    return ranked[(defined - 1) // 2]
