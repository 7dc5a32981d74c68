"""Train small Llama and Qwen2 models from documents, score them, save them in HF format.

    recipe = Recipe(family="llama", steps=1000, learning_rate=3e-3, width=64, layers=2, seed=0)
    tokenizer = corpus.train_tokenizer(texts, 2048)
    documents = corpus.sentiment_documents(tokenizer, phrases, label_weight=4.0)
    model = train(recipe, [Source(documents, rows=8)], tokenizer)
    save(model, folder, tokenizer)                    # andor.load(folder) reads it
    sentiment_scores(model, documents, tokenizer)     # {"accuracy": ..., "cross_entropy": ..., "masked_log_odds": ...}

Documents come from `lab.corpus`; any text with an ending will do (`corpus.document`). Most documents should
have words replaced by `<mask>` (`Recipe.masked_documents`), so that the masked prompts that andor evaluates are
in-distribution. To follow the training, give `callback` and the steps `at` which it is called with the model so far.

With glibc, setting MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 halves the time: without
it, large buffers are given back to the system at every step.
"""

import functools
import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Float
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from andor.models import FAMILIES, LanguageModel
from andor.models.config import read_config
from andor.models.decoder import Decoder, attend_within, rotation
from andor.models.weights import hf_tensors, load_decoder
from experiments.lab import corpus
from experiments.lab.corpus import BOS, EOS, MASK, PAD, Document


@dataclass(frozen=True)
class Recipe:
    """How one model is made. What it is trained on is decided by the caller, who can ask `corpus.choose` for a part.

    Attributes:
      family: "llama" or "qwen2".
      steps: optimiser steps; each reads the rows of every source.
      learning_rate: after a warm-up of 100 steps.
      width, layers: size of the decoder; width is a multiple of 32, the width of a head.
      decay_to_zero: whether the learning rate falls to zero by the end (cosine) or stays.
      weight_decay: of AdamW, on matrices.
      dropout: on embeddings and on what each layer adds to the residual stream.
      masked_documents: share of documents that have words masked.
      label_weight: weight of a label token's loss; other tokens have 1.
      fraction, label_noise: share of the phrases used, and share of those whose label is flipped, for `corpus.choose`.
      row_tokens: tokens of one packed row, and the most positions that the model can read.
      seed: of the first weights, of dropout, of the order of documents and of their masks.
    """

    family: str
    steps: int
    learning_rate: float
    width: int = 128
    layers: int = 4
    decay_to_zero: bool = True
    weight_decay: float = 0.2
    dropout: float = 0.15
    masked_documents: float = 0.5
    label_weight: float = 4.0
    fraction: float = 1.0
    label_noise: float = 0.0
    row_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Source:
    """Documents of one kind, and how many packed rows of them every step reads."""

    documents: Sequence[Document]
    rows: int


@dataclass(frozen=True, eq=False)
class Model:
    """Weights with their architecture.

    Attributes:
      hf: HF `config.json`.
      graphdef, state: the split `Decoder`; the state is float32.
    """

    hf: dict
    graphdef: nnx.GraphDef
    state: nnx.State

    @property
    def parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.state))


# -------------------------------------------------------------------------------------------------------- the model


def hf_config(recipe: Recipe, vocab_size: int) -> dict:
    """The architecture, as HF's `config.json` has it."""
    if recipe.width % 32:
        raise ValueError(f"Recipe(width=...) must be a multiple of 32, the width of a head; got {recipe.width}.")
    qwen2 = recipe.family == "qwen2"
    heads = recipe.width // 32
    return {
        "architectures": ["Qwen2ForCausalLM" if qwen2 else "LlamaForCausalLM"],
        "model_type": recipe.family,
        "vocab_size": vocab_size,
        "hidden_size": recipe.width,
        "intermediate_size": 3 * recipe.width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2 if heads % 2 == 0 else 1,
        "hidden_act": "silu",
        "max_position_embeddings": recipe.row_tokens,
        "rms_norm_eps": 1e-6 if qwen2 else 1e-5,
        "rope_theta": 1e6 if qwen2 else 1e4,
        "tie_word_embeddings": True,  # as in Llama 3.2; an untied head of this size learns the labels by heart
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 3,
        "torch_dtype": "float16",
    }


def new_model(recipe: Recipe, vocab_size: int) -> Model:
    """Random weights."""
    hf = hf_config(recipe, vocab_size)
    config = read_config(hf, FAMILIES[recipe.family])
    return Model(hf, *nnx.split(Decoder(config, rngs=nnx.Rngs(recipe.seed))))


def explainable(name: str, family: str, decoder: Decoder, tokenizer: Tokenizer, fingerprint: str) -> LanguageModel:
    """A model in training as `andor.evaluate` takes it; float32."""
    dtype = jnp.dtype(jnp.float32)
    return LanguageModel(name, family, decoder, corpus.fast_tokenizer(tokenizer), dtype, fingerprint)


def save(model: Model, folder: Path, tokenizer: Tokenizer) -> None:
    """Write an HF-format directory: float16 weights, config and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.hf, indent=2) + "\n")
    tensors = hf_tensors(nnx.merge(model.graphdef, model.state), FAMILIES[model.hf["model_type"]], np.float16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # save_file makes it readable by its owner only
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "mask_token": MASK,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.hf["max_position_embeddings"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def load(folder: Path) -> Model:
    """A saved model, to be scored as it is stored or trained on. Float32."""
    hf = json.loads((folder / "config.json").read_text())
    family = FAMILIES[hf["model_type"]]
    return Model(hf, *nnx.split(load_decoder(folder, read_config(hf, family), family, jnp.float32)))


# --------------------------------------------------------------------------------------------------------- batches


def mask_words(doc: Document, mask_id: int, masked_documents: float, rng: np.random.Generator) -> np.ndarray:
    """Input tokens of a document: in a masked one, a share of its words drawn from 0 to 0.6 is masked."""
    if rng.random() >= masked_documents:
        return doc.tokens
    chosen = rng.random(doc.words.max(initial=-1) + 2) < 0.6 * rng.random()
    chosen[-1] = False  # words[-1] stands for the tokens that are never masked
    return np.where(chosen[doc.words], mask_id, doc.tokens).astype(np.int32)


def packed_rows(
    documents: Sequence[Document], size: int, mask_id: int, masked_documents: float, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "5 t"]]:
    """Endless packed rows: inputs, targets, weights, segments, positions. Epochs are cut to whole rows."""
    fit_one_row = sum(len(doc.tokens) - 1 for doc in documents) <= size
    while True:
        row: list[np.ndarray] = []
        used = 0
        for index in rng.permutation(len(documents)):
            doc = documents[index]
            length = len(doc.tokens) - 1
            if length > size:
                raise ValueError(f"a document of {length + 1} tokens does not fit a row of {size}; raise row_tokens")
            if used + length > size:
                yield _pad(row, size)
                row, used = [], 0
            if length == 0:  # the end of a story that was cut into pieces
                continue
            inputs = mask_words(doc, mask_id, masked_documents, rng)[:-1]
            segments = np.full(length, len(row) + 1)
            row.append(np.stack([inputs, doc.tokens[1:], doc.weights[1:], segments, np.arange(length)]))
            used += length
        if fit_one_row:  # there is no row but the one begun
            yield _pad(row, size)


def _pad(row: list[np.ndarray], size: int) -> np.ndarray:
    packed = np.concatenate(row, axis=1)
    return np.pad(packed, ((0, 0), (0, size - packed.shape[1])))


# -------------------------------------------------------------------------------------------------------- training


def hidden_with_dropout(decoder: Decoder, embeddings, positions, segments, key, rate: float):
    """`Decoder.hidden` with dropout on the embeddings and on what each layer adds to the residual stream."""

    def drop(x, index):
        keep = jax.random.bernoulli(jax.random.fold_in(key, index), 1 - rate, x.shape)
        return jnp.where(keep, x / (1 - rate), 0.0)

    def through(index, layer, x, angles):
        after, _ = layer(x, angles, functools.partial(attend_within, segments=segments))
        return x + drop(after - x, index + 1)

    return decoder.model.norm(decoder.walk(drop(embeddings, 0), rotation(decoder.config, positions), through))


def loss_fn(graphdef, state, batch, key, dropout: float):
    """Weighted mean next-token cross-entropy in nats."""
    inputs, targets, weights, segments, positions = batch
    decoder = nnx.merge(graphdef, state)
    inputs, targets, segments, positions = (each.astype(jnp.int32) for each in (inputs, targets, segments, positions))
    hidden = hidden_with_dropout(decoder, decoder.embed(inputs), positions, segments, key, dropout)
    losses = optax.softmax_cross_entropy_with_integer_labels(decoder.logits(hidden), targets)
    return jnp.sum(losses * weights) / jnp.sum(weights)


def train(
    recipe: Recipe,
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    *,
    start: Model | None = None,
    callback: Callable[[int, Model], None] | None = None,
    at: Collection[int] = (),
    log: Callable[[str], None] = lambda text: None,
) -> Model:
    """The trained model.

    Args:
      sources: what every step reads. The stream of each is seeded by its place, so that it does not depend on others.
      tokenizer: the one the documents were made with.
      start: what to go on from; by default random weights.
      callback: called as callback(step, model) at the steps `at`, counted from 1; at 0 it gets the first weights. The
        model is good until the callback returns: the next step reuses its memory.
      log: gets a line of progress 24 times.
    """
    model = start or new_model(recipe, tokenizer.get_vocab_size())
    warmup = min(100, recipe.steps // 2)
    last_rate = 0.0 if recipe.decay_to_zero else recipe.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, warmup, recipe.steps, last_rate)
    decayed = jax.tree.map(lambda leaf: leaf.ndim > 1, model.state)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.98, weight_decay=recipe.weight_decay, mask=decayed),
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(state, opt_state, batch, key):
        loss, gradient = jax.value_and_grad(loss_fn, argnums=1)(model.graphdef, state, batch, key, recipe.dropout)
        updates, opt_state = optimizer.update(gradient, opt_state, state)
        return optax.apply_updates(state, updates), opt_state, loss

    mask_id = tokenizer.token_to_id(MASK)
    streams = []
    for place, source in enumerate(sources, start=1):
        rng = np.random.default_rng([recipe.seed, place])
        streams.append(packed_rows(source.documents, recipe.row_tokens, mask_id, recipe.masked_documents, rng))
    state = jax.tree.map(jnp.copy, model.state)  # the first weights are the caller's; the copy is reused at every step
    opt_state = optimizer.init(state)
    key = jax.random.key(recipe.seed)
    losses, began = [], time.perf_counter()
    if callback is not None and 0 in at:
        callback(0, replace(model, state=state))
    for done in range(1, recipe.steps + 1):
        batch = np.stack([next(s) for s, each in zip(streams, sources, strict=True) for _ in range(each.rows)], axis=1)
        state, opt_state, loss = step(state, opt_state, batch, jax.random.fold_in(key, done - 1))
        losses.append(loss)
        if done % max(1, recipe.steps // 24) == 0:
            seconds = time.perf_counter() - began
            recent = float(np.mean(jax.device_get(losses[-100:])))
            left = seconds / done * (recipe.steps - done)
            log(f"  step {done:5d}/{recipe.steps}  loss {recent:.3f}  {seconds:5.0f} s, {left:5.0f} s left")
        if callback is not None and done in at:
            callback(done, replace(model, state=state))
    return replace(model, state=state)


# --------------------------------------------------------------------------------------------------------- scoring


@functools.partial(jax.jit, static_argnums=0)
def _score(graphdef, state, tokens, read_at):
    """Next-token losses `[b, t - 1]` and log-probabilities `[b, v]` of what follows position `read_at` `[b]`."""
    decoder = nnx.merge(graphdef, state)
    hidden = decoder.hidden(decoder.embed(tokens[:, :-1]))
    losses = optax.softmax_cross_entropy_with_integer_labels(decoder.logits(hidden), tokens[:, 1:])
    last = jnp.take_along_axis(hidden, read_at[:, None, None], axis=1)[:, 0]
    return losses, jax.nn.log_softmax(decoder.logits(last))


def token_losses(model: Model, documents: Sequence[Document], size: int | None = None):
    """Each document with its next-token losses (nats) and the log-probabilities `[v]` of its last token but one."""
    size = size or max(len(doc.tokens) for doc in documents)
    for start in range(0, len(documents), 32):
        part = documents[start : start + 32]
        tokens = np.zeros((32, size), np.int32)
        for index, doc in enumerate(part):
            tokens[index, : len(doc.tokens)] = doc.tokens
        read_at = np.zeros(32, np.int32)
        read_at[: len(part)] = [max(len(doc.tokens) - 3, 0) for doc in part]
        losses, log_p = jax.device_get(_score(model.graphdef, model.state, tokens, read_at))
        for index, doc in enumerate(part):
            yield doc, losses[index, : len(doc.tokens) - 1], log_p[index]


def label_losses(model: Model, documents: Sequence[Document], tokenizer: Tokenizer, size: int | None = None):
    """Label cross-entropy of each document over the whole vocabulary, nats, and whether its label is the likelier;
    `size` is at least the longest document's, by default that."""
    labels = list(corpus.label_ids(tokenizer))
    scored = [(log_p[doc.tokens[-2]], log_p[labels].max()) for doc, _, log_p in token_losses(model, documents, size)]
    own, best = np.array(scored, np.float64).T
    return -own, own >= best


def sentiment_scores(model: Model, documents: Sequence[Document], tokenizer: Tokenizer) -> dict[str, float]:
    """Accuracy, label cross-entropy (nats, over the whole vocabulary) and mean all-masked log-odds of " positive"."""
    positive_id, mask_id = corpus.label_ids(tokenizer)[1], tokenizer.token_to_id(MASK)
    losses, right = label_losses(model, documents, tokenizer)
    masked = [replace(doc, tokens=np.where(doc.words >= 0, mask_id, doc.tokens)) for doc in documents]
    positive = np.array([log_p[positive_id] for _, _, log_p in token_losses(model, masked)])
    return {
        "accuracy": float(np.mean(right)),
        "cross_entropy": float(np.mean(losses)),
        "masked_log_odds": float(np.mean(positive - np.log1p(-np.exp(positive)))),
    }


def text_loss(model: Model, documents: Sequence[Document], size: int) -> float:
    """Nats per token, each document read in pieces of at most `size` tokens."""
    losses = [losses for _, losses, _ in token_losses(model, corpus.chunks(list(documents), size), size)]
    return float(np.concatenate(losses).mean())
