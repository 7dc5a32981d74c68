"""Nothing that is read is executed, leads out of its folder, or becomes markup."""

import ast
import hashlib
import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_runs import recipe_of, rewrite_json, save_run
from tiny_models import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

import andor
from andor.prompts import PlayerRow, Prompt, chat_template
from andor.runs import cache, files
from andor.show import draw, tables


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that is there once something was executed."""
    mark = tmp_path / "executed"
    pickle.loads(pickle.dumps(Attack(mark)))
    assert mark.exists(), "the attack works on who unpickles it"
    mark.unlink()
    yield mark
    assert not mark.exists()


def test_arrays_of_a_run_are_not_unpickled(mark, tmp_path):
    path = tmp_path / "x.npz"
    files.write_arrays(path, {"v": np.array([Attack(mark)], object)})  # with a checksum that fits
    with pytest.raises(files.Damaged, match="Object arrays cannot be loaded"):
        files.read_arrays(path)
    for content in (attack := pickle.dumps(Attack(mark)), attack + hashlib.sha256(attack).hexdigest().encode()):
        path.write_bytes(content)
        with pytest.raises(files.Damaged, match="is damaged"):
            andor.read(path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "consolidated.pth"])
def test_weights_are_not_unpickled(models, mark, tmp_path, name):
    folder = Path(shutil.copytree(models[0], tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    try:
        import torch

        torch.save(Attack(mark), folder / name)
    except ImportError:
        (folder / name).write_bytes(pickle.dumps(Attack(mark)))
    with pytest.raises(ValueError, match=r"pickled|damaged or no safetensors file"):
        andor.load(str(folder))


def test_code_in_a_model_folder_is_not_run(models, mark, tmp_path):
    folder = Path(shutil.copytree(models[0], tmp_path / "model"))
    for module in ("modeling_x", "tokenization_x", "configuration_x", "__init__", "sitecustomize"):
        (folder / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"auto_map": {"AutoTokenizer": ["tokenization_x.X", "tokenization_x.X"]}, "tokenizer_class": "X"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="no tokenizer could be read"):
        andor.load(str(folder))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}))
    with pytest.raises(ValueError, match="auto_map="):
        andor.load(str(folder))


ATTACKS = {
    "classes": "{{ ().__class__.__base__.__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "builtins": "{{ self.__init__.__globals__.__builtins__.open('MARK', 'w') }}",
    "function": "{{ raise_exception.__globals__['os'].system('touch MARK') }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "attribute": "{{ (messages | attr('__class__') | attr('mro'))() }}",
    "change": "{{ messages.append('x') }}",
    "include": "{% include 'MARK' %}",
    "import": "{% import 'os' as os %}{{ os.system('touch MARK') }}",
    "file": "{{ open('MARK', 'w') }}",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_chat_templates_stay_in_their_sandbox(mark, name):
    template = ATTACKS[name].replace("MARK", str(mark))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(300), mask_token="<mask>")
    tokenizer.chat_template = template + "{{ messages[0].content }}"
    with pytest.raises(ValueError, match="the chat template of '' fails: "):
        chat_template(tokenizer, "a film")


CLIMBING = (
    "..",
    "../x",
    "/etc/x",
    "a/../../x",
    "..\\x",
    "~/x",
    "a\0b",
    "a\nb",
    "C:x",
    ".",
    "",
    " ",
    "con/..",
    "x" * 300,
)


@pytest.mark.parametrize("name", CLIMBING)
def test_ids_and_model_names_stay_in_the_run(tmp_path, name):
    with pytest.raises(ValueError, match="names files"):
        Prompt("a film", id=name)
    values = cache.values_path(tmp_path, name, "one", files.key_of("x"))
    for path, folder in ((values, tmp_path / "values"), (cache.explanation_path(tmp_path, name, "one"), tmp_path)):
        assert path.resolve().parent.parent == folder.resolve() and len(path.parent.name) < 200


def test_a_recipe_does_not_lead_out_of_the_run(tmp_path):
    """One that somebody wrote, with an id and a checksum that fit."""
    recipe = recipe_of(("../../secret",), (Prompt("a good film", ["good"], id="one"),))
    run = save_run(tmp_path / "root", recipe)
    assert {path.name for path in tmp_path.iterdir()} == {"root"} and len(andor.read(run.path)) == 1
    (folder,) = (path for path in run.path.iterdir() if path.is_dir())
    assert folder.name.startswith("secret@")
    rewrite_json(run.path / "recipe.json", lambda content: content["prompts"][0].update(id="../../secret"))
    with pytest.raises(files.Damaged, match=r"Prompt\(id=...\) names files"):
        andor.read(run.path)


MARKUP = (
    "<script>alert(1)</script>",
    "$\\frac{1}{2}$",
    "[bold]",
    "]]>&amp;",
    "![x](http://x)",
    "*a*_b_`c`",
    "\x1b[31m",
)


def test_words_are_no_markup_in_captions(tmp_path, monkeypatch):
    text = " ".join(MARKUP[:-1])
    run = save_run(tmp_path, recipe_of(("![m](<x>)",), (Prompt(text, players=MARKUP[:-1:3], id="one"),)))
    monkeypatch.setattr(draw, "save", lambda figure, path, kinds, text: [])
    draw.draw(run.path)
    captions = (run.path / "figures" / "captions.md").read_text()
    assert "\\<script\\>alert(1)\\</script\\>" in captions and "\\!\\[m\\](\\<x\\>)" in captions
    plain = captions.replace("\\\\", "")
    for sign in "<>[]`$&":
        assert plain.count(sign) == plain.count(f"\\{sign}"), sign
    assert plain.count("*") - plain.count("\\*") == 4 * 5, "the names of the figures are bold, and nothing else"


def test_words_are_no_markup_in_tables():
    rows = [PlayerRow(word, (0, 1), {"m": (1,)}, {"m": word}) for word in MARKUP]
    stream = io.StringIO()
    Console(file=stream, width=400, markup=False, force_terminal=False).print(tables.players(rows, {"m": MARKUP[2]}))
    printed = stream.getvalue()
    assert all(word in printed for word in MARKUP[:-1])
    assert "\x1b" not in printed and "U+001B[31m" in printed


def test_the_package_calls_nothing_that_executes_text():
    for path in Path(andor.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {each.name for each in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "marshal", "shelve", "dill", "yaml", "runpy"}, path
                assert "subprocess" not in names or path.name == "provenance.py", path
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") not in {"eval", "exec", "compile", "__import__"}, path
                assert getattr(node.func, "attr", "") not in {"system", "popen", "Unpickler"}, path
                for keyword in node.keywords:
                    value = getattr(keyword.value, "value", None)
                    assert (keyword.arg, value) not in {("shell", True), ("allow_pickle", True)}, path
                    assert keyword.arg != "trust_remote_code" or value is False, path
