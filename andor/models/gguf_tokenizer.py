"""The tokenizer of a GGUF, made from its metadata with the `tokenizers` library.

transformers has a conversion of its own. It is not used, for two reasons: it needs torch, and it knows no more of a
vocabulary than its merges, so SmolLM's digits are not taken apart, Qwen's text is not normalised, and Llama 3's words
that are in the vocabulary whole are merged all the same.

Merges, splits and flags are those of llama.cpp's `src/llama-vocab.cpp`, where it and the model's own tokenizer.json
agree; Qwen's normal form (NFC), which llama.cpp leaves out, is the tokenizer.json's.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from andor.models.gguf_file import GGUF

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = (
    int(TokenType[name]) for name in ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED")
)  # numbers: members of an enumeration are slow to compare, and there are 262,144 tokens

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space."""


@dataclasses.dataclass(frozen=True)
class Splits:
    """How a byte-level tokenizer takes a text apart before it merges (`tokenizer.ggml.pre`).

    Attributes:
      regex: of the parts; None for GPT-2's, which is in `tokenizers`.
      digits: whether every digit is a part before that.
      nfc: whether the text is brought into Unicode's composed normal form first.
      ignore_merges: whether a part that is a token stays whole.
      add_bos: whether a text begins with BOS, if the file does not say.
    """

    regex: str | None = None
    digits: bool = False
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False


def _words(digits: str) -> str:
    return (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


LLAMA3 = Splits(_words(r"\p{N}{1,3}"), ignore_merges=True, add_bos=True)
TEKKEN = Splits(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ignore_merges=True,
    add_bos=True,
)
SPLITS = {
    "gpt-2": Splits(),
    "smollm": Splits(digits=True),
    "qwen2": Splits(_words(r"\p{N}"), nfc=True),
    "deepseek-r1-qwen": Splits(_words(r"\p{N}"), nfc=True),  # a distilled Qwen2.5, split as Qwen2
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "tekken": TEKKEN,
}

SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "mask_token": "mask_token_id",
}
"""Special tokens: their name in transformers, and behind "tokenizer.ggml."."""


def tokenizer_hash(gguf: GGUF) -> str:
    """sha256 over the metadata that decide how text becomes tokens (hex)."""
    deciding = {key: value for key, value in gguf.metadata.items() if key.startswith("tokenizer.")}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=np.ndarray.tolist).encode()).hexdigest()


def read_tokenizer(gguf: GGUF) -> "PreTrainedTokenizerFast":
    """The HF fast tokenizer of a GGUF.

    Raises:
      ValueError: there is none, it is of a kind that is not known here, or its metadata contradict each other.
    """
    from transformers import PreTrainedTokenizerFast

    path, prefix = gguf.files[0], "tokenizer.ggml."
    said = {key.removeprefix(prefix): value for key, value in gguf.metadata.items() if key.startswith(prefix)}
    try:
        _check(said)
        makers = {"gpt2": _byte_level, "llama": _sentencepiece}
        kind = said.get("model")
        if kind not in makers:
            raise ValueError(f"its model {str(kind)[:60]!r} is not implemented; andor reads {', '.join(makers)}")
        tokenizer, add_bos = makers[kind](said)
    except ValueError as error:
        raise ValueError(f"no tokenizer could be read from {path}: {error}. Choose another file.") from error
    tokens, kinds = said["tokens"], said["token_type"]
    special = {name: tokens[said[key]] for name, key in SPECIAL.items() if key in said}
    # llama.cpp matches both in the text before anything else.
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind in (CONTROL, UNKNOWN)]
    tokenizer.add_special_tokens(
        [AddedToken(each, normalized=False) for each in dict.fromkeys([*special.values(), *control])]
    )
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False) for token, kind in zip(tokens, kinds, strict=True) if kind == USER_DEFINED]
    )
    around = {
        "bos_token": said.get("add_bos_token", add_bos),
        "eos_token": said.get("add_eos_token", False),
    }
    added = {name: special[name] for name, there in around.items() if there and name in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*([added["bos_token"]] if "bos_token" in added else []), "$A"]
        + ([added["eos_token"]] if "eos_token" in added else []),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in set(added.values())],
    )
    template = gguf.metadata.get("tokenizer.chat_template")
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **{name: special.get(name) for name in SPECIAL},
        **({"chat_template": template} if template else {}),
    )
    made.name_or_path = str(path)  # transformers looks for a config.json there if it is told before
    return made


def _check(said: dict) -> None:
    """Refuse metadata that do not make a vocabulary; completes the kinds of tokens. Raises ValueError."""
    tokens = said.get("tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(each, str) for each in tokens):
        raise ValueError("it has no tokenizer.ggml.tokens")
    said.setdefault("token_type", np.full(len(tokens), NORMAL))
    for key in ("token_type", "scores"):
        if key in said and np.shape(said[key]) != (len(tokens),):
            raise ValueError(f"it has {len(tokens)} tokens, and a tokenizer.ggml.{key} for {np.size(said[key])}")
    for key in SPECIAL.values():
        if key in said and not (isinstance(said[key], int) and 0 <= said[key] < len(tokens)):
            raise ValueError(f"tokenizer.ggml.{key} is {str(said[key])[:20]}, and it has {len(tokens)} tokens")
    said["token_type"] = said["token_type"].tolist()


def _byte_level(said: Mapping) -> tuple[Tokenizer, bool]:
    """(byte-level BPE, whether it begins with BOS if the file does not say)."""
    name = said.get("pre")
    if name not in SPLITS:
        raise ValueError(f"its pre-tokenizer {str(name)[:60]!r} is not implemented; andor reads {', '.join(SPLITS)}")
    splits = SPLITS[name]
    # What pads a vocabulary to the size of the embeddings is no token of the model's own tokenizer.
    vocabulary = {
        token: index
        for index, (token, kind) in enumerate(zip(said["tokens"], said["token_type"], strict=True))
        if kind != UNUSED
    }
    merges = [tuple(merge.split(" ")) for merge in said.get("merges", [])]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise ValueError("it has no tokenizer.ggml.merges of two parts each")
    try:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=splits.ignore_merges))
    except Exception as error:  # the library has no class of its own: a merge of what is no token
        raise ValueError(f"its merges do not fit its tokens: {error}") from error
    if splits.nfc:
        tokenizer.normalizer = normalizers.NFC()
    regex = [pre_tokenizers.Split(Regex(splits.regex), "isolated")] if splits.regex else []
    digits = [pre_tokenizers.Digits(individual_digits=True)] if splits.digits else []
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits.regex is None)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, *regex, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, splits.add_bos


def _sentencepiece(said: Mapping) -> tuple[Tokenizer, bool]:
    """(SentencePiece's BPE with bytes for unknown characters, True)."""
    tokens, kinds, scores = said["tokens"], said["token_type"], said.get("scores")
    if scores is None or "unknown_token_id" not in said:
        raise ValueError("it lacks tokenizer.ggml.scores or tokenizer.ggml.unknown_token_id")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # The file has no merges. SentencePiece merges what makes the token of the highest score, so every way to make a
    # token is a merge of its score's rank.
    mergeable = {t for t, kind in zip(tokens, kinds, strict=True) if kind in (NORMAL, UNUSED)}
    merges = []
    for rank in np.argsort(-scores, kind="stable"):
        token = tokens[rank]
        if token in mergeable:
            parts = [(token[:at], token[at:]) for at in range(1, len(token))]
            found = [pair for pair in parts if pair[0] in mergeable and pair[1] in mergeable]
            merges += sorted(found, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    unknown = tokens[said["unknown_token_id"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = said.get("add_space_prefix", True)
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer, True
