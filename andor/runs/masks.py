"""`measure_masks`: what each way of masking does to a model's prompts and to their explanations."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from andor.evaluation import evaluate, predict_target
from andor.evaluation.background import background_loss
from andor.measures.bootstrap import interval
from andor.measures.metrics import order_strength, salient_count
from andor.models import LanguageModel
from andor.prompts import Prompt, baseline_id, in_chat, read_mask
from andor.runs.explanation import MOST_SHOWN
from andor.solvers import extract
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
      refused: prompt id or text -> why it cannot.
      numbers: "loss_full", "loss_half", "loss_masked" (`andor.evaluation.background.BackgroundLoss`), "v_empty" (v of
        the prompt without any player), "range" (largest less smallest v), "low_orders" (share of orders 1 and 2 in the
        strength of the compact explanation), "r2" (of v on all masks, by that explanation), "gain" (r2 less that of the
        first mask on the same prompts), "salient" (effects of the certified optimum).
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


def measure_masks(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    baselines: Sequence[str] = (),
    *,
    noise: float | Literal["auto"] = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[OfMask]:
    """Measure masks on the same prompts and targets.

    Args:
      model: from `andor.load`.
      prompts: without a target, one is predicted on the full prompt, and kept for all masks.
      baselines: as `andor.evaluate` takes them; by default `masks_of` the model.
      noise: bound on the noise at the certified optimum, as for `andor.extract`.
      progress: called as progress(done, total), counted in prompts times masks.

    Raises:
      ValueError: no prompt can be masked in any way, or as `andor.evaluate` and `andor.extract`.
    """
    baselines = tuple(baselines) or masks_of(model.tokenizer)
    names = [read_mask(each, model.tokenizer).name for each in baselines]
    prompts = [in_chat(prompt, model.tokenizer) for prompt in prompts]
    targets = [predict_target(model, each) if each.target is None else each.continuation for each in prompts]
    rows, done, first = [], 0, {}
    for baseline, name in zip(baselines, names, strict=True):
        found, refused = [], {}
        for place, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
            try:
                found.append(_numbers(model, prompt, target, baseline, noise))
                gain = found[-1]["r2"] - first.setdefault(place, found[-1]["r2"] if not rows else np.nan)
                found[-1]["gain"] = gain
            except ValueError as error:
                refused[prompt.id or prompt.text] = str(error)
            progress(done := done + 1, len(baselines) * len(prompts))
        samples = {key: [each[key] for each in found] for key in found[0]} if found else {}
        numbers = {key: interval(each, np.median) for key, each in samples.items()}
        rows.append(OfMask(baseline, name, len(found), refused, numbers))
    if not any(row.n_prompts for row in rows):
        raise ValueError(f"no prompt can be masked. {next(iter(rows[0].refused.values()))}")
    return rows


def _numbers(model: LanguageModel, prompt: Prompt, target: str, baseline: str, noise: float | str) -> dict[str, float]:
    values = evaluate(model, prompt, target=target, baseline=baseline)
    loss = background_loss(model, prompt, target, baseline=baseline)
    solution = extract(values, noise)
    (few,) = compact_of(values.v[None], [solution], MOST_SHOWN)
    strength = order_strength(*few.pair)
    per_order = strength.positive + strength.negative
    return {
        **{f"loss_{name}": value for name, value in loss._asdict().items()},
        "v_empty": float(values.v[0]),
        "range": float(np.ptp(values.v)),
        "low_orders": float(per_order[:2].sum() / per_order.sum()) if per_order.any() else float("nan"),
        "r2": few.r2,
        "salient": float(salient_count(solution.and_effects, solution.or_effects)),
    }
