"""Every masked prompt from scratch: the reference that the prefix tree is checked against.

Masks are evaluated in batches of one fixed shape, and sequences are padded on the right, where a causal decoder never
looks, so that prompts of similar length share one compilation.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from andor.devices.mesh import place, sizes_of
from andor.devices.processes import gather
from andor.evaluation.log_odds import Score, log_odds, target_and_others
from andor.evaluation.prefix_tree import bucket
from andor.evaluation.schedule import Step
from andor.models.decoder import Decoder
from andor.prompts import TokenizedPrompt
from andor.prompts.masks import Kind


class NaiveEvaluation:
    """An `Evaluation` of the masked prompts of one prompt as they are.

    Args:
      decoder: the network.
      prompt: with its target, and one draw.
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
        self._tokens = [padded(each, bucket(len(each))) for each in (*prompt.read(), prompt.instead)]
        length = len(self._tokens[0])
        lines, self._shards = sizes_of(mesh)
        self._batch_size = lines * min(max(1, tokens_per_batch // length // lines), -(-len(self._subsets) // lines))
        self._results: list[tuple[int, tuple[Array, Array]]] = []

    @property
    def tokens(self) -> int:
        tokens = len(self._subsets) * len(self._prompt.read()[0])
        if self._prompt.mask.kind != "delete":
            return tokens
        players = self._prompt.player_of_token[self._prompt.player_of_token >= 0]
        return tokens - int(np.sum((self._subsets[:, None] >> players[None]) & 1 == 0))

    @property
    def tokens_per_batch(self) -> int:
        return self._batch_size * len(self._tokens[0])

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
                self._prompt.mask.kind,
                *self._tokens,
                self._prompt.target_ids,
                np.int32(len(self._prompt.token_ids)),
                self._baseline,
            )
            self._results.append((last - first, result))
            yield Step(done=result[0], masks=last)

    def values(self, score: Score = "product") -> Float[np.ndarray, "k"]:
        target, others = (
            np.concatenate([gather(result[part])[:count] for count, result in self._results]) for part in (0, 1)
        )
        return log_odds(target.T, others.T, score)


class MaskedPrompts(NamedTuple):
    """Masked prompts as a decoder reads them.

    Attributes:
      tokens: token ids.
      there: whether a token is read by others. What is deleted stands behind the rest, and is not there; nor is what
        nobody attends to, which keeps its place.
      source: place of each token in the whole prompt.
    """

    tokens: Int[Array, "b t"]
    there: Bool[Array, "b t"]
    source: Int[Array, "b t"]

    def before(self, length: Int[Array, ""]) -> Int[Array, "b"]:
        """Place of the last token that is there, of the first `length` of the whole prompt."""
        return jnp.max(jnp.where(self.there & (self.source < length), jnp.arange(self.tokens.shape[1]), -1), axis=1)


def mask_tokens(
    kind: Kind,
    subsets: Int[Array, "b"],
    token_ids: Int[Array, "t"],
    player_of_token: Int[Array, "t"],
    instead: Int[Array, "t"],
) -> MaskedPrompts:
    """The prompts x_T: of tokens of players outside a subset is left what the kind of mask says, background is kept."""
    present = (subsets[:, None] >> jnp.maximum(player_of_token, 0)[None]) & 1
    masked = (player_of_token >= 0)[None] & (present == 0)
    source = jnp.broadcast_to(jnp.arange(len(token_ids)), masked.shape)
    if kind not in ("delete", "attention"):
        return MaskedPrompts(jnp.where(masked, instead, token_ids[None]), jnp.ones_like(masked), source)
    if kind == "delete":
        source = jnp.argsort(masked, axis=1, stable=True)
    return MaskedPrompts(token_ids[source], ~jnp.take_along_axis(masked, source, axis=1), source)


def hidden_of(decoder: Decoder, prompts: MaskedPrompts, baseline: Float[Array, "d"] | None) -> Float[Array, "b t d"]:
    """Normalised hidden states of masked prompts, which do not see what is not there."""
    segments = (~prompts.there).astype(jnp.int32)
    return decoder.hidden(decoder.embed(prompts.tokens, baseline), segments=segments)


def where_predicted(prompts: MaskedPrompts, length: Int[Array, ""], n_targets: int) -> Int[Array, "b n"]:
    """Places of the tokens from which n target tokens are predicted, behind a prompt of this length."""
    first = prompts.before(length)[:, None]
    # The target's own tokens follow the prompt: at once, or behind what nobody attends to, where the last one is there.
    return first + jnp.arange(n_targets)[None]


@functools.partial(jax.jit, static_argnums=(1, 3))
def _batch(decoder, shards, subsets, kind, token_ids, player_of_token, instead, target_ids, length, baseline):
    """Logit of the target and logsumexp of the others, `[b, k]`, behind a prompt of this length."""
    prompts = mask_tokens(kind, subsets, token_ids, player_of_token, instead)
    places = where_predicted(prompts, length, target_ids.shape[0])
    # The head runs only where a target token is predicted.
    hidden = jnp.take_along_axis(hidden_of(decoder, prompts, baseline), places[:, :, None], axis=1)
    targets = jnp.broadcast_to(target_ids[None], hidden.shape[:2])
    return target_and_others(decoder.head, hidden, targets, shards)


def padded(tokens: Int[np.ndarray, "t"], length: int) -> Int[np.ndarray, "length"]:
    """With -1 behind it: padding is no token, and background."""
    return np.pad(tokens, (0, length - len(tokens)), constant_values=-1)
