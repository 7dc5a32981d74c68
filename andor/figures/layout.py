"""Where everything of a word picture goes: a pure function of text, players, effects and widths of words. No drawing.

Words stand in lines, effects over and under them. An effect of one word is a bar at the word; one of several words is a
comb with a tooth at each of them. Combs lie in lanes, numbered from the text outwards, and no two overlap. A comb whose
words stand in several lines has a part in each, and a letter at the broken ends.

Lengths are in points, x from the left edge. Right-to-left text is set from the right, and combs end on the left.
"""

import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

ELLIPSIS = "…"
NEWLINE = "↵"

Measure = Callable[[str, float, bool], float]
"""(text, size, bold) -> width, in points."""

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
class Piece:
    """A player, or a word of the background.

    Attributes:
      text: as it is drawn.
      player: its number, or None.
      spaced: whether white space stands before it.
    """

    text: str
    player: int | None
    spaced: bool


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


def pieces(text: str, spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """Players and the words between them, in text order. White space is one space, and `NEWLINE` where it has one."""
    found: list[Piece] = []
    spaced, stop = False, 0
    for player, (start, end) in enumerate([*spans, (len(text), len(text))]):
        words, spaced = _words(text[stop:start], spaced)
        found += words
        stop = end
        if player < len(spans):
            found.append(Piece(_one_line(text[start:end]), player, spaced and bool(found)))
            spaced = False
    return found


def _words(text: str, spaced: bool) -> tuple[list[Piece], bool]:
    """Words of a stretch of background, and whether white space ends it; `spaced` says what stands before it."""
    found: list[Piece] = []
    for is_space, group in itertools.groupby(text, str.isspace):
        run = "".join(group)
        if not is_space:
            for place, word in enumerate(_breakable(run)):
                found.append(Piece(word, None, spaced and place == 0))
            spaced = False
        else:
            if "\n" in run or "\r" in run:
                found.append(Piece(NEWLINE, None, True))
            spaced = True
    return found, spaced


def _breakable(word: str) -> list[str]:
    """A word in the parts between which a line may break: each wide character is one, with the marks after it."""
    parts: list[str] = []
    for character in word:
        if parts and not (_wide(character) or _wide(parts[-1][-1])):
            parts[-1] += character
        elif parts and unicodedata.category(character)[0] in "MP":
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _one_line(text: str) -> str:
    """A player in one line. Other white space than line breaks becomes a space."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return f" {NEWLINE} ".join(lines).strip() or NEWLINE


def elided(given: Sequence[Piece], longest: float) -> list[Piece]:
    """With at most so many characters of background at a stretch: what is far from players and from the end goes."""
    found: list[Piece] = []
    runs = [(is_player, list(run)) for is_player, run in itertools.groupby(given, lambda x: x.player is not None)]
    for place, (is_player, run) in enumerate(runs):
        lengths = [len(each.text) + each.spaced for each in run]
        if is_player or sum(lengths) <= longest:
            found += run
            continue
        first, last = place == 0, place == len(runs) - 1
        room = longest - 2
        head = 0 if first else _fitting(lengths, room / 3 if last else room / 2)
        tail = _fitting(lengths[::-1], room - sum(lengths[:head]))
        if last and not tail:  # what the target follows is always shown, if only its end
            word = run[-1]
            run = [*run[:-1], Piece(ELLIPSIS + word.text[-max(int(longest) - 1, 1) :], None, word.spaced)]
            tail = 1
        tail = min(tail, len(run) - head)
        between = [] if head + tail >= len(run) else [Piece(ELLIPSIS, None, run[head].spaced)]
        found += [*run[:head], *between, *run[len(run) - tail :]]
    return found


def _fitting(lengths: Sequence[int], room: float) -> int:
    """How many of the first lengths have room."""
    return sum(total <= room for total in itertools.accumulate(lengths))


def _with_short_players(given: Sequence[Piece], longest: float, size: float, measure: Measure) -> list[Piece]:
    """Players wider than a part of a line, and words of the background wider than it, lose their middle."""
    return [Piece(shortened(x.text, longest, size, measure), x.player, x.spaced) for x in given]


def shortened(text: str, longest: float, size: float, measure: Measure, bold: bool = True) -> str:
    """A text without its middle, no wider than `longest` (if only one character is left)."""
    kept = len(text)
    short = text
    while measure(short, size, bold) > longest and kept > 1:
        kept = min(kept - 1, max(1, int(kept * longest / measure(short, size, bold)) + 1))
        short = (
            f"{text[: -(-kept // 2)].rstrip()}{ELLIPSIS}{text[len(text) - kept // 2 :].lstrip() if kept > 1 else ''}"
        )
    return short


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


def broken_into_lines(
    given: Sequence[Piece], widths: Sequence[float], gaps: Sequence[float], width: float
) -> list[range]:
    """Places of the pieces of each line. A line breaks at white space and beside wide characters; where not even one
    word has room, at any piece."""
    words: list[list[int]] = []  # what is not broken
    for place, piece in enumerate(given):
        wide = place and (_wide(piece.text[0]) or _wide(given[place - 1].text[-1]))
        if place == 0 or piece.spaced or wide:
            words.append([])
        words[-1].append(place)
    lines, used = [[]], 0.0
    for word in words:
        needed = sum(widths[i] + gaps[i] for i in word)
        for part in [word] if needed <= width else [[place] for place in word]:
            needed = sum(widths[i] + gaps[i] for i in part)
            if lines[-1] and used + needed > width:
                lines.append([])
                used = -gaps[part[0]]
            lines[-1] += part
            used += needed
    return [range(line[0], line[-1] + 1) for line in lines]


def direction(text: str) -> str:
    """ "L" or "R", as its first letter is read; "" without letters."""
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("L", "R", "AL"):
            return kind[:1].replace("A", "R")
    return ""


def visual_order(texts: Sequence[str], leftward: bool) -> list[int]:
    """The words of a line from left to right (Unicode Standard Annex 9, rules N1, N2 and L2, on whole words)."""
    base = "R" if leftward else "L"
    known = [direction(text) for text in texts]
    for place, each in enumerate(known):
        if not each:
            before = next((known[i] for i in range(place - 1, -1, -1) if known[i]), base)
            after = next((x for x in known[place + 1 :] if x), base)
            known[place] = before if before == after else base
    levels = [1 if each == "R" else 2 if leftward else 0 for each in known]
    order = list(range(len(texts)))
    for level in (2, 1):
        start = 0
        for high, run in itertools.groupby([levels[i] >= level for i in order]):
            stop = start + len(list(run))
            if high:
                order[start:stop] = order[start:stop][::-1]
            start = stop
    return order


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
