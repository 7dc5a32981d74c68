"""Ways of evaluating all masks of a prompt, side by side: tokens, operations, CPU time, memory, compilations.

What:      an embedded model, a random one of 6 layers, width 256, vocabulary 4096, an architecture from a config.json
           with random weights made on the device, or a model of one's own (GGUF file, directory, hub id), on prompts of
           2.5 random tokens a player or on the first prompt of a file. Methods: the prefix tree; our own naive batches;
           transformers' PyTorch model on batches of masked prompts with logits at the last position only ("torch"); the
           same with what stands before the first player evaluated once for each batch ("torch-prefix").
           Every measurement runs in a process of its own on one thread, methods in alternation, and the least of their
           times counts: CPU time of a process that has compiled. Memory is what the process takes at most beyond what
           it took before its first evaluation. Operations are those of matrix products, the body's for each token and
           the head's for each mask: with times as their ratio, both sides would be equally busy ("of operations" 100%).
Command:   python -m experiments evaluation_benchmark [--players 8 10 12 14] [--models random tiny-llama] [--smoke]
           python -m experiments evaluation_benchmark --models FILE.gguf --prompts FILE.jsonl --players 10
                --methods tree torch torch-prefix --rounds 2
           GPU: python -m experiments evaluation_benchmark --models CONFIG.json --dtype bfloat16 --players 10 12
                --methods tree
Hardware:  2 CPU cores, about 10 minutes, of which one computes. Without torch its columns are left out.
Expected:  evaluated tokens = sum_t 2**k(t), v equal to 1e-4 everywhere; at 12 players the tree at least 0.7 times as
           much faster than naive as it has fewer tokens, and at least 5 times faster than PyTorch; on real models at
           least 0.9 of the ratio of operations to PyTorch; 14 players in less than 2 GB.
"""

import dataclasses
import importlib.util
import itertools
import json
import resource
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
from andor.evaluation.prefix_tree import levels
from andor.evaluation.tree import TreeEvaluation
from andor.models import FAMILIES
from andor.models.config import read_config, read_json
from andor.models.decoder import Decoder
from andor.models.weights import abstract_decoder, count_parameters, hf_tensors
from andor.prompts import Mask, TokenizedPrompt, read_prompts, tokenize
from experiments.benchmarks.common import ONE_THREAD, markdown, python

Method = Literal["tree", "naive", "torch", "torch-prefix"]

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
TORCH_TOKENS = 4096
"""Tokens in a batch of PyTorch's; more are not faster on a CPU."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure.

    Attributes:
      models: "random", paths of a config.json to fill with random weights, or names as for `andor.load`.
      players: numbers of players.
      prompts: a file whose first prompt is taken, with its last players; by default random tokens.
      tokens_per_player: length of the prompts.
      methods: ways of evaluating.
      dtype: of the weights.
      rounds: processes for each measurement, in alternation.
      tokens_per_batch: of ours, by default what suits the device.
      most_players_torch: more are left out, because they take long.
      out: file for the records; nothing is written without it.
      smoke: seconds instead of minutes, numbers without meaning.
      only: measure one case, "MODEL METHOD PLAYERS", here in this process, and print it as JSON.
    """

    models: tuple[str, ...] = ("random", "tiny-llama")
    players: tuple[int, ...] = (8, 10, 12, 14)
    prompts: Path | None = None
    tokens_per_player: float = 2.5
    methods: tuple[Method, ...] = ("tree", "naive", "torch", "torch-prefix")
    dtype: Literal["float32", "bfloat16"] = "float32"
    rounds: int = 1
    tokens_per_batch: int | None = None
    most_players_torch: int = 12
    out: Path | None = None
    smoke: bool = False
    only: tuple[str, str, int] | None = None


def prompt_of(config: Config, n_players: int, name: str, vocab_size: int) -> TokenizedPrompt:
    """The first prompt of the file, with its last players; else random tokens, with players of one token spread evenly
    over the prompt from its second token on."""
    if config.prompts is not None:
        prompt = read_prompts(config.prompts)[0]
        if prompt.n_players < n_players:
            raise ValueError(f"the first prompt of {config.prompts} has {prompt.n_players} players; got {n_players}.")
        prompt = dataclasses.replace(prompt, players=prompt.players[-n_players:])
        tokenized = tokenize(prompt, andor.models.load_tokenizer(name))
        target = tokenized.target_ids[:1] if len(tokenized.target_ids) else np.array([5], np.int32)
        return dataclasses.replace(tokenized, target_ids=target)
    length = round(config.tokens_per_player * n_players)
    player_of_token = np.full(length, -1, np.int32)
    player_of_token[1 + np.floor(np.arange(n_players) * (length - 1) / n_players).astype(int)] = np.arange(n_players)
    tokens = np.random.default_rng(n_players).integers(4, vocab_size, length)
    return TokenizedPrompt(tokens.astype(np.int32), player_of_token, np.array([5], np.int32), Mask("token", 3))


def model_of(name: str, dtype: str) -> tuple[Decoder, dict]:
    """(decoder, settings of its config.json)."""
    if name != "random" and not name.endswith(".json"):
        return andor.load(name, dtype=dtype).decoder, andor.models.find(name, weights=False).settings
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


def torch_evaluation(decoder: Decoder, settings: dict, prompt: TokenizedPrompt, from_token: int):
    """A function that gives v by transformers' PyTorch model; tokens before `from_token` are evaluated once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

    from andor.core.lattice import masks

    family = FAMILIES[settings["model_type"]]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32).eval()
    tensors = {name: torch.tensor(value) for name, value in hf_tensors(decoder, family, np.float32).items()}
    model.load_state_dict(tensors, strict=not decoder.config.tied_head)
    del tensors
    present = masks(int(prompt.player_of_token.max()) + 1)
    player = np.maximum(prompt.player_of_token, 0)
    kept = np.where(prompt.player_of_token >= 0, present[:, player], True)
    tokens = torch.tensor(np.where(kept, prompt.token_ids, prompt.mask.token_id).astype(np.int64))
    target = int(prompt.target_ids[0])

    @torch.inference_mode()
    def evaluate():
        v, size = [], max(1, TORCH_TOKENS // (tokens.shape[1] - from_token))
        for batch in tokens.split(size):
            options = {"use_cache": False}
            if from_token:
                cache = DynamicCache()
                model(batch[:1, :from_token], past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache.batch_repeat_interleave(len(batch))
                options = {"past_key_values": cache, "use_cache": True}
            logits = model(batch[:, from_token:], logits_to_keep=1, **options).logits[:, -1].double()
            own = logits[:, target].clone()
            logits[:, target] = -torch.inf
            v.append((own - torch.logsumexp(logits, dim=-1)).numpy())
        return np.concatenate(v)

    return evaluate


def operations_of(decoder: Decoder, n_tokens: int, n_masks: int) -> float:
    """Floating-point operations of products with weights: the body's for each token, the head's for each mask."""
    config = decoder.config
    head = config.vocab_size * config.hidden_size
    norms = (2 * config.num_layers + 1) * config.hidden_size
    body = count_parameters(config) - head * (1 if config.tied_head else 2) - norms
    return 2.0 * (n_tokens * body + n_masks * head)


def measure(config: Config, name: str, method: Method, n_players: int) -> dict:
    """One case, in this process."""
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compilations.append(seconds) if "backend_compile" in event else None
    )
    decoder, settings = model_of(name, config.dtype)
    prompt = prompt_of(config, n_players, name, decoder.config.vocab_size)
    length, n_masks = len(prompt.token_ids), 2**n_players
    record = {"model": Path(name).stem, "method": method, "n": n_players, "length": length}
    record["expected_tokens"] = int(np.sum(2.0 ** levels(prompt)))
    if method in ("torch", "torch-prefix"):
        first = int(np.argmax(prompt.player_of_token >= 0)) if method == "torch-prefix" else 0
        evaluate = torch_evaluation(decoder, settings, prompt, first)
        record["tokens"] = n_masks * (length - first)
    else:
        evaluation, facts = ours(method, decoder, prompt, config.tokens_per_batch)
        record |= facts | {"tokens": evaluation.tokens, "matrix_rate": matrix_rate(jnp.dtype(config.dtype))}

        def evaluate():
            return run(ours(method, decoder, prompt, config.tokens_per_batch)[0])

    record["work"] = operations_of(decoder, record["tokens"], n_masks)
    jax.block_until_ready(jax.tree.leaves(nnx.state(decoder)))
    del compilations[:]
    before, start = resident_bytes(), time.perf_counter()
    v = evaluate()
    record["first_seconds"] = time.perf_counter() - start
    record["compilations"] = len(compilations)
    seconds, cpu_seconds = [], []
    while len(seconds) < 3 and sum(seconds) < 20:  # a first time without what is compiled
        start, cpu_start = time.perf_counter(), time.process_time()
        evaluate()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    statistics = jax.devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    record |= {"seconds": min(seconds), "cpu_seconds": min(cpu_seconds)}
    return record | {"peak_bytes": peak, "extra_bytes": peak - before, "v": v.tolist()}


def resident_bytes() -> int:
    """Memory of the device in use, or of this process."""
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return statistics["bytes_in_use"]
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


def measured(config: Config, name: str, method: Method, n_players: int) -> dict:
    """One case, in a process of its own."""
    given = {
        "--tokens-per-player": config.tokens_per_player,
        "--dtype": config.dtype,
        "--prompts": config.prompts,
        "--tokens-per-batch": config.tokens_per_batch,
    }
    options = [str(each) for pair in given.items() if pair[1] is not None for each in pair]
    case = "-m", "experiments", "evaluation_benchmark", "--only", name, method, str(n_players)
    return python(*case, *options, environment=ONE_THREAD)


def table(records: list[dict]) -> str:
    """Markdown: one line per case; ratios are to the tree on the same prompt."""
    columns = (
        "model", "n", "method", "tokens (of sum 2^k)", "CPU time", "time / tree", "work / tree", "of operations",
        "max diff of v", "memory", "compilations", "of matrix rate",
    )  # fmt: skip
    rows, trees = [], {(each["model"], each["n"]): each for each in records if each["method"] == "tree"}
    for each in records:
        tree = trees.get((each["model"], each["n"]), each)
        reached = each.get("operations", np.nan) / each["seconds"] / each.get("matrix_rate", np.nan)
        difference = np.max(np.abs(np.subtract(each["v"], tree["v"])))
        times, work = each["cpu_seconds"] / tree["cpu_seconds"], each["work"] / tree["work"]
        tokens = f"{each['tokens']:,} ({each['expected_tokens']:,})"
        ratios = f"{times:.2f}", f"{work:.2f}", f"{times / work:.0%}", f"{difference:.1e}"
        rate = "" if np.isnan(reached) else f"{reached:.0%}"
        memory_ = f"{each['extra_bytes'] / 1e9:.2f} GB"
        case = each["model"], each["n"], each["method"], tokens, f"{each['cpu_seconds']:.3g} s"
        rows.append([*case, *ratios, memory_, each["compilations"] or "", rate])
    return markdown(columns, rows)


def growth(records: list[dict]) -> list[str]:
    """By how much time and tokens grow with a player more: least squares of their logarithms on n."""
    lines = []
    cases = dict.fromkeys((each["model"], each["method"]) for each in records)
    for name, method in cases:
        mine = [each for each in records if (each["model"], each["method"]) == (name, method)]
        if len(mine) >= 2:
            n, logs = [each["n"] for each in mine], np.log([[each["cpu_seconds"], each["tokens"]] for each in mine])
            time_, tokens = np.exp(np.polyfit(n, logs, 1)[0])
            lines.append(f"{name}, {method}: a player more takes {time_:.2f} times as long, {tokens:.2f} the tokens.")
    return lines


def main(config: Config) -> list[dict]:
    """Measure, print the table, and save the records if asked."""
    if config.only is not None:
        print(json.dumps(measure(config, *config.only)))
        return []
    if config.smoke:
        config = dataclasses.replace(config, models=("tiny-llama",), players=(3, 4))
    has_torch = importlib.util.find_spec("torch") is not None
    wants_torch = [method for method in config.methods if method.startswith("torch")]
    if wants_torch and not has_torch:
        print("torch is not installed: its columns are left out (pip install torch).")
    records = []
    for name, n_players in itertools.product(config.models, config.players):
        leave_out = wants_torch if not has_torch or n_players > config.most_players_torch else []
        found = {method: [] for method in config.methods if method not in leave_out}
        for _, method in itertools.product(range(config.rounds), found):
            found[method].append(measured(config, name, method, n_players))
            seconds = found[method][-1]["cpu_seconds"]
            print(name, n_players, method, f"{seconds:.3g} s", file=sys.stderr, flush=True)
        records += [min(each, key=lambda record: record["cpu_seconds"]) for each in found.values()]
    print(table(records))
    print("\n".join(growth(records)))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps(records))
    return records
