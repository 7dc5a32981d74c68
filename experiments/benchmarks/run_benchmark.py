"""What a run costs beside evaluating and solving: memory, the second start, calls, reads and writes.

What:      the two embedded models on many short prompts. The first process makes the run, and its memory is read after
           every batch; the same command is then given again, when there is nothing left to do, and its time divided
           into imports, looking up what is there, and the rest (tables, figures that are there, Python itself). Then a
           run of 2 models on 2 prompts is made in a process that has made one before, and counted: calls of a function
           of one module of andor by another, files opened for reading, files put into their place, and fsyncs.
Command:   python -m experiments run_benchmark [--prompts 200] [--players 6] [--smoke]
Hardware:  2 CPU cores.
Minutes:   2
Expected:  memory grows by less than 0.1 GB from a tenth of a model's prompts to the last (0.06 GB; 0.2 GB from model to
           model); the second start takes less than 8 s (7.7 s), most of it imports.
"""

import dataclasses
import tempfile
from pathlib import Path

import tyro

from andor.prompts import DEFAULT_PROMPTS, Prompt, read_prompts
from experiments.benchmarks.common import python, write_prompts

MODELS = ("tiny-llama", "tiny-qwen2")

FIRST = """
import json, sys
import andor

def resident(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))

course = []
models, prompts, out = sys.argv[1].split(), andor.read_prompts(sys.argv[2]), sys.argv[3]
andor.compare(models, prompts, out=out, progress=lambda *at: course.append((*at, resident("VmRSS"))))
print(json.dumps({"course": course, "peak": resident("VmHWM")}))
"""

SECOND = """
import builtins, importlib, json, sys, time

depth, importing = 0, 0.0

def timed(imports):
    def run(*arguments, **options):
        global depth, importing
        start, depth = time.perf_counter(), depth + 1
        try:
            return imports(*arguments, **options)
        finally:
            depth -= 1
            importing += (time.perf_counter() - start) * (depth == 0)
    return run

builtins.__import__, importlib.import_module = timed(builtins.__import__), timed(importlib.import_module)
from andor.show import cli
from andor.runs import compare as module

def compare(*arguments, **options):
    global looking
    start, before = time.perf_counter(), importing
    try:
        return original(*arguments, **options)
    finally:
        looking = time.perf_counter() - start - (importing - before)

original, module.compare = module.compare, compare
code = cli.main(sys.argv[1:])
print(json.dumps({"code": code, "imports": importing, "looking up": looking}))
"""

COUNT = """
import collections, json, os, stat, sys
import andor

models, prompts, out = sys.argv[1].split(), andor.read_prompts(sys.argv[2]), sys.argv[3]
counts = collections.Counter()

def on_call(frame, event, _):
    if event == "call" and frame.f_back is not None:
        called, caller = (each.f_globals.get("__name__") or "" for each in (frame, frame.f_back))
        if called != caller and called.startswith("andor") and caller.startswith("andor"):
            counts["calls between modules"] += 1

def on_event(event, arguments):
    if not counting:
        return
    if event == "open" and str(arguments[0]).startswith(out) and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        name = str(arguments[0])
        counts["reads of results" if name.endswith(".npz") else "reads of other files"] += os.path.isfile(name)
    if event in ("os.rename", "os.link") and str(arguments[1]).startswith(out):
        counts["writes"] += 1

def fsync(descriptor):
    counts["fsyncs of folders" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsyncs of files"] += counting
    original(descriptor)

original, os.fsync, counting = os.fsync, fsync, False
sys.addaudithook(on_event)
andor.compare(models, prompts, out=out + "/warm/run")  # what is imported and compiled now is not later
found = {}
for what in ("first start", "second start"):
    counts.clear()
    counting = True
    sys.setprofile(on_call)
    andor.compare(models, prompts, out=out + "/counted/run")
    sys.setprofile(None)
    counting = False
    found[what] = dict(counts)
print(json.dumps(found))
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """What a run costs beside evaluating and solving.

    Attributes:
      prompts: of the run whose memory and second start are measured.
      players: of each.
      smoke: few prompts, numbers without meaning.
    """

    prompts: int = 200
    players: int = 6
    smoke: bool = False


def prompts_of(number: int, players: int) -> list[Prompt]:
    """The prompts of the package, again and again, each time with other players."""
    found, shipped = [], read_prompts(DEFAULT_PROMPTS)
    for index in range(number):
        prompt, turn = shipped[index % len(shipped)], index // len(shipped)
        chosen = sorted((turn + place) % prompt.n_players for place in range(players))
        spans = [prompt.players[place] for place in chosen]
        found.append(dataclasses.replace(prompt, players=spans, id=f"{prompt.id}-{turn}"))
    return found


def memory(course: list, peak: int) -> dict[str, int]:
    """Bytes of the process after a tenth, half and all of the prompts of each model were evaluated, and at most."""
    found = {}
    for model in dict.fromkeys(model for _, model, *_ in course):
        mine = [each[2:] for each in course if each[:2] == ["evaluate", model]]
        for share in (0.1, 0.5, 1.0):
            found[f"{model}, {share:.0%} evaluated"] = next(size for done, total, size in mine if done / total >= share)
    return found | {"peak": peak}


def main(config: Config) -> dict[str, dict]:
    """Measure and print; returns the numbers by what they are of."""
    if config.smoke:
        config = dataclasses.replace(config, prompts=2, players=2)
    models = " ".join(MODELS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = write_prompts(folder / "many.jsonl", prompts_of(config.prompts, config.players))
        few = write_prompts(folder / "few.jsonl", prompts_of(2, config.players))
        out = str(folder / "root")
        first = python("-c", FIRST, models, str(many), out)
        command = ["compare", "--models", *MODELS, "--prompts", str(many), "--out", out]
        python("-c", SECOND, *command)  # draws the figures
        second = python("-c", SECOND, *command)
        counts = python("-c", COUNT, models, str(few), str(folder / "counted"))
    second["seconds"] = second.pop("process_seconds")
    second["rest"] = second["seconds"] - second["imports"] - second["looking up"]
    results = {"memory": memory(first["course"], first["peak"]), "second": second}
    results |= {what: counts[what] for what in ("first start", "second start")}
    print(f"{config.prompts} prompts of {config.players} players, {models}: {first['process_seconds']:.0f} s")
    for what, size in results["memory"].items():
        print(f"  {what:32}{size / 1e9:6.2f} GB")
    print("the same command again, nothing to do:")
    for what in ("seconds", "imports", "looking up", "rest"):
        print(f"  {what:32}{second[what]:6.1f} s")
    for start in ("first start", "second start"):
        print(f"2 prompts, {start}:")
        for what, count in sorted(results[start].items()):
            print(f"  {what:32}{count:6,}")
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
