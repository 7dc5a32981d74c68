"""From texts on disk to tokenised documents: SST-2 phrases with their sentiment, TinyStories, any text with an ending.

`lab.training` trains on the documents made here. A sentiment document reads "<phrase>\\nsentiment: positive";
every text gets a byte-level BPE tokenizer of its own corpus with a `<mask>` token.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS, EOS, MASK, PAD = "<s>", "</s>", "<mask>", "<pad>"
LABELS = (" negative", " positive")
TEMPLATE = "\nsentiment:"
WORD = re.compile(r"\w+|[^\w\s]+")

Phrase = tuple[str, int]
"""A text and its label: 0 negative, 1 positive."""


@dataclass(frozen=True, eq=False)
class Document:
    """One tokenised text.

    Attributes:
      tokens: int32 `[t]`, from `<s>` to `</s>`.
      words: `[t]`, the number of the maskable unit of each token, -1 where a token is never masked.
      weights: float32 `[t]`, weight of each token's loss when it is predicted.
    """

    tokens: Int[np.ndarray, "t"]
    words: Int[np.ndarray, "t"]
    weights: Float[np.ndarray, "t"]


@dataclass(frozen=True, eq=False)
class Corpus:
    """SST-2 and TinyStories as read from one folder.

    Attributes:
      train, validation: phrases of the SST-2 training set; no validation phrase shares a parent sentence with `train`.
      dev: the sentences of the SST-2 dev file, never used for a choice.
      stories, held_out_stories: the first 90% and the last 10% of the stories.
    """

    train: list[Phrase]
    validation: list[Phrase]
    dev: list[Phrase]
    stories: list[str]
    held_out_stories: list[str]


def require(folder: Path | None, stories: bool = False) -> Path:
    """The folder, when it holds sst2/train.tsv and sst2/dev.tsv, and tinystories/*.txt where stories are wanted.

    Raises:
      ValueError: it was not given, or says what is missing in it.
    """
    wanted = ["sst2/train.tsv", "sst2/dev.tsv", *(["tinystories/*.txt"] if stories else [])]
    if folder is None:
        raise ValueError(f"this trains models on text: give --corpus DATA, a folder with {', '.join(wanted)}.")
    missing = [each for each in wanted if not list(folder.glob(each))]
    if missing:
        raise ValueError(f"--corpus {folder} must be a folder with {', '.join(wanted)}; missing: {', '.join(missing)}.")
    return folder


def read_corpus(folder: Path, seed: int) -> Corpus:
    """Read sst2/train.tsv, sst2/dev.tsv and tinystories/*.txt; 5% of the parent sentences are held out by `seed`."""
    train, validation = split_by_parent(read_sst2(folder / "sst2" / "train.tsv"), share=0.05, seed=seed)
    stories, held_out_stories = read_stories(folder / "tinystories")
    return Corpus(train, validation, read_sst2(folder / "sst2" / "dev.tsv"), stories, held_out_stories)


def read_sst2(path: Path) -> list[Phrase]:
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [(text.strip(), int(label)) for text, label in rows if text.strip()]


def parents(phrases: list[Phrase]) -> tuple[dict[str, list[int]], int]:
    """Numbers of the parent sentences of every run of words, and how many parents there are.

    A parent is a phrase that is no contiguous run of words of a longer phrase. (Two halves of a sentence whose whole is
    absent from the corpus count as two parents.)
    """
    parents_of_run: dict[str, list[int]] = {}
    count = 0
    for text in sorted({text for text, _ in phrases}, key=lambda text: (-len(text.split()), text)):
        if text not in parents_of_run:
            words = text.split()
            for start in range(len(words)):
                for stop in range(start + 1, len(words) + 1):
                    runs = parents_of_run.setdefault(" ".join(words[start:stop]), [])
                    if not runs or runs[-1] != count:
                        runs.append(count)
            count += 1
    return parents_of_run, count


def split_by_parent(phrases: list[Phrase], share: float, seed: int) -> tuple[list[Phrase], list[Phrase]]:
    """Split phrases so that no phrase of one part is a fragment of a sentence of the other.

    The second part has `share` of the parents. A phrase with parents on both sides is dropped.
    """
    parents_of_run, count = parents(phrases)
    held_out = np.random.default_rng(seed).random(count) < share
    train, validation = [], []
    for text, label in phrases:
        sides = held_out[parents_of_run[text]]
        if not sides.any():
            train.append((text, label))
        elif sides.all():
            validation.append((text, label))
    return train, validation


def folds_by_parent(phrases: list[Phrase], folds: int, seed: int) -> list[list[Phrase]]:
    """Disjoint parts of nearly equal size; a phrase with parents in several parts is dropped."""
    parents_of_run, count = parents(phrases)
    fold = np.random.default_rng(seed).permutation(count) % folds
    parts: list[list[Phrase]] = [[] for _ in range(folds)]
    for text, label in phrases:
        sides = np.unique(fold[parents_of_run[text]])
        if sides.size == 1:
            parts[sides[0]].append((text, label))
    return parts


def choose(phrases: list[Phrase], fraction: float, label_noise: float, seed: int) -> list[Phrase]:
    """A random `fraction` of the phrases, of which a share `label_noise` gets the other label."""
    rng = np.random.default_rng([seed, 3])
    chosen = np.sort(rng.permutation(len(phrases))[: max(1, round(fraction * len(phrases)))])
    flipped = rng.random(chosen.size) < label_noise
    return [(phrases[i][0], phrases[i][1] ^ int(flip)) for i, flip in zip(chosen, flipped, strict=True)]


def read_stories(folder: Path) -> tuple[list[str], list[str]]:
    text = "\n<|endoftext|>\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    stories = [story.strip() for story in text.split("<|endoftext|>") if story.strip()]
    cut = round(0.9 * len(stories))
    return stories[:cut], stories[cut:]


def sentiment_tokenizer(phrases: list[Phrase], vocab_size: int, stories: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer of these phrases with their labels, and of these stories."""
    return train_tokenizer([*(text + TEMPLATE + LABELS[label] for text, label in phrases), *stories], vocab_size)


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens that puts `<s>` before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, MASK, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer with the names of its special tokens, as `andor` takes it."""
    names = {"bos_token": BOS, "eos_token": EOS, "mask_token": MASK, "pad_token": PAD}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def label_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """Tokens of " negative" and " positive". Raises ValueError where one is more than a token."""
    ids = tuple(tokenizer.encode(label, add_special_tokens=False).ids[-1] for label in LABELS)
    if any(tokenizer.decode([i]) != label for i, label in zip(ids, LABELS, strict=True)):
        raise ValueError(f"the labels {LABELS} must be single tokens of the trained tokenizer; give a larger corpus")
    return ids


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


def sentiment_documents(tokenizer: Tokenizer, phrases: list[Phrase], label_weight: float) -> list[Document]:
    """Label weights balance the classes, so that a prompt without evidence is neutral."""
    share = np.bincount([label for _, label in phrases], minlength=2) / len(phrases)
    return [
        document(tokenizer, text, TEMPLATE + LABELS[label], label_weight * 0.5 / share[label])
        for text, label in phrases
    ]


def story_documents(tokenizer: Tokenizer, stories: Sequence[str], size: int | None = None) -> list[Document]:
    """Stories without an ending, cut into pieces of `size` tokens, if given."""
    found = [document(tokenizer, text, "", 1.0) for text in stories]
    return found if size is None else chunks(found, size)


def chunks(documents: list[Document], size: int) -> list[Document]:
    """Cut documents longer than `size` into pieces."""
    return [
        Document(doc.tokens[i : i + size], doc.words[i : i + size], doc.weights[i : i + size])
        for doc in documents
        for i in range(0, len(doc.tokens), size)
    ]
