"""Ways of evaluating all masks of a prompt, side by side: tokens, time, memory, compilations.

What:      an embedded model, and a random one of 6 layers, width 256, vocabulary 4096 (or an architecture from a
           config.json, with random weights made on the device), on prompts of 2.5 tokens a player: the prefix tree, our
           own naive batches, and transformers' PyTorch model in batches of 256 masked prompts with logits at the last
           position only. Every measurement runs in a process of its own, one after the other. Times are wall-clock
           and best of three (of one where a run takes longer than 20 s), after compilation; memory is what the process
           takes at most beyond what it took before its first evaluation.
Command:   python -m experiments evaluation_benchmark [--players 8 10 12 14] [--models random tiny-llama] [--smoke]
           GPU: python -m experiments evaluation_benchmark --models CONFIG.json --dtype bfloat16 --players 10 12
                --methods tree
Hardware:  2 CPU cores, about 10 minutes. Without torch its column is left out.
Expected:  evaluated tokens = sum_t 2**k(t), v equal to 1e-4 everywhere; at 12 players the tree at least 0.7 times as
           much faster than naive as it has fewer tokens, and at least 5 times faster than PyTorch; 14 players in less
           than 2 GB.
"""

import dataclasses
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

import andor
from andor.devices.memory import available_bytes
from andor.evaluation import MATMUL_PRECISION
from andor.evaluation.naive import NaiveEvaluation
from andor.evaluation.planning import default_tokens_per_batch, matrix_rate, memory, operations, plan_tree
from andor.evaluation.tree import TreeEvaluation
from andor.models import FAMILIES, embedded_models
from andor.models.config import read_config, read_json
from andor.models.decoder import Decoder
from andor.models.weights import abstract_decoder, hf_tensors
from andor.prompts import Mask, TokenizedPrompt

Method = Literal["tree", "naive", "torch"]

RANDOM = {
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}
TORCH_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure.

    Attributes:
      models: "random", embedded models, or paths of a config.json to fill with random weights.
      players: numbers of players.
      tokens_per_player: length of the prompts.
      methods: ways of evaluating.
      dtype: of the weights of random models.
      tokens_per_batch: of ours, by default what suits the device.
      most_players_torch: more are left out, because they take long.
      out: file for the records; nothing is written without it.
      smoke: seconds instead of minutes, numbers without meaning.
      only: measure one case, "MODEL METHOD PLAYERS", here in this process, and print it as JSON.
    """

    models: tuple[str, ...] = ("random", "tiny-llama")
    players: tuple[int, ...] = (8, 10, 12, 14)
    tokens_per_player: float = 2.5
    methods: tuple[Method, ...] = ("tree", "naive", "torch")
    dtype: Literal["float32", "bfloat16"] = "float32"
    tokens_per_batch: int | None = None
    most_players_torch: int = 12
    out: Path | None = None
    smoke: bool = False
    only: tuple[str, str, int] | None = None


def prompt_of(n_players: int, tokens_per_player: float, vocab_size: int) -> TokenizedPrompt:
    """Random tokens; players of one token, spread evenly over the prompt from its second token on."""
    length = round(tokens_per_player * n_players)
    player_of_token = np.full(length, -1, np.int32)
    player_of_token[1 + np.floor(np.arange(n_players) * (length - 1) / n_players).astype(int)] = np.arange(n_players)
    tokens = np.random.default_rng(n_players).integers(4, vocab_size, length)
    return TokenizedPrompt(tokens.astype(np.int32), player_of_token, np.array([5], np.int32), Mask("token", 3))


def model_of(name: str, dtype: str) -> tuple[Decoder, dict]:
    """(decoder, settings of its config.json)."""
    if name in embedded_models():
        folder = andor.models.EMBEDDED / name
        return andor.load(name).decoder, read_json(folder / "config.json")
    settings = RANDOM if name == "random" else read_json(Path(name))
    config = read_config(settings, FAMILIES[settings["model_type"]])
    graphdef, abstract = abstract_decoder(config, jnp.dtype(dtype))
    leaves, structure = jax.tree.flatten(abstract)

    @jax.jit
    def weight(key, like):
        # Norm weights are 1; the others keep activations of size 1 through any number of layers.
        return 1 + jnp.zeros_like(like) if like.ndim == 1 else 0.02 * jax.random.normal(key, like.shape, like.dtype)

    keys = jax.random.split(jax.random.key(0), len(leaves))
    leaves = [weight(key, jnp.zeros(leaf.shape, leaf.dtype)) for key, leaf in zip(keys, leaves, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, leaves)), settings


def ours(method: Method, decoder: Decoder, prompt: TokenizedPrompt, tokens_per_batch: int | None):
    """(evaluation, facts about it)."""
    itemsize = decoder.head.dtype.itemsize
    tree = plan_tree(decoder.config, itemsize, prompt, tokens_per_batch, available=available_bytes())
    if method == "naive":
        return NaiveEvaluation(decoder, prompt, tokens_per_batch or default_tokens_per_batch()), {}
    facts = {"operations": operations(decoder.config, tree), "padded": tree.n_batches * tree.n_rows}
    return TreeEvaluation(decoder, tree), facts | {"planned_bytes": memory(decoder.config, itemsize, tree).total(1)}


def run(evaluation) -> Float[np.ndarray, "s"]:
    """v, with at most two batches waiting."""
    waiting = []
    with jax.default_matmul_precision(MATMUL_PRECISION):
        for step in evaluation.steps():
            waiting.append(step.done)
            if len(waiting) > 2:
                waiting.pop(0).block_until_ready()
        return evaluation.values()


def torch_evaluation(decoder: Decoder, settings: dict, prompt: TokenizedPrompt):
    """A function that gives v by transformers' PyTorch model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from andor.core.lattice import masks

    family = FAMILIES[settings["model_type"]]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32).eval()
    tensors = {name: torch.tensor(value) for name, value in hf_tensors(decoder, family, np.float32).items()}
    model.load_state_dict(tensors, strict=not decoder.config.tied_head)
    present = masks(int(prompt.player_of_token.max()) + 1)
    player = np.maximum(prompt.player_of_token, 0)
    kept = np.where(prompt.player_of_token >= 0, present[:, player], True)
    tokens = np.where(kept, prompt.token_ids, prompt.mask.token_id).astype(np.int64)
    target = int(prompt.target_ids[0])

    @torch.inference_mode()
    def evaluate():
        v = []
        for first in range(0, len(tokens), TORCH_BATCH):
            batch = torch.tensor(tokens[first : first + TORCH_BATCH])
            logits = model(batch, logits_to_keep=1, use_cache=False).logits[:, -1].double()
            own = logits[:, target].clone()
            logits[:, target] = -torch.inf
            v.append((own - torch.logsumexp(logits, dim=-1)).numpy())
        return np.concatenate(v)

    return evaluate


def measure(config: Config, name: str, method: Method, n_players: int) -> dict:
    """One case, in this process."""
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compilations.append(seconds) if "backend_compile" in event else None
    )
    decoder, settings = model_of(name, config.dtype)
    prompt = prompt_of(n_players, config.tokens_per_player, decoder.config.vocab_size)
    record = {"model": Path(name).stem, "method": method, "n": n_players, "length": len(prompt.token_ids)}
    record["expected_tokens"] = int(np.sum(2 ** np.maximum.accumulate(prompt.player_of_token + 1)))
    record["scratch_tokens"] = 2**n_players * len(prompt.token_ids)
    if method == "torch":
        evaluate = torch_evaluation(decoder, settings, prompt)
        record["tokens"] = record["scratch_tokens"]
    else:
        evaluation, facts = ours(method, decoder, prompt, config.tokens_per_batch)
        record |= facts | {"tokens": evaluation.tokens, "matrix_rate": matrix_rate(jnp.dtype(config.dtype))}

        def evaluate():
            return run(ours(method, decoder, prompt, config.tokens_per_batch)[0])

    jax.block_until_ready(jax.tree.leaves(nnx.state(decoder)))
    del compilations[:]
    before, start = resident_bytes(), time.perf_counter()
    v = evaluate()
    record["first_seconds"] = time.perf_counter() - start
    record["compilations"] = len(compilations)
    seconds = [record["first_seconds"]]  # compiled already where nothing is compiled
    while len(seconds) < 4 and sum(seconds[1:]) < 20:
        start = time.perf_counter()
        evaluate()
        seconds.append(time.perf_counter() - start)
    statistics = jax.devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    record |= {"seconds": min(seconds[1:]), "peak_bytes": peak, "extra_bytes": peak - before, "v": v.tolist()}
    return record


def resident_bytes() -> int:
    """Memory of the device in use, or of this process."""
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return statistics["bytes_in_use"]
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


def measured(config: Config, name: str, method: Method, n_players: int) -> dict:
    """One case, in a process of its own."""
    options = ["--tokens-per-player", str(config.tokens_per_player), "--dtype", config.dtype]
    if config.tokens_per_batch is not None:
        options += ["--tokens-per-batch", str(config.tokens_per_batch)]
    command = [sys.executable, "-m", "experiments", "evaluation_benchmark", "--only", name, method, str(n_players)]
    # The package is found from any working directory.
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent.parent)]).lstrip(os.pathsep)
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def table(records: list[dict]) -> str:
    """Markdown: one line per case; ratios are to the tree on the same prompt."""
    lines = [
        "| model | n | method | tokens (of sum 2^k) | time | time / tree | tokens / tree | max diff of v | memory | "
        "compilations | of matrix rate |",
        "|" + "---|" * 11,
    ]
    trees = {(each["model"], each["n"]): each for each in records if each["method"] == "tree"}
    for each in records:
        tree = trees.get((each["model"], each["n"]), each)
        reached = each.get("operations", np.nan) / each["seconds"] / each.get("matrix_rate", np.nan)
        difference = np.max(np.abs(np.subtract(each["v"], tree["v"])))
        lines.append(
            f"| {each['model']} | {each['n']} | {each['method']} | {each['tokens']:,} ({each['expected_tokens']:,}) | "
            f"{each['seconds']:.3g} s | {each['seconds'] / tree['seconds']:.2f} | "
            f"{each['tokens'] / tree['tokens']:.2f} | {difference:.1e} | {each['extra_bytes'] / 1e9:.2f} GB | "
            f"{each['compilations'] or ''} | {'' if np.isnan(reached) else f'{reached:.0%}'} |"
        )
    return "\n".join(lines)


def growth(records: list[dict]) -> list[str]:
    """By how much time and tokens grow with a player more: least squares of their logarithms on n."""
    lines = []
    for name in dict.fromkeys(each["model"] for each in records):
        for method in dict.fromkeys(each["method"] for each in records):
            mine = [each for each in records if (each["model"], each["method"]) == (name, method)]
            if len(mine) >= 2:
                n = [each["n"] for each in mine]
                time_, tokens = (
                    np.exp(np.polyfit(n, np.log([each[what] for each in mine]), 1)[0]) for what in ("seconds", "tokens")
                )
                lines.append(
                    f"{name}, {method}: a player more takes {time_:.2f} times as long, {tokens:.2f} the tokens."
                )
    return lines


def main(config: Config) -> list[dict]:
    """Measure, print the table, and save the records if asked."""
    if config.only is not None:
        print(json.dumps(measure(config, *config.only)))
        return []
    if config.smoke:
        config = dataclasses.replace(config, models=("tiny-llama",), players=(3, 4))
    has_torch = importlib.util.find_spec("torch") is not None
    if "torch" in config.methods and not has_torch:
        print("torch is not installed: its column is left out (pip install torch).")
    records = []
    for name in config.models:
        for n_players in config.players:
            for method in config.methods:
                if method != "torch" or (has_torch and n_players <= config.most_players_torch):
                    records.append(measured(config, name, method, n_players))
                    print(name, n_players, method, f"{records[-1]['seconds']:.3g} s", file=sys.stderr, flush=True)
    print(table(records))
    print("\n".join(growth(records)))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps(records))
    return records
