"""A sample of masks evaluated again, to tell whether values that came from elsewhere are this model's."""

import jax
import numpy as np

from andor.core.values import Values
from andor.evaluation import schedule
from andor.evaluation.evaluate import tokenized_for
from andor.evaluation.naive import NaiveEvaluation
from andor.evaluation.planning import default_tokens_per_batch
from andor.models import LanguageModel
from andor.prompts import Prompt

SAMPLE = 16
"""Masks that are evaluated again, all masked and none masked among them."""

AGREEMENT = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.5}
"""Largest difference, in nats, that evaluations of one model in a dtype show; another model's are off by far more."""


def largest_difference(
    model: LanguageModel, prompt: Prompt, values: Values, *, baseline: str = "auto", seed: int = 0
) -> float:
    """Largest |difference| of v on a sample of masks, in nats; inf where `values` are of other players.

    Args:
      model, prompt, baseline: as for `andor.evaluate`.
      values: whose v is checked, and whose target is explained.
      seed: of the sample.
    """
    if values.players != prompt.words:
        return float("inf")
    others = np.random.default_rng(seed).permutation(np.arange(1, values.v.size - 1))[: SAMPLE - 2]
    subsets = np.concatenate([[0, values.v.size - 1], others]).astype(np.int32)
    tokenized, embedding = tokenized_for(model, prompt, values.target, baseline)
    sample = NaiveEvaluation(model.decoder, tokenized, default_tokens_per_batch(), model.mesh, subsets, embedding)
    with jax.default_matmul_precision(schedule.MATMUL_PRECISION):
        return float(np.max(np.abs(sample.run(values.score) - values.v[subsets])))
