"""The prefix tree of a prompt's masks: which tokens must be evaluated, in which order, and what each attends to.

In a causal decoder the state at a position depends on the players that started so far and on nothing later. With the
players in text order, the 2**n_players masked prompts form a binary tree: position t has 2**k(t) different states,
k(t) being the players started by t, and sum_t 2**k(t) tokens replace t * 2**n_players. Here a state is a number whose
highest bit is the first player: the states with a common past are neighbours, and the ancestor of state s at an
earlier position is s >> (players started since).

Where masked words leave nothing behind (`Mask.leaves_out`), a player's own tokens are evaluated only where it is there:
2**(k(t) - 1) times. They are rows of the states before it, and seen by those states behind it that have it.

Tokens are evaluated in batches of a fixed number of rows, cut from one long order in which every token comes after
those it attends to. Rows of one batch may attend to each other: a batch stores its keys before it reads any.

    chunk   up to 2**width neighbouring positions of one level, a power of two and perhaps some padding in front
    block   2**width rows: all positions of a chunk for as many neighbouring states. They share most of their past, so
            that the block reads it once: a list of keys, and a mask that says which row sees which.
    top     the chunks up to some level, breadth first
    split   what comes after, divided by the states of the first `split` players: one such part after another, so that
            the keys of the last one can be overwritten (depth first)
    trunk   the positions before the first player, when there are many: every row sees them, without a list

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
"""A longer common beginning is attended to as one dense block; a shorter one is cheaper as keys."""

_MOST_WIDTH = 5

# What a row costs beside its attention, and what it costs to fetch a key for a block, in units of what it costs a row
# to look at a key: measured on a CPU, with models of width 128 and 256.
_ROW_COST = 200
_FETCH_COST = 8


def bucket(size: int) -> int:
    """The next of 8, 12, 16, 24, 32, 48, ...: at most a third is padding.

    Static shapes are rounded up to these, so that a thousand prompts do not mean a thousand compilations.
    """
    power = max(8, 1 << max(size - 1, 0).bit_length())
    return power * 3 // 4 if power > 8 and size <= power * 3 // 4 else power


def levels(prompt: TokenizedPrompt) -> Int[np.ndarray, "t"]:
    """Players whose states tell the evaluations of a position apart: it is evaluated 2 to their number times.

    They are the players started by then; less its own at a token of a player that leaves nothing behind when masked.
    """
    player = prompt.read()[1]
    started = np.maximum.accumulate(player) + 1
    return np.where(player >= 0, player, started) if prompt.mask.leaves_out else started


class Batch(NamedTuple):
    """Rows to evaluate together; r rows in blocks of w.

    Attributes:
      tokens: token ids, one line per group of masks (see `PrefixTree`). int32 `[groups, r]`.
      positions: of the rows in their masked prompts. int32 `[groups, r]`.
      first_slot: the keys of the rows go to this and the following r slots.
      keys: slots that each block attends to. int32 `[r / w, keys]`.
      key_positions: of the tokens there; after all others for those that nobody sees. int32 `[groups, r / w, keys]`.
      ancestors: whether a key is of the past of a row of its block, or of a later position. `[r / w, w, keys]`.
      final: whether a row predicts a target token. `[r]`.
      outcome: for the final rows in order, target token * number of states + state; -1 where a row is final in other
        groups only. int64 `[groups, final]`.
    """

    tokens: Int32[np.ndarray, "g r"]
    positions: Int32[np.ndarray, "g r"]
    first_slot: int
    keys: Int32[np.ndarray, "blocks keys"]
    key_positions: Int32[np.ndarray, "g blocks keys"]
    ancestors: Bool[np.ndarray, "blocks w keys"]
    final: Bool[np.ndarray, "r"]
    outcome: Int[np.ndarray, "g final"]


class _Chunks(NamedTuple):
    """The positions of the tree in chunks, `[c]` each.

    first, count: positions first, ..., first + count - 1. size: a power of two, at least count; what is beyond count
    is padding. level: players whose states tell its rows apart.
    """

    first: Int[np.ndarray, "c"]
    count: Int[np.ndarray, "c"]
    size: Int[np.ndarray, "c"]
    level: Int[np.ndarray, "c"]


class _Keys(NamedTuple):
    """What a block of a chunk attends to, `[c, keys]` or `[blocks, keys]` each.

    Key e is of a row's own past iff position[e] is not after the row's and (its state's place in the block >> shift[e])
    is lane[e]. Where owned[e], it is a token of the player behind that state, and nothing is left of it where that
    player is masked: only rows of its own level see it, and those that have the player.
    """

    position: Int[np.ndarray, "n e"]
    shift: Int[np.ndarray, "n e"]
    lane: Int[np.ndarray, "n e"]
    owned: Bool[np.ndarray, "n e"]


@dataclasses.dataclass(frozen=True, eq=False)
class PrefixTree:
    """The tree of one tokenised prompt and how it is walked.

    Attributes:
      prompt: with its target; of one draw, where its mask draws words.
      rows: rows of a batch at most.
      groups_players: the masks are divided by the states of this many first players into 2**groups_players groups,
        which are evaluated side by side (on different devices). The shape of the tree is the same for all groups.
      split: as above, among the players of a group.
    """

    prompt: TokenizedPrompt
    rows: int
    groups_players: int = 0
    split: int = 0

    def with_split(self, split: int) -> "PrefixTree":
        """The same tree with another split, on which the shape of its blocks does not depend."""
        tree = dataclasses.replace(self, split=split)
        vars(tree).update(_shape=self._shape, _chunks=self._chunks)
        return tree

    def of_draw(self, prompt: TokenizedPrompt) -> "PrefixTree":
        """The same tree with other tokens in the place of masked ones."""
        tree = dataclasses.replace(self, prompt=prompt)
        vars(tree).update(_shape=self._shape, _chunks=self._chunks)
        return tree

    @functools.cached_property
    def levels(self) -> Int[np.ndarray, "t"]:
        """Players of a group whose states tell the evaluations of every position apart."""
        return np.maximum(levels(self.prompt) - self.groups_players, 0)

    @functools.cached_property
    def _own(self) -> Int[np.ndarray, "t"]:
        """Player of a group of every position; negative for background and for players that tell groups apart."""
        return self.prompt.read()[1] - self.groups_players

    @property
    def n_players(self) -> int:
        """Players that differ within a group."""
        return int(np.max(self._own)) + 1

    @property
    def tokens(self) -> int:
        """Tokens that are evaluated: 2 to the level of every position, in each group."""
        return 2**self.groups_players * int(np.sum(2**self.levels))

    @property
    def n_masks(self) -> int:
        """Masks of all groups."""
        return 2 ** (self.groups_players + self.n_players)

    @property
    def naive_tokens(self) -> int:
        """Tokens that would be evaluated from scratch."""
        left_out = int(np.sum(self.prompt.player_of_token >= 0)) if self.prompt.mask.kind == "delete" else 0
        return self.n_masks * len(self.levels) - self.n_masks * left_out // 2

    @functools.cached_property
    def trunk(self) -> int:
        """Positions that every row sees without a list; 0 unless they are many."""
        common = int(np.argmax(self._own >= 0)) if self.n_players else len(self._own)
        return common if common > LONG_TRUNK else 0

    @functools.cached_property
    def trunk_slots(self) -> Int32[np.ndarray, "g u"]:
        """Position in each of the first slots, which hold the trunk and padding, whose position is after all others."""
        if not self.trunk:
            return np.zeros((2**self.groups_players, 0), np.int32)
        size = bucket(int(self._order(self.trunk - 1, 0)) + 1)
        slots = np.full((2**self.groups_players, size), len(self.levels), np.int32)
        trunk = np.arange(self.trunk)
        slots[:, self._order(trunk, 0)] = self._positions_of_keys(trunk, np.zeros_like(trunk))
        return slots

    @functools.cached_property
    def width(self) -> int:
        """log2 of the rows of a block."""
        return self._shape[0]

    @functools.cached_property
    def _shape(self) -> tuple[int, int]:
        """(width, log2 of the least size of a chunk) of least estimated cost.

        Wide blocks fetch few keys a row, but see many for nothing; large chunks see fewer, but are padded.
        """

        def cost(shape):
            chunks = self._chunks_of(*shape)
            rows = np.maximum(2**chunks.level * chunks.size, 2 ** shape[0])
            keys = bucket(int(np.max(self._n_keys_of(chunks, shape[0]))))
            return np.sum(rows) * (_ROW_COST + keys + self.trunk + keys * _FETCH_COST / 2 ** shape[0])

        widths = range(min(_MOST_WIDTH, self.rows.bit_length() - 1) + 1)
        return min(((width, least) for width in widths for least in range(width + 1)), key=cost)

    def _chunks_of(self, width: int, least: int) -> _Chunks:
        """Small chunks first, so that what a level has in small chunks, for many states at a time, is little."""
        chunks = []
        begin = 0
        for end in [*(np.flatnonzero(np.diff(self.levels)) + 1).tolist(), len(self.levels)]:
            length, first = end - begin, begin
            padded = -(-length // 2**least) * 2**least
            whole, rest = divmod(padded, 2**width)
            sizes = [2**bit for bit in range(width) if rest >> bit & 1] + [2**width] * whole
            for place, size in enumerate(sizes):
                count = size - (padded - length if place == 0 else 0)
                chunks.append((first, count, size, self.levels[begin]))
                first += count
            begin = end
        return _Chunks(*np.array(chunks).T)

    def _lanes_of(self, chunks: _Chunks, width: int, chunk: int) -> tuple[Int[np.ndarray, "u"], ...]:
        """(positions, levels since, lanes) of what a block of one chunk attends to beside the trunk."""
        past = np.arange(self.trunk, chunks.first[chunk] + chunks.count[chunk])
        since = chunks.level[chunk] - self.levels[past]
        states = min(2**width // chunks.size[chunk], 2 ** int(chunks.level[chunk]))
        return past, since, np.maximum(states >> since, 1)

    def _n_keys_of(self, chunks: _Chunks, width: int) -> Int[np.ndarray, "c"]:
        return np.array([self._lanes_of(chunks, width, chunk)[2].sum() for chunk in range(len(chunks.first))])

    @functools.cached_property
    def _chunks(self) -> _Chunks:
        return self._chunks_of(*self._shape)

    @functools.cached_property
    def n_keys(self) -> int:
        """Keys of a block, padding included."""
        return bucket(int(np.max(self._n_keys_of(self._chunks, self.width))))

    @functools.cached_property
    def _keys(self) -> _Keys:
        """By chunk. Padding is a position after all others, which nobody sees, of state 0."""
        shape = (len(self._chunks.first), self.n_keys)
        keys = _Keys(np.full(shape, len(self.levels)), np.full(shape, 62), np.zeros(shape, int), np.zeros(shape, bool))
        owned = (self._own >= 0) & self.prompt.mask.leaves_out
        for chunk in range(shape[0]):
            past, since, lanes = self._lanes_of(self._chunks, self.width, chunk)
            size = lanes.sum()
            keys.position[chunk, :size], keys.shift[chunk, :size] = np.repeat(past, lanes), np.repeat(since, lanes)
            keys.owned[chunk, :size] = np.repeat(owned[past], lanes)
            keys.lane[chunk, :size] = np.arange(size) - np.repeat(np.cumsum(lanes) - lanes, lanes)
        return keys

    @functools.cached_property
    def _layout(self) -> "_Layout":
        chunks, width = self._chunks, self.width
        rows = np.maximum(2**chunks.level * chunks.size, 2**width)
        # A part has whole blocks of every chunk.
        early = np.ones(len(rows), bool) if self.split == 0 else chunks.level < self.split + width
        of_top, of_part = np.where(early, rows, 0), np.where(early, 0, rows >> self.split)
        top, part = int(of_top.sum()), int(of_part.sum())
        total = top + (2**self.split if part else 0) * part
        # As many batches as must be, of equal size: the last one is not mostly padding.
        of_batch = bucket(-(-total // -(-total // self.rows)))
        batch = min(self.rows >> width, -(-of_batch // 2**width)) << width
        kept = -(-top // batch) * batch
        # A slot is used again after a part and a batch: by then all who read it are done.
        ring = -(-(part + batch) // batch) * batch if part else 0
        in_top, in_part = np.cumsum(of_top) - of_top, np.cumsum(of_part) - of_part
        return _Layout(early, in_top, in_part, top, part, total, batch, kept, ring)

    @property
    def n_rows(self) -> int:
        """Rows of a batch."""
        return self._layout.rows

    @property
    def n_batches(self) -> int:
        return -(-self._layout.total // self.n_rows)

    @property
    def n_slots(self) -> int:
        """Tokens whose keys and values are held at a time, in each group."""
        batches = max(self._layout.kept + self._layout.ring, len(self.trunk_slots)) / self.n_rows
        return self.n_rows * (1 << max(int(np.ceil(batches)) - 1, 0).bit_length())

    def batches(self) -> Iterator[Batch]:
        """Rows in the order of evaluation. Nothing is said of rows of padding but that they disturb nobody."""
        layout, chunks, width = self._layout, self._chunks, 2**self.width
        per_batch, last_block = self.n_rows // width, layout.total // width - 1
        n_states, reads = 2**self.n_players, self._reads
        for number in range(self.n_batches):
            blocks = number * per_batch + np.arange(per_batch)
            chunk, first_state = self._place(np.minimum(blocks, last_block) * width)
            size = chunks.size[chunk][:, None]
            lane, step = np.divmod(np.arange(width), size)
            states, positions = first_state[:, None] + lane, chunks.first[chunk][:, None] + step
            real = (step < chunks.count[chunk][:, None]) & (states < 2 ** chunks.level[chunk][:, None])
            real &= (blocks <= last_block)[:, None]
            # Padding sees what the last token of its chunk sees.
            positions = np.minimum(positions, (chunks.first + chunks.count - 1)[chunk][:, None])
            keys = _Keys(*(table[chunk] for table in self._keys))
            key_states = (first_state[:, None] >> keys.shift) + keys.lane
            ancestors = (lane[:, :, None] >> keys.shift[:, None]) == keys.lane[:, None]
            if self.prompt.mask.leaves_out:
                since = keys.shift[:, None]
                has_player = (states[:, :, None] >> np.maximum(since - 1, 0)) & 1 == 1
                ancestors &= ~keys.owned[:, None] | (since == 0) | has_player
            positions, states = positions.reshape(-1), states.reshape(-1)
            final = real.reshape(-1) & np.any(reads.groups[:, positions], axis=0)
            read, state = positions[final], states[final]
            outcome = reads.target[read] * n_states + (state << reads.shift[read]) + reads.add[read]
            yield Batch(
                tokens=self._tokens(positions, states),
                positions=self._positions(positions, states).astype(np.int32),
                first_slot=int(layout.slot(number * self.n_rows)),
                keys=self._slots(keys.position, key_states).astype(np.int32),
                key_positions=self._positions_of_keys(keys.position, key_states).astype(np.int32),
                ancestors=ancestors,
                final=final,
                outcome=np.where(reads.groups[:, read], outcome[None], -1),
            )

    @functools.cached_property
    def _reads(self) -> "_Reads":
        """What is predicted where: the first target token by the last token that is there, the others one by one."""
        groups, length = np.arange(2**self.groups_players)[:, None], len(self.prompt.token_ids)
        target = np.maximum(np.arange(len(self.levels)) - (length - 1), 0)
        shift, add = self.n_players - self.levels, np.zeros_like(target)
        reads = np.broadcast_to(np.arange(len(target)) >= length - 1, (len(groups), len(target))).copy()
        if self.prompt.mask.leaves_out:
            player = self.prompt.player_of_token
            behind = np.flatnonzero(player < 0)[-1]  # every token after it may be left out
            reads[:, length - 1] = False
            ends = [at for at in range(behind, length) if at + 1 == length or player[at] != player[at + 1]]
            for at in ends:
                after = np.setdiff1d(player[at + 1 :], player[at])
                of_groups = after[after < self.groups_players]
                reads[:, at] = ~np.any(self._has_player(groups, of_groups), axis=1)
                if 0 <= player[at] < self.groups_players:
                    reads[:, at] &= self._has_player(groups, player[at : at + 1])[:, 0]
                if self._own[at] >= 0:
                    add[at] = 1 << (shift[at] - 1)
        return _Reads(reads, target, shift, add)

    def _has_player(self, groups, players):
        """Whether groups have players that tell groups apart."""
        return (groups >> (self.groups_players - 1 - players)[None]) & 1 == 1

    @property
    def n_final(self) -> int:
        """Rows that predict a target token."""
        return int(np.sum(2 ** self.levels[np.any(self._reads.groups, axis=0)]))

    def _positions(self, token, state):
        """Positions in the masked prompts of the tokens at places of the whole one, `[groups, ...]`."""
        groups = 2**self.groups_players
        positions = np.broadcast_to(token, (groups, *token.shape))
        if self.prompt.mask.kind != "delete":
            return positions
        lengths = np.bincount(self.prompt.player_of_token + 1)[1:]
        left_out = np.zeros(positions.shape, int)
        for player, length in enumerate(lengths[self.groups_players :]):
            behind = self.levels[token] - player  # levels since the player began, if any
            left_out += length * ((behind > 0) & ((state >> np.maximum(behind - 1, 0)) & 1 == 0))
        if self.groups_players:
            gone = self._gone
            left_out += (np.cumsum(gone, axis=1) - gone)[:, token]
        return positions - left_out

    @functools.cached_property
    def _gone(self) -> Bool[np.ndarray, "g t"]:
        """Which tokens a group leaves out, of players that tell groups apart."""
        groups, player = np.arange(2**self.groups_players)[:, None], self.prompt.read()[1]
        tells = (player >= 0) & (self._own < 0) & self.prompt.mask.leaves_out
        return tells[None] & ~self._has_player(groups, np.where(tells, player, 0))

    def _positions_of_keys(self, token, state):
        """As `_positions`, and after all others for padding and for tokens that a group leaves out."""
        real = np.minimum(token, len(self.levels) - 1)
        nobody = (token >= len(self.levels)) | (self._gone[:, real] if self.groups_players else False)
        return np.where(nobody, len(self.levels), self._positions(real, state))

    @functools.cached_property
    def _chunk_of_position(self) -> Int[np.ndarray, "t"]:
        return np.repeat(np.arange(len(self._chunks.first)), self._chunks.count)

    def _slots(self, position, state):
        """Slots of the keys of tokens; of any for padding."""
        real = np.minimum(position, len(self.levels) - 1)
        return self._layout.slot(self._order(real, np.where(position < len(self.levels), state, 0)))

    def _order(self, position, state):
        """Place of tokens in the order of evaluation."""
        layout, chunks = self._layout, self._chunks
        chunk = self._chunk_of_position[position]
        below = np.maximum(chunks.level[chunk] - self.split, 0)
        in_chunk = position - chunks.first[chunk]
        in_part = (state & (2**below - 1)) * chunks.size[chunk] + in_chunk + layout.in_part[chunk]
        in_top = layout.in_top[chunk] + state * chunks.size[chunk] + in_chunk
        return np.where(layout.early[chunk], in_top, layout.top + (state >> below) * layout.part + in_part)

    def _place(self, order):
        """(chunk, first state) of the blocks that begin at places in the order: the inverse of `_order`."""
        layout, chunks = self._layout, self._chunks
        part, rest = np.divmod(np.maximum(order - layout.top, 0), max(layout.part, 1))
        in_top = np.searchsorted(layout.in_top, order, side="right") - 1
        # Chunks of the top are offset by 0 too; of equal offsets, the last one is the one that has rows.
        in_part = np.searchsorted(layout.in_part, rest, side="right") - 1
        chunk = np.where(order < layout.top, in_top, in_part)
        below = np.maximum(chunks.level[chunk] - self.split, 0)
        of_top = (order - layout.in_top[chunk]) // chunks.size[chunk]
        of_part = (part << below) + (rest - layout.in_part[chunk]) // chunks.size[chunk]
        return chunk, np.where(order < layout.top, of_top, of_part)

    def _tokens(self, positions, states) -> Int32[np.ndarray, "g r"]:
        """Token ids of the rows in every group: others where the state says that the player is masked."""
        given, player = (each[positions] for each in self.prompt.read())
        if self.prompt.mask.leaves_out:
            return np.broadcast_to(given, (2**self.groups_players, len(given))).astype(np.int32)
        own = player - self.groups_players
        present = (states >> np.maximum(self.levels[positions] - 1 - own, 0)) & 1
        group = np.arange(2**self.groups_players)[:, None]
        of_group = (group >> np.maximum(-1 - own, 0)[None]) & 1
        masked = (player >= 0)[None] & (np.where(own >= 0, present[None], of_group) == 0)
        return np.where(masked, self.prompt.instead[positions][None], given[None]).astype(np.int32)


class _Reads(NamedTuple):
    """Where target tokens are predicted, by position.

    groups: in which groups. target: which token. shift, add: a row of state r predicts it for the masks of state
    (r << shift) + add.
    """

    groups: Bool[np.ndarray, "g t"]
    target: Int[np.ndarray, "t"]
    shift: Int[np.ndarray, "t"]
    add: Int[np.ndarray, "t"]


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the rows of every chunk stand in the order of evaluation.

    Attributes:
      early: whether a chunk belongs to the top.
      in_top, in_part: place of its first row, from the beginning of the top or of a part.
      top, part, total: rows of the top, of one part, of all.
      rows: of a batch.
      kept, ring: slots that are never used again, and slots that are used in turn.
    """

    early: Bool[np.ndarray, "c"]
    in_top: Int[np.ndarray, "c"]
    in_part: Int[np.ndarray, "c"]
    top: int
    part: int
    total: int
    rows: int
    kept: int
    ring: int

    def slot(self, order):
        """Slot of the token at a place in the order."""
        return np.where(order < self.kept, order, self.kept + (order - self.kept) % max(self.ring, 1))
