"""Labels of players: whether a word should matter for the target, as an annotator says.

"relevant" words should; "irrelevant" ones should not, and "forbidden" ones must not (a name, a gender, an occupation).
An effect of relevant players alone is reliable; one with any other player is not, however right the prediction is
(arXiv 2410.09083, an audit of legal language models).
"""

from collections.abc import Mapping, Sequence

from andor.prompts.players import short

LABELS = ("relevant", "irrelevant", "forbidden")


def player_labels(words: Sequence[str], given: object) -> tuple[str, ...]:
    """The label of every player, in their order.

    Args:
      words: the players' texts.
      given: a mapping from words to labels, where a word stands for all its occurrences; or one label per player.

    Raises:
      ValueError: `given` is neither, a label is unknown or of no player, or a player has none.
    """
    if isinstance(given, Mapping):
        strange = [word for word in given if word not in words]
        if strange:
            raise ValueError(
                f"Prompt(labels=...) must name players; got {short(strange[0])}. The players are {', '.join(words)}."
            )
        missing = [word for word in words if given.get(word) is None]
        if missing:
            raise ValueError(
                f"Prompt(labels=...) must label every player; {short(missing[0])} has no label. Give it one of "
                f"{', '.join(LABELS)}."
            )
        found = [given[word] for word in words]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        found = list(given)
        if len(found) != len(words):
            raise ValueError(
                f"Prompt(labels=...) must have one label per player; got {len(found)} for {len(words)} players."
            )
    else:
        raise ValueError(
            f"Prompt(labels=...) must map players to {', '.join(LABELS)}, or have one per player; got {short(given)}."
        )
    unknown = [label for label in found if label not in LABELS]
    if unknown:
        raise ValueError(f"Prompt(labels=...) knows the labels {', '.join(LABELS)}; got {short(unknown[0])}.")
    return tuple(found)
