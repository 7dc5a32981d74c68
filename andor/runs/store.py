"""One run on disk: everything `andor compare` finds, in files that NumPy and a JSON reader open without this package.

    RUN/
      settings.json                      what decides the results; written first, and once
      values/<folder>/<prompt id>.npz    v on all masks; written as soon as the prompt is evaluated
      effects/<folder>/<prompt id>.npz   AND effects, OR effects, noise and their certificate
      skipped/<prompt id>.json           a prompt that is left out, and why
      processes/<start>-<host>-<pid>.json  a process that worked on the run, with what it ran on
      claims/                            what processes are at work on now (`andor.runs.claims`)
      prompts.csv                        one row per prompt and model: the numbers of the summary, as a table
      summary.json                       numbers from the arrays above, written last
      figures/                           *.png, *.pdf (`andor.figures.draw`)

<folder> is `model_folder(name)`: "tiny-llama", "Qwen--Qwen2.5-7B". Arrays are indexed by subset, bit i = player i,
empty set first (`andor.lattice`). Text is stored as unicode arrays; nothing is pickled. How files are written and
checked is in `andor.runs.files`: the last field of a JSON file is the sha256 of the rest.

settings.json
    format      3, the version of this layout
    models      one object per model, in the order given: name, label (short and unique, for tables and figures),
                folder, family, fingerprint (sha256 of config and weights), tokenizer (sha256), revision (the hub's
                commit, or null), dtype, parameters, baseline (the token that replaces masked words, or the name of an
                embedding), keys (one per prompt: sha256 of all that decides v, see `values_key`; null where the prompt
                cannot be read)
    prompts     one object per prompt, in order: id, text, chat (whether each model's chat template is around it),
                players ([start, stop] characters each), words (their texts), target (the exact text explained in all
                models, leading space included, or null where it is predicted), target_from ("given", "own", or the
                name of the model whose prediction it is)
    noise       bound on |noise|, a multiple of |v(N) - v(∅)| of each model and prompt, or "measured"
    solver      number of players -> name and settings of the solver that prompts with so many players are given
    tau         an effect is salient above tau times the largest
    matmul_precision   of the models' matrix products, as `jax.default_matmul_precision` names it
    versions    of andor and of the libraries that numbers depend on

processes/*.json
    command     the command or call
    started     when, UTC
    host, pid   where
    device      what the models ran on
    left_out    lines of the file of prompts that gave no prompt, and why
    mesh        devices along "data" (masks) and "model" (weights), or null for one device
    python      its version
    git         commit of a checkout that andor ran from, and whether it had changes; null for an installed package

summary.json
    models, pairs, prompts, worst   see `andor.runs.summary.summarise`
    covers      prompts (the ids that were not left out, in order) and effects (sha256 of all their effects): of these
                arrays the numbers are, and of no others

skipped/<prompt id>.json
    id, model, why, again (whether it was for want of memory or devices, so that it is tried again)

values/<folder>/<prompt id>.npz
    v                    float64 [2**n_players], log-odds of the target, nats
    players              unicode [n_players], the words
    target               unicode [], exact text
    target_probability   float64 [], on the full prompt
    tokens_evaluated     int64 []
    seconds              float64 []
    forward_noise        float64 [], size of the noise of v, nats; NaN where it was not measured
    key                  unicode [], as in the settings
    made_by              unicode [], device and versions that evaluated it

effects/<folder>/<prompt id>.npz
    and_effects, or_effects, noise, dual_values   float64 [2**n_players]; v = zeta(and) + or_sums(or) + noise
    noise_bound, primal, dual, gap                float64 []; dual is what dual_values prove, gap = 1 - dual / primal
    steps                int64 []
    status               unicode [], "converged" or "not converged: ..."
    values               unicode [], sha256 of the v that they are effects of
    solver               unicode [], name and settings of the solver, as JSON

Runs that earlier versions made have no `covers` and no `solver`. All else that ties their arrays and numbers together
is checked as in others.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from andor.core.certificate import reconstruct
from andor.core.problem import Solution
from andor.core.values import Values
from andor.prompts import Prompt
from andor.runs import files
from andor.runs.files import Damaged

FORMAT = 3

ROUNDING = 1e-9
"""Relative error up to which numbers that are computed again are the same."""

TEXTS = ("players", "target", "status", "key", "values", "solver")
COUNTS = ("tokens_evaluated", "steps")
"""Arrays of text and of integers; the others are floating."""

FORMS = {"U": "unicode", "i": "integer", "f": "floating"}

CONTINUE = "Give the same command again: it goes on where the run ended"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A prompt that is left out of a run.

    Attributes:
      id: of the prompt.
      model: under which it failed.
      why: the message of the error.
      again: whether the next process that goes on with the run tries it again, since what was missing was memory or
        devices.
    """

    id: str
    model: str
    why: str
    again: bool = False


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
      skipped: prompts that are left out of all of these.
    """

    path: Path
    settings: dict
    summary: dict
    values: Mapping[str, Mapping[str, Values]]
    effects: Mapping[str, Mapping[str, Solution]]
    skipped: Sequence[Skipped] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order given."""
        return tuple(model["name"] for model in self.settings["models"])

    @property
    def labels(self) -> dict[str, str]:
        """Model name -> short unique label, for tables and figures."""
        return {model["name"]: model["label"] for model in self.settings["models"]}

    @property
    def records(self) -> tuple[dict, ...]:
        """The prompts as settings.json has them, in order, without those that are skipped."""
        left_out = {each.id for each in self.skipped}
        return tuple(record for record in self.settings["prompts"] if record["id"] not in left_out)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts, in order, without those that are skipped. `target` says what each explains."""
        return tuple(_prompt(record) for record in self.records)

    def target(self, prompt_id: str) -> str | None:
        """The exact text that all models explain on a prompt; None where each explains its own prediction."""
        (record,) = (each for each in self.settings["prompts"] if each["id"] == prompt_id)
        own = record["target_from"] == "own"
        return record["target"] if own or record["target"] else self.values[self.models[0]][prompt_id].target


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


def values_path(run: str | Path, model: str, prompt_id: str) -> Path:
    """Where a prompt's v lies."""
    return Path(run) / "values" / model_folder(model) / f"{prompt_id}.npz"


def effects_path(run: str | Path, model: str, prompt_id: str) -> Path:
    """Where a prompt's effects lie."""
    return Path(run) / "effects" / model_folder(model) / f"{prompt_id}.npz"


def skipped_path(run: str | Path, prompt_id: str) -> Path:
    """Where it lies why a prompt is left out."""
    return Path(run) / "skipped" / f"{prompt_id}.json"


def save_summary(run: Run, summary: Mapping, table: Sequence[Mapping]) -> None:
    """Write prompts.csv and summary.json, undefined numbers (nan) as nothing and null; the run is finished.

    Args:
      run: what the numbers are of, as `read_results` gives it.
      summary, table: the numbers.
    """
    for path in (run.path / "prompts.csv", run.path / "summary.json"):
        if path.is_dir():
            files.set_aside(path)
    files.write_table(run.path / "prompts.csv", table)
    files.write_json(run.path / "summary.json", {**summary, "covers": _covers(run)})


def save_skipped(run: str | Path, skipped: Skipped) -> None:
    """Write down that a prompt is left out."""
    path = skipped_path(run, skipped.id)
    files.make_folder(path.parent)
    files.write_json(path, dataclasses.asdict(skipped))


def save_values(run: str | Path, model: str, prompt_id: str, values: Values, *, key: str, made_by: str) -> None:
    """Write v of one prompt under one model."""
    files.write_arrays(
        values_path(run, model, prompt_id), dataclasses.asdict(values) | {"key": key, "made_by": made_by}
    )


def save_effects(
    run: str | Path, model: str, prompt_id: str, solution: Solution, values: Values, settings: Mapping
) -> None:
    """Write the effects of one prompt under one model, of which values they are, and by which solver."""
    arrays = dataclasses.asdict(solution) | {"values": _digest(values), "solver": _solver(settings, values)}
    files.write_arrays(effects_path(run, model, prompt_id), arrays)


def _digest(values: Values) -> str:
    return hashlib.sha256(values.v.tobytes()).hexdigest()


def _solver(settings: Mapping, values: Values) -> str:
    """The solver that the settings give to a prompt of so many players, as effects name it."""
    solver = settings["solver"][str(len(values.players))]
    return json.dumps(files.jsonable(solver), sort_keys=True, ensure_ascii=False)


def _covers(run: Run) -> dict:
    """What the summary of a run is of."""
    ids = [record["id"] for record in run.records]
    digest = hashlib.sha256()
    for model in run.models:
        for prompt_id in ids:
            for x in vars(run.effects[model][prompt_id]).values():
                digest.update(x.tobytes() if isinstance(x, np.ndarray) else repr(x).encode())
    return {"prompts": ids, "effects": digest.hexdigest()}


def read_run(path: str | Path) -> Run:
    """Read a finished run.

    Raises:
      FileNotFoundError: names the directory or file that is missing.
      ValueError: names the file that is not what it should be, and says why.
      OSError: a file could not be read now.
    """
    path = run_path(path)
    _settings_of(path)
    if not (path / "summary.json").exists():
        raise FileNotFoundError(f"{path / 'summary.json'} is missing: the run is unfinished. {CONTINUE}.")
    with _advice():
        summary = files.read_json(path / "summary.json")
    run = read_results(path)
    with _advice():
        _check_covers(path / "summary.json", summary.pop("covers", None), summary, run)
    return dataclasses.replace(run, summary=summary)


def read_results(path: str | Path) -> Run:
    """Read a run without its summary: the effects of all prompts that are not left out. Raises as `read_run`."""
    path = run_path(path)
    settings = _settings_of(path)
    names = tuple(model["name"] for model in settings["models"])
    with _advice():
        skipped = tuple(read_skipped(each, names) for each in skipped_paths(path))
        run = Run(path, settings, {}, {name: {} for name in names}, {name: {} for name in names}, skipped)
        for name in names:
            keys = prompt_keys(settings, name)
            for record, prompt in zip(run.records, run.prompts, strict=True):
                given = record["target"] is not None or record["target_from"] in ("own", name)
                target = record["target"] if given else run.values[record["target_from"]][prompt.id].target
                values = read_values(
                    values_path(path, name, prompt.id),
                    prompt,
                    keys[prompt.id],
                    target=target,
                    measured=settings["noise"] == "measured",
                )
                run.values[name][prompt.id] = values
                run.effects[name][prompt.id] = read_effects(
                    effects_path(path, name, prompt.id), prompt, values, settings
                )
    return run


def _settings_of(path: Path) -> dict:
    """The settings of a run, or a word on what is there instead."""
    if not path.is_dir():
        raise FileNotFoundError(f"no run directory {str(path)!r}. Give the --out of an earlier `andor compare`.")
    if not (path / "settings.json").exists():
        raise FileNotFoundError(f"{path / 'settings.json'} is missing: {str(path)!r} holds no run.")
    return read_settings(path / "settings.json")


def _check_covers(path: Path, covers: object, summary: Mapping, run: Run) -> None:
    """Raise Damaged where a summary is not that of the arrays; an earlier version's names its prompts alone."""
    found = _covers(run)
    if covers is None:
        prompts = summary.get("prompts")
        covers = found | {"prompts": list(prompts) if isinstance(prompts, dict) else prompts}
    if covers != found:
        raise Damaged(f"{path} is older than the arrays of the run, and holds other numbers than they give.")


def run_path(path: str | Path) -> Path:
    """The path of a run, with ~ expanded. Raises ValueError where it can be none."""
    try:
        path = Path(path).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a user without a home, NUL
        shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:197]}..."
        raise ValueError(f"{shown!r} can be no run directory: {getattr(error, 'strerror', error)}.") from error
    return path


def prompt_keys(settings: Mapping, model: str) -> dict[str, str | None]:
    """Prompt id -> key of its values under a model."""
    (record,) = (each for each in settings["models"] if each["name"] == model)
    return {prompt["id"]: key for prompt, key in zip(settings["prompts"], record["keys"], strict=True)}


def skipped_paths(run: str | Path) -> list[Path]:
    """Files of the prompts that a run leaves out, by id. No id begins with a dot, as what macOS adds does."""
    return sorted(path for path in (Path(run) / "skipped").glob("*.json") if not path.name.startswith("."))


def read_skipped(path: Path, models: Collection[str]) -> Skipped:
    """Read why one prompt was left out, checked to be of one of these models.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: it is not what was written, or belongs to another prompt or run.
    """
    content = files.read_json(path)
    names = [field.name for field in dataclasses.fields(Skipped)]
    *texts, again = (content.get(name) for name in names)
    if content.keys() != set(names) or not all(isinstance(each, str) for each in texts) or type(again) is not bool:
        raise Damaged(f"{path} is damaged: it does not hold {', '.join(names)}.")
    if content["id"] != path.stem or content["model"] not in models:
        raise Damaged(f"{path} is of prompt {content['id']!r} under {content['model']!r}, which is not of this place.")
    return Skipped(**content)


def read_values(
    path: Path, prompt: Prompt, key: str | None = None, *, target: str | None = None, measured: bool = False
) -> Values:
    """Read v of one prompt, checked against the prompt's players and, where given, against the key.

    Args:
      path: of the file.
      prompt: whose values they should be.
      key: as in the settings.
      target: exact text that they should explain, where it is known.
      measured: whether they should say how large their noise is.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: it is not what was written, or belongs to something else.
    """
    arrays = _read_arrays(path, Values, prompt, per_subset=("v",), also=("key",))
    stored = arrays.pop("key").item()
    if tuple(arrays["players"].tolist()) != prompt.words:
        raise Damaged(f"{path} holds players {arrays['players'].tolist()}; the settings say {list(prompt.words)}.")
    if key is not None and stored != key:
        raise Damaged(f"{path} holds the values of another model, prompt or target than the settings say.")
    if target is not None and arrays["target"].item() != target:
        raise Damaged(f"{path} explains {arrays['target'].item()!r}; in this run {target!r} is explained.")
    if measured and not np.isfinite(arrays["forward_noise"]):
        raise Damaged(f"{path} does not say how large the noise of the values is, which this run is to measure.")
    return Values(**{name: tuple(x.tolist()) if name == "players" else _plain(x) for name, x in arrays.items()})


def read_effects(path: Path, prompt: Prompt, values: Values, settings: Mapping) -> Solution:
    """Read the effects of one prompt, checked to be those of these values under these settings. Raises as
    `read_values`."""
    per_subset = ("and_effects", "or_effects", "noise", "dual_values")
    arrays = _read_arrays(path, Solution, prompt, per_subset, also=("values",), optional=("solver",))
    if arrays.pop("values").item() != _digest(values):
        raise Damaged(f"{path} holds the effects of other values than those of its prompt.")
    solver = _solver(settings, values)
    if arrays.pop("solver", np.array(solver)).item() != solver:
        raise Damaged(f"{path} holds the effects that another solver found than the settings say.")
    solution = Solution(**{name: _plain(x) for name, x in arrays.items()})
    noise, v = settings["noise"], values.v
    bound = values.measured_noise if noise == "measured" else noise * abs(v[-1] - v[0])
    if not abs(solution.noise_bound - bound) <= ROUNDING * bound:
        raise Damaged(
            f"{path} holds the effects for noise up to {solution.noise_bound:.6g}; by the settings it is {bound:.6g}."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        rebuilt = reconstruct(solution.and_effects, solution.or_effects) + solution.noise
        sizes = np.abs(v).max() + np.abs(solution.and_effects).sum() + np.abs(solution.or_effects).sum()
        adds_up = np.abs(v - rebuilt).max() <= ROUNDING * sizes
    if not adds_up or np.abs(solution.noise).max() > (1 + ROUNDING) * bound:
        raise Damaged(f"{path} holds effects that do not add up to the values within the noise.")
    return solution


@contextlib.contextmanager
def _advice() -> Iterator[None]:
    """What is missing or damaged in a run can be made again."""
    try:
        yield
    except (Damaged, FileNotFoundError) as error:
        raise type(error)(f"{str(error).rstrip('.')}. {CONTINUE}, and makes this file anew.") from error


def read_settings(path: Path) -> dict:
    """settings.json, checked: names and ids become parts of paths.

    Raises:
      FileNotFoundError: there is none.
      Damaged: it is not what was written, or of another version of this layout.
    """
    try:
        settings = files.read_json(path)
    except Damaged as error:
        form = _stated_format(path)
        if form not in (None, FORMAT):
            raise _other_format(path, form) from error
        raise Damaged(f"{str(error).rstrip('.')}. Move the run away and begin another.") from error
    if settings.get("format") != FORMAT:
        raise _other_format(path, settings.get("format"))
    try:
        _check_settings(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(
            f"{path} is damaged: {type(error).__name__}: {error} Move the run away and begin another."
        ) from error
    return settings


def _check_settings(settings: Mapping) -> None:
    """Raise KeyError, TypeError or ValueError for settings that lack or confuse what is read from them."""
    models, records = settings["models"], settings["prompts"]
    ids = [_prompt(record).id for record in records]
    for record in records:
        for name in ("target", "target_from"):
            if not isinstance(record[name], str | None):
                raise TypeError(f"{name} of a prompt must be text.")
    noise = settings["noise"]
    if noise != "measured" and (isinstance(noise, bool) or not isinstance(noise, int | float) or not noise >= 0):
        raise TypeError(f"noise must be a number from 0, or 'measured'; it is {noise!r}.")
    needed = {str(len(record["players"])) for record in records}
    if not isinstance(settings["solver"], dict) or needed - settings["solver"].keys():
        raise ValueError("there must be a solver for each number of players.")
    names = [model["name"] for model in models]
    for model in models:
        if not all(isinstance(model[name], str) for name in ("name", "label")) or len(model["keys"]) != len(ids):
            raise TypeError("a model must have a name, a label and a key for each prompt.")
    for record in records:
        source = record["target_from"]
        if source not in ("own", *names[:1]) and (source != "given" or record["target"] is None):
            raise ValueError(f"target_from of a prompt must be 'given', 'own' or the first model; it is {source!r}.")
    if not names or len(set(names)) < len(names) or not ids or len(set(ids)) < len(ids):
        raise ValueError("models and prompts must have different names, at least one each.")


def _stated_format(path: Path) -> object:
    """What settings without a checksum, as earlier layouts had them, say of their format; None for anything else."""
    try:
        return json.loads(path.read_bytes()).get("format")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def _other_format(path: Path, form: object) -> Damaged:
    return Damaged(f"{path} has format {form!r}; this version of andor reads {FORMAT}. Make the run anew.")


def _prompt(record: dict) -> Prompt:
    # Prompt checks the id, which becomes part of a path, and that the players lie in the text.
    prompt = Prompt(record["text"], players=record["players"], id=record["id"], chat=record["chat"])
    if prompt.id is None:
        raise ValueError("a prompt has no id.")
    return prompt


def _plain(array: np.ndarray):
    return array if array.ndim else array.item()


def _read_arrays(
    path: Path,
    kind: type,
    prompt: Prompt,
    per_subset: tuple[str, ...],
    also: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    arrays = files.read_arrays(path, (*(field.name for field in dataclasses.fields(kind)), *also), optional)
    for name, array in arrays.items():
        form = "U" if name in TEXTS else "i" if name in COUNTS else "f"
        if array.dtype.kind != form:
            raise Damaged(f"{path}: {name} is {array.dtype}; it must be {FORMS[form]}.")
        shape = (2**prompt.n_players,) if name in per_subset else (prompt.n_players,) if name == "players" else ()
        if array.shape != shape:
            raise Damaged(f"{path}: {name} has shape {array.shape}; it must be {shape} for {prompt.n_players} players.")
        if array.dtype.kind == "f" and name != "forward_noise" and not np.isfinite(array).all():
            raise Damaged(f"{path}: {name} is not finite.")
    for name in per_subset:
        if arrays[name].dtype != np.float64:
            raise Damaged(f"{path}: {name} is {arrays[name].dtype}; it must be float64.")
    return arrays
