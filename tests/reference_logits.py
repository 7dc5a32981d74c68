"""Makes tests/reference_logits.npz: small checkpoints with the logits that transformers' PyTorch models give them.

What:      for each of seven configs config.json, random weights (float16), token ids, positions, padding, and float32
           logits. With it parity is checked where there is no PyTorch.
Command:   python tests/reference_logits.py          (needs torch and transformers; seconds)
"""

import copy
import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

PATH = Path(__file__).with_suffix(".npz")

BASE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 2e-3,
    "rope_theta": 543.0,
    "max_position_embeddings": 512,
}
CONFIGS = {
    "llama, mha, untied": {**BASE, "model_type": "llama", "num_key_value_heads": 4, "tie_word_embeddings": False},
    "llama, gqa, tied, head_dim, llama3 rope": {
        **BASE,
        "model_type": "llama",
        "head_dim": 6,
        "tie_word_embeddings": True,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 3.0,
            "original_max_position_embeddings": 8,
        },
    },
    "qwen2, mqa, biases, untied": {
        **BASE,
        "model_type": "qwen2",
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
    },
    "qwen3, gqa, head_dim, windows in the last layer": {
        **BASE,
        "model_type": "qwen3",
        "head_dim": 6,
        "tie_word_embeddings": False,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "mistral, gqa, window": {**BASE, "model_type": "mistral", "sliding_window": 5, "tie_word_embeddings": False},
    "gemma3, mqa, tied, two ropes, windows": {
        **{key: value for key, value in BASE.items() if key != "hidden_act"},
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "num_key_value_heads": 1,
        "head_dim": 6,
        "query_pre_attn_scalar": 10,
        "tie_word_embeddings": True,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_local_base_freq": 88.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    },
    "olmo2, gqa, untied": {**BASE, "model_type": "olmo2", "tie_word_embeddings": False},
}


def torch_logits(settings: dict, weights: dict, ids: np.ndarray, positions: np.ndarray, padding: np.ndarray):
    """Float32 logits of transformers' model, `[b, t, v]`."""
    import torch
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), settings, weights)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids, positions, padding = (torch.tensor(each, dtype=torch.long) for each in (ids, positions, padding))
    with torch.no_grad():
        return model(ids, attention_mask=padding, position_ids=positions).logits.numpy()


def write_checkpoint(folder: Path, settings: dict, weights: dict) -> None:
    """config.json and the weights, in HF format."""
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def random_weights(settings: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Every tensor that transformers' model has, biases and norms too, large enough to matter. float16."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**copy.deepcopy(settings))  # transformers writes into rope_scaling
    weights = {}
    for name, tensor in AutoModelForCausalLM.from_config(config).state_dict().items():
        if name == "lm_head.weight" and settings["tie_word_embeddings"]:
            continue
        weights[name] = (0.3 * rng.normal(size=tensor.shape) + name.endswith("norm.weight")).astype(np.float16)
    return weights


def read() -> dict[str, tuple[dict, dict, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Name -> (settings, weights, token ids, positions, padding, logits)."""
    with np.load(PATH, allow_pickle=False) as file:
        stored = dict(file)
    found = {}
    for number, name in enumerate(stored["names"]):
        weights = {key.split("/")[2]: value for key, value in stored.items() if key.startswith(f"{number}/weights/")}
        arrays = (stored[f"{number}/{each}"] for each in ("ids", "positions", "padding", "logits"))
        found[str(name)] = (json.loads(str(stored[f"{number}/settings"])), weights, *arrays)
    return found


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(0)
    # One row without padding, one that is padded on the left; positions go beyond llama3's original context.
    t = 20
    padding = np.array([[1] * t, [0] * 8 + [1] * (t - 8)])
    positions = np.maximum(np.cumsum(padding, axis=1) - 1, 0)
    stored = {"names": np.array(list(CONFIGS))}
    for number, settings in enumerate(CONFIGS.values()):
        weights = random_weights(settings, rng)
        ids = rng.integers(0, settings["vocab_size"], padding.shape)
        logits = torch_logits(settings, weights, ids, positions, padding)
        stored[f"{number}/settings"] = np.array(json.dumps(settings))
        stored |= {f"{number}/weights/{name}": value for name, value in weights.items()}
        stored |= {f"{number}/ids": ids, f"{number}/positions": positions, f"{number}/padding": padding}
        stored[f"{number}/logits"] = np.where(padding[..., None], logits, 0).astype(np.float32)
    np.savez_compressed(PATH, **stored)
    print(f"{PATH.name}: {PATH.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
