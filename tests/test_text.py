"""How text and numbers are written for people."""

import pytest

from andor.core.text import hides, one_line, percent, r2_text, visible


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.0, "0%"),
        (1e-7, "<0.001%"),
        (1.2e-5, "0.0012%"),
        (0.00037, "0.037%"),
        (0.0804, "8.0%"),
        (0.0996, "10%"),
        (0.37, "37%"),
        (0.9899, "99%"),
        (0.994, "99.4%"),
        (0.99949, "99.9%"),
        (0.99999, ">99.9%"),
        (1.0, "100%"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_probability_is_none_or_certain_only_where_it_is(p, said):
    assert percent(p) == said


def test_r2_is_never_rounded_up_to_one():
    found = [r2_text(x) for x in (1.0, 1 - 1e-12, 0.99999, 0.9994, 0.98, 0.0, -0.25, None, float("nan"))]
    assert found == ["1.000", "1.000", "0.999", "0.999", "0.980", "0.000", "−0.250", "–", "–"]


def test_nothing_hides():
    hidden = "\x00\x07\x1b\x7f\x85\xad\u200b\u200e\u2028\u202e\u2066\ufeff\ufffe\ue000\ud800\U000e0041"
    for each in hidden:
        assert hides(each) and visible(f"a{each}b") == f"aU+{ord(each):04X}b"
    seen = "a é\u0301 \t\n\xa0\u3000 日本 קר ۝ 👩\u200d🚀 می\u200cخواهم 🫨"
    assert visible(seen) == seen
    assert visible("a\r\nb\rc") == "a\nbU+000Dc"


def test_one_line_is_visible_and_cut():
    assert one_line(" a\n\tb\u2028\x1b c ") == "a bU+2028U+001B c"
    assert one_line("abcdef", 4) == "abc…" and one_line("abcd", 4) == "abcd"
