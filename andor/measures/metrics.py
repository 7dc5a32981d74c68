"""What to measure on the AND-OR effects of one model, or of two models on the same prompt.

Pure NumPy on host arrays, no JAX. Effects come as two float arrays `[2**n_players]` indexed by subset (see
`andor.lattice`): `and_effects`, whose entry ∅ is the constant v(∅) and never counts as an effect, and `or_effects`.
An OR of one player is the same function as its AND; wherever one turns up it is counted as that AND effect. Functions
of two models take two such pairs, `(and_effects, or_effects)`, for example
`transfer((a.and_effects, a.or_effects), (b.and_effects, b.or_effects), k=50)`.

A ratio of nothing to nothing (no effects at all, v(N) = v(∅)) is undefined and comes back as nan, never as 0 or 1, so
that a mean over prompts has to say what it does with it.

Sources: Ren et al., ICLR 2024 (arXiv 2305.01939), matching and sparsity; Chen et al., ICLR 2024 (arXiv 2401.16318),
transfer and order strength; Qin et al., ICML 2026 (arXiv 2608.18539), "Evaluating and Explaining Prompt Sensitivity of
LLMs Using Interactions", IPS. The decay / spindle split of order strengths is in `andor.spindle`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from andor.core.effects import DUST
from andor.core.explained import Pair
from andor.core.lattice import kron_power, n_players_of, or_sums, orders, zeta

# Salient: |I| above this share of the largest |I| (arXiv 2401.16318, section 3). IPS uses 0.1.
SALIENT = 0.05


@dataclass(frozen=True)
class Ranking:
    """Non-zero effects of one model, strongest first; ties by lower order, then AND before OR, then lower subset index.

    Attributes:
      is_or: `[effects]`, True for an OR effect.
      subset: `[effects]`, subset index.
      effect: `[effects]`, float64, signed, in the unit of v.
    """

    is_or: Bool[np.ndarray, "effects"]
    subset: Int[np.ndarray, "effects"]
    effect: Float[np.ndarray, "effects"]

    @property
    def real(self) -> "Ranking":
        """Without the dust that solvers leave where there is no effect."""
        count = int(np.count_nonzero(np.abs(self.effect) > DUST * np.abs(self.effect).max(initial=0)))
        return Ranking(self.is_or[:count], self.subset[:count], self.effect[:count])


@dataclass(frozen=True)
class Matching:
    """How well the strongest effects alone give v on all 2**n_players masks.

    Attributes:
      k: effects used; fewer than asked for when the model has fewer.
      r2: 1 - residual / total sum of squares over all masks; nan when v is constant.
      max_error: largest |error| over masks / |v(N) - v(∅)|; nan when v(N) = v(∅).
      mean_error: mean |error| over masks / |v(N) - v(∅)|; nan when v(N) = v(∅).
      spread_error: mean |error| over masks / (largest v - smallest v); nan when v is constant. |v(N) - v(∅)|, the
        published unit, is near 0 on prompts whose words pull both ways.
    """

    k: int
    r2: float
    max_error: float
    mean_error: float
    spread_error: float


@dataclass(frozen=True)
class Transfer:
    """Shares of the k strongest effects that two models have in common, AND and OR apart. nan: neither has any.

    and_effects and or_effects are the numbers of effects, at most k, of the model that has more.
    """

    k: int
    s_and: float
    s_or: float
    and_effects: int
    or_effects: int


@dataclass(frozen=True)
class OrderStrength:
    """Total strength of positive and of negative effects per order, AND and OR together.

    Attributes:
      positive: `[orders]`, float64; entry o - 1 is the sum of the positive effects of order o.
      negative: `[orders]`, float64 and >= 0; entry o - 1 is the sum of |effect| over the negative effects of order o.
      players: number of players of each prompt in the mean, one entry for a single prompt. orders = max(players).
    """

    positive: Float[np.ndarray, "orders"]
    negative: Float[np.ndarray, "orders"]
    players: tuple[int, ...]


@dataclass(frozen=True)
class Cancellation:
    """1 - |sum of effects| / sum of |effects|: 0 when all have one sign, 1 when they cancel. nan: no effects.

    Attributes:
      per_order: `[orders]`, entry o - 1 for order o.
      overall: over the effects of all orders together.
    """

    per_order: Float[np.ndarray, "orders"]
    overall: float


@dataclass(frozen=True)
class PromptSensitivity:
    """How much the salient effects of one prompt differ between two phrasings of it (`ips`). nan: there are none.

    Attributes:
      count: effects, AND and OR, that are salient in either phrasing.
      ips: of all of these, in [0, 2]: 0 for equal effects, 2 for effects of which one is none or of the other sign.
      per_order: `[orders]`, of those of each order; entry o - 1 is order o.
      low, middle, high: of orders up to n/3, up to 2n/3 and above, n / 3 and 2n / 3 rounded down (section 4.3).
      opposite, different, similar: shares of them by the paper's types of stability (section 3.3): of opposite signs;
        of one sign, but one less than half of the other, or none; of one sign and similar. They add up to 1.
    """

    count: int
    ips: float
    per_order: Float[np.ndarray, "orders"]
    low: float
    middle: float
    high: float
    opposite: float
    different: float
    similar: float


def output_range(v: Float[np.ndarray, "s"]) -> float:
    """|v(N) - v(∅)|, the unit that errors and effects of different models are divided by."""
    n_players_of(v, "output_range(v)")
    return float(abs(v[-1] - v[0]))


def ranking(and_effects: Float[np.ndarray, "s"], or_effects: Float[np.ndarray, "s"]) -> Ranking:
    """Every non-zero effect, strongest first, in an order that does not depend on the sorting algorithm."""
    effects = _stack(and_effects, or_effects)
    flat = effects.ravel()
    size = effects.shape[1]
    index = np.arange(2 * size)
    by_rank = np.lexsort((index, np.tile(orders(n_players_of(effects)), 2), -np.abs(flat)))
    by_rank = by_rank[flat[by_rank] != 0]
    return Ranking(is_or=by_rank >= size, subset=by_rank % size, effect=flat[by_rank])


def logic_model(
    and_effects: Float[np.ndarray, "s"], or_effects: Float[np.ndarray, "s"], k: int | None = None
) -> Float[np.ndarray, "s"]:
    """v on every mask as the constant and the k strongest effects give it; all effects when k is None. `[2**n]`.

    The logical model h of arXiv 2305.01939 (theorem on universal matching), with OR effects as in arXiv 2302.13080.
    """
    if k is None:
        effects = _stack(and_effects, or_effects)
    else:
        _check_k("logic_model", k, least=0)
        top = ranking(and_effects, or_effects)
        effects = np.zeros((2, and_effects.size))
        effects[top.is_or[:k].astype(int), top.subset[:k]] = top.effect[:k]
    return and_effects[0] + zeta(effects[0]) + or_sums(effects[1])


def matching(
    v: Float[np.ndarray, "s"], and_effects: Float[np.ndarray, "s"], or_effects: Float[np.ndarray, "s"], k: int
) -> Matching:
    """v on all masks against the logic model of the k strongest effects (arXiv 2305.01939; 2401.16318, figure 6).

    The constant v(∅) is always included and is not one of the k. The bounded noise of a solution is not included, so
    that even all effects together leave an error of up to the noise bound.
    """
    if v.shape != and_effects.shape:
        raise ValueError(
            f"matching(v=..., and_effects=...) must have one shape; got {v.shape} and {and_effects.shape}. "
            "Give the values that the effects were extracted from."
        )
    error = np.abs(v - logic_model(and_effects, or_effects, k))
    scale = output_range(v)
    total = float(np.sum((v - v.mean()) ** 2))
    return Matching(
        k=min(k, int(np.count_nonzero(_stack(and_effects, or_effects)))),
        r2=1 - _ratio(float(np.sum(error**2)), total),
        max_error=_ratio(float(error.max()), scale),
        mean_error=_ratio(float(error.mean()), scale),
        spread_error=_ratio(float(error.mean()), float(np.ptp(v))),
    )


def effects_needed(
    v: Float[np.ndarray, "s"],
    and_effects: Float[np.ndarray, "s"],
    or_effects: Float[np.ndarray, "s"],
    explained: float = 0.95,
) -> float:
    """Least k such that the k strongest effects have this R² on all masks (`matching`); nan when no k has."""
    top = ranking(and_effects, or_effects)
    masks = np.arange(v.size)
    total = np.sum((v - v.mean()) ** 2)
    logic = np.full(v.size, and_effects[0])
    for k, (is_or, subset, effect) in enumerate(zip(top.is_or, top.subset, top.effect, strict=True), start=1):
        logic += effect * ((masks & subset) != 0 if is_or else (masks & subset) == subset)
        if np.sum((v - logic) ** 2) <= (1 - explained) * total:
            return float(k)
    return float("nan")


def walsh_r2(v: Float[np.ndarray, "s"], k: int) -> float:
    """R² of v on all masks from the mean and the k strongest Walsh (Fourier) coefficients; nan where v is constant.

    The rival of k effects: Walsh functions are orthogonal, so that none k of them do better (O'Donnell, Analysis of
    Boolean Functions, 2014, section 1.3).
    """
    _check_k("walsh_r2", k, least=0)
    powers = _walsh_powers(v)[1:]
    return _ratio(float(np.sort(powers)[::-1][:k].sum()), float(powers.sum()))


def low_order_r2(v: Float[np.ndarray, "s"], highest: int = 2) -> float:
    """R² of v on all masks by least squares on all effects of order up to `highest`; nan where v is constant.

    With `highest` 2 that is regression on words and pairs of words, 1 + n + n (n - 1) / 2 coefficients, the rival that
    needs no search. ANDs, ORs and Walsh functions up to one order give the same functions, of which the last are
    orthogonal: their powers add up.
    """
    powers = _walsh_powers(v)
    return _ratio(float(powers[orders(n_players_of(v)) <= highest].sum()), float(powers.sum()))


def _walsh_powers(v: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s"]:
    """Squares of the Walsh coefficients of v without its mean; entry S is the parity of the players in S."""
    return (kron_power(((1, 1), (1, -1)), v - v.mean()) / v.size) ** 2


def sparsity_curve(
    and_effects: Float[np.ndarray, "s"], or_effects: Float[np.ndarray, "s"]
) -> Float[np.ndarray, "effects"]:
    """|I| of every AND and OR effect in descending order, zeros included: `[2**(n+1) - n - 2]` for n players.

    That is 2**n - 1 AND effects and 2**n - 1 - n OR effects of two players or more (arXiv 2401.16318, figure 2).
    """
    effects = _stack(and_effects, or_effects)
    order = orders(n_players_of(effects))
    return np.sort(np.abs(np.concatenate([effects[0, order >= 1], effects[1, order >= 2]])))[::-1]


def sparsity_curves(pairs: Sequence[tuple]) -> Float[np.ndarray, "prompts effects"]:
    """`sparsity_curve` of every (AND, OR) pair over its strongest effect; zeros where another has more effects."""
    found = [sparsity_curve(*pair) for pair in pairs]
    curves = np.zeros((len(found), max(curve.size for curve in found)))
    for row, curve in zip(curves, found, strict=True):
        row[: curve.size] = curve / (curve[0] or 1.0)
    return curves


def salient(
    and_effects: Float[np.ndarray, "s"], or_effects: Float[np.ndarray, "s"], tau: float = SALIENT
) -> tuple[Bool[np.ndarray, "s"], Bool[np.ndarray, "s"]]:
    """Which AND and which OR effects have |I| > tau * max |I|, the maximum over both (arXiv 2401.16318, section 3)."""
    chosen = _salient(_stack(and_effects, or_effects), tau)
    return chosen[0], chosen[1]


def salient_count(and_effects: Float[np.ndarray, "s"], or_effects: Float[np.ndarray, "s"], tau: float = SALIENT) -> int:
    """Number of salient effects, AND and OR together; 0 for a model without effects."""
    return int(_salient(_stack(and_effects, or_effects), tau).sum())


def transfer(first: Pair, second: Pair, k: int = 50) -> Transfer:
    """s_and, s_or = |top-k of one model ∩ top-k of the other| / k (arXiv 2401.16318, definition 1).

    Sign is ignored, as in the definition. Where neither model has k effects above the solver's dust, the divisor is
    the larger of their two counts, so that a model always transfers fully to itself and an effect that only one of
    them has counts as not shared. Chance level of two random choices: about k / 2**n_players.
    """
    _check_k("transfer", k, least=1)
    _check_same(first, second, "transfer")
    tops = []
    for pair in (first, second):
        top = ranking(*pair).real
        tops.append([top.subset[top.is_or == kind][:k] for kind in (False, True)])
    counts = [max(a.size, b.size) for a, b in zip(*tops, strict=True)]
    shares = [
        _ratio(np.intersect1d(*both).size, count) for both, count in zip(zip(*tops, strict=True), counts, strict=True)
    ]
    return Transfer(k, *shares, *counts)


def weighted_overlap(first: Pair, second: Pair, ranges: tuple[float, float]) -> float:
    """sum min(|I1|, |I2|) over effects of one sign / sum max(|I1|, |I2|) over all effects, AND and OR. In [0, 1].

    A weighted Jaccard index: 1 for equal effects, 0 for disjoint or opposite ones. `ranges` are the two models'
    |v(N) - v(∅)| (`output_range`); each model's effects are divided by its own. nan when a range is 0 or neither
    model has an effect.
    """
    _check_same(first, second, "weighted_overlap")
    if min(ranges) == 0:
        return float("nan")
    one, two = (_stack(*pair) / scale for pair, scale in zip((first, second), ranges, strict=True))
    smaller, larger = np.minimum(np.abs(one), np.abs(two)), np.maximum(np.abs(one), np.abs(two))
    return _ratio(float(smaller[one * two > 0].sum()), float(larger.sum()))


def shuffled(pair: Pair, rng: np.random.Generator) -> Pair:
    """The same effects on other subsets of the same order, AND and OR apart: equal order strengths, nothing shared but
    by chance."""
    order = orders(n_players_of(pair[0]))
    moved = tuple(effects.copy() for effects in pair)
    for effects, others in zip(pair, moved, strict=True):
        for each in range(1, order.max() + 1):
            places = np.flatnonzero(order == each)
            others[places] = effects[rng.permutation(places)]
    return moved


def order_strength(
    and_effects: Float[np.ndarray, "s"], or_effects: Float[np.ndarray, "s"], tau: float = 0.0
) -> OrderStrength:
    """All+(o) and All-(o): strength of the positive and the negative effects of each order (arXiv 2401.16318, sec. 3).

    tau = 0 takes every effect. The paper takes the salient ones, tau = 0.05, which hides a spindle made of many weak
    effects.
    """
    effects = _stack(and_effects, or_effects)
    return _order_strength(effects, _salient(effects, tau))


def shared_order_strength(first: Pair, second: Pair, tau: float = SALIENT) -> tuple[OrderStrength, OrderStrength]:
    """Shared+(o) and Shared-(o) of both models, over the effects salient in both (arXiv 2401.16318, section 3).

    Each model's own signed values are summed; as in the paper, a shared effect may differ in sign.
    """
    _check_same(first, second, "shared_order_strength")
    one, two = _stack(*first), _stack(*second)
    shared = _salient(one, tau) & _salient(two, tau)
    return _order_strength(one, shared), _order_strength(two, shared)


def cancellation(strength: OrderStrength) -> Cancellation:
    """1 - |sum I| / sum |I| at each order and overall, from order strengths of any kind (all, shared, mean)."""
    positive, negative = strength.positive, strength.negative
    pairs = zip([*positive, positive.sum()], [*negative, negative.sum()], strict=True)
    *per_order, overall = (1 - _ratio(abs(up - down), up + down) for up, down in pairs)
    return Cancellation(per_order=np.array(per_order, dtype=np.float64), overall=overall)


def share_with(pair: Pair, players: Sequence[bool]) -> float:
    """Share of the strength (sum of |effect|, AND and OR) in effects with any of the players that are true, one per
    player; nan where there are no effects.

    With the players that should not matter it is the share of unreliable effects of Chen et al. (legal LLMs), of which
    the rest, of relevant players only, are reliable.
    """
    effects = np.abs(_stack(*pair))
    n_players = n_players_of(effects)
    if len(players) != n_players:
        raise ValueError(f"share_with(players=...) must be one per player; got {len(players)} for {n_players} players.")
    chosen = sum(1 << player for player, is_one in enumerate(players) if is_one)
    return _ratio(float(effects[:, np.arange(effects.shape[1]) & chosen != 0].sum()), float(effects.sum()))


def ips(first: Pair, second: Pair, tau: float = 0.1) -> PromptSensitivity:
    """Interaction-based prompt sensitivity of one model between two phrasings of one prompt (Qin et al., eq. 3).

    The mean of 2 |I1 - I2| / (|I1| + |I2|) over the effects, AND and OR, that are salient in either phrasing. The
    factor 2 is that of the symmetric mean absolute percentage error, which the paper says it takes. Its equation 3
    shows none, but all of its numbers (1.22 to 1.78, table 3) are above 1, the most there is without.

    Each phrasing's effects are divided by their largest |I|. The paper subtracts the smallest |I| first, which is 0
    here, where an OR of one player is none. The types of stability are told of effects so divided too; one that is
    within the solver's dust has no sign to turn. The caller matches the players of the phrasings one to one, and takes
    the mean over pairs of phrasings, then over prompts.
    """
    _check_same(first, second, "ips")
    stacked = [_stack(*pair) for pair in (first, second)]
    one, two = (effects / (np.abs(effects).max() or 1.0) for effects in stacked)
    union = _salient(one, tau) | _salient(two, tau)
    n_players = n_players_of(one)
    order, one, two = np.broadcast_to(orders(n_players), union.shape)[union], one[union], two[union]
    terms = 2 * np.abs(one - two) / (np.abs(one) + np.abs(two))
    smaller, larger = np.minimum(np.abs(one), np.abs(two)), np.maximum(np.abs(one), np.abs(two))
    opposite = (one * two < 0) & (smaller > DUST)
    different = ~opposite & (smaller < larger / 2)
    third, two_thirds = n_players // 3, 2 * n_players // 3

    def mean(numbers, chosen=True):
        kept = np.broadcast_to(chosen, order.shape)
        return _ratio(float(numbers[kept].sum()), int(kept.sum()))

    return PromptSensitivity(
        count=order.size,
        ips=mean(terms),
        per_order=np.array([mean(terms, order == each) for each in range(1, n_players + 1)]),
        low=mean(terms, order <= third),
        middle=mean(terms, (third < order) & (order <= two_thirds)),
        high=mean(terms, two_thirds < order),
        opposite=mean(opposite),
        different=mean(different),
        similar=mean(~opposite & ~different),
    )


def _stack(and_effects, or_effects) -> np.ndarray:
    """AND and OR effects, float64 `[2, 2**n]`, without the constant and with one-player ORs counted as ANDs."""
    effects = [np.asarray(and_effects, dtype=np.float64), np.asarray(or_effects, dtype=np.float64)]
    if effects[0].ndim != 1 or effects[0].shape != effects[1].shape:
        raise ValueError(
            f"and_effects and or_effects must both be [2**n_players]; got {effects[0].shape} and {effects[1].shape}. "
            "Give the effects of one prompt at a time."
        )
    single = 1 << np.arange(n_players_of(effects[0], "and_effects"))
    stacked = np.stack(effects)
    if not np.isfinite(stacked).all():
        raise ValueError("and_effects and or_effects must be finite; got nan or inf. Check the values extracted from.")
    stacked[:, 0] = 0
    stacked[0, single] += stacked[1, single]
    stacked[1, single] = 0
    return stacked


def _salient(effects: np.ndarray, tau: float) -> np.ndarray:
    return np.abs(effects) > tau * np.abs(effects).max()


def _order_strength(effects: np.ndarray, chosen: np.ndarray) -> OrderStrength:
    n_players = n_players_of(effects)
    order = np.tile(orders(n_players), 2)
    values = np.where(chosen, effects, 0).ravel()
    positive, negative = (
        np.bincount(order, weights=np.maximum(side, 0), minlength=n_players + 1)[1:] for side in (values, -values)
    )
    return OrderStrength(positive, negative, (n_players,))


def _ratio(part: int | float, whole: int | float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _check_k(call: str, k: int, least: int) -> None:
    if k < least:
        raise ValueError(f"{call}(k=...) must be at least {least}; got {k}.")


def _check_same(first: Pair, second: Pair, call: str) -> None:
    if np.shape(first[0]) != np.shape(second[0]):
        raise ValueError(
            f"{call}(first, second) must have the same players; got effects of shape {np.shape(first[0])} and "
            f"{np.shape(second[0])}. Compare models on one prompt, with one choice of players."
        )
