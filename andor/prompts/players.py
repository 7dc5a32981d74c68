"""Players of a text: which words are masked, as character spans.

Plain text in, spans out: no tokenizer and no model, so that every model masks the same words. The error messages speak
of `Prompt(...)`, which is how a user comes here.

Words of text without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are those of ICU's dictionaries, where the
library is there (`pip install "andor[segment]"`).
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import index

from andor.prompts.spacing import is_unspaced

DEFAULT_PLAYERS = 10
# 2**20 float64 values are 8 MB an array; the transforms still run in a blink. More is a slip of the pen.
MAX_PLAYERS = 20

LONGEST_LABEL = 8
"""Letters of an answer label in text without spaces: "情感：", "センチメント：". What is longer is a clause."""

# Stays background when players are chosen by default. Words of negation, contrast, condition and degree (not, no,
# never, n't, cannot, without, but, though, despite, if, so, too, very, only, ...) are left out of this list on purpose:
# they are what other words interact with. The fourth line is what tokenised corpora leave of contractions ("it 's");
# the last three are the same kinds of words in Chinese, and Japanese particles.
STOP_WORDS = frozenset(
    """
    a an the this that these those and or of in on at by for from to with into as than
    i you he she it we they me him her us them my your his its our their who whom whose which what there
    am is are was were be been being do does did have has had having will would can could may might shall should must
    s d ll re ve m t
    的 地 得 了 着 过 是 在 和 与 及 之 这 那 这个 那个 我 你 您 他 她 它 我们 你们
    他们 她们 它们 有 把 被 从 对 到 会 能 什么 谁
    は が を に の で と へ や も です ます だ
    """.split()
)
_PARTICLES = frozenset("はがをにのでとへやもだかねよぞおご")
"""Lone hiragana that are no endings: particles, the copula, and the prefixes of politeness."""

_OPENING = re.compile(r"""[\s>#*_+•·\-–—\[(（【「"'“‘]*""")
_CLOSING = " \t\u3000*_)）]】」\"'”’"
_BETWEEN = re.compile(r"[ \u3000_/&#-]{1,3}")
_COLON = re.compile(rf"([{re.escape(_CLOSING)}]|[(（\[][^()（）\[\]\n]{{1,40}}[)）\]])*[:：](?!//)")
_MARKER = re.compile(
    r"<\|[^|<>\n]{1,40}\|>((system|user|assistant|developer|tool)(?=\n|<\|))?|<start_of_turn>(user|model)(?=\n)"
    r"|</?(s|bos|eos|end_of_turn)>|\[/?INST\]|<</?SYS>>"
)
"""What chat templates put between messages, written out in a text."""

_CLAUSE = frozenset(
    "i he she it we they there who is are was were be been has have had said says asked asks replied told wrote "
    "thought added not no never nothing nobody but without if so too very only".split()
)
"""Words that are said and label nothing: "he said:", "there was one problem:", "not good:"."""

_CHOICE = re.compile(r"[.)、．）](\s|$)")
# Pictographs, and dingbats such as hearts, faces and check marks; with what varies or joins them.
_EMOJI = re.compile(
    "([\u2600-\u27bf\u2b50\u2b55\U0001f000-\U0001faff]|[\u2190-\u2bff]\ufe0f)"
    "([\u2600-\u27bf\u2b50\u2b55\U0001f000-\U0001faff\ufe0f\u200d\U000e0020-\U000e007f])*"
)
_CLITICS = ("'s", "'d", "'ll", "'re", "'ve", "'m")


class Chosen(tuple):
    """Spans of players that nobody named: equal to a plain tuple of them. A copy of a prompt keeps them so; a part of
    them is a plain tuple, which somebody chose."""


def player_spans(text: str, players: Sequence | None) -> tuple[tuple[int, int], ...]:
    """Character spans `(start, stop)` of the players, in text order.

    Args:
      text: the whole text.
      players: strings in order of appearance, `(start, stop)` spans in any order, or None for
        `default_players`, as `Chosen`. Whitespace at either end of a player is cut off.

    Raises:
      ValueError: a player that is empty, not in the text after the one before it, outside the text or overlapping
        another; no player; more than `MAX_PLAYERS`. As `default_players` too.
    """
    if players is None:
        return Chosen(default_players(text)[1])
    if isinstance(players, str):
        raise ValueError(
            f"Prompt(players=...) must be a list of words; got the string {short(players)}. Write [{short(players)}]."
        )
    kind, players = Chosen if isinstance(players, Chosen) else tuple, list(players)
    if not players:
        raise ValueError("Prompt(players=...) must name at least one player; got none. Leave it out for a choice.")
    if len(players) > MAX_PLAYERS:
        raise ValueError(
            f"Prompt(players=...) must name at most {MAX_PLAYERS} players, since all 2**n_players subsets are "
            f"evaluated; got {len(players)}. Name fewer, or join words into phrases."
        )
    if all(isinstance(player, str) for player in players):
        return _find_players(text, players)
    return kind(_check_spans(text, players))


def default_players(text: str) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """(all content words, those that are players where none are named: the `DEFAULT_PLAYERS` nearest the target).

    A content word is a word or a run of emoji that is not in `STOP_WORDS` (negations and contrasts are not), and no
    label. A label is

    - one to three words, perhaps with a number or letter, from the beginning of a line to a colon: "Q:", "Question 1:",
      "Movie review :", "情感："; with signs of a list or of markup before them and brackets or markup behind them:
      "- **Question:**", "[Review]:", "Answer (yes/no):". It has no word of a clause ("he said:", "not good:"); several
      words of which one is a stop word ("the problem:") are a label only where the colon ends the line;
    - such words at the end of the text behind the end of a sentence, or the last word by itself ("sentiment:");
    - the letter or number of an answer at the beginning of a line ("B.", "2)");
    - what a chat template writes, and the name of who speaks in it ("<|user|>", "<|im_start|>user", "[INST]").

    Raises:
      ValueError: there is no content word, or words without spaces between them and no library that tells them apart.
    """
    words = [each for span in _said(text) for each in _segmented(text, *span)]
    words = tuple(span for span in words if not _is_stop_word(text[slice(*span)]))
    if not words:
        raise ValueError(
            f"Prompt(text=...) must have a content word to mask; got {short(text)}, all stop words or labels. "
            "Name the players: players=['...']."
        )
    return words, words[-DEFAULT_PLAYERS:]


def _find_players(text: str, players: Sequence[str]) -> tuple[tuple[int, int], ...]:
    inside_words = {i for start, stop in _words(text) for i in range(start + 1, stop)}
    spans: list[tuple[int, int]] = []
    for player in map(str.strip, players):
        if not player:
            raise ValueError(
                f"Prompt(players=...) must be words of the text; got an empty one in {short(list(players))}. "
                "Leave it out."
            )
        position = spans[-1][1] if spans else 0
        found = [i for i in range(position, len(text) - len(player) + 1) if text.startswith(player, i)]
        whole = [i for i in found if i not in inside_words and i + len(player) not in inside_words]
        if not found:
            before = f" after {short(text[slice(*spans[-1])])}" if spans else ""
            if player in text:
                advice = f"It occurs before that, at character {text.find(player)}: give the players in that order."
            elif player.lower() in text.lower():
                advice = "It occurs in another case: spell it as in the text."
            else:
                advice = "Spell it as in the text, or leave it out."
            raise ValueError(
                "Prompt(players=...) must be words of the text in order of appearance; "
                f"{short(player)} is not in {short(text)}{before}. {advice}"
            )
        start = (whole or found)[0]
        spans.append((start, start + len(player)))
    return tuple(spans)


def _check_spans(text: str, players: Sequence) -> tuple[tuple[int, int], ...]:
    spans = []
    for player in players:
        try:
            start, stop = map(index, player)
        except (TypeError, ValueError):
            raise ValueError(
                f"Prompt(players=...) must be all strings or all (start, stop) character spans; got {short(player)}."
            ) from None
        if not 0 <= start < stop <= len(text):
            raise ValueError(
                f"Prompt(players=...) spans must satisfy 0 <= start < stop <= {len(text)}, the length of the text; "
                f"got {short((start, stop))}."
            )
        word = text[start:stop]
        if not word.strip():
            raise ValueError(
                f"Prompt(players=...) must hold words; got ({start}, {stop}), which is {short(word)}. Move it."
            )
        start += len(word) - len(word.lstrip())
        spans.append((start, start + len(word.strip())))
    spans.sort()
    for (start, stop), (next_start, next_stop) in pairwise(spans):
        if next_start < stop:
            raise ValueError(
                f"Prompt(players=...) must not overlap; got {short(text[start:stop])} ({start}, {stop}) and "
                f"{short(text[next_start:next_stop])} ({next_start}, {next_stop}). Make them one player, or shorten "
                "one."
            )
    return tuple(spans)


def _said(text: str) -> list[tuple[int, int]]:
    """The words, or runs of words without spaces, that belong to no label (`default_players` says what is one)."""
    labels = [found.span() for found in _MARKER.finditer(text)]
    words = [word for word in _words(text) if not any(start <= word[0] < stop for start, stop in labels)]
    for line_start, of_line in groupby(words, lambda word: text.rfind("\n", 0, word[0]) + 1):
        line = list(of_line)
        start, stop = line[0]
        if _OPENING.fullmatch(_MARKER.sub("", text[line_start:start])):
            if _CHOICE.match(text, stop) and (stop - start == 1 or text[start:stop].isdigit()):
                labels.append(line[0])
                line, line_start = line[text[start:stop].isdigit() :], stop + 1
            if line and _OPENING.fullmatch(_MARKER.sub("", text[line_start : line[0][0]])):
                labels += _label(text, line)
    for count in range(1, min(len(words), 4) + 1):  # at the end of the text, by itself or behind a sentence
        start = words[-count][0]
        before = words[-count - 1][1] if count < len(words) else 0
        if count == 1 or re.search(r"[.!?…。！？]", text[before:start]):
            labels += [span for span in _label(text, words[-count:]) if _is_over(text[span[1] :])]
    return [word for word in words if not any(start <= word[0] < stop for start, stop in labels)]


def _label(text: str, words: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Characters of the label that begins with the first word, if there is one."""
    for count in range(1, min(len(words), 4) + 1):
        start, stop = words[count - 1]
        if count > 1 and not _BETWEEN.fullmatch(text, words[count - 2][1], start):
            return []
        colon = _COLON.match(text, stop)
        if colon:
            numbered = count > 1 and (text[start:stop].isdigit() or stop - start == 1)
            label = [text[slice(*word)].lower() for word in words[: count - numbered]]
            letters = "".join(label)
            too_long = len(label) > 3 or (
                any(map(is_unspaced, letters)) and sum(map(str.isalpha, letters)) > LONGEST_LABEL
            )
            goes_on = len(label) > 1 and not _is_over(text[colon.end() :].split("\n")[0])
            said = _CLAUSE & set(label) or (goes_on and STOP_WORDS & set(label))
            return [] if said or too_long else [(words[0][0], colon.end())]
    return []


def _is_over(rest: str) -> bool:
    return not rest.strip(f"{_CLOSING}\r\n")


def _segmented(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    """The words of a run of letters: itself, but where its script has no spaces."""
    run = text[start:stop]
    if not any(map(is_unspaced, run)) or sum(map(str.isalnum, run)) == 1:
        return [(start, stop)]
    try:
        from icu4py.breakers import WordBreaker  # 40 MB, and wanted by few
    except ImportError as error:
        raise ValueError(
            f"Prompt(players=...) must be named where words are written without spaces, as in {short(run)}; got none. "
            "Name them: players=['...', ...] (on the command line --players), or pip install \"andor[segment]\"."
        ) from error
    spans = []
    for word in _with_endings(list(WordBreaker(run, "zh"))):  # the dictionaries are the same in every locale
        spans.append((start, start + len(word)))
        start += len(word)
    return [span for span in spans if any(map(str.isalnum, text[slice(*span)]))]


def _with_endings(pieces: list[str]) -> list[str]:
    """Words whose Japanese endings stay with them: "行き", "ま", "した" are one.

    An ending is a lone hiragana that is no particle; hiragana that begin with "っ" or "ん", as no word does; and what
    follows a "っ", or a "ま" ("ません"). What an ending has made longer is an ending itself behind an ideograph ("楽",
    "しか", "っ", "た"), but for a negation ("なかった"), which is a word of its own.
    """
    words: list[str] = []
    for piece in pieces:
        lone = _is_hiragana(piece) and (piece[0] in "っん" or (len(piece) == 1 and piece not in _PARTICLES))
        goes_on = words and _is_hiragana(words[-1][-1:]) and _is_hiragana(piece)
        verb = goes_on and (words[-1].endswith("っ") or (words[-1].endswith("ま") and piece[0] in "しせす"))
        if not words or not (lone or verb) or not is_unspaced(words[-1][-1]):
            words.append(piece)
            continue
        words[-1] += piece
        behind = len(words) > 1 and unicodedata.name(words[-2][-1], "").startswith("CJK")
        if behind and _is_hiragana(words[-1]) and not words[-1].startswith("な"):
            words[-2:] = ["".join(words[-2:])]
    return words


def _is_hiragana(word: str) -> bool:
    return all(unicodedata.name(each, "").startswith("HIRAGANA") for each in word)


def _is_stop_word(word: str) -> bool:
    word = word.lower().replace("’", "'")
    for clitic in _CLITICS:
        word = word.removesuffix(clitic)
    return word in STOP_WORDS


def _words(text: str) -> list[tuple[int, int]]:
    """Spans of the words: letters, digits and marks, with what joins them inside ("don't", "well-made", "1,000", a
    zero-width joiner); and runs of emoji, which say something too."""

    def in_word(i: int) -> bool:
        return 0 <= i < len(text) and (text[i].isalnum() or text[i] == "_" or unicodedata.category(text[i])[0] == "M")

    def joins(i: int) -> bool:
        if text[i] in "'’-\u200c\u200d":
            return in_word(i - 1) and in_word(i + 1)
        return text[i] in ".,:/–" and text[i - 1 : i].isdigit() and text[i + 1 : i + 2].isdigit()

    emoji = {i for found in _EMOJI.finditer(text) for i in range(*found.span())}
    spans, start = [], None
    for i in range(len(text) + 1):
        kind = None if i == len(text) else "emoji" if i in emoji else "word" if in_word(i) or joins(i) else None
        if start is not None and kind != start[1]:
            spans.append((start[0], i))
            start = None
        if start is None and kind is not None:
            start = i, kind
    return spans


def short(content: object) -> str:
    """What came, as `repr` has it, cut to fit into a message."""
    if isinstance(content, str):
        return repr(content if len(content) <= 60 else f"{content[:57]}...")
    shown = repr(content)
    return shown if len(shown) <= 120 else f"{shown[:117]}..."
