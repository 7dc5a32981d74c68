"""Devices in a grid of two axes: masks are divided along `data`, weights along `model`.

One table says which axis letter (`andor/__init__.py`) lies along which axis of the grid; everything else follows from
it, by `jax.jit`, on one device as on many. A model along several devices exchanges activations in every layer, so
that is for models too large for one device; masks divided among devices share nothing.
"""

import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

ALONG = {"b": "data", "k": "model", "f": "model", "v": "model"}
"""Axis letter -> axis of the mesh. Letters that are not here are whole on every device."""


def make_mesh(*, data: int = 1, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of data x model devices.

    Args:
      data: groups of masks, a power of two.
      model: devices that hold one copy of the weights together.
      devices: by default the first that there are.

    Raises:
      ValueError: `data` is no power of two, or there are not so many devices.
    """
    if data < 1 or data & (data - 1):
        raise ValueError(f"make_mesh(data=...) must be a power of two, as the masks are 2**n_players; got {data}.")
    if model < 1:
        raise ValueError(f"make_mesh(model=...) must be at least 1; got {model}.")
    devices = jax.devices() if devices is None else list(devices)
    if data * model > len(devices):
        raise ValueError(
            f"make_mesh(data={data}, model={model}) needs {data * model} devices; there are {len(devices)} "
            f"({devices[0].platform}). Use fewer, or start where there are more."
        )
    return Mesh(np.array(devices[: data * model]).reshape(data, model), ("data", "model"))


def read_mesh(text: str) -> Mesh:
    """The mesh that "data=4,model=2" describes; either may be left out.

    Raises:
      ValueError: the text is not of that form, or `make_mesh` refuses.
    """
    sizes = dict(re.findall(r"(?:^|,)\s*(data|model)\s*=\s*(\d+)\s*(?=,|$)", text))
    if not sizes or text.count(",") + 1 != len(sizes):
        raise ValueError(f"a mesh is written like data=4,model=2; got {text!r}.")
    return make_mesh(**{name: int(size) for name, size in sizes.items()})


def sharding(mesh: Mesh | None, letters: str, sizes: Mapping[str, int] | None = None) -> NamedSharding | None:
    """Where an array with these axes lies; None without a mesh, which is the default device.

    Args:
      mesh: from `make_mesh`.
      letters: one per axis of the array, as in an einsum.
      sizes: letter -> size, to check that it divides; without it nothing is checked.

    Raises:
      ValueError: an axis does not divide by the number of devices along it.
    """
    if mesh is None:
        return None
    for letter in letters:
        along = mesh.shape[ALONG[letter]] if letter in ALONG else 1
        if sizes is not None and letter in sizes and sizes[letter] % along:
            name = {"k": "num_key_value_heads", "f": "intermediate_size", "v": "vocab_size"}.get(letter, letter)
            raise ValueError(
                f"{name} = {sizes[letter]} does not divide by {ALONG[letter]}={along} of the mesh. Use a divisor."
            )
    return NamedSharding(mesh, PartitionSpec(*(ALONG.get(letter) for letter in letters)))
