"""Games with known effects: a few at random, rules, or a part that decays with order beside one that is a spindle."""

from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int

from andor.core import lattice
from andor.core.certificate import reconstruct


@dataclass(frozen=True, eq=False)
class Game:
    """A function with known effects, `[2**n_players]` each; `v` has noise."""

    and_effects: Float[np.ndarray, "s"]
    or_effects: Float[np.ndarray, "s"]
    v: Float[np.ndarray, "s"]


def sparse(
    rng: np.random.Generator, n_players: int, decay: float, n_and: int = 15, n_or: int = 10, sigma: float = 0.01
) -> Game:
    """A few effects of normal size.

    Args:
      decay: the order of an effect, which is at least 1 for AND and 2 for OR, is o with a chance that goes as decay**o.
      n_and, n_or: how many.
      sigma: standard deviation of the noise on v.
    """
    orders = lattice.orders(n_players)
    share = np.array([0.0] + [decay**o for o in range(1, n_players + 1)])
    chance = (share / np.bincount(orders))[orders]
    effects = np.zeros((2, 2**n_players))
    for of_kind, least_order, count in zip(effects, (1, 2), (n_and, n_or), strict=True):
        allowed = np.where(orders >= least_order, chance, 0.0)
        chosen = rng.choice(2**n_players, count, replace=False, p=allowed / allowed.sum())
        of_kind[chosen] = rng.normal(size=count)
    return Game(*effects, reconstruct(*effects) + sigma * rng.normal(size=2**n_players))


def mixture(
    rng: np.random.Generator,
    n_players: int,
    share: float,
    rate: float,
    ratio: float,
    or_too: bool,
    noise: float,
) -> tuple[Game, float]:
    """About 30 decaying effects and 100 weaker spindle ones; with the strength of the spindle / that of all.

    Each part's effects lie on different subsets and are exponentially distributed, so that their strength per order
    follows the part's shape in the mean.

    Args:
      share: of the spindle in the mean strength.
      rate: k of the decay, both signs; 70% of the decaying effects are positive.
      ratio: r of the spindle.
      or_too: half of the effects of two players or more are OR effects; else all are AND effects.
      noise: standard deviation on v, in units of |v(N) - v(∅)|.
    """
    order = np.arange(1, n_players + 1)
    decay = np.exp(-rate * order)
    bulge = np.array([comb(n_players, int(o)) for o in order]) * ratio**order
    effects = np.zeros((2, 2, 2**n_players))  # decay or spindle, AND or OR, subset
    parts = ((decay, 30, 1 - share, 0.7), (bulge, 100, share, 0.5))
    for part, (shape, count, strength, positive) in enumerate(parts):
        shape = shape / shape.sum()
        for o in order:
            subsets = np.flatnonzero(lattice.orders(n_players) == o)
            places = [(0, s) for s in subsets] + [(1, s) for s in subsets if or_too and o > 1]
            chosen = rng.permutation(len(places))[: max(1, rng.poisson(count * shape[o - 1]))]
            for place in chosen:
                sign = 1 if rng.random() < positive else -1
                effects[part][places[place]] = sign * rng.exponential() * strength * shape[o - 1] / chosen.size
    strengths = np.abs(effects).sum(axis=(1, 2))
    and_effects, or_effects = effects.sum(axis=0)
    v = reconstruct(and_effects, or_effects)
    v = v + noise * abs(v[-1] - v[0]) * rng.normal(size=v.size)
    return Game(and_effects, or_effects, v), float(strengths[1] / strengths.sum())


@dataclass(frozen=True, eq=False)
class Rules:
    """AND and OR rules over some items: the players of a game, or the words of a language.

    Attributes:
      is_or: `[rules]`.
      members: `[rules, items]`, which items a rule is about.
      strength: `[rules]`, signed, in log-odds (nats).
    """

    is_or: Bool[np.ndarray, "rules"]
    members: Bool[np.ndarray, "rules items"]
    strength: Float[np.ndarray, "rules"]

    def log_odds(self, present: Bool[np.ndarray, "*batch items"]) -> Float[np.ndarray, "*batch"]:
        """Sum of the strengths of the rules that hold where these items are present."""
        found = present.astype(np.int64) @ self.members.T.astype(np.int64)
        holds = np.where(self.is_or, found > 0, found == self.members.sum(axis=1))
        return holds @ self.strength

    def effects(self, items: Int[np.ndarray, "players"]) -> tuple[np.ndarray, np.ndarray]:
        """The rules as AND and OR effects `[2**n_players]` of a game whose players are these items, in this order.

        An AND rule with an item that is no player never holds. An OR rule is left with its items that are players; of
        one such item it is the same as an AND. Rules that become the same effect add up.
        """
        bits = 2 ** np.arange(len(items))
        and_effects, or_effects = np.zeros((2, 2 ** len(items)))
        for is_or, members, strength in zip(self.is_or, self.members, self.strength, strict=True):
            inside = members[items]
            subset = int(bits @ inside)
            if is_or and inside.sum() >= 2:
                or_effects[subset] += strength
            elif inside.any() and (is_or or inside.sum() == members.sum()):
                and_effects[subset] += strength
        return and_effects, or_effects


def random_rules(
    n_items: int, and_orders: tuple[int, ...], or_orders: tuple[int, ...], rng: np.random.Generator
) -> Rules:
    """One rule per given order, about different random items; strengths of random sign, 0.5 to 1.5 nats."""
    members, seen = [], set()
    for is_or, order in [*((False, order) for order in and_orders), *((True, order) for order in or_orders)]:
        while True:
            row = np.zeros(n_items, bool)
            row[rng.choice(n_items, order, replace=False)] = True
            if (is_or, row.tobytes()) not in seen:
                break
        seen.add((is_or, row.tobytes()))
        members.append(row)
    n_rules = len(members)
    strength = rng.choice([-1.0, 1.0], n_rules) * rng.uniform(0.5, 1.5, n_rules)
    return Rules(np.arange(n_rules) >= len(and_orders), np.array(members), strength)
