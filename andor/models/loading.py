"""Checkpoints in HF format on disk <-> a `Decoder`: config reading with refusals, and weights checked both ways.

A family module (`llama.py`, `qwen2.py`) is data: the config keys it handles, and its weight table. The work is here.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from andor.mesh import sharding
from andor.models.decoder import Decoder, DecoderConfig, Llama3RopeScaling


@dataclasses.dataclass(frozen=True)
class WeightRow:
    """One row of a weight table.

    Attributes:
      name: HF tensor name; `{layer}` stands for every layer index. The same name, split at dots, is our module path.
      axes: axis letters in HF's order; letters in parentheses are one flattened axis of the HF tensor and separate axes
        of ours: `"(k g h) d"` is `[k*g*h, d]` in the file and `[k, g, h, d]` in the decoder.
    """

    name: str
    axes: str

    def hf_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the tensor in the checkpoint."""
        groups = re.findall(r"\(([^)]*)\)|(\S+)", self.axes)
        return tuple(math.prod(sizes[axis] for axis in (group or single).split()) for group, single in groups)

    def letters(self) -> str:
        """Axes of the parameter in the decoder."""
        return re.sub(r"\W", "", self.axes)

    def our_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the parameter in the decoder."""
        return tuple(sizes[axis] for axis in self.letters())


@dataclasses.dataclass(frozen=True)
class Family:
    """What is particular to one model family.

    Attributes:
      model_type: HF `model_type`.
      required: config keys that `config.json` must contain.
      ignored: config keys that do not change the logits of a forward pass.
      fixed: config keys that may only have the given values, because nothing else is implemented.
      optional: config keys that are read when they are there.
      qkv_bias: whether q, k and v projections have biases.
      weights: the weight table, without the head.
    """

    model_type: str
    required: frozenset[str]
    ignored: frozenset[str]
    fixed: Mapping[str, tuple]
    optional: frozenset[str]
    qkv_bias: bool
    weights: Sequence[WeightRow]


HEAD = WeightRow("lm_head.weight", "v d")


def read_config(settings: Mapping, family: Family) -> DecoderConfig:
    """Read an HF `config.json` (already parsed); accepts the spellings of transformers 4 and 5.

    Raises:
      ValueError: a required key is missing, or keys are there that would change the logits in a way that is not
        implemented. All of them are named at once.
    """
    settings = _one_spelling(settings)
    missing = sorted(family.required - settings.keys())
    if missing:
        raise ValueError(f"config.json of a {family.model_type} model lacks {', '.join(missing)}.")
    refused = [f"{key}={settings[key]!r}" for key in _unsupported(settings, family)]
    if set(settings.get("layer_types") or []) - {"full_attention"}:
        refused.append(f"layer_types={settings['layer_types']!r}")
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
        rms_norm_eps=settings["rms_norm_eps"],
        rope_theta=float(settings.get("rope_theta") or 10_000.0),  # HF's default; Llama 2 files do not name it
        rope_scaling=_rope_scaling(settings.get("rope_scaling")),
        qkv_bias=family.qkv_bias,
        tied_head=bool(settings.get("tie_word_embeddings", False)),
    )


def _one_spelling(settings: Mapping) -> dict:
    """transformers 5 writes `rope_parameters` and `dtype`; 4 wrote `rope_theta`, `rope_scaling` and `torch_dtype`."""
    settings = dict(settings)
    rope = settings.pop("rope_parameters", None)
    if rope is not None:
        rope = dict(rope)
        settings["rope_theta"] = rope.pop("rope_theta", settings.get("rope_theta"))
        settings["rope_scaling"] = rope
    if "dtype" in settings:
        settings["torch_dtype"] = settings.pop("dtype")
    return settings


def _rope_scaling(scaling: Mapping | None) -> Llama3RopeScaling | None:
    kind = "default" if scaling is None else scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    fields = [field.name for field in dataclasses.fields(Llama3RopeScaling)]
    unknown = sorted(set(scaling) - {*fields, "rope_type", "type", "rope_theta"})
    if kind != "llama3" or unknown or any(name not in scaling for name in fields):
        raise ValueError(
            f"rope_scaling={dict(scaling)!r} is not implemented; andor reads rope_type 'default', and 'llama3' with "
            f"exactly {', '.join(fields)}."
        )
    return Llama3RopeScaling(**{name: scaling[name] for name in fields})


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
    """Fill a decoder from the safetensors files of `folder`, one tensor at a time, each onto the devices of the mesh.

    Raises:
      ValueError: tensors are unknown, missing, duplicated, mis-shaped or not floating point; one error lists them all.
      FileNotFoundError: there is no safetensors file, or a shard that the index names is missing.
    """
    table = weight_table(config, family)
    sizes = config.axis_sizes()
    graphdef, abstract = abstract_decoder(config, dtype)
    leaves = {".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(abstract)}
    assert leaves.keys() == table.keys(), leaves.keys() ^ table.keys()

    problems: list[str] = []
    filled = {}
    spare_head = None
    for file in weight_files(folder):
        with _open(file) as tensors:
            for name in tensors.keys():
                if re.fullmatch(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", name):
                    continue  # a buffer that old checkpoints store; it follows from the config
                if name == HEAD.name and config.tied_head:
                    spare_head = tensors.get_tensor(name)
                    continue
                if name not in table:
                    problems.append(f"unknown tensor {name}")
                    continue
                if name in filled:
                    problems.append(f"{name} is in more than one file")
                    continue
                row = table[name]
                shape = tuple(tensors.get_slice(name).get_shape())
                filled[name] = None
                if shape != row.hf_shape(sizes):
                    problems.append(f"{name} has shape {shape}, expected {row.hf_shape(sizes)} = [{row.axes}]")
                    continue
                value = tensors.get_tensor(name)
                if not jnp.issubdtype(value.dtype, jnp.floating):
                    problems.append(f"{name} has dtype {value.dtype}, expected a floating-point type")
                    continue
                value = value.reshape(row.our_shape(sizes)).astype(dtype, copy=False)
                filled[name] = jax.device_put(value, sharding(mesh, row.letters(), sizes))
    problems += [f"missing tensor {name}" for name in table if name not in filled]
    if spare_head is not None and not problems:
        embedding = np.asarray(filled["model.embed_tokens.weight"])
        if not np.array_equal(np.asarray(spare_head, embedding.dtype), embedding):
            problems.append(f"tie_word_embeddings is true, but {HEAD.name} differs from model.embed_tokens.weight")
    if problems:
        shown = "\n  ".join(problems[:20])
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ValueError(f"the weights in {folder} do not fit its config.json:\n  {shown}{more}")

    state = nnx.from_flat_state([(path, leaf.replace(filled[name])) for name, (path, leaf) in leaves.items()])
    return nnx.merge(graphdef, state)


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
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}. Download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(content).__name__}. Download it again.")
    return content


def _open(file: Path):
    try:
        return safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged or no safetensors file ({error}). Download it again.") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those that its index names, else all there are."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{index} has no weight_map. Download it again.")
        files = [folder / name for name in sorted(set(weight_map.values()))]
        missing = [file.name for file in files if not file.exists()]
        if missing:
            raise FileNotFoundError(
                f"{index} names files that are not there: {', '.join(missing)}. Download them again."
            )
        return files
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors file in {folder}. andor reads safetensors only (never pickle).")
    return files
