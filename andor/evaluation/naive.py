"""Every masked prompt from scratch: the reference that the prefix tree is checked against.

Masks are evaluated in batches of one fixed shape, and sequences are padded on the right, where a causal decoder never
looks, so that prompts of similar length share one compilation.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from andor.devices.mesh import place, sizes_of
from andor.devices.processes import gather
from andor.evaluation.log_odds import Score, log_odds, target_and_others
from andor.evaluation.prefix_tree import bucket
from andor.evaluation.schedule import Step
from andor.models.decoder import Decoder
from andor.prompts import TokenizedPrompt


class NaiveEvaluation:
    """An `Evaluation` of the masked prompts of one prompt as they are.

    Args:
      decoder: the network.
      prompt: with its target.
      tokens_per_batch: tokens of one batch at most, padding included; but one prompt on every device at least.
      mesh: the devices that the decoder lies on, or None.
      subsets: which masks; by default all, in order.
      baseline: embedding of masked tokens, where it is no token's.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompt: TokenizedPrompt,
        tokens_per_batch: int,
        mesh: Mesh | None = None,
        subsets: Int[np.ndarray, "k"] | None = None,
        baseline: Float[Array, "d"] | None = None,
    ):
        self._decoder, self._prompt, self._mesh, self._baseline = decoder, prompt, mesh, baseline
        self._subsets = np.arange(2 ** (int(prompt.player_of_token.max()) + 1)) if subsets is None else subsets
        token_ids, player_of_token = prompt.read()
        length = bucket(len(token_ids))
        self._token_ids = np.pad(token_ids, (0, length - len(token_ids)))
        self._player_of_token = np.pad(player_of_token, (0, length - len(token_ids)), constant_values=-1)
        lines, self._shards = sizes_of(mesh)
        self._batch_size = lines * min(max(1, tokens_per_batch // length // lines), -(-len(self._subsets) // lines))
        self._results: list[tuple[int, tuple[Array, Array]]] = []

    @property
    def tokens(self) -> int:
        return len(self._subsets) * (len(self._prompt.token_ids) + len(self._prompt.target_ids) - 1)

    @property
    def tokens_per_batch(self) -> int:
        return self._batch_size * len(self._token_ids)

    def steps(self) -> Iterator[Step]:
        count = len(self._subsets)
        for first in range(0, count, self._batch_size):
            last = min(first + self._batch_size, count)
            # The last batch repeats its last subset, so that every batch has the same shape.
            subsets = self._subsets[np.minimum(np.arange(first, first + self._batch_size), count - 1)].astype(np.int32)
            result = _batch(
                self._decoder,
                self._shards,
                place(subsets, self._mesh, "b"),
                self._token_ids,
                self._player_of_token,
                np.int32(self._prompt.baseline_id),
                self._prompt.target_ids,
                np.int32(len(self._prompt.token_ids) - 1),
                self._baseline,
            )
            self._results.append((last - first, result))
            yield Step(done=result[0], masks=last)

    def run(self, score: Score = "product") -> Float[np.ndarray, "k"]:
        """Evaluate now, one batch after the other: v of every subset that was asked for."""
        for step in self.steps():
            step.done.block_until_ready()
        return self.values(score)

    def values(self, score: Score = "product") -> Float[np.ndarray, "k"]:
        target, others = (
            np.concatenate([gather(result[part])[:count] for count, result in self._results]) for part in (0, 1)
        )
        return log_odds(target.T, others.T, score)


def mask_tokens(
    subsets: Int[Array, "b"], token_ids: Int[Array, "t"], player_of_token: Int[Array, "t"], baseline_id: Int[Array, ""]
) -> Int[Array, "b t"]:
    """The prompts x_T: tokens of players outside a subset replaced by the baseline token, background kept."""
    present = (subsets[:, None] >> jnp.maximum(player_of_token, 0)[None]) & 1
    masked = (player_of_token >= 0)[None] & (present == 0)
    return jnp.where(masked, baseline_id, token_ids[None])


@functools.partial(jax.jit, static_argnums=1)
def _batch(decoder, shards, subsets, token_ids, player_of_token, baseline_id, target_ids, read_from, baseline):
    """Logit of the target and logsumexp of the others, `[b, k]`; position `read_from` predicts the first target."""
    tokens = mask_tokens(subsets, token_ids, player_of_token, baseline_id)
    hidden = decoder.hidden(decoder.embed(tokens, baseline))
    # The head runs only where a target token is predicted.
    hidden = jax.lax.dynamic_slice_in_dim(hidden, read_from, target_ids.shape[0], axis=1)
    targets = jnp.broadcast_to(target_ids[None], hidden.shape[:2])
    return target_and_others(decoder.head, hidden, targets, shards)
