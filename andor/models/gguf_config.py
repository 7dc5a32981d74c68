"""A GGUF as an HF checkpoint: settings as config.json would have them, and tensors under their HF names.

llama.cpp's metadata say less than a config.json. What they leave out is what llama.cpp itself takes for the
architecture (its `src/models/*.cpp`), and what they say that is not known here is refused.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

from andor.models.gguf_file import GGUF, GGUFTensor

SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
"""Metadata that every architecture must have, and the config key of each."""

LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""RoPE of every Llama since 3.1, but for the factor. A GGUF holds what follows from these numbers, not the numbers."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What is particular to one `general.architecture`.

    Attributes:
      settings: made of the metadata (prefix taken off, `SIZES` taken out) and the settings so far. Takes out what it
        reads.
      rotated: whether rows of q and k are in llama.cpp's order (`GGUFTensor.head_dim`).
      norm_shift: what llama.cpp adds to the weights of norms.
    """

    settings: Callable[[dict, Mapping], dict]
    rotated: bool = False
    norm_shift: float = 0.0


def _llama_like(model_type: str) -> Callable[[dict, Mapping], dict]:
    def settings(metadata: dict, common: Mapping) -> dict:
        return {"model_type": model_type, "hidden_act": "silu", "rope_scaling": _rope_scaling(metadata)}

    return settings


def _gemma3(metadata: dict, common: Mapping) -> dict:
    layers, window = common["num_hidden_layers"], metadata.pop("attention.sliding_window", None)
    pattern = metadata.pop("attention.sliding_window_pattern", 6)
    sliding = (
        [bool(each) for each in pattern]
        if isinstance(pattern, list | np.ndarray)
        else [(index + 1) % pattern != 0 for index in range(layers)]
    )
    # 27B alone divides scores by the square root of hidden_size / heads; the file does not say so.
    scalar = common["hidden_size"] // common["num_attention_heads"] if layers == 62 else common["head_dim"]
    return {
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
        "sliding_window": window,
        "layer_types": ["sliding_attention" if window and each else "full_attention" for each in sliding],
        "rope_local_base_freq": metadata.pop("rope.freq_base_swa", 10_000.0),
        "rope_scaling": _rope_scaling(metadata),
    }


ARCHITECTURES = {
    "llama": Architecture(_llama_like("llama"), rotated=True),  # Mistral's files too: they say that they are Llama's
    "qwen2": Architecture(_llama_like("qwen2")),
    "qwen3": Architecture(_llama_like("qwen3")),
    "gemma3": Architecture(_gemma3, norm_shift=1.0),
}


def read_settings(gguf: GGUF) -> dict:
    """What a config.json of this model would say.

    Raises:
      ValueError: the architecture is not in `ARCHITECTURES`, a key is missing, or keys are there that would change the
        logits in a way that is not known here.
    """
    path = gguf.files[0]
    name = gguf.metadata.get("general.architecture")
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{path} has architecture {str(name)[:60]!r}; of GGUF files andor reads {', '.join(ARCHITECTURES)}. Choose "
            "a model of these."
        )
    metadata = {key[len(name) + 1 :]: value for key, value in gguf.metadata.items() if key.startswith(f"{name}.")}
    missing = [f"{name}.{key}" for key in SIZES if key not in metadata]
    missing += ["tensor token_embd.weight"] * ("token_embd.weight" not in gguf.tensors)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}. Download it again.")
    settings = {ours: metadata.pop(key) for key, ours in SIZES.items()}
    heads = settings["num_attention_heads"]
    whole = all(isinstance(settings[key], int) and settings[key] > 0 for key in ("hidden_size", "num_attention_heads"))
    head_dim = metadata.pop("attention.key_length", settings["hidden_size"] // heads if whole else None)
    settings |= {
        "num_key_value_heads": metadata.pop("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rope_theta": metadata.pop("rope.freq_base", 10_000.0),
        "vocab_size": metadata.pop("vocab_size", gguf.tensors["token_embd.weight"].shape[0]),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
    }
    settings |= ARCHITECTURES[name].settings(metadata, settings)
    # What else these could be is not implemented.
    implemented = {"attention.value_length": head_dim, "rope.dimension_count": head_dim}
    implemented |= {"expert_count": 0, "expert_used_count": 0}
    metadata = {
        key: x for key, x in metadata.items() if key not in implemented or not np.array_equal(x, implemented[key])
    }
    if metadata:
        shown = ", ".join(f"{name}.{key}={str(value)[:40]}" for key, value in sorted(metadata.items()))
        raise ValueError(
            f"{path} has metadata that andor does not implement or does not know, which may change what the model "
            f"computes: {shown}. Choose another file."
        )
    if name == "llama" and "rope_freqs.weight" in gguf.tensors:
        settings["rope_scaling"] = _llama3_rope(gguf.tensors["rope_freqs.weight"], settings)
    kinds = {tensor.dtype for tensor in gguf.tensors.values() if len(tensor.shape) > 1}
    return settings | {"torch_dtype": "bfloat16" if kinds == {"BF16"} else "float32"}


def _rope_scaling(metadata: dict) -> dict | None:
    """Takes `rope.scaling.*` out of the metadata."""
    scaling = {key: metadata.pop(key) for key in [*metadata] if key.startswith("rope.scaling.")}
    scaling = {key.removeprefix("rope.scaling."): value for key, value in scaling.items()}
    kind = scaling.pop("type", "none")
    return {"rope_type": kind, **scaling} if kind != "none" or scaling else None


def _llama3_rope(tensor: GGUFTensor, settings: Mapping) -> dict:
    """The RoPE scaling by which llama.cpp made the divisors of the frequencies. Raises ValueError if it is another."""
    stored = tensor.read(tuple((0, size) for size in tensor.shape), np.float64)
    scaling = {"rope_type": "llama3", "factor": round(float(stored.max()), 3), **LLAMA3_ROPE}
    low, high, context = LLAMA3_ROPE.values()
    frequencies = settings["rope_theta"] ** -(np.arange(0, settings["head_dim"], 2) / settings["head_dim"])
    keep = np.clip((context * frequencies / (2 * math.pi) - low) / (high - low), 0, 1)
    expected = 1 / ((1 - keep) / scaling["factor"] + keep)
    if stored.shape != expected.shape or not np.allclose(stored, expected, rtol=1e-4):
        raise ValueError(
            f"{tensor.file} scales RoPE by {tensor.name} in another way than Llama 3.1, which is not implemented. "
            "Choose another file."
        )
    return scaling


def hf_tensors(gguf: GGUF, names: Iterable[str]) -> list[GGUFTensor]:
    """All tensors of a GGUF.

    Args:
      gguf: the file.
      names: HF names of tensors that may be there. They are given to the tensors; a tensor that is none of them keeps
        its GGUF name.
    """
    name = gguf.metadata["general.architecture"]
    architecture, settings = ARCHITECTURES[name], read_settings(gguf)
    (enum,) = (key for key, value in MODEL_ARCH_NAMES.items() if value == name)
    ours = get_tensor_name_map(enum, settings["num_hidden_layers"])
    hf_names = {}
    for hf_name in names:
        module, _, suffix = hf_name.rpartition(".")
        hf_names[f"{ours.get_name(module)}.{suffix}"] = hf_name
    found = []
    for tensor in gguf.tensors.values():
        if tensor.name == "rope_freqs.weight" and settings["rope_scaling"]:  # is in the settings
            continue
        rotated = architecture.rotated and tensor.name.endswith((".attn_q.weight", ".attn_k.weight"))
        found.append(
            dataclasses.replace(
                tensor,
                name=hf_names.get(tensor.name, tensor.name),
                head_dim=settings["head_dim"] if rotated else None,
                shift=architecture.norm_shift if tensor.name.endswith("norm.weight") else 0.0,
            )
        )
    return found
