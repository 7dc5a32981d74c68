"""v(T) for all 2**n_players masks of a prompt: the log-odds of the target under every masked prompt.

Masks are evaluated in batches of one fixed shape, so that a prompt needs one compilation; sequences are padded on the
right to a multiple of `LENGTH_BUCKET` tokens, so that prompts of similar length share it. A causal decoder never sees
the padding.
"""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from andor.models import LanguageModel
from andor.prompts import Prompt, TokenizedPrompt, continuation, tokenize
from andor.values import Values

LENGTH_BUCKET = 8
"""Padded sequence lengths are multiples of this many tokens."""

TOKENS_PER_BATCH = 8192
"""Tokens of one batch of masked prompts, padding included, unless a batch size is given."""

MATMUL_PRECISION = "highest"
"""Otherwise accelerators multiply float32 in TF32 or bfloat16 passes, at errors of 1e-3 in v. No effect on bfloat16."""


def mask_tokens(
    subset: Int[Array, ""], token_ids: Int[Array, "t"], player_of_token: Int[Array, "t"], baseline_id: Int[Array, ""]
) -> Int[Array, "t"]:
    """The prompt x_T: tokens of players outside the subset replaced by the baseline token, background kept."""
    masked = (player_of_token >= 0) & ((subset >> jnp.maximum(player_of_token, 0)) & 1 == 0)
    return jnp.where(masked, baseline_id, token_ids)


def log_odds(logits: Float[Array, "k v"], target_ids: Int[Array, "k"]) -> Float[Array, ""]:
    """log p / (1 - p) with p the product of the k target tokens' probabilities.

    Neither p nor 1 - p is formed: log p is a sum, and 1 - p = sum_j (1 - p_j) prod_{i<j} p_i a logsumexp, which stays
    exact for p near 0 and near 1. For one token it is l_y - logsumexp(l without y).
    """
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    is_target = jnp.arange(logits.shape[-1])[None, :] == target_ids[:, None]
    log_p = jnp.take_along_axis(logits, target_ids[:, None], axis=-1)[:, 0] - normaliser
    log_not_p = jax.nn.logsumexp(jnp.where(is_target, -jnp.inf, logits), axis=-1) - normaliser
    log_all_before = jnp.cumsum(log_p) - log_p
    return jnp.sum(log_p) - jax.nn.logsumexp(log_not_p + log_all_before)


@functools.partial(jax.jit, static_argnums=0)
def _batch_log_odds(graphdef, state, subsets, token_ids, player_of_token, baseline_id, target_ids, read_from):
    """v of a batch of subsets `[b]`: float32 `[b]`. Position `read_from` predicts the first target token."""
    decoder = nnx.merge(graphdef, state)
    mask = functools.partial(mask_tokens, token_ids=token_ids, player_of_token=player_of_token, baseline_id=baseline_id)
    with jax.default_matmul_precision(MATMUL_PRECISION):
        hidden = decoder.hidden(decoder.embed(jax.vmap(mask)(subsets)))
        # The head runs only where a target token is predicted.
        hidden = jax.lax.dynamic_slice_in_dim(hidden, read_from, target_ids.shape[0], axis=1)
        logits = decoder.logits(hidden)
    return jax.vmap(log_odds, in_axes=(0, None))(logits, target_ids)


@functools.partial(jax.jit, static_argnums=0)
def _last_logits(graphdef, state, token_ids, read_from):
    decoder = nnx.merge(graphdef, state)
    with jax.default_matmul_precision(MATMUL_PRECISION):
        hidden = decoder.hidden(decoder.embed(token_ids[None, :]))
        return decoder.logits(jax.lax.dynamic_index_in_dim(hidden[0], read_from, keepdims=False))


def evaluate(
    model: LanguageModel,
    prompt: Prompt,
    *,
    target: str | None = None,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Values:
    """Evaluate a prompt under all 2**n_players masks.

    Args:
      model: from `andor.load`.
      prompt: the text, its players and perhaps its target.
      target: exact continuation to explain, leading space included; overrides the prompt's. Without either it is the
        model's most probable next token on the full prompt.
      batch_size: masked prompts in one forward pass; by default as many as make `TOKENS_PER_BATCH` tokens.
      progress: called with the number of masks done after every batch.

    Raises:
      ValueError: the batch size is not positive, the prompt cannot be tokenised for this model, or the model gave a
        value that is not finite.
    """
    start = time.perf_counter()
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"evaluate(batch_size=...) must be at least 1; got {batch_size}.")
    if target is None:
        target = predict_target(model, prompt) if prompt.target is None else continuation(prompt.text, prompt.target)
    tokenized = tokenize(prompt, model.tokenizer, target)
    _check_fits(model, prompt, tokenized)
    prompt_length, n_targets = len(tokenized.token_ids), len(tokenized.target_ids)
    # The last target token is predicted, never read.
    token_ids, padded_length = _pad(np.concatenate([tokenized.token_ids, tokenized.target_ids[:-1]]), 0)
    player_of_token, _ = _pad(np.concatenate([tokenized.player_of_token, np.full(n_targets - 1, -1, np.int32)]), -1)

    n_subsets = 2**prompt.n_players
    batch_size = min(batch_size or max(1, TOKENS_PER_BATCH // padded_length), n_subsets)
    graphdef, state = nnx.split(model.decoder)
    v = np.empty(n_subsets)
    for first in range(0, n_subsets, batch_size):
        # The last batch repeats its last subset, so that every batch has the same shape.
        subsets = np.minimum(np.arange(first, first + batch_size, dtype=np.int32), n_subsets - 1)
        batch = _batch_log_odds(
            graphdef,
            state,
            subsets,
            token_ids,
            player_of_token,
            np.int32(tokenized.baseline_id),
            tokenized.target_ids,
            np.int32(prompt_length - 1),
        )
        last = min(first + batch_size, n_subsets)
        v[first:last] = np.asarray(batch, np.float64)[: last - first]
        if progress is not None:
            progress(last)
    if not np.all(np.isfinite(v)):
        bad = int(np.flatnonzero(~np.isfinite(v))[0])
        raise ValueError(
            f"model {model.name!r} gave v = {v[bad]} on mask {bad} of prompt {prompt.id or prompt.text[:40]!r}: its "
            f"logits overflow or hold NaN in {model.dtype}. Try dtype='float32', and check the weights."
        )
    return Values(
        v=v,
        players=prompt.words,
        target=target,
        target_probability=float(1 / (1 + np.exp(-v[-1]))),
        tokens_evaluated=n_subsets * (prompt_length + n_targets - 1),
        seconds=time.perf_counter() - start,
    )


def predict_target(model: LanguageModel, prompt: Prompt) -> str:
    """Exact text of the model's most probable next token on the full prompt, leading space included.

    Special tokens (an end of text), pieces of a character, and tokens whose text this tokenizer writes with other
    tokens are no text that can be explained, so the most probable of all other tokens is taken.
    """
    tokenized = tokenize(prompt, model.tokenizer)
    _check_fits(model, prompt, tokenized)
    token_ids, _ = _pad(tokenized.token_ids, 0)
    graphdef, state = nnx.split(model.decoder)
    logits = np.asarray(_last_logits(graphdef, state, token_ids, np.int32(len(tokenized.token_ids) - 1)))
    special = set(model.tokenizer.all_special_ids)
    # Decoded behind the prompt: some tokenizers drop the space of a token that is decoded by itself.
    before = model.tokenizer.decode(tokenized.token_ids, clean_up_tokenization_spaces=False)
    for token in np.argsort(-logits, kind="stable"):
        if token in special or token >= len(model.tokenizer):
            continue
        after = model.tokenizer.decode([*tokenized.token_ids, token], clean_up_tokenization_spaces=False)
        text = after[len(before) :]
        if not after.startswith(before) or not text or "\ufffd" in text:
            continue
        if tokenize(prompt, model.tokenizer, text).target_ids.tolist() == [token]:
            return text
    raise ValueError(f"no token of {model.name!r} is text; give the prompt a target.")


def _pad(tokens: np.ndarray, value: int) -> tuple[np.ndarray, int]:
    length = -(-len(tokens) // LENGTH_BUCKET) * LENGTH_BUCKET
    return np.pad(tokens, (0, length - len(tokens)), constant_values=value).astype(np.int32), length


def _check_fits(model: LanguageModel, prompt: Prompt, tokenized: TokenizedPrompt) -> None:
    length = len(tokenized.token_ids) + max(len(tokenized.target_ids) - 1, 0)
    if length > model.decoder.config.max_positions:
        raise ValueError(
            f"prompt {prompt.id or prompt.text[:40]!r} has {length} tokens, but {model.name!r} was made for at most "
            f"{model.decoder.config.max_positions} (max_position_embeddings). Shorten the text."
        )
    # A gather beyond the embedding table would be clamped silently.
    highest = int(max(tokenized.token_ids.max(), tokenized.baseline_id, *tokenized.target_ids))
    if highest >= model.decoder.config.vocab_size:
        raise ValueError(
            f"the tokenizer of {model.name!r} gave token id {highest}, but its vocab_size is "
            f"{model.decoder.config.vocab_size}: tokenizer and weights do not belong together."
        )
