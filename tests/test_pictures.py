"""Pictures of one prompt: what they say, that all of it is inside, and prompts of every kind."""

import dataclasses
import io
import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from andor.core import lattice
from andor.core.effects import distinct
from andor.core.values import Values
from andor.figures import matrix, rendered, style
from andor.figures.prompt import STYLES, plot
from andor.figures.shown import picture, spelled
from andor.prompts import Prompt

EFFECTS = {("AND", "good"): 2.0, ("AND", "not"): -0.5, ("AND", "not", "good"): -3.25, ("OR", "film", "good"): 1.0}


@dataclasses.dataclass
class Planted:
    """An explanation whose compact effects are given."""

    prompt: Prompt
    and_effects: np.ndarray
    or_effects: np.ndarray
    values: Values
    warnings: tuple[str, ...] = ()
    solution: None = None
    compact: None = None
    intervals: None = None
    range: float = 1.0

    @property
    def words(self):
        return distinct(self.values.players)

    @property
    def target(self):
        return self.values.target

    def pair(self, method="compact"):
        assert method == "compact"
        return self.and_effects, self.or_effects

    def unreliable(self, method="compact"):
        return float("nan")


def planted(effects=EFFECTS, text="the film is not good", players=("film", "not", "good"), target=" bad", **more):
    """v is the sum of these effects; they are named by words, or by numbers of players."""
    prompt = Prompt(text, players=players, target=target, chat=more.pop("chat", False))
    score, base = more.pop("score", "product"), more.pop("base", -1.0)
    pair = np.zeros((2, 2**prompt.n_players))
    pair[0, 0] = base
    for (kind, *who), value in effects.items():
        numbers = [each if isinstance(each, int) else prompt.words.index(each) for each in who]
        pair[int(kind == "OR"), sum(1 << number for number in numbers)] = value
    v = lattice.zeta(pair[0]) + lattice.or_sums(pair[1]) + more.pop("noise", 0.0)
    values = Values(v, prompt.words, target, float(1 / (1 + np.exp(-v[-1]))), 1, 0.1, score=score)
    return Planted(prompt, *pair, values, **more)


def texts(figure):
    return [each.get_text() for each in figure.findobj(Text) if each.get_text()]


def check_drawn(figure):
    """All text is inside the picture, legible, and none of it on another; returns the texts."""
    with rc_context(style.style()):
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        drawn = [each for each in figure.findobj(Text) if each.get_text()]
        boxes = [each.get_window_extent(renderer).padded(-0.5) for each in drawn]
    assert min(each.get_fontsize() for each in drawn) >= 6.5
    for each, box in zip(drawn, boxes, strict=True):
        inside = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0
        assert inside and box.y1 <= figure.bbox.y1, each
    straight = [(each, box) for each, box in zip(drawn, boxes, strict=True) if not each.get_rotation()]
    for (one, a), (other, b) in itertools.combinations(straight, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
        assert apart, (one, other)
    return [each.get_text() for each in drawn]


def test_what_is_said_of_a_model():
    shown = picture([planted(warnings=("the target is improbable.",))], ["dir/llama"])
    (side,) = shown.sides
    assert shown.title == "What makes “bad” less likely" and side.label == "llama"
    assert side.move == "p 27% → 15%, v −1.00 → −1.75 nats".replace(" → ", "\u00a0→\u00a0")
    assert side.fit == "4 effects shown, R²\u00a01.000 on all 8\u00a0masks"
    assert [mark.value for mark in side.marks] == [-3.25, 2.0, 1.0, -0.5]
    for how in STYLES:
        drawn = check_drawn(plot([planted(warnings=("the target is improbable.",))], ["llama"], how, "page"))
        assert {"−3.25", "+2.00", "+1.00", "−0.50", "⚠ the target is improbable."} <= set(drawn)


def test_r2_is_of_the_effects_shown():
    shown = picture([planted()], ["m"], top=1)
    v = planted().values.v
    alone = np.where(np.arange(8) & 0b110 == 0b110, -3.25, 0.0) - 1.0
    r2 = 1 - ((v - alone) ** 2).sum() / ((v - v.mean()) ** 2).sum()
    assert shown.sides[0].r2 == pytest.approx(r2)
    assert shown.sides[0].fit.startswith("1 of 4 effects shown, ⚠ R²")
    assert [m.value for m in picture([planted()], ["m"], tau=0.4).sides[0].marks] == [-3.25, 2.0]


def test_two_models_share_effects_of_one_sign():
    other = planted(EFFECTS | {("AND", "not"): 0.5, ("AND", "film"): 1.5, ("OR", "film", "good"): 0.0})
    shown = picture([planted(), other], ["one", "two"])
    assert shown.shared == {(0b100, False), (0b110, False)}
    assert shown.title == "What moves “bad”"  # one model up, one down
    for how in STYLES:
        drawn = check_drawn(plot([planted(), other], ["one", "two"], how, "page"))
        assert any("one" in each for each in drawn) and any("two" in each for each in drawn)
    assert "in both, same sign" in texts(plot([planted(), other], ["one", "two"], "words", "page"))
    own = picture([planted(), planted(target=" good")], ["one", "two"])
    assert not own.shared and own.title == "What makes “bad” and “good” less likely"


def test_nothing_to_show_is_said():
    shown = picture([planted({})], ["m"])
    assert shown.title == "Nothing moves “bad”" and shown.sides[0].fit == "v is the same whatever is masked"
    noisy = picture([planted({}, noise=np.arange(8.0))], ["m"])
    assert noisy.sides[0].fit == "no effect is strong enough to show"
    for how in STYLES:
        check_drawn(plot([planted({})], ["m"], how, "column"))


def test_a_sum_of_log_odds_has_no_p_before():
    assert picture([planted(score="sum")], ["m"]).sides[0].move.startswith("p 15%, v")


ODD = {
    "one player": ({("AND", 0): 1.0}, "Hello", ("Hello",), ","),
    "long": (
        {("AND", 0, 3): 1.0, ("OR", 1, 2): -2.0, ("AND", 2): 0.5, ("OR", 0, 1, 2, 3): 0.7},
        "first " + "and then something else " * 8 + "second part third " + "and so on " * 9 + "fourth or not at",
        ("first", "second part", "third", "fourth"),
        " all",
    ),
    "markup": (
        {("AND", 0, 1): 1.0, ("OR", 1, 2): -2.0, ("AND", 2): 0.5},
        "cost $x_1$ and $$ \\frac <b>&amp;",
        ("$x_1$", "$$", "<b>&amp;"),
        '\n"$y^2$" \x1b',
    ),
    "right to left": (
        {("AND", 0, 3): 1.0, ("OR", 1, 2): -2.0, ("AND", 2): 0.5},
        "הסרט (החדש) לא היה טוב בכלל, אבל GPT-4 אהב אותו",
        ("הסרט", "לא", "GPT-4", "אהב"),
        " מאוד",
    ),
    "repeated": ({("AND", 0, 1): 1.0, ("OR", 0, 2): -2.0, ("AND", 2): 0.5}, "a b a b a", ("a", "a", "a"), " b"),
    "parts": ({("AND", 0, 1): 1.0, ("AND", 1): -2.0, ("AND", 2): 0.5}, "unhappiness", ("un", "happi", "ness"), "es"),
    "sixteen": (
        {("AND", *range(16)): 1.0, ("OR", *range(0, 16, 2)): -2.0, ("AND", 15): 0.5, ("AND", 3, 11): -0.05},
        " ".join(f"word{i}" for i in range(16)),
        tuple(f"word{i}" for i in range(16)),
        " end",
    ),
}


@pytest.mark.parametrize("case", ODD.values(), ids=ODD)
@pytest.mark.parametrize("how", STYLES)
def test_odd_prompts_are_legible(case, how):
    one = planted(*case)
    for explanations, width in (([one], "column"), ([one, planted(*case, base=1.0)], "page")):
        figure = plot(explanations, ["m", "n"][: len(explanations)], how, width, tau=0.0)
        drawn = check_drawn(figure)
        assert figure.get_figwidth() == style.WIDTHS[width]
        shown = picture(explanations, ["m"] * len(explanations), tau=0.0)
        for value in {mark.value for mark in shown.sides[0].marks}:
            assert drawn.count(shown.signed(value)) == len(explanations), "every effect is drawn once for each model"


def test_characters_without_a_font_are_told_in_one_line():
    one = planted({("AND", 0): 1.0, ("AND", 0, 1): 2.0}, "\U00013000 \U00013001", ("\U00013000", "\U00013001"), " x")
    with (
        pytest.warns(UserWarning, match="the fonts here lack 2 characters") as caught,
        style.missing_glyphs_in_one_line(),
    ):
        rendered(plot([one], ["m"], "words", "page"), ("png",))
    assert len(caught) == 1


def test_columns_of_the_matrix_are_distinct():
    with rc_context(style.style()):
        long = "a very long player number one of them", "a very long player number two of them"
        assert len(set(matrix.names((*long, "word", "word"), 60.0, 7.0))) == 4
        keys = matrix.rows(picture([planted()], ["m"]))
    assert keys == [(0b110, False), (0b100, False), (0b101, True), (0b010, False)], "each effect once, strongest first"


def test_a_chat_says_that_its_template_is_left_out():
    one = planted(chat=("<|user|>", "<|end|>"))
    assert all(any("chat" in each for each in texts(plot([one], ["m"], how, "page"))) for how in STYLES)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"how": "bars"}, r"style='bars' must be one of words, matrix"),
        ({"width": "wide"}, r"width='wide' must be one of column, page"),
        ({"top": 0}, r"top=0 must be at least 1"),
        ({"tau": 1.0}, r"tau=1 must be at least 0 and below 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        plot([planted()], ["m"], **({"how": "words", "width": "page"} | options))


def test_explanations_of_two_prompts_have_no_common_picture():
    other = planted({}, "the film is good", ("film", "good"))
    with pytest.raises(ValueError, match="must be of one text and the same players"):
        picture([planted(), other], ["one", "two"])


def test_the_same_picture_is_the_same_file():
    files = [rendered(plot([planted()], ["m"], "words", "page"), ("svg", "pdf")) for _ in range(2)]
    assert files[0] == files[1]
    assert ElementTree.fromstring(files[0]["svg"]).tag.endswith("svg")


def test_words_are_no_markup_in_an_svg():
    one = planted(*ODD["markup"])
    with rc_context(style.style() | {"svg.fonttype": "none"}):
        stream = io.BytesIO()
        plot([one], ["<script>m</script>"], "matrix", "page").savefig(stream, format="svg")
    tree = ElementTree.fromstring(stream.getvalue())
    assert not [each for each in tree.iter() if each.tag.endswith("script")]
    written = "\n".join(each.text or "" for each in tree.iter())
    assert all(word in written for word in one.words) and "U+001B" in written


def test_targets_and_probabilities_are_spelled():
    assert [spelled(each) for each in (" bad", "\n", "\r\n x", " ", '"$x$"')] == ["bad", "↵", "↵ x", "␣", '"$x$"']
