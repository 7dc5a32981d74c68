"""One run on disk: everything `andor compare` finds, in files that NumPy and a JSON reader open without this package.

    RUN/
      settings.json                      what was asked for and of which models; written first, completed as models load
      values/<folder>/<prompt id>.npz    v on all masks; written as soon as the prompt is evaluated
      effects/<folder>/<prompt id>.npz   AND effects, OR effects, noise and their certificate
      summary.json                       numbers from the arrays above, written last
      figures/                           *.png, *.pdf (`andor.figures.draw`)

<folder> is `model_folder(name)`: "tiny-llama", "Qwen--Qwen2.5-7B". Arrays are indexed by subset, bit i = player i,
empty set first (`andor.lattice`). Text is stored as unicode arrays; nothing is pickled.

settings.json
    format      2, the version of this layout
    command     the command or call that made the run
    models      one object per model, in the order given: name, label (short and unique, for tables and figures),
                folder, family, fingerprint (sha256 of config and weights), revision (the hub's commit, or null), dtype,
                parameters, baseline (the token that replaces masked words, or the name of an embedding)
    prompts     one object per prompt, in order: id, text, chat (whether each model's chat template is around it),
                players ([start, stop] characters each), words (their texts), target (the exact text explained in all
                models, leading space included, or null where each model explains its own prediction), target_from
                ("given", "own", or the name of the model whose prediction it is)
    noise       bound on |noise|, a multiple of |v(N) - v(∅)| of each model and prompt, or "measured"
    solver      number of players -> name and settings of the solver that prompts with so many players were given
    tau         an effect is salient above tau times the largest
    matmul_precision   of the models' matrix products, as `jax.default_matmul_precision` names it
    device      what the models ran on
    mesh        devices along "data" (masks) and "model" (weights), or null for one device
    versions    andor, python, jax, flax, numpy
    created     when, UTC

summary.json
    models, pairs, prompts, worst   see `andor.summary.summarise`
    seconds                         wall time of the whole comparison

values/<folder>/<prompt id>.npz
    v                    float64 [2**n_players], log-odds of the target, nats
    players              unicode [n_players], the words
    target               unicode [], exact text
    target_probability   float64 [], on the full prompt
    tokens_evaluated     int64 []
    seconds              float64 []
    forward_noise        float64 [], size of the noise of v, nats; NaN where it was not measured

effects/<folder>/<prompt id>.npz
    and_effects, or_effects, noise, dual_values   float64 [2**n_players]; v = zeta(and) + or_sums(or) + noise
    noise_bound, primal, dual, gap                float64 []; dual is what dual_values prove, gap = 1 - dual / primal
    steps                int64 []
    status               unicode [], "converged" or "not converged: ..."

Files are replaced whole: written beside their place, synced, then renamed. So a file that is there is complete.
"""

import dataclasses
import hashlib
import inspect
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from andor.interactions import Solution
from andor.prompts import Prompt
from andor.values import Values

FORMAT = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A whole run in memory.

    Attributes:
      path: the run directory.
      settings: settings.json.
      summary: summary.json; empty before it is computed. null in the file, None here: undefined, such as a ratio of
        nothing to nothing.
      values: model name -> prompt id -> v on all masks.
      effects: model name -> prompt id -> AND-OR effects with their certificate.
    """

    path: Path
    settings: dict
    summary: dict
    values: Mapping[str, Mapping[str, Values]]
    effects: Mapping[str, Mapping[str, Solution]]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order given."""
        return tuple(model["name"] for model in self.settings["models"])

    @property
    def labels(self) -> dict[str, str]:
        """Model name -> short unique label, for tables and figures."""
        return {model["name"]: model["label"] for model in self.settings["models"]}

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts, in order. `settings["prompts"]` also says which target each explains."""
        return tuple(_prompt(record) for record in self.settings["prompts"])


def model_folder(name: str) -> str:
    """Directory name of a model in a run: readable, safe on every file system, different for different names.

    "tiny-llama" and hub ids ("Qwen/Qwen2.5-7B" -> "Qwen--Qwen2.5-7B") stay as they are; from any other name its last
    part is kept and a digest of the whole added ("/data/my model" -> "my_model@5c0e68b3").
    """
    part = r"\w([\w.-]*\w)?"
    if re.fullmatch(f"{part}(/{part})?", name, re.ASCII) and "--" not in name and len(name) <= 100:
        return name.replace("/", "--")
    last = re.sub(r"[^\w.-]", "_", Path(name).name, flags=re.ASCII).strip(".")[:60]
    # "@" cannot come from the branch above.
    return f"{last or 'model'}@{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def model_labels(names: tuple[str, ...]) -> tuple[str, ...]:
    """Short names for tables and figures: the last part of each path or id, the whole where two would be the same."""
    short = [name.rstrip("/").rsplit("/", 1)[-1] or name for name in names]
    return tuple(label if short.count(label) == 1 else name for name, label in zip(names, short, strict=True))


def create_run(path: str | Path) -> Path:
    """Make an empty run directory.

    Raises:
      ValueError: the path is a file, holds something already (says so if that is an unfinished run), or cannot be
        written.
    """
    path = Path(path).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            unfinished = (path / "settings.json").exists() and not (path / "summary.json").exists()
            what = "holds an unfinished run (no summary.json)" if unfinished else "is not empty"
            raise ValueError(f"the run directory {str(path)!r} {what}. Name another with out, or move it away.")
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"the run directory {str(path)!r} cannot be made: {error.strerror or error}.") from error
    return path


def values_path(run: str | Path, model: str, prompt_id: str) -> Path:
    """Where a prompt's v lies."""
    return Path(run) / "values" / model_folder(model) / f"{prompt_id}.npz"


def effects_path(run: str | Path, model: str, prompt_id: str) -> Path:
    """Where a prompt's effects lie."""
    return Path(run) / "effects" / model_folder(model) / f"{prompt_id}.npz"


def save_settings(run: str | Path, settings: dict) -> None:
    """Write settings.json."""
    _write_json(Path(run) / "settings.json", {"format": FORMAT, **settings})


def save_summary(run: str | Path, summary: dict) -> None:
    """Write summary.json, undefined numbers (nan) as null."""
    _write_json(Path(run) / "summary.json", summary)


def save_values(run: str | Path, model: str, prompt_id: str, values: Values) -> None:
    """Write v of one prompt under one model."""
    _write_arrays(values_path(run, model, prompt_id), dataclasses.asdict(values))


def save_effects(run: str | Path, model: str, prompt_id: str, solution: Solution) -> None:
    """Write the effects of one prompt under one model."""
    _write_arrays(effects_path(run, model, prompt_id), dataclasses.asdict(solution))


def read_run(path: str | Path) -> Run:
    """Read a finished run.

    Raises:
      FileNotFoundError: names the directory or file that is missing.
      ValueError: names the file that is not what it should be, and says why.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"no run directory {str(path)!r}. Give the --out of an earlier `andor compare`.")
    settings = _read_json(path / "settings.json")
    if settings.get("format") != FORMAT:
        raise ValueError(
            f"{path / 'settings.json'} has format {settings.get('format')!r}; this version of andor reads {FORMAT}."
        )
    try:
        models = [model["name"] for model in settings["models"]]
        prompts = [_prompt(record) for record in settings["prompts"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / 'settings.json'} is damaged: {type(error).__name__}: {error}") from error
    return Run(
        path=path,
        settings=settings,
        summary=_read_json(path / "summary.json"),
        values={model: {p.id: read_values(values_path(path, model, p.id), p) for p in prompts} for model in models},
        effects={model: {p.id: read_effects(effects_path(path, model, p.id), p) for p in prompts} for model in models},
    )


def read_values(path: Path, prompt: Prompt) -> Values:
    """Read v of one prompt, checked against the prompt's players. Raises as `read_run`."""
    arrays = _read_arrays(path, Values, prompt, per_subset=("v",))
    if tuple(arrays["players"].tolist()) != prompt.words:
        raise ValueError(f"{path} holds players {arrays['players'].tolist()}; the settings say {list(prompt.words)}.")
    return Values(**{name: tuple(x.tolist()) if name == "players" else _plain(x) for name, x in arrays.items()})


def read_effects(path: Path, prompt: Prompt) -> Solution:
    """Read the effects of one prompt, checked against its number of players. Raises as `read_run`."""
    arrays = _read_arrays(path, Solution, prompt, per_subset=("and_effects", "or_effects", "noise", "dual_values"))
    return Solution(**{name: _plain(x) for name, x in arrays.items()})


def _prompt(record: dict) -> Prompt:
    # Prompt checks the id, which becomes part of a path, and that the players lie in the text.
    chat = record.get("chat", False)
    prompt = Prompt(record["text"], players=record["players"], id=record["id"], chat=chat)
    if prompt.id is None:
        raise ValueError("a prompt has no id.")
    return prompt


def _plain(array: np.ndarray):
    return array if array.ndim else array.item()


def _read_arrays(path: Path, kind: type, prompt: Prompt, per_subset: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the run is unfinished, or files were moved.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in dataclasses.fields(kind)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {str(error) or type(error).__name__}. Make the run again.") from error
    for name, array in arrays.items():
        shape = (2**prompt.n_players,) if name in per_subset else (prompt.n_players,) if name == "players" else ()
        if array.shape != shape:
            raise ValueError(
                f"{path}: {name} has shape {array.shape}; it must be {shape} for {prompt.n_players} players."
            )
        if array.dtype.kind == "f" and name != "forward_noise" and not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} is not finite.")
    for name in per_subset:
        if arrays[name].dtype != np.float64:
            raise ValueError(f"{path}: {name} is {arrays[name].dtype}; it must be float64.")
    return arrays


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {str(path.parent)!r} holds no run, or an unfinished one.")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object.")
    return content


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(_jsonable(content), indent=2, ensure_ascii=False, allow_nan=False, default=_described) + "\n"
    # Lists of numbers on one line each. Inside strings JSON has no line breaks, so text cannot match.
    text = re.sub(
        r"\[\n[-\d.,e+nul\s]*\]",
        lambda numbers: re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]"),
        text,
    )
    _replace(path, lambda file: file.write(text.encode()))


def _described(setting: object) -> object:
    """A setting that JSON does not know; a function (optax optimisers are made of them) by name and what it holds."""
    if not inspect.isfunction(setting):
        return repr(setting)
    try:
        held = inspect.getclosurevars(setting).nonlocals
    except ValueError:  # a variable that was never assigned
        held = {}
    return {"function": setting.__qualname__.split(".")[0]} | {name: held[name] for name in sorted(held)}


def _write_arrays(path: Path, arrays: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, lambda file: np.savez(file, **{name: np.asarray(x) for name, x in arrays.items()}))


def _jsonable(content):
    """NumPy numbers and arrays as plain numbers and lists; numbers that JSON does not have (nan, inf) as null."""
    if isinstance(content, Mapping):
        return {str(key): _jsonable(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_jsonable(value) for value in content]
    if isinstance(content, np.ndarray | np.generic):
        return _jsonable(content.tolist())
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place and rename it, so that no reader, crash or full disk meets half a file."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
