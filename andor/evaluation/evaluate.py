"""v(T) for all 2**n_players masks of a prompt: the log-odds of the target under every masked prompt."""

import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from andor.core.text import percent
from andor.core.values import Values
from andor.devices import processes as hosts
from andor.devices.memory import available_bytes
from andor.devices.mesh import sizes_of
from andor.devices.rules import standard_rules
from andor.evaluation import noise_floor, schedule
from andor.evaluation.draws import over_draws
from andor.evaluation.log_odds import Score
from andor.evaluation.naive import NaiveEvaluation
from andor.evaluation.planning import default_tokens_per_batch, groups_players, plan_tree, with_draws
from andor.evaluation.prefix_tree import bucket
from andor.evaluation.schedule import Taken, UnderWay
from andor.evaluation.tree import TreeEvaluation
from andor.models import LanguageModel
from andor.models.decoder import DecoderConfig
from andor.prompts import Prompt, TokenizedPrompt, in_chat, joined, remarks, tokenize

Method = Literal["tree", "naive"]


def evaluate(
    model: LanguageModel,
    prompt: Prompt,
    *,
    target: str | None = None,
    baseline: str = "auto",
    score: Score = "product",
    method: Method = "tree",
    tokens_per_batch: int | None = None,
    measure_noise: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Values:
    """Evaluate a prompt under all 2**n_players masks.

    Args:
      model: from `andor.load`.
      prompt: the text, its players and perhaps its target. Players that nobody named and that share a token are
        joined into one (`andor.prompts.joined`).
      target: exact continuation to explain, leading space included; overrides the prompt's. Without either it is the
        model's most probable next token on the full prompt.
      baseline: what becomes of the tokens of masked words: "auto", "mean" or "zero" (embeddings), "delete",
        "attention", "resample:FILE" (words of a corpus), or a token of the vocabulary
        (`andor.prompts.masks.read_mask`).
      score: of a target of several tokens: the log-odds of the "product" of their probabilities, or the "sum" of their
        log-odds (`andor.evaluation.log_odds.log_odds`).
      method: "tree" evaluates what masked prompts share once; "naive" evaluates every one from scratch, which gives
        the same values up to rounding and takes about n_players / 2 times as long where players are spread over the
        text. Its memory is not planned.
      tokens_per_batch: tokens in one forward pass; by default what suits the device. When the device runs out of
        memory all the same, a warning says so and the prompt is begun again with half as many.
      measure_noise: evaluate a sample of masks again, in another batch shape and order and in float32, and keep how
        far they are off as `Values.forward_noise`, for `andor.extract(values, noise="measured")`.
      progress: called with the number of masks done after every batch.

    Raises:
      ValueError: the method, the score or the number of tokens is none, the prompt cannot be tokenised for this model
        or does not fit in memory, or the model gave a value that is not finite; or the device ran out of memory even in
        the smallest batches.
      RuntimeError: something is wrong with a device or another process; or a device ran out of memory where the mesh
        spans processes, as only those that fail would know that they must begin again.
    """
    report = None if progress is None else lambda _, masks: progress(masks)
    options = {"baseline": baseline, "score": score, "method": method, "tokens_per_batch": tokens_per_batch}
    return next(
        evaluate_all(model, [prompt], targets=[target], measure_noise=measure_noise, progress=report, **options)
    )


def evaluate_all(model: LanguageModel, prompts: Iterable[Prompt], **options) -> Iterator[Values]:
    """Values of one prompt after the other, each while the next one is already under way.

    Args:
      model, prompts, options: as for `outcomes`.

    Raises:
      ValueError, RuntimeError: as `evaluate`, when the prompt's turn comes, after the values of those before it.
    """

    def values(outcome: Values | ValueError) -> Values:
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    return map(values, outcomes(model, prompts, warn=True, **options))


def outcomes(
    model: LanguageModel,
    prompts: Iterable[Prompt],
    *,
    targets: Iterable[str | None] | None = None,
    baseline: str = "auto",
    score: Score = "product",
    method: Method = "tree",
    tokens_per_batch: int | None = None,
    measure_noise: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: bool = False,
) -> Iterator[Values | ValueError]:
    """As `evaluate_all`, but what is wrong with a prompt stands in the place of its values, and the rest goes on.

    Args:
      model, baseline, score, method, tokens_per_batch, measure_noise: as for `evaluate`.
      prompts: any number; each is taken when it is begun, one or two before its values come.
      targets: one per prompt, as for `evaluate`, taken with it; by default each prompt's own.
      progress: called as progress(index of the prompt, masks of it that are done) after every batch.
      warn: whether to say what is odd about a prompt (`andor.prompts.remarks`), as `evaluate` and `evaluate_all` do.

    Raises:
      ValueError: the options make no sense.
      RuntimeError: as `evaluate`.
    """
    if method not in ("tree", "naive"):
        raise ValueError(f'evaluate(method=...) must be "tree" or "naive"; got {method!r}.')
    if score not in get_args(Score):
        raise ValueError(f'evaluate(score=...) must be "product" or "sum"; got {score!r}.')
    if tokens_per_batch is not None and (type(tokens_per_batch) is not int or not 1 <= tokens_per_batch <= 1 << 20):
        raise ValueError(
            f"evaluate(tokens_per_batch=...) must be a whole number from 1 to {1 << 20:,}; got {tokens_per_batch!r}."
        )
    prompts = prompts if isinstance(prompts, Iterable) else [prompts]
    _check_kinds(model, *(prompts if isinstance(prompts, Sized) else ()))
    n_prompts = len(prompts) if isinstance(prompts, Sized) else None
    if isinstance(targets, str) or (n_prompts is not None and isinstance(targets, Sized) and len(targets) != n_prompts):
        raise ValueError(f"evaluate_all(targets=...) must be one for each of {n_prompts} prompts; got {targets!r}.")

    in_flight = 1 if n_prompts == 1 else 2
    run = _Run(model, baseline, score, method, tokens_per_batch, measure_noise, in_flight, warn)
    progress = progress or (lambda index, masks: None)
    again = not hosts.spans(model.mesh)
    return schedule.run(_taken(model, prompts, targets), run.begin, run.finish, progress, again=again)


def _check_kinds(model: object, *prompts: object) -> None:
    if not isinstance(model, LanguageModel) or not all(isinstance(prompt, Prompt) for prompt in prompts):
        raise ValueError(
            "evaluate(model, prompt) takes a model of andor.load and an andor.Prompt; got "
            f"{', '.join(sorted({type(each).__name__ for each in (model, *prompts)}))}."
        )


def _taken(model: LanguageModel, prompts: Iterable[Prompt], targets: Iterable[str | None] | None) -> Iterator[Taken]:
    targets = None if targets is None else iter(targets)
    for index, prompt in enumerate(prompts):
        _check_kinds(model, prompt)
        try:
            target = None if targets is None else next(targets)
        except StopIteration:
            raise ValueError(
                f"evaluate_all(targets=...) must be one for each prompt; got {index}, and there are more prompts."
            ) from None
        yield Taken(index, prompt, target)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What is the same for all prompts of a call: the arguments of `outcomes`, and how many are under way at a time."""

    model: LanguageModel
    baseline: str
    score: Score
    method: Method
    tokens_per_batch: int | None
    measure_noise: bool
    in_flight: int
    warn: bool

    @standard_rules()
    def begin(self, taken: Taken, limit: int | None) -> UnderWay:
        """Plan a prompt in batches of at most `limit` tokens, unless that is None."""
        start, model, target = time.perf_counter(), self.model, taken.target
        prompt = joined(in_chat(taken.prompt, model.tokenizer), model.tokenizer)
        taken = taken._replace(prompt=prompt)
        if target is None:
            target = predict_target(model, prompt) if prompt.target is None else prompt.continuation
        tokenized, embedding = tokenized_for(model, prompt, target, self.baseline)
        if self.warn and hosts.is_first():
            for remark in remarks(prompt, model.tokenizer, target):
                warnings.warn(f"prompt {prompt.id or prompt.text[:40]!r}: {remark}", stacklevel=1)
        data, shards = sizes_of(model.mesh)
        groups = groups_players(f"prompt {prompt.id or prompt.text[:40]!r}", prompt.n_players, data)
        if self.method == "naive":
            tokens = limit or self.tokens_per_batch or default_tokens_per_batch()
            evaluation = over_draws(
                tokenized, lambda draw: NaiveEvaluation(model.decoder, draw, tokens, model.mesh, baseline=embedding)
            )
        else:
            tree = plan_tree(
                model.decoder.config,
                model.dtype.itemsize,
                tokenized.draws[0],
                None if limit else self.tokens_per_batch,
                groups_players=groups,
                shards=shards,
                in_flight=with_draws(self.in_flight, tokenized),
                default_tokens=limit,
                available=available_bytes(model.mesh),
            )
            evaluation = over_draws(
                tokenized, lambda draw: TreeEvaluation(model.decoder, tree.of_draw(draw), model.mesh, embedding)
            )
        return UnderWay(taken, target, tokenized, embedding, evaluation, limit, start)

    @standard_rules()
    def finish(self, done: UnderWay, start: float) -> Values:
        """Read the values of a prompt, whose time counts from `start`."""
        model, prompt, noise, bound = self.model, done.taken.prompt, math.nan, math.nan
        v = done.evaluation.values(self.score)
        full = done.evaluation.values()[-1] if self.score != "product" else v[-1]
        seconds = time.perf_counter() - start
        if not np.all(np.isfinite(v)):
            bad = int(np.flatnonzero(~np.isfinite(v))[0])
            raise ValueError(
                f"model {model.name!r} gave v = {v[bad]} on mask {bad} of prompt {prompt.id or prompt.text[:40]!r}: "
                f"its logits overflow or hold NaN in {model.dtype}. Try dtype='float32', and check the weights."
            )
        if self.measure_noise:
            again = done.tokenized, v, model.mesh, done.baseline
            floor = noise_floor.measure(model.decoder, *again, score=self.score, tokens_per_batch=done.limit)
            noise, bound = floor.size, floor.bound
        return Values(
            v=v,
            players=prompt.words,
            target=done.target,
            target_probability=float(1 / (1 + np.exp(-full))),
            tokens_evaluated=done.evaluation.tokens,
            seconds=seconds,
            forward_noise=noise,
            forward_bound=bound,
            score=self.score,
        )


def tokenized_for(
    model: LanguageModel, prompt: Prompt, target: str, baseline: str
) -> tuple[TokenizedPrompt, jax.Array | None]:
    """The prompt as the model reads it, and the embedding that masks, where it is no token's.

    Raises:
      ValueError: the prompt cannot be tokenised for this model, or is too long for it.
    """
    tokenized = tokenize(prompt, model.tokenizer, target, baseline=baseline)
    check_fits(model.name, model.decoder.config, prompt, tokenized)
    kind = tokenized.mask.kind
    return tokenized, _embedding(model.decoder, kind) if kind in ("mean", "zero") else None


@functools.partial(jax.jit, static_argnums=1)
def _embedding(decoder, kind: str):
    embeddings = decoder.model.embed_tokens.weight[...]
    mean = jnp.mean(embeddings, axis=0, dtype=jnp.float32).astype(embeddings.dtype)
    return {"mean": mean, "zero": jnp.zeros_like(mean)}[kind]


@standard_rules()
def predict_target(model: LanguageModel, prompt: Prompt) -> str:
    """Exact text of the model's most probable next token on the full prompt, leading space included.

    Special tokens (an end of text), pieces of a character, NUL, and tokens whose text this tokenizer writes with other
    tokens are no text that can be explained, so the most probable of all other tokens is taken. Warns where it is not
    the most probable of all.
    """
    # Nothing is masked here, so any baseline will do.
    prompt = joined(in_chat(prompt, model.tokenizer), model.tokenizer)
    tokenized = tokenize(prompt, model.tokenizer, baseline="zero")
    check_fits(model.name, model.decoder.config, prompt, tokenized)
    length = len(tokenized.token_ids)
    padded = np.pad(tokenized.token_ids, (0, bucket(length) - length))
    with jax.default_matmul_precision(schedule.MATMUL_PRECISION):
        logits = hosts.gather(_last_logits(model.decoder, padded, np.int32(length - 1)))
    special = set(model.tokenizer.all_special_ids)
    # Decoded behind the prompt: some tokenizers drop the space of a token that is decoded by itself.
    before = model.tokenizer.decode(tokenized.token_ids, clean_up_tokenization_spaces=False)
    order = np.argsort(-logits, kind="stable")
    for token in order:
        if token in special or token >= len(model.tokenizer):
            continue
        after = model.tokenizer.decode([*tokenized.token_ids, token], clean_up_tokenization_spaces=False)
        text = after[len(before) :]
        if not after.startswith(before) or not text or {"\ufffd", "\0"} & set(text):
            continue
        if tokenize(prompt, model.tokenizer, text, baseline="zero").target_ids.tolist() == [token]:
            if token != order[0]:
                _warn_of_skipped(model, prompt, logits, int(order[0]), token, text)
            return text
    raise ValueError(f"no token of {model.name!r} is text; give the prompt a target.")


def _warn_of_skipped(model: LanguageModel, prompt: Prompt, logits, first, taken, text: str) -> None:
    p = np.exp(logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64)))
    warnings.warn(
        f"prompt {prompt.id or prompt.text[:40]!r}: the most probable next token of {model.name!r} is "
        f"{_what(model.tokenizer, first)} (p {percent(p[first])}), which is no text by itself. The most probable text, "
        f"{text!r} (p {percent(p[taken])}), is explained; give a target to explain another.",
        stacklevel=3,
    )


def _what(tokenizer, token: int) -> str:
    """What a token is that is no text."""
    if token >= len(tokenizer):
        return f"number {token}, which the tokenizer does not know"
    name = tokenizer.convert_ids_to_tokens(token)
    if token in set(tokenizer.all_special_ids):
        return f"the special token {name!r}"
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if "\ufffd" in text:
        return f"{name!r}, a piece of a character: some of its bytes"
    return f"{name!r}, whose text {text!r} is written with other tokens"


@jax.jit
def _last_logits(decoder, token_ids, read_from):
    hidden = decoder.hidden(decoder.embed(token_ids[None, :]))
    return decoder.logits(jax.lax.dynamic_index_in_dim(hidden[0], read_from, keepdims=False))


def check_fits(name: str, config: DecoderConfig, prompt: Prompt, tokenized: TokenizedPrompt) -> None:
    """Whether a model with this config can read a prompt.

    Raises:
      ValueError: it has more tokens than the model was made for, or a token that the model does not know.
    """
    length = len(tokenized.token_ids) + max(len(tokenized.target_ids) - 1, 0)
    if length > config.max_positions:
        raise ValueError(
            f"prompt {prompt.id or prompt.text[:40]!r} has {length} tokens, but {name!r} was made for at most "
            f"{config.max_positions} (max_position_embeddings). Shorten the text."
        )
    # A gather beyond the embedding table would be clamped silently.
    masked_with = tokenized.mask.token_id
    if masked_with >= config.vocab_size:
        raise ValueError(
            f"masked words of {name!r} would be replaced by token {masked_with}, which has no embedding: its "
            f"vocab_size is {config.vocab_size}. Name another with baseline=... (--baseline), a token or mean or zero."
        )
    drawn = () if tokenized.drawn is None else (tokenized.drawn.ravel(),)
    highest = int(np.concatenate([tokenized.token_ids, tokenized.target_ids, *drawn]).max())
    if highest >= config.vocab_size:
        raise ValueError(
            f"the tokenizer of {name!r} gave token id {highest}, but its vocab_size is {config.vocab_size}: tokenizer "
            "and weights do not belong together."
        )
