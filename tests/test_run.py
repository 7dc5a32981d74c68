"""A finished run, as it is read: what is on disk, or a refusal by name."""

import csv
import dataclasses
import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_runs import (
    MODELS,
    PROMPTS,
    assert_same,
    explanation_of,
    explanations_of,
    flip,
    recipe_of,
    rewrite,
    rewrite_json,
    save_run,
    solution_of,
    values_of,
)

import andor
from andor.core.effects import Effect
from andor.runs import files
from andor.runs import run as run_module
from andor.runs.cache import explanation_path
from andor.runs.run import Run, Skipped, save_skipped

AGAIN = "Repeat the command or call that made the run: it makes this file anew."
NPZ = "tiny-llama/not good.npz"


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "root")


def test_what_is_read_is_what_was_written(run):
    expected = explanations_of(run.recipe)
    for place in (run.path, str(run.path), run.path.parent):  # the root holds but this run
        read = andor.read(place)
        assert read.recipe == run.recipe and read.tau == 0.05 and read.skipped == ()
        assert read.summary == run.summary and set(read.summary) == {"models", "pairs", "prompts", "worst"}
        assert list(read) == list(expected) == [(m, p.id) for m in MODELS for p in PROMPTS]
        for key, explanation in read.items():
            assert_same(explanation.values, expected[key].values)
            assert_same(explanation.solution, expected[key].solution)
            # What the model is to explain is the recipe's business, and what it explained is in the values.
            assert explanation.prompt == expected[key].prompt and explanation.model == key[0]


def test_a_run_is_a_mapping_of_words(run):
    assert run.models == MODELS and run.labels == {"tiny-llama": "tiny-llama", "Qwen/Qwen2.5-7B": "Qwen2.5-7B"}
    assert run.prompts == PROMPTS and len(run) == 4 and ("tiny-llama", "not good") in run
    assert ("tiny-llama", "other") not in run and "tiny-llama" not in run
    assert isinstance(run["tiny-llama", "not good"].top(1)[0], Effect)
    for key in (0, MODELS[0], (MODELS[0], "other"), ("other", PROMPTS[0].id), (MODELS[0], PROMPTS[0].id, "more")):
        with pytest.raises(KeyError, match=r"is no \(model, prompt id\).*tiny-llama, Q.*: not good, prompt-0002"):
            run[key]


def test_a_run_says_in_a_line_what_it_is(run):
    assert repr(run) == (f"<Run {run.path}: tiny-llama, Qwen2.5-7B on 2 prompts (not good, prompt-0002), noise 0.02>")
    many = recipe_of(prompts=[dataclasses.replace(PROMPTS[0], id=f"p{n}") for n in range(2000)])
    shown = repr(Run(Path("x"), many, skipped=[Skipped("p7", MODELS[0], "why")], tau=0.05))
    assert shown == "<Run x: tiny-llama, Qwen2.5-7B on 1999 prompts (p0, p1, p2, …), 1 left out, noise 0.02>"


def test_who_chose_the_target_is_told(run):
    given = dataclasses.replace(PROMPTS[0], target="bad")
    assert run.target_from(given) == "given" and run.target_from(PROMPTS[0]) == "tiny-llama"
    own = Run(Path("x"), recipe_of(own_targets=True), tau=0.05)
    assert own.target_from(given) == "given" and own.target_from(PROMPTS[0]) == "own"


def test_layout(run):
    root = run.path.parent
    files_there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    keys = {(m, p.id): run.recipe.key(m, p.id)[:12] for m in MODELS for p in PROMPTS}
    folders = {"tiny-llama": "tiny-llama", "Qwen/Qwen2.5-7B": "Qwen--Qwen2.5-7B"}
    assert files_there == {
        *(f"noise-0.02/{name}" for name in ("recipe.json", "summary.json", "prompts.csv")),
        *(f"noise-0.02/{folders[m]}/{p}.npz" for m, p in keys),
        *(f"values/{folders[m]}/{p}.{key}.npz" for (m, p), key in keys.items()),
    }


def test_the_table_is_plain(run):
    lines = (run.path / "prompts.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("prompt,model,n_players,target_probability,rise,gap,") and len(lines) == 5
    numbers = run.summary["prompts"]["not good"]["models"]["Qwen/Qwen2.5-7B"]
    (row,) = [each for each in csv.DictReader(lines) if (each["prompt"], each["model"]) == ("not good", MODELS[1])]
    assert (
        float(row["rise"]) == numbers["rise"] and float(row["certified_strength"]) == numbers["certified"]["strength"]
    )


def test_undefined_numbers_are_null(tmp_path):
    recipe = recipe_of(models=MODELS[:1], prompts=PROMPTS[:1])
    values = dataclasses.replace(values_of(PROMPTS[0]), v=np.zeros(8), target_probability=0.5)
    solution = dataclasses.replace(solution_of(values), gap=0.0, status="converged")
    explanation = explanation_of(recipe, MODELS[0], PROMPTS[0], values, solution)
    save_run(tmp_path, recipe, {(MODELS[0], PROMPTS[0].id): explanation})
    read = andor.read(tmp_path)
    numbers = read.summary["models"]["tiny-llama"]["certified"]
    assert numbers["r2_top_100"] is None and numbers["spindle_share"] is None and numbers["strength"] == 0
    assert "NaN" not in (read.path / "summary.json").read_text()


def test_pandas(run):
    pytest.importorskip("pandas")
    frame = run.to_pandas()
    assert frame.shape[0] == 4 and list(frame["prompt"].unique()) == ["not good", "prompt-0002"]
    row = frame[(frame.prompt == "prompt-0002") & (frame.model == "tiny-llama")].iloc[0]
    assert row.gap == run.summary["prompts"]["prompt-0002"]["models"]["tiny-llama"]["gap"] == 1.0


def test_a_figure_by_its_name(run):
    assert run.plot("sparsity").axes
    with pytest.raises(
        ValueError, match=r"run.plot\('effect'\) must be one of words, matrix, matching, sparsity, convergence, orders"
    ):
        run.plot("effect")


def test_memory_holds_some_and_the_rest_is_read_again(run, monkeypatch):
    read_explained, reads = run_module.read_explained, []
    monkeypatch.setattr(run_module, "read_explained", lambda *given: reads.append(given) or read_explained(*given))
    monkeypatch.setattr(run_module, "KEPT_BYTES", 8 * 5 * 8)  # one of three players
    read = andor.read(run.path)
    assert len(reads) == 4 and len(read._kept) <= 2
    for key in reversed(list(read)):
        np.testing.assert_array_equal(read[key].values.v, run[key].values.v)
        assert read[key] is read[key]
    assert len(reads) > 5 and len(read._kept) <= 2


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["recipe.json", "summary.json", NPZ])
def test_missing_and_damaged_files_are_named(run, name):
    path = run.path / name
    whole = path.read_bytes()
    for damage in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(files.Damaged, match=re.escape(str(path))) as error:
            andor.read(run.path)
        assert str(error.value).endswith(AGAIN)
    path.write_bytes(whole)
    flip(path)
    with pytest.raises(files.Damaged, match=rf"{re.escape(str(path))} is damaged"):
        andor.read(run.path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))) as error:
        andor.read(run.path)
    assert name == "recipe.json" or str(error.value).endswith(AGAIN)


@pytest.mark.parametrize("name", ["recipe.json", "summary.json", NPZ])
def test_a_folder_where_a_file_should_be_is_damage(run, name):
    path = run.path / name
    path.unlink()
    path.mkdir()
    with pytest.raises(files.Damaged, match=r"it is no regular file.*makes this file anew"):
        andor.read(run.path)


def test_an_unfinished_run_is_not_read(run):
    (run.path / "summary.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"summary\.json is missing: the run is unfinished\. Repeat the command"
    ):
        andor.read(run.path)


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "Permission denied")]
)
@pytest.mark.parametrize("name", ["recipe.json", "summary.json", NPZ])
def test_what_cannot_be_read_now_is_not_damaged(run, monkeypatch, name, error):
    read_bytes = Path.read_bytes

    def failing(path):
        if path == run.path / name:
            raise error
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match=r"could not be read: .*left as it is.*same command again") as raised:
        andor.read(run.path)
    assert raised.value.errno == error.errno and not isinstance(raised.value, files.Damaged)


def test_what_memory_does_not_hold_is_not_damaged(run, monkeypatch):
    def failing(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "load", failing)
    with pytest.raises(MemoryError):
        andor.read(run.path)


def another_gap(run):
    """Proves less than it did, which is true as well."""
    rewrite(run.path / NPZ, gap=np.float64(1.5))


def another_target(run):
    rewrite(run.path / NPZ, target=" other")


def other_values(run):
    key = (MODELS[0], PROMPTS[0].id)
    values = values_of(PROMPTS[0], seed=7)
    explanation_of(run.recipe, *key[:1], PROMPTS[0], values, solution_of(values)).save(explanation_path(run.path, *key))


def without_a_prompt(run):
    save_skipped(run.path, Skipped("not good", MODELS[0], "it gave nan"))


def without_tau(run):
    rewrite_json(run.path / "summary.json", lambda content: content.pop("tau"))


def of_nothing(run):
    rewrite_json(run.path / "summary.json", lambda content: content.pop("covers"))


@pytest.mark.parametrize(
    "change", [another_gap, another_target, other_values, without_a_prompt, without_tau, of_nothing]
)
def test_a_summary_of_something_else_is_refused(run, change):
    andor.read(run.path)
    change(run)
    with pytest.raises(
        files.Damaged, match=r"summary\.json holds the numbers of other explanations than the run has"
    ) as error:
        andor.read(run.path)
    assert str(error.value).endswith(AGAIN)
    again = Run(run.path, run.recipe, skipped=run_module.read_skipped(run.path), tau=0.05).summarised(0.05)
    assert andor.read(run.path).summary == again.summary


def test_a_summary_does_not_depend_on_the_time_it_took(run):
    rewrite(run.path / NPZ, seconds=np.float64(99.0), made_by="another machine")
    assert andor.read(run.path)["tiny-llama", "not good"].values.seconds == 99.0


@pytest.mark.parametrize("source", ["another model", "another prompt", "another noise bound"])
def test_explanations_of_something_else_are_refused(run, tmp_path, source):
    path = run.path / NPZ
    other = {
        "another model": run.path / "Qwen--Qwen2.5-7B/not good.npz",
        "another prompt": run.path / "tiny-llama/prompt-0002.npz",
        "another noise bound": save_run(tmp_path / "other", recipe_of(noise=0.05)).path / NPZ,
    }[source]
    path.write_bytes(other.read_bytes())
    with pytest.raises(
        files.Damaged, match="is of another recipe: another model, prompt, noise bound or solver"
    ) as error:
        andor.read(run.path)
    assert str(path) in str(error.value) and str(error.value).endswith(AGAIN)


def test_tampered_explanations_are_refused(run):
    path = run.path / NPZ
    rewrite(path, or_effects=np.ones(8))
    with pytest.raises(files.Damaged, match=r"not good\.npz is damaged: its effects do not add up"):
        andor.read(run.path)


def test_prompts_that_are_left_out_are_in_no_list(run):
    skipped = Skipped("not good", MODELS[0], "it gave nan")
    save_skipped(run.path, skipped)
    Run(run.path, run.recipe, skipped=[skipped], tau=0.05).summarised(0.05)
    read = andor.read(run.path)
    assert read.skipped == (skipped,) and [prompt.id for prompt in read.prompts] == ["prompt-0002"]
    assert list(read) == [(name, "prompt-0002") for name in MODELS] and list(read.summary["prompts"]) == ["prompt-0002"]
    with pytest.raises(KeyError):
        read["tiny-llama", "not good"]


@pytest.mark.parametrize("change", [{"id": "other"}, {"why": None, "reason": "x"}, {"folder": "../../x"}])
def test_notes_that_say_something_else_are_refused(run, change):
    save_skipped(run.path, Skipped("not good", MODELS[0], "it gave nan"))
    path = run.path / "skipped" / "not good.json"
    rewrite_json(path, lambda content: [content.update(change), content["why"] or content.pop("why")])
    with pytest.raises(
        files.Damaged, match=r"not good\.json is (damaged|of prompt 'other', which is not of this place)"
    ) as error:
        andor.read(run.path)
    assert str(error.value).endswith(AGAIN)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(files.Damaged, match=r"not good\.json is damaged"):
        andor.read(run.path)


def test_files_that_macos_adds_are_no_notes(run):
    (run.path / "skipped").mkdir()
    (run.path / "skipped" / "._not good.json").write_bytes(b"\0\5\x16\7")
    assert len(andor.read(run.path).prompts) == 2


def test_a_file_of_values_is_no_damaged_explanation(tmp_path):
    save_run(tmp_path)
    path = next((tmp_path / "values").rglob("*.npz"))
    with pytest.raises(ValueError, match=r"holds values of a prompt, and no effects.*andor\.extract") as error:
        andor.read(path)
    assert not isinstance(error.value, files.Damaged)


def test_what_is_no_run_is_told(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run '.*nowhere'. Give the --out of an earlier `andor compare`"):
        andor.read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"recipe\.json is missing: '.*empty' holds no run"):
        andor.read(tmp_path / "empty")
    (tmp_path / "mine").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"recipe\.json is missing: '.*mine' holds no run"):
        andor.read(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"e\.npz is missing"):
        andor.read(tmp_path / "e.npz")


def test_of_several_runs_one_is_to_be_named(run):
    second = save_run(run.path.parent, recipe_of(noise=0.05))
    with pytest.raises(ValueError, match=r"holds 2 runs: .*noise-0.02, .*noise-0.05. Name one of them"):
        andor.read(run.path.parent)
    assert andor.read(second.path).recipe.noise == 0.05


def test_a_summary_that_cannot_be_written_leaves_the_one_before(run, monkeypatch):
    before = (run.path / "summary.json").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=r"prompts\.csv could not be written: No space left"):
        run.summarised(0.1)
    assert (run.path / "summary.json").read_bytes() == before


def test_a_folder_in_the_way_of_a_summary_is_set_aside(run):
    for name in ("summary.json", "prompts.csv"):
        (run.path / name).unlink()
        (run.path / name / "mine").mkdir(parents=True)
    run.summarised(0.05)
    assert andor.read(run.path).summary == run.summary
    assert all((run.path / f"{name}.damaged" / "mine").is_dir() for name in ("summary.json", "prompts.csv"))


def test_importing_and_reading_needs_no_jax(run):
    heavy = "{'jax', 'transformers', 'flax', 'matplotlib', 'fsspec'}"
    code = f"import sys, andor; print(len(andor.read(sys.argv[1]))); assert not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, run.path], check=True, capture_output=True, text=True)
    assert done.stdout == "4\n"


def test_json_of_a_run_is_json(run):
    for path in run.path.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
