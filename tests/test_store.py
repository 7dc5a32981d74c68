import dataclasses
import errno
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from andor.core.lattice import moebius
from andor.core.problem import Solution
from andor.core.values import Values
from andor.prompts import Prompt
from andor.runs import claims, files, resume, store
from andor.solvers import FirstOrder

MODELS = ("tiny-llama", "Qwen/Qwen2.5-7B")
PROMPTS = (
    Prompt("the film is not good", players=["film", "not", "good"], id="not good"),
    Prompt("naïve 🙂 film [bold]", players=["naïve", "🙂"], id="prompt-0002"),
)


def values_of(prompt, seed=0):
    v = np.random.default_rng(seed).normal(size=2**prompt.n_players)
    return Values(v, prompt.words, " posi\ntive", 0.25, 80, 1.5)


def solution_of(values):
    zero = np.zeros_like(values.v)
    bound = 0.02 * float(abs(values.v[-1] - values.v[0]))
    return Solution(moebius(values.v), zero, zero, zero, bound, 3.0, 2.999, 1e-3, 7, "not converged: raise max_steps.")


def settings_of(models, prompts, /, **changes):
    return {
        "models": [
            {"name": name, "label": label, "keys": [f"{name} {p.id}" for p in prompts]}
            for name, label in zip(models, store.model_labels(models), strict=True)
        ],
        "prompts": [
            {
                "id": p.id,
                "text": p.text,
                "chat": p.chat,
                "players": p.players,
                "words": p.words,
                "target": None,
                "target_from": models[0],
            }
            for p in prompts
        ],
        "noise": 0.02,
        "solver": {str(n_players): {"name": "InteriorPoint", "tolerance": 1e-3} for n_players in (2, 3)},
    } | changes


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run"
    settings = settings_of(MODELS, PROMPTS)
    resume.open_run(path, settings)
    for seed, name in enumerate(MODELS):
        for prompt in PROMPTS:
            values = values_of(prompt, seed)
            store.save_values(path, name, prompt.id, values, key=f"{name} {prompt.id}", made_by="cpu x 1")
            store.save_effects(path, name, prompt.id, solution_of(values), values, settings)
    save_summary(path)
    return path


def save_summary(path):
    summary = {"overlap": float("nan"), "orders": np.arange(3) / 2, "count": np.int64(3)}
    table = [{"prompt": "a,b", "gap": float("nan")}, {"prompt": "c", "gap": np.float64(0.5)}]
    store.save_summary(store.read_results(path), summary, table)


def same(one, two):
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))
        assert type(getattr(one, field.name)) is type(getattr(two, field.name)), field.name


def test_round_trip_is_exact(run):
    read = store.read_run(run)
    assert read.models == MODELS
    assert read.labels == {"tiny-llama": "tiny-llama", "Qwen/Qwen2.5-7B": "Qwen2.5-7B"}
    assert read.prompts == PROMPTS
    assert read.summary == {"overlap": None, "orders": [0.0, 0.5, 1.0], "count": 3}
    for seed, name in enumerate(MODELS):
        for prompt in PROMPTS:
            values = values_of(prompt, seed)
            same(read.values[name][prompt.id], values)
            same(read.effects[name][prompt.id], solution_of(values))


def test_the_table_is_plain(run):
    assert (run / "prompts.csv").read_text() == 'prompt,gap\n"a,b",\nc,0.5\n'


def test_layout_opens_without_the_package(run):
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == [
        "effects/Qwen--Qwen2.5-7B/not good.npz",
        "effects/Qwen--Qwen2.5-7B/prompt-0002.npz",
        "effects/tiny-llama/not good.npz",
        "effects/tiny-llama/prompt-0002.npz",
        "prompts.csv",
        "settings.json",
        "summary.json",
        "values/Qwen--Qwen2.5-7B/not good.npz",
        "values/Qwen--Qwen2.5-7B/prompt-0002.npz",
        "values/tiny-llama/not good.npz",
        "values/tiny-llama/prompt-0002.npz",
    ]
    with np.load(run / "values/tiny-llama/prompt-0002.npz", allow_pickle=False) as file:
        assert file["players"].tolist() == ["naïve", "🙂"] and file["v"].dtype == np.float64


def test_an_optimiser_is_recorded_with_its_settings(tmp_path):
    schedule = optax.cosine_decay_schedule(0.1, 100)
    solver = dataclasses.asdict(FirstOrder(optimizer=optax.sgd(schedule, momentum=0.875)))
    resume.open_run(tmp_path, settings_of(MODELS, PROMPTS, solver=dict.fromkeys("23", solver)))
    text = (tmp_path / "settings.json").read_text()
    assert "0x" not in text  # an address in memory says nothing
    for setting in ('"decay": 0.875', '"init_value": 0.1', '"decay_steps": 100', '"function": "cosine_decay_schedule"'):
        assert setting in text


def test_lists_of_numbers_take_one_line_and_text_is_left_alone(tmp_path):
    content = {"spans": [[1, 2], [3, 40]], "words": ["a", "b"], "text": "x [\n 1, \n 2 ] \\n[ 3 ]", "empty": []}
    files.write_json(tmp_path / "summary.json", content)
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text) == content | {"sha256": files._checksum(files._text(content))}
    assert "[1, 2],\n" in text


@pytest.mark.parametrize("victim", ["settings.json", "summary.json", "values/tiny-llama/not good.npz"])
def test_missing_and_damaged_files_are_named(run, victim):
    path = run / victim
    whole = path.read_bytes()
    for damage in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=path.name):
            store.read_run(run)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        store.read_run(run)


def test_a_flipped_bit_is_noticed(run):
    path = run / "values/tiny-llama/not good.npz"
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not good\.npz is damaged"):
        store.read_run(run)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"v": np.zeros(16)}, r"v has shape \(16,\)"),
        ({"v": np.zeros(8, np.float32)}, "float32"),
        ({"v": np.full(8, np.nan)}, "not finite"),
        ({"v": np.array([None] * 8)}, "damaged"),
        ({"players": np.array(["film", "not", "bad"])}, "the settings say"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(run, change, message):
    path = run / "values/tiny-llama/not good.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | change))
    with pytest.raises(ValueError, match=message) as error:
        store.read_run(run)
    assert str(path) in str(error.value)


def test_settings_cannot_lead_out_of_the_run(run):
    settings = json.loads((run / "settings.json").read_text())
    settings["prompts"][0]["id"] = "../../secret"
    files.write_json(run / "settings.json", {name: x for name, x in settings.items() if name != "sha256"})
    with pytest.raises(ValueError, match=r"settings\.json is damaged.*id"):
        store.read_run(run)


def test_other_formats_and_other_folders_are_refused(run):
    with pytest.raises(FileNotFoundError, match="no run directory"):
        store.read_run(run / "nowhere")
    (run / "settings.json").write_text('{"format": 2}')  # had no checksum
    with pytest.raises(ValueError, match="format 2"):
        store.read_run(run)
    files.write_json(run / "settings.json", {"format": 99})
    with pytest.raises(ValueError, match="format 99"):
        store.read_run(run)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    files.write_json(tmp_path / "summary.json", {"run": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"summary\.json could not be written: No space.*same command again"):
        files.write_json(tmp_path / "summary.json", {"run": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert files.read_json(tmp_path / "summary.json") == {"run": 1}


def test_a_run_is_opened_in_an_empty_directory_or_where_it_was_begun(tmp_path):
    settings = settings_of(MODELS, PROMPTS)
    assert resume.open_run(tmp_path / "a" / "b", settings).is_dir()
    before = (tmp_path / "a" / "b" / "settings.json").read_bytes()
    resume.open_run(tmp_path / "a" / "b", settings)
    assert (tmp_path / "a" / "b" / "settings.json").read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ValueError, match="not empty"):
        resume.open_run(tmp_path / "full", settings)
    with pytest.raises(ValueError, match="cannot be written"):
        resume.open_run(tmp_path / "full" / "x", settings)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": 0.05}, "noise: 0.02 -> 0.05"),
        ({"models": settings_of(MODELS[:1], PROMPTS)["models"]}, "models: 2 entries -> 1 entries"),
        ({"prompts": settings_of(("other",), PROMPTS)["prompts"]}, r'prompts\[not good\].target_from: "tiny-llama" ->'),
        ({"new": {"a": 1}}, "new: null -> 1 entries"),
    ],
)
def test_a_run_with_other_settings_is_refused_and_told_what_differs(run, change, message):
    before = (run / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=f"begun with other settings: {message}"):
        resume.open_run(run, settings_of(MODELS, PROMPTS, **change))
    assert (run / "settings.json").read_bytes() == before


def test_what_is_claimed_is_claimed_once(run):
    path = store.values_path(run, MODELS[0], "a.b")
    path.with_name(".a.b.npz.01234567.tmp").touch()
    held = resume.claim(run, path)
    assert held is not None and resume.claim(run, path) is None
    assert not path.with_name(".a.b.npz.01234567.tmp").exists(), "left by a process that died"
    other = resume.claim(run, store.values_path(run, MODELS[0], "a"))
    assert other is not None
    held.release()
    held.release()  # twice is once
    again = resume.claim(run, path)
    assert again is not None
    again.release()
    other.release()


def test_a_claim_goes_with_its_process(run):
    code = (
        "import sys, time; from andor import resume, store; from pathlib import Path; "
        "held = resume.claim(Path(sys.argv[1]), store.values_path(sys.argv[1], 'm', 'p')); print('held', flush=True); "
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    path = store.values_path(run, "m", "p")
    assert resume.claim(run, path) is None
    process.kill()
    process.wait()
    held = resume.claim(run, path)
    assert held is not None
    held.release()


def test_values_are_found_in_the_runs_beside(run):
    beside = run.parent / f"{run.name}-beside"
    name, prompt = MODELS[1], PROMPTS[0]
    key = f"{name} {prompt.id}"
    assert resume.values_beside(beside, {key, "no such key"}) == {key: [store.values_path(run, name, prompt.id)]}
    assert resume.values_beside(run, {key}) == {}, "not in itself"
    (run / "settings.json").write_text("{")
    assert resume.values_beside(beside, {key}) == {key: [store.values_path(run, name, prompt.id)]}, (
        "they say it themselves"
    )


def test_values_of_something_else_are_refused(run):
    path = store.values_path(run, MODELS[0], PROMPTS[0].id)
    with pytest.raises(files.Damaged, match="another model, prompt or target"):
        store.read_values(path, PROMPTS[0], "another key")


def rewritten(path, **changes):
    """The arrays of a file with some replaced, or removed where the change is None."""
    with np.load(path) as file:
        arrays = dict(file) | changes
    np.savez(path, **{name: x for name, x in arrays.items() if x is not None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise_bound": np.array(0.5)}, "effects for noise up to 0.5; by the settings it is"),
        ({"and_effects": np.arange(8.0)}, "do not add up to the values"),
        ({"and_effects": np.full(8, 1e308)}, "do not add up to the values"),
        ({"solver": np.array('{"name": "FirstOrder"}')}, "another solver found"),
        ({"gap": np.array("text")}, "gap is <U4; it must be floating"),
        ({"gap": np.array(1 + 2j)}, "gap is complex128; it must be floating"),
        ({"steps": np.array(1.5)}, "steps is float64; it must be integer"),
        ({"status": np.array(3)}, "status is int64; it must be unicode"),
    ],
)
def test_effects_that_do_not_belong_here_are_refused(run, change, message):
    path = run / "effects/tiny-llama/not good.npz"
    rewritten(path, **change)
    with pytest.raises(files.Damaged, match=message) as error:
        store.read_run(run)
    assert str(path) in str(error.value) and "same command again" in str(error.value)


def test_effects_are_within_the_noise(run):
    path = run / "effects/tiny-llama/not good.npz"
    v = values_of(PROMPTS[0]).v
    rewritten(path, and_effects=np.where(np.arange(8) == 0, v[0], 0.0), noise=v - v[0])
    with pytest.raises(files.Damaged, match="within the noise"):
        store.read_run(run)


def test_runs_of_before_read_as_they_were(run):
    """Without `covers` and `solver`."""
    for path in run.glob("effects/*/*.npz"):
        rewritten(path, solver=None)
    summary = files.read_json(run / "summary.json")
    del summary["covers"]
    files.write_json(run / "summary.json", summary | {"prompts": {prompt.id: {} for prompt in PROMPTS}})
    assert len(store.read_run(run).prompts) == 2
    files.write_json(run / "summary.json", summary | {"prompts": {PROMPTS[0].id: {}}})
    with pytest.raises(files.Damaged, match="older than the arrays"):
        store.read_run(run)


def test_a_summary_of_other_effects_is_refused(run):
    name, prompt = MODELS[0], PROMPTS[0]
    values = values_of(prompt)
    other = dataclasses.replace(solution_of(values), gap=2e-3)
    store.save_effects(run, name, prompt.id, other, values, settings_of(MODELS, PROMPTS))
    with pytest.raises(files.Damaged, match=r"summary\.json is older than the arrays.*same command again"):
        store.read_run(run)
    files.write_json(run / "summary.json", {})
    with pytest.raises(files.Damaged, match="older than the arrays"):
        store.read_run(run)
    save_summary(run)
    assert store.read_run(run).effects[name][prompt.id].gap == 2e-3


def test_models_that_explain_different_targets_are_told_apart(run):
    second = MODELS[1]
    values = dataclasses.replace(values_of(PROMPTS[0], seed=1), target=" another")
    path = store.values_path(run, second, PROMPTS[0].id)
    store.save_values(run, second, PROMPTS[0].id, values, key=f"{second} {PROMPTS[0].id}", made_by="cpu")
    with pytest.raises(files.Damaged, match=r"explains ' another'; in this run ' posi\\ntive' is explained") as error:
        store.read_run(run)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("change", [{"id": "other"}, {"model": "another"}])
def test_notes_of_other_prompts_and_models_are_refused(run, change):
    note = {"id": PROMPTS[0].id, "model": MODELS[0], "why": "nan", "again": False}
    (run / "skipped").mkdir()
    files.write_json(store.skipped_path(run, PROMPTS[0].id), note | change)
    with pytest.raises(files.Damaged, match=r"not good\.json is of prompt .* which is not of this place.*same command"):
        store.read_run(run)


@pytest.mark.parametrize(
    "change",
    [{"noise": "much"}, {"noise": -1}, {"noise": True}, {"solver": None}, {"solver": {"2": {}}}],
    ids=str,
)
def test_settings_that_say_too_little_are_refused(run, change):
    files.write_json(run / "settings.json", files.read_json(run / "settings.json") | change)
    with pytest.raises(files.Damaged, match=r"settings\.json is damaged.*begin another"):
        store.read_run(run)


def test_waiting_says_for_what_and_for_whom_and_not_too_often(run, monkeypatch):
    path = claims.path_of(run, store.values_path(run, MODELS[0], "a"))
    held, now = resume.claim(run, store.values_path(run, MODELS[0], "a")), 0.0

    def later(seconds):
        nonlocal now
        now += 20
        if now > 1300:
            held.release()

    monkeypatch.setattr(claims.time, "monotonic", lambda: now)
    monkeypatch.setattr(claims.time, "sleep", later)
    with pytest.warns(UserWarning) as caught, claims.claimed(path):
        pass
    assert len(caught) == 3 and now > 1300
    process = f"process {os.getpid()} on {socket.gethostname()}"
    assert all(process in str(each.message) and "waiting since" in str(each.message) for each in caught)
    assert "waiting since 40 s: 'a' is claimed by" in str(caught[0].message)
    path.parent.mkdir(parents=True, exist_ok=True)
    for content in (b"", b"\xff\xfe" * 9):
        path.write_bytes(content)
        assert claims.holder(path)
    assert claims.holder(run) == "another process"


def test_effects_of_other_values_are_refused(run):
    first, second = (store.effects_path(run, name, PROMPTS[0].id) for name in MODELS)
    first.write_bytes(second.read_bytes())
    with pytest.raises(files.Damaged, match="effects of other values"):
        store.read_run(run)


def test_without_locks_nothing_of_others_is_removed(run, monkeypatch):
    def unsupported(descriptor, flags):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(claims.fcntl, "flock", unsupported)
    path = store.values_path(run, MODELS[0], "p")
    writing = path.with_name(".p.npz.01234567.tmp")
    writing.touch()
    held = [resume.claim(run, path), resume.claim(run, path)]
    assert all(each is not None and not each.exclusive for each in held) and writing.exists()
    for each in held:
        each.release()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "no")])
@pytest.mark.parametrize("name", ["values/tiny-llama/not good.npz", "summary.json", "settings.json"])
def test_what_cannot_be_read_now_is_not_damaged(run, monkeypatch, name, error):
    read_bytes = Path.read_bytes

    def failing(path):
        if path == run / name:
            raise error
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match=r"could not be read: .*left as it is.*same command again") as raised:
        store.read_run(run)
    assert raised.value.errno == error.errno and not isinstance(raised.value, files.Damaged)


def test_a_file_that_memory_does_not_hold_is_not_damaged(run, monkeypatch):
    def failing(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(np.lib.format, "read_array", failing)
    with pytest.raises(MemoryError):
        store.read_run(run)


@pytest.mark.parametrize("name", ["values/tiny-llama/not good.npz", "effects/tiny-llama/not good.npz", "summary.json"])
def test_a_folder_where_a_file_should_be_is_damage_and_can_be_set_aside(run, name):
    path = run / name
    path.unlink()
    path.mkdir()
    (path / "x").touch()
    with pytest.raises(files.Damaged, match=r"it is a directory.*same command again"):
        store.read_run(run)
    path.with_name(f"{path.name}.damaged").touch()
    kept = files.set_aside(path)
    assert (kept / "x").exists() and not path.exists()
    assert path.with_name(f"{path.name}.damaged").is_file(), "what was set aside before is kept too"


def test_what_cannot_be_set_aside_is_named(tmp_path, monkeypatch):
    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.os, "replace", read_only)
    with pytest.raises(OSError, match=r"x\.npz\.damaged could not be written: Read-only.*same command again"):
        files.set_aside(tmp_path / "x.npz")


def test_compressed_arrays_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", v=np.zeros(1_000_000))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(files.Damaged, match="is compressed, or larger"):
        files.read_arrays(tmp_path / "x.npz", ["v"])


def test_a_header_cannot_ask_for_more_than_is_there(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("v.npy", stream.getvalue() + bytes(8))
    with pytest.raises(files.Damaged, match="another number of bytes"):
        files.read_arrays(tmp_path / "x.npz", ["v"])


def test_folders_are_made_while_others_remove_them(tmp_path, monkeypatch):
    mkdir, gone = Path.mkdir, []

    def removed_as_soon_as_seen(path, *arguments, **options):
        if len(gone) < 3:
            gone.append(path)
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", removed_as_soon_as_seen)
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and len(gone) == 3


def test_new_folders_survive_a_power_cut(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "_sync_folder", synced.append)
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


@pytest.mark.parametrize("name", ["values", "skipped", "processes", "claims", "claims/values/tiny-llama/a"])
def test_what_is_in_the_way_of_a_folder_or_a_file_is_named(run, name):
    shutil.rmtree(run / name, ignore_errors=True)
    if name.count("/"):
        (run / name).mkdir(parents=True)
    else:
        (run / name).touch()
    with pytest.raises(
        OSError, match=rf"{name} could not be written: .*move away what is in its place.*same command again"
    ):
        resume.claim(run, store.values_path(run, MODELS[0], "a"))
        store.save_skipped(run, store.Skipped("a", MODELS[0], "why"))
        resume.save_process(run, {"started": "now", "host": "here", "pid": 1})
        store.save_values(run, MODELS[0], PROMPTS[0].id, values_of(PROMPTS[0]), key="k", made_by="cpu")


def test_files_that_macos_adds_are_no_notes(run):
    (run / "skipped").mkdir()
    (run / "skipped" / "._not good.json").write_bytes(b"\0\5\x16\7")
    assert len(store.read_run(run).prompts) == 2


def test_claims_stand_folders_that_vanish(tmp_path):
    made = []

    def vanishing(path, *arguments, **options):
        mkdir(path, *arguments, **options)
        if len(made) < 3:
            made.append(path)
            path.rmdir()

    mkdir, tmp_path = Path.mkdir, tmp_path / "claims"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", vanishing)
        held = claims.claim(tmp_path / "x")
    assert held is not None and len(made) == 3
    held.release()


def test_skipped_prompts_are_in_no_list(run):
    store.save_skipped(run, store.Skipped("not good", MODELS[0], "it gave nan"))
    with pytest.raises(files.Damaged, match=r"summary\.json is older than the arrays.*same command again"):
        store.read_run(run)
    save_summary(run)
    read = store.read_run(run)
    assert [prompt.id for prompt in read.prompts] == ["prompt-0002"]
    assert read.skipped == (store.Skipped("not good", MODELS[0], "it gave nan"),)
    assert list(read.values[MODELS[0]]) == ["prompt-0002"]


def test_model_folders_are_readable():
    assert store.model_folder("tiny-llama") == "tiny-llama"
    assert store.model_folder("Qwen/Qwen2.5-7B") == "Qwen--Qwen2.5-7B"
    assert store.model_folder("/data/my model").startswith("my_model@")


@given(st.lists(st.text("aA./-_ \\é:", min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_model_folders_are_safe_and_different(names):
    folders = [store.model_folder(name) for name in names]
    assert folders[0] != folders[1]
    for folder in folders:
        assert folder.isascii() and not set(folder) & set('/\\:*?"<>| ') and folder.strip(".") == folder


def test_labels_are_short_where_they_can_be():
    assert store.model_labels(("/a/x", "/b/x", "Qwen/y", "/c/z/")) == ("/a/x", "/b/x", "y", "z")


def test_importing_and_reading_needs_no_jax():
    heavy = "{'jax', 'transformers', 'flax', 'matplotlib'}"
    code = f"import sys, andor.runs.store, andor.runs.summary; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
