"""The strongest effects of one prompt as a bar chart, in words: "not ∧ good", "dull ∨ awful"."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from andor.core.effects import effect_name
from andor.figures import style
from andor.measures import metrics

LONGEST = 44
"""Characters of an effect's name in a figure; a longer one loses words in its middle."""


def plot(
    words: Sequence[str],
    and_effects: Float[np.ndarray, "s"],
    or_effects: Float[np.ndarray, "s"],
    *,
    target: str | None = None,
    model: str | None = None,
    tau: float = metrics.SALIENT,
    top: int = 20,
) -> Figure:
    """Signed bars of the strongest effects, strongest first; those that are not salient are pale.

    Args:
      words: text of each player.
      and_effects: `[2**n_players]`; entry 0 is the constant and is not drawn.
      or_effects: `[2**n_players]`.
      target: the explained text, named on the axis.
      model: name of the model, for the title.
      tau: an effect is salient above tau times the largest.
      top: bars at most.
    """
    every = metrics.ranking(and_effects, or_effects)
    ranked = every.real
    strongest = abs(ranked.effect[0]) if ranked.effect.size else 0.0
    count = min(top, ranked.effect.size)
    words = [style.visible(word) for word in words]
    with rc_context(style.style()):
        figure = style.new_figure(1.5 * style.ONE_COLUMN, 1.05 + 0.165 * max(count, 3))
        style.title(figure, _claim(every, tau, model))
        ax = figure.subplots()
        if not count:
            style.empty(ax, "v is constant up to noise: no effects")
            return figure
        values = ranked.effect[:count]
        colours = [style.OR if is_or else style.AND for is_or in ranked.is_or[:count]]
        bars = ax.barh(range(count), values, 0.72, color=colours)
        for bar, value in zip(bars, values, strict=True):
            bar.set_alpha(1.0 if abs(value) > tau * strongest else 0.4)
        _label_bars(ax, values)
        names = zip(ranked.subset[:count], ranked.is_or[:count], strict=True)
        ax.set_yticks(range(count), [effect_name(words, s, is_or, LONGEST) for s, is_or in names])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(count - 0.4, -0.6)
        ax.axvline(0, color="black", lw=0.6)
        ax.spines["left"].set_visible(False)
        of_target = f" of “{style.visible(target.strip())}”" if target else ""
        ax.set_xlabel(f"effect on the log-odds{of_target}, nats")
        handles = [
            Patch(color=style.AND, label="AND: all words present"),
            Patch(color=style.OR, label="OR: any word present"),
        ]
        if (np.abs(values) <= tau * strongest).any():
            handles.append(Patch(color=style.NOISE, alpha=0.4, label=f"not salient (τ = {tau:g})"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _label_bars(ax, values: Float[np.ndarray, "bars"]) -> None:
    """Write its value at the tip of every horizontal bar, outside it, and make room for it in the x limits."""
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.2 * (high - low)
    ax.set_xlim(low - (room if low < 0 else 0.1 * room), high + (room if high > 0 else 0.1 * room))
    for row, value in enumerate(values):
        right = value > 0
        text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
        where = {
            "xytext": (2.5 if right else -2.5, 0),
            "textcoords": "offset points",
            "ha": "left" if right else "right",
        }
        ax.annotate(text, (value, row), **where, va="center", fontsize=6.5, color=style.MUTED)


def _claim(ranked: metrics.Ranking, tau: float, model: str | None) -> str:
    strength = np.abs(ranked.effect)
    total = strength.sum()
    salient = strength > tau * strength.max(initial=0)
    if not salient.any():
        return "No effects" if model is None else f"{model}: no effects"
    share = strength[salient].sum() / total
    noun = "salient effect carries" if salient.sum() == 1 else "salient effects carry"
    return f"{'' if model is None else model + ': '}{salient.sum()} {noun} {share:.0%} of the strength"
