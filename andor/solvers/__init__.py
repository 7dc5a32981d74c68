"""Solvers of the AND-OR problem, one algorithm per file. Pass one to `andor.extract(v, solver=...)`."""

from andor.solvers.interior_point import InteriorPoint as InteriorPoint


def default_solver(n_players: int):
    """The solver `andor.extract` uses when none is given: exact as far as it reaches."""
    return InteriorPoint()
