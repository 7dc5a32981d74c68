"""Figures of explanations, one file per claim. Drawing reads arrays and computes nothing a model is needed for: no JAX.

Of a prompt, under one model or two (`andor.figures.prompt`):

    words         its words in a row, with the strongest effects over and under them
    matrix        the same effects as rows, its players as columns

Of a run:

    matching      v on all masked prompts, sorted, with the logic model of the top effects over it
    sparsity      strength of effects in descending order
    convergence   how much of the effects of two models is shared, on every prompt
    orders        positive and negative strength per order, and cancellation

Each module's `plot(run, width)` returns a matplotlib `Figure`, and `caption(run)` the text below it with its numbers
computed. `andor.show.draw` writes them to files.
"""

import io
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from andor.figures import convergence, matching, orders, sparsity, style

FIGURES = {"matching": matching, "sparsity": sparsity, "convergence": convergence, "orders": orders}


_OPTIONS = {"png": {}, "pdf": {"metadata": {"CreationDate": None}}, "svg": {"metadata": {"Date": None}, "dpi": 100}}

_TEXT = {"svg.fonttype": "none", "path.simplify": False}


def rendered(figure: Figure, kinds: Sequence[str] = ("png", "pdf"), *, text: bool = False) -> dict[str, bytes]:
    """A figure as {"png": ..., "pdf": ...}, or "svg": 300 dpi, and vectors. Same figure, same bytes.

    `text` leaves text in an SVG what it is, for whoever shows it to find a font; else its letters are drawn.
    """
    content = {}
    with rc_context(style.style() | (_TEXT if text else {})):
        for kind in kinds:
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, **_OPTIONS[kind])
            content[kind] = stream.getvalue()
            figure.set_layout_engine("none")  # it is laid out: to do so again takes as long as to draw it
    return content
