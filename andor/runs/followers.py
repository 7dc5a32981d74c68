"""One model over the devices of several processes: process 0 decides and writes, the others do what it does.

JAX wants the same computations in the same order in every process. What they are follows from which model is loaded and
which prompts are evaluated, so these are told.
"""

from collections.abc import Iterator, Sequence
from types import TracebackType

from jax.sharding import Mesh

import andor.models
from andor.devices import processes as hosts
from andor.evaluation import evaluate_all
from andor.prompts import Prompt
from andor.runs.resume import Stopped


class Leader:
    """What process 0 tells the others; nothing where there are none (`alone`). To be left when all is done.

    Left by an error in the middle of prompts, it says nothing: the others may be anywhere. JAX ends them.
    """

    def __init__(self, mesh: Mesh | None):
        self.alone = not hosts.spans(mesh)
        self._in_step = True

    def load(self, name: str, dtype: str) -> None:
        """The next prompts are for this model."""
        self._tell({"load": name, "dtype": dtype})

    def evaluate(self, index: int, target: str | None) -> None:
        """The next prompt, and what to explain."""
        self._tell({"evaluate": index, "target": target})
        self._in_step = False

    def no_more(self) -> None:
        """There is no next prompt."""
        self._tell({"evaluate": None})

    def evaluated(self) -> None:
        """All prompts that were told are done, or one failed, in every process alike. Nothing is told."""
        self._in_step = True

    def _tell(self, message: dict) -> None:
        if not self.alone:
            hosts.tell(message)

    def __enter__(self) -> "Leader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._in_step:
            self._tell({"end": str(error) if error else None, "stopped": isinstance(error, Stopped)})


def follow(prompts: Sequence[Prompt], *, baseline: str, mesh: Mesh, measure_noise: bool) -> None:
    """Do what process 0 does, until it has done everything.

    Args:
      prompts: the same as there.
      baseline, mesh, measure_noise: as for `andor.evaluation.evaluate_all`.

    Raises:
      Stopped: process 0 was asked to stop.
      ValueError: process 0 ended with an error.
    """
    model, message = None, hosts.tell(None)
    while "end" not in message:
        if "load" in message:
            model = None  # two large models do not fit in memory together
            model = andor.models.load(message["load"], dtype=message["dtype"], mesh=mesh)
        elif message["evaluate"] is not None:
            told = _Told(prompts, message)
            try:
                for _ in evaluate_all(
                    model, told.prompts(), targets=told.targets(), baseline=baseline, measure_noise=measure_noise
                ):
                    pass
            except ValueError:  # process 0 has the same, and says it
                pass
        message = hosts.tell(None)
    if message["end"] is not None:
        kind = Stopped if message["stopped"] else ValueError
        raise kind(f"process 0 ended: {message['end']}")


class _Told:
    """Prompts as process 0 names them, one by one."""

    def __init__(self, prompts: Sequence[Prompt], first: dict):
        self._all, self._message = prompts, first

    def prompts(self) -> Iterator[Prompt]:
        while self._message["evaluate"] is not None:
            yield self._all[self._message["evaluate"]]
            self._message = hosts.tell(None)

    def targets(self) -> Iterator[str | None]:
        while True:
            yield self._message["target"]
