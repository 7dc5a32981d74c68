"""Ablations: what every choice of the analysis does to overlap, salient count and spindle share.

Reproduces: no published table. Baseline token, noise bound, salient threshold, number and choice of players, target,
            wording of the prompt (with the prompt sensitivity IPS of Qin et al., ICML 2026), dtype and solver are
            changed one at a time; everything else stays as in the base: mask token, noise bound 2%, the last 8 players,
            the given target, float32, certified optimum. Differences are paired by prompt.
Command:    python -m experiments ablations [--models A B] [--quick] [--smoke]
Hardware:   2 CPU cores
Minutes:    15
Published:  none of these changes; usual are thresholds 0.05 (2401.16318) and 0.1 (IPS), bounds 2 to 5% (2302.13080)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from andor.figures import style
from andor.measures import metrics
from andor.measures.bootstrap import Resampled, resampled
from andor.measures.metrics import SALIENT, Pair
from andor.measures.profile import Profile, profile, strength
from andor.measures.reported import mean_of_defined
from andor.runs.run import Run
from experiments.studies.variants import BASE, Variant, variants
from experiments.study import Row, Settings, comparison, described, prompts_of, with_interval

RESAMPLES = {"full": 200, "quick": 50, "smoke": 5}

MEASURES = {"overlap": "overlap", "salient": "salient", "spindle": "spindle"}
"""Name in the result -> what figures call it."""


@dataclass(frozen=True)
class Numbers:
    """What one variant gives, prompt by prompt; nan where undefined.

    Attributes:
      overlap: `[p]`, weighted overlap of the first two models.
      salient: `[p]`, salient effects, mean of the models.
      profiles: of each model, in units of its own strength on the prompt.
      kept, ips: `[p]`, weighted overlap and IPS of each model's effects with those it has in the base, mean of the
        models.
    """

    overlap: Float[np.ndarray, "p"]
    salient: Float[np.ndarray, "p"]
    profiles: list[Profile]
    kept: Float[np.ndarray, "p"]
    ips: Float[np.ndarray, "p"]


def measure(settings: Settings) -> dict:
    """Every variant beside the base, on the first two models."""
    if len(settings.models) < 2:
        raise ValueError(f"ablations compares two models; got --models {' '.join(settings.models)}.")
    prompts, models = prompts_of(settings), settings.models[:2]
    runs: list[Run] = []

    def numbers(variant: Variant, base: Run | None) -> tuple[Numbers, Run]:
        run = comparison(settings, models=models, prompts=variant.change(prompts), **variant.options)
        runs.append(run)
        return _numbers(variant, run, base), run

    base, base_run = numbers(BASE, None)
    of_base = _resampled(base, settings)
    table = [{"group": BASE.group, "name": BASE.name, **_summary(of_base, of_base, base)}]
    for variant in variants(settings):
        found, _ = numbers(variant, base_run)
        table.append(
            {"group": variant.group, "name": variant.name, **_summary(_resampled(found, settings), of_base, found)}
        )
        print(f"{variant.group}: {variant.name}", flush=True)
    return {"runs": [described(run) for run in runs], "prompts": len(prompts), "tau": SALIENT, "table": table}


def _numbers(variant: Variant, run: Run, base: Run | None) -> Numbers:
    ids = [prompt.id for prompt in run.prompts]
    pairs = {(model, p): _pair(variant, run, model, p) for model in run.models for p in ids}
    tau = variant.tau or SALIENT
    overlap = [
        metrics.weighted_overlap(*(pairs[m, p] for m in run.models), tuple(run[m, p].range for m in run.models))
        for p in ids
    ]
    salient = [np.mean([metrics.salient_count(*pairs[m, p], tau) for m in run.models]) for p in ids]
    kept, ips = np.full((2, len(ids)), np.nan)
    if base is not None and variant.same_players:
        for place, p in enumerate(ids):
            both = [(pairs[m, p], base[m, p].pair()) for m in run.models]
            ranges = [(run[m, p].range, base[m, p].range) for m in run.models]
            kept[place] = np.mean(
                [metrics.weighted_overlap(*pair, unit) for pair, unit in zip(both, ranges, strict=True)]
            )
            ips[place] = np.mean([metrics.ips(*pair).ips for pair in both])
    profiles = [
        profile(
            [metrics.order_strength(*pairs[model, p]) for p in ids], [strength(pairs[model, p]) or 1.0 for p in ids]
        )
        for model in run.models
    ]
    return Numbers(np.array(overlap), np.array(salient, float), profiles, kept, ips)


def _pair(variant: Variant, run: Run, model: str, prompt_id: str) -> Pair:
    """(AND, OR) effects of one prompt as the variant has them."""
    pair = run[model, prompt_id].pair("and_only" if variant.and_only else "certified")
    if variant.tau is None:
        return pair
    kept = metrics.salient(*pair, variant.tau)
    return np.where(kept[0], pair[0], 0.0), np.where(kept[1], pair[1], 0.0)


def _resampled(numbers: Numbers, settings: Settings) -> dict[str, Resampled]:
    """Each measure over the prompts; of every variant on the same resamples."""
    statistics = {
        "overlap": lambda places: mean_of_defined(numbers.overlap[places]),
        "salient": lambda places: mean_of_defined(numbers.salient[places]),
        "spindle": lambda places: _spindle_share(numbers, places),
    }
    count, repeats = len(numbers.overlap), RESAMPLES[settings.scale]
    return {name: resampled(count, each, settings.seed, repeats) for name, each in statistics.items()}


def _spindle_share(numbers: Numbers, chosen: Int[np.ndarray, "p"]) -> float:
    """Of the mean profile of the prompts, mean of the models."""
    return float(np.mean([of_model.of(chosen).split.spindle_share for of_model in numbers.profiles]))


def _summary(variant: dict, base: dict, numbers: Numbers) -> dict:
    """(estimate, low, high) of every measure and of its difference from the base."""
    summary = {}
    for name in MEASURES:
        summary[name] = variant[name].interval()
        summary[f"{name}_difference"] = (variant[name] - base[name]).interval()
    for name in ("kept", "ips"):
        summary[name] = mean_of_defined(getattr(numbers, name))
    return summary


def draw(result: dict) -> Figure:
    """A row per variant, a column per measure: its value, and the interval of its difference from the base."""
    base, *varied = result["table"]
    figure = style.new_figure(style.ONE_COLUMN, 1.1 + 0.165 * (len(varied) + len({each["group"] for each in varied})))
    style.title(figure, _claim(base, varied))
    axes = figure.subplots(1, len(MEASURES), sharey=True)
    names, places, headings = [], [], []
    row = 0
    for group in dict.fromkeys(each["group"] for each in varied):
        headings.append((row, group))
        row += 1
        for each in varied:
            if each["group"] == group:
                names.append(each["name"])
                places.append((row, each))
                row += 1
    for ax, (measure_, label) in zip(axes, MEASURES.items(), strict=True):
        centre = base[measure_][0]
        ax.axvspan(*base[measure_][1:], color=style.NOISE, alpha=0.3, lw=0)
        ax.axvline(centre, color="black", lw=0.8)
        for place, each in places:
            difference = np.array(each[f"{measure_}_difference"], float)
            clear = difference[1] > 0 or difference[2] < 0
            colour = style.model_colour(0) if clear else style.MUTED
            ax.plot(centre + difference[1:], [place, place], color=colour, lw=1.0)
            ax.plot(centre + difference[0], place, "o", ms=3, color=colour, mfc=colour if clear else "white")
        ax.set_title(label, fontsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    axes[0].set_yticks([place for place, _ in places], names, fontsize=6.5)
    axes[0].set_ylim(row - 0.4, -0.6)
    for place, group in headings:
        axes[0].annotate(
            group, (0, place), xycoords=("axes fraction", "data"), xytext=(-4, 0), textcoords="offset points",
            ha="right", va="center", fontweight="bold", fontsize=6.5,
        )  # fmt: skip
    figure.supxlabel("line: base; band: its 95%; filled: differs from it (95%, paired)", fontsize=6.5)
    return figure


def _claim(base: dict, varied: list[dict]) -> str:
    """The choice that moves the spindle share most."""
    most = max(varied, key=lambda each: abs(each["spindle_difference"][0] or 0))
    change = f"{base['spindle'][0]:.2f} to {most['spindle'][0]:.2f}"
    return f"Of all choices the spindle share moves most with {most['group']}, “{most['name']}”: {change}"


def table(result: dict) -> str:
    """Markdown: every variant with its values and paired differences."""
    columns = ["choice", "variant", *(f"{label} | change" for label in MEASURES.values()), "kept of base", "IPS"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * 10]
    for each in result["table"]:
        cells = []
        for name, form in (("overlap", ".2f"), ("salient", ".1f"), ("spindle", ".2f")):
            cells += [with_interval(each[name], form), with_interval(each[f"{name}_difference"], "+" + form)]
        cells += ["" if each[name] is None else f"{each[name]:.2f}" for name in ("kept", "ips")]
        lines.append(f"| {each['group']} | {each['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rows(result: dict) -> list[Row]:
    """By group: the range over its variants of each measure."""
    base, *varied = result["table"]
    found = [
        Row(
            f"base of the ablations: {', '.join(MEASURES.values())}",
            "not published",
            "; ".join(
                with_interval(base[name], form) for name, form in zip(MEASURES, (".2f", ".1f", ".2f"), strict=True)
            ),
        )
    ]
    for group in dict.fromkeys(each["group"] for each in varied):
        members = [each for each in varied if each["group"] == group]
        parts = []
        for name, form in zip(MEASURES, (".2f", ".1f", ".2f"), strict=True):
            values = sorted({format(each[name][0], form) for each in members}, key=float)
            parts.append(f"{MEASURES[name]} {' to '.join(values[:: len(values) - 1 or 1])}")
        found.append(Row(f"{group}: {', '.join(each['name'] for each in members)}", "not published", "; ".join(parts)))
    return found
