"""Effects in words: which words an effect is of, and what it adds to v."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from andor.core.lattice import members

DUST = 1e-3
"""Below this share of the strongest effect an effect is none.

Where there is none the exact solvers leave up to 1e-7 of the strongest, and up to 1e-3 where optima tie, since they
take the one at which a path would end. Measured on `experiments.benchmarks.solver_benchmark.planted` (6 to 10 players,
6 seeds; without noise, and with a bound of 2%) by what falls to less than a quarter at
`InteriorPoint(tolerance=2.8e-7)`, which ends the path at an eighth: per game 0 to 18 entries between 1e-4 and 1e-3, and
0 to 1 above, up to 6 where another optimum is taken.
"""

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def strongest(and_effects: np.ndarray, or_effects: np.ndarray, k: int) -> set[int]:
    """Places of the k effects of largest |I|, of all kinds and models `[..., s]` together, without dust."""
    strength = np.abs(np.concatenate([and_effects[..., 1:].ravel(), or_effects[..., 1:].ravel()]))
    order = np.argsort(-strength, kind="stable")[:k]
    return set(order[strength[order] > DUST * strength.max()].tolist())


@dataclass(frozen=True)
class Effect:
    """One AND or OR effect of an explanation.

    Attributes:
      kind: "AND" (all words are there) or "OR" (any word is there).
      words: text of its players, in text order; repeated words are told apart as by `distinct`.
      players: their numbers, from 0.
      effect: what it adds to v where it applies, in nats.
      share: |effect| / the sum of |effect| over all effects of the explanation, in [0, 1]; nan where there are none.
    """

    kind: Literal["AND", "OR"]
    words: tuple[str, ...]
    players: tuple[int, ...]
    effect: float
    share: float

    @property
    def order(self) -> int:
        """Number of players."""
        return len(self.players)

    @property
    def name(self) -> str:
        """The words, joined by ∧ or ∨."""
        return joined(self.words, self.kind == "OR")

    def __str__(self) -> str:
        return f"{self.effect:+.2f} {self.name}"


def distinct(words: Sequence[str]) -> tuple[str, ...]:
    """The words in one line each; words that occur more than once get the number of their occurrence: "kite₁"."""
    words = [" ".join(word.split()) for word in words]
    count, seen, named = Counter(words), Counter(), []
    for word in words:
        seen[word] += 1
        name = word if count[word] == 1 else f"{word}{str(seen[word]).translate(_SUBSCRIPTS)}"
        while name in named or (name != word and name in count):  # a text may hold "kite₁" itself
            name += "′"
        named.append(name)
    return tuple(named)


def joined(words: Sequence[str], is_or: bool) -> str:
    """Words joined by ∧ or ∨."""
    return (" ∨ " if is_or else " ∧ ").join(words)


def effect_name(
    words: Sequence[str], subset: int | np.integer, is_or: bool | np.bool_, longest: int | None = None
) -> str:
    """An effect in words, as `Effect.name`, cut to fit.

    Args:
      words: text of each player.
      subset: subset index.
      is_or: OR effect.
      longest: characters allowed; words in the middle become one "…" with the number of players after it.
    """
    words = distinct(words)
    chosen = [words[player] for player in members(int(subset))]
    sign = joined(("", ""), bool(is_or))
    name = sign.join(chosen)
    if longest is None or len(name) <= longest:
        return name
    for kept in range(len(chosen) - 1, 1, -1):
        head = chosen[: (kept + 1) // 2]
        name = sign.join([*head, "…", *chosen[len(chosen) - kept // 2 :]]) + f" ({len(chosen)} words)"
        if len(name) <= longest:
            return name
    # Even two of the words are too long: cut each of them.
    room = max(3, (longest - len(f" {sign} …{sign} (10 words)")) // min(2, len(chosen)))
    cut = [word if len(word) <= room else word[: room - 1] + "…" for word in (chosen[0], chosen[-1])]
    if len(chosen) == 1:
        return chosen[0][: longest - 1] + "…"
    return sign.join(cut) if len(chosen) == 2 else f"{cut[0]}{sign}…{sign}{cut[1]} ({len(chosen)} words)"
