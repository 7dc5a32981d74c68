"""Two models that differ in nothing but the seed of their training, as a baseline for how much two models share.

Both follow the recipe of `tiny-llama` (`lab.train_embedded`): the same corpus, tokenizer, architecture and
steps. The seed decides the first weights, the order of the documents, their masks and the dropout. In full one of them
is `tiny-llama` itself, of seed 0; quick and smoke runs train two of fewer steps.
"""

import dataclasses
import json

from experiments.lab import corpus, training
from experiments.lab.train_embedded import PLANS, VOCAB_SIZE, sources_of
from experiments.study import Settings

QUICK_STEPS, SMOKE_STEPS = 300, 4


def trained(settings: Settings) -> tuple[str, ...]:
    """Two models for `andor.load`; () where one is not there and there is no corpus to train it on."""
    plan = PLANS["tiny-llama"]
    steps = {"full": plan.recipe.steps, "quick": QUICK_STEPS, "smoke": SMOKE_STEPS}[settings.scale]
    small = {"width": 32, "layers": 1} if settings.smoke else {}
    shipped = ("tiny-llama",) if settings.scale == "full" else ()
    recipes = [dataclasses.replace(plan.recipe, steps=steps, seed=seed, **small) for seed in (1, 2)[: 2 - len(shipped)]]
    folders = [settings.work / "seeds" / f"tiny-llama-{steps}-seed-{recipe.seed}" for recipe in recipes]
    missing = [pair for pair in zip(recipes, folders, strict=True) if not (pair[1] / "scores.json").exists()]
    if missing and settings.corpus is None:
        return ()
    if missing:
        data = corpus.read_corpus(corpus.require(settings.corpus, stories=True), seed=0)
        tokenizer = corpus.sentiment_tokenizer(data.train, VOCAB_SIZE, data.stories)
    for recipe, folder in missing:
        print(f"training {folder.name}, {steps} steps", flush=True)
        sources = sources_of(dataclasses.replace(plan, recipe=recipe), data, tokenizer)
        model = training.train(recipe, sources, tokenizer, log=lambda line: print(line, flush=True))
        training.save(model, folder, tokenizer)
        dev = corpus.sentiment_documents(tokenizer, data.dev, 1.0)
        scores = training.sentiment_scores(model, dev, tokenizer)
        # Written last: a model with scores is finished.
        (folder / "scores.json").write_text(json.dumps({"steps": steps, "dev": scores}, indent=2) + "\n")
    return (*shipped, *map(str, folders))
