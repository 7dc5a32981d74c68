"""Parity with transformers' PyTorch models: largest differences of logits, by architecture and dtype.

What:      random checkpoints written by transformers (every setting away from its default) and the embedded models are
           read by andor; both run the same tokens. float32: largest |logit - logit| at positions 0, 1, ... ("logits"),
           at positions from 100,000 ("far") and behind left padding ("padded"), and of the log-odds of every token.
           bfloat16, float16: mean distance of each implementation from PyTorch's float32 logits.
           Checkpoints of one's own are compared in float32 on a text: logits and log-odds of every token after every
           position, and v of 2^4 masked texts, by the prefix tree here and one after the other in PyTorch.
           --gguf: files instead, each dequantised by andor and by transformers; largest float32 differences of
           logits and log-odds over all tokens of 20 prompts, and how many of 300 lines of mixed text (code, Chinese,
           emoji, digits, white space) are the same tokens. The tokens of --tokenizers (one directory for each file)
           are the reference, or those that transformers reads from the file; where transformers' are wrong
           (SmolLM's digits are single tokens), the lines differ.
Command:   python -m experiments parity [--smoke]          (needs torch: pip install torch)
           python -m experiments parity --models FOLDER --tokens 600
           python -m experiments parity --gguf FILE.gguf ... [--tokenizers DIRECTORY ...]       (and accelerate)
Hardware:  2 CPU cores, a minute. Gemma 3 270M on 600 tokens: one core, 3 minutes and 12 GB; a GGUF of half a billion
           weights: a minute and 10 GB.
Expected:  float32 differences below 1e-4 on random models, 1e-3 on real ones, whose logits are larger, and 300 of 300
           lines; in bfloat16 and float16 both implementations equally far from float32. (Of some texts no float32 is
           that exact: at the second token of "שלום עולם", logits of Qwen2.5-Coder-0.5B in PyTorch's float32 are 0.07
           from its own float64.)
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

import andor
from andor.core import lattice
from andor.models import EMBEDDED, embedded_models
from andor.prompts import read_prompts, tokenize
from experiments.benchmarks.common import markdown
from experiments.lab.mixed_text import mixed_lines

DTYPES = ("float32", "bfloat16", "float16")

LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 777.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 777.0}
TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 777.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 99.0},
}
MHA, GQA, MQA = ({"num_key_value_heads": heads} for heads in (4, 2, 1))
TIED, NARROW, LLAMA3 = {"tie_word_embeddings": True}, {"head_dim": 24}, {"rope_parameters": LLAMA3_ROPE}
LAYERS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
WINDOWS = LAYERS | {"use_sliding_window": True, "sliding_window": 9}
GEMMA3 = NARROW | LAYERS | {"rope_parameters": TWO_ROPES}

ARCHITECTURES = {
    "llama, gqa, untied": ("llama", GQA),
    "llama, mha, tied": ("llama", MHA | TIED),
    "llama, mqa, head_dim 24": ("llama", MQA | NARROW),
    "llama, gqa, llama3 rope": ("llama", GQA | LLAMA3),
    "llama, gqa, tied, head_dim 24, llama3 rope": ("llama", GQA | TIED | NARROW | LLAMA3),
    "qwen2, gqa, untied": ("qwen2", GQA),
    "qwen2, mha, untied": ("qwen2", MHA),
    "qwen2, mqa, tied": ("qwen2", MQA | TIED),
    "qwen2, mha, tied, head_dim 24": ("qwen2", MHA | TIED | NARROW),
    "qwen2, gqa, llama3 rope": ("qwen2", GQA | LLAMA3),
    "qwen2, gqa, windows": ("qwen2", GQA | WINDOWS),
    "qwen3, gqa, head_dim 24": ("qwen3", GQA | NARROW),
    "qwen3, mqa, tied, head_dim 24, windows": ("qwen3", MQA | NARROW | TIED | WINDOWS),
    "mistral, gqa, window": ("mistral", GQA | {"sliding_window": 9}),
    "mistral, gqa, head_dim 24, no window": ("mistral", GQA | NARROW | {"sliding_window": None}),
    "gemma3_text, mqa, windows, two ropes": ("gemma3_text", MQA | GEMMA3 | {"sliding_window": 9}),
    "gemma3_text, gqa, query_pre_attn_scalar 40": ("gemma3_text", GQA | GEMMA3 | {"query_pre_attn_scalar": 40}),
    "olmo2, mha": ("olmo2", MHA),
    "olmo2, gqa, tied": ("olmo2", GQA | TIED),
}
"""Name -> HF's model_type, and what its config.json has besides `SMALL`."""
SMALL = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "rms_norm_eps": 1e-3, "initializer_range": 0.2, "rope_parameters": ROPE,
}  # fmt: skip

TEXT = (
    "The harbour was quiet that morning , and the boats lay where the storm had left them . An old man counted the "
    "ropes , found one missing , and said nothing . By noon the wind had turned , the gulls were back , and three "
    "children ran along the wall with 17 small stones in their hands . "
)
ENDING = "The capital of France is not a small town ; its name is"
PLAYERS = ("capital", "France", "not", "town")
TARGET = " Paris"


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare logits with transformers' PyTorch models."""

    tokens: int = 60
    """Length of the sequences."""
    models: tuple[str, ...] = ()
    """Directories in HF format to compare instead of random models."""
    seed: int = 0
    gguf: tuple[Path, ...] = ()
    """GGUF files to compare instead."""
    tokenizers: tuple[str, ...] = ()
    """Directories or hub ids of the tokenizers that these files should have, in the same order."""
    smoke: bool = False
    """One architecture only; two prompts of a file."""


@nnx.jit
def forward(decoder, *arguments):
    return decoder(*arguments)


def random_checkpoint(folder: Path, model_type: str, changes: dict, seed: int) -> None:
    """Write a small random checkpoint whose biases and norms are random too."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **SMALL | changes)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean().round()), std=0.3)
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

    b, t = tokens.shape
    near = np.tile(np.arange(t), (b, 1))
    whole, padding = np.ones((b, t), int), np.arange(t)[None, :] >= t // 3 * np.arange(b)[:, None]
    inputs = {  # positions, and 1 for tokens, 0 for padding
        "near": (near, whole),
        "far": (near + 100_000, whole),
        "padded": (np.maximum(np.cumsum(padding, axis=1) - 1, 0), padding.astype(int)),
    }
    path = EMBEDDED / folder if folder in embedded_models() else folder
    ours, theirs = {}, {}
    for dtype in DTYPES:
        decoder = andor.load(folder, dtype=dtype).decoder
        reference = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
        for kind in inputs if dtype == "float32" else ("near",):
            ours[dtype, kind] = np.asarray(forward(decoder, *(jnp.asarray(each) for each in (tokens, *inputs[kind]))))
            ids, positions, mask = (torch.tensor(each, dtype=torch.long) for each in (tokens, *inputs[kind]))
            with torch.no_grad():
                logits = reference(ids, position_ids=positions, attention_mask=mask).logits
            theirs[dtype, kind] = logits.float().numpy()

    def largest(kind: str, of=lambda logits: logits) -> float:
        rows = inputs[kind][1].astype(bool)
        return float(np.abs(of(ours["float32", kind][rows]) - of(theirs["float32", kind][rows])).max())

    errors = {kind: largest(kind) for kind in inputs}
    results = {"logits float32": errors["near"], "far": errors["far"], "padded": errors["padded"]}
    results["log-odds float32"] = largest("near", log_odds)
    exact = theirs["float32", "near"]
    for dtype in DTYPES[1:]:
        for label, logits in (("andor", ours), ("torch", theirs)):
            results[f"{label} {dtype}"] = float(np.abs(logits[dtype, "near"] - exact).mean())
    return results


def compare_real(folder: str, length: int) -> dict[str, float]:
    """Differences on a checkpoint of one's own, float32, on a text of about so many tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    model = andor.load(folder, dtype="float32")
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = ENDING
    while len(model.tokenizer(f"{TEXT}{text}").input_ids) <= length:
        text = f"{TEXT}{text}"
    prompt = andor.Prompt(text, players=_last_places(text, PLAYERS))
    tokenized = tokenize(prompt, model.tokenizer, TARGET)
    ids = tokenized.token_ids[None]
    ours = np.asarray(forward(model.decoder, jnp.asarray(ids)))[0]
    with torch.no_grad():
        theirs = reference(torch.tensor(ids, dtype=torch.long)).logits[0].float().numpy()
        present = lattice.masks(prompt.n_players)[:, np.maximum(tokenized.player_of_token, 0)]
        absent = ~present & (tokenized.player_of_token >= 0)[None]
        masked = torch.tensor(np.where(absent, tokenized.mask.token_id, ids), dtype=torch.long)
        last = np.stack([reference(row[None], logits_to_keep=1).logits[0, -1].float().numpy() for row in masked])
    assert len(tokenized.target_ids) == 1, "PyTorch's v is that of one token"
    v = andor.evaluate(model, prompt, target=TARGET).v
    blocks = range(0, len(ours), 64)  # log-odds are float64: a few positions at a time
    return {
        "tokens": float(len(ours)),
        "largest logit": float(np.abs(theirs).max()),
        "logits": float(max(np.abs(ours[i : i + 64] - theirs[i : i + 64]).max() for i in blocks)),
        "log-odds": float(max(np.abs(log_odds(ours[i : i + 64]) - log_odds(theirs[i : i + 64])).max() for i in blocks)),
        "v": float(np.abs(v - log_odds(last)[:, tokenized.target_ids[0]]).max()),
    }


def _last_places(text: str, words: tuple[str, ...]) -> list[tuple[int, int]]:
    return [(text.rindex(word), text.rindex(word) + len(word)) for word in words]


def compare_gguf(file: Path, tokenizer: str | None, n_prompts: int) -> dict[str, object]:
    """Differences on one GGUF file: logits, log-odds, and the lines that are the same tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = andor.load(str(file), dtype="float32")
    texts = [prompt.text for prompt in read_prompts(EMBEDDED / "prompts.jsonl")[:n_prompts]]
    prompts = [model.tokenizer(text)["input_ids"][:40] for text in texts]
    # Behind the prompt any token will do: no token looks at those after it.
    tokens = np.array([prompt + [0] * (40 - len(prompt)) for prompt in prompts])
    ours = [np.asarray(forward(model.decoder, jnp.asarray(row[None])))[0] for row in tokens]
    own, reference = model.tokenizer, tokenizer or file.parent
    del model
    options = {} if tokenizer else {"gguf_file": file.name}
    expected = AutoTokenizer.from_pretrained(reference, **options)
    lines = mixed_lines(300)
    equal = sum(own(line)["input_ids"] == expected(line)["input_ids"] for line in lines)
    torch_model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    apart = []
    for prompt, row, actual in zip(prompts, tokens, ours, strict=True):
        with torch.no_grad():
            theirs = torch_model(torch.tensor(row[None])).logits[0, : len(prompt)].numpy()
        actual = actual[: len(prompt)]
        apart.append([np.abs(of(actual) - of(theirs)).max() for of in (np.asarray, log_odds)])
    logits, odds = np.max(apart, axis=0).tolist()
    return {"logits": logits, "log-odds": odds, "lines": f"{equal} of {len(lines)}"}


def main(config: Config) -> dict[str, dict[str, object]]:
    """Print the table; returns its numbers by row. Empty where torch is missing."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        print("torch is not installed, so there is nothing to compare with: pip install torch", file=sys.stderr)
        return {}
    if config.models:
        return _print({name: compare_real(name, config.tokens) for name in config.models})
    if config.gguf:
        if config.tokenizers and len(config.tokenizers) != len(config.gguf):
            raise ValueError(f"--tokenizers must be one for each of {len(config.gguf)} files; got {config.tokenizers}.")
        tokenizers = config.tokenizers or (None,) * len(config.gguf)
        results = {
            file.name: compare_gguf(file, tokenizer, 2 if config.smoke else 20)
            for file, tokenizer in zip(config.gguf, tokenizers, strict=True)
        }
        columns = "file", "logits float32", "log-odds float32", "lines of the same tokens"
        rows = ([n, f"{x['logits']:.1e}", f"{x['log-odds']:.1e}", x["lines"]] for n, x in results.items())
        print(markdown(columns, rows))
        return results
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
    return _print(results)


def _print(results: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    rows = ([name, *(f"{value:.1e}" for value in row.values())] for name, row in results.items())
    print(markdown(["checkpoint", *next(iter(results.values()))], rows))
    return results
