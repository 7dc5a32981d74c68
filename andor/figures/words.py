"""Claim: these words act, alone and together. The prompt with its strongest effects drawn over and under its words.

One model: AND effects over the words, OR effects under them. Two models: one over them, one under them, and grey behind
effects that are in both with the same sign.
"""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from andor.figures import shown, style
from andor.figures.canvas import (
    IN_BOTH,
    KEY,
    MARGIN,
    SMALL,
    Canvas,
    Key,
    comb,
    kind_keys,
    measure,
    sign_keys,
)
from andor.figures.layout import Layout, Line, Marked, Part, background, lay_out
from andor.figures.shown import Mark, Picture

_SIZES = {True: (10.0, 9.0, 8.0), False: (8.5, 8.0, 7.5)}  # of players, in a wide and in a narrow figure
_LANE = 10.0  # height of a lane
_THIN, _THICK = 0.8, 4.2  # line of the weakest and of the strongest effect
_GUIDE = "#D9D9D9"
_BACKGROUND = "#767676"  # 4.5:1 on white


def caption(picture: Picture) -> str:
    """What the figure shows, and its numbers."""
    where = "AND over the words, OR under them" if len(picture.sides) == 1 else "the first model over the words"
    return shown.caption(
        picture,
        f"Effects of one word are bars, effects of several words are lines with a dot at each of them ({where}); "
        "thickness is strength, blue makes the target likelier, orange less likely.",
    )


def draw(picture: Picture, width: float = style.TWO_COLUMNS) -> Figure:
    """The picture of words, at this width in inches."""
    with rc_context(style.style()):
        canvas = Canvas(width)
        two = len(picture.sides) == 2
        sides = _sides(picture)
        canvas.heading(picture)
        canvas.side(picture, 0, "above: " if two else "")
        canvas.warnings(picture)
        if picture.chat:
            canvas.paragraph("A chat: the message is shown, without the template around it.", color=style.MUTED)
        canvas.y += 4
        layout = lay_out(
            picture.text,
            picture.spans,
            tuple([Marked(mark.players, picture.signed(mark.value)) for mark in marks] for marks in sides),
            width=canvas.room,
            measure=measure,
            sizes=_SIZES[canvas.wide],
            label=SMALL,
        )
        for line in layout.lines:
            _draw_line(canvas, picture, sides, layout, line)
        if two:
            canvas.side(picture, 1, "below: ")
        canvas.y += 3
        canvas.legend(_keys(picture))
        return canvas.finish()


def _sides(picture: Picture) -> tuple[Sequence[Mark], Sequence[Mark]]:
    """Effects over and under the words."""
    if len(picture.sides) == 2:
        return picture.sides[0].marks, picture.sides[1].marks
    marks = picture.sides[0].marks
    return [x for x in marks if not x.is_or], [x for x in marks if x.is_or]


def _keys(picture: Picture) -> list[Key]:
    keys = [*sign_keys(picture, 3.0), *kind_keys(picture)]
    if any(map(_of_several_words, picture.words)):
        keys.append(Key(lambda canvas, x, y: _underline(canvas, x, x + KEY, y + 2), "words that are masked together"))
    if picture.shared:
        keys.append(Key(lambda canvas, x, y: canvas.box(x, y - 4, KEY, 8.0, fc=IN_BOTH), "in both, same sign"))
    return keys


def _draw_line(canvas: Canvas, picture: Picture, sides, layout: Layout, line: Line) -> None:
    """A line of words, with what is over and under it."""
    bars, size = _THICK + 1.5 + SMALL + 2, layout.size
    heights = [
        bars * bool(line.bars[n]) + _LANE * max((part.lane + 1 for part in line.parts[n]), default=0) for n in (0, 1)
    ]
    base = canvas.y + heights[0] + 0.95 * size  # of the letters
    edges = base - 0.95 * size - 1, base + 0.35 * size + 1.2  # over and under the words
    for n, (sign, edge) in enumerate(zip((-1, 1), edges, strict=True)):
        first = edge + sign * (bars * bool(line.bars[n]) + 0.5 * _LANE)
        _draw_guides(canvas, line.parts[n], edge, first, sign)
        for place in line.bars[n]:
            _draw_bar(canvas, picture, sides[n][place], layout, edge, sign)
        for part in line.parts[n]:
            _draw_part(canvas, picture, sides[n][part.effect], part, first + sign * _LANE * part.lane, layout.leftward)
    for each in line.words:
        player = each.piece.player is not None
        if player and _of_several_words(each.piece.text):
            half, y = measure(each.piece.text, size, True) / 2, base + 0.27 * size
            _underline(canvas, MARGIN + each.middle - half, MARGIN + each.middle + half, y)
        canvas.text(
            MARGIN + each.middle,
            base,
            each.piece.text,
            size if player else background(size),
            bold=player,
            ha="center",
            color="black" if player else _BACKGROUND,
        )
    canvas.y = edges[1] + heights[1] + (12 if line is not layout.lines[-1] else 4)


def _of_several_words(text: str) -> bool:
    return " " in text


def _underline(canvas: Canvas, left: float, right: float, y: float) -> None:
    canvas.line((left, right), (y, y), color="black", lw=0.5)


def _draw_guides(canvas: Canvas, parts: Sequence[Part], edge: float, first: float, sign: int) -> None:
    """Thin lines from words to the combs that have them."""
    far: dict[float, int] = {}
    for part in parts:
        for x in part.teeth:
            far[x] = max(part.lane, far.get(x, 0))
    for x, lane in far.items():
        canvas.line((MARGIN + x,) * 2, (edge, first + sign * _LANE * lane), color=_GUIDE, lw=0.6, zorder=0.5)


def _look(picture: Picture, mark: Mark) -> tuple[str, float]:
    """Colour and thickness of an effect."""
    share = abs(mark.value) / (picture.strongest or 1.0)
    return style.LIKELIER if mark.value > 0 else style.UNLIKELIER, _THIN + (_THICK - _THIN) * share


def _draw_bar(canvas: Canvas, picture: Picture, mark: Mark, layout: Layout, edge: float, sign: int) -> None:
    (player,) = mark.players
    where = layout.place(player)
    colour, thickness = _look(picture, mark)
    label = picture.signed(mark.value)
    width = measure(where.piece.text, layout.size, True)
    left = MARGIN + where.middle - width / 2
    if mark.key in picture.shared:
        high = _THICK + 1.5 + SMALL
        canvas.box(MARGIN + where.left, min(edge, edge + sign * high), where.width, high, fc=IN_BOTH, zorder=0.6)
    canvas.box(left, min(edge, edge + sign * thickness), width, thickness, fc=colour)
    y = edge - _THICK - 2 if sign < 0 else edge + _THICK + 1 + 0.8 * SMALL
    canvas.text(MARGIN + where.middle, y, label, SMALL, ha="center", color=colour, bbox=_halo(mark, picture))


def _draw_part(canvas: Canvas, picture: Picture, mark: Mark, part: Part, y: float, leftward: bool) -> None:
    colour, thickness = _look(picture, mark)
    forward = -1 if leftward else 1
    teeth = [MARGIN + x for x in part.teeth]
    first, last = (teeth[0], teeth[-1])[::forward]
    left_edge, right_edge = MARGIN + 6.0, canvas.width - MARGIN - 6.0
    start_edge, stop_edge = (left_edge, right_edge) if forward > 0 else (right_edge, left_edge)
    start = first if part.begins else start_edge
    stop = last if part.ends else stop_edge
    if mark.key in picture.shared:
        canvas.box(MARGIN + part.left - 2, y - 4.4, part.right - part.left + 4, 8.8, fc=IN_BOTH, zorder=0.4)
    comb(canvas, (start, stop), teeth, y, mark.is_or, colour, thickness)
    middle, ends = y + 0.36 * SMALL, {True: "left", False: "right"}
    if part.ends:
        x = stop + forward * 5.1
        canvas.text(x, middle, picture.signed(mark.value), SMALL, ha=ends[forward > 0], color=colour)
    for broken, x, side in ((not part.begins, start, -forward), (not part.ends, stop, forward)):
        if broken:
            canvas.text(x + side * 1.2, middle, part.letter, SMALL, ha=ends[side > 0], color=colour, fontstyle="italic")


def _halo(mark: Mark, picture: Picture) -> dict:
    """White behind a label, over guides; grey where the effect is in both."""
    return {"facecolor": IN_BOTH if mark.key in picture.shared else "white", "lw": 0, "pad": 0.4}
