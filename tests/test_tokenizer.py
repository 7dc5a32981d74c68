"""A tokenizer reads text as its tokenizer.json says, whatever class transformers builds over it."""

import json

import pytest
from tiny_models import SETTINGS, random_decoder, save_checkpoint, tiny_tokenizer
from tokenizers import Tokenizer, decoders, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from andor.models import EMBEDDED, embedded_models, load_tokenizer
from andor.models.tokenizer import PROBE, as_the_file_says

# What transformers 5.10 to 5.15 were seen to do with this setting over a byte-level tokenizer.json.
LLAMA_FAST = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "</s>",
    "unk_token": None,
    "legacy": True,
    "clean_up_tokenization_spaces": False,
    "tokenizer_class": "LlamaTokenizerFast",
}


@pytest.fixture
def folder(tmp_path):
    tiny_tokenizer(300).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(LLAMA_FAST | {"eos_token": "<eos>", "pad_token": None}))
    return tmp_path


def read(tokenizer, text=PROBE):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def altered(folder, change):
    """The tokenizer of a folder with a part of its own put in."""
    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    change(core)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def of_llama_1(core):
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()


def of_other_splits(core):
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def of_another_decoder(core):
    core.decoder = decoders.Metaspace()


@pytest.mark.parametrize("change", [of_llama_1, of_other_splits, of_another_decoder])
def test_a_class_that_reads_otherwise_gives_way_to_the_file(folder, change):
    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    wrong = altered(folder, change)
    found = as_the_file_says(wrong, folder)
    assert found is not wrong and read(found) == core.encode(PROBE, add_special_tokens=False).ids
    assert found.decode(read(found), clean_up_tokenization_spaces=False) == PROBE
    assert as_the_file_says(found, folder) is found


@pytest.mark.parametrize(
    ("change", "said"),
    [(of_llama_1, r"gives \[.*\] where the file gives \["), (of_another_decoder, "its tokens come back as ")],
)
def test_what_no_class_reads_as_the_file_says_is_refused(monkeypatch, folder, change, said):
    wrong = altered(folder, change)
    monkeypatch.setattr(PreTrainedTokenizerFast, "from_pretrained", lambda _: wrong)
    with pytest.raises(ValueError, match=rf"does not read text as .*\.json says: .*{said}.*Use another version"):
        as_the_file_says(wrong, folder)


def test_a_bos_that_the_file_does_not_have_is_not_put_before_the_text(folder):
    wrong = PreTrainedTokenizerFast.from_pretrained(folder)
    wrong.add_special_tokens({"bos_token": "<unheard of>"})
    wrong.__class__ = type("WithBos", (PreTrainedTokenizerFast,), {"__call__": with_bos})
    found = as_the_file_says(wrong, folder)
    assert found is not wrong and found("film")["input_ids"] == read(found, "film")


@pytest.mark.parametrize("kind", ["LlamaTokenizerFast", "GemmaTokenizerFast", "PreTrainedTokenizerFast"])
def test_a_bos_that_only_the_config_asks_for_is_there(folder, kind):
    """transformers 4 puts it there for classes of the Llama kind, and 5 does not."""
    config = {"tokenizer_class": kind, "add_bos_token": True, "bos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    plain = read(tokenizer, "a film")
    found = as_the_file_says(tokenizer, folder)
    expected = [found.bos_token_id] * (kind != "PreTrainedTokenizerFast") + plain
    encoding = found("a film", return_offsets_mapping=True, return_special_tokens_mask=True)
    assert encoding["input_ids"] == expected and encoding["offset_mapping"][-1][1] == len("a film")
    assert sum(encoding["special_tokens_mask"]) == len(expected) - len(plain)
    assert read(found, "a film") == plain


def with_bos(self, text, add_special_tokens=True):
    ids = PreTrainedTokenizerFast.__call__(self, text, add_special_tokens=False)["input_ids"]
    return {"input_ids": [self.convert_tokens_to_ids("<unheard of>")] * add_special_tokens + ids}


def test_without_a_file_words_must_come_back(tmp_path, folder):
    kept = PreTrainedTokenizerFast.from_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    assert as_the_file_says(kept, folder) is kept
    core = tiny_tokenizer(300)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), core.pre_tokenizer])
    with pytest.raises(ValueError, match="does not give back 'the film is'"):
        as_the_file_says(PreTrainedTokenizerFast(tokenizer_object=core), folder)


@pytest.mark.parametrize("kind", ["llama-gqa", "qwen2-gqa"])
def test_loading_reads_as_the_file_says(tmp_path, kind):
    folder = save_checkpoint(tmp_path / "model", SETTINGS[kind], random_decoder(SETTINGS[kind]))
    for config in ({"tokenizer_class": "PreTrainedTokenizerFast"}, LLAMA_FAST | {"eos_token": "<eos>"}):
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"mask_token": "<mask>"}))
        core = Tokenizer.from_file(str(folder / "tokenizer.json"))
        assert read(load_tokenizer(str(folder))) == core.encode(PROBE, add_special_tokens=False).ids


@pytest.mark.parametrize("name", embedded_models())
def test_embedded_tokenizers_read_as_their_files_say(name):
    """AutoTokenizer splits the numbers of tiny-qwen2 since transformers 5.10."""
    core = Tokenizer.from_file(str(EMBEDDED / name / "tokenizer.json"))
    assert read(load_tokenizer(name)) == core.encode(PROBE, add_special_tokens=False).ids
    found, auto = load_tokenizer(name), AutoTokenizer.from_pretrained(EMBEDDED / name)
    for special in ("bos", "eos", "pad", "mask"):
        assert getattr(found, f"{special}_token_id") == getattr(auto, f"{special}_token_id") < 4096
