"""An explanation: what it says in words is what its arrays say, and nothing that was changed is believed."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from games import planted
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import assert_same, probability, rewrite

import andor
from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.core.compact import Compact
from andor.core.effects import DUST, Effect, distinct, effect_name
from andor.core.penalties import L1, Huber, OrderWeightedL1
from andor.core.problem import Solution
from andor.core.text import percent, r2_text, visible
from andor.core.values import Values
from andor.prompts import Prompt
from andor.runs.explanation import MOST_SHOWN, Explanation, check, described, read_explanation
from andor.runs.files import Damaged
from andor.solvers import FirstOrder, InteriorPoint

PROMPT = Prompt("the film is not good , no film is", ["film", "not", "good", "film"], "good", id="twice", chat=True)


def explained(v, prompt=PROMPT, solver=None, penalty=None, target=" good", **changes):
    """An explanation of given values, solved."""
    solver, penalty = solver or InteriorPoint(), penalty or L1()
    values = Values(v, prompt.words, target, probability(v), 80, 1.5, **changes)
    origin = {"solver": described(solver), "penalty": described(penalty), "made_by": "cpu x 1", "key": "k"}
    solution = andor.extract(v, 0.02, solver, penalty=penalty)
    return Explanation("tiny-llama", prompt, values, solution, andor.compact(v, MOST_SHOWN, start=solution), origin)


@pytest.fixture(scope="module")
def one():
    return explained(planted(4, seed=3), forward_noise=1e-5, forward_bound=2e-5)


@pytest.fixture
def saved(one, tmp_path):
    one.save(tmp_path / "e.npz")
    return tmp_path / "e.npz"


def strongest(explanation, kind, subset):
    return explanation.effects[kind == "OR"][subset]


# ------------------------------------------------------------------------------------------------------------- in words


def test_words_that_repeat_are_told_apart(one):
    assert one.words == ("film₁", "not", "good", "film₂")
    assert distinct(("kite", "kite", "kite₁", "a\nb")) == ("kite₁′", "kite₂", "kite₁", "a b")
    assert len(set(distinct(["a"] * 12))) == 12


def test_names_that_are_too_long_keep_their_ends():
    words = ("alpha", "beta", "gamma", "delta", "epsilon")
    assert effect_name(words, 0b11111, False, 38) == "alpha ∧ beta ∧ gamma ∧ delta ∧ epsilon"
    assert effect_name(words, 0b11111, False, 37) == "alpha ∧ beta ∧ … ∧ epsilon (5 words)"
    assert effect_name(words, 0b11111, True, 30) == "alpha ∨ … ∨ epsilon (5 words)"
    assert effect_name(words, 0b10001, True, 12) == "al… ∨ ep…"


@pytest.mark.parametrize(
    ("asked", "subset"),
    [
        (("not",), 0b0010),
        (("film₁", "good"), 0b0101),
        (("good", "film₁"), 0b0101),
        ((3, "not"), 0b1010),
        ((0, 1, 2, 3), 0b1111),
        (("not", "not"), 0b0010),
    ],
)
def test_effects_are_found_by_word_and_by_number(one, asked, subset):
    pair = one[asked]
    if len(set(asked)) == 1:
        assert pair == one[asked[0]]
    total = sum(np.abs(effects[1:]).sum() for effects in one.effects)
    for effect, effects, kind in zip(pair, one.effects, ("AND", "OR"), strict=True):
        assert effect.kind == kind and effect.effect == effects[subset]
        assert effect.players == lattice.members(subset) and effect.order == len(set(asked))
        assert effect.words == tuple(one.words[player] for player in effect.players)
        assert effect.share == pytest.approx(abs(effects[subset]) / total, rel=1e-12)
    assert pair.AND is pair[0] and pair.OR is pair[1]


@pytest.mark.parametrize("asked", ["film", "bad", 4, -1, ("not", "film")])
def test_who_is_no_player_is_told_who_is(one, asked):
    with pytest.raises(KeyError, match=r"is no player of this explanation. The players are film₁, not, good, film₂"):
        one[asked]


def test_the_strongest_come_first_and_dust_not_at_all(one):
    sizes = np.abs(np.concatenate([one.effects[0][1:], one.effects[1][1:]]))
    everything = one.top(100)
    real = np.sort(sizes[sizes > DUST * sizes.max()])[::-1]
    assert 4 < len(everything) < len(sizes)
    np.testing.assert_array_equal([abs(each.effect) for each in everything], real)
    for each in everything:
        assert each.effect == strongest(one, each.kind, lattice.subset_of(each.players)) != 0
        assert each.kind == "AND" or each.order > 1
    assert one.top(3) == everything[:3] and one.top(0) == ()
    assert sum(each.share for each in everything) == pytest.approx(1, abs=1e-2)


def test_orders_and_fit_are_those_of_the_arrays(one):
    orders = one.orders()
    for order in range(1, 5):
        chosen = np.concatenate([effects[lattice.orders(4) == order] for effects in one.effects])
        assert orders.positive[order - 1] == pytest.approx(chosen[chosen > 0].sum(), abs=1e-12)
        assert orders.negative[order - 1] == pytest.approx(-chosen[chosen < 0].sum(), abs=1e-12)
    v = one.values.v
    for k in (1, 4):
        kept = np.zeros((2, 16))
        kept[0, 0] = v[0]
        for each in one.top(k):
            kept[int(each.kind == "OR"), lattice.subset_of(each.players)] = each.effect
        left = np.sum((v - reconstruct(*kept)) ** 2) / np.sum((v - v.mean()) ** 2)
        assert one.r2(k) == pytest.approx(1 - left, abs=1e-12)
    assert one.r2(1) < one.r2(4) < 1


def test_three_methods_give_effects(one):
    assert one.effects == one.pair("compact") == (one.compact.and_effects, one.compact.or_effects)
    assert one.pair() == one.pair("certified") == (one.solution.and_effects, one.solution.or_effects)
    and_only, none = one.pair("and_only")
    np.testing.assert_allclose(lattice.zeta(and_only), one.values.v, atol=1e-12)
    assert not none.any()
    for method in ("compact", "certified", "and_only"):
        first, *_ = top = one.top(100, method)
        assert first.effect == one.pair(method)[first.kind == "OR"][lattice.subset_of(first.players)]
        assert one.orders(method).positive.sum() == pytest.approx(sum(max(each.effect, 0) for each in top), abs=1e-2)
    assert one.r2(3) != one.r2(3, "certified") and one.compact.r2 == one.r2(20)


def test_what_is_certain_is_about_the_optimum(one):
    ((effect, low, high),) = one.certain(1)
    assert effect == one.top(1, "certified")[0] and low <= abs(effect.effect) <= high
    share, least, most = one.share_of_orders(1)
    assert 0 <= least <= share <= most <= 1
    for penalty in (Huber(0.3), OrderWeightedL1(0.5)):
        other = dataclasses.replace(one, origin={**one.origin, "penalty": described(penalty)})
        for ask in (other.certain, other.share_of_orders):
            with pytest.raises(ValueError, match="L1 penalty alone"):
                ask()


def test_intervals_are_kept_and_not_solved_again(one, tmp_path, monkeypatch):
    bounded = one.with_intervals(3)
    assert bounded.certain(3) == one.certain(3) and bounded.share_of_orders() == one.share_of_orders()
    assert bounded.intervals.surely_there == sum(low > 0 for _, low, _ in one.certain(3))
    bounded.save(tmp_path / "e.npz")
    back = andor.read(tmp_path / "e.npz")
    assert back.digest == bounded.digest != one.digest and one.intervals is None

    def no_solve(*_):
        raise AssertionError

    for name in ("effect_interval", "share_of_orders"):
        monkeypatch.setattr(f"andor.solvers.{name}", no_solve)
    assert back.with_intervals(2) is back and back.certain(3) == bounded.certain(3)
    assert back.share_of_orders() == bounded.share_of_orders()
    with pytest.raises(AssertionError):
        back.certain(4)


@pytest.mark.parametrize(
    "change",
    [
        {"certain_sizes": lambda x: x[:, ::-1]},
        {"certain_sizes": lambda x: x[:1]},
        {"certain_effects": lambda x: x.astype(float)},
        {"certain_effects": lambda x: x + np.array([0, 16])},
        {"certain_low_orders": lambda x: x + 1},
        {"certain_low_orders": None},
    ],
)
def test_intervals_that_were_changed_are_damaged(one, tmp_path, change):
    path = tmp_path / "e.npz"
    one.with_intervals(2).save(path)
    ((name, how),) = change.items()
    rewrite(path, **{name: how and how(np.load(path)[name])})
    with pytest.raises(Damaged):
        andor.read(path)


def test_the_path_in_numbers(one):
    points = one.path()
    at = andor.extract(one.values.v, points[2].bound, noise_unit="spread")
    assert points[2].salient == andor.metrics.salient_count(at.and_effects, at.or_effects)
    assert points[0].r2 > points[-1].r2 and all(0 <= each.spindle_share <= 1 for each in points[:3])


def test_what_is_asked_of_values_is_asked_here_too(one):
    assert one.target == " good" and one.range == abs(one.values.v[-1] - one.values.v[0])
    trust = one.trust
    assert (trust.r2, trust.worst_error, trust.count) == (one.compact.r2, one.compact.worst_error, one.compact.count)
    assert trust.spread == one.values.v.std() and trust.range == one.range


def test_where_there_are_no_effects():
    nothing = explained(np.full(16, 2.0))
    assert nothing.top(5) == () and np.isnan(nothing.r2(5)) and np.isnan(nothing["not"].AND.share)
    assert "no effects" in repr(nothing) and "R²" not in repr(nothing)
    assert not nothing.orders().positive.any()


def test_pandas(one):
    pytest.importorskip("pandas")
    for frame, effects in ((one.to_pandas(), one.top(100)), (one.to_pandas("certified"), one.top(100, "certified"))):
        assert list(frame.columns) == ["kind", "words", "players", "order", "effect", "share"]
        assert [Effect(row.kind, row.words, row.players, row.effect, row.share) for row in frame.itertuples()] == [
            *effects
        ]


@pytest.mark.parametrize("style", ["words", "matrix"])
def test_the_plot_has_the_strongest_effects(one, style):
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    figure = one.plot(style, width="column", top=3, tau=0.0)
    texts = [each.get_text() for each in figure.findobj(Text)]
    assert sum(each[:1] in ("+", "\N{MINUS SIGN}") and each[1:2].isdigit() for each in texts) == 3
    assert {*(one.words if style == "matrix" else one.prompt.words)} <= {*texts}
    assert any("above: " in each.get_text() for each in one.plot(style, other=one).findobj(Text)) == (style == "words")
    assert not plt.get_fignums(), "a figure of its own, which no notebook shows twice"


def test_explain_evaluates_and_solves(models, tmp_path):
    calls = []
    given = {"target": "bad", "players": ["film", "not"], "noise": 0.1}
    explanation = andor.explain(
        models[0], "the film is not good", **given, progress=lambda stage, *_: calls.append(stage)
    )
    assert list(dict.fromkeys(calls)) == ["load", "compile", "evaluate", "solve"]
    model = andor.load(models[0])
    values = andor.evaluate(model, Prompt("the film is not good", ["film", "not"]), target=" bad")
    np.testing.assert_array_equal(explanation.values.v, values.v)
    solution = andor.extract(values, 0.1)
    np.testing.assert_array_equal(explanation.pair()[0], solution.and_effects)
    np.testing.assert_array_equal(explanation.effects[0], andor.compact(values, 20, start=solution).and_effects)
    assert explanation.target == " bad" and explanation.model == models[0]
    assert (
        json.loads(explanation.origin["solver"])["name"] == "InteriorPoint" and "jax" in explanation.origin["made_by"]
    )
    explanation.save(tmp_path / "e.npz")
    assert andor.read(tmp_path / "e.npz").top(3) == explanation.top(3)
    measured = andor.explain(model, explanation.prompt, noise="measured", solver=FirstOrder(), penalty=Huber(0.5))
    assert measured.solution.noise_bound == measured.values.measured_noise
    assert json.loads(measured.origin["penalty"]) == {"name": "Huber", **dataclasses.asdict(Huber(0.5))}


def test_a_caller_with_strict_rules_gets_the_same(models):
    """Their transfer guard and their promotion of dtypes are about code of their own."""
    expected = andor.explain(models[0], "a good film", players=["good"], noise="measured")
    with jax.transfer_guard("disallow"), jax.numpy_dtype_promotion("strict"):
        explanation = andor.explain(models[0], "a good film", players=["good"], noise="measured")
    np.testing.assert_array_equal(explanation.effects, expected.effects)


def test_explain_refuses_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr("andor.runs.explain.load", lambda *_, **__: pytest.fail("loaded a model"))
    with pytest.raises(ValueError, match="has its target, players, chat and exact in the prompt; got them beside"):
        andor.explain("tiny-llama", PROMPT, target="x")
    monkeypatch.setattr("andor.solvers.interior_point.exact_bytes", lambda: 1000)
    with pytest.raises(ValueError, match=r"4 players.*GB of memory"):
        andor.explain("tiny-llama", PROMPT)


# ------------------------------------------------------------------------------------------------------------ on disk


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_read_is_what_was_saved(one, tmp_path, plain):
    if plain:  # no id, no chat, no target of its own, noise not measured, nothing known of where it comes from
        prompt = dataclasses.replace(PROMPT, id=None, chat=False, target=None)
        one = dataclasses.replace(
            one,
            prompt=prompt,
            values=dataclasses.replace(one.values, forward_noise=np.nan, forward_bound=np.nan),
            origin={},
        )
    one.save(str(tmp_path / "e.npz"))
    for read in (andor.read(tmp_path / "e.npz"), andor.read(str(tmp_path / "e.npz"))):
        assert read.model == one.model and read.prompt == one.prompt
        assert_same(read.values, one.values)
        assert_same(read.solution, one.solution)
        assert_same(read.compact, one.compact)
        assert {name: each for name, each in read.origin.items() if each} == one.origin
        assert repr(read) == repr(one)


def test_what_read_would_not_open_is_not_written(one, tmp_path):
    with pytest.raises(ValueError, match=r"must name an .npz file. Try saved.npz"):
        one.save(tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_numpy_alone_opens_it(one, saved):
    with np.load(saved, allow_pickle=False) as arrays:
        assert arrays["players"].tolist() == ["film", "not", "good", "film"] and arrays["text"].item() == PROMPT.text
        np.testing.assert_array_equal(arrays["and_effects"], one.solution.and_effects)
        for (start, stop), word in zip(arrays["player_spans"], arrays["players"], strict=True):
            assert PROMPT.text[start:stop] == word


def scaled(factor):
    """All that is in log-odds, and nothing of it fits p."""
    names = ("v", "and_effects", "or_effects", "noise", "noise_bound", "primal", "dual")
    return lambda arrays: {name: factor * arrays[name] for name in names}


def moved_into_noise(arrays):
    """All of v as noise: adds up, at no strength at all."""
    constant = np.where(np.arange(16) == 0, arrays["v"][0], 0.0)
    return {
        "and_effects": constant,
        "or_effects": np.zeros(16),
        "noise": arrays["v"] - arrays["v"][0],
        **dict.fromkeys(("primal", "dual", "gap"), np.float64(0)),
    }


def another_decomposition(arrays):
    """Harsanyi dividends add up to v too, at more strength than is said."""
    return {"and_effects": lattice.moebius(arrays["v"] - arrays["noise"]), "or_effects": np.zeros(16)}


TAMPERED = {
    "v negated": (lambda a: {"v": -a["v"]}, "says p = "),
    "v and p negated": (lambda a: {"v": -a["v"], "target_probability": np.float64(probability(-a["v"]))}, "add up"),
    "all negated but p": (scaled(-1.0), "says p = "),
    "v times 1e200": (lambda a: {"v": 1e200 * a["v"]}, "says p = "),
    "all times 1e200": (scaled(1e200), "says p = "),
    "v of one mask": (lambda a: {"v": a["v"] + 0.01 * (np.arange(16) == 5)}, "add up to the values"),
    "p of 7.5": (lambda a: {"target_probability": np.float64(7.5)}, r"says p = 7.5 where v\(N\) gives 0\."),
    "p a little less": (lambda a: {"target_probability": a["target_probability"] - 1e-3}, "says p = "),
    "an AND effect": (
        lambda a: {"and_effects": a["and_effects"] + 0.01 * (np.arange(16) == 3)},
        "add up to the values",
    ),
    "an OR effect": (lambda a: {"or_effects": a["or_effects"] + 0.01 * (np.arange(16) == 3)}, "add up to the values"),
    "effects without end": (lambda a: {"and_effects": np.full(16, 1e308)}, "add up to the values"),
    "another decomposition": (another_decomposition, "says primal "),
    "all as noise": (moved_into_noise, "noise is beyond the bound"),
    "a bound of nothing": (lambda a: {"noise_bound": np.float64(0)}, "noise is beyond the bound"),
    "a bound below nothing": (lambda a: {"noise_bound": -a["noise_bound"]}, "noise is beyond the bound"),
    "a wide bound": (lambda a: {"noise_bound": 2 * a["noise_bound"]}, "says primal .* dual "),
    "less strength": (lambda a: {"primal": 0.99 * a["primal"]}, "says primal "),
    "more strength": (lambda a: {"primal": 1.01 * a["primal"]}, "says primal "),
    "a better bound": (lambda a: {"dual": a["dual"] + 1e-3}, "says primal .* dual "),
    "no gap": (lambda a: {"dual_values": 0.9 * a["dual_values"] * np.arange(16) % 2}, "says primal .* dual "),
    "dual values of nothing": (lambda a: {"dual_values": np.zeros(16)}, "says primal .* dual "),
    "dual values negated": (lambda a: {"dual_values": -a["dual_values"]}, "says primal .* dual "),
    "another penalty": (lambda a: {"penalty": described(Huber(0.5))}, "says primal "),
    "a penalty of noise": (lambda a: {"penalty": "nonsense"}, "is damaged"),
    "a penalty without a name": (lambda a: {"penalty": "{}"}, "is damaged"),
    "a penalty of no kind": (lambda a: {"penalty": '{"name": "Huber", "delta": "much"}'}, "is damaged"),
    "a penalty that is a list": (lambda a: {"penalty": "[1]"}, "is damaged"),
    "other players": (lambda a: {"players": ("film", "not", "bad", "film")}, "which are not those of its text"),
    "another text": (lambda a: {"text": a["text"].item().replace("good", "bad ")}, "which are not those of its text"),
    "other spans": (lambda a: {"player_spans": a["player_spans"] + 1}, "which are not those of its text"),
    "spans beyond the text": (lambda a: {"player_spans": a["player_spans"] + 100}, "is damaged"),
    "an id that climbs": (lambda a: {"id": "../../x"}, "is damaged"),
    "v of more players": (lambda a: {"v": np.zeros(32)}, r"v has shape \(32,\); it must be \(16,\)"),
    "v in float32": (lambda a: {"v": a["v"].astype(np.float32)}, "v is float32"),
    "v not a number": (lambda a: {"v": np.full(16, np.nan)}, "v is not finite"),
    "v of objects": (lambda a: {"v": np.array([None] * 16)}, "is damaged"),
    "a gap in words": (lambda a: {"gap": "little"}, "gap is <U6"),
    "a complex gap": (lambda a: {"gap": np.complex128(1 + 2j)}, "gap is complex128"),
    "a gap that is not finite": (lambda a: {"gap": np.float64(np.inf)}, "gap is not finite"),
    "half a step": (lambda a: {"steps": np.float64(1.5)}, "steps is float64"),
    "converged with a wide gap": (
        lambda a: {"gap": np.float64(0.5), "dual": 0.5 * a["primal"], "dual_values": 0.5 * a["dual_values"]},
        "says converged with a gap of 0.5, where 1e-06 was asked for",
    ),
    "noise below 0": (lambda a: {"forward_noise": np.float64(-1)}, "forward_noise is -1.0"),
    "noise without end": (lambda a: {"forward_noise": np.float64(np.inf)}, "forward_noise is inf"),
    "a status in numbers": (lambda a: {"status": 3}, "status is int64"),
    "another compact effect": (lambda a: {"compact_and": a["compact_and"] * 1.001}, "compact effects"),
    "a compact effect more": (
        lambda a: {"compact_or": a["compact_or"] + 0.01 * (np.arange(16) == 7)},
        "no least squares",
    ),
    "no compact effects": (lambda a: {"compact_and": None}, "compact_and"),
    "no dual values": (lambda a: {"dual_values": None}, "dual_values"),
    "no text": (lambda a: {"text": None}, "text"),
    "no players": (lambda a: {"players": None}, "players"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_is_refused_also_where_the_checksum_fits(saved, name):
    change, message = TAMPERED[name]
    with np.load(saved) as arrays:
        rewrite(saved, **change(dict(arrays)))
    with pytest.raises(Damaged, match=message) as error:
        read_explanation(saved)
    assert str(saved) in str(error.value)


def test_a_smaller_gap_than_is_proved_is_refused(tmp_path):
    rough = explained(planted(4, seed=3), solver=InteriorPoint(max_steps=3))
    assert rough.solution.gap > 1e-3
    for gap, told in ((rough.solution.gap / 2, False), (0.0, False), (rough.solution.gap, True)):
        dataclasses.replace(rough, solution=dataclasses.replace(rough.solution, gap=gap)).save(tmp_path / "e.npz")
        if told:
            assert read_explanation(tmp_path / "e.npz").solution.gap == gap
        else:
            with pytest.raises(Damaged, match="says "):
                read_explanation(tmp_path / "e.npz")


def test_every_certificate_holds_when_it_is_computed_again():
    """Other penalties, solvers, bounds and sizes of v; and where there is nothing to explain."""
    v = planted(4, seed=5)
    for each in (
        explained(v, solver=FirstOrder()),
        explained(v, solver=FirstOrder(), penalty=Huber(0.3)),
        explained(1000 + 1e-3 * v),
        explained(30 * v),
        explained(np.full(16, -3.0)),
    ):
        check(each)


@dataclasses.dataclass(frozen=True)
class Mine(L1):
    """A penalty that this package does not know."""


def test_a_penalty_of_the_user_is_read_and_adds_up(one, tmp_path):
    own = dataclasses.replace(one, origin={**one.origin, "penalty": described(Mine())})
    own.save(tmp_path / "e.npz")
    assert read_explanation(tmp_path / "e.npz").top(3) == one.top(3)
    rewrite(tmp_path / "e.npz", or_effects=np.ones(16))
    with pytest.raises(Damaged, match="add up to the values"):
        read_explanation(tmp_path / "e.npz")


# ---------------------------------------------------------------------------------------------------------- in a line


def a_line(shown, longest):
    return len(shown) < longest and visible(shown) == shown and "\n" not in shown and shown[0] + shown[-1] == "<>"


def test_an_explanation_says_in_a_line_what_it_is(one):
    shown = repr(one)
    assert a_line(shown, 700) and str(one) == shown
    for each in (
        " good",
        "tiny-llama",
        "the film is not good",
        f"p {percent(one.values.target_probability)}",
        "4 players",
    ):
        assert each in shown
    assert str(one.top(1)[0]) in shown and f"R² {r2_text(one.compact.r2)} of these {one.compact.count}" in shown
    assert f"least strength within {one.solution.gap:.0e}" in shown
    rough = dataclasses.replace(
        one, solution=dataclasses.replace(one.solution, status="not converged: raise max_steps.")
    )
    assert "NOT CONVERGED" in repr(rough) and "NOT CONVERGED" not in shown


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200), st.integers(1, 5))
def test_reprs_are_one_line_whatever_the_words(text, target, repeated):
    text = text.replace("\0", " ").encode(errors="replace").decode() + " word" * 4
    target = target.encode(errors="replace").decode() * repeated
    long = Prompt(text * repeated, players=[(0, len(text) - 15)] if text[:-15].strip() else None, target=target)
    v, words = planted(2, 0), (text * repeated, "film")
    values = Values(v, words, target, probability(v), 80, 1.5, 1e-3)
    solution = Solution(v, v, v, v, 0.1, 1.0, 1.0, 0.0, 3, f"not converged: {target}")
    few = Compact.of(v, (lattice.moebius(v), np.zeros(4)), np.zeros(4))
    for each in (long, values, solution, few, Explanation(target * 9, long, values, solution, few)):
        assert a_line(repr(each), 700), repr(each)


def test_prompts_values_and_solutions_say_in_a_line_what_they_are(one):
    assert repr(PROMPT) == (
        "<Prompt twice: 'the film is not good , no film is', 4 players 'film, not, good, film', target 'good', "
        "in a chat>"
    )
    assert repr(Prompt("a good film", ["good"])) == "<Prompt: 'a good film', 1 players 'good'>"
    p, v = one.values.target_probability, one.values.v
    assert repr(one.values) == (
        f"<Values of ' good': p {percent(p)}, v {v[0]:+.2f} → {v[-1]:+.2f} nats, noise 1e-05 with 4 players "
        "(film, not, good, film); 80 tokens in 1.5 s>"
    )
    shown, solution = repr(one.solution), one.solution
    assert (
        f"4 players: primal {solution.primal:.4g}, gap {solution.gap:.1g}, noise up to {solution.noise_bound:.3g}"
        in shown
    )
    assert f"{solution.steps} steps; converged" in shown and a_line(shown, 200)


def test_a_batch_of_solutions_says_the_worst():
    v = np.stack([planted(4, seed=3), 2 * planted(4, seed=3)])
    batch, rough = andor.extract(v), andor.extract(v, solver=InteriorPoint(max_steps=2))
    low, high = sorted(batch.primal)
    assert f"<Solution of 2 problems with 4 players: primal {low:.4g} to {high:.4g}, gap " in repr(batch)
    assert repr(batch).endswith("; converged>") and "; 2 not converged: certified gap" in repr(rough)
    together = repr(andor.extract_joint(v))
    assert "of 2 models together with 4 players" in together and " to " not in together.split("noise")[0]
    assert all(a_line(each, 300) for each in (repr(batch), repr(rough), together))
