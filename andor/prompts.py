"""A text, its players, its target; and what they become under one model's tokenizer.

Players are character spans of the text, so that models with different tokenizers share them. A tokenizer then maps
them to tokens by offsets: a token with any character of a player belongs to that player, every other token is
background and is never masked. A masked player keeps its positions: each of its tokens is replaced by one baseline
token (`baseline_id`), or by an embedding that is no token's.

NumPy only: importing this module imports neither jax nor transformers. Tokenizers are Hugging Face fast tokenizers.
"""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from andor.players import player_spans, short

DEFAULT_PROMPTS = Path(__file__).parent / "embedded" / "prompts.jsonl"
_FIELDS = ("id", "text", "players", "target", "next_word", "chat")

EMBEDDING_BASELINES = ("mean", "zero")
"""Baselines that are no token: the mean of all input embeddings, and the embedding 0."""

NO_TOKEN = -1
"""`TokenizedPrompt.baseline_id` of such a baseline."""

_PLACE = "\N{SYMBOL FOR UNIT SEPARATOR}text\N{SYMBOL FOR UNIT SEPARATOR}"
# Scripts written without spaces between words, by the beginning of their characters' Unicode names.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass(frozen=True)
class Prompt:
    """A text whose players are masked in all 2**n_players ways, and the target text that is scored after it.

    Attributes:
      text: kept as given, character by character.
      players: given as strings in order of appearance, as `(start, stop)` character spans in any order, or None;
        always a tuple of spans in text order afterwards. A string is its first occurrence after the player before it,
        so a repeated word is its next occurrence; whole words come before parts of words. None: the last 10 content
        words, those nearest the target (every word not in `STOP_WORDS`; negations and contrasts are content words; a
        last word followed by a colon is an answer label, "sentiment:", and stays background).
      target: text to explain, or None for the model's own prediction. See `continuation` for the space before it.
      id: name of the prompt in a run, usable as a file name; None for a prompt that stands alone.
      chat: whether the text is a user's message, to be wrapped with each model's own chat template. What the template
        adds is background, and the target is the beginning of the answer, taken exactly.

    Raises:
      ValueError: a text, target or id that is no string, or a chat that is no bool; empty text, player or target; a
        player not in the text after the one before it; overlapping spans or spans outside the text; no player, or more
        than `MAX_PLAYERS`; an id that is no file name.
    """

    text: str
    players: Sequence | None = None
    target: str | None = None
    id: str | None = None
    chat: bool = False

    def __post_init__(self):
        for name in ("text", "target", "id"):
            given = getattr(self, name)
            if not isinstance(given, str) and (given is not None or name == "text"):
                raise ValueError(f"Prompt({name}=...) must be a string; got {short(given)}.")
        if not self.text.strip():
            raise ValueError(
                f"Prompt(text=...) must hold some text; got {short(self.text)}. Give the words to explain."
            )
        _check_unicode("text", self.text)
        if self.target is not None:
            if not self.target:
                raise ValueError(
                    "Prompt(target=...) must hold some text; got ''. "
                    "Leave the target out to explain the model's own prediction."
                )
            _check_unicode("target", self.target)
        if self.id is not None:
            _check_id(self.id)
        if not isinstance(self.chat, bool):
            raise ValueError(f"Prompt(chat=...) must be true or false; got {short(self.chat)}.")
        object.__setattr__(self, "players", player_spans(self.text, self.players))

    @property
    def continuation(self) -> str | None:
        """The exact text of the target as it follows the prompt, if there is a target."""
        return self.target if self.target is None or self.chat else continuation(self.text, self.target)

    @property
    def words(self) -> tuple[str, ...]:
        """The text of each player."""
        return tuple(self.text[start:stop] for start, stop in self.players)

    @property
    def n_players(self) -> int:
        return len(self.players)


@dataclass(frozen=True, eq=False)
class TokenizedPrompt:
    """A prompt under one tokenizer.

    Attributes:
      token_ids: the whole prompt, with what the tokenizer (BOS) or the chat template put around it. int32 `[t]`.
      player_of_token: player of each token, -1 for background. int32 `[t]`.
      target_ids: the target as the continuation of the prompt; empty while no target is known. int32 `[k]`.
      baseline_id: token that replaces every token of a masked player; `NO_TOKEN` for an embedding.
    """

    token_ids: Int32[np.ndarray, "t"]
    player_of_token: Int32[np.ndarray, "t"]
    target_ids: Int32[np.ndarray, "k"]
    baseline_id: int

    def read(self) -> tuple[Int32[np.ndarray, "t"], Int32[np.ndarray, "t"]]:
        """(token ids, player of each) of what a model reads: the prompt, and the target but for its last token."""
        background = np.full(max(len(self.target_ids) - 1, 0), -1, np.int32)
        token_ids = np.concatenate([self.token_ids, self.target_ids[:-1]])
        return token_ids, np.concatenate([self.player_of_token, background])


@dataclass(frozen=True)
class PlayerRow:
    """One player, as each model sees it: a row of the table shown before anything is evaluated.

    Attributes:
      word: text of the player.
      span: its characters, `(start, stop)`.
      token_ids: model name -> ids of its tokens.
      replaced_by: model name -> the baseline token, as text, or the name of an embedding.
    """

    word: str
    span: tuple[int, int]
    token_ids: Mapping[str, tuple[int, ...]]
    replaced_by: Mapping[str, str]


def player_table(prompt: Prompt, tokenizers: Mapping[str, object], baseline: str = "auto") -> list[PlayerRow]:
    """What masking each player does in each model: `tokenizers` maps a model's name to its tokenizer."""
    tokenized = {name: tokenize(prompt, tokenizer, baseline=baseline) for name, tokenizer in tokenizers.items()}
    baselines = {name: baseline_name(tokenizer, baseline) for name, tokenizer in tokenizers.items()}
    return [
        PlayerRow(
            word=word,
            span=span,
            token_ids={
                name: tuple(each.token_ids[each.player_of_token == player].tolist()) for name, each in tokenized.items()
            },
            replaced_by=baselines,
        )
        for player, (word, span) in enumerate(zip(prompt.words, prompt.players, strict=True))
    ]


def tokenize(prompt: Prompt, tokenizer, target: str | None = None, *, baseline: str = "auto") -> TokenizedPrompt:
    """Map a prompt's players to a model's tokens, by character offsets.

    Byte-level pieces inside one character all belong to that character's player; a token that holds characters of a
    player and of the background (a leading space, a merge over the word's border) belongs to the player. What the
    tokenizer adds before the text (BOS) is background; what it adds after it (EOS) is left out, since the target comes
    next.

    Args:
      prompt: text and players; its target, when it has one, is placed by `Prompt.continuation`.
      tokenizer: Hugging Face fast tokenizer.
      target: exact text that follows the prompt, leading space included (" Lily", "ing", "!"), as a model predicts it.
        Overrides the prompt's target.
      baseline: what replaces masked tokens: "auto" (`baseline_id`), "mean" or "zero" (embeddings), or a token of the
        vocabulary, as it stands there ("<unk>", "Ġthe").

    Returns:
      The tokens, their players and the target's tokens. The target is tokenised together with the text; when the two
      would merge into one token ("play" + "ing") it is tokenised by itself, so that the prompt's tokens never change.

    Raises:
      ValueError: a token shared by two players, a player without tokens, an empty target, a slow tokenizer, a
        tokenizer with no token to mask with or no such token, or, for a chat, without a template that keeps the text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"tokenize(tokenizer=...) must be a Hugging Face fast tokenizer, which knows character offsets; "
            f"got {type(tokenizer).__name__}. Load it from a directory with a tokenizer.json."
        )
    before, after = chat_template(tokenizer, prompt.text) if prompt.chat else ("", "")
    text = before + prompt.text + after
    token_ids, offsets = _encode(tokenizer, text, whole=prompt.chat)
    offsets = [(start - len(before), stop - len(before)) for start, stop in offsets]
    player_of_token = _players_of_tokens(prompt, tokenizer, token_ids, offsets)
    target = prompt.continuation if target is None else target
    target_ids = [] if target is None else _target_ids(tokenizer, text, token_ids, target, whole=prompt.chat)
    return TokenizedPrompt(
        token_ids=np.asarray(token_ids, np.int32),
        player_of_token=player_of_token,
        target_ids=np.asarray(target_ids, np.int32),
        baseline_id=_baseline(tokenizer, baseline),
    )


def chat_template(tokenizer, text: str) -> tuple[str, str]:
    """What a tokenizer's chat template puts before and after a user's message, up to where the answer begins.

    A template that opens the model's thoughts ("<think>", DeepSeek-R1 and its distillations) is closed again, so that
    the target is the beginning of the answer and not of the thoughts.

    Raises:
      ValueError: there is no template, or it changes the text.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            f"Prompt(chat=True) needs a chat template, and tokenizer {tokenizer.name_or_path!r} has none. Leave chat "
            "out, or write the template's text into the prompt."
        )

    def rendered(content: str) -> str:
        message = [{"role": "user", "content": content}]
        try:
            return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # what a template raises, and what jinja2's sandbox refuses it
            raise ValueError(
                f"Prompt(chat=True): the chat template of {tokenizer.name_or_path!r} fails: {type(error).__name__}: "
                f"{error}. Leave chat out, or write the template's text into the prompt."
            ) from error

    before, *rest = rendered(_PLACE).split(_PLACE)
    if len(rest) != 1 or before + text + rest[0] != rendered(text):
        raise ValueError(
            f"Prompt(chat=True): the chat template of {tokenizer.name_or_path!r} does not keep the text {text[:40]!r} "
            "as it is (many strip the space around it). Strip it, or leave chat out."
        )
    after = rest[0]
    return before, f"{after.rstrip()}\n\n</think>\n\n" if after.rstrip().endswith("<think>") else after


def baseline_id(tokenizer) -> int:
    """Id of the token that replaces a masked word: the tokenizer's mask, else unk, else pad, else eos token."""
    for name in ("mask_token_id", "unk_token_id", "pad_token_id", "eos_token_id"):
        token_id = getattr(tokenizer, name, None)
        if token_id is not None:
            return int(token_id)
    raise ValueError(
        "baseline_id(tokenizer=...) must have a mask, unk, pad or eos token to mask words with; got none of them. "
        "Set one, for example tokenizer.pad_token = '<pad>' for a token of its vocabulary."
    )


def baseline_name(tokenizer, baseline: str = "auto") -> str:
    """The token that replaces masked words, as text, or the name of an embedding ("mean embedding")."""
    token = _baseline(tokenizer, baseline)
    return f"{baseline} embedding" if token == NO_TOKEN else tokenizer.convert_ids_to_tokens(token)


def _baseline(tokenizer, baseline: str) -> int:
    if baseline == "auto":
        return baseline_id(tokenizer)
    if baseline in EMBEDDING_BASELINES:
        return NO_TOKEN
    vocabulary = tokenizer.get_vocab()
    if baseline not in vocabulary:
        raise ValueError(
            f"baseline={baseline!r} must be auto, {', '.join(EMBEDDING_BASELINES)} or one token of "
            f"{tokenizer.name_or_path!r} as its vocabulary writes it; it has no such token."
        )
    return int(vocabulary[baseline])


def continuation(text: str, target: str) -> str:
    """The exact text that follows `text` when a person names `target` as what comes next.

    A target that starts with a letter or digit is the next *word*, so a space comes before it: "sentiment:" and
    "positive" give " positive". No space where there is one already, after an opening bracket or quote, and in scripts
    without spaces; none before punctuation. A target that starts with whitespace is taken exactly. To go on inside a
    word ("play" + "ing"), pass the exact text to `tokenize(target=...)` instead.
    """
    first, last = target[:1], text[-1:] or " "
    opens = unicodedata.category(last) in ("Ps", "Pi") or (last in "\"'" and (len(text) == 1 or text[-2].isspace()))
    spaced = first.isalnum() and not unicodedata.name(first, "").startswith(_UNSPACED)
    return f" {target}" if spaced and not last.isspace() and not opens else target


def read_prompts(path: str | Path, *, on_error: Callable[[ValueError], None] | None = None) -> list[Prompt]:
    """Read prompts from a JSONL file: one object per line, blank lines skipped.

    Fields: `text` (needed), `chat` (true or false), `id` (default "prompt-0001", counted from the top), `players`
    (strings in order of appearance, or [start, stop] character spans), `target`, or `next_word` in its place: the
    target as the next word whatever it starts with, so a space always comes before it. null is the same as leaving a
    field out.

    Args:
      path: the file.
      on_error: called with the error of a line, which is then left out. By default it is raised.

    Raises:
      FileNotFoundError: no such file.
      ValueError: names file and line: not JSON, unknown fields, wrong types, a bad prompt, an id used twice. Also when
        the file holds no prompt, or none that is good.
    """
    path = Path(path)
    if not path.is_file():  # a pipe would be waited for, perhaps forever
        found = "it is a directory." if path.is_dir() else "there is nothing. Check the path."
        if path.exists() and not path.is_dir():
            found = "it is a pipe or a device. Write the prompts to a file."
        raise FileNotFoundError(f"read_prompts(path=...) must be a JSONL file; no file {str(path)!r}: {found}")
    prompts, line_of_id, errors, count = [], {}, [], 0
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        count += 1
        try:
            prompt = _prompt_of_line(line, default_id=f"prompt-{count:04d}")
            folded = prompt.id.casefold()  # ids name files, and some file systems know no case
            if folded in line_of_id:
                raise ValueError(
                    f"id {prompt.id!r} is already that of line {line_of_id[folded]}. Give every prompt its own id."
                )
        except ValueError as error:
            errors.append(ValueError(f"{path}, line {number}: {error}"))
            if on_error is None:
                raise errors[-1] from error
            continue
        line_of_id[folded] = number
        prompts.append(prompt)
    if not prompts:
        if errors:
            raise errors[0]
        raise ValueError(f"{path}: must hold at least one prompt; got an empty file. Write one JSON object per line.")
    for error in errors:
        on_error(error)
    return prompts


def _prompt_of_line(line: bytes, default_id: str) -> Prompt:
    try:
        record = json.loads(line.decode("utf-8"), object_pairs_hook=_fields_once)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"must be UTF-8; byte {error.start + 1} is not ({error.reason}). Save the file as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"must be one JSON object; {error.msg.removesuffix(' at')} at column {error.colno}."
        ) from error
    except RecursionError as error:
        raise ValueError("must be one JSON object; got lists in lists without end.") from error
    if not isinstance(record, dict):
        raise ValueError(f"must be one JSON object; got {type(record).__name__}.")
    unknown = sorted(set(record) - set(_FIELDS))
    if unknown:
        raise ValueError(f"unknown field {', '.join(map(short, unknown[:8]))}. The fields are {', '.join(_FIELDS)}.")
    record = {name: value for name, value in record.items() if value is not None}
    if "text" not in record:
        raise ValueError("must have a field 'text'; got none.")
    for name in ("id", "text", "target", "next_word"):
        if not isinstance(record.get(name, ""), str):
            raise ValueError(f"{name!r} must be a string; got {short(record[name])}.")
    if not isinstance(record.get("players", []), list):
        raise ValueError(
            f"'players' must be a list of strings or of [start, stop] spans; got {short(record['players'])}."
        )
    if not isinstance(record.get("chat", False), bool):
        raise ValueError(f"'chat' must be true or false; got {short(record['chat'])}.")
    if "target" in record and "next_word" in record:
        raise ValueError("'target' and 'next_word' are two names of one thing; got both. Keep one.")
    text, target = record["text"], record.get("target", record.get("next_word"))
    if record.get("next_word", "")[:1].strip() and not text[-1:].isspace():
        target = f" {target}"
    id_, chat = record.get("id", default_id), record.get("chat", False)
    return Prompt(text, players=record.get("players"), target=target, id=id_, chat=chat)


def _fields_once(pairs: list[tuple[str, object]]) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {short(twice)} is given twice. Keep one.")
    return record


def _encode(tokenizer, text: str, *, whole: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of a text; `whole` if it has its special tokens written out already."""
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "add_special_tokens": not whole}
    encoding = tokenizer(text, **options)
    ids, offsets, special = (list(encoding[k]) for k in ("input_ids", "offset_mapping", "special_tokens_mask"))
    if whole:
        return ids, [tuple(offset) for offset in offsets]
    # The mask marks what the tokenizer adds, not a special token that is written out in the text.
    while ids and special[-1]:
        ids, offsets, special = ids[:-1], offsets[:-1], special[:-1]
    return ids, [tuple(offset) for offset in offsets]


def _players_of_tokens(prompt: Prompt, tokenizer, token_ids, offsets) -> Int32[np.ndarray, "t"]:
    player_of_character = np.full(len(prompt.text), -1, np.int32)
    for player, (start, stop) in enumerate(prompt.players):
        player_of_character[start:stop] = player
    player_of_token = np.full(len(token_ids), -1, np.int32)
    for token, (start, stop) in enumerate(offsets):
        players = sorted(set(player_of_character[max(start, 0) : max(stop, 0)].tolist()) - {-1})
        if len(players) > 1:
            names = " and ".join(repr(prompt.words[player]) for player in players)
            raise ValueError(
                f"tokenize(prompt=...): the players {names} share the token {prompt.text[max(start, 0) : stop]!r} "
                f"(characters {start} to {stop}) of tokenizer {tokenizer.name_or_path!r}. Make them one player, or "
                "choose others."
            )
        if players:
            player_of_token[token] = players[0]
    for player, (start, stop) in enumerate(prompt.players):
        if not np.any(player_of_token == player):
            raise ValueError(
                f"tokenize(prompt=...): player {prompt.words[player]!r} (characters {start} to {stop}) has no token "
                f"under tokenizer {tokenizer.name_or_path!r}, so it cannot be masked. Widen it, or choose another."
            )
    return player_of_token


def _encode_inside(tokenizer, text: str) -> list[int]:
    """Tokens of a text that does not begin anything: without BOS, and without the space that SentencePiece-like
    tokenizers put before a text's first word, so it is read behind a newline."""
    ids, offsets = _encode(tokenizer, f"\n{text}")
    first = next((token for token, (_, stop) in enumerate(offsets) if stop > 1), len(ids))
    if first < len(ids) and offsets[first][0] < 1:  # the newline merged with the text
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[first:]


def _target_ids(tokenizer, text: str, token_ids: list[int], target: str, *, whole: bool) -> list[int]:
    if not target:
        raise ValueError("tokenize(target=...) must hold some text; got ''. Leave it out while no target is known.")
    joint, _ = _encode(tokenizer, text + target, whole=whole)
    if joint[: len(token_ids)] == token_ids:
        target_ids = joint[len(token_ids) :]
    else:
        target_ids = _encode_inside(tokenizer, target)
    if not target_ids:
        raise ValueError(
            f"tokenize(target=...) must hold at least one token; got {target!r}, which has none under tokenizer "
            f"{tokenizer.name_or_path!r}. Choose another target."
        )
    return target_ids


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # How Python passes on bytes of a command line that are no UTF-8.
        bad_byte = 0xDC80 <= ord(text[error.start]) <= 0xDCFF
        what = "a byte that is no UTF-8" if bad_byte else "half of a surrogate pair"
        raise ValueError(
            f"Prompt({name}=...) must be valid Unicode; character {error.start} is {what}. "
            "Write the character out, or leave it out."
        ) from error


def _check_id(prompt_id: str) -> None:
    bad = [c for c in prompt_id if c in '/\\:*?"<>|' or not c.isprintable()]
    outer = prompt_id != prompt_id.strip() or prompt_id.startswith(".") or prompt_id.endswith(".")
    # File names have at most 255 bytes, and NAME.npz.damaged and temporary files are longer than the id.
    if not prompt_id or outer or bad or len(prompt_id) > 100 or len(prompt_id.encode()) > 200:
        raise ValueError(
            f"Prompt(id=...) names files, so it must be 1 to 100 printable characters (200 bytes) with no leading or "
            f"last dot, no outer space and none of / \\ : * ? \" < > |; got {short(prompt_id)}. Letters, digits, '-' "
            "and '_' are safe."
        )
