"""What one process does on a run: look up what is there under its content key, compute the rest, save it at once."""

import dataclasses
import gc
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh

import andor.models
from andor.core.compact import Compact
from andor.core.penalties import Penalty
from andor.core.problem import Solution, Solver
from andor.core.values import Values
from andor.devices import processes
from andor.devices.memory import Insufficient
from andor.evaluation import MATMUL_PRECISION, Score, outcomes
from andor.evaluation.spot_check import AGREEMENT, MASKS, spot_check
from andor.measures.metrics import SALIENT
from andor.models import LanguageModel
from andor.prompts import Prompt, TokenizedPrompt
from andor.runs import cache, files, provenance
from andor.runs.explanation import MOST_SHOWN, Explanation, described
from andor.runs.files import AnyPath, Damaged
from andor.runs.recipe import ModelRecord, Recipe, end
from andor.runs.run import (
    KEPT_BYTES,
    Run,
    Skipped,
    read_one_skipped,
    read_skipped,
    read_summary,
    save_skipped,
    skipped_paths,
)
from andor.runs.stages import Progress, evaluating
from andor.solvers import extract
from andor.solvers.compact import compact_of

EVALUATION = 1
"""Version of `andor.evaluation`. Raise it with a change of v by more than rounding: every v is then evaluated anew."""

SOLVER_BATCH = 8
"""Prompts of equal n_players that are solved in one call."""


class Coordinator:
    """Tells the other processes that a model spans what to evaluate; does nothing where there are none.

    `follow` is the other side. An error in the middle of an evaluation finds the others in it too, where they do not
    listen; nothing is told then, and JAX ends them with this process.
    """

    def __init__(self, spans: bool):
        self.spans, self._others_listen = spans, True
        self.run = ""  # name of its folder, once it is known

    def evaluate(self, record: ModelRecord, work: list[tuple[int, str | None]]) -> None:
        """Name a model, the places of the prompts to evaluate under it, and their targets."""
        if self.spans:
            processes.tell({"model": record.name, "dtype": record.dtype, "chat": record.chat, "work": work})
            self._others_listen = False

    def evaluated(self) -> None:
        """Note that every process is through with these prompts."""
        self._others_listen = True

    def __enter__(self) -> "Coordinator":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self.spans and self._others_listen:
            processes.tell({"end": str(error) if error else None, "run": self.run})


@dataclasses.dataclass(kw_only=True, eq=False)
class Work:
    """What is to be done on a run by this process; see `andor.compare`.

    Attributes:
      root, run: folders.
      recipe: what was asked for.
      others: folder -> recipe of the other runs of the root, whose explanations may be the same.
      mine: the prompts of this shard.
      coordinator: tells other processes that the model spans what to evaluate.
      solvers: number of players -> solver.
      penalty, baseline, mesh, reuse, strict, intervals, progress: as for `andor.compare`.
      skipped: prompts that are left out.
      counts: what was "evaluated", "reused" (values that were there), "solved", "kept" (explanations that were there).
    """

    root: AnyPath
    run: AnyPath
    recipe: Recipe
    others: Mapping[str, Recipe]
    mine: tuple[Prompt, ...]
    coordinator: Coordinator
    solvers: Mapping[int, Solver]
    penalty: Penalty
    baseline: str
    mesh: Mesh | None
    reuse: AnyPath | None
    strict: bool
    intervals: int
    progress: Progress

    def __post_init__(self):
        self.skipped: dict[str, Skipped] = {}
        self.result = Run(self.run, self.recipe, tau=SALIENT)
        self.counts = dict.fromkeys(("evaluated", "reused", "solved", "kept"), 0)
        self._targets: dict[str, str] = {}
        self._values: dict[str, tuple[Values, str]] = {}

    def finish(self, failed: Mapping[str, tuple[str, ValueError]], tau: float, whole: bool) -> Run:
        """Evaluate and solve what is not there, then write the summary if all is there."""
        self._read_skipped()
        for prompt in self.mine:
            if prompt.id in failed:
                self._skip(prompt.id, *failed[prompt.id])
        for record in self.recipe.models:
            unsolved, missing = self._look(record)
            if missing:
                self._evaluate(record, missing)
            # Two large models do not fit in memory together, and the solver can use the room too.
            gc.collect()
            self._extract(record, unsolved)
            if self.intervals:
                self._bound(record)
        if whole and not self._left():
            first = next(iter(self.skipped.values()))
            raise ValueError(f"no prompt is left. {first.id!r} failed under {first.model!r}: {first.why}")
        return self._summarised(tau, whole)

    # --------------------------------------------------------------------------------------------------- what is there

    def _read_skipped(self) -> None:
        mine = {each.id for each in self.mine}
        for path in skipped_paths(self.run):
            skipped = cache.get(path, read_one_skipped)
            if skipped is None:
                continue
            if skipped.again and skipped.id in mine:  # what was missing on that machine may be there now
                path.unlink(missing_ok=True)
            else:
                self._note(skipped)

    def _look(self, record: ModelRecord) -> tuple[list[Prompt], list[Prompt]]:
        """Take what is there of a model; of this shard's prompts, those without an explanation and those without v."""
        unsolved, missing, self._values = [], [], {}
        for prompt in self._left():
            values_key = self._values_key(record, prompt)
            key = self.recipe.solution_key(values_key, prompt)
            own = cache.explanation_path(self.run, record.name, prompt.id)
            explanation = cache.get(own, cache.read_explained, key, self.recipe.noise)
            if explanation is None:
                explanation = self._of_another_run(record, prompt, key)
            if explanation is not None and self._serve(explanation.values, record, prompt):
                self.result.keep((record.name, prompt.id), explanation)
                self._note_target(record, prompt, explanation.values)
                self.counts["kept"] += 1
                continue
            unsolved.append(prompt)
            found = cache.get(self._values_path(record, prompt), cache.read_values, values_key)
            if found is not None and self._serve(found[0], record, prompt):
                self._keep_values(record, prompt, *found)
                self.counts["reused"] += 1
            else:
                missing.append(prompt)
        return unsolved, missing

    def _of_another_run(self, record: ModelRecord, prompt: Prompt, key: str) -> Explanation | None:
        """The same explanation in another run of the root, copied here."""
        for folder, other in self.others.items():
            if not other.explains(record.name, prompt.id, key):
                continue
            try:
                path = cache.explanation_path(self.root / folder, record.name, prompt.id)
                explanation = cache.read_explained(path, key, self.recipe.noise)
            except (FileNotFoundError, Damaged):  # not there yet, or made anew when its own run is asked for
                continue
            explanation.save(cache.explanation_path(self.run, record.name, prompt.id))
            return explanation
        return None

    def _serve(self, values: Values, record: ModelRecord, prompt: Prompt) -> bool:
        """Whether values are what this run needs: with their noise, and of the target that all models explain."""
        measured = self.recipe.noise != "measured" or not np.isnan(values.forward_bound)
        return measured and self._target(record, prompt) in (None, values.target)

    def _keep_values(self, record: ModelRecord, prompt: Prompt, values: Values, made_by: str) -> None:
        """Values for `_extract`, as long as there is room; others are read again."""
        self._note_target(record, prompt, values)
        values = dataclasses.replace(values, players=prompt.words)  # of the same tokens, perhaps in other words
        if (len(self._values) + 1) * values.v.nbytes <= KEPT_BYTES:
            self._values[prompt.id] = values, made_by

    def _save_values(self, record: ModelRecord, prompt: Prompt, values: Values, made_by: str) -> None:
        key = self._values_key(record, prompt)
        cache.save_values(self.root, record.name, prompt.id, values, key=key, made_by=made_by)
        self._keep_values(record, prompt, values, made_by)

    def _values_path(self, record: ModelRecord, prompt: Prompt) -> AnyPath:
        return cache.values_path(self.root, record.name, prompt.id, self._values_key(record, prompt))

    def _note_target(self, record: ModelRecord, prompt: Prompt, values: Values) -> None:
        if record is self.recipe.models[0]:
            self._targets[prompt.id] = values.target

    def _left(self) -> list[Prompt]:
        return [prompt for prompt in self.mine if prompt.id not in self.skipped]

    def _values_key(self, record: ModelRecord, prompt: Prompt) -> str:
        return record.keys[self.recipe.places[prompt.id]]

    def _target(self, record: ModelRecord, prompt: Prompt) -> str | None:
        """What a model is to explain; None for its own prediction."""
        own = prompt.target is not None or self.recipe.own_targets or record is self.recipe.models[0]
        return prompt.continuation if own else self._targets[prompt.id]

    def _skip(self, prompt_id: str, model: str, error: ValueError) -> None:
        """Leave a prompt out because of an error; raise it when strict."""
        if self.strict:
            raise ValueError(f"prompt {prompt_id!r} under model {model!r}: {error}") from error
        skipped = Skipped(prompt_id, model, str(error), again=isinstance(error, Insufficient))
        save_skipped(self.run, skipped)
        self._note(skipped)

    def _note(self, skipped: Skipped) -> None:
        if self.strict:
            raise ValueError(f"prompt {skipped.id!r} under model {skipped.model!r}: {skipped.why}")
        if skipped.id not in self.skipped:
            self.skipped[skipped.id] = skipped
            warnings.warn(f"prompt {skipped.id!r} is left out. {skipped.model}: {skipped.why}", stacklevel=2)

    # -------------------------------------------------------------------------------------------------------- evaluate

    def _evaluate(self, record: ModelRecord, missing: list[Prompt]) -> None:
        """v of these prompts under a model, each saved as soon as it is there."""
        targets = {prompt.id: self._target(record, prompt) for prompt in missing}
        self.coordinator.evaluate(record, [(self.recipe.places[prompt.id], targets[prompt.id]) for prompt in missing])
        self.progress("load", record.name, 0, 1)
        model = andor.models.load(record.name, dtype=record.dtype, mesh=self.mesh)
        self.progress("load", record.name, 1, 1)
        if model.fingerprint != record.fingerprint:
            raise ValueError(f"the files of {record.name!r} have changed since the run was begun. Begin another run.")
        if self.reuse is not None:
            missing = [prompt for prompt in missing if not self._reused(model, record, prompt)]
        left, total = (sum(2**each.n_players for each in prompts) for prompts in (missing, self._left()))
        evaluated = _evaluated(
            model,
            [(prompt, targets[prompt.id]) for prompt in missing],
            chat=record.chat,
            baseline=self.baseline,
            score=self.recipe.score,
            measure_noise=self.recipe.noise == "measured",
            progress=evaluating(self.progress, record.name, total - left, total),
        )
        for prompt, outcome in evaluated:
            try:
                if isinstance(outcome, ValueError):
                    raise outcome
                self._save_values(record, prompt, outcome, provenance.made_by())
                self.counts["evaluated"] += 1
            except ValueError as error:  # it gives NaN, does not fit, or its text cannot be stored
                self._skip(prompt.id, record.name, error)
        self.coordinator.evaluated()

    def _reused(self, model: LanguageModel, record: ModelRecord, prompt: Prompt) -> bool:
        """Take v of a prompt from the root that may be used, if a sample of masks agrees."""
        key, measured = self._values_key(record, prompt), self.recipe.noise == "measured"
        for path in cache.values_with(self.reuse, record.name, key):
            try:
                values, made_by = cache.read_values(path, key)
            except (FileNotFoundError, Damaged) as error:
                warnings.warn(f"not used: {error}", stacklevel=2)
                continue
            if self._target(record, prompt) not in (None, values.target):
                continue
            checked, difference = spot_check(
                model,
                as_read(prompt, record.chat),
                values,
                baseline=self.baseline,
                measure_noise=measured,
                seed=int(key[:8], 16),
            )
            if not difference <= AGREEMENT[record.dtype]:
                warnings.warn(
                    f"not used: {path} differs by {difference:.2g} nats from {MASKS} masks evaluated again. The "
                    "prompt is evaluated here.",
                    stacklevel=2,
                )
                continue
            made_by = f"{made_by}; taken from {self.reuse}, {MASKS} masks agree within {difference:.1g} nats"
            self._save_values(record, prompt, checked, made_by)
            self.counts["reused"] += 1
            return True
        return False

    # --------------------------------------------------------------------------------------------------------- extract

    def _extract(self, record: ModelRecord, unsolved: Sequence[Prompt]) -> None:
        """Solve these prompts, batch by batch, and save their explanations."""
        left = [prompt for prompt in unsolved if prompt.id not in self.skipped]
        solved, total = len(self._left()) - len(left), len(self._left())
        if left:  # the first batch is compiled before it is solved
            self.progress("solve", record.name, solved, total)
        for batch in batches(left):
            values, made_by = zip(*(self._values_of(record, prompt) for prompt in batch), strict=True)
            solver = self.solvers[batch[0].n_players]
            found = self._solve(solver, values)
            for prompt, of_prompt, origin, (solution, compact) in zip(batch, values, made_by, found, strict=True):
                values_key = self._values_key(record, prompt)
                explanation = Explanation(
                    record.name,
                    as_read(prompt, record.chat),
                    of_prompt,
                    solution,
                    compact,
                    {
                        "solver": described(solver),
                        "penalty": described(self.penalty),
                        "made_by": origin,
                        "values_key": values_key,
                        "key": self.recipe.solution_key(values_key, prompt),
                    },
                )
                explanation.save(cache.explanation_path(self.run, record.name, prompt.id))
                self.result.keep((record.name, prompt.id), explanation)
                self.counts["solved"] += 1
            solved += len(batch)
            self.progress("solve", record.name, solved, total)

    def _bound(self, record: ModelRecord) -> None:
        """Add intervals to the explanations of a model that lack them, and save each as soon as it has them."""
        left = self._left()
        for done, prompt in enumerate(left):
            self.progress("bound", record.name, done, len(left))
            explanation = self.result[record.name, prompt.id]
            bounded = explanation.with_intervals(self.intervals)
            if bounded is not explanation:
                bounded.save(cache.explanation_path(self.run, record.name, prompt.id))
                self.result.keep((record.name, prompt.id), bounded)
        self.progress("bound", record.name, len(left), len(left))

    def _values_of(self, record: ModelRecord, prompt: Prompt) -> tuple[Values, str]:
        """v of a prompt, and what it was made by."""
        if prompt.id in self._values:
            return self._values[prompt.id]
        values, made_by = cache.read_values(self._values_path(record, prompt), self._values_key(record, prompt))
        return dataclasses.replace(values, players=prompt.words), made_by

    def _solve(self, solver: Solver, values: Sequence[Values]) -> list[tuple[Solution, Compact]]:
        """Optima and compact explanations of a batch of equal n_players; in halves where the device has no room."""
        bounds, unit = self.recipe.noise, "range"
        if bounds == "measured":
            bounds, unit = np.array([each.measured_noise for each in values]), "log-odds"
        try:
            v = np.stack([each.v for each in values])
            solutions = extract(v, bounds, solver, penalty=self.penalty, noise_unit=unit)
            solutions = [solutions[index] for index in range(len(values))]
            return list(zip(solutions, compact_of(v, solutions, MOST_SHOWN), strict=True))
        except (RuntimeError, ValueError) as error:  # JAX raises either
            if "RESOURCE_EXHAUSTED" not in str(error) or len(values) == 1:
                raise
            warnings.warn(
                f"no memory to solve {len(values)} prompts at once: going on with half of them.", stacklevel=2
            )
            half = len(values) // 2
            return [*self._solve(solver, values[:half]), *self._solve(solver, values[half:])]

    # ------------------------------------------------------------------------------------------------------- summarise

    def _summarised(self, tau: float, whole: bool) -> Run:
        """The run with its summary, where all prompts are explained by now."""
        result = self.result
        result.counts = self.counts
        result.skipped = tuple(self.skipped.values()) if whole else read_skipped(self.run)
        try:
            if not whole and not all(cache.explanation_path(self.run, *key).exists() for key in result):
                return result
            summary, *of = cache.get(self.run / "summary.json", read_summary) or (None,)
            if of and of == [tau, result.covers()]:
                result.summary, result.tau = summary, tau
            else:
                result.summarised(tau)
        except (Damaged, FileNotFoundError):
            if whole:
                raise
            return result  # another shard is at it, or will mend it
        end(self.root, self.recipe.id)
        return result


def values_key(
    fingerprint: str, dtype: str, tokens: TokenizedPrompt, target: Sequence[int] | Sequence[str], score: Score
) -> str:
    """Content key of v: of all that decides it but the device.

    Args:
      fingerprint, dtype: of the model.
      tokens: of the prompt, with what masks it.
      target: ids of its tokens; or who is to predict it, as a name and a content key.
      score: how the log-odds of its tokens are put together.
    """
    content = {
        "ids": tokens.token_ids.tolist(),
        "players": tokens.player_of_token.tolist(),
        "masked_with": tokens.mask.key,
    }
    summed = ["sum"] * (score == "sum")
    return files.key_of(EVALUATION, fingerprint, dtype, MATMUL_PRECISION, content, list(target), *summed)


def as_read(prompt: Prompt, chat: tuple[str, str] | None) -> Prompt:
    """A prompt as a model reads it: a chat with what the model's template puts around it."""
    return dataclasses.replace(prompt, chat=chat) if prompt.chat is True and chat is not None else prompt


def follow(prompts: Sequence[Prompt], *, mesh: Mesh, **options: object) -> str:
    """In every process but the first of those that a model spans: evaluate what the first says, model by model. Returns
    the name of the run's folder. The options are those of `_evaluated`.

    Raises:
      ValueError: the first ended with an error.
    """
    model, message = None, processes.tell(None)
    while "end" not in message:
        model = None  # two large models do not fit in memory together
        model = andor.models.load(message["model"], dtype=message["dtype"], mesh=mesh)
        work = [(prompts[index], target) for index, target in message["work"]]
        for _ in _evaluated(model, work, chat=message["chat"] and tuple(message["chat"]), **options):
            pass
        message = processes.tell(None)
    if message["end"] is not None:
        raise ValueError(f"process 0 ended: {message['end']}")
    return message["run"]


def _evaluated(
    model: LanguageModel,
    work: Sequence[tuple[Prompt, str | None]],
    *,
    chat: tuple[str, str] | None,
    baseline: str,
    score: Score,
    measure_noise: bool,
    progress: Callable[[int], None] = lambda masks: None,
) -> Iterator[tuple[Prompt, Values | ValueError]]:
    """Prompts with their values for a target, or with what is wrong with them; `progress` gets the masks done."""
    prompts = [prompt for prompt, _ in work]
    before = np.cumsum([0, *(2**prompt.n_players for prompt in prompts)]).tolist()
    found = outcomes(
        model,
        [as_read(prompt, chat) for prompt in prompts],
        targets=[target for _, target in work],
        baseline=baseline,
        score=score,
        measure_noise=measure_noise,
        progress=lambda index, masks: progress(before[index] + masks),
    )
    return zip(prompts, found, strict=True)


def batches(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """Prompts of equal n_players together, in batches of nearly equal size: a solver compiles for every new size."""
    by_players = defaultdict(list)
    for prompt in prompts:
        by_players[prompt.n_players].append(prompt)
    for group in by_players.values():
        n_batches = -(-len(group) // SOLVER_BATCH)
        for index in range(n_batches):
            yield group[index * len(group) // n_batches : (index + 1) * len(group) // n_batches]
