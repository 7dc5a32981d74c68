"""Labels of players: which are accepted, how they are carried, and the share of unreliable strength."""

import csv
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console
from small_runs import few_of, planted_run, recipe_of, save_run, solution_of, values_of

from andor import Prompt, metrics, read
from andor.page import report
from andor.prompts import read_prompts
from andor.runs import cache
from andor.runs.explanation import Explanation
from andor.runs.summary import summarise, table
from andor.show import tables

TEXT, PLAYERS = "the nurse has a fever, she said", ["nurse", "fever", "she"]
LABELS = {"nurse": "relevant", "fever": "irrelevant", "she": "forbidden"}


def labelled(**changes) -> Prompt:
    return Prompt(TEXT, PLAYERS, id="nurse", labels=LABELS, **changes)


def explained(prompt: Prompt) -> Explanation:
    values = values_of(prompt)
    return Explanation("tiny-llama", prompt, values, solution_of(values), few_of(values))


def test_labels_follow_the_players_in_text_order():
    assert labelled().labels == ("relevant", "irrelevant", "forbidden")
    assert Prompt("a b a", ["a", "b", "a"], labels={"a": "forbidden", "b": "relevant"}).labels == (
        *("forbidden", "relevant", "forbidden"),
    )
    assert Prompt("a b a", ["a", "b", "a"], labels=["relevant", "relevant", "forbidden"]).labels[2] == "forbidden"
    assert Prompt(TEXT, PLAYERS).labels is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({**LABELS, "he": "relevant"}, "must name players; got 'he'. The players are nurse, fever, she"),
        ({"nurse": "relevant", "she": "relevant"}, "must label every player; 'fever' has no label"),
        ({**LABELS, "she": "odd"}, "knows the labels relevant, irrelevant, forbidden; got 'odd'"),
        ({**LABELS, "she": ["relevant"]}, "knows the labels"),
        (["relevant"], "one label per player; got 1 for 3 players"),
    ],
)
def test_bad_labels_are_refused(labels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Prompt(TEXT, PLAYERS, labels=labels)
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"text": TEXT, "players": PLAYERS, "labels": labels}))
    with pytest.raises(ValueError, match=f"line 1: .*{message}"):
        read_prompts(file)


def test_labels_in_a_file_are_an_object_or_a_list(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"text": TEXT, "players": PLAYERS, "labels": "relevant"}))
    with pytest.raises(ValueError, match="line 1: 'labels' must be an object, player to label, or a list; got 'rel"):
        read_prompts(file)
    with pytest.raises(ValueError, match="must map players"):
        Prompt(TEXT, PLAYERS, labels="relevant")


def test_labels_need_players_that_somebody_named():
    with pytest.raises(ValueError, match="give players too"):
        Prompt(TEXT, labels=LABELS)


def test_labels_come_from_a_file(tmp_path):
    file = tmp_path / "prompts.jsonl"
    lines = [{"text": TEXT, "players": PLAYERS, "labels": LABELS}, {"text": TEXT, "players": PLAYERS, "labels": None}]
    file.write_text("\n".join(map(json.dumps, lines)))
    first, second = read_prompts(file)
    assert first.labels == labelled().labels and second.labels is None


def test_share_with_counts_every_effect_with_such_a_player():
    and_effects = np.array([9.0, 1, -2, 0, 0, 4, 0, 0])  # ∅, {0}, {1}, {0, 2}
    or_effects = np.array([0, 0, 0, 3.0, 0, 0, 0, 0])  # {0, 1}
    pair = and_effects, or_effects
    assert metrics.share_with(pair, [False, False, False]) == 0
    assert metrics.share_with(pair, [True, True, True]) == 1
    assert metrics.share_with(pair, [False, True, False]) == pytest.approx((2 + 3) / 10)
    assert metrics.share_with(pair, [False, False, True]) == pytest.approx(4 / 10)
    assert np.isnan(metrics.share_with((np.zeros(8), np.zeros(8)), [True] * 3))
    with pytest.raises(ValueError, match="one per player; got 2 for 3"):
        metrics.share_with(pair, [True, False])


def test_an_explanation_keeps_labels_and_one_without_is_as_it_was(tmp_path):
    prompt = labelled()
    explanation = explained(prompt)
    expected = metrics.share_with(explanation.pair("certified"), [False, True, True])
    assert 0 < explanation.unreliable("certified") == expected < 1
    explanation.save(tmp_path / "e.npz")
    again = read(tmp_path / "e.npz")
    assert again.prompt == prompt and again.unreliable() == explanation.unreliable()
    plain = explained(Prompt(TEXT, PLAYERS, id="nurse"))
    assert "labels" not in plain.arrays() and np.isnan(plain.unreliable())
    assert "Unreliable: " in shown(tables.effects(explanation, 5))
    assert "Unreliable" not in shown(tables.effects(plain, 5))


def test_keys_change_with_labels_and_stay_without():
    plain = Prompt(TEXT, PLAYERS, id="nurse")
    keys = [cache.explanation_key("v", each, 0.02, {}, {}) for each in (plain, labelled())]
    assert keys[0] != keys[1]
    assert "labels" not in recipe_of(prompts=(plain,)).decisive["prompts"][0]
    assert recipe_of(prompts=(labelled(),)).decisive["prompts"][0]["labels"] == [*LABELS.values()]


def test_a_run_tells_of_unreliable_strength_in_tables_csv_and_page(tmp_path):
    """Of a planted game of one model: "a" is relevant, "b" forbidden, "c" irrelevant."""
    labels = ["relevant", "forbidden", "irrelevant"]
    prompts = Prompt("a b c", list("abc"), "x", "p", labels=labels), Prompt("a b c", list("abc"), "x", "plain")
    run = planted_run({"tiny-llama": 1.0}, {1: 3.0, 2: -1.0}, {5: 2.0}, prompts=prompts)
    numbers = summarise(run)
    assert numbers["prompts"]["p"]["models"]["tiny-llama"]["certified"]["unreliable"] == pytest.approx(3 / 6)
    assert np.isnan(numbers["prompts"]["plain"]["models"]["tiny-llama"]["certified"]["unreliable"])
    assert numbers["models"]["tiny-llama"]["compact"]["unreliable"] == pytest.approx(3 / 6)  # of those with labels
    assert table(numbers)[0]["certified_unreliable"] == pytest.approx(3 / 6)

    saved = save_run(tmp_path / "labelled", recipe_of(("tiny-llama",), prompts))
    again = read(saved.path)
    assert [each.labels for each in again.prompts] == [tuple(labels), None]
    first, second = csv.DictReader((saved.path / "prompts.csv").open())
    assert float(first["compact_unreliable"]) == pytest.approx(saved["tiny-llama", "p"].unreliable(), abs=1e-6)
    assert second["compact_unreliable"] == ""
    said = shown(tables.models(again))
    assert "strength of unreliable effects: shown, at the optimum" in said
    page = report.page(again)
    assert "unreliable tiny-llama" in page and '"unreliable":' in page

    plain = save_run(tmp_path / "plain", recipe_of(("tiny-llama",), prompts[1:]))
    assert "unreliable" not in json.dumps(plain.summary)
    page = re.sub(r"<script>.*?</script>", "", report.page(plain), flags=re.DOTALL)  # the program, which knows of it
    assert "The effects that are shown" in page and "unreliable" not in shown(tables.models(plain)) + page


def shown(renderable) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()
