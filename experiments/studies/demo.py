"""The demo's table: published effects of the seed's pair on one sentence, ours beside them, and the least strength.

Reproduces: SymtrustAI/InteractionExplanationDemo (v1.0, 2026), sentence symtrust-0: the sixteen strongest effects of
            DeepSeek-R1-Distill-Llama-8B on "settings" and the strongest of Qwen2.5-7B, as read off its picture. Beside
            them, in the same form: our compact explanation of the models that are given, and their certified optimum.
            What the certificate buys is shown on the published list itself: an OR can be written as ANDs
            (OR{a,b} = a + b - AND{a,b} on every mask), and where that costs less, the list shows more strength than
            the function has. `folded` writes every OR so that pays; the optimum without noise is the least there is.
Command:    python -m experiments demo --models A B --corpus DATA
            The seed's pair: --models Qwen/Qwen2.5-7B deepseek-ai/DeepSeek-R1-Distill-Llama-8B, on one GPU. DATA holds
            symtrust_demo/prompts.jsonl, the demo's sentences, which are news text and not ours to ship.
Hardware:   2 CPU cores for models of up to half a billion parameters, one GPU for the seed's pair
Minutes:    15
Published:  the effects in `PUBLISHED`; logic model 17.397 and model 18.749 on the whole sentence

Refuted by: the optimum of the published function is as strong as the published list; or, with the seed's pair, none of
the five strongest published effects is among our twenty.
"""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

import andor
from andor.core.certificate import reconstruct
from andor.core.effects import effect_name
from andor.core.explained import Pair
from andor.core.lattice import n_players_of
from andor.figures import panels, style
from andor.measures.metrics import order_strength, ranking
from andor.measures.profile import strength
from andor.prompts import Prompt, read_prompts
from experiments.study import Row, Settings, comparison, described

NEEDS_MODELS = True

SENTENCES, SENTENCE = "symtrust_demo/prompts.jsonl", "symtrust-0"
TARGET = "settings"
PLAYERS = 10

MASK = "mean"
"""The demo masks with an embedding of each model."""

SHOWN = 16

Listed = dict[tuple[bool, tuple[int, ...]], float]
"""(whether it is an OR, its players) -> effect in nats."""

DEEPSEEK, QWEN = "DeepSeek-R1-Distill-Llama-8B", "Qwen2.5-7B"
PUBLISHED: dict[str, Listed] = {
    DEEPSEEK: {
        (False, (9,)): 9.642,
        (False, (8,)): 2.149,
        (False, (8, 9)): 1.096,
        (False, (7,)): 0.834,
        (True, (8, 9)): -0.728,
        (False, (6,)): 0.707,
        (False, (7, 9)): 0.469,
        (False, (5, 9)): 0.407,
        (False, (6, 9)): 0.385,
        (True, (7, 8, 9)): -0.361,
        (False, (4, 8, 9)): 0.331,
        (True, (6, 8, 9)): -0.325,
        (False, (4,)): 0.300,
        (True, (6, 7, 9)): -0.266,
        (False, (5,)): 0.236,
        (False, (2,)): 0.230,
    },
    QWEN: {(False, (9,)): 14.011},
}
"""Model -> its published effects; players by their place in the sentence."""


def measure(settings: Settings) -> dict:
    """Published list, folded and at least strength; and every model's effects on the same sentence."""
    run = comparison(settings, prompts=[sentence(settings)], baseline=MASK, noise="auto")
    pair = as_pair(PUBLISHED[DEEPSEEK])
    optimum = andor.extract(reconstruct(*pair), 0.0)
    lists = {"published": pair, "folded": folded(pair), "least": (optimum.and_effects, optimum.or_effects)}
    models = {}
    for model in run.models:
        explained = run[model, SENTENCE]
        models[run.labels[model]] = {
            "p": explained.values.target_probability,
            "v": [explained.values.v[0], explained.values.v[-1]],
            "compact": _listed(explained.pair("compact")),
            "least": _listed(explained.pair()),
            "r2": explained.compact.r2,
            "excess": explained.compact.excess,
            "bound": float(explained.solution.noise_bound),
            "gap": float(explained.solution.gap),
            "orders": {name: _orders(explained.pair(method)) for name, method in METHODS.items()},
        }
    return {
        "runs": [described(run)],
        "words": list(run[run.models[0], SENTENCE].values.players),
        "target": TARGET,
        "lists": {
            name: {"effects": _listed(each), "strength": strength(each), "count": ranking(*each).real.effect.size}
            for name, each in lists.items()
        },
        "gap": float(optimum.gap),
        "published_orders": _orders(pair),
        "models": models,
    }


METHODS = {"compact": "compact", "least": "certified"}
"""Which of our effects are shown -> the method of an explanation."""


def sentence(settings: Settings) -> Prompt:
    """The demo's sentence with its ten players and its target."""
    if settings.corpus is None:
        raise ValueError(f"demo needs --corpus DATA, a folder with {SENTENCES}.")
    found = [prompt for prompt in read_prompts(settings.corpus / SENTENCES) if prompt.id == SENTENCE]
    if not found or found[0].n_players != PLAYERS:
        raise ValueError(f"{settings.corpus / SENTENCES} must hold {SENTENCE} with its {PLAYERS} players.")
    return Prompt(found[0].text, found[0].players, TARGET, id=SENTENCE)


def as_pair(effects: Mapping, n_players: int = PLAYERS) -> Pair:
    """(AND effects, OR effects) `[2**n_players]` of a list of effects."""
    found = np.zeros((2, 2**n_players))
    for (is_or, players), effect in effects.items():
        found[int(is_or), sum(1 << player for player in players)] = effect
    return found[0], found[1]


def folded(pair: Pair) -> Pair:
    """The same function on every mask with every OR written as ANDs where that lowers the strength, strongest first."""
    and_effects, or_effects = (each.copy() for each in pair)
    for subset in sorted(np.flatnonzero(or_effects).tolist(), key=lambda each: -abs(or_effects[each])):
        players = [player for player in range(n_players_of(or_effects)) if subset >> player & 1]
        ands, ors = and_effects.copy(), or_effects.copy()
        for size in range(1, len(players) + 1):
            for part in itertools.combinations(players, size):
                ands[sum(1 << player for player in part)] += (-1) ** (size + 1) * or_effects[subset]
        ors[subset] = 0.0
        if strength((ands, ors)) < strength((and_effects, or_effects)):
            and_effects, or_effects = ands, ors
    return and_effects, or_effects


def _listed(pair: Pair) -> list[dict]:
    """The strongest effects, in the form of the demo: kind, players, nats."""
    top, players = ranking(*pair).real, range(n_players_of(pair[0]))
    return [
        {"is_or": bool(is_or), "players": [each for each in players if subset >> each & 1], "effect": float(effect)}
        for is_or, subset, effect in zip(top.is_or[:SHOWN], top.subset[:SHOWN], top.effect[:SHOWN], strict=True)
    ]


def _orders(pair: Pair) -> list[list[float]]:
    of = order_strength(*pair)
    return [of.positive.tolist(), of.negative.tolist()]


def _name(result: dict, is_or: bool, players) -> str:
    return effect_name(result["words"], sum(1 << each for each in players), is_or, 34)


def _effects(listed: list[dict]) -> Listed:
    return {(each["is_or"], tuple(each["players"])): each["effect"] for each in listed}


def _columns(result: dict) -> dict[str, Listed]:
    """What is shown side by side: the published list, its function at least strength, and ours of every model."""
    columns = {f"published, {DEEPSEEK}": PUBLISHED[DEEPSEEK], f"published, {QWEN}": PUBLISHED[QWEN]}
    columns["published function, least strength"] = _effects(result["lists"]["least"]["effects"])
    for label, of_model in result["models"].items():
        columns[f"{label}, compact"] = _effects(of_model["compact"])
        columns[f"{label}, least strength"] = _effects(of_model["least"])
    return columns


def draw(result: dict) -> Figure:
    """Left, the published effects, the same function at least strength and ours; right, strength by order."""
    lists, labels = result["lists"], list(result["models"])
    figure = style.new_figure(style.TWO_COLUMNS, 4.6)
    style.title(
        figure,
        f"The published list has strength {lists['published']['strength']:.2f}; the same function on all "
        f"{2**PLAYERS} masks needs {lists['least']['strength']:.2f}",
    )
    left, right = figure.subplots(1, 2, width_ratios=[1.9, 1])
    columns = _columns(result)
    shown = {
        f"published, {DEEPSEEK}": {"color": style.NOISE, "marker": "s"},
        "published function, least strength": {"color": style.CERTIFIED, "marker": "D"},
    }
    for at, label in enumerate(labels):
        shown[f"{label}, compact"] = {"color": style.model_colour(at), "marker": "o"}
    names = list(PUBLISHED[DEEPSEEK])
    step = 0.8 / len(shown)
    for place, (column, look) in enumerate(shown.items()):
        for row, key in enumerate(names):
            effect = columns[column].get(key, 0.0)
            y = row - 0.4 + step * (place + 0.5)
            left.plot([0, effect], [y, y], color=look["color"], lw=1.0)
            left.plot(effect, y, ms=3, ls="none", label=column if row == 0 else None, **look)
    panels.row_axes(left, [_name(result, *key) for key in names])
    left.set_xscale("symlog", linthresh=0.5)
    left.set_xticks([-1, -0.3, 0, 0.3, 1, 3, 10], ["-1", "-0.3", "0", "0.3", "1", "3", "10"])
    left.minorticks_off()
    left.axvline(0, color="black", lw=0.6)
    left.set_xlabel(f"effect on “{result['target']}”, nats (0: not among the {SHOWN} strongest)")
    profiles = {"published": result["published_orders"]} | {
        label: of["orders"]["compact"] for label, of in result["models"].items()
    }
    width = 0.8 / len(profiles)
    for place, (label, orders) in enumerate(profiles.items()):
        colour = style.NOISE if not place else style.model_colour(place - 1)
        numbers = np.repeat(np.array(orders)[:, :, None], 3, axis=2)
        panels.order_bars(right, numbers, width, width * (place + 0.5) - 0.4, color=colour, label=label)
    panels.order_axes(right, PLAYERS)
    right.set_title("Strength by order, compact")
    right.set_xlabel("order")
    right.set_ylabel("nats, positive up, negative down")
    handles, texts = left.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=2)
    return figure


def rows(result: dict) -> list[Row]:
    """Strength of the published list, folded and at least, and the strongest effects of every model."""
    lists = result["lists"]
    least = lists["least"]["strength"]
    found = [
        Row(
            "strength of the published effects, the same function folded, and at least",
            f"{lists['published']['strength']:.3f} in {lists['published']['count']} effects",
            f"folded {lists['folded']['strength']:.3f} in {lists['folded']['count']}; least {least:.3f} in "
            f"{lists['least']['count']} (proved within {max(result['gap'], 0):.1g}), so the list has "
            f"{lists['published']['strength'] / least:.2f} times the strength of its function",
        )
    ]
    published = "; ".join(f"{model} AND {result['words'][9]} {of[False, (9,)]:.2f}" for model, of in PUBLISHED.items())
    for label, of in result["models"].items():
        strongest = ", ".join(
            f"{_name(result, each['is_or'], each['players'])} {each['effect']:+.2f}" for each in of["compact"][:5]
        )
        common = sum(key in _effects(of["compact"]) for key in PUBLISHED[DEEPSEEK])
        ours = f"{strongest}; {common} of the {SHOWN} published among the strongest {SHOWN}"
        numbers = f"p {of['p']:.2f}, R² {of['r2']:.2f}, {of['excess']:.2f} times the least strength"
        found.append(Row(f"effects on “{result['target']}”, {label}", published, f"{ours} ({numbers})"))
    return found


def table(result: dict) -> str:
    """Every effect that is published or among the strongest of a model, in every column."""
    columns = _columns(result)
    keys = dict.fromkeys(key for of in columns.values() for key in of)
    lines = ["# Effects on one sentence, in nats", "", f"Empty: not published, or not among the {SHOWN} strongest.", ""]
    lines += ["| effect | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for key in keys:
        cells = [f"{of[key]:+.3f}" if key in of else "" for of in columns.values()]
        lines.append(f"| {_name(result, *key)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
