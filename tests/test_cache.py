"""What a root holds under content keys: taken where it is what it should be, made anew where it is not."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import (
    MODELS,
    PROMPTS,
    assert_same,
    explanation_of,
    flip,
    probability,
    recipe_of,
    rewrite,
    solution_of,
    values_of,
)

from andor.core.lattice import moebius
from andor.core.penalties import L1
from andor.runs import cache, files
from andor.runs.explanation import described

MODEL, PROMPT = MODELS[1], PROMPTS[0]
KEY = files.key_of("all that decides v")


@pytest.fixture
def stored(tmp_path):
    """Values in a root."""
    cache.save_values(tmp_path, MODEL, PROMPT.id, values_of(PROMPT), key=KEY, made_by="cpu x 1")
    return cache.values_path(tmp_path, MODEL, PROMPT.id, KEY)


def test_values_are_read_as_they_were_saved(stored, tmp_path):
    values, made_by = cache.read_values(stored, KEY)
    assert_same(values, values_of(PROMPT))
    assert made_by == "cpu x 1"
    assert stored == tmp_path / "values" / "Qwen--Qwen2.5-7B" / f"not good.{KEY[:12]}.npz"
    with np.load(stored, allow_pickle=False) as arrays:
        assert arrays["players"].tolist() == ["film", "not", "good"] and arrays["key"].item() == KEY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "another"}, "it holds the values of another model, prompt or target"),
        ({"v": np.zeros(16)}, r"v has shape \(16,\); it must be \(8,\)"),
        ({"v": np.zeros(8, np.float32)}, "v is float32"),
        ({"v": np.full(8, np.nan)}, "v is not finite"),
        ({"v": np.array([None] * 8)}, "is damaged"),
        ({"v": -values_of(PROMPT).v}, "says p = "),
        ({"v": 1e200 * values_of(PROMPT).v}, "says p = "),
        ({"v": None}, "v"),
        ({"target_probability": np.float64(7.5)}, "says p = 7.5"),
        ({"target_probability": np.float64(np.nan)}, "target_probability is not finite"),
        ({"tokens_evaluated": np.float64(1.5)}, "tokens_evaluated is float64"),
        ({"target": 3}, "target is int64"),
        ({"players": np.arange(3)}, "players is int64"),
        ({"made_by": None}, "made_by"),
    ],
)
def test_values_that_were_changed_are_refused_also_where_the_checksum_fits(stored, change, message):
    rewrite(stored, **change)
    with pytest.raises(files.Damaged, match=message) as error:
        cache.read_values(stored, KEY)
    assert str(stored) in str(error.value)


def test_what_is_not_there_is_none(stored):
    assert cache.get(stored.with_name("nothing.npz"), cache.read_values, KEY) is None
    assert cache.get(stored, cache.read_values, KEY)[1] == "cpu x 1"


@pytest.mark.parametrize(
    "spoil", [flip, lambda path: path.write_bytes(b""), lambda path: (path.unlink(), path.mkdir())]
)
def test_what_is_damaged_is_kept_and_none(stored, spoil):
    spoil(stored)
    with pytest.warns(
        UserWarning, match=rf"{stored.name} is damaged: .* made anew, and the old file kept as {stored.name}\.damaged"
    ):
        assert cache.get(stored, cache.read_values, KEY) is None
    assert not stored.exists() and stored.with_name(f"{stored.name}.damaged").exists()


def test_what_cannot_be_read_now_is_neither_made_anew_nor_moved(stored, monkeypatch):
    def failing(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(stored), "read_bytes", failing)
    with pytest.raises(OSError, match="could not be read: Permission denied"):
        cache.get(stored, cache.read_values, KEY)
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]


def test_values_are_found_by_key_whatever_the_prompt_was_called(stored, tmp_path):
    cache.save_values(tmp_path, MODEL, "other", values_of(PROMPT), key=KEY, made_by="cpu")
    cache.save_values(tmp_path, MODEL, "third", values_of(PROMPT), key=KEY[::-1], made_by="cpu")
    other = stored.with_name(f"other.{KEY[:12]}.npz")
    assert cache.values_with(tmp_path, MODEL, KEY) == [stored, other]
    assert cache.values_with(tmp_path, MODELS[0], KEY) == cache.values_with(tmp_path / "x", MODEL, KEY) == []


# -------------------------------------------------------------------------------------------------------- explanations


def kept(tmp_path, recipe, **changes):
    """An explanation of a recipe, saved: where, its key, and its noise."""
    values = dataclasses.replace(values_of(PROMPT), **changes)
    noise = recipe.noise if recipe.noise != "measured" else values.measured_noise / abs(values.v[-1] - values.v[0])
    explanation = explanation_of(recipe, MODEL, PROMPT, values, solution_of(values, noise))
    path = cache.explanation_path(tmp_path, MODEL, PROMPT.id)
    explanation.save(path)
    return path, explanation.origin["key"]


def test_explanations_are_those_of_a_recipe(tmp_path):
    recipe = recipe_of()
    path, key = kept(tmp_path, recipe)
    assert cache.read_explained(path, key, 0.02).origin["key"] == key
    for other in (files.key_of("another"), recipe_of(noise=0.05).solution_key(recipe.key(MODEL, PROMPT.id), PROMPT)):
        with pytest.raises(files.Damaged, match="is of another recipe: another model, prompt, noise bound or solver"):
            cache.read_explained(path, other, 0.02)


def test_explanations_are_for_the_noise_of_their_recipe(tmp_path):
    path, key = kept(tmp_path, recipe_of())
    with np.load(path) as arrays:
        bound = float(arrays["noise_bound"])
    rewrite(path, noise_bound=np.float64(1.5 * bound))
    with pytest.raises(files.Damaged, match=rf"is for noise up to {1.5 * bound:.6g}; it must be {bound:.6g}"):
        cache.read_explained(path, key, 0.02)


def test_explanations_for_measured_noise_have_it_measured(tmp_path):
    path, key = kept(tmp_path, recipe_of(noise="measured"), forward_bound=1e-3)
    explanation = cache.read_explained(path, key, "measured")
    assert explanation.solution.noise_bound == pytest.approx(explanation.values.measured_noise, rel=1e-12)
    for spoilt, message in ((1e-4, "is for noise up to"), (np.nan, "was not measured")):
        rewrite(path, forward_bound=np.float64(spoilt))
        with pytest.raises(files.Damaged, match=message) as error:
            cache.read_explained(path, key, "measured")
        assert str(path) in str(error.value)


@dataclasses.dataclass(frozen=True)
class Mine(L1):
    """A penalty that this package does not know, so that nobody can check what it proves."""


@pytest.mark.parametrize(
    "change",
    [
        {"penalty": described(Mine()), "gap": np.float64(0), "status": "converged"},
        {"solver": json.dumps({"name": "InteriorPoint", "tolerance": 0.5})},
        {"values_key": "another"},
        {"key": "another"},
    ],
)
def test_explanations_of_another_solver_or_penalty_are_refused(tmp_path, change):
    path, key = kept(tmp_path, recipe_of())
    rewrite(path, **change)
    with pytest.raises(files.Damaged, match="is of another recipe"):
        cache.read_explained(path, key, 0.02)


@pytest.mark.parametrize("change", [{"solver": "nonsense"}, {"solver": ""}, {"penalty": "nonsense"}])
def test_explanations_without_solver_or_penalty_are_refused(tmp_path, change):
    path, key = kept(tmp_path, recipe_of())
    rewrite(path, **change)
    with pytest.raises(files.Damaged, match=r"not good\.npz is damaged"):
        cache.read_explained(path, key, 0.02)


def test_small_runs_are_as_the_program_writes_them():
    """Else this file tests nothing."""
    values = values_of(PROMPT)
    assert values.target_probability == probability(values.v)
    np.testing.assert_array_equal(solution_of(values).and_effects, moebius(values.v))
    settings = recipe_of().solvers["3"], {"name": "L1"}
    assert recipe_of().solution_key("x", PROMPT) == cache.explanation_key("x", PROMPT, 0.02, *settings)


# -------------------------------------------------------------------------------------------------------------- folders


def test_model_folders_are_readable():
    assert cache.model_folder("tiny-llama") == "tiny-llama"
    assert cache.model_folder("Qwen/Qwen2.5-7B") == "Qwen--Qwen2.5-7B"
    assert cache.model_folder("/data/my model").startswith("my_model@")


@given(st.lists(st.text("aA./-_ \\é:", min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_model_folders_are_safe_and_different(names):
    folders = [cache.model_folder(name) for name in names]
    assert folders[0] != folders[1]
    for folder in folders:
        assert folder.isascii() and not set(folder) & set('/\\:*?"<>| ') and folder.strip(".") == folder
