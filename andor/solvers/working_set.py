"""Exact solver for many players: the central path of `InteriorPoint`, on the masks and effects that matter.

Where noise is allowed, few masks are tight at the optimum (their noise is at its bound) and few effects are not 0, and
a step of the interior point method is all but decided by these. Its normal matrix, on the rows T ≠ ∅ of all masks, is

    K = D + C Θ C^T,      C = [A B] the dictionaries,  Θ = primal / slack of every effect,  D the same of the noise

and comes to have two scales. With mu the product of every primal variable and its slack, Θ is x²/mu for an effect x
that is there and mu/slack² for one that is not; D is mu/y² for a tight mask and about bound²/mu for others. So take
the working set of masks R, where D is small, and of effects L, where Θ is large, and with E all other effects let

    P = D + C_L Θ_L C_L^T + (C_E Θ_E C_E^T between the masks R; of the other masks, its diagonal).

P differs from K by what the other effects do at the other masks, which is a product of two small things. Its inverse
takes one factorisation of |R| + |L| unknowns: the other masks, which P couples through L alone, are eliminated from

    [ D + P's last term   C_L        ]  .
    [ C_L^T               -Θ_L^{-1}  ]

With P to precondition them, conjugate gradients on K need a handful of iterations late on the path, and some dozens
early, where a step need not be exact. Nothing else touches more than 2^n_players numbers at a time: products with C
and C^T are butterflies, and the blocks are gathered from butterflies, since the masks that two effects share are
supersets of a set.

No mask or effect is left out: those outside the working set take part in every product, in the length of a step and
in the certificate, and the working set is chosen again in every step, from D and Θ. So there is no restricted problem
that could have no solution, nothing to generate or to drop, and the method ends where `InteriorPoint` does and for the
same reason: it is the same method, with Newton steps that are inexact until late (R. S. Dembo et al., SIAM J. Numer.
Anal. 19, 1982). Interior point methods that leave constraints out of the normal matrix are those of A. L. Tits et al.,
SIAM J. Optim. 17 (2006); here they are left out of its preconditioner alone.

Where nearly all masks are tight (no noise allowed, or less than there is) nothing is gained, and another solver is
called: see `WorkingSet`.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import get_lapack_funcs

from andor.core import lattice
from andor.core.penalties import L1
from andor.core.problem import Array, Problem, RawSolution
from andor.devices.memory import host_bytes, require_memory
from andor.solvers.central_path import loop_on_host
from andor.solvers.coordinates import MASKS
from andor.solvers.first_order import FirstOrder
from andor.solvers.interior_point import Barrier, Exact, InteriorPoint, answer_of, path, tie_breaking

_sytrf, _sytrs = get_lapack_funcs(("sytrf", "sytrs"), dtype=np.float64)

# A minute of the dense solver on a CPU, or some seconds on a GPU.
MOST_PLAYERS_DENSE = 13

# Below, the dense solver is as fast.
FEWEST_PLAYERS = 11

# Tight is a mask whose D is below this share of the median of D: at the end it is 1e-20, and for other masks about 1.
_TIGHT = 0.05

# Part of the working set is an effect whose change of P, and a mask whose neglected diagonal, is above this share of D.
_LIVE = 0.1
_COUPLED = 10.0

# Effects and masks (tight ones apart) in the first working set, the factor by which more are allowed, and how much more
# time the iterations of a step must take than a factorisation with those would.
_FIRST = 100
_GROWTH = 1.5
_GAIN = 1.5

# Iterations at most: a direction that is not exact by then is good enough for a step.
_MOST_ITERATIONS = 100

# A direction is exact when its residual is this share of what the effects miss of v, which steps make vanish, or is
# rounding at unit scale; and when its error y has y·K y below this share of the product of primal variables and slacks,
# so that no slack is off by more than the root of it. Late, residuals along live effects are above rounding, and
# harmless: an exact direction whose residual does not shrink in so many iterations more is as good as there is.
_RESIDUAL = 0.1
_ROUNDING = 1e-13
_ERROR = 1e-6
_STALLED = 10

# Unknowns of the largest working set: a share of the masks, beyond which a dense step is cheaper, and what memory and
# patience hold. Tight masks alone must be no more than a share of it.
_LARGEST_SHARE = 0.75
_LARGEST = 10_000
_TIGHT_SHARE = 0.6


# Steps in which what the effects miss of v has to halve, until its length at unit scale is less than this: where
# iterations on the largest working set that pays do not come near a direction, too many masks are tight.
_PATIENCE = 5
_FEASIBLE = 1e-3


class _TooManyTight(Exception):
    """The working set would be most of the problem."""


@dataclasses.dataclass(frozen=True)
class WorkingSet(Exact):
    """Exact AND-OR solver for many players: the answer of `InteriorPoint`, up to rounding. Settings as for `Exact`.

    Runs on the host, in NumPy. Memory is some hundred arrays of 2**n_players numbers and a few matrices of the size of
    the working set; time is that of n_players 2**n_players operations some thousand times over, and of one
    factorisation of the working set a step.

    It is for problems most of whose masks are not tight. Others are handed on: with fewer than 11 players, without
    noise, or where the working set would be most of the problem, to `InteriorPoint` up to 13 players, with the same
    answer, and to `FirstOrder` beyond, whose status says so.

    Attributes:
      max_steps: Newton steps at most; 30 to 50 are usual up to 14 players, and up to 100 at 16.
      progress: called as progress(step, masks, effects) in every step, with the size of the working set.
    """

    penalties: ClassVar[tuple[type, ...]] = (L1,)

    max_steps: int = 200
    progress: Callable[[int, int, int], None] | None = None

    def bytes_of_one(self, n_players: int, n_models: int = 1) -> int:
        """Memory of one problem: iterates and directions, and the largest matrix of a working set, three times."""
        del n_models
        largest = _largest(n_players)
        return 8 * (120 * 2**n_players + 3 * largest**2)

    def check_memory(self, n_players: int, n_models: int = 1, n_problems: int = 1, caller: str = "extract") -> None:
        """Raise ValueError when a problem of so many players does not fit in the memory of the host."""
        del n_models, n_problems  # one after the other
        needed = self.bytes_of_one(n_players)
        require_memory(caller, self, n_players, needed, host_bytes(), "Use fewer players.")

    def solve(self, problem: Problem) -> RawSolution:
        """Solve a batch of problems. `andor.extract` is the front door, with checks and certificate."""
        groups, models, size = problem.v.shape
        bounds = problem.noise_bound.ravel()
        each = [
            self._solve_one(problem, v, bound) for v, bound in zip(problem.v.reshape(-1, size), bounds, strict=True)
        ]
        shape = groups, models, size
        return RawSolution(
            and_effects=np.reshape([raw.and_effects for raw in each], shape),
            or_effects=np.reshape([raw.or_effects for raw in each], shape),
            dual_values=np.reshape([raw.dual_values for raw in each], shape),
            steps=np.max(np.reshape([raw.steps for raw in each], shape[:2]), axis=-1),
            advice=tuple(raw.advice[0] for raw in each[::models]),
        )

    def _solve_one(self, problem: Problem, v: Float[Array, "s"], bound: float) -> RawSolution:
        """The answer for one v, by whichever solver is for it: the dense one too where rounding stopped this one."""
        n_players = problem.n_players
        if n_players >= FEWEST_PLAYERS and bound > 0:
            try:
                found, converged = self._follow(problem, v, bound)
                if converged or n_players > MOST_PLAYERS_DENSE:
                    return found
            except _TooManyTight:
                pass
        alone = dataclasses.replace(problem, v=v[None, None], noise_bound=np.full((1, 1), bound))
        if n_players <= MOST_PLAYERS_DENSE:
            return InteriorPoint(self.tolerance, self.max_steps, self.tie_break).solve(alone)
        raw = FirstOrder().solve(alone)
        reason = "nearly all masks are tight at this noise bound, and FirstOrder() took over; allow more noise"
        return dataclasses.replace(raw, advice=(reason,))

    def _follow(self, problem: Problem, v: Float[Array, "s"], bound: float) -> tuple[RawSolution, bool]:
        """The end of the central path, and whether it is one."""
        scale = np.max(np.abs(v))
        weights = problem.weights * tie_breaking(problem.n_players, self.tie_break)
        newton = _Newton(problem.n_players, self.progress)
        tolerance = self.tolerance - self.tie_break
        at_unit_scale = v / scale, bound / scale, weights
        progress = path(*at_unit_scale, tolerance, self.max_steps, MASKS, newton, loop_on_host)
        and_effects, or_effects, dual_values = answer_of(progress.best, v / scale, MASKS)
        steps, gap = np.atleast_1d(progress.step), np.atleast_1d(progress.gap)
        effects = (np.asarray(x)[None, None] for x in (scale * and_effects, scale * or_effects, dual_values))
        return RawSolution(*effects, steps, self.advice(steps, gap)), bool(gap[0] <= tolerance)


def _largest(n_players: int) -> int:
    """Unknowns of the largest working set."""
    return min(_LARGEST, max(_FIRST, int(_LARGEST_SHARE * 2**n_players)))


def _iteration_seconds(size: int, unknowns: int) -> float:
    """Time of an iteration of conjugate gradients, as measured on a core of 2025; ratios matter here."""
    return 1e-8 * size * np.log2(size) + 1e-9 * unknowns**2


def _factor_seconds(unknowns: int) -> float:
    """Time of a factorisation, and of gathering what is factorised."""
    return 3.5e-11 * unknowns**3 + 4e-8 * unknowns**2


class _Newton:
    """From a barrier to the inverse of its normal matrix, by conjugate gradients on a working set of its own.

    Between steps it remembers how large a working set has to be, and nothing else.
    """

    def __init__(self, n_players: int, progress: Callable[[int, int, int], None] | None):
        self.largest = _largest(n_players)
        self.limit = _FIRST
        self.step = 0
        self.progress = progress
        self.last: _Preconditioner | None = None
        self.least_missing, self.at_step = np.inf, 0

    def __call__(self, barrier: Barrier, missing: Float[Array, "s"]) -> Callable:
        if self.last is not None:
            unknowns = len(self.last.pivots)
            spent = self.last.applied * _iteration_seconds(barrier.d_noise.size, unknowns)
            more = int(_GROWTH * self.limit)
            if spent > _GAIN * _factor_seconds(unknowns + more - self.limit):
                self.limit = more
        d_effects = np.stack([barrier.d_and, barrier.d_or])
        masks, effects = self.chosen(d_effects, np.asarray(barrier.d_noise))
        self.step += 1
        if self.progress is not None:
            self.progress(self.step, len(masks), len(effects))
        missed = float(np.linalg.norm(missing))
        if missed < self.least_missing / 2:
            self.least_missing, self.at_step = missed, self.step
        elif self.least_missing > _FEASIBLE and self.step - self.at_step >= _PATIENCE:
            raise _TooManyTight
        self.last = preconditioner = _Preconditioner(d_effects, barrier.d_noise, masks, effects)
        exact = max(_RESIDUAL * missed, _ROUNDING), _ERROR * float(barrier.product)

        def normal(y):
            t_and, t_or, _ = MASKS.correlations(y)
            return MASKS.total(barrier.d_and * t_and, barrier.d_or * t_or, barrier.d_noise * y)

        def solve(rhs):
            return _conjugate_gradients(normal, preconditioner, rhs, *exact)

        return solve

    def chosen(
        self, d_effects: Float[Array, "2 s"], d_noise: Float[Array, "s"]
    ) -> tuple[Int[Array, "m"], Int[Array, "k"]]:
        """Masks, and places in [AND effects, OR effects], of the working set. Raises _TooManyTight."""
        tight = d_noise < _TIGHT * np.median(d_noise[1:])
        tight[0] = False
        count = int(np.count_nonzero(tight))
        if count > _TIGHT_SHARE * self.largest:
            raise _TooManyTight
        limit = min(self.limit, (self.largest - count) // 2)
        softness = _inverse(d_noise)
        of_effects = d_effects * np.stack(MASKS.correlations(np.where(tight, 0.0, softness))[:2])
        effects = _top(of_effects.ravel(), _LIVE, limit)
        others = d_effects.copy()
        others.ravel()[effects] = 0.0
        coupled = softness * MASKS.total(*others, np.zeros_like(d_noise))
        coupled[tight] = 0.0
        masks = np.sort(np.concatenate([np.flatnonzero(tight), _top(coupled, _COUPLED, limit)]))
        return masks, effects


def _inverse(d: Float[Array, "s"]) -> Float[Array, "s"]:
    """1 / d, and 0 for mask ∅, which has no noise."""
    return np.divide(1.0, d, out=np.zeros_like(d), where=d > 0)


def _top(scores: Float[Array, "s"], least: float, most: int) -> Int[Array, "k"]:
    """Places of the scores above `least`, or of the highest so many, ascending."""
    found = np.flatnonzero(scores > least)
    if len(found) > most:
        found = np.sort(np.argpartition(scores, -most)[-most:])
    return found


def _conjugate_gradients(
    normal: Callable, preconditioner: Callable, rhs: Float[Array, "s"], residual: float, error: float
) -> Float[Array, "s"]:
    """y of least residual with normal(y) = rhs: to a residual of that length and an error of that y·normal(y)."""
    y, left, search, old = np.zeros_like(rhs), rhs, np.zeros_like(rhs), 1.0
    best, least, since = y, np.inf, 0
    for _ in range(_MOST_ITERATIONS):
        z = preconditioner(left)
        new, length = left @ z, np.linalg.norm(left)
        best, least, since = (y, length, 0) if length < least else (best, least, since + 1)
        if new <= error and (length <= residual or since >= _STALLED):
            break
        search = z + new / old * search
        image = normal(search)
        step = new / (search @ image)
        y, left, old = y + step * search, left - step * image, new
    return best


class _Preconditioner:
    """r -> P^{-1} r, for the P of the module's docstring; `applied` counts.

    Args:
      d_effects: Θ of AND and OR effects, `[2, s]`.
      d_noise: D, `[s]`, 0 for mask ∅.
      masks, effects: the working set.
    """

    def __init__(self, d_effects, d_noise, masks: Int[Array, "m"], effects: Int[Array, "k"]):
        size = d_noise.size
        ands, ors = effects[effects < size], effects[effects >= size] - size
        others = d_effects.copy()
        others.ravel()[effects] = 0.0
        # D of the other masks, with the diagonal of the other effects.
        softness = _inverse(d_noise + MASKS.total(*others, np.zeros_like(d_noise)) * (d_noise > 0))
        softness[masks] = 0.0

        count = len(masks)
        matrix = np.zeros((count + len(effects),) * 2, order="F")
        of_masks, of_effects = slice(count), slice(count, None)
        within = (masks[:, None] & ands) == ands
        touching = (masks[:, None] & ors) != 0
        matrix[of_masks, of_masks] = _between_masks(others, masks)
        matrix[of_effects, of_masks] = np.concatenate([within, touching], axis=1).T
        matrix[of_effects, of_effects] = -_between_effects(softness, ands, ors)
        diagonal = np.concatenate([d_noise[masks], -1.0 / d_effects.ravel()[effects]])
        np.einsum("ii->i", matrix)[:] += diagonal  # a view of the diagonal
        # Large entries of the diagonal to 1; small ones stay small against the zeros and ones beside them.
        self.scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1.0))
        matrix *= self.scale[:, None]
        matrix *= self.scale
        self.factor, self.pivots, failed = _sytrf(matrix, lower=1, lwork=64 * len(matrix) + 1, overwrite_a=1)
        assert not failed, failed
        self.softness, self.masks, self.effects = softness, masks, effects
        self.applied = 0

    def __call__(self, r: Float[Array, "s"]) -> Float[Array, "s"]:
        self.applied += 1
        alone = self.softness * r
        through = np.stack(MASKS.correlations(alone)[:2]).ravel()[self.effects]
        rhs = self.scale * np.concatenate([r[self.masks], -through])
        solved, failed = _sytrs(self.factor, self.pivots, rhs, lower=1)
        assert not failed, failed
        solved = self.scale * solved.ravel()
        held = np.zeros(2 * r.size)
        held[self.effects] = solved[len(self.masks) :]
        y = alone - self.softness * MASKS.total(*held.reshape(2, -1), np.zeros_like(r))
        y[self.masks] = solved[: len(self.masks)]
        return y


def _between_masks(d_effects: Float[Array, "2 s"], masks: Int[Array, "m"]) -> Float[Array, "m m"]:
    """C Θ C^T between masks: an AND counts where its players are in both, an OR where it touches both."""
    every = d_effects.shape[1] - 1
    of_and, of_or = lattice.zeta(d_effects)
    outside = of_or[every ^ masks]
    both = of_or[-1] - outside[:, None] - outside + of_or[every ^ (masks[:, None] | masks)]
    return of_and[masks[:, None] & masks] + both


def _between_effects(
    softness: Float[Array, "s"], ands: Int[Array, "a"], ors: Int[Array, "o"]
) -> Float[Array, "a+o a+o"]:
    """C^T diag(softness) C between effects: sums over the masks where both of two effects act."""
    size = softness.size
    every = size - 1
    holding = lattice.zeta_transposed(softness)
    within = lattice.zeta(softness)
    missed = within[every ^ ors]
    of_ors = within[-1] - missed[:, None] - missed + within[every ^ (ors[:, None] | ors)]
    across = np.repeat(holding[ands][:, None], len(ors), axis=1)
    # An AND acts where an OR does not on the masks that hold the one's players and none of the other's. Masks that hold
    # an AND's are a lattice of its free players; the sum over those without the OR's is a subset sum there.
    n_players = lattice.n_players_of(softness)
    orders = np.bitwise_count(ands)
    for order in np.unique(orders):
        group = np.flatnonzero(orders == order)
        free = np.argsort((ands[group][:, None] >> np.arange(n_players)) & 1, axis=1, kind="stable")
        free = free[:, : n_players - order]
        above = ands[group][:, None]
        place = np.zeros((len(group), len(ors)), dtype=np.int64)
        for position in range(free.shape[1]):
            player = free[:, position, None]
            above = np.concatenate([above, above | (1 << player)], axis=1)
            place |= ((~ors >> player) & 1) << position
        sums = lattice.zeta(softness[above])
        apart = (ands[group][:, None] & ors) == 0
        across[group] -= np.where(apart, np.take_along_axis(sums, place, axis=1), 0.0)
    of_ands = holding[ands[:, None] | ands]
    return np.block([[of_ands, across], [across.T, of_ors]])
