"""Kill, corrupt and fill up: what a run loses, and what it reads wrongly.

What:      one run of the embedded models is made without a disturbance, and then again and again with one.
           kill -9    `andor compare` in a process of its own is killed at a random moment between two results, and the
                      same command given again, until so many kills have struck; whatever was finished before a kill
                      must be there, and not made again, after it, and the finished run must be that of the
                      undisturbed one, to the bit.
           two, kill  the same with two processes on one run, one of which is killed.
           SIGTERM    the same with SIGTERM, which lets the process end by itself.
           disk full  every single write of a run fails in turn, with "no space left", and the same call is made again.
           corrupt    a file of the finished run is truncated, zeroed or gets a bit flipped, at random; reading must
                      refuse it by name or give what was there. Then the same command mends the run.
Command:   python -m experiments fault_drill [--kills 50] [--corruptions 300] [--seed 0] [--smoke]
Hardware:  2 CPU cores.
Minutes:   20
Expected:  lost 0, wrong 0 in every row.
"""

import collections
import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tyro

from andor.prompts import DEFAULT_PROMPTS, read_prompts
from andor.runs import compare as comparison
from andor.runs import files, store

MODELS = ("tiny-llama", "tiny-qwen2")
TIMES = ("seconds", "made_by")
"""Arrays and numbers that are not the same in two runs."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Kill, corrupt and fill up."""

    prompts: int = 4
    """Prompts of a run."""
    players: int = 7
    """Players of a prompt: the first so many."""
    kills: int = 50
    corruptions: int = 300
    seed: int = 0
    smoke: bool = False
    """A few faults of each kind on a smaller run."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one kind of fault did.

    Attributes:
      fault: its name.
      injected: how many struck.
      finished: results that were on disk when they struck, summed over faults.
      lost: of these, how many were not there afterwards, or not the same.
      wrong: results that were read and were not those of the undisturbed run.
      seconds: to the finished run after a fault, mean (start of the process included where there is one).
    """

    fault: str
    injected: int
    finished: int
    lost: int
    wrong: int
    seconds: float


class Drill:
    """Runs in a folder of their own, and the undisturbed one to compare with."""

    def __init__(self, folder: Path, config: Config):
        self.folder, self.config, self.rng = folder, config, np.random.default_rng(config.seed)
        self.models = MODELS[:1] if config.smoke else MODELS
        self.prompts = [
            dataclasses.replace(prompt, players=prompt.players[: config.players])
            for prompt in read_prompts(DEFAULT_PROMPTS)[: config.prompts]
        ]
        self.file = folder / "prompts.jsonl"
        lines = [
            json.dumps({"id": p.id, "text": p.text, "players": p.players, "target": p.target}) for p in self.prompts
        ]
        self.file.write_text("\n".join(lines))
        self.runs = 0
        start = time.perf_counter()
        # The first fills the cache of compilations, for all that follow.
        self.reference, self.summary = self.contents(self.finish(self.new()))
        start = time.perf_counter()
        self.finish(self.new())
        self.duration = time.perf_counter() - start

    def new(self) -> Path:
        """The directory of a new run, in a folder of its own: nothing is taken from runs beside it."""
        self.runs += 1
        return self.folder / str(self.runs) / "run"

    def start(self, out: Path) -> subprocess.Popen:
        """`andor compare` in a process."""
        command = [
            sys.executable,
            "-m",
            "andor",
            "compare",
            "--models",
            *self.models,
            "--prompts",
            str(self.file),
        ]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        log = (self.folder / "log.txt").open("ab")
        with log:
            return subprocess.Popen([*command, "--out", str(out)], env=environment, stdout=log, stderr=log)

    def finish(self, out: Path) -> Path:
        """Give the command and wait for it to end well."""
        code = self.start(out).wait()
        if code:
            raise RuntimeError(f"the run ended with {code}:\n{(self.folder / 'log.txt').read_text()[-2000:]}")
        return out

    def call(self, out: Path) -> None:
        """The same in this process."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what is damaged and made anew
            comparison.compare(self.models, self.prompts, out=out)

    def contents(self, run: Path) -> tuple[dict[str, dict[str, bytes]], dict]:
        """Every array and every number of a finished run, as they are read."""
        read = store.read_run(run)
        arrays = {
            f"{kind} {model} {prompt}": {
                name: np.asarray(x).tobytes() for name, x in dataclasses.asdict(each).items() if name not in TIMES
            }
            for kind, results in (("values", read.values), ("effects", read.effects))
            for model, of_model in results.items()
            for prompt, each in of_model.items()
        }
        return arrays, without_times(read.summary)

    def wrong(self, run: Path) -> int:
        """Results that differ from the undisturbed run's, or are not there; the summary counts as one."""
        read, summary = self.contents(run)
        return sum(read.get(name) != arrays for name, arrays in self.reference.items()) + (summary != self.summary)


def without_times(numbers: object) -> object:
    """Numbers of a summary that are the same in two runs."""
    if isinstance(numbers, dict):
        return {name: without_times(each) for name, each in numbers.items() if name not in TIMES}
    return [without_times(each) for each in numbers] if isinstance(numbers, list) else numbers


Identity = tuple[int, int, bytes]
"""Inode, time of the last change, content of a file: effects that were lost and solved again have the same bytes."""


def finished(run: Path) -> dict[Path, Identity]:
    """Results on disk."""
    found = {}
    for path in run.glob("*/*/*.npz"):
        if not path.name.startswith("."):
            state = path.stat()
            found[path] = (state.st_ino, state.st_mtime_ns, path.read_bytes())
    return found


def lost(before: dict[Path, Identity], run: Path) -> int:
    """Of results that were on disk, how many are not there any more or were made again."""
    now = finished(run)
    return sum(now.get(path) != identity for path, identity in before.items())


def phase(run: Path, prompts: int) -> str:
    """What a run of so many prompts was at, by the model that it came to last."""
    if not (run / "settings.json").exists():
        return "begin"
    models = sorted((run / "values").glob("*"), key=lambda folder: folder.stat().st_ctime_ns)
    if not models or len([*models[-1].glob("*.npz")]) < prompts:
        return "evaluate"
    solved = len([*(run / "effects" / models[-1].name).glob("*.npz")])
    return "solve" if solved < prompts else "end of a model, summary, figures"


def wait_for(drill: Drill, out: Path, process: subprocess.Popen) -> None:
    """Until a random number of results is there, and then a random moment more; or until the process has ended.

    A random time alone would mostly strike while Python is starting.
    """
    there = len(finished(out))
    wanted = drill.rng.integers(there, len(drill.reference) + 1)
    while process.poll() is None and (not (out / "settings.json").exists() or len(finished(out)) < wanted):
        time.sleep(0.005)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=drill.rng.uniform(0, 0.1))


def struck(drill: Drill, name: str, number: int, with_signal: signal.Signals, processes: int) -> Row:
    """Processes on one run, one of them struck at a random moment, until it is finished; so many strikes in all."""
    row, out, times, before = Row(name, 0, 0, 0, 0, 0.0), drill.new(), [], {}
    phases = collections.Counter()
    while row.injected < number:
        started = [drill.start(out) for _ in range(processes)]
        wait_for(drill, out, started[0])
        hit = started[0].poll() is None
        if hit:
            started[0].send_signal(with_signal)
            at = phase(out, len(drill.prompts))
        now = finished(out)
        row = dataclasses.replace(row, lost=row.lost + lost(before, out))  # of what was there at the strike before
        before = now
        codes = [process.wait() for process in started]
        if hit:
            # SIGTERM that comes before Python listens ends the process as kill does.
            assert codes[0] in (-with_signal, 128 + with_signal, 0), codes
            phases[at] += 1
            row = dataclasses.replace(row, injected=row.injected + 1, finished=row.finished + len(before))
        # A run goes on from strike to strike while there is something left; now and then it may finish.
        nothing_left = len(before) == len(drill.reference)
        if not hit or nothing_left or row.injected == number or drill.rng.random() < 0.2:
            begun = time.perf_counter()
            drill.finish(out)
            times.append(time.perf_counter() - begun)
            row = dataclasses.replace(row, lost=row.lost + lost(before, out), wrong=row.wrong + drill.wrong(out))
            out, before = drill.new(), {}
    print(f"{name}: struck at {', '.join(f'{at} {count}' for at, count in sorted(phases.items()))}", flush=True)
    return dataclasses.replace(row, seconds=float(np.mean(times)))


def disk_full(drill: Drill) -> Row:
    """Every write of a run fails in turn."""
    row, times, number = Row("disk full", 0, 0, 0, 0, 0.0), [], 0
    while True:
        out = drill.new()
        try:
            with failing_write(number):
                drill.call(out)
            break  # there are not so many writes
        except (OSError, ValueError) as error:  # of the very first, it is the run that cannot be made
            assert "No space left" in str(error), error
        before, begun = finished(out), time.perf_counter()
        drill.call(out)
        times.append(time.perf_counter() - begun)
        row = dataclasses.replace(
            row,
            injected=row.injected + 1,
            finished=row.finished + len(before),
            lost=row.lost + lost(before, out),
            wrong=row.wrong + drill.wrong(out),
        )
        number += 1
        shutil.rmtree(out.parent)
    return dataclasses.replace(row, seconds=float(np.mean(times)))


@contextlib.contextmanager
def failing_write(number: int) -> Iterator[None]:
    """The number-th file from now on finds no room on the disk when it is half written."""
    replace, count = files.replace, 0

    def fails(path: Path, write: Callable) -> None:
        nonlocal count
        count += 1
        replace(path, write if count != number + 1 else lambda file: half(file, write))

    def half(file, write: Callable) -> None:
        write(file)
        file.truncate(file.tell() // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.replace = fails
    try:
        yield
    finally:
        files.replace = replace


def corrupt(drill: Drill, number: int) -> Row:
    """A file of a finished run is changed; it is read, and mended."""
    whole, row, times = drill.finish(drill.new()), Row("corrupt", 0, 0, 0, 0, 0.0), []
    victims = sorted(path for path in whole.rglob("*") if path.suffix in (".npz", ".json"))
    victims = [path for path in victims if path.parent.name != "processes"]  # which nothing reads
    refused = []
    for index in range(number):
        path = victims[drill.rng.integers(len(victims))]
        content = path.read_bytes()
        path.write_bytes(damaged(content, drill.rng))
        before = finished(whole)
        before.pop(path, None)
        try:
            read_wrong = drill.wrong(whole)
        except (ValueError, FileNotFoundError) as error:
            assert path.name in str(error), error
            read_wrong = 0
            refused.append(path)
        row = dataclasses.replace(
            row, injected=row.injected + 1, finished=row.finished + len(before), wrong=row.wrong + read_wrong
        )
        if path in refused[-1:] and path.name != "settings.json" and index % 20 == 0:
            begun = time.perf_counter()
            drill.call(whole)  # mends it
            times.append(time.perf_counter() - begun)
            row = dataclasses.replace(row, lost=row.lost + lost(before, whole), wrong=row.wrong + drill.wrong(whole))
        path.write_bytes(content)
    print(f"corrupt: {len(refused)} of {number} were refused by name; the others changed no array and no number.")
    return dataclasses.replace(row, seconds=float(np.mean(times)) if times else float("nan"))


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file cut off, with a hole, or with one bit flipped."""
    place = int(rng.integers(len(content)))
    kind = rng.choice(["cut", "hole", "bit", "bit", "bit"])
    if kind == "cut":
        return content[:place]
    if kind == "hole":
        return content[:place] + bytes(len(content[place : place + 512])) + content[place + 512 :]
    return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]


def main(config: Config) -> list[Row]:
    """Run the drills and print the table. Returns its rows."""
    if config.smoke:
        config = dataclasses.replace(config, prompts=2, players=3, kills=1, corruptions=20)
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder), config)
        few = max(config.kills // 10, 1)
        print(f"An undisturbed run takes {drill.duration:.1f} s and has {len(drill.reference)} results.")
        rows = [
            struck(drill, "kill -9", config.kills, signal.SIGKILL, 1),
            struck(drill, "two, kill -9", few, signal.SIGKILL, 2),
            struck(drill, "SIGTERM", few, signal.SIGTERM, 1),
            disk_full(drill),
            corrupt(drill, config.corruptions),
        ]
    print(f"{'fault':14} {'injected':>9} {'finished':>9} {'lost':>5} {'wrong':>6} {'s to resume':>12}")
    for row in rows:
        print(
            f"{row.fault:14} {row.injected:9} {row.finished:9} {row.lost:5} {row.wrong:6} {row.seconds:12.1f}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
