"""Several models on the same prompts and targets: evaluate, extract, save, summarise.

    run = andor.compare(("tiny-llama", "tiny-qwen2"), out="runs/first")
    run.summary["pairs"][0]["overlap"]

One model is in memory at a time. The same call goes on with a run that was interrupted, and several processes may work
on one run. What is on disk, and when, is said in `andor.runs.store`; how the work is done in `andor.runs.session`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jax.sharding import Mesh

import andor.models
from andor.core.problem import Solver
from andor.devices import processes as hosts
from andor.devices.mesh import ALONG, check_divides
from andor.evaluation import MATMUL_PRECISION, check_fits
from andor.measures.metrics import SALIENT
from andor.models import Checkpoint
from andor.prompts import DEFAULT_PROMPTS, Prompt, TokenizedPrompt, baseline_name, read_prompts, tokenize
from andor.runs import files, provenance, resume, store
from andor.runs.followers import Leader, follow
from andor.runs.session import Progress, Session
from andor.runs.summary import summarise, table
from andor.solvers import default_solver


def compare(
    models: str | Sequence[str] = ("tiny-llama", "tiny-qwen2"),
    prompts: Sequence[Prompt] | None = None,
    *,
    out: str | Path,
    noise: float | Literal["measured"] = 0.02,
    baseline: str = "auto",
    own_targets: bool = False,
    solver: Solver | None = None,
    tau: float = SALIENT,
    dtype: str = "auto",
    mesh: Mesh | None = None,
    strict: bool = False,
    command: str = "andor.compare(...)",
    left_out: Sequence[str] = (),
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> store.Run:
    """Extract the AND-OR effects of every model on every prompt, and save them with a summary.

    All models explain the same exact target text of a prompt: the prompt's own, else what the first model predicts
    (with `own_targets`, what each model itself predicts).

    Args:
      models: names as for `andor.load`, one or more, all different; a single one may be given by itself.
      prompts: with different ids; those without an id are called "prompt-0001", ... by their place. By default the 20
        prompts that ship with the package.
      out: the run directory: new, empty, or of a run with the same settings, which goes on. Values that runs beside it
        hold already (same model, tokens, target, dtype) are copied and not evaluated again.
      noise: bound on the noise, a multiple of |v(N) - v(∅)|, or "measured", as for `andor.extract`.
      baseline: what replaces masked tokens, as for `andor.evaluate`.
      own_targets: for prompts without a target, explain each model's own prediction instead of the first model's.
      solver: as for `andor.extract`.
      tau: an effect is salient above tau times the largest.
      dtype, mesh: as for `andor.load`. With a mesh over several processes (`andor.hosts`) all make the same call, and
        `out` must be on a file system that all see.
      strict: whether a prompt that fails under a model ends the run. By default it is left out, with a warning.
      command: what to record as the origin of the run.
      left_out: to record too: why lines of a file of prompts gave no prompt.
      progress: called after every batch of masks and every batch of solutions.
      stop: asked after every prompt that was saved; True ends the work there.

    Raises:
      ValueError: before any model runs: no model or one twice, an unknown model or one whose config.json is not
        implemented, no prompt or an id twice, no prompt that the tokenizers can map, more players than memory allows,
        an `out` that holds something else or a run with other settings, a negative noise. Later: a model whose weights
        cannot be read, or every prompt gave nan; when strict, any did.
      FileNotFoundError: a file of a model is missing.
      OSError: a file could not be written.
      Stopped: `stop` said so (`andor.runs.resume`).
    """
    names = (models,) if isinstance(models, str) else tuple(models)
    prompts = _with_ids(read_prompts(DEFAULT_PROMPTS) if prompts is None else prompts)
    _check(names, noise, tau)
    solvers = {n: solver or default_solver(n) for n in sorted({prompt.n_players for prompt in prompts})}
    for n_players, each in solvers.items():
        each.check_memory(n_players)  # what would be refused after all masks are evaluated is refused before
    checkpoints = {name: andor.models.find(name) for name in names}
    for found in checkpoints.values():
        found.check_weights()
    if mesh is not None:
        for found in checkpoints.values():
            check_divides(mesh.shape, "".join(ALONG), found.config.axis_sizes())
    tokenized, failed = _tokenize(prompts, checkpoints, baseline, strict)
    dtypes = {name: str(found.dtype_on(mesh, dtype)) for name, found in checkpoints.items()}
    if hosts.spans(mesh) and not hosts.is_first():
        follow(prompts, baseline=baseline, mesh=mesh, measure_noise=noise == "measured")
        return store.read_run(out)
    with Leader(mesh) as leader:
        if dtype == "auto":  # depends on what memory is free; a run goes on with what it has begun with
            recorded = resume.recorded_settings(out) or {"models": ()}
            dtypes |= {model["name"]: model["dtype"] for model in recorded["models"] if model["name"] in dtypes}
        settings = {
            "models": _model_records(checkpoints, tokenized, dtypes, baseline, own_targets),
            "prompts": [_prompt_record(prompt, "own" if own_targets else names[0]) for prompt in prompts],
            "noise": noise,
            "solver": {
                str(n): {"name": type(each).__name__, **dataclasses.asdict(each)} for n, each in solvers.items()
            },
            "tau": tau,
            "matmul_precision": MATMUL_PRECISION,
            "versions": provenance.versions(),
        }
        out = resume.open_run(out, settings)
        devices = None if mesh is None else dict(mesh.shape)
        try:
            resume.save_process(out, provenance.process(command) | {"mesh": devices, "left_out": left_out})
        except OSError:  # a folder that cannot be written; what is finished in it can be read
            with contextlib.suppress(OSError, ValueError):
                return store.read_run(out)
            raise
        session = Session(
            out,
            settings,
            prompts,
            solvers,
            leader,
            baseline=baseline,
            mesh=mesh,
            strict=strict,
            progress=progress or (lambda stage, model, done, total: None),
            stop=stop or (lambda: False),
        )
        session.begin()
        for prompt_id, (name, error) in failed.items():
            session.skip(prompt_id, name, error)
        while True:
            run = session.finish()  # what is on disk, to the bit
            summary = summarise(run)
            if session.save_summary(run, summary, table(summary)):
                return dataclasses.replace(run, summary=files.jsonable(summary))


def _model_records(
    checkpoints: Mapping[str, Checkpoint],
    tokenized: Mapping[str, Mapping[str, TokenizedPrompt | None]],
    dtypes: Mapping[str, str],
    baseline: str,
    own_targets: bool,
) -> list[dict]:
    """The models, as settings.json has them."""
    records, first_keys = [], []
    for name, label in zip(checkpoints, store.model_labels(tuple(checkpoints)), strict=True):
        found = checkpoints[name]
        masked_with = baseline_name(found.tokenizer, baseline)
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
            target = tokens.target_ids.tolist() or predicted_by
            keys.append(resume.values_key(found.fingerprint, dtypes[name], MATMUL_PRECISION, content, target))
        first_keys = first_keys or keys
        records.append(
            {
                "name": name,
                "label": label,
                "folder": store.model_folder(name),
                "family": found.family.model_type,
                "fingerprint": found.fingerprint,
                "tokenizer": found.tokenizer_hash,
                "revision": found.revision,
                "dtype": dtypes[name],
                "parameters": found.parameters,
                "baseline": masked_with,
                "keys": keys,
            }
        )
    return records


def _prompt_record(prompt: Prompt, predicted_by: str) -> dict:
    """A prompt, as settings.json has it."""
    return {
        "id": prompt.id,
        "text": prompt.text,
        "chat": prompt.chat,
        "players": prompt.players,
        "words": prompt.words,
        "target": prompt.continuation,
        "target_from": predicted_by if prompt.target is None else "given",
    }


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
    folders = [store.model_folder(name).casefold() for name in names]  # some file systems know no case
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
