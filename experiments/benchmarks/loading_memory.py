"""Host memory that loading a checkpoint takes beyond its weights.

What:      a random bfloat16 checkpoint of the shape of Qwen2.5-1.5B (3.1 GB, in files of at most 1 GB with an index) is
           written to a temporary directory and loaded by `andor.load` in a fresh process, whose peak resident memory
           is read. On a CPU the devices' memory is the host's, so the bytes of the weights are subtracted from the
           peak; on an accelerator nothing is. What remains is the interpreter with its libraries, and what loading
           holds at a time. The peak is the kernel's (VmHWM), which counts mapped pages of the files too.
           --model loads a model that is there, a GGUF file for example, instead of the random one.
Command:   python -m experiments loading_memory [--dtype float32] [--untied] [--directory DISK] [--smoke]
           python -m experiments loading_memory --model FILE.gguf --dtype float32
Hardware:  2 CPU cores, 8 GB of memory, 3.1 GB of disk; a minute, most of it for writing.
Expected:  at most the largest tensor (the embedding, 0.47 GB) and 1 GB beyond the weights. It is 0.54 GB, and
           0.98 GB with --untied; 0.43 GB of both are there before loading begins. 6 s, half of it for the checksum.
"""

import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from andor.models import EMBEDDED, FAMILIES, embedded_models, find
from andor.models.config import read_config
from andor.models.weights import weight_table
from experiments.benchmarks.common import python

SETTINGS = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "max_position_embeddings": 131072,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
SMALL = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 5000}

MEASURE = """
import json, sys, time
import jax
import andor, andor.models
import transformers.models.auto.tokenization_auto

def memory(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))

jax.block_until_ready(jax.numpy.zeros(1))
before, start = memory("VmRSS"), time.perf_counter()
model = andor.load(sys.argv[1], dtype=sys.argv[2])
seconds, peak = time.perf_counter() - start, memory("VmHWM")
on_host = jax.default_backend() == "cpu"
print(json.dumps({
    "parameters": model.parameters,
    "seconds": seconds,
    "before loading": before,
    "peak": peak,
    "weights": on_host * model.parameters * model.dtype.itemsize,
}))
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """What to load.

    Attributes:
      model: what `andor.load` is given; by default a random checkpoint that is written first.
      dtype: what `andor.load` converts to.
      file_bytes: size of a file of the checkpoint, about.
      untied: with a head of its own, the worst case: as large as any tensor, and loaded when the others are there.
      directory: where to write it, on a disk; by default the system's temporary directory.
      seed: of the weights.
      smoke: a very small checkpoint, numbers without meaning.
    """

    model: str | None = None
    dtype: str = "bfloat16"
    file_bytes: int = 10**9
    untied: bool = False
    directory: Path | None = None
    seed: int = 0
    smoke: bool = False


def write_checkpoint(folder: Path, settings: dict, file_bytes: int, seed: int) -> None:
    """A random checkpoint in the layout of the hub."""
    family = FAMILIES[settings["model_type"]]
    config = read_config(settings, family)
    rng = np.random.default_rng(seed)
    sizes = config.axis_sizes()

    def files() -> Iterator[dict[str, np.ndarray]]:
        part: dict[str, np.ndarray] = {}
        for name, row in weight_table(config, family).items():
            # Norms near 1 and the rest small, as in a network that was initialised and not yet trained.
            value = 0.02 * rng.standard_normal(row.hf_shape(sizes), np.float32) + name.endswith("norm.weight")
            part[name] = value.astype(ml_dtypes.bfloat16)
            if sum(each.nbytes for each in part.values()) >= file_bytes:
                yield part
                part = {}
        if part:
            yield part

    weight_map = {}
    for number, part in enumerate(files(), 1):
        file = f"model-{number:05}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json"):  # any: nothing is evaluated
        shutil.copy(EMBEDDED / embedded_models()[0] / name, folder)


def measure(name: str, dtype: str) -> dict[str, float]:
    """Load a model in a process of its own; bytes and seconds."""
    found = find(name)
    results = python("-c", MEASURE, name, dtype)
    sizes, rows = found.config.axis_sizes(), weight_table(found.config, found.family).values()
    itemsize = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).itemsize
    return results | {
        "expected parameters": found.parameters,
        "beyond the weights": results["peak"] - results["weights"],
        "largest tensor": max(int(np.prod(row.hf_shape(sizes))) for row in rows) * itemsize,
    }


def main(config: Config) -> dict[str, float]:
    """Print the measurement; returns it, in bytes and seconds."""
    if not Path("/proc/self/status").exists():
        print("the peak of a process is read from /proc, which is Linux's", file=sys.stderr)
        return {}
    if config.model is not None:
        what, results = config.model, measure(config.model, config.dtype)
    else:
        settings = {**SETTINGS, **(SMALL if config.smoke else {}), "tie_word_embeddings": not config.untied}
        with tempfile.TemporaryDirectory(dir=config.directory) as name:
            write_checkpoint(Path(name), settings, 200_000 if config.smoke else config.file_bytes, config.seed)
            files = [file.stat().st_size for file in Path(name).glob("*.safetensors")]
            what, results = f"{len(files)} files, {sum(files) / 1e9:.2f} GB", measure(name, config.dtype)
    print(f"{what}, {results['parameters']:,} parameters in {config.dtype}")
    print(f"loaded in {results['seconds']:.1f} s")
    for label in ("peak", "weights", "beyond the weights", "before loading", "largest tensor"):
        print(f"{label:20}{results[label] / 1e9:6.2f} GB")
    return results
