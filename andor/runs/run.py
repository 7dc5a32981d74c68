"""`Run`: the explanations of models on prompts, as a folder holds them.

    run = andor.read("runs/pair")                 # the folder, or the root where it is the only one
    run["tiny-llama", "sentiment-01"].top(5)      # an Explanation
    run.to_pandas(); run.plot("orders"); run.report("page.html")

    RUN/
      recipe.json                  what was asked, versions, fingerprints (`andor.runs.recipe`)
      <folder>/<prompt id>.npz     one explanation per model and prompt (`andor.runs.explanation`)
      skipped/<prompt id>.json     a prompt that is left out, and why
      prompts.csv                  one row per prompt and model: the numbers of the summary, as a table
      certain.csv                  one row per effect that has an interval, where intervals were asked for
      summary.json                 the numbers (`andor.runs.summary`), of which explanations, and tau; written last
      figures/                     *.png, *.pdf, *.svg (`andor.show.draw`)
      report.html                  all of it as a page (`andor.page`)

<folder> is the model's: "tiny-llama", "Qwen--Qwen2.5-7B". Arrays are indexed by subset, bit i = player i, empty set
first (`andor.core.lattice`). NumPy, pandas and a JSON reader open all of it.
"""

import csv
import dataclasses
import io
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from andor.prompts import Prompt
from andor.runs import files
from andor.runs.agreement import controlled, verdicts
from andor.runs.cache import explanation_path, read_explained
from andor.runs.explanation import Explanation, pandas_or_advice, read_explanation
from andor.runs.files import AnyPath, Damaged, path_of
from andor.runs.recipe import Recipe, read_recipe, recipe_paths
from andor.runs.summary import certain_table, summarise, table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

KEPT_BYTES = 2**28
"""Of explanations that a run keeps in memory; others are read again when they are asked for."""

_BYTES_PER_MASK = 8 * 8
"""Of an explanation: eight float64 arrays."""

SUMMARY = 3
"""Version of the numbers of `andor.runs.summary`. Raise it when they change: summaries are then made anew."""

CONTINUE = "Repeat the command or call that made the run: it makes this file anew."


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A prompt that is left out of a run.

    Attributes:
      id: of the prompt.
      model: under which it failed.
      why: the message of the error.
      again: whether the next process tries it again, since what was missing was memory or devices.
    """

    id: str
    model: str
    why: str
    again: bool = False


class Run(Mapping):
    """(model name, prompt id) -> `Explanation`, read and checked when it is asked for.

    Attributes:
      path: the folder.
      recipe: what was asked for.
      skipped: prompts that are left out under all models.
      summary: summary.json without `covers`; empty before it is computed. null in the file, None here: undefined, such
        as a ratio of nothing to nothing.
      tau: an effect is salient above tau times the largest.
    """

    def __init__(
        self,
        path: AnyPath,
        recipe: Recipe,
        *,
        skipped: Sequence[Skipped] = (),
        summary: Mapping | None = None,
        tau: float,
        explanations: Mapping[tuple[str, str], Explanation] | None = None,
    ):
        self.path, self.recipe, self.skipped, self.tau = path, recipe, tuple(skipped), tau
        self.summary = dict(summary or {})
        self._kept: OrderedDict[tuple[str, str], Explanation] = OrderedDict()
        self._bytes = 0
        for key, explanation in (explanations or {}).items():
            self.keep(key, explanation)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order given."""
        return tuple(each.name for each in self.recipe.models)

    @property
    def labels(self) -> dict[str, str]:
        """Model name -> short unique label, for tables and figures."""
        return {each.name: each.label for each in self.recipe.models}

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts that are not left out, in order."""
        left_out = {each.id for each in self.skipped}
        return tuple(each for each in self.recipe.prompts if each.id not in left_out)

    def target_from(self, prompt: Prompt) -> str:
        """Who chose the target of a prompt: "given", "own" (each model its own), or the model that predicted it."""
        return "given" if prompt.target is not None else "own" if self.recipe.own_targets else self.models[0]

    def __getitem__(self, key: object) -> Explanation:
        if key not in self._kept:
            if key not in self:
                ids = [each.id for each in self.prompts]
                shown = ", ".join(ids[:8]) + f", … ({len(ids)} in all)" * (len(ids) > 8)
                raise KeyError(
                    f"{key!r} is no (model, prompt id) of this run. Models: {', '.join(self.models)}. Prompts: {shown}."
                )
            self.keep(key, self._read(*key))
        self._kept.move_to_end(key)
        return self._kept[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((model, prompt.id) for model in self.models for prompt in self.prompts)

    def __len__(self) -> int:
        return len(self.models) * len(self.prompts)

    def __contains__(self, key: object) -> bool:
        return key in set(self)

    def __repr__(self) -> str:
        first = ", ".join(each.id for each in self.prompts[:3]) + ", …" * (len(self.prompts) > 3)
        skipped = f", {len(self.skipped)} left out" if self.skipped else ""
        models, noise = ", ".join(self.labels.values()), self.recipe.noise
        return f"<Run {self.path}: {models} on {len(self.prompts)} prompts ({first}){skipped}, noise {noise}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the prompts as a table, and the picture of the first."""
        from andor.page.notebook import of_run

        return of_run(self)

    def keep(self, key: tuple[str, str], explanation: Explanation) -> None:
        """Keep an explanation in memory, and forget those that were used least where that is too much."""
        forgotten = [self._kept.pop(key)] if key in self._kept else []
        self._kept[key] = explanation
        self._bytes += _BYTES_PER_MASK * (explanation.values.v.size - sum(each.values.v.size for each in forgotten))
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _BYTES_PER_MASK * self._kept.popitem(last=False)[1].values.v.size

    def to_pandas(self) -> "pandas.DataFrame":
        """One row per prompt and model: the numbers of prompts.csv."""
        return pandas_or_advice().DataFrame(table(self.summary))

    def plot(self, name: str, *, width: Literal["column", "page"] = "page", **options) -> "Figure":
        """A figure of the run, or of one of its prompts.

        Args:
          name: "matching", "sparsity", "convergence" or "orders"; or "words" or "matrix" of a prompt.
          width: 3.4 or 7 inches.
          options: of "words" and "matrix": prompt (its id; by default the first), models (one or two; by default the
            first two), top and tau as for `Explanation.plot`.

        Raises:
          ValueError: another name or width, options of a figure that has none, or no such prompt or model.
        """
        from andor.figures import FIGURES, style  # matplotlib takes longer to import than all else here
        from andor.figures.prompt import STYLES, picture_of

        if name not in FIGURES and name not in STYLES:
            raise ValueError(f"run.plot({name!r}) must be one of {', '.join([*STYLES, *FIGURES])}.")
        if name in STYLES:
            return STYLES[name].draw(picture_of(self, **options), style.inches(width))
        if options:
            raise ValueError(f"run.plot({name!r}) is of all prompts and models; got {', '.join(options)}.")
        return FIGURES[name].plot(self, style.inches(width))

    def report(self, path: AnyPath | None = None, *, values: Sequence[str] = ()) -> AnyPath:
        """Write the page of the run: one HTML file without network, on which words are masked by click.

        Args:
          path: a file or URL that ends in .html; by default report.html in the run's folder.
          values: ids of prompts whose values the page holds first, where it is too large for those of all
            (`andor.page.report.MOST_VALUES`).

        Returns:
          The file.

        Raises:
          ValueError: the path does not end in .html, an id is of no prompt, or the run has no summary.
          OSError: the file could not be written.
        """
        from andor.page import page  # matplotlib takes longer to import than all else here

        path = self.path / "report.html" if path is None else path_of(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"Run.report({str(path)!r}) must name an .html file. Try {path.name}.html.")
        if not self.summary:
            raise ValueError(f"the run {self.path} has no summary, of which its page tells. {CONTINUE}")
        remarks = verdicts(self, self.summary)
        files.write_bytes(path, page(self, values, remarks, self._drawn()).encode())
        return path

    def is_up_to_date(self, path: AnyPath) -> bool:
        """Whether a file is there and no older than the numbers of the run."""
        try:
            return path.stat().st_mtime >= (self.path / "summary.json").stat().st_mtime
        except FileNotFoundError:
            return False

    def _drawn(self) -> dict[str, bytes]:
        """Figures that are there and of these numbers, as SVG."""
        from andor.figures import FIGURES  # as above

        paths = {name: self.path / "figures" / f"{name}.svg" for name in FIGURES}
        return {name: path.read_bytes() for name, path in paths.items() if self.is_up_to_date(path)}

    def covers(self) -> dict:
        """What a summary of this run is of: ids of the prompts, a digest of all explanations, and which numbers."""
        return {
            "version": SUMMARY,
            "prompts": [each.id for each in self.prompts],
            "effects": files.key_of([self[key].digest for key in self]),
        }

    def summarised(self, tau: float) -> "Run":
        """The run with its numbers at this tau, written to disk.

        Raises:
          OSError: they could not be written; the explanations are whole.
        """
        self.tau = tau
        summary = files.jsonable(summarise(self))
        tables = {"prompts.csv": table(summary), "certain.csv": certain_table(self)}
        for name in (*tables, "summary.json"):
            if (self.path / name).is_dir():
                files.set_aside(self.path / name)
        for name, rows in tables.items():
            if rows:
                files.write_bytes(self.path / name, _csv(rows))
        self._write_summary(summary)
        return self

    def controlled(self, control: "Run") -> "Run":
        """The run with what another mask changes among its numbers, written to disk where it is not yet.

        Args:
          control: a run of the same models and prompts under that mask.

        Raises:
          OSError: the numbers could not be written.
        """
        mask = ", ".join(dict.fromkeys(each.baseline.removeprefix("token:") for each in control.recipe.models))
        summary = files.jsonable(controlled(self, self.summary, control, mask))
        if summary != self.summary:
            self._write_summary(summary)
        return self

    def _write_summary(self, summary: Mapping) -> None:
        content = files.json_bytes({**summary, "tau": self.tau, "covers": self.covers()})
        files.write_bytes(self.path / "summary.json", content)
        self.summary = dict(summary)

    def _read(self, model: str, prompt_id: str) -> Explanation:
        prompt = next(each for each in self.prompts if each.id == prompt_id)
        key = self.recipe.solution_key(self.recipe.key(model, prompt_id), prompt)
        return read_explained(explanation_path(self.path, model, prompt_id), key, self.recipe.noise)


def _csv(rows: Sequence[Mapping]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(files.jsonable(rows))
    return text.getvalue().encode()


@files.store_errors()
def read(path: AnyPath) -> Run | Explanation:
    """A finished run by its folder (or by its root, where that holds one run), or an explanation by its file.

    Every explanation is checked: bytes against their checksum, and numbers against each other, so that no certificate
    proves less than it says.

    Raises:
      FileNotFoundError: names what is missing.
      ValueError: names the file that is not what it should be, or the runs that there are.
      OSError: a file could not be read.
    """
    path = path_of(path)
    if path.suffix == ".npz" and not path.is_dir():
        return read_explanation(path)
    path = _run_folder(path)
    try:
        recipe = read_recipe(path / "recipe.json")
        if not (path / "summary.json").exists():
            raise FileNotFoundError(f"{path / 'summary.json'} is missing: the run is unfinished.")
        summary, tau, covers = read_summary(path / "summary.json")
        run = Run(path, recipe, skipped=read_skipped(path), summary=summary, tau=tau)
        if not 0 <= tau < 1 or covers != run.covers():
            raise Damaged(f"{path / 'summary.json'} holds the numbers of other explanations than the run has.")
    except (Damaged, FileNotFoundError) as error:
        raise type(error)(f"{str(error).rstrip('.')}. {CONTINUE}") from None
    return run


def read_summary(path: AnyPath) -> tuple[dict, float, object]:
    """(the numbers of a summary.json, their tau or nan, what they are of). Raises as `files.read_json`."""
    summary = files.read_json(path)
    covers, tau = summary.pop("covers", None), summary.pop("tau", None)
    return summary, float(tau) if isinstance(tau, float | int) else math.nan, covers


def _run_folder(path: AnyPath) -> AnyPath:
    if (path / "recipe.json").exists():
        return path
    if not path.exists():
        raise FileNotFoundError(f"no run {str(path)!r}. Give the --out of an earlier `andor compare`.")
    found = [each.parent for each in recipe_paths(path)] if path.is_dir() else []
    if not found:
        raise FileNotFoundError(f"{path / 'recipe.json'} is missing: {str(path)!r} holds no run.")
    if len(found) > 1:
        raise ValueError(f"{path} holds {len(found)} runs: {', '.join(map(str, found))}. Name one of them.")
    return found[0]


def save_skipped(run: AnyPath, skipped: Skipped) -> None:
    """Write down that a prompt is left out."""
    files.write_bytes(run / "skipped" / f"{skipped.id}.json", files.json_bytes(dataclasses.asdict(skipped)))


def skipped_paths(run: AnyPath) -> list[AnyPath]:
    """Files of the prompts that a run leaves out, by id. No id begins with a dot, as what macOS adds does."""
    folder = run / "skipped"
    return sorted(each for each in folder.glob("*.json") if not each.name.startswith(".")) if folder.exists() else []


def read_skipped(run: AnyPath) -> tuple[Skipped, ...]:
    """The prompts that a run leaves out. Raises as `files.read_json`."""
    return tuple(read_one_skipped(path) for path in skipped_paths(run))


def read_one_skipped(path: AnyPath) -> Skipped:
    """Why one prompt is left out. Raises as `files.read_json`."""
    content = files.read_json(path)
    try:
        skipped = Skipped(**content)
    except TypeError as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if skipped.id != path.stem:
        raise Damaged(f"{path} is of prompt {skipped.id!r}, which is not of this place.")
    return skipped
