"""`measure_masks`: what each way of masking does to a model's prompts and to their explanations."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from andor.core.values import Values
from andor.evaluation import check_fits, evaluate, predict_target
from andor.evaluation.background import HALF_MASKED, BackgroundLoss, background_loss
from andor.measures.bootstrap import interval
from andor.measures.metrics import matching, order_strength, salient_count, walsh_r2
from andor.measures.reported import TOP_K
from andor.measures.trust import trust
from andor.models import LanguageModel
from andor.prompts import Prompt, baseline_id, in_chat, joined, read_mask, tokenize, with_ids
from andor.runs import cache, files, provenance
from andor.runs.explanation import MOST_SHOWN
from andor.runs.files import AnyPath, Damaged, path_of
from andor.runs.work import values_key
from andor.solvers import extract, share_of_orders
from andor.solvers.compact import compact_of

Interval = tuple[float, float, float]
"""Median over prompts, and its 95% bootstrap interval."""


@dataclasses.dataclass(frozen=True)
class OfMask:
    """What a mask does, measured on prompts: name -> median and interval of each number.

    Attributes:
      baseline: as `andor.evaluate` takes it.
      name: `Mask.name`.
      n_prompts: prompts that can be masked so.
      refused: prompt id -> why it cannot.
      numbers: "loss_full", "loss_half", "loss_masked" (`andor.evaluation.background.BackgroundLoss`), "v_empty" (v of
        the prompt without any player), "range" (largest less smallest v); of the compact explanation "r2" (of v on all
        masks), "gain" (r2 less that of the first mask on the same prompts), "low_orders" (share of orders 1 and 2 in
        its strength), "warned" (1 where it has a warning; the mean over prompts, not the median); of the certified
        optimum "salient" (effects), "r2_optimum" (of as many effects as the compact explanation may have), "r2_100"
        (of 100), "optimum_low_orders" with "at_least" and "at_most" (over all that is nearly optimal:
        `andor.solvers.share_of_orders`); and "walsh" (R² of as many Walsh coefficients as the compact explanation may
        have effects).
    """

    baseline: str
    name: str
    n_prompts: int
    refused: Mapping[str, str]
    numbers: Mapping[str, Interval]


def masks_of(tokenizer) -> tuple[str, ...]:
    """The masks that are measured unless others are named: the tokenizer's own token, and all that are no token."""
    token = f"token:{tokenizer.convert_ids_to_tokens(baseline_id(tokenizer))}"
    return (token, "mean", "zero", "delete", "attention", "resample")


@files.store_errors()
def measure_masks(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    baselines: Sequence[str] = (),
    *,
    noise: float | Literal["auto"] = "auto",
    out: AnyPath | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[OfMask]:
    """Measure masks on the same prompts and targets.

    Args:
      model: from `andor.load`.
      prompts: without a target, one is predicted on the full prompt, and kept for all masks.
      baselines: as `andor.evaluate` takes them; by default `masks_of` the model.
      noise: bound on the noise at the certified optimum, as for `andor.extract`.
      out: a root that keeps values and losses as soon as they are there, as that of `andor.compare` keeps values; what
        it holds is not evaluated again.
      progress: called as progress(done, total), counted in prompts times masks.

    Raises:
      ValueError: no prompt can be masked in any way, or as `andor.evaluate` and `andor.extract`.
      OSError: a file could not be written.
    """
    baselines = tuple(baselines) or masks_of(model.tokenizer)
    names = [read_mask(each, model.tokenizer).name for each in baselines]
    root = None if out is None else path_of(out)
    prompts = with_ids("measure_masks", [joined(in_chat(each, model.tokenizer), model.tokenizer) for each in prompts])
    targets = [predict_target(model, each) if each.target is None else each.continuation for each in prompts]
    measured: list[dict[str, dict[str, float]]] = [{} for _ in baselines]  # of each mask: prompt id -> numbers
    refused: list[dict[str, str]] = [{} for _ in baselines]
    for place, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        for index, baseline in enumerate(baselines):
            try:
                numbers = _numbers(*_values_and_loss(model, prompt, target, baseline, root), prompt, noise)
                measured[index][prompt.id] = numbers
                numbers["gain"] = numbers["r2"] - measured[0].get(prompt.id, {"r2": math.nan})["r2"]
            except ValueError as error:
                refused[index][prompt.id] = str(error)
            progress(place * len(baselines) + index + 1, len(baselines) * len(prompts))
    rows = [
        OfMask(baseline, name, len(found), why, _medians(list(found.values())))
        for baseline, name, found, why in zip(baselines, names, measured, refused, strict=True)
    ]
    if not any(row.n_prompts for row in rows):
        raise ValueError(f"no prompt can be masked. {next(iter(rows[0].refused.values()))}")
    return rows


def _values_and_loss(
    model: LanguageModel, prompt: Prompt, target: str, baseline: str, root: AnyPath | None
) -> tuple[Values, BackgroundLoss]:
    """v of a prompt and the loss of its background, from a root where they are there."""
    tokens = tokenize(prompt, model.tokenizer, target, baseline=baseline)
    check_fits(model.name, model.decoder.config, prompt, tokens)
    key = values_key(model.fingerprint, str(model.dtype), tokens, tokens.target_ids.tolist(), "product")
    made = functools.partial(evaluate, model, prompt, target=target, baseline=baseline)
    if root is None:
        return made(), background_loss(model, prompt, target, baseline=baseline)
    values = cache.kept_values(root, model.name, prompt.id, made, key=key, made_by=provenance.made_by())
    loss_key = files.key_of(key, HALF_MASKED)
    path = cache.values_path(root, model.name, prompt.id, key).with_suffix(".loss.json")
    loss = cache.get(path, _read_loss, loss_key)
    if loss is None:
        loss = background_loss(model, prompt, target, baseline=baseline)
        files.write_bytes(path, files.json_bytes(loss._asdict() | {"key": loss_key}))
    return values, loss


def _read_loss(path: AnyPath, key: str) -> BackgroundLoss:
    """A loss that was kept. Raises as `files.read_json`, and Damaged where it is of another key."""
    content = files.read_json(path)
    if content.pop("key", None) != key or set(content) != set(BackgroundLoss._fields):
        raise Damaged(f"{path} is damaged: it holds another loss.")
    return BackgroundLoss(**{name: math.nan if each is None else each for name, each in content.items()})


def _numbers(values: Values, loss: BackgroundLoss, prompt: Prompt, noise: float | str) -> dict[str, float]:
    v, solution = values.v, extract(values, noise)
    (few,) = compact_of(v[None], [solution], MOST_SHOWN)
    pair = solution.and_effects, solution.or_effects
    at_least, at_most = share_of_orders(v, solution)
    return {
        **{f"loss_{name}": value for name, value in loss._asdict().items()},
        "v_empty": float(v[0]),
        "range": float(np.ptp(v)),
        "r2": few.r2,
        "low_orders": _low_orders(few.pair),
        "warned": float(bool(trust(v, few, values.target_probability, prompt.ends_with_player).warnings)),
        "salient": float(salient_count(*pair)),
        "r2_optimum": matching(v, *pair, MOST_SHOWN).r2,
        "r2_100": matching(v, *pair, TOP_K).r2,
        "optimum_low_orders": _low_orders(pair),
        "at_least": at_least,
        "at_most": at_most,
        "walsh": walsh_r2(v, MOST_SHOWN),
    }


def _medians(found: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """Median (of "warned" the mean) and interval of each number over prompts; empty without any prompt."""
    middle = {"warned": np.mean}
    return {
        key: interval([each[key] for each in found], middle.get(key, np.median)) for key in (found[0] if found else ())
    }


def _low_orders(pair: tuple[np.ndarray, np.ndarray]) -> float:
    """Share of orders 1 and 2 in the strength; nan where there is none."""
    strength = order_strength(*pair)
    per_order = strength.positive + strength.negative
    return float(per_order[:2].sum() / per_order.sum()) if per_order.any() else math.nan
