"""Figures of a saved run, one file per claim. Drawing reads arrays and computes nothing a model is needed for: no JAX.

    matching      v on all masked prompts, sorted, with the logic model of the top effects over it
    sparsity      strength of effects in descending order
    convergence   shared and distinctive effects of two models on the same prompts, in words
    orders        positive and negative strength per order, and cancellation
    effects       the strongest effects of one prompt (not of a run; see `andor.figures.effects.plot`)

`draw` makes them all from a run directory. Each module's `plot(run)` returns a matplotlib `Figure`, and `caption(run)`
the text below it with its numbers computed.
"""

import re
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from andor.figures import convergence, effects, matching, orders, sparsity, style
from andor.runs.files import make_folder, replace
from andor.runs.store import Run, read_run

FIGURES = {"matching": matching, "sparsity": sparsity, "convergence": convergence, "orders": orders}


def draw(run: str | Path | Run, top: int = 12) -> list[Path]:
    """Draw every figure of a run into RUN/figures: .png (300 dpi) and .pdf, and the captions into captions.md.

    A run of one model has no convergence figure; one of one model and one prompt has a figure of its effects. Same run,
    same files.

    Args:
      run: a run directory, or a run already read.
      top: effects in the figure of effects.

    Returns:
      The files written: first .png and .pdf of each figure, then captions.md.

    Raises:
      FileNotFoundError, ValueError: as `andor.runs.store.read_run`.
      OSError: a file could not be written.
    """
    run = run if isinstance(run, Run) else read_run(run)
    with style.missing_glyphs_in_one_line():
        return _draw(run, top)


def _draw(run: Run, top: int) -> list[Path]:
    drawn = {name: module for name, module in FIGURES.items() if name != "convergence" or len(run.models) > 1}
    written = []
    if len(run.models) == len(run.prompts) == 1:
        with rc_context(style.style()):
            written += save(_effects_of(run, top), run.path / "figures" / "effects")
    for name, module in drawn.items():
        with rc_context(style.style()):
            written += save(module.plot(run), run.path / "figures" / name)
    captions = run.path / "figures" / "captions.md"
    text = "\n\n".join(f"**{name}.** {_escaped(module.caption(run))}" for name, module in drawn.items()) + "\n"
    replace(captions, lambda file: file.write(text.encode()))
    return [*written, captions]


def _escaped(caption: str) -> str:
    """A caption as Markdown: words of prompts and names of models are words in it, never markup, HTML or formulas."""
    return re.sub(r"[\\`*_\[\]<>&$~#!|]", lambda found: f"\\{found[0]}", style.visible(" ".join(caption.split())))


def _effects_of(run: Run, top: int) -> Figure:
    """The effects of the only prompt of the only model."""
    (name,), (prompt_id,) = run.models, run.values[run.models[0]]
    values, solution = run.values[name][prompt_id], run.effects[name][prompt_id]
    return effects.plot(
        values.players,
        solution.and_effects,
        solution.or_effects,
        target=values.target,
        model=run.labels[name],
        tau=run.settings["tau"],
        top=top,
    )


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write a figure as `path`.png and `path`.pdf; the directory is made if need be. Raises OSError as `replace`."""
    path = Path(path)
    make_folder(path.parent)
    png, pdf = (path.with_name(f"{path.name}.{format}") for format in ("png", "pdf"))
    with rc_context(style.style()):
        replace(png, lambda file: figure.savefig(file, format="png"))
        # Without a date: same figure, same file.
        replace(pdf, lambda file: figure.savefig(file, format="pdf", metadata={"CreationDate": None}))
    return [png, pdf]
