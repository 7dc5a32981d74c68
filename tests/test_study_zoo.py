"""The zoo and the two studies made from it, in smoke mode on a made-up corpus; and what they are built of."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import andor
from andor.core import lattice
from experiments import study
from experiments.lab import zoo
from experiments.lab.corpus import choose, folds_by_parent
from experiments.lab.zoo_effects import ZooRun
from experiments.studies import generalisation, spindle
from experiments.study import Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A few made-up reviews in the layout of the corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    praise, blame = ("good", "fine", "warm", "clever"), ("bad", "dull", "cold", "silly")
    rows = [f"a {word} film about {topic} \t{int(word in praise)}" for word in praise + blame for topic in "abcdefghij"]
    for part in ("train", "dev"):
        (folder / "sst2").mkdir(exist_ok=True)
        (folder / "sst2" / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return Settings(corpus=folder, work=folder / "work", smoke=True)


def test_a_finished_model_is_not_trained_again(settings):
    config = zoo.Config(corpus=settings.corpus, work=settings.work, smoke=True)
    models = zoo.main(config)
    assert [each.member.kind for each in models] == ["part", "reference", "reference"]
    assert len({each.member.recipe.seed for each in models}) == len(models)
    times = [(each.folder / "model.safetensors").stat().st_mtime_ns for each in models]
    again = zoo.main(config)
    assert [(each.folder / "model.safetensors").stat().st_mtime_ns for each in again] == times
    assert [each.gap for each in again] == [each.gap for each in models]
    assert andor.load(str(models[0].folder)).family == "llama"

    record = json.loads((models[0].folder / "scores.json").read_text())
    record["recipe"]["steps"] += 1
    (models[0].folder / "scores.json").write_text(json.dumps(record))
    assert [each.member.name for each in zoo.finished(config)] == [each.member.name for each in models[1:]]


def test_a_model_of_another_corpus_is_not_finished(settings, tmp_path):
    config = zoo.Config(corpus=settings.corpus, work=settings.work, smoke=True)
    zoo.main(config)
    shutil.copytree(settings.corpus / "sst2", tmp_path / "sst2")
    elsewhere = dataclasses.replace(config, corpus=tmp_path)
    assert len(zoo.finished(elsewhere)) == 3  # the same files in another place
    with (tmp_path / "sst2" / "dev.tsv").open("a") as dev:
        dev.write("a good film \t1\n")
    assert zoo.finished(elsewhere) == []


@pytest.mark.parametrize("module", [spindle, generalisation])
def test_smoke(settings, module, capsys):
    name = module.__name__.split(".")[-1]
    result = study.execute(name, settings)
    assert len(result["zoo"]) == 3
    assert all((settings.folder / f"{name}.{kind}").stat().st_size > 1000 for kind in ("json", "png", "pdf"))
    printed = capsys.readouterr().out
    assert all(row.claim in printed for row in module.rows(result))


def test_no_model_is_labelled_by_itself_or_by_what_has_seen_its_data(settings):
    models = zoo.members(zoo.Config(corpus=settings.corpus))
    gap = {"dev": {"cross_entropy": 1.0}, "train": {"cross_entropy": 0.1}}
    runs = [ZooRun(None, each.name, zoo.Scored(each, settings.work, gap), np.zeros(0)) for each in models]
    sets = spindle.sets_of(runs)
    assert [len(cases) for cases in sets.values()] == [12, 15]  # 4 references and 5 overfit models, 3 architectures
    for name, count in (("regularised", 3), ("overfit", 4)):
        for model, references in sets[name]:
            seen = [reference.scored.member.part for reference in references]
            assert len(set(seen)) == count and not {None, model.scored.member.part} & set(seen)
            assert {each.scored.architecture for each in references} == {model.scored.architecture}


def test_given_models_label_one_another(settings):
    given = dataclasses.replace(settings, models=("tiny-qwen2", "tiny-llama"), corpus=None, out=settings.work / "given")
    found = study.execute("spindle", given)["labels"]["given certified"]
    assert found["models"] == ["tiny-qwen2", "tiny-llama"]
    assert sum(found["labelled"]) % 2 == 0 and sum(found["salient"]) > 0  # what two models share is labelled in both
    with pytest.raises(ValueError, match="two --models"):
        spindle.measure(dataclasses.replace(given, models=("tiny-llama",)))


def test_planted_games_have_two_levels_of_noise(settings):
    saved = study.result_file("spindle", settings.folder)
    records = json.loads(saved.read_text())["validation"] if saved.exists() else spindle.validate(settings)
    more, less = max(spindle.NOISES), min(spindle.NOISES)
    assert {each["noise"] for each in records} == {more, less}
    assert {each["noise"] for each in records if each["method"] == "published"} == {less}
    errors = {(each["or_effects"], each["noise"]): each["error"] for each in records if each["method"] == "effects"}
    for or_too in (True, False):  # the same games at both levels
        assert errors[or_too, less] == errors[or_too, more]


def test_partial_correlation_takes_away_what_is_given():
    rng = np.random.default_rng(0)
    given = rng.standard_normal(300)
    score, truth = given + rng.standard_normal(300), given + rng.standard_normal(300)
    assert generalisation._rho(score, truth) > 0.4
    assert abs(generalisation._partial(score, given, truth)) < 0.15
    assert generalisation._partial(score, rng.standard_normal(300), truth) > 0.4
    assert np.isnan(generalisation._partial(given, given, truth))


def test_intervals_resample_kinds_of_models(settings):
    rng = np.random.default_rng(0)
    kinds = np.repeat(list("abcdefg"), 30)
    by_kind = dict(zip("abcdefg", rng.standard_normal((7, 2)), strict=True))
    values, truth = np.array([by_kind[kind] for kind in kinds]).T + 0.01 * rng.standard_normal((2, kinds.size))
    scores = [generalisation.Score(values[None], values[None])]
    full = dataclasses.replace(settings, smoke=False)
    together = generalisation._interval(generalisation._rho, scores, truth, kinds, full)
    alone = generalisation._interval(generalisation._rho, scores, truth, np.arange(kinds.size).astype(str), full)
    assert together[0] == alone[0] == pytest.approx(generalisation._rho(values, truth))
    assert together[2] - together[1] > 3 * (alone[2] - alone[1])  # 210 models, but only 7 that differ


def test_without_a_corpus_the_studies_say_so():
    with pytest.raises(ValueError, match="--corpus"):
        spindle.zoo_runs(Settings(smoke=True))


def test_parts_are_disjoint_and_labels_are_flipped():
    phrases = [(f"{start} {i} is here", i % 2) for i in range(100) for start in ("thing", "word")]
    parts = folds_by_parent(phrases, 4, seed=0)
    assert sum(map(len, parts)) == len(phrases) == len({text for part in parts for text, _ in part})
    assert all(40 <= len(part) <= 60 for part in parts)
    chosen = choose(phrases, fraction=0.5, label_noise=0.3, seed=1)
    flipped = np.mean([label != dict(phrases)[text] for text, label in chosen])
    assert len(chosen) == 100 and 0.15 < flipped < 0.45
    assert choose(phrases, fraction=1.0, label_noise=0.0, seed=1) == phrases


def test_an_effect_is_labelled_when_most_references_have_it():
    def pair(**effects):
        and_effects = np.zeros(8)
        for name, value in effects.items():
            and_effects[lattice.subset_of(int(player) for player in name[1:])] = value
        return and_effects, np.zeros(8)

    own = pair(p0=1.0, p1=-0.5, p012=0.2, p01=0.01)
    others = [pair(p0=2.0, p1=-1.0), pair(p0=0.4, p1=0.3), pair(p0=1.0, p1=-0.1, p012=-1.0)]
    found = spindle.label(own, others, unit=1.0)
    assert found.strengths.shape == (3, 2, 3)
    np.testing.assert_allclose(found.strengths[0, 0, :3], [1.0, 0, 0])  # p0, in all three
    np.testing.assert_allclose(found.strengths[0, 1, :3], [0.5, 0, 0])  # p1, in two of three with its sign
    np.testing.assert_allclose(found.strengths[1, 0, :3], [0, 0, 0.2])  # p012, in one with the other sign
    np.testing.assert_allclose(found.strengths[2, 0, :3], [0, 0.01, 0])  # below 5% of the largest
    np.testing.assert_allclose(found.counts[:, :3], [[2, 0, 1], [2, 0, 0]])
    # By lot, a positive effect of one player meets one in 1/3, 2/3 and 1/3 of the cases, a negative one in 1/3, 0, 1/3.
    assert found.chance[0] == pytest.approx(11 / 27 + 1 / 9)
