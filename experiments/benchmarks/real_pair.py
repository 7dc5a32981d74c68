"""The real pair, as far as it goes without its weights: full width, few layers, `andor compare` from end to end.

What:      for each directory with the config.json and the tokenizer of a checkpoint (hidden size, heads, vocabulary and
           rope as published), a checkpoint with the first `layers` layers and random bfloat16 weights is written to a
           temporary directory; `andor plan` and `andor compare` run on them as on any other. What the effects are means
           nothing; that tokens, players, loading, evaluation, solver, tables and figures fit together does.
Command:   python -m experiments real_pair --models QWEN2.5-7B-DIR DEEPSEEK-R1-DISTILL-LLAMA-8B-DIR [--layers 2]
           GPU: --layers 28 32 for the whole architectures (32 GB of disk)
Hardware:  2 CPU cores: 7 GB of disk, 12 GB of memory, about 5 minutes at 2 layers. Without --models, the embedded
           models' configs stand in (seconds).
Expected:  every solution certified to 1e-6; seconds and memory per prompt are printed.
"""

import dataclasses
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from andor.models import EMBEDDED
from andor.runs.run import Run, read
from experiments.benchmarks.loading_memory import write_checkpoint

TEXT = "The film is not good, but it is never dull and its cast is quietly wonderful. In one word, the review is"


@dataclasses.dataclass(frozen=True)
class Config:
    """What to compare.

    Attributes:
      models: directories with config.json and tokenizer, with or without weights.
      layers: layers of each; one number for all, or one per model.
      text: the prompt; its last 10 content words are the players.
      players: words of it instead.
      chat: also run it wrapped with the models' chat templates.
      out: directory for the runs; by default they are thrown away.
      dtype: what to run in.
      smoke: three players.
    """

    models: tuple[Path, ...] = (EMBEDDED / "tiny-qwen2", EMBEDDED / "tiny-llama")
    layers: tuple[int, ...] = (2,)
    text: str = TEXT
    players: tuple[str, ...] = ()
    chat: bool = False
    out: Path | None = None
    dtype: str = "auto"
    smoke: bool = False


def cut(source: Path, folder: Path, layers: int) -> None:
    """A random checkpoint in `folder`: the architecture and tokenizer of `source` with so many layers."""
    folder.mkdir(parents=True)
    settings = json.loads((source / "config.json").read_text())
    settings["num_hidden_layers"] = layers
    if "layer_types" in settings:
        settings["layer_types"] = settings["layer_types"][:layers]
    write_checkpoint(folder, settings, 2 * 10**9, seed=layers)
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".txt") and "index" not in file.name and file.name != "config.json":
            shutil.copy(file, folder)


def andor_command(*arguments: str) -> str:
    """Run the command line in a process of its own and print what it prints."""
    done = subprocess.run([sys.executable, "-m", "andor", *arguments], capture_output=True, text=True, check=False)
    print(done.stdout, flush=True)
    if done.returncode:
        raise RuntimeError(f"andor {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def main(config: Config) -> list[Run]:
    """Plan and compare; returns the runs."""
    layers = config.layers * len(config.models) if len(config.layers) == 1 else config.layers
    players = config.players or (("film", "dull", "cast") if config.smoke else ())
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / source.name for source in config.models]
        for source, folder, count in zip(config.models, folders, layers, strict=True):
            cut(source, folder, count)
        prompt = ["--prompt", config.text, *(["--players", *players] if players else [])]
        for folder in folders:
            andor_command("plan", str(folder), *prompt, "--dtype", config.dtype)
        for chat in (False, True)[: 1 + config.chat]:
            out = (config.out or Path(temporary)) / ("chat" if chat else "plain")
            start = time.perf_counter()
            names = [str(folder) for folder in folders]
            andor_command(
                "compare", "--models", *names, *prompt, "--dtype", config.dtype, "--out", str(out), *["--chat"] * chat
            )
            seconds, run = time.perf_counter() - start, read(out)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
            runs.append(run)
            for name in run.models:
                values, gap = run[name, "prompt"].values, run[name, "prompt"].solution.gap
                finite = np.isfinite(values.v).all()
                print(
                    f"{Path(name).name}: {values.tokens_evaluated:,} tokens in {values.seconds:.1f} s, certified gap "
                    f"{gap:.1e}, v {'finite' if finite else 'NOT FINITE'}"
                )
            print(f"{seconds:.0f} s in all, peak memory of a process {peak / 1e9:.1f} GB")
    return runs
