"""`Compact`: few AND and OR effects that give v, and what they give up. `andor.solvers.compact` finds them."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from andor.core import lattice
from andor.core.certificate import dual_bound, feasible_dual, reconstruct
from andor.core.explained import Pair
from andor.core.penalties import L1

Array = np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class Compact:
    """Few AND and OR effects that give v by least squares.

    Attributes:
      and_effects: float64 `[s]`; entry 0 is v(∅), a constant and not an effect.
      or_effects: float64 `[s]`; 0 wherever |S| <= 1.
      r2: 1 - residual / total sum of squares over all masks; nan where v is constant.
      worst_error: largest |v - effects| over all masks, in log-odds.
      least_strength: no explanation that leaves as little of every v[T] has less strength, in log-odds.
      dual_values: float64 `[s]`, which prove it (`andor.core.certificate`).
    """

    and_effects: Float[Array, "s"]
    or_effects: Float[Array, "s"]
    r2: float
    worst_error: float
    least_strength: float
    dual_values: Float[Array, "s"]

    @classmethod
    def of(cls, v: Float[Array, "s"], pair: Pair, dual_values: Float[Array, "s"]) -> "Compact":
        """Effects in canonical form (`andor.core.problem`) with what v says of them; dual values are made feasible."""
        with np.errstate(over="ignore", invalid="ignore"):  # of a damaged file, whose reader will say so
            return cls._of(v, pair, dual_values)

    @classmethod
    def _of(cls, v: Float[Array, "s"], pair: Pair, dual_values: Float[Array, "s"]) -> "Compact":
        left = v - reconstruct(*pair)
        worst, total = float(np.max(np.abs(left))), float(np.sum((v - v.mean()) ** 2))
        differences, bound, weights = (v - v[0])[None], np.array([worst]), np.ones(v.size)
        feasible = feasible_dual(differences, bound, dual_values[None], weights, L1())
        return cls(
            *pair,
            r2=1 - float(np.sum(left**2)) / total if np.ptp(v) > 0 else math.nan,
            worst_error=worst,
            least_strength=float(dual_bound(differences, bound, feasible, weights, L1())),
            dual_values=feasible[0],
        )

    @property
    def pair(self) -> Pair:
        """(AND effects, OR effects)."""
        return self.and_effects, self.or_effects

    @property
    def count(self) -> int:
        """Number of effects."""
        return int(np.count_nonzero(self.and_effects[1:]) + np.count_nonzero(self.or_effects))

    @property
    def strength(self) -> float:
        """Sum of |effects|, in log-odds."""
        return float(np.abs(self.and_effects[1:]).sum() + np.abs(self.or_effects).sum())

    @property
    def excess(self) -> float:
        """Strength / the least strength proved for as large errors, 1 or more; nan without effects."""
        return self.strength / self.least_strength if self.least_strength > 0 else math.nan

    def __repr__(self) -> str:
        return (
            f"<Compact explanation with {lattice.n_players_of(self.and_effects)} players: {self.count} effects, R² "
            f"{self.r2:.4f}, worst error {self.worst_error:.3g}, strength {self.strength:.4g}, {self.excess:.2f} times "
            f"the least>"
        )
