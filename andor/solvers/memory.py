"""Refuse a problem that does not fit in memory before any work."""

import os

import jax


def available_bytes() -> int:
    """Bytes of the memory that the default device computes in, less what JAX holds already."""
    statistics = jax.devices()[0].memory_stats()  # None on a CPU, whose memory is the host's
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_memory(solver, n_players: int, needed: int) -> None:
    """Raise ValueError when `needed` bytes are not there for `solver` to solve a problem of `n_players`."""
    available = available_bytes()
    if needed > available:
        raise ValueError(
            f"extract(v=...) has {n_players} players, for which {type(solver).__name__} needs "
            f"{needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are there. Use fewer players, or "
            "extract(solver=FirstOrder()), whose memory grows with 2**n_players."
        )
