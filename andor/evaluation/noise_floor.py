"""How exactly v is known: a sample of masks evaluated again, in another batch shape and order, and in float32.

Noise of size s in v becomes noise of size s 2^(|S| / 2) in the Harsanyi dividend of S, a signed sum of 2^|S| values
of v (Chen et al., ICLR 2024, arXiv 2401.16318, appendix D): in low precision the effects of high order are rounding.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from andor.devices.processes import gather
from andor.evaluation.draws import over_draws, run_now
from andor.evaluation.log_odds import Score, log_odds, target_and_others
from andor.evaluation.naive import NaiveEvaluation, mask_tokens, where_predicted
from andor.evaluation.planning import default_tokens_per_batch
from andor.models.decoder import Decoder, attend_within, rotation
from andor.prompts import TokenizedPrompt

SAMPLE = 64
"""Masks that are evaluated again."""


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseFloor:
    """Differences of v on a sample of masks, in nats.

    Attributes:
      subsets: the sample. int `[k]`.
      batch: v less what another batch shape and order gives, in the model's own dtype. float64 `[k]`.
      float32: v less what float32 gives, weights rounded to the model's dtype in both. float64 `[k]`.
      rounding: a float32 step at the largest |v|; two evaluations may agree to the bit, and be off together.
    """

    subsets: Int[np.ndarray, "k"]
    batch: Float[np.ndarray, "k"]
    float32: Float[np.ndarray, "k"]
    rounding: float

    @property
    def size(self) -> float:
        """Size s of the noise: the root mean square of the larger differences, or more if the largest says so.

        At least `rounding`. Of k normal numbers of standard deviation s the largest is about s sqrt(2 log 2k).
        """
        each = np.stack([self.batch, self.float32])
        typical = np.max(np.sqrt(np.mean(each**2, axis=1)))
        return float(max(typical, np.max(np.abs(each)) / np.sqrt(2 * np.log(2 * each.shape[1])), self.rounding))


def measure(
    decoder: Decoder,
    prompt: TokenizedPrompt,
    v: Float[np.ndarray, "s"],
    mesh: Mesh | None = None,
    baseline: Float[Array, "d"] | None = None,
    *,
    score: Score = "product",
    tokens_per_batch: int | None = None,
    seed: int = 0,
) -> NoiseFloor:
    """Evaluate a random sample of masks again.

    Args:
      decoder: the network that gave v.
      prompt: with its target.
      v: of all masks.
      mesh: the devices that the decoder lies on, or None.
      baseline: embedding of masked tokens, where it is no token's.
      score: by which v puts the target's tokens together.
      tokens_per_batch: tokens evaluated at a time in float32; by default what suits the device.
      seed: of the sample.
    """
    rng = np.random.default_rng(seed)
    subsets = rng.permutation(len(v))[:SAMPLE].astype(np.int32)
    # Shapes that the values were not computed in: a few prompts from scratch.
    length = len(prompt.token_ids) + len(prompt.target_ids)
    again = run_now(
        over_draws(prompt, lambda draw: NaiveEvaluation(decoder, draw, 7 * length, mesh, subsets, baseline)), score
    )
    # In batches, because attention within 64 long prompts would not fit where their tree did.
    at_a_time = max(1, (tokens_per_batch or default_tokens_per_batch()) // length)
    with jax.default_matmul_precision("highest"):
        exact = [
            np.mean([_in_float32(decoder, draw, some, baseline, score) for draw in prompt.draws], axis=0)
            for some in np.split(subsets, range(at_a_time, len(subsets), at_a_time))
        ]
    return NoiseFloor(
        subsets=subsets,
        batch=v[subsets] - again,
        float32=v[subsets] - np.concatenate(exact),
        rounding=float(np.finfo(np.float32).eps * np.max(np.abs(v))),
    )


def _in_float32(
    decoder: Decoder, prompt: TokenizedPrompt, subsets: np.ndarray, baseline: Float[Array, "d"] | None, score: Score
) -> Float[np.ndarray, "k"]:
    """v of some subsets with weights and activations in float32, a layer at a time: the weights are not held twice."""
    kind, length = prompt.mask.kind, np.int32(len(prompt.token_ids))
    x, angles, segments, places = _embed(
        decoder, kind, subsets, *prompt.read(), prompt.instead, baseline, length, len(prompt.target_ids)
    )
    x = decoder.walk(x, angles, functools.partial(_layer, segments))
    target, others = _read(decoder, x, places, np.broadcast_to(prompt.target_ids, places.shape))
    return log_odds(gather(target).T, gather(others).T, score)


def _cast(module):
    return jax.tree.map(lambda weight: weight.astype(jnp.float32), module)


@functools.partial(jax.jit, static_argnums=(1, 8))
def _embed(decoder, kind, subsets, token_ids, player_of_token, instead, baseline, length, n_targets):
    prompts = mask_tokens(kind, subsets, token_ids, player_of_token, instead)
    x = decoder.embed(prompts.tokens, baseline, jnp.float32)
    angles = rotation(decoder.config, jnp.arange(x.shape[1])[None])
    return x, angles, (~prompts.there).astype(jnp.int32), where_predicted(prompts, length, n_targets)


@functools.partial(jax.jit, donate_argnames="x")
def _layer(segments, index, layer, x, angles):
    return _cast(layer)(x, angles, functools.partial(attend_within, segments=segments))[0]


@jax.jit
def _read(decoder, x, places, targets):
    decoder, x = _cast(decoder), jnp.take_along_axis(x, places[:, :, None], axis=1)
    return target_and_others(decoder.head, decoder.model.norm(x), targets)
