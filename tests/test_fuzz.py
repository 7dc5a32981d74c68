"""Whatever bytes come: a named refusal, or what was meant. Never another exception, never something else."""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import shutil
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_runs import save_run
from tiny_models import LLAMA3_ROPE, SETTINGS, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from andor.models import FAMILIES
from andor.models.config import read_config
from andor.models.tensors import stored_tensors
from andor.models.weights import check_weights, weight_files, weight_table
from andor.prompts import Prompt, read_prompts, tokenize
from andor.prompts.players import player_spans
from andor.runs import files
from andor.runs.run import Run, Skipped, read, save_skipped

few = functools.partial(settings, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def whole(folder):
    """A run that is never changed."""
    run = save_run(folder / "whole")
    save_skipped(run.path, Skipped("not good", run.models[0], "it gave nan"))
    Run(run.path, run.recipe, skipped=[Skipped("not good", run.models[0], "it gave nan")], tau=0.05).summarised(0.05)
    return run.path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
SPANS = st.lists(st.tuples(st.integers(-2, 12), st.integers(-2, 12)), max_size=4)
RECORDS = st.fixed_dictionaries(
    {"text": st.text(max_size=12) | JSON},
    optional={
        "id": st.text(max_size=8) | JSON,
        "players": st.lists(st.text(max_size=3), max_size=4) | SPANS | JSON,
        "target": st.text(max_size=4) | JSON,
        "next_word": st.text(max_size=4),
        "chat": st.booleans() | JSON,
    },
)
LINES = st.lists(RECORDS.map(lambda record: json.dumps(record).encode()) | st.binary(max_size=20), max_size=4)


@few(max_examples=150)
@given(st.binary(max_size=60) | LINES.map(b"\n".join))
@example(b"[" * 100_000)
@example(b'{"text": ' + b"9" * 5000 + b"}")
@example(b'{"text": "a", "text": "b"}')
@example('{"text": "film", "id": "漢漢"}'.replace("漢", "漢" * 45).encode())
def test_any_bytes_are_prompts_or_a_value_error(folder, content):
    path = folder / "prompts.jsonl"
    path.write_bytes(content)
    errors = []
    try:
        prompts = read_prompts(path, on_error=errors.append)
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 1000
        return
    for prompt in prompts:
        assert prompt.words and all(prompt.words) and (folder / f"{prompt.id}.npz").parent == folder
        dataclasses.replace(prompt)  # is what it was made to be
    assert len({prompt.id.casefold() for prompt in prompts}) == len(prompts)
    assert all(isinstance(error, ValueError) for error in errors)


@functools.cache
def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(300), mask_token="<mask>")


@few(max_examples=150)
@given(
    st.text(max_size=12), st.none() | st.lists(st.text(max_size=3), max_size=4) | SPANS, st.none() | st.text(max_size=4)
)
@example("\ud800", None, None)
@example("a\0", [(0, 2)], None)
@example("👨‍👩‍👧", [(0, 1), (2, 3)], "\u200b")
def test_any_text_is_mapped_or_a_value_error(text, players, target):
    try:
        spans = player_spans(text, players)
        prompt = Prompt(text, players=players, target=target)
        tokens = tokenize(prompt, tokenizer())
    except ValueError as error:
        assert len(str(error)) < 1000
        return
    assert prompt.players == spans and all(a < b <= c for (a, b), (c, _) in itertools.pairwise(spans))
    assert set(tokens.player_of_token.tolist()) - {-1} == set(range(prompt.n_players))
    for player, word in enumerate(prompt.words):
        covered = tokenizer().decode(tokens.token_ids[tokens.player_of_token == player])
        assert word in covered
    assert tokenizer().decode(tokens.token_ids) == text


@st.composite
def changes(draw):
    """A way in which a file may be spoilt: content -> other content."""
    kind = draw(st.sampled_from(["flip", "flip", "flip", "cut", "lose", "insert", "overwrite", "repeat"]))
    where, length, value = draw(st.floats(0, 1)), draw(st.integers(1, 8)), draw(st.binary(min_size=1, max_size=8))
    bit = draw(st.integers(0, 7))

    def change(content: bytes) -> bytes:
        place = min(int(where * len(content)), len(content) - 1)
        before, after = content[:place], content[place:]
        return {
            "flip": before + bytes([after[0] ^ 1 << bit]) + after[1:],
            "cut": before,
            "lose": before + after[length:],
            "insert": before + value + after,
            "overwrite": before + value + after[len(value) :],
            "repeat": before + after[:length] + after,
        }[kind]

    return change


def as_read(path):
    """All that is in a run, to be compared."""
    run = read(path)
    held = [each.arrays() for each in run.values()]
    return repr((run.recipe.to_json(), run.skipped, run.tau, run.summary)), [
        {name: np.asarray(array).tobytes() for name, array in each.items()} for each in held
    ]


@few(max_examples=150)
@given(st.data(), changes())
def test_a_spoilt_run_is_refused_by_name_or_reads_the_same(folder, whole, data, change):
    names = sorted(p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.suffix in (".json", ".npz"))
    spoilt = folder / "spoilt"
    if not spoilt.exists():
        shutil.copytree(whole, spoilt)
    name = data.draw(st.sampled_from(names))
    (spoilt / name).write_bytes(change((whole / name).read_bytes()))
    try:
        assert as_read(spoilt) == as_read(whole)
    except (files.Damaged, FileNotFoundError) as error:
        assert name in str(error)
    finally:
        (spoilt / name).write_bytes((whole / name).read_bytes())


@pytest.mark.parametrize("kind", ["npz", "json"])
def test_every_byte_of_a_file_counts(folder, kind):
    """One bit of each in turn: among them those of headers, which NumPy's own reader takes at their word."""
    path, read_one = folder / f"x.{kind}", files.read_arrays if kind == "npz" else files.read_json
    if kind == "npz":
        files.write_arrays(path, {"v": np.arange(2.0), "target": " positively"})
    else:
        path.write_bytes(files.json_bytes({"v": [0, 1.5], "target": " positively"}))
    content = path.read_bytes()
    read_one(path)
    for place, byte in enumerate(content):
        path.write_bytes(content[:place] + bytes([byte ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(files.Damaged, match=str(path)):
            read_one(path)


@few(max_examples=100)
@given(st.binary(max_size=200), st.sampled_from(["file", "member", "header"]), st.booleans())
@example(b"", "file", True)
@example(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1" + b"0" * 30 + b",)}", "header", True)
@example(b"{'descr': [('', '<f8')], 'fortran_order': False, 'shape': (-1,)}", "header", True)
@example(b"(" * 9000, "header", True)
def test_any_bytes_are_arrays_or_damaged(folder, content, place, signed):
    """Also where their checksum fits."""
    path = folder / "any.npz"
    if place == "header":
        content = b"\x93NUMPY\x01\0" + struct.pack("<H", len(content)) + content + bytes(16)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("v.npy", content)
        archive.comment = bytes(64)
    content = content if place == "file" else stream.getvalue()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode() if signed else content)
    try:
        assert isinstance(files.read_arrays(path)["v"], np.ndarray) and signed
    except files.Damaged as error:
        assert str(path) in str(error)


NUMBERS = st.integers(-2, 70) | st.just(2**70) | st.floats() | JSON
CONFIGS = st.fixed_dictionaries(
    {},
    optional={name: NUMBERS for name in SETTINGS["llama-gqa"] if name != "model_type"}
    | {"rope_scaling": st.fixed_dictionaries({name: NUMBERS for name in LLAMA3_ROPE if name != "rope_type"}) | JSON}
    | {"rope_parameters": JSON, "layer_types": JSON, "head_dim": NUMBERS, "max_window_layers": NUMBERS},
)


@few(max_examples=150)
@given(st.sampled_from(sorted(SETTINGS)), CONFIGS)
@example("llama-gqa", {"hidden_size": "32"})
@example("llama-gqa", {"rope_theta": [1]})
@example("qwen2-gqa", {"layer_types": [[]]})
@example("llama-llama3-rope", {"rope_scaling": LLAMA3_ROPE | {"factor": 0}})
def test_any_config_is_an_architecture_or_a_value_error(name, change):
    settings = SETTINGS[name] | change
    family = FAMILIES[settings["model_type"]]
    try:
        config = read_config(settings, family)
    except ValueError as error:
        assert str(error)
        return
    sizes = config.axis_sizes()
    assert all(size > 0 for row in weight_table(config, family).values() for size in row.hf_shape(sizes))


HEADERS = st.dictionaries(
    st.sampled_from(["a", "model.norm.weight", "__metadata__"]),
    st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "BF16", "I8", "F8_E4M3", "X"]),
            "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
            "data_offsets": st.lists(st.integers(-1, 16), max_size=3),
        },
    )
    | JSON,
    max_size=3,
)


@few(max_examples=100)
@given(
    HEADERS.map(lambda header: json.dumps(header).encode()) | st.binary(max_size=40),
    st.integers(-1, 1),
    st.integers(0, 16),
)
@example(b'{"model.norm.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 0, 8)
@example(b"[" * 5000, 0, 0)
def test_any_header_is_read_or_a_value_error(folder, header, off, size):
    path = folder / "checkpoint" / "model.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", max(0, len(header) + off)) + header + bytes(size))
    family = FAMILIES["llama"]
    with pytest.raises(ValueError, match=str(path.parent)):
        check_weights(path.parent, read_config(SETTINGS["llama-gqa"], family), family)
    try:
        tensors = stored_tensors([path])
    except ValueError as error:
        assert str(path) in str(error)
        return
    assert all(each.file == path for each in tensors)


@few(max_examples=100)
@given(st.binary(max_size=40) | JSON.map(lambda x: json.dumps({"weight_map": x}).encode()))
@example(b'{"weight_map": {"a": "../b.safetensors"}}')
@example(b'{"weight_map": {"a": "a/b.safetensors"}}')
@example(b'{"weight_map": {"a": "\\u0000"}}')
@example(b'{"weight_map": {"a": "\\ud800"}}')
@example(b'{"weight_map": {"a": ""}}')
def test_any_index_names_files_that_are_there_or_is_refused(folder, content):
    checkpoint = folder / "sharded"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=str(checkpoint)):
        weight_files(checkpoint)
