"""GGUF files (llama.cpp): what the header says, and tensors dequantised slice by slice.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. What a quantised
block means is the `gguf` package's. Its reader is not used: it makes arrays of every token of the vocabulary, which
takes 14 s and 0.7 GB for Gemma 3's, and a damaged file ends in whatever NumPy says.

Imported when a GGUF is loaded, and only then, because `gguf` takes a while to import.
"""

import dataclasses
import functools
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType, quants
from jaxtyping import Shaped

from andor.models.hub import split_files
from andor.models.tensors import BLOCK_BYTES, Ranges, StoredTensor

READABLE = (
    *("F32", "F16", "BF16"),
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)
"""Types of tensors that are read, by their name in `gguf`."""


@dataclasses.dataclass(frozen=True)
class GGUFTensor(StoredTensor):
    """A tensor in a GGUF file, unread.

    Attributes:
      offset: of its first byte in the file.
      head_dim: rows of a head, if the file has them in llama.cpp's order for RoPE (0, h/2, 1, h/2 + 1, ...) where HF
        has 0, 1, 2, ...; None if both have the same order.
      shift: what the file adds to every number.
    """

    readable: ClassVar[tuple[str, ...]] = READABLE

    offset: int
    head_dim: int | None = None
    shift: float = 0.0

    def read(self, ranges: Ranges, dtype) -> Shaped[np.ndarray, "..."]:
        """A slice, dequantised in float32 and converted. Rows are read in blocks, as `StoredTensor.read` does."""
        kind = GGMLQuantizationType[self.dtype]
        elements, size = GGML_QUANT_SIZES[kind]  # of a quantised block; blocks run along the last axis
        *rows, columns = ranges
        (first, last), (left, right) = rows[0] if rows else (0, 1), columns
        blocks = slice(left // elements, -(-right // elements))
        shape = (math.prod(self.shape[:-1]), self.shape[-1] // elements, size)
        order = np.arange(first, last)
        if self.head_dim is not None:
            within, half = order % self.head_dim, self.head_dim // 2
            order += 2 * (within % half) + within // half - within
        result = np.empty((last - first, right - left), dtype)
        step = max(1, BLOCK_BYTES // 4 // (4 * self.shape[-1]))  # dequantising takes about four times its result
        for start in range(0, last - first, step):
            part = order[start : start + step]
            stored = np.memmap(self.file, np.uint8, "r", self.offset, shape)[part, blocks]
            values = quants.dequantize(stored.reshape(len(part), -1), kind)
            values = values[:, left - blocks.start * elements :][:, : right - left]
            result[start : start + step] = values - np.float32(self.shift) if self.shift else values
        return result.reshape([stop - start for start, stop in ranges])


@dataclasses.dataclass(frozen=True, eq=False)
class GGUF:
    """Headers of a GGUF in one file, or in several (NAME-00001-of-00003.gguf, ...).

    Attributes:
      files: in order.
      metadata: of the first file. Numbers, strings, booleans; arrays are of NumPy if they hold numbers, else lists.
      tensors: name in the file -> tensor, of all files.
    """

    files: tuple[Path, ...]
    metadata: Mapping[str, object]
    tensors: Mapping[str, GGUFTensor]


def read_gguf(path: Path) -> GGUF:
    """Read the headers of a GGUF.

    Args:
      path: of the file; of the first one, if it is split.

    Raises:
      ValueError: a file is damaged, cut off, no GGUF, or has tensors of a type that is not read.
      FileNotFoundError: a part is missing.
    """
    state = path.stat()
    return _read_gguf(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=2)  # of what is being loaded: the tokens of a large vocabulary take 50 MB
def _read_gguf(path: Path, size: int, modified: int) -> GGUF:
    """Of a file in this state: size and time of its last change."""
    metadata, tensors = _read_header(path)
    files = split_files(path)
    count = metadata.get("split.count", 1)
    if count != len(files):
        raise ValueError(f"{path} says that it is one of {count} files, and its name does not. Download it again.")
    if files[0] != path:
        raise ValueError(f"{path} is a later part of a GGUF. Name its first part, {files[0].name}.")
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"{path} goes on in files that are not there: {', '.join(missing)}. Download them.")
    for file in files[1:]:
        _, more = _read_header(file)
        tensors |= more
    expected = metadata.get("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise ValueError(f"{path} and its parts hold {len(tensors)} tensors; it says {expected}. Download them again.")
    refused = sorted({each.dtype for each in tensors.values()} - set(READABLE))
    if refused:
        raise ValueError(
            f"{path} holds tensors of type {', '.join(refused)}, which andor does not read; it reads "
            f"{', '.join(READABLE)}. Take another file of this model."
        )
    return GGUF(files, metadata, tensors)


def _read_header(path: Path) -> tuple[dict[str, object], dict[str, GGUFTensor]]:
    """(metadata, tensors) of one file."""
    try:
        with path.open("rb") as file:
            return _Header(path, file).read()
    except (struct.error, UnicodeDecodeError, _Damaged) as error:
        reason = error if isinstance(error, _Damaged) else "it ends early, or is no text where text should be"
        raise ValueError(f"{path} is damaged or no GGUF file: {reason}. Download it again.") from error


class _Damaged(Exception):
    pass


class _Header:
    """The header of an open file, read from front to back."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file, self.size = path, file, os.fstat(file.fileno()).st_size

    def read(self) -> tuple[dict[str, object], dict[str, GGUFTensor]]:
        if self.file.read(4) != b"GGUF":
            raise _Damaged("it does not begin with GGUF")
        version = self.number("<I")
        if version not in (2, 3):
            raise _Damaged(f"it is of version {version}, and andor reads 2 and 3, little-endian")
        n_tensors, n_keys = self.number("<Q"), self.number("<Q")
        metadata = {}
        for _ in range(n_keys):
            key = self.string()
            metadata[key] = self.value(self.number("<I"))
        described = [self.tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise _Damaged(f"general.alignment is {str(alignment)[:20]}")
        data = -(-self.file.tell() // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset in described:
            elements, size = GGML_QUANT_SIZES.get(kind, (1, 0))  # a type that is unknown is refused by `read_gguf`
            if name in tensors or shape[-1] % elements:
                raise _Damaged(f"tensor {name[:80]!r} is there twice, or ends within a block")
            if data + offset + math.prod(shape) // elements * size > self.size:
                raise _Damaged(f"it ends before tensor {name[:80]!r} does")
            dtype = kind.name if isinstance(kind, GGMLQuantizationType) else f"number {kind}"
            tensors[name] = GGUFTensor(self.path, name, shape, dtype, data + offset)
        return metadata, tensors

    def number(self, form: str):
        return struct.unpack(form, self.file.read(struct.calcsize(form)))[0]

    def bytes(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise _Damaged("it ends within its header")
        return self.file.read(count)

    def string(self) -> str:
        return self.bytes(self.number("<Q")).decode()

    def value(self, kind: int):
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind == GGUFValueType.ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            if inner in GGUFReader.gguf_scalar_to_np:
                dtype = np.dtype(GGUFReader.gguf_scalar_to_np[inner]).newbyteorder("<")
                return np.frombuffer(self.bytes(count * dtype.itemsize), dtype)
            return [self.value(inner) for _ in range(count)]
        if kind not in GGUFReader.gguf_scalar_to_np:
            raise _Damaged(f"a value of its metadata is of kind {kind}")
        dtype = np.dtype(GGUFReader.gguf_scalar_to_np[kind]).newbyteorder("<")
        return np.frombuffer(self.bytes(dtype.itemsize), dtype)[0].item()

    def tensor(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType | int, int]:
        """(name, shape in HF's order, type, offset behind the header)."""
        name = self.string()
        axes = self.number("<I")
        shape = struct.unpack(f"<{axes}Q", self.bytes(8 * axes))
        kind, offset = self.number("<I"), self.number("<Q")
        if not shape or not all(shape):
            raise _Damaged(f"tensor {name[:80]!r} has shape {shape}")
        kind = GGMLQuantizationType(kind) if kind in GGMLQuantizationType._value2member_map_ else kind
        return name, tuple(reversed(shape)), kind, offset
