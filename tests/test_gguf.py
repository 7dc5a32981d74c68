"""GGUF files: what they hold is what the same model in HF format holds, and what cannot be read is refused by name."""

import json
import subprocess
import sys

import gguf_files
import numpy as np
import pytest
from gguf import TokenType
from safetensors.numpy import save_file
from test_experiments import experiment
from tiny_models import BASE, SETTINGS, assert_close, forward, random_decoder, save_checkpoint, tiny_tokenizer, tokens

import andor
from andor.models import FAMILIES, find, gguf_config, gguf_tokenizer, tensors
from andor.models.gguf_file import READABLE, read_gguf
from andor.models.weights import hf_tensors
from andor.show.cli import main

WIDE = {**BASE, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
"""Rows of 256, because the blocks of K-quants are that long."""


def parts(settings, seed=0):
    """(HF tensors, GGUF metadata, GGUF tensors) of a random decoder."""
    architecture = settings["model_type"]
    ours = hf_tensors(random_decoder(settings, seed), FAMILIES[architecture], np.float32)
    metadata = gguf_files.metadata(architecture, settings) | gguf_files.tokenizer_metadata(settings["vocab_size"])
    return ours, metadata, gguf_files.convert(architecture, settings, ours)


@pytest.fixture
def file(tmp_path):
    """A GGUF, its metadata and its tensors."""
    _, metadata, stored = parts(SETTINGS["llama-gqa"])
    return gguf_files.write(tmp_path / "model.gguf", metadata, stored), metadata, stored


@pytest.mark.parametrize("kind", READABLE)
def test_every_type_of_tensor(kind, tmp_path):
    """Weights are the numbers that the `gguf` package makes of the blocks, rows of q and k in HF's order."""
    settings = {**WIDE, "model_type": "llama"}
    ours, metadata, stored = parts(settings)
    rng = np.random.default_rng(0)
    kinds = {name: kind for name, value in stored.items() if value.ndim == 2}
    meant = {}
    for name in kinds:
        stored[name], meant[name] = gguf_files.stored(stored[name], kind, rng)
    names = dict(zip(gguf_files.convert("llama", settings, {name: ours[name] for name in ours}), ours, strict=True))
    for name, value in meant.items():
        hf_name, order = names[name], np.arange(len(value))
        heads = {"attn_q": 4, "attn_k": 2}.get(name.split(".")[-2])
        order = order if heads is None else gguf_files.permute(order, heads)
        ours[hf_name][order] = value
    path = gguf_files.write(tmp_path / "model.gguf", metadata, stored, kinds)
    folder = save_checkpoint(tmp_path / "hf", settings, random_decoder(settings))
    save_file(ours, folder / "model.safetensors", metadata={"format": "pt"})
    model, expected = andor.load(str(path), dtype="float32"), andor.load(str(folder))
    for (name, actual), value in zip(
        hf_tensors(model.decoder, FAMILIES["llama"], np.float32).items(), ours.values(), strict=True
    ):
        assert np.all(np.isfinite(value)) and np.array_equal(actual, value), name
    x = tokens((2, 9), settings["vocab_size"])
    assert_close(forward(model.decoder, x), forward(expected.decoder, x), 0)
    assert find(str(path)).dtype_on(None, backend="gpu") == ("bfloat16" if kind == "BF16" else "float32")


def in_gguf(settings):
    """Whether llama.cpp has what the settings ask for: of windows only Gemma's, of Llama 3's scaling what follows from
    it (see below)."""
    kind = settings["model_type"]
    window = settings.get("use_sliding_window") and kind != "gemma3_text"
    return kind in ("llama", "qwen2", "qwen3", "gemma3_text") and not window and not settings.get("rope_scaling")


@pytest.mark.parametrize("name", [name for name, settings in SETTINGS.items() if in_gguf(settings)])
def test_every_architecture_is_as_in_hf_format(name, tmp_path, monkeypatch):
    """Config, tokens, logits; also when a tensor is read in many blocks."""
    settings = SETTINGS[name]
    _, metadata, stored = parts(settings)
    path = gguf_files.write(tmp_path / "model.gguf", metadata, stored)
    folder = save_checkpoint(tmp_path / "hf", settings, random_decoder(settings))
    monkeypatch.setattr("andor.models.gguf_file.BLOCK_BYTES", 3000)
    model, expected = andor.load(str(path)), andor.load(str(folder))
    assert_configs(find(str(path)).config, find(str(folder)).config)
    x = tokens((2, 9), settings["vocab_size"])
    assert_close(forward(model.decoder, x), forward(expected.decoder, x), 1e-5)
    text = "a good film is never dull , 123"
    assert model.tokenizer(text)["input_ids"] == expected.tokenizer(text)["input_ids"]
    assert model.tokenizer.mask_token_id == expected.tokenizer.mask_token_id
    assert (model.family, model.parameters) == (expected.family, expected.parameters)


def assert_configs(ours, theirs):
    """Equal but for the rounding of what a GGUF has in float32."""
    ours, theirs = vars(ours), vars(theirs)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name] or ours[name] == pytest.approx(theirs[name], rel=1e-6), name


def test_slices_are_those_of_the_whole(file):
    _, _, stored = file
    found = {each.name: each for each in gguf_config.hf_tensors(read_gguf(file[0]), names_of("llama-gqa"))}
    for name, each in found.items():
        whole = each.read(tuple((0, size) for size in each.shape), np.float32)
        ranges = tuple((size // 4, size // 2 + 1) for size in each.shape)
        assert np.array_equal(each.read(ranges, np.float32), whole[tuple(slice(*pair) for pair in ranges)]), name
        assert each.equals(each, np.float32)
    assert len(found) == len(stored)


def names_of(name):
    settings = SETTINGS[name]
    return hf_tensors(random_decoder(settings), FAMILIES[settings["model_type"]], np.float32)


def divisors(settings, factor, low, high, context):
    """What llama.cpp's converter writes of Llama 3's RoPE scaling (`LlamaModel.generate_extra_tensors`)."""
    dim = settings["head_dim"]
    found = []
    for freq in 1.0 / settings["rope_theta"] ** (np.arange(0, dim, 2) / dim):
        wavelength = 2 * np.pi / freq
        if wavelength < context / high:
            found.append(1.0)
        elif wavelength > context / low:
            found.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


def test_llama_3_scaling_of_rope(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 32.0, **gguf_config.LLAMA3_ROPE}
    settings = {**SETTINGS["llama-mqa-head-dim"], "rope_theta": 500_000.0, "head_dim": 32}
    _, metadata, stored = parts(settings)
    for context, expected in ((8192, True), (4096, False)):
        factors = divisors(settings, 32.0, 1.0, 4.0, context)
        assert 1 in factors and 32 in factors and len(set(factors.tolist())) > 2
        path = gguf_files.write(tmp_path / f"{context}.gguf", metadata, stored | {"rope_freqs.weight": factors})
        if expected:
            folder = save_checkpoint(tmp_path / "hf", settings | {"rope_scaling": scaling}, random_decoder(settings))
            assert_configs(find(str(path)).config, find(str(folder)).config)
            andor.load(str(path))
        else:
            with pytest.raises(ValueError, match=r"another way than Llama 3\.1"):
                find(str(path))


OTHERS = {
    "qwen3": ("qwen3", {"head_dim": 24}),
    "gemma3": ("gemma3_text", {"head_dim": 24, "query_pre_attn_scalar": 24, "sliding_window": 5}),
}


@pytest.mark.parametrize("architecture", OTHERS)
def test_architectures_of_the_other_families(architecture, tmp_path):
    """Settings and names are those of transformers' own models; logits too where andor implements the family."""
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, changes = OTHERS[architecture]
    settings = {key: value for key, value in BASE.items() if key not in ("hidden_act", "rope_theta")} | changes
    settings |= {"num_hidden_layers": 6, "tie_word_embeddings": True}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **settings)
    theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    state = {name: parameter.detach().numpy() for name, parameter in theirs.named_parameters()}
    theta = 1e6 if architecture == "gemma3" else float(config.rope_parameters["rope_theta"])
    metadata = gguf_files.metadata(architecture, settings | {"rope_theta": theta})
    path = gguf_files.write(
        tmp_path / "model.gguf",
        metadata | gguf_files.tokenizer_metadata(300),
        gguf_files.convert(architecture, settings, state),
    )
    gguf = read_gguf(path)
    ours = AutoConfig.for_model(**gguf_config.read_settings(gguf)).to_dict()
    expected = config.to_dict()
    for key in (*settings, "layer_types", "rope_parameters", "hidden_activation", "hidden_act"):
        assert ours.get(key) == expected.get(key) or ours[key] == pytest.approx(expected[key], rel=1e-6), key
    found = {each.name: each.shape for each in gguf_config.hf_tensors(gguf, state)}
    assert found == {name: value.shape for name, value in state.items()}
    if model_type not in FAMILIES:
        with pytest.raises(ValueError, match=f"model_type '{model_type}'"):
            andor.load(str(path))
        return
    x = tokens((2, 12), 300)
    with torch.no_grad():
        logits = theirs(torch.tensor(np.asarray(x), dtype=torch.long)).logits.numpy()
    assert_close(forward(andor.load(str(path)).decoder, x), logits, 1e-3)


def test_a_split_file(tmp_path):
    settings = SETTINGS["qwen2-gqa"]
    _, metadata, stored = parts(settings)
    names = [f"m-0000{part}-of-00002.gguf" for part in (1, 2)]
    half = len(stored) // 2
    split = {"split.count": 2, "split.tensors.count": len(stored)}
    first = gguf_files.write(tmp_path / names[0], metadata | split, dict([*stored.items()][:half]))
    second = gguf_files.write(tmp_path / names[1], {"split.count": 2}, dict([*stored.items()][half:]))
    whole = andor.load(str(gguf_files.write(tmp_path / "whole.gguf", metadata, stored)))
    model, x = andor.load(str(first)), tokens((1, 5), 300)
    assert_close(forward(model.decoder, x), forward(whole.decoder, x), 0)
    assert len({model.fingerprint, whole.fingerprint, andor.load(str(first)).fingerprint}) == 2
    with pytest.raises(ValueError, match=f"later part of a GGUF. Name its first part, {names[0]}"):
        find(str(second))
    alone = first.rename(tmp_path / "n-00001-of-00002.gguf")
    with pytest.raises(FileNotFoundError, match="files that are not there: n-00002-of-00002"):
        find(str(alone))


def test_what_reads_no_weights_and_what_decides_reuse(file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prompt = ("--prompt", "the film is not good , but it is never dull .", "--players", "film", "never")
    assert main(["plan", "model.gguf", *prompt]) == 0
    assert "model.gguf" in capsys.readouterr().out
    assert andor.models.load_config("model.gguf")[0] == find("model.gguf").config
    same = gguf_files.write(tmp_path / "other.gguf", file[1] | {"tokenizer.chat_template": "{{ 1 }}"}, file[2])
    other = find(str(same))
    assert other.tokenizer.chat_template == "{{ 1 }}"
    assert len({find("model.gguf").tokenizer_hash, other.tokenizer_hash}) == 2
    assert len({find("model.gguf").fingerprint, other.fingerprint}) == 2


def test_the_package_is_imported_for_a_gguf_alone(models):
    code = f"import sys, andor; andor.load({models[0]!r}); assert 'gguf' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_of_the_hub(file, tmp_path, monkeypatch):
    import huggingface_hub

    calls = []

    def download(name, *, revision, allow_patterns):
        calls.append((name, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    andor.models.load_tokenizer("lab/model-GGUF:model.gguf")
    assert find("lab/model-GGUF@main:model.gguf").revision == tmp_path.name
    with pytest.raises(ValueError, match=r"lab/model has no file q8/m-00001-of-00002\.gguf"):
        find("lab/model:q8/m-00001-of-00002.gguf")
    assert calls == [
        ("lab/model-GGUF", None, ["model.gguf"]),
        ("lab/model-GGUF", "main", ["model.gguf"]),
        ("lab/model", None, ["q8/m-00001-of-00002.gguf", "q8/m-00002-of-00002.gguf"]),
    ]


def changed(remove=(), **changes):
    """The file with other metadata; a dot in a key is written as two underscores."""
    changes = {key.replace("__", "."): value for key, value in changes.items()}

    def make(path, metadata, stored):
        kept = {key: value for key, value in (metadata | changes).items() if key not in remove}
        gguf_files.write(path, kept, stored)

    return make


def cut(position):
    def make(path, metadata, stored):
        data = path.read_bytes()
        path.write_bytes(data[: position if position > 0 else len(data) + position])

    return make


def overwritten(start, data):
    def make(path, metadata, stored):
        content = bytearray(path.read_bytes())
        content[start : start + len(data)] = data
        path.write_bytes(content)

    return make


def with_tensors(change, kinds=None):
    def make(path, metadata, stored):
        gguf_files.write(path, metadata, change(dict(stored)), kinds)

    return make


IQ4_NL = with_tensors(
    lambda stored: stored | {"blk.0.attn_q.weight": np.zeros((32, 18), np.uint8)}, {"blk.0.attn_q.weight": "IQ4_NL"}
)
BAD = {
    "empty": (cut(1), "damaged or no GGUF file: it does not begin with GGUF"),
    "another file": (overwritten(0, b"PK\3\4"), "does not begin with GGUF"),
    "version 1": (overwritten(4, b"\1\0\0\0"), "of version 1"),
    "big-endian": (overwritten(4, b"\0\0\0\3"), "reads 2 and 3, little-endian"),
    "cut in its metadata": (cut(300), "it ends"),
    "cut in its numbers": (cut(20), "it ends"),
    "cut in a tensor": (cut(-2000), "it ends before tensor"),
    "a huge string": (overwritten(24, b"\xff" * 8), "ends within its header"),
    "another architecture": (changed(general__architecture="rwkv7"), "has architecture 'rwkv7'; of GGUF files andor"),
    "no architecture": (changed(["general.architecture"]), "has architecture 'None'"),
    "a key missing": (changed(["llama.block_count"]), "lacks llama.block_count"),
    "an unknown key": (changed(llama__expert_count=8), "what the model computes: llama.expert_count=8"),
    "heads of layers": (changed(llama__attention__head_count_kv=[2, 2]), "num_key_value_heads"),
    "part of a head rotated": (changed(llama__rope__dimension_count=4), "llama.rope.dimension_count=4"),
    "yarn": (changed(llama__rope__scaling__type="yarn", llama__rope__scaling__factor=4.0), "'yarn'"),
    "a number that is none": (changed(llama__embedding_length="many"), "hidden_size"),
    "no layer": (changed(llama__block_count=0), "num_hidden_layers"),
    "type": (IQ4_NL, "holds tensors of type IQ4_NL, which andor does not read"),
    "a tensor missing": (
        with_tensors(lambda stored: {name: x for name, x in stored.items() if name != "blk.1.ffn_up.weight"}),
        "do not fit its metadata: missing tensor model.layers.1.mlp.up_proj.weight",
    ),
    "no embeddings": (
        with_tensors(lambda stored: {name: x for name, x in stored.items() if name != "token_embd.weight"}),
        "lacks tensor token_embd.weight",
    ),
    "an unknown tensor": (
        with_tensors(lambda stored: stored | {"blk.0.attn_q_norm.weight": np.ones(8, np.float32)}),
        "unknown tensor blk.0.attn_q_norm.weight",
    ),
    "another shape": (
        with_tensors(lambda stored: stored | {"output_norm.weight": np.ones(8, np.float32)}),
        "model.norm.weight has shape (8,), expected (32,)",
    ),
    "another size": (changed(llama__vocab_size=299), "has shape (300, 32), expected (299, 32)"),
    "one of two": (changed(split__count=2), "says that it is one of 2 files, and its name does not"),
    "no tokenizer": (changed(["tokenizer.ggml.tokens"]), "no tokenizer could be read from"),
    "a tokenizer of another kind": (changed(tokenizer__ggml__model="bert"), "its model 'bert' is not implemented"),
    "other splits": (changed(tokenizer__ggml__pre="default"), "its pre-tokenizer 'default' is not implemented"),
    "no merges": (changed(["tokenizer.ggml.merges"]), "no tokenizer.ggml.merges"),
    "other merges": (changed(tokenizer__ggml__merges=["zz q"]), "its merges do not fit its tokens"),
    "fewer kinds": (changed(tokenizer__ggml__token_type=[1]), "tokens, and a tokenizer.ggml.token_type for 1"),
    "a token that is not there": (changed(tokenizer__ggml__eos_token_id=300), "eos_token_id is 300"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused_in_one_line(name, file, capsys):
    path, *content = file
    make, message = BAD[name]
    make(path, *content)
    prompt = ("--prompt", "the film is good", "--players", "film", "good")
    assert main(["extract", str(path), *prompt]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and path.name in error and "Traceback" not in error, error


def test_a_directory_of_gguf_files_is_told_to_name_one(file, models, tmp_path):
    path = file[0]
    with pytest.raises(ValueError, match=f"holds GGUF files. Name the one to load: {path}"):
        find(str(tmp_path))
    with pytest.raises(ValueError, match=r"no file .*other\.gguf"):
        find(str(tmp_path / "other.gguf"))


MARKED = {"<s>": TokenType.CONTROL, "<think>": TokenType.USER_DEFINED, "[PAD9]": TokenType.UNUSED}


def byte_level(pre, **more):
    """A tokenizer of bytes, of a few words and of digits, with tokens of every kind."""
    described = json.loads(tiny_tokenizer(290).to_str())["model"]
    words = [*dict.fromkeys([*sorted(described["vocab"], key=described["vocab"].get), "1", "12", "whole", *MARKED])]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [int(MARKED.get(each, TokenType.NORMAL)) for each in words],
        "tokenizer.ggml.merges": [*(" ".join(merge) for merge in described["merges"]), "1 2"],
        "tokenizer.ggml.bos_token_id": words.index("<s>"),
        "tokenizer.ggml.eos_token_id": words.index("<s>"),
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


def read_tokenizer(tmp_path, metadata):
    path = gguf_files.write(tmp_path / f"{len([*tmp_path.iterdir()])}.gguf", metadata, {"x": np.ones(1, np.float32)})
    return gguf_tokenizer.read_tokenizer(read_gguf(path))


@pytest.mark.parametrize(
    "pre, text, expected",
    [
        ("gpt-2", "12", ["12"]),
        ("smollm", "12", ["1", "2"]),
        ("qwen2", "12", ["1", "2"]),
        ("llama-bpe", "12", ["<s>", "12"]),
        ("llama-bpe", "whole", ["<s>", "whole"]),
        ("qwen2", "whole", ["w", "h", "o", "l", "e"]),
        ("gpt-2", "e\u0301", ["e", "\u00cc", "\u0123"]),
        ("qwen2", "e\u0301", ["\u00c3", "\u00a9"]),
        ("tekken", "12", ["<s>", "1", "2"]),
        ("gpt-2", "1<think>2<s>", ["1", "<think>", "2", "<s>"]),
        ("gpt-2", "[PAD9]", ["[", "P", "A", "D", "9", "]"]),
    ],
)
def test_byte_level_tokenizers(pre, text, expected, tmp_path):
    tokenizer = read_tokenizer(tmp_path, byte_level(pre))
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == expected
    assert tokenizer.is_fast and tokenizer.all_special_tokens == ["<s>"]
    assert tokenizer.decode(tokenizer("a good film")["input_ids"], skip_special_tokens=True) == "a good film"


def test_what_is_put_around_a_text_is_what_the_file_says(tmp_path):
    for flags, expected in (
        ({"add_bos_token": True}, ["<s>", "1"]),
        ({"add_eos_token": True}, ["1", "<s>"]),
        ({"add_bos_token": False}, ["1"]),
    ):
        tokenizer = read_tokenizer(tmp_path, byte_level("gpt-2", **flags))
        assert tokenizer.convert_ids_to_tokens(tokenizer("1")["input_ids"]) == expected


PIECES = {
    "<unk>": 0.0,
    "<s>": 0.0,
    "\n\n": -99.0,
    "▁": -8.0,
    "a": -9.0,
    "b": -10.0,
    "ab": -1.0,
    "▁a": -2.0,
    "▁ab": -3.0,
}
BYTES = {f"<0x{each:02X}>": 0.0 for each in range(256)}


@pytest.mark.parametrize(
    "text, prefix, expected",
    [
        ("ab", True, ["<s>", "▁ab"]),
        ("ab", False, ["<s>", "ab"]),
        ("aab ab", False, ["<s>", "a", "ab", "▁ab"]),
        ("a\n\nb\n", False, ["<s>", "a", "\n\n", "b", "<0x0A>"]),
        ("é", False, ["<s>", "<0xC3>", "<0xA9>"]),
    ],
)
def test_sentencepiece_tokenizers(text, prefix, expected, tmp_path):
    """Merges are found from the scores: the token of the highest one first."""
    kinds = {"<unk>": TokenType.UNKNOWN, "<s>": TokenType.CONTROL, "\n\n": TokenType.USER_DEFINED}
    tokens = [*PIECES, *BYTES]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [*PIECES.values(), *BYTES.values()],
        "tokenizer.ggml.token_type": [
            int(kinds.get(each, TokenType.BYTE if each in BYTES else TokenType.NORMAL)) for each in tokens
        ],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": prefix,
    }
    tokenizer = read_tokenizer(tmp_path, metadata)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == expected
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_parity_and_memory_of_a_file(file, capsys):
    pytest.importorskip("torch")
    path = file[0]
    parity = experiment("parity")
    ((_, row),) = parity.main(parity.Config(gguf=(path,), smoke=True)).items()
    assert row["logits"] < 1e-3 and row["log-odds"] < 1e-3
    memory = experiment("loading_memory")
    results = memory.main(memory.Config(model=str(path), dtype="float32"))
    assert results["parameters"] == results["expected parameters"]
    assert "largest tensor" in capsys.readouterr().out


def test_tensors_of_safetensors_files_are_of_their_own_types():
    assert set(tensors.StoredTensor.readable) == set(tensors.DTYPES) and "Q4_0" not in tensors.StoredTensor.readable
