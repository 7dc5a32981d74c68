"""Several processes on one run: who works on what.

A claim is a lock on an empty file, held by the operating system for as long as the process lives: a process that is
killed holds nothing any more, on every host that shares the file system, and no clock is involved. Where a file system
knows no locks every claim succeeds: work may then be done twice, and as files are written whole and are the same
whoever writes them, nothing worse.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Claim:
    """A lock on a file, which `claim` takes and `release` gives back.

    Attributes:
      exclusive: false where the file system knows no locks, so that others may hold the same.
    """

    def __init__(self, path: Path, descriptor: int, exclusive: bool):
        self.exclusive = exclusive
        self._path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let others have it, once. The file goes: what was claimed is finished, or free again."""
        # Removed before it is unlocked, so that nobody else's lock is removed.
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a folder that has become read-only
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None


def claim(path: Path, *, wait: bool = False) -> Claim | None:
    """Take a claim; None if another process has it.

    Args:
      path: names what is claimed, in a folder for claims.
      wait: until it is free.

    Raises:
      OSError: the file cannot be made.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        locked = _lock(descriptor, wait)
        if locked is False:
            os.close(descriptor)
            return None
        if _is(path, descriptor):
            return Claim(path, descriptor, exclusive=locked is True)
        os.close(descriptor)  # its last holder has removed it since


def _lock(descriptor: int, wait: bool) -> bool | None:
    """Whether the lock was taken; None where there are none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system
        return None
    return True


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Wait for a claim, and hold it."""
    held = claim(path, wait=True)
    try:
        yield
    finally:
        held.release()
