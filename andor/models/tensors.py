"""Tensors of safetensors files: what the headers say of them, and slices read without the rest of the file."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import ml_dtypes
import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open

DTYPES = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F64": np.float64}
"""The dtypes of weights that are read, by their name in a header."""

BLOCK_BYTES = 64 * 2**20
"""What is read from a file at a time."""

Ranges = tuple[tuple[int, int], ...]
"""(start, stop) along every axis of a tensor."""


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, unread.

    Attributes:
      file: where it is.
      name: its HF name.
      shape: as stored.
      dtype: as the header spells it ("BF16").
    """

    readable: ClassVar[tuple[str, ...]] = tuple(DTYPES)

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self, ranges: Ranges, dtype) -> Shaped[np.ndarray, "..."]:
        """A slice, converted.

        safetensors maps a file into memory, and pages that were touched stay there until it is closed. So the rows are
        read in blocks and the file is opened for each: the process holds the result and `BLOCK_BYTES`, never the file.
        """
        shape = tuple(stop - start for start, stop in ranges)
        result = np.empty(shape, dtype)
        row_bytes = math.prod(self.shape[1:]) * np.dtype(DTYPES[self.dtype]).itemsize
        rows = max(1, BLOCK_BYTES // max(1, row_bytes))
        columns = tuple(slice(*each) for each in ranges[1:])
        first, last = ranges[0]
        for start in range(first, last, rows):
            stop = min(start + rows, last)
            with open_safetensors(self.file) as tensors:
                result[start - first : stop - first] = tensors.get_slice(self.name)[(slice(start, stop), *columns)]
        return result

    def equals(self, other: "StoredTensor", dtype) -> bool:
        """Whether two tensors of one shape are the same after conversion."""
        assert self.shape == other.shape, (self.shape, other.shape)
        rest = tuple((0, size) for size in self.shape[1:])
        rows = max(1, BLOCK_BYTES // max(1, math.prod(self.shape[1:]) * np.dtype(dtype).itemsize))
        blocks = [((start, min(start + rows, self.shape[0])), *rest) for start in range(0, self.shape[0], rows)]
        return all(np.array_equal(self.read(block, dtype), other.read(block, dtype)) for block in blocks)


def open_safetensors(file: Path):
    """A safetensors file as a context. Raises ValueError with the file's name if it is none."""
    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:  # OSError without the name of the file
        raise ValueError(f"{file} is damaged or no safetensors file ({error}). Download it again.") from error


def stored_tensors(files: Iterable[Path]) -> list[StoredTensor]:
    """All tensors of the files, from their headers alone. A name that is in two files is there twice."""
    found = []
    for file in files:
        with open_safetensors(file) as tensors:
            for name in tensors.keys():
                header = tensors.get_slice(name)
                found.append(StoredTensor(file, name, tuple(header.get_shape()), header.get_dtype()))
    return found


def misfits(
    stored: Iterable[StoredTensor], shapes: Mapping[str, tuple[int, ...]], weight_map: Mapping[str, Path] | None
) -> list[str]:
    """What stands between stored tensors and the ones that are expected, one line each; none when they fit.

    Args:
      stored: from `stored_tensors`.
      shapes: name -> shape of every tensor that may be there. Which must be there is not checked here.
      weight_map: name -> file, as the index of the checkpoint says; None where there is no index.
    """
    problems = []
    files: dict[str, list[Path]] = {}
    for tensor in stored:
        name = tensor.name
        files.setdefault(name, []).append(tensor.file)
        if name not in shapes:
            problems.append(f"unknown tensor {name}")
            continue
        if tensor.shape != shapes[name]:
            problems.append(f"{name} has shape {tensor.shape}, expected {shapes[name]}")
        if tensor.dtype not in tensor.readable:
            problems.append(f"{name} has dtype {tensor.dtype}, expected one of {', '.join(tensor.readable)}")
    for name, places in files.items():
        if len(places) > 1:
            problems.append(f"{name} is in more than one file: {', '.join(place.name for place in places)}")
        elif weight_map is not None and weight_map.get(name) != places[0]:
            said = f"the index says {weight_map[name].name}" if name in weight_map else "the index does not name it"
            problems.append(f"{name} is in {places[0].name}, but {said}")
    for name in (weight_map or {}).keys() - files.keys() - shapes.keys():
        problems.append(f"the index names {name}, which is in no file")
    return problems
