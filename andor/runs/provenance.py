"""Where numbers come from: versions, the state of the code, the machine."""

import functools
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("andor", "jax", "jaxlib", "flax", "optax", "numpy", "transformers", "tokenizers", "safetensors")
"""Distributions that numbers depend on."""


def versions() -> dict[str, str]:
    """Name -> version of every distribution that numbers depend on."""
    return {package: version(package) for package in PACKAGES}


def git_state() -> dict[str, object] | None:
    """Commit of the checkout that andor is imported from, and whether files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or not (root / "pyproject.toml").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True, timeout=20)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a folder that git does not trust
        return None
    return {"commit": commit.stdout.strip(), "changed": bool(changes.stdout.strip())}


def device() -> str:
    """Kind and number of the devices that JAX computes on."""
    import jax

    return f"{jax.devices()[0].device_kind} x {jax.device_count()}"


@functools.cache  # asked for every prompt
def made_by() -> str:
    """Device and versions, in one line."""
    return ", ".join([device(), *(f"{name} {each}" for name, each in versions().items())])


def process(command: str) -> dict[str, object]:
    """What is to be known of the process that begins a run: recipe.json holds it as "made"."""
    return {
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="microseconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": device(),
        "python": platform.python_version(),
        "git": git_state(),
    }
