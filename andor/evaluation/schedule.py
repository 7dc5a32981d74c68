"""Prompts one after the other, each begun while batches of the one before are still on their way.

When the device runs out of memory, everything that is not finished is begun again in smaller batches.
"""

import contextlib
import functools
import gc
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float

from andor.core.values import Values
from andor.devices import processes as hosts
from andor.devices.memory import Insufficient
from andor.devices.rules import standard_rules
from andor.evaluation.log_odds import Score
from andor.prompts import Prompt, TokenizedPrompt

MATMUL_PRECISION = "highest"
"""Otherwise accelerators multiply float32 in TF32 or bfloat16 passes, at errors of 1e-3 in v. No effect on bfloat16."""

FEWEST_TOKENS = 64
"""In a batch: with fewer, a device is idle most of the time, and its memory holds other things."""

_AHEAD = 2
"""Batches that are started before one is waited for, so that the device never waits for the host."""


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

    def values(self, score: Score = "product") -> Float[np.ndarray, "s"]:
        """v of every subset, float64; after all steps."""


class Taken(NamedTuple):
    """A prompt that is to be evaluated: the index-th that was asked for, perhaps with its own target."""

    index: int
    prompt: Prompt
    target: str | None


class UnderWay(NamedTuple):
    """A prompt whose evaluation has begun.

    Attributes:
      taken: what was asked for.
      target: exact text.
      tokenized: with its target.
      baseline: embedding of masked tokens, where it is no token's.
      evaluation: of all masks.
      limit: tokens in a batch at most, if memory turned out to be short.
      start: when it was begun (`time.perf_counter`).
    """

    taken: Taken
    target: str
    tokenized: TokenizedPrompt
    baseline: jax.Array | None
    evaluation: Evaluation
    limit: int | None
    start: float


Finish = Callable[[UnderWay, float], Values]


class _OutOfMemory(Exception):
    """The device ran out of memory."""


def run(
    prompts: Iterator[Taken],
    begin: Callable[[Taken, int | None], UnderWay],
    finish: Finish,
    progress: Callable[[int, int], None],
    *,
    again: bool,
) -> Iterator[Values | ValueError]:
    """Values of one prompt after the other; of a prompt that fails, what is wrong with it.

    Args:
      prompts: taken one by one, each when it is begun.
      begin: begin(prompt, limit) plans it, in batches of at most `limit` tokens unless that is None.
      finish: finish(prompt under way, start) gives its values, once its batches are done; its time counts from `start`.
      progress: called as progress(index of the prompt, masks of it that are done), always for more than before.
      again: whether to begin again in smaller batches when the device runs out of memory.

    Raises:
      RuntimeError: the device runs out of memory, and is not to be begun again, or something else is wrong with it.
    """
    unfinished: deque[Taken] = deque()
    reported, limit = (0, -1), None

    def from_the_first_unfinished() -> Iterator[Taken]:
        yield from tuple(unfinished)
        for each in prompts:
            unfinished.append(each)
            yield each

    def report(index: int, masks: int) -> None:
        nonlocal reported
        if (index, masks) > reported:
            reported = index, masks
            progress(index, masks)

    while True:
        flight = _Flight(deque(), deque())
        try:
            within = functools.partial(begin, limit=limit)
            for outcome in _outcomes(from_the_first_unfinished(), flight, within, finish, report):
                unfinished.popleft()
                yield outcome
            return
        except _OutOfMemory as error:
            reason = str(error)
        # From here on nothing holds the arrays of the failure but `flight`.
        try:
            limit = _smaller(flight, limit, unfinished[0].prompt, reason, again)
        except Insufficient as error:
            unfinished.popleft()
            yield error
        finally:
            flight.land()


class _Flight(NamedTuple):
    """What was begun and is not finished: prompts, and their batches that were not waited for yet."""

    prompts: deque[UnderWay]
    batches: deque[tuple[UnderWay, Step]]

    def land(self) -> None:
        """Give back the memory that it holds."""
        for _, step in self.batches:
            with contextlib.suppress(RuntimeError, ValueError):  # it may be the one that failed
                step.done.block_until_ready()
        self.batches.clear()
        self.prompts.clear()
        gc.collect()


def _outcomes(
    prompts: Iterator[Taken],
    flight: _Flight,
    begin: Callable[[Taken], UnderWay],
    finish: Finish,
    report: Callable[[int, int], None],
) -> Iterator[Values | ValueError]:
    """Values or errors of prompts as they are finished, until the device runs out of memory."""
    finished = time.perf_counter()

    def wait() -> Iterator[Values | ValueError]:
        nonlocal finished
        under_way, step = flight.batches.popleft()
        with _on_device():
            step.done.block_until_ready()
        if step.masks < 2**under_way.taken.prompt.n_players:
            report(under_way.taken.index, step.masks)
            return
        try:
            with _on_device():
                # Prompts overlap; counted one after the other, their times add up.
                outcome = finish(under_way, max(under_way.start, finished))
        except ValueError as error:
            outcome = error
        finished = time.perf_counter()
        flight.prompts.popleft()
        report(under_way.taken.index, step.masks)
        yield outcome

    while True:
        taken, error = None, None
        try:
            taken = next(prompts, None)
            if taken is not None:
                with _on_device():
                    flight.prompts.append(begin(taken))
        except _OutOfMemory:
            raise
        except Exception as raised:  # something is wrong with this prompt, and not with those before
            error = raised
        if taken is None or error is not None:
            while flight.batches:
                yield from wait()
            if taken is None or not isinstance(error, ValueError):
                break
            yield error
            continue
        steps = flight.prompts[-1].evaluation.steps()
        while True:
            with _on_device():
                step = next(steps, None)
            if step is None:
                break
            flight.batches.append((flight.prompts[-1], step))
            if len(flight.batches) > _AHEAD:
                yield from wait()
    if error is not None:
        raise error


@contextlib.contextmanager
def _on_device() -> Iterator[None]:
    """Full precision, which must not reach the caller of a generator, and a name for an error that has none."""
    try:
        with hosts.device_errors(), standard_rules(), jax.default_matmul_precision(MATMUL_PRECISION):
            yield
    except RuntimeError as error:
        message = str(error)
        if "RESOURCE_EXHAUSTED" in message or "out of memory" in message.lower():
            raise _OutOfMemory((message.splitlines() or [""])[0]) from error
        raise


def _smaller(flight: _Flight, limit: int | None, prompt: Prompt, reason: str, again: bool) -> int:
    """Half the tokens of the batches that did not fit, if it may be tried; says so."""
    used = max((each.evaluation.tokens_per_batch for each in flight.prompts), default=limit or 0)
    where = f"prompt {prompt.id or prompt.text[:40]!r}, " + (f"in batches of {used} tokens" if used else "at its start")
    if not again:
        raise RuntimeError(
            f"a device ran out of memory at {where} ({reason}). It is not tried again where a model spans processes, "
            "as they could not know of each other. Ask for smaller batches (tokens_per_batch), or name fewer players."
        )
    if used // 2 < FEWEST_TOKENS:
        raise Insufficient(
            f"the device ran out of memory at {where} ({reason}). Smaller batches would not help: name fewer players, "
            "or use a smaller dtype or a larger device."
        )
    warnings.warn(
        f"the device ran out of memory at {where}: from this prompt on, begun again, batches have at most {used // 2} "
        f"tokens ({reason})",
        RuntimeWarning,
        stacklevel=3,
    )
    return used // 2
