"""The README and the pages of docs/: their code runs, prints what they say, and no label of a table lacks its entry.

A fence of Python runs, all of a page in one session. A fence of text right behind it is what it prints. A line
`<!-- not run: WHY -->` before a fence leaves it out.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import io
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Group
from rich.table import Table
from small_runs import save_run
from test_tables import summarised

import andor
from andor.core.penalties import L1
from andor.models import find, load_config, load_tokenizer
from andor.prompts import Prompt, player_table, tokenize
from andor.runs.explanation import described
from andor.runs.masks import OfMask
from andor.show import cli, tables

ROOT = Path(__file__).parent.parent
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", CONTRIBUTING, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_WORDS = 1000


@dataclasses.dataclass(frozen=True)
class Fence:
    """A block of code of a page, with the line on which its code begins."""

    language: str
    code: str
    line: int
    is_run: bool


def fences(page: Path) -> list[Fence]:
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    opened = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number
        else:
            before = next((each for each in reversed(lines[:opened]) if each.strip()), "")
            code = "\n".join(lines[opened + 1 : number])
            is_run = not before.startswith("<!-- not run: ")
            found.append(Fence(lines[opened][3:].strip(), code, opened + 2, is_run))
            opened = None
    assert opened is None, f"{page.name}:{opened + 1}: a fence is not closed"
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_python_of_the_pages_prints_what_they_say(tmp_path, monkeypatch, request):
    """One test for all pages, so that programs are compiled once."""
    monkeypatch.setattr(andor, "explain", functools.cache(andor.explain))  # several pages explain the same text
    jax.config.update("jax_disable_most_optimizations", False)  # numbers as a reader's machine prints them
    request.addfinalizer(lambda: jax.config.update("jax_disable_most_optimizations", True))
    wrong = []
    for page in PAGES:
        session, blocks = {"__name__": page.stem}, fences(page)
        (tmp_path / page.stem).mkdir()
        monkeypatch.chdir(tmp_path / page.stem)
        for block, following in itertools.zip_longest(blocks, blocks[1:]):
            if block.language != "python" or not block.is_run:
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * (block.line - 1) + block.code, page.name, "exec"), session)
            says = following.code if following is not None and following.language == "text" else ""
            if printed.getvalue().rstrip() != says.rstrip():
                wrong.append(f"{page.name}:{block.line} prints\n{printed.getvalue()}\nand the page says\n{says}")
    assert not wrong, "\n\n".join(wrong)


def commands(text: str):
    """Commands of a shell script, as lists of words; those in quotes behind --wrap too."""
    for line in text.replace("\\\n", " ").replace("$MODELS", "A B").splitlines():
        words = shlex.split(line, comments=True)
        for command in " ".join(map(shlex.quote, words)).split(" '&&' "):
            words = shlex.split(command)
            if "--wrap" in words:
                yield from commands(words[-1])
            elif words:
                yield words


def test_commands_of_the_pages_are_understood(capsys):
    seen = set()
    for page in PAGES:
        for block in fences(page):
            for program, *arguments in commands(block.code) if block.language == "bash" else ():
                if Path(program).name == "andor":
                    seen.add(arguments[0])
                    if not block.is_run:
                        continue
                    try:
                        cli._parse(arguments)
                    except SystemExit:
                        said = capsys.readouterr().err
                        pytest.fail(f"{page.name}:{block.line}: andor {shlex.join(arguments)}: {said}")
                elif arguments[:2] == ["-m", "experiments"]:
                    assert list(ROOT.glob(f"experiments/*/{arguments[2]}.py")), (page.name, arguments)
    assert set(cli.COMMANDS) <= seen, "every command is shown"


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_files_to_touch_are_there():
    text = CONTRIBUTING.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.])(?:\w+/)+\w+\.\w+", text)) | set(re.findall(r"`([\w.-]+\.(?:md|toml))`", text))
    assert len(named) > 30
    for path in map(ROOT.joinpath, named):
        assert path.is_file() or (path.stem == "NAME" and path.parent.is_dir()), f"CONTRIBUTING.md names {path}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < MOST_WORDS


def entries() -> dict[str, set[str]]:
    """Heading of the glossary -> labels that it explains. Each row is checked to say what its label is."""
    found = {}
    sections = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("\n## ")[1:]
    for section in sections:
        heading, *lines = section.splitlines()
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
        for row in rows:
            assert len(row) == 5 and len(row[1].strip()) > 3, f"{heading}: {row}"
        labels = [label for row in rows for label in re.findall(r"`([^`]+)`", row[0])]
        assert len(labels) == len(set(labels)), f"{heading} explains a label twice"
        if labels:
            found[heading] = set(labels)
    return found


def tables_in(renderable) -> list[Table]:
    parts = renderable.renderables if isinstance(renderable, Group) else []
    return [renderable] if isinstance(renderable, Table) else [each for part in parts for each in tables_in(part)]


def labels(renderable) -> set[str]:
    """Headers of the tables of a rendering, and cells that are headers of rows: those of columns without a header, and
    kinds of effects in the order profile. Models are called MODEL; numbers of orders are one label."""
    found = set()
    for table in tables_in(renderable):
        for column in table.columns:
            header = str(column.header).strip()
            found.add(header)
            if not header or header == "effects":
                found |= {str(cell).strip() for cell in column.cells}
    found = {re.sub(r"\b(one|two)\b", "MODEL", each) for each in found if not set(each) <= {"█"}}
    orders = {each for each in found if re.fullmatch(r"\d+\+?", each)}
    return (found - orders) | ({"1, 2, …"} if "order" in found and "effects" in found else set())


@pytest.fixture(scope="module")
def run():
    found = summarised(("one", "two"))
    found.summary["models"]["one"]["with_warnings"] = 1
    return found


def planned():
    from andor.evaluation import planning

    config, dtype = load_config("tiny-llama", dtype="auto", backend=None, available=10**10)
    prompt = Prompt("a film\nsentiment:", players=["film"], target="positive")
    share = planning.share(config, dtype.itemsize, tokenize(prompt, load_tokenizer("tiny-llama")), available=10**10)
    return tables.plan("one", find("tiny-llama", weights=False).parameters, dtype, 10**10, {"p": share}, 1e12)


def of_players():
    prompt = Prompt("a film\nsentiment:", players=["film"], target="positive")
    tokenizers = dict.fromkeys(("one", "two"), load_tokenizer("tiny-llama"))
    return tables.players(player_table(prompt, tokenizers), {"one": "one", "two": "two"})


def certain_of(run):
    """With intervals that cost no solve: there is no effect."""
    explanation = run["one", "one"]
    zero = np.zeros_like(explanation.values.v)
    values = dataclasses.replace(explanation.values, v=zero + explanation.values.v[-1])
    nothing = dataclasses.replace(
        explanation.solution, and_effects=zero, or_effects=zero, primal=0.0, dual=0.0, dual_values=zero
    )
    origin = {**explanation.origin, "penalty": described(L1())}
    return tables.certain(dataclasses.replace(explanation, values=values, solution=nothing, origin=origin), 1)


RENDERED = {
    "Players": lambda run: of_players(),
    "Prompts, and the target text that every model explains": tables.prompts,
    "Strongest effects in words": tables.in_words,
    "Models": tables.models,
    "Order profile: strength per order": tables.orders,
    "Pairs of models: means over prompts": tables.pairs,
    "Strongest effects on the log-odds of": lambda run: tables.effects(run["one", "one"], 3),
    "Least strength, certified: what is certain": certain_of,
    "Masks of MODEL": lambda run: tables.masks(
        "one", [OfMask("<mask>", "<mask>", 1, {}, {"loss_full": (1.0, 1.0, 1.0)})]
    ),
    "Explanations by MODEL under each mask": lambda run: tables.under_masks(
        "one", [OfMask("<mask>", "<mask>", 1, {}, {})]
    ),
    "Least strength, certified: by the noise bound": lambda run: tables.path(run["one", "one"], []),
    "What a run will take": lambda run: planned(),
}
"""Heading of the glossary -> its table as the terminal prints it."""

NO_LABELS = {"Masks of MODEL": {"<mask>"}, "Explanations by MODEL under each mask": {"<mask>"}}


@pytest.mark.parametrize("heading", RENDERED)
def test_every_label_of_a_table_has_an_entry(heading, run):
    shown = {each for each in labels(RENDERED[heading](run)) if each} - NO_LABELS.get(heading, set())
    known = entries()[heading]
    assert shown == known, f"without an entry: {shown - known}; entries of no label: {known - shown}"


def test_every_table_of_the_terminal_is_asked_for_its_labels():
    """A table that is added to `andor.show.tables` needs its section."""
    functions = [each for each in vars(tables).values() if inspect.isfunction(each) and each.__name__[0] != "_"]
    made = [each.__name__ for each in functions if re.search(r"_table\(\)|_of_masks\(", inspect.getsource(each))]
    assert len(made) == len(RENDERED), made


def paths(content, at: str = ""):
    """Paths of a JSON object to what is no object, with the names of models and prompts as MODEL and ID."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = content[0]
    elif not isinstance(content, dict):
        yield at
        return
    for name, value in content.items():
        name = {"models": "MODEL", "prompts": "ID"}.get(at.split(".")[-1], name)
        name = "METHOD" if name in ("compact", "certified", "and_only") else name
        yield from paths(value, f"{at}.{name}".strip("."))


def test_every_number_of_the_files_has_an_entry(tmp_path):
    path = save_run(tmp_path / "run").controlled(save_run(tmp_path / "control")).path
    columns = set((path / "prompts.csv").read_text(encoding="utf-8").splitlines()[0].split(","))
    assert columns == entries()["prompts.csv"]
    numbers = set(paths(json.loads((path / "summary.json").read_text(encoding="utf-8"))))
    numbers = {each for each in numbers if not each.startswith(("prompts.ID.models", "prompts.ID.pairs"))}
    assert numbers == entries()["summary.json"]


def test_the_site_is_built_without_a_warning(tmp_path):
    missing = [name for name in ("mkdocs", "material", "mkdocstrings") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    api = (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
    assert "andor.runs.explain.explain" in api and "the content words nearest" in api
    assert (tmp_path / "site" / "figures" / "words.png").exists()
