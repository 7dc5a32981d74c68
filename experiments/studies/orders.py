"""Order distributions: which orders carry the strength, and how much of each cancels, by method?

Reproduces: arXiv 2401.16318, figure 4 (strength of all and of shared effects per order, positive and negative), and the
            cancellation per order, at the certified optimum, with AND effects alone and with the published solver. With
            them a control: planted games through the same three methods, some whose strength decays with order (30
            effects, e^(-0.7 order), 70% positive), some whose effects are flat over subsets (100 effects, every subset
            is as likely: a balanced spindle). A spindle that a method shows for games that decay is the method's.
Command:    python -m experiments orders [--models A B] [--quick] [--smoke]
Hardware:   2 CPU cores
Minutes:    10
Published:  strength decays with order for what generalises, a spindle of middle orders for what does not (2502.10162)
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from andor.core.games import mixture
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.metrics import Pair
from andor.measures.profile import Profile, profile, profile_of, prompts_with_effects, strength
from experiments.lab.methods import LABELS, beside, by_method, effects, look, published_solvers
from experiments.study import SMOKE_PLAYERS, Row, Settings, described, prompts_of, with_interval

FAMILIES = {"decaying": 0.0, "flat": 1.0}
"""Planted games -> share of the spindle in their strength."""
RATE, RATIO, NOISE = 0.7, 1.0, 0.002
"""Decay e^(-RATE o) of the strength at order o; spindle C(n, o) RATIO^o; noise in units of |v(N) - v(∅)|."""
TRUTH = "truth"
GAME_PLAYERS = 10
BATCH = 8
"""Games solved in one call."""

RESAMPLES = {"full": 200, "quick": 100, "smoke": 2}
"""Bootstrap resamples of a spindle share, which takes 15 ms each."""

_SHORT = {"certified": "certified", "and_only": "AND only", "published": "published"}


def measure(settings: Settings) -> dict:
    """Order profiles of the models and of planted games, by method."""
    found = effects(settings)
    run = found.run
    ids, models = prompts_with_effects(run), {}
    for model in run.models:
        units = [strength(run[model, p].pair()) for p in ids]
        of_model = models[run.labels[model]] = {}
        for method in LABELS:
            pairs = [found.pair(method, model, p) for p in ids]
            of_model[method] = _numbers(profile_of(pairs, units), settings)
            others = [other for other in run.models[:2] if other != model]
            if len(others) == 1:
                theirs = [found.pair(method, others[0], p) for p in ids]
                shared = [metrics.shared_order_strength(*both)[0] for both in zip(pairs, theirs, strict=True)]
                of_model[method]["shared"] = profile(shared, units).intervals(settings.seed)
    return {
        "runs": [described(each) for each in found.runs],
        "prompts": len(ids),
        "models": models,
        "games": {family: _games(settings, family) for family in FAMILIES},
    }


def _numbers(found: Profile, settings: Settings) -> dict:
    """Mean over prompts with intervals: strength per order and sign, in units; total; shares; cancellation."""
    seed = settings.seed
    return {
        "strength": found.intervals(seed),
        "total": found.interval(lambda some: some.total, seed),
        "low_orders": found.interval(lambda some: some.low_orders, seed),
        "spindle_share": found.interval(lambda some: some.split.spindle_share, seed, RESAMPLES[settings.scale]),
        "cancellation": found.cancellation_intervals(seed),
    }


def _games(settings: Settings, family: str) -> dict:
    """Profiles of planted games by method and of the planted effects themselves, in units of the planted strength."""
    n_players = SMOKE_PLAYERS if settings.smoke else GAME_PLAYERS
    rng = np.random.default_rng([settings.seed, n_players, list(FAMILIES).index(family)])
    games = [
        mixture(rng, n_players, FAMILIES[family], RATE, RATIO, or_too=True, noise=NOISE)[0]
        for _ in range(len(prompts_of(settings)))
    ]
    found: dict[str, list[Pair]] = {TRUTH: [(game.and_effects, game.or_effects) for game in games]}
    for start in range(0, len(games), BATCH):
        v = np.stack([game.v for game in games[start : start + BATCH]])
        for method, of_batch in by_method(v, published_solvers(settings)).items():
            found.setdefault(method, []).extend(of_batch)
    units = [strength(pair) for pair in found[TRUTH]]
    return {method: _numbers(profile_of(found[method], units), settings) for method in (TRUTH, *LABELS)}


def draw(result: dict) -> Figure:
    """A column per model: strength per order by method, cancellation; below, the planted games."""
    models = list(result["models"])[:2]
    figure = style.new_figure(style.ONE_COLUMN, 8.2)
    low = {m: [100 * result["models"][model][m]["low_orders"][0] for model in models] for m in LABELS}
    style.title(
        figure,
        f"Orders 1 and 2 carry {style.listed(low['certified'], '.0f')}% of the strength; with AND effects alone "
        f"{style.listed(low['and_only'], '.0f')}%",
    )
    above, middle, below = figure.subfigures(3, 1, height_ratios=[4.1, 1.5, 2.2])
    axes = above.subplots(len(LABELS), len(models), squeeze=False, sharex=True, sharey="row")
    lower = middle.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for column, model in enumerate(models):
        for ax, method in zip(axes[:, column], LABELS, strict=True):
            of_method = result["models"][model][method]
            _draw_bars(ax, of_method, style.model_colour(column))
            share = "spindle {:.2f} [{:.2f}, {:.2f}]".format(*np.array(of_method["spindle_share"], float))
            text = f"{of_method['total'][0]:.1f}× strength\n{share}"
            ax.text(1, 0.98, text, transform=ax.transAxes, ha="right", va="top", fontsize=6.5)
            _draw_cancellation(lower[column], of_method, look(method, column))
        axes[0, column].set_title(model, color=style.model_colour(column), fontweight="bold")
        lower[column].set_ylim(0, 1)
        lower[column].set_xlabel("order |S|")
        lower[column].grid(axis="y")
    for row, method in zip(axes, LABELS, strict=True):
        panels.balanced(row[0], room=1.6)
        row[0].set_ylabel(f"{_SHORT[method]}\n← neg.   pos. →")
    lower[0].set_ylabel("cancellation")
    handles = [
        Patch(facecolor=style.MUTED, alpha=0.45, label="all effects"),
        Patch(facecolor=style.MUTED, label="salient in both models"),
    ]
    above.legend(handles=handles, loc="outside lower center", ncols=2)
    _draw_games(below, result["games"])
    return figure


def _draw_bars(ax, profile: dict, colour: str) -> None:
    for kind, alpha in (("strength", 0.45), ("shared", 1.0)):
        if kind in profile:
            error = "black" if kind == "strength" else None
            panels.order_bars(ax, profile[kind], error=error, color=colour, alpha=alpha, lw=0)
    panels.order_axes(ax, len(profile["strength"][0]), ticks=5)
    ax.grid(axis="y")


def _draw_cancellation(ax, profile: dict, line: dict) -> None:
    order = np.arange(1, len(profile["cancellation"]) + 1)
    panels.band(ax, order, profile["cancellation"], marker="o", ms=2.5, lw=1.0, **line)
    ax.set_xticks(order)


def _draw_games(figure, games: dict) -> None:
    style.heading(figure, "Control: planted games")
    axes = figure.subplots(1, len(games), sharey=True)
    # The truth is a broad band behind the lines that should follow it.
    lines = {TRUTH: {"color": style.GRID, "ls": "-", "lw": 5}, **{m: look(m) | {"lw": 1.0} for m in LABELS}}
    for ax, (family, profiles) in zip(axes, games.items(), strict=True):
        for method, line in lines.items():
            # Both signs together: planted effects are positive and negative alike.
            strength = np.array(profiles[method]["strength"], float)[:, :, 0].sum(axis=0)
            order = np.arange(1, strength.size + 1)
            ax.plot(order, np.maximum(strength, 1e-3), marker="" if method == TRUTH else "o", ms=2.5, **line)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(panels.plain)
        ax.set_xticks(order)
        ax.set_title(f"{family} truth")
        ax.set_xlabel("order |S|")
        ax.grid(axis="y")
    axes[0].set_ylabel("strength / planted")
    handles = [
        Line2D([], [], **line, label="planted effects" if m == TRUTH else LABELS[m]) for m, line in lines.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def rows(result: dict) -> list[Row]:
    """Low orders and spindle share of the models; spindle share of the control."""
    found = []
    for model, profiles in result["models"].items():
        for what, claim, published in (
            ("low_orders", "share of strength in orders 1 and 2", "decay for what generalises (2502.10162)"),
            ("spindle_share", "spindle share", "a spindle for what does not (2502.10162)"),
        ):
            ours = beside({method: profiles[method][what] for method in LABELS})
            found.append(Row(f"{claim}, {model}", published, ours))
    for family, profiles in result["games"].items():
        for what, claim in (
            ("total", "strength / planted strength"),
            ("low_orders", "share of strength in orders 1 and 2"),
            ("spindle_share", "spindle share"),
        ):
            truth, ours = with_interval(profiles[TRUTH][what]), {m: profiles[m][what] for m in LABELS}
            found.append(Row(f"{claim}, planted games, {family} truth", f"planted: {truth}", beside(ours)))
    return found
