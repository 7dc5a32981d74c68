"""A prompt under one model's tokenizer: which tokens a player has, what masks them, and the tokens of the target.

A tokenizer maps players to tokens by offsets: a token with any character of a player belongs to that player, every
other token is background and is never masked. What becomes of a masked player's tokens is said by a `Mask`.

`joined` makes one player of words that nobody named and that a token holds together, which is common where words are
written without spaces: ICU's words are often shorter than a token. Players that a person named are refused there.

`in_chat` wraps a prompt with a model's chat template once, so that a template with today's date in it cannot change
under way; `remarks` says in words what is odd about a prompt as a model reads it.

NumPy only: importing this module imports neither jax nor transformers. Tokenizers are Hugging Face fast tokenizers.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32

from andor.prompts.masks import Mask, draw_tokens, read_mask
from andor.prompts.players import Chosen, default_players
from andor.prompts.prompt import Prompt

_PLACE = "\N{SYMBOL FOR UNIT SEPARATOR}text\N{SYMBOL FOR UNIT SEPARATOR}"


@dataclass(frozen=True, eq=False)
class TokenizedPrompt:
    """A prompt under one tokenizer.

    Attributes:
      token_ids: the whole prompt, with what the tokenizer (BOS) or the chat template put around it. int32 `[t]`.
      player_of_token: player of each token, -1 for background. int32 `[t]`.
      target_ids: the target as the continuation of the prompt; empty while no target is known. int32 `[k]`.
      mask: what becomes of the tokens of a masked player.
      drawn: where the mask draws words, the tokens that stand there in each draw, background as is. int32 `[draws, t]`.
    """

    token_ids: Int32[np.ndarray, "t"]
    player_of_token: Int32[np.ndarray, "t"]
    target_ids: Int32[np.ndarray, "k"]
    mask: Mask
    drawn: Int32[np.ndarray, "draws t"] | None = None

    def read(self) -> tuple[Int32[np.ndarray, "t"], Int32[np.ndarray, "t"]]:
        """(token ids, player of each) of what a model reads: the prompt, and the target but for its last token."""
        background = np.full(max(len(self.target_ids) - 1, 0), -1, np.int32)
        token_ids = np.concatenate([self.token_ids, self.target_ids[:-1]])
        return token_ids, np.concatenate([self.player_of_token, background])

    @property
    def draws(self) -> tuple["TokenizedPrompt", ...]:
        """The prompt by draw, each with one; just the prompt, where nothing is drawn."""
        return (self,) if self.drawn is None else tuple(replace(self, drawn=each[None]) for each in self.drawn)

    @property
    def instead(self) -> Int32[np.ndarray, "t"]:
        """Token that stands in the place of each of `read`, of the first draw, while its player is masked."""
        length = len(self.read()[0])
        if self.drawn is None:
            return np.full(length, self.mask.token_id, np.int32)
        return np.pad(self.drawn[0], (0, length - len(self.token_ids)))


@dataclass(frozen=True)
class PlayerRow:
    """One player, as each model sees it: a row of the table shown before anything is evaluated.

    Attributes:
      word: text of the player.
      span: its characters, `(start, stop)`.
      token_ids: model name -> ids of its tokens.
      replaced_by: model name -> what stands in their place while the player is masked (`Mask.told`).
    """

    word: str
    span: tuple[int, int]
    token_ids: Mapping[str, tuple[int, ...]]
    replaced_by: Mapping[str, str]


def player_table(
    prompt: Prompt,
    tokenizers: Mapping[str, object],
    baseline: str = "auto",
    chats: Mapping[str, tuple[str, str] | None] | None = None,
) -> list[PlayerRow]:
    """What masking each player does in each model.

    Args:
      prompt, baseline: as for `tokenize`.
      tokenizers: model name -> tokenizer.
      chats: model name -> what stands before and after the message of a chat, as rendered once.
    """
    tokenized = {}
    for name, tokenizer in tokenizers.items():
        around = chats and chats[name]
        read = replace(prompt, chat=around) if prompt.chat is True and around else prompt
        tokenized[name] = tokenize(read, tokenizer, baseline=baseline)
    baselines = {name: each.mask.told for name, each in tokenized.items()}
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
    tokenizer adds before the text (BOS) is background, and is left out where the text begins with it already; what it
    adds after it (EOS) is left out, since the target comes next.

    Args:
      prompt: text and players; its target, when it has one, is placed by `Prompt.continuation`.
      tokenizer: Hugging Face fast tokenizer.
      target: exact text that follows the prompt, leading space included (" Lily", "ing", "!"), as a model predicts it.
        Overrides the prompt's target.
      baseline: what becomes of masked tokens (`andor.prompts.masks.read_mask`).

    Returns:
      The tokens, their players and the target's tokens. The target is tokenised together with the text; when the two
      would merge into one token ("play" + "ing") it is tokenised by itself, so that the prompt's tokens never change.

    Raises:
      ValueError: a token shared by two players, a player without tokens, an empty target, a slow tokenizer, a
        tokenizer with no token to mask with or no such token, or, for a chat, without a template that keeps the text;
        or the mask would leave nothing to predict the target from.
      OSError: a corpus to draw words from cannot be read.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"tokenize(tokenizer=...) must be a Hugging Face fast tokenizer, which knows character offsets; "
            f"got {type(tokenizer).__name__}. Load it from a directory with a tokenizer.json."
        )
    before, after = _around(prompt, tokenizer)
    text, whole = before + prompt.text + after, bool(prompt.chat)
    token_ids, offsets = _encode(tokenizer, text, whole=whole)
    offsets = [(start - len(before), stop - len(before)) for start, stop in offsets]
    player_of_token = _players_of_tokens(prompt, tokenizer, token_ids, offsets)
    target = prompt.continuation if target is None else target
    target_ids = [] if target is None else _target_ids(tokenizer, text, token_ids, target, whole=whole)
    ids, mask = np.asarray(token_ids, np.int32), read_mask(baseline, tokenizer)
    if mask.leaves_out:
        player_of_token = _without_gaps(player_of_token)
        _check_left(prompt, mask, player_of_token)
    encode = functools.partial(_encode_inside, tokenizer)
    return TokenizedPrompt(
        token_ids=ids,
        player_of_token=player_of_token,
        target_ids=np.asarray(target_ids, np.int32),
        mask=mask,
        drawn=draw_tokens(mask, prompt.text, ids, player_of_token, encode) if mask.kind == "resample" else None,
    )


def _without_gaps(player_of_token: Int32[np.ndarray, "t"]) -> Int32[np.ndarray, "t"]:
    """Give a player the tokens between its own too, which have no characters: a piece of space inside its words."""
    coming = np.where(player_of_token < 0, len(player_of_token), player_of_token)[::-1]
    inside = np.maximum.accumulate(player_of_token) == np.minimum.accumulate(coming)[::-1]
    return np.where(inside, np.maximum.accumulate(player_of_token), player_of_token)


def _check_left(prompt: Prompt, mask: Mask, player_of_token: Int32[np.ndarray, "t"]) -> None:
    """Raise ValueError if a mask leaves nothing to predict the target from."""
    if mask.kind == "attention" and player_of_token[-1] >= 0:
        raise ValueError(
            f"tokenize(baseline='attention'): player {prompt.words[player_of_token[-1]]!r} holds the last token, from "
            "which the target is predicted, and what nobody attends to predicts nothing. Leave it out of the players, "
            "end the prompt with something that stays (a label, a colon), or mask with delete."
        )
    if mask.kind == "delete" and np.all(player_of_token >= 0):
        raise ValueError(
            "tokenize(baseline='delete'): every token belongs to a player, and this tokenizer puts no BOS before them, "
            "so nothing is left when all are deleted. Leave a word out of the players, or choose another mask."
        )


def in_chat(prompt: Prompt, tokenizer) -> Prompt:
    """A chat prompt with what the tokenizer's template puts around it; a prompt that is no chat, or has that, as it is.

    Raises:
      ValueError: as `chat_template`.
    """
    return replace(prompt, chat=chat_template(tokenizer, prompt.text)) if prompt.chat is True else prompt


def joined(prompt: Prompt, tokenizer) -> Prompt:
    """A prompt with neighbouring players joined into one where they share a token; players that somebody named stay.

    A joined player reaches from the first of its words to the end of the last. Several tokenizers join one after the
    other, in any order: two words that share a token of any of them are then one player for all.

    Raises:
      ValueError: as `chat_template`.
    """
    if not isinstance(prompt.players, Chosen) or not getattr(tokenizer, "is_fast", False):
        return prompt
    before, after = _around(prompt, tokenizer)
    _, offsets = _encode(tokenizer, before + prompt.text + after, whole=bool(prompt.chat))
    held = [(start - len(before), stop - len(before)) for start, stop in offsets]
    spans = [prompt.players[0]]
    for start, stop in prompt.players[1:]:
        first, end = spans[-1]
        if any(token[0] < end and start < token[1] for token in held):
            spans[-1] = first, stop
        else:
            spans.append((start, stop))
    return replace(prompt, players=Chosen(spans))


def _around(prompt: Prompt, tokenizer) -> tuple[str, str]:
    return (in_chat(prompt, tokenizer).chat) or ("", "")


def chat_template(tokenizer, text: str) -> tuple[str, str]:
    """What a tokenizer's chat template puts before and after a user's message, up to where the answer begins.

    A template that opens the model's thoughts ("<think>", DeepSeek-R1 and its distillations) is closed again, so that
    the target is the beginning of the answer and not of the thoughts. A template may write another text every time,
    such as today's date.

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
    whole = rendered(text)
    # By its length, since a time of day may have gone on in between.
    if len(rest) != 1 or text not in whole or len(before + text + rest[0]) != len(whole):
        raise ValueError(
            f"Prompt(chat=True): the chat template of {tokenizer.name_or_path!r} does not keep the text {text[:40]!r} "
            "as it is (many strip the space around it). Strip it, or leave chat out."
        )
    after = rest[0]
    return before, f"{after.rstrip()}\n\n</think>\n\n" if after.rstrip().endswith("<think>") else after


def remarks(prompt: Prompt, tokenizer, target: str | None = None) -> tuple[str, ...]:
    """What a person should know about a prompt as a tokenizer reads it, a sentence or two each; mostly nothing.

    - The text begins with BOS itself, so the tokenizer's own is left out.
    - Text and target merge: read together they have other tokens than the prompt's and the target's one after the
      other, as where a prompt ends in a space, which belongs to the next word's token. Both readings are shown. Without
      a target, a letter stands for the prediction.
    - Words that nobody named are one player, since they share a token (`joined`).
    - A player holds the last position, from which the target is predicted.

    Args:
      prompt, tokenizer: as for `tokenize`, which must not fail for them.
      target: exact text, as for `tokenize`.
    """
    before, after = _around(prompt, tokenizer)
    text, whole, found = before + prompt.text + after, bool(prompt.chat), []
    tokens = tokenize(prompt, tokenizer, target)
    ids, target_ids = tokens.token_ids.tolist(), tokens.target_ids.tolist()
    added = _encoded(tokenizer, text, whole=whole)[0]
    if len(added) > len(ids):
        bos = tokenizer.convert_ids_to_tokens(ids[0])
        found.append(f"it begins with {bos} itself, so the tokenizer's own {bos} is left out.")
    target = prompt.continuation if target is None else target
    probe = ("a" if text[-1].isspace() else "") if target is None else target
    joint, _ = _encode(tokenizer, text + probe, whole=whole)
    if joint[: len(ids)] != ids:
        same = next((at for at, pair in enumerate(zip(joint, ids, strict=False)) if pair[0] != pair[1]), len(joint))
        merged = _pieces(tokenizer, joint[same : same + 3])
        if target is None:
            found.append(
                f"it ends in {_pieces(tokenizer, ids[same:])}, which most next words would take into their own first "
                "token, so the model sees an odd text. Leave the space out of the prompt."
            )
        else:
            read = f"{_pieces(tokenizer, ids[same:])} + {_pieces(tokenizer, target_ids[:3])}"
            rest = "" if prompt.text[-1:].strip() else " Leave the space out of the prompt, so that it is the target's."
            found.append(f"text and target {target!r} are scored as {read}; read together they are {merged}.{rest}")
    words = default_players(prompt.text)[1] if isinstance(prompt.players, Chosen) else ()
    several = [span for span in prompt.players if span not in words] if words else []
    if several:
        names = ", ".join(repr(prompt.text[slice(*span)]) for span in several)
        found.append(
            f"nobody named its players, and {names} {'is' if len(several) == 1 else 'are'} one player"
            f"{' each' * (len(several) > 1)} of several words, since a token holds them together."
        )
    if tokens.player_of_token[-1] >= 0:
        found.append(
            "its last token belongs to a player. The target is predicted from there, so masking this player changes "
            "more than a word; an end that stays (a label, a colon) avoids it."
        )
    return tuple(found)


def _pieces(tokenizer, ids: list[int]) -> str:
    return " ".join(repr(tokenizer.decode([each], clean_up_tokenization_spaces=False)) for each in ids)


def _encode(tokenizer, text: str, *, whole: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of a text and their characters; `whole` if it has its special tokens written out already. What the
    tokenizer would put before a text that begins with it is left out."""
    ids, offsets, n_added = _encoded(tokenizer, text, whole=whole)
    twice = n_added and ids[:n_added] == ids[n_added : 2 * n_added]
    return (ids[n_added:], offsets[n_added:]) if twice else (ids, offsets)


def _encoded(tokenizer, text: str, *, whole: bool) -> tuple[list[int], list[tuple[int, int]], int]:
    """Tokens, their characters, and how many of them the tokenizer has put before the text."""
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "add_special_tokens": not whole}
    encoding = tokenizer(text, **options)
    ids, offsets, special = (list(encoding[k]) for k in ("input_ids", "offset_mapping", "special_tokens_mask"))
    offsets = [tuple(offset) for offset in offsets]
    if whole:
        return ids, offsets, 0
    # The mask marks what the tokenizer adds, not a special token that is written out in the text.
    while ids and special[-1]:
        ids, offsets, special = ids[:-1], offsets[:-1], special[:-1]
    return ids, offsets, next((at for at, each in enumerate(special) if not each), len(special))


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
