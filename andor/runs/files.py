"""Files that are whole or not there, and that say so when they were changed: JSON objects and sets of arrays.

A local file is written beside its place and renamed; an object of a store (`s3://`, `gs://`, any scheme of fsspec) is
put in one piece. Both kinds end with the sha256 of what is before it, which every read checks. Nothing is pickled or
compressed, so that NumPy and a JSON reader alone open everything.

Only what a file holds can be damaged. A file that cannot be read now, for want of permission, memory, a descriptor or a
disk that answers, is an OSError or a MemoryError, and nobody takes it for damaged.
"""

import contextlib
import errno
import hashlib
import inspect
import io
import json
import math
import os
import secrets
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

AnyPath = Any
"""A `pathlib.Path`, or the `upath.UPath` of a store, which has the same methods."""

_DIGITS = 64
"""Of a sha256, in hex."""


class Damaged(ValueError):
    """A file that is there and is not what was written."""


def path_of(place: AnyPath) -> AnyPath:
    """A local path with ~ expanded; of a URL such as "s3://bucket/run" the path of a store.

    Raises:
      ValueError: it can be no path, the package that the URL needs is not installed, or the store does not answer.
    """
    if not isinstance(place, str | Path):  # of a store already
        return place
    text = str(place).removeprefix("file://")
    is_url = isinstance(place, str) and "://" in text
    try:
        if is_url:
            from upath import UPath  # imports fsspec, which local files take no time for

            path = UPath(text, use_listings_cache=False)  # other processes write too
        else:
            path = Path(text).expanduser() if isinstance(place, str) else place
        path.exists()  # else it says too late what is wrong
        return path
    except ImportError as error:
        extra = {"s3": "andor[s3]", "gs": "andor[gs]", "gcs": "andor[gs]"}.get(text.split("://")[0], "it")
        raise ValueError(f"{text} needs a package that is not installed ({error}). Install {extra}.") from error
    except Exception as error:  # too long, a user without a home, NUL; no such scheme, no credentials, no server
        shown = text if len(text) <= 200 else f"{text[:197]}..."
        what = "cannot be reached" if is_url and not isinstance(error, ValueError) else "can be no path"
        raise ValueError(f"{shown!r} {what}: {_said(error)}.") from error


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Errors of the package that speaks to a store as OSErrors, as those of a disk are. A context or a decorator."""
    try:
        yield
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:
        if all(frame.f_globals.get("__package__") != "upath" for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise
        raise OSError(errno.EIO, f"the store does not answer: {_said(error)}. Give the same command again") from error


@contextlib.contextmanager
def _telling(path: AnyPath, what: str, advice: str) -> Iterator[None]:
    """Errors as OSErrors that name the file and say what to do; those of a store's own package too."""
    try:
        yield
    except (Damaged, MemoryError):
        raise
    except Exception as error:
        if isinstance(path, Path) and not isinstance(error, OSError):
            raise
        # Stores leave the number out. OSError makes a FileNotFoundError of this one.
        number = getattr(error, "errno", None) or (errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EIO)
        raise OSError(number, f"{path} could not be {what}: {_said(error)}. {advice}") from error


def _said(error: Exception) -> str:
    lines = (getattr(error, "strerror", None) or str(error)).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def read_bytes(path: AnyPath) -> bytes:
    """What a file holds. Anything but a regular file counts as damaged.

    Raises:
      FileNotFoundError: there is nothing.
      Damaged: it is a folder, a pipe or a device.
      OSError, MemoryError: it could not be read; it may be whole.
    """
    try:
        with _telling(path, "read", "It was left as it is; allow reading, and give the same command again"):
            if not isinstance(path, Path):
                return path.fs.cat_file(path.path)
            if not path.is_file() and path.exists():
                raise Damaged(f"{path} is damaged: it is no regular file.")
            return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} is missing.") from error


def write_bytes(path: AnyPath, content: bytes, *, new: bool = False) -> bool:
    """Write a file whole: no reader, crash or full disk meets half of it.

    Args:
      path: of the file.
      content: of the file.
      new: leave a file that is there. Of several processes one succeeds, on a local file system and wherever the store
        knows conditional writes.

    Returns:
      whether it was written.

    Raises:
      OSError: names the file and says what to do; what was there before still is.
    """
    advice = "What was written before is whole; make room or allow writing, and give the same command again"
    with _telling(path, "written", advice):
        try:
            if isinstance(path, Path):
                _write_locally(path, content, _create if new else os.replace)
            else:
                path.fs.pipe_file(path.path, content, mode="create" if new else "overwrite")
            return True
        except FileExistsError:
            if new:
                return False
            raise


def _write_locally(path: Path, content: bytes, put: Callable[[Path, Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put(unfinished, path)
    finally:
        with contextlib.suppress(OSError):  # the error that matters came before
            unfinished.unlink(missing_ok=True)


def _create(unfinished: Path, path: Path) -> None:
    """Give a file its name unless that is taken."""
    try:
        os.link(unfinished, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without hard links. A reader may meet half of the file there.
        with path.open("xb") as file:
            file.write(unfinished.read_bytes())


def set_aside(path: AnyPath) -> AnyPath:
    """Rename what is damaged to NAME.damaged, whose content may still be of use to someone. Returns the new path."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.exists():
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.damaged")
    with _telling(path, "set aside", "Move it away, and give the same command again"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(aside)
    return aside


def remove(path: AnyPath) -> None:
    """Remove a file; another process may be faster. Raises OSError that names it and says what to do."""
    with _telling(path, "removed", "Remove it, or allow that, and give the same command again"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def read_json(path: AnyPath) -> dict:
    """A JSON object that `json_bytes` made. Raises as `read_bytes`, and Damaged where it is none or was changed."""
    stored = read_bytes(path)
    try:
        content = json.loads(stored)
        del content["sha256"]
        if stored != json_bytes(content):
            raise ValueError("its content does not match its sha256.")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    return content


def json_bytes(content: Mapping) -> bytes:
    """A JSON object with its sha256 as last field: nan and infinity as null, NumPy numbers as numbers."""
    content = jsonable(content)
    return _text({**content, "sha256": _sha256(_text(content).encode())}).encode()


def _text(content: Mapping) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_arrays(path: AnyPath) -> dict[str, np.ndarray]:
    """Arrays of an .npz that `write_arrays` wrote. Raises as `read_bytes`, and Damaged where it was changed."""
    content = read_bytes(path)
    if content[-_DIGITS:] != _sha256(content[:-_DIGITS]).encode():
        raise Damaged(f"{path} is damaged: its content does not match its sha256.")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
        if not all(isinstance(each, np.ndarray) for each in arrays.values()):
            raise ValueError("it holds what is no array.")
        return arrays
    except MemoryError:
        raise
    except Exception as error:  # the checksum fits, so somebody made it; zipfile and NumPy raise all kinds
        raise Damaged(f"{path} is damaged: {error}") from error


def write_arrays(path: AnyPath, content: Mapping[str, object]) -> None:
    """Write arrays, numbers and text as an .npz, whose sha256 is the comment at the end of a zip file.

    Raises:
      OSError: as `write_bytes`.
      ValueError: text ends with a NUL character, which NumPy does not keep.
    """
    arrays = {name: np.asarray(each) for name, each in content.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "U" and array.tolist() != (list(content[name]) if array.ndim else content[name]):
            raise ValueError(f"{name} {content[name]!r} ends with a NUL character, which NumPy does not keep: {path}.")
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = bytes(_DIGITS)
    stored = stream.getvalue()[:-_DIGITS]
    write_bytes(path, stored + _sha256(stored).encode())


def key_of(*content: object) -> str:
    """sha256 (hex) of anything that `jsonable` takes: the content key of what it decides."""
    return _sha256(json_text(content).encode())


def json_text(content: object) -> str:
    """Anything that `jsonable` takes on one line of JSON, always the same."""
    return json.dumps(jsonable(content), sort_keys=True, ensure_ascii=False)


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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
