"""Devices in a grid of two axes: masks are divided along `data`, weights along `model`.

One table says which axis letter (`andor/__init__.py`) lies along which axis of the grid; everything else follows from
it, by `jax.jit`, on one device as on many. A model along several devices exchanges activations in every layer, so
that is for models too large for one device; masks divided among devices share nothing.

With several processes (`andor.hosts`), a mesh holds the devices of all of them, or some of one process's own.
"""

import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from andor.devices import processes as hosts
from andor.devices.rules import local_devices

ALONG = {"b": "data", "k": "model", "f": "model", "v": "model"}
"""Axis letter -> axis of the mesh. Letters that are not here are whole on every device."""


def make_mesh(*, data: int = 1, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of data x model devices.

    Args:
      data: groups of masks, a power of two.
      model: devices that hold one copy of the weights together.
      devices: by default the first that there are. With several processes: all devices of all processes if that is
        how many are wanted, which makes one model over all of them (`hosts.spans`); else the first of this process's
        own, a model by itself.

    Raises:
      ValueError: `data` is no power of two, there are not so many devices, or they would be some of several processes'.
    """
    check_sizes(data=data, model=model)
    if jax.process_count() != hosts.n_processes():
        raise ValueError(
            f"this process is one of {jax.process_count()}, and they were not brought together. Call "
            "andor.hosts.initialise() before anything that uses a device."
        )
    own, wanted = local_devices(), data * model
    if devices is None:
        # Those that hold a copy of the weights together are of one process if it can be: best connected.
        everyones = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        devices = own if wanted <= len(own) else everyones
    if wanted > len(devices):
        raise ValueError(
            f"make_mesh(data={data}, model={model}) needs {wanted} devices; there are {len(devices)} "
            f"({devices[0].platform}). Use fewer, or start where there are more."
        )
    devices = list(devices)[:wanted]
    if wanted < jax.device_count() and not set(devices) <= set(own):
        raise ValueError(
            f"make_mesh(data={data}, model={model}) is {wanted} devices: neither all {jax.device_count()} of the "
            f"{hosts.n_processes()} processes, for one model over all of them, nor some of the {len(own)} of this one, "
            f"for a model in each. Use {jax.device_count()} or at most {len(own)}."
        )
    return Mesh(np.array(devices).reshape(data, model), ("data", "model"))


def sizes_of(mesh: Mesh | None) -> tuple[int, int]:
    """(copies of the weights, devices that hold one together): the sizes along `data` and `model`."""
    return (1, 1) if mesh is None else (mesh.shape["data"], mesh.shape["model"])


def check_sizes(*, data: int, model: int) -> None:
    """Raise ValueError if no mesh has these sizes."""
    if data < 1 or data & (data - 1):
        raise ValueError(f"make_mesh(data=...) must be a power of two, as the masks are 2**n_players; got {data}.")
    if model < 1:
        raise ValueError(f"make_mesh(model=...) must be at least 1; got {model}.")


def read_mesh(text: str) -> Mesh:
    """The mesh that "data=4,model=2" describes; either may be left out.

    Raises:
      ValueError: the text is not of that form, or `make_mesh` refuses.
    """
    return make_mesh(**read_sizes(text))


def read_sizes(text: str) -> dict[str, int]:
    """Sizes of the mesh that "data=4,model=2" describes, without its devices: {"data": 4, "model": 2}.

    Raises:
      ValueError: the text is not of that form, or no mesh has these sizes.
    """
    given = dict(re.findall(r"(?:^|,)\s*(data|model)\s*=\s*(\d+)\s*(?=,|$)", text))
    if not given or text.count(",") + 1 != len(given):
        raise ValueError(f"a mesh is written like data=4,model=2; got {text!r}.")
    sizes = {"data": 1, "model": 1} | {name: int(size) for name, size in given.items()}
    check_sizes(**sizes)
    return sizes


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
    check_divides(mesh.shape, letters, sizes or {})
    return NamedSharding(mesh, PartitionSpec(*(ALONG.get(letter) for letter in letters)))


def check_divides(mesh_sizes: Mapping[str, int], letters: str, sizes: Mapping[str, int]) -> None:
    """Raise ValueError if an axis does not divide by the number of devices along it.

    Args:
      mesh_sizes: of a mesh, as `read_sizes` gives them.
      letters: of the axes; those without a size are not checked.
      sizes: letter -> size.
    """
    for letter in letters:
        along = mesh_sizes[ALONG[letter]] if letter in ALONG else 1
        if sizes.get(letter, 0) % along:
            name = {"k": "num_key_value_heads", "f": "intermediate_size", "v": "vocab_size"}.get(letter, letter)
            raise ValueError(
                f"{name} = {sizes[letter]} does not divide by {ALONG[letter]}={along} of the mesh. Use a divisor."
            )


def place(array: Shaped[np.ndarray, "..."], mesh: Mesh | None, letters: str) -> Shaped[Array, "..."]:
    """Put an array, the same in all processes, where its axes lie. Arguments as for `sharding`."""
    where = sharding(mesh, letters)
    if hosts.spans(mesh):  # `device_put` would compare it with everybody's first
        return jax.make_array_from_callback(array.shape, where, lambda index: array[index])
    return jax.device_put(array, where)
