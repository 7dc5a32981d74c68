"""Runs without models: what `andor.compare` would have written for values and effects that are given."""

import dataclasses
from pathlib import Path

import numpy as np

from andor.core.compact import Compact
from andor.core.lattice import moebius, or_sums, zeta
from andor.core.problem import Solution
from andor.core.values import Values
from andor.prompts import Prompt
from andor.runs import files
from andor.runs.cache import explanation_path, save_values
from andor.runs.explanation import MOST_SHOWN, Explanation
from andor.runs.recipe import ModelRecord, Recipe, begin, end, model_labels
from andor.runs.run import Run

MODELS = ("tiny-llama", "Qwen/Qwen2.5-7B")
PROMPTS = (
    Prompt("the film is not good", players=["film", "not", "good"], id="not good"),
    Prompt("naïve 🙂 film [bold]", players=["naïve", "🙂"], id="prompt-0002"),
)


def probability(v: np.ndarray) -> float:
    """p of which v(N) is the log-odds."""
    return float(1 / (1 + np.exp(-v[-1])))


def values_of(prompt: Prompt, seed: int = 0, target: str = " posi\ntive") -> Values:
    """Random values of a prompt."""
    v = np.random.default_rng(seed).normal(size=2**prompt.n_players)
    return Values(v, prompt.words, target, probability(v), 80, 1.5)


def solution_of(values: Values, noise: float = 0.02) -> Solution:
    """AND effects that add up to v, and a certificate that is true and proves nothing."""
    and_effects, zero = moebius(values.v), np.zeros_like(values.v)
    primal, bound = float(np.abs(and_effects[1:]).sum()), noise * float(abs(values.v[-1] - values.v[0]))
    return Solution(and_effects, zero, zero, zero, bound, primal, 0.0, 1.0, 7, "not converged: raise max_steps.")


def few_of(values: Values) -> Compact:
    """The strongest dividends, fitted to v, and dual values that prove nothing."""
    strongest = np.argsort(-np.abs(moebius(values.v))[1:])[:MOST_SHOWN] + 1
    masks = np.arange(values.v.size)[:, None]
    few = np.zeros_like(values.v)
    few[strongest] = np.linalg.lstsq((masks & strongest == strongest).astype(float), values.v - values.v[0])[0]
    few[0] = values.v[0]
    return Compact.of(values.v, (few, np.zeros_like(few)), np.zeros_like(few))


def recipe_of(models=MODELS, prompts=PROMPTS, **changes) -> Recipe:
    """What would have been asked for."""
    records = tuple(
        ModelRecord(
            name=name,
            label=label,
            family="llama",
            fingerprint=files.key_of(name),
            tokenizer=files.key_of("tokenizer"),
            revision=None,
            dtype="float32",
            parameters=1000,
            baseline="<mask>",
            chat=None,
            keys=tuple(files.key_of(name, prompt.text, prompt.target) for prompt in prompts),
        )
        for name, label in zip(models, model_labels(tuple(models)), strict=True)
    )
    plain = {
        "own_targets": False,
        "noise": 0.02,
        "score": "product",
        "solvers": {str(n): {"name": "InteriorPoint", "tolerance": 1e-6} for n in {p.n_players for p in prompts}},
        "penalty": {"name": "L1"},
        "matmul_precision": "highest",
        "made": {"command": "andor.compare(...)"},
    }
    return Recipe(models=records, prompts=tuple(prompts), **(plain | changes))


def explanation_of(
    recipe: Recipe, model: str, prompt: Prompt, values: Values, solution: Solution, compact: Compact | None = None
) -> Explanation:
    """An explanation that belongs into a run of this recipe."""
    values_key = recipe.key(model, prompt.id)
    origin = {
        "solver": files.json_text(recipe.solvers[str(prompt.n_players)]),
        "penalty": files.json_text(recipe.penalty),
        "made_by": "cpu x 1",
        "values_key": values_key,
        "key": recipe.solution_key(values_key, prompt),
    }
    return Explanation(model, prompt, values, solution, compact or few_of(values), origin)


def explanations_of(recipe: Recipe) -> dict[tuple[str, str], Explanation]:
    """Random ones, for every model and prompt of a recipe."""
    found = {}
    for seed, record in enumerate(recipe.models):
        for prompt in recipe.prompts:
            values = values_of(prompt, seed)
            found[record.name, prompt.id] = explanation_of(
                recipe, record.name, prompt, values, solution_of(values, recipe.noise)
            )
    return found


def save_run(root, recipe: Recipe | None = None, explanations=None, tau: float = 0.05) -> Run:
    """Write a finished run, with its values, and give it as the program would."""
    recipe = recipe or recipe_of()
    run = Run(begin(root, recipe), recipe, tau=tau)
    for key, each in (explanations or explanations_of(recipe)).items():
        values_key = recipe.key(*key)
        save_values(root, *key, each.values, key=values_key, made_by="cpu x 1")
        each.save(explanation_path(run.path, *key))
    run.summarised(tau)
    end(root)
    return run


def planted_run(factors, and_effects, or_effects, *, constant=0.0, prompts=None, target=" x") -> Run:
    """A run in no folder: effects by subset of three players, and each model (by name) has a multiple of them."""
    prompts = prompts or (Prompt("a b c", list("abc"), "x", "p"),)
    recipe, explanations, zero = recipe_of(tuple(factors), prompts), {}, np.zeros(8)
    for name, factor in factors.items():
        effects = np.zeros((2, 8))
        for row, given in zip(effects, (and_effects, or_effects), strict=True):
            row[[*given]] = [factor * each for each in given.values()]
        primal = float(np.abs(effects).sum())
        effects[0, 0] = constant
        v = zeta(effects[0]) + or_sums(effects[1])
        solution = Solution(*effects, zero, zero, 0.0, primal, primal, 0.0, 9, "converged")
        compact = Compact.of(v, (effects[0], effects[1]), zero)
        for prompt in prompts:
            values = Values(v, prompt.words, target, 0.75, 1234, 2.0)
            explanations[name, prompt.id] = explanation_of(recipe, name, prompt, values, solution, compact)
    return Run(Path("run"), recipe, tau=0.05, explanations=explanations)


def rewrite(path, **changes) -> None:
    """Change arrays of a file as a person would who knows its format, with a checksum that fits."""
    arrays = files.read_arrays(path) | changes
    files.write_arrays(path, {name: each for name, each in arrays.items() if each is not None})


def rewrite_json(path, change) -> None:
    """Change a JSON file in place, with a checksum that fits; `change` gets its content."""
    content = files.read_json(path)
    change(content)
    path.write_bytes(files.json_bytes(content))


def flip(path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def assert_same(one, two) -> None:
    """Two dataclasses hold the same, to the bit and to the type."""
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        assert type(a) is type(b), field.name
        np.testing.assert_array_equal(a, b)
