"""The study of prompt sensitivity: phrasings have the same players, and a smoke run."""

import json

import numpy as np
import pytest

from andor.prompts import Prompt
from experiments import study
from experiments.studies import sensitivity


def test_phrasings_have_the_same_players_and_targets():
    prompts = study.prompts_of(study.Settings())
    for opening in sensitivity.OPENINGS.values():
        for prompt in prompts:
            opened = sensitivity._opened(prompt, opening)
            assert opened.words == prompt.words and opened.target == prompt.target and opened.id == prompt.id
            assert opened.text.endswith(prompt.text)
    for prompt, other in zip(prompts, sensitivity.reworded(prompts), strict=True):
        assert other.words == prompt.words and other.text != prompt.text


def test_a_question_has_its_words_and_options_as_players_in_every_template(tmp_path):
    record = {
        "id": "q1",
        "question": "Where would a tired dog sleep: in a bed?",
        "choices": {"label": ["A", "B", "C"], "text": ["bed", "A lake", "in"]},
        "answerKey": "A",
    }
    file = tmp_path / "commonsenseqa_dev.jsonl"
    file.write_text(json.dumps(record) + "\n")
    found = sensitivity.questions(file)
    assert [*found] == [*sensitivity.TEMPLATES]
    texts = [of_template[0].text for of_template in found.values()]
    assert len(set(texts)) == len(texts)
    for (prompt,) in found.values():
        assert prompt.words[-3:] == ("bed", "A lake", "in") and prompt.target == "A"
        assert prompt.words[:-3] == Prompt(record["question"]).words[-sensitivity.QUESTION_WORDS :]
        # A player that is an option is that option and not the same word in the question.
        assert min(start for start, _ in prompt.players[-3:]) > prompt.text.index("?")
    with pytest.raises(ValueError, match="must hold commonsenseqa_dev"):
        sensitivity.questions(tmp_path / "none.jsonl")


def test_equal_effects_are_stable_and_negated_ones_turn():
    rng = np.random.default_rng(0)
    pair = rng.normal(size=8), np.zeros(8)
    same, turned = (sensitivity._sensitivity(pair, (sign * pair[0], pair[1])) for sign in (1, -1))
    assert same["ips"] == 0 and same["unstable"] == 0
    assert turned["ips"] == pytest.approx(2) and turned["opposite"] == 1 == turned["unstable"]
    assert len(same["per_order"]) == sensitivity.PLAYERS and np.isnan(same["per_order"][-1])


def test_smoke(tmp_path, capsys):
    settings = study.Settings(models=("tiny-llama", "tiny-qwen2"), smoke=True, work=tmp_path)
    result = study.execute("sensitivity", settings)
    rows = study.study("sensitivity").rows(result)
    assert rows[0].ours in capsys.readouterr().out
    (of_set,) = result["sets"].values()
    assert of_set["phrasings"] == ["here is", "other words"] and len(of_set["prompts"]) == 2
    for of_model in of_set["models"].values():
        numbers = of_model["certified"]
        assert 0 < numbers["ips"][0] < 2 and numbers["unstable"][0] < numbers["unrelated"]["unstable"][0] + 0.5
        assert numbers["unstable"][0] == pytest.approx(numbers["opposite"][0] + numbers["different"][0], abs=1e-5)
    ranks = [each["certified"]["rank"][0] for each in of_set["models"].values()]
    assert sorted(ranks) == [1, 2]
    (difference,) = of_set["differences"]["certified"].values()
    ips = [each["certified"]["ips"][0] for each in of_set["models"].values()]
    assert difference[0] == pytest.approx(ips[0] - ips[1], abs=1e-5)
