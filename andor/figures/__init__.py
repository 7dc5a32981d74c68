"""Figures of explanations, one file per claim. Drawing reads arrays and computes nothing a model is needed for: no JAX.

    matching      v on all masked prompts, sorted, with the logic model of the top effects over it
    sparsity      strength of effects in descending order
    convergence   shared and distinctive effects of two models on the same prompts, in words
    orders        positive and negative strength per order, and cancellation
    effects       the strongest effects of one prompt (not of a run; see `andor.figures.effects.plot`)

Each module's `plot(run)` returns a matplotlib `Figure`, and `caption(run)` the text below it with its numbers computed.
`andor.show.draw` writes them to files.
"""

import io

from matplotlib import rc_context
from matplotlib.figure import Figure

from andor.figures import convergence, matching, orders, sparsity, style

FIGURES = {"matching": matching, "sparsity": sparsity, "convergence": convergence, "orders": orders}


def rendered(figure: Figure) -> dict[str, bytes]:
    """A figure as {"png": ..., "pdf": ...}: 300 dpi, and vectors. Same figure, same bytes."""
    content = {}
    with rc_context(style.style()):
        for kind, options in (("png", {}), ("pdf", {"metadata": {"CreationDate": None}})):
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, **options)
            content[kind] = stream.getvalue()
    return content
