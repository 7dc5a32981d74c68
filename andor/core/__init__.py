"""The mathematics, in NumPy: nothing here knows a model, a file or a figure.

lattice      subsets of the players: bit order, Moebius and its relatives
values       v(T) of one prompt under one model
penalties    what effects cost
problem      the AND-OR problem, what a solver is, and a solution
certificate  what makes any solver's answer feasible, and proves how good it is
effects      effects in words
explained    what measures and figures read of explanations
games        games with known effects
"""
