"""Files that are whole or not there, and that say so when they were changed: JSON objects and sets of arrays.

A local file is written beside its place and renamed; an object of a store (`s3://`, `gs://`, any scheme of fsspec) is
put in one piece. JSON and .npz files carry the sha256 of their content, which every read checks. Nothing is pickled or
compressed, so that NumPy and a JSON reader alone open everything.

Only what a file holds can be damaged. A file that cannot be read now, for want of permission, memory, a descriptor or a
disk that answers, is an OSError or a MemoryError, and nobody takes it for damaged.

NumPy only: importing this module imports no jax.
"""

import contextlib
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CHECKSUM = "sha256"
"""Last field of a JSON file and last array of an .npz: of all the others."""


AnyPath = Any
"""A `pathlib.Path`, or the `upath.UPath` of a store, which has the same methods."""


class Damaged(ValueError):
    """A file that is there and is not what was written."""


def path_of(place: AnyPath) -> AnyPath:
    """A local path with ~ expanded, or for a URL such as "s3://bucket/run" a path of the same kind (`upath.UPath`).

    Raises:
      ValueError: it can be no path, or the package that the URL needs is not installed.
    """
    text = str(place)
    if not isinstance(place, os.PathLike) and "://" in text:
        return _remote(text)
    try:
        path = Path(place).expanduser() if isinstance(place, str) else place
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a user without a home, NUL
        shown = text if len(text) <= 200 else f"{text[:197]}..."
        raise ValueError(f"{shown!r} can be no path: {getattr(error, 'strerror', error)}.") from error
    return path


def _remote(url: str) -> AnyPath:
    from upath import UPath  # imports fsspec, which local files take no time for

    scheme = url.split("://")[0]
    try:
        # Other processes write too, so a listing from before says little.
        path = UPath(url, use_listings_cache=False)
        path.fs  # noqa: B018, imports what speaks the protocol
    except ImportError as error:
        package = {"s3": "andor[s3]", "gs": "andor[gs]", "gcs": "andor[gs]"}.get(scheme, "the package it names")
        raise ValueError(f"{url} needs a package that is not installed ({error}). Install {package}.") from error
    except Exception as error:  # no such scheme, or what each protocol's package raises
        raise ValueError(f"{url} can be no path: {type(error).__name__}: {str(error)[:200]}") from error
    return path


def is_local(path: AnyPath) -> bool:
    """Whether a path is of this machine's file systems."""
    return isinstance(path, Path)


@contextlib.contextmanager
def _telling(path: AnyPath, what: str, advice: str) -> Iterator[None]:
    """Errors of reading or writing a file as OSErrors that name it and say what to do."""
    try:
        yield
    except (FileNotFoundError, Damaged, MemoryError):
        raise
    except OSError as error:
        said = error.strerror or str(error) or type(error).__name__
        raise OSError(error.errno or errno.EIO, f"{path} could not be {what}: {said}. {advice}") from error
    except Exception as error:
        if is_local(path):
            raise
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"  # of the store's own package
        raise OSError(errno.EIO, f"{path} could not be {what}: {said}. {advice}") from error


def read_bytes(path: AnyPath) -> bytes:
    """What a file holds. Anything but a regular file counts as damaged.

    Raises:
      FileNotFoundError: there is nothing.
      Damaged: it is a folder, a pipe or a device.
      OSError, MemoryError: it could not be read; it may be whole.
    """
    with _telling(path, "read", "It was left as it is; allow reading, and give the same command again"):
        try:
            if is_local(path):
                mode = path.stat().st_mode
                if not stat.S_ISREG(mode):
                    kind = "a directory" if stat.S_ISDIR(mode) else "no file"
                    raise Damaged(f"{path} is damaged: it is {kind}.")
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f"{path} is missing.") from error


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Write a file whole: no reader, crash or full disk meets half of it.

    Raises:
      OSError: names the file and says what to do; what was there before still is.
    """
    advice = "What was written before is whole; make room or allow writing, and give the same command again"
    with _telling(path, "written", advice):
        if not is_local(path):
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path, content) as unfinished:
            os.replace(unfinished, path)


def create(path: AnyPath, content: bytes) -> bool:
    """Write a file if there is none; whether this call wrote it. Of several processes one succeeds, on a local file
    system and wherever the store knows conditional writes. Raises OSError as `write_bytes`."""
    with _telling(path, "written", "Make room or allow writing, and give the same command again"):
        try:
            if not is_local(path):
                path.fs.pipe_file(path.path, content, mode="create")
                return True
            path.parent.mkdir(parents=True, exist_ok=True)
            with _beside(path, content) as unfinished:
                os.link(unfinished, path)
                return True
        except FileExistsError:
            return False


@contextlib.contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """A synced file beside a local path, which is gone afterwards."""
    unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield unfinished
    finally:
        with contextlib.suppress(OSError):  # the error that matters came before
            unfinished.unlink(missing_ok=True)


def set_aside(path: AnyPath) -> AnyPath:
    """Rename what is damaged to NAME.damaged, whose content may still be of use to someone. Returns the new path."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.exists():
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.damaged")
    with _telling(path, "set aside", "Move it away, and give the same command again"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(aside)
    return aside


def read_json(path: AnyPath) -> dict:
    """A JSON object that `write_json` wrote, without its checksum. Raises as `read_bytes`, and Damaged where it is none
    or was changed."""
    stored = read_bytes(path)
    try:
        content = json.loads(stored)
        if not isinstance(content, dict) or CHECKSUM not in content:
            raise ValueError(f"it holds no JSON object with a {CHECKSUM}.")
        stated = content.pop(CHECKSUM)
        if stated != _sha256(_text(content).encode()):
            raise ValueError(f"its content does not match its {CHECKSUM}.")
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    return content


def json_bytes(content: Mapping) -> bytes:
    """A JSON object with its checksum: nan and infinity as null, NumPy numbers as numbers."""
    content = jsonable(content)
    return _text(content | {CHECKSUM: _sha256(_text(content).encode())}).encode()


def write_json(path: AnyPath, content: Mapping) -> None:
    """Write a JSON object as `json_bytes` has it. Raises OSError as `write_bytes`."""
    write_bytes(path, json_bytes(content))


def read_arrays(path: AnyPath) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that `write_arrays` wrote. Raises as `read_bytes`, and Damaged where they are not what
    was written."""
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            arrays = {name.removesuffix(".npy"): _array(_member(archive, name)) for name in archive.namelist()}
        if arrays.pop(CHECKSUM).item() != _digest(arrays):
            raise ValueError(f"its content does not match its {CHECKSUM}.")
    except MemoryError:
        raise
    except Exception as error:  # whatever zipfile and NumPy trip over
        raise Damaged(f"{path} is damaged: {str(error) or type(error).__name__}") from error
    return arrays


def write_arrays(path: AnyPath, content: Mapping[str, object]) -> None:
    """Write arrays, numbers and text as an .npz file.

    Raises:
      OSError: as `write_bytes`.
      ValueError: text ends with a NUL character, which NumPy does not keep.
    """
    arrays = {name: np.asarray(each) for name, each in content.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "U" and array.tolist() != (list(content[name]) if array.ndim else content[name]):
            raise ValueError(f"{name} {content[name]!r} ends with a NUL character, which NumPy does not keep: {path}.")
    stream = io.BytesIO()
    np.savez(stream, **arrays, **{CHECKSUM: np.asarray(_digest(arrays))})
    write_bytes(path, stream.getvalue())


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of an archive. A compressed one could become larger than any memory, and nothing here writes one."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > archive.fp.getbuffer().nbytes:
        raise ValueError(f"{name} is compressed, or larger than the whole file.")
    return archive.read(member)


def _array(content: bytes) -> np.ndarray:
    """The array of a whole .npy file. Its header is checked against what is there, because `np.load` makes room for as
    much as the header says."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an array of version {version}.")
    try:
        shape, _, dtype = readers[version](stream)
    except MemoryError as error:  # of the parser, for a header that is none
        raise ValueError("a header that cannot be read.") from error
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"a header of shape {shape} and {dtype}, and another number of bytes.")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


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


def _text(content: Mapping) -> str:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Lists of numbers on one line each. Inside strings JSON has no line breaks, so text cannot match.
    return re.sub(
        r"\[\n[-\d.,e+nul\s]*\]",
        lambda numbers: re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]"),
        text,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
