"""The models and prompts that ship with the package."""

import re

import numpy as np
import pytest
from test_experiments import experiment

import andor
from andor.models import EMBEDDED, embedded_models
from andor.prompts import DEFAULT_PROMPTS, tokenize

NAMES = ("tiny-llama", "tiny-llama-overfit", "tiny-qwen2")


def test_the_three_models_ship():
    assert embedded_models() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_the_card_is_that_of_the_recipe(name):
    train = experiment("train_embedded")
    folder = EMBEDDED / name
    assert (folder / "model.safetensors").stat().st_size <= 8e6
    text = (folder / "README.md").read_text()
    scores = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", text, re.MULTILINE))
    assert len(scores) == 9
    assert text == train.card(name, train.PLANS[name], andor.load(name).parameters, scores, train.Config.seed)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
def test_models_know_sentiment_and_negation_and_are_unsure_without_evidence(name):
    """Made-up sentences; the numbers on SST-2 are in the cards."""
    model = andor.load(name)

    def positive(sentence, players):
        prompt = andor.Prompt(f"{sentence} .\nsentiment:", players=players, target="positive")
        return andor.evaluate(model, prompt).v

    praised = positive("a warm , funny and beautiful film", ["warm", "funny", "beautiful", "film"])
    panned = positive("a dull , stupid and boring film", ["dull", "stupid", "boring", "film"])
    assert praised[-1] > 3 and panned[-1] < -3
    assert abs(praised[0]) < 2 and abs(panned[0]) < 2

    negated = positive("the film is not good", ["film", "not", "good"])
    plain = positive("the film is good", ["film", "good"])
    assert plain[-1] > 3 and negated[-1] < 0


def test_default_prompts():
    prompts = andor.read_prompts(DEFAULT_PROMPTS)
    assert len(prompts) == 20
    assert [prompt.id.split("-")[0] for prompt in prompts] == ["sentiment"] * 10 + ["story"] * 10
    tokenizer = andor.load("tiny-llama").tokenizer
    for prompt in prompts:
        assert 8 <= prompt.n_players <= 10
        tokenized = tokenize(prompt, tokenizer)
        assert set(np.unique(tokenized.player_of_token)) == set(range(-1, prompt.n_players))
