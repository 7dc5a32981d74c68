"""Small GGUF files for tests, written as llama.cpp's converter writes them."""

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType, get_tensor_name_map, quants
from gguf.constants import MODEL_ARCH_NAMES, GGMLQuantizationType
from tiny_models import tiny_tokenizer

KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "vocab_size": "vocab_size",
}


def metadata(architecture: str, settings: dict) -> dict:
    """What the converter writes of a config.json; of a tokenizer, `tokenizer_metadata`."""
    found = {f"{architecture}.{key}": settings[name] for key, name in KEYS.items() if settings.get(name) is not None}
    return {"general.architecture": architecture, **found}


def tokenizer_metadata(vocab_size: int) -> dict:
    """Of the byte-level tokenizer that the other tiny checkpoints have."""
    described = json.loads(tiny_tokenizer(vocab_size).to_str())["model"]
    tokens = sorted(described["vocab"], key=described["vocab"].get)
    special = ("<mask>", "<eos>")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [
            int(TokenType.CONTROL if each in special else TokenType.NORMAL) for each in tokens
        ],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in described["merges"]],
        "tokenizer.ggml.mask_token_id": tokens.index("<mask>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<eos>"),
    }


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of the rows of q and k (`LlamaModel.permute` of its converter)."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def convert(architecture: str, settings: dict, tensors: dict) -> dict[str, np.ndarray]:
    """HF tensors under their GGUF names, with what the converter does to them."""
    (enum,) = (key for key, value in MODEL_ARCH_NAMES.items() if value == architecture)
    names = get_tensor_name_map(enum, settings["num_hidden_layers"])
    heads = {"q_proj": settings["num_attention_heads"], "k_proj": settings["num_key_value_heads"]}
    found = {}
    for name, value in tensors.items():
        module, _, suffix = name.rpartition(".")
        part = module.rpartition(".")[2]
        if architecture == "llama" and part in heads:
            value = permute(value, heads[part])
        if architecture == "gemma3" and name.endswith("norm.weight"):
            value = value + 1
        found[f"{names.get_name(module)}.{suffix}"] = value.astype(np.float32)
    return found


def stored(values: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(bytes of a quantised matrix, the numbers that they mean). Random bytes where the package cannot quantise."""
    number = GGMLQuantizationType[kind]
    if kind in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        data = quants.quantize(values, number)
    else:
        elements, size = quants.GGML_QUANT_SIZES[number]
        blocks = rng.integers(0, 256, (values.size // elements, size), np.uint8)
        # Scales are float16, and must be finite: where they stand in a block.
        at = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[kind]
        for start in at:
            scale = rng.uniform(1e-3, 3e-3, len(blocks)).astype(np.float16)
            blocks[:, start : start + 2] = scale[:, None].view(np.uint8)
        data = blocks.reshape(values.shape[0], -1)
    return data, quants.dequantize(data, number)


def write(path: Path, metadata: dict, tensors: dict, kinds: dict[str, str] | None = None) -> Path:
    """Write a GGUF. `kinds` says of what type the bytes of a tensor are; the others are as NumPy has them."""
    writer = GGUFWriter(path, "none", use_temp_file=False)
    writer.kv_data[0].clear()
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, value in tensors.items():
        kind = (kinds or {}).get(name)
        writer.add_tensor(name, value, raw_dtype=None if kind in (None, "F32", "F16") else GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
