"""What becomes of a masked word: a token or an embedding stands in its place, words of a corpus do, or nothing.

`read_mask` reads the one spelling that all commands and functions share (`baseline=...`, `--baseline`) under a
tokenizer, and gives a `Mask`, which tokenised prompts, evaluations, content keys and tables share.
"""

import functools
import hashlib
import os
import re
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int32

from andor.prompts.jsonl import DEFAULT_PROMPTS, read_prompts

Kind = Literal["token", "mean", "zero", "delete", "attention", "resample"]
"""token: one token for each token of the word. mean, zero: the mean of all input embeddings, and the embedding 0, for
each. delete: the tokens are not there, and those behind move up. attention: positions stay as they are, and nobody
attends to the tokens. resample: as many tokens of words drawn from a corpus, and v is the mean over draws."""

NO_TOKEN = -1
"""`Mask.token_id` of a mask that is no token."""

DRAWS = 8
"""Draws of words that v is averaged over, unless said otherwise."""

_SPELLINGS = "auto, mean, zero, delete, attention, resample[:FILE[:DRAWS[:SEED]]], or a token (or token:TOKEN)"
_WHY = "its mask token"
_WHY_ELSE = "its {} token, as it has no mask token; `andor masks MODEL` measures other masks"
_RESAMPLE = re.compile(r"resample(?::(?P<file>.*?))?(?::(?P<draws>\d+)(?::(?P<seed>\d+))?)?", re.DOTALL)
_TRIES = 10_000  # words drawn for one place before none is taken to fit


@dataclass(frozen=True, repr=False)
class Corpus:
    """Words to draw from, as often as they occur, and the sha256 of the text that they are of (hex)."""

    words: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Mask:
    """What becomes of the tokens of a masked word, under one tokenizer.

    Attributes:
      kind: see `Kind`.
      token_id: of the token; `NO_TOKEN` for other kinds.
      token: as the vocabulary writes it.
      corpus, draws, seed: of words that are drawn; draws is 1 for other kinds.
      why: what "auto" chose it for; "" where it was named.
    """

    kind: Kind
    token_id: int = NO_TOKEN
    token: str = ""
    corpus: Corpus | None = None
    draws: int = 1
    seed: int = 0
    why: str = field(default="", compare=False)

    @property
    def leaves_out(self) -> bool:
        """Whether masked tokens are read by nobody, and need no evaluation."""
        return self.kind in ("delete", "attention")

    @property
    def name(self) -> str:
        """For tables and records: equal names under one tokenizer mask equally."""
        if self.kind == "resample":
            times = f"{self.draws} draw{'s' * (self.draws > 1)}"
            return f"words drawn from corpus {self.corpus.digest[:12]} ({times}, seed {self.seed})"
        embedding = f"{self.kind} embedding"
        names = {"token": self.token, "delete": "nothing (deleted)", "attention": "nothing (no attention)"}
        return names.get(self.kind, embedding)

    @property
    def told(self) -> str:
        """The name, and why "auto" chose it."""
        return f"{self.name} ({self.why})" if self.why else self.name

    @property
    def key(self) -> object:
        """All that decides what stands there, in JSON's types, for content keys."""
        if self.kind == "resample":
            return {"corpus": self.corpus.digest, "draws": self.draws, "seed": self.seed}
        return self.token_id if self.kind == "token" else self.name


def read_mask(baseline: str, tokenizer) -> Mask:
    """The mask that a spelling asks for under a tokenizer.

    Args:
      baseline: "auto" (the tokenizer's mask, else unk, else pad, else eos token), "mean", "zero", "delete",
        "attention", "resample" (words of the prompts that ship with the package), "resample:FILE" (words of a text
        file, in UTF-8), either with ":DRAWS" or ":DRAWS:SEED" behind it; or a token of the vocabulary as it stands
        there ("<unk>", "Ġthe"). A token whose text is one of these words is written "token:mean".
      tokenizer: Hugging Face fast tokenizer.

    Raises:
      ValueError: the tokenizer has no token to mask with, or no such token; or the corpus has no words.
      OSError: the corpus cannot be read.
    """
    if baseline == "auto":
        role, token_id = _own_token(tokenizer)
        return replace(_of_token(tokenizer, token_id), why=_WHY if role == "mask" else _WHY_ELSE.format(role))
    if baseline in ("mean", "zero", "delete", "attention"):
        return Mask(baseline)
    asked = _RESAMPLE.fullmatch(baseline)
    if asked:
        draws = int(asked["draws"] or DRAWS)
        if draws < 1:
            raise ValueError(f"baseline={baseline!r} must ask for at least one draw; got {draws}.")
        return Mask("resample", corpus=_corpus(asked["file"]), draws=draws, seed=int(asked["seed"] or 0))
    token, vocabulary = baseline.removeprefix("token:"), tokenizer.get_vocab()
    if token not in vocabulary:
        raise ValueError(
            f"baseline={baseline!r} must be {_SPELLINGS} of {tokenizer.name_or_path!r} as its vocabulary writes it; it "
            "has no such token."
        )
    return _of_token(tokenizer, int(vocabulary[token]))


def baseline_id(tokenizer) -> int:
    """Id of the token that replaces a masked word: the tokenizer's mask, else unk, else pad, else eos token."""
    return _own_token(tokenizer)[1]


def _own_token(tokenizer) -> tuple[str, int]:
    """(role, id) of the token that `baseline_id` gives."""
    for role in ("mask", "unk", "pad", "eos"):
        token_id = getattr(tokenizer, f"{role}_token_id", None)
        if token_id is not None:
            return role, int(token_id)
    raise ValueError(
        "baseline_id(tokenizer=...) must have a mask, unk, pad or eos token to mask words with; got none of them. "
        "Set one, for example tokenizer.pad_token = '<pad>' for a token of its vocabulary."
    )


def _of_token(tokenizer, token_id: int) -> Mask:
    return Mask("token", token_id, tokenizer.convert_ids_to_tokens(token_id))


def _corpus(file: str | None) -> Corpus:
    found = os.stat(file or DEFAULT_PROMPTS)
    return _read_corpus(file or "", found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=4)
def _read_corpus(file: str, changed: int, size: int) -> Corpus:
    del changed, size  # only so that a file that has changed is read again
    if not file:
        return _words("\n".join(prompt.text for prompt in read_prompts(DEFAULT_PROMPTS)), file)
    try:
        return _words(Path(file).read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise ValueError(f"baseline='resample:{file}' must name a text file in UTF-8; {error}.") from error


def _words(text: str, file: str) -> Corpus:
    words = tuple(text.split())
    if not words:
        raise ValueError(f"baseline='resample:{file}' must name a text with words; it has none.")
    return Corpus(words, hashlib.sha256(text.encode()).hexdigest())


def draw_tokens(
    mask: Mask, text: str, tokens: Int32[np.ndarray, "t"], player_of_token: Int32[np.ndarray, "t"], encode
) -> Int32[np.ndarray, "draws t"]:
    """Tokens of words drawn from a corpus in the place of every player: as many as the player has.

    Words are drawn one after the other, as often as they occur in the corpus, until the tokens are filled; a word with
    more tokens than are left is drawn again. Draws depend on the seed and the text, and not on other prompts.

    Args:
      mask: of kind "resample".
      text: of the prompt.
      tokens, player_of_token: of the prompt. Background stays as it is.
      encode: encode(text) -> token ids of a text behind other text.

    Raises:
      ValueError: no word of the corpus is as short as a place.
    """
    rng = np.random.default_rng([mask.seed, zlib.crc32(text.encode())])
    words, encode = mask.corpus.words, functools.lru_cache(maxsize=None)(encode)
    drawn = np.tile(tokens, (mask.draws, 1))
    for row in drawn:
        for player in range(player_of_token.max(initial=-1) + 1):
            places, ids = np.flatnonzero(player_of_token == player), []
            for _ in range(_TRIES):
                if len(ids) == len(places):
                    break
                before = " " if places[0] > 0 or ids else ""
                found = encode(before + words[rng.integers(len(words))])
                ids += found if len(ids) + len(found) <= len(places) else []
            else:
                raise ValueError(
                    f"baseline='resample:...' draws words of {len(places)} tokens or fewer, and found none among "
                    f"{len(words)} words of its corpus. Give a corpus with short words."
                )
            row[places] = ids
    return drawn
