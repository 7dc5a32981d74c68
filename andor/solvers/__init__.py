"""Solvers of the AND-OR problem, one algorithm per file. Pass one to `andor.extract(v, solver=...)`.

    InteriorPoint       exact for L1 penalties, certified to 1e-6 and better; the default up to 10 players (GPU: 13)
    WorkingSet          the same answer from the masks and effects that matter; the default up to 18 players
    JointInteriorPoint  exact for the joint penalty of several models; the default while m 2**n_players is no more
    FirstOrder          any optax optimiser, any penalty; the default beyond
    Published           the solver of the papers, to redraw their figures

On a TPU, which has no float64, the exact solvers run on the host's CPU, and the first-order solver in float32.

`compact` finds few effects instead of little strength (`andor.solvers.compact`); the same search says how much of v is
noise (`estimated_noise`), which is the bound of the exact solvers unless another is given. `strength_interval`,
`effect_interval` and `share_of_orders` bound what nearly optimal explanations have in common
(`andor.solvers.certainty`). `path` is the optimum at several noise bounds.

`optimal_strength` and `optimal_effects` (`andor.solvers.differentiable`) are the exact solution as JAX functions with
derivatives.
"""

from andor.solvers.certainty import effect_interval as effect_interval
from andor.solvers.certainty import share_of_orders as share_of_orders
from andor.solvers.certainty import strength_interval as strength_interval
from andor.solvers.compact import Compact as Compact
from andor.solvers.compact import compact as compact
from andor.solvers.differentiable import optimal_effects as optimal_effects
from andor.solvers.differentiable import optimal_strength as optimal_strength
from andor.solvers.extract import default_solver as default_solver
from andor.solvers.extract import extract as extract
from andor.solvers.extract import extract_joint as extract_joint
from andor.solvers.extract import shared_and_own as shared_and_own
from andor.solvers.first_order import FirstOrder as FirstOrder
from andor.solvers.interior_point import InteriorPoint as InteriorPoint
from andor.solvers.joint import JointInteriorPoint as JointInteriorPoint
from andor.solvers.path import path as path
from andor.solvers.published import Published as Published
from andor.solvers.search import estimated_noise as estimated_noise
from andor.solvers.stability import stability as stability
from andor.solvers.working_set import WorkingSet as WorkingSet
