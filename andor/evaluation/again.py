"""A sample of masks evaluated again, to tell whether values that came from elsewhere are this model's."""

import numpy as np
from jaxtyping import Float

from andor.core.values import Values
from andor.evaluation.evaluate import evaluate_masks
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
    again: Float[np.ndarray, k] = evaluate_masks(model, prompt, subsets, target=values.target, baseline=baseline)
    return float(np.max(np.abs(again - values.v[subsets])))
