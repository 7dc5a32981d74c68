"""`Recipe`: what a run was asked for, as recipe.json records it; and the rule of one unfinished run per root.

What decides a result decides the `id` of a recipe. Runs of one root that differ in it (another noise bound, solver,
prompt) have folders of their own, named by how they explain: "noise-auto", "noise-0.02", "noise-0.02_Published".

One run of a root is under way at a time. Its recipe lies in ROOT/unfinished.json, which only one of several processes
can create. The file goes when the run has its summary, or when the process that created it fails or is interrupted. A
process with the same recipe works on the same run. One with another recipe is refused, and told what differs: shards of
different settings would never make a run. No lock is held: a killed process leaves the file, and its command goes on.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import re
import socket
import warnings
from collections.abc import Mapping, Sequence

from andor.prompts import Prompt
from andor.runs import cache, files
from andor.runs.files import AnyPath, Damaged

FORMAT = 6
"""Version of the layout that `andor.runs.cache` and `andor.runs.run` describe."""

MOST_SHOWN = 8
"""Differences between two recipes that are told; the rest is counted."""

_PROMPT = ("id", "text", "players", "target", "exact", "chat")
_SETTINGS = ("own_targets", "noise", "score", "solvers", "penalty", "matmul_precision")

LONGEST_SHOWN = 60
"""Characters of a setting that are told."""


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """A model of a recipe.

    Attributes:
      name: as given.
      label: short and unique, for tables and figures.
      family: HF `model_type`.
      fingerprint: sha256 of config and weights.
      tokenizer: sha256 of what decides how text becomes tokens.
      revision: the hub's commit, or None.
      dtype: of weights and activations.
      parameters: number of weights.
      baseline: what becomes of masked words (`andor.prompts.masks.Mask.name`).
      why: what "auto" chose that for; "" where it was named. Decides nothing.
      chat: what its chat template puts before and after a message, as rendered once for this root; None where no prompt
        is a chat.
      keys: content keys of v, one per prompt; None where the tokenizer or the model cannot read the prompt.
    """

    name: str
    label: str
    family: str
    fingerprint: str
    tokenizer: str
    revision: str | None
    dtype: str
    parameters: int
    baseline: str
    chat: tuple[str, str] | None
    keys: tuple[str | None, ...]
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run was asked for.

    Attributes:
      models: in the order given.
      prompts: with ids, in order.
      own_targets: whether each model explains its own prediction where no target is given, not the first model's.
      noise: bound on |noise|: "auto", "measured", or a multiple of |v(N) - v(∅)| of each model and prompt.
      score: how the log-odds of a target's tokens are put together, "product" or "sum".
      solvers: number of players -> name and settings of the solver.
      penalty: name and settings of the penalty.
      matmul_precision: of the models' matrix products, as `jax.default_matmul_precision` names it.
      made: decides nothing: the command, when, on what device and with which versions the run was begun, lines of the
        file of prompts that gave no prompt, remarks on the prompts, and the root whose values may be used ("reuse").
    """

    models: tuple[ModelRecord, ...]
    prompts: tuple[Prompt, ...]
    own_targets: bool
    noise: float | str
    score: str
    solvers: Mapping[str, Mapping]
    penalty: Mapping
    matmul_precision: str
    made: Mapping = dataclasses.field(default_factory=dict, compare=False)

    @property
    def decisive(self) -> dict:
        """What decides a result, in JSON's types."""
        models = [
            {k: v for k, v in dataclasses.asdict(each).items() if k not in ("revision", "why")} for each in self.models
        ]
        decisive = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.compare}
        return files.jsonable(decisive | {"models": models, "prompts": [_prompt_record(each) for each in self.prompts]})

    @functools.cached_property
    def id(self) -> str:
        """Content key of what decides a result."""
        return files.key_of(self.decisive)

    @property
    def name(self) -> str:
        """How the run explains, for its folder."""
        noise = self.noise if isinstance(self.noise, str) else f"{self.noise:g}"
        odd = ["sum"] * (self.score == "sum")
        odd += [each["name"] for each in self.solvers.values() if each["name"] not in ("InteriorPoint", "WorkingSet")]
        odd += [self.penalty["name"]] * (self.penalty["name"] != "L1")
        return "_".join([f"noise-{noise}", *dict.fromkeys(odd)])

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """Prompt id -> place among the prompts."""
        return {prompt.id: place for place, prompt in enumerate(self.prompts)}

    def key(self, model: str, prompt_id: str) -> str | None:
        """Content key of v of a prompt under a model."""
        (record,) = (each for each in self.models if each.name == model)
        return record.keys[self.places[prompt_id]]

    def explains(self, model: str, prompt_id: str, key: str) -> bool:
        """Whether an explanation of this run has a content key."""
        records = [each for each in self.models if each.name == model]
        if not records or prompt_id not in self.places:
            return False
        place = self.places[prompt_id]
        values_key = records[0].keys[place]
        return values_key is not None and self.solution_key(values_key, self.prompts[place]) == key

    def solution_key(self, values_key: str, prompt: Prompt) -> str:
        """Content key of the explanation of a prompt's values."""
        return cache.explanation_key(values_key, prompt, self.noise, self.solvers[str(prompt.n_players)], self.penalty)

    def to_json(self) -> dict:
        """recipe.json, without its checksum."""
        content = self.decisive | {"models": [dataclasses.asdict(each) for each in self.models]}
        return files.jsonable({"format": FORMAT, "id": self.id, **content, "made": self.made})


def read_recipe(path: AnyPath) -> Recipe:
    """Read a recipe.json.

    Raises:
      FileNotFoundError: there is none.
      Damaged: it is not what was written.
      ValueError: it is of another version of this layout.
    """
    content = files.read_json(path)
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {content.get('format')!r}; this version of andor reads {FORMAT}. Give another --out, "
            f"and --reuse {path.parent.parent} to use the values that are there."
        )
    try:
        recipe = Recipe(
            models=tuple(_model_record(each) for each in content["models"]),
            prompts=tuple(
                Prompt(
                    **{name: each[name] for name in _PROMPT[:-1]}, chat=_pair(each["chat"]), labels=each.get("labels")
                )
                for each in content["prompts"]
            ),
            made=content["made"],
            **{name: content[name] for name in _SETTINGS},
        )
        if recipe.id != content["id"] or not all(len(each.keys) == len(recipe.prompts) for each in recipe.models):
            raise ValueError("its content does not give its id.")
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return recipe


def _model_record(content: Mapping) -> ModelRecord:
    return ModelRecord(**content | {"keys": tuple(content["keys"]), "chat": _pair(content["chat"])})


def _pair(chat: object) -> object:
    return tuple(chat) if isinstance(chat, list) else chat


def _prompt_record(prompt: Prompt) -> dict:
    labels = {} if prompt.labels is None else {"labels": prompt.labels}
    return {name: getattr(prompt, name) for name in _PROMPT} | {"words": prompt.words} | labels


def recipe_paths(root: AnyPath) -> list[AnyPath]:
    """recipe.json of every run of a root."""
    return sorted(root.glob("*/recipe.json")) if root.exists() else []


def recipes_of(root: AnyPath) -> dict[str, Recipe]:
    """Folder -> recipe of the runs of a root. A damaged recipe is set aside, with a warning.

    Raises:
      ValueError: the root is a file, or holds something that is no run, or a run of another version.
    """
    _check_root(root)
    found = {path.parent.name: cache.get(path, read_recipe) for path in recipe_paths(root)}
    return {folder: recipe for folder, recipe in found.items() if recipe is not None}


def begin(root: AnyPath, recipe: Recipe) -> AnyPath:
    """The folder of a run, new or to go on with; its recipe.json is written.

    Raises:
      ValueError: another run of the root is unfinished (the message says what differs), or as `recipes_of`.
    """
    there = recipes_of(root)
    mine = next((name for name, each in there.items() if each.id == recipe.id), None)
    if mine is not None and finished(root / mine):
        return root / mine
    names = itertools.chain([recipe.name], (f"{recipe.name}_{number}" for number in itertools.count(2)))
    folder = mine or next(name for name in names if name not in there)  # free, or with a damaged recipe.json
    marker = root / "unfinished.json"
    content = files.json_bytes({"folder": folder, "by": _me(), "recipe": recipe.to_json()})
    while not files.write_bytes(marker, content, new=True):
        try:
            other = files.read_json(marker)
            theirs, begun = other["recipe"], root / other["folder"]
            if not re.fullmatch(r"noise-[^/\\]+", other["folder"]):
                raise ValueError("it names no folder of a run.")
        except FileNotFoundError:  # it was finished meanwhile
            continue
        except (KeyError, TypeError, ValueError):
            files.set_aside(marker)
            continue
        if theirs.get("id") == recipe.id:
            folder = other["folder"]
            break
        if finished(begun):
            with contextlib.suppress(FileNotFoundError, ValueError):  # another process removed it, or made another
                _remove(marker, theirs["id"])
            continue
        raise ValueError(
            f"{root} holds an unfinished run with other settings, begun by {other.get('by')}: "
            f"{told(theirs, recipe.to_json())}. Let it finish, give its settings to finish it, or give another --out. "
            f"If that process was killed, you may remove {marker} too."
        )
    path, reuse = root / folder / "recipe.json", recipe.made.get("reuse")
    if mine is not None and reuse not in (None, there[mine].made.get("reuse")):
        # How a run was begun stays on record when it is gone on with, beside the root that is used now.
        recipe = dataclasses.replace(recipe, made={**there[mine].made, "reuse": reuse})
        files.write_bytes(path, files.json_bytes(recipe.to_json()))
    elif not path.exists():
        files.write_bytes(path, files.json_bytes(recipe.to_json()))
        if folder != recipe.name and recipe.name in there:
            differs = told(there[recipe.name].to_json(), recipe.to_json())
            warnings.warn(
                f"{folder} is another run of {root}. From {recipe.name} it differs in {differs}", stacklevel=2
            )
    return root / folder


def finished(run: AnyPath) -> bool:
    """Whether a run has its summary."""
    return (run / "summary.json").exists()


def end(root: AnyPath, recipe_id: str | None = None) -> None:
    """Say that a run of a root is no longer unfinished; without its id, that this process is no longer at work on the
    one that it has begun."""
    with contextlib.suppress(Exception):  # another process removed it, or made another; or the store is gone
        _remove(files.path_of(root) / "unfinished.json", recipe_id)


def _remove(marker: AnyPath, recipe_id: str | None) -> None:
    """Remove the mark of a run with this id, or without one of the run that this process has begun."""
    content = files.read_json(marker)
    if content["recipe"]["id"] == recipe_id or (recipe_id is None and content["by"] == _me()):
        files.remove(marker)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _check_root(root: AnyPath) -> None:
    if root.is_file():
        raise ValueError(f"{root} is a file, and --out names a folder. Name another, or move it away.")
    if not root.exists():
        return
    there = {each.name for each in root.iterdir() if not each.name.startswith(".")}
    if there and "values" not in there and "unfinished.json" not in there and not recipe_paths(root):
        raise ValueError(
            f"{root} is not empty, and what it holds is no run (no recipe.json in a folder of it). Name another with "
            "out, or move it away."
        )


def told(old: Mapping, new: Mapping) -> str:
    """Say in a line what differs between two recipes: "noise: 0.02 -> 0.05". Keys follow from the rest, and are told
    only if nothing else differs."""
    one, other = (_settings({k: v for k, v in each.items() if k not in _NOT_TOLD}) for each in (old, new))
    places = [place for place in one | other if one.get(place) != other.get(place)]
    places = [place for place in places if ".keys" not in place] or places
    # Solvers are by number of players: what only one has follows from its prompts.
    numbers = {place.split(".")[1] for place in one | other if place.startswith("solvers.")}
    alone = {n for n in numbers if not all(f"solvers.{n}.name" in each for each in (one, other))}
    places = [
        place for place in places if place.split(".")[0] != "solvers" or place.split(".")[1] not in alone
    ] or places
    # Lists of different lengths are not told place by place, and settings of the whole run come first.
    places = [place for place in places if place.split("[")[0] not in places or "[" not in place]
    places.sort(key=lambda place: "[" in place)
    pairs = [(place, _cut(one.get(place)), _cut(other.get(place))) for place in places[:MOST_SHOWN]]
    lines = [f"{place}: {old} -> {new}" if old != new else f"{place}: differs" for place, old, new in pairs]
    return "; ".join(lines) + (f", and {len(places) - MOST_SHOWN} more" if len(places) > MOST_SHOWN else "")


_NOT_TOLD = ("id", "made", "format")
_FOLLOWS = ("revision", "words", "why")  # the hub's commit decides nothing, and words follow from players


def _settings(content: object, place: str = "") -> dict[str, object]:
    """Place -> setting of everything in a recipe's JSON; models and prompts are called by their names."""
    found = {}
    if isinstance(content, dict):
        inner = {f"{place}.{name}" if place else name: each for name, each in content.items() if name not in _FOLLOWS}
    elif isinstance(content, list) and "[" not in place:
        names = [each.get("label", each.get("id")) if isinstance(each, dict) else n for n, each in enumerate(content)]
        inner = {f"{place}[{name}]": each for name, each in zip(names, content, strict=True)}
        found[place] = [None] * len(content)  # equal if only what is in it differs
    else:
        return {place: content}
    return found | {place: setting for name, each in inner.items() for place, setting in _settings(each, name).items()}


def _cut(setting: object) -> str:
    text = f"{len(setting)} entries" if isinstance(setting, list) else json.dumps(setting)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def model_labels(names: Sequence[str]) -> tuple[str, ...]:
    """Short names for tables and figures: the last part of each path or id, without .gguf; the whole where two would be
    the same."""
    short = [name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf") or name for name in names]
    return tuple(label if short.count(label) == 1 else name for name, label in zip(names, short, strict=True))
