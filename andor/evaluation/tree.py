"""Masked prompts that agree so far share everything so far: the prefix tree on the device.

`andor.evaluation.prefix_tree` says which tokens go into which batch and what they attend to; here a batch goes through
the decoder layer by layer. One compiled layer serves all layers of a kind, and all prompts whose shapes fall into the
same buckets. Keys and values are written to the cache in place (its buffers are donated) before any is read.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from andor.devices.mesh import place, sharding, sizes_of
from andor.devices.processes import gather
from andor.evaluation.log_odds import Score, log_odds, target_and_others
from andor.evaluation.prefix_tree import PrefixTree
from andor.evaluation.schedule import Step
from andor.models.decoder import Decoder, DecoderLayer, mixing_weights, rotation

Cache = tuple[Float[Array, "b slots k h"], Float[Array, "b slots k h"]]
"""Keys and values of one layer, in slots."""


class TreeEvaluation:
    """An `Evaluation` of the masked prompts of one prompt by their prefix tree.

    Args:
      decoder: the network.
      tree: of one draw of the prompt, and how it is walked; as many groups as the mesh has along `data`.
      mesh: the devices that the decoder lies on, or None.
      baseline: embedding of masked tokens, where it is no token's.
    """

    def __init__(
        self, decoder: Decoder, tree: PrefixTree, mesh: Mesh | None = None, baseline: Float[Array, "d"] | None = None
    ):
        self._decoder, self._tree, self._mesh, self._baseline = decoder, tree, mesh, baseline
        self._outcomes: list[np.ndarray] = []
        self._results: list[tuple[Array, Array]] = []

    @property
    def tokens(self) -> int:
        return self._tree.tokens

    @property
    def tokens_per_batch(self) -> int:
        return self._tree.n_rows

    def steps(self) -> Iterator[Step]:
        tree, decoder, mesh = self._tree, self._decoder, self._mesh
        groups, dtype, n_layers = 2**tree.groups_players, decoder.head.dtype, decoder.config.num_layers
        shape = (groups, tree.n_slots, decoder.config.num_kv_heads, decoder.config.head_dim)
        caches = [tuple(jnp.zeros(shape, dtype, device=sharding(mesh, "btkh")) for _ in "kv") for _ in range(n_layers)]
        # What the head will read, in order of evaluation: a small part of what the caches hold.
        n_reads = -(-tree.n_final // tree.n_rows)
        shape = (groups, n_reads * tree.n_rows, decoder.config.hidden_size)
        final = jnp.zeros(shape, dtype, device=sharding(mesh, "btd"))
        n_final, n_masks, n_steps = 0, tree.n_masks, tree.n_batches + n_reads
        trunk_slots = place(tree.trunk_slots, mesh, "bu")
        for number, batch in enumerate(tree.batches(), start=1):
            tokens, positions = (place(each, mesh, "bt") for each in (batch.tokens, batch.positions))
            key_positions = place(batch.key_positions, mesh, "bnu")
            where = np.int32(batch.first_slot), positions, batch.keys, key_positions, batch.ancestors

            def through(index, layer, x, angles, where=where):
                x, caches[index] = _layer(layer, x, angles, caches[index], *where, trunk_slots)
                return x

            x = decoder.walk(*_embed(decoder, tokens, positions, self._baseline), through)
            if batch.outcome.size:
                places = np.where(batch.final, n_final + np.cumsum(batch.final) - 1, shape[1])
                final = _keep(final, x, places.astype(np.int32))
                n_final += batch.outcome.shape[1]
                self._outcomes.append(batch.outcome)
            yield Step(done=x, masks=n_masks * number // n_steps)
        # A row predicts one target token in whichever groups it is read.
        targets = tree.prompt.target_ids[np.concatenate(self._outcomes, axis=1).max(axis=0) >> tree.n_players]
        targets = np.pad(targets, (0, shape[1] - n_final)).reshape(n_reads, tree.n_rows)
        shards = sizes_of(mesh)[1]
        for number in range(n_reads):
            self._results.append(_read(decoder, shards, final, np.int32(number * tree.n_rows), targets[number]))
            yield Step(done=self._results[-1][0], masks=n_masks * (tree.n_batches + number + 1) // n_steps)

    def values(self, score: Score = "product") -> Float[np.ndarray, "s"]:
        tree = self._tree
        outcome = np.concatenate(self._outcomes, axis=1)
        groups, n_states = 2**tree.groups_players, 2**tree.n_players
        parts = []
        for part in (0, 1):
            in_order = np.concatenate([gather(result[part]) for result in self._results], axis=1)
            by_outcome = np.empty((groups, len(tree.prompt.target_ids) * n_states))
            group, row = np.nonzero(outcome >= 0)
            by_outcome[group, outcome[group, row]] = in_order[group, row]
            # Group and state make one number whose highest bit is the first player; in a lattice it is the lowest.
            by_state = np.moveaxis(by_outcome.reshape(groups, -1, n_states), 1, 0).reshape(-1, groups * n_states)
            parts.append(by_state[:, bits_reversed(tree.groups_players + tree.n_players)])
        return log_odds(*parts, score)


def bits_reversed(n_bits: int) -> Int[np.ndarray, "s"]:
    """The numbers 0, 1, ..., 2**n_bits - 1 with their bits in reverse."""
    numbers = np.arange(2**n_bits)
    return sum((((numbers >> bit) & 1) << (n_bits - 1 - bit) for bit in range(n_bits)), np.zeros_like(numbers))


@jax.jit
def _embed(decoder: Decoder, tokens, positions, baseline):
    return decoder.embed(tokens, baseline), rotation(decoder.config, positions)


@functools.partial(jax.jit, donate_argnames=("x", "cache"))
def _layer(
    layer: DecoderLayer,
    x: Float[Array, "b t d"],
    angles,
    cache: Cache,
    first_slot: Int[Array, ""],
    positions: Int[Array, "b t"],
    keys: Int[Array, "n u"],
    key_positions: Int[Array, "b n u"],
    ancestors: Bool[Array, "n w u"],
    trunk_slots: Int[Array, "b trunk"],
) -> tuple[Float[Array, "b t d"], Cache]:
    """One layer over one batch of rows, in n blocks of w rows with u keys each: (x of the next layer, new cache).

    The trunk, which may be empty, is in the first slots, and every row looks there without a list.
    """

    def attend(q, k, v, sees, scale):
        written = tuple(
            jax.lax.dynamic_update_slice_in_dim(old, new, first_slot, axis=1)
            for old, new in zip(cache, (k, v), strict=True)
        )
        of_block_k, of_block_v = (each[:, keys] for each in written)
        rows = q.reshape(q.shape[0], *ancestors.shape[:2], *q.shape[2:])
        of_rows = positions.reshape(q.shape[0], *ancestors.shape[:2])
        score = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
        scores = score("bnwkgh,bnukh->bnkgwu", rows, of_block_k)
        seen = (ancestors[None] & sees(of_rows, key_positions))[:, :, None, None]
        n_trunk = trunk_slots.shape[1]
        if n_trunk == 0:
            mixed = jnp.einsum("bnkgwu,bnukh->bnwkgh", mixing_weights(scores, seen, scale, q.dtype), of_block_v)
            return mixed.reshape(q.shape), written
        trunk_k, trunk_v = (each[:, :n_trunk] for each in written)
        of_trunk = score("bnwkgh,bukh->bnkgwu", rows, trunk_k)
        seen = jnp.concatenate([sees(of_rows, trunk_slots[:, None])[:, :, None, None], seen], axis=-1)
        weights = mixing_weights(jnp.concatenate([of_trunk, scores], axis=-1), seen, scale, q.dtype)
        on_trunk, on_block = jnp.split(weights, [n_trunk], axis=-1)
        mixed = jnp.einsum("bnkgwu,bukh->bnwkgh", on_trunk, trunk_v)
        mixed = mixed + jnp.einsum("bnkgwu,bnukh->bnwkgh", on_block, of_block_v)
        return mixed.reshape(q.shape), written

    return layer(x, angles, attend)


@functools.partial(jax.jit, donate_argnames="final")
def _keep(final, x, places):
    """Write rows of x to their places; places beyond the end are rows that nobody reads."""
    return final.at[:, places].set(x, mode="drop")


@functools.partial(jax.jit, static_argnums=1)
def _read(decoder: Decoder, shards, final, first, targets):
    """Logit of the target and logsumexp of the others for as many rows as there are targets, `[b, t]`."""
    hidden = decoder.model.norm(jax.lax.dynamic_slice_in_dim(final, first, targets.shape[0], axis=1))
    return target_and_others(decoder.head, hidden, jnp.broadcast_to(targets[None], hidden.shape[:2]), shards)
