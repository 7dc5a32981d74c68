"""Claim: these words act, alone and together. A row per effect, a column per player, and each model's values as bars.

For high orders, long prompts and narrow columns, where the picture of words has no room.
"""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from andor.core.effects import distinct
from andor.figures import shown, style
from andor.figures.canvas import (
    KEY,
    MARGIN,
    SMALL,
    TEXT,
    Canvas,
    Key,
    comb,
    kind_keys,
    measure,
    sign_keys,
)
from andor.figures.pieces import shortened
from andor.figures.shown import Picture

_ROW = 11.0
_STRIPE = "#F3F3F3"
_ABSENT = "#C8C8C8"
_COLUMN = {True: 17.0, False: 12.0}  # from player to player at most, in a wide and in a narrow figure
_LEAST_COLUMN = 8.4
_LONGEST_WORD = 62.0
_SLANT = 55  # degrees, of the words over the columns
_BARS = {True: 230.0, False: 150.0}  # width of one model's bars at most
_BETWEEN = 12.0
_PALE = 0.35  # of effects that are shown for the other model's sake


def caption(picture: Picture) -> str:
    """What the figure shows, and its numbers."""
    return shown.caption(
        picture,
        "Effects as rows, the strongest first, and words as columns: solid dots are an AND, open dots an OR. Bars are "
        "what each effect adds to the log-odds of the target, nats.",
    )


def rows(picture: Picture) -> list[tuple[int, bool]]:
    """Keys of the effects that any model shows, the strongest first."""
    strength: dict[tuple[int, bool], float] = {}
    for side in picture.sides:
        for mark in side.marks:
            strength[mark.key] = max(abs(mark.value), strength.get(mark.key, 0.0))
    return sorted(strength, key=lambda key: (-strength[key], key[1], key[0]))


def names(words: Sequence[str], longest: float, size: float) -> tuple[str, ...]:
    """Words for the columns: no wider than this, but for the numbers that tell those apart that look alike then."""
    return distinct([shortened(" ".join(word.split()), longest, size, measure, bold=False) for word in words])


def draw(picture: Picture, width: float = style.TWO_COLUMNS) -> Figure:
    """The matrix of dots, at this width in inches."""
    with rc_context(style.style()):
        canvas = Canvas(width)
        canvas.heading(picture)
        for place in range(len(picture.sides)):
            canvas.side(picture, place)
        canvas.warnings(picture)
        if picture.chat:
            canvas.paragraph("A chat: the words are of the message, not of the template around it.", color=style.MUTED)
        found = rows(picture)
        if found:
            _draw_rows(canvas, picture, found)
        canvas.legend(_keys(picture))
        return canvas.finish()


def _draw_rows(canvas: Canvas, picture: Picture, found: Sequence[tuple[int, bool]]) -> None:
    count, sides = len(picture.words), len(picture.sides)
    least = 60.0 * sides + _BETWEEN * (sides - 1)  # for bars and their values
    pitch = max(_LEAST_COLUMN, min(_COLUMN[canvas.wide], (canvas.room - _BETWEEN - least) / count))
    words = names(picture.words, _LONGEST_WORD, TEXT)
    _draw_words(canvas, words, pitch)
    left = MARGIN + count * pitch + _BETWEEN
    room = (canvas.width - MARGIN - left - _BETWEEN * (sides - 1)) / sides
    bars = min(room, _BARS[canvas.wide])
    for place, side in enumerate(picture.sides):
        name = side.label if sides > 1 else "effect, nats"
        colour = style.model_colour(picture.places[place]) if sides > 1 else style.MUTED
        x = left + place * (bars + _BETWEEN)
        text = shortened(name, bars, SMALL, measure, bold=sides > 1)
        canvas.text(x, canvas.y - 3, text, SMALL, bold=sides > 1, color=colour)
    top = canvas.y
    for number, key in enumerate(found):
        y = top + _ROW * number
        if number % 2 == 0:
            canvas.box(MARGIN, y, left + sides * (bars + _BETWEEN) - _BETWEEN - MARGIN, _ROW, fc=_STRIPE, zorder=0.2)
        _draw_dots(canvas, key, count, pitch, y + _ROW / 2)
    for place in range(sides):
        _draw_bars(canvas, picture, place, found, left + place * (bars + _BETWEEN), bars, top)
    canvas.y = top + _ROW * len(found) + 5


def _draw_words(canvas: Canvas, words: Sequence[str], pitch: float) -> None:
    """Over the columns, slanted; y is then their lower end."""
    canvas.y += 4 + 0.85 * max(measure(word, TEXT) for word in words) + TEXT
    for player, word in enumerate(words):
        x = MARGIN + (player + 0.5) * pitch
        canvas.text(x - 2.5, canvas.y - 2, word, rotation=_SLANT, rotation_mode="anchor")


def _draw_dots(canvas: Canvas, key: tuple[int, bool], count: int, pitch: float, y: float) -> None:
    subset, is_or = key
    xs = [MARGIN + (player + 0.5) * pitch for player in range(count)]
    canvas.line(xs, [y] * count, ls="", marker="o", ms=1.6, mew=0, mfc=_ABSENT, zorder=1)
    teeth = [x for player, x in enumerate(xs) if subset >> player & 1]
    comb(canvas, (teeth[0], teeth[-1]), teeth, y, is_or)


def _draw_bars(canvas: Canvas, picture: Picture, place: int, found, left: float, width: float, top: float) -> None:
    """One model's values. One unit of length for all models, and room for the numbers at both ends."""
    every = [side.value(*key) for side in picture.sides for key in found]
    room = 3 + max(measure(picture.signed(value), SMALL) for value in every)
    low, high = min(0.0, *every), max(0.0, *every)
    # Where there is little room, numbers of negative effects stand on the other side of 0, which is free.
    tight = width < 4 * room
    unit = (width - room * (tight or high > 0) - room * (low < 0 and not tight)) / (high - low)
    zero = left + room * (low < 0 and not tight) - unit * low
    side, marked = picture.sides[place], {mark.key for mark in picture.sides[place].marks}
    for number, key in enumerate(found):
        value, y = side.value(*key), top + _ROW * (number + 0.5)
        if not float(format(value, f".{picture.digits}f")):
            continue
        colour = style.LIKELIER if value > 0 else style.UNLIKELIER
        start, length = min(zero, zero + unit * value), abs(unit * value)
        canvas.box(start, y - 0.32 * _ROW, length, 0.64 * _ROW, fc=colour, alpha=1.0 if key in marked else _PALE)
        right = tight or value > 0
        x = max(zero, zero + unit * value) + 2 if right else zero + unit * value - 2
        ha = "left" if right else "right"
        canvas.text(x, y + 0.36 * SMALL, picture.signed(value), SMALL, ha=ha, color=style.MUTED)
    canvas.line((zero, zero), (top, top + _ROW * len(found)), color="black", lw=0.7)


def _keys(picture: Picture) -> list[Key]:
    keys = [*kind_keys(picture), *sign_keys(picture, 6.0)]
    shown = [{mark.key for mark in side.marks} for side in picture.sides]
    if any(
        side.value(*key) and key not in own
        for side, own in zip(picture.sides, shown, strict=True)
        for key in rows(picture)
    ):
        pale = {"fc": style.LIKELIER, "alpha": _PALE}
        keys.append(
            Key(lambda canvas, x, y: canvas.box(x, y - 3, KEY, 6.0, **pale), "weaker than this model's strongest")
        )
    return keys
