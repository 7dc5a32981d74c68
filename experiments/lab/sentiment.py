"""Small sentiment models watched as they are trained: label losses, and v on sentences they never saw.

What `studies.dynamics` and `studies.causes` share. The models read SST-2 phrases ("<phrase>\\nsentiment:
positive", words masked in half of them); 5% of the parent sentences are held out (*validation*: phrases like those of
the training). Explained are SST-2 dev sentences with 8 or 9 content words, with their true label as the target.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import andor
from andor.core import lattice
from andor.measures import metrics
from andor.measures.bootstrap import interval, resampled
from andor.measures.profile import Profile, profile, strength
from andor.models import EMBEDDED, LanguageModel
from andor.solvers import Published
from experiments.lab import corpus, methods, training
from experiments.lab.corpus import LABELS, TEMPLATE, Document, Phrase
from experiments.study import Settings

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

    @property
    def fast_tokenizer(self) -> PreTrainedTokenizerFast:
        names = {"bos_token": corpus.BOS, "eos_token": corpus.EOS, "mask_token": corpus.MASK, "pad_token": corpus.PAD}
        return PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, **names)


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
    tokenizer = corpus.train_tokenizer([text + TEMPLATE + LABELS[label] for text, label in train], VOCAB_SIZE)
    every = (andor.Prompt(text + TEMPLATE, target=LABELS[label].strip()) for text, label in sentences)
    prompts = [prompt for prompt in every if settings.smoke or prompt.n_players in PLAYERS][:n_prompts]
    if len(prompts) < n_prompts:
        raise ValueError(
            f"{folder} has {len(prompts)} dev sentences of {PLAYERS[0]} or {PLAYERS[1]} content words, and "
            f"{n_prompts} are needed. Give the SST-2 dev file."
        )
    return Task(tokenizer, train, validation, corpus.sentiment_documents(tokenizer, sentences, 1.0), prompts)


def follow(
    task: Task,
    recipe: training.Recipe,
    phrases: list[Phrase],
    at: Sequence[int],
    folder: Path,
    rows: int = 8,
    log: Callable[[str], None] = print,
) -> list[Snapshot]:
    """Train on these phrases and look at the model at these steps. What was followed before is read from `folder`."""
    decides = repr((recipe, phrases, tuple(at), rows, [prompt.text for prompt in task.prompts], len(task.train)))
    name = hashlib.sha256(decides.encode()).hexdigest()[:16]
    file = folder / f"{name}.npz"
    if file.exists():
        return _read(file)
    documents = corpus.sentiment_documents(task.tokenizer, phrases, recipe.label_weight)
    watched = documents[:: max(1, len(documents) // _SCORED)]
    validation = corpus.sentiment_documents(task.tokenizer, task.validation, 1.0)
    validation = validation[:: max(1, len(validation) // _SCORED)]
    tokenizer, snapshots = task.fast_tokenizer, []

    def look(step: int, model: training.Model) -> None:
        losses = [_label_losses(model, part, task.tokenizer) for part in (watched, validation, task.dev)]
        readable = LanguageModel(
            name=f"{name}-{step}",
            family=recipe.family,
            decoder=nnx.merge(model.graphdef, model.state),
            tokenizer=tokenizer,
            dtype=np.dtype(np.float32),
            fingerprint=name,
        )
        v = [values.v for values in andor.evaluate_all(readable, task.prompts)]
        snapshots.append(Snapshot(step, *(loss for loss, _ in losses), float(losses[2][1].mean()), v))
        log(f"  step {step}: label loss, train {losses[0][0].mean():.3f}, validation {losses[1][0].mean():.3f}")

    training.train(recipe, [training.Source(documents, rows)], task.tokenizer, callback=look, at=at)
    folder.mkdir(parents=True, exist_ok=True)
    _write(file, snapshots)
    return snapshots


def _write(file: Path, snapshots: list[Snapshot]) -> None:
    fields = ("step", "train", "validation", "dev", "accuracy")
    arrays = {field: np.array([getattr(each, field) for each in snapshots]) for field in fields}
    for index in range(len(snapshots[0].v)):
        arrays[f"v{index}"] = np.stack([each.v[index] for each in snapshots])
    np.savez_compressed(file, **arrays)


def _read(file: Path) -> list[Snapshot]:
    with np.load(file) as stored:
        arrays = dict(stored)
    prompts = [arrays[f"v{index}"] for index in range(sum(name[1:].isdigit() for name in arrays))]
    return [
        Snapshot(
            int(step),
            arrays["train"][place],
            arrays["validation"][place],
            arrays["dev"][place],
            float(arrays["accuracy"][place]),
            [v[place] for v in prompts],
        )
        for place, step in enumerate(arrays["step"])
    ]


def _label_losses(model: training.Model, documents: Sequence[Document], tokenizer: Tokenizer):
    """Label cross-entropy of each document over the whole vocabulary, nats, and whether its label is the likelier."""
    labels = list(corpus.label_ids(tokenizer))
    longest = max(len(doc.tokens) for doc in documents)
    scored = [
        (log_p[doc.tokens[-2]], log_p[labels].max())
        for doc, _, log_p in training.token_losses(model, documents, longest)
    ]
    own, best = np.array(scored, np.float64).T
    return -own, own >= best


def by_difficulty(phrases: list[Phrase], folder: Path) -> list[Phrase]:
    """The phrases, easiest first, by the label loss of the embedded tiny-llama; the losses are kept in `folder`."""
    file = folder / f"difficulty-{hashlib.sha256(repr(phrases).encode()).hexdigest()[:16]}.npy"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, _judged(phrases))
    return [phrases[i] for i in np.argsort(np.load(file), kind="stable")]


def _judged(phrases: list[Phrase]) -> Float[np.ndarray, "phrases"]:
    folder = EMBEDDED / "tiny-llama"
    judge = training.load(folder, training.Recipe("llama", steps=1, learning_rate=1.0))
    documents = corpus.sentiment_documents(Tokenizer.from_file(str(folder / "tokenizer.json")), phrases, 1.0)
    losses = np.zeros(len(phrases))
    lengths = np.array([len(doc.tokens) for doc in documents])
    sizes = 2 ** np.ceil(np.log2(lengths)).astype(int)  # so that short phrases are not padded to the longest
    for size in np.unique(sizes):
        index = np.flatnonzero(sizes == size)
        scored = training.token_losses(judge, [documents[i] for i in index], int(size))
        losses[index] = [-log_p[doc.tokens[-2]] for doc, _, log_p in scored]
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
    total = np.array([strength(pair) for pair in pairs])
    found = profile([metrics.order_strength(*pair) for pair in pairs], np.where(total > 0, total, 1.0).tolist())
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
    return {
        **{
            name: interval(np.column_stack([weight * values[usable], weight]), _ratio_of_sums)
            for name, values in (
                ("mean_order", orders.mean_order),
                ("high", orders.high),
                ("cancellation", orders.cancellation),
            )
        },
        "spindle_share": resampled(
            len(usable), lambda places: in_nats.of(places).split.spindle_share, repeats=repeats
        ).interval(),
        "positive": share[0],
        "negative": share[1],
    }


def _ratio_of_sums(rows: Float[np.ndarray, "prompts 2"]) -> float:
    above, below = rows.sum(axis=0)
    return above / below
