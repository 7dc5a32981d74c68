"""Pictures of one prompt, under one model or two: its words with their effects, or a matrix of dots."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from andor.core.explained import Compared, Explained
from andor.figures import matrix, shown, style, words
from andor.figures.shown import Picture

STYLES = {"words": words, "matrix": matrix}
"""Name of a style -> its module, with `draw(picture, width in inches)` and `caption(picture)`."""


def plot(explanations: Sequence[Explained], labels: Sequence[str], how: str, width: str, **options) -> Figure:
    """A picture of one or two explanations, in a style of `STYLES` and a width of `style.WIDTHS`.

    Options are those of `shown.picture`.

    Raises:
      ValueError: another style or width, or as `shown.picture`.
    """
    module, inches = styled(how), style.inches(width)
    return module.draw(shown.picture(explanations, labels, **options), inches)


def picture_of(run: Compared, prompt: str | None = None, models: Sequence[str] = (), **options) -> Picture:
    """What to show of a prompt of a run.

    Args:
      run: the run.
      prompt: its id; by default the first.
      models: names or labels of one or two; by default the first two.
      options: those of `shown.picture`; tau is by default the run's.

    Raises:
      ValueError: no such prompt or model, more than two models, or as `shown.picture`.
    """
    ids = [each.id for each in run.prompts]
    prompt = ids[0] if prompt is None else prompt
    if prompt not in ids:
        known = ", ".join(ids[:8]) + f", … ({len(ids)} in all)" * (len(ids) > 8)
        raise ValueError(f"{prompt!r} is no prompt of this run. Its prompts are {known}.")
    if len(models) > 2:
        raise ValueError(f"a picture is of one model or two; got {len(models)}: {', '.join(models)}.")
    named = {label: name for name, label in run.labels.items()} | {name: name for name in run.models}
    for each in models:
        if each not in named:
            raise ValueError(f"{each!r} is no model of this run. Its models are {', '.join(run.models)}.")
    chosen = [named[each] for each in models] or list(run.models[:2])
    places = [run.models.index(model) for model in chosen]
    explanations, labels = [run[model, prompt] for model in chosen], [run.labels[model] for model in chosen]
    options = {name: value for name, value in options.items() if value is not None}
    return shown.picture(explanations, labels, **{"tau": run.tau, "places": places} | options)


def styled(how: str):
    """The module of a style. Raises ValueError for another name."""
    if how not in STYLES:
        raise ValueError(f"style={how!r} must be one of {', '.join(STYLES)}.")
    return STYLES[how]
