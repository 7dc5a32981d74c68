"""Whether a tokenizer reads text as its tokenizer.json says.

A class of transformers may build its own splitting, spaces or BOS over a file's vocabulary: LlamaTokenizer (5.10 to
5.15 at least) loses all spaces of DeepSeek-R1-Distill-Llama, Qwen2Tokenizer (5.10 on) splits numbers that the file
keeps whole. What a model was trained on is what tokenizer.json says, so that is what counts here, whatever the version.

One thing stands in tokenizer_config.json alone: that classes of the Llama kind put a BOS before every text
(`add_bos_token`). transformers 4 follows it, and 5 passes it over where there is a tokenizer.json.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, processors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ADVICE = "Use another version of transformers, or mend the files."

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
            raise ValueError(
                f"the tokenizer in {folder} ({type(tokenizer).__name__}) does not give back 'the film is' after taking "
                f"it apart. {ADVICE}"
            )
        return tokenizer
    reference = Tokenizer.from_file(str(path))
    if _difference(tokenizer, reference) is not None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        why = _difference(tokenizer, reference)
        if why is not None:
            raise ValueError(
                f"{type(tokenizer).__name__} of transformers does not read text as {path} says: {why} {ADVICE}"
            )
    if _lacks_bos(tokenizer, reference, folder):
        bos, own = tokenizer.bos_token, tokenizer.backend_tokenizer.post_processor
        first = processors.TemplateProcessing(f"{bos}:0 $A:0", special_tokens=[(bos, tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = first if own is None else processors.Sequence([own, first])
    return tokenizer


def _lacks_bos(tokenizer: "PreTrainedTokenizerFast", reference: Tokenizer, folder: Path) -> bool:
    """Whether tokenizer_config.json asks a class of the Llama kind for a BOS that the file has and texts do not get."""
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kind, bos = str(said.get("tokenizer_class")), tokenizer.bos_token
    asked = said.get("add_bos_token") is True and kind.startswith(("Llama", "CodeLlama", "Gemma"))
    known = bos is not None and reference.token_to_id(bos) is not None
    return asked and known and tokenizer("a")["input_ids"][:1] != [tokenizer.bos_token_id]


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
