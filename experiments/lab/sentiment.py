"""Small sentiment models watched as they are trained: label losses, and v on sentences they never saw.

What `studies.dynamics` and `studies.causes` share. The models read SST-2 phrases ("<phrase>\\nsentiment:
positive", words masked in half of them); 5% of the parent sentences are held out (*validation*: phrases like those of
the training). Explained are SST-2 dev sentences with 8 or 9 content words, with their true label as the target.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from tokenizers import Tokenizer

import andor
from andor.core import lattice
from andor.measures import metrics
from andor.measures.bootstrap import interval, resampled
from andor.measures.profile import Profile, profile_of, strength
from andor.models import EMBEDDED
from andor.solvers import InteriorPoint, Published
from experiments.lab import corpus, methods, training
from experiments.lab.corpus import LABELS, TEMPLATE, Document, Phrase
from experiments.study import PUBLISHED_NOISE, Settings

METHODS = tuple(methods.LABELS)

VOCAB_SIZE = 2048
PLAYERS = (8, 9)
_SCORED = 500  # training phrases whose loss is measured


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """SST-2 sentiment with everything that is the same for all models.

    Attributes:
      train, validation: phrases of the training file; no phrase of one is a part of a sentence of the other.
      dev: documents of the sentences of the dev file.
      prompts: the sentences that are explained, a part of dev.
    """

    tokenizer: Tokenizer
    train: list[Phrase]
    validation: list[Phrase]
    dev: list[Document]
    prompts: list[andor.Prompt]


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A model at one step of its training.

    Attributes:
      step: optimiser steps done.
      train, validation, dev: label cross-entropy of each document, nats; train with the labels it was trained on.
      accuracy: share of dev sentences whose label is the likelier one of the two.
      v: log-odds of every prompt, float64 `[2**n_players]` each.
    """

    step: int
    train: Float[np.ndarray, "documents"]
    validation: Float[np.ndarray, "documents"]
    dev: Float[np.ndarray, "documents"]
    accuracy: float
    v: list[Float[np.ndarray, "s"]]


def read_task(settings: Settings, n_prompts: int) -> Task:
    """SST-2 from `settings.corpus`, and the first sentences of dev with 8 or 9 players (a smoke run takes any).

    Raises:
      ValueError: no corpus was given, or it has too few such sentences.
    """
    folder = corpus.require(settings.corpus, stories=False)
    phrases = corpus.read_sst2(folder / "sst2" / "train.tsv")
    train, validation = corpus.split_by_parent(phrases, share=0.05, seed=settings.seed)
    sentences = corpus.read_sst2(folder / "sst2" / "dev.tsv")
    tokenizer = corpus.sentiment_tokenizer(train, VOCAB_SIZE)
    every = (andor.Prompt(text + TEMPLATE, target=LABELS[label].strip()) for text, label in sentences)
    prompts = [prompt for prompt in every if settings.smoke or prompt.n_players in PLAYERS][:n_prompts]
    if len(prompts) < n_prompts:
        raise ValueError(
            f"{folder} has {len(prompts)} dev sentences of {PLAYERS[0]} or {PLAYERS[1]} content words, and "
            f"{n_prompts} are needed. Give the SST-2 dev file."
        )
    return Task(tokenizer, train, validation, corpus.sentiment_documents(tokenizer, sentences, 1.0), prompts)


def overfitting(**settings) -> training.Recipe:
    """A Llama of 0.2 M parameters with nothing that holds overfitting back but what these settings of a recipe say."""
    free = {"decay_to_zero": False, "weight_decay": 0.0, "dropout": 0.0}
    small = {"family": "llama", "learning_rate": 3e-3, "width": 64, "row_tokens": 128}
    return training.Recipe(**small | free | settings)


def task_described(task: Task, recipe: training.Recipe, published: Sequence[Published]) -> dict:
    """What decides the explanations, for the result of a study."""
    return {
        "parameters": training.new_model(recipe, task.tokenizer.get_vocab_size()).parameters,
        "dtype": "float32",
        "noise": PUBLISHED_NOISE,
        "solver": repr(InteriorPoint()),
        "published": list(map(repr, published)),
        "prompts": [prompt.text for prompt in task.prompts],
    }


def follow(
    task: Task, recipe: training.Recipe, phrases: list[Phrase], at: Sequence[int], folder: Path, rows: int = 8
) -> list[Snapshot]:
    """Train on these phrases and look at the model at these steps. What was followed before is read from `folder`."""
    decides = repr((recipe, phrases, tuple(at), rows, [prompt.text for prompt in task.prompts], len(task.train)))
    name = hashlib.sha256(decides.encode()).hexdigest()[:16]
    file = folder / f"{name}.npz"
    if file.exists():
        return _read(file)
    documents = corpus.sentiment_documents(task.tokenizer, phrases, recipe.label_weight)
    validation = corpus.sentiment_documents(task.tokenizer, task.validation, 1.0)
    scored = [*(each[:: max(1, len(each) // _SCORED)] for each in (documents, validation)), task.dev]
    snapshots = []

    def look(step: int, model: training.Model) -> None:
        losses = [training.label_losses(model, part, task.tokenizer) for part in scored]
        decoder = nnx.merge(model.graphdef, model.state)
        readable = training.explainable(f"{name}-{step}", recipe.family, decoder, task.tokenizer, name)
        v = [values.v for values in andor.evaluate_all(readable, task.prompts)]
        snapshots.append(Snapshot(step, *(loss for loss, _ in losses), float(losses[2][1].mean()), v))
        print(f"  step {step}: label loss, train {losses[0][0].mean():.3f}, validation {losses[1][0].mean():.3f}")

    training.train(recipe, [training.Source(documents, rows)], task.tokenizer, callback=look, at=at)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {field: np.array([getattr(each, field) for each in snapshots]) for field in _FIELDS}
    v = {f"v{index}": np.stack([each.v[index] for each in snapshots]) for index in range(len(task.prompts))}
    np.savez_compressed(file, **arrays, **v)
    return snapshots


_FIELDS = ("step", "train", "validation", "dev", "accuracy")


def _read(file: Path) -> list[Snapshot]:
    with np.load(file) as stored:
        arrays = dict(stored)
    prompts = [arrays[f"v{index}"] for index in range(len(arrays) - len(_FIELDS))]
    fields = zip(*(arrays[field] for field in _FIELDS), strict=True)
    return [
        Snapshot(int(step), train, validation, dev, float(accuracy), [v[place] for v in prompts])
        for place, (step, train, validation, dev, accuracy) in enumerate(fields)
    ]


def by_difficulty(phrases: list[Phrase], folder: Path) -> list[Phrase]:
    """The phrases, easiest first, by the label loss of the embedded tiny-llama; the losses are kept in `folder`."""
    file = folder / f"difficulty-{hashlib.sha256(repr(phrases).encode()).hexdigest()[:16]}.npy"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, _judged(phrases))
    return [phrases[i] for i in np.argsort(np.load(file), kind="stable")]


def _judged(phrases: list[Phrase]) -> Float[np.ndarray, "phrases"]:
    folder = EMBEDDED / "tiny-llama"
    judge, tokenizer = training.load(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    documents = corpus.sentiment_documents(tokenizer, phrases, 1.0)
    losses = np.zeros(len(phrases))
    lengths = np.array([len(doc.tokens) for doc in documents])
    sizes = 2 ** np.ceil(np.log2(lengths)).astype(int)  # so that short phrases are not padded to the longest
    for size in np.unique(sizes):
        index = np.flatnonzero(sizes == size)
        losses[index], _ = training.label_losses(judge, [documents[i] for i in index], tokenizer, int(size))
    return losses


# ------------------------------------------------------------------------------------------------- what v consists of


@dataclasses.dataclass(frozen=True, eq=False)
class Orders:
    """Order strengths of one model by one method, in units of each prompt's own.

    Attributes:
      profile: a prompt without effects is nan.
      total: `[prompts]`, the units, nats; 0 without effects.
    """

    profile: Profile
    total: Float[np.ndarray, "prompts"]

    @property
    def mean_order(self) -> Float[np.ndarray, "prompts"]:
        """Mean order of the strength of each prompt."""
        return self.profile.strengths.sum(axis=1) @ np.arange(1, self.profile.strengths.shape[2] + 1)

    @property
    def cancellation(self) -> Float[np.ndarray, "prompts"]:
        """1 - |sum of effects| / sum of |effects| of each prompt."""
        up, down = self.profile.strengths.sum(axis=2).T
        return 1 - np.abs(up - down)

    @property
    def high(self) -> Float[np.ndarray, "prompts"]:
        """Share of each prompt's strength at order 3 and above."""
        return self.profile.strengths.sum(axis=1)[:, 2:].sum(axis=1)

    def scores(self, places: Int[np.ndarray, "rows prompts"]) -> Float[np.ndarray, "rows"]:
        """1 - spindle share of the mean over the prompts at the places in each row; those without effects left out."""
        usable = (row[self.total[row] > 0] for row in places)
        return np.array([1 - self.profile.of(row).split.spindle_share if len(row) else np.nan for row in usable])


def orders_of(values: Sequence[Float[np.ndarray, "s"]], published: Sequence[Published]) -> dict[str, Orders]:
    """Order strengths of a model's values on all prompts, by every one of `METHODS`."""
    players = np.array([lattice.n_players_of(v) for v in values])
    pairs: dict[str, dict[int, metrics.Pair]] = {}
    for n_players in np.unique(players):
        index = np.flatnonzero(players == n_players)
        for method, found in methods.by_method(np.stack([values[i] for i in index]), published).items():
            pairs.setdefault(method, {}).update(zip(index, found, strict=True))
    return {method: _orders([of_method[i] for i in range(len(values))]) for method, of_method in pairs.items()}


def _orders(pairs: Sequence[metrics.Pair]) -> Orders:
    """Order strengths of the effects on every prompt."""
    total, found = np.array([strength(pair) for pair in pairs]), profile_of(pairs)
    found.strengths[total == 0] = np.nan
    return Orders(found, total)


def pooled(orders: Orders, repeats: int) -> dict:
    """Numbers of the strength of all prompts together: each prompt weighs as much as it has strength, in nats.

    mean_order, high (share of strength at order 3 and above), cancellation and spindle_share, with intervals over
    prompts (that of the spindle share of so many resamples); positive, negative: shares of the strength by order. nan
    where no prompt has effects.
    """
    usable = np.flatnonzero(orders.total > 0)
    weight, of_usable = orders.total[usable], orders.profile.of(usable)
    in_nats = Profile(of_usable.strengths * weight[:, None, None], of_usable.players)
    share = in_nats.strengths.sum(axis=0) / weight.sum() if len(usable) else orders.profile.strengths[0]
    spindle = resampled(len(usable), lambda places: in_nats.of(places).split.spindle_share, repeats=repeats)
    ratios = {
        name: interval(np.column_stack([weight * getattr(orders, name)[usable], weight]), _ratio_of_sums)
        for name in ("mean_order", "high", "cancellation")
    }
    return ratios | {"spindle_share": spindle.interval(), "positive": share[0], "negative": share[1]}


def _ratio_of_sums(rows: Float[np.ndarray, "prompts 2"]) -> float:
    above, below = rows.sum(axis=0)
    return above / below
