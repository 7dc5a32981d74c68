"""Every experiment runs in its smoke mode, so that scripts cannot rot."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import andor
from andor.prompts import DEFAULT_PROMPTS
from experiments import __main__ as main
from experiments import study
from experiments.__main__ import entries
from experiments.lab.corpus import split_by_parent


def experiment(name: str):
    """A script of experiments/, by its name on the command line."""
    return importlib.import_module(f"experiments.{entries()[name].room}.{name}")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A few made-up reviews and stories in the layout that the training script reads."""
    folder = tmp_path_factory.mktemp("corpus")
    praise, blame = ("good", "fine", "warm", "clever"), ("bad", "dull", "cold", "silly")
    rows = [f"a {word} film about {topic} \t{int(word in praise)}" for word in praise + blame for topic in "abcdefghij"]
    (folder / "sst2").mkdir()
    for part in ("train", "dev"):
        (folder / "sst2" / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    (folder / "tinystories").mkdir()
    stories = [f"Once upon a time there was a {word} dog. It was a {word} day." for word in praise + blame] * 3
    (folder / "tinystories" / "part.txt").write_text("\n<|endoftext|>\n".join(stories))
    return folder


def test_train_embedded(corpus, tmp_path):
    train = experiment("train_embedded")
    names = ("tiny-llama", "tiny-llama-overfit", "tiny-qwen2")
    scores = train.main(train.Config(corpus=corpus, out=tmp_path, models=names, row_tokens=64, smoke=True))
    assert set(scores) == set(names)
    for name, family in zip(names, ("llama", "llama", "qwen2"), strict=True):
        model = andor.load(str(tmp_path / name))
        assert model.family == family
        assert model.tokenizer.mask_token == "<mask>"
        values = andor.evaluate(model, andor.Prompt("a good film about a\nsentiment:", target="positive"))
        assert values.target == " positive"
        assert "SST-2 dev accuracy" in (tmp_path / name / "README.md").read_text()


def test_parity():
    pytest.importorskip("torch")
    parity = experiment("parity")
    (row,) = parity.main(parity.Config(smoke=True)).values()
    assert row["logits float32"] < 1e-4
    assert row["log-odds float32"] < 1e-4


def test_solver_benchmark(tmp_path, capsys):
    benchmark = experiment("solver_benchmark")
    records = benchmark.main(benchmark.Config(smoke=True, out=tmp_path))
    assert {record["solver"] for record in records} == set(benchmark.Config().solvers)
    exact = [record for record in records if record["solver"] == "exact"]
    assert len(exact) == 2 and all(record["gap"] <= 1e-6 for record in exact)
    assert all(abs(record["objective"] - 1) < 1e-5 and record["agreement"] == 1 for record in exact)
    assert len(json.loads((tmp_path / "results.json").read_text())) == len(records)
    assert capsys.readouterr().out.count("| exact |") == 1


def test_estimator_benchmark(tmp_path, capsys):
    benchmark = experiment("estimator_benchmark")
    np.savez(tmp_path / "v.npz", v=np.random.default_rng(0).normal(size=64).cumsum())
    result = benchmark.main(benchmark.Config(smoke=True, values=(tmp_path / "v.npz",)))
    assert {record["family"] for record in result["planted"]} == set(benchmark.FAMILIES)
    assert result["spindle"].keys() >= {"planted effects", "compact"}
    (found,) = result["values"]
    assert 0 < found["Walsh"] <= 1 and found["excess"] >= 1 and found["optimum"] <= found["compact"] <= 1
    assert 0 <= found["at least"] <= found["low orders"] <= found["at most"] <= 1
    assert "| median |" in capsys.readouterr().out


def test_evaluation_benchmark(tmp_path, capsys):
    benchmark = experiment("evaluation_benchmark")
    methods = ("tree", "naive")
    records = benchmark.main(benchmark.Config(smoke=True, methods=methods, out=tmp_path / "records.json"))
    assert [(each["n"], each["method"]) for each in records] == [(n, method) for n in (3, 4) for method in methods]
    for tree, naive in zip(records[::2], records[1::2], strict=True):
        assert tree["tokens"] == tree["expected_tokens"] < naive["tokens"]
        assert max(abs(a - b) for a, b in zip(tree["v"], naive["v"], strict=True)) < 1e-4
        assert tree["compilations"] > 0 and tree["extra_bytes"] > 0
    assert len(json.loads((tmp_path / "records.json").read_text())) == 4
    printed = capsys.readouterr().out
    assert printed.count("| tiny-llama |") == 4 and printed.count("a player more takes") == 2


def test_real_pair(tmp_path, capsys):
    real_pair = experiment("real_pair")
    (run,) = real_pair.main(real_pair.Config(smoke=True, layers=(1, 2), out=tmp_path))
    assert [Path(name).name for name in run.models] == ["tiny-qwen2", "tiny-llama"]
    assert all(each.solution.gap <= 1e-6 for each in run.values())
    printed = capsys.readouterr().out
    assert printed.count("v finite") == 2 and "from scratch" in printed and "Pairs of models" in printed


def test_noise_floor(tmp_path, capsys):
    floor = experiment("noise_floor")
    results = floor.main(floor.Config(smoke=True, figure=tmp_path / "precision.png"))
    assert 1e-5 < results["tf32"]["size"] < results["bfloat16"]["size"] < 0.1
    assert all(each["gap"] <= 1e-6 for each in results.values())
    assert (tmp_path / "precision.png").stat().st_size > 10_000
    assert "| tf32, noise alone |" in capsys.readouterr().out


def test_phrases_are_split_by_parent_sentence():
    sentences = [f"word{i} is a thing number{i}" for i in range(200)]
    phrases = [(text, 1) for i in range(200) for text in (sentences[i], f"thing number{i}", f"word{i} is")]
    kept, held_out = split_by_parent([*phrases, ("is a", 0)], share=0.2, seed=0)
    assert 0.1 < len(held_out) / len(phrases) < 0.3
    assert len(kept) + len(held_out) == len(phrases)  # "is a" has parents on both sides and is dropped
    numbers = [{text.split()[-1] for text, _ in part if "number" in text} for part in (kept, held_out)]
    assert not numbers[0] & numbers[1]


def test_listing_names_every_experiment_with_its_command():
    found = main.entries()
    assert {"parity", "train_embedded", "solver_benchmark"} <= {e.name for e in found.values() if not e.is_study}
    for entry in found.values():
        assert f"python -m experiments {entry.name}" in entry.field("Command"), entry.name
        assert f"  {entry.name} " in main.listing()
        if entry.is_study:
            assert entry.field("Minutes") and entry.field("Published") and entry.field("Reproduces")


def test_all_goes_on_after_a_failure(monkeypatch, tmp_path, capsys):
    entry = next(iter(main.entries().values()))
    chosen = {name: dataclasses.replace(entry, name=name, is_study=True) for name in ("first", "second")}
    monkeypatch.setattr(main, "entries", lambda: chosen)
    monkeypatch.setattr(study, "check", lambda name, settings: None)
    monkeypatch.setattr(study, "own_models", lambda name: False)
    monkeypatch.setattr(study, "needs_models", lambda name: False)
    done = []

    def execute(name, settings):
        done.append(name)
        if name == "first":
            raise ValueError("no corpus")

    monkeypatch.setattr(study, "execute", execute)
    assert main.main(["all", "--work", str(tmp_path)]) == 1
    assert done == ["first", "second"]
    printed = capsys.readouterr()
    assert "1 of 2 studies" in printed.out and "failed: first" in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nothing", "no experiment 'nothing'"),
        ("draw nothing", "names of studies: ablations"),
        ("table nothing", "takes no names"),
        ("orders --models nonsense", "unknown model 'nonsense'"),
        ("orders --prompts missing.jsonl", "missing.jsonl"),
        ("ground_truth --models tiny-llama", "leave --models tiny-llama out"),
        ("causes --smoke", "give --corpus DATA"),
        ("all --smoke", "give --corpus DATA"),
        ("all --smoke --corpus missing", "must be a folder with sst2/train.tsv"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_results_of_other_models_do_not_lie_among_the_committed_ones():
    assert study.Settings().folder == study.FIGURES
    own = study.Settings(models=("tiny-qwen2",)), study.Settings(chat=True), study.Settings(seed=1)
    assert {each.folder for each in own} == {study.Settings.work / "own"}
    assert study.Settings(models=("tiny-qwen2",), quick=True).folder == study.Settings.work / "quick"
    command = study.command_of("orders", study.Settings(models=("a/b",), dtype="bfloat16", chat=True))
    assert command == "python -m experiments orders --models b --dtype bfloat16 --chat"


def test_the_table_is_that_of_the_saved_results():
    assert (study.FIGURES / "README.md").read_text(encoding="utf-8") == main.table(study.FIGURES) + "\n"


@pytest.mark.parametrize(
    ("page", "heading", "least"), [("docs/claims.md", "## Which claims hold", 50), ("README.md", "## What holds", 10)]
)
def test_every_number_of_a_claim_is_a_saved_one(page, heading, least):
    claims = (study.ROOT / page).read_text(encoding="utf-8").split(heading)[1].split("\n## ")[0]
    numbers = re.findall(r"\d+\.\d+", re.sub(r"\(https?://\S+\)|\d{4}\.\d{5}", "", claims))
    tables = "".join(path.read_text(encoding="utf-8") for path in study.FIGURES.glob("*.md"))
    saved = set(re.findall(r"\d+\.\d+", tables))
    assert len(numbers) > least and not set(numbers) - saved


def test_prompts_of_every_scale():
    full = study.prompts_of(study.Settings())
    quick = study.prompts_of(study.Settings(quick=True))
    smoke = study.prompts_of(study.Settings(smoke=True))
    assert len(full) == len({p.id for p in full}) == 40 and all(8 <= p.n_players <= 10 for p in full)
    assert [p.id for p in andor.read_prompts(DEFAULT_PROMPTS)] == [p.id for p in full[:20]]
    assert len(quick) == study.QUICK_PROMPTS and len(smoke) == study.SMOKE_PROMPTS
    assert {p.n_players for p in smoke} == {study.SMOKE_PLAYERS}


def test_a_comparison_is_made_once(tmp_path):
    settings = study.Settings(models=("tiny-llama",), smoke=True, work=tmp_path)
    run = study.comparison(settings, noise=0.05)
    assert study.described(run)["noise"] == 0.05 and run.summary["worst"]["gap"]["value"] <= 1e-6
    again = study.comparison(settings, noise=0.05)
    assert again.path == run.path and again.counts == {"evaluated": 0, "reused": 0, "solved": 0, "kept": 2}
    other = study.comparison(settings, noise=0.02)  # of the same values
    assert other.path != run.path and other.counts == {"evaluated": 0, "reused": 2, "solved": 2, "kept": 0}


def test_results_come_back_as_saved(tmp_path):
    result = {"numbers": np.array([1.0, np.nan]), "nested": {"a": [{"b": 1 / 3}]}, "text": "∅", "empty": {}}
    study.save("name", tmp_path, result)
    assert study.load("name", tmp_path) == {
        "numbers": [1.0, None],
        "nested": {"a": [{"b": 0.3333333}]},
        "text": "∅",
        "empty": {},
    }
    with pytest.raises(FileNotFoundError, match="python -m experiments other"):
        study.load("other", tmp_path)


def test_help_shows_the_docstring_as_it_stands(capsys):
    with pytest.raises(SystemExit):
        main.main(["sparsity", "--help"])
    printed = capsys.readouterr().out
    assert main.entries()["sparsity"].docstring in printed and "--corpus" in printed


def test_fault_drill(capsys):
    """`compare` is killed in a process of its own, and goes on, and so with all other faults."""
    drill = experiment("fault_drill")
    rows = drill.main(drill.Config(smoke=True))
    assert len(rows) == 10 and all(row.injected > 0 and row.lost == row.wrong == 0 for row in rows), rows
    assert capsys.readouterr().out.count("struck at") == 2


def test_run_benchmark(capsys):
    benchmark = experiment("run_benchmark")
    results = benchmark.main(benchmark.Config(smoke=True))
    first, second = results["first start"], results["second start"]
    assert results["memory"]["peak"] > 1e8 and results["second"]["code"] == 0
    # Values and explanations of two prompts under two models; the marker, the recipe, the table and the summary.
    assert first["writes"] == first["fsyncs of files"] == 12 and not first["reads of results"]
    assert second["reads of results"] == 4 and "writes" not in second
    assert second["calls between modules"] < first["calls between modules"]
    assert "nothing to do" in capsys.readouterr().out
