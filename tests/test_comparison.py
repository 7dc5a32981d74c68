import csv
import dataclasses
import datetime
import gc
import io
import json
import os
import shutil
import time
import weakref

import numpy as np
import pytest
from rich.console import Console

import andor.models
from andor.core.lattice import or_sums, zeta
from andor.core.values import Values
from andor.devices.memory import Insufficient
from andor.prompts import Prompt
from andor.runs import compare as comparison
from andor.runs import files, resume, session, store
from andor.runs.compare import compare
from andor.runs.summary import summarise
from andor.show import tables
from andor.solvers import FirstOrder, InteriorPoint
from andor.solvers.extract import extract

PROMPTS = (
    Prompt("the film is not good , but never dull .", players=["not", "good", "dull"], target="good"),
    Prompt("a good film is a film", players=["good", "is", "film"], id="own"),
    Prompt("the film is never dull", players=["film", "never"]),
)


@pytest.fixture(scope="module")
def run(models, tmp_path_factory):
    return compare(models, PROMPTS, out=tmp_path_factory.mktemp("runs") / "run", noise=0.05)


def test_all_models_explain_the_same_targets(run):
    records = run.settings["prompts"]
    assert [record["id"] for record in records] == ["prompt-0001", "own", "prompt-0003"]
    assert [record["target_from"] for record in records] == ["given", run.models[0], run.models[0]]
    assert [record["target"] for record in records] == [" good", None, None]
    for record in records:
        for name in run.models:
            assert run.values[name][record["id"]].target == run.target(record["id"])
            assert list(run.values[name][record["id"]].players) == list(record["words"])


def test_effects_are_those_of_the_values(run):
    for name in run.models:
        for prompt_id, values in run.values[name].items():
            alone = extract(values.v, 0.05)
            np.testing.assert_allclose(run.effects[name][prompt_id].and_effects, alone.and_effects, atol=1e-6)
            assert run.effects[name][prompt_id].gap < 1e-2
            assert abs(run.effects[name][prompt_id].noise_bound - 0.05 * abs(values.v[-1] - values.v[0])) < 1e-12


def test_what_is_on_disk_is_what_is_returned(run):
    saved = store.read_run(run.path)
    assert saved.models == run.models and saved.summary == run.summary
    assert files.jsonable(summarise(saved)) == saved.summary
    with (run.path / "prompts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["prompt"], row["model"]) for row in rows[:2]] == [("prompt-0001", name) for name in run.models]
    assert float(rows[1]["gap"]) == run.summary["prompts"]["prompt-0001"]["models"][run.models[1]]["gap"]
    assert float(rows[0]["certified_salient"]) >= 1 and len(rows) == 6
    for model in saved.settings["models"]:
        assert model["family"] in ("llama", "qwen2") and len(model["fingerprint"]) == 64
        assert model["baseline"] == "<mask>" and model["dtype"] == "float32" and model["parameters"] > 1000
    assert saved.settings["noise"] == 0.05 and saved.settings["matmul_precision"] == "highest"
    assert {n: solver["name"] for n, solver in saved.settings["solver"].items()} == dict.fromkeys("23", "InteriorPoint")


def test_one_model_at_a_time_and_progress(models, tmp_path, monkeypatch):
    load, alive, calls = andor.models.load, [], []

    def load_alone(name, **settings):
        gc.collect()
        assert not any(decoder() for decoder in alive), "the model before is still in memory"
        model = load(name, **settings)
        alive.append(weakref.ref(model.decoder))
        return model

    monkeypatch.setattr(andor.models, "load", load_alone)
    run = compare(models, PROMPTS[2:], out=tmp_path / "run", progress=lambda *call: calls.append(call))
    stages = [(stage, model) for stage, model, done, total in calls if done == total]
    assert stages == [(stage, model) for model in run.models for stage in ("load", "evaluate", "extract")]


def test_the_solver_recorded_for_a_number_of_players_is_the_one_that_ran(models, tmp_path, monkeypatch):
    ran = {}

    def spy(v, noise, solver, **options):
        ran[str(int(np.log2(v.shape[-1])))] = type(solver).__name__
        return extract(v, noise, solver, **options)

    monkeypatch.setattr(comparison, "default_solver", lambda n: InteriorPoint() if n <= 2 else FirstOrder())
    monkeypatch.setattr(session, "extract", spy)
    run = compare(models[:1], PROMPTS, out=tmp_path / "run")
    recorded = {n: solver["name"] for n, solver in run.settings["solver"].items()}
    assert recorded == ran == {"2": "InteriorPoint", "3": "FirstOrder"}


def test_values_survive_a_failure_after_them(models, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("solver died")

    monkeypatch.setattr(session, "extract", fail)
    with pytest.raises(RuntimeError, match="solver died"):
        compare(models[:1], PROMPTS, out=tmp_path / "run")
    path = store.values_path(tmp_path / "run", models[0], "own")
    assert store.read_values(path, PROMPTS[1]).v.shape == (8,)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": ()}, "at least one"),
        ({"models": ("same", "same")}, "different models"),
        ({"models": ("tiny-nothing",)}, "unknown model 'tiny-nothing'"),
        ({"prompts": ()}, "at least one"),
        ({"prompts": (PROMPTS[1], PROMPTS[1])}, "different ids"),
        ({"prompts": (PROMPTS[1], dataclasses.replace(PROMPTS[1], id="OWN"))}, "different ids"),
        ({"prompts": (Prompt("the film is", players=[(4, 6), (6, 8)], id="odd"),)}, "prompt 'odd' under model"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
    ],
)
def test_bad_input_is_refused_before_any_model_is_loaded(models, tmp_path, monkeypatch, change, message):
    def load(*arguments, **settings):
        raise AssertionError("loaded a model")

    monkeypatch.setattr(andor.models, "load", load)
    arguments = {"models": models, "prompts": PROMPTS, "out": tmp_path / "run"} | change
    with pytest.raises(ValueError, match=message):
        compare(**arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
    ],
)
def test_a_bad_second_model_is_refused_before_the_first_is_loaded(models, tmp_path, monkeypatch, change, message):
    bad = tmp_path / "bad"
    shutil.copytree(models[1], bad)
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | change))

    def load(*arguments, **settings):
        raise AssertionError("loaded a model")

    monkeypatch.setattr(andor.models, "load", load)
    with pytest.raises(ValueError, match=message):
        compare((models[0], str(bad)), PROMPTS, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_many_players_for_memory_are_refused_before_any_model_is_loaded(models, tmp_path, monkeypatch):
    monkeypatch.setattr("andor.solvers.interior_point.exact_bytes", lambda: 1000)
    with pytest.raises(ValueError, match=r"3 players.*GB of memory"):
        compare(models, PROMPTS, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_directory_is_not_overwritten(models, tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        compare(models, PROMPTS, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def planted_run(path, and_effects, or_effects, factors, constant=0.5):
    """A run of models whose v are multiples of one planted function, and whose effects are the planted ones."""
    n_players = 3
    a, b = np.zeros((2, 2**n_players))
    for subset, effect in and_effects.items():
        a[subset] = effect
    for subset, effect in or_effects.items():
        b[subset] = effect
    values, effects = {}, {}
    for name, factor in factors.items():
        v = factor * (zeta(a) + or_sums(b)) + constant
        values[name] = {"p": Values(v, ("a", "b", "c"), " x", 0.5, 10, 2.0)}
        solution = extract(v, 0.0) if factor else extract(np.full(8, constant))
        both = factor * a + constant * (np.arange(8) == 0)
        effects[name] = {"p": dataclasses.replace(solution, and_effects=both, or_effects=factor * b)}
    record = {"id": "p", "text": "a b c", "chat": False, "players": [(0, 1), (2, 3), (4, 5)], "target": " x"}
    settings = {
        "models": [{"name": name, "label": name} for name in factors],
        "prompts": [record | {"target_from": "given"}],
        "tau": 0.05,
    }
    return store.Run(path, settings, {}, values, effects)


def test_summary_of_planted_effects(tmp_path):
    # v(N) - v(∅) = 2 - 0.5 + 1.5 = 3: orders 1: +2, 2: -0.5, 3: OR +1.5.
    run = planted_run(tmp_path, {0b001: 2.0, 0b011: -0.5, 0b010: 0.01}, {0b111: 1.49}, {"one": 1.0, "twice": 2.0})
    summary = summarise(run)
    one, twice = summary["models"]["one"], summary["models"]["twice"]
    assert one["rise"] == pytest.approx(3.0) and twice["rise"] == pytest.approx(6.0)
    assert one["certified"]["salient"] == 3  # 0.01 is below 5% of 2
    assert one["certified"]["strength"] == pytest.approx(4) and twice["certified"]["strength"] == pytest.approx(8)
    assert one["certified"]["positive"] == pytest.approx([2.01 / 4, 0, 1.49 / 4])
    assert one["certified"]["negative"] == pytest.approx([0, 0.5 / 4, 0])
    assert one["certified"]["relative_strength"] == pytest.approx(1)
    assert twice["certified"]["positive"] == pytest.approx(one["certified"]["positive"])
    assert one["certified"]["cancellation"] == pytest.approx(1 - 3 / 4)
    assert one["certified"]["r2_top_100"] == pytest.approx(1.0)
    # The OR of three players is AND-only: +1.49 at orders 1 and 3, -1.49 at order 2, three times each or once.
    assert one["and_only"]["positive"][2] == pytest.approx(1.49 / 4)
    assert one["and_only"]["negative"][1] == pytest.approx((3 * 1.49 + 0.5) / 4)
    assert one["tokens"] == 10 and one["seconds"] == 2.0 and one["without_unit"] == 0
    (pair,) = summary["pairs"]
    assert pair["models"] == ["one", "twice"]
    assert pair["overlap"] == pytest.approx(1.0) and pair["s_and_10"] == 1.0 and pair["s_or_50"] == 1.0
    assert summary["worst"]["identity_error"]["value"] < 1e-12


def test_a_broken_identity_shows(tmp_path):
    run = planted_run(tmp_path, {0b001: 2.0}, {}, {"good": 1.0, "bad": 1.0})
    broken = run.effects["bad"]["p"]
    run.effects["bad"]["p"] = dataclasses.replace(broken, and_effects=broken.and_effects + 0.2 * (np.arange(8) == 7))
    worst = summarise(run)["worst"]["identity_error"]
    assert worst == {"value": pytest.approx(0.1), "model": "bad", "prompt": "p"}


def test_a_prompt_without_unit_is_counted_and_left_out(tmp_path):
    run = planted_run(tmp_path, {0b001: 2.0}, {}, {"one": 1.0, "constant": 0.0})
    summary = summarise(run)
    constant = summary["models"]["constant"]
    assert constant["without_unit"] == 1 and constant["without_effects"] == 1
    assert constant["certified"]["positive"] == [] and constant["certified"]["strength"] == 0
    assert np.isnan(constant["certified"]["spindle_share"]) and np.isnan(summary["pairs"][0]["overlap"])
    assert summary["models"]["one"]["without_unit"] == 0
    json.dumps(files.jsonable(summary), allow_nan=False)


def test_three_models_make_three_pairs(tmp_path):
    summary = summarise(planted_run(tmp_path, {0b101: 1.0}, {0b011: -0.4}, {"a": 1.0, "b": 2.0, "c": -1.0}))
    assert [pair["models"] for pair in summary["pairs"]] == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert [pair["overlap"] for pair in summary["pairs"]] == pytest.approx([1.0, 0.0, 0.0])


def test_batches_hold_equal_players_and_nearly_equal_sizes():
    prompts = [Prompt("a b c d", players=list("bcd")[: 2 + index % 2], id=str(index)) for index in range(23)]
    batches = list(session.batches(prompts))
    assert sorted(prompt.id for batch in batches for prompt in batch) == sorted(prompt.id for prompt in prompts)
    assert all(len({prompt.n_players for prompt in batch}) == 1 for batch in batches)
    assert sorted(len(batch) for batch in batches) == [5, 6, 6, 6]


def test_each_model_explains_its_own_prediction(models, tmp_path):
    prompts = [Prompt("a good film", players=["good"], id="open"), Prompt("a good", players=["good"], target="film")]
    run = compare(models, prompts, own_targets=True, baseline="mean", out=tmp_path / "run")
    for name in models:
        expected = andor.predict_target(andor.load(name), prompts[0])
        assert run.values[name]["open"].target == expected
        assert run.values[name]["prompt-0002"].target == " film"
    records = run.settings["prompts"]
    assert [(record["target"], record["target_from"]) for record in records] == [(None, "own"), (" film", "given")]
    assert {model["baseline"] for model in run.settings["models"]} == {"mean embedding"}
    with io.StringIO() as printed:
        Console(file=printed, width=120).print(tables.prompts(run))
        assert "each model's own" in printed.getvalue()


def contents(run):
    """What a run holds, without the time it took and who made it."""
    return {
        str(path.relative_to(run)): {
            name: array.tobytes() for name, array in np.load(path).items() if name not in ("seconds", "made_by")
        }
        if path.suffix == ".npz"
        else path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.parent.name != "processes" and path.name not in ("summary.json", "prompts.csv")
    }


def without_times(summary):
    if isinstance(summary, dict):
        return {key: without_times(value) for key, value in summary.items() if key != "seconds"}
    return summary


def test_the_same_call_goes_on_bit_for_bit(models, tmp_path, run, monkeypatch):
    """Stopped after every save, one after the other; then nothing is done twice, and all is as in one go."""
    calls = []
    evaluate_all = session.evaluate_all

    def counted(*arguments, **options):
        for values in evaluate_all(*arguments, **options):
            calls.append(values.players)
            yield values

    monkeypatch.setattr(session, "evaluate_all", counted)
    out, stops = tmp_path / "apart" / "run", 0
    while True:
        try:
            saved = len([*out.glob("*/*/*.npz")])
            again = compare(
                models, PROMPTS, out=out, noise=0.05, stop=lambda before=saved: len([*out.glob("*/*/*.npz")]) > before
            )
            break
        except resume.Stopped as stopped:
            stops += 1
            assert "stopped as asked" in str(stopped)
    assert stops == 2 * 3 + 2 * 2, "every prompt, and every batch of equal players"
    assert len(calls) == 2 * 3
    assert contents(again.path) == contents(run.path)
    assert without_times(again.summary) == without_times(run.summary)
    assert not list(out.rglob("*.tmp")) and not (out / "claims").exists()


def test_clocks_that_jump_change_nothing(models, tmp_path, monkeypatch):
    class Jumping(datetime.datetime):
        years = iter((2100, 1970, 2038, 1999))

        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(next(cls.years), 1, 1, tzinfo=tz)

    monkeypatch.setattr("andor.runs.provenance.datetime", Jumping)
    monkeypatch.setattr(time, "time", lambda: -1e9)
    out = tmp_path / "run"
    with pytest.raises(resume.Stopped):
        compare(models[:1], PROMPTS, out=out, stop=lambda: any(out.glob("values/*/*.npz")))
    again = compare(models[:1], PROMPTS, out=out)
    assert len(again.prompts) == 3 and not again.skipped
    assert sorted(path.name[:4] for path in (out / "processes").iterdir()) == ["1970", "2100"]


def test_values_of_a_run_beside_are_used_again(models, tmp_path, monkeypatch):
    first = compare(models, PROMPTS, out=tmp_path / "first")

    def load(*arguments, **settings):
        raise AssertionError("loaded a model")

    monkeypatch.setattr(andor.models, "load", load)
    second = compare(models, PROMPTS, out=tmp_path / "second", noise=0.1, tau=0.2)
    for name in models:
        for prompt in first.prompts:
            np.testing.assert_array_equal(second.values[name][prompt.id].v, first.values[name][prompt.id].v)
            assert second.effects[name][prompt.id].noise_bound == pytest.approx(
                5 * first.effects[name][prompt.id].noise_bound
            )
    renamed = [dataclasses.replace(first.prompts[1], id="renamed")]
    third = compare(models, renamed, out=tmp_path / "third")
    np.testing.assert_array_equal(third.values[models[1]]["renamed"].v, first.values[models[1]]["own"].v)
    with pytest.raises(AssertionError, match="loaded a model"):
        compare(models, renamed, out=tmp_path / "measured", noise="measured")  # which was not


def test_what_is_damaged_is_made_again(models, tmp_path, monkeypatch):
    whole = compare(models, PROMPTS, out=tmp_path / "run")
    before = contents(whole.path)
    victims = [store.values_path(whole.path, models[0], "own"), store.effects_path(whole.path, models[1], "own")]
    for path in victims:
        content = bytearray(path.read_bytes())
        content[content.index(b"NUMPY") + 130] ^= 1
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.npz is damaged.*same command again"):
        store.read_run(whole.path)
    with pytest.warns(UserWarning, match="is damaged.*made anew"):
        again = compare(models, PROMPTS, out=tmp_path / "run")
    kept = [path.with_name(path.name + ".damaged") for path in victims]
    assert all(path.exists() for path in kept)
    for path in kept:
        path.unlink()
    assert contents(again.path) == before


def test_what_is_left_out_for_want_of_memory_is_tried_again(models, tmp_path, monkeypatch):
    plan_tree = andor.evaluation.plan_tree

    def short(config, itemsize, tokenized, *arguments, **options):
        if len(tokenized.token_ids) == long:
            raise Insufficient("no memory for it")
        return plan_tree(config, itemsize, tokenized, *arguments, **options)

    long = len(andor.models.load_tokenizer(models[0])(PROMPTS[0].text)["input_ids"])
    monkeypatch.setattr(andor.evaluation, "plan_tree", short)
    with pytest.warns(UserWarning, match="'prompt-0001' is left out.*no memory for it"):
        run = compare(models[:1], PROMPTS, out=tmp_path / "run")
    assert len(run.prompts) == 2
    monkeypatch.setattr(andor.evaluation, "plan_tree", plan_tree)
    run = compare(models[:1], PROMPTS, out=tmp_path / "run")
    assert len(run.prompts) == 3 and not run.skipped


@pytest.fixture
def no_room(monkeypatch):
    """No memory for prompt "own", until it is told that there is."""
    evaluate_all, full = session.evaluate_all, [True]

    def short(model, prompts, *, targets, **options):
        for prompt, target in zip(prompts, targets, strict=False):
            if prompt.id == "own" and full:
                raise Insufficient("no memory")
            yield next(evaluate_all(model, [prompt], targets=iter([target]), **options))

    monkeypatch.setattr(session, "evaluate_all", short)
    return full.clear


def test_a_summary_from_before_a_prompt_was_tried_again_is_not_read(models, tmp_path, monkeypatch, no_room):
    out = tmp_path / "run"
    with pytest.warns(UserWarning, match="'own' is left out"):
        assert list(compare(models[:1], PROMPTS, out=out).summary["prompts"]) == ["prompt-0001", "prompt-0003"]
    no_room()
    with monkeypatch.context() as patch:
        patch.setattr(store, "save_summary", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compare(models[:1], PROMPTS, out=out)
    with pytest.raises(files.Damaged, match=r"summary\.json is older than the arrays.*same command again"):
        store.read_run(out)
    again = compare(models[:1], PROMPTS, out=out)
    assert (
        list(store.read_run(out).summary["prompts"]) == list(again.summary["prompts"]) == [p.id for p in again.prompts]
    )
    assert len(again.prompts) == 3


def test_two_processes_that_leave_out_different_prompts_end_with_the_same(models, tmp_path, monkeypatch, no_room):
    """The second begins and finishes while the first, without memory for one prompt, computes its summary."""
    out, others = tmp_path / "run", []

    def other_first(run):
        if not others:
            others.append(None)
            no_room()
            others.append(compare(models[:1], PROMPTS, out=out))
        return summarise(run)

    monkeypatch.setattr(comparison, "summarise", other_first)
    with pytest.warns(UserWarning, match="'own' is left out"):
        first = compare(models[:1], PROMPTS, out=out)
    assert len(first.prompts) == 3 and not first.skipped
    assert first.summary == others[1].summary == store.read_run(out).summary
    assert (out / "prompts.csv").read_text().count("\n") == 4 and not (out / "claims").exists()


def test_files_that_are_removed_meanwhile_are_made_again(models, tmp_path, monkeypatch):
    out, finish = tmp_path / "run", session.Session._finish

    def removed(self):
        finish(self)
        monkeypatch.setattr(session.Session, "_finish", finish)
        store.values_path(out, models[0], "own").unlink()

    monkeypatch.setattr(session.Session, "_finish", removed)
    assert len(compare(models[:1], PROMPTS[1:], out=out).values[models[0]]) == 2
    assert len(store.read_run(out).prompts) == 2


def test_effects_of_a_sibling_with_other_settings_are_made_again(models, tmp_path):
    first = compare(models[:1], PROMPTS[:1], out=tmp_path / "first")
    second = compare(models[:1], PROMPTS[:1], out=tmp_path / "second", noise=0.2)
    before = contents(first.path)
    paths = [store.effects_path(run.path, models[0], "prompt-0001") for run in (first, second)]
    shutil.copy(paths[1], paths[0])
    with pytest.raises(files.Damaged, match=r"effects for noise up to .*same command again"):
        store.read_run(first.path)
    with pytest.warns(UserWarning, match="made anew"):
        compare(models[:1], PROMPTS[:1], out=first.path)
    paths[0].with_name(f"{paths[0].name}.damaged").unlink()
    assert contents(first.path) == before


def test_folders_where_files_should_be_do_not_hold_a_run_up(models, tmp_path):
    out = compare(models[:1], PROMPTS[:1], out=tmp_path / "run").path
    before = contents(out)
    victims = [folder(out, models[0], "prompt-0001") for folder in (store.values_path, store.effects_path)]
    victims.append(out / "summary.json")
    for path in victims:
        path.unlink()
        (path / "mine").mkdir(parents=True)
    with pytest.warns(UserWarning, match="it is a directory.*made anew"):
        compare(models[:1], PROMPTS[:1], out=out)
    for path in victims:
        kept = path.with_name(f"{path.name}.damaged")
        assert (kept / "mine").is_dir()
        shutil.rmtree(kept)
    assert contents(out) == before and store.read_run(out)


def test_what_cannot_be_read_now_is_not_made_again(models, tmp_path, monkeypatch):
    out = compare(models[:1], PROMPTS[:1], out=tmp_path / "run").path
    before, read_bytes = contents(out), type(out).read_bytes

    def failing(path):
        if path.suffix == ".npz":
            raise OSError(5, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(type(out), "read_bytes", failing)
    with pytest.raises(OSError, match="could not be read: Input/output error"):
        compare(models[:1], PROMPTS[:1], out=out)
    monkeypatch.undo()
    assert contents(out) == before


def test_a_finished_run_is_shown_where_nothing_can_be_written(models, tmp_path, monkeypatch):
    out = compare(models[:1], PROMPTS[:1], out=tmp_path / "run").path
    replace = files.replace

    def read_only(path, write):
        raise files.not_written(path, OSError(30, "Read-only file system"))

    monkeypatch.setattr(files, "replace", read_only)
    assert compare(models[:1], PROMPTS[:1], out=out).summary == store.read_run(out).summary
    (out / "summary.json").write_text("{}")
    with pytest.raises(OSError, match=r"processes.*could not be written: Read-only"):
        compare(models[:1], PROMPTS[:1], out=out)
    monkeypatch.setattr(files, "replace", replace)


def test_what_died_while_it_wrote_the_summary_is_swept(models, tmp_path):
    out = compare(models[:1], PROMPTS[:1], out=tmp_path / "run").path
    left = [out / f".{name}.deadbeef.tmp" for name in ("summary.json", "prompts.csv")]
    others = [out / ".mine.deadbeef.tmp", out / ".summary.json.mine.tmp"]
    for path in (*left, *others):
        path.touch()
    compare(models[:1], PROMPTS[:1], out=out)
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)


def test_waiting_for_another_process_is_told(models, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with pytest.raises(resume.Stopped):
        compare(models[:1], PROMPTS[1:2], out=out, stop=lambda: True)
    held = resume.claim(out, store.values_path(out, models[0], "own"))
    monkeypatch.setattr(session.claims, "PATIENCE", 0.0)
    monkeypatch.setattr(session, "POLL", 0.01)
    asked = []
    with pytest.warns(UserWarning) as caught, pytest.raises(resume.Stopped):
        compare(models[:1], PROMPTS[1:2], out=out, stop=lambda: asked.append(None) or len(asked) > 5)
    held.release()
    (told,) = [str(each.message) for each in caught if "waiting since" in str(each.message)]
    assert f"process {os.getpid()} on " in told and f"is at the values of 'own' under {models[0]!r}" in told


def test_a_commit_of_the_hub_decides_nothing(models, tmp_path):
    out = compare(models[:1], PROMPTS[1:2], out=tmp_path / "run").path
    settings = files.read_json(out / "settings.json")
    settings["models"][0]["revision"] = "another"
    files.write_json(out / "settings.json", settings)
    assert compare(models[:1], PROMPTS[1:2], out=out).path == out


def test_a_prompt_that_fails_is_left_out(models, tmp_path, monkeypatch):
    odd = Prompt("the film is", players=[(4, 6), (6, 8)], id="odd")  # two players share a token
    nan = Prompt("never a good film", players=["good", "film"], id="nan")
    evaluate_all = session.evaluate_all

    def failing(model, prompts, **options):
        """The evaluation as it is, but that model's values of that prompt are nan."""
        names = []

        def noted():
            for prompt in prompts:
                names.append(prompt.id)
                yield prompt

        for index, values in enumerate(evaluate_all(model, noted(), **options)):
            if names[index] == "nan" and model.name == models[1]:
                raise ValueError("v is nan")
            yield values

    monkeypatch.setattr(session, "evaluate_all", failing)
    with pytest.warns(UserWarning, match="'odd' is left out"):
        run = compare(models, [*PROMPTS, odd, nan], out=tmp_path / "run")
    assert {each.id: each.model for each in run.skipped} == {"odd": models[0], "nan": models[1]}
    assert [prompt.id for prompt in run.prompts] == ["prompt-0001", "own", "prompt-0003"]
    assert set(run.summary["prompts"]) == {"prompt-0001", "own", "prompt-0003"}
    path = store.skipped_path(run.path, "nan")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"nan\.json is damaged.*same command again"):
        store.read_run(run.path)
    with pytest.warns(UserWarning, match="tried again, and the file kept"):
        again = compare(models, [*PROMPTS, odd, nan], out=run.path)
    assert again.skipped == run.skipped and path.with_name("nan.json.damaged").exists()
    with pytest.raises(ValueError, match="prompt 'odd' under model"):
        compare(models, [*PROMPTS, odd], out=tmp_path / "strict", strict=True)
    with pytest.raises(ValueError, match=r"prompt 'nan' under model.*v is nan"):
        compare(models, [*PROMPTS, nan], out=tmp_path / "strict", strict=True)
    with pytest.raises(ValueError, match="'odd' under model"):
        compare(models, [*PROMPTS, odd, nan], out=tmp_path / "run", strict=True)  # where it is left out already
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"no prompt is left.*v is nan"):
        compare(models, [nan], out=tmp_path / "all")
