"""What a run was asked for, and the rule of one unfinished run per root."""

import dataclasses
import json

import pytest
from small_runs import MODELS, PROMPTS, flip, recipe_of, rewrite_json, save_run

from andor.prompts import Prompt
from andor.runs import files
from andor.runs.recipe import begin, end, finished, model_labels, read_recipe, told
from andor.runs.run import read


def tree(folder):
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def model(**changes):
    first, *rest = recipe_of().models
    return {"models": (dataclasses.replace(first, **changes), *rest)}


def prompt(**changes):
    first, *rest = PROMPTS
    return {"prompts": (dataclasses.replace(first, **changes), *rest)}


CHANGES = {
    "noise": {"noise": 0.05},
    "measured noise": {"noise": "measured"},
    "solver": {"solvers": {"2": {"name": "Published"}, "3": {"name": "InteriorPoint", "tolerance": 1e-6}}},
    "setting of a solver": {"solvers": {n: {"name": "InteriorPoint", "tolerance": 1e-3} for n in "23"}},
    "penalty": {"penalty": {"name": "Huber", "width": 0.5}},
    "own targets": {"own_targets": True},
    "precision": {"matmul_precision": "default"},
    "weights": model(fingerprint="other"),
    "tokenizer": model(tokenizer="other"),
    "dtype": model(dtype="bfloat16"),
    "keys": model(keys=("other", "others")),
    "order of models": {"models": recipe_of().models[::-1]},
    "one model": {"models": recipe_of().models[:1]},
    "text": prompt(text="the film is not dull , good"),
    "players": prompt(players=["film", "good"]),
    "target": prompt(target="bad"),
    "chat": prompt(chat=True),
    "text around a chat": prompt(chat=("<user>", "<answer>")),
    "exact target": prompt(target="bad", exact=True),
    "template": model(chat=("<user>", "<answer>")),
    "score": {"score": "sum"},
    "id": prompt(id="other"),
    "order of prompts": {"prompts": PROMPTS[::-1]},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_a_result_decides_the_id(name):
    recipe = recipe_of()
    other = dataclasses.replace(recipe, **CHANGES[name])
    assert other.id != recipe.id and len(recipe.id) == 64
    assert recipe_of().id == recipe.id


def test_what_decides_nothing_does_not():
    recipe = recipe_of()
    assert dataclasses.replace(recipe, made={"command": "another"}).id == recipe.id
    assert dataclasses.replace(recipe, **model(revision="a commit of the hub")).id == recipe.id


def test_a_solution_has_a_key_of_all_that_decides_it():
    recipe = recipe_of()
    key = recipe.key(MODELS[1], PROMPTS[0].id)
    assert key == recipe.models[1].keys[0] != recipe.key(MODELS[0], PROMPTS[0].id)
    prompt = PROMPTS[0]
    found = [recipe.solution_key(key, prompt), recipe.solution_key("another", prompt)]
    changes = ("noise", "measured noise", "setting of a solver", "penalty")
    found += [dataclasses.replace(recipe, **CHANGES[name]).solution_key(key, prompt) for name in changes]
    # Other words of the same tokens are told in other words.
    words = ({"text": f"{prompt.text} "}, {"players": ["fil", "not", "good"]}, {"target": "bad"}, {"chat": True})
    found += [recipe.solution_key(key, dataclasses.replace(prompt, **change)) for change in words]
    assert len(set(found)) == len(found)
    same = ("one model", "text", "dtype", "own targets", "solver")  # of other prompts; that solver is of two players
    assert {dataclasses.replace(recipe, **CHANGES[name]).solution_key(key, prompt) for name in same} == {found[0]}


@pytest.mark.parametrize("name", [None, *CHANGES])
def test_what_is_read_is_what_was_asked(tmp_path, name):
    recipe = dataclasses.replace(recipe_of(), **CHANGES.get(name, {}))
    folder = begin(tmp_path, recipe)
    assert folder.parent == tmp_path and not finished(folder)
    read = read_recipe(folder / "recipe.json")
    assert read.id == recipe.id and read.made == recipe.made
    assert read.models == recipe.models and read.prompts == recipe.prompts and read.noise == recipe.noise
    assert read == read_recipe(folder / "recipe.json")


def test_a_json_reader_opens_it(tmp_path):
    content = json.loads((begin(tmp_path, recipe_of()) / "recipe.json").read_text(encoding="utf-8"))
    assert content["format"] == 6 and content["noise"] == 0.02 and content["made"]["command"] == "andor.compare(...)"
    assert (
        content["prompts"][0]["words"] == ["film", "not", "good"] and content["prompts"][1]["text"] == PROMPTS[1].text
    )
    assert [each["label"] for each in content["models"]] == ["tiny-llama", "Qwen2.5-7B"]


def test_folders_say_how_a_run_explains():
    assert recipe_of().name == "noise-0.02"
    assert recipe_of(noise=1e-5).name == "noise-1e-05" and recipe_of(noise="measured").name == "noise-measured"
    assert dataclasses.replace(recipe_of(), **CHANGES["solver"]).name == "noise-0.02_Published"
    assert dataclasses.replace(recipe_of(), **CHANGES["penalty"]).name == "noise-0.02_Huber"


# ------------------------------------------------------------------------------------------------------------- one root


def test_the_same_recipe_goes_on_in_the_same_folder(tmp_path):
    root = tmp_path / "a" / "root"
    folder = begin(root, recipe_of())
    before = tree(root)
    assert begin(root, dataclasses.replace(recipe_of(), made={"command": "another"})) == folder
    assert tree(root) == before and set(before) == {"noise-0.02/recipe.json", "unfinished.json"}


def test_a_finished_run_is_found_and_nothing_written(tmp_path):
    folder = save_run(tmp_path).path
    before = tree(tmp_path)
    assert begin(tmp_path, recipe_of()) == folder and tree(tmp_path) == before and finished(folder)
    assert "unfinished.json" not in before


def test_runs_with_other_settings_have_folders_of_their_own(tmp_path):
    first = save_run(tmp_path).path
    before = tree(first)
    assert save_run(tmp_path, recipe_of(noise=0.05)).path.name == "noise-0.05"
    said = r"noise-0.02_2 is another run of .*\. From noise-0.02 it differs in prompts\[not good\].text: "
    with pytest.warns(UserWarning, match=said):
        assert save_run(tmp_path, dataclasses.replace(recipe_of(), **CHANGES["text"])).path.name == "noise-0.02_2"
    with pytest.warns(UserWarning, match="is another run"):
        assert begin(tmp_path, dataclasses.replace(recipe_of(), **CHANGES["dtype"])).name == "noise-0.02_3"
    assert begin(tmp_path, recipe_of()) == first and tree(first) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise", "noise: 0.02 -> 0.05"),
        ("one model", "models: 2 entries -> 1 entries"),
        ("dtype", r'models\[tiny-llama\].dtype: "float32" -> "bfloat16"'),
        ("target", r'prompts\[not good\].target: null -> "bad"'),
        ("solver", r'solvers.2.name: "InteriorPoint" -> "Published"; solvers.2.tolerance: 1e-06 -> null'),
        ("keys", r"models\[tiny-llama\].keys: 2 entries -> 2 entries|models\[tiny-llama\].keys: differs"),
    ],
)
def test_an_unfinished_run_refuses_other_settings_and_tells_which(tmp_path, name, message):
    begin(tmp_path, recipe_of())
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=f"holds an unfinished run with other settings.*: {message}. ") as error:
        begin(tmp_path, dataclasses.replace(recipe_of(), **CHANGES[name]))
    assert "unfinished.json" in str(error.value) and tree(tmp_path) == before


def test_a_finished_run_can_be_asked_for_while_another_is_unfinished(tmp_path):
    first = save_run(tmp_path).path
    other = recipe_of(noise=0.05)
    begin(tmp_path, other)
    assert begin(tmp_path, recipe_of()) == first
    with pytest.raises(ValueError, match=r"noise: 0\.05 -> 0\.1"):
        begin(tmp_path, recipe_of(noise=0.1))


def test_an_unfinished_run_ends_with_its_summary_or_its_process(tmp_path):
    recipe, other = recipe_of(), recipe_of(noise=0.05)
    begin(tmp_path, recipe)
    end(tmp_path, other.id)
    assert (tmp_path / "unfinished.json").exists(), "it is of another run"
    rewrite_json(tmp_path / "unfinished.json", lambda content: content.update(by="process 1 on another host"))
    end(tmp_path)
    assert (tmp_path / "unfinished.json").exists(), "it is of another process"
    end(tmp_path, recipe.id)
    end(tmp_path, recipe.id)  # twice is once
    assert not (tmp_path / "unfinished.json").exists()
    begin(tmp_path, other)
    end(tmp_path)
    assert not (tmp_path / "unfinished.json").exists()
    (tmp_path / "noise-0.02" / "summary.json").touch()
    assert begin(tmp_path, recipe).name == "noise-0.02"


def test_a_run_that_was_finished_by_who_was_killed_then_is_in_nobodys_way(tmp_path):
    """Between its summary and the end of unfinished.json."""
    folder = begin(tmp_path, recipe_of())
    (folder / "summary.json").touch()
    assert begin(tmp_path, recipe_of(noise=0.05)).name == "noise-0.05"


def test_what_is_damaged_is_set_aside_and_begun_anew(tmp_path):
    folder = begin(tmp_path, recipe_of())
    for path in (folder / "recipe.json", tmp_path / "unfinished.json"):
        flip(path)
    with pytest.warns(UserWarning, match=r"recipe\.json is damaged.*made anew.*recipe\.json\.damaged"):
        assert begin(tmp_path, recipe_of()) == folder
    assert read_recipe(folder / "recipe.json").id == recipe_of().id
    for path in (folder / "recipe.json", tmp_path / "unfinished.json"):
        assert path.with_name(f"{path.name}.damaged").exists() and files.read_json(path)


def test_nothing_that_is_there_is_overwritten(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="mine is a file, and --out names a folder"):
        begin(tmp_path / "mine", recipe_of())
    with pytest.raises(
        ValueError, match=r"is not empty, and what it holds is no run \(no recipe.json in a folder of it"
    ):
        begin(tmp_path, recipe_of())
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("there", [".DS_Store", "values"])
def test_what_is_no_obstacle(tmp_path, there):
    (tmp_path / there).mkdir()
    assert begin(tmp_path, recipe_of()).parent == tmp_path


@pytest.mark.parametrize("folder", ["../../elsewhere", "..", "/nowhere/x", "", "values", "noise-a/../../../x", 3])
def test_an_unfinished_run_does_not_lead_out_of_its_root(tmp_path, folder):
    root = tmp_path / "a" / "root"
    begin(root, recipe_of())
    rewrite_json(root / "unfinished.json", lambda content: content.update(folder=folder))
    before = {path for path in tmp_path.rglob("*") if root not in path.parents}
    assert begin(root, recipe_of()) == root / "noise-0.02"
    assert {path for path in tmp_path.rglob("*") if root not in path.parents} == before
    assert not (root / "recipe.json").exists() and not (root / "values").exists()


# ------------------------------------------------------------------------------------------------------------ refusals


def without(name):
    return lambda content: content.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(noise=0.05), "its content does not give its id"),
        (lambda content: content["prompts"][0].update(target="bad"), "its content does not give its id"),
        (lambda content: content["models"][0].update(dtype="bfloat16"), "its content does not give its id"),
        (lambda content: content["models"][0]["keys"].pop(), "its content does not give its id"),
        (without("models"), "KeyError: 'models'"),
        (without("made"), "KeyError: 'made'"),
        (lambda content: content["models"][0].pop("label"), "TypeError"),
        (lambda content: content["models"][0].update(folder="../x"), "TypeError"),
        (lambda content: content.update(models=7), "TypeError"),
        (lambda content: content["prompts"][0].update(id="../../secret"), "names files"),
        (lambda content: content["prompts"][0].update(players=[[4, 400]]), "ValueError"),
    ],
)
def test_recipes_that_say_something_else_are_damaged(tmp_path, change, message):
    path = begin(tmp_path, recipe_of()) / "recipe.json"
    rewrite_json(path, change)
    with pytest.raises(files.Damaged, match=message) as error:
        read_recipe(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("version", [2, 4, None])
def test_runs_of_another_version_are_left_as_they_are(tmp_path, version):
    folder = save_run(tmp_path).path
    rewrite_json(folder / "recipe.json", lambda content: content.update(format=version))
    before = tree(tmp_path)
    for use in (
        lambda: read_recipe(folder / "recipe.json"),
        lambda: begin(tmp_path, recipe_of()),
        lambda: read(tmp_path),
    ):
        with pytest.raises(ValueError, match=rf"has format {version}; this version of andor reads 6") as error:
            use()
        assert not isinstance(error.value, files.Damaged) and tree(tmp_path) == before


def test_a_recipe_of_before_its_checksum_is_refused(tmp_path):
    (tmp_path / "recipe.json").write_text('{"format": 2}')
    with pytest.raises(files.Damaged, match=r"recipe\.json is damaged"):
        read_recipe(tmp_path / "recipe.json")
    with pytest.raises(FileNotFoundError, match=r"recipe\.json is missing"):
        read_recipe(tmp_path / "nothing" / "recipe.json")


# ---------------------------------------------------------------------------------------------------------- differences


def test_changed_settings_are_told_before_what_follows_from_them():
    prompts = tuple(Prompt(f"a film {n}", players=["film"], id=f"p{n:02d}") for n in range(10))
    old, new = recipe_of(prompts=prompts), recipe_of(prompts=[dataclasses.replace(p, target="y" * 99) for p in prompts])
    new = dataclasses.replace(new, noise=0.1).to_json()
    shown = told(old.to_json(), new)
    changed = [f'prompts[p{n:02d}].target: null -> "{"y" * 58}…' for n in range(7)]
    assert shown == "; ".join(["noise: 0.02 -> 0.1", *changed]) + ", and 3 more"
    assert told(new, new) == ""


def test_labels_are_short_where_they_can_be():
    assert model_labels(("/a/x", "/b/x", "Qwen/y", "/c/z/")) == ("/a/x", "/b/x", "y", "z")
    assert model_labels(("/a/x.gguf", "/b/x", "/a/w.gguf")) == ("/a/x.gguf", "/b/x", "w")
