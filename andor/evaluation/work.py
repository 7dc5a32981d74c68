"""What every way of evaluating a prompt looks like from outside."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float


class Step(NamedTuple):
    """A batch that was handed to the device.

    Attributes:
      done: an array that is ready when the batch is done.
      masks: masked prompts that the work done by then amounts to; all of them with the last step, and not before.
    """

    done: Array
    masks: int


@runtime_checkable
class Evaluation(Protocol):
    """The evaluation of one prompt: batches are started without waiting for them, and the values read at the end."""

    @property
    def tokens(self) -> int:
        """Tokens that go through the decoder, padding not counted."""

    @property
    def tokens_per_batch(self) -> int:
        """Tokens of one batch, padding included: of every group of masks that is evaluated side by side."""

    def steps(self) -> Iterator[Step]:
        """Start the batches, one after the other."""

    def values(self) -> Float[np.ndarray, "s"]:
        """v of every subset, float64; after all steps."""
