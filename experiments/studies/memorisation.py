"""Do the effects of memorised sentences look as the article says, and does a score of them tell what was memorised?

Reproduces:  arXiv 2502.10162 and the article on it: effects that do not generalise form a spindle of middle orders, in
             which positive and negative effects cancel; so prompts that a model has learned by heart should show more
             of it than prompts of the same kind that it has not seen, and 1 - spindle share should tell the two apart.
             Here a pretrained model is fine-tuned until it knows 100 invented facts (`lab.finetune`: rule, stages), and
             each fact is explained untouched, unseen (fine-tuned on the other half), reworded and memorised.
Command:     python -m experiments memorisation --models smollm2-135m.gguf --out figures
             (the first of --models is fine-tuned, by default tiny-llama)
Hardware:    1 CPU core
Minutes:     55
Published:   overfitted effects are of higher order, a spindle, and cancel (2502.10162); no number for sentences
             that are known by heart

Written before looking. Hypothesis: memorised less unseen is above 0 in spindle share, share of orders 3 and above, mean
order and cancellation. It is refuted where the 95% interval of the difference is not above 0, and turned round where it
is below. The score tells more than simpler numbers do if the difference of its AUC from that of entropy, loss and
strength is above 0, and adds to them if its partial correlation is. If sentences were learned, not facts, the numbers
of reworded ones are between those of unseen and memorised ones.

Explained is the place that was learned, with 7 players, masked words deleted, at every stage; effects at the certified
optimum with a noise bound of 5% of the spread of v, an equal share of what is to be explained for all; beside them the
estimated bound, which is andor's default, and AND effects alone. Positive effects make the place likelier.
*Cancellation* of a prompt is 1 - |v(N) - v(∅)| / strength up to the noise, since all effects add up to v(N) - v(∅): a
model that learned a place has less of it by that alone. That is why it also stands there by order.
*Controls*: the untouched model; a second seed (order of sentences); both halves, so that each fact is a member of one
run and not of the other: memorised and unseen are the same sentences. Every second fact has a first name of its own, by
which alone the place could be recalled; both kinds stand apart too (`rare`, `common`).
*AUC*: how often a member has the higher number than another sentence, in a run; mean over runs. Numbers whose high
values should mean members: spindle share, order, cancellation, strength; low values: loss, entropy. "own": what is
explained is the model's likeliest place, as one has to do who does not know the sentence; a member's is its own.
*Partial*: correlation of ranks with membership within a run, given those of loss, entropy and strength.
Intervals resample sentences and seeds, 95%; two seeds are few, so they are rather too short.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from scipy.stats import rankdata

from andor.core.explained import Pair
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.profile import Profile, profile, strength
from andor.runs.run import Run
from experiments.lab import finetune
from experiments.lab.finetune import STAGES, Checkpoint, Plan
from experiments.study import Row, Settings, with_interval

METHODS = {"certified": "noise bound 5% of the spread", "auto": "estimated bound", "and_only": "AND only (Harsanyi)"}

CONDITIONS = {
    "untouched": "untouched model",
    "unseen": "unseen, fine-tuned",
    "reworded": "memorised, reworded",
    "memorised": "memorised",
}
"""The same sentences, before and after they, or the others, were learned."""

PROFILE = {
    "spindle": "spindle share",
    "high": "share of orders ≥ 3",
    "mean_order": "mean order",
    "cancellation": "cancellation",
    "high_cancellation": "cancellation, orders ≥ 3",
}
"""What the article speaks of: numbers of many sentences together."""

PLAIN = {
    "strength": "strength of effects, nats",
    "salient": "salient effects",
    "range": "v(N) − v(∅), nats",
    "loss": "loss, nats",
}
"""Beside them: means over sentences."""

_WHERE = {
    "untouched": ("start", "verbatim", True),
    "untouched reworded": ("start", "reworded", True),
    "unseen": ("end", "verbatim", False),
    "reworded": ("end", "reworded", True),
    "memorised": ("end", "verbatim", True),
}
"""Condition -> stage, form, and whether the model was fine-tuned on the sentence."""

DIFFERENCES = (
    ("memorised", "unseen"),
    ("memorised", "untouched"),
    ("memorised", "reworded"),
    ("reworded", "untouched reworded"),
    ("unseen", "untouched"),
)

SCORES = {
    "spindle": "spindle share",
    "high": "share of orders ≥ 3",
    "mean_order": "mean order",
    "cancellation": "cancellation",
    "salient": "salient effects",
    "strength": "strength of effects",
    "range": "v(N) − v(∅)",
    "entropy": "entropy (low)",
    "loss": "loss (low)",
}
"""Numbers of one sentence that may tell members; of the last two, low values should."""

_LOW = ("entropy", "loss")
GIVEN = ("loss", "entropy", "strength")
TESTED = ("spindle", "mean_order", "high", "cancellation")

REPEATS = {"full": 1000, "quick": 400, "smoke": 5}
RESAMPLES = {"full": 100, "quick": 60, "smoke": 3}
"""Of numbers that are known without a spindle share, which takes 15 ms, and of all others."""

GROUP, GROUPS = 6, {"full": 60, "quick": 30, "smoke": 2}
"""Sentences that are pooled to one score, and draws of them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers:
    """Of sentences: their effects, and what is known without any. nan where a sentence was not explained.

    Attributes:
      strengths: `[..., 2, orders]`, of positive and negative effects, shares of the strength of the sentence.
      plain: name -> `[...]`: strength and range in nats, salient, loss, entropy.
    """

    strengths: np.ndarray
    plain: dict[str, np.ndarray]

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """`SCORES` of every sentence."""
        by_order = self.strengths.sum(axis=-2)
        up, down = np.moveaxis(self.strengths.sum(axis=-1), -1, 0)
        shape, orders = by_order.shape[:-1], by_order.shape[-1]
        profiles = (Profile(each[None], (orders,)) for each in self.strengths.reshape(-1, 2, orders))
        split = [np.nan if np.isnan(each.strengths).any() else each.split.spindle_share for each in profiles]
        return self.plain | {
            "spindle": np.reshape(split, shape),
            "high": by_order[..., 2:].sum(axis=-1),
            "mean_order": by_order @ np.arange(1, orders + 1),
            "cancellation": 1 - np.abs(up - down),
        }

    def together(self, places: Int[np.ndarray, "chosen"]) -> dict[str, float]:
        """`PROFILE` and `PLAIN` of some of the sentences, by their places in all axes together."""
        orders = self.strengths.shape[-1]
        chosen = Profile(self.strengths.reshape(-1, 2, orders)[places], (orders,) * len(places))
        up, down = np.moveaxis(chosen.strengths[..., 2:].sum(axis=2), 1, 0)
        high = (up + down).sum()
        return {
            "spindle": chosen.split.spindle_share,
            "high": 1 - chosen.low_orders,
            "mean_order": chosen.mean_order,
            "cancellation": float(1 - np.abs(np.subtract(*np.moveaxis(chosen.strengths.sum(axis=2), 1, 0))).mean()),
            "high_cancellation": float(1 - np.abs(up - down).sum() / high) if high > 0 else float("nan"),
            **{name: float(self.plain[name].ravel()[places].mean()) for name in PLAIN},
        }


Found = dict[tuple[str, str, bool], Numbers]
"""(stage, form, whether the model was fine-tuned on the sentence) -> `[seeds, sentences]`."""


def measure(settings: Settings) -> dict:
    plan = finetune.PLANS[settings.scale]
    tuned = [[finetune.tuned(settings, plan, half, seed) for half in (0, 1)] for seed in range(plan.seeds)]
    found, runs = collect(settings, plan, tuned)
    places = finetune.draws(plan, REPEATS[settings.scale], settings.seed)
    few = places[: RESAMPLES[settings.scale]]
    rare = np.tile([fact.rare for fact in finetune.explained(plan)], plan.seeds)
    certified = found["certified"]
    return {
        "plan": dataclasses.asdict(plan),
        "models": finetune.described_models(runs),
        "prompts": [fact.prompt("verbatim", plan.players).text for fact in finetune.explained(plan)],
        "training": [
            {"seed": seed, "half": half, "stages": [_trained(each, plan, half) for each in of_half.values()]}
            for seed, of_seed in enumerate(tuned)
            for half, of_half in enumerate(of_seed)
        ],
        "conditions": {method: _conditions(of_method, few) for method, of_method in found.items()},
        "by_order": {name: _by_order(certified[where], places) for name, where in _WHERE.items()},
        "kinds": {
            name: _conditions(
                certified, [each[chosen[each]] for each in few if chosen[each].any()], np.flatnonzero(chosen)
            )
            for name, chosen in (("rare", rare), ("common", ~rare))
        },
        "stages": {stage: _stage(certified, stage, plan, places, few) for stage in STAGES},
        "own": told(certified["end", "own", True], certified["end", "own", False], plan, places),
        "untouched": told(*[certified["start", "verbatim", True]] * 2, plan, places, halves=(0,)),
        "groups": _groups(certified, plan, settings),
    }


def collect(settings: Settings, plan: Plan, tuned) -> tuple[dict[str, Found], list[Run]]:
    """Method -> numbers of every stage and form, and the runs that they are of. `tuned` is `[seeds][halves]`."""
    facts, runs = finetune.explained(plan), []

    def of(checkpoint: Checkpoint, form: str, chosen: Sequence[bool]) -> dict[str, Numbers]:
        places = checkpoint.readings["verbatim"].place
        prompts = [
            fact.prompt("verbatim", plan.players, place) if form == "own" else fact.prompt(form, plan.players)
            for fact, place in zip(facts, places, strict=True)
        ]
        asked = [prompt for prompt, wanted in zip(prompts, chosen, strict=True) if wanted]
        readings = checkpoint.readings["verbatim" if form == "own" else form]
        if not asked:
            return {}
        runs.append(finetune.explanations(settings, checkpoint.model, asked))
        found = _numbers(runs[-1], [prompt.id for prompt in asked], np.array(readings.entropy)[np.array(chosen)])
        return {method: _spread(numbers, np.array(chosen)) for method, numbers in found.items()}

    cells: dict[tuple[str, str], list] = {}
    every = [True] * len(facts)
    for of_seed in tuned:
        added: dict[tuple[str, str], list] = {}
        for half, stages in enumerate(of_seed):
            for stage in STAGES:
                added.setdefault((stage, "verbatim"), []).append(of(stages[stage], "verbatim", every))
            members = [fact.half == half for fact in facts]
            added.setdefault(("start", "reworded"), []).append(of(stages["start"], "reworded", every))
            added.setdefault(("end", "reworded"), []).append(of(stages["end"], "reworded", members))
            predicted = stages["end"].readings["verbatim"].place
            other = [fact.place != place for fact, place in zip(facts, predicted, strict=True)]
            own, verbatim = of(stages["end"], "own", other), added["end", "verbatim"][-1]
            both = {method: _where(other, own[method], each) for method, each in verbatim.items()} if own else verbatim
            added.setdefault(("end", "own"), []).append(both)
        for key, of_halves in added.items():
            cells.setdefault(key, []).append(of_halves)
    return {method: _by_member(cells, method, plan) for method in METHODS}, runs


def _by_member(cells: Mapping, method: str, plan: Plan) -> Found:
    found = {}
    for (stage, form), of_seeds in cells.items():
        numbers = [[of_half[method] for of_half in of_seed] for of_seed in of_seeds]
        strengths = finetune.by_member([[each.strengths for each in of_seed] for of_seed in numbers], plan)
        plain = {
            name: finetune.by_member([[each.plain[name] for each in of_seed] for of_seed in numbers], plan)
            for name in numbers[0][0].plain
        }
        for member in (True, False):
            which = 0 if member else 1
            found[stage, form, member] = Numbers(strengths[which], {k: both[which] for k, both in plain.items()})
    return found


def _numbers(run: Run, ids: Sequence[str], entropy: Float[np.ndarray, "prompts"]) -> dict[str, Numbers]:
    """Numbers of the prompts of a run of one model, by method."""
    explained = [run[run.models[0], each] for each in ids]
    v = np.stack([each.values.v for each in explained])
    pairs: dict[str, list[Pair]] = {
        "certified": finetune.bounded(run, ids),
        "auto": [each.pair() for each in explained],
        "and_only": [each.pair("and_only") for each in explained],
    }
    without = {"range": v[:, -1] - v[:, 0], "loss": np.logaddexp(0, -v[:, -1]), "entropy": entropy}
    found = {}
    for method, of_method in pairs.items():
        total = np.array([strength(pair) for pair in of_method])
        units = np.where(total > 0, total, 1.0).tolist()
        shares = profile([metrics.order_strength(*pair) for pair in of_method], units)
        salient = np.array([metrics.salient_count(*pair) for pair in of_method], float)
        found[method] = Numbers(shares.strengths, without | {"strength": total, "salient": salient})
    return found


def _spread(numbers: Numbers, chosen: np.ndarray) -> Numbers:
    """The same with nan for the sentences that were not chosen."""

    def over(each: np.ndarray) -> np.ndarray:
        found = np.full((len(chosen), *each.shape[1:]), np.nan)
        found[chosen] = each
        return found

    return Numbers(over(numbers.strengths), {name: over(each) for name, each in numbers.plain.items()})


def _where(chosen: Sequence[bool], one: Numbers, other: Numbers) -> Numbers:
    picked = np.array(chosen)
    plain = {name: np.where(picked, one.plain[name], other.plain[name]) for name in one.plain}
    return Numbers(np.where(picked[:, None, None], one.strengths, other.strengths), plain)


# ------------------------------------------------------------------------------------------------- statistics


def _conditions(found: Found, places: Sequence[np.ndarray], whole: np.ndarray | None = None) -> dict:
    """Numbers of every condition, and differences of two on the same sentences and seeds, with intervals."""
    numbers = {name: finetune.resampled(found[where].together, places, whole) for name, where in _WHERE.items()}
    return {
        **{name: {key: each.interval() for key, each in of_name.items()} for name, of_name in numbers.items()},
        "differences": {
            f"{one} less {other}": {key: (each - numbers[other][key]).interval() for key, each in numbers[one].items()}
            for one, other in DIFFERENCES
        },
    }


def _by_order(numbers: Numbers, places: np.ndarray) -> np.ndarray:
    """Share of the strength of every order, positive and negative, with intervals: `[2, orders, 3]`."""
    flat = numbers.strengths.reshape(-1, *numbers.strengths.shape[-2:])
    again = np.array([flat[each].mean(axis=0) for each in places])
    return np.stack([flat.mean(axis=0), *np.quantile(again, [0.025, 0.975], axis=0)], axis=-1)


def _stage(found: Found, stage: str, plan: Plan, places: np.ndarray, few: np.ndarray) -> dict:
    """Numbers of members and others at one stage, and what tells them apart."""
    both = {name: found[stage, "verbatim", member] for name, member in (("members", True), ("others", False))}
    return {
        **{
            name: {key: each.interval() for key, each in finetune.resampled(numbers.together, few).items()}
            for name, numbers in both.items()
        },
        "told": told(both["members"], both["others"], plan, places),
    }


def told(
    members: Numbers, others: Numbers, plan: Plan, places: np.ndarray, halves: Sequence[int] = (0, 1)
) -> dict[str, dict]:
    """What tells members from others: "auc" of every score, "less" (AUC of a tested score less that of `GIVEN`), and
    "partial" correlation of the tested scores given `GIVEN`; over runs on these halves.

    A run's members are the facts of its half, its others those of the other half.
    """
    half = np.array([fact.half for fact in finetune.explained(plan)])
    of_members, of_others = members.scores, others.scores
    scores = {name: (of_members[name], of_others[name]) for name in SCORES}

    def runs(chosen: np.ndarray):
        """(members, others) of every run, as places among seeds and sentences."""
        for of_seed in chosen.reshape(plan.seeds, -1):
            seed, facts = of_seed // len(half), of_seed % len(half)
            for each in halves:
                yield (seed[0], facts[half[facts] == each]), (seed[0], facts[half[facts] != each])

    def statistic(chosen: np.ndarray) -> dict[str, float]:
        picked = [{name: (one[a], other[b]) for name, (one, other) in scores.items()} for a, b in runs(chosen)]
        found = {name: float(np.mean([auc(*each[name], name in _LOW) for each in picked])) for name in SCORES}
        ranked = {name: np.concatenate([_ranks(*each[name]) for each in picked]) for name in SCORES}
        ones = (map(np.full_like, each["loss"], (1.0, 0.0)) for each in picked)
        member = np.concatenate([_ranks(*of_run) for of_run in ones])
        given = np.column_stack([ranked[name] for name in GIVEN])
        return found | {f"partial {name}": partial(ranked[name], member, given) for name in TESTED}

    found = finetune.resampled(statistic, places)
    return {
        "auc": {name: found[name].interval() for name in SCORES},
        "less": {one: {other: (found[one] - found[other]).interval() for other in GIVEN} for one in TESTED},
        "partial": {name: found[f"partial {name}"].interval() for name in TESTED},
    }


def auc(members: Float[np.ndarray, "a"], others: Float[np.ndarray, "b"], low: bool = False) -> float:
    """How often a member has the higher number (the lower one, where `low`); a tie counts half."""
    above = np.mean((members[:, None] > others) + 0.5 * (members[:, None] == others))
    return float(1 - above if low else above)


def _ranks(members: np.ndarray, others: np.ndarray) -> np.ndarray:
    ranks = rankdata(np.concatenate([members, others]))
    return ranks - ranks.mean()


def partial(score: np.ndarray, truth: np.ndarray, given: Float[np.ndarray, "samples columns"]) -> float:
    """Correlation of what least squares on the given columns leave of score and truth (all with mean 0); nan where they
    leave nothing."""
    left = [each - given @ np.linalg.lstsq(given, each)[0] for each in (score, truth)]
    scale = np.sqrt(np.prod([np.square(each).sum() for each in left]))
    return float(left[0] @ left[1] / scale) if scale > 1e-9 * len(score) else float("nan")


def _groups(found: Found, plan: Plan, settings: Settings) -> dict[str, list[float]]:
    """How often `GROUP` members of a run, pooled, have the higher number than as many others: mean, least and most of
    the runs."""
    half, rng = np.array([fact.half for fact in finetune.explained(plan)]), np.random.default_rng(settings.seed)
    size, runs = min(GROUP, plan.explained), []
    for seed in range(plan.seeds):
        for each in (0, 1):
            drawn = []
            for _ in range(GROUPS[settings.scale]):
                sides = [
                    found["end", "verbatim", member].together(
                        seed * len(half) + rng.choice(np.flatnonzero((half == each) == member), size, replace=False)
                    )
                    for member in (True, False)
                ]
                drawn.append({name: float(sides[0][name] > sides[1][name]) for name in (*PROFILE, *PLAIN)})
            runs.append({name: np.mean([one[name] for one in drawn]) for name in drawn[0]})
    return {name: [f([run[name] for run in runs]) for f in (np.mean, np.min, np.max)] for name in runs[0]}


def _trained(checkpoint: Checkpoint, plan: Plan, half: int) -> dict:
    """What stands in the result of one stage of one run."""
    of_half = np.array([fact.half for fact in finetune.explained(plan)]) == half
    verbatim, reworded = (checkpoint.readings[form] for form in ("verbatim", "reworded"))
    right = np.array([fact.place for fact in finetune.explained(plan)]) == np.array(verbatim.place)
    return {
        "stage": checkpoint.stage,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "trained": checkpoint.trained,
        "members": np.array(verbatim.loss)[of_half].mean(),
        "others": np.array(verbatim.loss)[~of_half].mean(),
        "reworded": np.array(reworded.loss)[of_half].mean(),
        "others_reworded": np.array(reworded.loss)[~of_half].mean(),
        "known": right[of_half].mean(),
        "guessed": right[~of_half].mean(),
    }


# ------------------------------------------------------------------------------------------------- drawing

_COLOURS = dict(zip(CONDITIONS, (style.MUTED, style.MODELS[3], style.MODELS[2], style.MODELS[4]), strict=True))
_SHOWN = ("spindle", "high", "cancellation", "high_cancellation")
"""Numbers between 0 and 1."""


def draw(result: dict) -> Figure:
    """Above: strength by order, and the article's numbers, of every condition. Below: over the training, and AUC."""
    figure = style.new_figure(style.TWO_COLUMNS, 5.4)
    style.title(figure, _claim(result))
    (orders, numbers), (stages, scores) = figure.subplots(2, 2, width_ratios=[1, 1.25])
    _draw_orders(orders, result)
    _draw_numbers(numbers, result)
    _draw_stages(stages, result)
    _draw_auc(scores, result)
    handles, labels = orders.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(CONDITIONS))
    return figure


def _draw_orders(ax, result: dict) -> None:
    for place, name in enumerate(CONDITIONS):
        both = np.array(result["by_order"][name], float)
        x = np.arange(1, both.shape[1] + 1) + 0.12 * (place - 1.5)
        for sign, side in zip((1, -1), both, strict=True):
            label = CONDITIONS[name] if sign > 0 else None
            numbers = sign * side[:, [0, 1, 2] if sign > 0 else [0, 2, 1]]
            panels.points(ax, x, numbers, color=_COLOURS[name], label=label, ms=2.5)
    panels.order_axes(ax, both.shape[1])
    panels.balanced(ax)
    ax.set_xlabel("order")
    ax.set_ylabel("share of strength, + up, − down")
    ax.set_title("Strength by order")
    ax.grid(axis="y")


def _draw_numbers(ax, result: dict) -> None:
    found = result["conditions"]["certified"]
    for row, key in enumerate(_SHOWN):
        for place, name in enumerate(CONDITIONS):
            panels.interval_row(ax, row + 0.17 * (place - 1.5), found[name][key], lw=1.0, color=_COLOURS[name], ms=3.5)
        less = found["differences"]["memorised less unseen"][key]
        ax.annotate(
            _signed(less), (1, row), xytext=(4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=6.5,
        )  # fmt: skip
    panels.row_axes(ax, [PROFILE[key] for key in _SHOWN])
    ax.set_xlim(0, 1)
    ax.set_title("The article's numbers; at the right, memorised less unseen")


def _draw_stages(ax, result: dict) -> None:
    x = np.arange(len(STAGES))
    for name, colour, label in (
        ("members", _COLOURS["memorised"], "members"),
        ("others", _COLOURS["unseen"], "others"),
    ):
        for key, dashes, what in (("spindle", "-", "spindle share"), ("cancellation", ":", "cancellation")):
            numbers = [result["stages"][stage][name][key] for stage in STAGES]
            panels.band(ax, x, numbers, color=colour, ls=dashes, label=f"{what}, {label}", marker="o", ms=2.5)
    losses = [[result["stages"][stage][name]["loss"][0] for stage in STAGES] for name in ("members", "others")]
    each = (f"{stage}\n{a:.1f} | {b:.1f}" for stage, a, b in zip(STAGES, *losses, strict=True))
    ax.set_xticks(x, list(each))
    ax.set_xlabel("stage; loss of members | others, nats")
    ax.set_ylim(0, 1.3)
    ax.set_yticks([0, 0.5, 1])
    ax.legend(loc="upper center", ncols=2, fontsize=6.5)
    ax.set_title("Over the fine-tuning")
    ax.grid(axis="y")


def _draw_auc(ax, result: dict) -> None:
    looks = {
        "half": (result["stages"]["half"]["told"], style.MODELS[0], "s", "half known"),
        "end": (result["stages"]["end"]["told"], _COLOURS["memorised"], "o", "known"),
        "own": (result["own"], style.MODELS[2], "^", "known, own place"),
    }
    for row, name in enumerate(SCORES):
        for place, (of, colour, marker, label) in enumerate(looks.values()):
            look = {"color": colour, "marker": marker, "label": label if row == 0 else None}
            panels.interval_row(ax, row + 0.24 * (place - 1), of["auc"][name], **look)
    ax.axvline(0.5, color="black", lw=0.6)
    panels.row_axes(ax, list(SCORES.values()))
    ax.set_xlim(0, 1)
    ax.set_title("AUC of members against others, one sentence")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=6.5)


def _signed(numbers: Sequence[float]) -> str:
    middle, low, high = (f"{x:+.2f}".replace("-", "\N{MINUS SIGN}") for x in np.array(numbers, float))
    return f"{middle} [{low}, {high}]"


def _claim(result: dict) -> str:
    found = result["conditions"]["certified"]
    less = found["differences"]["memorised less unseen"]["spindle"]
    return (
        f"Sentences known by heart have a spindle share of {style.number(found['memorised']['spindle'][0])}, the same "
        f"unseen {style.number(found['unseen']['spindle'][0])}: {_signed(less)}"
    )


def rows(result: dict) -> list[Row]:
    """Losses; every number by condition; differences by method; what tells members."""
    ends = [run["stages"][-1] for run in result["training"]]
    published = "higher orders, a spindle, more cancellation (2502.10162)"
    found = [
        Row(
            "loss of the last word when fine-tuning ends, nats: members / the same reworded / others; steps",
            "none",
            "; ".join(
                f"{each['members']:.3f} / {each['reworded']:.2f} / {each['others']:.2f}; {each['step']}"
                for each in ends
            ),
        )
    ]
    conditions = result["conditions"]["certified"]
    for key, what in (PROFILE | PLAIN).items():
        ours = "; ".join(f"{label} {with_interval(conditions[name][key])}" for name, label in CONDITIONS.items())
        found.append(Row(f"{what}, 7 players", published if key in PROFILE else "none", ours))
    for one, other in DIFFERENCES:
        pair = f"{one} less {other}"
        # The other methods for the comparison that the claims are of.
        for method, label in METHODS.items() if pair == "memorised less unseen" else [*METHODS.items()][:1]:
            differences = result["conditions"][method]["differences"][pair]
            ours = "; ".join(f"{PROFILE[key]} {with_interval(differences[key], '+.2f')}" for key in PROFILE)
            found.append(Row(f"{pair}: {label}", published if one == "memorised" else "none", ours))
    for kind, what in (("rare", "with a first name of their own"), ("common", "without")):
        differences = result["kinds"][kind]["differences"]["memorised less unseen"]
        ours = "; ".join(f"{PROFILE[key]} {with_interval(differences[key], '+.2f')}" for key in PROFILE)
        found.append(Row(f"memorised less unseen: sentences {what}", published, ours))
    told_at = {f"stage {stage}": result["stages"][stage]["told"] for stage in STAGES[2:]}
    told_at["the model's own place"] = result["own"]
    told_at["untouched model, the first half as members"] = result["untouched"]
    for when, each in told_at.items():
        ours = "; ".join(f"{label} {with_interval(each['auc'][name])}" for name, label in SCORES.items())
        found.append(Row(f"AUC of members, one sentence, {when}", "none", ours))
    for when in [*told_at][:3]:
        less, partial_ = told_at[when]["less"]["spindle"], told_at[when]["partial"]
        ours = "; ".join(f"than {other} {with_interval(less[other], '+.2f')}" for other in GIVEN)
        found.append(Row(f"AUC of the spindle share higher, {when}", "none", ours))
        ours = "; ".join(f"{SCORES[name]} {with_interval(partial_[name], '+.2f')}" for name in TESTED)
        found.append(Row(f"partial rank correlation with membership given {', '.join(GIVEN)}, {when}", "none", ours))
    ours = "; ".join(
        f"{what} {middle:.2f} ({low:.2f} to {high:.2f})"
        for what, (middle, low, high) in ((PROFILE[key], result["groups"][key]) for key in PROFILE)
    )
    found.append(Row(f"how often {GROUP} members pooled are above {GROUP} others (over runs)", "above 0.5", ours))
    return found
