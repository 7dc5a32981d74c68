"""Many prompts over many jobs: which shard of the work this process has, and which prompts are in it.

Every job runs the same command. Results lie under content keys, so the number of shards may change between starts, and
a scheduler may restart what died.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from andor.devices import processes


class Shard(NamedTuple):
    """The index-th of count parts, from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard(1, 1)


def read_shard(text: str | None = None, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that "I/N" names; without it, that of this job.

    Looked for in turn: a Slurm array (SLURM_ARRAY_TASK_*), processes that `andor.hosts.initialise` brought together, an
    indexed Kubernetes job (JOB_COMPLETION_INDEX, with JOB_COMPLETIONS set to its number of completions in the pod's
    template). Where there is none of these, the whole work is one shard.

    Raises:
      ValueError: the text is not of that form, or the environment tells an index and no number of jobs.
    """
    if text is not None:
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"a shard is written I/N, the I-th of N parts, I from 1 to N; got {text!r}.")
        return Shard(int(match[1]), int(match[2]))
    if "SLURM_ARRAY_TASK_ID" in environment:
        names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "COUNT")]
        return _of_environment(environment, names, lambda task, first, last, count: (task - first, last - first, count))
    if processes.n_processes() > 1:
        return Shard(processes.this_process() + 1, processes.n_processes())
    if "JOB_COMPLETION_INDEX" in environment:
        names = ["JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"]
        return _of_environment(environment, names, lambda index, count: (index, count - 1, count))
    return WHOLE


def _of_environment(environment: Mapping[str, str], names: Sequence[str], of_numbers) -> Shard:
    """A shard from variables that tell its place, the distance to the last place, and the number of places."""
    told = ", ".join(f"{name}={environment.get(name)}" for name in names)
    try:
        place, last, count = of_numbers(*(int(environment[name]) for name in names))
    except (KeyError, ValueError):
        place, last, count = -1, 0, 0
    step, rest = divmod(last, count - 1) if count > 1 else (1, last)
    if not 0 <= place <= last or rest or step < 1 or place % step:
        raise ValueError(
            f"the environment ({told}) says that this is one of several jobs, and not which of how many. Give --shard "
            "I/N, or --shard 1/1 for all the work."
        )
    return Shard(place // step + 1, count)


def deal(costs: Sequence[float | int], shard: Shard) -> list[int]:
    """Places of the work that a shard has, in order; all shards together have all of it, at about the same cost."""
    by_cost = sorted(range(len(costs)), key=lambda place: (-costs[place], place))
    mine = []
    for turn, start in enumerate(range(0, len(by_cost), shard.count)):
        # There and back: who takes first in one turn takes last in the next.
        seat = shard.index - 1 if turn % 2 == 0 else shard.count - shard.index
        mine += by_cost[start + seat : start + seat + 1]
    return sorted(mine)
