import io
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from small_runs import explanation_of, probability, recipe_of, save_run

from andor.core import lattice
from andor.core.problem import Solution
from andor.core.values import Values
from andor.figures import FIGURES, convergence, matching, orders, sparsity
from andor.figures.style import missing_glyphs_in_one_line, style
from andor.prompts import Prompt
from andor.runs.run import Run, read
from andor.show import draw as drawing
from andor.show.draw import draw, save

WORDS = ("not", "good", "never", "dull", "film", "cast")
NASTY = ("$x_1$", "a_b^{c", "100%", "<b>&amp;", "\\alpha\n", "日本")
NOISE = 0.02


def planted(rng, n_players, count=8):
    """A few AND and OR effects, and v made of them plus small noise."""
    size = 2**n_players
    and_effects, or_effects = np.zeros((2, size))
    for subset in rng.choice(np.arange(1, size), min(count, size - 1), replace=False):
        is_or = subset.bit_count() > 1 and rng.random() < 0.4
        (or_effects if is_or else and_effects)[subset] = rng.normal() + 0.5
    and_effects[0] = -1.0
    return and_effects, or_effects


def make_run(path, models=("tiny-llama", "tiny-qwen2"), n_prompts=6, words=WORDS, make=planted, seed=0):
    """A run whose effects are known, as `andor compare` gives it; nothing is written."""
    rng = np.random.default_rng(seed)
    text, prompts = " and ".join(words) + " .", []
    for place in range(n_prompts):
        chosen = words[: len(words) - place % 2]  # prompts differ in their number of players
        starts = [text.index(word) for word in chosen]
        spans = [(start, start + len(word)) for start, word in zip(starts, chosen, strict=True)]
        prompts.append(Prompt(text, spans, " positive", f"prompt-{place + 1}"))
    recipe, explanations = recipe_of(models, prompts, noise=NOISE), {}
    for prompt in prompts:
        shared = make(rng, prompt.n_players)
        for model in models:
            and_effects, or_effects = (x * rng.normal(1, 0.2, x.shape) for x in shared)
            v = lattice.zeta(and_effects) + lattice.or_sums(or_effects)
            v[1:-1] += rng.uniform(-NOISE, NOISE, v.size - 2) * abs(v[-1] - v[0])
            explanations[model, prompt.id] = explained(recipe, model, prompt, v, and_effects, or_effects)
    return Run(path, recipe, tau=0.05, explanations=explanations)


def explained(recipe, model, prompt, v, and_effects, or_effects):
    values = Values(v, prompt.words, " positive", probability(v), 100, 0.1)
    bound, strength = NOISE * abs(v[-1] - v[0]), float(np.abs(and_effects[1:]).sum() + np.abs(or_effects).sum())
    noise = v - lattice.zeta(and_effects) - lattice.or_sums(or_effects)
    status = "not converged: raise max_steps."
    solution = Solution(
        and_effects, or_effects, noise, np.zeros_like(v), bound, strength, 0.0, float(strength > 0), 3, status
    )
    return explanation_of(recipe, model, prompt, values, solution)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(None)
    explanations = {key: made[key] for key in made}
    return read(save_run(tmp_path_factory.mktemp("run") / "run", made.recipe, explanations).path)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


@pytest.fixture(scope="module")
def drawn(run):
    return draw(run.path)


def draw_small(run, module) -> Figure:
    """One figure, laid out and drawn, without the time that full resolution and font embedding take."""
    with rc_context(style()):
        figure = module.plot(run)
        figure.savefig(io.BytesIO(), dpi=40)
    return figure


def test_draw_writes_every_figure_and_its_caption(run, drawn):
    names = [file.name for file in drawn]
    figures = ["prompt-1-words", "prompt-1-matrix", *FIGURES]
    assert names == [*(f"{name}.{kind}" for name in figures for kind in ("png", "pdf", "svg")), "captions.md"]
    for file in drawn[:-1]:
        assert file.parent == run.path / "figures"
        assert file.read_bytes().startswith({".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[file.suffix])
    captions = drawn[-1].read_text(encoding="utf-8").replace("\\", "")
    assert all(f"**{name}.**" in captions for name in figures)


def test_png_resolution_is_over_200_dots_per_inch(run, drawn):
    width = int.from_bytes(drawn[0].read_bytes()[16:20], "big")
    assert width / 7 >= 200


def test_the_same_run_gives_the_same_files(run, drawn, tmp_path):
    with rc_context(style()):
        again = save(matching.plot(run), tmp_path / "new" / "name.with.dots")
    assert [file.name for file in again] == ["name.with.dots.png", "name.with.dots.pdf"]
    before = [file for file in drawn if file.stem == "matching"]
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in before[:2]]


def test_drawing_needs_no_jax_and_touches_no_global_state(run):
    # Items are read from the dict below RcParams: its own [] would choose a backend, which is what must not happen.
    code = (
        "import sys, matplotlib; before = list(dict.items(matplotlib.rcParams))\n"
        "from andor.show.draw import draw; draw(sys.argv[1])\n"
        "assert list(dict.items(matplotlib.rcParams)) == before, 'rcParams changed'\n"
        "loaded = {'jax', 'flax', 'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True, timeout=300)


def test_a_single_model_has_no_convergence_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "FIGURES", {"convergence": convergence, "sparsity": sparsity})
    files = draw(make_run(tmp_path / "run", models=("tiny-llama",), n_prompts=1))
    assert [file.name for file in files if file.suffix != ".svg" and file.suffix != ".pdf"] == [
        "prompt-1-words.png",
        "prompt-1-matrix.png",
        "sparsity.png",
        "captions.md",
    ]


def test_pictures_of_a_prompt(tmp_path):
    run = make_run(tmp_path / "run", models=("a/llama", "b/llama", "c"), n_prompts=2)
    files = drawing.draw_prompt(run, "prompt-2", ["c", "a/llama"], ["words"], width="column", top=3)
    assert [file.name for file in files] == [f"prompt-2-words.{kind}" for kind in drawing.KINDS]
    figure = run.plot("words", prompt="prompt-2", models=["c", "a/llama"], width="column", top=3)
    assert figure.get_figwidth() == 3.4 and "above: c" in texts(figure) and "below: " in texts(figure)
    with pytest.raises(ValueError, match=r"'prompt-3' is no prompt of this run. Its prompts are prompt-1, prompt-2"):
        drawing.draw_prompt(run, "prompt-3")
    with pytest.raises(ValueError, match="'d' is no model of this run"):
        drawing.draw_prompt(run, "prompt-1", ["d"])
    with pytest.raises(ValueError, match="a picture is of one model or two; got 3"):
        drawing.draw_prompt(run, "prompt-1", run.models)
    with pytest.raises(ValueError, match="is of all prompts and models; got top"):
        run.plot("orders", top=3)


@pytest.mark.parametrize(
    "shape",
    [
        {"models": ("tiny-llama",), "n_prompts": 1},
        {"models": ("a/llama", "b/llama", "c", "d"), "n_prompts": 2},
        {"models": ("a", "b", "c"), "n_prompts": 3, "words": ("one", *WORDS[:1])},
        {"words": NASTY, "n_prompts": 2},
    ],
    ids=["one model, one prompt", "four models", "one and two players", "markup in words"],
)
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_runs_of_any_shape_are_drawn(tmp_path, shape):
    run = make_run(tmp_path / "run", **shape)
    for module in FIGURES.values():
        draw_small(run, module)
        assert "nan" not in module.caption(run)


def test_missing_glyphs_are_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "FIGURES", {"matching": matching, "orders": orders, "convergence": convergence})
    run = make_run(tmp_path / "run", words=("\U00013000", "\U00013001", "film"), n_prompts=2)  # hieroglyphs
    with pytest.warns(UserWarning) as caught:
        draw(run)
    (warning,) = caught
    assert "the fonts here lack 2 characters of the prompts" in str(warning.message)


def test_other_warnings_come_through(tmp_path):
    with pytest.warns(UserWarning) as caught, missing_glyphs_in_one_line():
        warnings.warn("Glyph 128578 (SMILE) missing from font(s) DejaVu Sans.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    told = [str(each.message) for each in caught]
    assert told[0] == "something else" and "lack 1 character of the prompts ('🙂')" in told[1] and len(told) == 2


def test_control_characters_are_drawn_visibly(tmp_path):
    run = make_run(tmp_path / "run", words=("a\x1b[1m", "b\x7f", "c\x00d"), n_prompts=2)
    for module in FIGURES.values():
        drawn = texts(draw_small(run, module))
        assert not {"\x1b", "\x7f", "\x00"} & set(drawn)
    for name in ("words", "matrix"):
        drawn = texts(run.plot(name))
        assert all(each in drawn for each in ("aU+001B[1m", "bU+007F", "cU+0000d"))


def nothing(rng, n_players):
    and_effects, or_effects = np.zeros((2, 2**n_players))
    and_effects[0] = 0.3
    return and_effects, or_effects


def test_a_run_without_effects_is_drawn_and_says_so(tmp_path):
    run = make_run(tmp_path / "run", make=nothing)
    for module in FIGURES.values():
        draw_small(run, module)
        assert "nan" not in module.caption(run)
    assert "Nothing to compare" in texts(convergence.plot(run))
    assert "v is constant up to noise in every prompt" in texts(orders.plot(run))


def test_captions_quote_computed_numbers(run):
    counts = [sparsity.salient_counts(run, m, "certified") for m in run.models]
    assert all(
        f"{m} {np.median(c):g} [{c.min()}, {c.max()}]" in sparsity.caption(run)
        for m, c in zip(run.models, counts, strict=True)
    )
    overlap = np.median(list(convergence.overlaps(run)["weighted overlap"].values()))
    assert f"weighted overlap {overlap:.2f}" in convergence.caption(run)
    assert f"{overlap:.0%}" in texts(convergence.plot(run))
    top = matching.matches(run)["tiny-llama"]
    assert f"top 100: {np.median([match[-1].r2 for match in top.values()]):.3f}" in matching.caption(run)


@pytest.mark.parametrize("count, claim", [(1, "1 effect is salient"), (2, "2 effects are salient")])
def test_one_effect_is_singular(tmp_path, monkeypatch, count, claim):
    run = make_run(tmp_path / "run", models=("tiny-llama",), n_prompts=1)
    monkeypatch.setattr(sparsity, "salient_counts", lambda *arguments: np.array([count]))
    assert claim in sparsity._claim(run)


def test_shared_means_salient_in_both_models_with_one_sign():
    not_good, dull, opposite, faint = 0b000011, 0b001000, 0b010000, 0b100000
    prompt = Prompt(" ".join(WORDS), list(WORDS), " positive", "prompt-1")
    recipe, explanations = recipe_of(("one", "two"), (prompt,)), {}
    for model, values in {"one": (2.0, 1.0, 0.5, 0.01), "two": (1.0, 0.0, -0.5, 0.01)}.items():
        and_effects, or_effects = np.zeros((2, 2 ** len(WORDS)))
        and_effects[[not_good, dull, opposite, faint]] = values
        v = lattice.zeta(and_effects)
        explanations[model, prompt.id] = explained(recipe, model, prompt, v, and_effects, or_effects)
    run = Run(None, recipe, tau=0.05, explanations=explanations)
    found = {effect.subset: effect for effect in convergence.compared(run, "prompt-1")}
    assert set(found) == {not_good, dull, opposite}
    assert [found[s].shared for s in (not_good, dull, opposite)] == [True, False, False]
    # v(N) - v(∅) is 3.51 and 0.51: each model's effects are divided by its own.
    np.testing.assert_allclose(found[not_good].values, (2 / 3.51, 1 / 0.51))
