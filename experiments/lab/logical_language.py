"""A small language whose label follows known AND and OR rules, and a language model trained on it.

A sentence is a row of made-up words and a colon; then comes the label, " yes" or " no". The log-odds of " yes" are the
sum of the strengths of the rules that hold: an AND rule when all its words are in the sentence, an OR rule when any of
them is. A masked word is not in the sentence. So the AND and OR effects of every sentence are known, and no sentence
has others.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Int
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from andor import Prompt
from andor.core.games import Rules, random_rules
from andor.models import LanguageModel
from andor.models.decoder import Decoder, DecoderConfig, Rope
from experiments.lab.training import explainable

SPECIAL = ("<s>", "</s>", "<mask>", "<pad>", ":", "no", "yes")
_BOS, _MASK, _COLON, _NO, _YES = 0, 2, 4, 5, 6


@dataclasses.dataclass(frozen=True)
class Language:
    """Made-up words and their rules. `Language(seed=1)` is another language.

    Attributes:
      n_words: size of the vocabulary.
      sentence_words: different words in a sentence, in random order.
      and_orders, or_orders: number of words of each rule.
    """

    seed: int = 0
    n_words: int = 14
    sentence_words: int = 8
    and_orders: tuple[int, ...] = (1, 1, 1, 2, 2, 2, 2, 3, 3, 3)
    or_orders: tuple[int, ...] = (2, 2, 3, 3, 4, 4)

    @functools.cached_property
    def rules(self) -> Rules:
        return random_rules(self.n_words, self.and_orders, self.or_orders, np.random.default_rng([self.seed, 1]))

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
        pairs = np.random.default_rng([self.seed, 2]).permutation(len(syllables))[: 2 * self.n_words].reshape(-1, 2)
        return tuple(syllables[first] + syllables[second] for first, second in pairs)

    def sentences(self, count: int, rng: np.random.Generator) -> Int[np.ndarray, "count sentence"]:
        """Random sentences, as word numbers."""
        return rng.random((count, self.n_words)).argsort(axis=1)[:, : self.sentence_words]

    def prompt(self, sentence: Int[np.ndarray, "sentence"]) -> Prompt:
        """The sentence with every word a player and " yes" as the target."""
        words = [self.words[i] for i in sentence]
        return Prompt(" ".join([*words, ":"]), players=words, target="yes")

    def tokenizer(self) -> Tokenizer:
        """One token per word."""
        vocabulary = {token: i for i, token in enumerate([*SPECIAL, *self.words])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", _BOS)])
        return tokenizer


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model of the language is trained: AdamW, warm-up and cosine decay to zero."""

    steps: int = 2000
    batch: int = 128
    learning_rate: float = 3e-3
    hidden_size: int = 64
    layers: int = 2


def _batch(language: Language, recipe: Recipe, rng: np.random.Generator):
    """Tokens `[b, t]` and probabilities of " yes" `[b]`. A share of the words, from none to all, is masked; the
    probability is that of the rules of the words that are left."""
    sentences = language.sentences(recipe.batch, rng)
    kept = rng.random(sentences.shape) >= rng.random((recipe.batch, 1))
    present = np.zeros((recipe.batch, language.n_words), bool)
    np.put_along_axis(present, sentences, kept, axis=1)
    probability = 1 / (1 + np.exp(-language.rules.log_odds(present)))
    words = np.where(kept, sentences + len(SPECIAL), _MASK)
    ends = np.tile([[_BOS, _COLON]], (recipe.batch, 1))
    tokens = np.concatenate([ends[:, :1], words, ends[:, 1:]], axis=1).astype(np.int32)
    return tokens, probability.astype(np.float32)


def train(language: Language, recipe: Recipe, checkpoints: tuple[int, ...]) -> Iterator[tuple[int, LanguageModel]]:
    """(step, the model) at each of these steps, ascending, the last one recipe.steps.

    Only the label is scored, since the words are random; the loss is the mean over draws of the label, that is, the
    cross-entropy with its probability. float32, deterministic given language and recipe.
    """
    config = DecoderConfig(
        vocab_size=len(SPECIAL) + language.n_words,
        hidden_size=recipe.hidden_size,
        intermediate_size=3 * recipe.hidden_size,
        num_layers=recipe.layers,
        num_heads=4,
        num_kv_heads=2,
        head_dim=recipe.hidden_size // 4,
        max_positions=64,
        rms_norm_eps=1e-5,
        rope=Rope(1e4, None),
        sliding=None,
        query_scalar=recipe.hidden_size / 4,
        tied_head=False,
    )
    graphdef, state = nnx.split(Decoder(config, rngs=nnx.Rngs(language.seed)))
    schedule = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, min(100, recipe.steps // 2), recipe.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=1e-2))

    def loss(state, tokens, yes):
        decoder = nnx.merge(graphdef, state)
        log_p = jax.nn.log_softmax(decoder.logits(decoder.hidden(decoder.embed(tokens))[:, -1]))
        return -jnp.mean(yes * log_p[:, _YES] + (1 - yes) * log_p[:, _NO])

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(state, opt_state, tokens, yes):
        updates, opt_state = optimizer.update(jax.grad(loss)(state, tokens, yes), opt_state, state)
        return optax.apply_updates(state, updates), opt_state

    opt_state, rng = optimizer.init(state), np.random.default_rng([language.seed, 3])
    for index in range(1, recipe.steps + 1):
        state, opt_state = step(state, opt_state, *_batch(language, recipe, rng))
        if index in checkpoints:
            name = f"logical-language-{language.seed}-step-{index}"
            decoder = nnx.merge(graphdef, jax.tree.map(jnp.copy, state))
            fingerprint = f"{language} {recipe} step {index}"
            yield index, explainable(name, "llama", decoder, language.tokenizer(), fingerprint)
