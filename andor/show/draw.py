"""Writes the figures of a run into RUN/figures: .png, .pdf and .svg of each, and the captions in captions.md."""

import re
from collections.abc import Callable, Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from andor.core.text import one_line
from andor.figures import FIGURES, prompt, rendered, shown, style
from andor.runs import files
from andor.runs.files import AnyPath, path_of
from andor.runs.run import Run, read
from andor.runs.stages import Progress, silent

KINDS = ("png", "pdf", "svg")


def draw(
    run: AnyPath | Run,
    top: int = shown.TOP,
    *,
    width: str = "page",
    kinds: Sequence[str] = KINDS,
    progress: Progress = silent,
) -> list[AnyPath]:
    """Draw every figure of a run, and the pictures of its first prompt. Same run, same files.

    A run of one model has no convergence figure. The pictures are of the first two models.

    Args:
      run: a folder, or a run already read.
      top: effects of each model in the pictures, at most.
      width: "page" or "column": 7 or 3.4 inches.
      kinds: of files.
      progress: as for `andor.compare`.

    Returns:
      The files written: first .png, .pdf and .svg of each figure, then captions.md.

    Raises:
      FileNotFoundError, ValueError: as `andor.read`, or for another width.
      OSError: a file could not be written.
    """
    run = run if isinstance(run, Run) else read(run)
    inches = style.inches(width)
    picture = prompt.picture_of(run, top=top)
    pictures = {_name_of(run.prompts[0].id, how): module for how, module in prompt.STYLES.items()}
    plots = {name: lambda module=module: module.draw(picture, inches) for name, module in pictures.items()}
    plots |= {name: lambda name=name: FIGURES[name].plot(run, inches) for name in figures_of(run)}
    written = _write(run, plots, kinds, progress)
    captions = {name: module.caption(picture) for name, module in pictures.items()}
    captions |= {name: FIGURES[name].caption(run) for name in figures_of(run)}
    text = "\n\n".join(f"**{_escaped(name)}.** {_escaped(caption)}" for name, caption in captions.items()) + "\n"
    files.write_bytes(run.path / "figures" / "captions.md", text.encode())
    return [*written, run.path / "figures" / "captions.md"]


def draw_prompt(
    run: Run,
    prompt_id: str,
    models: Sequence[str] = (),
    styles: Sequence[str] = tuple(prompt.STYLES),
    *,
    width: str = "page",
    top: int = shown.TOP,
    tau: float | None = None,
    progress: Progress = silent,
) -> list[AnyPath]:
    """Draw the pictures of one prompt of a run.

    Args:
      run: the run.
      prompt_id: of the prompt.
      models: names or labels of one or two of its models; by default the first two.
      styles: "words", "matrix" or both.
      width: "page" or "column": 7 or 3.4 inches.
      top: effects of each model, at most.
      tau: effects below tau times the strongest are left out; by default the run's.
      progress: as for `andor.compare`.

    Returns:
      The files written: .png, .pdf and .svg of each picture.

    Raises:
      ValueError: no such prompt, model, style or width, or a top or tau out of range.
      OSError: a file could not be written.
    """
    inches = style.inches(width)
    modules = {_name_of(prompt_id, how): prompt.styled(how) for how in styles}
    picture = prompt.picture_of(run, prompt_id, models, top=top, tau=tau)
    plots = {name: lambda module=module: module.draw(picture, inches) for name, module in modules.items()}
    return _write(run, plots, KINDS, progress)


def up_to_date(run: Run, kinds: Sequence[str] = KINDS) -> list[AnyPath] | None:
    """The files of all figures of a run where none is missing or older than its summary; else None."""
    names = [*(_name_of(run.prompts[0].id, how) for how in prompt.STYLES), *figures_of(run)]
    wanted = [run.path / "figures" / f"{name}.{kind}" for name in names for kind in kinds]
    wanted.append(run.path / "figures" / "captions.md")
    return wanted if all(map(run.is_up_to_date, wanted)) else None


def figures_of(run: Run) -> list[str]:
    """Names of the figures that a run has, besides the pictures of its first prompt."""
    return [name for name in FIGURES if name != "convergence" or len(run.models) > 1]


def _name_of(prompt_id: str, how: str) -> str:
    """File name of a picture of a prompt, without its kind."""
    return f"{prompt_id}-{how}"


def _write(
    run: Run, plots: Mapping[str, Callable[[], Figure]], kinds: Sequence[str], progress: Progress
) -> list[AnyPath]:
    """Draw figures and write them in these kinds. In an SVG of the run its text stays text, as its page wants it;
    letters of prompts, for which the reader may have no font, are drawn."""
    written = []
    with style.missing_glyphs_in_one_line(), rc_context(style.style()):
        for number, (name, plot) in enumerate(plots.items()):
            progress("draw", "", number, len(plots))
            written += save(plot(), run.path / "figures" / name, kinds, text=name in FIGURES)
    progress("draw", "", len(plots), len(plots))
    return written


def save(figure: Figure, path: AnyPath, kinds: Sequence[str] = ("png", "pdf"), *, text: bool = False) -> list[AnyPath]:
    """Write a figure as `path`.png, `path`.pdf, ..., as `rendered` gives it. Raises OSError as `files.write_bytes`."""
    path, written = path_of(path), []
    for kind, content in rendered(figure, kinds, text=text).items():
        written.append(path.with_name(f"{path.name}.{kind}"))
        files.write_bytes(written[-1], content)
    return written


def _escaped(caption: str) -> str:
    """A caption as Markdown: words of prompts and names of models are words in it, never markup, HTML or formulas."""
    return re.sub(r"[\\`*_\[\]<>&$~#!|]", lambda found: f"\\{found[0]}", one_line(caption))
