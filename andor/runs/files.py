"""Files that are either whole or not there, and that say so when they were changed: JSON objects and sets of arrays.

A file is written beside its place, synced, and renamed. JSON carries the sha256 of its content in its last field; the
arrays of an .npz carry a CRC-32 each, which is checked when they are read. Nothing is pickled, nothing is compressed.

Only what a file holds can be damaged. A file that cannot be read now, for want of permission, of memory or of a disk
that answers, is an OSError or a MemoryError, and nobody takes it for damaged.

NumPy only: importing this module imports no jax.
"""

import contextlib
import csv
import errno
import hashlib
import inspect
import io
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

CHECKSUM = "sha256"
"""Last field of a JSON file: of the file's bytes without this field."""


MKDIR_TRIES = 1000
"""How often others may remove a folder, or what it lies in, before it is said that it cannot be made."""


class Damaged(ValueError):
    """A file that is there and is not what was written."""


def read_json(path: Path) -> dict:
    """A JSON object that `write_json` wrote, without its checksum.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: it is no such object, or its checksum is not that of its content.
      OSError, MemoryError: it could not be read; it may be whole.
    """
    stored = _bytes(path)
    try:
        content = json.loads(stored)
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


def read_arrays(path: Path, names: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Arrays of an .npz file, and of `optional` those that it has.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: one of them is not there, or not as it was written.
      OSError, MemoryError: it could not be read; it may be whole.
    """
    content = _bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            there = set(archive.namelist())
            wanted = [*names, *(name for name in optional if f"{name}.npy" in there)]
            return {name: _array(_member(archive, f"{name}.npy", len(content))) for name in wanted}
    except MemoryError:
        raise
    except Exception as error:  # whatever zipfile and NumPy trip over
        raise Damaged(f"{path} is damaged: {str(error) or type(error).__name__}") from error


def _bytes(path: Path) -> bytes:
    """What a file holds. What is there and is no file is damaged: nobody would ever write what it waits for."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise Damaged(f"{path} is damaged: it is {'a directory' if stat.S_ISDIR(mode) else 'no file'}.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} is missing.") from error
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} could not be read: {error.strerror or error}. It was left as it is; allow reading, or wait until "
            "the disk answers, and give the same command again",
        ) from error


def _member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """A file of an archive of so many bytes, whose CRC-32 is checked. A compressed one could become larger than any
    memory, and is not what `write_arrays` writes."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
        raise ValueError(f"{name} is compressed, or larger than the whole file.")
    return archive.read(member)


def _array(content: bytes) -> np.ndarray:
    """The array of a whole .npy file. What its header says is checked against what is there: `np.load` reads as much as
    the header says, after making room for it."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"an array of version {version}.")
    try:
        shape, _, dtype = read_header[version](stream)
    except MemoryError as error:  # of the parser, for a header that is none
        raise ValueError("a header that cannot be read.") from error
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"a header of shape {shape} and {dtype}, and another number of bytes.")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


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
    make_folder(path.parent)
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
            raise not_written(path, error) from error
        raise


def make_folder(path: Path, *, sync: bool = True) -> None:
    """Make a folder and those it lies in. Others may make and remove the same meanwhile.

    Args:
      path: of the folder.
      sync: whether new folders are to survive a power cut, where the system can do it.

    Raises:
      OSError: as `replace`.
    """
    for tries_left in reversed(range(MKDIR_TRIES)):
        folder = path
        try:
            for folder in (*reversed(path.parents), path):
                if not folder.is_dir():
                    folder.mkdir()
                    if sync:
                        _sync_folder(folder.parent)
            return
        except (FileExistsError, FileNotFoundError) as error:
            # A folder that came and went, or something that is no folder and stays.
            if not tries_left or (os.path.lexists(folder) and not folder.is_dir()):
                raise not_written(folder, error) from error
        except OSError as error:
            raise not_written(folder, error) from error


def not_written(path: Path, error: OSError) -> OSError:
    """The error with what it was about and what to do."""
    in_the_way = error.errno in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
    advice = "move away what is in its place" if in_the_way else "make room or allow writing"
    return OSError(
        error.errno,
        f"{path} could not be written: {error.strerror or error}. What was written before is whole; {advice}, and give "
        "the same command again",
    )


def remove_unfinished(path: Path) -> None:
    """Remove what processes that died left beside the place of a file. For who alone writes there."""
    for left in path.parent.glob(f".{_escaped(path.name)}.????????.tmp"):
        left.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename what is damaged to NAME.damaged: what it held may still be of use to someone.

    Returns:
      its new path; another name where that one is taken.

    Raises:
      OSError: as `replace`.
    """
    aside = path.with_name(f"{path.name}.damaged")
    if os.path.lexists(aside):
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.damaged")
    try:
        os.replace(path, aside)
    except FileNotFoundError:  # another process was faster
        pass
    except OSError as error:
        raise not_written(aside, error) from error
    return aside


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
