"""andor: AND-OR interactions of language models, exact and certified.

Mask the n_players chosen words of a prompt in all 2^n_players ways, record the log-odds v(T) of the target token each
time, and write v exactly as a sum of AND effects (all words of S present), OR effects (any word of S present) and
bounded noise:

    model = andor.load("tiny-llama")
    values = andor.evaluate(model, andor.Prompt("The film is not good, but never dull. Sentiment:"))
    solution = andor.extract(values.v)

Axis letters, used in shapes, einsums and sharding names throughout the package:

    s  subset: one of the 2**n_players masked prompts      b  batch of subsets or of sequences
    t  token position (queries)                            u  token position (keys)
    d  model width                                         f  feed-forward width
    k  key-value heads                                     g  query heads per key-value head
    h  head width                                          v  vocabulary
    p  batch of prompts or models
"""

import importlib
import importlib.metadata

_EXPORTS = {
    "load": "andor.models",
    "LanguageModel": "andor.models",
    "Prompt": "andor.prompts",
    "read_prompts": "andor.prompts",
    "Values": "andor.core.values",
    "evaluate": "andor.evaluation",
    "evaluate_all": "andor.evaluation",
    "predict_target": "andor.evaluation",
    "Solution": "andor.core.problem",
    "extract": "andor.solvers",
    "extract_joint": "andor.solvers",
    "compact": "andor.solvers",
    "Compact": "andor.solvers",
    "stability": "andor.solvers",
    "optimal_strength": "andor.solvers",
    "optimal_effects": "andor.solvers",
    "compare": "andor.runs.compare",
    "explain": "andor.runs.explain",
    "bars": "andor.runs.bars",
    "Explanation": "andor.runs.explanation",
    "Run": "andor.runs.run",
    "read": "andor.runs.run",
}
_MODULES = {
    "figures": "andor.figures",
    "hosts": "andor.devices.processes",
    "lattice": "andor.core.lattice",
    "mesh": "andor.devices.mesh",
    "metrics": "andor.measures.metrics",
    "penalties": "andor.core.penalties",
    "solvers": "andor.solvers",
    "spindle": "andor.measures.spindle",
}
"""Short names of modules that users work with."""

__all__ = sorted([*_EXPORTS, *_MODULES])


def __getattr__(name: str):
    # Lazy (PEP 562): `import andor` stays fast and touches no device until a name is used.
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name == "__version__":
        return importlib.metadata.version("andor")
    raise AttributeError(f"module 'andor' has no attribute {name!r}")


def __dir__():
    return __all__
