"""Nulls and rivals: which of the claims on effects hold of models, and which of any v?

Reproduces: nothing published; it puts controls beside arXiv 2305.01939 and 2401.16318 (few effects give v) and
            2502.10162 (strength decays with the order). What is said of a model's v is said of two nulls too:
              permuted   the same v, permuted among masks of the same size; v(∅) and v(N) stay
              random     v of the same architecture with random weights as `andor.models` draws them, on the same
                         prompts and targets
            and of each: R² on all masks of the compact explanation (20 effects at most, and only those that pay), of
            the strongest 20 and 100 effects of the certified optimum, of the strongest 20 Walsh (Fourier) coefficients
            and of regression on words and pairs of words (45 or 55 of them at 9 or 10 players); salient effects of the
            optimum; share of orders 1 and 2 and spindle share of both. Noise bound: estimated from each v, the default
            of `andor.extract`. Then low orders and spindle share of the optimum over bounds from 1 to 40% of the spread
            of v.
Command:    python -m experiments nulls [--models A B] [--quick] [--smoke]
Hardware:   2 CPU cores
Minutes:    6
Published:  the top 3 to 5% of effects suffice; strength decays with the order; neither beside a null

Medians of R² and of counts over prompts, shares of the mean order profile (`andor.measures.profile`). Intervals of a
model resample prompts; those of all models together resample models, and of each the same prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import andor
from andor.core.explained import Pair
from andor.core.text import r2_text
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import REPEATS, Resampled, crossed_draws
from andor.measures.profile import Profile, profile_of
from andor.runs.explanation import MOST_SHOWN
from andor.runs.run import Run
from andor.solvers import path
from experiments.lab.controls import optimum_and_compact, permuted, random_model
from experiments.study import Row, Settings, comparison, described, prompts_of, with_interval

PROMPTS = 20
"""The first of `Settings.prompts`: those of the package."""

MANY = 100
"""Effects that are said to suffice."""

BOUNDS = (0.01, 0.05, 0.2, 0.4)
"""On the noise, in units of the spread of v. The optima are solved to the usual gap of 1e-6: at 1e-3 the share of low
orders is up to 0.1 too small where the bound is wide, since strength is left on effects that vanish later."""

RESAMPLES = {"full": 60, "quick": 30, "smoke": 2}
"""Of a spindle share, which takes 15 ms each."""

KINDS = {"model": "model", "permuted": "v permuted within mask sizes", "random": "random weights"}
"""Kinds of v -> what they are called."""

_NULLS = ("permuted", "random")

R2 = {
    "compact": f"compact, {MOST_SHOWN} effects",
    "optimum": f"optimum, top {MOST_SHOWN}",
    "optimum_many": f"optimum, top {MANY}",
    "walsh": f"Walsh, top {MOST_SHOWN}",
    "pairs": "words and pairs",
}
"""Ways of giving v by few numbers -> what they are called."""

TOGETHER = "all models"

SHOWN = 2
"""Models in the figure; all are in the result."""

_MARKERS = {"model": "o", "permuted": "s", "random": "X"}
_UNEXPLAINED = (1e-4, 1.25)
"""1 - R² that is drawn; what is beyond is an arrow at the edge."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One kind of v under all models, each on all prompts: `places` are model * prompts + prompt.

    Attributes:
      numbers: name of a number -> `[places]`: R² (`R2`), and salient effects of the optimum.
      profiles: order profiles of the "optimum" and of the "compact" explanation, each prompt in units of its strength.
    """

    numbers: dict[str, Float[np.ndarray, "places"]]
    profiles: dict[str, Profile]

    def statistics(self) -> dict[str, Callable[[np.ndarray], float]]:
        """Name -> number of some places."""
        medians = {
            name: lambda places, values=values: float(np.median(values[places]))
            for name, values in self.numbers.items()
        }
        low = {
            f"low_orders_{name}": lambda places, each=each: each.of(places).low_orders
            for name, each in self.profiles.items()
        }
        spindle = {
            f"spindle_{name}": lambda places, each=each: each.of(places).split.spindle_share
            for name, each in self.profiles.items()
        }
        return medians | low | spindle


def measure(settings: Settings) -> dict:
    """Every number of every kind of v, per model and together, with differences from the nulls; and the curves."""
    run = comparison(settings, prompts=prompts_of(settings)[:PROMPTS], noise="auto")
    values = {
        "model": [[run[model, prompt.id].values.v for prompt in run.prompts] for model in run.models],
        "random": [_random_values(run, model, settings) for model in run.models],
    }
    rng = np.random.default_rng(settings.seed)
    values["permuted"] = [[permuted(v, rng) for v in of_model] for of_model in values["model"]]
    found = {kind: _explained(run, values, kind) for kind in KINDS}
    samples = {kind: _sample(values[kind], found[kind]) for kind in KINDS}
    labels = [run.labels[model] for model in run.models]
    places = _places(labels, len(run.prompts))
    return {
        "runs": [described(run)],
        "by_prompt": {
            label: {
                kind: {
                    name: np.round(each.reshape(len(labels), -1)[at], 5) for name, each in samples[kind].numbers.items()
                }
                for kind in KINDS
            }
            for at, label in enumerate(labels)
        },
        "numbers": {label: _numbers(samples, where, settings) for label, where in places.items()},
        "orders": {
            label: {kind: _by_order(samples[kind].profiles["optimum"].of(where[0])) for kind in KINDS}
            for label, where in places.items()
        },
        "bounds": BOUNDS,
        "curves": _curves(values, places, settings),
    }


def _random_values(run: Run, model: str, settings: Settings) -> list[np.ndarray]:
    explained = [run[model, prompt.id] for prompt in run.prompts]
    found = andor.evaluate_all(
        random_model(model, settings.dtype, settings.seed),
        [each.prompt for each in explained],
        targets=[each.target for each in explained],
    )
    return [values.v for values in found]


def _explained(run: Run, values: dict, kind: str) -> list[list[tuple[Pair, Pair]]]:
    """Effects of each v at the optimum and in the compact explanation, `[models][prompts]`; a model's are the run's."""
    if kind == "model":
        return [[(run[m, p.id].pair(), run[m, p.id].pair("compact")) for p in run.prompts] for m in run.models]
    found = []
    for of_model in values[kind]:
        found.append([optimum_and_compact(v) for v in of_model])
        print(f"{KINDS[kind]}: {len(found)} of {len(values[kind])} models", flush=True)
    return found


def _sample(values: list[list[np.ndarray]], found: list[list[tuple[Pair, Pair]]]) -> Sample:
    rows = [(v, *each) for of_model in zip(values, found, strict=True) for v, each in zip(*of_model, strict=True)]
    numbers = {
        "compact": [metrics.matching(v, *few, MOST_SHOWN).r2 for v, _, few in rows],
        "optimum": [metrics.matching(v, *pair, MOST_SHOWN).r2 for v, pair, _ in rows],
        "optimum_many": [metrics.matching(v, *pair, MANY).r2 for v, pair, _ in rows],
        "walsh": [metrics.walsh_r2(v, MOST_SHOWN) for v, _, _ in rows],
        "pairs": [metrics.low_order_r2(v) for v, _, _ in rows],
        "salient": [metrics.salient_count(*pair) for _, pair, _ in rows],
    }
    return Sample(
        {name: np.array(each, float) for name, each in numbers.items()},
        {"optimum": profile_of([pair for _, pair, _ in rows]), "compact": profile_of([few for _, _, few in rows])},
    )


def _places(labels: Sequence[str], prompts: int) -> dict[str, tuple]:
    """Label of a model, or all of them -> its places, and a function that resamples them so often, by a seed."""
    found = {
        label: (
            np.arange(prompts) + at * prompts,
            lambda repeats, seed, at=at: crossed_draws(1, prompts, repeats, seed) + at * prompts,
        )
        for at, label in enumerate(labels)
    }
    models = len(labels)
    everything = np.arange(models * prompts), lambda repeats, seed: crossed_draws(models, prompts, repeats, seed)
    return found | {TOGETHER: everything}


def _resampled(statistic: Callable[[np.ndarray], float], where: tuple, seed: int, repeats: int) -> Resampled:
    places, draw_ = where
    return Resampled(statistic(places), np.array([statistic(each) for each in draw_(repeats, seed)]))


def _numbers(samples: dict[str, Sample], where: tuple, settings: Settings) -> dict:
    """Kind of v -> number -> (estimate, low, high); of a null also the model's less the null's on the same prompts."""
    resampled = {
        kind: {
            name: _resampled(each, where, settings.seed, RESAMPLES[settings.scale] if "spindle" in name else REPEATS)
            for name, each in sample.statistics().items()
        }
        for kind, sample in samples.items()
    }
    found = {kind: {name: each.interval() for name, each in of_kind.items()} for kind, of_kind in resampled.items()}
    differences = {
        f"less_{null}": {name: (each - resampled[null][name]).interval() for name, each in resampled["model"].items()}
        for null in _NULLS
    }
    return found | differences


def _by_order(of: Profile) -> dict:
    """Share of the strength of every order, both signs together, and the strongest order."""
    mean = (of.mean.positive + of.mean.negative) / of.total
    return {"share": np.round(mean, 4), "strongest": int(1 + np.argmax(mean))}


def _curves(values: dict, places: dict[str, tuple], settings: Settings) -> dict:
    """Label -> kind -> share of low orders and spindle share of the optimum at every bound, with intervals."""
    repeats = RESAMPLES[settings.scale]
    found: dict = {label: {} for label in places}
    for kind in KINDS:
        solved = [path(v, BOUNDS) for of_model in values[kind] for v in of_model]
        print(f"curves, {KINDS[kind]}: done", flush=True)
        pairs = zip(*([(each.and_effects, each.or_effects) for each in of] for of in solved), strict=True)
        at_bound = [profile_of(each) for each in pairs]
        for label, where in places.items():
            statistics = {
                "low_orders": (lambda profile: lambda chosen: profile.of(chosen).low_orders, REPEATS),
                "spindle": (lambda profile: lambda chosen: profile.of(chosen).split.spindle_share, repeats),
            }
            found[label][kind] = {
                name: [_resampled(of(each), where, settings.seed, times).interval() for each in at_bound]
                for name, (of, times) in statistics.items()
            }
    return found


def draw(result: dict) -> Figure:
    """Left, R² of the ways of giving v; middle and right, low orders and spindle share over the noise bound."""
    models = [label for label in result["numbers"] if label != TOGETHER][:SHOWN]
    figure = style.new_figure(style.TWO_COLUMNS, 3.3)
    few = {kind: result["numbers"][TOGETHER][kind]["compact"][0] for kind in KINDS}
    style.title(
        figure,
        f"{MOST_SHOWN} effects give v of random weights nearly as well as of models: R² {r2_text(few['random'])} and "
        f"{r2_text(few['model'])}",
    )
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.35, 1, 1])
    _draw_r2(left, result["numbers"], models)
    for ax, name, title in ((middle, "low_orders", "Share of orders 1 and 2"), (right, "spindle", "Spindle share")):
        for place, label in enumerate(models):
            for kind in KINDS:
                panels.band(
                    ax,
                    result["bounds"],
                    result["curves"][label][kind][name],
                    ms=3.5,
                    lw=1.2,
                    clip_on=False,
                    **_look(kind, place),
                )
        ax.set_xscale("log")
        ax.set_xticks(result["bounds"], [f"{bound:g}" for bound in result["bounds"]])
        ax.minorticks_off()
        ax.set_ylim(0, 1.02)
        ax.grid(axis="y")
        ax.set_title(title)
        ax.set_xlabel("noise bound / spread of v")
    colours = [Line2D([], [], color=style.model_colour(at), lw=4, label=label) for at, label in enumerate(models)]
    marks = [Line2D([], [], **_look(kind, None), ms=4, lw=1.2, label=KINDS[kind]) for kind in KINDS]
    figure.legend(handles=[*colours, *marks], loc="outside lower center", ncols=len(colours) + len(marks))
    return figure


def _look(kind: str, place: int | None) -> dict:
    """Marker and dashes of a kind of v, colour of a model."""
    colour = style.MUTED if place is None else style.model_colour(place)
    line = {"model": "-", "permuted": (0, (3, 1.5)), "random": ":"}[kind]
    return {"color": colour, "marker": _MARKERS[kind], "ls": line, "mfc": "white" if kind == "permuted" else colour}


def _draw_r2(ax, numbers: dict, models: Sequence[str]) -> None:
    step = 0.8 / (len(KINDS) * len(models))
    for row, name in enumerate(R2):
        for at, kind in enumerate(KINDS):
            for place, label in enumerate(models):
                middle, low, high = np.clip(1 - np.array(numbers[label][kind][name], float), *_UNEXPLAINED)
                y = row - 0.4 + step * (at * len(models) + place + 0.5)
                ax.plot([low, high], [y, y], color=style.model_colour(place), lw=0.9)
                edge = {"marker": "<>"[_UNEXPLAINED.index(middle)]} if middle in _UNEXPLAINED else {}
                ax.plot(middle, y, ms=4, clip_on=False, **_look(kind, place) | {"ls": "none"} | edge)
        if row:
            ax.axhline(row - 0.5, color=style.GRID, lw=0.6)
    panels.row_axes(ax, list(R2.values()))
    ax.set_xscale("log")
    ax.set_xlim(*_UNEXPLAINED)
    ax.xaxis.set_major_formatter(panels.share)
    ax.set_title("Few numbers for v")
    ax.set_xlabel("1 − R² on all masks, median over prompts")


def rows(result: dict) -> list[Row]:
    """Every number of all models together beside both nulls."""
    claims = {name: (f"R² of v: {what}", "few effects give v (2305.01939)") for name, what in R2.items()}
    claims["salient"] = ("salient effects of the optimum", "about 100 (2305.01939)")
    for method, which in (("optimum", "the optimum"), ("compact", "the compact explanation")):
        decay = "a decay (2502.10162)"
        claims[f"low_orders_{method}"] = (f"share of orders 1 and 2, {which}", decay)
        claims[f"spindle_{method}"] = (f"spindle share, {which}", decay)
    found, numbers = [], result["numbers"][TOGETHER]
    for name, (claim, published) in claims.items():
        form = ".0f" if name == "salient" else ".3f" if name in R2 else ".2f"
        ours, less, *nulls = (with_interval(numbers[kind][name], form) for kind in ("model", "less_random", *_NULLS))
        found.append(
            Row(claim, published, f"{ours}; random weights {nulls[1]}, difference {less}; permuted v {nulls[0]}")
        )
    bounds = " / ".join(f"{bound:g}" for bound in result["bounds"])
    for name, claim in (("low_orders", "share of orders 1 and 2"), ("spindle", "spindle share")):
        curves = (result["curves"][TOGETHER][kind][name] for kind in KINDS)
        ours, *nulls = (" / ".join(f"{each[0]:.2f}" for each in of_kind) for of_kind in curves)
        ours_and_nulls = f"{ours}; random weights {nulls[1]}; permuted v {nulls[0]}"
        found.append(Row(f"{claim} of the optimum at bounds of {bounds} of the spread", "none", ours_and_nulls))
    return found
