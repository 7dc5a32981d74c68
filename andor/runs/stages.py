"""The stages of long work, as whoever waits for it is told: load, compile, evaluate, solve, bound, draw."""

from collections.abc import Callable

Progress = Callable[[str, str, int, int], None]
"""Called as progress(stage, model, done, total): `done` of `total` units of "load" (models), "compile" (programs),
"evaluate" (masks), "solve" (prompts), "bound" (prompts whose effects get intervals), "draw" (figures) or "page" (pages;
the last two of no model)."""


def silent(stage: str, model: str, done: int, total: int) -> None:
    """Tell nobody."""


def evaluating(progress: Progress, model: str, before: int, total: int) -> Callable[[int], None]:
    """Begin "compile", which ends with the first batch, and give what reports masks from then on.

    Args:
      progress: who is told.
      model: its name.
      before: masks that were there before.
      total: masks in all.
    """
    compiling = True
    progress("compile", model, 0, 1)

    def report(masks: int) -> None:
        nonlocal compiling
        if compiling:
            compiling = False
            progress("compile", model, 1, 1)
        progress("evaluate", model, before + masks, total)

    return report
