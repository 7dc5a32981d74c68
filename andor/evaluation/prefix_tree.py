"""The prefix tree of a prompt's masks: which tokens must be evaluated, in which order, and what each attends to.

In a causal decoder the state at a position depends on the players that started so far and on nothing later. With the
players in text order, the 2**n_players masked prompts form a binary tree: position t has 2**k(t) different states,
k(t) being the players started by t, and sum_t 2**k(t) tokens replace t * 2**n_players. Here a state is a number whose
highest bit is the first player: the states with a common past are neighbours, and the ancestor of state s at an
earlier position is s >> (players started since).

Tokens are evaluated in batches of a fixed number of rows, cut from one long order in which every token comes after
those it attends to. Rows of one batch may attend to each other: a batch stores its keys before it reads any.

    block   2**width rows, neighbouring states of one position. They share most of their past, so that the block
            reads it once: a list of keys, and a mask that says which row sees which.
    top     the positions up to some level, breadth first
    split   what comes after, divided by the states of the first `split` players: one such part after another, so that
            the keys of the last one can be overwritten (depth first)
    trunk   the positions before the first player, when there are many: prefilled, and seen by every row

NumPy only.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32

from andor.prompts import TokenizedPrompt

LONG_TRUNK = 32
"""A longer common beginning is prefilled and attended to as one dense block; a shorter one is cheaper as keys."""


def bucket(size: int) -> int:
    """The next of 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ...: at most a fifth is padding.

    Static shapes are rounded up to these, so that a thousand prompts do not mean a thousand compilations.
    """
    step = 2 ** max((size - 1).bit_length() - 3, 1)
    return max(8, -(-size // step) * step)


class Batch(NamedTuple):
    """Rows to evaluate together; r rows in blocks of w.

    Attributes:
      tokens: token ids, one line per group of masks (see `PrefixTree.groups`). int32 `[groups, r]`.
      positions: int32 `[r]`.
      first_slot: the keys of the rows go to this and the following r slots.
      keys: slots that each block attends to. int32 `[r / w, keys]`.
      position_of_block: row of `PrefixTree.visible` for each block. int32 `[r / w]`.
      final: whether a row predicts a target token. `[r]`.
      outcome: for the final rows in order, target token * number of states + state. int64.
    """

    tokens: Int32[np.ndarray, "g r"]
    positions: Int32[np.ndarray, "r"]
    first_slot: int
    keys: Int32[np.ndarray, "blocks keys"]
    position_of_block: Int32[np.ndarray, "blocks"]
    final: Bool[np.ndarray, "r"]
    outcome: Int[np.ndarray, "final"]


class _Keys(NamedTuple):
    """What a block at one position attends to: its row's state s sees key e iff (row >> shift[e]) == lane[e]."""

    position: Int[np.ndarray, "e"]
    shift: Int[np.ndarray, "e"]
    lane: Int[np.ndarray, "e"]


@dataclasses.dataclass(frozen=True, eq=False)
class PrefixTree:
    """The tree of one tokenised prompt and how it is walked.

    Attributes:
      prompt: with its target.
      rows: rows of a batch at most; a power of two.
      groups_players: the masks are divided by the states of this many first players into 2**groups_players groups,
        which are evaluated side by side (on different devices). The shape of the tree is the same for all groups.
      split: as above, among the players of a group.
    """

    prompt: TokenizedPrompt
    rows: int
    groups_players: int = 0
    split: int = 0

    @functools.cached_property
    def player_of_position(self) -> Int[np.ndarray, "t"]:
        """Player of every token that is read, -1 for background: the prompt, and the target but for its last token."""
        background = np.full(len(self.prompt.target_ids) - 1, -1)
        return np.concatenate([self.prompt.player_of_token, background])

    @functools.cached_property
    def started(self) -> Int[np.ndarray, "t"]:
        """Players of a group started by every position, k(t)."""
        return np.maximum(np.maximum.accumulate(self.player_of_position) + 1 - self.groups_players, 0)

    @property
    def n_players(self) -> int:
        """Players that differ within a group."""
        return int(self.started[-1])

    @property
    def tokens(self) -> int:
        """Tokens that must be evaluated: sum_t 2**k(t), in each group."""
        return 2**self.groups_players * int(np.sum(2**self.started))

    @functools.cached_property
    def trunk(self) -> int:
        """Positions that are prefilled; 0 unless they are many."""
        # Where a target token is predicted there must be a row.
        common = min(int(np.sum(self.started == 0)), len(self.prompt.token_ids) - 1)
        return common if common > LONG_TRUNK else 0

    @functools.cached_property
    def width(self) -> int:
        """log2 of the rows of a block, by estimated cost: wide blocks read few keys a row, but see many for nothing."""

        # Measured on a CPU: to fetch a key for a block costs 8 times what a row needs to look at it.
        def cost(width):
            return self._keys_of(len(self.started) - 1, width).position.size * (1 + 8 / 2**width)

        return min(range(min(5, self.n_players + 1, self.rows.bit_length())), key=cost)

    @functools.cached_property
    def _keys(self) -> list[_Keys]:
        return [self._keys_of(t, self.width) for t in range(len(self.started))]

    def _keys_of(self, t: int, width: int) -> _Keys:
        past = np.arange(self.trunk, t + 1)
        since = self.started[t] - self.started[past]
        lanes = np.maximum(2 ** min(width, self.started[t]) >> since, 1)
        first = np.cumsum(lanes) - lanes
        lane = np.arange(lanes.sum()) - np.repeat(first, lanes)
        return _Keys(np.repeat(past, lanes), np.repeat(since, lanes), lane)

    @functools.cached_property
    def n_keys(self) -> int:
        """Keys of a block, padding included."""
        return bucket(max(keys.position.size for keys in self._keys[self.trunk :]))

    @functools.cached_property
    def visible(self) -> Bool[np.ndarray, "t w keys"]:
        """Which row of a block at a position sees which of its keys."""
        row = np.arange(2**self.width)[:, None]
        out = np.zeros((bucket(len(self.started)), 2**self.width, self.n_keys), bool)
        for t, keys in enumerate(self._keys[self.trunk :], start=self.trunk):
            out[t, :, : keys.position.size] = (row >> keys.shift) == keys.lane
        return out

    @functools.cached_property
    def _layout(self) -> "_Layout":
        k, width = self.started, self.width
        states = 2 ** k[self.trunk :]
        early = np.ones_like(states, bool) if self.split == 0 else k[self.trunk :] < self.split + width
        of_top = np.where(early, np.maximum(states, 2**width), 0)
        of_part = np.where(early, 0, states >> self.split)
        top, part = int(of_top.sum()), int(of_part.sum())
        total = top + (2**self.split if part else 0) * part
        # As many batches as must be, of equal size: the last one is not mostly padding.
        of_batch = bucket(-(-total // -(-total // self.rows)))
        rows = min(self.rows, -(-of_batch // 2**width) * 2**width)
        kept = -(-top // rows) * rows
        # A slot is used again after a part and a batch: by then all who read it are done.
        ring = -(-(part + rows) // rows) * rows if part else 0
        return _Layout(
            early, np.cumsum(of_top) - of_top, np.cumsum(of_part) - of_part, top, part, total, rows, kept, ring
        )

    @property
    def n_rows(self) -> int:
        """Rows of a batch."""
        return self._layout.rows

    @property
    def n_batches(self) -> int:
        return -(-self._layout.total // self.n_rows)

    @property
    def n_slots(self) -> int:
        """Tokens whose keys and values are held at a time, in each group, without the trunk."""
        batches = (self._layout.kept + self._layout.ring) // self.n_rows
        return self.n_rows * (batches if batches < 8 else bucket(batches))

    def batches(self) -> Iterator[Batch]:
        """Rows in the order of evaluation. Nothing is said of rows of padding but that they disturb nobody."""
        layout, width, per_batch = self._layout, 2**self.width, self.n_rows // 2**self.width
        # Padding is state 0 of the first position, which nobody is shown.
        keys = _Keys(*(np.full((len(self.started), self.n_keys), fill) for fill in (self.trunk, 62, 0)))
        for t, of_position in enumerate(self._keys[self.trunk :], start=self.trunk):
            for table, values in zip(keys, of_position, strict=True):
                table[t, : values.size] = values
        first_final = len(self.prompt.token_ids) - 1
        last_block = layout.total // width - 1
        for number in range(self.n_batches):
            blocks = number * per_batch + np.arange(per_batch)
            index = np.minimum(blocks, last_block) * width
            position, state = self._place(index)
            states = state[:, None] + np.arange(width)
            real = (blocks <= last_block)[:, None] & (states < 2 ** self.started[position][:, None])
            positions = np.repeat(position, width)
            final = (real & (position >= first_final)[:, None]).reshape(-1)
            seen = _Keys(*(table[position] for table in keys))
            past = (state[:, None] >> seen.shift) + seen.lane
            yield Batch(
                tokens=self._tokens(positions, states.reshape(-1)),
                positions=positions.astype(np.int32),
                first_slot=int(layout.slot(number * self.n_rows)),
                keys=layout.slot(self._order(seen.position, past)).astype(np.int32),
                position_of_block=position.astype(np.int32),
                final=final,
                outcome=(positions[final] - first_final) * 2**self.n_players + states.reshape(-1)[final],
            )

    def _order(self, position, state):
        """Place of tokens in the order of evaluation."""
        layout, here = self._layout, position - self.trunk
        below = np.maximum(self.started[position] - self.split, 0)
        in_part = layout.top + (state >> below) * layout.part + layout.in_part[here] + (state & (2**below - 1))
        return np.where(layout.early[here], layout.in_top[here] + state, in_part)

    def _place(self, order):
        """(position, state) of places that begin a block: the inverse of `_order`."""
        layout = self._layout
        part, rest = np.divmod(np.maximum(order - layout.top, 0), max(layout.part, 1))
        in_top = np.searchsorted(layout.in_top, order, side="right") - 1
        # Positions of the top are offset by 0 too; of equal offsets, the last one is the one that has rows.
        in_part = np.searchsorted(layout.in_part, rest, side="right") - 1
        here = np.where(order < layout.top, in_top, in_part)
        below = np.maximum(self.started[here + self.trunk] - self.split, 0)
        state = np.where(order < layout.top, order - layout.in_top[here], (part << below) + rest - layout.in_part[here])
        return here + self.trunk, state

    def _tokens(self, positions, states) -> Int32[np.ndarray, "g r"]:
        """Token ids of the rows in every group: the baseline token where the state says that the player is masked."""
        given = np.concatenate([self.prompt.token_ids, self.prompt.target_ids[:-1]])[positions]
        player = self.player_of_position[positions]
        own = player - self.groups_players
        present = (states >> np.maximum(self.started[positions] - 1 - own, 0)) & 1
        group = np.arange(2**self.groups_players)[:, None]
        of_group = (group >> np.maximum(-1 - own, 0)[None]) & 1
        masked = (player >= 0)[None] & (np.where(own >= 0, present[None], of_group) == 0)
        return np.where(masked, self.prompt.baseline_id, given[None]).astype(np.int32)

    def trunk_tokens(self) -> Int32[np.ndarray, "g t"]:
        """Token ids of the trunk in every group."""
        positions = np.arange(self.trunk)
        return self._tokens(positions, np.zeros_like(positions))


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the rows of every position after the trunk stand in the order of evaluation.

    Attributes:
      early: whether a position belongs to the top.
      in_top, in_part: place of its first row, from the beginning of the top or of a part.
      top, part, total: rows of the top, of one part, of all.
      rows: of a batch.
      kept, ring: slots that are never used again, and slots that are used in turn.
    """

    early: Bool[np.ndarray, "t"]
    in_top: Int[np.ndarray, "t"]
    in_part: Int[np.ndarray, "t"]
    top: int
    part: int
    total: int
    rows: int
    kept: int
    ring: int

    def slot(self, order):
        """Slot of the token at a place in the order."""
        return np.where(order < self.kept, order, self.kept + (order - self.kept) % max(self.ring, 1))
