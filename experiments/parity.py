"""Parity with transformers' PyTorch models: largest differences of logits, by architecture and dtype.

What:      random checkpoints written by transformers (every setting away from its default) and the embedded models are
           read by andor; both run the same tokens. float32: largest |logit - logit|, and of the log-odds of every
           token. bfloat16: mean distance of each implementation from the float32 logits.
Command:   python experiments/parity.py          (needs torch: pip install torch)
Hardware:  CPU, about a minute.
Expected:  float32 differences below 1e-4; in bfloat16 both implementations equally far from float32.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from rich.console import Console
from rich.table import Table

import andor
from andor.models import EMBEDDED, embedded_models

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 777.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
ROPE = {"rope_type": "default", "rope_theta": 777.0}

ARCHITECTURES = {
    "llama, gqa, untied": ("llama", {"num_key_value_heads": 2}),
    "llama, mha, tied": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama, mqa, head_dim 24": ("llama", {"num_key_value_heads": 1, "head_dim": 24}),
    "llama, gqa, llama3 rope": ("llama", {"num_key_value_heads": 2, "rope_parameters": LLAMA3_ROPE}),
    "qwen2, gqa, untied": ("qwen2", {"num_key_value_heads": 2}),
    "qwen2, mha, untied": ("qwen2", {"num_key_value_heads": 4}),
    "qwen2, mqa, tied": ("qwen2", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare logits with transformers' PyTorch models."""

    tokens: int = 60
    """Length of the sequences."""
    seed: int = 0
    smoke: bool = False
    """One architecture only."""


@nnx.jit
def forward(decoder, tokens):
    return decoder(tokens)


def random_checkpoint(folder: Path, model_type: str, changes: dict, seed: int) -> None:
    """Write a small random checkpoint whose biases and norms are random too."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        model_type,
        **{"rope_parameters": ROPE}
        | dict(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            rms_norm_eps=1e-3,
            initializer_range=0.2,
        )
        | changes,
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.mean().round()), std=0.3)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((EMBEDDED / embedded_models()[0] / name).read_bytes())


def log_odds(logits: np.ndarray) -> np.ndarray:
    """log p / (1 - p) of every token, float64."""
    p = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.log(p) - np.log1p(-p)


def compare(folder: str, tokens: np.ndarray) -> dict[str, float]:
    """Differences on one checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    logits = {}
    for dtype in ("float32", "bfloat16"):
        logits["andor", dtype] = np.asarray(forward(andor.load(folder, dtype=dtype).decoder, jnp.asarray(tokens)))
        path = EMBEDDED / folder if folder in embedded_models() else folder
        reference = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
        with torch.no_grad():
            logits["torch", dtype] = reference(torch.tensor(tokens, dtype=torch.long)).logits.float().numpy()
    exact = logits["torch", "float32"]
    return {
        "logits float32": float(np.abs(logits["andor", "float32"] - exact).max()),
        "log-odds float32": float(np.abs(log_odds(logits["andor", "float32"]) - log_odds(exact)).max()),
        "andor bfloat16": float(np.abs(logits["andor", "bfloat16"] - exact).mean()),
        "torch bfloat16": float(np.abs(logits["torch", "bfloat16"] - exact).mean()),
    }


def main(config: Config) -> dict[str, dict[str, float]]:
    """Print the table; returns its numbers by row. Empty where torch is missing."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        print("torch is not installed, so there is nothing to compare with: pip install torch", file=sys.stderr)
        return {}
    rng = np.random.default_rng(config.seed)
    results = {}
    for name, (model_type, changes) in ARCHITECTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            random_checkpoint(Path(folder), model_type, changes, config.seed)
            results[name] = compare(folder, rng.integers(0, 512, (3, config.tokens)))
        if config.smoke:
            break
    for name in () if config.smoke else embedded_models():
        results[name] = compare(name, rng.integers(0, 4096, (3, config.tokens)))

    table = Table(title="andor against transformers: largest differences (float32), mean errors (bfloat16)")
    table.add_column("checkpoint")
    for column in next(iter(results.values())):
        table.add_column(column, justify="right")
    for name, row in results.items():
        table.add_row(name, *(f"{value:.1e}" for value in row.values()))
    Console(width=110).print(table)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
