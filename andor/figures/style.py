"""How every figure looks: one dict for `matplotlib.rc_context`, the colours, the widths. Nothing is set at import.

Colours are those of Okabe and Ito, which stay apart under all common forms of colour blindness. One thing has one
colour in every figure: what makes a target likelier and less likely, noise, each method where methods are compared, and
each model by its place in the run.
"""

import contextlib
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure

from andor.core.text import one_line

ONE_COLUMN = 3.4
"""Width of a figure that fits one column of a two-column paper, in inches."""

TWO_COLUMNS = 7.0
"""Width of a figure across both columns, in inches."""

WIDTHS = {"column": ONE_COLUMN, "page": TWO_COLUMNS}
"""Width by name, in inches."""

LIKELIER = "#0072B2"
UNLIKELIER = "#D55E00"
NOISE = "#999999"
CERTIFIED = "#332288"
AND_ONLY = "#000000"
MODELS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#DDCC77")

GRID = "#DDDDDD"
MUTED = "#555555"  # text that explains; 7:1 on white
WARNING = "#8A2C00"  # text that warns; 8:1 on white

# DejaVu Sans comes with matplotlib and has ∧ ∨ ∅ τ; the others are asked for words it has no glyphs for.
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Zen Hei",
    "Noto Emoji",
)


_NO_GLYPH = r"Glyph (\d+) .*missing from"
_MOST_SHOWN = 20


def style() -> dict:
    """Settings for `matplotlib.rc_context`, to hold while a figure is built and while it is saved."""
    installed = set(font_manager.get_font_names())
    return {
        "font.family": ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)],
        "font.size": 7.5,
        "axes.titlesize": 8,
        "axes.titlelocation": "left",
        "axes.labelsize": 7.5,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "legend.borderaxespad": 0.2,
        "figure.titlesize": 9,
        "figure.titleweight": "bold",
        "figure.facecolor": "white",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.grid": False,
        "grid.color": GRID,
        "grid.linewidth": 0.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "lines.linewidth": 1.4,
        "hatch.linewidth": 0.7,
        # Prompts may hold $, _ and \\: words are words, never markup. Formulas are written in Unicode.
        "text.usetex": False,
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "text.hinting": "no_hinting",  # as wide in pixels as in vectors
        "savefig.dpi": 300,
        "savefig.bbox": None,
        "pdf.fonttype": 42,  # TrueType: text in the PDF stays text
        "svg.hashsalt": "andor",  # same figure, same names in the file
    }


@contextlib.contextmanager
def missing_glyphs_in_one_line() -> Iterator[None]:
    """One warning for all characters that no font has, in place of matplotlib's one for each and each time."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", _NO_GLYPH)
        yield
    missing = set()
    for each in caught:
        found = re.match(_NO_GLYPH, str(each.message))
        if found:
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if missing:
        shown = "".join(sorted(missing)[:_MOST_SHOWN]) + ("…" if len(missing) > _MOST_SHOWN else "")
        characters = "1 character" if len(missing) == 1 else f"{len(missing)} characters"
        warnings.warn(
            f"the fonts here lack {characters} of the prompts ({shown!r}), and the figures have boxes in their place. "
            "Install e.g. Noto Sans CJK or Noto Emoji.",
            stacklevel=3,
        )


def inches(width: str) -> float:
    """A width by its name. Raises ValueError for another name."""
    if width not in WIDTHS:
        raise ValueError(f"width={width!r} must be one of {', '.join(WIDTHS)}.")
    return WIDTHS[width]


def model_colour(place: int) -> str:
    """Colour of the model at this place of the run; from the seventh model on, colours repeat."""
    return MODELS[place % len(MODELS)]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure with constrained layout, in inches. No pyplot, so no window, backend or global figure list."""
    return Figure(figsize=(width, height), layout="constrained")


def title(figure: Figure, text: str) -> None:
    """The claim of the figure, above all panels, left-aligned, in as many lines as it takes."""
    per_line = int(13.4 * figure.get_figwidth())  # bold 9 point, with room to spare
    figure.suptitle("\n".join(textwrap.wrap(text, per_line)), x=0.01, ha="left")


def empty(ax, why: str) -> None:
    """Say in a panel why nothing is drawn there."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=MUTED)
    ax.set_axis_off()


def heading(figure, text: str) -> None:
    """A line above some panels of a figure, in muted regular type, in the width of the figure."""
    figure.suptitle(shortened(text, _width(figure)), x=0.01, ha="left", color=MUTED, fontsize=7.5, fontweight="normal")


def shortened(text: str, width: float = TWO_COLUMNS) -> str:
    """One line of text that fits this width (inches) at 7.5 point: where it is too long, its middle is left out."""
    text, longest = one_line(text), int(16.8 * width)
    if len(text) <= longest:
        return text
    head, tail = text[: (longest - 3) // 2], text[len(text) - (longest - 3) // 2 :]
    # At spaces, unless there are none.
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"


def _width(figure) -> float:
    """Width of a figure or a part of one, in inches."""
    return figure.bbox.width / figure.dpi


def narrow(width: float) -> bool:
    """Whether a figure of this width (inches) has room for one panel only, side by side."""
    return width < 0.75 * TWO_COLUMNS


def listed(numbers: Sequence[float], form: str) -> str:
    """Numbers of the models in a title: "1", "1 and 2", "1, 2 and 3"; their range from the fourth model on."""
    if len(numbers) > 3:
        low, high = format(min(numbers), form), format(max(numbers), form)
        return low if low == high else f"{low} to {high}"
    *most, last = (format(x, form) for x in numbers)
    return f"{', '.join(most)} and {last}" if most else last


def aside(count: int) -> np.ndarray:
    """Sideways places in [-0.5, 0.5] for dots of equal or near numbers; a fixed pattern, the same at every drawing."""
    return (np.arange(count) * 0.618 + 0.5) % 1 - 0.5


def number(value: float, digits: int = 2) -> str:
    """A number for a caption or a label: a plain minus becomes a real one, nan becomes "n/a"."""
    return "n/a" if value != value else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
