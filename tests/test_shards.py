"""Shards: who has which prompts, and a run that several jobs make together."""

import collections
import dataclasses

import numpy as np
import pytest
from small_runs import assert_same

import andor
from andor.devices import processes, shards
from andor.devices.shards import Shard, deal, read_shard
from andor.prompts import Prompt
from andor.runs import cache
from andor.show.cli import main

TEXT = "the film is not good , but it is never dull ."
WORDS = ["film", "not", "good", "never", "dull"]
PROMPTS = tuple(
    Prompt(TEXT, players=WORDS[: 2 + number % 3], target="good" if number % 2 else None, id=f"p{number}")
    for number in range(6)
)


def slurm(task, first, last, count):
    return {
        f"SLURM_ARRAY_TASK_{name}": str(x)
        for name, x in zip(("ID", "MIN", "MAX", "COUNT"), (task, first, last, count), strict=True)
    }


def kubernetes(index, completions=None):
    return {"JOB_COMPLETION_INDEX": str(index)} | ({} if completions is None else {"JOB_COMPLETIONS": str(completions)})


# ------------------------------------------------------------------------------------------------------------ which one


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("2/3", (2, 3)), (" 16 / 16 ", (16, 16))])
def test_a_shard_is_told(text, shard):
    assert read_shard(text, slurm(3, 1, 4, 4)) == shard  # whatever the environment says
    assert read_shard(str(read_shard(text))) == shard


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "-1/2", "1/0", "1", "1/2/3", "1.0/2", "a/b", "1 2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="written I/N, the I-th of N parts"):
        read_shard(text)


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, (1, 1)),
        (slurm(1, 1, 4, 4), (1, 4)),
        (slurm(4, 1, 4, 4), (4, 4)),
        (slurm(0, 0, 15, 16), (1, 16)),  # --array=0-15
        (slurm(7, 5, 8, 4), (3, 4)),  # --array=5-8
        (slurm(10, 2, 14, 4), (3, 4)),  # --array=2-16:4
        (slurm(5, 5, 5, 1), (1, 1)),  # --array=5
        (kubernetes(0, 1), (1, 1)),
        (kubernetes(2, 3), (3, 3)),
    ],
)
def test_the_environment_tells_the_shard(environment, shard):
    assert read_shard(None, environment) == shard


@pytest.mark.parametrize(
    "environment",
    [
        slurm(7, 3, 8, 3),  # --array=3,7,8
        slurm(4, 1, 9, 5),  # not of its own array
        slurm(9, 1, 4, 4),
        slurm(0, 1, 4, 4),
        slurm(1, 1, 4, 0),
        slurm("", 1, 4, 4),
        {"SLURM_ARRAY_TASK_ID": "1"},
        kubernetes(0),
        kubernetes(3, 3),
        kubernetes(-1, 3),
        kubernetes(0, 0),
        kubernetes(0, "three"),
    ],
)
def test_an_environment_that_tells_half_is_refused_with_advice(environment):
    with pytest.raises(ValueError, match=r"not which of how many. Give --shard I/N, or --shard 1/1 for all") as error:
        read_shard(None, environment)
    assert all(f"{name}={value}" in str(error.value) for name, value in environment.items())


def test_processes_that_were_brought_together_are_shards(monkeypatch):
    monkeypatch.setattr(processes, "n_processes", lambda: 4)
    monkeypatch.setattr(processes, "this_process", lambda: 2)
    assert read_shard(None, {}) == (3, 4)
    # On Kubernetes both say the same, and only one says of how many.
    assert read_shard(None, kubernetes(2)) == (3, 4)
    assert read_shard(None, slurm(1, 1, 2, 2)) == (1, 2)


# ----------------------------------------------------------------------------------------------------------------- deal


@pytest.mark.parametrize("n_prompts", [0, 1, 5, 20, 101])
@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_all_shards_together_have_all_prompts(n_prompts, count):
    costs = np.random.default_rng(n_prompts).lognormal(5, 2, n_prompts).tolist()
    dealt = [deal(costs, Shard(index, count)) for index in range(1, count + 1)]
    assert sorted(place for each in dealt for place in each) == list(range(n_prompts))
    assert all(each == sorted(each) for each in dealt)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    sums = [sum(costs[place] for place in each) for each in dealt]
    assert max(sums) - min(sums) <= max(costs, default=0)


def test_costly_prompts_are_not_dealt_to_one():
    costs = [1000, 990, 980, 970, 1, 1, 1, 1]  # the first half costs all
    assert deal(costs, Shard(1, 2)) == [0, 3, 4, 7] and deal(costs, Shard(2, 2)) == [1, 2, 5, 6]
    assert deal([1] * 6, Shard(1, 3)) == [0, 5]


# ----------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """What all shards together must give."""
    return andor.compare(models, PROMPTS, out=tmp_path_factory.mktemp("whole"))


@pytest.fixture
def saved(monkeypatch):
    """How often v of each model and prompt was evaluated and saved."""
    counts, save = collections.Counter(), cache.save_values

    def counted(root, model, prompt_id, *arguments, **options):
        save(root, model, prompt_id, *arguments, **options)
        counts[model, prompt_id] += 1

    monkeypatch.setattr(cache, "save_values", counted)
    return counts


def shard_of(models, root, text, **options):
    return andor.compare(models, PROMPTS, out=root, shard=text, **options)


def killed(models, root, text, saved, after):
    """A shard that dies when it has evaluated so many prompts, and leaves all as it is."""

    def die(stage, *_):
        if saved.total() >= after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("andor.runs.compare.end", lambda root: None)
        with pytest.raises(KeyboardInterrupt):
            shard_of(models, root, text, progress=die)


def assert_equal(run, other):
    """The same explanations, to the bit, but for time and origin."""
    assert list(run) == list(other)
    for key in run:
        assert_same(
            dataclasses.replace(run[key].values, seconds=0.0), dataclasses.replace(other[key].values, seconds=0.0)
        )
        for name in ("and_effects", "or_effects", "noise", "gap"):
            np.testing.assert_array_equal(getattr(run[key].solution, name), getattr(other[key].solution, name))


def test_whoever_comes_last_writes_the_summary(models, whole, saved, tmp_path):
    first = shard_of(models, tmp_path, "2/2")
    assert not first.summary and not (first.path / "summary.json").exists()
    with pytest.raises(ValueError, match=r"unfinished run with other settings.*noise: \"auto\" -> 0\.05"):
        shard_of(models, tmp_path, "1/2", noise=0.05)
    with pytest.raises(FileNotFoundError, match="unfinished"):
        andor.read(tmp_path)
    last = shard_of(models, tmp_path, "1/2")
    assert last.summary and last.path == first.path and not (tmp_path / "unfinished.json").exists()
    assert first.counts["evaluated"] + last.counts["evaluated"] == len(whole) == saved.total()
    assert_equal(andor.read(tmp_path), whole)
    assert shard_of(models, tmp_path, "2/2").summary == last.summary  # given again, it has nothing to do
    assert andor.compare(models, PROMPTS, out=tmp_path).counts["kept"] == len(whole)


def test_a_shard_that_was_killed_goes_on_also_as_one_of_another_number(models, whole, saved, tmp_path):
    killed(models, tmp_path, "1/2", saved, after=2)
    shard_of(models, tmp_path, "2/2")
    killed(models, tmp_path, "1/2", saved, after=9)
    assert saved.total() == 9
    runs = [shard_of(models, tmp_path, f"{index}/3") for index in (1, 2, 3)]
    assert [bool(run.summary) for run in runs] == [False, False, True]
    assert set(saved.values()) == {1} and set(saved) == set(whole)
    assert_equal(andor.read(tmp_path), whole)


def test_more_shards_than_prompts(models, whole, tmp_path):
    runs = [shard_of(models, tmp_path, f"{index}/{len(PROMPTS) + 1}") for index in range(1, len(PROMPTS) + 2)]
    assert [sum(run.counts.values()) for run in runs[-2:]] == [4, 0]
    assert [bool(run.summary) for run in runs] == [False] * (len(PROMPTS) - 1) + [True, True]
    assert_equal(runs[-1], whole)


def test_what_one_shard_leaves_out_the_last_one_knows(models, tmp_path, monkeypatch):
    save = cache.save_values

    def failing(root, model, prompt_id, *arguments, **options):
        if prompt_id == bad:
            raise ValueError("v is nan.")
        save(root, model, prompt_id, *arguments, **options)

    bad = PROMPTS[deal([2**prompt.n_players for prompt in PROMPTS], Shard(2, 2))[0]].id
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match=f"'{bad}' is left out"):
        patch.setattr(cache, "save_values", failing)
        assert not shard_of(models, tmp_path, "2/2").summary
    last = shard_of(models, tmp_path, "1/2")
    assert last.summary and [each.id for each in last.skipped] == [bad] and len(last) == 10
    assert len(andor.read(tmp_path)) == 10


def test_the_command_line_works_on_a_shard(models, tmp_path, monkeypatch, capsys):
    command = ["compare", "--models", *models, "--prompts", str(tmp_path / "prompts.jsonl")]
    (tmp_path / "prompts.jsonl").write_text('{"text": "a good film", "id": "a"}\n{"text": "a dull film", "id": "b"}\n')
    command += ["--out", str(tmp_path / "root")]
    assert main([*command, "--shard", "1/2"]) == 0
    run = tmp_path / "root" / "noise-auto"
    said = f"This shard is done; 2 of 4 explanations are left to others. Run: {run}\n"
    assert capsys.readouterr().out.endswith(said) and not (run / "figures").exists()
    for name, value in slurm(8, 4, 8, 2).items():  # the second of an array
        monkeypatch.setenv(name, value)
    assert main(command) == 0
    assert "evaluated 2, reused 0 of 2" in capsys.readouterr().out
    assert len(andor.read(run)) == 4 and (run / "figures" / "captions.md").exists()
    assert main([*command, "--shard", "0/2"]) == 2
    assert capsys.readouterr().err.startswith("andor: error: a shard is written I/N")


def test_extract_has_one_prompt_in_every_task_of_an_array(models, tmp_path, monkeypatch, capsys):
    for name, value in slurm(2, 1, 4, 4).items():
        monkeypatch.setenv(name, value)
    command = ["extract", models[0], "--prompt", "a good film", "--out", str(tmp_path / "root")]
    monkeypatch.setattr("andor.show.draw.draw", lambda run, **_: [])
    monkeypatch.setattr("andor.runs.run.Run.report", lambda run, *_, **__: run.path / "report.html")
    assert main(command) == 0
    assert "Effects: solved 1." in capsys.readouterr().out


def test_a_shard_reads_as_it_is_written():
    assert str(Shard(2, 3)) == "2/3" and shards.WHOLE == (1, 1)
