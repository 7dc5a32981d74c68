"""Train the embedded models from a corpus on disk: `tiny-llama`, `tiny-qwen2` and `tiny-llama-overfit`.

What:      real Llama and Qwen2 architectures of about 1.5 M parameters with one shared 4096-token byte-level BPE
           tokenizer, on SST-2 sentiment as language modelling ("<phrase>\\nsentiment: positive") and on TinyStories.
           Most documents have words replaced by `<mask>`, so that the masked prompts that andor evaluates are
           in-distribution. `tiny-llama-overfit` goes on from `tiny-llama` on a tenth of its phrases, without
           weight decay or dropout, at a constant learning rate: about 18 passes.
Command:   python experiments/train_embedded.py --corpus DATA --out andor/embedded
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
import functools
import json
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from andor.models import FAMILIES
from andor.models.decoder import Decoder, DecoderConfig, attend_before, rotation
from andor.models.loading import hf_tensors, load_decoder

BOS, EOS, MASK, PAD = "<s>", "</s>", "<mask>", "<pad>"
LABELS = (" negative", " positive")
TEMPLATE = "\nsentiment:"
WORD = re.compile(r"\w+|[^\w\s]+")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Attributes:
      label_weight: weight of a label token's loss; other tokens have 1.
      every: one of so many training phrases is used.
    """

    model_type: str
    steps: int
    learning_rate: float
    start_from: str | None = None
    decay_to_zero: bool = True
    weight_decay: float = 0.2
    dropout: float = 0.15
    masked_documents: float = 0.5
    label_weight: float = 4.0
    sentiment_rows: int = 4
    story_rows: int = 3
    every: int = 1


RECIPES = {
    "tiny-llama": Recipe("llama", steps=3800, learning_rate=3e-3),
    "tiny-qwen2": Recipe("qwen2", steps=3800, learning_rate=3e-3),
    "tiny-llama-overfit": Recipe(
        "llama",
        steps=1600,
        learning_rate=2e-3,
        start_from="tiny-llama",
        decay_to_zero=False,
        weight_decay=0.0,
        dropout=0.0,
        masked_documents=0.25,
        sentiment_rows=5,
        story_rows=2,
        every=10,
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train the embedded models."""

    corpus: Path
    """Folder with sst2/train.tsv, sst2/dev.tsv and tinystories/*.txt."""
    out: Path = Path("andor/embedded")
    """Where the model folders are written."""
    models: tuple[str, ...] = tuple(RECIPES)
    """Which models to train, in this order."""
    seed: int = 0
    row_tokens: int = 256
    """Tokens of one packed row."""
    smoke: bool = False
    """A few steps only, to see that everything runs."""


@dataclasses.dataclass(frozen=True)
class Document:
    """One tokenised text. `words` numbers the maskable unit of each token, -1 where a token is never masked."""

    tokens: np.ndarray
    words: np.ndarray
    weights: np.ndarray


# ---------------------------------------------------------------------------------------------------------- corpus


def read_sst2(path: Path) -> list[tuple[str, int]]:
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [(text.strip(), int(label)) for text, label in rows if text.strip()]


def split_by_parent(phrases: list[tuple[str, int]], share: float, seed: int):
    """Split phrases so that no phrase of one part is a fragment of a sentence of the other.

    A parent is a phrase that is no contiguous run of words of a longer phrase. A phrase with parents on both sides is
    dropped. (Two halves of a sentence whose whole is absent from the corpus count as two parents.)
    """
    parents_of_run: dict[str, list[int]] = {}
    parents: list[str] = []
    for text in sorted({text for text, _ in phrases}, key=lambda text: (-len(text.split()), text)):
        if text not in parents_of_run:
            words = text.split()
            for start in range(len(words)):
                for stop in range(start + 1, len(words) + 1):
                    runs = parents_of_run.setdefault(" ".join(words[start:stop]), [])
                    if not runs or runs[-1] != len(parents):
                        runs.append(len(parents))
            parents.append(text)
    held_out = np.random.default_rng(seed).random(len(parents)) < share
    train, validation = [], []
    for text, label in phrases:
        sides = held_out[parents_of_run[text]]
        if not sides.any():
            train.append((text, label))
        elif sides.all():
            validation.append((text, label))
    return train, validation


def read_stories(folder: Path) -> tuple[list[str], list[str]]:
    text = "\n<|endoftext|>\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    stories = [story.strip() for story in text.split("<|endoftext|>") if story.strip()]
    cut = round(0.9 * len(stories))
    return stories[:cut], stories[cut:]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=[BOS, EOS, MASK, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def document(tokenizer: Tokenizer, text: str, ending: str, ending_weight: float) -> Document:
    """`<s> text ending </s>`; words of `text` can be masked, the last token of `ending` weighs `ending_weight`."""
    encoding = tokenizer.encode(text + ending)
    tokens = np.array([*encoding.ids, tokenizer.token_to_id(EOS)], np.int32)
    word_of_character = np.full(len(text + ending) + 1, -1)
    for word, match in enumerate(WORD.finditer(text)):
        word_of_character[match.start() : match.end()] = word
    words = np.array([word_of_character[start:stop].max(initial=-1) for start, stop in encoding.offsets] + [-1])
    weights = np.ones(len(tokens), np.float32)
    if ending:
        weights[-2] = ending_weight
    return Document(tokens, words, weights)


def sentiment_documents(tokenizer: Tokenizer, phrases: list[tuple[str, int]], label_weight: float) -> list[Document]:
    """Label weights balance the classes, so that a prompt without evidence is neutral."""
    share = np.bincount([label for _, label in phrases], minlength=2) / len(phrases)
    return [
        document(tokenizer, text, TEMPLATE + LABELS[label], label_weight * 0.5 / share[label])
        for text, label in phrases
    ]


def chunks(documents: list[Document], size: int) -> list[Document]:
    """Cut documents longer than `size` into pieces."""
    return [
        Document(doc.tokens[i : i + size], doc.words[i : i + size], doc.weights[i : i + size])
        for doc in documents
        for i in range(0, len(doc.tokens), size)
    ]


# --------------------------------------------------------------------------------------------------------- batches


def mask_words(doc: Document, mask_id: int, masked_documents: float, rng: np.random.Generator) -> np.ndarray:
    """Input tokens of a document: in a masked one, a share of its words drawn from 0 to 0.6 is masked."""
    if rng.random() >= masked_documents:
        return doc.tokens
    chosen = rng.random(doc.words.max(initial=-1) + 2) < 0.6 * rng.random()
    chosen[-1] = False  # words[-1] stands for the tokens that are never masked
    return np.where(chosen[doc.words], mask_id, doc.tokens).astype(np.int32)


def rows(documents: list[Document], size: int, mask_id: int, masked_documents: float, rng: np.random.Generator):
    """Endless packed rows `[5, size]`: inputs, targets, weights, segments, positions. Epochs are cut to whole rows."""
    while True:
        row: list[np.ndarray] = []
        used = 0
        for index in rng.permutation(len(documents)):
            doc = documents[index]
            length = len(doc.tokens) - 1
            if length > size:
                raise ValueError(f"a document of {length + 1} tokens does not fit a row of {size}; raise --row-tokens")
            if used + length > size:
                yield _pad(row, size)
                row, used = [], 0
            if length == 0:  # the end of a story that was cut into pieces
                continue
            inputs = mask_words(doc, mask_id, masked_documents, rng)[:-1]
            segments = np.full(length, len(row) + 1)
            row.append(np.stack([inputs, doc.tokens[1:], doc.weights[1:], segments, np.arange(length)]))
            used += length


def _pad(row: list[np.ndarray], size: int) -> np.ndarray:
    packed = np.concatenate(row, axis=1)
    return np.pad(packed, ((0, 0), (0, size - packed.shape[1])))


def batches(sources):
    """Stack `count` rows of each (rows, count) source: arrays `[5, b, t]`."""
    while True:
        yield np.stack([next(source) for source, count in sources for _ in range(count)], axis=1)


# -------------------------------------------------------------------------------------------------------- training


def architecture(model_type: str) -> tuple[DecoderConfig, dict]:
    """The decoder and its HF `config.json`."""
    qwen2 = model_type == "qwen2"
    config = DecoderConfig(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=384,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        max_positions=256,
        rms_norm_eps=1e-6 if qwen2 else 1e-5,
        rope_theta=1e6 if qwen2 else 1e4,
        rope_scaling=None,
        qkv_bias=qwen2,
        tied_head=True,  # as in Llama 3.2; an untied head of this size learns the training labels by heart
    )
    hf = {
        "architectures": ["Qwen2ForCausalLM" if qwen2 else "LlamaForCausalLM"],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 3,
        "torch_dtype": "float16",
    }
    return config, hf


def hidden_with_dropout(decoder: Decoder, embeddings, positions, segments, key, rate: float):
    """`Decoder.hidden` with dropout on the embeddings and on what each layer adds to the residual stream."""

    def drop(x, index):
        keep = jax.random.bernoulli(jax.random.fold_in(key, index), 1 - rate, x.shape)
        return jnp.where(keep, x / (1 - rate), 0.0)

    x, angles = drop(embeddings, 0), rotation(decoder.config, positions)
    for index, layer in enumerate(decoder.model.layers, start=1):
        after, _ = layer(x, angles, functools.partial(attend_before, segments=segments))
        x = x + drop(after - x, index)
    return decoder.model.norm(x)


def loss_fn(graphdef, state, batch, key, dropout: float):
    """Weighted mean next-token cross-entropy in nats."""
    inputs, targets, weights, segments, positions = batch
    decoder = nnx.merge(graphdef, state)
    hidden = hidden_with_dropout(
        decoder,
        decoder.embed(inputs.astype(jnp.int32)),
        positions.astype(jnp.int32),
        segments.astype(jnp.int32),
        key,
        dropout,
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(decoder.logits(hidden), targets.astype(jnp.int32))
    return jnp.sum(losses * weights) / jnp.sum(weights)


def train(recipe: Recipe, state, graphdef, sources, config: Config, log, monitor):
    """The trained state. `monitor` is called with the state six times on the way, and tells the log how it does."""
    steps = 4 if config.smoke else recipe.steps
    warmup = min(100, steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, recipe.learning_rate, warmup, steps, 0.0 if recipe.decay_to_zero else recipe.learning_rate
    )
    decayed = jax.tree.map(lambda leaf: leaf.ndim > 1, state)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.98, weight_decay=recipe.weight_decay, mask=decayed),
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(state, opt_state, batch, key):
        loss, gradient = jax.value_and_grad(loss_fn, argnums=1)(graphdef, state, batch, key, recipe.dropout)
        updates, opt_state = optimizer.update(gradient, opt_state, state)
        return optax.apply_updates(state, updates), opt_state, loss

    opt_state = optimizer.init(state)
    key = jax.random.key(config.seed)
    losses, start = [], time.perf_counter()
    for index, batch in zip(range(steps), batches(sources), strict=False):
        state, opt_state, loss = step(state, opt_state, batch, jax.random.fold_in(key, index))
        losses.append(loss)
        if (index + 1) % max(1, steps // 24) == 0:
            seconds = time.perf_counter() - start
            recent = float(np.mean(jax.device_get(losses[-100:])))
            left = seconds / (index + 1) * (steps - index - 1)
            log(f"  step {index + 1:5d}/{steps}  loss {recent:.3f}  {seconds:5.0f} s, {left:5.0f} s left")
        if (index + 1) % max(1, steps // 6) == 0:
            log(f"    {monitor(state)}")
    return state


# ------------------------------------------------------------------------------------------------------ evaluation


@functools.partial(jax.jit, static_argnums=0)
def _score(graphdef, state, tokens, read_at):
    """Next-token losses `[b, t - 1]` and log-probabilities `[b, v]` of what follows position `read_at` `[b]`."""
    decoder = nnx.merge(graphdef, state)
    hidden = decoder.hidden(decoder.embed(tokens[:, :-1]))
    losses = optax.softmax_cross_entropy_with_integer_labels(decoder.logits(hidden), tokens[:, 1:])
    last = jnp.take_along_axis(hidden, read_at[:, None, None], axis=1)[:, 0]
    return losses, jax.nn.log_softmax(decoder.logits(last))


def token_losses(graphdef, state, documents: list[Document], size: int):
    """Each document with its next-token losses (nats) and the log-probabilities `[v]` of its last token but one."""
    for start in range(0, len(documents), 32):
        part = documents[start : start + 32]
        tokens = np.zeros((32, size), np.int32)
        for index, doc in enumerate(part):
            tokens[index, : len(doc.tokens)] = doc.tokens
        read_at = np.zeros(32, np.int32)
        read_at[: len(part)] = [max(len(doc.tokens) - 3, 0) for doc in part]
        losses, log_p = jax.device_get(_score(graphdef, state, tokens, read_at))
        for index, doc in enumerate(part):
            yield doc, losses[index, : len(doc.tokens) - 1], log_p[index]


def sentiment_scores(graphdef, state, documents: list[Document], label_ids, mask_id: int) -> dict[str, float]:
    """Accuracy, label cross-entropy (nats, over the whole vocabulary) and mean all-masked log-odds of " positive"."""
    longest = max(len(doc.tokens) for doc in documents)
    scored = list(token_losses(graphdef, state, documents, longest))
    right = [log_p[doc.tokens[-2]] >= log_p[list(label_ids)].max() for doc, _, log_p in scored]
    cross_entropy = [-log_p[doc.tokens[-2]] for doc, _, log_p in scored]
    masked = [dataclasses.replace(doc, tokens=np.where(doc.words >= 0, mask_id, doc.tokens)) for doc in documents]
    positive = np.array([log_p[label_ids[1]] for _, _, log_p in token_losses(graphdef, state, masked, longest)])
    return {
        "accuracy": float(np.mean(right)),
        "cross_entropy": float(np.mean(cross_entropy)),
        "masked_log_odds": float(np.mean(positive - np.log1p(-np.exp(positive)))),
    }


def story_score(graphdef, state, documents: list[Document], size: int) -> float:
    """Nats per token, each document read in pieces of at most `size` tokens."""
    losses = [losses for _, losses, _ in token_losses(graphdef, state, chunks(documents, size), size)]
    return float(np.concatenate(losses).mean())


# --------------------------------------------------------------------------------------------------------- HF format


def save_model(folder: Path, hf: dict, decoder: Decoder, tokenizer: Tokenizer):
    """Write an HF-format directory: float16 weights, config and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf, indent=2) + "\n")
    tensors = hf_tensors(decoder, FAMILIES[hf["model_type"]], np.float16)
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
        "model_max_length": 256,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def stored_state(folder: Path, config: DecoderConfig, recipe: Recipe) -> nnx.State:
    """Weights of a saved model, float32."""
    return nnx.state(load_decoder(folder, config, FAMILIES[recipe.model_type], jnp.float32))


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


def card(name: str, recipe: Recipe, parameters: int, scores: dict, seed: int) -> str:
    start = f"continued from `{recipe.start_from}`, " if recipe.start_from else ""
    decay = "cosine to zero" if recipe.decay_to_zero else "constant"
    phrases = f", one training phrase in {recipe.every}" if recipe.every > 1 else ""
    return CARD.format(
        name=name,
        parameters=parameters,
        family={"llama": "Llama", "qwen2": "Qwen2"}[recipe.model_type],
        training=f"{start}{recipe.steps} AdamW steps of {recipe.sentiment_rows} + {recipe.story_rows} packed rows\n"
        f"  (sentiment + stories){phrases}, learning rate {recipe.learning_rate:g} ({decay}),\n"
        f"  weight decay {recipe.weight_decay:g}, dropout {recipe.dropout:g}, "
        f"label tokens weighted {recipe.label_weight:g}.",
        masking=f"{recipe.masked_documents:.0%} of the documents, with a share of their words drawn from 0 to 60%.",
        numbers="\n".join(f"| {label} | {value} |" for label, value in scores.items()),
        seed=seed,
    )


# ------------------------------------------------------------------------------------------------------------- main


def main(config: Config) -> dict[str, dict]:
    """Train and save the models. Returns their scores by name."""
    started = time.perf_counter()

    def log(text):
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    phrases = read_sst2(config.corpus / "sst2" / "train.tsv")
    train_phrases, validation_phrases = split_by_parent(phrases, share=0.05, seed=config.seed)
    dev_phrases = read_sst2(config.corpus / "sst2" / "dev.tsv")
    train_stories, held_out_stories = read_stories(config.corpus / "tinystories")
    tokenizer = train_tokenizer([text + TEMPLATE + LABELS[label] for text, label in train_phrases] + train_stories)
    label_ids = [tokenizer.encode(label, add_special_tokens=False).ids[-1] for label in LABELS]
    if any(tokenizer.decode([i]) != label for i, label in zip(label_ids, LABELS, strict=True)):
        raise ValueError(f"the labels {LABELS} must be single tokens of the trained tokenizer; give a larger corpus")
    mask_id = tokenizer.token_to_id(MASK)
    validation = sentiment_documents(tokenizer, validation_phrases, 1.0)
    dev = sentiment_documents(tokenizer, dev_phrases, 1.0)
    stories = chunks([document(tokenizer, text, "", 1.0) for text in train_stories], config.row_tokens + 1)
    held_out = [document(tokenizer, text, "", 1.0) for text in held_out_stories]
    log(
        f"{len(phrases)} phrases: {len(train_phrases)} train, {len(validation)} validation; {len(dev)} dev; "
        f"stories: {sum(len(d.tokens) for d in stories)} train tokens, {len(held_out)} held out"
    )

    results = {}
    for name in config.models:
        recipe = RECIPES[name]
        decoder_config, hf = architecture(recipe.model_type)
        graphdef, state = nnx.split(Decoder(decoder_config, rngs=nnx.Rngs(config.seed)))
        if recipe.start_from:
            state = stored_state(config.out / recipe.start_from, decoder_config, recipe)
        sentiment = sentiment_documents(tokenizer, train_phrases[:: recipe.every], recipe.label_weight)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state))
        log(f"{name}: {parameters:,} parameters")
        # Streams are seeded by what they hold, so that one model's numbers do not depend on which others are trained.
        stream = functools.partial(
            rows, size=config.row_tokens, mask_id=mask_id, masked_documents=recipe.masked_documents
        )
        sources = [
            (stream(sentiment, rng=np.random.default_rng([config.seed, 1])), recipe.sentiment_rows),
            (stream(stories, rng=np.random.default_rng([config.seed, 2])), recipe.story_rows),
        ]
        watched = validation[:: len(validation) // 800 or 1]

        def monitor(state, graphdef=graphdef, watched=watched):
            scores = sentiment_scores(graphdef, state, watched, label_ids, mask_id)
            return "validation " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items())

        train_start = time.perf_counter()
        state = train(recipe, state, graphdef, sources, config, log, monitor)
        minutes = (time.perf_counter() - train_start) / 60

        folder = config.out / name
        save_model(folder, hf, nnx.merge(graphdef, state), tokenizer)
        state = stored_state(folder, decoder_config, recipe)  # score what is stored, not what was trained
        train_scores = sentiment_scores(graphdef, state, sentiment[:: len(sentiment) // 2000 or 1], label_ids, mask_id)
        validation_scores = sentiment_scores(graphdef, state, validation, label_ids, mask_id)
        dev_scores = sentiment_scores(graphdef, state, dev, label_ids, mask_id)
        gap = dev_scores["cross_entropy"] - train_scores["cross_entropy"]
        scores = {
            "SST-2 dev accuracy": f"{dev_scores['accuracy']:.3f}",
            "SST-2 dev label cross-entropy (nats)": f"{dev_scores['cross_entropy']:.3f}",
            "validation accuracy": f"{validation_scores['accuracy']:.3f}",
            "validation label cross-entropy (nats)": f"{validation_scores['cross_entropy']:.3f}",
            "train label cross-entropy (nats, 2000 phrases)": f"{train_scores['cross_entropy']:.3f}",
            "train-dev label cross-entropy gap (nats)": f"{gap:.3f}",
            "all-masked log-odds of positive, dev mean": f"{dev_scores['masked_log_odds']:+.3f}",
            "stories (nats per token, held out)": f"{story_score(graphdef, state, held_out, config.row_tokens):.3f}",
            "safetensors (MB)": f"{(folder / 'model.safetensors').stat().st_size / 1e6:.2f}",
        }
        (folder / "README.md").write_text(card(name, recipe, parameters, scores, config.seed))
        log(f"{name}: trained in {minutes:.1f} minutes, saved in {folder}")
        for label, value in scores.items():
            print(f"    {label:50s} {value}", flush=True)
        results[name] = scores
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
