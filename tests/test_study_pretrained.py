"""Claims on pretrained models, and the demo's table: that they run, and that what they count is right."""

import json

import numpy as np
import pytest

from andor.core.certificate import reconstruct
from andor.measures.bootstrap import Resampled
from andor.measures.profile import strength
from experiments import study
from experiments.studies import demo, pretrained


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A sentence of our own, of ten words that are players, in the layout of the demo's."""
    folder = tmp_path_factory.mktemp("corpus") / "symtrust_demo"
    folder.mkdir()
    words = "Once upon a time the dog and the cat shared one small house near some large public".split()
    players = [word for word in words if word not in ("a", "the", "and")][-demo.PLAYERS :]
    record = {"id": demo.SENTENCE, "text": " ".join(words), "players": players}
    (folder / "prompts.jsonl").write_text(json.dumps(record) + "\n")
    return folder.parent


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    settings = study.Settings(smoke=True, work=tmp_path_factory.mktemp("work"))
    return study.execute("pretrained", settings), settings


def test_smoke(result, capsys):
    result, settings = result
    assert {(settings.folder / f"pretrained.{end}").exists() for end in ("json", "png", "pdf", "md")} == {True}
    assert study.redraw("pretrained", settings.folder) == result
    rows = pretrained.rows(result)
    assert len(rows) == 1 + len(pretrained.CLAIMS) and all(row.claim and row.published and row.ours for row in rows)
    assert rows[1].ours in capsys.readouterr().out
    assert result["kept"] == ["fact-01", "reasoning-09"]
    assert result["prompts"]["candidates"] == {"fact": 1, "reasoning": 1, "all": 2}


def test_every_claim_stands_beside_its_controls_under_every_mask(result):
    result, _ = result
    for mask in pretrained.MASKS:
        assert all(len(each[kind]["all"]["spindle"]) == 7 for each in [result["curves"][mask]] for kind in each)
        pairs = result["pairs"][mask]
        assert list(pairs) == ["tiny-llama and tiny-qwen2", "all"]
        assert set(pairs["all"]) == {*pretrained.OVERLAPS, "correlation", "in_both"}
        for name in ("order", "cancellation"):
            measured, chance, beyond = (
                result["simpler"][mask][name][each] for each in ("measured", "chance", "beyond")
            )
            if None not in (measured[0], chance[0], beyond[0]):
                assert beyond[0] == pytest.approx(measured[0] - chance[0], abs=1e-5)
    assert "random" in result["r2"]["delete"] and "random" not in result["r2"]["mean"]
    assert {test["mask"] for claim in result["claims"].values() for test in claim["tests"]} == set(pretrained.MASKS)
    for claim in result["claims"].values():
        assert claim["p"] == max(test["p"] for test in claim["tests"]) <= claim["adjusted_p"] <= 1


def test_values_are_kept(result, monkeypatch):
    class Done(Exception):
        """All values are there."""

    def done(*_):
        raise Done

    monkeypatch.setattr("andor.runs.work.outcomes", lambda *a, **k: pytest.fail("evaluated again"))
    monkeypatch.setattr(pretrained, "_samples", done)
    with pytest.raises(Done):
        pretrained.measure(result[1])


def test_players_are_those_nearest_to_the_target_without_the_last_word():
    prompts = pretrained.candidates(study.Settings())
    assert len(prompts) == 64 and len({prompt.id for prompt in prompts}) == 64
    for prompt in prompts:
        assert prompt.n_players == 7 and prompt.target
        assert all(stop < len(prompt.text) - len(prompt.text.split()[-1]) for _, stop in prompt.players)


def resampled(*ends: float) -> Resampled:
    return Resampled(float(np.mean(ends)), np.linspace(*ends, 2000))


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((resampled(0.1, 0.3), resampled(0.2, 0.3)), "holds"),
        ((resampled(0.1, 0.3), resampled(-0.1, 0.3)), "open"),
        ((resampled(0.1, 0.3), resampled(-0.3, -0.1)), "fails"),
    ],
)
def test_a_claim_takes_all_of_its_tests(numbers, verdict):
    tests = {name: [("x", "delete", resampled(-1, 1))] for name in pretrained.CLAIMS}
    tests["few"] = [("x", "delete", number) for number in numbers]
    found = pretrained._verdicts(tests)
    assert found["few"]["verdict"] == verdict
    assert {found[name]["verdict"] for name in tests if name != "few"} == {"open"}


def test_strength_in_both_counts_effects_of_one_sign():
    first, second = np.zeros((2, 2, 8))
    first[0, 1], first[0, 2], first[1, 3] = 2.0, -1.0, 1.0
    second[0, 1], second[0, 2] = 3.0, 1.0
    assert pretrained._in_both(tuple(first), tuple(second)) == pytest.approx((2 / 4 + 3 / 4) / 2)


def test_pretrained_models_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="--models"):
        study.check("pretrained", study.Settings(work=tmp_path))
    with pytest.raises(ValueError, match="two or more"):
        pretrained.measure(study.Settings(models=("tiny-llama",), work=tmp_path))


def test_folding_keeps_the_function_and_spares_strength():
    published = demo.as_pair(demo.PUBLISHED[demo.DEEPSEEK])
    fewer = demo.folded(published)
    assert reconstruct(*fewer) == pytest.approx(reconstruct(*published))
    assert strength(fewer) < strength(published)
    three = {key: demo.PUBLISHED[demo.DEEPSEEK][key] for key in [(False, (9,)), (False, (8,)), (False, (8, 9))]}
    four = demo.as_pair(three | {(True, (8, 9)): -0.728})
    assert strength(four) == pytest.approx(13.615) and strength(demo.folded(four)) == pytest.approx(12.159)
    assert not demo.folded(four)[1].any()
    costly = demo.as_pair({(True, (0, 1)): 1.0})  # alone, an OR costs 1 and its ANDs 3
    assert demo.folded(costly)[1].any()


def test_demo(corpus, tmp_path):
    settings = study.Settings(models=("tiny-llama",), smoke=True, corpus=corpus, work=tmp_path)
    result = study.execute("demo", settings)
    lists = result["lists"]
    assert lists["least"]["strength"] <= lists["folded"]["strength"] < lists["published"]["strength"]
    assert result["gap"] < 1e-5 and list(result["models"]) == ["tiny-llama"]
    table = (settings.folder / "demo.md").read_text()
    assert f"| public | +9.642 | {demo.PUBLISHED[demo.QWEN][False, (9,)]:+.3f} |" in table
    assert all(row.ours for row in demo.rows(result))
    with pytest.raises(ValueError, match="--corpus"):
        demo.measure(study.Settings(smoke=True, work=tmp_path))
