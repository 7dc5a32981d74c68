"""Weights in files on disk (safetensors, GGUF) <-> a `Decoder`, checked both ways.

A family module (`llama.py`, `qwen2.py`, ...) is data: the config keys it handles, and its weight table. The work is
here and in `andor.models.config`.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from andor.devices.mesh import sharding
from andor.models.config import read_json
from andor.models.decoder import Decoder, DecoderConfig
from andor.models.family import HEAD, Family, WeightRow
from andor.models.hub import INDEX, ONE_FILE, check_no_gguf, is_gguf, source, split_files
from andor.models.tensors import StoredTensor, misfits, stored_tensors

BUFFERS = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb(_local)?\.\w+")
"""What old checkpoints store although it follows from the config: RoPE frequencies, of each layer or of all."""

EMBEDDINGS = "model.embed_tokens.weight"

PICKLES = ("pytorch_model*.bin", "pytorch_model*.bin.index.json", "consolidated*.pth", "consolidated*.pt", "*.ckpt")


def weight_table(config: DecoderConfig, family: Family) -> dict[str, WeightRow]:
    """Every tensor that the checkpoint must hold: HF name -> row. The head is absent when it is tied."""
    rows = [*family.weights] if config.tied_head else [*family.weights, HEAD]
    return {
        row.name.format(layer=layer): row
        for row in rows
        for layer in (range(config.num_layers) if "{layer}" in row.name else [0])
    }


@functools.cache  # tracing takes up to a tenth of a second for each layer, and `parameters` asks again and again
def abstract_decoder(config: DecoderConfig, dtype) -> tuple[nnx.GraphDef, nnx.State]:
    """Graph and shapes of a decoder without allocating its weights."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(0))))


def count_parameters(config: DecoderConfig) -> int:
    """Number of weights of a decoder, without allocating them."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_decoder(config, jnp.bfloat16)[1]))


def load_decoder(
    folder: Path, config: DecoderConfig, family: Family, dtype, mesh: jax.sharding.Mesh | None = None
) -> Decoder:
    """Fill a decoder from the files of `folder`, or a GGUF file, slice by slice, each onto its device of the mesh.

    Beside what is on the devices, the host holds one tensor at a time: of it, what its own devices need.

    Raises:
      ValueError: tensors are unknown, missing, duplicated, mis-shaped, not floating point, or not where the index says;
        one error lists them all. Or the checkpoint is pickled, or the mesh does not divide an axis.
      FileNotFoundError: there is no safetensors file, or a shard that the index names is missing.
    """
    table = weight_table(config, family)
    sizes = config.axis_sizes()
    graphdef, abstract = abstract_decoder(config, dtype)
    leaves = {".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(abstract)}
    assert leaves.keys() == table.keys(), leaves.keys() ^ table.keys()
    places = {name: sharding(mesh, row.letters(), sizes) for name, row in table.items()}
    by_name = check_weights(folder, config, family)
    head, embeddings = by_name.get(HEAD.name), by_name[EMBEDDINGS]
    if config.tied_head and head not in (None, embeddings) and not head.equals(embeddings, dtype):
        problem = f"tie_word_embeddings is true, but {HEAD.name} differs from {EMBEDDINGS}"
        raise ValueError(_misfit(folder, [problem]))

    # Each is waited for: transfers that are still under way would keep their host copies alive beside the next.
    filled = {
        name: jax.block_until_ready(_to_devices(by_name[name], row, sizes, dtype, places[name]))
        for name, row in table.items()
    }
    state = nnx.from_flat_state([(path, leaf.replace(filled[name])) for name, (path, leaf) in leaves.items()])
    return nnx.merge(graphdef, state)


def check_weights(folder: Path, config: DecoderConfig, family: Family) -> dict[str, StoredTensor]:
    """Whether the files of a checkpoint hold the tensors that its config asks for; reads their headers alone.

    Returns:
      HF name -> tensor, unread. Of tied weights the embeddings may be stored, or the head, or both.

    Raises:
      As `load_decoder`, but for a head that should equal the embeddings.
    """
    table = weight_table(config, family)
    sizes = config.axis_sizes()
    allowed = {**table, HEAD.name: HEAD}  # a tied head may be stored all the same
    if is_gguf(folder):
        from andor.models import gguf_config, gguf_file  # `gguf` is slow to import, and only needed here

        stored = gguf_config.hf_tensors(gguf_file.read_gguf(folder), allowed)
        index = None
    else:
        stored = [each for each in stored_tensors(weight_files(folder)) if not BUFFERS.fullmatch(each.name)]
        index = weight_map(folder)
    by_name = {each.name: each for each in stored}
    if config.tied_head and HEAD.name in by_name:
        by_name.setdefault(EMBEDDINGS, by_name[HEAD.name])
    problems = misfits(stored, {name: row.hf_shape(sizes) for name, row in allowed.items()}, index)
    problems += [f"missing tensor {name}" for name in table if name not in by_name]
    if problems:
        raise ValueError(_misfit(folder, problems))
    return by_name


def _misfit(folder: Path, problems: list[str]) -> str:
    shown = "\n  ".join(problems[:20])
    more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
    config = "metadata" if is_gguf(folder) else "config.json"
    return f"the weights in {folder} do not fit its {config}:\n  {shown}{more}"


def _to_devices(
    tensor: StoredTensor, row: WeightRow, sizes: Mapping[str, int], dtype, place: jax.sharding.Sharding | None
) -> jax.Array:
    """A parameter from its file; every device of this host gets its slice, and no slice is read twice."""
    read = functools.cache(lambda ranges: tensor.read(ranges, dtype))

    def part(index: tuple[slice, ...]) -> np.ndarray:
        lengths = [len(range(size)[each]) for size, each in zip(shape, index, strict=True)]
        return read(row.hf_ranges(sizes, index)).reshape(lengths)

    shape = row.our_shape(sizes)
    if place is None:
        return jax.device_put(part((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, place, part)


def hf_tensors(decoder: Decoder, family: Family, dtype) -> dict[str, np.ndarray]:
    """The decoder's weights by HF name, in HF's shapes: the inverse of `load_decoder`."""
    table = weight_table(decoder.config, family)
    sizes = decoder.config.axis_sizes()
    leaves = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(decoder))}
    return {
        name: np.asarray(leaves[name][...]).reshape(row.hf_shape(sizes)).astype(dtype) for name, row in table.items()
    }


def weight_map(folder: Path) -> dict[str, Path] | None:
    """Tensor name -> file, as the index of a checkpoint in several files says; None where the weights are in one."""
    index = folder / INDEX
    if (folder / ONE_FILE).exists() or not index.exists():
        return None
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ValueError(f"{index} has no weight_map from tensors to files. Download it again.")
    strange = sorted({file for file in files.values() if not re.fullmatch(r"[\w .+-]+\.safetensors", file)})
    if strange:
        raise ValueError(
            f"{index} names what is no safetensors file of its own directory: {', '.join(map(repr, strange[:8]))}. "
            "Download it again."
        )
    return {name: folder / file for name, file in files.items() if not BUFFERS.fullmatch(name)}


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint: a GGUF, or what transformers would read: model.safetensors, else those that its index
    names, and no other."""
    if is_gguf(folder):
        return list(split_files(folder))
    if (folder / ONE_FILE).exists():
        return [folder / ONE_FILE]
    files = sorted(set((weight_map(folder) or {}).values()))
    missing = [file.name for file in files if not file.exists()]
    name = source(folder)
    online = "Give the same command with a connection to the hub (without HF_HUB_OFFLINE)."
    if missing:
        advice = "Download them again." if name == str(folder) else f"They were never downloaded. {online}"
        raise FileNotFoundError(f"the index in {folder} names files that are not there: {', '.join(missing)}. {advice}")
    if files:
        return files
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    reason = (
        "andor reads safetensors only, because a pickle can run code when it is read. If you trust a pickled "
        f"checkpoint, convert it where torch is installed, and load the new directory:\n  {conversion(name)}"
    )
    check_no_gguf(folder)
    if pickled:
        raise ValueError(f"the weights in {folder} are pickled ({', '.join(pickled)}). {reason}")
    if name != str(folder):
        raise FileNotFoundError(
            f"the hub's cache holds no weights of {name}: neither {ONE_FILE} nor {INDEX} is in {folder}. They were "
            f"never downloaded, or the repository has none. {online} If the repository has pickled weights only: "
            f"{reason}"
        )
    others = sorted(file.name for file in folder.glob("[!.]*.safetensors"))
    beside = f"; {', '.join(others)} is there, which transformers would not read either." if others else "."
    if any("adapter" in each for each in others):
        beside += " An adapter has to be merged into its model and saved with it."
    raise FileNotFoundError(f"no {ONE_FILE} and no {INDEX} in {folder}{beside} andor reads safetensors and GGUF files.")


def conversion(name: str) -> str:
    """The shell command that turns a pickled checkpoint into a directory that `load` reads."""
    target = f"{name.rstrip('/').rsplit('/', 1)[-1]}-safetensors"
    return (
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"[each.from_pretrained('{name}', **options).save_pretrained('{target}') "
        "for each, options in ((M, {'dtype': 'auto'}), (T, {}))]\""
    )
