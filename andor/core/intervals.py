"""`Intervals`: what all explanations of nearly least strength have in common, proved. `andor.solvers` finds it."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Intervals:
    """Bounds over all explanations within the noise bound whose strength is within a thousandth of the least.

    Attributes:
      is_or, subset: `[k]`, the effects that are bounded: the strongest of the certified optimum, strongest first.
      sizes: `[k, 2]`, at least and at most, of the size of each, nats. An effect with 0 at least may be none.
      low_orders: at least and at most, of the share of orders 1 and 2 in the strength; nan without any strength.
    """

    is_or: Bool[np.ndarray, "k"]
    subset: Int[np.ndarray, "k"]
    sizes: Float[np.ndarray, "k 2"]
    low_orders: tuple[float, float]

    def __len__(self) -> int:
        return len(self.subset)

    @property
    def surely_there(self) -> int:
        """How many of the effects are in every such explanation."""
        return int(np.count_nonzero(self.sizes[:, 0]))

    def of(self, is_or: bool, subset: int) -> tuple[float, float] | None:
        """(at least, at most) of the size of an effect; None where it is not bounded."""
        found = np.flatnonzero((self.is_or == is_or) & (self.subset == subset))
        return (float(self.sizes[found[0], 0]), float(self.sizes[found[0], 1])) if found.size else None

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file holds, by name: certain_effects `[k, 2]` (1 for an OR, and the subset), certain_sizes `[k, 2]`,
        certain_low_orders `[2]`."""
        return {
            "certain_effects": np.stack([self.is_or.astype(np.int64), self.subset], axis=1),
            "certain_sizes": self.sizes,
            "certain_low_orders": np.array(self.low_orders),
        }

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray], pair: tuple[np.ndarray, np.ndarray]) -> "Intervals | None":
        """From a file; None where it has none.

        Raises:
          KeyError, TypeError, ValueError: an array is missing or of another kind or shape, or an interval does not hold
            what it is about: the effect of the optimum, whose AND and OR effects are `pair`.
        """
        if "certain_effects" not in arrays:
            return None
        names = ("certain_effects", "certain_sizes", "certain_low_orders")
        effects, sizes, low_orders = (arrays[name] for name in names)
        if effects.dtype != np.int64 or sizes.dtype != np.float64 or low_orders.dtype != np.float64:
            raise TypeError("its intervals are of other kinds of numbers.")
        if effects.shape != sizes.shape or effects.shape[1:] != (2,) or low_orders.shape != (2,):
            raise ValueError(f"its intervals have shapes {effects.shape}, {sizes.shape} and {low_orders.shape}.")
        is_or, subset = effects[:, 0], effects[:, 1]
        if not (np.isin(is_or, (0, 1)).all() and (0 < subset).all() and (subset < pair[0].size).all()):
            raise ValueError("its intervals are of no effects.")
        known = np.abs(np.where(is_or == 1, pair[1][subset], pair[0][subset]))
        slack = 1e-6 * max(1.0, float(known.max(initial=0.0)))
        if not ((sizes[:, 0] >= 0) & (sizes[:, 0] <= known + slack) & (known <= sizes[:, 1] + slack)).all():
            raise ValueError("its intervals do not hold the effects of the optimum.")
        at_least, at_most = low_orders.tolist()
        if not (0 <= at_least <= at_most <= 1 or (math.isnan(at_least) and math.isnan(at_most))):
            raise ValueError(f"it says that low orders have {at_least} to {at_most} of the strength.")
        return cls(is_or == 1, subset, sizes, (at_least, at_most))
