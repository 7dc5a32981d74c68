"""What notebooks show: a real one is executed, and hostile text stays text."""

import re

import nbformat
import pytest
from nbclient import NotebookClient
from small_runs import recipe_of, save_run

from andor.core.text import percent
from andor.prompts import Prompt

EVIL = "<script>alert(1)</script>\u202e"
BARS = """
with andor.bars() as progress:
    for done in range(5):
        progress("solve", "<b>", done, 4)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    prompts = (
        Prompt("the film is not good", ["film", "not", "good"], id="plain"),
        Prompt(f"say {EVIL} & stop", [EVIL, "stop"], id="a & b"),
    )
    return save_run(tmp_path_factory.mktemp("notebook") / "run", recipe_of(prompts=prompts))


def test_a_notebook_shows_picture_and_table(run):
    cells = (f"import andor\nrun = andor.read({str(run.path)!r})\nrun", "run['tiny-llama', 'plain']", BARS)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    of_run, of_explanation = (
        next(each["data"]["text/html"] for each in cell["outputs"] if "data" in each) for cell in notebook.cells[:2]
    )
    (bar,) = notebook.cells[2]["outputs"]  # one, which is drawn anew: no bar per step, and no line on stderr
    assert "solve &lt;b&gt;" in bar["data"]["text/html"] and "100%" in bar["data"]["text/html"]
    for html in (of_run, of_explanation):
        assert html.count('<img alt="') == 1 and html.count("<table>") == 1
    for prompt in run.prompts:
        assert f">{percent(run['tiny-llama', prompt.id].values.target_probability)}<" in of_run
    for each in run["tiny-llama", "plain"].top(10):
        assert each.name in of_explanation and f"{each.effect:+.2f}" in of_explanation
    assert f"“{run['tiny-llama', 'plain'].target.strip()}”" in of_explanation
    for warning in run["tiny-llama", "plain"].warnings:
        assert warning.replace("'", "&#x27;") in of_explanation


def test_what_prompts_hold_is_text_in_notebooks_too(run):
    for html in (run._repr_html_(), run["tiny-llama", "a & b"]._repr_html_()):
        assert "<script" not in html and "\u202e" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;U+202E" in html
        assert set(re.findall(r"<(\w+)", html)) <= {
            "div",
            "p",
            "b",
            "img",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "bdi",
        }
