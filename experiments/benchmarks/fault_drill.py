"""Kill, stop, corrupt and fill up: what a run loses, and what it reads wrongly.

What:      one run of the embedded models is made without a disturbance, and then again and again with one. Whatever was
           on disk when it struck must be there, and not made again, when the same command has gone on; and the finished
           run must be that of the undisturbed one, to the bit.
           kill -9       `andor compare` in a process of its own is killed at a random moment between two results.
           SIGTERM       the same with SIGTERM, which lets the process end by itself.
           two, kill -9  two processes on one run, one of which is killed. Both make what is not there, so a result may
                         be written twice: it must be the same.
           two, SIGSTOP  one of two is stopped; the other must finish without it. Then it is woken or killed.
           shards        two processes with a shard each, one killed; the rest is done by three shards.
           settings      two processes that start at once on one root with different settings: one of them is refused
                         with a line that says what differs, and after the other its command works.
           disk full     every single write of a run fails in turn, with "no space left".
           descriptors   a process goes on with half a run while it may have N files open, for many N: it succeeds or
                         says in a line what it lacks. Then a run can open none from its n-th batch on, for all n.
           corrupt       a file of the finished run is truncated, zeroed or gets a bit flipped, at random; reading must
                         refuse it by name or give what was there. Then the same command mends the run.
           neighbour     another root holds wrong values with right checksums: v negated, v times 1e200, p = 7.5. They
                         must not be read unasked, and with --reuse be refused; right ones are used and named.
           Processes are forked from one that has imported the program, so that they do not take long to start.
Command:   python -m experiments fault_drill [--kills 24] [--corruptions 300] [--seed 0] [--smoke]
Hardware:  2 CPU cores.
Minutes:   10
Expected:  lost 0, wrong 0 in every row.
"""

import collections
import contextlib
import dataclasses
import errno
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import tyro

import andor
from andor.__main__ import main as andor_main
from andor.prompts import DEFAULT_PROMPTS, read_prompts
from andor.runs import cache, files
from andor.runs.run import Run
from andor.show import draw as drawing
from experiments.benchmarks.common import write_prompts

MODELS = ("tiny-llama", "tiny-qwen2")
NOISE, OTHER_NOISE = 0.02, 0.05
TIMES = ("seconds", "made_by")
"""Arrays and numbers that are not the same in two runs."""

IMPORTED = (
    "andor.show.cli", "andor.show.draw", "andor.show.tables", "andor.runs.compare",
    "transformers.models.auto.tokenization_auto",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "fontTools.subset",
)  # fmt: skip
"""What processes need not import. None of it touches a device, which would not survive a fork."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Kill, stop, corrupt and fill up."""

    prompts: int = 4
    """Prompts of a run."""
    players: int = 7
    """Players of a prompt: the first so many."""
    kills: int = 24
    """kill -9; other faults of processes strike a sixth as often."""
    corruptions: int = 300
    descriptors: tuple[int, ...] = (*range(5, 12), 16, 32)
    """Files that a process may have open."""
    most: int = 1000
    """Writes and batches of a run that fail in turn, at most."""
    seed: int = 0
    smoke: bool = False
    """A few faults of each kind on a smaller run."""


@dataclasses.dataclass
class Row:
    """What one kind of fault did.

    Attributes:
      fault: its name.
      injected: how many struck.
      finished: results that were on disk when they struck, summed over faults.
      lost: of these, how many were not there afterwards, or made again.
      wrong: results that were read and were not those of the undisturbed run.
      times: to the finished run after a fault, in seconds.
    """

    fault: str
    injected: int = 0
    finished: int = 0
    lost: int = 0
    wrong: int = 0
    times: list[float] = dataclasses.field(default_factory=list)

    def struck(self, before: dict) -> None:
        """Count a fault, and what was finished when it struck."""
        self.injected += 1
        self.finished += len(before)

    @contextlib.contextmanager
    def resuming(self) -> Iterator[None]:
        """Measures what goes on after a fault."""
        start = time.perf_counter()
        yield
        self.times.append(time.perf_counter() - start)


class Drill:
    """Runs in roots of their own, and the undisturbed one to compare with."""

    def __init__(self, folder: Path, config: Config):
        self.folder, self.config, self.rng = folder, config, np.random.default_rng(config.seed)
        self.models = MODELS[:1] if config.smoke else MODELS
        self.prompts = [
            dataclasses.replace(prompt, players=prompt.players[: config.players])
            for prompt in read_prompts(DEFAULT_PROMPTS)[: config.prompts]
        ]
        self.file = write_prompts(folder / "prompts.jsonl", self.prompts)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(IMPORTED))
        self.roots = 0
        # The first process fills the cache of compilations, for all that follow.
        self.reference = {NOISE: contents(self.finish(self.new())), OTHER_NOISE: None}
        start = time.perf_counter()
        self.finish(root := self.new())
        self.duration, self.results = time.perf_counter() - start, len(results(root))
        self.call(root, noise=OTHER_NOISE)
        self.reference[OTHER_NOISE] = contents(root, OTHER_NOISE)

    def new(self) -> Path:
        """A new root."""
        self.roots += 1
        return self.folder / str(self.roots)

    def start(
        self, root: Path, *options: str, figures: bool = False, descriptors: int | None = None
    ) -> multiprocessing.Process:
        """`andor compare` in a process, which writes into `log_of`."""
        arguments = ["compare", "--models", *self.models, "--prompts", str(self.file), "--out", str(root), *options]
        arguments += ["--noise", str(NOISE)] * ("--noise" not in options)
        process = self.context.Process(target=program, args=(arguments, self.folder, figures, descriptors))
        process.start()
        return process

    def log_of(self, process: multiprocessing.Process) -> str:
        """What a process has said."""
        return log_path(self.folder, process.pid).read_text(errors="replace")

    def finish(self, root: Path, *options: str) -> Path:
        """Give the command and wait for it to end well."""
        process = self.start(root, *options)
        process.join()
        assert process.exitcode == 0, f"the run ended with {process.exitcode}:\n{self.log_of(process)[-2000:]}"
        return root

    def call(self, root: Path, **options) -> Run:
        """The same in this process."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what is damaged and made anew
            return andor.compare(self.models, self.prompts, out=root, **{"noise": NOISE} | options)

    def resumed(
        self, row: Row, root: Path, go_on: Callable[[], object] | None = None, *,
        before: dict | None = None, noises: Sequence[float] = (NOISE,), twice: bool = False,
    ) -> None:  # fmt: skip
        """A fault struck the run of this root: let it go on, by the same call in this process if nothing else is given,
        and count what is lost (`lost`, of what was there `before`, by default now) and wrong."""
        before = finished(root) if before is None else before
        row.struck(before)
        with row.resuming():
            self.call(root) if go_on is None else go_on()
        row.lost += lost(before, root, twice=twice)
        row.wrong += sum(self.wrong(root, noise) for noise in noises)

    def wrong(self, root: Path, noise: float = NOISE) -> int:
        """Results that differ from the undisturbed run's, or are not there; the summary counts as one."""
        found = contents(root, noise)
        return sum(found.get(name) != each for name, each in self.reference[noise].items())


def program(arguments: Sequence[str], logs: Path, figures: bool, descriptors: int | None) -> None:
    """`andor` with these arguments: what a process of a drill does. Figures take longer than all else."""
    log = os.open(log_path(logs, os.getpid()), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if not figures:
        drawing.draw = lambda run, **_: []
        Run.report = lambda run, *_, **__: run.path / "report.html"
    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    sys.argv = ["andor", *arguments]
    sys.exit(andor_main())


def log_path(folder: Path, pid: int) -> Path:
    """Where a process writes what it says."""
    return folder / f"log-{pid}.txt"


def run_of(root: Path, noise: float = NOISE) -> Path:
    """The folder of a run."""
    return root / f"noise-{noise}"


def contents(root: Path, noise: float = NOISE) -> dict[str, object]:
    """Every array and every number of a finished run, as they are read, and v as the root holds it."""
    run = andor.read(run_of(root, noise))
    found: dict[str, object] = {"summary": without_times(run.summary)}
    for key, explanation in run.items():
        values_key = run.recipe.key(*key)
        values, _ = cache.read_values(cache.values_path(root, *key, values_key), values_key)
        for kind, arrays in (("effects", explanation.arrays()), ("values", dataclasses.asdict(values))):
            found[f"{kind} {key}"] = {name: np.asarray(x).tobytes() for name, x in arrays.items() if name not in TIMES}
    return found


def without_times(numbers: object) -> object:
    """Numbers of a summary that are the same in two runs."""
    if isinstance(numbers, dict):
        return {name: without_times(each) for name, each in numbers.items() if name not in TIMES}
    return [without_times(each) for each in numbers] if isinstance(numbers, list) else numbers


Identity = tuple[int, int, bytes]
"""Inode, time of the last change, content of a file: effects that were lost and solved again have the same bytes."""


def results(root: Path) -> list[Path]:
    """Files of v and of explanations."""
    return [path for path in root.glob("*/*/*.npz") if not path.name.startswith(".")]


def finished(root: Path) -> dict[Path, Identity]:
    """Results on disk."""
    states = ((path, path.stat(), path.read_bytes()) for path in results(root))
    return {path: (state.st_ino, state.st_mtime_ns, content) for path, state, content in states}


def lost(before: dict[Path, Identity], root: Path, *, twice: bool = False) -> int:
    """Of results that were on disk, how many are not there any more or were made again; with `twice`, which is for
    processes that do the same at once, or hold other arrays."""
    now = finished(root)
    if not twice:
        return sum(now.get(path) != identity for path, identity in before.items())
    return sum(path not in now or arrays(now[path][2]) != arrays(before[path][2]) for path in before)


def arrays(content: bytes) -> dict[str, bytes]:
    """The arrays of a result that are the same in two runs."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        Path(file.name).write_bytes(content)
        return {name: x.tobytes() for name, x in files.read_arrays(Path(file.name)).items() if name not in TIMES}


def phase(drill: Drill, root: Path) -> str:
    """What a run was at, by the model that it came to last."""
    if not (root / "unfinished.json").exists():
        return "figures" if (run_of(root) / "summary.json").exists() else "begin"
    models = sorted((root / "values").glob("*"), key=lambda folder: folder.stat().st_ctime_ns)
    if not models or len([*models[-1].glob("*.npz")]) < len(drill.prompts):
        return "evaluate"
    solved = len([*(run_of(root) / models[-1].name).glob("*.npz")])
    return "solve" if solved < len(drill.prompts) else "end of a model, summary"


def wait_for(drill: Drill, root: Path, process: multiprocessing.Process) -> bool:
    """Until a random number of results is there, and then a random moment more; or until the process has ended, which
    is then False.

    A random time alone would mostly strike while the program is starting.
    """
    wanted = drill.rng.integers(len(results(root)), drill.results + 1)
    while process.is_alive() and not (root.exists() and len(results(root)) >= wanted):
        time.sleep(0.005)
    process.join(timeout=drill.rng.uniform(0, 0.1))
    return process.is_alive()


def struck(drill: Drill, row: Row, number: int, strike: signal.Signals) -> Row:
    """A process is struck at a random moment, and the same command given again, until so many strikes are done."""
    root, before, phases = drill.new(), {}, collections.Counter()
    while row.injected < number:
        process = drill.start(root, figures=not drill.config.smoke)
        hit = wait_for(drill, root, process)
        if hit:
            phases[phase(drill, root)] += 1
            os.kill(process.pid, strike)
        process.join()
        # SIGTERM that comes before the program listens ends the process as kill does.
        assert process.exitcode in (-strike, 128 + strike, 0), drill.log_of(process)
        row.lost += lost(before, root)  # of what was there at the strike before
        before = finished(root)
        row.injected += hit
        row.finished += hit * len(before)
        # A run goes on from strike to strike while there is something left; now and then it may finish.
        if not hit or len(before) == drill.results or row.injected == number or drill.rng.random() < 0.2:
            with row.resuming():
                drill.finish(root)
            row.lost += lost(before, root)
            row.wrong += drill.wrong(root)
            root, before = drill.new(), {}
    print(f"{row.fault}: struck at {', '.join(f'{at} {count}' for at, count in sorted(phases.items()))}", flush=True)
    return row


def two(drill: Drill, row: Row, number: int, strike: signal.Signals) -> Row:
    """Two processes on one run, one of which is killed, or stopped; the other must finish."""
    while row.injected < number:
        root = drill.new()
        processes = [drill.start(root) for _ in range(2)]
        if not wait_for(drill, root, processes[0]):
            processes[1].join()
            continue
        os.kill(processes[0].pid, strike)
        before = finished(root)
        drill.resumed(row, root, processes[1].join, before=before, twice=True)
        assert processes[1].exitcode == 0, drill.log_of(processes[1])
        if strike == signal.SIGSTOP:
            os.kill(processes[0].pid, signal.SIGKILL if row.injected % 2 else signal.SIGCONT)
        processes[0].join()
        assert processes[0].exitcode in (-signal.SIGKILL, 0), drill.log_of(processes[0])
        row.lost += lost(before, root, twice=True)  # by what was woken
        before = finished(root)
        drill.finish(root)
        row.lost += lost(before, root)
        row.wrong += drill.wrong(root)
    return row


def shards(drill: Drill, row: Row, number: int) -> Row:
    """One of two shards is killed; three shards do the rest."""
    while row.injected < number:
        root = drill.new()
        processes = [drill.start(root, "--shard", f"{index}/2") for index in (1, 2)]
        if not wait_for(drill, root, processes[row.injected % 2]):
            processes[1 - row.injected % 2].join()
            continue
        os.kill(processes[row.injected % 2].pid, signal.SIGKILL)
        before = finished(root)
        for process in processes:
            process.join()
        rest = [f"{index}/3" for index in (1, 2, 3)]
        drill.resumed(row, root, lambda: [drill.call(root, shard=each) for each in rest], before=before)  # noqa: B023
    return row


def settings(drill: Drill, row: Row, number: int) -> Row:
    """Two processes with different settings start at once."""
    noises = (NOISE, OTHER_NOISE)
    for _ in range(number):
        root = drill.new()
        processes = [drill.start(root, "--noise", str(noise)) for noise in noises]
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        assert sorted(codes) == [0, 2], (codes, *map(drill.log_of, processes))
        first, second = codes.index(0), codes.index(2)
        said = drill.log_of(processes[second])
        refusal = f"andor: error: {root} holds an unfinished run with other settings"
        assert said.startswith(refusal) and said.count("\n") == 1, said
        assert f"noise: {noises[first]} -> {noises[second]}" in said, said
        others = "--noise", str(noises[second])
        drill.resumed(row, root, lambda: drill.finish(root, *others), noises=noises)  # noqa: B023
    return row


def disk_full(drill: Drill, row: Row) -> Row:
    """Every write of a run fails in turn."""
    for number in range(drill.config.most):
        root = drill.new()
        try:
            with failing_write(number):
                drill.call(root)
            break  # there are not so many writes
        except OSError as error:
            assert error.errno == errno.ENOSPC and "could not be written" in str(error), error
        drill.resumed(row, root)
        shutil.rmtree(root)
    return row


@contextlib.contextmanager
def failing_write(number: int) -> Iterator[None]:
    """The number-th file from now on finds no room on the disk when it is half written."""
    fsync, count = os.fsync, itertools.count()

    def fails(descriptor: int) -> None:
        if next(count) == number:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with mock.patch.object(os, "fsync", fails):
        yield


def descriptors(drill: Drill, row: Row) -> Row:
    """Half a run goes on in a process that may open few files."""
    half = drill.new()
    with contextlib.suppress(KeyboardInterrupt):
        drill.call(half, progress=lambda *_: stop_at(half, drill.results // 2))
    codes = collections.Counter()
    for limit in drill.config.descriptors:
        root = shutil.copytree(half, drill.new())
        before = finished(root)
        process = drill.start(root, figures=not drill.config.smoke, descriptors=limit)
        process.join()
        said = drill.log_of(process)
        assert process.exitcode in (0, 2) and "Traceback" not in said, f"{limit}, {process.exitcode}: {said}"
        assert process.exitcode == 0 or said.splitlines()[-1].startswith("andor: error: "), (limit, said)
        assert not [*root.rglob("*.damaged")], (limit, said)
        codes["went on" if process.exitcode == 0 else "said what is missing"] += 1
        row.lost += lost(before, root)
        drill.resumed(row, root)
    print(f"{row.fault}: {', '.join(f'{count} {what}' for what, count in codes.items())}", flush=True)
    for batch in range(1, 1 + drill.config.most):
        root = drill.new()
        try:
            with none_left(batch) as progress:
                drill.call(root, progress=progress)
            break  # there are not so many batches
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        assert not [*root.rglob("*.damaged")], batch
        drill.resumed(row, root)
    return row


@contextlib.contextmanager
def none_left(batch: int) -> Iterator[Callable]:
    """A `progress` that takes all descriptors away at the n-th batch, until the context ends."""
    batches, limits = itertools.count(1), resource.getrlimit(resource.RLIMIT_NOFILE)

    def progress(*_) -> None:
        if next(batches) == batch:
            lowest = os.open(os.devnull, os.O_RDONLY)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))

    try:
        yield progress
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def stop_at(root: Path, wanted: int) -> None:
    """Interrupt a call when a root has so many results."""
    if len(results(root)) >= wanted:
        raise KeyboardInterrupt


def corrupt(drill: Drill, row: Row, number: int) -> Row:
    """A file of a finished run is changed; it is read, and mended."""
    whole = drill.finish(drill.new())
    victims = sorted(path for path in whole.rglob("*") if path.suffix in (".npz", ".json"))
    refused = 0
    for _ in range(number):
        path = victims[drill.rng.integers(len(victims))]
        content = path.read_bytes()
        path.write_bytes(damaged(content, drill.rng))
        before = finished(whole)
        before.pop(path, None)
        row.struck(before)
        try:
            row.wrong += drill.wrong(whole)
        except (ValueError, FileNotFoundError) as error:
            assert path.name in str(error), error
            refused += 1
            if refused % 10 == 1:
                with row.resuming():
                    drill.call(whole)  # mends it
                if "values" in path.parts:  # which only another run needs
                    drill.call(whole, noise=OTHER_NOISE)
                    shutil.rmtree(run_of(whole, OTHER_NOISE))
                row.lost += lost(before, whole)
                row.wrong += drill.wrong(whole)
                for aside in whole.rglob("*.damaged"):
                    aside.unlink()
        path.write_bytes(content)
    print(f"{row.fault}: {refused} of {number} refused by name; the others changed no array and no number.", flush=True)
    return row


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file cut off, with a hole, or with one bit flipped."""
    place = int(rng.integers(len(content)))
    kind = rng.choice(["cut", "hole", "bit", "bit", "bit"])
    if kind == "cut":
        return content[:place]
    if kind == "hole":
        return content[:place] + bytes(len(content[place : place + 512])) + content[place + 512 :]
    return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]


def neighbour(drill: Drill, row: Row) -> Row:
    """Wrong values of another root are not believed; right ones are used."""
    other = drill.finish(drill.new())
    paths = sorted((other / "values").glob("*/*.npz"))
    right = {path: path.read_bytes() for path in paths}
    changes = {
        "negated": lambda v, p: (-v, 1 - p),
        "times 1e200": lambda v, p: (1e200 * v, float(v[-1] > 0)),
        "p = 7.5": lambda v, p: (v, 7.5),
    }
    for what, change in changes.items():
        for path in paths[1:]:  # one stays right
            content = files.read_arrays(path)
            v, p = change(content["v"], content["target_probability"].item())
            files.write_arrays(path, content | {"v": v, "target_probability": p})
        before = finished(other)
        unasked = drill.call(drill.new())
        assert unasked.counts["reused"] == 0, what
        with row.resuming():
            run = drill.call(root := drill.new(), reuse=other)
        assert (run.counts["reused"], run.counts["evaluated"]) == (1, len(paths) - 1), (what, run.counts)
        named = [each.origin["made_by"] for each in run.values() if f"taken from {other}" in each.origin["made_by"]]
        assert len(named) == 1, named
        row.injected += len(paths) - 1
        row.finished += len(before)
        row.lost += lost(before, other)
        row.wrong += drill.wrong(unasked.path.parent) + drill.wrong(root)
        for path in paths:
            path.write_bytes(right[path])
    return row


def main(config: Config) -> list[Row]:
    """Run the drills and print the table. Returns its rows."""
    if config.smoke:
        config = dataclasses.replace(config, prompts=2, players=3, kills=1, corruptions=5, descriptors=(8,), most=2)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, JAX_PLATFORMS="cpu"):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder) / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        drill = Drill(Path(folder), config)
        few = max(config.kills // 6, 1)
        print(f"An undisturbed run takes {drill.duration:.1f} s and has {drill.results} results.", flush=True)
        rows = []
        print(f"{'fault':14} {'injected':>9} {'finished':>9} {'lost':>5} {'wrong':>6} {'s to resume':>12}")
        for fault, inject in {
            "kill -9": lambda row: struck(drill, row, config.kills, signal.SIGKILL),
            "SIGTERM": lambda row: struck(drill, row, few, signal.SIGTERM),
            "two, kill -9": lambda row: two(drill, row, few, signal.SIGKILL),
            "two, SIGSTOP": lambda row: two(drill, row, few, signal.SIGSTOP),
            "shards": lambda row: shards(drill, row, few),
            "settings": lambda row: settings(drill, row, few),
            "disk full": lambda row: disk_full(drill, row),
            "descriptors": lambda row: descriptors(drill, row),
            "corrupt": lambda row: corrupt(drill, row, config.corruptions),
            "neighbour": lambda row: neighbour(drill, row),
        }.items():
            row = inject(Row(fault))
            rows.append(row)
            seconds = float(np.mean(row.times)) if row.times else float("nan")
            print(
                f"{row.fault:14} {row.injected:9} {row.finished:9} {row.lost:5} {row.wrong:6} {seconds:12.1f}",
                flush=True,
            )
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes")
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
