"""Where solvers run: on the default device, if it computes in float64 as fast as it does at all.

A TPU has no float64 in hardware; the host's CPU is faster than its emulation.
"""

import contextlib
from typing import Literal

import jax

from andor.devices.memory import available_bytes, host_bytes
from andor.devices.rules import backend

_FAST_FLOAT64 = ("cpu", "gpu", "cuda", "rocm")


def has_fast_float64() -> bool:
    """Whether the default device computes in float64."""
    return backend() in _FAST_FLOAT64


def fast_precision() -> Literal["float32", "float64"]:
    """The most exact precision that the default device is fast in."""
    return "float64" if has_fast_float64() else "float32"


def exact_platform() -> str:
    """The platform that exact solvers run on."""
    return backend() if has_fast_float64() else "cpu"


def on_exact_device() -> contextlib.AbstractContextManager:
    """Context in which arrays are put, and functions run, where exact solvers run."""
    return contextlib.nullcontext() if has_fast_float64() else jax.default_device(jax.local_devices(backend="cpu")[0])


def exact_bytes() -> int:
    """Free memory there."""
    return available_bytes() if has_fast_float64() else host_bytes()


def platform() -> str:
    """The platform that a function traced now will run on."""
    device = jax.config.jax_default_device  # ty: ignore[missing-attribute]  # JAX defines its options as it starts
    return backend() if device is None else getattr(device, "platform", device)
