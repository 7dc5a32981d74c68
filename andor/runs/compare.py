"""Several models on the same prompts and targets: a run, made of two functions whose results are kept.

    run = andor.compare(("tiny-llama", "tiny-qwen2"), out="runs/first")
    run["tiny-llama", "sentiment-01"].top(5)

`evaluate(model, prompt) -> Values` and `extract(v) -> Solution` are looked up under their content keys
(`andor.runs.cache`) and computed where there is nothing. So the same call goes on with a run that was killed, another
noise bound or solver evaluates nothing, and what is damaged is made again. One model is in memory at a time.
"""

import dataclasses
import gc
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from jax.sharding import Mesh

import andor.models
from andor.core.penalties import L1, Penalty
from andor.core.problem import Solution, Solver
from andor.core.values import Values
from andor.devices import processes
from andor.devices.memory import Insufficient
from andor.devices.mesh import ALONG, check_divides
from andor.devices.shards import WHOLE, Shard, deal, read_shard
from andor.evaluation import MATMUL_PRECISION, again, check_fits, evaluate_all
from andor.measures.metrics import SALIENT
from andor.models import Checkpoint, LanguageModel
from andor.prompts import DEFAULT_PROMPTS, Prompt, TokenizedPrompt, baseline_name, read_prompts, tokenize
from andor.runs import cache, files, provenance
from andor.runs.explanation import Explanation, described
from andor.runs.files import AnyPath, Damaged, path_of
from andor.runs.recipe import ModelRecord, Recipe, begin, end, finished, model_labels, read_recipe, recipe_paths
from andor.runs.run import KEPT_BYTES, Run, Skipped, read, read_one_skipped, read_skipped, save_skipped, skipped_paths
from andor.solvers import default_solver, extract

EVALUATION = 1
"""Version of `andor.evaluation`, to be raised by what changes v by more than rounding: v is then evaluated anew."""

SOLVER_BATCH = 8
"""Prompts of equal n_players that are solved in one call."""

Progress = Callable[[str, str, int, int], None]
"""Called as progress(stage, model, done, total): `done` of `total` units of "load", "evaluate" or "extract"."""


def compare(
    models: str | Sequence[str] = ("tiny-llama", "tiny-qwen2"),
    prompts: Sequence[Prompt] | None = None,
    *,
    out: AnyPath,
    noise: float | Literal["measured"] = 0.02,
    baseline: str = "auto",
    own_targets: bool = False,
    solver: Solver | None = None,
    penalty: Penalty | None = None,
    tau: float = SALIENT,
    dtype: str = "auto",
    mesh: Mesh | None = None,
    shard: Shard | str | None = None,
    reuse: AnyPath | None = None,
    strict: bool = False,
    command: str = "andor.compare(...)",
    left_out: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run:
    """Extract the AND-OR effects of every model on every prompt, and save them with a summary.

    All models explain the same exact target text of a prompt: the prompt's own, else what the first model predicts
    (with `own_targets`, what each model itself predicts).

    Args:
      models: names as for `andor.load`, one or more, all different; a single one may be given by itself.
      prompts: with different ids; those without an id are called "prompt-0001", ... by their place. By default the 20
        prompts that ship with the package.
      out: the root: a local folder, or a URL of any scheme that fsspec knows ("s3://bucket/run"). What it holds already
        is used: v of the same model, tokens, target and dtype, explanations of the same v, noise bound and solver.
      noise: bound on the noise, a multiple of |v(N) - v(∅)|, or "measured", as for `andor.extract`.
      baseline: what replaces masked tokens, as for `andor.evaluate`.
      own_targets: for prompts without a target, explain each model's own prediction instead of the first model's.
      solver, penalty: as for `andor.extract`.
      tau: an effect is salient above tau times the largest. Decides numbers of the summary alone.
      dtype, mesh: as for `andor.load`. With a mesh over several processes (`andor.hosts`) all make the same call, and
        all must see `out`.
      shard: which part of the prompts to work on, as a `Shard` or "I/N"; by default that of this job
        (`andor.devices.shards.read_shard`). Whoever comes last writes the summary.
      reuse: another root whose values may be used where keys agree and a sample of masks, evaluated again, agrees too.
      strict: whether a prompt that fails under a model ends the run. By default it is left out, with a warning.
      command: what to record as the origin of the run.
      left_out: to record too: why lines of a file of prompts gave no prompt.
      progress: called after every batch of masks and every batch of solutions.

    Returns:
      The run; without a summary where other shards are not done.

    Raises:
      ValueError: before any model runs: no model or one twice, an unknown model or one whose config.json is not
        implemented, no prompt or an id twice, no prompt that the tokenizers can map, more players than memory allows,
        an `out` that holds something else or an unfinished run with other settings, a negative noise. Later: a model
        whose weights cannot be read, or every prompt gave nan; when strict, any did.
      FileNotFoundError: a file of a model is missing.
      OSError: a file could not be written.
    """
    names = (models,) if isinstance(models, str) else tuple(models)
    prompts = _with_ids(read_prompts(DEFAULT_PROMPTS) if prompts is None else prompts)
    _check(names, noise, tau)
    root, reuse = path_of(out), None if reuse is None else path_of(reuse)
    if reuse is not None and not (reuse / "values").exists():
        raise ValueError(f"{reuse} holds no values to reuse. Give the --out of an earlier `andor compare`.")
    spans = processes.spans(mesh)
    if shard is None and spans:
        shard = WHOLE
    shard = shard if isinstance(shard, Shard) else read_shard(shard)
    penalty = penalty or L1()
    solvers = {n: solver or default_solver(n, penalty) for n in sorted({prompt.n_players for prompt in prompts})}
    for n_players, each in solvers.items():
        each.check_memory(n_players)  # what would be refused after all masks are evaluated is refused before
    checkpoints = {name: andor.models.find(name) for name in names}
    for found in checkpoints.values():
        found.check_weights()
        if mesh is not None:
            check_divides(mesh.shape, "".join(ALONG), found.config.axis_sizes())
    tokenized, failed = _tokenize(prompts, checkpoints, baseline, strict)
    if spans and not processes.is_first():
        _follow(prompts, baseline=baseline, mesh=mesh, measure_noise=noise == "measured")
        return read(root)
    dtypes = {name: str(found.dtype_on(mesh, dtype)) for name, found in checkpoints.items()}
    if dtype == "auto":  # it depends on what memory is free; a root goes on with what it has begun with
        dtypes |= _recorded_dtypes(root, names)
    recipe = Recipe(
        models=_model_records(checkpoints, tokenized, dtypes, baseline, own_targets),
        prompts=tuple(prompts),
        own_targets=own_targets,
        noise=noise,
        solvers={str(n): json.loads(described(each)) for n, each in solvers.items()},
        penalty=json.loads(described(penalty)),
        matmul_precision=MATMUL_PRECISION,
        made=provenance.process(command)
        | {
            "versions": provenance.versions(),
            "mesh": None if mesh is None else dict(mesh.shape),
            "left_out": list(left_out),
            "reuse": None if reuse is None else str(reuse),
        },
    )
    costs = [sum(_cost(of_model[prompt.id]) for of_model in tokenized.values()) for prompt in prompts]
    work = _Work(
        root=root,
        run=begin(root, recipe),
        recipe=recipe,
        mine=tuple(prompts[place] for place in deal(costs, shard)),
        solvers=solvers,
        penalty=penalty,
        baseline=baseline,
        mesh=mesh,
        reuse=reuse,
        strict=strict,
        progress=progress or (lambda stage, model, done, total: None),
    )
    return work.finish(failed, tau, whole=shard.count == 1)


class _Work:
    """What is to be done on a run by this process; see `compare`.

    Attributes:
      root, run: folders.
      mine: the prompts of this shard.
      explained: (model, prompt id) -> content key of what is explained.
      skipped: prompts that are left out.
      counts: what was "evaluated", "reused" (values that were there), "solved", "kept" (explanations that were there).
    """

    def __init__(self, *, root, run, recipe, mine, solvers, penalty, baseline, mesh, reuse, strict, progress):
        self.root, self.run, self.recipe, self.mine, self.solvers = root, run, recipe, mine, solvers
        self.penalty, self.baseline, self.mesh, self.reuse = penalty, baseline, mesh, reuse
        self.strict, self.progress = strict, progress
        self.spans = processes.spans(mesh)
        self.skipped: dict[str, Skipped] = {}
        self.result = Run(run, recipe, tau=SALIENT)
        self.counts = dict.fromkeys(("evaluated", "reused", "solved", "kept"), 0)
        self._targets: dict[str, str] = {}
        self._values: dict[str, tuple[Values, str]] = {}
        self._others = [path.parent for path in recipe_paths(root) if path.parent != run]

    def finish(self, failed: Mapping[str, tuple[str, ValueError]], tau: float, whole: bool) -> Run:
        """Evaluate and solve what is not there, then write the summary if all is there."""
        in_step = True
        try:
            self._read_skipped()
            for prompt_id, (name, error) in failed.items():
                if prompt_id in {each.id for each in self.mine}:
                    self._skip(prompt_id, name, error)
            for record in self.recipe.models:
                unsolved, missing = self._look(record)
                if missing:
                    in_step = False
                    self._evaluate(record, missing)
                    in_step = True
                # Two large models do not fit in memory together, and the solver can use the room too.
                gc.collect()
                self._extract(record, unsolved)
            if not self._left():
                first = next(iter(self.skipped.values()))
                raise ValueError(f"no prompt is left. {first.id!r} failed under {first.model!r}: {first.why}")
            return self._summarised(tau, whole)
        finally:
            # After an error in the middle of prompts the others may be anywhere; JAX ends them.
            if self.spans and in_step:
                processes.tell({"end": True})

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
            key = self.recipe.solution_key(values_key, prompt.n_players)
            own = cache.explanation_path(self.run, record.name, prompt.id)
            explanation = cache.get(own, cache.read_explained, key, self.recipe.noise)
            if explanation is None:
                explanation = self._of_another_run(record, prompt, key)
            if explanation is not None:
                self.result.keep((record.name, prompt.id), explanation)
                self._note_target(record, prompt, explanation.values)
                self.counts["kept"] += 1
                continue
            unsolved.append(prompt)
            path = cache.values_path(self.root, record.name, prompt.id, values_key)
            found = cache.get(path, cache.read_values, values_key)
            if found is not None and self._serve(found[0], record, prompt):
                self._keep_values(record, prompt, *found)
                self.counts["reused"] += 1
            else:
                missing.append(prompt)
        return unsolved, missing

    def _of_another_run(self, record: ModelRecord, prompt: Prompt, key: str) -> Explanation | None:
        """The same explanation in another run of the root, copied here."""
        for other in self._others:
            try:
                path = cache.explanation_path(other, record.name, prompt.id)
                explanation = cache.read_explained(path, key, self.recipe.noise)
            except (FileNotFoundError, Damaged):  # or of another recipe
                continue
            explanation.save(cache.explanation_path(self.run, record.name, prompt.id))
            return explanation
        return None

    def _serve(self, values: Values, record: ModelRecord, prompt: Prompt) -> bool:
        """Whether values are what this run needs: with their noise, and of the target that all models explain."""
        measured = self.recipe.noise != "measured" or np.isfinite(values.forward_noise)
        return measured and self._target(record, prompt) in (None, values.target)

    def _keep_values(self, record: ModelRecord, prompt: Prompt, values: Values, made_by: str) -> None:
        """Values for `_extract`, as long as there is room; others are read again."""
        self._note_target(record, prompt, values)
        if (len(self._values) + 1) * values.v.nbytes <= KEPT_BYTES:
            self._values[prompt.id] = values, made_by

    def _note_target(self, record: ModelRecord, prompt: Prompt, values: Values) -> None:
        if record is self.recipe.models[0]:
            self._targets[prompt.id] = values.target

    def _left(self) -> list[Prompt]:
        return [prompt for prompt in self.mine if prompt.id not in self.skipped]

    def _values_key(self, record: ModelRecord, prompt: Prompt) -> str:
        return record.keys[self.recipe.prompts.index(prompt)]

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
        if self.spans:  # the one word to the other processes about this model
            work = [[self.recipe.prompts.index(prompt), targets[prompt.id]] for prompt in missing]
            processes.tell({"model": record.name, "dtype": record.dtype, "work": work})
        self.progress("load", record.name, 0, 1)
        model = andor.models.load(record.name, dtype=record.dtype, mesh=self.mesh)
        self.progress("load", record.name, 1, 1)
        if model.fingerprint != record.fingerprint:
            raise ValueError(f"the files of {record.name!r} have changed since the run was begun. Begin another run.")
        if self.reuse is not None:
            missing = [prompt for prompt in missing if not self._reused(model, record, prompt)]
        left, total = sum(2**each.n_players for each in missing), sum(2**each.n_players for each in self._left())

        def path(prompt: Prompt) -> AnyPath:
            return cache.values_path(self.root, record.name, prompt.id, self._values_key(record, prompt))

        def save(prompt: Prompt, values: Values) -> None:
            made_by = provenance.made_by()
            key = self._values_key(record, prompt)
            cache.save_values(self.root, record.name, prompt.id, values, key=key, made_by=made_by)
            self._keep_values(record, prompt, values, made_by)
            self.counts["evaluated"] += 1

        _evaluate_each(
            model,
            [(prompt, targets[prompt.id]) for prompt in missing],
            baseline=self.baseline,
            measure_noise=self.recipe.noise == "measured",
            # Another process on the same root may have been faster. Processes that span a model do the same in step.
            there=lambda prompt: not self.spans and path(prompt).exists(),
            save=save,
            skip=lambda prompt, error: self._skip(prompt.id, record.name, error),
            progress=lambda masks: self.progress("evaluate", record.name, total - left + masks, total),
        )

    def _reused(self, model: LanguageModel, record: ModelRecord, prompt: Prompt) -> bool:
        """Take v of a prompt from the root that may be used, if a sample of masks agrees."""
        key = self._values_key(record, prompt)
        for path in cache.values_with(self.reuse, record.name, key):
            try:
                values, made_by = cache.read_values(path, key)
            except (FileNotFoundError, Damaged) as error:
                warnings.warn(f"not used: {error}", stacklevel=2)
                continue
            if not self._serve(values, record, prompt):
                continue
            difference = again.largest_difference(model, prompt, values, baseline=self.baseline)
            if not difference <= again.AGREEMENT[record.dtype]:
                warnings.warn(
                    f"not used: {path} differs by {difference:.2g} nats from {again.SAMPLE} masks evaluated again. The "
                    "prompt is evaluated here.",
                    stacklevel=2,
                )
                continue
            made_by = f"{made_by}; taken from {self.reuse}, {again.SAMPLE} masks agree within {difference:.1g} nats"
            cache.save_values(self.root, record.name, prompt.id, values, key=key, made_by=made_by)
            self._keep_values(record, prompt, values, made_by)
            self.counts["reused"] += 1
            return True
        return False

    # --------------------------------------------------------------------------------------------------------- extract

    def _extract(self, record: ModelRecord, unsolved: Sequence[Prompt]) -> None:
        """Solve these prompts, batch by batch, and save their explanations."""
        left = [prompt for prompt in unsolved if prompt.id not in self.skipped]
        solved, total = len(self._left()) - len(left), len(self._left())
        for batch in batches(left):
            values, made_by = zip(*(self._values_of(record, prompt) for prompt in batch), strict=True)
            solver = self.solvers[batch[0].n_players]
            for prompt, of_prompt, origin, solution in zip(
                batch, values, made_by, self._solve(solver, values), strict=True
            ):
                values_key = self._values_key(record, prompt)
                explanation = Explanation(
                    record.name,
                    prompt,
                    of_prompt,
                    solution,
                    {
                        "solver": described(solver),
                        "penalty": described(self.penalty),
                        "made_by": origin,
                        "values_key": values_key,
                        "key": self.recipe.solution_key(values_key, prompt.n_players),
                    },
                )
                explanation.save(cache.explanation_path(self.run, record.name, prompt.id))
                self.result.keep((record.name, prompt.id), explanation)
                self.counts["solved"] += 1
            solved += len(batch)
            self.progress("extract", record.name, solved, total)

    def _values_of(self, record: ModelRecord, prompt: Prompt) -> tuple[Values, str]:
        """v of a prompt, and what it was made by."""
        if prompt.id in self._values:
            return self._values[prompt.id]
        key = self._values_key(record, prompt)
        return cache.read_values(cache.values_path(self.root, record.name, prompt.id, key), key)

    def _solve(self, solver: Solver, values: Sequence[Values]) -> list[Solution]:
        """Solutions of a batch of equal n_players; in halves where the device has no room for all."""
        bounds, unit = self.recipe.noise, "range"
        if bounds == "measured":
            bounds, unit = np.array([each.measured_noise for each in values]), "log-odds"
        try:
            v = np.stack([each.v for each in values])
            solutions = extract(v, bounds, solver, penalty=self.penalty, noise_unit=unit)
        except (RuntimeError, ValueError) as error:  # JAX raises either
            if "RESOURCE_EXHAUSTED" not in str(error) or len(values) == 1:
                raise
            warnings.warn(
                f"no memory to solve {len(values)} prompts at once: going on with half of them.", stacklevel=2
            )
            half = len(values) // 2
            return [*self._solve(solver, values[:half]), *self._solve(solver, values[half:])]
        return [solutions[index] for index in range(len(values))]

    # ------------------------------------------------------------------------------------------------------- summarise

    def _summarised(self, tau: float, whole: bool) -> Run:
        """The run with its summary, where all prompts are explained by now."""
        result = self.result
        result.counts = self.counts
        result.skipped = self.skipped.values() if whole else read_skipped(self.run)
        try:
            if not whole and not all(cache.explanation_path(self.run, *key).exists() for key in result):
                return result
            covers = result.covers()
        except (Damaged, FileNotFoundError):
            if whole:
                raise
            return result  # another shard is at it, or will mend it
        if finished(self.run):
            summary = cache.get(self.run / "summary.json", files.read_json)
            if summary and summary.pop("covers", None) == covers and summary.pop("tau", None) == tau:
                result.summary, result.tau = summary, tau
                end(self.root)
                return result
        result.summarised(tau)
        end(self.root)
        return result


def _evaluate_each(
    model: LanguageModel,
    work: Sequence[tuple[Prompt, str | None]],
    *,
    save: Callable[[Prompt, Values], None] = lambda prompt, values: None,
    skip: Callable[[Prompt, ValueError], None] = lambda prompt, error: None,
    **options,
) -> None:
    """Evaluate prompts with their targets, one after the other; one that fails is skipped, and the rest begun again.

    Args:
      model: from `andor.load`.
      work: prompts and targets.
      save: called with every prompt that is done, and its values.
      skip: called with a prompt that failed, and why.
      options: as for `_until_one_fails`.
    """
    while work:
        work = _until_one_fails(model, work, save, skip, **options)


def _until_one_fails(
    model: LanguageModel,
    work: Sequence[tuple[Prompt, str | None]],
    save: Callable[[Prompt, Values], None],
    skip: Callable[[Prompt, ValueError], None],
    *,
    baseline: str,
    measure_noise: bool,
    there: Callable[[Prompt], bool] = lambda prompt: False,
    progress: Callable[[int], None] = lambda masks: None,
) -> list[tuple[Prompt, str | None]]:
    """Evaluate prompts up to the first that fails, without those that are `there` when their turn comes. Returns what
    is left behind that one."""
    begun: list[tuple[Prompt, str | None]] = []
    left, done = iter(work), 0

    def prompts() -> Iterator[Prompt]:
        for each in left:
            if not there(each[0]):
                begun.append(each)
                yield each[0]

    def targets() -> Iterator[str | None]:
        while True:
            yield begun[-1][1]

    def report(index: int, masks: int) -> None:
        progress(sum(2**prompt.n_players for prompt, _ in begun[:index]) + masks)

    options = {"baseline": baseline, "measure_noise": measure_noise, "progress": report}
    try:
        for values in evaluate_all(model, prompts(), targets=targets(), **options):
            save(begun[done][0], values)
            done += 1
        return []
    except ValueError as error:  # it gives NaN, does not fit, or its text cannot be stored
        skip(begun[done][0], error)
        return [*begun[done + 1 :], *left]


def _follow(prompts: Sequence[Prompt], *, baseline: str, mesh: Mesh, measure_noise: bool) -> None:
    """In every process but the first of those that a model spans: evaluate what the first says, model by model.

    Raises:
      ValueError: the first ended with an error.
    """
    message = processes.tell(None)
    while "end" not in message:
        model = andor.models.load(message["model"], dtype=message["dtype"], mesh=mesh)
        work = [(prompts[index], target) for index, target in message["work"]]
        _evaluate_each(model, work, baseline=baseline, measure_noise=measure_noise)
        model = None  # two large models do not fit in memory together
        gc.collect()
        message = processes.tell(None)


def batches(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """Prompts of equal n_players together, in batches of nearly equal size: a solver compiles for every new size."""
    by_players = defaultdict(list)
    for prompt in prompts:
        by_players[prompt.n_players].append(prompt)
    for group in by_players.values():
        n_batches = -(-len(group) // SOLVER_BATCH)
        for index in range(n_batches):
            yield group[index * len(group) // n_batches : (index + 1) * len(group) // n_batches]


def _cost(tokens: TokenizedPrompt | None) -> int:
    """Tokens that the prefix tree evaluates: at every position 2 to the number of players that have begun."""
    if tokens is None:
        return 0
    begun = np.maximum.accumulate(tokens.player_of_token) + 1
    return int(np.sum(2.0**begun))


def _recorded_dtypes(root: AnyPath, names: Sequence[str]) -> dict[str, str]:
    """Model name -> dtype in the runs of a root; the unfinished one counts most."""
    found: dict[str, str] = {}
    for path in recipe_paths(root):
        try:
            recipe = read_recipe(path)
        except (FileNotFoundError, Damaged):
            continue
        of_recipe = {each.name: each.dtype for each in recipe.models if each.name in names}
        found = found | of_recipe if not finished(path.parent) else of_recipe | found
    return found


def _model_records(
    checkpoints: Mapping[str, Checkpoint],
    tokenized: Mapping[str, Mapping[str, TokenizedPrompt | None]],
    dtypes: Mapping[str, str],
    baseline: str,
    own_targets: bool,
) -> tuple[ModelRecord, ...]:
    """The models, with a content key of v for every prompt: of all that decides v but the device."""
    records, first_keys = [], []
    for name, label in zip(checkpoints, model_labels(tuple(checkpoints)), strict=True):
        found = checkpoints[name]
        masked_with = baseline_name(found.tokenizer, baseline)
        model = [EVALUATION, found.fingerprint, dtypes[name], MATMUL_PRECISION]
        keys = []
        for index, tokens in enumerate(tokenized[name].values()):
            if tokens is None:
                keys.append(None)
                continue
            # Which tokens are special decides what is predicted.
            own = ["this model", found.tokenizer_hash]
            predicted_by = own if own_targets or not first_keys else ["another", first_keys[index]]
            content = {
                "ids": tokens.token_ids.tolist(),
                "players": tokens.player_of_token.tolist(),
                "masked_with": tokens.baseline_id if tokens.baseline_id >= 0 else masked_with,
            }
            keys.append(files.key_of(*model, content, tokens.target_ids.tolist() or predicted_by))
        first_keys = first_keys or keys
        records.append(
            ModelRecord(
                name=name,
                label=label,
                family=found.family.model_type,
                fingerprint=found.fingerprint,
                tokenizer=found.tokenizer_hash,
                revision=found.revision,
                dtype=dtypes[name],
                parameters=found.parameters,
                baseline=masked_with,
                keys=tuple(keys),
            )
        )
    return tuple(records)


def _with_ids(prompts: Sequence[Prompt]) -> list[Prompt]:
    prompts = [
        prompt if prompt.id is not None else dataclasses.replace(prompt, id=f"prompt-{number:04d}")
        for number, prompt in enumerate(prompts, start=1)
    ]
    ids = [prompt.id for prompt in prompts]
    # File names: two ids must differ also where upper and lower case do not.
    if not ids or len({each.casefold() for each in ids}) < len(ids):
        raise ValueError(f"compare(prompts=...) must be prompts with different ids, at least one; got {ids}.")
    return prompts


def _check(names: tuple[str, ...], noise: float | str, tau: float) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare(models=...) must be different models, at least one; got {names}.")
    if noise != "measured" and not (np.isfinite(noise) and noise >= 0):
        raise ValueError(
            f"compare(noise=...) must be finite and not negative, or 'measured'; got {noise}. The published rule is "
            "0.02."
        )
    folders = [cache.model_folder(name).casefold() for name in names]  # some file systems know no case
    if len(set(folders)) < len(folders):
        raise ValueError(f"compare(models=...) must differ in more than upper and lower case; got {names}.")
    if not 0 <= tau < 1:
        raise ValueError(f"compare(tau=...) must be a share of the largest effect, from 0 to 1; got {tau}.")


def _tokenize(
    prompts: Sequence[Prompt], checkpoints: Mapping[str, Checkpoint], baseline: str, strict: bool
) -> tuple[dict[str, dict[str, TokenizedPrompt | None]], dict[str, tuple[str, ValueError]]]:
    """Every prompt under every tokenizer, so that no hour-long run ends at the last one.

    Returns:
      model name -> prompt id -> tokens, None where the prompt failed; and prompt id -> (model, error) of those.

    Raises:
      ValueError: all failed, or, when strict, one did.
    """
    tokenized: dict[str, dict[str, TokenizedPrompt | None]] = {name: {} for name in checkpoints}
    failed: dict[str, tuple[str, ValueError]] = {}
    for prompt in prompts:
        for name, found in checkpoints.items():
            tokenized[name][prompt.id] = None
            try:
                tokens = tokenize(prompt, found.tokenizer, baseline=baseline)
                check_fits(name, found.config, prompt, tokens)
                tokenized[name][prompt.id] = tokens
            except ValueError as error:
                failed.setdefault(prompt.id, (name, error))
        if prompt.id in failed and (strict or len(failed) == len(prompts)):
            name, error = failed[prompt.id]
            raise ValueError(f"prompt {prompt.id!r} under model {name!r}: {error}") from error
    return tokenized, failed
