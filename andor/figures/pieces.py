"""Text as a picture sets it: pieces, what is left out, where lines break, and the order of words from left to right."""

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from andor.core.text import visible

ELLIPSIS = "…"
NEWLINE = "↵"

Measure = Callable[[str, float, bool], float]
"""(text, size, bold) -> width, in points."""


@dataclass(frozen=True)
class Piece:
    """A player, or a word of the background.

    Attributes:
      text: as it is drawn, visible.
      player: its number, or None.
      spaced: whether white space stands before it.
    """

    text: str
    player: int | None
    spaced: bool


def pieces(text: str, spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """Players and the words between them, in text order. White space is one space, and `NEWLINE` where it has one."""
    found: list[Piece] = []
    spaced, stop = False, 0
    for player, (start, end) in enumerate([*spans, (len(text), len(text))]):
        words, spaced = _words(visible(text[stop:start]), spaced)
        found += words
        stop = end
        if player < len(spans):
            found.append(Piece(_one_line(visible(text[start:end])), player, spaced and bool(found)))
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
            if "\n" in run:
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
