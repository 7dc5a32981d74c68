"""The AND-OR problem: write v as few AND and OR effects plus bounded noise, and prove how few.

For the log-odds v[T] of all 2**n_players masked prompts,

    minimise    sum_S P(and_effects[S]) + sum_S P(or_effects[S])                                      over S ≠ ∅
    such that   v = zeta(and_effects) + or_sums(or_effects) + noise,   |noise| <= noise_bound,   noise[∅] = 0

with P(x) = weights[kind, S] |x| (Li & Zhang, ICML 2023, arXiv 2302.13080), which is a linear programme, or another
penalty of `andor.penalties`. The problem is convex, so a solution can be proved optimal: whatever the solver,
`andor.core.certificate` computes a lower bound on the minimum from what it hands over, reported as
gap = (primal - dual) / primal.

Canonical form. and_effects[∅] is v(∅). A one-player OR is the same function as the one-player AND and is reported as
the latter, so or_effects is 0 wherever |S| <= 1. Ties between different optima are common ({i} + {j} = AND{ij} +
OR{ij}, at the same cost); which optimum is returned is the solver's business, see `andor.solvers.InteriorPoint`.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from andor.core import lattice
from andor.core.penalties import Penalty
from andor.core.text import one_line

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Problem:
    """A batch of g problems of m models each over the same number of players, as solvers receive it.

    The penalty ties the models of a problem together; m is 1 but in `extract_joint`. Problems are independent.

    Attributes:
      v: float64 `[g, m, s]`, log-odds above those of the empty set: v[..., 0] == 0.
      noise_bound: float64 `[g, m]`, largest |noise| allowed, in log-odds.
      weights: float64 `[2, s]`, positive factor on the penalty of every AND and of every OR effect, its `order_prices`
        included; weights[:, 0] plays no part, nor does the OR weight of one player.
      penalty: price of the effects.
    """

    v: Float[Array, "g m s"]
    noise_bound: Float[Array, "g m"]
    weights: Float[Array, "2 s"]
    penalty: Penalty

    @property
    def n_players(self) -> int:
        return lattice.n_players_of(self.v)


@dataclasses.dataclass(frozen=True)
class RawSolution:
    """What a solver hands back: approximate effects and approximate dual values. `extract` makes both feasible.

    Attributes:
      and_effects, or_effects, dual_values: float64 `[g, m, s]`.
      steps: int `[g]`.
      advice: for each problem, why it stopped and what to change if the gap asked for was missed: a clause such as
        "raise max_steps".
    """

    and_effects: Float[Array, "g m s"]
    or_effects: Float[Array, "g m s"]
    dual_values: Float[Array, "g m s"]
    steps: Int[Array, "g"]
    advice: tuple[str, ...]


@runtime_checkable
class Solver(Protocol):
    """A frozen dataclass holding a solver's settings.

    Attributes:
      penalties: classes of penalties it can solve for.
      tolerance: certified relative gap that counts as converged.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]  # `dataclasses.replace` changes the tolerance
    penalties: ClassVar[tuple[type, ...]]

    @property
    def tolerance(self) -> float: ...

    def check_memory(self, n_players: int, n_models: int = 1, n_problems: int = 1, caller: str = "extract") -> None:
        """Raise ValueError, in the name of `caller`, when the memory there is does not hold what `solve` needs."""

    def solve(self, problem: Problem) -> RawSolution: ...


@dataclasses.dataclass(frozen=True, repr=False)
class Solution:
    """AND-OR effects of one function v (`[s]` arrays) or of a batch (`[p, s]` arrays), with their certificate.

    Of m models extracted together, effects, noise and dual values are `[m, s]`, noise_bound is `[m]`, the rest numbers.

    Attributes:
      and_effects: float64 `[..., s]`; entry 0 is v(∅), a constant and not an effect.
      or_effects: float64 `[..., s]`; 0 wherever |S| <= 1.
      noise: float64 `[..., s]`; entry 0 is 0, |noise| <= noise_bound.
      dual_values: float64 `[..., s]`, the y of the certificate, feasible for the dual problem. Where the optimum is
        differentiable, this is its gradient with respect to v at a fixed noise_bound. A bound that is a multiple of
        |v(N) - v(∅)| moves with v too; `andor.optimal_strength` counts that in.
      noise_bound: float or `[p]`, in log-odds.
      primal: float or `[p]`, penalty of the effects; by default the sum of weights times |effects|.
      dual: float or `[p]`, a lower bound on the least possible primal.
      gap: float or `[p]`, (primal - dual) / primal, and 0 where primal is 0.
      steps: int or `[p]`, steps the solver took.
      status: "converged", or "not converged: ..." with what to do. One string, or a tuple of p.
    """

    and_effects: Float[Array, "*p s"]
    or_effects: Float[Array, "*p s"]
    noise: Float[Array, "*p s"]
    dual_values: Float[Array, "*p s"]
    noise_bound: float | Float[Array, "*p"]
    primal: float | Float[Array, "problems"]
    dual: float | Float[Array, "problems"]
    gap: float | Float[Array, "problems"]
    steps: int | np.ndarray
    status: str | tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether every problem of the batch reached the gap asked for."""
        return set(np.atleast_1d(self.status)) == {"converged"}

    def __repr__(self) -> str:
        many = self.and_effects.shape[:-1]
        of = f" of {many[0]} {'problems' if np.ndim(self.primal) else 'models together'}" if many else ""
        primal = " to ".join(f"{each:.4g}" for each in sorted({np.min(self.primal), np.max(self.primal)}))
        missed = [each for each in np.atleast_1d(self.status).tolist() if each != "converged"]
        status = f"{len(missed)} " * (np.size(self.status) > 1) + one_line(missed[0], 120) if missed else "converged"
        return (
            f"<Solution{of} with {lattice.n_players_of(self.and_effects)} players: primal {primal}, gap "
            f"{np.max(self.gap):.1g}, noise up to {np.max(self.noise_bound):.3g}, {np.max(self.steps)} steps; {status}>"
        )

    def __getitem__(self, index: int) -> "Solution":
        """The solution of one problem of a batch, with plain numbers in place of the `[p]` arrays."""
        if np.ndim(self.primal) == 0:
            raise TypeError("this Solution is of one problem, not of a batch; use it without an index.")
        fields = {field.name: getattr(self, field.name)[index] for field in dataclasses.fields(self)}
        return Solution(**{name: x.item() if np.ndim(x) == 0 and name != "status" else x for name, x in fields.items()})
