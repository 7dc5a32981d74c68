"""How far masked prompts are from what a model knows: its loss on the words that are never masked."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from andor.devices.processes import gather
from andor.devices.rules import standard_rules
from andor.evaluation.evaluate import tokenized_for
from andor.evaluation.log_odds import target_and_others
from andor.evaluation.naive import hidden_of, mask_tokens, padded
from andor.evaluation.prefix_tree import bucket
from andor.evaluation.schedule import MATMUL_PRECISION
from andor.models import LanguageModel
from andor.prompts import Prompt

HALF_MASKED = 4
"""Masks of half of the players that are sampled."""


class BackgroundLoss(NamedTuple):
    """Mean of -log p of a prompt's background tokens behind its first player, in nats per token; NaN without any.

    full: of the prompt as it is. half: with half of the players masked, mean over a sample. masked: with all masked.
    """

    full: float
    half: float
    masked: float


@standard_rules()
def background_loss(
    model: LanguageModel, prompt: Prompt, target: str, *, baseline: str = "auto", seed: int = 0
) -> BackgroundLoss:
    """What a model makes of the background of a prompt, whose masked words are masked in one way.

    A token is predicted from the last token before it that is there. Where words are drawn, the mean is over draws.

    Args:
      model, prompt, baseline: as for `andor.evaluate`.
      target: exact text; is not scored.
      seed: of the masks of half of the players.

    Raises:
      ValueError: as `andor.evaluate`.
    """
    tokenized, embedding = tokenized_for(model, prompt, target, baseline)
    rng, n_players = np.random.default_rng(seed), prompt.n_players
    half = [sum(1 << int(each) for each in rng.permutation(n_players)[: n_players // 2]) for _ in range(HALF_MASKED)]
    subsets = np.array([2**n_players - 1, 0, *half], np.int32)
    length = bucket(len(tokenized.token_ids))
    losses = []
    with jax.default_matmul_precision(MATMUL_PRECISION):
        for draw in tokenized.draws:
            instead = draw.instead[: len(draw.token_ids)]
            tokens = (padded(each, length) for each in (draw.token_ids, draw.player_of_token, instead))
            whole = np.int32(len(draw.token_ids))
            losses.append(gather(_losses(model.decoder, draw.mask.kind, subsets, *tokens, whole, embedding)))
    full, masked, *others = np.mean(losses, axis=0).tolist()
    return BackgroundLoss(full, float(np.mean(others)), masked)


@functools.partial(jax.jit, static_argnums=1)
def _losses(decoder, kind, subsets, token_ids, player_of_token, instead, length, baseline):
    """Mean loss of the background of every subset, `[b]`."""
    prompts = mask_tokens(kind, subsets, token_ids, player_of_token, instead)
    places = jnp.broadcast_to(jnp.arange(len(token_ids)), prompts.tokens.shape)
    last_there = jax.lax.cummax(jnp.where(prompts.there, places, -1), axis=1)
    before = jnp.pad(last_there, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    first_player = jnp.argmax(player_of_token >= 0)
    scored = prompts.there & (player_of_token[prompts.source] < 0) & (before >= 0)
    scored &= (prompts.source > first_player) & (prompts.source < length)
    hidden = jnp.take_along_axis(hidden_of(decoder, prompts, baseline), jnp.maximum(before, 0)[:, :, None], axis=1)
    target, others = target_and_others(decoder.head, hidden, prompts.tokens)
    losses = jnp.logaddexp(target, others) - target
    return jnp.sum(jnp.where(scored, losses, 0.0), axis=1) / jnp.sum(scored, axis=1)
