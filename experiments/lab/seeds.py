"""Two models that differ in nothing but the seed of their training, as a baseline for how much two models share.

Both follow the recipe of `tiny-llama` (`lab.train_embedded`): the same corpus, tokenizer, architecture and
steps. The seed decides the first weights, the order of the documents, their masks and the dropout. In full one of them
is `tiny-llama` itself, of seed 0; quick and smoke runs train two of fewer steps.
"""

import dataclasses
import json

from experiments.lab import training
from experiments.lab.corpus import (
    LABELS,
    TEMPLATE,
    chunks,
    document,
    read_corpus,
    require,
    sentiment_documents,
    train_tokenizer,
)
from experiments.lab.train_embedded import PLANS, VOCAB_SIZE
from experiments.lab.training import Source, sentiment_scores
from experiments.study import Settings

QUICK_STEPS, SMOKE_STEPS = 300, 4


def trained(settings: Settings) -> tuple[str, ...]:
    """Two models for `andor.load`; () where one is not there and there is no corpus to train it on."""
    plan = PLANS["tiny-llama"]
    steps = {"full": plan.recipe.steps, "quick": QUICK_STEPS, "smoke": SMOKE_STEPS}[settings.scale]
    shipped = ("tiny-llama",) if settings.scale == "full" else ()
    recipes = [dataclasses.replace(plan.recipe, steps=steps, seed=seed) for seed in (1, 2)[: 2 - len(shipped)]]
    folders = [settings.work / "seeds" / f"tiny-llama-{steps}-seed-{recipe.seed}" for recipe in recipes]
    missing = [pair for pair in zip(recipes, folders, strict=True) if not (pair[1] / "scores.json").exists()]
    if missing:
        if settings.corpus is None:
            return ()
        require(settings.corpus, stories=True)
        data = read_corpus(settings.corpus, seed=0)
        tokenizer = train_tokenizer(
            [text + TEMPLATE + LABELS[label] for text, label in data.train] + data.stories, VOCAB_SIZE
        )
        for recipe, folder in missing:
            sentiment = sentiment_documents(tokenizer, data.train, recipe.label_weight)
            stories = chunks([document(tokenizer, text, "", 1.0) for text in data.stories], recipe.row_tokens + 1)
            sources = [Source(sentiment, plan.sentiment_rows), Source(stories, plan.story_rows)]
            print(f"training {folder.name}, {steps} steps", flush=True)
            model = training.train(recipe, sources, tokenizer, log=lambda line: print(line, flush=True))
            training.save(model, folder, tokenizer)
            scores = sentiment_scores(model, sentiment_documents(tokenizer, data.dev, 1.0), tokenizer)
            # Written last: a model with scores is finished.
            (folder / "scores.json").write_text(json.dumps({"steps": steps, "dev": scores}, indent=2) + "\n")
    return (*shipped, *map(str, folders))
