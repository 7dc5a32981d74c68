"""Pictures of one prompt, under one model or two: its words with their effects, or a matrix of dots."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from andor.core.explained import Compared, Explained
from andor.figures import matrix, shown, style, words
from andor.figures.shown import Picture

STYLES = {"words": words.draw, "matrix": matrix.draw}
"""Name of a style -> (picture, width in inches) -> figure."""


def plot(explanations: Sequence[Explained], labels: Sequence[str], how: str, width: str, **options) -> Figure:
    """A picture of explanations, in a style of `STYLES` and a width of `style.WIDTHS`. Options of `shown.picture`.

    Raises:
      ValueError: another style or width, or as `shown.picture`.
    """
    return _drawn(shown.picture(explanations, labels, **options), how, width)


def plot_of_run(run: Compared, prompt: str, models: Sequence[str], how: str, width: str, **options) -> Figure:
    """The same of a prompt of a run, under one or two of its models, by their names."""
    return _drawn(shown.of_prompt(run, prompt, models, **options), how, width)


def _drawn(picture: Picture, how: str, width: str) -> Figure:
    if how not in STYLES:
        raise ValueError(f"style={how!r} must be one of {', '.join(STYLES)}.")
    return STYLES[how](picture, style.inches(width))
