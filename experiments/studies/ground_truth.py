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
along that identity (`andor.measures.recovery`). The `strict` numbers count without that.

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

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

import andor
from andor.core.certificate import reconstruct
from andor.core.games import random_rules
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import interval
from andor.measures.metrics import Pair
from andor.measures.profile import strength
from andor.measures.recovery import NUMBERS, score
from andor.measures.reported import mean_of_defined
from andor.solvers import InteriorPoint, Published
from experiments.lab.logical_language import Language, Recipe, train
from experiments.lab.methods import by_method, published_solvers, unbatched
from experiments.study import PUBLISHED_NOISE, Row, Settings, with_interval

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

_FEWER = {"n_players": (6, 8), "noise": (0.0, 0.02, 0.1), "steps": (125, 500, 1000)}
_TINY = {"n_players": (5,), "noise": (0.05,), "shown_players": 5, "steps": (2, 4), "sentence_words": 5}
PLANS = {
    "full": Plan(),
    "quick": Plan(shown_players=8, shown_noise=0.1, games=25, languages=4, sentences=4, **_FEWER),
    "smoke": Plan(games=3, languages=2, sentences=2, **_TINY),
}

SOLVERS = {
    "true bound": ("certified optimum, true bound", style.CERTIFIED, "o", "-."),
    "rule": ("certified optimum, 2% rule", style.CERTIFIED, "s", "-"),
    "published": ("published solver, 2% rule", style.MUTED, "^", ":"),
    "and only": ("AND only (Harsanyi)", style.AND_ONLY, "x", "--"),
}
"""Name in the result -> label, colour, marker, line."""


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
    pairs: dict[str, list[Pair]], planted: list[Pair], language: np.ndarray | None = None
) -> list[tuple[str, dict]]:
    """(solver, numbers with intervals over games, or over languages where each game's `language` is given)."""
    over = interval if language is None else functools.partial(over_languages, language=language)
    cells = []
    for name, found in pairs.items():
        scores = [score(*each) for each in zip(found, planted, strict=True)]
        cells.append((name, {key: over(np.array([each[key] for each in scores])) for key in NUMBERS}))
    return cells


def over_languages(
    values: Float[np.ndarray, "sentences"], language: Int[np.ndarray, "sentences"]
) -> tuple[float, float, float]:
    """Mean of the languages' means, with its interval over languages; sentences that are nan are left out."""
    return interval([mean_of_defined(values[language == each]) for each in np.unique(language)])


def optima(v: Float[np.ndarray, "games s"], error: Float[np.ndarray, "games s"]) -> dict[str, list[Pair]]:
    """The certified optimum at two noise bounds, "true bound" and "rule": effects of every game.

    Args:
      v: values to explain.
      error: how far they are from the truth, in the same unit; the true bound is the largest |error - error[∅]|.
    """
    bound = np.abs(error - error[:, :1]).max(axis=1)
    true_bound = andor.extract(v, bound, InteriorPoint(), noise_unit="log-odds")
    rule = andor.extract(v, PUBLISHED_NOISE, InteriorPoint())
    return {"true bound": unbatched(true_bound), "rule": unbatched(rule)}


def recovered(v, error, published: tuple[Published, ...]) -> dict[str, list[Pair]]:
    """`optima`, and "published" and "and only": the effects of every game by every one of `SOLVERS`."""
    found = by_method(v, published)
    return optima(v, error) | {"published": found["published"], "and only": found["and_only"]}


# ------------------------------------------------------------------------------------------------- exact functions


def _games(plan: Plan, n_players: int, seed: int) -> list[Pair]:
    rng, players = np.random.default_rng([seed, n_players]), np.arange(n_players)
    return [random_rules(n_players, AND_ORDERS, OR_ORDERS, rng).effects(players) for _ in range(plan.games)]


def _values(planted: list[Pair]) -> np.ndarray:
    return np.stack([reconstruct(*pair) for pair in planted])


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
        ratio = np.array([strength(pair) for pair in planted]) / solution.primal
        share, mean = float(np.mean(ratio <= 1 + 1e-5)), float(np.mean(ratio))
        records.append({"n_players": n_players, "share": share, "strength_over_least": mean})
    return records


# ------------------------------------------------------------------------------------------------- trained models


def explained(plan: Plan, number: int, settings: Settings) -> dict:
    """A model trained on one language: its `parameters`, `fingerprint`, `dtype`, and v `[sentences, s]` by step.

    In JSON's types; read from disk if it was trained before. Effects and scores are computed afresh from v.
    """
    language, sentences = _language(plan, number, settings.seed)
    recipe = Recipe(steps=plan.steps[-1])
    decides = repr(("model", language, recipe, plan.steps, plan.sentences, settings.seed))
    file = settings.work / "ground_truth" / f"{hashlib.sha256(decides.encode()).hexdigest()[:16]}.json"
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
        means = {key: mean_of_defined(each[key] for each in own) for key in ("precision", "recall")}
        about = {key: model[key] for key in ("parameters", "fingerprint", "dtype")}
        languages.append(about | {"rms_error": float(error.mean())} | means)
    records = []
    for step, parts in stages.items():
        v, truth, noise = (np.concatenate([part[i] for part in parts]) for i in range(3))
        planted = [pair for part in parts for pair in part[3]]
        language = np.repeat(np.arange(plan.languages), plan.sentences)
        over = functools.partial(over_languages, language=language)
        error = v - truth
        share = 1 - np.sum(error**2, axis=1) / np.sum((truth - truth.mean(axis=1, keepdims=True)) ** 2, axis=1)
        largest, rms = np.abs(error).max(axis=1), np.sqrt(np.mean(error**2, axis=1))
        about = {"step": step, "rms_error": over(rms), "max_error": over(largest), "r2": over(share)}
        found = {"model": recovered(v, error, published_solvers(settings)), "noise": optima(truth + noise, noise)}
        for source, pairs in found.items():
            for name, numbers in _cells(pairs, planted, language):
                records.append({**about, "source": source, "solver": name, **numbers})
    return {"model": records, "languages": languages}


# ------------------------------------------------------------------------------------------------- drawing


def draw(result: dict) -> Figure:
    """Recall above, precision below; against noise, against players, and along the training of models."""
    plan, last = result["plan"], result["model"][-1]["step"]
    figure = style.new_figure(style.TWO_COLUMNS, 4.3)
    shares = {name: f"{cell_of(result, plan, name)['precision'][0]:.0%}" for name in SOLVERS}
    style.title(
        figure,
        f"Precision is {shares['rule']} at the optimum, {shares['published']} by the published solver "
        f"({plan['shown_players']} players, noise {plan['shown_noise']:g})",
    )
    axes = figure.subplots(2, 3, sharey=True, sharex="col", width_ratios=[1.15, 0.8, 1.15])
    for number, row in zip(("recall", "precision"), axes, strict=True):
        for name, (label, colour, marker, line) in SOLVERS.items():
            look = {"color": colour, "marker": marker, "ls": line, "ms": 4, "lw": 1.2, "label": label}
            exact = [each for each in result["exact"] if each["solver"] == name]
            cut = [each for each in exact if each["n_players"] == plan["shown_players"]]
            panels.band(row[0], range(len(cut)), [each[number] for each in cut], **look)
            cut = [each for each in exact if each["noise"] == plan["shown_noise"]]
            panels.band(row[1], [each["n_players"] for each in cut], [each[number] for each in cut], **look)
            for source in ("model", "noise"):
                cut = [each for each in result["model"] if (each["solver"], each["source"]) == (name, source)]
                x, numbers = [each["rms_error"][0] for each in cut], [each[number] for each in cut]
                if source == "model":
                    panels.band(row[2], x, numbers, **look)
                elif cut:
                    thin = {"lw": 0.6, "ms": 0, "label": None}
                    row[2].plot(x, np.array(numbers, float)[:, 0], **look | thin)
        row[0].set_ylabel(number)
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 0].set_title(f"Exact function, {plan['shown_players']} players")
    axes[0, 1].set_title(f"Exact, noise {plan['shown_noise']:g}")
    axes[0, 2].set_title(f"Model, {last} steps from right to left")
    axes[1, 0].set_xticks(range(len(plan["noise"])), [f"{noise:g}" for noise in plan["noise"]])
    axes[1, 0].set_xlabel("noise of v (nats)")
    axes[1, 1].set_xticks(plan["n_players"])
    axes[1, 1].set_xlabel("players")
    stages = [each for each in result["model"] if each["solver"] == "rule" and each["source"] == "model"]
    errors = [each["rms_error"][0] for each in stages]
    axes[1, 2].set_xscale("log")
    axes[1, 2].xaxis.set_major_locator(FixedLocator(errors))
    axes[1, 2].xaxis.set_minor_locator(NullLocator())
    axes[1, 2].set_xticklabels([f"{error:.2g}" for error in errors])
    axes[1, 2].set_xlabel("error of the model's v (nats, rms)\nthin lines: exact function with noise as large")
    for ax in axes.ravel():
        ax.grid(axis="y")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def cell_of(result: dict, plan: dict, solver: str) -> dict:
    """Numbers of a solver for exact functions, at the players and the noise that are shown."""
    return next(
        each
        for each in result["exact"]
        if (each["n_players"], each["noise"], each["solver"]) == (plan["shown_players"], plan["shown_noise"], solver)
    )


def rows(result: dict) -> list[Row]:
    """Recall and precision of the exact function by solver, and of the models at the end of their training."""
    plan, last = result["plan"], result["plan"]["steps"][-1]
    end = {each["solver"]: each for each in result["model"] if each["step"] == last and each["source"] == "model"}

    def told(cells: dict[str, dict]) -> str:
        return "; ".join(
            f"{label}: {with_interval(cells[name]['recall'])}, {with_interval(cells[name]['precision'])}"
            for name, (label, *_) in SOLVERS.items()
        )

    exact = (
        f"recall, precision of known rules: exact function, {plan['shown_players']} players, "
        f"noise {plan['shown_noise']:g} nats ({plan['games']} games)"
    )
    models = (
        f"recall, precision of known rules: {plan['languages']} trained models, v off "
        f"by {with_interval(end['rule']['rms_error'])} nats ({plan['sentences']} sentences each; over models)"
    )
    of_exact = told({name: cell_of(result, plan, name) for name in SOLVERS})
    return [Row(exact, "none", of_exact), Row(models, "none", told(end))]
