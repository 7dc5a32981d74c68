"""Compiled programs outlive the process: XLA's persistent compilation cache, in the user's cache folder.

A first `andor compare` of the embedded models compiles for a third of its time. The cache is JAX's own; what is decided
here is where it lies, and that whatever is wrong with it costs time and nothing else.
"""

import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax


def keep_compilations() -> None:
    """Keep what XLA compiles from now on in `~/.cache/andor` (or `$XDG_CACHE_HOME/andor`), and take what is there.

    Whoever has chosen a folder (`JAX_COMPILATION_CACHE_DIR`, `jax_compilation_cache_dir`) keeps it. Several processes
    may use one folder. Warns where it cannot be written to, and does nothing then.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    try:
        folder = _cache_home() / "andor" / f"xla-{_machine()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is not writable")
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only what took a second is kept: here it is many small programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _machine() -> str:
    """Tells processors apart: XLA compiles for the one that is there, and JAX's key of an entry does not name it.

    A home that several machines share would otherwise serve programs that another processor cannot run.
    """
    told = [platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        told += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
