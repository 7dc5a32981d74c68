"""Checkpoints in HF format on disk <-> a `Decoder`: config reading with refusals, and weights checked both ways.

A family module (`llama.py`, `qwen2.py`) is data: the config keys it handles, and its weight table. The work is here.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from andor.mesh import sharding
from andor.models.checks import check_numbers, check_rope_scaling
from andor.models.decoder import Decoder, DecoderConfig, Llama3RopeScaling
from andor.models.family import HEAD, Family, WeightRow
from andor.models.tensors import StoredTensor, misfits, stored_tensors

BUFFERS = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""What old checkpoints store although it follows from the config."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.bin.index.json")


def read_config(settings: Mapping, family: Family) -> DecoderConfig:
    """Read an HF `config.json` (already parsed); accepts the spellings of transformers 4 and 5.

    Raises:
      ValueError: a required key is missing, or keys are there that would change the logits in a way that is not
        implemented. All of them are named at once.
    """
    settings = _one_spelling(settings)
    missing = sorted(family.required - settings.keys())
    if missing:
        raise ValueError(f"config.json of a {family.model_type} model lacks {', '.join(missing)}. Download it again.")
    check_numbers(settings)
    refused = [f"{key}={settings[key]!r}" for key in (*_unsupported(settings, family), *_windowed(settings))]
    if refused:
        raise ValueError(
            f"config.json of this {family.model_type} model has settings that andor does not implement: "
            f"{', '.join(sorted(refused))}. The logits would be wrong, so the model is not loaded."
        )
    heads = settings["num_attention_heads"]
    return DecoderConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["hidden_size"],
        intermediate_size=settings["intermediate_size"],
        num_layers=settings["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=settings["num_key_value_heads"],
        head_dim=settings.get("head_dim") or settings["hidden_size"] // heads,
        max_positions=settings["max_position_embeddings"],
        rms_norm_eps=float(settings["rms_norm_eps"]),
        rope_theta=float(settings["rope_theta"] or 10_000.0),  # HF's default; Llama 2 files do not name it
        rope_scaling=_rope_scaling(settings["rope_scaling"]),
        qkv_bias=family.qkv_bias,
        tied_head=bool(settings.get("tie_word_embeddings", False)),
    )


def _one_spelling(settings: Mapping) -> dict:
    """transformers 5 writes `rope_parameters` and `dtype`; 4 wrote `rope_theta`, `rope_scaling` and `torch_dtype`."""
    settings = dict(settings)
    new, old = (settings.pop(key, None) for key in ("rope_parameters", "rope_scaling"))
    if new and old and new != old:
        raise ValueError("config.json has both rope_parameters and rope_scaling, and they differ. Remove one of them.")
    rope = new or old or {}
    if not isinstance(rope, Mapping):
        raise ValueError(f"config.json has RoPE settings {str(rope)[:40]!r}, which are no object. Download it again.")
    rope = dict(rope)
    thetas = [each for each in (rope.pop("rope_theta", None), settings.get("rope_theta")) if each is not None]
    if len(thetas) > 1 and thetas[0] != thetas[1]:
        raise ValueError(f"config.json says rope_theta is {' and '.join(map(str, thetas))}. Remove one of them.")
    settings["rope_theta"] = thetas[0] if thetas else None
    settings["rope_scaling"] = rope
    if "dtype" in settings:
        settings["torch_dtype"] = settings.pop("dtype")
    return settings


def _rope_scaling(scaling: Mapping) -> Llama3RopeScaling | None:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    given = set(scaling) - {"rope_type", "type"}
    if kind == "default" and not given:
        return None
    fields = [field.name for field in dataclasses.fields(Llama3RopeScaling)]
    if kind != "llama3" or given != set(fields):
        raise ValueError(
            f"rope_scaling={dict(scaling)!r} is not implemented; andor reads rope_type 'default', and 'llama3' with "
            f"exactly {', '.join(fields)}."
        )
    given = {name: scaling[name] for name in fields}
    check_rope_scaling(given)
    return Llama3RopeScaling(
        **{field.name: field.type(given[field.name]) for field in dataclasses.fields(Llama3RopeScaling)}
    )


def _windowed(settings: Mapping) -> list[str]:
    """Keys that together give a layer sliding-window attention, by the rule of transformers' Qwen2Config."""
    if settings.get("layer_types") is not None:
        return [] if set(settings["layer_types"]) == {"full_attention"} else ["layer_types"]
    keys = ("use_sliding_window", "sliding_window", "max_window_layers")
    use, window, first = (
        settings.get(key, default) for key, default in zip(keys, (False, "HF's default", 0), strict=True)
    )
    if not use or window is None or (first or 0) >= settings["num_hidden_layers"]:
        return []
    return [key for key in keys if key in settings]


def _unsupported(settings: Mapping, family: Family) -> list[str]:
    """Keys whose value is neither handled, nor allowed, nor HF's own default for this family."""
    unknown = []
    for key, value in settings.items():
        if key in family.fixed:
            if value not in family.fixed[key]:
                unknown.append(key)
        elif key not in family.required | family.ignored | family.optional:
            unknown.append(key)
    if unknown:
        # transformers is slow to import and only needed for files with keys beyond the usual.
        from transformers import AutoConfig

        defaults = AutoConfig.for_model(family.model_type).to_dict()
        unknown = [
            key for key in unknown if key in family.fixed or key not in defaults or defaults[key] != settings[key]
        ]
    return unknown


def weight_table(config: DecoderConfig, family: Family) -> dict[str, WeightRow]:
    """Every tensor that the checkpoint must hold: HF name -> row. The head is absent when it is tied."""
    rows = [*family.weights] if config.tied_head else [*family.weights, HEAD]
    return {
        row.name.format(layer=layer): row
        for row in rows
        for layer in (range(config.num_layers) if "{layer}" in row.name else [0])
    }


def abstract_decoder(config: DecoderConfig, dtype) -> tuple[nnx.GraphDef, nnx.State]:
    """Graph and shapes of a decoder without allocating its weights."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(0))))


def count_parameters(config: DecoderConfig) -> int:
    """Number of weights of a decoder, without allocating them."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_decoder(config, jnp.bfloat16)[1]))


def load_decoder(
    folder: Path, config: DecoderConfig, family: Family, dtype, mesh: jax.sharding.Mesh | None = None
) -> Decoder:
    """Fill a decoder from the safetensors files of `folder`, slice by slice, each onto its device of the mesh.

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
    if config.tied_head and HEAD.name in by_name:
        if not by_name[HEAD.name].equals(by_name["model.embed_tokens.weight"], dtype):
            problem = f"tie_word_embeddings is true, but {HEAD.name} differs from model.embed_tokens.weight"
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
      HF name -> tensor, unread.

    Raises:
      As `load_decoder`, but for a head that should equal the embeddings.
    """
    table = weight_table(config, family)
    sizes = config.axis_sizes()
    stored = [each for each in stored_tensors(weight_files(folder)) if not BUFFERS.fullmatch(each.name)]
    by_name = {each.name: each for each in stored}
    allowed = {**table, HEAD.name: HEAD}  # a tied head may be stored all the same
    problems = misfits(stored, {name: row.hf_shape(sizes) for name, row in allowed.items()}, weight_map(folder))
    problems += [f"missing tensor {name}" for name in table if name not in by_name]
    if problems:
        raise ValueError(_misfit(folder, problems))
    return by_name


def _misfit(folder: Path, problems: list[str]) -> str:
    shown = "\n  ".join(problems[:20])
    more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
    return f"the weights in {folder} do not fit its config.json:\n  {shown}{more}"


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


def read_json(path: Path) -> dict:
    """A JSON file that holds an object. Raises ValueError with the file's name for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}. Download it again.") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a directory, and must be a file. Download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(content).__name__}. Download it again.")
    return content


def weight_map(folder: Path) -> dict[str, Path] | None:
    """Tensor name -> file, as the index of a checkpoint in several files says; None where there is no index."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
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
    """The safetensors files of a checkpoint: those that its index names, else all there are."""
    named = weight_map(folder)
    files = sorted(set(named.values()) if named is not None else folder.glob("*.safetensors"))
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"the index in {folder} names files that are not there: {', '.join(missing)}. Download them again."
        )
    if files:
        return files
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    reason = (
        "andor reads safetensors only, because a pickle can run code when it is read. If you trust a pickled "
        f"checkpoint, convert it where torch is installed, and load the new directory:\n  {conversion(_source(folder))}"
    )
    if pickled:
        raise ValueError(f"the weights in {folder} are pickled ({', '.join(pickled)}). {reason}")
    raise FileNotFoundError(f"no *.safetensors file in {folder}. {reason}")


def conversion(source: str) -> str:
    """The shell command that turns a pickled checkpoint into a directory that `load` reads."""
    target = f"{source.rstrip('/').rsplit('/', 1)[-1]}-safetensors"
    return (
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"[each.from_pretrained('{source}', **options).save_pretrained('{target}') "
        "for each, options in ((M, {'dtype': 'auto'}), (T, {}))]\""
    )


def _source(folder: Path) -> str:
    """What transformers calls a checkpoint: its hub id if the folder is in the hub's cache, else the folder."""
    repository = re.fullmatch(r"models--([^-].*?)--(.+)", folder.parent.parent.name)
    return "/".join(repository.groups()) if repository and folder.parent.name == "snapshots" else str(folder)
