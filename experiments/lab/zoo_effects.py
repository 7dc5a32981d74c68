"""Effects of every model of the zoo on SST-2 dev sentences, for the studies of the zoo.

The prompts are sentences of the dev file, which no model was trained on, with 8 to 10 players (every word but the stop
words) and at most 22 words; the target is always " positive". In order profiles an effect counts as positive when it
points where the whole prompt points, to the sign of v(N) - v(∅): so that praise and blame are not mixed.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from andor.measures.metrics import Pair
from andor.prompts import Prompt
from andor.runs.run import Run
from experiments.lab import methods, zoo
from experiments.lab.corpus import LABELS, TEMPLATE, read_sst2, require
from experiments.study import Settings, described

LONGEST = 22  # words
PROMPTS = {8: 20, 9: 16, 10: 8}  # number of players -> prompts; with every player a solution takes three times as long
QUICK_PROMPTS = {8: 8, 9: 4}


@dataclass(frozen=True, eq=False)
class ModelEffects:
    """A model with its effects.

    Attributes:
      effects: by every method, in runs that have the model.
      name: the model's in these runs.
    """

    effects: methods.Effects
    name: str

    @property
    def run(self) -> Run:
        """Values, and effects at the certified optimum."""
        return self.effects.run

    def pair(self, method: str, prompt_id: str) -> Pair:
        """(AND, OR) effects on a prompt by one of `methods.LABELS`."""
        return self.effects.pair(method, self.name, prompt_id)

    def direction(self, prompt_id: str) -> float:
        """Sign of v(N) - v(∅): 1 where the sentence makes " positive" likelier, else -1."""
        v = self.run[self.name, prompt_id].values.v
        return 1.0 if v[-1] >= v[0] else -1.0


@dataclass(frozen=True, eq=False)
class ZooRun(ModelEffects):
    """A model of the zoo with its effects, in runs of one model.

    Attributes:
      scored: the model, its losses.
      positive: `[prompts]`, whether the sentence is a positive one, in the order of `run.prompts`.
    """

    scored: zoo.Scored
    positive: np.ndarray


def dev_prompts(settings: Settings) -> list[tuple[Prompt, int]]:
    """Prompts with their label, spread over the dev file."""
    by_players = defaultdict(list)
    for place, (text, label) in enumerate(read_sst2(require(settings.corpus) / "sst2" / "dev.tsv")):
        prompt = Prompt(text + TEMPLATE, target=LABELS[1], id=f"dev-{place:03d}")
        if len(text.split()) <= LONGEST:
            by_players[prompt.n_players].append((prompt, label))
    if settings.smoke:
        return [each for found in by_players.values() for each in found][:3]
    return [
        by_players[n_players][round(place)]
        for n_players, count in (QUICK_PROMPTS if settings.quick else PROMPTS).items()
        for place in np.linspace(0, len(by_players[n_players]) - 1, count)
    ]


def zoo_config(settings: Settings, only: tuple[str, ...] = ()) -> zoo.Config:
    """The zoo of these settings, or the members whose names begin so."""
    given = {name: getattr(settings, name) for name in ("work", "quick", "smoke", "seed")}
    return zoo.Config(corpus=require(settings.corpus), only=only, **given)


def zoo_runs(settings: Settings) -> list[ZooRun]:
    """The whole zoo with its effects. What is missing of either is made; what is there is read."""
    prompts = dev_prompts(settings)
    explained, labels = [prompt for prompt, _ in prompts], {prompt.id: label for prompt, label in prompts}
    found = []
    for scored in zoo.main(zoo_config(settings)):
        # In runs of its own: the zoo can grow without being evaluated again.
        effects = methods.effects(settings, methods.FEW_STEPS, models=[str(scored.folder)], prompts=explained)
        positive = np.array([labels[prompt.id] == 1 for prompt in effects.run.prompts])
        found.append(ZooRun(effects, effects.run.models[0], scored, positive))
    return found


def zoo_described(runs: list[ZooRun]) -> dict:
    """What decides the runs, for the result of a study; models by name with their losses."""
    common, *published = map(described, runs[0].effects.runs)
    return {
        "zoo": [
            {
                "model": each.scored.member.name,
                "kind": each.scored.member.kind,
                "fingerprint": each.run.recipe.models[0].fingerprint[:16],
                **{part: each.scored.scores[part]["cross_entropy"] for part in ("train", "dev", "validation")},
                "dev_accuracy": each.scored.scores["dev"]["accuracy"],
            }
            for each in runs
        ],
        "dtype": common["models"][0]["dtype"],
        **{key: common[key] for key in ("prompts", "noise", "solver")},
        "published": [each["solver"] for each in published],
    }
