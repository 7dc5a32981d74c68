"""Refuse what does not fit in memory before any work."""

import os
from pathlib import Path

import jax

from andor.devices import processes as hosts
from andor.devices.rules import local_devices


class Insufficient(ValueError):
    """The memory or the devices that are here do not suffice; others may."""


# A container's limit and what it uses of it: cgroup v2, then v1.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_bytes(mesh: jax.sharding.Mesh | None = None) -> int:
    """Bytes that are free in the memory of the devices of the mesh together, or of the default device.

    All devices hold equal parts, so that the fullest one counts. Where a mesh spans processes, all of them must ask
    together, and all get the same answer; on CPUs as if they shared one host, which they may.
    """
    devices = local_devices()[:1] if mesh is None else list(mesh.devices.flat)
    here = [device.memory_stats() for device in devices if device.process_index == jax.process_index()]
    if all(each and "bytes_limit" in each for each in here):  # None on a CPU, whose memory is the host's
        free = len(devices) * min(each["bytes_limit"] - each["bytes_in_use"] for each in here)
    else:
        free = host_bytes()
    return hosts.least(free) if hosts.spans(mesh) else free


def host_bytes() -> int:
    """Free memory of the host, or of the container that this process is in. Where neither is told, its size."""
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(fields["MemAvailable"].split()[0]) * 1024)
    for limit, usage in _CGROUPS:
        if Path(limit).exists() and (text := Path(limit).read_text().strip()) != "max":
            found.append(int(text) - int(Path(usage).read_text()))
    return min(found) if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_memory(caller: str, solver, n_players: int, needed: int, available: int, way_out: str) -> None:
    """Raise Insufficient when `needed` bytes are more than `available` for `solver` to solve `caller`'s problem."""
    if needed > available:
        raise Insufficient(
            f"{caller}(v=...) has {n_players} players, for which {type(solver).__name__} needs "
            f"{needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are there. {way_out}"
        )
