"""Run the experiments of this package.

python -m experiments                    list them
python -m experiments NAME [options]     run one; --help says what it is and takes
python -m experiments all [options]      run every study, one after the other
python -m experiments draw NAME ...      draw again from the saved results (--out: from another folder)
python -m experiments table              every number of the saved results (--out: of another folder)
"""

import ast
import dataclasses
import importlib
import re
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import tyro

# `study` imports JAX, which listing takes no time for: it is imported where it is needed.


@dataclass(frozen=True)
class Entry:
    """An experiment as its source shows it, unimported."""

    name: str
    room: str
    docstring: str
    is_study: bool

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return self.docstring.splitlines()[0]

    def field(self, label: str) -> str:
        """What stands behind "label:" in the docstring, in one line; "" where it is missing."""
        found = re.search(rf"^{label}:\s*(.*(?:\n[ \t]+.*)*)", self.docstring, re.MULTILINE)
        return " ".join(found[1].split()) if found else ""


def entries() -> dict[str, Entry]:
    """Every experiment, read from the source without importing it: studies have `rows`, the others are scripts."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*/*.py"), key=lambda file: file.stem):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        is_study = functions >= {"measure", "rows"}
        if is_study or "main" in functions:
            found[file.stem] = Entry(file.stem, file.parent.name, ast.get_docstring(tree) or "", is_study)
    return found


def listing() -> str:
    """Name, first line and minutes of every experiment."""
    found, lines = entries(), []
    width = max(map(len, found))
    for heading, is_study in (("Studies", True), ("Benchmarks and scripts", False)):
        lines.append(f"{heading}:")
        for entry in found.values():
            if entry.is_study == is_study:
                minutes = entry.field("Minutes")
                lines.append(f"  {entry.name:{width}}  {entry.summary}" + (f" [{minutes}]" if minutes else ""))
    return "\n".join([*lines, "", "python -m experiments NAME --help says more; all runs every study."])


def run_all(settings) -> int:
    """Every study; 1 if one failed, else 0."""
    from experiments import study
    from experiments.lab.corpus import require

    names = [entry.name for entry in entries().values() if entry.is_study]
    if settings.models == study.Settings.models and not settings.smoke:
        left_out = [name for name in names if study.needs_models(name)]
        print(f"left out without --models of pretrained models: {', '.join(left_out) or 'none'}", flush=True)
        names = [name for name in names if name not in left_out]
    # Models of one's own are for the studies that do not train theirs.
    each = {
        name: dataclasses.replace(settings, models=study.Settings.models) if study.own_models(name) else settings
        for name in names
    }
    for name, its in each.items():  # before hours are spent
        study.check(name, its)
    if any(study.own_models(name) for name in names):
        require(settings.corpus, stories=True)
    failed, start = [], time.perf_counter()
    for name, its in each.items():
        print(f"\n== {name}", flush=True)
        begun = time.perf_counter()
        try:
            study.execute(name, its)
        except Exception:  # the others are run all the same
            traceback.print_exc()
            failed.append(name)
        print(f"   {(time.perf_counter() - begun) / 60:.1f} minutes", flush=True)
    print(f"\n{len(names) - len(failed)} of {len(names)} studies in {(time.perf_counter() - start) / 60:.1f} minutes")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def table(folder: Path) -> str:
    """Markdown: the rows of every study that has a saved result; figure, command and minutes stand in the first."""
    from experiments import study

    lines = [
        "# Every number of the studies",
        "",
        "What `python -m experiments table` prints, from the JSON files beside the pictures.",
        "",
        "| figure | command | minutes | claim | published | ours |",
        "|" + "---|" * 6,
    ]
    for entry in entries().values():
        if entry.is_study and study.result_file(entry.name, folder).exists():
            result = study.load(entry.name, folder)
            first = f"[{entry.name}]({entry.name}.png) | `{result['provenance']['command']}` | {entry.field('Minutes')}"
            for row in study.study(entry.name).rows(result):
                lines.append(f"| {first} | {row.claim} | {row.published} | {row.ours} |")
                first = " | | "
    return "\n".join(lines)


@dataclass(frozen=True)
class Saved:
    """Saved results.

    Attributes:
      names: of the studies.
      out: folder of the results; by default figures/.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    out: Path = Path(__file__).parent.parent / "figures"


def main(arguments: list[str]) -> int:
    """Run what the command line says; the exit code: 0, 2 for bad input, 1 when a study of `all` failed."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__.strip()}\n\n{listing()}" if arguments else listing())
        return 0
    try:
        return _run(*arguments)
    except (ValueError, OSError) as error:
        if "--debug" in arguments:
            raise
        print(f"experiments: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _run(name: str, *rest: str) -> int:
    from experiments import study

    program, found = f"python -m experiments {name}", entries()
    studies = [entry.name for entry in found.values() if entry.is_study]
    if name in ("draw", "table"):
        saved = tyro.cli(Saved, args=rest, prog=program)
        unknown = [each for each in saved.names if each not in studies]
        if unknown or (name == "draw") != bool(saved.names):
            takes = f"names of studies: {', '.join(studies)}" if name == "draw" else "no names"
            raise ValueError(f"{name} takes {takes}; got {' '.join(saved.names) or 'none'}.")
        if name == "table":
            print(table(saved.out))
        for each in saved.names:
            study.redraw(each, saved.out)
        return 0
    if name != "all" and name not in found:
        raise ValueError(f"no experiment {name!r}. There are all, draw, table, {', '.join(found)}.")
    summary = "Run every study." if name == "all" else found[name].summary
    if name != "all" and {"-h", "--help"} & set(rest):
        print(f"{found[name].docstring}\n")  # as it stands; the options below it are wrapped
    if name == "all" or name in studies:
        settings = tyro.cli(study.Settings, description=summary, args=rest, prog=program)
        if name == "all":
            return run_all(settings)
        study.execute(name, settings)
        return 0
    module = importlib.import_module(f"experiments.{found[name].room}.{name}")
    module.main(tyro.cli(module.Config, description=summary, args=rest, prog=program))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
