"""The choices that `studies.ablations` varies, one at a time, and how a prompt changes with them."""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from andor.measures.metrics import SALIENT
from andor.prompts import Prompt
from andor.solvers import FirstOrder, Published
from experiments.lab.methods import published_solvers
from experiments.study import Settings

REWORDINGS = Path(__file__).parent / "rewordings.jsonl"
"""Another wording of every prompt of `prompts.jsonl`: the same players and target, other words between them."""

PLAYERS = 8
"""Players of every prompt unless they are what is varied: the last ones."""

FEWER_PLAYERS = 6
_WORD = re.compile(r"\w[\w']*")
_LABEL = "\nsentiment:"

Change = Callable[[Sequence[Prompt]], list[Prompt]]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One choice made otherwise.

    Attributes:
      group: which choice.
      name: how it is made.
      options: of `andor.compare`.
      change: of the prompts, given with all their players.
      tau: keep only the effects above tau times the strongest; None keeps all.
      and_only: Harsanyi dividends instead of the optimum.
      same_players: whether its effects can be compared with those of the base, subset by subset.
    """

    group: str
    name: str
    options: dict = dataclasses.field(default_factory=dict)
    change: Change = lambda prompts: last(prompts, PLAYERS)
    tau: float | None = None
    and_only: bool = False
    same_players: bool = True


BASE = Variant("base", f"mask token, noise 2%, last {PLAYERS} players, given target, float32, exact")


def variants(settings: Settings) -> list[Variant]:
    """All of them, by group."""
    found = [
        *(Variant("baseline", name, {"baseline": token}) for name, token in _baselines().items()),
        *(Variant("noise bound", f"{share:.0%}", {"noise": share}) for share in (0.0, 0.01, 0.05, 0.10)),
        Variant("noise bound", "measured", {"noise": "measured"}),
        *(Variant("salient only", f"τ = {tau:g}", tau=tau) for tau in (0.01, SALIENT, 0.1, 0.2)),
        Variant("players", f"last {FEWER_PLAYERS}", change=lambda p: last(p, FEWER_PLAYERS), same_players=False),
        Variant("players", "all, 8 to 10", change=list, same_players=False),
        Variant("players", f"first {PLAYERS}", change=lambda p: first(p, PLAYERS), same_players=False),
        Variant(
            "players",
            f"any {PLAYERS} words",
            change=lambda p: random_words(p, PLAYERS, settings.seed),
            same_players=False,
        ),
        Variant("target", "first model's own", change=lambda p: without_target(last(p, PLAYERS))),
        Variant("target", "each model's own", {"own_targets": True}, change=lambda p: without_target(last(p, PLAYERS))),
        Variant("wording", "other words between", change=lambda p: reworded(last(p, PLAYERS))),
        Variant("dtype", "bfloat16", {"dtype": "bfloat16"}),
        Variant("dtype", "bfloat16, measured noise", {"dtype": "bfloat16", "noise": "measured"}),
        Variant("solver", "AND only", and_only=True),
        *(Variant("solver", name, {"solver": solver}) for name, solver in _published(settings).items()),
        Variant("solver", "first-order", {"solver": FirstOrder()}),
    ]
    if settings.prompts.resolve() != Settings.prompts.resolve():
        found = [each for each in found if each.group != "wording"]  # other prompts have no other wording
    if not settings.smoke:
        return found
    return [next(each for each in found if each.group == group) for group in dict.fromkeys(v.group for v in found)]


def _baselines() -> dict[str, str]:
    return {"mean embedding": "mean", "zero embedding": "zero", "the word “the”": "Ġthe"}


def _published(settings: Settings) -> dict[str, Published]:
    """The published solver with each learning rate, on v scaled to ten nats and on v as it is."""
    return {
        f"published, {_rate(solver)}{'' if solver.spread else ', v unscaled'}": solver
        for scaled in published_solvers(settings)
        for solver in (scaled, dataclasses.replace(scaled, spread=None))
    }


def _rate(solver: Published) -> str:
    return f"{solver.learning_rate:.0e}".replace("e-0", "e-")


def last(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """The same prompts with their last players only."""
    return [dataclasses.replace(prompt, players=prompt.players[-count:]) for prompt in prompts]


def first(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """The same prompts with their first players only."""
    return [dataclasses.replace(prompt, players=prompt.players[:count]) for prompt in prompts]


def random_words(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """The same prompts with players drawn among all their words, those without content too."""
    rng = np.random.default_rng(seed)
    found = []
    for prompt in prompts:
        spans = [match.span() for match in _WORD.finditer(prompt.text.removesuffix(_LABEL))]
        chosen = np.sort(rng.choice(len(spans), min(count, len(spans)), replace=False))
        found.append(dataclasses.replace(prompt, players=[spans[i] for i in chosen]))
    return found


def without_target(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same prompts, explaining what a model predicts."""
    return [dataclasses.replace(prompt, target=None) for prompt in prompts]


def reworded(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same players and targets in other words."""
    texts = {record["id"]: record["text"] for record in map(json.loads, REWORDINGS.read_text().splitlines())}
    return [Prompt(texts[prompt.id], players=prompt.words, target=prompt.target, id=prompt.id) for prompt in prompts]
