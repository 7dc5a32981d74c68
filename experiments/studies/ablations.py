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

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import Resampled, resampled
from andor.measures.metrics import SALIENT, Pair
from andor.measures.profile import profile_of
from andor.measures.reported import mean_of_defined
from andor.prompts import Prompt
from andor.runs.run import Run
from andor.solvers import FirstOrder
from experiments.lab.methods import published_solvers
from experiments.study import Row, Settings, comparison, described, prompts_of, two_models, with_interval

REWORDINGS = Path(__file__).parent / "rewordings.jsonl"
"""Another wording of every prompt of `prompts.jsonl`: the same players and target, other words between them."""

RESAMPLES = {"full": 200, "quick": 50, "smoke": 2}

FORMS = {"overlap": ".2f", "salient": ".1f", "spindle": ".2f"}
"""What is measured: weighted overlap of the two models, salient effects, spindle share -> how it is written."""

PLAYERS = 8
"""Players of every prompt unless they are what is varied: the last ones."""

FEWER_PLAYERS = 6

# ------------------------------------------------------------------------------------------------- the choices


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
    change: Callable[[Sequence[Prompt]], list[Prompt]] = lambda prompts: last(prompts, PLAYERS)
    tau: float | None = None
    and_only: bool = False
    same_players: bool = True

    def pair(self, run: Run, model: str, prompt_id: str) -> Pair:
        """(AND, OR) effects of one prompt as the variant has them."""
        pair = run[model, prompt_id].pair("and_only" if self.and_only else "certified")
        if self.tau is None:
            return pair
        kept = metrics.salient(*pair, self.tau)
        return np.where(kept[0], pair[0], 0.0), np.where(kept[1], pair[1], 0.0)


BASE = Variant("base", f"mask token, noise 2%, last {PLAYERS} players, given target, float32, exact")
BASELINES = {"mean embedding": "mean", "zero embedding": "zero", "the word “the”": "Ġthe"}


def variants(settings: Settings) -> list[Variant]:
    """All of them, by group; in a smoke run one of each group."""
    published = {  # with each learning rate, on v scaled to ten nats and on v as it is
        f"published, {solver.learning_rate:.0e}{unscaled}".replace("e-0", "e-"): dataclasses.replace(solver, **change)
        for solver in published_solvers(settings)
        for unscaled, change in (("", {}), (", v unscaled", {"spread": None}))
    }
    others = {
        f"last {FEWER_PLAYERS}": lambda p: last(p, FEWER_PLAYERS),
        "all, 8 to 10": list,
        f"first {PLAYERS}": lambda p: [dataclasses.replace(each, players=each.players[:PLAYERS]) for each in p],
        f"any {PLAYERS} words": lambda p: random_words(p, PLAYERS, settings.seed),
    }
    found = [
        *(Variant("baseline", name, {"baseline": token}) for name, token in BASELINES.items()),
        *(Variant("noise bound", f"{share:.0%}", {"noise": share}) for share in (0.0, 0.01, 0.05, 0.10)),
        Variant("noise bound", "measured", {"noise": "measured"}),
        *(Variant("salient only", f"τ = {tau:g}", tau=tau) for tau in (0.01, SALIENT, 0.1, 0.2)),
        *(Variant("players", name, change=change, same_players=False) for name, change in others.items()),
        Variant("target", "first model's own", change=without_target),
        Variant("target", "each model's own", {"own_targets": True}, change=without_target),
        Variant("wording", "other words between", change=lambda p: reworded(last(p, PLAYERS))),
        Variant("dtype", "bfloat16", {"dtype": "bfloat16"}),
        Variant("dtype", "bfloat16, measured noise", {"dtype": "bfloat16", "noise": "measured"}),
        Variant("solver", "AND only", and_only=True),
        *(Variant("solver", name, {"solver": solver}) for name, solver in published.items()),
        Variant("solver", "first-order", {"solver": FirstOrder()}),
    ]
    if settings.prompts.resolve() != Settings.prompts.resolve():
        found = [each for each in found if each.group != "wording"]  # other prompts have no other wording
    if not settings.smoke:
        return found
    return [next(each for each in found if each.group == group) for group in dict.fromkeys(v.group for v in found)]


def last(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """The same prompts with their last players only."""
    return [dataclasses.replace(prompt, players=prompt.players[-count:]) for prompt in prompts]


def random_words(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """The same prompts with players drawn among all their words, those without content too."""
    rng = np.random.default_rng(seed)
    found = []
    for prompt in prompts:
        words = prompt.text.removesuffix("\nsentiment:")
        spans = [match.span() for match in re.finditer(r"\w[\w']*", words)]
        chosen = np.sort(rng.choice(len(spans), min(count, len(spans)), replace=False))
        found.append(dataclasses.replace(prompt, players=[spans[i] for i in chosen]))
    return found


def without_target(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts of the base, explaining what a model predicts."""
    return [dataclasses.replace(prompt, target=None) for prompt in last(prompts, PLAYERS)]


def reworded(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same players and targets in other words."""
    texts = {record["id"]: record["text"] for record in map(json.loads, REWORDINGS.read_text().splitlines())}
    return [Prompt(texts[prompt.id], players=prompt.words, target=prompt.target, id=prompt.id) for prompt in prompts]


# ------------------------------------------------------------------------------------------------- what they change


def measure(settings: Settings) -> dict:
    """Every variant beside the base, on the first two models."""
    models, prompts = two_models("ablations", settings), prompts_of(settings)
    runs: list[Run] = []
    table: list[dict] = []
    base: dict[str, Resampled] = {}
    for variant in (BASE, *variants(settings)):
        run = comparison(settings, models=models, prompts=variant.change(prompts), **variant.options)
        found = _measured(variant, run, settings)
        base = base or found
        summary = {name: each.interval() for name, each in found.items()}
        summary |= {f"{name}_difference": (each - base[name]).interval() for name, each in found.items()}
        comparable = runs and variant.same_players
        kept, ips = _kept(variant, run, runs[0]) if comparable else (float("nan"),) * 2
        table.append({"group": variant.group, "name": variant.name, **summary, "kept": kept, "ips": ips})
        runs.append(run)
        print(f"{variant.group}: {variant.name}", flush=True)
    return {"runs": [described(run) for run in runs], "prompts": len(prompts), "tau": SALIENT, "table": table}


def _measured(variant: Variant, run: Run, settings: Settings) -> dict[str, Resampled]:
    """Each measure over the prompts; of every variant on the same resamples."""
    by_prompt = [[variant.pair(run, model, prompt.id) for model in run.models] for prompt in run.prompts]
    ranges = [tuple(run[model, prompt.id].range for model in run.models) for prompt in run.prompts]
    overlap = np.array([metrics.weighted_overlap(*each, unit) for each, unit in zip(by_prompt, ranges, strict=True)])
    tau = variant.tau or SALIENT
    salient = np.array([np.mean([metrics.salient_count(*pair, tau) for pair in each]) for each in by_prompt])
    profiles = [profile_of(pairs) for pairs in zip(*by_prompt, strict=True)]
    statistics = {
        "overlap": lambda places: mean_of_defined(overlap[places]),
        "salient": lambda places: mean_of_defined(salient[places]),
        "spindle": lambda places: float(np.mean([each.of(places).split.spindle_share for each in profiles])),
    }
    repeats = RESAMPLES[settings.scale]
    return {name: resampled(len(by_prompt), each, settings.seed, repeats) for name, each in statistics.items()}


def _kept(variant: Variant, run: Run, base: Run) -> tuple[float, float]:
    """Weighted overlap and IPS of each model's effects with those it has in the base, mean of models and prompts."""
    overlaps, ips = [], []
    for prompt in run.prompts:
        keys = [(model, prompt.id) for model in run.models]
        pairs = {key: (variant.pair(run, *key), base[key].pair()) for key in keys}
        ranges = {key: (run[key].range, base[key].range) for key in keys}
        overlaps.append(np.mean([metrics.weighted_overlap(*pairs[key], ranges[key]) for key in keys]))
        ips.append(np.mean([metrics.ips(*each).ips for each in pairs.values()]))
    return mean_of_defined(overlaps), mean_of_defined(ips)


# ------------------------------------------------------------------------------------------------- what is shown


def by_group(table: Sequence[dict]) -> dict[str, list[dict]]:
    """Group -> its variants, without the base."""
    groups: dict[str, list[dict]] = {}
    for each in table[1:]:
        groups.setdefault(each["group"], []).append(each)
    return groups


def draw(result: dict) -> Figure:
    """A row per variant, a column per measure: its value, and the interval of its difference from the base."""
    base, *varied = result["table"]
    groups = by_group(result["table"])
    figure = style.new_figure(style.ONE_COLUMN, 1.1 + 0.165 * (len(varied) + len(groups)))
    most = max(varied, key=lambda each: abs(each["spindle_difference"][0] or 0))
    style.title(
        figure,
        f"Of all choices the spindle share moves most with {most['group']}, “{most['name']}”: {base['spindle'][0]:.2f} "
        f"to {most['spindle'][0]:.2f}",
    )
    axes = figure.subplots(1, len(FORMS), sharey=True)
    lines = [line for group, members in groups.items() for line in (group, *members)]  # a heading before its members
    places = [(row, each) for row, each in enumerate(lines) if isinstance(each, dict)]
    for ax, name in zip(axes, FORMS, strict=True):
        centre = base[name][0]
        ax.axvspan(*base[name][1:], color=style.NOISE, alpha=0.3, lw=0)
        ax.axvline(centre, color="black", lw=0.8)
        for row, each in places:
            difference = np.array(each[f"{name}_difference"], float)
            clear = difference[1] > 0 or difference[2] < 0
            colour = style.model_colour(0) if clear else style.MUTED
            panels.interval_row(ax, row, centre + difference, lw=1.0, color=colour, mfc=colour if clear else "white")
        ax.set_title(name, fontsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
    axes[0].set_yticks([row for row, _ in places], [each["name"] for _, each in places], fontsize=6.5)
    axes[0].set_ylim(len(lines) - 0.4, -0.6)
    heading = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontweight": "bold"}
    for row, group in enumerate(lines):
        if isinstance(group, str):
            axes[0].annotate(group, (0, row), xytext=(-4, 0), ha="right", va="center", fontsize=6.5, **heading)
    figure.supxlabel("line: base; band: its 95%; filled: differs from it (95%, paired)", fontsize=6.5)
    return figure


def table(result: dict) -> str:
    """Markdown: every variant with its values and paired differences."""
    columns = ["choice", "variant", *(f"{name} | change" for name in FORMS), "kept of base", "IPS"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * 10]
    for each in result["table"]:
        cells = []
        for name, form in FORMS.items():
            cells += [with_interval(each[name], form), with_interval(each[f"{name}_difference"], "+" + form)]
        cells += ["" if each[name] is None else f"{each[name]:.2f}" for name in ("kept", "ips")]
        lines.append(f"| {each['group']} | {each['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rows(result: dict) -> list[Row]:
    """By group: the range over its variants of each measure."""
    base = "; ".join(with_interval(result["table"][0][name], form) for name, form in FORMS.items())
    found = [Row(f"base of the ablations: {', '.join(FORMS)}", "not published", base)]
    for group, members in by_group(result["table"]).items():
        parts = []
        for name, form in FORMS.items():
            values = sorted({format(each[name][0], form) for each in members}, key=float)
            parts.append(f"{name} {' to '.join(values[:: len(values) - 1 or 1])}")
        found.append(Row(f"{group}: {', '.join(each['name'] for each in members)}", "not published", "; ".join(parts)))
    return found
