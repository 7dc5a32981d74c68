"""How far two models agree on a prompt, beside what an agreement of this size is worth.

An overlap of effects alone says more about v than about the models: a model against itself with a little noise on v has
an overlap far below 1, and some overlap comes by chance. Beside it stand therefore the correlation of the two v, the
overlap of one model with itself where noise makes v correlate as much, the overlap with effects shuffled within their
orders, and where there is one the overlap of one model with itself under another mask.

Effects are those of the compact explanation, in units of the spread of v over the masks, which vanishes only where v is
constant. With noise they are what growing and pruning once finds (`Search.quick`), in both: full searches would take
too long, and gave no other overlaps.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from andor.core.explained import Compared, Explained, Pair
from andor.measures.bootstrap import interval
from andor.measures.metrics import shuffled, weighted_overlap
from andor.measures.reported import mean_of_defined
from andor.runs.explanation import MOST_SHOWN

SHUFFLES = 20
"""Times that effects are shuffled within their orders."""

FEWEST = 5
"""Prompts from which an interval over prompts says something."""

SAME = 1e-6
"""Differences of overlaps up to which they are the same."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement of two explanations of one prompt; nan where undefined: a v is constant, or the targets differ.

    Attributes:
      overlap: weighted overlap of their effects, from 0 to 1 (`andor.metrics.weighted_overlap`).
      correlation: of the two v over all masks.
      noise: overlap of one with itself where noise on v leaves the same correlation; mean of both. 0 where the
        correlation is 0 or less: noise alone leaves nothing then.
      shuffled: overlap where the effects of the second are shuffled within kind and order; mean of `SHUFFLES`.
    """

    overlap: float
    correlation: float
    noise: float
    shuffled: float


def agreement(first: Explained, second: Explained, seed: int = 0) -> Agreement:
    """Agreement of two explanations with the same number of players. Same seed, same noise and shuffles."""
    v = first.values.v, second.values.v
    pairs = first.compact.pair, second.compact.pair
    if first.values.target != second.values.target or not all(np.ptp(each) > 0 for each in v):
        return Agreement(*[float("nan")] * 4)
    rng = np.random.default_rng(seed)
    correlation = float(np.corrcoef(*v)[0, 1])
    return Agreement(
        overlap=overlap(v, pairs),
        correlation=correlation,
        noise=float(np.mean([_with_noise(each, correlation, rng) for each in v])),
        shuffled=float(np.mean([overlap(v, (pairs[0], shuffled(pairs[1], rng))) for _ in range(SHUFFLES)])),
    )


def overlap(v: Sequence[Float[np.ndarray, "s"]], pairs: Sequence[Pair]) -> float:
    """Weighted overlap of two pairs of effects, each in units of the spread of its v."""
    return weighted_overlap(*pairs, tuple(float(each.std()) for each in v))


def under_other_mask(run: Compared, control: Compared) -> dict[str, list[float]]:
    """Model -> overlap with itself under the mask of another run, of each prompt that both runs have; nan: left out."""
    there = {prompt.id for prompt in control.prompts}
    return {
        model: [_with_itself(run, control, model, each.id) if each.id in there else np.nan for each in run.prompts]
        for model in run.models
    }


def _with_itself(run: Compared, control: Compared, model: str, prompt_id: str) -> float:
    both = run[model, prompt_id], control[model, prompt_id]
    same = both[0].values.players == both[1].values.players and both[0].values.target == both[1].values.target
    return overlap([each.values.v for each in both], [each.compact.pair for each in both]) if same else np.nan


def controlled(run: Compared, summary: Mapping, control: Compared, mask: str) -> dict:
    """The numbers of a run (`andor.runs.summary`) with what the mask of another run changes.

    Args:
      run, summary: a finished run and its numbers.
      control: the same models and prompts under another mask.
      mask: its name.

    Returns:
      The numbers with "control", the name, and for every pair of models "control_overlap": overlap of a model with
      itself under that mask, mean of both; nan where a prompt is not in both runs.
    """
    own = under_other_mask(run, control)
    prompts = {
        prompt.id: {
            **summary["prompts"][prompt.id],
            "pairs": [
                each | {"control_overlap": float(np.mean([own[name][place] for name in each["models"]]))}
                for each in summary["prompts"][prompt.id]["pairs"]
            ],
        }
        for place, prompt in enumerate(run.prompts)
    }
    of_pairs = zip(*(record["pairs"] for record in prompts.values()), strict=True)
    pairs = [
        pair | {"control_overlap": mean_of_defined([each["control_overlap"] for each in found])}
        for pair, found in zip(summary["pairs"], of_pairs, strict=True)
    ]
    return {**summary, "prompts": prompts, "pairs": pairs, "control": mask}


def verdicts(run: Compared, summary: Mapping) -> list[str]:
    """A sentence each on whether the first two models agree more than each of them does with itself: under noise, and
    under another mask where the numbers have it. None where there is one model, or nothing is defined.

    Args:
      run, summary: a finished run and its numbers (`andor.runs.summary`).
    """
    found = [_verdict(run, summary, "noise_overlap", "noise that makes v differ as much")]
    if "control" in summary:
        found.append(_verdict(run, summary, "control_overlap", f"the other mask, {summary['control']}"))
    return [each for each in found if each]


def _verdict(run: Compared, summary: Mapping, key: str, what: str) -> str:
    """One sentence, against the overlap under this key."""
    names = run.models[:2]
    if len(names) < 2:
        return ""
    found = [summary["prompts"][each.id]["pairs"][0] for each in run.prompts]
    references = np.array([each[key] for each in found], np.float64)
    overlaps = np.array([each["shown_overlap"] for each in found], np.float64)
    both = ~np.isnan(overlaps) & ~np.isnan(references)
    if not both.any():
        return ""
    overlaps, references = overlaps[both], references[both]
    labels = " and ".join(run.labels[name] for name in names)
    means = f"overlap of effects {overlaps.mean():.2f} against {references.mean():.2f}"
    count = int(both.sum())
    of = f"{count} prompt{'s' * (count > 1)}" + f" of {both.size}" * (count < both.size)
    if count < FEWEST:
        return f"{labels}, and each with itself under {what}: {means} ({of}, too few to tell which is more)."
    more, low, high = interval(overlaps - references)
    how = "more than" if low > SAME else "less than" if high < -SAME else "about as much as"
    interval_of = f"difference {more:+.2f}, 95% {low:+.2f} to {high:+.2f}, {of}"
    return f"{labels} agree {how} each with itself under {what}: {means} ({interval_of})."


def _with_noise(v: Float[np.ndarray, "s"], correlation: float, rng: np.random.Generator) -> float:
    """Overlap of what `Search` finds in v with what it finds in v plus noise of a size that gives this correlation."""
    if not 0 < correlation < 1:
        return float(correlation >= 1)
    from andor.solvers.search import Search  # JAX comes with its package, and reading a run does without

    noisy = v + v.std() * np.sqrt(1 / correlation**2 - 1) * rng.normal(size=v.size)
    return overlap((v, noisy), [Search(each, MOST_SHOWN).quick() for each in (v, noisy)])
