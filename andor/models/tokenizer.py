"""Whether a tokenizer reads text as its tokenizer.json says.

A class of transformers may build its own splitting, spaces or BOS over a file's vocabulary: LlamaTokenizer (5.10 to
5.15 at least) loses all spaces of DeepSeek-R1-Distill-Llama, Qwen2Tokenizer (5.10 on) splits numbers that the file
keeps whole. What a model was trained on is what tokenizer.json says, so that is what counts here, whatever the version.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROBE = "The film isn't good:  12 345,\n\n  x = f(a)[1];\té 答案：はい 🙂 <b>don’t</b>"
"""Words, runs of spaces, numbers, code, accents, ideographs, an emoji."""


def as_the_file_says(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> "PreTrainedTokenizerFast":
    """A tokenizer as transformers loads it, or, where it reads otherwise than the folder's tokenizer.json, the one that
    reads as the file says.

    Raises:
      ValueError: neither does; or, where there is no tokenizer.json to compare with, words do not come back as they
        were.
    """
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if not path.exists():
        if _decode(tokenizer, tokenizer("the film is", add_special_tokens=False)["input_ids"]).strip() != "the film is":
            raise ValueError(f"the tokenizer in {folder} ({type(tokenizer).__name__}) {_LOSES}. {_ADVICE}")
        return tokenizer
    reference = Tokenizer.from_file(str(path))
    if _difference(tokenizer, reference) is None:
        return tokenizer
    plain = PreTrainedTokenizerFast.from_pretrained(folder)
    why = _difference(plain, reference)
    if why is not None:
        raise ValueError(f"{type(plain).__name__} of transformers does not read text as {path} says: {why} {_ADVICE}")
    return plain


_LOSES = "does not give back 'the film is' after taking it apart"
_ADVICE = "Use another version of transformers, or mend the files."


def _difference(tokenizer: "PreTrainedTokenizerFast", reference: Tokenizer) -> str | None:
    """In which way the two differ on the probe, if they do."""
    read, expected = (
        tokenizer(PROBE, add_special_tokens=False)["input_ids"],
        reference.encode(PROBE, add_special_tokens=False),
    )
    if read != expected.ids:
        first = next((at for at, pair in enumerate(zip(read, expected.ids, strict=False)) if pair[0] != pair[1]), 0)
        pieces = tokenizer.convert_ids_to_tokens(read[first : first + 3]), expected.tokens[first : first + 3]
        return f"{PROBE[:24]!r}... gives {pieces[0]} where the file gives {pieces[1]}."
    if _decode(tokenizer, read) != reference.decode(expected.ids, skip_special_tokens=False):
        return f"its tokens come back as {_decode(tokenizer, read)[:24]!r}...."
    unknown = [token for token in tokenizer(PROBE)["input_ids"] if reference.id_to_token(token) is None]
    return f"it adds a token (id {unknown[0]}) that the file does not have." if unknown else None


def _decode(tokenizer: "PreTrainedTokenizerFast", ids: list[int]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)
