"""Progress bars of long work, in terminals and in notebooks.

with andor.bars() as progress:
    run = andor.compare(models, prompts, out="runs/first", progress=progress)
"""

import contextlib
import html
import io
import time
from collections.abc import Callable, Iterator, Mapping

from andor.runs.stages import Progress

UNITS = {
    "load": "models",
    "compile": "programs",
    "evaluate": "masks",
    "solve": "prompts",
    "bound": "prompts",
    "draw": "figures",
    "page": "pages",
    "measure": "prompts",
}
"""Stage -> what it counts."""

WIDTH = 100
"""Characters of a line where there is no terminal to ask."""

_EVERY = 0.2  # seconds between two pictures of the bars in a notebook


@contextlib.contextmanager
def bars(labels: Mapping[str, str] | None = None) -> Iterator[Progress]:
    """Bars, one per stage and model, with the time left of the stage; on stderr, in a notebook below the cell.

    Args:
      labels: names of models -> what to call them; by default by their names.

    Yields:
      What `andor.compare`, `andor.explain` and others take as `progress`.
    """
    from rich import progress
    from rich.console import Console

    class Rate(progress.ProgressColumn):
        """Masks, or whatever the stage counts, per second."""

        def render(self, task) -> str:
            return "" if task.speed is None else f"{task.speed:.3g} {task.fields['unit']}/s"

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=30),
        progress.TaskProgressColumn(),
        Rate(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    live = progress.Progress(*columns, console=console)
    show = _in_notebook(live) if console.is_jupyter else None
    names, tasks = labels or {}, {}

    def report(stage: str, model: str, done: int, total: int) -> None:
        if show is None:
            live.start()  # not before there is a bar: bad input gets its one line and no more
        if (stage, model) not in tasks:
            name = f"{stage} {names.get(model, model)}".rstrip()
            tasks[stage, model] = live.add_task(name, total=total, unit=UNITS[stage])
        live.update(tasks[stage, model], completed=done)
        if show is not None:
            show(done >= total)

    try:
        yield report
    finally:
        if tasks and show is None:
            live.stop()


def _in_notebook(live) -> Callable[[bool], None]:
    """What draws the bars below a cell, at once or when it is time; rich's own way would need widgets."""
    from IPython.display import HTML, display
    from rich.console import Console

    handle, last = None, 0.0

    def show(at_once: bool) -> None:
        nonlocal handle, last
        if not at_once and time.monotonic() - last < _EVERY:
            return
        last, stream = time.monotonic(), io.StringIO()
        Console(file=stream, width=WIDTH, force_jupyter=False, emoji=False).print(live.get_renderable())
        picture = HTML(f"<pre>{html.escape(stream.getvalue())}</pre>")
        if handle is None:
            handle = display(picture, display_id=True)
        else:
            handle.update(picture)

    return show
