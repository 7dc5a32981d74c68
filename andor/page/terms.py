"""Rows of the closing tables: what each says, its formula, and how to read it."""

import dataclasses

from andor.measures.reported import TOP_K, TRANSFER_K


@dataclasses.dataclass(frozen=True)
class Term:
    """A quantity of a table.

    Attributes:
      name: as the table says it.
      definition: what it is, in a sentence or two.
      formula: in Unicode; "" where there is none.
      reading: its range, and what is much or little.
    """

    name: str
    definition: str
    formula: str
    reading: str


AGREEMENT = Term(
    "agreement of the effects",
    "Weighted overlap of the effects of two models: how much of their strength is in the same effects with the same "
    "sign, each model's effects divided by its own |v(N) − v(∅)|.",
    "Σ min(|a|, |b|) over effects of one sign / Σ max(|a|, |b|)",
    "1: the same effects at the same relative strength. 0: none in common.",
)
FIT = Term(
    "R² of the effects",
    "Share of the variation of v over all masks that the effects of an explanation, at most 20, give when they are "
    "added up. The slider of a prompt shows fewer of them, and their R².",
    "R² = 1 − Σ (v(T) − sum of effects at T)² / Σ (v(T) − mean of v)², over all 2ⁿ masks T",
    "1: the effects say all that the model does with these words. Below 0.8 they leave much unsaid.",
)
TOGETHER = Term(
    "strength in words together",
    "Share of the strength (sum of sizes) of these effects that is in effects of two words or more.",
    "Σ |effect| over effects of ≥ 2 words / Σ |effect|",
    "0%: every word acts by itself. 100%: only combinations of words matter.",
)

BOTH, ALONE = True, False
MODELS = (
    (
        Term(
            "confidence: probability of the target",
            "Probability that the model gives the target after the prompt as it is, no word masked.",
            "p = product of the probabilities of the target's tokens",
            "Between 0 and 1. Where it is tiny, effects explain how the target is ruled out.",
        ),
        "target_probability",
        ".3f",
        ALONE,
    ),
    (
        Term(
            "confidence: v(N) − v(∅), nats",
            "What all words together change: log-odds of the target with every word there less that with all masked.",
            "v(T) = log p / (1 − p) with the words T there",
            "+1 multiplies the odds by 2.7. Near 0 the words cancel, which does not mean that they do nothing.",
        ),
        "rise",
        "+.2f",
        ALONE,
    ),
    (
        Term(
            "salient effects",
            "Number of effects stronger than τ times the strongest of the same prompt.",
            "#{S: |effect| > τ max |effect|}",
            "Few of the 2·2ⁿ possible effects: the model's output is sparse in these words.",
        ),
        "salient",
        ".1f",
        BOTH,
    ),
    (
        Term(
            "strength of all effects, nats",
            "Sum of the sizes of all effects of least strength within the noise bound (the certified optimum).",
            "Σ |AND effect| + Σ |OR effect|",
            "The smaller, the less the effects cancel each other. Compare with v(N) − v(∅).",
        ),
        "strength",
        ".2f",
        BOTH,
    ),
    (
        Term(
            f"R² of the top {TOP_K} effects",
            f"Share of the variation of v over all masks that the {TOP_K} strongest effects give.",
            "R² = 1 − residual / total sum of squares over all masks",
            "1: these effects give the model's output on every mask. May be below 0 for effects that need the rest.",
        ),
        f"r2_top_{TOP_K}",
        ".4f",
        BOTH,
    ),
    (
        Term(
            "R² of the top 3% of effects",
            "The same for the strongest 3% of the possible effects of each prompt.",
            "",
            "Comparable between prompts with different numbers of words.",
        ),
        "r2_top_3%",
        ".4f",
        BOTH,
    ),
    (
        Term(
            "R² of the top 5% of effects",
            "The same for the strongest 5% of the possible effects of each prompt.",
            "",
            "Comparable between prompts with different numbers of words.",
        ),
        "r2_top_5%",
        ".4f",
        BOTH,
    ),
    (
        Term(
            "cancellation of + and −",
            "How far positive and negative effects cancel, over all orders together.",
            "1 − |Σ effects| / Σ |effects|",
            "0: all effects point the same way. 1: they cancel. High values mean strong effects that do little.",
        ),
        "cancellation",
        ".3f",
        BOTH,
    ),
    (
        Term(
            "spindle share of the order profile",
            "Part of the strength per order that rises and falls in the middle orders instead of decaying from order "
            "one.",
            "strength per order ≈ decay + spindle",
            "0: strength decays with the number of words. Near 1: mostly effects of several words that cancel.",
        ),
        "spindle_share",
        ".3f",
        BOTH,
    ),
    (
        Term(
            "misfit of the split into decay and spindle",
            "How badly a decay and a spindle together give the order profile.",
            "",
            "Near 0 the split says something; large values mean that it does not fit.",
        ),
        "spindle_misfit",
        ".3f",
        BOTH,
    ),
    (
        Term(
            "worst certified gap",
            "How far at most, relatively, the strength of any solution is from the least that is possible. Proved for "
            "every prompt.",
            "(primal − dual) / primal",
            "1e-6 or less: nothing was left on the table.",
        ),
        "worst_gap",
        ".1e",
        ALONE,
    ),
    (
        Term(
            "worst identity error / range of v",
            "Largest difference between v and the sum of all effects and the noise term, over all masks and prompts.",
            "max |v − effects − noise| / (max v − min v)",
            "Rounding, 1e-12 or so: v is written exactly.",
        ),
        "worst_identity_error",
        ".1e",
        ALONE,
    ),
    (
        Term(
            "tokens evaluated",
            "Tokens that went through the model for all masks of all prompts.",
            "",
            "Shared beginnings of masked prompts are evaluated once.",
        ),
        "tokens",
        ",",
        ALONE,
    ),
    (
        Term(
            "seconds of evaluation", "Wall time of evaluating all masks, compilation included.", "", "Of this machine."
        ),
        "seconds",
        ".1f",
        ALONE,
    ),
)
"""(term, key among a model's numbers in the summary, form, whether there is one for AND effects alone too)."""

PAIRS = (
    (AGREEMENT, "overlap", ".3f"),
    *(
        (
            Term(
                f"{kind.upper()} effects shared, top {k}",
                f"Share of the {k} strongest {kind.upper()} effects of one model that are among those of the other.",
                "",
                "100%: the same effects. What chance would give is near 0.",
            ),
            f"s_{kind}_{k}",
            ".0%",
        )
        for k in TRANSFER_K
        for kind in ("and", "or")
    ),
)
"""(term, key among the numbers of a pair, form)."""
