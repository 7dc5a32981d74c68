"""Files that are either whole or not there, and that say so when they were changed: JSON objects and sets of arrays.

A file is written beside its place, synced, and renamed. JSON carries the sha256 of its content in its last field; the
arrays of an .npz carry a CRC-32 each, which is checked when they are read. Nothing is pickled.

NumPy only: importing this module imports no jax.
"""

import contextlib
import csv
import hashlib
import inspect
import io
import json
import math
import os
import re
import secrets
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

CHECKSUM = "sha256"
"""Last field of a JSON file: of the file's bytes without this field."""


class Damaged(ValueError):
    """A file that is there and is not what was written."""


def read_json(path: Path) -> dict:
    """A JSON object that `write_json` wrote, without its checksum.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: it is no such object, or its checksum is not that of its content.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or CHECKSUM not in content:
            raise ValueError(f"it holds no JSON object with a {CHECKSUM}.")
        stated = content.pop(CHECKSUM)
        if stated != _checksum(_text(content)):
            raise ValueError(f"its content does not match its {CHECKSUM}.")
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    return content


def write_json(path: Path, content: Mapping) -> None:
    """Write a JSON object with its checksum; nan and infinity as null, NumPy numbers as numbers.

    Raises:
      OSError: names the file and says what to do.
    """
    content = jsonable(content)
    text = _text(content | {CHECKSUM: _checksum(_text(content))})
    replace(path, lambda file: file.write(text.encode()))


def write_table(path: Path, rows: Sequence[Mapping]) -> None:
    """Write rows of the same fields as comma-separated values, nan as an empty cell. Raises OSError as `write_json`."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(jsonable(row) for row in rows)
    replace(path, lambda file: file.write(text.getvalue().encode()))


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of an .npz file.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: one of them is not there, or not as it was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _array(archive.read(f"{name}.npy")) for name in names}
    except Exception as error:  # whatever zipfile and NumPy trip over
        raise Damaged(f"{path} is damaged: {str(error) or type(error).__name__}") from error


def _array(content: bytes) -> np.ndarray:
    """The array of a whole .npy file, whose CRC-32 was checked. `np.load` reads no further than the header says, and so
    perhaps not to where the CRC-32 is checked."""
    stream = io.BytesIO(content)
    array = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1):
        raise ValueError("there is more than an array.")
    return array


def write_arrays(path: Path, arrays: Mapping[str, object]) -> None:
    """Write arrays, numbers and text as an .npz file.

    Raises:
      OSError: as `write_json`.
      ValueError: text ends with a NUL character, which NumPy does not keep.
    """
    arrays = {name: (np.asarray(x), x) for name, x in arrays.items()}
    for name, (array, given) in arrays.items():
        if array.dtype.kind == "U" and array.tolist() != (list(given) if array.ndim else given):
            raise ValueError(f"{name} {given!r} ends with a NUL character, which NumPy does not keep: {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda file: np.savez(file, **{name: array for name, (array, _) in arrays.items()}))


def replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place and rename it, so that no reader, crash or full disk meets half a file.

    Raises:
      OSError: it could not be written; what was there before still is.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the error that matters is the first
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(
                error.errno,
                f"{path} could not be written: {error.strerror or error}. What was written before is whole; make room "
                "or allow writing, and give the same command again",
            ) from error
        raise


def remove_unfinished(path: Path) -> None:
    """Remove what processes that died left beside the place of a file. For who alone writes there."""
    for left in path.parent.glob(f".{_escaped(path.name)}.????????.tmp"):
        left.unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Rename a damaged file to NAME.damaged: what it held may still be of use to someone."""
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.replace(path, path.with_name(f"{path.name}.damaged"))


def jsonable(content: object) -> object:
    """NumPy numbers and arrays as plain numbers and lists; numbers that JSON does not have (nan, inf) as null; what
    else JSON does not know as `repr` has it, functions with what they hold."""
    if isinstance(content, Mapping):
        return {str(key): jsonable(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [jsonable(value) for value in content]
    if isinstance(content, np.ndarray | np.generic):
        return jsonable(content.tolist())
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if content is None or isinstance(content, str | int | bool):
        return content
    return jsonable(_described(content)) if inspect.isfunction(content) else repr(content)


def _described(function: Callable) -> dict:
    """A function (optax optimisers are made of them) by name and by what it holds."""
    try:
        held = inspect.getclosurevars(function).nonlocals
    except ValueError:  # a variable that was never assigned
        held = {}
    return {"function": function.__qualname__.split(".")[0]} | {name: held[name] for name in sorted(held)}


def _text(content: Mapping) -> str:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Lists of numbers on one line each. Inside strings JSON has no line breaks, so text cannot match.
    return re.sub(
        r"\[\n[-\d.,e+nul\s]*\]",
        lambda numbers: re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]"),
        text,
    )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems
        pass
    finally:
        os.close(descriptor)


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
