"""Input that makes no sense: one clear line, a non-zero exit code, and everything that was there as it was."""

import contextlib
import functools
import hashlib
import io
import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_runs import probability, recipe_of, rewrite, save_run
from tiny_models import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

import andor
from andor.core.values import Values
from andor.prompts import Prompt, read_prompts, tokenize
from andor.runs import cache, files
from andor.runs.recipe import begin
from andor.show.cli import main

TEXT = "the film is not good , but it is never dull ."
LETTERS = " ".join("abcdefghijklmnopqrstuvwxyzABCD")

# What a case runs, in a folder that holds "model", a checkpoint, and what `make` adds to it.
EXTRACT = ("extract", "model", "--out", "out", "--prompt")
PLAYERS = (*EXTRACT, TEXT, "--players")
COMPARE = ("compare", "--models", "model", "--out", "out")
READ = (*COMPARE, "--prompts", "prompts.jsonl")
LOAD = (*EXTRACT, TEXT, "--players", "good", "dull")
CHAT = (*LOAD, "--chat")
DRAW = ("figures", "run")
GO_ON = ("compare", "--models", "model", "--out", "run", "--prompt", TEXT, "--players", "good", "dull")


def lines(*records, separator=b"\n"):
    """prompts.jsonl."""
    content = separator.join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in records)
    return lambda folder, _: (folder / "prompts.jsonl").write_bytes(content)


def line(**fields):
    """prompts.jsonl of one line."""
    return lines({"text": TEXT, "players": ["good", "dull"]} | fields)


def config(remove=(), **changes):
    """Another config.json."""

    def make(folder, _):
        path = folder / "model" / "config.json"
        settings = {name: x for name, x in (json.loads(path.read_text()) | changes).items() if name not in remove}
        path.write_text(json.dumps(settings))

    return make


def model_file(name, content):
    """A file of the model: bytes, None for none, a dict for changes of its JSON."""

    def make(folder, _):
        path = folder / "model" / name
        if isinstance(content, dict):
            path.write_text(json.dumps(json.loads(path.read_text()) | content))
        elif content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    return make


def weights(change):
    """Another model.safetensors: `change` gets its tensors by name."""

    def make(folder, _):
        path = folder / "model" / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return make


def shards(weight_map):
    """An index of files that `weight_map` gives to the tensors, or another text, in the place of the one file."""

    def make(folder, _):
        (folder / "model" / "model.safetensors").unlink()
        text = weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map})
        (folder / "model" / "model.safetensors.index.json").write_text(text)

    return make


def a_folder(name):
    """A folder where a file should be."""

    def make(folder, _):
        path = folder / name
        path.unlink(missing_ok=True)
        path.mkdir()

    return make


def a_file(name, content=b"mine"):
    """A file that was there."""
    return lambda folder, _: (folder / name).write_bytes(content)


def damaged(name, content):
    """A run with a file of other content; None removes it, a function gets what it was."""

    def make(folder, _):
        path = a_run(folder / "run").path / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            return path.unlink()
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return make


def half(content):
    return content[: len(content) // 2]


def one_bit(content):
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def one_digit(content):
    """Still JSON."""
    assert b"0.02" in content
    return content.replace(b"0.02", b"0.03")


def signed(change):
    """JSON with a checksum that fits, as a person would write it who changes a run by hand."""

    def changed(content):
        content = json.loads(content)
        del content["sha256"]
        change(content)
        return files.json_bytes(content)

    return changed


def tampered(**changes):
    """A run whose explanation has other arrays, with a checksum that fits."""
    return lambda folder, _: rewrite(a_run(folder / "run").path / "model" / "one.npz", **changes)


def two_runs(folder, _):
    a_run(folder / "run")
    save_run(folder / "run", a_recipe(noise=0.05))


def unfinished(folder, _):
    """Left by a process that was killed."""
    begin(folder / "run", a_recipe(noise=0.3))


def an_npy(_):
    stream = io.BytesIO()
    np.save(stream, np.zeros(4))
    return stream.getvalue()


def a_zip_of_other_things(_):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("v", b"no array")
    return stream.getvalue()


def no_hub(folder, monkeypatch):
    import huggingface_hub

    def download(*arguments, **settings):
        raise OSError("404 Client Error.\nmore\nlines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def without_words(folder, _):
    """A tokenizer that drops zero-width spaces."""
    path = folder / "model" / "tokenizer.json"
    normalizer = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": normalizer}))


def a_recipe(text=TEXT, players=("good", "dull"), model="model", **changes):
    return recipe_of((model,), (Prompt(text, players=players, id="one"),), **changes)


def a_run(path, **changes):
    """A finished run of one model on one prompt of two players, the only one of its root."""
    return save_run(path, a_recipe(**changes))


def case(name, message, *arguments, make=None):
    return pytest.param(arguments, message, make, id=name)


FLAGS = [
    case("no such command", "See `andor --help`", "nonsense"),
    case("no such flag", "--no-such-flag", *COMPARE, "--no-such-flag"),
    case("no prompt to extract", "prompt TEXT", "extract", "model"),
    case("noise below 0", "noise=...) must be finite and not negative", *COMPARE, "--noise", "-1"),
    case("noise nan", "must be finite and not negative, or 'auto' or 'measured'; got nan", *COMPARE, "--noise", "nan"),
    case("noise infinite", "got inf", *COMPARE, "--noise", "inf"),
    case("noise in words", "--noise", *COMPARE, "--noise", "much"),
    case("score in words", "--score", *COMPARE, "--score", "mean"),
    case("tau of 1", "tau=...) must be a share of the largest effect", *COMPARE, "--tau", "1"),
    case("tau nan", "got nan", *COMPARE, "--tau", "nan"),
    case("no prompts wanted", "--limit must be at least 1", *COMPARE, "--limit", "0"),
    case("half a prompt", "--limit", *COMPARE, "--limit", "1.5"),
    case("limit of one prompt", "--limit cuts a list of prompts", *COMPARE, "--limit", "3", "--prompt", TEXT),
    case("no effects wanted", "--top must be at least 1", *LOAD, "--top", "0"),
    case("unknown dtype", "int4", *LOAD, "--dtype", "int4"),
    case("unknown solver", "--solver", *COMPARE, "--solver", "best"),
    case("unknown baseline", "baseline='nothing' must be auto, mean, zero, delete", *LOAD, "--baseline", "nothing"),
    case("mesh in words", "a mesh is written like data=4,model=2; got 'all'", *LOAD, "--mesh", "all"),
    case("mesh axis twice", "a mesh is written like", *LOAD, "--mesh", "data=1,data=2"),
    case("no power of two", "must be a power of two", *LOAD, "--mesh", "data=3"),
    case("no such devices", "needs 4096 devices; there are", *LOAD, "--mesh", "data=4096"),
    case("empty mesh", "must be at least 1; got 0", *LOAD, "--mesh", "model=0"),
    case("hosts in words", "--distributed is auto, or HOST:PORT,N,I", *COMPARE, "--distributed", "many"),
    case("no such process", "process=...) must be from 0 to 1; got 2", *COMPARE, "--distributed", "host:1234,2,2"),
    case("no such port", "must be 'host:port'", *COMPARE, "--distributed", "host:99999,2,0"),
    case("a model twice", "must be different models", "compare", "--models", "model", "model", "--out", "out"),
    case("two kinds of prompts", "Keep one", *READ, "--prompt", TEXT, make=line()),
    case("players of no prompt", "--players, --target and --exact belong to --prompt", *COMPARE, "--players", "film"),
    case("target of no prompt", "--players, --target and --exact belong to --prompt", *COMPARE, "--target", "good"),
    case("half a device", "describe a device together", "plan", "model", "--memory", "80"),
    case("a model larger than the device", "weights", "plan", "model", "--memory", "1e-6", "--tflops", "1"),
    case("a shard of too few", "a shard is written I/N", *COMPARE, "--shard", "3/2"),
    case("a shard in words", "a shard is written I/N", *COMPARE, "--shard", "first"),
    case("values of nowhere", "nowhere holds no values to reuse", *COMPARE, "--reuse", "nowhere"),
    case("values of a model", "model holds no values to reuse", *COMPARE, "--reuse", "model"),
    case("no such prompt file", "no file 'prompts.jsonl': there is nothing", *READ),
    case("prompt file is a folder", "it is a directory", *READ, make=a_folder("prompts.jsonl")),
]

PATHS = [
    case("out is a file", "out is a file, and --out names a folder", *LOAD, make=a_file("out")),
    case("out below a file", "mine/out/unfinished.json could not be", *LOAD, "--out", "mine/out", make=a_file("mine")),
    case("out holds something else", "is not empty, and what it holds is no run", *LOAD, "--out", "model"),
    case("out is too long", "File name too long", *LOAD, "--out", "o" * 300),
    case("out of nobody", "can be no path", *LOAD, "--out", "~no-such-user/run"),
    case("unknown model", "unknown model 'tiny-nothing'. Give one of", "extract", "tiny-nothing", "--prompt", TEXT),
    case("model without a name", "unknown model ''", "extract", "", "--prompt", TEXT),
    case("model is too long", "unknown model 'mmm", "extract", "m" * 5000, "--prompt", TEXT),
    case("model of nobody", "unknown model '~no-such-user'", "extract", "~no-such-user", "--prompt", TEXT),
    case("model is a file", "unknown model 'mine'", "extract", "mine", "--prompt", TEXT, make=a_file("mine")),
    case("model beyond the hub", "unknown model 'lab/../../x'", "extract", "lab/../../x", "--prompt", TEXT),
    case("revision beyond the hub", "unknown model", "extract", "lab/x@../../../x", "--prompt", TEXT),
    case(
        "model name with a line break", "control characters", "extract", "a\nb", "--prompt", TEXT, make=a_folder("a\nb")
    ),
    case("not on the hub", "could not be had from the hub", "extract", "lab/x", "--prompt", TEXT, make=no_hub),
    case(
        "out with other settings",
        "run holds an unfinished run with other settings, begun by process ",
        *GO_ON,
        make=unfinished,
    ),
]

TEXTS = [
    case("empty text", "must hold some text; got ''", *EXTRACT, ""),
    case("blank text", "must hold some text", *EXTRACT, " \n\t"),
    case("stop words alone", "must have a content word to mask", *EXTRACT, "it is the"),
    case("zero-width text", "must have a content word to mask", *EXTRACT, "\u200b\u200d"),
    case("bytes that are no UTF-8", "is a byte that is no UTF-8", *EXTRACT, "film \udcff"),
    case(
        "huge text",
        "has 20002 tokens, but 'model' was made for at most 512",
        *EXTRACT,
        "film " * 20_000,
        "--players",
        "film",
    ),
    case("player of another text", "'bad' is not in", *PLAYERS, "bad"),
    case("players in another order", "give the players in that order", *PLAYERS, "dull", "good"),
    case("player in another case", "spell it as in the text", *PLAYERS, "GOOD"),
    case("player repeated too often", "'good' is not in", *PLAYERS, "good", "good"),
    case("player of nothing", "got an empty one", *PLAYERS, "good", " "),
    case("a huge player", "'xxxxx", *PLAYERS, "x" * 50_000),
    case("30 players", "at most 20 players", *EXTRACT, LETTERS, "--players", *LETTERS.split()),
    case("empty target", "target=...) must hold some text", *LOAD, "--target", ""),
    case("target of no token", "must hold at least one token", *LOAD, "--target", "\u200b", make=without_words),
    case("player of no token", "has no token", *EXTRACT, "a \u200b film", "--players", "\u200b", make=without_words),
    case("players that share a token", "share the token", *EXTRACT, "film", "--players", "f", "ilm"),
]

LINES = [
    case("no line", "must hold at least one prompt; got an empty file", *READ, make=lines()),
    case("blank lines", "got an empty file", *READ, make=lines(b" ", b"", b"\t")),
    case("no UTF-8", "line 1: must be UTF-8; byte 11", *READ, make=lines(b'{"text": "\xff"}')),
    case("UTF-16", "must be UTF-8", *READ, make=lines('{"text": "film"}'.encode("utf-16"))),
    case("no JSON", "must be one JSON object; Expecting value at column 1", *READ, make=lines(b"film")),
    case("a list", "must be one JSON object; got list", *READ, make=lines([TEXT])),
    case("JSON over two lines", "line 1: must be one JSON object", *READ, make=lines(b'{"text":', b'"film"}')),
    case("two objects in a line", "Extra data", *READ, make=lines({"text": "a"}, {"text": "b"}, separator=b" ")),
    case("lists in lists", "lists in lists without end", *READ, make=lines(b"[" * 100_000)),
    case("a number without end", "line 1", *READ, make=lines(b'{"text": ' + b"9" * 5000 + b"}")),
    case("no text", "must have a field 'text'", *READ, make=lines({"id": "x"})),
    case("text is a number", "'text' must be a string; got 7", *READ, make=line(text=7)),
    case("half a surrogate pair", "half of a surrogate pair", *READ, make=line(text="film \ud800")),
    case("unknown field", "unknown field 'txet'", *READ, make=line(txet="film")),
    case("field twice", "field 'text' is given twice", *READ, make=lines(b'{"text": "a film", "text": "another"}')),
    case("id is a number", "'id' must be a string", *READ, make=line(id=7)),
    case("id that climbs", "Prompt(id=...) names files", *READ, make=line(id="../../x")),
    case("id with a slash", "got 'a/b'", *READ, make=line(id="a/b")),
    case("id with a backslash", "Prompt(id=...) names files", *READ, make=line(id="a\\b")),
    case("id of dots", "got '..'", *READ, make=line(id="..")),
    case("id that hides", "got '.hidden'", *READ, make=line(id=".hidden")),
    case("id with a line break", r"got 'a\nb'", *READ, make=line(id="a\nb")),
    case("id with an escape", r"got '\x1b[31mred'", *READ, make=line(id="\x1b[31mred")),
    case("id that writes backwards", r"got 'a\u202eb'", *READ, make=line(id="a\u202eb")),
    case("empty id", "got ''", *READ, make=line(id="")),
    case("id longer than file names", "200 bytes", *READ, make=line(id="漢" * 90)),
    case("huge id", "got 'xxxx", *READ, make=line(id="x" * 100_000)),
    case(
        "id twice",
        "line 2: id 'x' is already that of line 1",
        *READ,
        "--strict",
        make=lines(*2 * [{"text": TEXT, "id": "x"}]),
    ),
    case(
        "id twice but for case",
        "already that of line 1",
        *READ,
        "--strict",
        make=lines({"text": TEXT, "id": "é"}, {"text": TEXT, "id": "É"}),
    ),
    case("players in one string", "'players' must be a list", *READ, make=line(players="good dull")),
    case("no player", "must name at least one player", *READ, make=line(players=[])),
    case("30 players in a line", "at most 20 players", *READ, make=line(text=LETTERS, players=LETTERS.split())),
    case(
        "overlapping players",
        "must not overlap; got 'film is' (4, 11) and 'is' (9, 11)",
        *READ,
        make=line(players=[[4, 11], [9, 11]]),
    ),
    case("the same player twice", "must not overlap", *READ, make=line(players=[[4, 8], [4, 8]])),
    case("player outside the text", "0 <= start < stop <= 45", *READ, make=line(players=[[4, 400]])),
    case("player backwards", "got (8, 4)", *READ, make=line(players=[[8, 4]])),
    case("half a character", "must be all strings or all (start, stop)", *READ, make=line(players=[[4, 8.5]])),
    case("words and spans", "must be all strings or all (start, stop)", *READ, make=line(players=["film", [4, 8]])),
    case("target is a list", "'target' must be a string", *READ, make=line(target=["good"])),
    case("two targets", "two names of one thing", *READ, make=line(target="good", next_word="good")),
    case("exact in words", "'exact' must be true or false; got 'yes'", *READ, make=line(target="good", exact="yes")),
    case("exact without a target", "'exact' says how 'target' is meant", *READ, make=line(exact=True)),
    case("chat in words", "'chat' must be true or false; got 'yes'", *READ, make=line(chat="yes")),
    case(
        "one bad line with --strict",
        "line 2: must have a field 'text'",
        *READ,
        "--strict",
        make=lines({"text": TEXT}, {}),
    ),
    case(
        "one long prompt with --strict",
        "made for at most 512",
        *READ,
        "--strict",
        make=lines({"text": TEXT}, {"text": "film " * 600, "players": ["film"]}),
    ),
]

CHATS = [
    case("no chat template", "needs a chat template", *CHAT),
    case("broken chat template", "TemplateSyntaxError", *CHAT, make=model_file("chat_template.jinja", b"{% for %}")),
    case(
        "chat template that refuses",
        "fails: TemplateError: no",
        *CHAT,
        make=model_file("chat_template.jinja", b"{{ raise_exception('no') }}"),
    ),
    case(
        "chat template that strips",
        "does not keep the text",
        *EXTRACT,
        " a film ",
        "--chat",
        make=model_file("chat_template.jinja", b"{{ messages[0].content | trim }}"),
    ),
    case(
        "chat template without the text",
        "does not keep the text",
        *CHAT,
        make=model_file("chat_template.jinja", b"hello"),
    ),
    case(
        "chat template without end",
        "OverflowError",
        *CHAT,
        make=model_file("chat_template.jinja", b"{% for i in range(10**12) %}x{% endfor %}"),
    ),
]

CONFIGS = [
    case(
        "no config.json", "config.json is missing. A model directory holds", *LOAD, make=model_file("config.json", None)
    ),
    case("config.json is a folder", "is a directory, and must be a file", *LOAD, make=a_folder("model/config.json")),
    case("config.json is no JSON", "config.json is not JSON", *LOAD, make=model_file("config.json", b"{")),
    case("config.json is no UTF-8", "config.json is not JSON", *LOAD, make=model_file("config.json", b'{"a": "\xff"}')),
    case("config.json is a list", "must hold a JSON object; got list", *LOAD, make=model_file("config.json", b"[]")),
    case("config.json without end", "config.json is not JSON", *LOAD, make=model_file("config.json", b"[" * 100_000)),
    case(
        "another family",
        "has model_type 'gpt2'; andor implements gemma3_text, llama, mistral",
        *LOAD,
        make=config(model_type="gpt2"),
    ),
    case("a list of families", "has model_type", *LOAD, make=config(model_type=["llama"])),
    case(
        "a setting missing", "lacks hidden_size, vocab_size", *LOAD, make=config(remove=("hidden_size", "vocab_size"))
    ),
    case("a size in words", "hidden_size = '32' must be a positive whole number", *LOAD, make=config(hidden_size="32")),
    case("no heads", "num_attention_heads = '0' must be", *LOAD, make=config(num_attention_heads=0)),
    case("half a head", "num_attention_heads = '1.5'", *LOAD, make=config(num_attention_heads=1.5)),
    case(
        "heads that do not divide",
        "must be a multiple of num_key_value_heads",
        *LOAD,
        make=config(num_key_value_heads=3),
    ),
    case(
        "layers without end",
        "num_hidden_layers = '1000000000' must be at most",
        *LOAD,
        make=config(num_hidden_layers=10**9),
    ),
    case("odd head_dim", "even head_dim", *LOAD, make=config(head_dim=7)),
    case("eps nan", "rms_norm_eps = 'nan' must be a positive number", *LOAD, make=config(rms_norm_eps=float("nan"))),
    case(
        "tied in words",
        "tie_word_embeddings = 'no' must be true or false",
        *LOAD,
        make=config(tie_word_embeddings="no"),
    ),
    case("RoPE in words", "RoPE settings 'yarn', which are no object", *LOAD, make=config(rope_scaling="yarn")),
    case(
        "another RoPE",
        "rope_scaling={'rope_type': 'yarn', 'factor': 2.0} is not implemented",
        *LOAD,
        make=config(rope_scaling={"rope_type": "yarn", "factor": 2.0}),
    ),
    case("two RoPEs", "rope_theta is 5.0 and 321.0", *LOAD, make=config(rope_parameters={"rope_theta": 5.0})),
    case("an unknown setting", "does not implement: attention_bias=True", *LOAD, make=config(attention_bias=True)),
    case("code of its own", "does not implement: auto_map=", *LOAD, make=config(auto_map={"AutoConfig": "x.X"})),
    case(
        "a larger model than fits",
        "lm_head.weight has shape (300, 32), expected (1000000000000, 32)",
        *LOAD,
        make=config(vocab_size=10**12),
    ),
]

WEIGHTS = [
    case(
        "no weights",
        "no model.safetensors and no model.safetensors.index.json in model",
        *LOAD,
        make=model_file("model.safetensors", None),
    ),
    case(
        "empty weights",
        "model.safetensors is damaged or no safetensors file",
        *LOAD,
        make=model_file("model.safetensors", b""),
    ),
    case(
        "weights of noise",
        "is damaged or no safetensors file",
        *LOAD,
        make=model_file("model.safetensors", b"\xff" * 500),
    ),
    case(
        "half the weights",
        "is damaged or no safetensors file",
        *LOAD,
        make=lambda folder, _: model_file("model.safetensors", half((folder / "model/model.safetensors").read_bytes()))(
            folder, _
        ),
    ),
    case("weights are a folder", "is damaged or no safetensors file", *LOAD, make=a_folder("model/model.safetensors")),
    case(
        "a tensor missing",
        "missing tensor model.norm.weight",
        *LOAD,
        make=weights(lambda tensors: tensors.pop("model.norm.weight")),
    ),
    case(
        "a tensor too many",
        "unknown tensor model.extra",
        *LOAD,
        make=weights(lambda tensors: tensors.update({"model.extra": np.ones(3)})),
    ),
    case(
        "a tensor of whole numbers",
        "model.norm.weight has dtype I32, expected one of F32",
        *LOAD,
        make=weights(lambda tensors: tensors.update({"model.norm.weight": np.ones(32, np.int32)})),
    ),
    case(
        "a tensor of another shape",
        "model.norm.weight has shape (31,), expected (32,)",
        *LOAD,
        make=weights(lambda tensors: tensors.update({"model.norm.weight": np.ones(31, np.float32)})),
    ),
    case("another config", "has shape (40, 32), expected (48, 32)", *LOAD, make=config(intermediate_size=48)),
    case(
        "a shard missing",
        "names files that are not there: b.safetensors",
        *LOAD,
        make=shards({"model.norm.weight": "b.safetensors"}),
    ),
    case(
        "a shard elsewhere",
        "names what is no safetensors file of its own directory: '../b.safetensors'",
        *LOAD,
        make=shards({"model.norm.weight": "../b.safetensors"}),
    ),
    case("an index of nothing", "has no weight_map", *LOAD, make=shards(None)),
    case("an index that is no JSON", "index.json is not JSON", *LOAD, make=shards("x")),
    case(
        "a pickle",
        "are pickled (pytorch_model.bin). andor reads safetensors only",
        *LOAD,
        make=lambda folder, _: (folder / "model/model.safetensors").rename(folder / "model/pytorch_model.bin"),
    ),
]

TOKENIZERS = [
    case(
        "no tokenizer",
        "model holds no tokenizer: neither tokenizer.json nor",
        *LOAD,
        make=lambda folder, _: [
            model_file(name, None)(folder, _) for name in ("tokenizer.json", "tokenizer_config.json")
        ],
    ),
    case(
        "a broken tokenizer",
        "no tokenizer could be read from model",
        *LOAD,
        make=model_file("tokenizer.json", b'{"model": 3}'),
    ),
    case(
        "a tokenizer of noise",
        "no tokenizer could be read from model",
        *LOAD,
        make=model_file("tokenizer.json", b"\xff\xfe"),
    ),
    case(
        "a tokenizer of another model",
        "tokenizer and weights do not belong together",
        *LOAD,
        make=lambda folder, _: (
            config(vocab_size=50)(folder, _),
            weights(
                lambda tensors: tensors.update(
                    {name: tensors[name][:50].copy() for name in ("model.embed_tokens.weight", "lm_head.weight")}
                )
            )(folder, _),
        ),
    ),
    case(
        "no token to mask with",
        "must have a mask, unk, pad or eos token",
        *LOAD,
        make=model_file("tokenizer_config.json", b'{"tokenizer_class": "PreTrainedTokenizerFast"}'),
    ),
]

NPZ = "model/one.npz"
RUNS = [
    case("no such run", "no run 'run'. Give the --out of an earlier `andor compare`", *DRAW),
    case("a run that is a file", "recipe.json is missing: 'run' holds no run", *DRAW, make=a_file("run")),
    case("an empty run", "recipe.json is missing: 'run' holds no run", *DRAW, make=a_folder("run")),
    case("a run without recipe", "recipe.json is missing", *DRAW, make=damaged("recipe.json", None)),
    case("two runs", "holds 2 runs: run/noise-0.02, run/noise-0.05. Name one of them", *DRAW, make=two_runs),
    case("half the recipe", "recipe.json is damaged", *DRAW, make=damaged("recipe.json", half)),
    case("recipe of noise", "recipe.json is damaged", *DRAW, make=damaged("recipe.json", b"\xff\x00\xfe")),
    case("recipe without end", "recipe.json is damaged", *DRAW, make=damaged("recipe.json", b"[" * 100_000)),
    case("recipe with a digit changed", "does not match its sha256", *DRAW, make=damaged("recipe.json", one_digit)),
    case(
        "recipe with half a surrogate pair",
        "recipe.json is damaged",
        *DRAW,
        make=damaged("recipe.json", b'{"a": "\\ud800", "sha256": ""}'),
    ),
    case(
        "a run of another version",
        "has format 4; this version of andor reads 6. Give another --out, and --reuse run to use",
        *DRAW,
        make=damaged("recipe.json", signed(lambda content: content.update(format=4))),
    ),
    case(
        "a run without models",
        "recipe.json is damaged: KeyError: 'models'",
        *DRAW,
        make=damaged("recipe.json", signed(lambda content: content.pop("models"))),
    ),
    case(
        "a model without keys",
        "its content does not give its id",
        *DRAW,
        make=damaged("recipe.json", signed(lambda content: content["models"][0].update(keys=[]))),
    ),
    case(
        "a run that leads elsewhere",
        "Prompt(id=...) names files",
        *DRAW,
        make=damaged("recipe.json", signed(lambda content: content["prompts"][0].update(id="../../x"))),
    ),
    case(
        "an unfinished run",
        "summary.json is missing: the run is unfinished. Repeat the command or call that made the run",
        *DRAW,
        make=damaged("summary.json", None),
    ),
    case("half a summary", "summary.json is damaged", *DRAW, make=damaged("summary.json", half)),
    case(
        "a summary of something else",
        "summary.json holds the numbers of other explanations",
        *DRAW,
        make=damaged("summary.json", signed(lambda content: content["covers"].update(prompts=["other"]))),
    ),
    case("an explanation missing", "one.npz is missing. Repeat the command", *DRAW, make=damaged(NPZ, None)),
    case("half an explanation", "one.npz is damaged", *DRAW, make=damaged(NPZ, half)),
    case("a bit flipped", "one.npz is damaged: its content does not", *DRAW, make=damaged(NPZ, one_bit)),
    case("an empty explanation", "one.npz is damaged", *DRAW, make=damaged(NPZ, b"")),
    case("an .npy", "one.npz is damaged", *DRAW, make=damaged(NPZ, an_npy)),
    case("a pickle of numbers", "one.npz is damaged", *DRAW, make=damaged(NPZ, pickle.dumps([1.0]))),
    case("a zip of other things", "one.npz is damaged", *DRAW, make=damaged(NPZ, a_zip_of_other_things)),
    case("objects", "one.npz is damaged: Object arrays cannot be loaded", *DRAW, make=tampered(v=np.array([None] * 4))),
    case("values of other players", "v has shape (8,); it must be (4,)", *DRAW, make=tampered(v=np.zeros(8))),
    case("values that are nan", "v is not finite", *DRAW, make=tampered(v=np.full(4, np.nan))),
    case("values without end", "it says p = ", *DRAW, make=tampered(v=np.array([0, 1, 2, 1e200]))),
    case("another probability", "it says p = 7.5 where v(N) gives", *DRAW, make=tampered(target_probability=7.5)),
    case("other effects", "its effects do not add up to the values", *DRAW, make=tampered(or_effects=np.ones(4))),
    case("another certificate", "it says primal ", *DRAW, make=tampered(dual=1.0)),
    case("an explanation of something else", "is of another recipe", *DRAW, make=tampered(key="other")),
    case(
        "a skipped prompt without reason",
        "one.json is damaged",
        *DRAW,
        make=damaged("skipped/one.json", files.json_bytes({"id": "one"})),
    ),
]

CASES = [*FLAGS, *PATHS, *TEXTS, *LINES, *CHATS, *CONFIGS, *WEIGHTS, *TOKENIZERS, *RUNS]


def tree(folder):
    """Every path below a folder, with the sha256 of the files."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def workplace(models, tmp_path, monkeypatch):
    """The current directory: "model" and nothing else."""
    shutil.copytree(models[0], tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "message", "make"), CASES)
def test_one_line_and_nothing_touched(workplace, monkeypatch, capfd, arguments, message, make):
    if make:
        make(workplace, monkeypatch)
    before = tree(workplace)
    capfd.readouterr()
    code = main(arguments)
    printed, errors = capfd.readouterr()
    assert errors.startswith("andor: error: ") and errors.count("\n") == 1, errors
    assert message in errors
    assert code == 2 and len(errors) < 1500
    assert "Traceback" not in printed + errors
    assert tree(workplace) == before


def test_a_full_disk_is_one_line(workplace, monkeypatch, capfd):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    line()(workplace, monkeypatch)
    monkeypatch.setattr(files.os, "fsync", fsync)
    assert main(READ) == 2
    errors = capfd.readouterr().err
    assert errors.startswith("andor: error: out/unfinished.json could not be written: No space left on device.")
    assert errors.count("\n") == 1 and not list((workplace / "out").iterdir())


@functools.cache
def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(300), mask_token="<mask>")


# What looks odd, and is a prompt all the same: id -> text and players.
ODD = {
    "zero-width": ("a go\u200bod\u200d film", ["go\u200bod", "film"]),
    "a zero-width word": ("a \u200b film", ["\u200b", "film"]),
    "right to left": ("הסרט לא טוב", ["לא", "טוב"]),
    "turned around": ("a \u202edoog\u202c film", [[2, 8], [9, 13]]),
    "emoji over tokens": ("a 🙂 film 👨‍👩‍👧", ["🙂", "👨‍👩‍👧"]),
    "combining marks": ("nai\u0308ve e\u0301te\u0301", ["nai\u0308ve", "e\u0301te\u0301"]),
    "a word twice": ("good good", ["good", "good"]),
    "spans in any order": ("a good film", [[7, 11], [2, 6]]),
    "line breaks": ("not\ngood\r\n\u2028film", ["not", "film"]),
    "escapes": ("a \x1b[31mred\x07 film", [[2, 11], [12, 16]]),
    "NUL": ("a \0 b film", ["b", "film"]),
    "漢字 é $x [1]": ("<b>&amp;</b> $x_1$ [red] `x` film", [[0, 12], [27, 31]]),
    "x" * 100: ("a good film", ["good", "film"]),
}
BAD = {
    "line 1: must be UTF-8": b"\xff\xfe",
    "line 2: must be one JSON object": b"{",
    "line 3: Prompt(id=...) names files": {"text": "a film", "id": "../out"},
    "line 4: Prompt(players=...) must be words": {"text": "a film", "players": ["book"]},
    "prompt 'too long' is left out": {"id": "too long", "text": "film " * 600, "players": ["film"]},
    "prompt 'shared' is left out": {"id": "shared", "text": "film", "players": ["f", "ilm"]},
}


IN_A_RUN = ("zero-width", "emoji over tokens", "escapes")


@pytest.mark.parametrize("name", ODD)
def test_odd_prompts_are_mapped_and_stored_as_they_are(tmp_path, name):
    text, players = ODD[name]
    lines({"id": name, "text": text, "players": players})(tmp_path, None)
    (prompt,) = read_prompts(tmp_path / "prompts.jsonl")
    given = [text[slice(*x)] if isinstance(x, list) else x for x in players]
    assert prompt.text == text and sorted(prompt.words) == sorted(given)
    tokens = tokenize(prompt, tokenizer())
    assert set(tokens.player_of_token.tolist()) >= {0, 1}
    for player, word in enumerate(prompt.words):
        assert word in tokenizer().decode(tokens.token_ids[tokens.player_of_token == player])
    values = Values(np.arange(4.0), prompt.words, " x", probability(np.arange(4.0)), 10, 0.1)
    cache.save_values(tmp_path, "m", name, values, key="key", made_by="cpu")
    assert cache.read_values(cache.values_path(tmp_path, "m", name, "key"), "key")[0].players == prompt.words


@pytest.fixture(scope="module")
def odd_run(models, tmp_path_factory):
    """A run of odd prompts among bad ones: the run, what was printed, and what was said on stderr."""
    folder = tmp_path_factory.mktemp("odd")
    odd = [dict(zip(("id", "text", "players"), (name, *ODD[name]), strict=True)) for name in IN_A_RUN]
    lines(*BAD.values(), *odd)(folder, None)
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors), pytest.MonkeyPatch.context() as patch:
        patch.setattr("andor.show.draw.draw", lambda run, **_: [])  # tests/test_figures.py draws odd words
        patch.setattr("andor.runs.run.Run.report", lambda run, *_, **__: run.path / "report.html")
        places = ["--prompts", f"{folder}/prompts.jsonl", "--out", f"{folder}/run"]
        code = main(["compare", "--models", models[0], *places])
    assert code == 0, errors.getvalue()
    return andor.read(folder / "run"), printed.getvalue(), errors.getvalue()


def test_odd_prompts_have_their_effects(odd_run):
    run, printed, _ = odd_run
    (model,) = run.models
    for name in IN_A_RUN:
        values, solution = run[model, name].values, run[model, name].solution
        assert np.isfinite(values.v).all() and values.v.shape == (4,) and solution.status == "converged"
        assert name in printed


@pytest.mark.parametrize("message", BAD)
def test_bad_prompts_among_good_ones_are_left_out(odd_run, message):
    run, _, errors = odd_run
    said = [each for each in errors.splitlines() if message in each]
    assert len(said) == 1 and said[0].startswith("andor: warning: "), errors
    assert {prompt.id for prompt in run.prompts} == set(IN_A_RUN)
    assert {each.id for each in run.skipped} == {"too long", "shared"}


def test_nothing_printed_commands_the_terminal(odd_run):
    _, printed, errors = odd_run
    assert all(each.isprintable() or each == "\n" for each in errors.replace("\r", ""))
    assert not {"\x1b", "\x07", "\0"} & set(printed) and "escapes" in printed
