"""JAX as this package needs it: a device, and rules of its own whatever the caller has set for a program of theirs."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def standard_rules() -> Iterator[None]:
    """Allow implicit transfers and the standard promotion of dtypes, as a context or a decorator.

    `jax_transfer_guard` and `jax_numpy_dtype_promotion="strict"` are for finding mistakes in one's own code; the code
    here moves small arrays and Python numbers on purpose.
    """
    with jax.numpy_dtype_promotion("standard"), jax.transfer_guard("allow"):
        yield


def local_devices() -> list[jax.Device]:
    """The devices of this process. Raises ValueError, with what to do, where JAX finds none."""
    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError: of the platforms asked for, none is installed
        asked = jax.config.jax_platforms
        said = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"JAX finds no device{f' of JAX_PLATFORMS={asked}' if asked else ''}{f' ({said})' if said else ''}. Unset "
            "JAX_PLATFORMS, or install the jax package of this accelerator, for example pip install 'jax[cuda13]'."
        ) from error


def backend() -> str:
    """JAX's name of the default kind of device: "cpu", "gpu", "tpu". Raises as `local_devices`."""
    local_devices()
    return jax.default_backend()
