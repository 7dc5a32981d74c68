"""Going on with a run: the same settings or what differs, who works on what, and values that are there already."""

import contextlib
import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from andor.runs import claims, files
from andor.runs.store import FORMAT, read_settings, run_path, values_path

EVALUATION = 1
"""Version of `andor.evaluation`, to be raised by what changes v by more than rounding: earlier values are then not used
again."""


MOST_SHOWN = 8
"""Differences that are told when settings have changed; the rest is counted."""

LONGEST_SHOWN = 60
"""Characters of a setting that are told."""


class Stopped(Exception):
    """A run was asked to stop, and did so after what it was at. The same call goes on with it."""


def recorded_settings(path: str | Path) -> dict | None:
    """Settings of a run that was begun; None where there is none.

    Raises:
      ValueError: they are damaged, or of another version of this layout.
    """
    path = run_path(path) / "settings.json"
    return read_settings(path) if path.exists() else None


def open_run(path: str | Path, settings: Mapping) -> Path:
    """Begin a run, or go on with the one that was begun with the same settings.

    Raises:
      ValueError: the path is a file, holds something that is no run, or a run with other settings (the message says
        which), or cannot be written.
    """
    path = run_path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"the run directory {str(path)!r} cannot be written: it is a file. Name another with out, or move it away."
        )
    new = not path.exists()
    try:
        files.make_folder(path)
        recorded = recorded_settings(path) or _begin(path, {"format": FORMAT, **settings})
    except OSError as error:
        with contextlib.suppress(OSError):  # other processes may have begun it meanwhile
            (path / "claims").rmdir()
            if new:
                path.rmdir()
        raise ValueError(
            f"the run directory {str(path)!r} cannot be written: {error.strerror or error}. "
            "Name another with out, or allow writing."
        ) from error
    changed = _changed(_decisive(recorded), _decisive(files.jsonable({"format": FORMAT, **settings})))
    if changed:
        more = f", and {len(changed) - MOST_SHOWN} more" if len(changed) > MOST_SHOWN else ""
        raise ValueError(
            f"the run in {str(path)!r} was begun with other settings: {'; '.join(changed[:MOST_SHOWN])}{more}. Give "
            "the same settings to go on with it, or another --out: values that do not change are taken from the runs "
            "beside it."
        )
    return path


def _decisive(settings: Mapping) -> dict:
    """Settings without what decides no result: a commit of the hub with the same weights and tokenizer."""
    models = [{name: x for name, x in model.items() if name != "revision"} for model in settings["models"]]
    return {**settings, "models": models}


def _begin(path: Path, settings: Mapping) -> dict:
    """Write the settings of a new run; another process may be at the same. Returns what is recorded then."""
    names = {each.name for each in path.iterdir()}
    if "settings.json" not in names and any(not name.startswith(("claims", ".settings.json.")) for name in names):
        raise ValueError(
            f"the run directory {str(path)!r} is not empty, and what it holds is no run (no settings.json). Name "
            "another with out, or move it away."
        )
    with claims.claimed(path / "claims" / "run"):
        if not (path / "settings.json").exists():
            files.remove_unfinished(path / "settings.json")
            files.write_json(path / "settings.json", settings)
        return recorded_settings(path)


def _changed(old: Mapping, new: Mapping) -> list[str]:
    """What differs between two settings. Keys of values follow from the rest: they are told only if nothing else is."""
    told = differences(*({**each, "models": [{**m, "keys": None} for m in each["models"]]} for each in (old, new)))
    return told or [
        f"models[{one.get('label')}]: what is evaluated for {count} of {len(one['keys'])} prompts"
        for one, other in zip(old["models"], new["models"], strict=True)
        if (count := sum(a != b for a, b in itertools.zip_longest(one["keys"], other["keys"])))
    ]


def differences(old: object, new: object, name: str = "") -> list[str]:
    """What differs between two settings, as "noise: 0.02 -> 0.05". Of a mapping, numbers and words come first, then
    what differs in few places: what one changed must not drown in what follows from it."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(key for key in new if key not in old)]
        pairs = {key: (old.get(key), new.get(key)) for key in names}
        found = {key: differences(*pair, f"{name}.{key}".lstrip(".")) for key, pair in pairs.items()}
        nested = {key: any(isinstance(x, list | dict) for x in pair) for key, pair in pairs.items()}
        return [each for key in sorted(names, key=lambda key: (nested[key], len(found[key]))) for each in found[key]]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        labels = [each.get("label", each.get("id")) if isinstance(each, dict) else None for each in old]
        parts = [
            (*pair, f"{name}[{index if label is None else label}]")
            for index, (label, *pair) in enumerate(zip(labels, old, new, strict=True))
        ]
        return [each for part in parts for each in differences(*part)]
    if old == new:
        return []
    one, other = (f"{len(x)} entries" if isinstance(x, list | dict) else _cut(json.dumps(x)) for x in (old, new))
    return [f"{name}: {one} -> {other}" if one != other else f"{name}: differs"]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def values_key(
    fingerprint: str, dtype: str, precision: str, tokens: Mapping[str, Sequence[int]], target: object
) -> str:
    """sha256 (hex) of all that decides v but the device: values with the same key need not be evaluated twice.

    Args:
      fingerprint, dtype: of the model.
      precision: of its matrix products.
      tokens: the prompt's token ids, the player of each, and what masks them.
      target: its token ids, or where they are predicted, by whom.
    """
    content = json.dumps([EVALUATION, fingerprint, dtype, precision, dict(tokens), target], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def claim(run: str | Path, result: Path) -> claims.Claim | None:
    """Claim the work on a file of a run; None if another process is at it."""
    run = Path(run)
    held = claims.claim(claims.path_of(run, result))
    if held is not None and held.exclusive:  # nobody else is writing it
        files.remove_unfinished(result)
    return held


def save_process(run: str | Path, record: Mapping) -> None:
    """Write down who works on the run."""
    started = re.sub(r"\W", "", str(record["started"]), flags=re.ASCII)
    host = re.sub(r"[^\w-]", "_", str(record["host"]), flags=re.ASCII)
    path = Path(run) / "processes" / f"{started}-{host}-{record['pid']}.json"
    files.make_folder(path.parent)
    files.write_json(path, record)


def values_beside(run: str | Path, keys: Collection[str]) -> dict[str, list[Path]]:
    """Values that the runs in the same directory hold already: key -> files. The files are not checked."""
    run, wanted, found = Path(run).absolute(), set(keys), defaultdict(list)
    for other in sorted(run.parent.glob("*/settings.json")):
        for key, path in _values_in(other.parent) if other.parent != run else ():
            if key in wanted and path.exists():
                found[key].append(path)
    return dict(found)


def _values_in(run: Path) -> Iterator[tuple[str, Path]]:
    """Keys of a run's values, and where these lie or will lie."""
    try:
        settings = read_settings(run / "settings.json")
    except (OSError, ValueError):  # of an earlier version, or damaged: then the files say themselves what they are
        for path in (run / "values").glob("*/*.npz"):
            with contextlib.suppress(OSError, ValueError):
                yield files.read_arrays(path, ["key"])["key"].item(), path
        return
    for model in settings["models"]:
        for record, key in zip(settings["prompts"], model["keys"], strict=True):
            if key is not None:
                yield key, values_path(run, model["name"], record["id"])
