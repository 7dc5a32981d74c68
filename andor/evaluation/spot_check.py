"""A sample of masks evaluated again, to tell whether values that came from elsewhere are this model's."""

import dataclasses
import math

import jax
import numpy as np

from andor.core.values import Values
from andor.devices.rules import standard_rules
from andor.evaluation import noise_floor, schedule
from andor.evaluation.draws import over_draws, run_now
from andor.evaluation.evaluate import tokenized_for
from andor.evaluation.naive import NaiveEvaluation
from andor.evaluation.planning import default_tokens_per_batch
from andor.models import LanguageModel
from andor.prompts import Prompt

MASKS = 16
"""Masks that are evaluated again, all masked and none masked among them."""

AGREEMENT = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.5}
"""Largest difference, in nats, that evaluations of one model in a dtype show; another model's are off by far more."""


@standard_rules()
def spot_check(
    model: LanguageModel, prompt: Prompt, values: Values, *, baseline: str, measure_noise: bool, seed: int
) -> tuple[Values, float]:
    """Check v of a prompt that was evaluated elsewhere.

    Args:
      model, prompt, baseline: as for `andor.evaluate`.
      values: whose v is checked, and whose target is explained.
      measure_noise: whether `forward_noise` is wanted, as for `andor.evaluate`.
      seed: of the sample.

    Returns:
      The values with what this evaluation knows of them: the prompt's words, and their noise as measured here or nan.
      And the largest |difference| of v on the sample, nats.
    """
    others = np.random.default_rng(seed).permutation(np.arange(1, values.v.size - 1))[: MASKS - 2]
    subsets = np.concatenate([[0, values.v.size - 1], others]).astype(np.int32)
    tokenized, embedding = tokenized_for(model, prompt, values.target, baseline)
    how = default_tokens_per_batch(), model.mesh, subsets, embedding
    sample = over_draws(tokenized, lambda draw: NaiveEvaluation(model.decoder, draw, *how))
    with jax.default_matmul_precision(schedule.MATMUL_PRECISION):
        difference = float(np.max(np.abs(run_now(sample, values.score) - values.v[subsets])))
        noise = {"forward_noise": math.nan, "forward_bound": math.nan}
        if measure_noise:
            floor = noise_floor.measure(model.decoder, tokenized, values.v, model.mesh, embedding, score=values.score)
            noise = {"forward_noise": floor.size, "forward_bound": floor.bound}
    return dataclasses.replace(values, players=prompt.words, **noise), difference
