"""Which numbers are reported, and the names of effects in words."""

import pytest

from andor.core.effects import effect_name
from andor.measures.reported import closest_to_median, mean_of_defined, median_of_defined, top_counts

NAN = float("nan")


def test_top_counts_are_shares_of_all_effects():
    # 2**11 - 10 - 2 = 2036 effects of 10 players.
    assert top_counts(10) == (21, 62, 102, 204, 100)


def test_the_prompt_shown_is_the_lower_median():
    assert closest_to_median({"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.7}) == "c"
    assert closest_to_median({"a": NAN, "b": 0.1, "c": 0.5}) == "b"
    assert closest_to_median({"a": NAN}) == "a"


def test_what_is_undefined_is_left_out_of_means():
    assert mean_of_defined([1.0, NAN, 3.0, 5.0]) == 3 and median_of_defined(iter([1.0, NAN, 2.0, 9.0])) == 2
    assert all(str(of([])) == str(of([NAN])) == "nan" for of in (mean_of_defined, median_of_defined))


def test_effect_names():
    words = ("not", "good", "not", "very\nlong  phrase", "dull")
    assert effect_name(words, 0b00010, False) == "good"
    assert effect_name(words, 0b10010, True) == "good ∨ dull"
    assert effect_name(words, 0b00111, False) == "not₁ ∧ good ∧ not₂"
    assert effect_name(words, 0b01000, False) == "very long phrase"
    assert effect_name(words, 0b11111, False, 40) == "not₁ ∧ good ∧ … ∧ dull (5 words)"


@pytest.mark.parametrize("longest", [20, 30, 44])
def test_long_effect_names_are_cut_to_length(longest):
    words = tuple("extraordinarily" * (1 + i % 3) for i in range(10))
    for subset in (0b1, 0b11, 0b111, 2**10 - 1):
        assert len(effect_name(words, subset, True, longest)) <= longest + 4
