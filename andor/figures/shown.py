"""What a picture of one prompt shows: the strongest effects of one model, or of two, and what is said about them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from andor.core.explained import Explained, Pair
from andor.core.lattice import members
from andor.core.text import percent, r2_text, visible
from andor.figures import style
from andor.measures import metrics
from andor.measures.trust import LEAST_R2

TOP = 20
"""Effects of each model that are shown, at most: as many as a compact explanation has. Fewer give v less well."""

_LONGEST_TARGET = 40
_LONGEST_LABEL = 36


@dataclass(frozen=True)
class Mark:
    """One effect of one model: its subset, whether it is an OR, and its value in nats."""

    subset: int
    is_or: bool
    value: float

    @property
    def key(self) -> tuple[int, bool]:
        """What it has in common with the same effect of another model."""
        return self.subset, self.is_or

    @property
    def players(self) -> tuple[int, ...]:
        return members(self.subset)


@dataclass(frozen=True)
class Side:
    """One model's effects on the prompt.

    Attributes:
      label: the model's.
      target: as it is shown.
      v: v(∅) and v(N).
      probability: of the target, all masked and all there; the first is nan where v does not tell.
      marks: the effects shown, strongest first.
      pair: all that were found.
      r2: of v on all masks, from the effects shown alone; nan where v is constant.
      masks: number of masks.
      warnings: why not to trust it.
    """

    label: str
    target: str
    v: tuple[float, float]
    probability: tuple[float, float]
    marks: tuple[Mark, ...]
    pair: Pair
    r2: float
    masks: int
    warnings: tuple[str, ...]

    @property
    def found(self) -> int:
        """Number of effects that there are, shown or not."""
        return metrics.ranking(*self.pair).real.effect.size

    def value(self, subset: int, is_or: bool) -> float:
        """The effect of a subset, 0 where there is none."""
        return float(self.pair[is_or][subset])

    @property
    def fit(self) -> str:
        """What is shown, and how much of v it gives."""
        count = len(self.marks)
        if not count:
            return "v is the same whatever is masked" if math.isnan(self.r2) else "no effect is strong enough to show"
        of = "" if count == self.found else f" of {self.found}"
        noun = "effect" if self.found == 1 else "effects"
        warned = "\N{WARNING SIGN} " if self.r2 < LEAST_R2 else ""
        r2 = "R² undefined" if math.isnan(self.r2) else f"{warned}R² {r2_text(self.r2)}"
        return f"{count}{of} {noun} shown, {r2} on all {self.masks:,} masks"

    @property
    def move(self) -> str:
        """p and v, from all words masked to all there."""
        before, after = (style.number(x, 1 if abs(x) >= 10 else 2) for x in self.v)
        p = percent(self.probability[1])
        if not math.isnan(self.probability[0]):
            p = f"{percent(self.probability[0])} → {p}"
        return f"p {p}, v {before} → {after} nats".replace(" → ", "\u00a0→\u00a0")


@dataclass(frozen=True)
class Picture:
    """One prompt, and one model's effects or two models'.

    Attributes:
      text, spans: of the prompt, and of its players.
      words: of the players, distinct.
      sides: the models.
      places: of the models in their run, for their colours.
      chat: whether the text is a message inside a chat template.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    words: tuple[str, ...]
    sides: tuple[Side, ...]
    places: tuple[int, ...]
    chat: bool

    @property
    def shared(self) -> frozenset[tuple[int, bool]]:
        """Keys of the effects that are shown of both models, with one sign and of one target."""
        if len(self.sides) < 2 or self.sides[0].target != self.sides[1].target:
            return frozenset()
        one, other = ({mark.key: mark.value for mark in side.marks} for side in self.sides)
        return frozenset(key for key in one.keys() & other.keys() if one[key] * other[key] > 0)

    @property
    def title(self) -> str:
        """The claim."""
        targets = " and ".join(f"“{each}”" for each in dict.fromkeys(side.target for side in self.sides))
        ups = {side.v[1] > side.v[0] for side in self.sides if side.marks}
        if not ups:
            return f"Nothing moves {targets}"
        if len(ups) != 1:
            return f"What moves {targets}"
        return f"What makes {targets} {'likelier' if ups.pop() else 'less likely'}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the models; with its name where they are two."""
        if len(self.sides) == 1:
            return self.sides[0].warnings
        return tuple(f"{side.label}: {each}" for side in self.sides for each in side.warnings)

    @property
    def digits(self) -> int:
        """Decimals of values: 2, or 3 where the weakest would have one digit."""
        least = min((abs(mark.value) for side in self.sides for mark in side.marks), default=1.0)
        return 2 if least >= 0.02 else 3

    @property
    def strongest(self) -> float:
        """The largest |effect| shown, nats; 0 without effects."""
        return max((abs(mark.value) for side in self.sides for mark in side.marks), default=0.0)

    def signed(self, value: float) -> str:
        """A value as it is written at its effect."""
        return f"{value:+.{self.digits}f}".replace("-", "\N{MINUS SIGN}")


def picture(
    explanations: Sequence[Explained],
    labels: Sequence[str],
    *,
    top: int = TOP,
    tau: float = metrics.SALIENT,
    places: Sequence[int] = (0, 1),
) -> Picture:
    """What to show of one explanation, or of two of the same prompt and players.

    Args:
      explanations: one or two.
      labels: names of their models.
      top: effects of each at most.
      tau: effects below tau times the strongest of their model are left out.
      places: of the models in their run.

    Raises:
      ValueError: top below 1, tau outside [0, 1), or explanations of different texts or players.
    """
    if top < 1:
        raise ValueError(f"top={top} must be at least 1: the number of effects to show.")
    if not 0 <= tau < 1:
        raise ValueError(f"tau={tau:g} must be at least 0 and below 1: the share of the strongest effect to show from.")
    prompts = [each.prompt for each in explanations]
    if any((each.text, each.players) != (prompts[0].text, prompts[0].players) for each in prompts):
        raise ValueError(
            "two explanations in one picture must be of one text and the same players; got "
            f"{prompts[0]!r} and {prompts[1]!r}. Explain the second model with the first one's prompt: "
            "andor.explain(model, first.prompt)."
        )
    return Picture(
        prompts[0].text,
        prompts[0].players,
        tuple(map(visible, explanations[0].words)),
        tuple(_side(each, name, top, tau) for each, name in zip(explanations, labels, strict=True)),
        tuple(places[: len(explanations)]),
        bool(prompts[0].chat),
    )


def caption(shown: Picture, how: str) -> str:
    """What a picture shows, and its numbers; `how` says how effects are drawn."""
    parts = [f"{side.label}: {side.move}; {side.fit}" for side in shown.sides]
    both = ""
    if len(shown.sides) == 2:
        both = f" {len(shown.shared)} of them {'is' if len(shown.shared) == 1 else 'are'} in both with the same sign."
    told = "".join(f" Warning: {each}" for each in shown.warnings)
    text = " ".join(shown.text.split())
    return f"{shown.title} after “{text}”. {how} {'; '.join(parts)}.{both}{told}"


def _side(explained: Explained, label: str, top: int, tau: float) -> Side:
    pair, values = explained.pair("compact"), explained.values
    ranked = metrics.ranking(*pair).real
    strength = np.abs(ranked.effect[:top])
    count = int((strength > tau * strength.max(initial=0.0)).sum())
    marks = tuple(
        Mark(int(subset), bool(is_or), float(value))
        for subset, is_or, value in zip(ranked.subset[:count], ranked.is_or[:count], ranked.effect[:count], strict=True)
    )
    before = _probability(values.v[0]) if values.score == "product" else math.nan
    return Side(
        _short(visible(label.rstrip("/").rpartition("/")[2] or label), _LONGEST_LABEL),
        _short(spelled(explained.target), _LONGEST_TARGET),
        (float(values.v[0]), float(values.v[-1])),
        (before, values.target_probability),
        marks,
        pair,
        _r2(values.v, pair[0][0], marks),
        values.v.size,
        tuple(map(visible, explained.warnings)),
    )


def _r2(v: Float[np.ndarray, "s"], constant: float, marks: Sequence[Mark]) -> float:
    """R² of v from these effects alone."""
    alone = np.zeros((2, v.size))
    alone[0, 0] = constant
    for mark in marks:
        alone[int(mark.is_or), mark.subset] = mark.value
    return metrics.matching(v, *alone, k=max(len(marks), 1)).r2


def spelled(target: str) -> str:
    """A target in one line: without the space before it, with its line breaks, and spaces where it is nothing else."""
    lines = "↵".join(visible(target.strip(" \t")).split("\n"))
    return lines.replace("\t", "⇥") or "␣" * len(target)


def _probability(v: float) -> float:
    return float(1 / (1 + np.exp(-min(max(v, -700.0), 700.0))))


def _short(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}…{text[len(text) - (longest - longest // 2 - 1) :]}"
