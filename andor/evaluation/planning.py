"""What an evaluation will take, before it is begun: tokens, operations, memory; and how the masks are walked to fit."""

import dataclasses

import jax

from andor.evaluation.log_odds import VOCABULARY_PIECE
from andor.evaluation.prefix_tree import PrefixTree, bucket
from andor.models.decoder import DecoderConfig
from andor.prompts import TokenizedPrompt

_TOKENS_PER_BATCH = {"cpu": 1024}
_TOKENS_PER_BATCH_ELSEWHERE = 8192


def default_tokens_per_batch() -> int:
    """Tokens in one forward pass, a power of two: as few as keep the device busy."""
    return _TOKENS_PER_BATCH.get(jax.default_backend(), _TOKENS_PER_BATCH_ELSEWHERE)


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

    @property
    def total(self) -> int:
        # The next prompt is begun before the last one is done.
        return 2 * (self.cache + self.final) + self.batch


def memory(config: DecoderConfig, itemsize: int, tree: PrefixTree) -> Memory:
    """What walking a tree takes, for weights of `itemsize` bytes a number."""
    size = config.axis_sizes()
    d, f, k, g, h = (size[letter] for letter in "dfkgh")
    groups, rows, blocks = 2**tree.groups_players, tree.n_rows, tree.n_rows >> tree.width
    slots = tree.n_slots + (bucket(tree.trunk) if tree.trunk else 0)
    n_final = len(tree.prompt.target_ids) * 2**tree.n_players
    dense = rows * (6 * d + 3 * f + 3 * (g + 2) * k * h) * itemsize
    # Scores and weights in float32 beside what was fetched for them.
    keys = tree.n_keys + (bucket(tree.trunk) if tree.trunk else 0)
    attention = blocks * tree.n_keys * 2 * k * h * itemsize + 3 * rows * keys * k * g * 4
    head = 3 * rows * min(VOCABULARY_PIECE, config.vocab_size) * 4
    return Memory(
        cache=groups * config.num_layers * slots * 2 * k * h * itemsize,
        final=groups * -(-n_final // rows) * rows * d * itemsize,
        batch=groups * (dense + max(attention, head)),
    )


def plan_tree(
    config: DecoderConfig,
    itemsize: int,
    prompt: TokenizedPrompt,
    tokens_per_batch: int | None,
    *,
    groups_players: int = 0,
    available: int,
) -> PrefixTree:
    """How to walk the tree of a prompt: depth first as far as that saves memory, in the largest batches that fit.

    Args:
      config: of the decoder.
      itemsize: bytes of a weight.
      prompt: with its target.
      tokens_per_batch: tokens in one forward pass at most; by default what suits the device, or less to fit.
      groups_players: as for `PrefixTree`.
      available: bytes there are beside the weights.

    Raises:
      ValueError: it does not fit in any way; says what would.
    """
    rows = tokens_per_batch or default_tokens_per_batch()
    rows = 1 << (rows.bit_length() - 1)
    while True:
        tree = _leanest(prompt, rows, groups_players)
        needed = memory(config, itemsize, tree).total
        if needed <= available:
            return tree
        if tokens_per_batch is not None or rows <= 64:
            break
        rows //= 2
    n_players = tree.n_players + groups_players
    raise ValueError(
        f"the 2**{n_players} masked prompts take {needed / 1e9:.2f} GB beside the weights, in batches of {rows} "
        f"tokens, and {available / 1e9:.2f} GB of memory are free. Name fewer players (each halves it), use a smaller "
        "dtype, or free memory."
    )


def _leanest(prompt: TokenizedPrompt, rows: int, groups_players: int) -> PrefixTree:
    """Depth first from the level where that holds the fewest keys: the order costs no time."""
    whole = PrefixTree(prompt, rows, groups_players)
    splits = range(max(1, whole.n_players - whole.width))
    return min((dataclasses.replace(whole, split=split) for split in splits), key=lambda tree: tree.n_slots)
