"""Every experiment runs in its smoke mode, so that scripts cannot rot."""

import importlib.util
import json
from pathlib import Path

import pytest

import andor

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    """Scripts import from each other."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))


def experiment(name: str):
    """Import a script of experiments/ under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert all(run.effects[name]["prompt"].gap <= 1e-6 for name in run.models)
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
    train = experiment("train_embedded")
    sentences = [f"word{i} is a thing number{i}" for i in range(200)]
    phrases = [(text, 1) for i in range(200) for text in (sentences[i], f"thing number{i}", f"word{i} is")]
    kept, held_out = train.split_by_parent([*phrases, ("is a", 0)], share=0.2, seed=0)
    assert 0.1 < len(held_out) / len(phrases) < 0.3
    assert len(kept) + len(held_out) == len(phrases)  # "is a" has parents on both sides and is dropped
    numbers = [{text.split()[-1] for text, _ in part if "number" in text} for part in (kept, held_out)]
    assert not numbers[0] & numbers[1]
