"""Several models on the same prompts and targets: a run, made of two functions whose results are kept.

    run = andor.compare(("tiny-llama", "tiny-qwen2"), out="runs/first")
    run["tiny-llama", "sentiment-01"].top(5)

A run looks up `evaluate(model, prompt) -> Values` and `extract(v) -> Solution` under their content keys
(`andor.runs.cache`), and computes what is not there. So the same call goes on with a run that was killed, another noise
bound or solver evaluates nothing, and damaged files are made again. One model is in memory at a time.
"""

import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from jax.sharding import Mesh

import andor.models
from andor.core.penalties import L1, Penalty
from andor.core.problem import Solver
from andor.devices import processes
from andor.devices.mesh import ALONG, check_divides
from andor.devices.shards import WHOLE, Shard, deal, read_shard
from andor.evaluation import MATMUL_PRECISION, Score, check_fits
from andor.evaluation.prefix_tree import levels
from andor.measures.metrics import SALIENT
from andor.models import Checkpoint
from andor.prompts import (
    DEFAULT_PROMPTS,
    PlayerRow,
    Prompt,
    TokenizedPrompt,
    chat_template,
    joined,
    player_table,
    read_mask,
    read_prompts,
    remarks,
    tokenize,
    with_ids,
)
from andor.runs import cache, files, provenance
from andor.runs.explanation import described
from andor.runs.files import AnyPath, path_of
from andor.runs.recipe import ModelRecord, Recipe, begin, end, finished, model_labels, read_recipe, recipes_of
from andor.runs.run import Run, read
from andor.runs.stages import Progress, silent
from andor.runs.work import Coordinator, Work, as_read, follow, values_key
from andor.solvers import default_solver

Chat = tuple[str, str]
"""What a chat template puts before and after a message."""


@files.store_errors()
def compare(
    models: str | Sequence[str] = ("tiny-llama", "tiny-qwen2"),
    prompts: Sequence[Prompt | str] | AnyPath | None = None,
    *,
    out: AnyPath,
    noise: float | Literal["auto", "measured"] = "auto",
    baseline: str = "auto",
    score: Score = "product",
    own_targets: bool = False,
    solver: Solver | None = None,
    penalty: Penalty | None = None,
    tau: float = SALIENT,
    dtype: str = "auto",
    mesh: Mesh | None = None,
    shard: Shard | str | None = None,
    reuse: AnyPath | None = None,
    strict: bool = False,
    intervals: int = 0,
    command: str = "andor.compare(...)",
    left_out: Sequence[str] = (),
    progress: Progress | None = None,
    show: Callable[[Sequence[PlayerRow], Mapping[str, Chat | None]], None] | None = None,
) -> Run:
    """Extract the AND-OR effects of every model on every prompt, and save them with a summary.

    All models mask the same words: of players that nobody named, neighbours that share a token of any model are one.
    All models explain the same exact target text of a prompt: the prompt's own, else what the first model predicts
    (with `own_targets`, what each model itself predicts). A chat template is rendered once for a root: a template with
    today's date in it stays as it was when the root was begun.

    Args:
      models: names as for `andor.load`, one or more, all different; a single one may be given by itself.
      prompts: `andor.Prompt`s or texts, or a file of prompts (`andor.read_prompts`). Their ids must differ; those
        without one are called "prompt-0001", ... by their place. By default the 20 prompts that ship with the package.
      out: the root: a local folder, or a URL of any scheme that fsspec knows ("s3://bucket/run"). What it holds already
        is used: v of the same model, tokens, target and dtype, explanations of the same v, noise bound and solver.
      noise: bound on the noise at the certified optimum: "auto", estimated from each v; "measured"; or a multiple of
        |v(N) - v(∅)|, as for `andor.extract`.
      baseline, score: what becomes of masked tokens, and how a target of several tokens is scored, as for
        `andor.evaluate`.
      own_targets: for prompts without a target, explain each model's own prediction instead of the first model's.
      solver, penalty: as for `andor.extract`.
      tau: an effect is salient above tau times the largest. Decides numbers of the summary alone.
      dtype, mesh: as for `andor.load`. With a mesh over several processes (`andor.hosts`) all make the same call, and
        all must see `out`.
      shard: which part of the prompts to work on, as a `Shard` or "I/N"; by default that of this job
        (`andor.devices.shards.read_shard`). Whoever comes last writes the summary.
      reuse: another root whose values may be used where keys agree and a sample of masks, evaluated again, agrees too.
      strict: whether a prompt that fails under a model ends the run. By default it is left out, with a warning.
      intervals: effects of every certified optimum to bound, the strongest first, and the share of its low orders
        (`Explanation.with_intervals`); two solves each. They are kept with the explanation, and decide nothing else.
      command: what to record as the origin of the run.
      left_out: to record too: why lines of a file of prompts gave no prompt.
      progress: called as progress(stage, model, done, total), as `andor.runs.stages.Progress` says.
      show: called once, before any model runs, where there is one prompt: with what masking its players does
        (`andor.prompts.player_table`), and what stands around it in each model's chat.

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
    prompts = with_ids("compare", _prompts(prompts))
    _check(names, noise, tau, score)
    if intervals < 0 or (intervals and not isinstance(penalty or L1(), L1)):
        raise ValueError(
            f"compare(intervals={intervals}, penalty={penalty}) must be a number of effects, and intervals are known "
            "for the L1 penalty alone."
        )
    root, reuse = path_of(out), None if reuse is None else path_of(reuse)
    if reuse is not None and not (reuse / "values").exists():
        raise ValueError(f"{reuse} holds no values to reuse. Give the --out of an earlier `andor compare`.")
    spans = processes.spans(mesh)
    if spans and reuse is not None:
        raise ValueError("reuse=... evaluates a sample by itself, so the mesh must not span processes; leave one out.")
    shard = WHOLE if spans and shard is None else shard if isinstance(shard, Shard) else read_shard(shard)
    penalty = penalty or L1()
    checkpoints = {name: andor.models.find(name) for name in names}
    for found in checkpoints.values():
        found.check_weights()
        if mesh is not None:
            check_divides(mesh.shape, "".join(ALONG), found.config.axis_sizes())
    there = recipes_of(root)
    recorded = _recorded(root, there, names)
    chats = _chats(prompts, checkpoints, recorded)
    prompts = [_joined(prompt, checkpoints, chats) for prompt in prompts]
    solvers = {n: solver or default_solver(n, penalty) for n in sorted({prompt.n_players for prompt in prompts})}
    for n_players, each in solvers.items():
        each.check_memory(n_players)  # what would be refused after all masks are evaluated is refused before
    tokenized, failed = _tokenize(prompts, checkpoints, chats, baseline, strict)
    dtypes = {name: str(found.dtype_on(mesh, dtype)) for name, found in checkpoints.items()}  # asks all processes
    if spans and not processes.is_first():
        options = {"baseline": baseline, "score": score, "measure_noise": noise == "measured"}
        return read(root / follow(prompts, mesh=mesh, **options))
    with Coordinator(spans) as coordinator:
        if dtype == "auto":  # it depends on what memory is free; a root goes on with what it has begun with
            dtypes |= {name: each.dtype for name, each in recorded.items()}
        odd = _remarks([each for each in prompts if each.id not in failed], checkpoints, chats)
        recipe = Recipe(
            models=_model_records(checkpoints, tokenized, dtypes, chats, baseline, score, own_targets),
            prompts=tuple(prompts),
            own_targets=own_targets,
            noise=noise if isinstance(noise, str) else float(noise),  # 0 and 0.0 are one bound
            score=score,
            solvers={str(n): json.loads(described(each)) for n, each in solvers.items()},
            penalty=json.loads(described(penalty)),
            matmul_precision=MATMUL_PRECISION,
            made={
                **provenance.process(command),
                "versions": provenance.versions(),
                "mesh": None if mesh is None else dict(mesh.shape),
                "left_out": list(left_out),
                "remarks": odd,
                "reuse": None if reuse is None else str(reuse),
            },
        )
        tokens = [[of_model[prompt.id] for of_model in tokenized.values()] for prompt in prompts]
        costs = [sum(_cost(each) for each in models if each is not None) for models in tokens]
        mine = tuple(prompts[place] for place in deal(costs, shard))
        run = begin(root, recipe)
        coordinator.run = run.name
        work = Work(
            root=root,
            run=run,
            recipe=read_recipe(run / "recipe.json"),  # with how it was begun
            others={folder: other for folder, other in there.items() if folder != run.name},
            mine=mine,
            coordinator=coordinator,
            solvers=solvers,
            penalty=penalty,
            baseline=baseline,
            mesh=mesh,
            reuse=reuse,
            strict=strict,
            intervals=intervals,
            progress=progress or silent,
        )
        try:
            if show is not None and len(prompts) == 1 and not failed:
                tokenizers = {name: found.tokenizer for name, found in checkpoints.items()}
                show(player_table(prompts[0], tokenizers, baseline, chats), chats)
            _warn({prompt.id: odd[prompt.id] for prompt in mine if prompt.id in odd})
            return work.finish(failed, tau, whole=shard.count == 1)
        except BaseException:
            end(root)  # other settings may use the root
            raise


def _cost(prompt: TokenizedPrompt) -> int:
    """Tokens that the masks of a prompt take."""
    return len(prompt.draws) * int(np.sum(2.0 ** levels(prompt)))


def _recorded(root: AnyPath, there: Mapping[str, Recipe], names: Sequence[str]) -> dict[str, ModelRecord]:
    """Models as the runs of a root have recorded them, by name; the unfinished run counts most."""
    in_order = sorted(there, key=lambda folder: not finished(root / folder))
    return {each.name: each for folder in in_order for each in there[folder].models if each.name in names}


def _chats(
    prompts: Sequence[Prompt], checkpoints: Mapping[str, Checkpoint], recorded: Mapping[str, ModelRecord]
) -> dict[str, Chat | None]:
    """What each model's chat template puts around a message: as recorded in the root, else rendered now; None where no
    prompt is a chat, or the template cannot be used for the first that is one, which `_tokenize` will say."""
    chats: dict[str, Chat | None] = dict.fromkeys(checkpoints)
    text = next((prompt.text for prompt in prompts if prompt.chat is True), None)
    for name, found in checkpoints.items() if text is not None else ():
        before = recorded.get(name)
        if before is not None and before.chat is not None and before.tokenizer == found.tokenizer_hash:
            chats[name] = before.chat
        else:
            with contextlib.suppress(ValueError):
                chats[name] = chat_template(found.tokenizer, "a message")
    return chats


def _joined(prompt: Prompt, checkpoints: Mapping[str, Checkpoint], chats: Mapping[str, Chat | None]) -> Prompt:
    """A prompt whose players, where nobody named them, share no token of any model; so all mask the same words."""
    for name, found in checkpoints.items():
        with contextlib.suppress(ValueError):  # which `_tokenize` will say
            players = joined(as_read(prompt, chats[name]), found.tokenizer).players
            prompt = dataclasses.replace(prompt, players=players)
    return prompt


def _remarks(
    prompts: Sequence[Prompt], checkpoints: Mapping[str, Checkpoint], chats: Mapping[str, Chat | None]
) -> dict[str, list[str]]:
    """Prompt id -> what is odd about it under any model, for prompts with something."""
    found = {
        prompt.id: dict.fromkeys(
            remark
            for name, checkpoint in checkpoints.items()
            for remark in remarks(as_read(prompt, chats[name]), checkpoint.tokenizer)
        )
        for prompt in prompts
    }
    return {prompt_id: list(each) for prompt_id, each in found.items() if each}


def _warn(odd: Mapping[str, Sequence[str]]) -> None:
    """Say what is odd about prompts, once for all of which the same is true."""
    for remark in dict.fromkeys(each for of_prompt in odd.values() for each in of_prompt):
        ids = [prompt_id for prompt_id, of_prompt in odd.items() if remark in of_prompt]
        more = ", ..." * (len(ids) > 5)
        which = f"prompt {ids[0]!r}" if len(ids) == 1 else f"each of {len(ids)} prompts ({', '.join(ids[:5])}{more})"
        warnings.warn(f"{which}: {remark}", stacklevel=2)


def _model_records(
    checkpoints: Mapping[str, Checkpoint],
    tokenized: Mapping[str, Mapping[str, TokenizedPrompt | None]],
    dtypes: Mapping[str, str],
    chats: Mapping[str, Chat | None],
    baseline: str,
    score: Score,
    own_targets: bool,
) -> tuple[ModelRecord, ...]:
    """The models, with a content key of v for every prompt: of all that decides v but the device."""
    records, first_keys = [], []
    for name, label in zip(checkpoints, model_labels(tuple(checkpoints)), strict=True):
        found = checkpoints[name]
        mask = read_mask(baseline, found.tokenizer)
        keys = []
        for index, tokens in enumerate(tokenized[name].values()):
            if tokens is None:
                keys.append(None)
                continue
            # Which tokens are special decides what is predicted.
            own = ["this model", found.tokenizer_hash]
            predicted_by = own if own_targets or not first_keys else ["another", first_keys[index]]
            target = tokens.target_ids.tolist() or predicted_by
            keys.append(values_key(found.fingerprint, dtypes[name], tokens, target, score))
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
                baseline=mask.name,
                chat=chats[name],
                keys=tuple(keys),
                why=mask.why,
            )
        )
    return tuple(records)


def _prompts(given: Sequence[Prompt | str] | AnyPath | None) -> list[Prompt]:
    if given is None:
        return read_prompts(DEFAULT_PROMPTS)
    if isinstance(given, str | os.PathLike):
        return read_prompts(given)
    prompts = [Prompt(each) if isinstance(each, str) else each for each in given]
    strange = sorted({type(each).__name__ for each in prompts if not isinstance(each, Prompt)})
    if strange:
        raise ValueError(
            f"compare(prompts=...) must be andor.Prompts, texts, or the path of a .jsonl file; got "
            f"{', '.join(strange)}."
        )
    return prompts


def _check(names: tuple[str, ...], noise: float | str, tau: float, score: str) -> None:
    if score not in get_args(Score):
        raise ValueError(f'compare(score=...) must be "product" or "sum"; got {score!r}.')
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare(models=...) must be different models, at least one; got {names}.")
    if noise not in ("auto", "measured") and not (np.isfinite(noise) and noise >= 0):
        raise ValueError(
            f"compare(noise=...) must be finite and not negative, or 'auto' or 'measured'; got {noise}. The published "
            "rule is 0.02."
        )
    folders = [cache.model_folder(name).casefold() for name in names]  # some file systems know no case
    if len(set(folders)) < len(folders):
        raise ValueError(f"compare(models=...) must differ in more than upper and lower case; got {names}.")
    if not 0 <= tau < 1:
        raise ValueError(f"compare(tau=...) must be a share of the largest effect, from 0 to 1; got {tau}.")


def _tokenize(
    prompts: Sequence[Prompt],
    checkpoints: Mapping[str, Checkpoint],
    chats: Mapping[str, Chat | None],
    baseline: str,
    strict: bool,
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
                if prompt.chat is True:  # whether its template keeps this text
                    chat_template(found.tokenizer, prompt.text)
                tokens = tokenize(as_read(prompt, chats[name]), found.tokenizer, baseline=baseline)
                check_fits(name, found.config, prompt, tokens)
                tokenized[name][prompt.id] = tokens
            except ValueError as error:
                failed.setdefault(prompt.id, (name, error))
        if prompt.id in failed and (strict or len(failed) == len(prompts)):
            name, error = failed[prompt.id]
            raise ValueError(f"prompt {prompt.id!r} under model {name!r}: {error}") from error
    return tokenized, failed
