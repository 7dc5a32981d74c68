"""What a root holds: v under content keys, and the explanations of its runs. Get it, or compute it and put it there.

    ROOT/
      values/<folder>/<prompt id>.<key>.npz   v on all masks, as soon as it is evaluated; every run of the root uses it
      unfinished.json                         the recipe that is under way (`andor.runs.recipe`)
      <run>/                                  what `andor.runs.run` describes
        <folder>/<prompt id>.npz              an explanation: v, effects, certificate, words

A content key is the sha256 of all that decides a result. Resume, reuse between runs, repair of damage and several
processes are therefore one rule: take what lies under the key, and make the rest. Two processes that make the same at
once waste time and nothing else, since files are written whole. A damaged file is set aside as NAME.damaged.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from andor.core.values import Values
from andor.prompts import Prompt
from andor.runs import files
from andor.runs.explanation import MOST_SHOWN, ROUNDING, Explanation, check_probability, of_arrays, read_explanation
from andor.runs.files import AnyPath, Damaged

EXPLANATION = 1
"""Version of the estimated noise bound and of the search for compact effects. Raise it with a change of what they find:
every prompt is then explained anew."""

KEY_DIGITS = 12
"""Of a content key in a file's name. The whole key is in the file."""

Result = TypeVar("Result")


def model_folder(name: str) -> str:
    """Directory name of a model in a root: readable, safe on every file system, different for different names.

    "tiny-llama" and hub ids ("Qwen/Qwen2.5-7B" -> "Qwen--Qwen2.5-7B") stay as they are; from any other name its last
    part is kept and a digest of the whole added ("/data/my model" -> "my_model@5c0e68b3").
    """
    part = r"\w([\w.-]*\w)?"
    if re.fullmatch(f"{part}(/{part})?", name, re.ASCII) and "--" not in name and len(name) <= 100:
        return name.replace("/", "--")
    last = re.sub(r"[^\w.-]", "_", Path(name).name, flags=re.ASCII).strip(".")[:60]
    # "@" cannot come from the branch above.
    return f"{last or 'model'}@{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def values_path(root: AnyPath, model: str, prompt_id: str, key: str) -> AnyPath:
    """Where v of a prompt under a model lies."""
    return root / "values" / model_folder(model) / f"{prompt_id}.{key[:KEY_DIGITS]}.npz"


def explanation_path(run: AnyPath, model: str, prompt_id: str) -> AnyPath:
    """Where the explanation of a prompt under a model lies."""
    return run / model_folder(model) / f"{prompt_id}.npz"


def get(path: AnyPath, read: Callable[..., Result], *arguments: object) -> Result | None:
    """read(path, *arguments); None where there is no file. What is damaged is set aside, with a warning."""
    try:
        return read(path, *arguments)
    except FileNotFoundError:
        return None
    except Damaged as error:
        kept = files.set_aside(path)
        said = str(error).rstrip(".")
        warnings.warn(f"{said}. It is made anew, and the old file kept as {kept.name}.", stacklevel=2)
        return None


def kept_values(
    root: AnyPath, model: str, prompt_id: str, evaluate: Callable[[], Values], *, key: str, made_by: str
) -> Values:
    """v of one prompt under one model: read from a root, or evaluated and written there.

    Raises as `files.write_arrays`.
    """
    kept = get(values_path(root, model, prompt_id, key), read_values, key)
    if kept is not None:
        return kept[0]
    values = evaluate()
    save_values(root, model, prompt_id, values, key=key, made_by=made_by)
    return values


def save_values(root: AnyPath, model: str, prompt_id: str, values: Values, *, key: str, made_by: str) -> None:
    """Write v of one prompt under one model. Raises as `files.write_arrays`."""
    files.write_arrays(values_path(root, model, prompt_id, key), vars(values) | {"key": key, "made_by": made_by})


def read_values(path: AnyPath, key: str) -> tuple[Values, str]:
    """(v of one prompt, what it was made by), checked.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: it is not what was written, is of another key, or its p is not that of v(N).
      OSError: it could not be read.
    """
    arrays = files.read_arrays(path)
    try:
        values = of_arrays(Values, arrays)
        if arrays["key"].item() != key:
            raise ValueError("it holds the values of another model, prompt or target.")
        check_probability(values)
        return values, str(arrays["made_by"].item())
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def explanation_key(
    values_key: str, prompt: Prompt, noise: float | str, solver: Mapping[str, object], penalty: Mapping[str, object]
) -> str:
    """Content key of an explanation: of what decides its effects, and of the words that they are told in."""
    words = [prompt.text, prompt.players, prompt.target, prompt.exact, bool(prompt.chat)]
    words += [] if prompt.labels is None else [prompt.labels]  # what has none keeps its key
    return files.key_of(EXPLANATION, MOST_SHOWN, values_key, noise, solver, penalty, words)


def read_explained(path: AnyPath, key: str, noise: float | str) -> Explanation:
    """An explanation with this key and for noise as a recipe has it. Raises as `read_explanation`, and Damaged where it
    is another. A bound that was estimated is believed, as estimating it again takes longer than reading."""
    explanation = read_explanation(path)
    origin, values = explanation.origin, explanation.values
    try:
        # By what it says itself, since its penalty decides what its certificate proves.
        settings = noise, json.loads(origin["solver"]), json.loads(origin["penalty"])
        found = explanation_key(origin["values_key"], explanation.prompt, *settings)
        bounds = {"measured": lambda: values.measured_noise, "auto": lambda: explanation.solution.noise_bound}
        bound = bounds.get(noise, lambda: noise * explanation.range)()
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if {found, origin["key"]} != {key}:
        raise Damaged(f"{path} is of another recipe: another model, prompt, noise bound or solver.")
    if not abs(explanation.solution.noise_bound - bound) <= ROUNDING * bound:
        raise Damaged(f"{path} is for noise up to {explanation.solution.noise_bound:.6g}; it must be {bound:.6g}.")
    return explanation


def values_with(root: AnyPath, model: str, key: str) -> list[AnyPath]:
    """Files of a root that should hold v under this key, whatever the prompt was called there."""
    folder = root / "values" / model_folder(model)
    return sorted(folder.glob(f"*.{key[:KEY_DIGITS]}.npz")) if folder.exists() else []
