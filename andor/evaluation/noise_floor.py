"""How exactly v is known: a sample of masks evaluated again, in another batch shape and order, and in float64.

A TPU has no float64; the second is float32 there, and on other accelerators, where a model's float64 is slow.

Noise of size s in v becomes noise of size s 2^(|S| / 2) in the Harsanyi dividend of S, a signed sum of 2^|S| values
of v (Chen et al., ICLR 2024, arXiv 2401.16318, appendix D): in low precision the effects of high order are rounding.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from andor.devices.processes import gather
from andor.devices.rules import backend
from andor.evaluation.draws import over_draws, run_now
from andor.evaluation.log_odds import Score, log_odds, target_and_others
from andor.evaluation.naive import NaiveEvaluation, mask_tokens, where_predicted
from andor.evaluation.planning import default_tokens_per_batch
from andor.models.decoder import Decoder, attend_within, rotation
from andor.prompts import TokenizedPrompt

SAMPLE = 64
"""Masks that are evaluated again."""

TAIL = 12
"""Largest differences of the sample that tell how heavy the tail is."""

SURE = 0.9
"""Of 400 samples of 64 of 1024 the bound held for 100% (normal), 93% (Student, 3 degrees of freedom) and 82% (1.5), and
was 3 to 4 times the largest in the median."""


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseFloor:
    """Differences of v on a sample of masks, in nats.

    Attributes:
      subsets: the sample. int `[k]`.
      batch: v less what another batch shape and order gives, in the model's own dtype. float64 `[k]`.
      exact: v less what float64 gives (float32 on an accelerator), of weights in the model's dtype. float64 `[k]`.
      masks: number of all masks.
      rounding: a float32 step at the largest |v|; two evaluations may agree to the bit, and be off together.
    """

    subsets: Int[np.ndarray, "k"]
    batch: Float[np.ndarray, "k"]
    exact: Float[np.ndarray, "k"]
    rounding: float
    masks: int

    @property
    def size(self) -> float:
        """Root mean square of the larger differences, at least `rounding`."""
        return float(max(*(np.sqrt(np.mean(each**2)) for each in (self.batch, self.exact)), self.rounding))

    @property
    def bound(self) -> float:
        """Bound on the noise of all masks, by the largest differences of the sample.

        Differences of a real model have heavy tails: the largest is a hundred times the median, and no normal law of
        their root mean square holds it. The `TAIL` largest are taken for a Pareto tail, P(|e| > x) ~ x^-a, with a by
        Hill's estimator (Ann. Statist. 3, 1975), 1 at least. The bound is what the largest of all masks stays below
        with probability `SURE` under that law. Where all masks were evaluated again it is simply the largest.
        """
        largest = np.sort(np.maximum(np.abs(self.batch), np.abs(self.exact)))[::-1][: TAIL + 1]
        worst, sampled = max(float(largest[0]), self.rounding), len(self.subsets)
        if sampled == self.masks or len(largest) <= TAIL or not largest[-1] > 0:
            return worst
        inverse = min(float(np.mean(np.log(largest[:-1] / largest[-1]))), 1.0)
        beyond = self.masks * TAIL / sampled / -math.log(SURE)
        return max(worst, float(largest[-1]) * beyond**inverse)


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
      tokens_per_batch: tokens evaluated at a time in float64; by default what suits the device.
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
    dtype = jnp.float64 if backend() == "cpu" else jnp.float32
    with jax.default_matmul_precision("highest"), jax.enable_x64(dtype == jnp.float64):
        exact = [
            np.mean([_in(dtype, decoder, draw, some, baseline, score) for draw in prompt.draws], axis=0)
            for some in np.split(subsets, range(at_a_time, len(subsets), at_a_time))
        ]
    return NoiseFloor(
        subsets=subsets,
        batch=v[subsets] - again,
        exact=v[subsets] - np.concatenate(exact),
        rounding=float(np.finfo(np.float32).eps * np.max(np.abs(v))),
        masks=len(v),
    )


def _in(
    dtype, decoder: Decoder, prompt: TokenizedPrompt, subsets: np.ndarray, baseline, score: Score
) -> Float[np.ndarray, "k"]:
    """v of some subsets with weights and activations in a dtype, a layer at a time: the weights are not held twice."""
    kind, length = prompt.mask.kind, np.int32(len(prompt.token_ids))
    x, angles, segments, places = _embed(
        decoder, kind, subsets, *prompt.read(), prompt.instead, baseline, length, len(prompt.target_ids), dtype
    )
    x = decoder.walk(x, angles, functools.partial(_layer, segments))
    target, others = _read(decoder, x, places, np.broadcast_to(prompt.target_ids, places.shape))
    return log_odds(gather(target).T, gather(others).T, score)


def _cast(module, dtype):
    return jax.tree.map(lambda weight: weight.astype(dtype), module)


@functools.partial(jax.jit, static_argnums=(1, 8, 9))
def _embed(decoder, kind, subsets, token_ids, player_of_token, instead, baseline, length, n_targets, dtype):
    prompts = mask_tokens(kind, subsets, token_ids, player_of_token, instead)
    x = decoder.embed(prompts.tokens, baseline, dtype)
    angles = rotation(decoder.config, jnp.arange(x.shape[1])[None])
    return x, angles, (~prompts.there).astype(jnp.int32), where_predicted(prompts, length, n_targets)


@functools.partial(jax.jit, donate_argnames="x")
def _layer(segments, index, layer, x, angles):
    return _cast(layer, x.dtype)(x, angles, functools.partial(attend_within, segments=segments))[0]


@jax.jit
def _read(decoder, x, places, targets):
    decoder, x = _cast(decoder, x.dtype), jnp.take_along_axis(x, places[:, :, None], axis=1)
    return target_and_others(decoder.head, decoder.model.norm(x), targets)
