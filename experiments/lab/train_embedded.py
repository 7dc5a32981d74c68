"""Train the embedded models from a corpus on disk: `tiny-llama`, `tiny-qwen2` and `tiny-llama-overfit`.

What:      real Llama and Qwen2 architectures of about 1.5 M parameters with one shared 4096-token byte-level BPE
           tokenizer, on SST-2 sentiment as language modelling ("<phrase>\\nsentiment: positive") and on TinyStories.
           Most documents have words replaced by `<mask>`, so that the masked prompts that andor evaluates are
           in-distribution. `tiny-llama-overfit` goes on from `tiny-llama` on a tenth of its phrases, without
           weight decay or dropout, at a constant learning rate: about 18 passes.
Command:   python -m experiments train_embedded --corpus DATA --out andor/embedded
           (DATA holds sst2/train.tsv, sst2/dev.tsv, tinystories/*.txt; `--models tiny-qwen2` trains one of them)
Hardware:  2 CPU cores, about 20 minutes for each of the first two models, 10 for the third. With glibc, setting
           MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 halves that: without it, large
           buffers are given back to the system at every step.
Expected:  SST-2 dev accuracy >= .79, label cross-entropy <= .45 nats, stories <= 3.6 nats per token, all-masked label
           log-odds within 0.3 of zero; overfit model: train-dev label cross-entropy gap >= .5 nats.
Splits:    SST-2 phrases are nested fragments of sentences, so they are split by parent sentence: 5% of the parents are
           held out (`validation`, the set for choosing settings). `dev` is never used for a choice. The last 10% of
           the stories are held out.
"""

import dataclasses
import time
from pathlib import Path

import tyro
from tokenizers import Tokenizer

from experiments.lab import corpus, training
from experiments.lab.corpus import sentiment_documents, story_documents
from experiments.lab.training import Model, Recipe, Source, sentiment_scores, text_loss

VOCAB_SIZE = 4096


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one embedded model is made.

    Attributes:
      start_from: the model whose saved weights it goes on from.
      sentiment_rows, story_rows: packed rows of each kind in every step.
      every: one of so many training phrases is used.
    """

    recipe: Recipe
    start_from: str | None = None
    sentiment_rows: int = 4
    story_rows: int = 3
    every: int = 1


PLANS = {
    "tiny-llama": Plan(Recipe("llama", steps=3800, learning_rate=3e-3)),
    "tiny-qwen2": Plan(Recipe("qwen2", steps=3800, learning_rate=3e-3)),
    "tiny-llama-overfit": Plan(
        Recipe(
            "llama", steps=1600, learning_rate=2e-3, decay_to_zero=False, weight_decay=0.0, dropout=0.0,
            masked_documents=0.25,
        ),
        start_from="tiny-llama", sentiment_rows=5, story_rows=2, every=10,
    ),
}  # fmt: skip


SMALL = {"steps": 4, "width": 32, "layers": 1}
"""What a smoke run has instead."""


def sources_of(plan: Plan, data: corpus.Corpus, tokenizer: Tokenizer) -> list[Source]:
    """Phrases and stories, as every step of a plan reads them."""
    phrases = sentiment_documents(tokenizer, data.train[:: plan.every], plan.recipe.label_weight)
    stories = story_documents(tokenizer, data.stories, plan.recipe.row_tokens + 1)
    return [Source(phrases, plan.sentiment_rows), Source(stories, plan.story_rows)]


@dataclasses.dataclass(frozen=True)
class Config:
    """Train the embedded models."""

    corpus: Path
    """Folder with sst2/train.tsv, sst2/dev.tsv and tinystories/*.txt."""
    out: Path = Path("andor/embedded")
    """Where the model folders are written."""
    models: tuple[str, ...] = tuple(PLANS)
    """Which models to train, in this order."""
    seed: int = 0
    row_tokens: int = 256
    """Tokens of one packed row."""
    smoke: bool = False
    """A few steps only, to see that everything runs."""


CARD = """# {name}

A {parameters:,}-parameter {family} language model trained from scratch, for trying `andor` without a GPU or a download.
It is a test object for interaction analysis, not a useful language model: it knows short movie-review phrases with
their sentiment ("<phrase>\\nsentiment: positive") and simple children's stories, nothing else, in English only, up to
256 tokens.

- Data: SST-2 training phrases (GLUE; research use) and the first 2 MB of TinyStories (CDLA-Sharing-1.0). Neither is
  included.
- Training: {training}
- Word masking: {masking}
- Numbers of this file, as stored in float16 (seed {seed}):

| | |
|---|---|
{numbers}

SST-2 dev is the first half of the public dev set (436 sentences). Settings were chosen by the validation
cross-entropy, not by dev. Validation is 5% of the training sentences with all their phrases; the train number is on
phrases that this model was trained on. The stories number is on the last 10% of the stories. Biases of the sources
(film criticism of the early 2000s, synthetic stories) are in the model.
"""


def card(name: str, plan: Plan, parameters: int, scores: dict, seed: int) -> str:
    recipe = plan.recipe
    start = f"continued from `{plan.start_from}`, " if plan.start_from else ""
    decay = "cosine to zero" if recipe.decay_to_zero else "constant"
    phrases = f", one training phrase in {plan.every}" if plan.every > 1 else ""
    return CARD.format(
        name=name,
        parameters=parameters,
        family={"llama": "Llama", "qwen2": "Qwen2"}[recipe.family],
        training=f"{start}{recipe.steps} AdamW steps of {plan.sentiment_rows} + {plan.story_rows} packed rows\n"
        f"  (sentiment + stories){phrases}, learning rate {recipe.learning_rate:g} ({decay}),\n"
        f"  weight decay {recipe.weight_decay:g}, dropout {recipe.dropout:g}, "
        f"label tokens weighted {recipe.label_weight:g}.",
        masking=f"{recipe.masked_documents:.0%} of the documents, with a share of their words drawn from 0 to 60%.",
        numbers="\n".join(f"| {label} | {value} |" for label, value in scores.items()),
        seed=seed,
    )


def main(config: Config) -> dict[str, dict]:
    """Train and save the models. Returns their scores by name."""
    started = time.perf_counter()

    def log(text):
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    data = corpus.read_corpus(config.corpus, config.seed)
    tokenizer = corpus.sentiment_tokenizer(data.train, VOCAB_SIZE, data.stories)
    corpus.label_ids(tokenizer)  # refuses a corpus too small for them
    validation, dev = (sentiment_documents(tokenizer, part, 1.0) for part in (data.validation, data.dev))
    held_out = story_documents(tokenizer, data.held_out_stories)
    log(
        f"phrases: {len(data.train)} train, {len(validation)} validation; {len(dev)} dev; "
        f"stories: {len(data.stories)} train, {len(held_out)} held out"
    )
    watched = validation[:: len(validation) // 800 or 1]

    def monitor(step: int, model: Model):
        scores = sentiment_scores(model, watched, tokenizer)
        log("    validation " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))

    results = {}
    for name in config.models:
        plan = PLANS[name]
        changes = {"row_tokens": config.row_tokens, "seed": config.seed} | (SMALL if config.smoke else {})
        recipe = dataclasses.replace(plan.recipe, **changes)
        start = training.load(config.out / plan.start_from) if plan.start_from else None
        sources = sources_of(dataclasses.replace(plan, recipe=recipe), data, tokenizer)
        log(name)
        train_start, every = time.perf_counter(), recipe.steps // 6 or 1
        watch = range(every, recipe.steps + 1, every)
        model = training.train(recipe, sources, tokenizer, start=start, callback=monitor, at=watch, log=log)
        minutes = (time.perf_counter() - train_start) / 60

        folder = config.out / name
        training.save(model, folder, tokenizer)
        model = training.load(folder)  # score what is stored, not what was trained
        seen = sources[0].documents
        of_train, of_validation, of_dev = (
            sentiment_scores(model, part, tokenizer) for part in (seen[:: len(seen) // 2000 or 1], validation, dev)
        )
        scores = {
            "SST-2 dev accuracy": f"{of_dev['accuracy']:.3f}",
            "SST-2 dev label cross-entropy (nats)": f"{of_dev['cross_entropy']:.3f}",
            "validation accuracy": f"{of_validation['accuracy']:.3f}",
            "validation label cross-entropy (nats)": f"{of_validation['cross_entropy']:.3f}",
            "train label cross-entropy (nats, 2000 phrases)": f"{of_train['cross_entropy']:.3f}",
            "train-dev label cross-entropy gap (nats)": f"{of_dev['cross_entropy'] - of_train['cross_entropy']:.3f}",
            "all-masked log-odds of positive, dev mean": f"{of_dev['masked_log_odds']:+.3f}",
            "stories (nats per token, held out)": f"{text_loss(model, held_out, config.row_tokens):.3f}",
            "safetensors (MB)": f"{(folder / 'model.safetensors').stat().st_size / 1e6:.2f}",
        }
        (folder / "README.md").write_text(card(name, plan, model.parameters, scores, config.seed))
        log(f"{name}: trained in {minutes:.1f} minutes, saved in {folder}")
        for label, value in scores.items():
            print(f"    {label:50s} {value}", flush=True)
        results[name] = scores
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
