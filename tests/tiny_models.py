"""Tiny random checkpoints in HF format, with non-default values of every setting, for tests without a network."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from andor.models import FAMILIES
from andor.models.config import read_config
from andor.models.decoder import Decoder
from andor.models.weights import abstract_decoder, hf_tensors

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 16,
}

BASE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 3e-3,
    "rope_theta": 321.0,
    "tie_word_embeddings": False,
    "max_position_embeddings": 512,
}

WINDOW = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}

SETTINGS = {
    "llama-gqa": {**BASE, "model_type": "llama"},
    "llama-mha-tied": {**BASE, "model_type": "llama", "num_key_value_heads": 4, "tie_word_embeddings": True},
    "llama-mqa-head-dim": {**BASE, "model_type": "llama", "num_key_value_heads": 1, "head_dim": 12},
    "llama-llama3-rope": {**BASE, "model_type": "llama", "rope_scaling": LLAMA3_ROPE},
    "llama-gqa-tied-head-dim-llama3-rope": {  # all that Llama 3.2 has
        **BASE,
        "model_type": "llama",
        "head_dim": 12,
        "tie_word_embeddings": True,
        "rope_scaling": LLAMA3_ROPE,
    },
    "qwen2-gqa": {**BASE, "model_type": "qwen2"},
    "qwen2-mha": {**BASE, "model_type": "qwen2", "num_key_value_heads": 4},
    "qwen2-mqa-tied": {**BASE, "model_type": "qwen2", "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen2-mha-tied-head-dim": {
        **BASE,
        "model_type": "qwen2",
        "num_key_value_heads": 4,
        "head_dim": 12,
        "tie_word_embeddings": True,
    },
    "qwen2-gqa-llama3-rope": {**BASE, "model_type": "qwen2", "rope_scaling": LLAMA3_ROPE},
    "qwen2-window": {**BASE, "model_type": "qwen2", **WINDOW},
    "qwen3-head-dim-window": {**BASE, "model_type": "qwen3", "head_dim": 12, **WINDOW},
    "mistral-window": {**BASE, "model_type": "mistral", "sliding_window": 5},
    "gemma3": {  # two RoPEs, of which one is stretched, and scores that are not divided by the root of head_dim
        **{key: value for key, value in BASE.items() if key not in ("hidden_act", "tie_word_embeddings")},
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "head_dim": 12,
        "query_pre_attn_scalar": 20,
        "sliding_window": 6,
        "sliding_window_pattern": 2,
        "rope_local_base_freq": 99.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    },
    "olmo2-gqa": {**BASE, "model_type": "olmo2"},
}


def random_decoder(settings: dict, seed: int = 0) -> Decoder:
    """A decoder whose every weight is random and large enough to matter, biases and norms too."""
    config = read_config(settings, FAMILIES[settings["model_type"]])
    graphdef, abstract = abstract_decoder(config, jnp.float32)
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(abstract)
    leaves = [
        jnp.asarray(0.3 * rng.normal(size=leaf.shape) + (leaf.shape == (config.hidden_size,)), jnp.float32)
        for leaf in leaves
    ]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, leaves))


@nnx.jit
def forward(decoder: Decoder, *arguments):
    """Logits; compiled, because eager execution compiles every operation by itself."""
    return decoder(*arguments)


def save_checkpoint(folder: Path, settings: dict, decoder: Decoder, *, tokenizer: bool = True) -> Path:
    """Write an HF-format directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = hf_tensors(decoder, FAMILIES[settings["model_type"]], np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if tokenizer:
        tiny_tokenizer(settings["vocab_size"]).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "<mask>", "eos_token": "<eos>"})
        )
    return folder


def tiny_tokenizer(
    vocab_size: int,
    sentences=("the film is not good , but it is never dull .", "a good film is a good film"),
) -> Tokenizer:
    """A byte-level BPE tokenizer with a mask token, trained on a few sentences. One word that is the only sentence
    becomes one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<mask>", "<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return tokenizer


def assert_close(actual, expected, atol: float):
    """Largest absolute difference is at most `atol`; shapes agree."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    worst = np.max(np.abs(actual - expected), initial=0)
    assert worst <= atol, f"largest difference {worst:.3g} > {atol:.3g}"


def tokens(shape: tuple[int, int], vocab_size: int, seed: int = 0) -> jnp.ndarray:
    """Random token ids."""
    return jax.random.randint(jax.random.key(seed), shape, 0, vocab_size)
