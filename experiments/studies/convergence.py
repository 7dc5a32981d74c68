"""Convergent representations: how many of their effects do two models share, and compared with what?

Reproduces: arXiv 2401.16318, figures 3 and 5 (transfer of effects between two models, extracted apart and jointly) and
            the claim of 2606.08129 that shared effects are of lower order and cancel less than distinctive ones. Beside
            it, what the number means: the same model measured again, two models of different training seeds, and one
            model's effects shuffled among subsets of equal order (extracted jointly: v of one with its players
            permuted). Shared effects are of low order by chance too, as there are few subsets of order 1: so shared and
            distinctive effects are compared with what shuffling gives.
Command:    python -m experiments convergence [--corpus DATA] [--models A B] [--quick] [--smoke]
            Without the corpus (sst2, tinystories), pairs of models that are trained on it and are not in WORK are left
            out: the two seeds, and two models of the zoo, which know sentiment alone.
Hardware:   2 CPU cores
Minutes:    9, and 20 for training another seed
Published:  32% of the 50 strongest effects shared when extracted apart, 50% jointly (2401.16318)

Shared: salient in both and of one sign. Distinctive: salient in one, and not shared (`andor.measures.sharing`).
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

import andor
from andor.core import lattice
from andor.core.effects import effect_name
from andor.core.text import visible
from andor.figures import panels, style
from andor.figures.convergence import Effect, compared
from andor.measures import metrics
from andor.measures.bootstrap import interval
from andor.measures.metrics import OrderStrength, Pair, shuffled
from andor.measures.profile import profile
from andor.measures.reported import closest_to_median, mean_of_defined
from andor.measures.sharing import groups
from andor.runs.run import Run
from experiments.lab import seeds, zoo
from experiments.lab.corpus import TEMPLATE
from experiments.lab.methods import LABELS, effects, look, unbatched
from experiments.lab.zoo_effects import zoo_config
from experiments.study import Row, Settings, comparison, described, prompts_of, two_models, with_interval

JOINT, SEEDS = "two models, extracted jointly", "two training seeds, one recipe"
TWO_MODELS = {method: f"two models, {label}" for method, label in LABELS.items()}
APART = TWO_MODELS["certified"]
OTHER_DATA = "two seeds and data parts, sentiment"
AGAIN, BFLOAT16 = "one model, measured again", "one model, in bfloat16"
SHUFFLED, JOINT_SHUFFLED = "effects shuffled within orders", "extracted jointly, players permuted"

ZOO = ("llama-tiny-reference-1", "llama-tiny-reference-2")
"""Two models of `lab.zoo`: one recipe for sentiment, another seed and another fifth of the sentences each."""

TRANSFER_K = (5, 10, 20, 50, 100, 200)
"""k at which transfer is measured."""

PUBLISHED_K, PUBLISHED = 50, {"apart": 0.32, "jointly": 0.50}
SHOWN_K = (10, PUBLISHED_K)

SHUFFLES = 20
CHANCE = 10
"""Shuffles behind what shared and distinctive effects are by chance."""

WORDS, LONGEST = 12, 26
"""Effects of one prompt in the figure, and characters of their names."""

Overlap = Float[np.ndarray, "measures"]
"""Of two models on one prompt: weighted overlap, then transfer of AND and of OR effects at each of `TRANSFER_K`."""


def measure(settings: Settings) -> dict:
    """Overlap of the first two models and of every baseline, prompt by prompt; shared against distinctive effects."""
    two_models("convergence", settings)
    found = effects(settings)
    run, pair = found.run, found.run.models[:2]
    ids = _with_range(run, pair)
    rng = np.random.default_rng(settings.seed)

    def between(pair_of: Callable[[str, str], Pair]) -> list[Overlap]:
        """Overlap of the two models on every prompt."""
        return [overlap(*(pair_of(model, p) for model in pair), _ranges(run, pair, p)) for p in ids]

    cases = {TWO_MODELS[m]: between(lambda model, p, m=m: found.pair(m, model, p)) for m in LABELS}
    for name, players_of in ((JOINT, np.arange), (JOINT_SHUFFLED, rng.permutation)):
        values = {p: [run[model, p].values.v for model in pair] for p in ids}
        joint = {p: _joint(*values[p], run.recipe.noise, players_of) for p in ids}
        cases[name] = between(lambda model, p, joint=joint: joint[p][pair.index(model)])
    measured = comparison(settings, noise="measured")
    cases[AGAIN] = [np.mean([_again(measured, run, model, p, rng) for model in pair], axis=0) for p in ids]
    rounded = comparison(settings, dtype="bfloat16")
    cases[BFLOAT16] = [np.mean([_between([run, rounded], [model] * 2, p) for model in pair], axis=0) for p in ids]
    runs = [*found.runs, measured, rounded]
    trained = {SEEDS: seeds.trained(settings), OTHER_DATA: ()}
    sentiment = [prompt for prompt in prompts_of(settings) if prompt.text.endswith(TEMPLATE)]
    if sentiment and settings.corpus is not None:
        trained[OTHER_DATA] = tuple(str(each.folder) for each in zoo.main(zoo_config(settings, only=ZOO)))
    for name, models in trained.items():
        if models:
            runs.append(comparison(settings, models=models, prompts=sentiment if name == OTHER_DATA else None))
            of_models = runs[-1].models
            cases[name] = [_between([runs[-1]] * 2, of_models, p) for p in _with_range(runs[-1], of_models)]
        else:
            print(f"convergence: without --corpus there is no “{name}”", flush=True)
    cases[SHUFFLED] = [_shuffled(run, pair, p, rng) for p in ids]
    overlaps = {p: float(each[0]) for p, each in zip(ids, cases[APART], strict=True)}
    return {
        "runs": [described(each) for each in runs],
        "models": [run.labels[model] for model in pair],
        "transfer_k": TRANSFER_K,
        "cases": {name: _case(each, settings.seed) for name, each in cases.items()},
        "groups": {
            method: compared_groups([[found.pair(method, model, p) for model in pair] for p in ids], settings.seed)
            for method in LABELS
        },
        "words": _words(run, overlaps),
    }


def overlap(first: Pair, second: Pair, ranges: tuple[float, float]) -> Overlap:
    """Weighted overlap and transfer; `ranges` are the two |v(N) - v(∅)|."""
    transfers = [metrics.transfer(first, second, k) for k in TRANSFER_K]
    weighted = metrics.weighted_overlap(first, second, ranges)
    return np.array([weighted, *(each.s_and for each in transfers), *(each.s_or for each in transfers)])


def _between(runs: Sequence[Run], models: Sequence[str], prompt_id: str) -> Overlap:
    """Overlap of a model of the first run with one of the second."""
    first, second = (run[model, prompt_id] for run, model in zip(runs, models, strict=True))
    return overlap(first.pair(), second.pair(), (first.range, second.range))


def _ranges(run: Run, models, prompt_id: str) -> tuple[float, float]:
    first, second = (run[model, prompt_id].range for model in models)
    return first, second


def _with_range(run: Run, models) -> tuple[str, ...]:
    """Ids of the prompts on which v(N) differs from v(∅) under every one of these models: the others have no unit."""
    return tuple(p.id for p in run.prompts if min(run[model, p.id].range for model in models) > 0)


def _joint(first, second, noise: float, players_of: Callable[[int], np.ndarray]) -> list[Pair]:
    """(AND, OR) effects of each model at the optimum of the joint objective (arXiv 2401.16318, eq. 6), where player i
    of the second v is players_of(n_players)[i] of its prompt."""
    masks, moved = np.arange(second.size), np.zeros(second.size, int)
    for player, other in enumerate(players_of(lattice.n_players_of(second))):
        moved |= (masks >> player & 1) << int(other)
    return unbatched(andor.extract_joint(np.stack([first, second[moved]]), noise))


def _again(measured: Run, run: Run, model: str, prompt_id: str, rng) -> Overlap:
    """A model's effects against those of its v plus noise of the measured size."""
    values = measured[model, prompt_id].values
    v = values.v + values.forward_noise * rng.normal(size=values.v.shape)
    solution = andor.extract(v, run.recipe.noise)
    ranges = run[model, prompt_id].range, metrics.output_range(v)
    return overlap(run[model, prompt_id].pair(), (solution.and_effects, solution.or_effects), ranges)


def _shuffled(run: Run, models, prompt_id: str, rng) -> Overlap:
    """The first model's effects against the second's on other subsets, mean over `SHUFFLES`."""
    (first, second), ranges = (run[model, prompt_id].pair() for model in models), _ranges(run, models, prompt_id)
    return np.mean([overlap(first, shuffled(second, rng), ranges) for _ in range(SHUFFLES)], axis=0)


def _case(overlaps: list[Overlap], seed: int) -> dict:
    numbers, s_and, s_or = np.split(np.array(overlaps), [1, 1 + len(TRANSFER_K)], axis=1)
    return {
        "overlap": numbers[:, 0],
        "mean_overlap": interval(numbers[:, 0], seed=seed),
        "s_and": [interval(column, seed=seed) for column in s_and.T],
        "s_or": [interval(column, seed=seed) for column in s_or.T],
    }


# ------------------------------------------------------------------------------------- shared and distinctive effects


def compared_groups(pairs: Sequence[Sequence[Pair]], seed: int) -> dict:
    """Shared and distinctive effects, mean over prompts and the two models; their differences, and those by chance.

    `pairs` are the effects `[prompts][2 models]`.
    """
    rng = np.random.default_rng(seed)
    found = [groups(of_prompt, rng) for of_prompt in pairs]

    def numbers(found: list, name: str, what: str) -> np.ndarray:
        """One number per prompt: mean of the models where both have one."""
        return np.array([np.mean([getattr(model[name], what) for model in prompt]) for prompt in found])

    summary: dict[str, dict] = {}
    for name in ("shared", "distinctive"):
        means = [np.mean([model[name].strength for model in prompt], axis=0) for prompt in found]
        each = profile([OrderStrength(*mean, (mean.shape[1],)) for mean in means], [1.0] * len(means))
        summary[name] = {
            "strength": each.intervals(seed),
            "share": interval(each.strengths.sum(axis=(1, 2)), seed=seed),
            **{what: interval(numbers(found, name, what), seed=seed) for what in ("order", "cancellation", "matched")},
        }
    shuffles = [[groups([first, shuffled(second, rng)], rng) for first, second in pairs] for _ in range(CHANCE)]
    summary |= {"difference": {}, "chance": {}, "beyond chance": {}}
    for what in ("order", "matched"):
        real, *chance = (
            numbers(each, "distinctive", what) - numbers(each, "shared", what) for each in (found, *shuffles)
        )
        expected = np.array([mean_of_defined(of_prompt) for of_prompt in np.transpose(chance)])
        summary["difference"][what] = interval(real, seed=seed)
        summary["chance"][what] = interval(expected, seed=seed)
        summary["beyond chance"][what] = interval(real - expected, seed=seed)
    return summary


def _words(run: Run, overlaps: dict[str, float]) -> dict:
    """The strongest salient effects of both models on the prompt of median overlap: shared ones first, then those of
    the first model, then those of the second."""

    def place(effect: Effect) -> int:
        return 0 if effect.shared else 1 if abs(effect.values[0]) >= abs(effect.values[1]) else 2

    shown = closest_to_median(overlaps)
    prompt = next(each for each in run.prompts if each.id == shown)
    words = [visible(word) for word in run[run.models[0], shown].values.players]
    found = [
        {
            "name": effect_name(words, each.subset, each.is_or, LONGEST),
            **{name: getattr(each, name) for name in ("is_or", "shared", "values")},
        }
        for each in sorted(compared(run, shown)[:WORDS], key=place)
    ]
    about = {"id": shown, "text": " ".join(prompt.text.split()), "target": run[run.models[0], shown].target}
    return about | {"overlap": overlaps[shown], "effects": found}


# ------------------------------------------------------------------------------------------------- drawing

_COLOURS = {False: "#0072B2", True: "#D55E00"}
"""Of AND and of OR effects."""
_SHARED_ROWS = "#EEEEEE"
_LINES = {
    APART: ("apart", "-"),
    JOINT: ("jointly", "--"),
    SHUFFLED: ("shuffled", ":"),
    JOINT_SHUFFLED: ("jointly, permuted", "-."),
}
"""Cases whose transfer is drawn: what the legend calls them, dashes; grey those that by construction share nothing."""


def draw(result: dict) -> Figure:
    """Effects of one prompt in words; overlap beside its baselines; transfer over k; shared against distinctive."""
    cases, models = result["cases"], result["models"]
    figure = style.new_figure(style.ONE_COLUMN, 8.6)
    estimate, low, high = cases[APART]["mean_overlap"]
    style.title(
        figure,
        f"{' and '.join(models)} share {estimate:.0%} [{low:.0%}, {high:.0%}] of the strength of their effects",
    )
    words, overlaps, transfer, of_groups = figure.subfigures(
        4, 1, height_ratios=[2.5, 0.5 + 0.17 * len(cases), 1.9, 2.1]
    )
    _draw_words(words, result["words"], models)
    _draw_overlaps(overlaps.subplots(), cases)
    _draw_transfer(transfer, cases, result["transfer_k"])
    _draw_groups(of_groups, result["groups"])
    return figure


def _draw_words(figure, words: dict, models: list[str]) -> None:
    """Effects of two models in words, a panel per model and a bar per effect; shared ones first, on grey."""
    style.heading(figure, f"{words['id']}: effects on “{words['target'].strip()}” / |v(N) − v(∅)|")
    axes, found = figure.subplots(1, 2, sharex=True, sharey=True), words["effects"]
    for side, (ax, model) in enumerate(zip(axes, models, strict=True)):
        ax.axhspan(-0.5, sum(effect["shared"] for effect in found) - 0.5, color=_SHARED_ROWS, lw=0, zorder=0)
        for row, effect in enumerate(found):
            filled = _fill(_COLOURS[effect["is_or"]], effect["shared"])
            ax.barh(row, effect["values"][side], 0.7, lw=0.6, **filled)
        ax.axvline(0, color="black", lw=0.6)
        ax.set_title(model, color=style.model_colour(side), fontweight="bold")
        ax.tick_params(axis="y", length=0, labelleft=side == 0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x")
    axes[0].set_yticks(range(len(found)), [effect["name"] for effect in found], fontsize=6.5)
    axes[0].set_ylim(len(found) - 0.5, -0.5)
    handles = [
        Patch(**_fill(_COLOURS[kind == "OR"], what == "shared"), label=f"{kind}, {what}")
        for what in ("shared", "distinctive")
        for kind in ("AND", "OR")
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _fill(colour: str, shared: bool) -> dict:
    """How the bar of an effect is filled: whole if two models share it, hatched if it is distinctive of one."""
    whole = {"facecolor": colour, "edgecolor": colour}
    return whole if shared else whole | {"facecolor": "white", "hatch": "//////"}


def _draw_overlaps(ax, cases: dict) -> None:
    # From what should share everything to what should share nothing.
    names = sorted(cases, key=lambda name: -cases[name]["mean_overlap"][0])
    for row, name in enumerate(names):
        numbers, mean = [x for x in cases[name]["overlap"] if x is not None], cases[name]["mean_overlap"]
        colour, weight = (style.model_colour(0), "bold") if name == APART else (style.MUTED, "normal")
        dots = {"ms": 2, "color": colour, "alpha": 0.55, "clip_on": False}
        panels.dots(ax, row, numbers, mean, f"{mean[0]:.2f}", half=0.38, weight=weight, **dots)
    panels.row_axes(ax, names, fontsize=6.5)
    ax.set_xlim(0, 1)
    ax.set_xlabel("weighted overlap (bar: mean, 95%)")


def _draw_transfer(figure, cases: dict, counts: list[int]) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    for ax, kind, colour in zip(axes, ("AND", "OR"), _COLOURS.values(), strict=True):
        for name, (_, dashes) in _LINES.items():
            of_case = style.NOISE if dashes in (":", "-.") else colour
            panels.band(ax, counts, cases[name][f"s_{kind.lower()}"], shade=0.2, color=of_case, ls=dashes, lw=1.1)
        for marker, published in zip("x+", PUBLISHED.values(), strict=True):
            ax.plot(PUBLISHED_K, published, marker, color="black", ms=5, mew=1.0)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(panels.plain)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(counts, [str(k) for k in counts])
        ax.set_ylim(0, 1)
        ax.set_title(f"{kind} effects", color=colour)
        ax.set_xlabel("k strongest")
        ax.grid(axis="y")
    axes[0].set_ylabel("share of the k in common")
    handles = [Line2D([], [], color=style.MUTED, ls=dashes, label=label) for label, dashes in _LINES.values()]
    handles += [
        Line2D([], [], color="black", ls="", marker=marker, ms=5, label=f"published, {label}")
        for marker, label in zip("x+", PUBLISHED, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _draw_groups(figure, found: dict) -> None:
    axes = figure.subplot_mosaic([["orders", "order"], ["orders", "matched"]], width_ratios=[1.3, 1])
    orders = axes["orders"]
    for offset, name in ((-0.21, "shared"), (0.21, "distinctive")):
        strength, filling = found["certified"][name]["strength"], _fill(style.model_colour(0), name == "shared")
        panels.order_bars(orders, strength, 0.4, offset, error=style.MUTED, label=name, lw=0.6, **filling)
    panels.order_axes(orders, len(strength[0]))
    orders.set_xlabel("order |S|")
    orders.set_ylabel("share of salient strength")
    orders.legend(loc="upper right")
    for what, label in (("order", "mean order"), ("matched", "cancellation")):
        ax = axes[what]
        for row, method in enumerate(LABELS):
            panels.interval_row(ax, row, found[method]["difference"][what], bar="black", **look(method))
            ax.plot(np.array(found[method]["chance"][what][0], float), row, "D", ms=4, mfc="none", mec=style.NOISE)
        ax.axvline(0, color="black", lw=0.6)
        ax.set_yticks(range(len(LABELS)), ["certified", "AND only", "published"], fontsize=6.5)
        ax.set_ylim(len(LABELS) - 0.5, -0.5)
        ax.set_title(label, fontsize=7.5)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.grid(axis="x")
    axes["matched"].set_xlabel("distinctive − shared\n◇ by chance")


def rows(result: dict) -> list[Row]:
    """Transfer at the published k, weighted overlap beside its baselines, and shared against distinctive effects."""
    cases, found = result["cases"], []

    def transfer(name: str, k: int) -> str:
        place = TRANSFER_K.index(k)
        s_and, s_or = (with_interval(cases[name][kind][place]) for kind in ("s_and", "s_or"))
        return f"AND {s_and}, OR {s_or}"

    for name, baseline, share in ((APART, SHUFFLED, "apart"), (JOINT, JOINT_SHUFFLED, "jointly")):
        for k in SHOWN_K:
            ours = f"{transfer(name, k)}; {baseline}: {transfer(baseline, k)}"
            published = f"{PUBLISHED[share]:.0%} (k = {PUBLISHED_K})"
            found.append(Row(f"{k} strongest effects shared: {name}", published, ours))
    means = {name: with_interval(case["mean_overlap"]) for name, case in cases.items()}
    baselines = "; ".join(f"{name} {mean}" for name, mean in means.items() if name != APART)
    found.append(Row("weighted overlap of two models", "not published", f"{means[APART]}; {baselines}"))
    for what, claim in (
        ("order", "mean order of distinctive less that of shared effects"),
        ("matched", "cancellation of distinctive less that of equally many shared effects"),
    ):
        parts = []
        for method, label in LABELS.items():
            of_method = result["groups"][method]
            chance = with_interval(of_method["chance"][what]).split()[0]
            parts.append(
                f"{label} {with_interval(of_method['difference'][what])}, by chance {chance}"
                f", beyond chance {with_interval(of_method['beyond chance'][what])}"
            )
        found.append(Row(claim, "above 0 (2606.08129)", "; ".join(parts)))
    return found
