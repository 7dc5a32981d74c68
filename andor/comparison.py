"""Several models on the same prompts and targets: evaluate, extract, save, summarise.

    run = andor.compare(("tiny-llama", "tiny-qwen2"), out="runs/first")
    run.summary["pairs"][0]["overlap"]

One model is in memory at a time. What is on disk, and when, is said in `andor.store`.
"""

import dataclasses
import gc
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh

import andor.models
from andor import store
from andor.evaluation import MATMUL_PRECISION, evaluate_all, predict_target
from andor.interactions import Solution, Solver, extract
from andor.mesh import ALONG, sharding
from andor.metrics import SALIENT
from andor.prompts import DEFAULT_PROMPTS, Prompt, baseline_name, read_prompts, tokenize
from andor.solvers import InteriorPoint, default_solver
from andor.summary import summarise
from andor.values import Values

SOLVER_BATCH = 8
"""Prompts of equal n_players that are solved in one call: what is not saved yet when a run is interrupted."""

Progress = Callable[[str, str, int, int], None]
"""Called as progress(stage, model, done, total): `done` of `total` units of "load", "evaluate" or "extract"."""


def compare(
    models: str | Sequence[str] = ("tiny-llama", "tiny-qwen2"),
    prompts: Sequence[Prompt] | None = None,
    *,
    out: str | Path,
    noise: float | Literal["measured"] = 0.02,
    baseline: str = "auto",
    own_targets: bool = False,
    solver: Solver | None = None,
    dtype: str = "auto",
    mesh: Mesh | None = None,
    command: str = "andor.compare(...)",
    progress: Progress | None = None,
) -> store.Run:
    """Extract the AND-OR effects of every model on every prompt, and save them with a summary.

    All models explain the same exact target text of a prompt: the prompt's own, else what the first model predicts
    (with `own_targets`, what each model itself predicts).

    Args:
      models: names as for `andor.load`, one or more, all different; a single one may be given by itself.
      prompts: with different ids; those without an id are called "prompt-0001", ... by their place. By default the 20
        prompts that ship with the package.
      out: the run directory, new or empty.
      noise: bound on the noise, a multiple of |v(N) - v(∅)|, or "measured", as for `andor.extract`.
      baseline: what replaces masked tokens, as for `andor.evaluate`.
      own_targets: for prompts without a target, explain each model's own prediction instead of the first model's.
      solver: as for `andor.extract`.
      dtype, mesh: as for `andor.load`.
      command: what to record in the settings as the origin of the run.
      progress: called after every batch of masks and every batch of solutions.

    Raises:
      ValueError: before any model runs: no model or one twice, an unknown model or one whose config.json is not
        implemented, no prompt or an id twice, a prompt that one of the tokenizers cannot map, more players than memory
        allows, an `out` that is not empty, a negative noise. Later: a model whose weights cannot be read, or nan.
      FileNotFoundError: a file of a model is missing.
    """
    start = time.perf_counter()
    report = progress or (lambda stage, model, done, total: None)
    names = (models,) if isinstance(models, str) else tuple(models)
    prompts = _with_ids(read_prompts(DEFAULT_PROMPTS) if prompts is None else prompts)
    _check(names, noise)
    solvers = {n: solver or default_solver(n) for n in sorted({prompt.n_players for prompt in prompts})}
    _check_memory(solvers)
    tokenizers = {name: andor.models.load_tokenizer(name) for name in names}
    _check_prompts(prompts, tokenizers, baseline)
    for name in names if mesh is not None else ():
        sizes = andor.models.load_config(name)[0].axis_sizes()
        for letter in ALONG.keys() & sizes.keys():
            sharding(mesh, letter, sizes)  # refuses what does not divide
    out = store.create_run(out)
    settings = {
        "command": command,
        "models": [
            {"name": name, "label": label, "folder": store.model_folder(name)}
            for name, label in zip(names, store.model_labels(names), strict=True)
        ],
        "prompts": [
            {
                "id": prompt.id,
                "text": prompt.text,
                "chat": prompt.chat,
                "players": prompt.players,
                "words": prompt.words,
            }
            for prompt in prompts
        ],
        "noise": noise,
        "solver": {str(n): {"name": type(each).__name__, **dataclasses.asdict(each)} for n, each in solvers.items()},
        "tau": SALIENT,
        "matmul_precision": MATMUL_PRECISION,
        "device": f"{jax.devices()[0].device_kind} x {jax.device_count()}",
        "mesh": None if mesh is None else dict(mesh.shape),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("andor", "jax", "flax", "numpy")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.save_settings(out, settings)

    targets: list[str] = []
    values: dict[str, dict[str, Values]] = {}
    effects: dict[str, dict[str, Solution]] = {}
    for name, record in zip(names, settings["models"], strict=True):
        report("load", name, 0, 1)
        model = andor.models.load(name, dtype=dtype, mesh=mesh)
        report("load", name, 1, 1)
        record |= {
            "family": model.family,
            "fingerprint": model.fingerprint,
            "revision": model.revision,
            "dtype": str(model.dtype),
            "parameters": model.parameters,
            "baseline": baseline_name(model.tokenizer, baseline),
        }
        if own_targets or not targets:
            targets = [
                predict_target(model, prompt) if prompt.target is None else prompt.continuation for prompt in prompts
            ]
            for saved, prompt, target in zip(settings["prompts"], prompts, targets, strict=True):
                predicted = (
                    {"target": None, "target_from": "own"} if own_targets else {"target": target, "target_from": name}
                )
                saved |= predicted if prompt.target is None else {"target": target, "target_from": "given"}
        store.save_settings(out, settings)
        values[name] = _evaluate_all(model, prompts, targets, baseline, noise == "measured", out, report)
        # Two large models do not fit in memory together, and the solver can use the room too.
        del model
        gc.collect()
        effects[name] = _extract_all(name, prompts, values[name], noise, solvers, out, report)

    run = store.Run(path=out, settings=settings, summary={}, values=values, effects=effects)
    store.save_summary(out, summarise(run) | {"seconds": time.perf_counter() - start})
    # What is returned is what is on disk, to the bit.
    return store.read_run(out)


def _evaluate_all(
    model,
    prompts: Sequence[Prompt],
    targets: Sequence[str],
    baseline: str,
    measure_noise: bool,
    out: Path,
    report: Progress,
) -> dict[str, Values]:
    masks = [2**prompt.n_players for prompt in prompts]

    def masks_done(index: int, of_prompt: int) -> None:
        report("evaluate", model.name, sum(masks[:index]) + of_prompt, sum(masks))

    results = {}
    evaluated = evaluate_all(
        model, prompts, targets=targets, baseline=baseline, measure_noise=measure_noise, progress=masks_done
    )
    for prompt, values in zip(prompts, evaluated, strict=True):
        results[prompt.id] = values
        store.save_values(out, model.name, prompt.id, values)
    return results


def _extract_all(
    name: str,
    prompts: Sequence[Prompt],
    values: dict[str, Values],
    noise: float | Literal["measured"],
    solvers: dict[int, Solver],
    out: Path,
    report: Progress,
) -> dict[str, Solution]:
    results = {}
    for batch in _batches(prompts):
        of_batch = [values[prompt.id] for prompt in batch]
        bounds, unit = noise, "range"
        if noise == "measured":
            bounds, unit = np.array([each.measured_noise for each in of_batch]), "log-odds"
        solver = solvers[batch[0].n_players]
        solutions = extract(np.stack([each.v for each in of_batch]), bounds, solver, noise_unit=unit)
        for index, prompt in enumerate(batch):
            results[prompt.id] = solutions[index]
            store.save_effects(out, name, prompt.id, solutions[index])
        report("extract", name, len(results), len(prompts))
    return {prompt.id: results[prompt.id] for prompt in prompts}


def _batches(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """Prompts of equal n_players together, in batches of nearly equal size: a solver compiles for every new size."""
    by_players = defaultdict(list)
    for prompt in prompts:
        by_players[prompt.n_players].append(prompt)
    for group in by_players.values():
        n_batches = -(-len(group) // SOLVER_BATCH)
        for index in range(n_batches):
            yield group[index * len(group) // n_batches : (index + 1) * len(group) // n_batches]


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


def _check(names: tuple[str, ...], noise: float | str) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare(models=...) must be different models, at least one; got {names}.")
    if noise != "measured" and not (np.isfinite(noise) and noise >= 0):
        raise ValueError(
            f"compare(noise=...) must be finite and not negative, or 'measured'; got {noise}. The published rule is "
            "0.02."
        )


def _check_prompts(prompts: Sequence[Prompt], tokenizers: dict[str, object], baseline: str) -> None:
    """Whether every tokenizer can map every prompt and given target, so that no hour-long run ends at the last one."""
    for prompt in prompts:
        for name, tokenizer in tokenizers.items():
            try:
                tokenize(prompt, tokenizer, baseline=baseline)
            except ValueError as error:
                raise ValueError(f"prompt {prompt.id!r} under model {name!r}: {error}") from error


def _check_memory(solvers: dict[int, Solver]) -> None:
    """What a solver would refuse after all masks are evaluated is refused before."""
    for n_players, solver in solvers.items():
        if isinstance(solver, InteriorPoint):
            solver.check_memory(n_players)
