"""Files: whole or not there, and never taken for what they are not."""

import errno
import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import optax
import pytest
from small_runs import flip, rewrite, rewrite_json

from andor.runs import files
from andor.runs.explanation import described
from andor.solvers import FirstOrder

ARRAYS = {"v": np.arange(4.0), "players": ("naïve", "🙂"), "target": " posi\ntive", "steps": 3, "chat": False}


@pytest.fixture(params=["json", "npz"])
def stored(request, tmp_path):
    """A file of each kind, how it is read, and what is in it."""
    if request.param == "json":
        path, content = tmp_path / "summary.json", {"gap": 0.25, "words": ["naïve", "🙂"]}
        files.write_bytes(path, files.json_bytes(content))
        return path, files.read_json, content
    files.write_arrays(tmp_path / "x.npz", ARRAYS)
    return tmp_path / "x.npz", files.read_arrays, {name: np.asarray(each) for name, each in ARRAYS.items()}


def test_what_is_read_is_what_was_written(stored):
    path, read, content = stored
    found = read(path)
    assert found.keys() == content.keys()
    for name, each in content.items():
        np.testing.assert_array_equal(found[name], each)
        assert np.asarray(found[name]).dtype == np.asarray(each).dtype


def test_numpy_and_a_json_reader_open_them(stored):
    path, _, content = stored
    if path.suffix == ".json":
        assert json.loads(path.read_text(encoding="utf-8")).items() > content.items()
        return
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == set(content) and arrays["players"].tolist() == ["naïve", "🙂"]
        assert arrays["v"].dtype == np.float64


def test_the_same_content_is_the_same_bytes(stored, tmp_path):
    path, read, _ = stored
    content, before = read(path), path.read_bytes()
    if path.suffix == ".json":
        assert files.json_bytes(content) == before
    else:
        files.write_arrays(tmp_path / "again.npz", content)
        assert (tmp_path / "again.npz").read_bytes() == before


def test_what_json_does_not_have_is_null_or_plain(tmp_path):
    content = {"nan": float("nan"), "far": -np.inf, "count": np.int64(3), "list": np.arange(2) / 2, "pair": (1, None)}
    (tmp_path / "x.json").write_bytes(files.json_bytes(content))
    plain = {"nan": None, "far": None, "count": 3, "list": [0.0, 0.5], "pair": [1, None]}
    assert files.read_json(tmp_path / "x.json") == plain


def test_an_optimiser_is_described_with_its_settings():
    solver = FirstOrder(optimizer=optax.sgd(optax.cosine_decay_schedule(0.1, 100), momentum=0.875))
    text = described(solver)
    assert "0x" not in text  # an address in memory says nothing
    for setting in ('"decay": 0.875', '"init_value": 0.1', '"decay_steps": 100', '"function": "cosine_decay_schedule"'):
        assert setting in text
    assert json.loads(text)["name"] == "FirstOrder"


def test_content_keys_are_of_content_alone():
    one = files.key_of({"a": 1, "b": (1.5, None)}, np.float64(2))
    assert one == files.key_of({"b": [1.5, None], "a": np.int32(1)}, 2.0) and len(one) == 64
    assert len({one, files.key_of({"a": 1, "b": [1.5, "None"]}, 2.0), files.key_of({"a": 1, "b": [1.5, None]})}) == 3


@pytest.mark.parametrize("damage", ["empty", "noise", "half", "one bit", "one bit of the checksum", "longer", "pickle"])
def test_damage_is_named(stored, damage):
    path, read, _ = stored
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "noise": b"\xff\x00\xfe" * 100,
        "half": content[: len(content) // 2],
        "one bit": content[:20] + bytes([content[20] ^ 1]) + content[21:],
        "one bit of the checksum": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        "longer": content + b"\n",
        "pickle": pickle.dumps([1.0]),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(files.Damaged) as error:
        read(path)
    assert str(path) in str(error.value) and "is damaged" in str(error.value)


@pytest.mark.parametrize(
    "content", [b"[]", b"3", b"[" * 100_000, b'{"a": "\\ud800", "sha256": ""}', b'{"sha256": null}']
)
def test_json_of_another_shape_is_damaged(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(files.Damaged, match=r"x\.json is damaged"):
        files.read_json(tmp_path / "x.json")


def test_json_that_says_the_same_in_other_bytes_is_damaged(tmp_path):
    """Whoever edits a file by hand meant to change it."""
    path = tmp_path / "x.json"
    path.write_bytes(files.json_bytes({"a": 1}))
    path.write_text(path.read_text().replace('"a": 1', '"a":  1'))
    with pytest.raises(files.Damaged, match="does not match its sha256"):
        files.read_json(path)


def an_npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def an_npz(**members):
    """Without the checksum that is the last part of it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
        archive.comment = bytes(64)
    return stream.getvalue()[:-64]


def signed(content):
    return content + hashlib.sha256(content).hexdigest().encode()


def test_what_is_signed_here_is_what_is_written_there(tmp_path):
    """Else the next test shows nothing."""
    (tmp_path / "x.npz").write_bytes(signed(an_npz(v=an_npy(np.arange(3.0)))))
    assert files.read_arrays(tmp_path / "x.npz")["v"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        pickle.dumps([1.0]),
        an_npy(np.zeros(4)),
        an_npz(v=an_npy(np.array([None] * 4))),
        an_npz(v=an_npy(np.zeros(4))[:-9]),
        an_npz(v=pickle.dumps([1.0])),
        an_npz(v=b"no array"),
    ],
    ids=["nothing", "a beginning", "a pickle", "an npy", "objects", "half an array", "a pickle inside", "text"],
)
def test_arrays_of_another_kind_are_damaged_also_where_the_checksum_fits(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(signed(content))
    with pytest.raises(files.Damaged, match=r"x\.npz is damaged"):
        files.read_arrays(tmp_path / "x.npz")


def test_text_that_numpy_would_cut_is_not_stored(tmp_path):
    for content in ({"players": ("film\0", "good")}, {"target": "a\0"}):
        with pytest.raises(ValueError, match="ends with a NUL character, which NumPy does not keep"):
            files.write_arrays(tmp_path / "x.npz", content)
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_missing(stored):
    path, read, _ = stored
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{path.name} is missing"):
        read(path)
    with pytest.raises(FileNotFoundError, match="is missing"):
        read(path / "below")


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "Permission denied")]
)
def test_what_cannot_be_read_now_is_not_damaged(stored, monkeypatch, error):
    path, read, _ = stored

    def failing(_):
        raise error

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(
        OSError, match=rf"{path.name} could not be read: {error.strerror}.*left as it is.*same command"
    ) as raised:
        read(path)
    assert raised.value.errno == error.errno and not isinstance(raised.value, files.Damaged)


def test_what_memory_does_not_hold_is_not_damaged(stored, monkeypatch):
    path, read, _ = stored

    def failing(*_, **__):
        raise MemoryError

    for owner, name in ((Path, "read_bytes"), (np, "load"), (json, "loads")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            if (name, path.suffix) not in (("load", ".json"), ("loads", ".npz")):
                with pytest.raises(MemoryError):
                    read(path)


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(stored, monkeypatch, name):
    path, _, _ = stored
    before = path.read_bytes()
    monkeypatch.setattr(files.os, name, full)
    with pytest.raises(
        OSError, match=rf"{path.name} could not be written: No space.*is whole.*same command again"
    ) as error:
        files.write_bytes(path, b"other")
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_is_in_its_place(tmp_path, monkeypatch):
    """After a power cut a file is whole or not there."""
    done, fsync, replace = [], files.os.fsync, files.os.replace
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (done.append("synced"), fsync(descriptor)))
    monkeypatch.setattr(files.os, "replace", lambda *paths: (done.append("renamed"), replace(*paths)))
    files.write_bytes(tmp_path / "a" / "b" / "x.npz", b"content")
    assert done == ["synced", "renamed"] and (tmp_path / "a/b/x.npz").read_bytes() == b"content"


def test_nobody_sees_half_a_file(tmp_path, monkeypatch):
    path, seen, fsync = tmp_path / "x.npz", [], files.os.fsync

    def look(descriptor):
        seen.append((path.read_bytes(), sorted(tmp_path.glob("[!.]*"))))
        fsync(descriptor)

    files.write_bytes(path, b"old")
    monkeypatch.setattr(files.os, "fsync", look)
    files.write_bytes(path, b"new and longer")
    assert seen == [(b"old", [path])] and path.read_bytes() == b"new and longer"


def test_of_several_that_write_a_new_file_one_succeeds(tmp_path):
    path = tmp_path / "unfinished.json"
    assert files.write_bytes(path, b"first", new=True)
    assert not files.write_bytes(path, b"second", new=True)
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_a_new_file_needs_no_hard_links(tmp_path, monkeypatch):
    """exFAT and mounted stores have none."""

    def no_links(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    test_of_several_that_write_a_new_file_one_succeeds(tmp_path)


@pytest.mark.parametrize("name", ["x.npz", "x.npz/y.npz"])
def test_what_is_in_the_way_of_a_file_or_a_folder_is_named(tmp_path, name):
    if name == "x.npz":
        (tmp_path / name / "mine").mkdir(parents=True)
    else:
        (tmp_path / "x.npz").touch()
    with pytest.raises(OSError, match=rf"{name} could not be written: .*same command again"):
        files.write_bytes(tmp_path / name, b"content")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_damaged_and_not_waited_for(stored, kind):
    path, read, _ = stored
    path.unlink()
    path.mkdir() if kind == "folder" else files.os.mkfifo(path)
    with pytest.raises(files.Damaged, match=rf"{path.name} is damaged: it is no regular file"):
        read(path)


def test_what_is_damaged_is_kept_under_another_name(stored):
    path, _, _ = stored
    content = path.read_bytes()
    flip(path)
    kept = files.set_aside(path)
    assert kept.name == f"{path.name}.damaged" and not path.exists() and len(kept.read_bytes()) == len(content)
    path.mkdir()
    (path / "mine").touch()
    second = files.set_aside(path)
    assert (second / "mine").exists() and second.name.endswith(".damaged") and kept.is_file(), "what was kept stays"
    assert files.set_aside(path).name.endswith(".damaged") and not path.exists(), "another process was faster"


def test_what_cannot_be_set_aside_is_named(stored, monkeypatch):
    path, _, _ = stored

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", read_only)
    with pytest.raises(OSError, match=rf"{path.name} could not be set aside: Read-only.*same command again"):
        files.set_aside(path)


def test_a_change_with_a_checksum_that_fits_is_read(stored):
    """It is up to those who read arrays to check them: `andor.runs.explanation`, `andor.runs.cache`."""
    path, read, _ = stored
    if path.suffix == ".json":
        rewrite_json(path, lambda content: content.update(gap=0.5))
        assert read(path)["gap"] == 0.5
    else:
        rewrite(path, v=np.zeros(4))
        assert not read(path)["v"].any()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("o" * 300, "'oooo.*can be no path: File name too long"),
        ("~no-such-user/run", "'~no-such-user/run' can be no path"),
        ("nothing://bucket/run", "'nothing://bucket/run' can be no path|nothing://bucket/run needs a package"),
    ],
)
def test_places_that_can_be_no_path_are_refused(place, message):
    with pytest.raises(ValueError, match=message):
        files.path_of(place)


def test_places_are_local_unless_they_name_a_scheme(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.path_of("~/run") == tmp_path / "run"
    assert files.path_of(tmp_path) is tmp_path
