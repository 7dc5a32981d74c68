"""Estimators side by side: which planted effects come back, at what cost, and how well few effects give a model's v.

What:      planted games of three families, each with noise that the estimators are not told: *rules* (10 AND and 6 OR
           of order 1 to 4, 0.5 to 1.5 nats, noise 0.05), *decaying* and *flat* (15 AND and 10 OR of normal size, noise
           0.01; `andor.core.games.sparse`). Found are the optimum with both published bounds (2 and 5% of |v(N) -
           v(∅)|), with the bound estimated from v (the default), and with the largest error there is, which nobody
           knows in practice; and the compact explanation (`andor.compact`). Strict precision and recall count salient
           effects of the same kind, players and sign; recall up to ties as in `andor.measures.recovery`. Distance:
           sum of |found - planted| over that of |planted|. Cost: time over that of one exact solve with the 2% bound.
           *Spindle share*: mixtures of a decay and a spindle with OR effects (`andor.core.games.mixture`, noise 0.2% of
           the range), error of the share of the mean profile of 30 prompts.
           *Values*: of saved values of models (`Explanation.save`, or any .npz with v) R² on all masks of the compact
           explanation with 20 effects at most, the strongest 20 Walsh (Fourier) coefficients, and the strongest 20 and
           100 of the optimum, also with the published bound of 2%; salient effects; share of orders 1 and 2 with what
           all nearly optimal explanations have of it; cost of optimum and compact explanation over that of the optimum.
Command:   python -m experiments estimator_benchmark [--smoke] [--games 20] [--values FILE.npz ...]
Hardware:  2 CPU cores; the planted games take 2 minutes, the spindle share 10 (--trials 0 leaves it out), a file of 10
           players some 10 s.
Expected:  compact: strict precision and recall 0.94 / 0.86 / 0.99 and 0.94 / 0.83 / 0.99 for rules / decaying / flat
           (--seed 1), where the optimum has 0.68 / 0.77 / 0.93 and 0.97 / 0.82 / 0.90, and at 2% 0.64 / 0.72 / 0.86 and
           0.97 / 0.78 / 0.85. Spindle share: error 0.08, of the planted effects themselves 0.07.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import andor
from andor.core import games
from andor.core.certificate import reconstruct
from andor.measures import metrics
from andor.measures.metrics import Pair
from andor.measures.profile import profile_of, strength
from andor.measures.recovery import score
from andor.measures.reported import mean_of_defined
from andor.measures.trust import trust
from andor.solvers import share_of_orders
from experiments.benchmarks.common import markdown
from experiments.studies.ground_truth import AND_ORDERS, OR_ORDERS

TOP = 20
"""Effects that explain a model's v."""

PROMPTS = 30
"""Of a profile, whose spindle share is found."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run.

    Attributes:
      players: of the planted games.
      games: of each family.
      trials: profiles of `PROMPTS` mixtures whose spindle share is found.
      mixture_players: players of these.
      seed: of all games.
      values: .npz files with v.
      smoke: seconds instead of minutes, numbers without meaning.
    """

    players: int = 8
    games: int = 20
    trials: int = 5
    mixture_players: int = 9
    seed: int = 0
    values: tuple[Path, ...] = ()
    smoke: bool = False


def rules(rng: np.random.Generator, n_players: int) -> games.Game:
    """10 AND and 6 OR rules of 0.5 to 1.5 nats, and noise of 0.05."""
    effects = games.random_rules(n_players, AND_ORDERS, OR_ORDERS, rng).effects(np.arange(n_players))
    return games.Game(*effects, reconstruct(*effects) + 0.05 * rng.normal(size=2**n_players))


FAMILIES: dict[str, Callable[[np.random.Generator, int], games.Game]] = {
    "rules": rules,
    "decaying": lambda rng, n_players: games.sparse(rng, n_players, 0.5),
    "flat": lambda rng, n_players: games.sparse(rng, n_players, 1.0),
}


def pair_of(found: andor.Solution | andor.Compact) -> Pair:
    return found.and_effects, found.or_effects


def estimators(error: np.ndarray) -> dict[str, Callable[[np.ndarray], Pair]]:
    """Name -> v to effects, for v that is off by `error`."""
    worst = float(np.abs(error - error[0]).max())
    return {
        "optimum, 2% of range": lambda v: pair_of(andor.extract(v, 0.02)),
        "optimum, 5% of range": lambda v: pair_of(andor.extract(v, 0.05)),
        "optimum, estimated error": lambda v: pair_of(andor.extract(v)),
        "optimum, true error": lambda v: pair_of(andor.extract(v, worst, noise_unit="log-odds")),
        "compact": lambda v: pair_of(andor.compact(v)),
    }


def planted(config: Config) -> list[dict]:
    """One record per family, game and estimator."""
    records = []
    for place, (family, make) in enumerate(FAMILIES.items()):
        for number in range(config.games):
            game = make(np.random.default_rng([config.seed, place, number]), config.players)
            truth = game.and_effects, game.or_effects
            reference = None
            for name, find in estimators(game.v - reconstruct(*truth)).items():
                if number == 0:
                    find(game.v)  # compile
                start = time.perf_counter()
                found = find(game.v)
                seconds = time.perf_counter() - start
                reference = reference or seconds
                distance = sum(np.abs(one - other)[1:].sum() for one, other in zip(found, truth, strict=True))
                numbers = {"distance": distance / strength(truth), "cost": seconds / reference}
                of = {"family": family, "game": number, "estimator": name}
                records.append(of | score(found, truth) | numbers)
        print(f"{family}: done", flush=True)
    return records


COLUMNS = {
    "precision_strict": "strict precision",
    "recall_strict": "strict recall",
    "recall": "recall up to ties",
    "distance": "distance",
    "cost": "cost",
}


def planted_table(records: list[dict]) -> str:
    """Markdown: a line per estimator, mean over games, families side by side."""
    rows = []
    for name in dict.fromkeys(record["estimator"] for record in records):
        mine = [record for record in records if record["estimator"] == name]
        cells = []
        for number in COLUMNS:
            means = [mean_of_defined([r[number] for r in mine if r["family"] == family]) for family in FAMILIES]
            cells.append(" / ".join(f"{mean:.1f}" if number == "cost" else f"{mean:.2f}" for mean in means))
        rows.append([name, *cells])
    return markdown([" / ".join(FAMILIES), *COLUMNS.values()], rows)


def spindles(config: Config) -> dict[str, float]:
    """Mean |error| of the spindle share by estimator; of the planted effects themselves too."""
    errors: dict[str, list[float]] = {}
    for trial in range(config.trials):
        rng = np.random.default_rng([config.seed, 3, trial])
        share, rate, ratio = rng.uniform(0, 1), rng.uniform(0.3, 1.5), np.exp(rng.uniform(-np.log(2), np.log(2)))
        found: dict[str, list[Pair]] = {}
        true = []
        for _ in range(PROMPTS if not config.smoke else 2):
            game, each = games.mixture(rng, config.mixture_players, share, rate, ratio, True, 0.002)
            true.append(each)
            found.setdefault("planted effects", []).append((game.and_effects, game.or_effects))
            for name, find in estimators(game.v - reconstruct(game.and_effects, game.or_effects)).items():
                found.setdefault(name, []).append(find(game.v))
        for name, pairs in found.items():
            share_found = profile_of(pairs).split.spindle_share
            errors.setdefault(name, []).append(share_found - float(np.mean(true)))
        print(f"spindle share: {trial + 1} of {config.trials}", flush=True)
    return {name: float(np.mean(np.abs(each))) for name, each in errors.items()}


def of_values(files: tuple[Path, ...]) -> list[dict]:
    """One record per file."""
    records = []
    for file in files:
        v = np.load(file)["v"]
        andor.extract(v)  # compile
        start = time.perf_counter()
        optimum = andor.extract(v)
        exact = time.perf_counter() - start
        few = andor.compact(v, TOP, start=optimum)
        cost = 1 + (time.perf_counter() - start - exact) / exact
        published = andor.extract(v, 0.02)
        at_least, at_most = share_of_orders(v, optimum)
        records.append(
            {
                "file": file.stem,
                "compact": few.r2,
                "Walsh": metrics.walsh_r2(v, TOP),
                "optimum": metrics.matching(v, *pair_of(optimum), TOP).r2,
                "optimum, 2%": metrics.matching(v, *pair_of(published), TOP).r2,
                "of 100": metrics.matching(v, *pair_of(optimum), 100).r2,
                "of 100, 2%": metrics.matching(v, *pair_of(published), 100).r2,
                "salient": metrics.salient_count(*pair_of(optimum)),
                "salient, 2%": metrics.salient_count(*pair_of(published)),
                "low orders": profile_of([pair_of(optimum)]).low_orders,
                "at least": at_least,
                "at most": at_most,
                "low orders, compact": profile_of([pair_of(few)]).low_orders,
                "worst error / spread": few.worst_error / float(np.std(v)),
                "excess": few.excess,
                "warnings": len(trust(v, few, 1.0, False).warnings),
                "cost": cost,
            }
        )
    return records


def values_table(records: list[dict]) -> str:
    """Markdown: a line per file, and the median."""
    names = [name for name in records[0] if name != "file"]
    median = {"file": "median", **{name: float(np.median([record[name] for record in records])) for name in names}}
    rows = ([each["file"], *(f"{each[name]:.3f}" for name in names)] for each in (*records, median))
    return markdown(["R² of 20", *names], rows)


def main(config: Config) -> dict:
    """Run, and print the tables."""
    if config.smoke:
        config = dataclasses.replace(config, players=5, games=2, trials=1, mixture_players=5)
    result = {}
    if config.games:
        result["planted"] = planted(config)
        print(planted_table(result["planted"]))
    if config.trials:
        result["spindle"] = spindles(config)
        print("mean |error| of the spindle share:")
        print("\n".join(f"  {name}: {error:.3f}" for name, error in result["spindle"].items()))
    if config.values:
        result["values"] = of_values(config.values)
        print(values_table(result["values"]))
    return result
