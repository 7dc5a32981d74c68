"""Ctrl-C (SIGINT) and SIGTERM: the program ends with one line at once, a run after the prompt it is at.

A KeyboardInterrupt is not used, because it cannot be relied on: an import may turn it into another error, and what is
raised inside a callback of the garbage collector is printed and forgotten. Ending at once is as safe as kill -9, and
that is safe for everything written here.

Standard library only: what is imported later can be interrupted.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Asked:
    """Whether a signal asked to stop: true when called after one came.

    Attributes:
      number: of the signal that came last, None before.
    """

    number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None


def end_when_interrupted() -> None:
    """From now on Ctrl-C ends the process at once, with one line and exit code 130."""

    def end(number: int, _) -> None:
        with contextlib.suppress(Exception):  # a pipe that is closed, or the very write that was interrupted
            sys.stdout.flush()
        _end(number)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell script
        signal.signal(signal.SIGINT, end)


@contextlib.contextmanager
def stop_when_asked(finished: Callable[[], str]) -> Iterator[Asked]:
    """Let the first SIGINT or SIGTERM ask to stop; the second ends the process at once, with exit code 130 or 143.

    Python's own handlers wait until a compilation or a batch is through, which can take a minute. So a thread that the
    signal wakes answers; only what is asked is noted in a handler, so that it is there right after the signal.

    Args:
      finished: says in a line what will be there when the process ends at once; "" where nothing is begun, and then the
        first signal ends it.
    """
    asked = Asked()

    def note(number: int, _) -> None:
        asked.number = number

    def answer() -> None:
        again = False
        while number := reader.recv(1):
            if number[0] not in STOPPING:
                continue
            said = finished()
            if again or not said:
                _end(number[0], said)
            again = True
            print("andor: stopping after this prompt; again to end at once.", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():  # only that one can handle signals
        yield asked
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    listening = [each for each in STOPPING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, note) for each in listening}
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        signal.set_wakeup_fd(woken)
        writer.close()
        thread.join()  # what came is answered
        reader.close()


def _end(number: int, said: str = "") -> None:
    """End the process: one line, past all that Python would still do, of which some waits for threads."""
    word = "interrupted." if number == signal.SIGINT else "terminated."
    line = f"andor: {word} {said}".rstrip() + "\n"
    if os.isatty(2):  # below the progress bars, which have hidden the cursor
        line = f"\n\x1b[?25h{line}"
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="backslashreplace"))
    os._exit(128 + number)
