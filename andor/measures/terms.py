"""What the numbers of a run are called, what they say, and how they are written, in the terminal and on the page."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from andor.core.text import percent, r2_text
from andor.measures.reported import TOP_K, TRANSFER_K


@dataclasses.dataclass(frozen=True)
class Term:
    """A quantity of a table.

    Attributes:
      name: as a row says it.
      definition: what it is, in a sentence or two.
      formula: in Unicode; "" where there is none.
      reading: its range, and what is much or little.
      text: how its number is written, of those of a model or of a pair of models in a summary (`andor.runs.summary`).
      short: as the head of a column says it; "" where it has none.
    """

    name: str
    definition: str
    formula: str
    reading: str
    text: Callable[[Mapping], str]
    short: str = ""


def number(value: float | int | None, form: str) -> str:
    """A number as text; a dash where it is undefined."""
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def noise_bound(noise: float | str) -> str:
    """What the noise bound of a run is, in words."""
    if noise == "auto":
        return "what as many effects as pay for themselves leave of v"
    if noise == "measured":
        return "as a sample of masks differed when it was evaluated again"
    return f"{noise:g} of |v(N) - v(∅)|"


def _of(*keys: str, form: str) -> Callable[[Mapping], str]:
    """The number at these keys."""

    def text(numbers: Mapping) -> str:
        for key in keys:
            numbers = numbers[key]
        return number(numbers, form)

    return text


def _both(key: str, form: str) -> Callable[[Mapping], str]:
    """Of the certified optimum, and in parentheses of AND effects alone."""
    return lambda x: f"{number(x['certified'][key], form)} ({number(x['and_only'][key], form)})"


AGREEMENT = Term(
    "overlap of the effects",
    "Weighted overlap of the effects of two models that are shown: how much of their strength is in the same effects "
    "with the same sign, each model's effects divided by the spread of its v. Mean over the prompts.",
    "Σ min(|a|, |b|) over effects of one sign / Σ max(|a|, |b|)",
    "1: the same effects at the same relative strength. 0: none in common. By chance: with the effects of one model "
    "shuffled within their orders.",
    _of("shown_overlap", form=".2f"),
    "overlap",
)
FIT = Term(
    "R² of v on all masks, median",
    "Share of the variation of v over all masks that the effects of an explanation, at most 20, give when they are "
    "added up. Median over the prompts. The slider of a prompt shows fewer of them, and their R².",
    "R² = 1 − Σ (v(T) − sum of effects at T)² / Σ (v(T) − mean of v)², over all 2ⁿ masks T",
    "1: the effects say all that the model does with these words. Below 0.8 they leave much unsaid.",
    lambda x: r2_text(x["shown"]["r2"]),
)
TOGETHER = Term(
    "strength in words together",
    "Share of the strength (sum of sizes) of these effects that is in effects of two words or more.",
    "Σ |effect| over effects of ≥ 2 words / Σ |effect|",
    "0%: every word acts by itself. 100%: only combinations of words matter.",
    lambda x: number(x["together"], ".0%"),
)
CONFIDENCE = Term(
    "probability of the target",
    "Probability that the model gives the target after the prompt as it is, no word masked. Mean over the prompts.",
    "p = product of the probabilities of the target's tokens",
    "Between 0% and 100%. Where it is tiny, effects explain how the target is ruled out.",
    lambda x: percent(x["target_probability"]),
)
UNRELIABLE = Term(
    "strength of unreliable effects: shown, at the optimum",
    "Of prompts with labels: share of the strength in effects with any word that is labelled irrelevant or forbidden, "
    "where only relevant words should matter.",
    "Σ |effect| over effects with such a word / Σ |effect|",
    "0: the model goes by relevant words alone. 1: no effect is free of words that should not matter.",
    lambda x: f"{number(x['compact']['unreliable'], '.2f')}, {_both('unreliable', '.2f')(x)}",
)
_LOW_ORDERS = Term(
    "strength in orders 1 and 2",
    "Share of the strength that is in effects of one word and of two.",
    "Σ |effect| over orders 1 and 2 / Σ |effect|",
    "1: nothing but single words and pairs. The rest is in effects of three words or more.",
    _of("compact", "low_orders", form=".2f"),
)


_CONFIDENCE = (
    CONFIDENCE,
    Term(
        "v(N) - v(∅), nats",
        "What all words together change: log-odds of the target with every word there less that with all masked.",
        "v(T) = log p / (1 − p) with the words T there",
        "+1 multiplies the odds by 2.7. Near 0 the words cancel, which does not mean that they do nothing.",
        _of("rise", form="+.2f"),
    ),
)
_SHOWN = (
    Term(
        "number of effects, median",
        "Effects of the compact explanation: as few as give v, at most 20, fitted by least squares.",
        "",
        "20 is the most: then more would pay, and R² says how much is left.",
        _of("shown", "count", form=".0f"),
    ),
    FIT,
    Term(
        "R² of as many Walsh coefficients, median",
        "What the same number of terms of another basis gives: the strongest Walsh (Fourier) coefficients of v.",
        "",
        "Effects in words cost nothing where their R² is as high.",
        lambda x: r2_text(x["shown"]["walsh_r2"]),
    ),
    Term(
        "worst error / spread of v, median",
        "Largest difference between v and the sum of the effects on any mask, over the standard deviation "
        "of v over the masks.",
        "max |v − effects| / sd(v)",
        "Below 1: no mask is missed by more than masks usually differ.",
        _of("shown", "error_in_spreads", form=".2f"),
    ),
    Term(
        "strength / least strength, median",
        "Strength of these effects over the least that any explanation with errors as large must have, "
        "which is proved.",
        "Σ |effect| / certified minimum",
        "1: no explanation as good is weaker. 2: half the strength would do.",
        _of("shown", "excess", form=".2f"),
    ),
    _LOW_ORDERS,
    Term(
        "prompts with warnings",
        "Prompts whose explanation is not to be trusted as it stands. Each says why, above its picture.",
        "",
        "0 is best.",
        lambda x: f"{x['with_warnings']} of {x['prompts']}",
    ),
)
_CERTIFIED = (
    Term(
        "strength of all effects, nats",
        "Sum of the sizes of all effects of least strength within the noise bound (the certified optimum).",
        "Σ |AND effect| + Σ |OR effect|",
        "The smaller, the less the effects cancel each other. Compare with v(N) - v(∅).",
        _both("strength", ".2f"),
    ),
    Term(
        f"R² of the top {TOP_K} effects",
        f"Share of the variation of v over all masks that the {TOP_K} strongest of these effects give.",
        "R² = 1 − residual / total sum of squares over all masks",
        "1: they give the model's output on every mask. May be below 0 for effects that need the rest.",
        _both(f"r2_top_{TOP_K}", ".4f"),
    ),
    dataclasses.replace(_LOW_ORDERS, text=_both("low_orders", ".2f")),
    Term(
        "cancellation of + and -, over all orders",
        "How far positive and negative effects cancel, over all orders together.",
        "1 − |Σ effects| / Σ |effects|",
        "0: all effects point the same way. 1: they cancel. High values: strong effects that do little.",
        _both("cancellation", ".3f"),
    ),
    Term(
        "spindle share of the order profile",
        "Part of the strength per order that rises and falls in the middle orders instead of decaying from order one.",
        "strength per order ≈ decay + spindle",
        "0: strength decays with the number of words. Near 1: mostly effects of several words that cancel.",
        _both("spindle_share", ".3f"),
    ),
    Term(
        "misfit of the split into decay and spindle",
        "How badly a decay and a spindle together give the order profile.",
        "Σ |strength − fit| / Σ strength",
        "Near 0 the split says something; large values mean that it does not fit.",
        _both("spindle_misfit", ".3f"),
    ),
    Term(
        "worst certified gap",
        "How far at most, relatively, the strength of any solution is from the least that is possible. "
        "Proved for every prompt.",
        "(primal − dual) / primal",
        "1e-6 or less: nothing was left on the table.",
        _of("worst_gap", form=".1e"),
    ),
)
_COMPUTATION = (
    Term(
        "worst identity error / range of v",
        "Largest difference between v and the sum of all effects of least strength and the noise, over "
        "all masks and prompts.",
        "max |v − effects − noise| / (max v − min v)",
        "Rounding, 1e-12 or so: v is written exactly.",
        _of("worst_identity_error", form=".1e"),
    ),
    Term(
        "tokens evaluated",
        "Tokens that went through the model for all masks of all prompts.",
        "",
        "Shared beginnings of masked prompts are evaluated once.",
        _of("tokens", form=","),
    ),
    Term(
        "seconds of evaluation",
        "Wall time of evaluating all masks, compilation included.",
        "",
        "Of the machine that did it.",
        _of("seconds", form=".1f"),
    ),
)


def _salient(tau: float) -> Term:
    return Term(
        f"salient effects, above {tau:.0%} of the largest",
        f"Number of effects stronger than τ = {tau:g} times the strongest of the same prompt.",
        "#{S: |effect| > τ max |effect|}",
        "Few of the 2·2ⁿ possible effects: the model's output is sparse in these words.",
        _both("salient", ".1f"),
    )


def sections(tau: float, labelled: bool = False) -> tuple[tuple[str, tuple[Term, ...]], ...]:
    """(heading, rows) of the table of models, of the summary at this tau; whether prompts have labels."""
    return (
        ("Confidence", _CONFIDENCE),
        ("The effects that are shown", _SHOWN),
        ("Least strength, certified (AND effects alone)", (_salient(tau), *_CERTIFIED)),
        *[("Labels", (UNRELIABLE,))] * labelled,
        ("The computation", _COMPUTATION),
    )


PAIRS = (
    AGREEMENT,
    Term(
        "correlation of v",
        "Of the two models' v over all masks of a prompt.",
        "",
        "1: what masking does to one model it does to the other.",
        _of("correlation", form=".2f"),
        "corr. of v",
    ),
    Term(
        "overlap of a model with itself, noisy",
        "Overlap of one model's effects with its own where noise on v leaves the same correlation.",
        "",
        "What to expect where v differs so much and the effects do not: compare the agreement with this, not with 1.",
        _of("noise_overlap", form=".2f"),
        "noise",
    ),
    Term(
        "overlap by chance",
        "Overlap where the effects of one model are shuffled within kind and order.",
        "",
        "What models have in common that share nothing but the number of effects of each order.",
        _of("shuffled_overlap", form=".2f"),
        "shuffled",
    ),
    Term(
        "overlap of the optima",
        "The same overlap for all effects of least strength, each model's divided by its own |v(N) − v(∅)|.",
        "",
        "Between 0 and 1.",
        _of("overlap", form=".2f"),
        "of optima",
    ),
    *(
        Term(
            f"{kind.upper()} effects shared, top {TRANSFER_K[-1]}",
            f"Share of the {TRANSFER_K[-1]} strongest {kind.upper()} effects of least strength that both have.",
            "",
            f"100%: the same effects. Two random choices share about {TRANSFER_K[-1]} / 2ⁿ. –: neither model has "
            "so many on any prompt.",
            _of(f"s_{kind}_{TRANSFER_K[-1]}", form=".0%"),
            f"top {TRANSFER_K[-1]} {kind.upper()}",
        )
        for kind in ("and", "or")
    ),
)
"""Rows of the table of pairs of models."""

CONTROL = Term(
    "overlap of a model with itself, another mask",
    "Overlap of one model's effects with its own under the mask of --control, mean of both models.",
    "",
    "Two models that agree as much differ by no more than the choice of a mask does.",
    _of("control_overlap", form=".2f"),
)
"""Another row, where a run has a control."""
