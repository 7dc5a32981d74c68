"""Several processes that run the same program, each with devices of its own, and JAX among them.

    andor.hosts.initialise("10.0.0.1:1234", n_processes=2, process=0)   # in the other process: process=1
    model = andor.load(name, mesh=andor.mesh.make_mesh(data=16))

Two ways to use them follow from the mesh. One that holds the devices of all processes is one model over all of them:
every process must then make the same calls in the same order, and all get the same values. One that fits a single
process is a model in each process by itself, and they may do different things; only `agree` and `least` then meet.

Without `initialise` a process is alone, whatever else runs: nothing here costs anything then, and no jax is imported.
"""

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Shaped


def initialise(coordinator: str | None = None, n_processes: int | None = None, process: int | None = None) -> None:
    """Join the other processes; before anything else that uses a device. Does nothing the second time.

    When a process dies, the others are ended too, within two minutes.

    Args:
      coordinator: "host:port" of process 0, a port that is free there. Without it all three are found in the
        environment by `jax.distributed.initialize`: TPU pods, Slurm, Open MPI, Kubernetes.
      n_processes: how many there are.
      process: which of them this is, from 0.

    Raises:
      ValueError: only some of the three are given, they make no sense, they are not those of the first time, or the
        environment says nothing.
      RuntimeError: from JAX, when a device was used before, or the others do not come within five minutes.
    """
    given = {"coordinator": coordinator, "n_processes": n_processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(
            f"initialise(coordinator=, n_processes=, process=) wants all three, or none to find them in the "
            f"environment; got no {' and no '.join(missing)}."
        )
    if not missing:
        _check(coordinator, n_processes, process)
    import jax

    if jax.distributed.is_initialized():
        here = {"n_processes": jax.process_count(), "process": jax.process_index()}
        if not missing and here != {"n_processes": n_processes, "process": process}:
            raise ValueError(
                f"initialise(...) was called before, for process {here['process']} of {here['n_processes']}; got "
                f"process {process} of {n_processes} now. Call it once."
            )
        return
    # Otherwise a SIGTERM would only be noted, for a checkpoint that nobody here writes.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, n_processes, process)
    except ValueError as error:
        raise ValueError(
            f"initialise() found no TPU pod, Slurm, Open MPI or Kubernetes job in the environment ({error}) Start the "
            "program under one of them (on Kubernetes with jax[k8s] installed), or give coordinator='host:port', "
            "n_processes and process."
        ) from error


def _check(coordinator: str, n_processes: int, process: int) -> None:
    port = re.fullmatch(r".*[^\s:\]]\]?:(\d{1,5})", coordinator)
    if port is None or not 0 < int(port[1]) < 1 << 16:
        raise ValueError(f"initialise(coordinator=...) must be 'host:port' of process 0; got {coordinator!r}.")
    if n_processes < 1:
        raise ValueError(f"initialise(n_processes=...) must be at least 1; got {n_processes}.")
    if not 0 <= process < n_processes:
        raise ValueError(f"initialise(process=...) must be from 0 to {n_processes - 1}; got {process}.")


def n_processes() -> int:
    """Processes that `initialise` brought together; 1 without it."""
    return sys.modules["jax"].process_count() if _initialised() else 1


def this_process() -> int:
    """Which of them this is, from 0."""
    return sys.modules["jax"].process_index() if _initialised() else 0


def is_first() -> bool:
    """Whether this is process 0, the one that writes files and speaks to a person."""
    return this_process() == 0


def spans(mesh: Any) -> bool:
    """Whether a mesh (or None) holds devices of other processes: one model over all of them, and not one in each."""
    return mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1


def agree(value: int) -> int:
    """The value of process 0, in every process; all wait for each other here."""
    return _of_all(value)[0]


def least(value: int) -> int:
    """The least value of all processes, in every process; all wait for each other here."""
    return min(_of_all(value))


def tell(message: object) -> object:
    """What process 0 says, in every process; all wait for each other here. Anything that JSON can hold."""
    if n_processes() == 1:
        return message
    from jax.experimental import multihost_utils

    said = json.dumps(message).encode()
    size = 1 << max(agree(len(said)) - 1, 1).bit_length()  # of few lengths, as each is compiled for
    padded = np.zeros(size, np.uint8)
    padded[: min(len(said), size)] = np.frombuffer(said[:size], np.uint8)
    with device_errors():
        heard = np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes()
    return json.loads(heard.rstrip(b"\0"))


def gather(array: Shaped[Any, "..."]) -> Shaped[np.ndarray, "..."]:
    """The whole array, also where parts of it lie on devices of other processes; then all must ask for it together."""
    if n_processes() == 1 or isinstance(array, np.ndarray) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    with device_errors():
        return multihost_utils.process_allgather(array, tiled=True)


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """Errors of devices and of other processes as RuntimeErrors, which most are: where a compiled function is called
    again, JAX raises ValueError, as if something were wrong with the arguments."""
    try:
        yield
    except ValueError as error:
        if _STATUS.match(str(error)):
            raise RuntimeError(str(error)) from error
        raise


_STATUS = re.compile(
    "(ABORTED|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|RESOURCE_EXHAUSTED|UNAVAILABLE"
    "|UNKNOWN): "
)
"""What the message of such an error begins with."""


def _initialised() -> bool:
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def _of_all(value: int) -> list[int]:
    """The values of all processes, in their order."""
    if n_processes() == 1:
        return [value]
    from jax.experimental import multihost_utils

    own = np.array([value], np.int64).view(np.uint8)  # as bytes: arrays have 32 bits unless told otherwise
    with device_errors():
        return multihost_utils.process_allgather(own).view(np.int64)[:, 0].tolist()
