"""Where everything of a word picture goes: a pure function of text, players, effects and widths of words. No drawing.

Words stand in lines, effects over and under them. An effect of one word is a bar at the word; one of several words is a
comb with a tooth at each of them. Combs lie in lanes, numbered from the text outwards, and no two overlap. A comb whose
words stand in several lines has a part in each, and a letter at the broken ends.

Lengths are in points, x from the left edge. Right-to-left text is set from the right, and combs end on the left.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from andor.figures.pieces import (
    Measure,
    Piece,
    broken_into_lines,
    direction,
    elided,
    pieces,
    shortened,
    visual_order,
)

_KEPT = (math.inf, *map(float, (100, 80, 60, 50, 40, 34, 28, 24, 20, 16, 12)))
_LONGEST_PLAYER = 0.45  # of a line; a longer one loses its middle
_ROOM = 2.0  # between the bars, and so between the labels, of neighbours
_DOT = 2.6  # radius of a tooth, with its edge
_BEFORE_LABEL = 2.5
_CLEAR = 5.0  # between two combs in one lane
_LETTER = 10.0  # room for the letter at a broken end


@dataclass(frozen=True)
class Marked:
    """An effect to place: its players and the text of its value."""

    players: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class Placed:
    """A piece in a line: `left` and `width` of what it takes; its text is in the middle of that."""

    piece: Piece
    left: float
    width: float

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


@dataclass(frozen=True)
class Part:
    """What one line has of an effect of several words.

    Attributes:
      effect: its place among the effects given.
      teeth: x of each of its words in this line.
      left, right: what it takes of its lane, label included.
      lane: 0 is the nearest to the text.
      ends: whether it ends here, where its label stands; else it goes on in another line.
      begins: whether it begins here; else it comes from another line.
      letter: names the broken ends; "" where there are none.
    """

    effect: int
    teeth: tuple[float, ...]
    left: float
    right: float
    lane: int
    ends: bool
    begins: bool
    letter: str


@dataclass(frozen=True)
class Line:
    """A line of words, and the parts of effects over and under it; `bars` are places of effects of one word."""

    words: tuple[Placed, ...]
    parts: tuple[tuple[Part, ...], tuple[Part, ...]]
    bars: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """Lines from above to below.

    Attributes:
      lines: of words.
      size: of players, in points.
      leftward: whether the text is read from right to left.
    """

    lines: tuple[Line, ...]
    size: float
    leftward: bool

    def place(self, player: int) -> Placed:
        """Where a player stands."""
        return next(each for line in self.lines for each in line.words if each.piece.player == player)


def lay_out(
    text: str,
    spans: Sequence[tuple[int, int]],
    effects: tuple[Sequence[Marked], Sequence[Marked]],
    *,
    width: float,
    measure: Measure,
    sizes: Sequence[float],
    label: float,
) -> Layout:
    """Place words and effects.

    The largest size at which all stands in one line is taken. Where the smallest is too large, background is left out,
    and where that does not help, there are more lines.

    Args:
      text: of the prompt.
      spans: `(start, stop)` of each player, in text order.
      effects: those over and those under the words.
      width: of the picture.
      measure: width of a text.
      sizes: of players, largest first. Background is half a point smaller.
      label: size of labels.
    """
    everything = pieces(text, spans)
    leftward = direction(text) == "R"
    labels = [measure(each.label, label, False) for side in effects for each in side]
    after = max(labels, default=0.0) + _DOT + _BEFORE_LABEL
    rooms: dict[int, float] = {}
    for each in itertools.chain(*effects):
        if len(each.players) == 1:
            room = measure(each.label, label, False) + _ROOM
            rooms[each.players[0]] = max(room, rooms.get(each.players[0], 0.0))
    broken = _LETTER + _DOT
    for longest, size in [*((math.inf, size) for size in sizes), *((kept, sizes[-1]) for kept in _KEPT[1:])]:
        shown = _with_short_players(elided(everything, longest), _LONGEST_PLAYER * width, size, measure)
        widths = [_width(each, size, measure, rooms) for each in shown]
        gaps = _gaps(shown, size)
        if sum(widths) + sum(gaps[1:]) <= width - after:
            return _placed(shown, widths, gaps, [range(len(shown))], effects, measure, label, size, leftward, width)
    best = None
    for longest in _KEPT:
        shown = _with_short_players(elided(everything, longest), _LONGEST_PLAYER * width, sizes[-1], measure)
        widths = [_width(each, sizes[-1], measure, rooms) for each in shown]
        gaps = _gaps(shown, sizes[-1])
        lines = broken_into_lines(shown, widths, gaps, width - broken - max(after, broken))
        if best is None or len(lines) < len(best[3]):
            best = shown, widths, gaps, lines
    return _placed(*best, effects, measure, label, sizes[-1], leftward, width)


def _with_short_players(given: Sequence[Piece], longest: float, size: float, measure: Measure) -> list[Piece]:
    """Players wider than a part of a line, and words of the background wider than it, lose their middle."""
    return [Piece(shortened(x.text, longest, size, measure), x.player, x.spaced) for x in given]


def _width(piece: Piece, size: float, measure: Measure, rooms: dict[int, float]) -> float:
    if piece.player is None:
        return measure(piece.text, background(size), False)
    return max(measure(piece.text, size, True), rooms.get(piece.player, 0.0))


def background(size: float) -> float:
    """Size of the background's words."""
    return size - 0.5


def _gaps(given: Sequence[Piece], size: float) -> list[float]:
    """Room before each piece. Players that touch in the text stand a little apart, to be told from one player."""
    gaps = []
    for before, piece in zip([None, *given], given, strict=False):
        two = before is not None and before.player is not None and piece.player is not None
        gaps.append(
            0.42 * size if piece.spaced and two else 0.34 * size if piece.spaced else 0.2 * size if two else 0.0
        )
    return gaps


def lanes(intervals: Sequence[tuple[float, float]]) -> list[int]:
    """A lane for each interval, short ones first and lowest, so that no two of a lane come nearer than `_CLEAR`."""
    taken: list[list[tuple[float, float]]] = []
    found = [0] * len(intervals)
    for place in sorted(range(len(intervals)), key=lambda i: (intervals[i][1] - intervals[i][0], i)):
        left, right = intervals[place]
        free = (n for n, lane in enumerate(taken) if all(right + _CLEAR <= a or b + _CLEAR <= left for a, b in lane))
        lane = next(free, len(taken))
        taken[lane:] = taken[lane:] or [[]]
        taken[lane].append((left, right))
        found[place] = lane
    return found


def _placed(shown, widths, gaps, rows, effects, measure, label, size, leftward, width) -> Layout:
    """Lines with their words and effects."""
    broken = len(rows) > 1
    margin = _LETTER + _DOT if broken else 0.0
    lines = [_words_of_line(shown, widths, gaps, row, leftward, margin, width) for row in rows]
    where = {each.piece.player: (n, each.middle) for n, line in enumerate(lines) for each in line}
    parts = tuple([_broken(side, where, measure, label, leftward, width) for side in effects])
    letters: dict[tuple[int, int], str] = {}
    placed = []
    for n, words in enumerate(lines):
        in_lanes = tuple(_in_lanes([part for at, part in side if at == n]) for side in parts)
        for over, side in enumerate(in_lanes):  # as they are read, from above to below
            for part in sorted(side, key=lambda part: -part.lane if over == 0 else part.lane):
                if not (part.begins and part.ends):
                    letters.setdefault((over, part.effect), _letter(len(letters)))
        in_lanes = tuple(
            tuple(replace(part, letter=letters.get((over, part.effect), "")) for part in side)
            for over, side in enumerate(in_lanes)
        )
        bars = tuple(
            tuple(i for i, each in enumerate(side) if len(each.players) == 1 and where[each.players[0]][0] == n)
            for side in effects
        )
        placed.append(Line(tuple(words), in_lanes, bars))
    return Layout(tuple(placed), size, leftward)


def _words_of_line(shown, widths, gaps, row, leftward, margin, width) -> list[Placed]:
    order = [row[i] for i in visual_order([shown[i].text for i in row], leftward)]
    before = [0.0]
    for one, other in itertools.pairwise(order):
        before.append(gaps[max(one, other)] if abs(one - other) == 1 else max(gaps[one], gaps[other]))
    total = sum(widths[i] for i in row) + sum(before)
    x, found = width - margin - total if leftward else margin, []
    for gap, i in zip(before, order, strict=True):
        x += gap
        found.append(Placed(shown[i], x, widths[i]))
        x += widths[i]
    return found


def _broken(side, where, measure, label, leftward, width) -> list[tuple[int, Part]]:
    """(line, part) of all effects of several words, not in lanes yet."""
    found = []
    for effect, each in enumerate(side):
        if len(each.players) == 1:
            continue
        rows = sorted({where[player][0] for player in each.players})
        for n in rows:
            teeth = tuple(sorted(where[player][1] for player in each.players if where[player][0] == n))
            begins, ends = n == rows[0], n == rows[-1]
            start, stop = teeth[0] - _DOT, teeth[-1] + _DOT
            room = measure(each.label, label, False) + _BEFORE_LABEL
            if leftward:
                start, stop = start - room if ends else 0.0, stop if begins else width
            else:
                start, stop = start if begins else 0.0, stop + room if ends else width
            found.append((n, Part(effect, teeth, start, stop, 0, ends, begins, "")))
    return found


def _in_lanes(parts: Sequence[Part]) -> list[Part]:
    found = lanes([(part.left, part.right) for part in parts])
    return [replace(part, lane=lane) for part, lane in zip(parts, found, strict=True)]


def _letter(number: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else _letter(number // 26 - 1) + letter
