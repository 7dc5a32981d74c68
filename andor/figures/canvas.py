"""A figure measured in points from its upper left corner: text that wraps, a heading, a legend, a height that fits.

For pictures that are laid out by hand, since they have no axes with numbers.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from andor.figures import style
from andor.figures.shown import Picture

MARGIN = 5.0
SMALL = 6.5
"""Size of labels and legends, the least of a figure."""

TEXT = 7.0
KEY = 19.0
"""Width of what is drawn before an entry of a legend."""

IN_BOTH = "#E4E4E4"

_TITLE = {True: 10.5, False: 9.0}  # of a wide and of a narrow figure
_LEADING = 1.3


def measure(text: str, size: float, bold: bool = False) -> float:
    """Width of a text in the fonts of `style.style`, in points."""
    return _measure(text, size, bold, tuple(rcParams["font.family"]))


@functools.lru_cache(4096)
def _measure(text: str, size: float, bold: bool, family: tuple[str, ...]) -> float:
    font = FontProperties(family=list(family), size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, False)[0]


def wrapped(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """Lines of a text no wider than this, broken at plain spaces, and within words that are wider."""
    lines = [""]
    for word in text.replace("\n", " ").split(" "):
        longer = f"{lines[-1]} {word}".lstrip(" ")
        if measure(longer, size, bold) <= width:
            lines[-1] = longer
            continue
        lines += [""] if lines[-1] else []
        for character in word:
            if lines[-1] and measure(lines[-1] + character, size, bold) > width:
                lines.append("")
            lines[-1] += character
    return lines


@dataclass(frozen=True)
class Key:
    """An entry of a legend: what is drawn (on a canvas, left, middle), `KEY` wide, and the words beside it."""

    draw: Callable[["Canvas", float, float], None]
    text: str


class Canvas:
    """An empty figure of this width (inches). `y` is how far down it is filled, in points."""

    def __init__(self, width: float):
        self.width = 72 * width
        self.figure = Figure(figsize=(width, 1))
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set_axis_off()
        self.y = MARGIN

    @property
    def room(self) -> float:
        """Width between the margins."""
        return self.width - 2 * MARGIN

    @property
    def wide(self) -> bool:
        return self.width > 72 * 1.3 * style.ONE_COLUMN

    def finish(self) -> Figure:
        """The figure, as high as it is filled."""
        height = self.y + MARGIN
        self.figure.set_size_inches(self.width / 72, height / 72)
        self.ax.set_xlim(0, self.width)
        self.ax.set_ylim(height, 0)
        return self.figure

    def text(self, x: float, y: float, text: str, size: float = TEXT, **look) -> None:
        """Text with its baseline at y."""
        bold = "bold" if look.pop("bold", False) else "normal"
        self.ax.text(x, y, text, fontsize=size, fontweight=bold, **{"va": "baseline", "ha": "left"} | look)

    def line(self, xs: Sequence[float], ys: Sequence[float], **look) -> None:
        self.ax.add_line(Line2D(xs, ys, **{"solid_capstyle": "butt"} | look))

    def box(self, x: float, y: float, width: float, height: float, **look) -> None:
        """A filled rectangle; y is its upper edge."""
        self.ax.add_patch(Rectangle((x, y), width, height, **{"lw": 0} | look))

    def paragraph(self, text: str, size: float = TEXT, bold: bool = False, **look) -> None:
        """Text over the whole width, in as many lines as it takes."""
        for line in wrapped(text, self.room, size, bold):
            self.y += size
            self.text(MARGIN, self.y, line, size, bold=bold, **look)
            self.y += (_LEADING - 1) * size

    def heading(self, picture: Picture) -> None:
        """Title, and warnings below it."""
        self.paragraph(picture.title, _TITLE[self.wide], bold=True)

    def warnings(self, picture: Picture) -> None:
        for each in picture.warnings:
            self.y += 1
            self.paragraph(f"\N{WARNING SIGN} {each}", color=style.WARNING)

    def side(self, picture: Picture, place: int, where: str = "") -> None:
        """One model: its name, where it is drawn, p and v, and what is shown of it."""
        side = picture.sides[place]
        name, rest = f"{where}{side.label}", f"{side.move}; {side.fit}"
        colour = style.model_colour(picture.places[place]) if len(picture.sides) > 1 else style.MUTED
        if len({each.target for each in picture.sides}) > 1:
            name += f", “{side.target}”"
        after = measure(f"{name}  ", TEXT, True)
        if after + measure(rest, TEXT) <= self.room:
            self.y += TEXT
            self.text(MARGIN, self.y, name, bold=True, color=colour)
            self.text(MARGIN + after, self.y, rest, color=style.MUTED)
            self.y += (_LEADING - 1) * TEXT
        else:
            self.paragraph(name, bold=True, color=colour)
            self.paragraph(rest, color=style.MUTED)

    def legend(self, keys: Sequence[Key]) -> None:
        """Entries from left to right, in as many rows as they take."""
        x, between = MARGIN, 10.0
        self.y += SMALL
        for key in keys:
            width = KEY + 3 + measure(key.text, SMALL)
            if x > MARGIN and x + width > self.width - MARGIN:
                x, self.y = MARGIN, self.y + 1.6 * SMALL
            key.draw(self, x, self.y - 0.36 * SMALL)
            self.text(x + KEY + 3, self.y, key.text, SMALL, color=style.MUTED)
            x += width + between
        self.y += 1


def comb(
    canvas: Canvas,
    xs: Sequence[float],
    teeth: Sequence[float],
    y: float,
    is_or: bool,
    colour: str = "black",
    lw: float = 1.1,
) -> None:
    """A line with dots: solid for AND, dashed with open dots for OR."""
    dashes = {"ls": (0, (max(2.2, 5 / lw), max(1.1, 2.5 / lw)))} if is_or else {}
    canvas.line(xs, (y, y), color=colour, lw=lw, **dashes)
    size = max(4.6, lw + 2.2)
    canvas.line(
        teeth, [y] * len(teeth), ls="", marker="o", ms=size, mec=colour, mew=1.0, mfc="white" if is_or else colour
    )


def sign_keys(picture: Picture, height: float) -> list[Key]:
    """Entries for the colours in a picture, as boxes so high."""

    def box(colour: str) -> Callable[[Canvas, float, float], None]:
        return lambda canvas, x, y: canvas.box(x, y - height / 2, KEY, height, fc=colour)

    signs = {mark.value > 0 for side in picture.sides for mark in side.marks}
    both = {True: Key(box(style.LIKELIER), "makes it likelier"), False: Key(box(style.UNLIKELIER), "less likely")}
    return [key for sign, key in both.items() if sign in signs]


def kind_keys(picture: Picture) -> list[Key]:
    """Entries for the kinds of effects of several words in a picture."""

    def example(is_or: bool) -> Callable[[Canvas, float, float], None]:
        ends = 3.0, KEY - 3.0
        return lambda canvas, x, y: comb(canvas, [x + end for end in ends], [x + end for end in ends], y, is_or)

    several = {mark.is_or for side in picture.sides for mark in side.marks if len(mark.players) > 1}
    both = {False: Key(example(False), "AND: all of these words"), True: Key(example(True), "OR: any of these words")}
    return [key for kind, key in both.items() if kind in several]
