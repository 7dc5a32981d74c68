"""What benchmarks share: tables in Markdown, processes of their own to measure in, files of prompts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from andor.prompts import Prompt

ONE_THREAD = {  # and every program is compiled there
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}
"""Environment of a process that is to compute on one thread."""


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def python(*arguments: str, environment: Mapping[str, str] = os.environ) -> dict:
    """What Python with these arguments prints last, which is JSON, and the `process_seconds` that it took.

    Args:
      arguments: "-m" or "-c" and what follows. The package is found from any working directory.
      environment: what is set besides this process's.

    Raises:
      RuntimeError: the process failed, with what it said.
    """
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2])]))
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, check=False, env=os.environ | environment | {"PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed:\n{done.stderr}")
    return {"process_seconds": time.perf_counter() - start} | json.loads(done.stdout.splitlines()[-1])


def cpu_timed(function: Callable, *arguments: object) -> tuple:
    """(result, seconds of CPU time, of all threads together) of a call."""
    start = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - start


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> Path:
    """A file that `andor.read_prompts` reads."""
    fields = ("id", "text", "players", "target")
    lines = [json.dumps({field: getattr(prompt, field) for field in fields}) for prompt in prompts]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
