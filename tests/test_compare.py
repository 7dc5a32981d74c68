"""Runs of models: every number is computed once, and kept; whatever happens, the same call goes on from there."""

import csv
import dataclasses
import gc
import json
import shutil
import warnings
import weakref

import numpy as np
import pytest
from small_runs import flip, rewrite, rewrite_json
from tiny_models import tiny_tokenizer

import andor.models
from andor.devices.memory import Insufficient
from andor.evaluation.spot_check import MASKS
from andor.prompts import Prompt
from andor.runs import compare as front_door
from andor.runs import files, work
from andor.runs.cache import explanation_path, model_folder, values_path
from andor.runs.compare import compare
from andor.runs.explanation import MOST_SHOWN
from andor.runs.recipe import begin
from andor.runs.run import read_skipped
from andor.runs.summary import summarise
from andor.solvers import FirstOrder, InteriorPoint
from andor.solvers.extract import extract

PROMPTS = (
    Prompt("the film is not good , but never dull .", players=["not", "good", "dull"], target="good"),
    Prompt("a good film is a film", players=["good", "is", "film"], id="own"),
    Prompt("the film is never dull", players=["film", "never"]),
)
IDS = ("prompt-0001", "own", "prompt-0003")
ALL = {"evaluated": 6, "reused": 0, "solved": 6, "kept": 0}
NOTHING = {"evaluated": 0, "reused": 0, "solved": 0, "kept": 6}


@pytest.fixture(scope="module")
def run(models, tmp_path_factory):
    """Computed once. Tests that change its root copy it."""
    return compare(models, PROMPTS, out=tmp_path_factory.mktemp("runs") / "root", noise=0.05)


@pytest.fixture
def root(run, tmp_path):
    return shutil.copytree(run.path.parent, tmp_path / "root")


@pytest.fixture
def no_model(monkeypatch):
    """Nothing is evaluated from here on."""
    monkeypatch.setattr(andor.models, "load", lambda *_, **__: pytest.fail("loaded a model"))


def contents(root):
    """What a root holds, without the time it took and who made it."""
    return {
        str(path.relative_to(root)): {
            name: array.tobytes() for name, array in np.load(path).items() if name not in ("seconds", "made_by")
        }
        if path.suffix == ".npz"
        else without_times(files.read_json(path))
        for path in sorted(root.rglob("*"))
        if path.suffix in (".npz", ".json")
    }


def without_times(content):
    if isinstance(content, dict):
        return {key: without_times(each) for key, each in content.items() if key not in ("seconds", "made")}
    return content


def tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def values_of(run, model, prompt_id):
    return values_path(run.path.parent, model, prompt_id, run.recipe.key(model, prompt_id))


# ----------------------------------------------------------------------------------------------------------- what it is


def test_all_models_explain_the_same_targets(run):
    assert [prompt.id for prompt in run.prompts] == [*IDS] and run.counts == ALL
    assert [run.target_from(prompt) for prompt in run.prompts] == ["given", run.models[0], run.models[0]]
    for prompt in run.prompts:
        targets = {run[name, prompt.id].target for name in run.models}
        assert targets == {run[run.models[0], prompt.id].values.target} == {run.summary["prompts"][prompt.id]["target"]}
        assert all(run[name, prompt.id].values.players == prompt.words for name in run.models)
    assert run["own" and run.models[0], "prompt-0001"].target == " good"


def test_explanations_are_those_of_the_values(run):
    for (name, prompt_id), explanation in run.items():
        values = andor.evaluate(andor.load(name), explanation.prompt, target=explanation.target)
        np.testing.assert_array_equal(explanation.values.v, values.v)
        alone = extract(values.v, 0.05)
        np.testing.assert_allclose(explanation.pair()[0], alone.and_effects, atol=1e-6)
        few = andor.compact(values.v, MOST_SHOWN, start=explanation.solution)
        np.testing.assert_allclose(explanation.effects[0], few.and_effects, atol=1e-6)
        assert explanation.solution.gap < 1e-2 and explanation.model == name and explanation.prompt.id == prompt_id
        assert explanation.solution.noise_bound == pytest.approx(0.05 * abs(values.v[-1] - values.v[0]), rel=1e-12)
        assert json.loads(explanation.origin["solver"])["name"] == "InteriorPoint"
        assert "jax" in explanation.origin["made_by"]


def test_what_is_on_disk_is_what_is_returned(run):
    saved = andor.read(run.path.parent)
    assert saved.path == run.path and saved.summary == run.summary and saved.recipe == run.recipe
    assert files.jsonable(summarise(saved)) == saved.summary and saved.skipped == run.skipped == ()
    with (run.path / "prompts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["prompt"], row["model"]) for row in rows[:2]] == [("prompt-0001", name) for name in run.models]
    assert float(rows[1]["gap"]) == run.summary["prompts"]["prompt-0001"]["models"][run.models[1]]["gap"]
    assert float(rows[0]["certified_salient"]) >= 1 and len(rows) == 6


def test_the_recipe_says_what_was_asked_and_of_whom(run):
    recipe = andor.read(run.path).recipe
    for record, name, family in zip(recipe.models, run.models, ("llama", "qwen2"), strict=True):
        assert (record.name, record.family, record.dtype, record.baseline) == (name, family, "float32", "<mask>")
        assert len(record.fingerprint) == len(record.tokenizer) == 64 and record.parameters > 1000
        assert record.revision is None and all(len(key) == 64 for key in record.keys)
    assert recipe.noise == 0.05 and recipe.matmul_precision == "highest" and recipe.own_targets is False
    assert {n: each["name"] for n, each in recipe.solvers.items()} == dict.fromkeys("23", "InteriorPoint")
    assert set(recipe.made) >= {"command", "started", "host", "pid", "device", "versions", "git", "left_out", "reuse"}
    assert recipe.made["reuse"] is None and recipe.made["versions"].keys() >= {"jax", "numpy", "andor"}


def test_one_model_at_a_time_and_progress(models, tmp_path, monkeypatch):
    load, alive, calls = andor.models.load, [], []

    def load_alone(name, **settings):
        gc.collect()
        assert not any(decoder() for decoder in alive), "the model before is still in memory"
        model = load(name, **settings)
        alive.append(weakref.ref(model.decoder))
        return model

    monkeypatch.setattr(andor.models, "load", load_alone)
    run = compare(models, PROMPTS[1:], out=tmp_path, progress=lambda *call: calls.append(call))
    stages = [(stage, model) for stage, model, done, total in calls if done == total]
    assert stages == [(stage, model) for model in run.models for stage in ("load", "compile", "evaluate", "solve")]
    of_first = [(done, total) for stage, model, done, total in calls if (stage, model) == ("evaluate", models[0])]
    assert of_first == sorted(of_first) and {total for _, total in of_first} == {8 + 4}
    extracted = [(done, total) for stage, model, done, total in calls if (stage, model) == ("solve", models[1])]
    assert extracted == [(0, 2), (1, 2), (2, 2)]


def test_the_solver_recorded_for_a_number_of_players_is_the_one_that_ran(models, root, monkeypatch, no_model):
    ran = {}

    def spy(v, noise, solver, **options):
        ran[str(int(np.log2(v.shape[-1])))] = type(solver).__name__
        return extract(v, noise, solver, **options)

    monkeypatch.setattr(front_door, "default_solver", lambda n, penalty: InteriorPoint() if n <= 2 else FirstOrder())
    monkeypatch.setattr(work, "extract", spy)
    run = compare(models, PROMPTS, out=root, noise=0.3)
    recorded = {n: each["name"] for n, each in run.recipe.solvers.items()}
    assert recorded == ran == {"2": "InteriorPoint", "3": "FirstOrder"}
    for prompt in run.prompts:
        solver = json.loads(run[models[0], prompt.id].origin["solver"])
        assert solver == run.recipe.solvers[str(prompt.n_players)]
    assert run.path.name == "noise-0.3_FirstOrder" and run.counts == {**ALL, "evaluated": 0, "reused": 6}


def test_each_model_explains_its_own_prediction(models, tmp_path):
    prompts = [Prompt("a good film", players=["good"], id="open"), Prompt("a good", players=["good"], target="film")]
    run = compare(models, prompts, own_targets=True, baseline="mean", out=tmp_path)
    for name in models:
        assert run[name, "open"].target == andor.predict_target(andor.load(name), prompts[0])
        assert run[name, "prompt-0002"].target == " film"
    assert [run.target_from(prompt) for prompt in run.prompts] == ["own", "given"]
    assert run.summary["prompts"]["open"]["target"] is None and run.recipe.own_targets
    assert {record.baseline for record in run.recipe.models} == {"mean embedding"}


def test_batches_hold_equal_players_and_nearly_equal_sizes():
    prompts = [Prompt("a b c d", players=list("bcd")[: 2 + index % 2], id=str(index)) for index in range(23)]
    batches = list(work.batches(prompts))
    assert sorted(prompt.id for batch in batches for prompt in batch) == sorted(prompt.id for prompt in prompts)
    assert all(len({prompt.n_players for prompt in batch}) == 1 for batch in batches)
    assert sorted(len(batch) for batch in batches) == [5, 6, 6, 6]


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ()}, "at least one"),
        ({"models": ("same", "same")}, "different models"),
        ({"models": ("tiny-nothing",)}, "unknown model 'tiny-nothing'"),
        ({"models": ("lab/a", "lab/A")}, "must differ in more than upper and lower case"),
        ({"prompts": ()}, "at least one"),
        ({"prompts": (PROMPTS[1], PROMPTS[1])}, "different ids"),
        ({"prompts": (PROMPTS[1], dataclasses.replace(PROMPTS[1], id="OWN"))}, "different ids"),
        ({"prompts": (Prompt("the film is", players=[(4, 6), (6, 8)], id="odd"),)}, "prompt 'odd' under model"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"tau": 1.0}, "tau"),
        ({"baseline": "nothing"}, "baseline"),
        ({"shard": "3/2"}, "a shard is written I/N"),
        ({"reuse": "nowhere"}, "nowhere holds no values to reuse"),
    ],
)
def test_bad_input_is_refused_before_any_model_is_loaded(models, tmp_path, no_model, change, message):
    arguments = {"models": models, "prompts": PROMPTS, "out": tmp_path / "root"} | change
    with pytest.raises(ValueError, match=message):
        compare(**arguments)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"intermediate_size": 48}, r"has shape \(40, 32\), expected \(48, 32\)"),
    ],
)
def test_a_bad_second_model_is_refused_before_the_first_is_loaded(models, tmp_path, no_model, change, message):
    bad = shutil.copytree(models[1], tmp_path / "bad")
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        compare((models[0], str(bad)), PROMPTS, out=tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_too_many_players_for_memory_are_refused_before_any_model_is_loaded(models, tmp_path, monkeypatch, no_model):
    monkeypatch.setattr("andor.solvers.interior_point.exact_bytes", lambda: 1000)
    with pytest.raises(ValueError, match=r"3 players.*GB of memory"):
        compare(models, PROMPTS, out=tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_what_is_no_root_is_not_touched(models, tmp_path, no_model):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        compare(models, PROMPTS, out=tmp_path)
    with pytest.raises(ValueError, match=r"precious.txt is a file, and --out names a folder"):
        compare(models, PROMPTS, out=tmp_path / "precious.txt")
    assert tree(tmp_path) == {"precious.txt": b"x"}


# ------------------------------------------------------------------------------------------------------ computed once


class Killed(BaseException):
    """As kill -9, whose own test is the fault drill."""


def test_the_same_call_goes_on_to_the_bit_wherever_it_is_killed(models, tmp_path, run, monkeypatch):
    """Killed after every file, one after the other; then nothing was saved twice, and all is as in one go."""
    write_bytes, written = files.write_bytes, []

    def write_and_die(path, content, **options):
        done = write_bytes(path, content, **options)
        if done:
            written.append(path.name if path.suffix == ".json" else str(path.relative_to(tmp_path)))
        if done and path.suffix == ".npz":
            raise Killed
        return done

    monkeypatch.setattr(files, "write_bytes", write_and_die)
    kills = 0
    while True:
        try:
            again = compare(models, PROMPTS, out=tmp_path, noise=0.05)
            break
        except Killed:
            kills += 1
    assert kills == 6 + 6, "every prompt under every model is evaluated once and solved once"
    arrays = [name for name in written if name.endswith(".npz")]
    assert len(arrays) == len(set(arrays)) == 12
    assert again.counts == NOTHING and contents(tmp_path) == contents(run.path.parent)
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "unfinished.json").exists()


def test_values_survive_a_failure_after_them(models, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("solver died")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="solver died"):
        patch.setattr(work, "extract", fail)
        compare(models[:1], PROMPTS, out=tmp_path)
    assert len(list(tmp_path.glob("values/*/*.npz"))) == 3 and not (tmp_path / "unfinished.json").exists()
    assert compare(models[:1], PROMPTS, out=tmp_path).counts == {"evaluated": 0, "reused": 3, "solved": 3, "kept": 0}


def test_a_finished_run_is_read_and_nothing_written(models, root, run, no_model, monkeypatch):
    before = tree(root)
    monkeypatch.setattr(files, "write_bytes", lambda path, *_, **__: pytest.fail(f"wrote {path}"))
    found = compare(models, PROMPTS, out=root, noise=0.05, command="another", left_out=["why"])
    assert found.counts == NOTHING and found.summary == run.summary and tree(root) == before


def test_another_noise_bound_evaluates_nothing_and_leaves_the_run_before(models, root, run, no_model):
    before = tree(run.path)
    other = compare(models, PROMPTS, out=root, noise=0.1)
    assert other.path == root / "noise-0.1" and other.counts == {"evaluated": 0, "reused": 6, "solved": 6, "kept": 0}
    for key, explanation in other.items():
        np.testing.assert_array_equal(explanation.values.v, run[key].values.v)
        assert explanation.solution.noise_bound == pytest.approx(2 * run[key].solution.noise_bound, rel=1e-12)
        assert explanation.origin["made_by"] == run[key].origin["made_by"]
    assert tree(root / "noise-0.05") == before
    assert andor.read(root / "noise-0.05").summary == run.summary


def test_another_tau_is_another_summary_of_the_same_run(models, root, run, no_model):
    found = compare(models, PROMPTS, out=root, noise=0.05, tau=0.5)
    assert found.path == root / "noise-0.05" and found.counts == NOTHING and found.tau == 0.5
    many, few = (each.summary["models"][models[0]]["certified"]["salient"] for each in (run, found))
    assert few < many
    read = andor.read(root)
    assert read.tau == 0.5 and read.summary == found.summary
    assert compare(models, PROMPTS, out=root, noise=0.05).summary == run.summary


def test_fewer_prompts_and_models_take_what_is_there(models, root, run, no_model):
    """In a run of their own, with explanations that are copied."""
    found = compare(models[:1], PROMPTS[:2], out=root, noise=0.05)
    assert found.path == root / "noise-0.05_2" and found.counts == {"evaluated": 0, "reused": 0, "solved": 0, "kept": 2}
    assert found[models[0], "own"].digest == run[models[0], "own"].digest
    assert andor.read(found.path).models == models[:1]


def test_more_prompts_evaluate_only_what_is_new(models, root):
    more = [*PROMPTS, Prompt("never a good film", players=["good", "film"], id="new")]
    assert compare(models, more, out=root, noise=0.05).counts == {"evaluated": 2, "reused": 0, "solved": 2, "kept": 6}


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "bfloat16"},
        {"baseline": "zero"},
        {"baseline": "delete"},
        {"baseline": "resample::2"},
        {"prompts": [dataclasses.replace(PROMPTS[0], target="bad")]},
        {"prompts": [dataclasses.replace(PROMPTS[0], players=["film", "good", "dull"])]},
    ],
    ids=["dtype", "baseline", "delete", "resample", "target", "players"],
)
def test_what_decides_v_is_evaluated_anew(models, root, change):
    arguments = {"prompts": PROMPTS[:1], "noise": 0.05, "out": root} | change
    assert compare(models[:1], **arguments).counts == {"evaluated": 1, "reused": 0, "solved": 1, "kept": 0}


def test_another_way_to_evaluate_is_another_key(models, root, monkeypatch):
    monkeypatch.setattr(work, "EVALUATION", -1)
    assert compare(models, PROMPTS, out=root, noise=0.05).counts == ALL


def test_weights_that_are_others_are_evaluated_anew(models, root, tmp_path):
    """Under the same name."""
    name = str(shutil.copytree(models[0], tmp_path / "model"))
    first = compare(name, PROMPTS[:1], out=root)
    shutil.copy(f"{models[1]}/config.json", name)
    shutil.copy(f"{models[1]}/model.safetensors", name)
    second = compare(name, PROMPTS[:1], out=root)
    assert second.path.name == "noise-auto_2" and second.counts["evaluated"] == 1
    assert second[name, "prompt-0001"].digest != first[name, "prompt-0001"].digest
    assert andor.read(first.path)[name, "prompt-0001"].digest == first[name, "prompt-0001"].digest


def test_weights_that_change_during_a_run_end_it(models, tmp_path, monkeypatch):
    load = andor.models.load
    monkeypatch.setattr(
        andor.models, "load", lambda *names, **given: dataclasses.replace(load(*names, **given), fingerprint="other")
    )
    with pytest.raises(ValueError, match=r"the files of .* have changed since the run was begun"):
        compare(models[:1], PROMPTS[:1], out=tmp_path)


def test_a_root_goes_on_in_the_dtype_it_has_begun_with(models, root, monkeypatch, no_model):
    """By default the memory that is free decides it, which may be less today."""
    monkeypatch.setattr("andor.models.Checkpoint.dtype_on", lambda *_: np.dtype(np.float16))
    assert compare(models, PROMPTS, out=root, noise=0.05).counts == NOTHING


def test_a_commit_of_the_hub_decides_nothing(models, root, no_model):
    rewrite_json(root / "noise-0.05/recipe.json", lambda recipe: recipe["models"][0].update(revision="another"))
    assert compare(models, PROMPTS, out=root, noise=0.05).counts == NOTHING


def test_a_run_that_was_killed_refuses_other_settings_by_what_differs(models, root, run, no_model):
    other = dataclasses.replace(run.recipe, noise=0.3)
    begin(root, other)
    rewrite_json(root / "unfinished.json", lambda content: content.update(by="process 1 on another"))
    before = tree(root)
    with pytest.raises(
        ValueError, match=r"unfinished run with other settings, begun by process 1 on another: noise: 0.3 -> 0.4"
    ):
        compare(models, PROMPTS, out=root, noise=0.4)
    assert tree(root) == before
    assert compare(models, PROMPTS, out=root, noise=0.05).counts == NOTHING, "a finished run can still be read"
    assert compare(models, PROMPTS, out=root, noise=0.3).counts["reused"] == 6
    assert compare(models, PROMPTS, out=root, noise=0.4).counts["reused"] == 6
    assert not (root / "unfinished.json").exists()


# -------------------------------------------------------------------------------------------------------------- damage


def victims(root, run):
    """A file of every kind: its path, and what is done where it is damaged or missing."""
    model, folder = run.models[1], root / "noise-0.05"
    return {
        "v": (root / values_of(run, model, "own").relative_to(run.path.parent), NOTHING),
        "explanation": (explanation_path(folder, model, "own"), {"evaluated": 0, "reused": 1, "solved": 1, "kept": 5}),
        "summary": (folder / "summary.json", NOTHING),
        "recipe": (folder / "recipe.json", NOTHING),
    }


@pytest.mark.parametrize("damage", ["one bit", "half", "folder", "gone"])
@pytest.mark.parametrize("kind", ["explanation", "summary", "recipe"])
def test_what_is_damaged_is_made_again_and_kept(models, root, run, no_model, kind, damage):
    before, (path, counts) = contents(root), victims(root, run)[kind]
    if damage == "one bit":
        flip(path)
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
        if damage == "folder":
            (path / "mine").mkdir(parents=True)
    told = (
        warnings.catch_warnings() if damage == "gone" else pytest.warns(UserWarning, match=rf"{path.name} is damaged")
    )
    with told:
        found = compare(models, PROMPTS, out=root, noise=0.05)
    assert found.counts == counts and found.summary.keys() == run.summary.keys()
    kept = path.with_name(f"{path.name}.damaged")
    assert kept.exists() == (damage != "gone")
    assert contents(root) == before and andor.read(root).summary == found.summary


def test_v_that_is_damaged_is_evaluated_again_when_it_is_needed(models, root, run):
    before, (path, _) = contents(root), victims(root, run)["v"]
    flip(path)
    assert compare(models, PROMPTS, out=root, noise=0.05).counts == NOTHING, "explanations hold it too"
    explanation_path(root / "noise-0.05", models[1], "own").unlink()
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged.*It is made anew.*{path.name}\.damaged"):
        found = compare(models, PROMPTS, out=root, noise=0.05)
    assert found.counts == {"evaluated": 1, "reused": 0, "solved": 1, "kept": 5}
    assert path.with_name(f"{path.name}.damaged").exists() and contents(root) == before


def test_what_was_tampered_with_is_made_again(models, root, run, no_model):
    before = contents(root)
    path = explanation_path(root / "noise-0.05", models[1], "own")
    rewrite(path, v=-run[models[1], "own"].values.v)
    with pytest.warns(UserWarning, match=r"own\.npz is damaged: it says p = .*made anew"):
        assert compare(models, PROMPTS, out=root, noise=0.05).counts["solved"] == 1
    assert contents(root) == before


def test_an_explanation_of_another_run_is_made_again(models, root, run, no_model):
    compare(models, PROMPTS, out=root, noise=0.1)
    before = contents(root)
    paths = [explanation_path(root / f"noise-{noise}", models[0], "own") for noise in ("0.05", "0.1")]
    shutil.copy(paths[1], paths[0])
    with pytest.warns(UserWarning, match="is of another recipe.*made anew"):
        assert compare(models, PROMPTS, out=root, noise=0.05).counts["solved"] == 1
    assert contents(root) == before


def test_what_cannot_be_read_now_is_not_made_again(models, root, no_model, monkeypatch):
    before, read_bytes = tree(root), type(root).read_bytes

    def failing(path):
        if path.suffix == ".npz":
            raise OSError(5, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(type(root), "read_bytes", failing)
    with pytest.raises(OSError, match="could not be read: Input/output error"):
        compare(models, PROMPTS, out=root, noise=0.05)
    monkeypatch.undo()
    assert tree(root) == before


@pytest.mark.parametrize("name", ["own", "unfinished.json", "recipe.json", "summary.json", "prompts.csv"])
def test_a_full_disk_is_named_and_the_same_call_goes_on(models, root, run, monkeypatch, name):
    """Full from the file of that name on."""
    replace, link = files.os.replace, files.os.link

    def full(put):
        def failing(source, target):
            if name in str(target):
                raise OSError(28, "No space left on device")
            put(source, target)

        return failing

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full(replace))
        patch.setattr(files.os, "link", full(link))
        with pytest.raises(OSError, match=rf"{name}.* could not be written: No space left.*same command again"):
            compare(models[:1], PROMPTS[:2], out=root, noise=0.3)
    assert not list(root.rglob("*.tmp"))
    found = compare(models[:1], PROMPTS[:2], out=root, noise=0.3)
    assert found.counts["evaluated"] == 0 and len(found) == 2 and andor.read(found.path).summary == found.summary


# ------------------------------------------------------------------------------------------------------------ left out


ODD = Prompt("the film is", players=[(4, 6), (6, 8)], id="odd")  # two players share a token
NAN = Prompt("never a good film", players=["good", "film"], id="nan")


@pytest.fixture
def failing(models, monkeypatch):
    """That prompt gives NaN under the second model, until it is told otherwise; another error can be given."""
    outcomes, errors = work.outcomes, [ValueError("v is nan")]

    def spoilt(model, prompts, **options):
        given = list(prompts)
        for prompt, outcome in zip(given, outcomes(model, given, **options), strict=True):
            bad = errors and prompt.id == "nan" and model.name == models[1]
            yield errors[0] if bad else outcome

    monkeypatch.setattr(work, "outcomes", spoilt)
    return errors


def test_prompts_that_fail_are_left_out_under_all_models(models, root, failing):
    with pytest.warns(UserWarning) as caught:
        run = compare(models, [*PROMPTS, ODD, NAN], out=root, noise=0.05)
    said = [str(each.message) for each in caught]
    assert sum("prompt 'odd' is left out" in each for each in said) == 1
    assert any(f"prompt 'nan' is left out. {models[1]}: v is nan" in each for each in said)
    assert {each.id: each.model for each in run.skipped} == {"odd": models[0], "nan": models[1]}
    assert [prompt.id for prompt in run.prompts] == [*IDS] and set(run.summary["prompts"]) == {*IDS}
    assert run.counts == {"evaluated": 1, "reused": 0, "solved": 1, "kept": 6}
    read = andor.read(run.path)
    assert sorted(read.skipped, key=str) == sorted(run.skipped, key=str) and read.summary == run.summary


def test_what_is_left_out_is_not_tried_again(models, root, failing, monkeypatch):
    with pytest.warns(UserWarning, match="'nan' is left out"):
        first = compare(models, [*PROMPTS, NAN], out=root, noise=0.05)
    monkeypatch.setattr(andor.models, "load", lambda *_, **__: pytest.fail("loaded a model"))
    with pytest.warns(UserWarning, match="'nan' is left out"):
        again = compare(models, [*PROMPTS, NAN], out=root, noise=0.05)
    assert again.skipped == first.skipped and again.counts == NOTHING and again.summary == first.summary


def test_a_damaged_note_is_tried_again(models, root, failing):
    prompts = [*PROMPTS, NAN]
    with pytest.warns(UserWarning, match="'nan' is left out"):
        run = compare(models, prompts, out=root, noise=0.05)
    path = run.path / "skipped" / "nan.json"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(files.Damaged, match=r"nan\.json is damaged.*the command or call that made the run"):
        andor.read(run.path)
    with pytest.warns(UserWarning, match=r"nan\.json is damaged.*made anew"):
        again = compare(models, prompts, out=root, noise=0.05)
    assert again.skipped == run.skipped and path.with_name("nan.json.damaged").exists()
    failing.clear()
    path.unlink()
    found = compare(models, prompts, out=root, noise=0.05)
    assert len(found.prompts) == 4 and not found.skipped and andor.read(run.path).summary == found.summary


def test_strict_ends_at_the_first_that_fails(models, root, failing):
    with pytest.raises(ValueError, match="prompt 'odd' under model"):
        compare(models, [*PROMPTS, ODD], out=root, strict=True)
    with pytest.raises(ValueError, match=r"prompt 'nan' under model.*v is nan"):
        compare(models, [*PROMPTS, NAN], out=root, strict=True)
    with pytest.warns(UserWarning, match="left out"):
        compare(models, [*PROMPTS, NAN], out=root)
    with pytest.raises(ValueError, match=r"prompt 'nan' under model.*v is nan"):
        compare(models, [*PROMPTS, NAN], out=root, strict=True)  # where it is left out already


def test_where_all_are_left_out_nothing_is_left(models, tmp_path, failing):
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match=r"no prompt is left. 'nan' failed under .*v is nan"),
    ):
        compare(models, [NAN], out=tmp_path)


def test_for_want_of_memory_a_prompt_is_tried_again(models, root, failing, run):
    failing[0] = Insufficient("no memory for it")
    with pytest.warns(UserWarning, match="'nan' is left out.*no memory for it"):
        first = compare(models, [*PROMPTS, NAN], out=root, noise=0.05)
    assert read_skipped(first.path)[0].again and len(first.prompts) == 3
    with pytest.warns(UserWarning, match="no memory for it"):
        assert len(compare(models, [*PROMPTS, NAN], out=root, noise=0.05).prompts) == 3
    failing.clear()
    found = compare(models, [*PROMPTS, NAN], out=root, noise=0.05)
    assert found.counts == {"evaluated": 1, "reused": 0, "solved": 1, "kept": 7}
    assert len(found.prompts) == 4 and not found.skipped and not list(first.path.glob("skipped/*"))
    assert andor.read(found.path).summary == found.summary


def test_a_summary_from_before_a_prompt_was_tried_again_is_not_read(models, root, failing, monkeypatch):
    failing[0] = Insufficient("no memory")
    with pytest.warns(UserWarning, match="'nan' is left out"):
        path = compare(models, [*PROMPTS, NAN], out=root, noise=0.05).path
    failing.clear()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("andor.runs.run.summarise", lambda *_: (_ for _ in ()).throw(Killed))
        compare(models, [*PROMPTS, NAN], out=root, noise=0.05)
    with pytest.raises(files.Damaged, match=r"summary\.json holds the numbers of other explanations"):
        andor.read(path)
    found = compare(models, [*PROMPTS, NAN], out=root, noise=0.05)
    assert list(andor.read(path).summary["prompts"]) == list(found.summary["prompts"]) == [*IDS, "nan"]


def test_a_process_that_leaves_out_more_than_another_makes_no_false_summary(models, root, failing, monkeypatch):
    """The second begins and finishes while the first, without memory for one prompt, computes its summary."""
    from andor.runs import run as module

    failing[0], prompts, others = Insufficient("no memory"), [*PROMPTS, NAN], []

    def other_first(run):
        if not others:
            others.append(None)
            failing.clear()
            others.append(compare(models, prompts, out=root, noise=0.05))
        return summarise(run)

    monkeypatch.setattr(module, "summarise", other_first)
    with pytest.warns(UserWarning, match="'nan' is left out"):
        first = compare(models, prompts, out=root, noise=0.05)
    assert len(first.prompts) == 3 and len(others[1].prompts) == 4
    with pytest.raises(files.Damaged, match=r"numbers of other explanations than the run has\. Repeat the command"):
        andor.read(first.path)
    assert compare(models, prompts, out=root, noise=0.05).summary == others[1].summary
    assert andor.read(first.path).summary == others[1].summary


def test_a_target_that_turns_out_otherwise_is_explained_by_all(models, root, run):
    """Where two tokens are next to equally likely, another device may predict another target."""
    key = run.recipe.key(models[0], "own")
    path = root / values_of(run, models[0], "own").relative_to(run.path.parent)
    other = andor.evaluate(andor.load(models[0]), PROMPTS[1], target=" good")
    rewrite(path, v=other.v, target=other.target, target_probability=np.float64(other.target_probability), key=key)
    explanation_path(root / "noise-0.05", models[0], "own").unlink()
    found = compare(models, PROMPTS, out=root, noise=0.05)
    assert {found[name, "own"].target for name in models} == {" good"}
    assert found.counts == {"evaluated": 1, "reused": 1, "solved": 2, "kept": 4}
    assert andor.read(found.path)[models[1], "own"].target == " good"


# ---------------------------------------------------------------------------------------------------------------- reuse


def test_values_of_another_root_are_never_read_unasked(models, run, tmp_path):
    beside = shutil.copytree(run.path.parent, tmp_path / "beside")
    found = compare(models[:1], PROMPTS[:1], out=tmp_path / "new")
    assert found.counts["evaluated"] == 1 and found.recipe.made["reuse"] is None and beside.exists()


def interrupted(model, prompts, **_):
    raise KeyboardInterrupt


def no_outcomes(model, prompts, **_):
    """Only a sample is evaluated."""
    assert not list(prompts)
    return iter(())


def test_values_of_another_root_are_used_when_a_sample_agrees(models, run, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "outcomes", no_outcomes)
    prompts = [PROMPTS[0], dataclasses.replace(PROMPTS[1], id="renamed")]
    found = compare(models, prompts, out=tmp_path / "new", noise=0.05, reuse=run.path.parent)
    assert found.counts == {"evaluated": 0, "reused": 4, "solved": 4, "kept": 0}
    for name in models:
        np.testing.assert_array_equal(found[name, "renamed"].values.v, run[name, "own"].values.v)
        made_by = found[name, "renamed"].origin["made_by"]
        assert f"; taken from {run.path.parent}, {MASKS} masks agree within " in made_by
    assert andor.read(found.path).recipe.made["reuse"] == str(run.path.parent)
    monkeypatch.setattr(andor.models, "load", lambda *_, **__: pytest.fail("loaded a model"))
    assert compare(models, prompts, out=tmp_path / "new", noise=0.05).counts == {**NOTHING, "kept": 4}


def test_prompts_are_texts_or_a_file_too(models, tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"text": "a good film", "id": "p"}\n')
    run = compare(models[:1], tmp_path / "mine.jsonl", out=tmp_path / "a")
    assert list(run) == [(models[0], "p")]
    assert list(compare(models[:1], ["a good film"], out=tmp_path / "b")) == [(models[0], "prompt-0001")]
    with pytest.raises(ValueError, match=r"must be andor.Prompts, texts, or the path of a .jsonl file; got dict"):
        compare(models[:1], [{"text": "a good film"}], out=tmp_path / "c")


@pytest.mark.parametrize("wrong", ["v", "one bit"])
def test_values_that_are_wrong_are_not_used(models, run, root, tmp_path, wrong):
    path = root / values_of(run, models[0], "own").relative_to(run.path.parent)
    if wrong == "v":
        v = run[models[0], "own"].values.v + 0.5 * (np.arange(8) == 0)  # the mask of nothing is in every sample
        rewrite(path, v=v)
    else:
        flip(path)
    before = tree(root)
    with pytest.warns(UserWarning, match=rf"not used: {path} (differs by .* masks evaluated again|is damaged)"):
        found = compare(models[:1], PROMPTS[:2], out=tmp_path / "new", noise=0.05, reuse=root)
    assert found.counts == {"evaluated": 1, "reused": 1, "solved": 2, "kept": 0} and tree(root) == before
    np.testing.assert_array_equal(found[models[0], "own"].values.v, run[models[0], "own"].values.v)
    assert "taken from" not in found[models[0], "own"].origin["made_by"]


def test_noise_that_another_root_says_is_measured_again(models, run, root, tmp_path):
    """A wide bound would explain everything away, and no mask of v would tell."""
    path = root / values_of(run, models[0], "own").relative_to(run.path.parent)
    rewrite(path, forward_bound=np.float64(run[models[0], "own"].range))
    options = {"out": tmp_path / "new", "noise": "measured", "reuse": root}
    found = compare(models[:1], PROMPTS[:2], **options)
    assert found.counts["reused"] == 2 and 0 <= found[models[0], "own"].values.forward_bound < 1e-3


def test_other_words_of_the_same_tokens_are_told_in_their_own(models, tmp_path):
    """ "ood" and "good" are one token: v is reused, and the explanation says what was asked."""
    first = Prompt("a good film", players=["good", "film"], target="bad", id="p")
    second = dataclasses.replace(first, players=("ood", "film"))
    assert compare(models[:1], [first], out=tmp_path).counts["evaluated"] == 1
    for noise in (0.02, 0.05):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is another run
            found = compare(models[:1], [second], out=tmp_path, noise=noise)
        assert found.counts == {"evaluated": 0, "reused": 1, "solved": 1, "kept": 0}
        assert andor.read(found.path)[models[0], "p"].words == ("ood", "film")


def test_a_root_that_is_reused_later_is_recorded(models, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(work, "outcomes", interrupted)
        compare(models, PROMPTS, out=tmp_path / "new", noise=0.05)
    command = andor.runs.recipe.read_recipe(tmp_path / "new" / "noise-0.05" / "recipe.json").made["command"]
    compare(models, PROMPTS, out=tmp_path / "new", noise=0.05, reuse=run.path.parent, command="again")
    made = andor.read(tmp_path / "new").recipe.made
    assert made["reuse"] == str(run.path.parent) and made["command"] == command


def test_values_without_their_noise_do_not_do_for_measured_noise(models, root, run, tmp_path):
    prompts = [dataclasses.replace(PROMPTS[2], id="prompt-0003")]
    measured_with_the_sample = {"out": tmp_path / "new", "reuse": run.path.parent}
    for options, reused in (({"out": root}, 0), (measured_with_the_sample, 1)):
        found = compare(models[:1], prompts, noise="measured", **options)
        ((_, explanation),) = found.items()
        assert found.counts == {"evaluated": 1 - reused, "reused": reused, "solved": 1, "kept": 0}
        assert explanation.solution.noise_bound == explanation.values.measured_noise
        assert found.path.name == "noise-measured"
        assert compare(models[:1], prompts, noise="measured", **options).counts["kept"] == 1
    assert compare(models[:1], prompts, noise=0.3, out=root).counts["reused"] == 1, "what is measured does for others"


# --------------------------------------------------------------------------------------------------------------- memory


def test_where_memory_is_short_fewer_are_solved_at_once(models, root, run, monkeypatch, no_model):
    sizes = []

    def short(v, *given, **options):
        sizes.append(len(v))
        if len(v) > 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return extract(v, *given, **options)

    monkeypatch.setattr(work, "extract", short)
    for path in root.glob("noise-0.05/*/*.npz"):
        path.unlink()
    with pytest.warns(UserWarning, match="no memory to solve 2 prompts at once: going on with half of them"):
        found = compare(models, PROMPTS, out=root, noise=0.05)
    assert sizes == [2, 1, 1, 1] * 2
    for key, explanation in found.items():
        np.testing.assert_allclose(explanation.effects, run[key].effects, atol=1e-6)

    def none(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(work, "extract", none)
    with pytest.warns(UserWarning, match="no memory"), pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        compare(models, PROMPTS, out=root, noise=0.3)


def test_values_that_memory_does_not_hold_are_read_again(models, root, run, monkeypatch, no_model):
    monkeypatch.setattr(work, "KEPT_BYTES", 0)
    found = compare(models, PROMPTS, out=root, noise=0.1)
    assert found.counts == {"evaluated": 0, "reused": 6, "solved": 6, "kept": 0}
    for key, explanation in found.items():
        np.testing.assert_array_equal(explanation.values.v, run[key].values.v)


def test_model_folders_are_those_of_the_names(run):
    assert {path.name for path in run.path.iterdir() if path.is_dir()} == {model_folder(name) for name in run.models}


# ------------------------------------------------------------------------------------------- how prompts are read


def test_another_score_is_another_run_of_the_root(root, models):
    run = compare(models, PROMPTS, out=root, noise=0.05, score="sum")
    assert run.path.name == "noise-0.05_sum" and run.recipe.score == "sum" and run.counts["reused"] == 0
    first = andor.read(root / "noise-0.05")
    for key, explanation in run.items():
        assert explanation.values.score == "sum" and explanation.values.target == first[key].values.target
        assert run.recipe.key(*key) != first.recipe.key(*key)
        saved = andor.read(explanation_path(run.path, *key))
        assert saved.values.score == "sum" and saved.digest == explanation.digest
    assert {row["score"] for row in csv.DictReader((run.path / "prompts.csv").open())} == {"sum"}
    assert compare(models, PROMPTS, out=root, noise=0.05, score="sum").counts == NOTHING


@pytest.fixture
def chatty(models, tmp_path):
    """A model whose template gives another text every time."""
    folder = shutil.copytree(models[0], tmp_path / "chatty")
    (folder / "chat_template.jinja").write_text(
        "At {{ strftime_now('%H:%M:%S.%f') }}: {% for m in messages %}<{{ m.content }}>{% endfor %} so"
    )
    return str(folder)


def test_a_template_is_rendered_once_for_a_root(chatty, tmp_path, no_model_after):
    chats = [dataclasses.replace(each, chat=True) for each in PROMPTS[:2]]
    run = compare(chatty, chats, out=tmp_path / "root", noise=0.05)
    before, after = run.recipe.models[0].chat
    assert before.startswith("At ") and before.endswith(": <") and after == "> so"
    for prompt_id in IDS[:2]:
        explanation = run[chatty, prompt_id]
        assert explanation.prompt.chat == (before, after)
        assert andor.read(explanation_path(run.path, chatty, prompt_id)).prompt == explanation.prompt
    no_model_after()
    again = compare(chatty, chats, out=tmp_path / "root", noise=0.05)
    assert again.recipe.id == run.recipe.id and again.counts["kept"] == 2
    assert compare(chatty, chats, out=tmp_path / "root", noise=0.5).counts["reused"] == 2
    shown = []
    compare(chatty, chats[:1], out=tmp_path / "root", noise=0.05, show=lambda *seen: shown.append(seen))
    ((rows, of_model),) = shown
    assert of_model == {chatty: (before, after)} and [row.word for row in rows] == list(chats[0].words)


@pytest.fixture
def no_model_after(monkeypatch):
    return lambda: monkeypatch.setattr(andor.models, "load", lambda *_, **__: pytest.fail("loaded a model"))


def test_another_template_is_not_that_of_the_root(chatty, tmp_path):
    chat = [dataclasses.replace(PROMPTS[0], chat=True)]
    compare(chatty, chat, out=tmp_path / "root", noise=0.05)
    (tmp_path / "chatty" / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    run = compare(chatty, chat, out=tmp_path / "root", noise=0.05)
    assert run.recipe.models[0].chat == ("", "!") and run.counts["evaluated"] == 1


def test_what_is_odd_about_prompts_is_said_once_for_all_and_recorded(models, tmp_path):
    prompts = [Prompt(f"{word} is a film", players=["film"], id=word) for word in ("this", "that")]
    prompts += [Prompt("so it is ", players=["is"], target="good", id="space"), PROMPTS[0]]
    with pytest.warns(UserWarning) as said:
        run = compare(models[0], prompts, out=tmp_path / "root", noise=0.05)
    told = [str(each.message) for each in said if "most probable next token" not in str(each.message)]
    assert len(told) == 2 and told[0].startswith("each of 2 prompts (this, that): its last token belongs to a player")
    assert told[1].startswith("prompt 'space': text and target 'good' are scored as ' ' + 'go' 'od'")
    recorded = andor.read(run.path).recipe.made["remarks"]
    assert set(recorded) == {"this", "that", "space"} and told[1].endswith(recorded["space"][0])


def test_all_models_mask_the_words_that_share_a_token_of_one(models, tmp_path):
    pytest.importorskip("icu4py")
    longer = shutil.copytree(models[1], tmp_path / "longer")
    tiny_tokenizer(300, ["这部电影"]).save(str(longer / "tokenizer.json"))
    names, root = (models[0], str(longer)), tmp_path / "root"
    text, words = "这部电影不好看。\n情感：", ("部电影", "不好", "看")
    with pytest.warns(UserWarning, match="nobody named its players, and '部电影' is one player of several words"):
        run = compare(names, [text], out=root)
    assert run.counts == {"evaluated": 2, "reused": 0, "solved": 2, "kept": 0}
    assert [run[name, "prompt-0001"].values.players for name in names] == [words, words]
    with pytest.warns(UserWarning, match="'部电影' is one player"):
        assert compare(names, [text], out=root).counts == {"evaluated": 0, "reused": 0, "solved": 0, "kept": 2}
    model, target = andor.load(str(longer)), run[names[1], "prompt-0001"].target
    with pytest.warns(UserWarning, match="'部电影' is one player"):
        alone = andor.explain(model, Prompt(text, target=target, exact=True))
    assert alone.values.players == alone.prompt.words == words
    np.testing.assert_allclose(alone.values.v, run[names[1], "prompt-0001"].values.v, atol=1e-5)
    with pytest.raises(ValueError, match="'部' and '电影' share the token '这部电影'"):
        compare(names, [Prompt(text, players=["部", "电影"])], out=tmp_path / "named")
