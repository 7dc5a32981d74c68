"""A process at work on a run: it takes what nobody has finished or claimed, until nothing is left.

What is there already is read and kept; what is damaged is set aside and made again. Other processes may be at work on
the same run. Every prompt is evaluated under one model after the other, since one model is in memory at a time; a model
whose values are all there is not loaded.
"""

import functools
import gc
import itertools
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jax.sharding import Mesh

import andor.models
from andor.core.problem import Solution, Solver
from andor.core.values import Values
from andor.devices.memory import Insufficient
from andor.evaluation import evaluate_all
from andor.models import LanguageModel
from andor.prompts import Prompt
from andor.runs import claims, files, provenance, resume, store
from andor.runs.followers import Leader
from andor.runs.store import Skipped
from andor.solvers.extract import extract

SOLVER_BATCH = 8
"""Prompts of equal n_players that are solved in one call."""

POLL = 0.5
"""Seconds between two looks at what other processes have finished."""

Progress = Callable[[str, str, int, int], None]
"""Called as progress(stage, model, done, total): `done` of `total` units of "load", "evaluate" or "extract"."""


class _Failed(Exception):
    """The evaluation of a prompt failed; the cause says why."""


class Session:
    """Work on a run that `andor.runs.resume.open_run` has opened.

    Args:
      out: the run directory.
      settings: as recorded there.
      prompts: those of the settings.
      solvers: number of players -> solver.
      leader: tells other processes, if the mesh spans them.
      baseline, mesh: as for `andor.compare`.
      strict: whether a prompt that fails ends the run.
      progress: called after every batch.
      stop: asked after everything that was saved; True ends the work.
    """

    def __init__(
        self,
        out: Path,
        settings: Mapping,
        prompts: Sequence[Prompt],
        solvers: Mapping[int, Solver],
        leader: Leader,
        *,
        baseline: str,
        mesh: Mesh | None,
        strict: bool,
        progress: Progress,
        stop: Callable[[], bool],
    ):
        self.out, self.settings, self.prompts, self.solvers = out, settings, tuple(prompts), solvers
        self.leader = leader
        self.baseline, self.mesh, self.strict, self.progress, self.stop = baseline, mesh, strict, progress, stop
        self.noise: float | Literal["measured"] = settings["noise"]
        self.names = tuple(model["name"] for model in settings["models"])
        self.keys = {name: store.prompt_keys(settings, name) for name in self.names}
        self.values: dict[str, dict[str, Values]] = {name: {} for name in self.names}
        self.effects: dict[str, dict[str, Solution]] = {name: {} for name in self.names}
        self.skipped: dict[str, Skipped] = {}
        self._patience = claims.Patience()
        self._targets = {record["id"]: (record["target"], record["target_from"]) for record in settings["prompts"]}

    def begin(self) -> None:
        """Before anything else: what was left out for want of memory is tried again, values of other runs are taken."""
        self._try_again()
        self._adopt_values_beside()

    def finish(self) -> store.Run:
        """Evaluate and solve until every prompt has its effects under every model or is skipped.

        Returns:
          what is on disk then, without a summary.

        Raises:
          resume.Stopped: `stop` said so.
          ValueError: every prompt failed, or, when strict, one did.
        """
        while True:
            self._forget()
            self._finish()
            if not self._left():
                first = next(iter(self.skipped.values()))
                raise ValueError(f"no prompt is left. {first.id!r} failed under {first.model!r}: {first.why}")
            try:
                return store.read_results(self.out)
            except FileNotFoundError:
                # A prompt that was left out, which a process that came later tries again, or a file that was removed.
                if not (self.out / "settings.json").exists():
                    raise

    def save_summary(self, run: store.Run, summary: Mapping, table: Sequence[Mapping]) -> bool:
        """Save the summary of a run that `finish` gave.

        Returns:
          false, and nothing is saved, where other prompts are left out by now: another process has tried them again.
        """
        path = self.out / "summary.json"
        while (claim := resume.claim(self.out, path)) is None:
            self._wait()
        try:
            if tuple(self._read_skipped()) != run.skipped:
                return False
            if claim.exclusive:
                files.remove_unfinished(self.out / "prompts.csv")
            store.save_summary(run, summary, table)
            return True
        finally:
            claim.release()
            claims.sweep(self.out)

    def _finish(self) -> None:
        for name in self.names:
            self._evaluate(name)
            # Two large models do not fit in memory together, and the solver can use the room too.
            gc.collect()
            self._extract(name)
        while not all(prompt.id in self.effects[name] for name in self.names for prompt in self._left()):
            if not any([self._extract(name) for name in self.names]):
                self._wait()

    def skip(self, prompt_id: str, model: str, error: ValueError) -> None:
        """Leave a prompt out because of an error; raise it when strict."""
        if self.strict:
            raise ValueError(f"prompt {prompt_id!r} under model {model!r}: {error}") from error
        skipped = Skipped(prompt_id, model, str(error), again=isinstance(error, Insufficient))
        store.save_skipped(self.out, skipped)
        self._note(skipped)

    # --------------------------------------------------------------------------------------------------- what is there

    def _try_again(self) -> None:
        """Forget that prompts are left out because of what this machine may have."""
        for each in self._read_skipped():
            if each.again:
                store.skipped_path(self.out, each.id).unlink(missing_ok=True)

    def _forget(self) -> None:
        """Forget what is not on disk any more."""
        left_out = {path.stem for path in store.skipped_paths(self.out)}
        self.skipped = {prompt_id: each for prompt_id, each in self.skipped.items() if prompt_id in left_out}
        for name in self.names:
            values, effects = self.values[name], self.effects[name]
            for prompt_id in list(values):
                there = store.values_path(self.out, name, prompt_id).exists()
                if not there:
                    del values[prompt_id]
                if not there or not store.effects_path(self.out, name, prompt_id).exists():
                    effects.pop(prompt_id, None)

    def _read_skipped(self) -> Iterator[Skipped]:
        for path in store.skipped_paths(self.out):
            try:
                yield store.read_skipped(path, self.names)
            except FileNotFoundError:  # another process tries it again
                continue
            except files.Damaged as error:
                kept = files.set_aside(path)
                warnings.warn(f"{error} The prompt is tried again, and the file kept as {kept.name}.", stacklevel=2)

    def _note(self, skipped: Skipped) -> None:
        if skipped.id not in self.skipped:
            if self.strict:
                raise ValueError(f"prompt {skipped.id!r} under model {skipped.model!r}: {skipped.why}")
            self.skipped[skipped.id] = skipped
            warnings.warn(f"prompt {skipped.id!r} is left out. {skipped.model}: {skipped.why}", stacklevel=2)

    def _look(self, name: str) -> bool:
        """Read what is on disk and was not read yet; whether there was something."""
        for each in self._read_skipped():
            self._note(each)
        found = False
        for prompt in self._left():
            values, effects = self.values[name], self.effects[name]
            if prompt.id not in values:
                read = functools.partial(
                    store.read_values,
                    prompt=prompt,
                    key=self.keys[name][prompt.id],
                    target=self._target(name, prompt),
                    measured=self.noise == "measured",
                )
                found |= self._read(values, prompt.id, store.values_path(self.out, name, prompt.id), read)
            if prompt.id in values and prompt.id not in effects:
                read = functools.partial(
                    store.read_effects, prompt=prompt, values=values[prompt.id], settings=self.settings
                )
                found |= self._read(effects, prompt.id, store.effects_path(self.out, name, prompt.id), read)
        if found:
            self._patience.restart()
        return found

    def _read(self, results: dict, prompt_id: str, path: Path, read: Callable[[Path], object]) -> bool:
        """Read a file if it is there; what is damaged is set aside. Whether there is a result."""
        try:
            results[prompt_id] = read(path)
            return True
        except FileNotFoundError:
            return False
        except files.Damaged:
            claim = resume.claim(self.out, path)
            if claim is None:  # another process is at it
                return False
        try:
            results[prompt_id] = read(path)  # it may have been made anew since
            return True
        except FileNotFoundError:
            return False
        except files.Damaged as error:
            kept = files.set_aside(path)
            warnings.warn(f"{error} It is made anew, and kept as {kept.name}.", stacklevel=2)
            return False
        finally:
            claim.release()

    def _adopt_values_beside(self) -> None:
        """Copy values from the runs beside this one: what decides them is the same."""
        missing = [
            (name, prompt)
            for name in self.names
            for prompt in self.prompts
            if self.keys[name][prompt.id] and not store.values_path(self.out, name, prompt.id).exists()
        ]
        there = resume.values_beside(self.out, {self.keys[name][prompt.id] for name, prompt in missing})
        for name, prompt in missing:
            key = self.keys[name][prompt.id]
            for path in there.get(key, ()):
                try:
                    values = store.read_values(path, prompt, key, measured=self.noise == "measured")
                    made_by = files.read_arrays(path, ["made_by"])["made_by"].item()
                except (OSError, ValueError):  # damaged, or removed meanwhile
                    continue
                claim = resume.claim(self.out, store.values_path(self.out, name, prompt.id))
                if claim is None:
                    break
                try:
                    store.save_values(self.out, name, prompt.id, values, key=key, made_by=made_by)
                    break
                finally:
                    claim.release()

    def _left(self) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.id not in self.skipped]

    # -------------------------------------------------------------------------------------------------------- evaluate

    def _evaluate(self, name: str) -> None:
        """Evaluate what nobody has evaluated or claimed under a model, and wait for what others have claimed."""
        model, taken = None, deque()
        try:
            while True:
                if self._look(name):
                    self._report_masks(name, self._masks_done(name))
                if all(prompt.id in self.values[name] for prompt in self._left()):
                    return
                claimed = self._claimed(name, taken)
                first = next(claimed, None)
                if first is None:
                    self._wait()
                    continue
                self._check_stop()
                model = model or self._load(name)
                self._evaluate_claimed(model, itertools.chain([first], claimed), taken)
                self._patience.restart()
        finally:
            for _, claim in taken:
                claim.release()

    def _load(self, name: str) -> LanguageModel:
        self.progress("load", name, 0, 1)
        (record,) = (each for each in self.settings["models"] if each["name"] == name)
        self.leader.load(name, record["dtype"])
        model = andor.models.load(name, dtype=record["dtype"], mesh=self.mesh)
        self.progress("load", name, 1, 1)
        if model.fingerprint != record["fingerprint"]:
            raise ValueError(f"the files of {name!r} have changed since the run was begun. Begin another run.")
        return model

    def _claimed(self, name: str, taken: deque) -> Iterator[Prompt]:
        """Prompts that are this process's to evaluate, each claimed when its turn comes."""
        for prompt in self._left():
            path = store.values_path(self.out, name, prompt.id)
            if not self.leader.alone and self.stop():  # in the middle of prompts the others could not be told
                return
            if prompt.id in self.values[name] or path.exists():
                continue
            claim = resume.claim(self.out, path)
            if claim is None:
                continue
            if path.exists():  # finished since
                claim.release()
                continue
            taken.append((prompt, claim))
            yield prompt

    def _evaluate_claimed(self, model: LanguageModel, claimed: Iterator[Prompt], taken: deque) -> None:
        """Evaluate prompts; one that fails is skipped, and what was begun after it is begun again."""
        while True:
            try:
                return self._save_all(model, claimed, taken)
            except _Failed as failed:
                self.leader.evaluated()
                prompt, claim = taken.popleft()  # those before it are saved
                self.skip(prompt.id, model.name, failed.__cause__)
                claim.release()
                claimed = itertools.chain([each for each, _ in taken], claimed)

    def _save_all(self, model: LanguageModel, prompts: Iterator[Prompt], taken: deque) -> None:
        """Evaluate prompts and save each as it is done. What is taken and not saved stays in `taken`."""
        masks: list[int] = []
        target: list[str | None] = []

        def begun() -> Iterator[Prompt]:
            for prompt in prompts:
                masks.append(2**prompt.n_players)
                target.append(self._target(model.name, prompt))
                self.leader.evaluate(self.prompts.index(prompt), target[-1])
                yield prompt
            self.leader.no_more()

        def targets() -> Iterator[str | None]:
            while True:
                yield target[-1]

        def report(index: int, of_prompt: int) -> None:
            self._report_masks(model.name, before + sum(masks[:index]) + of_prompt)

        before = self._masks_done(model.name)
        evaluated = evaluate_all(
            model,
            begun(),
            targets=targets(),
            baseline=self.baseline,
            measure_noise=self.noise == "measured",
            progress=report,
        )
        while True:
            try:
                values = next(evaluated, None)
            except ValueError as error:
                raise _Failed from error
            if values is None:
                break
            prompt, claim = taken[0]
            key = self.keys[model.name][prompt.id]
            try:
                store.save_values(self.out, model.name, prompt.id, values, key=key, made_by=provenance.made_by())
                self.values[model.name][prompt.id] = values
            except ValueError as error:  # its text cannot be stored
                self.skip(prompt.id, model.name, error)
            taken.popleft()
            claim.release()
            if self.leader.alone:
                self._check_stop()
        self.leader.evaluated()

    def _target(self, name: str, prompt: Prompt) -> str | None:
        """What a model is to explain; None for its own prediction."""
        target, source = self._targets[prompt.id]
        return target if source in ("given", "own", name) else self.values[source][prompt.id].target

    def _masks_done(self, name: str) -> int:
        return sum(2**prompt.n_players for prompt in self._left() if prompt.id in self.values[name])

    def _report_masks(self, name: str, done: int) -> None:
        self.progress("evaluate", name, done, sum(2**prompt.n_players for prompt in self._left()))

    # --------------------------------------------------------------------------------------------------------- extract

    def _extract(self, name: str) -> bool:
        """Solve the batches whose values are all there and that nobody has solved or claimed."""
        progressed = self._look(name)
        for batch in batches(self.prompts):
            # Batches are those of the whole run, so that a solution does not depend on where a run was interrupted.
            batch = [prompt for prompt in batch if prompt.id in self.values[name]]
            paths = {prompt.id: store.effects_path(self.out, name, prompt.id) for prompt in batch}
            if all(prompt.id in self.effects[name] or paths[prompt.id].exists() for prompt in batch):
                continue
            claim = resume.claim(self.out, paths[batch[0].id])
            if claim is None:
                continue
            try:
                for prompt, solution in zip(batch, self._solve(name, batch), strict=True):
                    if not paths[prompt.id].exists():
                        if claim.exclusive:
                            files.remove_unfinished(paths[prompt.id])
                        values = self.values[name][prompt.id]
                        store.save_effects(self.out, name, prompt.id, solution, values, self.settings)
                        self.effects[name][prompt.id] = solution
            finally:
                claim.release()
            progressed = True
            self._patience.restart()
            self._report_effects(name)
            self._check_stop()
        if self._look(name):
            self._report_effects(name)
        return progressed

    def _report_effects(self, name: str) -> None:
        left = self._left()
        self.progress("extract", name, sum(prompt.id in self.effects[name] for prompt in left), len(left))

    def _solve(self, name: str, batch: Sequence[Prompt]) -> list[Solution]:
        """Solutions of a batch of equal n_players; in halves where the device has no room for all."""
        values = [self.values[name][prompt.id] for prompt in batch]
        bounds, unit = self.noise, "range"
        if self.noise == "measured":
            bounds, unit = np.array([each.measured_noise for each in values]), "log-odds"
        try:
            solver = self.solvers[batch[0].n_players]
            solutions = extract(np.stack([each.v for each in values]), bounds, solver, noise_unit=unit)
        except (RuntimeError, ValueError) as error:  # JAX raises either
            if "RESOURCE_EXHAUSTED" not in str(error) or len(batch) == 1:
                raise
            warnings.warn(f"no memory to solve {len(batch)} prompts at once: going on with half of them.", stacklevel=2)
            half = len(batch) // 2
            return [*self._solve(name, batch[:half]), *self._solve(name, batch[half:])]
        return [solutions[index] for index in range(len(batch))]

    def _wait(self) -> None:
        """For others, who are at what is left."""
        self._check_stop()
        self._patience.waited(self._waited_for)
        time.sleep(POLL)

    def _waited_for(self) -> str:
        """What others are at, and who."""
        missing = {}
        for name in self.names:
            for batch in batches(self.prompts):
                solvable = [prompt for prompt in batch if prompt.id in self.values[name]]
                for prompt in batch:
                    if prompt.id in self.skipped:
                        continue
                    if prompt.id not in self.values[name]:
                        of, path = "values", store.values_path(self.out, name, prompt.id)
                    elif prompt.id not in self.effects[name]:
                        of, path = "effects", store.effects_path(self.out, name, solvable[0].id)
                    else:
                        continue
                    missing[f"the {of} of {prompt.id!r} under {name!r}"] = claims.path_of(self.out, path)
        missing = missing or {"the summary": claims.path_of(self.out, self.out / "summary.json")}
        what = next((what for what, path in missing.items() if path.exists()), next(iter(missing)))
        return f"{claims.holder(missing[what])} is at {what}"

    def _check_stop(self) -> None:
        if self.stop():
            values, effects = (sum(map(len, each.values())) for each in (self.values, self.effects))
            total = len(self.names) * len(self._left())
            raise resume.Stopped(f"stopped as asked, with {values} of {total} evaluated and {effects} solved.")


def batches(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """Prompts of equal n_players together, in batches of nearly equal size: a solver compiles for every new size."""
    by_players = defaultdict(list)
    for prompt in prompts:
        by_players[prompt.n_players].append(prompt)
    for group in by_players.values():
        n_batches = -(-len(group) // SOLVER_BATCH)
        for index in range(n_batches):
            yield group[index * len(group) // n_batches : (index + 1) * len(group) // n_batches]
