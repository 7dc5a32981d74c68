"""Ground truth: precision and recall of known AND/OR rules, in an exact function and in a model trained on them.

Reproduces:  the question behind every figure of the papers: are the effects that are found those that are there? Two
             tests. *Exact function*: v is the sum of 10 AND and 6 OR rules about random players (order 1 to 4,
             strengths of random sign, 0.5 to 1.5 nats) plus normal noise. *Model*: a small Llama trained on a language
             whose label follows such rules (`lab.logical_language`), explained at several stages of training;
             beside it, the exact function of the same sentences with normal noise as large as the model's error.
Command:     python -m experiments ground_truth            (takes no prompts or corpus)
             It trains its own models, so --models is refused.
Hardware:    1 CPU core
Minutes:     12
Published:   no number known to us for noisy functions or trained models.

Recovered are the salient effects, above 5% of the largest. A recovered effect is a hit when a rule is of the same kind
(AND or OR), about the same players and of the same sign. Precision: hits / recovered. Recall: hits / rules.

Ties. {i} + {j} and AND{ij} + OR{ij} are the same function at the same cost. So whenever some of the four are rules,
there are usually other ways to write v that are just as strong, and an optimum is one of them or a mixture. The main
numbers count *up to ties*: rules and recovered effects are both first brought to one of these ways, by the same moves
along that identity (`studies.rule_recovery.canonical`). The `strict` numbers count without that.

Intervals (95%) of the exact functions are over games. The sentences of a language share one model and its errors, so
those of the trained models are over languages: of each language's mean over its sentences.

Solvers. Optimum at the true bound: the largest |noise - noise[∅]| of the game, which nobody knows in practice. Optimum
at the published rule: 2% of |v(N) - v(∅)|. AND only: Harsanyi dividends. Published: SGD at its published settings
(50,000 steps; the better of two learning rates, `lab.methods`), with the 2% rule.
"""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

import andor
from andor.core import lattice
from andor.measures import metrics
from andor.measures.bootstrap import interval
from andor.measures.reported import mean_of_defined
from andor.solvers import InteriorPoint
from experiments.lab.logical_language import Language, Recipe, random_rules, train
from experiments.lab.methods import published_solvers
from experiments.studies.ground_truth_figure import SOLVERS, cell_of
from experiments.studies.ground_truth_figure import draw as draw
from experiments.studies.rule_recovery import NUMBERS, optima, recovered, score
from experiments.study import Row, Settings, with_interval

AND_ORDERS = (1, 1, 1, 2, 2, 2, 3, 3, 3, 4)
OR_ORDERS = (2, 2, 3, 3, 4, 4)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes:
      n_players: numbers of players, at the noise `shown_noise`.
      noise: standard deviations, in nats (the mean strength of a rule is 1 nat), with `shown_players` players.
      games: exact functions for each cell.
      languages, sentences: number of languages, each with a model of its own, and of sentences explained in each.
      steps: training steps at which the models are explained.
      sentence_words: players of a sentence.
    """

    n_players: tuple[int, ...] = (6, 8, 10)
    noise: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1)
    shown_players: int = 8
    shown_noise: float = 0.05
    games: int = 30
    languages: int = 8
    sentences: int = 5
    steps: tuple[int, ...] = (125, 250, 500, 1000)
    sentence_words: int = 8


OWN_MODELS = True

PLANS = {
    "full": Plan(),
    "quick": Plan(n_players=(6, 8), noise=(0.0, 0.02, 0.1), shown_players=8, shown_noise=0.1, games=25, languages=4,
                  sentences=4, steps=(125, 500, 1000)),
    "smoke": Plan(n_players=(5,), noise=(0.05,), shown_players=5, games=3, languages=2, sentences=2, steps=(2, 4),
                  sentence_words=5),
}  # fmt: skip


def measure(settings: Settings) -> dict:
    """Precision and recall of every cell of the plan, each with its interval over games or languages."""
    plan = PLANS[settings.scale]
    return {
        "plan": dataclasses.asdict(plan),
        "solver": {"optimum": repr(InteriorPoint()), "published": list(map(repr, published_solvers(settings)))},
        "tau": metrics.SALIENT,
        "exact": [
            cell
            for n_players in plan.n_players
            for place in range(len(plan.noise))
            if n_players == plan.shown_players or plan.noise[place] == plan.shown_noise
            for cell in exact_cells(plan, n_players, place, settings)
        ],
        "identifiable": _identifiable(plan, settings.seed),
        **_model(plan, settings),
    }


def _cells(
    pairs: dict[str, list[metrics.Pair]], planted: list[metrics.Pair], language: np.ndarray | None = None
) -> list[tuple[str, dict]]:
    """(solver, numbers with intervals over games, or over languages where each game's `language` is given)."""
    cells = []
    for name, found in pairs.items():
        scores = [score(*each) for each in zip(found, planted, strict=True)]
        numbers = {key: np.array([each[key] for each in scores]) for key in NUMBERS}
        over = interval if language is None else functools.partial(over_languages, language=language)
        cells.append((name, {key: over(each) for key, each in numbers.items()}))
    return cells


def over_languages(
    values: Float[np.ndarray, "sentences"], language: Int[np.ndarray, "sentences"]
) -> tuple[float, float, float]:
    """Mean of the languages' means, with its interval over languages; sentences that are nan are left out."""
    return interval([mean_of_defined(values[language == each]) for each in np.unique(language)])


# ------------------------------------------------------------------------------------------------- exact functions


def _games(plan: Plan, n_players: int, seed: int) -> list[metrics.Pair]:
    rng = np.random.default_rng([seed, n_players])
    players = np.arange(n_players)
    return [random_rules(n_players, AND_ORDERS, OR_ORDERS, rng).effects(players) for _ in range(plan.games)]


def _values(planted: list[metrics.Pair]) -> np.ndarray:
    return np.stack([lattice.zeta(and_effects) + lattice.or_sums(or_effects) for and_effects, or_effects in planted])


def exact_cells(plan: Plan, n_players: int, place: int, settings: Settings) -> list[dict]:
    """Numbers of every solver at one noise of the plan, given by place."""
    noise, planted = plan.noise[place], _games(plan, n_players, settings.seed)
    truth = _values(planted)
    error = noise * np.random.default_rng([settings.seed, n_players, place]).normal(size=truth.shape)
    print(f"ground_truth: {n_players} players, noise {noise:g}", flush=True)
    cells = _cells(recovered(truth + error, error, published_solvers(settings)), planted)
    return [{"n_players": n_players, "noise": noise, "solver": name, **numbers} for name, numbers in cells]


def _identifiable(plan: Plan, seed: int) -> list[dict]:
    """How often the planted rules are themselves of least strength: what no least-strength method can exceed."""
    records = []
    for n_players in plan.n_players:
        planted = _games(plan, n_players, seed)
        solution = andor.extract(_values(planted), 0.0, InteriorPoint())
        strength = np.array([np.abs(a[1:]).sum() + np.abs(b).sum() for a, b in planted])
        records.append(
            {
                "n_players": n_players,
                "share": float(np.mean(strength <= (1 + 1e-5) * solution.primal)),
                "strength_over_least": float(np.mean(strength / solution.primal)),
            }
        )
    return records


# ------------------------------------------------------------------------------------------------- trained models


def explained(plan: Plan, number: int, settings: Settings) -> dict:
    """A model trained on one language: its `parameters`, `fingerprint`, `dtype`, and v `[sentences, s]` by step.

    In JSON's types; read from disk if it was trained before. Effects and scores are computed afresh from v.
    """
    language, sentences = _language(plan, number, settings.seed)
    recipe = Recipe(steps=plan.steps[-1])
    decides = repr(("model", language, recipe, plan.steps, plan.sentences, settings.seed))
    file: Path = settings.work / "ground_truth" / f"{hashlib.sha256(decides.encode()).hexdigest()[:16]}.json"
    if not file.exists():
        print(f"ground_truth: language {number + 1} of {plan.languages}", flush=True)
        prompts, v = [language.prompt(sentence) for sentence in sentences], {}
        for step, model in train(language, recipe, plan.steps):
            v[step] = [values.v.tolist() for values in andor.evaluate_all(model, prompts)]
        about = {"parameters": model.parameters, "fingerprint": model.fingerprint, "dtype": str(model.dtype)}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**about, "v": v}))
    return json.loads(file.read_text())


def _language(plan: Plan, number: int, seed: int) -> tuple[Language, np.ndarray]:
    """A language and the sentences to explain."""
    language = Language(seed=1000 * seed + number, sentence_words=plan.sentence_words)
    return language, language.sentences(plan.sentences, np.random.default_rng([seed, number, 4]))


def _model(plan: Plan, settings: Settings) -> dict:
    """`model`: cells per training step, with intervals over languages. `languages`: each model at the end, 2% rule."""
    stages: dict[int, list] = {step: [] for step in plan.steps}
    languages = []
    for number in range(plan.languages):
        language, sentences = _language(plan, number, settings.seed)
        model, rng = explained(plan, number, settings), np.random.default_rng([settings.seed, number, 5])
        planted = [language.rules.effects(sentence) for sentence in sentences]
        truth = _values(planted)
        for step in plan.steps:
            v = np.array(model["v"][str(step)])
            noise = rng.normal(size=v.shape) * np.sqrt(np.mean((v - truth) ** 2, axis=1, keepdims=True))
            stages[step].append((v, truth, noise, planted))
        error = np.sqrt(np.mean((v - truth) ** 2, axis=1))
        own = [score(*each) for each in zip(optima(v, v - truth)["rule"], planted, strict=True)]
        languages.append(
            {
                **{key: model[key] for key in ("parameters", "fingerprint", "dtype")},
                "rms_error": float(error.mean()),
                "precision": mean_of_defined(each["precision"] for each in own),
                "recall": mean_of_defined(each["recall"] for each in own),
            }
        )
    records = []
    for step, parts in stages.items():
        v, truth, noise = (np.concatenate([part[i] for part in parts]) for i in range(3))
        planted = [pair for part in parts for pair in part[3]]
        language = np.repeat(np.arange(plan.languages), plan.sentences)
        over = functools.partial(over_languages, language=language)
        error = v - truth
        rms = np.sqrt(np.mean(error**2, axis=1))
        share = 1 - np.sum(error**2, axis=1) / np.sum((truth - truth.mean(axis=1, keepdims=True)) ** 2, axis=1)
        about = {
            "step": step,
            "rms_error": over(rms),
            "max_error": over(np.abs(error).max(axis=1)),
            "r2": over(share),
        }
        found = {"model": recovered(v, error, published_solvers(settings)), "noise": optima(truth + noise, noise)}
        for source, pairs in found.items():
            for name, numbers in _cells(pairs, planted, language):
                records.append({**about, "source": source, "solver": name, **numbers})
    return {"model": records, "languages": languages}


def rows(result: dict) -> list[Row]:
    """Recall and precision of the exact function by solver, and of the models at the end of their training."""
    plan, last = result["plan"], result["plan"]["steps"][-1]
    by_solver = "; ".join(
        f"{label}: {with_interval(cell['recall'])}, {with_interval(cell['precision'])}"
        for name, (label, *_) in SOLVERS.items()
        for cell in [cell_of(result, plan, name)]
    )
    end = {each["solver"]: each for each in result["model"] if each["step"] == last and each["source"] == "model"}
    of_model = "; ".join(
        f"{label}: {with_interval(end[name]['recall'])}, {with_interval(end[name]['precision'])}"
        for name, (label, *_) in SOLVERS.items()
    )
    return [
        Row(
            f"recall, precision of known rules: exact function, {plan['shown_players']} players, "
            f"noise {plan['shown_noise']:g} nats ({plan['games']} games)",
            "none",
            by_solver,
        ),
        Row(
            f"recall, precision of known rules: {plan['languages']} trained models, v off "
            f"by {with_interval(end['rule']['rms_error'])} nats ({plan['sentences']} sentences each; over models)",
            "none",
            of_model,
        ),
    ]
