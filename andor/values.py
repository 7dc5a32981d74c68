"""`Values`: v(T) of one prompt under one model, as `andor.evaluate` gives it and a run folder holds it. NumPy only."""

import dataclasses

import numpy as np
from jaxtyping import Float64


@dataclasses.dataclass(frozen=True, eq=False)
class Values:
    """The log-odds of one target under every mask of one prompt.

    Attributes:
      v: log p / (1 - p) of the target, in nats, for every subset of unmasked players; bit i of the index is player i.
        float64 `[2**n_players]`, computed in float32 from the logits.
      players: the words, in text order.
      target: the exact text whose probability p is; p is the product over its tokens.
      target_probability: p on the full prompt.
      tokens_evaluated: tokens that went through the decoder, padding not counted.
      seconds: wall time, compilation included.
    """

    v: Float64[np.ndarray, "s"]
    players: tuple[str, ...]
    target: str
    target_probability: float
    tokens_evaluated: int
    seconds: float
