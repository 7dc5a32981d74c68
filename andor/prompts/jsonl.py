"""Prompts in a JSONL file: one object per line, each line checked."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from andor.prompts.players import short
from andor.prompts.prompt import Prompt

DEFAULT_PROMPTS = Path(__file__).parent.parent / "embedded" / "prompts.jsonl"
_FIELDS = ("id", "text", "players", "target", "next_word", "exact", "chat", "labels")


def read_prompts(path: str | Path, *, on_error: Callable[[ValueError], None] | None = None) -> list[Prompt]:
    """Read prompts from a JSONL file: one object per line, blank lines skipped.

    Fields: `text` (needed), `chat` (true or false), `id` (default "prompt-0001", counted from the top), `players`
    (strings in order of appearance, or [start, stop] character spans), `target`, perhaps with `exact` (true: the text
    that follows, to the character), or `next_word` in its place: the target as the next word whatever it starts with,
    so a space always comes before it; `labels` (player -> "relevant", "irrelevant" or "forbidden", or a list of these).
    null is the same as leaving a field out.

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


def with_ids(caller: str, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts of which each has an id: those without one are called "prompt-0001", ... by their place.

    Args:
      caller: the function to name in an error.
      prompts: one or more.

    Raises:
      ValueError: there is none, or two ids are the same but for upper and lower case: ids name files.
    """
    prompts = [
        prompt if prompt.id is not None else dataclasses.replace(prompt, id=f"prompt-{number:04d}")
        for number, prompt in enumerate(prompts, start=1)
    ]
    ids = [prompt.id for prompt in prompts]
    if not ids or len({each.casefold() for each in ids}) < len(ids):
        raise ValueError(f"{caller}(prompts=...) must be prompts with different ids, at least one; got {ids}.")
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
    if not isinstance(record.get("labels", {}), dict | list):
        raise ValueError(f"'labels' must be an object, player to label, or a list; got {short(record['labels'])}.")
    for name in ("chat", "exact"):
        if not isinstance(record.get(name, False), bool):
            raise ValueError(f"{name!r} must be true or false; got {short(record[name])}.")
    if "target" in record and "next_word" in record:
        raise ValueError("'target' and 'next_word' are two names of one thing; got both. Keep one.")
    if record.get("exact") and "target" not in record:
        raise ValueError("'exact' says how 'target' is meant; got no 'target'. Give it, or leave 'exact' out.")
    text, target = record["text"], record.get("target", record.get("next_word"))
    if record.get("next_word", "")[:1].strip() and not text[-1:].isspace():
        target = f" {target}"
    more = {name: record[name] for name in ("players", "chat", "exact", "labels") if name in record}
    return Prompt(text, target=target, id=record.get("id", default_id), **more)


def _fields_once(pairs: list[tuple[str, object]]) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {short(twice)} is given twice. Keep one.")
    return record
