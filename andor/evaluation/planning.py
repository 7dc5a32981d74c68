"""What an evaluation will take, before it is begun: tokens, operations, memory; and how the masks are walked to fit."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from andor.devices import rules
from andor.devices.memory import Insufficient
from andor.devices.mesh import ALONG, check_divides, check_sizes
from andor.evaluation.log_odds import VOCABULARY_PIECE
from andor.evaluation.prefix_tree import PrefixTree
from andor.models.decoder import DecoderConfig
from andor.models.weights import count_parameters
from andor.prompts import TokenizedPrompt

TOKENS_PER_BATCH_CPU = 1024
TOKENS_PER_BATCH_ACCELERATOR = 8192


def default_tokens_per_batch() -> int:
    """Tokens in one forward pass, a power of two: as few as keep the device busy."""
    return TOKENS_PER_BATCH_CPU if rules.backend() == "cpu" else TOKENS_PER_BATCH_ACCELERATOR


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that an evaluation takes beside the weights, for one prompt, on all devices together.

    Attributes:
      cache: keys and values of all layers, trunk included.
      final: hidden states that the head will read.
      batch: what is alive at a time within a batch, as estimated.
    """

    cache: int
    final: int
    batch: int

    def total(self, in_flight: int) -> int:
        """Of so many prompts at a time: the next one is begun before the last one is done."""
        return in_flight * (self.cache + self.final) + self.batch


def memory(config: DecoderConfig, itemsize: int, tree: PrefixTree, shards: int = 1) -> Memory:
    """What walking a tree takes, for weights of `itemsize` bytes a number, each copy of them on `shards` devices."""
    size = config.axis_sizes()
    d, f, k, g, h = (size[letter] for letter in "dfkgh")
    groups, rows, blocks = 2**tree.groups_players, tree.n_rows, tree.n_rows >> tree.width
    n_trunk = len(tree.trunk_slots)
    # Activations of width d are whole on every device; what has heads, f or the vocabulary is divided.
    dense = rows * (shards * 6 * d + 3 * f + 3 * (g + 2) * k * h) * itemsize
    # Scores and weights in float32 beside what was fetched for them.
    attention = blocks * tree.n_keys * 2 * k * h * itemsize + 3 * rows * (tree.n_keys + n_trunk) * k * g * 4
    head = 3 * rows * min(VOCABULARY_PIECE, config.vocab_size) * 4
    return Memory(
        cache=groups * config.num_layers * tree.n_slots * 2 * k * h * itemsize,
        final=shards * groups * -(-tree.n_final // rows) * rows * d * itemsize,
        batch=groups * (dense + max(attention, head)),
    )


def plan_tree(
    config: DecoderConfig,
    itemsize: int,
    prompt: TokenizedPrompt,
    tokens_per_batch: int | None = None,
    *,
    groups_players: int = 0,
    shards: int = 1,
    in_flight: int = 1,
    default_tokens: int | None = None,
    available: int,
) -> PrefixTree:
    """How to walk the tree of a prompt: depth first as far as that saves memory, in the largest batches that fit.

    Args:
      config: of the decoder.
      itemsize: bytes of a weight.
      prompt: with its target, and one draw.
      tokens_per_batch: tokens in one forward pass at most; by default what suits the device, or less to fit.
      groups_players: as for `PrefixTree`.
      shards: devices that hold one copy of the weights together.
      in_flight: prompts that are evaluated at a time.
      default_tokens: what suits the device; by default that of the present one.
      available: bytes there are beside the weights.

    Raises:
      ValueError: it does not fit in any way; says what would.
    """
    rows = tokens_per_batch or default_tokens or default_tokens_per_batch()
    rows = 1 << (rows.bit_length() - 1)
    least = rows if tokens_per_batch else min(rows, 64)
    while True:
        tree = _leanest(prompt, rows, groups_players)
        needed = memory(config, itemsize, tree, shards).total(in_flight)
        if needed <= available:
            return tree
        if rows <= least:
            break
        rows //= 2
    n_players = tree.n_players + groups_players
    for fewer in range(n_players - 1, groups_players, -1):
        tree = _leanest(_without(prompt, n_players - fewer), rows, groups_players)
        if memory(config, itemsize, tree, shards).total(in_flight) <= available:
            advice = f"The last {fewer} players fit: name fewer"
            break
    else:
        advice = "Not even one player would fit: free memory"
    if tokens_per_batch and tokens_per_batch > 64:
        advice = f"Ask for smaller batches, or leave their size to the plan. {advice}"
    raise Insufficient(
        f"the 2**{n_players} masked prompts take {needed / 1e9:.2f} GB beside the weights in batches of {rows} "
        f"tokens, and {available / 1e9:.2f} GB of memory are free. {advice}, or use a smaller dtype or a larger device."
    )


def _without(prompt: TokenizedPrompt, count: int) -> TokenizedPrompt:
    """The prompt with its first players as background."""
    return dataclasses.replace(prompt, player_of_token=np.maximum(prompt.player_of_token - count, -1))


def _leanest(prompt: TokenizedPrompt, rows: int, groups_players: int) -> PrefixTree:
    """Depth first from the level where that holds the fewest keys: the order costs no time."""
    whole = PrefixTree(prompt, rows, groups_players)
    splits = range(max(1, whole.n_players - whole.width))
    return min(map(whole.with_split, splits), key=lambda tree: tree.n_slots)


def operations(config: DecoderConfig, tree: PrefixTree) -> float:
    """Floating-point operations of a tree, a multiplication and an addition counted as two."""
    size = config.axis_sizes()
    d, f, k, g, h, v = (size[letter] for letter in "dfkghv")
    weights_per_token = config.num_layers * (d * h * k * (2 * g + 2) + 3 * d * f)
    attention_per_token = config.num_layers * 2 * k * g * h * (tree.n_keys + tree.trunk)
    of_head = tree.n_masks * len(tree.prompt.target_ids) * v * d
    return 2.0 * (tree.tokens * (weights_per_token + attention_per_token)) + 2.0 * of_head


@dataclasses.dataclass(frozen=True)
class Share:
    """What one device of a mesh holds and does for one prompt under one model; all hold and do the same.

    Attributes:
      tree: how all devices together walk the masks, once for each draw.
      draws: of words, where masked ones are drawn; else 1. Operations and what is exchanged are of all.
      memory: bytes beside the weights on all devices together.
      n_devices: their number.
      weights: bytes of weights, to the byte.
      beside: bytes beside the weights, divided evenly. Buffers of the exchange are not counted.
      operations: divided evenly, although norms and residuals are done on every device of a copy.
      exchanged: bytes sent for the sums over the devices of a copy, of a vector for each token: one after the embedding
        and two in every layer, in the dtype of the weights, each as a ring does it. The few numbers that the head
        and norms of whole projections exchange are not counted. Other copies are sent nothing.
    """

    tree: PrefixTree
    draws: int
    memory: Memory
    n_devices: int
    weights: int
    beside: int
    operations: float
    exchanged: int

    @property
    def tokens(self) -> int:
        """Tokens that are evaluated."""
        return self.draws * self.tree.tokens

    @property
    def naive_tokens(self) -> int:
        """Tokens that would be evaluated from scratch."""
        return self.draws * self.tree.naive_tokens

    def seconds(self, rate: float) -> float:
        """Time for the operations at a rate of matrix products (in operations per second), of which `EFFICIENCY` is
        reached. The exchange is not counted: divide `exchanged` by the bandwidth between the devices for it."""
        return self.operations / (rate * EFFICIENCY)


def share(
    config: DecoderConfig,
    itemsize: int,
    prompt: TokenizedPrompt,
    *,
    data: int = 1,
    model: int = 1,
    available: int,
    in_flight: int = 1,
    **batches: int | None,
) -> Share:
    """Plan a prompt on data x model devices, without having them.

    Args:
      config, itemsize, prompt, in_flight: as for `plan_tree`; `batches` too, its tokens_per_batch and default_tokens.
      data, model: sizes of the mesh, as for `andor.mesh.make_mesh`.
      available: bytes of one device.

    Raises:
      ValueError: no mesh has these sizes, they do not divide the model or the masks, or it does not fit.
    """
    check_sizes(data=data, model=model)
    check_divides({"data": data, "model": model}, "".join(ALONG), config.axis_sizes())
    groups = groups_players("the prompt", int(prompt.player_of_token.max()) + 1, data)
    n_devices, weights = data * model, weights_of_device(config, itemsize, model)
    if weights > available:
        raise Insufficient(
            f"the weights take {weights / 1e9:.1f} GB{f' on each of {n_devices} devices' * (n_devices > 1)}, and "
            f"{available / 1e9:.1f} GB of memory are there. Divide them among more devices (model=...), or use a "
            "smaller dtype (bfloat16)."
        )
    draws = prompt.draws
    in_flight = with_draws(in_flight, prompt)
    free = (available - weights) * n_devices
    how = batches | {"groups_players": groups, "shards": model, "in_flight": in_flight}
    tree = plan_tree(config, itemsize, draws[0], available=free, **how)
    together = memory(config, itemsize, tree, model)
    sums = len(draws) * tree.tokens // data * (2 * config.num_layers + 1) * config.hidden_size * itemsize
    return Share(
        tree=tree,
        draws=len(draws),
        memory=together,
        n_devices=n_devices,
        weights=weights,
        beside=-(-together.total(in_flight) // n_devices),
        operations=len(draws) * operations(config, tree) / n_devices,
        exchanged=2 * (model - 1) * sums // model,
    )


def with_draws(in_flight: int, prompt: TokenizedPrompt) -> int:
    """Evaluations that hold memory at a time, of so many prompts: a draw is begun before the one before it is done."""
    return max(in_flight, min(len(prompt.draws), 2))


def weights_of_device(config: DecoderConfig, itemsize: int, model: int) -> int:
    """Bytes of weights on each of `model` devices that hold a copy together: all is divided but the norms of d or h."""
    of_layer = (4 if config.norms == "around" else 2) * config.hidden_size
    of_layer += 2 * config.head_dim if config.qk_norm == "head" else 0
    norms = config.num_layers * of_layer + config.hidden_size
    return ((count_parameters(config) - norms) // model + norms) * itemsize


def groups_players(what: str, n_players: int, data: int) -> int:
    """Players whose states tell apart the groups of masks along `data`; `what` is said to have too few, if so."""
    if data > 2**n_players:
        raise Insufficient(
            f"{what} has {n_players} players, whose {2**n_players} masks cannot be divided among data={data} of the "
            "mesh. Name more players, or use a smaller mesh."
        )
    return data.bit_length() - 1


EFFICIENCY = 0.5
"""Share of the rate of large matrix products that an evaluation is taken to reach."""


def matrix_rate(dtype) -> float:
    """Operations per second of a large matrix product on the default device, measured now, in a second or so."""
    size = 2048 if rules.backend() == "cpu" else 8192
    product = jax.jit(jnp.matmul)
    x = jnp.ones((size, size), dtype)
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
