"""A root in a store: `s3://` against a server on this machine, and `memory://`."""

import logging
import subprocess
import sys
import threading
import uuid

import boto3
import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from small_runs import flip

import andor
from andor.prompts import Prompt
from andor.runs import compare as comparison
from andor.runs import files, work
from andor.runs.cache import explanation_path
from andor.show.cli import main

PROMPTS = (
    Prompt("the film is not good", players=["not", "good"], target="good", id="one"),
    Prompt("a good film is a film", players=["good", "is", "film"], id="two"),
)
BUCKET = "bucket"
NO_MODEL = "a model was loaded"


def serve(port=0):
    """(server, port) of an S3 on this machine; all servers of this process hold the same objects."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    return server, server.get_host_and_port()[1]


@pytest.fixture(scope="module")
def port():
    """Of a server whose address and bucket the environment tells, as in a job."""
    server, port = serve()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield port
        S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["s3", "memory"])
def root(request, port):
    """A new place in each kind of store."""
    return f"{request.param}://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def local(models, tmp_path_factory):
    """The run that all others must equal."""
    return andor.compare(models, PROMPTS, out=tmp_path_factory.mktemp("local"))


@pytest.fixture
def no_model(monkeypatch):
    """Fails where a model is loaded."""

    def load(*arguments, **options):
        raise AssertionError(NO_MODEL)

    monkeypatch.setattr(andor.models, "load", load)


@pytest.fixture
def killed(monkeypatch):
    """A function: compare, and end as by kill -9 before the first explanation."""

    def run(*arguments, **options):
        def die(*_, **__):
            raise RuntimeError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(work, "extract", die)
            patch.setattr(comparison, "end", lambda root: None)
            with pytest.raises(RuntimeError, match="killed"):
                andor.compare(*arguments, **options)

    return run


def assert_equal(run, other):
    """The same values and effects, to the bit."""
    assert list(run) == list(other)
    for key in run:
        for of_run, of_other in ((run[key].values, other[key].values), (run[key].solution, other[key].solution)):
            for name in ("v", "target") if of_run is run[key].values else ("and_effects", "or_effects", "noise", "gap"):
                np.testing.assert_array_equal(getattr(of_run, name), getattr(of_other, name))


def names(url):
    """What is there below a URL, by the ends of the names."""
    fs, path = fsspec.url_to_fs(url)
    return {each[each.index(path.strip("/")) + len(path.strip("/")) + 1 :] for each in fs.find(path, refresh=True)}


def test_a_run_in_a_store_is_that_of_a_folder(models, root, local):
    run = andor.compare(models, PROMPTS, out=root)
    assert str(run.path) == f"{root}/noise-auto" and run.counts["evaluated"] == run.counts["solved"] == 4
    assert_equal(run, local)
    here = {str(path.relative_to(local.path.parent)) for path in local.path.parent.rglob("*") if path.is_file()}
    assert names(root) == here
    assert_equal(andor.read(root), local)
    assert andor.read(str(run.path)).summary == run.summary


def test_the_same_call_evaluates_nothing(models, root, request):
    first = andor.compare(models, PROMPTS, out=root)
    request.getfixturevalue("no_model")
    again = andor.compare(models, PROMPTS, out=root)
    assert again.counts == {"evaluated": 0, "reused": 0, "solved": 0, "kept": 4}
    assert_equal(again, first)
    other = andor.compare(models, PROMPTS, out=root, noise=0.1)  # other effects, of the same values
    assert other.counts == {"evaluated": 0, "reused": 4, "solved": 4, "kept": 0}
    with pytest.raises(ValueError, match=r"holds 2 runs: .*/noise-0\.1, .*/noise-auto\. Name one"):
        andor.read(root)


def test_values_of_another_root_are_used(models, root, local, tmp_path):
    run = andor.compare(models, PROMPTS, out=root, reuse=local.path.parent)
    assert run.counts["reused"] == 4 and "taken from" in run[models[0], "one"].origin["made_by"]
    assert_equal(run, local)
    back = andor.compare(models, PROMPTS, out=tmp_path / "back", reuse=root)
    assert back.counts["reused"] == 4
    assert_equal(back, local)


def test_a_damaged_object_is_made_anew_and_kept(models, root, local):
    run = andor.compare(models, PROMPTS, out=root)
    path = explanation_path(run.path, models[1], "two")
    flip(path)
    damaged = path.read_bytes()
    with pytest.raises(ValueError, match=r"two\.npz is damaged"):
        andor.read(root)[models[1], "two"]
    with pytest.warns(UserWarning, match=r"made anew, and the old file kept as two\.npz\.damaged"):
        again = andor.compare(models, PROMPTS, out=root)
    assert again.counts == {"evaluated": 0, "reused": 1, "solved": 1, "kept": 3}
    assert_equal(again, local)
    assert path.with_name("two.npz.damaged").read_bytes() == damaged


def test_an_unfinished_run_is_finished_by_its_own_settings_alone(models, root, local, killed):
    killed(models, PROMPTS, out=root)
    assert "unfinished.json" in names(root)
    said = rf"{root} holds an unfinished run .*noise: .auto. -> 0\.5.*unfinished\.json"
    with pytest.raises(ValueError, match=said):
        andor.compare(models, PROMPTS, out=root, noise=0.5)
    run = andor.compare(models, PROMPTS, out=root)
    assert run.counts["evaluated"] == 2 and run.counts["reused"] == 2  # the second model had not begun
    assert_equal(run, local)
    assert "unfinished.json" not in names(root)


def test_of_several_that_create_an_object_one_succeeds(root):
    path, won = files.path_of(root) / "unfinished.json", []
    together = threading.Barrier(8)

    def create(number):
        together.wait()
        if files.write_bytes(path, str(number).encode(), new=True):
            won.append(number)

    threads = [threading.Thread(target=create, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes()] == [str(number).encode() for number in won]


def test_explanations_go_to_a_store_and_come_back(models, root, local, tmp_path):
    explanation = local[models[0], "two"]
    explanation.save(f"{root}/two.npz")
    again = andor.read(f"{root}/two.npz")
    assert repr(again) == repr(explanation)
    again.save(tmp_path / "two.npz")
    assert (tmp_path / "two.npz").read_bytes() == files.read_bytes(files.path_of(f"{root}/two.npz"))


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_figures_and_tables_of_a_run_in_a_store(models, root, capsys):
    arguments = ["compare", "--models", *models, "--prompt", "a good film", "--players", "good", "film"]
    assert main([*arguments, "--out", root]) == 0
    said = capsys.readouterr().out
    assert f"(.png, .svg) in {root}/noise-auto/figures" in said and f"Run:     {root}/noise-auto" in said
    figures = {each for each in names(root) if "/figures/" in each}
    assert {f"noise-auto/figures/{each}" for each in ("orders.png", "convergence.svg", "captions.md")} < figures
    folder = files.path_of(f"{root}/noise-auto/figures")
    before = (folder / "orders.png").read_bytes()
    (folder / "orders.png").unlink()
    assert main(["figures", root]) == 0
    assert f"Run:     {root}/noise-auto" in capsys.readouterr().out and (folder / "orders.png").read_bytes() == before
    assert main([*arguments, "--out", root]) == 0
    assert "evaluated 0, reused 2 of 2" in capsys.readouterr().out


def one_line(capsys):
    """What was said on stderr, which is one line."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("andor: error: ")
    return line


def test_no_such_bucket_is_one_line(models, port, capsys):
    arguments = ["compare", "--models", *models, "--prompt", "a good film", "--players", "good"]
    assert main([*arguments, "--out", "s3://nothing/run"]) == 2
    assert "s3://nothing/run/unfinished.json could not be written: The specified bucket does" in one_line(capsys)
    assert main(["figures", "s3://nothing/run"]) == 2
    assert "no run 's3://nothing/run'" in one_line(capsys)


def test_no_credentials_are_one_line(models, port, monkeypatch, tmp_path, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    S3FileSystem.clear_instance_cache()
    arguments = ["compare", "--models", *models, "--prompt", "a good film", "--players", "good"]
    assert main([*arguments, "--out", f"s3://{BUCKET}/run"]) == 2
    assert one_line(capsys).endswith("cannot be reached: Unable to locate credentials.")
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("stage", ["evaluate", "solve"])
def test_a_server_that_goes_loses_nothing(models, local, stage, monkeypatch, port):
    """It stops in the middle of the second model, and comes back."""
    del port
    server, own_port = serve()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{own_port}")
    S3FileSystem.clear_instance_cache()
    root = f"s3://{BUCKET}/{uuid.uuid4().hex}"

    def stop(at, model, done, total):
        if (at, model, done) == (stage, models[1], 1 if stage == "solve" else total):
            server.stop()

    with pytest.raises(
        OSError, match=r"(could not be (written|read)|does not answer): Could not connect.*same command"
    ):
        andor.compare(models, PROMPTS, out=root, progress=stop)
    server, _ = serve(own_port)
    there = {each for each in names(root) if each.endswith(".npz")}
    before = {each: files.read_bytes(files.path_of(f"{root}/{each}")) for each in there}
    run = andor.compare(models, PROMPTS, out=root)
    assert run.counts["kept"] == (2 if stage == "evaluate" else 3), run.counts
    assert_equal(run, local)
    assert before and {each: files.read_bytes(files.path_of(f"{root}/{each}")) for each in there} == before
    server.stop()
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/run", "s3://bucket/run needs a package that is not installed"),
        ("gs://bucket/run", "gs://bucket/run needs a package that is not installed"),
        ("nothing://bucket/run", "'nothing://bucket/run' can be no path: Unsupported filesystem"),
    ],
)
def test_a_url_without_what_it_needs_is_one_line_and_writes_nothing(models, tmp_path, monkeypatch, capsys, url, said):
    for module in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, module, None)
    for scheme in ("s3", "gs"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    monkeypatch.chdir(tmp_path)
    prompt = ["--prompt", "a good film", "--players", "good"]
    for arguments in (["compare", "--models", models[0], *prompt, "--out", url], ["figures", url]):
        assert main(arguments) == 2
        line = one_line(capsys)
        assert said in line and ("Install andor[" in line) == (not url.startswith("nothing"))
    assert not list(tmp_path.iterdir())


def test_a_local_run_imports_no_store(models, tmp_path):
    code = (
        "import sys, andor\n"
        "from andor.show.cli import main\n"
        "assert main(['extract', sys.argv[1], '--prompt', 'a good film', '--out', sys.argv[2]]) == 0\n"
        "andor.read(sys.argv[2])\n"
        "assert not {'fsspec', 'upath', 's3fs', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, models[0], tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
