"""A text, its players and its target.

Players are character spans of the text, so that models with different tokenizers share them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from andor.prompts.labels import player_labels
from andor.prompts.players import Chosen, player_spans, short
from andor.prompts.spacing import continuation


@dataclass(frozen=True, repr=False)
class Prompt:
    """A text whose players are masked in all 2**n_players ways, and the target text that is scored after it.

    Attributes:
      text: kept as given, character by character.
      players: given as strings in order of appearance, as `(start, stop)` character spans in any order, or None;
        always a tuple of spans in text order afterwards. A string is its first occurrence after the player before it,
        so a repeated word is its next occurrence; whole words come before parts of words. None: as
        `andor.prompts.players.default_players` chooses, the content words nearest the target, which
        `andor.prompts.joined` joins where a model's tokens are longer.
      target: what to explain, or None for the model's own prediction: the next word, before which
        `andor.prompts.spacing.continuation` puts a space where one belongs.
      id: name of the prompt in a run, usable as a file name; None for a prompt that stands alone.
      chat: whether the text is a user's message, to be wrapped with each model's own chat template; or the text before
        and after it, as a template was rendered once (`andor.prompts.in_chat`). What stands around the message is
        background, and the target is the beginning of the answer, taken exactly.
      exact: whether the target is the exact text that follows, to the character ("ing" after "play", "name" after
        "self."), and not a word.
      labels: whether each player should matter for the target: "relevant", "irrelevant" or "forbidden"
        (`andor.prompts.labels`), as a mapping from words, or one per player in text order; always a tuple afterwards,
        or None. Decides no effect, but which of them are called unreliable.

    Raises:
      ValueError: a text, target or id that is no string, or a chat that is neither a bool nor two strings; exact
        without a target; empty text, player or target; a player not in the text after the one before it; overlapping
        spans or spans outside the text; no player, or more than `MAX_PLAYERS`; labels that do not fit the players, or
        of players that nobody named; text without spaces whose words are to be chosen where the library for that is
        missing; an id that is no file name.
    """

    text: str
    players: Sequence | None = None
    target: str | None = None
    id: str | None = None
    chat: bool | tuple[str, str] = False
    exact: bool = False
    labels: Mapping | Sequence | None = None

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
        around = isinstance(self.chat, tuple) and [type(each) for each in self.chat] == [str, str]
        if not isinstance(self.chat, bool) and not around:
            raise ValueError(
                f"Prompt(chat=...) must be true, false, or the texts before and after; got {short(self.chat)}."
            )
        if not isinstance(self.exact, bool) or (self.exact and self.target is None):
            raise ValueError(
                f"Prompt(exact=...) must be true or false, and says how a target is meant; got {short(self.exact)} "
                f"with target {short(self.target)}."
            )
        object.__setattr__(self, "players", player_spans(self.text, self.players))
        if self.labels is not None:
            if isinstance(self.players, Chosen):
                raise ValueError("Prompt(labels=...) labels players by name: give players too.")
            object.__setattr__(self, "labels", player_labels(self.words, self.labels))

    @property
    def continuation(self) -> str | None:
        """The exact text of the target as it follows the prompt, if there is a target."""
        exact = self.target is None or self.chat or self.exact
        return self.target if exact else continuation(self.text, self.target)

    @property
    def words(self) -> tuple[str, ...]:
        """The text of each player."""
        return tuple(self.text[start:stop] for start, stop in self.players)

    @property
    def n_players(self) -> int:
        return len(self.players)

    @property
    def ends_with_player(self) -> bool:
        """Whether the last word is masked too; what comes behind it in a chat never is."""
        return not self.chat and self.players[-1][1] >= len(self.text.rstrip())

    def __repr__(self) -> str:
        name, chat = f" {self.id}" * (self.id is not None), ", in a chat" * bool(self.chat)
        target = "" if self.target is None else f", {'exact ' * self.exact}target {short(self.target)}"
        players = short(", ".join(self.words))
        return f"<Prompt{name}: {short(self.text)}, {self.n_players} players {players}{target}{chat}>"


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
