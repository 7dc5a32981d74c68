"""Sparsity penalties as values: what effects cost. Pass one to `andor.extract(v, penalty=...)`.

    L1               weights[S] |effect|: a linear programme, with an exact solver; the default
    OrderWeightedL1  the same, dearer from order to order
    Huber            flat near 0: small effects cost little, so that it shrinks them instead of dropping them
    RowMax           several models at once, cheap where they agree; for `andor.extract_joint`

A penalty P is a convex function of the effects at one subset, of one or m models. Everything else follows from its
conjugate P*(t) = max_x t·x - P(x), which is finite on a set around 0, the dual domain: dual values y whose correlations
lie in it prove the lower bound  v·y - noise_bound |y|_1 - sum P*(A^T y) - sum P*(B^T y)  (Fenchel duality), and

    multipliers(x) = argmax_p  p·x - width/2 |p|^2 - P*(p)

is the gradient of the Moreau envelope of P, on which `andor.solvers.FirstOrder` descends. So a new penalty is a frozen
dataclass with the five methods of `Penalty`, for NumPy and JAX arrays alike, and nothing else has to know it.
"""

import dataclasses
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@runtime_checkable
class Penalty(Protocol):
    """A price of effects at every subset, even in their sign and 0 at 0. `weights` `[s]` multiply the price.

    Arrays have an axis m of models before the axis s of subsets, of size 1 where there is one model.
    """

    def order_prices(self, orders: Int[np.ndarray, "s"]) -> Float[np.ndarray, "s"]:
        """Factor on the weights of every subset, for its order |S|."""
        return np.ones(orders.shape)

    def price(self, effects: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        """P(effects)."""

    def conjugate(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        """P*(correlations), for correlations in the dual domain."""

    def excess(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        """Factor by which correlations exceed the dual domain: correlations / excess lie on its boundary."""

    def multipliers(self, x: Float[Any, "*g m s"], width, weights: Float[Any, "s"]) -> Float[Any, "*g m s"]:
        """argmax_p p·x - width/2 |p|^2 - P*(p), in the dual domain; `width` a positive number."""


@dataclasses.dataclass(frozen=True)
class L1(Penalty):
    """weights[S] |effect|, summed over models."""

    def price(self, effects: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        return weights * abs(effects).sum(axis=-2)

    def conjugate(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        return 0.0 * correlations[..., 0, :]

    def excess(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        return abs(correlations).max(axis=-2) / weights

    def multipliers(self, x: Float[Any, "*g m s"], width, weights: Float[Any, "s"]) -> Float[Any, "*g m s"]:
        return (x / width).clip(-weights[None], weights[None])


@dataclasses.dataclass(frozen=True)
class OrderWeightedL1(L1):
    """weights[S] growth^(|S| - 1) |effect|: an effect of one player more must explain `growth` times as much.

    Attributes:
      growth: factor from each order to the next, positive; 1 is `L1`, below 1 favours high orders.
    """

    growth: float

    def __post_init__(self):
        if not 0 < self.growth < np.inf:
            raise ValueError(f"OrderWeightedL1(growth=...) must be positive and finite; got {self.growth}.")

    def order_prices(self, orders: Int[np.ndarray, "s"]) -> Float[np.ndarray, "s"]:
        return float(self.growth) ** (orders - 1)


@dataclasses.dataclass(frozen=True)
class Huber(Penalty):
    """weights[S] times effect^2 / (2 width) up to |effect| = width, and |effect| - width / 2 beyond.

    P*(t) = width t^2 / (2 weights[S]) for |t| <= weights[S]. Strictly convex where effects are small, so ties among
    small effects are shared out evenly, and none is exactly 0.

    Attributes:
      width: in log-odds, positive.
    """

    width: float

    def __post_init__(self):
        if not 0 < self.width < np.inf:
            raise ValueError(f"Huber(width=...) must be positive and finite, in log-odds; got {self.width}.")

    def price(self, effects: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        strength = abs(effects)
        near = strength.clip(None, self.width)
        return weights * (near**2 / (2 * self.width) + strength - near).sum(axis=-2)

    def conjugate(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        return self.width * (correlations**2).sum(axis=-2) / (2 * weights)

    def excess(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        return abs(correlations).max(axis=-2) / weights

    def multipliers(self, x: Float[Any, "*g m s"], width, weights: Float[Any, "s"]) -> Float[Any, "*g m s"]:
        return (x / (width + self.width / weights[None])).clip(-weights[None], weights[None])


@dataclasses.dataclass(frozen=True)
class RowMax(Penalty):
    """weights[S] (shared max_i |effect_i| + own sum_i |effect_i|) over models i.

    Chen et al., ICLR 2024 (arXiv 2401.16318), eq. 6. The dual domain is sum_i max(|t_i| - own, 0) <= shared, times
    weights[S], and P* is 0 in it.

    Attributes:
      alpha: price of having an effect at all, in [0, 1]; 0.1 in the released code.
      weighting: "paper" is max + alpha * sum, "released" is (1 - alpha) * max + alpha * sum.
    """

    alpha: float = 0.1
    weighting: Literal["paper", "released"] = "paper"

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"RowMax(alpha=...) must be between 0 and 1; got {self.alpha}.")
        if self.weighting not in ("paper", "released"):
            raise ValueError(f'RowMax(weighting=...) must be "paper" or "released"; got {self.weighting!r}.')
        if self.shared == 0:
            raise ValueError(
                'RowMax(alpha=1, weighting="released") puts no price on the largest effect, so nothing is shared. '
                "Extract every model alone with andor.extract."
            )

    @property
    def own(self) -> float:
        """Price of every model's own |effect|."""
        return float(self.alpha)

    @property
    def shared(self) -> float:
        """Price of the largest |effect| among the models."""
        return 1.0 if self.weighting == "paper" else 1.0 - self.alpha

    def price(self, effects: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        strength = abs(effects)
        return weights * (self.shared * strength.max(axis=-2) + self.own * strength.sum(axis=-2))

    def conjugate(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        return 0.0 * correlations[..., 0, :]

    def excess(self, correlations: Float[Any, "*g m s"], weights: Float[Any, "s"]) -> Float[Any, "*g s"]:
        # sum_i max(c |t_i| - own, 0) <= shared says c * (sum of the k largest |t|) <= shared + k own for every k.
        largest, count = _sums_of_largest(abs(correlations))
        return (largest / (self.shared + count * self.own)).max(axis=-2) / weights

    def multipliers(self, x: Float[Any, "*g m s"], width, weights: Float[Any, "s"]) -> Float[Any, "*g m s"]:
        # The projection of x / width: what exceeds `own` goes onto a simplex, by subtraction of one threshold.
        scaled = x / (width * weights[None])
        kept = scaled.clip(-self.own, self.own)
        beyond = abs(scaled - kept)
        largest, count = _sums_of_largest(beyond)
        threshold = ((largest - self.shared) / count).max(axis=-2, keepdims=True).clip(0, None)
        xp = x.__array_namespace__()
        return weights[None] * (kept + xp.sign(scaled) * (beyond - threshold).clip(0, None))


def _sums_of_largest(values: Float[Any, "*g m s"]) -> tuple[Float[Any, "*g m s"], Float[np.ndarray, "m 1"]]:
    """(sum of the k largest values over models, k) for k = 1..m along the axis of models."""
    xp = values.__array_namespace__()
    count = np.arange(1.0, values.shape[-2] + 1)[:, None]
    return (-xp.sort(-values, axis=-2)).cumsum(axis=-2), count.astype(values.dtype)
