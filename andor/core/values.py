"""`Values`: v(T) of one prompt under one model, as `andor.evaluate` gives it and a run folder holds it. NumPy only."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float64

from andor.core.text import one_line, percent


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Values:
    """The log-odds of one target under every mask of one prompt.

    Attributes:
      v: log p / (1 - p) of the target unless `score` says otherwise, in nats, for every subset of unmasked players; bit
        i of the index is player i. float64 `[2**n_players]`, computed in float32 from the logits.
      players: the words, in text order.
      target: the exact text whose probability p is; p is the product over its tokens.
      score: "product", or "sum": then v is the sum of the log-odds of the target's tokens, each after those before it.
      target_probability: p on the full prompt.
      tokens_evaluated: tokens that went through the decoder, padding not counted.
      seconds: wall time, compilation included.
      forward_noise: size of the noise of v, in nats, NaN where it was not measured
        (`andor.evaluation.noise_floor.NoiseFloor.size`).
      forward_bound: bound on it on all masks, likewise (`NoiseFloor.bound`).
    """

    v: Float64[np.ndarray, "s"]
    players: tuple[str, ...]
    target: str
    target_probability: float
    tokens_evaluated: int
    seconds: float
    forward_noise: float = math.nan
    forward_bound: float = math.nan
    score: str = "product"

    @property
    def measured_noise(self) -> float:
        """`forward_bound`.

        Raises:
          ValueError: the noise was not measured.
        """
        if math.isnan(self.forward_bound):
            raise ValueError(
                "the forward noise of these values was not measured. Use andor.evaluate(..., measure_noise=True), or "
                "give a bound."
            )
        return self.forward_bound

    def __repr__(self) -> str:
        target, words = one_line(repr(self.target), 40), one_line(", ".join(self.players), 120)
        noise = "" if math.isnan(self.forward_noise) else f", noise {self.forward_noise:.1g}"
        noise += ", sum of the tokens' log-odds" * (self.score == "sum")
        return (
            f"<Values of {target}: p {percent(self.target_probability)}, v {self.v[0]:+.2f} → {self.v[-1]:+.2f} nats"
            f"{noise} with {len(self.players)} players ({words}); {self.tokens_evaluated} tokens in "
            f"{self.seconds:.3g} s>"
        )
