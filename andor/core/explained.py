"""What measures, summaries and figures read of an explanation and of a run: these are made in `andor.runs`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float

from andor.core.problem import Solution
from andor.core.values import Values

Pair = tuple[Float[np.ndarray, "s"], Float[np.ndarray, "s"]]
"""(AND effects, OR effects) of one function v."""

Method = Literal["compact", "certified", "and_only"]
"""Where effects come from: the compact explanation, the certified optimum, or Harsanyi dividends alone."""

METHODS: tuple[Method, ...] = get_args(Method)


@runtime_checkable
class Explained(Protocol):
    """An explanation: values, effects and words."""

    values: Values
    solution: Solution
    compact: Any
    intervals: Any

    @property
    def range(self) -> float:
        """|v(N) - v(∅)|, nats."""

    def pair(self, method: Method = "certified") -> Pair:
        """Its effects by a method."""

    def unreliable(self, method: Method = "compact") -> float:
        """Share of the strength in effects with a player that should not matter; nan where the prompt has no labels."""


@runtime_checkable
class Compared(Protocol):
    """Explanations of models on prompts, by (model name, prompt id)."""

    tau: float

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Model name -> short unique label."""

    @property
    def prompts(self) -> Sequence[Any]:
        """The prompts (`andor.Prompt`), in order."""

    def __getitem__(self, key: tuple[str, str]) -> Explained: ...
