"""Writes the figures of a run into RUN/figures: .png and .pdf of each, and the captions in captions.md."""

import re

from matplotlib import rc_context
from matplotlib.figure import Figure

from andor.figures import FIGURES, effects, rendered, style
from andor.runs import files
from andor.runs.files import AnyPath, path_of
from andor.runs.run import Run, read
from andor.runs.stages import Progress, silent


def draw(run: AnyPath | Run, top: int = 12, *, progress: Progress = silent) -> list[AnyPath]:
    """Draw every figure of a run. Same run, same files.

    A run of one model has no convergence figure; one of one model and one prompt has a figure of its effects.

    Args:
      run: a folder, or a run already read.
      top: effects in the figure of effects.
      progress: as for `andor.compare`.

    Returns:
      The files written: first .png and .pdf of each figure, then captions.md.

    Raises:
      FileNotFoundError, ValueError: as `andor.read`.
      OSError: a file could not be written.
    """
    run = run if isinstance(run, Run) else read(run)
    folder = run.path / "figures"
    drawn = figures_of(run)
    with style.missing_glyphs_in_one_line(), rc_context(style.style()):
        written = []
        for number, name in enumerate(drawn):
            progress("draw", "", number, len(drawn))
            figure = _effects_of(run, top) if name == "effects" else FIGURES[name].plot(run)
            written += save(figure, folder / name)
    progress("draw", "", len(drawn), len(drawn))
    text = (
        "\n\n".join(f"**{name}.** {_escaped(FIGURES[name].caption(run))}" for name in drawn if name in FIGURES) + "\n"
    )
    files.write_bytes(folder / "captions.md", text.encode())
    return [*written, folder / "captions.md"]


def up_to_date(run: Run, page: AnyPath) -> list[AnyPath] | None:
    """The files of all figures of a run where neither they nor its page are older than its summary; else None."""
    kinds = (".png", ".pdf")
    wanted = [run.path / "figures" / f"{name}{kind}" for name in figures_of(run) for kind in kinds]
    wanted.append(run.path / "figures" / "captions.md")
    try:
        newest = (run.path / "summary.json").stat().st_mtime
        return wanted if all(path.stat().st_mtime >= newest for path in (*wanted, page)) else None
    except FileNotFoundError:
        return None


def figures_of(run: Run) -> list[str]:
    """Names of the figures that a run has."""
    alone = len(run.models) == len(run.prompts) == 1
    return ["effects"] * alone + [name for name in FIGURES if name != "convergence" or len(run.models) > 1]


def save(figure: Figure, path: AnyPath) -> list[AnyPath]:
    """Write a figure as `path`.png and `path`.pdf. Raises OSError as `files.write_bytes`."""
    path, written = path_of(path), []
    for kind, content in rendered(figure).items():
        written.append(path.with_name(f"{path.name}.{kind}"))
        files.write_bytes(written[-1], content)
    return written


def _escaped(caption: str) -> str:
    """A caption as Markdown: words of prompts and names of models are words in it, never markup, HTML or formulas."""
    return re.sub(r"[\\`*_\[\]<>&$~#!|]", lambda found: f"\\{found[0]}", style.visible(" ".join(caption.split())))


def _effects_of(run: Run, top: int) -> Figure:
    """The effects of the only prompt of the only model."""
    ((model, _),) = run
    explanation = next(iter(run.values()))
    label, tau = run.labels[model], run.tau
    words, target = explanation.values.players, explanation.target
    return effects.plot(words, *explanation.effects, target=target, model=label, tau=tau, top=top)
