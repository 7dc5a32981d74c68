"""The layout of the picture of words, apart from its drawing. A letter is as wide as it is high, halved."""

import itertools
import math

import numpy as np
import pytest

from andor.figures.layout import Marked, lanes, lay_out
from andor.figures.pieces import ELLIPSIS, NEWLINE, broken_into_lines, elided, pieces, shortened, visual_order

SENTENCE = "Marie was born in Lyon, but she has lived in Germany for years. Her first language is"
HEBREW = "הסרט (החדש) לא היה טוב בכלל, אבל GPT-4 אהב אותו מאוד:"
CHINESE = "这部电影不好看，故事很无聊，但是演员的表演非常精彩。情感："


def measure(text: str, size: float, bold: bool) -> float:
    return 0.5 * size * len(text) * (1.2 if bold else 1.0)


def spans_of(text, *words):
    found, start = [], 0
    for word in words:
        start = text.index(word, start)
        found.append((start, start + len(word)))
        start += len(word)
    return tuple(found)


def effects_of(rng, n_players, count):
    """So many different effects of a side."""
    subsets = rng.permutation(np.arange(1, 2**n_players))[:count].tolist()
    return [Marked(tuple(p for p in range(n_players) if s >> p & 1), f"{rng.normal():+.2f}") for s in subsets]


def laid_out(text, spans, effects, width=500.0):
    return lay_out(text, spans, effects, width=width, measure=measure, sizes=(10.0, 8.0), label=6.5)


def joined(found):
    return "".join(" " * each.spaced + each.text for each in found)


CASES = {
    "one line": (SENTENCE, ("Marie", "Lyon", "Germany", "first", "language"), 900.0),
    "many lines": (SENTENCE, ("Marie", "Lyon", "Germany", "first", "language"), 170.0),
    "right to left": (HEBREW, ("הסרט", "לא", "טוב", "GPT-4", "אהב"), 160.0),
    "no spaces": (CHINESE, ("电影", "不", "故事", "演员", "精彩"), 120.0),
    "one player": ("Hello", ("Hello",), 300.0),
    "parts of a word": ("unhappiness", ("un", "happi", "ness"), 300.0),
    "too narrow": ("unhappiness", ("un", "happi", "ness"), 30.0),
}


@pytest.mark.parametrize("text, words, width", CASES.values(), ids=CASES)
def test_every_effect_is_there_once_and_nothing_overlaps(text, words, width):
    spans, n_players = spans_of(text, *words), len(words)
    sides = tuple(effects_of(np.random.default_rng(seed), n_players, 2**n_players // 2) for seed in (0, 1))
    layout = laid_out(text, spans, sides, width)
    assert [layout.place(player).piece.player for player in range(n_players)] == list(range(n_players))
    for over, side in enumerate(sides):
        for effect, marked in enumerate(side):
            middles = sorted(layout.place(player).middle for player in marked.players)
            bars = [line for line in layout.lines if effect in line.bars[over]]
            parts = [part for line in layout.lines for part in line.parts[over] if part.effect == effect]
            if len(marked.players) == 1:
                assert len(bars) == 1 and not parts
                continue
            assert not bars and sorted(x for part in parts for x in part.teeth) == middles, "exactly its words"
            assert sum(part.ends for part in parts) == sum(part.begins for part in parts) == 1
            assert len({part.letter for part in parts}) == 1 and bool(parts[0].letter) == (len(parts) > 1)
    for line in layout.lines:
        for parts in line.parts:
            taken = sorted((part.lane, part.left, part.right) for part in parts)
            for (lane, _, right), (other, left, _) in itertools.pairwise(taken):
                assert lane != other or right < left
        for one, other in itertools.pairwise(line.words):
            assert one.left + one.width <= other.left + 1e-9
    letters = [
        (over, part.effect, part.letter)
        for line in layout.lines
        for over, parts in enumerate(line.parts)
        for part in parts
        if part.letter
    ]
    assert len({letter for *_, letter in letters}) == len({each[:2] for each in letters}), "a letter names one effect"


@pytest.mark.parametrize("name", ["one line", "many lines", "right to left", "no spaces"])
def test_labels_stay_in_the_picture(name):
    text, words, width = CASES[name]
    sides = tuple(effects_of(np.random.default_rng(2), len(words), 12) for _ in range(2))
    for line in laid_out(text, spans_of(text, *words), sides, width).lines:
        assert all(0 <= part.left < part.right <= width for parts in line.parts for part in parts)
        assert all(0 <= word.left and word.left + word.width <= width for word in line.words)


def test_labels_of_neighbours_do_not_touch():
    text = "a b c"
    layout = laid_out(text, spans_of(text, "a", "b", "c"), ([Marked((i,), "+10.25") for i in range(3)], []))
    middles = [layout.place(player).middle for player in range(3)]
    assert min(np.diff(middles)) > measure("+10.25", 6.5, False)


def test_short_combs_lie_nearest():
    assert lanes([(0.0, 100.0), (10.0, 30.0), (60.0, 80.0), (28.0, 50.0)]) == [2, 0, 0, 1]
    assert lanes([]) == []


def test_pieces_keep_the_text():
    text = "  a New  York\n\nbed-time , x"
    found = pieces(text, spans_of(text, "New  York", "time"))
    assert [each.text for each in found] == ["a", "New York", NEWLINE, "bed-", "time", ",", "x"]
    assert [each.player for each in found] == [None, 0, None, None, 1, None, None]
    assert joined(found).strip() == f"a New York {NEWLINE} bed-time , x"


def test_text_without_spaces_can_break_anywhere_but_before_its_punctuation():
    found = pieces(CHINESE, spans_of(CHINESE, "电影"))
    assert [each.text for each in found[:5]] == ["这", "部", "电影", "不", "好"]
    assert "看，" in [each.text for each in found]


def test_elided_background_keeps_what_is_near_players_and_the_end():
    text = "one two three four five PLAYER six seven eight nine ten PLAYER and so on to the very end"
    found = elided(pieces(text, spans_of(text, "PLAYER", "PLAYER")), 12.0)
    assert joined(found) == f"{ELLIPSIS} four five PLAYER six {ELLIPSIS} ten PLAYER {ELLIPSIS} very end"
    assert elided(found, math.inf) == found
    assert joined(elided(pieces("PLAYER Donaudampfschiff", [(0, 6)]), 9.0)) == f"PLAYER {ELLIPSIS}pfschiff"


def test_a_long_prompt_is_elided_before_it_is_broken():
    text = f"first {'word ' * 60}second"
    layout = laid_out(text, spans_of(text, "first", "second"), ([Marked((0, 1), "+1.00")], []))
    assert len(layout.lines) == 1 and ELLIPSIS in [each.piece.text for each in layout.lines[0].words]
    assert layout.size == 8.0
    assert laid_out("first second", [(0, 5), (6, 12)], ([], [])).size == 10.0


def test_lines_break_at_spaces_only_where_words_fit():
    found, widths, gaps = pieces("aa bb, cc", [(0, 2), (3, 5)]), [10.0, 10.0, 2.0, 10.0], [0.0, 3.0, 0.0, 3.0]
    assert broken_into_lines(found, widths, gaps, 14.0) == [range(0, 1), range(1, 3), range(3, 4)]
    assert broken_into_lines(found, widths, gaps, 11.0) == [range(i, i + 1) for i in range(4)]


@pytest.mark.parametrize(
    "words, leftward, expected",
    [
        (["a", "b", "."], False, ["a", "b", "."]),
        (["א", "ב", "."], True, [".", "ב", "א"]),
        (["א", "GPT", "4", "x", "ב"], True, ["ב", "GPT", "4", "x", "א"]),
        (["say", "א", "-", "ב", "now"], False, ["say", "ב", "-", "א", "now"]),
        (["مرحبا", "b"], True, ["b", "مرحبا"]),
    ],
)
def test_words_stand_in_the_order_in_which_they_are_read(words, leftward, expected):
    assert [words[i] for i in visual_order(words, leftward)] == expected


def test_shortened_text_fits():
    short = shortened("a very long player indeed", 60.0, 10.0, measure)
    assert measure(short, 10.0, True) <= 60.0 and short[0] == "a" and short[-1] == "d" and ELLIPSIS in short
    assert shortened("short", 60.0, 10.0, measure) == "short"
