"""Evaluations of prompts whose masked words are drawn: one for each draw, and v is their mean."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from andor.evaluation.log_odds import Score
from andor.evaluation.schedule import Evaluation, Step
from andor.prompts import TokenizedPrompt


def over_draws(prompt: TokenizedPrompt, make: Callable[[TokenizedPrompt], Evaluation]) -> Evaluation:
    """The evaluation of a prompt: of its one draw, or the mean over its draws."""
    each = [make(draw) for draw in prompt.draws]
    return each[0] if len(each) == 1 else MeanEvaluation(each)


def run_now(evaluation: Evaluation, score: Score = "product") -> Float[np.ndarray, "k"]:
    """v of every subset that an evaluation is of, its batches one after the other."""
    for step in evaluation.steps():
        step.done.block_until_ready()
    return evaluation.values(score)


class MeanEvaluation:
    """An `Evaluation` whose v is the mean of the v of others, which are evaluated one after the other.

    The mean is of log-odds, not of probabilities: each draw's v is a sum of effects, and so is their mean, of the means
    of the effects.
    """

    def __init__(self, each: Sequence[Evaluation]):
        self._each = each

    @property
    def tokens(self) -> int:
        return sum(evaluation.tokens for evaluation in self._each)

    @property
    def tokens_per_batch(self) -> int:
        return self._each[0].tokens_per_batch

    def steps(self) -> Iterator[Step]:
        before = 0
        for evaluation in self._each:
            for step in evaluation.steps():
                yield Step(step.done, (before + step.masks) // len(self._each))
            before += step.masks

    def values(self, score: Score = "product") -> Float[np.ndarray, "s"]:
        return np.mean([evaluation.values(score) for evaluation in self._each], axis=0)
