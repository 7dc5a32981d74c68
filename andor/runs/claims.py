"""Several processes on one run: who works on what.

A claim is a lock on a file, held by the operating system for as long as the process lives: a process that is killed
holds nothing any more, on every host that shares the file system, and no clock is involved. The file says who has it,
for people to read; whoever can lock it has it, whatever it says. Where a file system
knows no locks every claim succeeds: work may then be done twice, and as files are written whole and are the same
whoever writes them, nothing worse.
"""

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from andor.runs import files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

POLL = 0.1
"""Seconds between two tries to take what somebody else has."""

PATIENCE = 30.0
"""Seconds of waiting before a word is said."""

SILENCE = 600.0
"""Seconds between two words."""


class Patience:
    """Says what is waited for when that takes long, and not too often."""

    def __init__(self):
        self._since, self._said = time.monotonic(), float("-inf")

    def restart(self) -> None:
        """It goes on: what is waited for next is something else."""
        self._since = time.monotonic()

    def waited(self, what: Callable[[], str]) -> None:
        """To be called while waiting; `what` is asked when it is time for a word."""
        now = time.monotonic()
        if now - self._since >= PATIENCE and now - self._said >= SILENCE:
            self._said = now
            warnings.warn(
                f"waiting since {now - self._since:.0f} s: {what()}. If that process does nothing any more, end it: "
                "what it has is then free, and this one goes on.",
                stacklevel=3,
            )


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


def path_of(run: Path, result: Path) -> Path:
    """The file that is locked by who works on a file of a run."""
    return run / "claims" / result.relative_to(run).with_suffix("")


def claim(path: Path) -> Claim | None:
    """Take a claim; None if another process has it.

    Args:
      path: names what is claimed, in a folder for claims.

    Raises:
      OSError: the file cannot be made; says what to do.
    """
    while True:
        files.make_folder(path.parent, sync=False)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        except OSError as error:
            raise files.not_written(path, error) from error
        locked = _lock(descriptor)
        if locked is False:
            os.close(descriptor)
            return None
        if _is(path, descriptor):
            _sign(descriptor)
            return Claim(path, descriptor, exclusive=locked is True)
        os.close(descriptor)  # its last holder has removed it since


def holder(path: Path) -> str:
    """Who has a claim, as its file says."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200].strip() or "another process"
    except OSError:  # it was given back, or cannot be read
        return "another process"


def _sign(descriptor: int) -> None:
    """Write down who has it; a full disk is no reason to have nothing."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())


def _lock(descriptor: int) -> bool | None:
    """Whether the lock was taken; None where there are none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def sweep(run: Path) -> None:
    """Remove the folders of claims that nobody has any more."""
    for folder, _, _ in os.walk(run / "claims", topdown=False):
        with contextlib.suppress(OSError):  # another process has claimed something
            os.rmdir(folder)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Wait for a claim, and hold it."""
    patience = Patience()
    while (held := claim(path)) is None:
        patience.waited(lambda: f"{path.name!r} is claimed by {holder(path)}")
        time.sleep(POLL)
    try:
        yield
    finally:
        held.release()
