"""Ctrl-C (SIGINT) and SIGTERM end the program at once, with one line.

That is as safe as kill -9, and kill -9 is safe for everything written here. A KeyboardInterrupt is not used: it waits
until a compilation or a batch is through, and an import may turn it into another error. So the signals are blocked, and
a thread waits for them.

Standard library only: what is imported later can be interrupted.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable

_what_is_left: Callable[[], str] = str
"""Says in a line what is there when the program ends; "" where nothing is begun."""


def end_at_once() -> None:
    """From now on Ctrl-C and SIGTERM end the process with one line and exit code 130 or 143. Call it before other
    threads begin, which inherit that the signals are blocked."""
    wanted = {signal.SIGINT, signal.SIGTERM}
    # Ignored, as in the background of a shell script: then it stays so.
    heard = {each for each in wanted if signal.getsignal(each) is not signal.SIG_IGN}
    if not heard or not hasattr(signal, "pthread_sigmask"):  # Windows
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    threading.Thread(target=lambda: _end(signal.sigwait(heard)), daemon=True).start()


def say_at_end(what_is_left: Callable[[], str]) -> None:
    """What to say when the program is interrupted from now on."""
    global _what_is_left
    _what_is_left = what_is_left


def _end(number: int) -> None:
    with contextlib.suppress(Exception):  # whatever the program was at, it ends
        threading.Timer(5, os._exit, (128 + number,)).start()  # also where a store does not answer
        word = "interrupted." if number == signal.SIGINT else "terminated."
        line = f"andor: {word} {_what_is_left()}".rstrip() + "\n"
        if os.isatty(2):  # below the progress bars, which have hidden the cursor
            line = f"\n\x1b[?25h{line}"
        os.write(2, line.encode(errors="backslashreplace"))
    os._exit(128 + number)
