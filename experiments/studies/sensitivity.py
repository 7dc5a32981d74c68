"""Sensitivity: which of a prompt's effects survive another phrasing, and are some models steadier than others?

Reproduces: the interaction-based prompt sensitivity (IPS) of Qin et al., ICML 2026 (arXiv 2608.18539), by order and by
            type of stability, on several phrasings of one prompt with the same players and target: three openings put
            before it, and, for the prompts of this package, other words between the players (rewordings.jsonl). With
            --corpus, models that are not embedded also answer CommonsenseQA in three templates with options: players
            are the last three content words of the question and the five options, the target is the letter.
Hypothesis: most salient effects are unstable, high orders more than low ones, and models differ. Written before
            looking, as was the falsifier.
Falsifier:  less than half are unstable (the interval of the share, over prompts, below 0.5), or as many as between
            unrelated prompts (the control); IPS of high orders less that of low ones has an interval that reaches 0; or
            the interval of the difference between any two models reaches 0, so that a ranking says nothing.
Controls:   two different prompts of as many players in place of two phrasings, which gives what chance gives; phrasings
            between which p of the target hardly moves; AND effects alone beside the certified optimum.
Command:    python -m experiments sensitivity [--models A B] [--corpus DATA] [--quick] [--smoke]
            DATA holds commonsenseqa_dev.jsonl.
Hardware:   2 CPU cores
Minutes:    4
Published:  60 to 80% of salient effects are unstable even where the output is the same; IPS 1.22 to 1.78; larger models
            are steadier in low orders, and in high ones none is

The last eight players of each prompt. Means over pairs of phrasings, then over prompts; intervals resample prompts,
differences between models are paired by prompt.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from andor.core.explained import Method, Pair
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import REPEATS, Resampled, draws
from andor.measures.reported import mean_of_defined
from andor.models import embedded_models
from andor.prompts import Prompt
from andor.runs.run import Run
from experiments.study import Row, Settings, comparison, described, prompts_of, with_interval

PROMPTS = 20
"""The first of `Settings.prompts`."""

PLAYERS = 8
"""Of every prompt, the last ones."""

OPENINGS = {"as it is": "", "well": "well , ", "review": "review : ", "here is": "here is what they say : "}
"""Phrasing -> what it puts before a prompt."""

REWORDINGS = Path(__file__).parent / "rewordings.jsonl"

QUESTIONS, QUESTION_WORDS = 20, 3

TEMPLATES = {
    "options": ("Question: {question}\nOptions:", " {letter}. {option}", "\nAnswer:"),
    "brackets": ("{question}\n", "({letter}) {option} ", "\nThe correct option is"),
    "lines": ("Choose the best answer.\n{question}", "\n{letter}: {option}", "\nBest answer:"),
}
"""Template of a question with options -> its beginning, each option, its end."""

SAME_P = 0.1
"""Largest difference of p between two phrasings whose output is called the same."""

METHODS: tuple[Method, ...] = ("certified", "and_only")

NUMBERS = {
    "ips": "IPS",
    "low": "IPS of low orders",
    "middle": "IPS of middle orders",
    "high": "IPS of high orders",
    "high_less_low": "IPS of high orders less low ones",
    "unstable": "share of unstable effects",
    "unstable_same": "share of unstable effects, p about the same",
    "opposite": "share of effects that turn",
    "different": "share of effects that halve or vanish",
}
"""Name in the result -> what it is called."""


def measure(settings: Settings) -> dict:
    """IPS of every model on every set of phrasings, by order and type, its ranking, and the control."""
    runs, sets = [], {}
    for name, models, phrasings in _sets(settings):
        of_set = _runs(settings, models, phrasings)
        runs += of_set.values()
        sets[name] = _numbers(of_set, settings)
        print(f"{name}: done", flush=True)
    return {"runs": [described(run) for run in runs], "sets": sets}


def _sets(settings: Settings) -> list[tuple[str, tuple[str, ...], dict[str, list[Prompt]]]]:
    """(name, models, phrasing -> prompts) of every set."""
    prompts = [
        dataclasses.replace(prompt, players=prompt.players[-PLAYERS:], labels=None)
        for prompt in prompts_of(settings)[:PROMPTS]
    ]
    phrasings = {name: [_opened(prompt, opening) for prompt in prompts] for name, opening in OPENINGS.items()}
    if settings.prompts.resolve() == Settings.prompts.resolve():
        phrasings["other words"] = reworded(prompts)
    if settings.smoke:
        phrasings = dict(list(phrasings.items())[-2:])
    found = [("openings and other words", settings.models, phrasings)]
    others = tuple(model for model in settings.models if model not in embedded_models())
    if settings.corpus is not None and others:
        found.append(("CommonsenseQA", others, questions(settings.corpus / "commonsenseqa_dev.jsonl")))
    return found


def _opened(prompt: Prompt, opening: str) -> Prompt:
    """A prompt with something before it."""
    spans = [(start + len(opening), stop + len(opening)) for start, stop in prompt.players]
    return dataclasses.replace(prompt, text=opening + prompt.text, players=spans)


def reworded(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same players and targets in other words."""
    texts = {record["id"]: record["text"] for record in map(json.loads, REWORDINGS.read_text().splitlines())}
    return [Prompt(texts[prompt.id], players=prompt.words, target=prompt.target, id=prompt.id) for prompt in prompts]


def questions(path: Path, count: int = QUESTIONS) -> dict[str, list[Prompt]]:
    """Template -> the first questions of CommonsenseQA in it, with the same players; target: the answer's letter."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: --corpus DATA must hold commonsenseqa_dev.jsonl.")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
    return {name: [_question(record, *parts) for record in records] for name, parts in TEMPLATES.items()}


def _question(record: dict, beginning: str, each: str, end: str) -> Prompt:
    text = beginning.format(question=record["question"])
    start = text.index(record["question"])
    words = Prompt(record["question"]).players[-QUESTION_WORDS:]
    spans = [(start + first, start + last) for first, last in words]
    for letter, option in zip(record["choices"]["label"], record["choices"]["text"], strict=True):
        written = each.format(letter=letter, option=option)
        place = len(text) + written.rindex(option)
        spans.append((place, place + len(option)))
        text += written
    return Prompt(text.rstrip() + end, spans, target=record["answerKey"], id=record["id"])


def _runs(settings: Settings, models: Sequence[str], phrasings: dict[str, list[Prompt]]) -> dict[str, Run]:
    """Phrasing -> run. What the first phrasing predicts is the target of all, where none is given."""
    (first, prompts), *others = phrasings.items()
    runs = {first: comparison(settings, models, prompts, noise="auto")}
    targets = {prompt.id: runs[first][models[0], prompt.id].target for prompt in runs[first].prompts}
    for name, reworded_ in others:
        same = [
            prompt if prompt.target is not None else dataclasses.replace(prompt, target=targets[prompt.id], exact=True)
            for prompt in reworded_
            if prompt.id in targets
        ]
        runs[name] = comparison(settings, models, same, noise="auto")
    return runs


# ---------------------------------------------------------------------------------------------------- the numbers


def _numbers(runs: dict[str, Run], settings: Settings) -> dict:
    """Per model and method: every number and IPS by order with intervals; ranks, and differences between models."""
    first = next(iter(runs.values()))
    ids = [prompt.id for prompt in first.prompts if all((first.models[0], prompt.id) in run for run in runs.values())]
    chosen = draws(len(ids), REPEATS // 4, settings.seed)
    found: dict = {"phrasings": [*runs], "prompts": ids, "models": {}, "differences": {}}
    resampled: dict[str, dict[str, dict[str, Resampled]]] = {method: {} for method in METHODS}
    for model in first.models:
        label = first.labels[model]
        found["models"][label] = {}
        for method in METHODS:
            rows = [_of_prompt(runs, model, prompt_id, method) for prompt_id in ids]
            control = [_unrelated(first, model, ids, place, method) for place in range(len(ids))]
            of_model = {name: _mean([row[name] for row in rows], chosen) for name in NUMBERS}
            resampled[method][label] = of_model
            by_order = [_mean(column, chosen).interval() for column in np.array([row["per_order"] for row in rows]).T]
            found["models"][label][method] = {
                **{name: each.interval() for name, each in of_model.items()},
                "per_order": by_order,
                "by_prompt": [row["ips"] for row in rows],
                "unrelated": {name: _mean([row[name] for row in control], chosen).interval() for name in NUMBERS},
            }
    for method in METHODS:
        labels = list(resampled[method])
        ranks = (
            np.argsort(np.argsort([resampled[method][each]["ips"].resampled for each in labels], axis=0), axis=0) + 1
        )
        for label, of_label in zip(labels, ranks, strict=True):
            found["models"][label][method]["rank"] = np.quantile(of_label, [0.5, 0.025, 0.975])
        found["differences"][method] = {
            f"{one} less {other}": (resampled[method][one]["ips"] - resampled[method][other]["ips"]).interval()
            for one, other in itertools.combinations(labels, 2)
        }
    return found


def _mean(numbers: Sequence[float], chosen: np.ndarray) -> Resampled:
    values = np.array(numbers, float)
    return Resampled(mean_of_defined(values), np.array([mean_of_defined(values[places]) for places in chosen]))


def _of_prompt(runs: dict[str, Run], model: str, prompt_id: str, method: Method) -> dict:
    """Means over pairs of phrasings of one prompt."""
    pairs = list(itertools.combinations([run[model, prompt_id] for run in runs.values()], 2))
    numbers = [_sensitivity(one.pair(method), other.pair(method)) for one, other in pairs]
    same = [abs(a.values.target_probability - b.values.target_probability) <= SAME_P for a, b in pairs]
    unstable = [each["unstable"] for each, is_same in zip(numbers, same, strict=True) if is_same]
    means = {name: mean_of_defined([each[name] for each in numbers]) for name in numbers[0] if name != "per_order"}
    by_order = [mean_of_defined(column) for column in np.array([each["per_order"] for each in numbers]).T]
    return means | {"unstable_same": mean_of_defined(unstable), "per_order": by_order}


def _sensitivity(one: Pair, other: Pair) -> dict:
    found = metrics.ips(one, other)
    numbers = {name: getattr(found, name) for name in ("ips", "low", "middle", "high", "opposite", "different")}
    return numbers | {
        "high_less_low": found.high - found.low,
        "unstable": found.opposite + found.different,
        "per_order": np.pad(found.per_order, (0, PLAYERS - len(found.per_order)), constant_values=np.nan),
    }


def _unrelated(run: Run, model: str, ids: Sequence[str], place: int, method: Method) -> dict:
    """A prompt beside the next one of as many players, as if they were two phrasings."""
    mine = run[model, ids[place]]
    others = [run[model, each] for each in (*ids[place + 1 :], *ids[:place])]
    other = next((each for each in others if each.values.v.size == mine.values.v.size), None)
    if other is None:
        return dict.fromkeys(NUMBERS, np.nan)
    return _sensitivity(mine.pair(method), other.pair(method)) | {"unstable_same": np.nan}


def draw(result: dict) -> Figure:
    """Left, IPS of every model beside chance; middle, by order; right, types of stability."""
    (name, first), *_ = result["sets"].items()
    models = first["models"]
    figure = style.new_figure(style.TWO_COLUMNS, 1.7 + 0.42 * len(models) * len(result["sets"]))
    shares = [each["certified"]["unstable"][0] for each in models.values()]
    chance = [each["certified"]["unrelated"]["unstable"][0] for each in models.values()]
    style.title(
        figure,
        f"Of salient effects {style.listed([100 * x for x in shares], '.0f')}% do not survive another phrasing; "
        f"between unrelated prompts {style.listed([100 * x for x in chance], '.0f')}%",
    )
    for row, (name, of_set) in zip(
        np.atleast_1d(figure.subfigures(len(result["sets"]), 1)), result["sets"].items(), strict=True
    ):
        style.heading(row, f"{name}: {len(of_set['phrasings'])} phrasings, {len(of_set['prompts'])} prompts")
        left, middle, right = row.subplots(1, 3, width_ratios=[1.2, 1, 1.1])
        _draw_ips(left, of_set["models"])
        for place, of_model in enumerate(of_set["models"].values()):
            numbers = [each for each in of_model["certified"]["per_order"] if each[0] is not None]
            panels.band(
                middle, np.arange(1, len(numbers) + 1), numbers, color=style.model_colour(place), marker="o", ms=3
            )
        middle.set_xlabel("order |S|")
        middle.set_title("IPS by order")
        middle.grid(axis="y")
        _draw_types(right, of_set["models"])
    handles = [
        Line2D([], [], color=style.MUTED, marker="|", ls="", ms=8, label="mean; line: its 95%"),
        Line2D([], [], color=style.MUTED, marker="x", ls="", ms=4, label="unrelated prompts"),
        *(Patch(color=colour, label=label) for label, colour in _TYPES.values()),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


_TYPES = {
    "opposite": ("turned", style.UNLIKELIER),
    "different": ("halved or gone", style.LIKELIER),
    "similar": ("similar", style.GRID),
}


def _draw_ips(ax, models: dict) -> None:
    for row, (place, of_model) in enumerate(enumerate(models.values())):
        certified = of_model["certified"]
        numbers = np.array(certified["by_prompt"], float)
        text = f"{certified['ips'][0]:.2f}, rank {certified['rank'][0]:.0f}"
        panels.dots(
            ax,
            row,
            numbers[~np.isnan(numbers)],
            certified["ips"],
            text,
            half=0.25,
            color=style.model_colour(place),
            ms=2.5,
        )
        ax.plot(certified["unrelated"]["ips"][0], row, "x", color=style.MUTED, ms=4)
    panels.row_axes(ax, list(models))
    ax.set_xlim(0, 2)
    ax.set_title("IPS, a dot per prompt")


def _draw_types(ax, models: dict) -> None:
    for row, of_model in enumerate(models.values()):
        turned, halved = (of_model["certified"][name][0] for name in ("opposite", "different"))
        start = 0.0
        for width, (_, colour) in zip((turned, halved, 1 - turned - halved), _TYPES.values(), strict=True):
            ax.barh(row, width, left=start, height=0.6, color=colour)
            start += width
    panels.row_axes(ax, [""] * len(models))
    ax.set_xlim(0, 1)
    ax.set_title("share of salient effects")


def rows(result: dict) -> list[Row]:
    """IPS, unstable effects and orders of every model beside chance; differences between models."""
    found = []
    for set_name, of_set in result["sets"].items():
        for label, of_model in of_set["models"].items():
            ours, alone = of_model["certified"], of_model["and_only"]
            for name, claim, published in (
                ("ips", "IPS", "1.22 to 1.78 (2608.18539, table 3)"),
                ("unstable", "share of salient effects that are unstable", "60 to 80% (2608.18539)"),
                ("unstable_same", f"the same, p within {SAME_P:g}", "60 to 80% where the output is the same"),
                ("high_less_low", "IPS of high orders less low ones", "high orders stay sensitive"),
            ):
                by_chance = f"; unrelated prompts {with_interval(ours['unrelated'][name])}" * (name != "unstable_same")
                found.append(
                    Row(
                        f"{claim}, {label}, {set_name}",
                        published,
                        f"{with_interval(ours[name])}{by_chance}; AND only {with_interval(alone[name])}",
                    )
                )
        ranks = ", ".join(
            f"{label} {each['certified']['rank'][0]:.0f} "
            f"[{each['certified']['rank'][1]:.0f}, {each['certified']['rank'][2]:.0f}]"
            for label, each in of_set["models"].items()
        )
        found.append(Row(f"rank by IPS, 1 steadiest, {set_name}", "larger models are steadier", ranks))
        for pair, difference in of_set["differences"]["certified"].items():
            found.append(
                Row(f"IPS of {pair}, {set_name}", "larger models are steadier", with_interval(difference, "+.2f"))
            )
    return found
