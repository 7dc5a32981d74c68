"""Does the spindle share of a few prompts say how far a model's loss on new data is above that on its training data?

Reproduces:  arXiv 2502.10162: effects that do not generalise form a spindle; so the spindle share of a model, measured
             on a few prompts without their labels, should rise with its train-dev gap. Tested on the models of `zoo`:
             Spearman's rank correlation between scores of n prompts (dev sentences that no model was trained on) and
             the true gap of label cross-entropy on SST-2, n = 1, 3, 10, 30, over many draws of prompts; beside it what
             is known without any effect: certainty (1 bit less the entropy of the label) and loss of the same prompts.
Command:     python -m experiments generalisation --corpus DATA
Hardware:    2 CPU cores
Minutes:     30 of one core with the zoo (20) and its effects (5), both shared with `spindle`; quick 4
Published:   no correlation is published
Intervals:   95%, over draws of prompts and of models at once: every replicate takes one draw of prompts and resamples
             the models.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.stats import rankdata

from andor import metrics, results
from andor.figures import style
from andor.metrics import OrderStrength
from andor.spindle import spindle_split
from experiments.methods import LABELS
from experiments.study import Row, Settings, with_interval
from experiments.zoo_effects import ZooRun, zoo_described, zoo_runs

PROMPT_COUNTS = (1, 3, 10, 30)
DRAWS, SMOKE_DRAWS = 20, 3
REPLICATES, SMOKE_REPLICATES = 500, 10
SPLIT = "spindle share"
TESTED = f"certified {SPLIT}"
SCORES = {
    SPLIT: "spindle share",
    "high orders": "share of orders ≥ 3",
    "mean order": "mean order",
    "salient": "salient effects",
    "strength": "strength of effects",
    "cancellation": "cancellation",
}
"""Scores from effects, by either method; the first is the one that is tested, the others are for comparison.

Strength is in nats, cancellation that within a prompt.
"""
PLAIN = {"certainty": "certainty", "loss": "loss (needs labels)"}
"""Scores without effects."""


def measure(settings: Settings) -> dict:
    runs = zoo_runs(settings)
    per_prompt = [_numbers(each) for each in runs]
    players = tuple(prompt.n_players for prompt in runs[0].run.prompts)
    gaps = {
        "gap": np.array([each.scored.gap for each in runs]),
        "validation gap": np.array([each.scored.validation_gap for each in runs]),
        "dev loss": np.array([each.scored.scores["dev"]["cross_entropy"] for each in runs]),
    }
    rng = np.random.default_rng(settings.seed)
    counts = [count for count in PROMPT_COUNTS if count < len(players)]
    scores = {}
    for count in counts:
        draws = [rng.permutation(len(players))[:count] for _ in range(SMOKE_DRAWS if settings.smoke else DRAWS)]
        for name, values in _scores(per_prompt, players, draws).items():
            scores[count, name] = values
    everything = [np.arange(len(players))]
    scores |= {(len(players), name): values for name, values in _scores(per_prompt, players, everything).items()}
    every = {name: values[0] for (count, name), values in scores.items() if count == len(players)}
    members = [each.scored.member for each in runs]
    return {
        "correlations": [
            {"prompts": count, "score": name, "against": against, "rho": _interval(values, truth, settings)}
            for (count, name), values in scores.items()
            for against, truth in gaps.items()
        ],
        "differences": [
            {
                "prompts": count,
                "first": TESTED,
                "second": name,
                "rho": _difference(scores[count, TESTED], scores[count, name], gaps["gap"], settings),
            }
            for count in sorted({count for count, _ in scores})
            for name in (f"and_only {SPLIT}", f"published {SPLIT}", *PLAIN)
        ],
        "within": _within(every, gaps["gap"], [each.scored.architecture for each in runs]),
        "models": [
            {
                "model": member.name,
                "kind": member.kind,
                **{name: truth[place] for name, truth in gaps.items()},
                **{name: values[place] for name, values in every.items()},
            }
            for place, member in enumerate(members)
        ],
        "draws": DRAWS,
        **zoo_described(runs),
    }


def _numbers(each: ZooRun) -> dict[str, np.ndarray]:
    """What scores are made of, for every prompt: strengths `[prompts, 2, orders]` by method, numbers `[prompts]`."""
    ids = results.prompt_ids(each.run)
    found: dict[str, np.ndarray] = {}
    highest = max(prompt.n_players for prompt in each.run.prompts)
    for method in LABELS:
        strengths = np.zeros((len(ids), 2, highest))
        salient, cancelled = np.zeros(len(ids)), np.zeros(len(ids))
        for row, prompt in enumerate(ids):
            pair = each.pair(method, prompt)
            strength = metrics.order_strength(*pair)
            sides = (
                (strength.positive, strength.negative)
                if each.direction(prompt) > 0
                else (strength.negative, strength.positive)
            )
            strengths[row, :, : strength.positive.size] = np.stack(sides)
            salient[row] = metrics.salient_count(*pair)
            cancelled[row] = metrics.cancellation(strength).overall
        found |= {f"{method} strengths": strengths, f"{method} salient": salient, f"{method} cancellation": cancelled}
    whole = np.array([each.run.values[each.name][prompt].v[-1] for prompt in ids])
    # The whole prompt leaves next to nothing but the two labels, so 1 - p stands for the other label.
    log_p, log_q = -np.logaddexp(0, -whole), -np.logaddexp(0, whole)
    found["certainty"] = np.log(2) + np.exp(log_p) * log_p + np.exp(log_q) * log_q
    found["loss"] = -np.where(each.positive, log_p, log_q)
    return found


def _scores(per_prompt: list[dict], players: tuple[int, ...], draws: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Name of a score, with its method -> `[draws, models]`."""
    found = {}
    for method in LABELS:
        strengths = [each[f"{method} strengths"] for each in per_prompt]
        totals = [each["certified strengths"].sum(axis=(1, 2)) for each in per_prompt]
        profiles = [[_profile(s, t, chosen) for s, t in zip(strengths, totals, strict=True)] for chosen in draws]
        order = np.arange(1, strengths[0].shape[2] + 1)
        found[f"{method} {SPLIT}"] = np.array(
            [
                [_share(profile, tuple(players[i] for i in chosen)) for profile in row]
                for row, chosen in zip(profiles, draws, strict=True)
            ]
        )
        by_order = np.array(profiles).sum(axis=2)  # [draws, models, orders]
        whole = by_order.sum(axis=2)
        found[f"{method} high orders"] = by_order[:, :, 2:].sum(axis=2) / whole
        found[f"{method} mean order"] = (by_order * order).sum(axis=2) / whole
        means = {
            "salient": [each[f"{method} salient"] for each in per_prompt],
            "strength": [s.sum(axis=(1, 2)) for s in strengths],
            "cancellation": [each[f"{method} cancellation"] for each in per_prompt],
        }
        for name, values in means.items():
            found[f"{method} {name}"] = np.array([[np.nanmean(each[chosen]) for each in values] for chosen in draws])
    for name in PLAIN:
        found[name] = np.array([[each[name][chosen].mean() for each in per_prompt] for chosen in draws])
    return found


def _profile(strengths: np.ndarray, totals: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the chosen prompts, each in units of its strength at the optimum (as `andor.results.profile`)."""
    kept = chosen[totals[chosen] > 0]
    return (strengths[kept] / totals[kept, None, None]).sum(axis=0) / max(len(kept), 1)


def _share(profile: np.ndarray, players: tuple[int, ...]) -> float:
    highest = max(players)
    return spindle_split(OrderStrength(*profile[:, :highest], players)).spindle_share


def _rho(values: np.ndarray, truth: np.ndarray) -> float:
    defined = ~np.isnan(values)
    if defined.sum() < 3 or np.ptp(values[defined]) == 0 or np.ptp(truth[defined]) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(values[defined]), rankdata(truth[defined]))[0, 1])


def _mean_rho(values: np.ndarray, truth: np.ndarray) -> float:
    """Mean over draws of the correlation; values `[draws, models]`."""
    found = np.array([_rho(each, truth) for each in values])
    return float("nan") if np.isnan(found).all() else float(np.nanmean(found))


def _replicates(values: np.ndarray, truth: np.ndarray, settings: Settings) -> np.ndarray:
    """Correlations of resampled models on draws by lot; two scores of one shape get the same models and draws."""
    rng = np.random.default_rng(settings.seed)
    found = []
    for _ in range(SMOKE_REPLICATES if settings.smoke else REPLICATES):
        models = rng.integers(0, truth.size, truth.size)
        found.append(_rho(values[rng.integers(0, len(values))][models], truth[models]))
    return np.array(found)


def _limits(replicates: np.ndarray) -> tuple[float, float]:
    return (np.nan,) * 2 if np.isnan(replicates).all() else tuple(np.nanquantile(replicates, [0.025, 0.975]))


def _interval(values: np.ndarray, truth: np.ndarray, settings: Settings) -> tuple[float, float, float]:
    """Correlation and its interval over draws and models."""
    return _mean_rho(values, truth), *_limits(_replicates(values, truth, settings))


def _difference(
    first: np.ndarray, second: np.ndarray, truth: np.ndarray, settings: Settings
) -> tuple[float, float, float]:
    """Correlation of the first score less that of the second, on the same draws and models."""
    replicates = _replicates(first, truth, settings) - _replicates(second, truth, settings)
    return _mean_rho(first, truth) - _mean_rho(second, truth), *_limits(replicates)


def _within(every: dict[str, np.ndarray], gap: np.ndarray, architectures: list[str]) -> dict:
    """Correlation with the gap among the models of each architecture, all prompts."""
    kinds = np.array(architectures)
    return {
        name: {kind: _rho(values[kinds == kind], gap[kinds == kind]) for kind in sorted(set(architectures))}
        for name, values in every.items()
    }


# ------------------------------------------------------------------------------------------------------ drawing

_MARKERS = {"reference": "o", "all": "*", "part": "s", "third": "D", "tenth": "^", "few": "v", "noise": "X"}
_LINES = {
    f"certified {SPLIT}": {"color": style.AND, "marker": "o", "label": "spindle share, certified optimum"},
    f"and_only {SPLIT}": {"color": style.AND_ONLY, "marker": "s", "label": "spindle share, AND only"},
    f"published {SPLIT}": {"color": style.MODELS[1], "marker": "v", "label": "spindle share, published solver"},
    "certainty": {"color": style.MODELS[2], "marker": "^", "label": "certainty (1 bit less entropy)"},
    "loss": {"color": style.MODELS[4], "marker": "D", "label": "loss (needs labels)"},
}


def draw(result: dict) -> Figure:
    """Spindle share against the gap; correlation against the number of prompts; all scores on all prompts."""
    figure = style.new_figure(style.TWO_COLUMNS, 5.0)
    style.title(figure, _claim(result))
    above, below = figure.subfigures(2, 1)
    panels = above.subplots(1, len(LABELS), sharey=True)
    for ax, method in zip(panels, LABELS, strict=True):
        _draw_models(ax, result, method)
    panels[0].set_ylabel("spindle share, all prompts")
    handles, kinds = panels[0].get_legend_handles_labels()
    families = [Patch(color=style.model_colour(i), label=name) for i, name in enumerate(("Llama", "Qwen2"))]
    above.legend(handles=[*families, *handles], labels=["Llama", "Qwen2", *kinds], loc="outside lower center", ncols=9)
    counts, scores = below.subplots(1, 2)
    _draw_counts(counts, result)
    _draw_scores(scores, result)
    return figure


def _draw_models(ax, result: dict, method: str) -> None:
    for kind, marker in _MARKERS.items():
        chosen = [each for each in result["models"] if each["kind"] == kind]
        colours = [style.model_colour(0 if each["model"].startswith("llama") else 1) for each in chosen]
        x, y = ([each[key] for each in chosen] for key in ("gap", f"{method} {SPLIT}"))
        ax.scatter(x, y, c=colours, marker=marker, s=16, lw=0)
        ax.scatter([], [], c=style.MUTED, marker=marker, s=16, lw=0, label=kind)
    most = max(each["prompts"] for each in result["correlations"])
    rho = _found(result, most, f"{method} {SPLIT}")
    ax.set_title(f"{LABELS[method]}\nρ = {_text(rho)}")
    ax.set_xlabel("dev less train label cross-entropy, nats")
    ax.set_ylim(0, 1)
    ax.grid()


def _draw_counts(ax, result: dict) -> None:
    counts = sorted({each["prompts"] for each in result["correlations"]})
    for place, (name, look) in enumerate(_LINES.items()):
        rho = np.array([_found(result, count, name) for count in counts])
        x = np.array(counts) * 1.06 ** (place - 2)
        ax.errorbar(
            x,
            rho[:, 0],
            np.maximum([rho[:, 0] - rho[:, 1], rho[:, 2] - rho[:, 0]], 0),
            ms=3,
            lw=1,
            elinewidth=0.7,
            **look,
        )
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.set_ylim(-1, 1.05)
    ax.set_xlabel("prompts")
    ax.set_ylabel("Spearman's ρ with the gap")
    ax.set_title("From few prompts (95%: draws and models)")
    ax.grid(axis="y")
    ax.legend(loc="lower right", fontsize=6)


def _draw_scores(ax, result: dict) -> None:
    most = max(each["prompts"] for each in result["correlations"])
    names = [*SCORES, *PLAIN]
    for row, name in enumerate(names):
        keys = (
            {name: style.MUTED}
            if name in PLAIN
            else {f"{method} {name}": _LINES[f"{method} {SPLIT}"]["color"] for method in LABELS}
        )
        for place, (key, colour) in enumerate(keys.items()):
            rho = _found(result, most, key)
            y = row + (0 if len(keys) == 1 else 0.22 * (place - 1))
            ax.plot(rho[1:], [y, y], color=colour, lw=0.8)
            ax.plot(rho[0], y, color=colour, marker="osv"[place], ms=3)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(names)), [{**SCORES, **PLAIN}[name] for name in names])
    ax.invert_yaxis()
    ax.set_xlim(-0.5, 1.02)
    ax.set_xlabel("Spearman's ρ with the gap")
    ax.set_title(f"All scores, {most} prompts")
    ax.grid(axis="x")


def _found(result: dict, count: int, score: str, against: str = "gap") -> np.ndarray:
    """Correlation, low, high; nan where it is undefined."""
    (rho,) = (
        each["rho"]
        for each in result["correlations"]
        if (each["prompts"], each["score"], each["against"]) == (count, score, against)
    )
    return np.array(rho, float)


def _text(rho: np.ndarray) -> str:
    return f"{style.number(float(rho[0]))} [{style.number(float(rho[1]))}, {style.number(float(rho[2]))}]"


def _claim(result: dict) -> str:
    count = max(each["prompts"] for each in result["correlations"])
    few = min(10, count)
    numbers = [style.number(float(_found(result, few, name)[0])) for name in _LINES]
    return (
        f"Rank correlation with the train-dev gap of {len(result['models'])} models, {few} prompts: spindle share "
        f"{numbers[0]} (AND only {numbers[1]}, published solver {numbers[2]}), certainty {numbers[3]}, "
        f"loss {numbers[4]}"
    )


def rows(result: dict) -> list[Row]:
    counts = sorted({each["prompts"] for each in result["correlations"]})
    found = [
        Row(
            f"rank correlation of {look['label']} with the train-dev gap, {len(result['models'])} models, "
            f"{' / '.join(map(str, counts))} prompts",
            "none",
            " / ".join(with_interval(_found(result, count, name)) for count in counts),
        )
        for name, look in _LINES.items()
    ]
    for name in (f"and_only {SPLIT}", f"published {SPLIT}", *PLAIN):
        of_name = [each for each in result["differences"] if each["second"] == name]
        found.append(
            Row(
                f"correlation of {_LINES[TESTED]['label']} less that of {_LINES[name]['label']}, same draws",
                "none",
                " / ".join(with_interval(each["rho"]) for each in of_name),
            )
        )
    return found
