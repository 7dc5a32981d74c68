"""When an explanation is not one: what is shown does not give v, or v does not say what its reader takes it to say.

Each limit is a convention that a reader can check against the numbers beside it, not a test of significance.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from andor.core.compact import Compact
from andor.core.text import percent, r2_text
from andor.measures.metrics import output_range

LEAST_R2 = 0.8
MOST_STRENGTH = 10.0
LEAST_PROBABILITY = 0.01

LEAST_RANGE = 0.25
"""Of the spread. What all words do together is less than the spread on most prompts about sentiment, where some words
speak for the target and some against, and nothing is wrong with their explanations."""


@dataclasses.dataclass(frozen=True)
class Trust:
    """What tells whether effects can be believed.

    Attributes:
      count: number of effects.
      r2: of v on all masks by these effects; nan where v is constant.
      worst_error: largest |v - effects| over all masks, nats.
      strength: sum of |effects|, nats.
      range: |v(N) - v(∅)|, nats.
      spread: standard deviation of v over all masks, nats; 0 where v is constant.
      target_probability: of the target on the full prompt.
      last_masked: whether the text ends in a player: then a masked prompt asks another question.
    """

    count: int
    r2: float
    worst_error: float
    strength: float
    range: float
    spread: float
    target_probability: float
    last_masked: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against these effects, a sentence each; empty where nothing does."""
        found = []
        if not self.spread > 0:
            found.append("v is the same on every mask: there is nothing to explain.")
        elif self.r2 < LEAST_R2:
            found.append(
                f"The {self.count} effects that are shown give v badly: R² {r2_text(self.r2)} on all masks, worst "
                f"error {self.worst_error:.2g} nats. They are no explanation of this prompt."
            )
        if self.last_masked:
            found.append(
                "The last word is a player. Masks that take it away ask for another word than the target, and "
                "effects with it are about that."
            )
        if 0 < self.spread and self.range < LEAST_RANGE * self.spread:
            found.append(
                f"All words together move v by {self.range:.2g} nats, far less than v varies over the masks "
                f"({self.spread:.2g}): effects cancel, and nothing can be said in shares of |v(N) - v(∅)|."
            )
        elif self.range > 0 and self.strength > MOST_STRENGTH * self.range:
            found.append(
                f"The effects cancel: their sizes add up to {self.strength / self.range:.0f} times what all words "
                "together do."
            )
        if self.target_probability < LEAST_PROBABILITY:
            found.append(
                f"The model hardly expects this target: p {percent(self.target_probability)}. The effects say what "
                "makes it more or less unlikely."
            )
        return tuple(found)


def trust(v: Float[np.ndarray, "s"], compact: Compact, target_probability: float, last_masked: bool) -> Trust:
    """The numbers of the compact explanation of v."""
    return Trust(
        count=compact.count,
        r2=compact.r2,
        worst_error=compact.worst_error,
        strength=compact.strength,
        range=output_range(v),
        spread=float(v.std()) if np.ptp(v) > 0 else 0.0,
        target_probability=target_probability,
        last_masked=last_masked,
    )
