"""The three ways of finding effects that the studies put side by side, on the same values v.

certified    least total strength of AND and OR effects, proved to 1e-6 (`andor.solvers.InteriorPoint`)
and_only     Harsanyi dividends, the one set of AND effects that adds up to v (arXiv 2305.01939)
published    AND and OR effects by gradient descent as published (`andor.solvers.Published`; arXiv 2401.16318), at its
             best: with both published learning rates, on v scaled to the spread for which they were chosen; of the two
             answers the one of less strength. `studies.ablations` shows what one rate gives on v as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

import andor
from andor.core import lattice
from andor.figures import style
from andor.measures import metrics
from andor.runs.run import Run
from andor.solvers import InteriorPoint, Published
from experiments.study import PUBLISHED_NOISE, Settings, comparison, with_interval

LABELS = {"certified": "certified optimum", "and_only": "AND only (Harsanyi)", "published": "published solver"}
"""Name of a method -> what figures call it."""

RATES = (1e-5, 1e-6)
"""Published learning rates."""

SPREAD = 10.0
"""Nats over which v spreads in large language models, about; small models' v is scaled to it."""

FEW_STEPS = 20_000
"""Of the published solver, of which 20,000 to 50,000 steps are published: for studies of many models."""

SMOKE_STEPS = 20


@dataclass(frozen=True)
class Effects:
    """Effects of every model on every prompt by every method.

    Attributes:
      run: at the certified optimum.
      published: the same models and prompts with the published solver, a run per learning rate.
    """

    run: Run
    published: tuple[Run, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return self.run, *self.published

    def pair(self, method: str, model: str, prompt_id: str) -> metrics.Pair:
        """(AND effects, OR effects) of one prompt."""
        if method == "published":
            return weaker([run[model, prompt_id].pair() for run in self.published])
        return self.run[model, prompt_id].pair(method)


def published_solvers(settings: Settings, steps: int = 50_000) -> tuple[Published, ...]:
    """The published solver with each of `RATES`; quick runs take a fifth of the steps, smoke runs few and one rate."""
    steps = {"full": steps, "quick": steps // 5, "smoke": SMOKE_STEPS}[settings.scale]
    rates = RATES[:1] if settings.smoke else RATES
    return tuple(Published(steps=steps, learning_rate=rate, spread=SPREAD) for rate in rates)


def weaker(pairs: Sequence[metrics.Pair]) -> metrics.Pair:
    """The pair of effects of least total strength."""
    return min(pairs, key=lambda pair: sum(np.abs(effects[1:]).sum() for effects in pair))


def effects(settings: Settings, steps: int = 50_000, **what) -> Effects:
    """Effects of the settings' models and prompts, or of `what` (as for `comparison`); runs that are there are read.
    `steps` are those of the published solver."""
    solvers = published_solvers(settings, steps)
    return Effects(
        comparison(settings, **what), tuple(comparison(settings, solver=solver, **what) for solver in solvers)
    )


def by_method(v: Float[np.ndarray, "games s"], published: Sequence[Published]) -> dict[str, list[metrics.Pair]]:
    """(AND, OR) effects of games of equally many players by every method; "published" where solvers are given."""
    found = {
        "certified": unbatched(andor.extract(v, PUBLISHED_NOISE, InteriorPoint())),
        "and_only": [(lattice.moebius(each), np.zeros_like(each)) for each in v],
    }
    if published:
        found["published"] = published_pairs(v, published)
    return found


def published_pairs(v: Float[np.ndarray, "games s"], solvers: Sequence[Published]) -> list[metrics.Pair]:
    """(AND, OR) effects of games by the published solver: of the answers of all solvers the weaker, game by game."""
    answers = [unbatched(andor.extract(v, PUBLISHED_NOISE, solver)) for solver in solvers]
    return [weaker(of_game) for of_game in zip(*answers, strict=True)]


def unbatched(solution: andor.Solution) -> list[metrics.Pair]:
    """A batch of solutions as pairs of (AND, OR) effects."""
    return list(zip(solution.and_effects, solution.or_effects, strict=True))


def beside(numbers: Mapping[str, Sequence[float]], form: str = ".2f") -> str:
    """(estimate, low, high) of the certified optimum, and beside it those of the other methods."""
    ours, and_only, published = (with_interval(numbers[method], form) for method in LABELS)
    return f"{ours}; AND only {and_only}; published solver {published}"


def look(method: str, place: int | None = None) -> dict:
    """Colour and dashes of a method's line; the certified optimum in the colour of the model at this place, if any."""
    if method == "certified":
        return {"color": style.CERTIFIED if place is None else style.model_colour(place), "ls": "-"}
    return {"color": style.AND_ONLY, "ls": "--"} if method == "and_only" else {"color": style.MUTED, "ls": ":"}
