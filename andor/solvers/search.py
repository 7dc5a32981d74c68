"""The search for few AND and OR effects that give v by least squares.

An effect counts, not its size. With k effects that leave the sum of squares RSS over the m = 2**n_players - 1 masks
(v(∅) is exact),

    criterion = m log(RSS / m) + 2 k log(possible effects)

is made small: the likelihood of v under normal noise of unknown size, and the price at which noise alone seldom buys an
effect (the risk inflation criterion: Foster & George, Ann. Statist. 22, 1994). Its least value is a combinatorial
matter. The search starts twice, from given effects and from none, moves as long as the criterion falls, and the better
end is taken. Its moves:

    prune   drop the effect that matters least
    grow    add the effect that helps most
    flip    write an AND as the OR of its players and ANDs of some of them, or an OR as ANDs (inclusion and exclusion),
            one or two at a time, and prune: at {i} + {j} = AND{ij} + OR{ij} and its like, single steps are stuck

All inner products of effects have closed forms, so that no step touches the masks. Nothing is drawn at random, and no
step looks at the numbers of the players. Ties are common (of {i}, {j}, AND{ij} and OR{ij} any three give what any other
three give); they go to the lower order, then to less strength. What still ties is a symmetry of v, which is kept: such
effects are dropped, added or flipped together, or not at all.

`estimated_noise` grows and prunes once, from none, which takes hundredths of a second: what that leaves of v is what no
few effects give.
"""

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.core.problem import Array, Solution

MOST_NOISE = 0.2
"""Of the spread of v (its standard deviation over the masks). Of bounds from 0.05 to 0.4 those near it give R² of the
strongest 20 effects of real models' v that are best, and better than both published bounds."""

# Unexplained rest, in the units of v - v(∅), below which nothing is left to explain.
_NOTHING = 1e-5

# Criteria this close tie, and so do sums of squares this close relatively. A step gains 10 and more.
_TIE = 1e-2
_TIE_RELATIVE = 1e-5

# Losses below this share of all there is to explain are 0 but for rounding.
_ROUNDING = 1e-17

# Of effects that depend on each other any can be spared, at so much of its own square: the weaker are dropped.
_RIDGE = 1e-12

# A column of which less than this is new, squared, depends on those that are there.
_DEPENDENT = 1e-6

# Flips of more players bring too many effects in to be of use; pairs of flips, their square in number, are for few.
_MOST_FLIPPED = 4
_MOST_FOR_PAIRS = 40

# Rounds of growing and flipping; 3 to 10 are usual.
_ROUNDS = 100

# The search starts from so many effects of the optimum at most, and from none weaker than this share of the strongest.
_START = 200
_WEAK = 1e-2


def estimated_noise(v: Float[Array, "s"]) -> float:
    """How much of v is noise: a bound on |v - effects|, in log-odds, from v alone.

    The largest |v - effects| that is left when as many effects are fitted as pay for themselves, or `MOST_NOISE` of the
    spread of v where that is less. On games whose noise is known it is 0.8 to 0.9 of the largest error (`python -m
    experiments estimator_benchmark`). A model's v is no sum of few effects and noise; there the limit decides, and so
    it does with few players, whose masks are too few to tell noise from effects.
    """
    search = Search(v, None)
    left = v - reconstruct(*search.quick())
    return float(min(np.max(np.abs(left)), MOST_NOISE * search.scale * np.std(v / search.scale)))


def strongest_columns(solution: Solution) -> Int[Array, "k"]:
    """Columns of the strongest effects of an optimum, at least 1% of the strongest."""
    strength = np.abs(np.concatenate([solution.and_effects, solution.or_effects]))
    strength[0] = 0.0
    ranked = np.sort(strength)[::-1]
    least = max(ranked[min(_START, ranked.size) - 1] * (1 - _TIE_RELATIVE), _WEAK * ranked[0])
    return np.flatnonzero(strength > least)


class _Candidate(NamedTuple):
    """A set of effects, with what decides between sets: criterion, sum of the orders, strength."""

    criterion: float
    orders: int
    strength: float
    columns: Int[Array, "k"]

    def rank(self) -> tuple[int, int, float]:
        """Sorts sets, the better first."""
        return round(self.criterion / _TIE), self.orders, self.strength

    def better(self, other: "_Candidate") -> bool:
        """Whether the criterion is lower, or equal at lower order, or then at less strength."""
        if abs(self.criterion - other.criterion) > _TIE:
            return self.criterion < other.criterion
        if self.orders != other.orders:
            return self.orders < other.orders
        return self.strength < other.strength * (1 - _TIE_RELATIVE)

    def ties(self, other: "_Candidate") -> bool:
        """Whether nothing that counts tells the two apart, but a symmetry of v may."""
        near = abs(self.criterion - other.criterion) <= _TIE and self.orders == other.orders
        return near and abs(self.strength - other.strength) <= _TIE_RELATIVE * (self.strength + other.strength)


class Search:
    """The search for one v. Effects are columns: subset S for AND_S, 2**n_players + S for OR_S."""

    def __init__(self, v: Float[Array, "s"], most: int | None):
        self.n_players, self.size = lattice.n_players_of(v), v.size
        self.v = v
        difference = v - v[0]
        self.scale = float(np.max(np.abs(difference))) or 1.0  # squares of what is divided by it do not overflow
        difference = difference / self.scale
        orders = lattice.orders(self.n_players)
        self.possible = np.concatenate([orders >= 1, orders >= 2])
        self.orders = np.tile(orders, 2)
        self.with_v = np.concatenate([lattice.zeta_transposed(difference), lattice.or_sums_transposed(difference)])
        self.total = float(difference @ difference)
        self.masks = v.size - 1
        # More effects than half of the masks say nothing; of up to three players every v is explained.
        self.most = self.masks if self.n_players <= 3 else self.masks // 2
        self.most = self.most if most is None else min(most, self.most)
        self.price = 2 * math.log(np.count_nonzero(self.possible))
        within = 2.0 ** (self.n_players - orders)
        self.norms = np.where(self.possible, np.concatenate([within, 2.0**self.n_players - within]), 1.0)

    def best_of(self, one: Int[Array, "k"], other: Int[Array, "j"]) -> Int[Array, "found"]:
        """The better of what is found from two starts."""
        if not self.total > 0:
            return other
        found, again = self.run(one), self.run(other)
        return (again if again.better(found) else found).columns

    def quick(self) -> tuple[Float[Array, "s"], Float[Array, "s"]]:
        """(AND effects, OR effects) of growing from none and pruning once."""
        none = np.empty(0, np.int64)
        return self.fitted(self.pruned(self.grown(none)).columns if self.total > 0 else none)

    def run(self, columns: Int[Array, "k"]) -> _Candidate:
        """Prune, grow and flip until nothing lowers the criterion."""
        best = self.pruned(columns)
        for _ in range(_ROUNDS):
            found = self.pruned(self.grown(best.columns))
            found = self.flipped(found if found.better(best) else best)
            if not found.better(best):
                break
            best = found
        return best

    def fitted(self, columns: Int[Array, "k"]) -> tuple[Float[Array, "s"], Float[Array, "s"]]:
        """(AND effects, OR effects) by least squares on all masks."""
        effects = np.zeros(2 * self.size)
        masks, subsets = np.arange(1, self.size)[:, None], (columns % self.size)[None]
        values = np.where(columns[None] < self.size, (masks & subsets) == subsets, (masks & subsets) != 0)
        effects[columns] = np.linalg.lstsq(values.astype(float), (self.v - self.v[0])[1:], rcond=None)[0]
        effects[0] = self.v[0]
        return effects[: self.size], effects[self.size :]

    def products(self, one: Int[Array, "k"], other: Int[Array, "j"]) -> Float[Array, "k j"]:
        """Inner products of columns over all masks: how many masks have both."""
        holding = 2.0 ** (self.n_players - np.arange(self.n_players + 1))  # masks that hold so many players
        one, other = one[:, None], other[None, :]
        of_one, of_other = (x % self.size for x in (one, other))
        with_one, with_other, with_both = (holding[np.bitwise_count(x)] for x in (of_one, of_other, of_one | of_other))
        # An AND without one of the OR's players leaves out the masks that hold it and none of these.
        apart = np.where(of_one & of_other, 0.0, with_both)
        of_or = np.where(other < self.size, with_other - apart, 2.0**self.n_players - with_one - with_other + with_both)
        return np.where(one < self.size, np.where(other < self.size, with_both, with_one - apart), of_or)

    def criterion(self, rest: float, count: int) -> float:
        return self.masks * math.log(max(rest / self.total, 0.0) + _NOTHING**2) + self.price * count

    def fit(self, columns: Int[Array, "k"]) -> tuple[Float[Array, "k k"], Float[Array, "k"], float]:
        """(inverse of the inner products, coefficients, sum of squares left)."""
        products = self.products(columns, columns)
        scale = 1 / np.sqrt(np.diag(products))
        scaled = products * scale[:, None] * scale[None, :]
        inverse = known = np.linalg.inv(scaled + _RIDGE * np.eye(len(columns)))
        if len(columns) and float(np.max(np.diag(inverse))) >= 1 / _DEPENDENT:
            # Least squares of least norm. Nearly infinite in between: those that depend on each other can be spared.
            values, vectors = np.linalg.eigh(scaled)
            known = (vectors * np.where(values > _RIDGE, 1 / np.maximum(values, _RIDGE), 0.0)) @ vectors.T
            inverse = known + (vectors * np.where(values > _RIDGE, 0.0, 1 / _RIDGE)) @ vectors.T
        inverse, known = (x * scale[:, None] * scale[None, :] for x in (inverse, known))
        effects = known @ self.with_v[columns]
        return inverse, effects, float(self.total + effects @ (products @ effects - 2 * self.with_v[columns]))

    def pruned(self, columns: Int[Array, "k"]) -> _Candidate:
        """Without the effects that do not pay, or that are too many, the least first."""
        inverse, effects, rest = self.fit(columns)
        kept_for_ties = np.zeros(len(columns), bool)
        while len(columns):
            loss = effects**2 / np.diag(inverse)
            open_ = np.where(kept_for_ties, np.inf, loss)
            least = open_.min()
            if least == np.inf:
                break
            tied = np.flatnonzero(open_ <= least * (1 + _TIE_RELATIVE) + _ROUNDING * self.total)
            now = self.criterion(rest, len(columns))
            too_many = len(columns) > self.most
            # One of them does not pay: nor do several.
            if not too_many and self.criterion(rest + least, len(columns) - 1) >= now:
                break
            keep = np.setdiff1d(np.arange(len(columns)), tied)
            place = tied[0]
            # Of one that depends on others the inverse is nearly infinite, and subtracting from it loses its digits.
            if len(tied) == 1 and inverse[place, place] * self.norms[columns[place]] < 1 / _DEPENDENT:
                share = inverse[:, place] / inverse[place, place]
                without = (inverse - np.outer(share, inverse[place]))[np.ix_(keep, keep)]
                inverse, effects, rest = without, (effects - share * effects[place])[keep], rest + least
            else:
                together = self.fit(columns[keep])
                if len(tied) > 1 and not too_many and self.criterion(together[2], len(keep)) >= now:
                    kept_for_ties[tied] = True
                    continue
                inverse, effects, rest = together
            columns, kept_for_ties = columns[keep], kept_for_ties[keep]
        return _Candidate(
            self.criterion(rest, len(columns)),
            int(self.orders[columns].sum()),
            float(np.abs(effects).sum()),
            columns,
        )

    def grown(self, columns: Int[Array, "k"]) -> Int[Array, "more"]:
        """With the effects that pay, the best first; up to twice as many as are allowed."""
        limit = min(2 * self.most, self.masks)
        every = np.arange(2 * self.size)
        inverse, effects, rest = self.fit(columns)
        rows = self.products(columns, every)
        new = self.norms - np.sum(rows * (inverse @ rows), axis=0)  # what of each column is not in those there are
        with_rest = self.with_v - effects @ rows
        while len(columns) < limit:
            usable = self.possible & (new > _DEPENDENT * self.norms)
            usable[columns] = False
            gain = np.where(usable, with_rest**2 / np.where(usable, new, 1.0), 0.0)
            best = gain.max()
            if self.criterion(rest - best, len(columns) + 1) >= self.criterion(rest, len(columns)):
                break
            for column in np.flatnonzero(gain >= best * (1 - _TIE_RELATIVE)):
                if new[column] <= _DEPENDENT * self.norms[column]:  # on others that tie with it: all come in
                    columns = np.append(columns, column)
                    inverse, effects, rest = self.fit(columns)
                    rows = self.products(columns, every)
                    continue
                of_column = rows[:, column]
                towards = inverse @ of_column
                row = self.products(np.array([column]), every)[0]
                outside = row - towards @ rows
                size = outside[column]
                rest -= with_rest[column] ** 2 / size
                with_rest = with_rest - outside * with_rest[column] / size
                new = new - outside**2 / size
                border = np.append(-towards, 1.0)
                inverse = np.pad(inverse, (0, 1)) + np.outer(border, border) / size
                rows, columns = np.vstack([rows, row]), np.append(columns, column)
        return columns

    def flipped(self, best: _Candidate) -> _Candidate:
        """With the flips that lower the criterion, the best first: of one effect, or where none does, of two."""
        several = [column for column in best.columns.tolist() if 2 <= self.orders[column] <= _MOST_FLIPPED]
        singles = {(column,): self.flip(best.columns, (column,)) for column in several}
        found = self.taken(best, singles.values())
        if found is not best or len(best.columns) > _MOST_FOR_PAIRS:
            return found
        costs = {column: each.criterion - best.criterion for (column,), each in singles.items()}
        pairs = [
            (one, other)
            for one, other in itertools.combinations(several, 2)
            # Each of the parts that both bring may cancel, which saves two effects at most.
            if costs[one] + costs[other] <= 2 * self.price * (2 ** (one & other & (self.size - 1)).bit_count() - 1)
        ]
        return self.taken(best, [self.flip(best.columns, pair) for pair in pairs])

    def taken(self, best: _Candidate, found: Iterable[_Candidate]) -> _Candidate:
        """With what better candidates bring, the best first, if it then still is better; what ties together."""
        groups: list[list[_Candidate]] = []
        seen = set()
        for each in sorted(found, key=_Candidate.rank):
            name = tuple(sorted(each.columns.tolist()))
            if not each.better(best) or name in seen:
                continue
            seen.add(name)
            if groups and each.ties(groups[-1][0]):
                groups[-1].append(each)
            else:
                groups.append([each])
        first = best
        for group in groups:
            candidate = group[0]
            if best is not first or len(group) > 1:
                together = set(best.columns.tolist() if best is not first else [])
                candidate = self.pruned(np.array(sorted(together.union(*(each.columns.tolist() for each in group)))))
            if candidate.better(best):
                best = candidate
        return best

    def flip(self, columns: Int[Array, "k"], move: tuple[int, ...]) -> _Candidate:
        """Write the effects of a move in the other kind, with all ANDs of some of their players, and prune."""
        brought = {self.size ^ column for column in move}
        for column in move:
            subset = column % self.size
            part = (subset - 1) & subset
            while part:
                brought.add(part)
                part = (part - 1) & subset
        return self.pruned(np.array(sorted((set(columns.tolist()) | brought) - set(move)), np.int64))
