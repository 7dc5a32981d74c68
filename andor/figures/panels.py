"""What figures of runs and figures of studies both draw: pieces of panels, from numbers alone.

An estimate with its interval is (estimate, low, high); an array of them has these three as its last axis.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator

from andor.figures import style

FLOOR = 1e-4
"""Lowest strength drawn, a share of the strongest effect."""


def count(x, _) -> str:
    """A number of effects, for a formatter of an axis."""
    return f"{x:,.0f}"


def plain(x, _) -> str:
    """A number as it is, for a formatter of a logarithmic axis."""
    return f"{x:g}"


def share(x, _) -> str:
    """A share without exponent, for a formatter of a logarithmic axis."""
    return f"{x:g}" if x >= 1e-3 else f"{x:.4f}"


def unsigned(x, _) -> str:
    """A length up or down, for a formatter of an axis of both."""
    return f"{abs(x):g}"


def band(ax, x, numbers, *, shade: float = 0.15, **line) -> None:
    """A line through estimates, and a band where their intervals are. `line` has its `color`."""
    middle, low, high = np.array(numbers, float).T
    ax.fill_between(x, low, high, color=line["color"], alpha=shade, lw=0)
    ax.plot(x, middle, **line)


def points(ax, x, numbers, **line) -> None:
    """Estimates as points on a line, each with its interval."""
    middle, low, high = np.array(numbers, float).T
    # A percentile interval of a share near 0 or 1 need not hold the estimate.
    spread = np.maximum((middle - low, high - middle), 0)
    ax.errorbar(x, middle, spread, **{"marker": "o", "ms": 3, "lw": 1.0, "elinewidth": 0.8} | line)


def interval_row(ax, y, numbers, *, lw: float = 0.9, bar: str | None = None, **point) -> None:
    """An estimate as a point, and its interval as a line to the left and right; `bar` is the line's colour, if another
    than the point's `color`."""
    middle, low, high = np.array(numbers, float)
    ax.plot([low, high], [y, y], color=bar or point["color"], lw=lw)
    ax.plot(middle, y, **{"marker": "o", "ms": 3, "ls": "none"} | point)


def order_bars(
    ax, numbers, width: float = 0.8, shift: float = 0.0, error: str | None = None, label: str | None = None, **bars
) -> None:
    """Strength per order, positive up and negative down.

    Args:
      ax: a matplotlib axes.
      numbers: `[2, orders, 3]`, positive and negative (>= 0) with intervals.
      width, shift: of the bars, in orders.
      error: colour of the intervals; None draws none.
      label: for a legend.
      bars: as for `Axes.bar`.
    """
    for sign, side in zip((1, -1), np.array(numbers, float), strict=True):
        middle, low, high = side.T
        x = np.arange(1, len(middle) + 1) + shift
        ax.bar(x, sign * middle, width, label=label if sign > 0 else None, **bars)
        if error is not None:
            ends = np.stack([middle - low, high - middle])[::sign]
            ax.errorbar(x, sign * middle, ends, fmt="none", ecolor=error, elinewidth=0.6)


def order_axes(ax, orders: int, ticks: int | None = None) -> None:
    """Axes of bars up and down: a tick at every order, lengths without sign; `ticks` at most along them."""
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xticks(range(1, orders + 1))
    if ticks is not None:
        ax.yaxis.set_major_locator(MaxNLocator(ticks, symmetric=True))
    ax.yaxis.set_major_formatter(unsigned)


def balanced(ax, room: float = 1.0) -> None:
    """The same reach up and down, so that balance between the signs is seen as symmetry; more `room` for text above."""
    reach = room * max(map(abs, ax.get_ylim()))
    ax.set_ylim(-reach, reach)


def strength_axes(ax, top: float) -> None:
    """Logarithmic axes of strengths over the strongest, from `FLOOR` to `top`, against rank."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(FLOOR, top)
    ax.xaxis.set_major_formatter(count)
    ax.yaxis.set_major_formatter(share)
    ax.yaxis.set_minor_locator(NullLocator())


def sorted_values(ax, v, logic, *, lw: float, **dots) -> None:
    """v on all masks in ascending order, and over it what effects make of it."""
    rank = np.arange(1, len(v) + 1)
    # Dots become one picture inside the PDF: tens of thousands of vector dots would make it slow to open.
    ax.plot(rank, logic, "o", mew=0, rasterized=True, **dots)
    ax.plot(rank, v, color="black", lw=lw)
    ax.set_xlim(0, len(rank) + 1)


def dots(
    ax, row: int, numbers, estimate, text: str, *,
    half: float, lw: float = 1.6, offset: int = 4, weight: str = "normal", spread: float = 0.5, **look,
) -> None:  # fmt: skip
    """A dot per prompt in a row; a bar at the estimate, a line for its interval, if any; a text at the right edge.

    `half` the bar's height, `spread` of the dots, in rows; `offset` of the text in points.
    """
    ax.plot(numbers, row + spread * style.aside(len(numbers)), "o", mew=0, **look)
    middle, *ends = np.array(estimate, float)
    if ends:
        ax.plot(ends, [row, row], color="black", lw=0.9)
    ax.plot([middle] * 2, [row - half, row + half], color="black", lw=lw, solid_capstyle="butt")
    edge = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    ax.annotate(text, (1, row), xytext=(offset, 0), fontweight=weight, **edge)


def row_axes(ax, names: Sequence[str], **text) -> None:
    """Axes of rows with these names, from above to below."""
    ax.set_yticks(range(len(names)), names, **text)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
