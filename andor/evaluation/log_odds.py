"""Log-odds of a target: the vocabulary is reduced piece by piece, so that no row of logits is ever held whole."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from andor.models.decoder import wide

Score = Literal["product", "sum"]
"""How the tokens of a target are put together; see `log_odds`."""

VOCABULARY_PIECE = 8192
"""Logits of a row that are held at a time."""


def target_and_others(
    head: Float[Array, "v d"], hidden: Float[Array, "*rows d"], targets: Int[Array, "*rows"], shards: int = 1
) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
    """(logit of each row's target token, logsumexp of the logits of all other tokens), float32; float64 of float64.

    Args:
      head: weights of the output head.
      hidden: normalised hidden states.
      targets: token ids.
      shards: devices among which the vocabulary is divided evenly. A piece is taken from each, so that no weights move.
    """
    dtype = wide(hidden.dtype)
    size = head.shape[0] // shards
    piece = min(max(VOCABULARY_PIECE // shards, 1), size)
    head = head.reshape(shards, size, -1)
    of_shard = jnp.arange(shards)[:, None] * size

    def reduce(carry, begin):
        target, others = carry
        # The last piece begins earlier rather than ending later: what it repeats is left out.
        first = jnp.minimum(begin, size - piece)
        weights = jax.lax.dynamic_slice_in_dim(head, first, piece, axis=1)
        # The barrier keeps XLA from merging what follows into the product, which makes it half as fast on a CPU.
        logits = jax.lax.optimization_barrier(
            jnp.einsum("...d,pvd->...pv", hidden, weights, preferred_element_type=dtype)
        )
        column = (first + jnp.arange(piece))[None]
        token = (of_shard + column).reshape((1,) * targets.ndim + (shards, piece))
        fresh = (column >= begin).reshape((1,) * targets.ndim + (1, piece))
        is_own = token == targets[..., None, None]
        skipped = ~fresh | is_own
        largest = jnp.max(jnp.where(skipped, -jnp.inf, logits), axis=(-2, -1))
        rest = jnp.sum(jnp.where(skipped, 0.0, jnp.exp(logits - largest[..., None, None])), axis=(-2, -1))
        if shards == 1:  # a gather is faster, where it is not across devices
            column = jnp.clip(targets - first, 0, piece - 1)
            own = jnp.take_along_axis(logits[..., 0, :], column[..., None], axis=-1)[..., 0]
        else:
            own = jnp.sum(jnp.where(is_own, logits, 0.0), axis=(-2, -1))
        here = jnp.any(fresh & is_own, axis=(-2, -1))
        return (jnp.where(here, own, target), jnp.logaddexp(others, largest + jnp.log(rest))), None

    start = jnp.zeros(targets.shape, dtype), jnp.full(targets.shape, -jnp.inf, dtype)
    (target, others), _ = jax.lax.scan(reduce, start, jnp.arange(0, size, piece))
    return target, others


def log_odds(
    target: Float[np.ndarray, "k s"], others: Float[np.ndarray, "k s"], score: Score = "product"
) -> Float[np.ndarray, "s"]:
    """Log-odds of a target of k tokens in nats, float64.

    Args:
      target, others: what `target_and_others` gives for every target token, each read after the ones before it.
      score: "product", log p / (1 - p) with p the product of the tokens' probabilities; or "sum", the sum of the
        tokens' own log-odds, sum_j log p_j / (1 - p_j), as papers on fine-tuned language models and the demo of
        SymtrustAI's article (InteractionExplanationDemo, 2026) define v. For one token they are the same. The sum is
        no log-odds of the target: a token that is certain adds much to it, and nothing to the product.

    Neither p nor 1 - p is formed: log p is a sum, and 1 - p = sum_j (1 - p_j) prod_{i<j} p_i a logsumexp, which stays
    exact for p near 0 and near 1. For one token it is target - others.
    """
    target, others = np.asarray(target, np.float64), np.asarray(others, np.float64)
    if len(target) == 1 or score == "sum":
        return np.sum(target - others, axis=0)
    total = np.logaddexp(target, others)
    log_p, log_not_p = target - total, others - total
    log_all_before = np.cumsum(log_p, axis=0) - log_p
    return np.sum(log_p, axis=0) - np.logaddexp.reduce(log_not_p + log_all_before, axis=0)
