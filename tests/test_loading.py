"""Weights from safetensors files: read by slices, checked both ways, onto one device or many."""

import hashlib
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from test_experiments import experiment
from tiny_models import SETTINGS, assert_close, forward, random_decoder, save_checkpoint, tokens

import andor
from andor.models import FAMILIES, tensors
from andor.models.config import read_config
from andor.models.weights import load_decoder, weight_table


def load(folder, dtype=jnp.float32):
    settings = json.loads((folder / "config.json").read_text())
    family = FAMILIES[settings["model_type"]]
    return load_decoder(folder, read_config(settings, family), family, dtype)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint in one file."""
    return save_checkpoint(tmp_path, SETTINGS["llama-gqa"], random_decoder(SETTINGS["llama-gqa"]), tokenizer=False)


@pytest.fixture
def parts(folder):
    """The same checkpoint in two files with an index: (directory, the tensors of each file)."""
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(stored)
    found = {
        file: {name: stored[name] for name in part}
        for file, part in {"a.safetensors": names[::2], "b.safetensors": names[1::2]}.items()
    }
    write_index(folder, {name: file for file, part in found.items() for name in part})
    return folder, found


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def save_parts(folder, found):
    for file, part in found.items():
        save_file(part, folder / file)


@pytest.mark.parametrize("name", SETTINGS)
def test_checkpoint_round_trip(name, tmp_path):
    settings = SETTINGS[name]
    decoder = random_decoder(settings)
    save_checkpoint(tmp_path, settings, decoder, tokenizer=False)
    x = tokens((2, 9), settings["vocab_size"])
    assert_close(forward(load(tmp_path), x), forward(decoder, x), 0)


def test_files_with_an_index_give_the_same_weights(parts):
    folder, found = parts
    save_parts(folder, found)
    loaded, expected = (
        nnx.to_flat_state(nnx.state(each)) for each in (load(folder), random_decoder(SETTINGS["llama-gqa"]))
    )
    for (_, ours), (_, theirs) in zip(loaded, expected, strict=True):
        assert_close(ours[...], theirs[...], 0)
    save_file({"anything": np.ones(1)}, folder / "not-in-the-index.safetensors")
    load(folder)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("stored", [np.float32, ml_dtypes.bfloat16, np.float16, np.float64])
def test_slices_are_read_in_blocks_and_converted(tmp_path, monkeypatch, stored, dtype):
    value = np.random.default_rng(0).normal(size=(23, 10)).astype(stored)
    save_file({"x": value, "y": value[:, 0].copy()}, tmp_path / "x.safetensors")
    x, y = sorted(tensors.stored_tensors([tmp_path / "x.safetensors"]), key=lambda each: each.name)
    for block in (1, 100, 10**6):
        monkeypatch.setattr(tensors, "BLOCK_BYTES", block)
        actual = x.read(((3, 20), (2, 7)), dtype)
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual, value[3:20, 2:7].astype(dtype))
        np.testing.assert_array_equal(y.read(((5, 9),), dtype), value[5:9, 0].astype(dtype))
        assert x.equals(x, dtype)


@pytest.mark.parametrize("name", ["qwen2-gqa", "llama-mqa-head-dim"])
def test_a_slice_of_a_parameter_is_a_slice_of_rows_or_columns(name):
    settings = SETTINGS[name]
    family = FAMILIES[settings["model_type"]]
    config = read_config(settings, family)
    sizes = config.axis_sizes()
    for row in weight_table(config, family).values():
        stored = np.arange(np.prod(row.hf_shape(sizes))).reshape(row.hf_shape(sizes))
        ours = stored.reshape(row.our_shape(sizes))
        for axis, letter in enumerate(row.letters()):
            if letter not in "kfv":
                continue
            half = slice(sizes[letter] // 2, sizes[letter])
            index = tuple(half if each == axis else slice(None) for each in range(ours.ndim))
            ranges = row.hf_ranges(sizes, index)
            np.testing.assert_array_equal(
                stored[tuple(slice(*each) for each in ranges)].reshape(ours[index].shape), ours[index]
            )


SHARDED = """
import sys, jax, numpy as np, andor
from flax import nnx
from andor.devices.mesh import make_mesh
from andor.models import tensors

read, ranges_read = tensors.StoredTensor.read, []

def recorded(self, ranges, dtype):
    ranges_read.append((self.name, ranges))
    return read(self, ranges, dtype)

one = dict(nnx.to_flat_state(nnx.state(andor.load(sys.argv[1]).decoder)))
tensors.StoredTensor.read = recorded
for data, model in [(1, 2), (4, 2)]:
    ranges_read.clear()
    loaded = andor.load(sys.argv[1], mesh=make_mesh(data=data, model=model)).decoder
    for path, leaf in nnx.to_flat_state(nnx.state(loaded)):
        np.testing.assert_array_equal(np.asarray(leaf[...]), np.asarray(one[path][...]))
        assert len(leaf[...].sharding.device_set) == data * model
    elements = sum(np.prod([b - a for a, b in ranges]) for _, ranges in ranges_read)
    assert elements == sum(leaf.size for leaf in one.values()), "something is read twice"
    assert len(set(ranges_read)) == len(ranges_read)
    down = [ranges for name, ranges in ranges_read if name == "model.layers.0.mlp.down_proj.weight"]
    assert sorted(down) == [((0, 32), (0, 20)), ((0, 32), (20, 40))], down
"""


def test_each_device_gets_its_slice_and_nothing_is_read_twice(tmp_path):
    save_checkpoint(tmp_path, SETTINGS["qwen2-gqa"], random_decoder(SETTINGS["qwen2-gqa"]))
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    arguments = [sys.executable, "-c", SHARDED, str(tmp_path)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PROBLEMS = (
    "missing tensor model.norm.weight",
    "unknown tensor model.layers.0.self_attn.q_norm.weight",
    "model.layers.1.mlp.up_proj.weight has shape (32, 40), expected (40, 32)",
    "model.layers.0.mlp.up_proj.weight has dtype I32, expected one of F32, BF16, F16, F64",
)


def spoil(stored):
    """Every problem that one file can have."""
    del stored["model.norm.weight"]
    stored["model.layers.0.self_attn.q_norm.weight"] = np.ones(8, np.float32)
    stored["model.layers.1.mlp.up_proj.weight"] = np.ones((32, 40), np.float32)
    stored["model.layers.0.mlp.up_proj.weight"] = np.ones((40, 32), np.int32)


def refusal(folder) -> str:
    with pytest.raises(ValueError) as error:
        load(folder)
    return str(error.value)


def test_all_problems_of_one_file_come_in_one_error(folder):
    stored = load_file(folder / "model.safetensors")
    spoil(stored)
    save_file(stored, folder / "model.safetensors")
    text = refusal(folder)
    assert all(each in text for each in PROBLEMS) and len(text.splitlines()) == 1 + len(PROBLEMS), text


def test_all_problems_of_several_files_come_in_one_error(parts):
    folder, found = parts
    weight_map = {name: file for file, part in found.items() for name in part}
    stored = {name: value for part in found.values() for name, value in part.items()}
    spoil(stored)
    first, second, third = "lm_head.weight", "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight"
    found = {"a.safetensors": {first: stored[first], third: stored[third]}, "b.safetensors": stored}
    weight_map = {**dict.fromkeys(stored, "b.safetensors"), second: "a.safetensors", "extra": "a.safetensors"}
    weight_map["model.norm.weight"] = "a.safetensors"
    del weight_map[third]
    del found["b.safetensors"][third]
    save_parts(folder, found)
    write_index(folder, weight_map)
    expected = (
        *PROBLEMS,
        f"{first} is in more than one file: a.safetensors, b.safetensors",
        f"{second} is in b.safetensors, but the index says a.safetensors",
        f"{third} is in a.safetensors, but the index does not name it",
        "the index names extra, which is in no file",
    )
    text = refusal(folder)
    assert all(each in text for each in expected) and len(text.splitlines()) == 1 + len(expected), text


def test_many_problems_are_counted(folder):
    save_file({f"extra.{i}": np.ones(1, np.float32) for i in range(30)}, folder / "model.safetensors")
    assert "... and 31 more" in refusal(folder)  # 30 unknown and 21 missing, of which 20 are shown


def test_nothing_is_read_before_the_check(folder, monkeypatch):
    stored = load_file(folder / "model.safetensors")
    spoil(stored)
    save_file(stored, folder / "model.safetensors")
    monkeypatch.setattr(tensors.StoredTensor, "read", None)
    refusal(folder)


def test_a_shard_that_is_not_there_is_named(parts):
    folder, found = parts
    save_parts(folder, found)
    (folder / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"names files that are not there: b\.safetensors"):
        load(folder)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {"x": 1}}', '{"weight_map": []}'])
def test_an_index_without_a_map_is_refused(parts, content):
    folder, _ = parts
    (folder / "model.safetensors.index.json").write_text(content)
    assert "no weight_map" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
        "model.rotary_emb.original_inv_freq",
        "model.rotary_emb_local.inv_freq",
        "model.layers.1.self_attn.rotary_emb.cos_cached",
    ],
)
def test_stored_rotary_buffers_are_passed_over(parts, name):
    folder, found = parts
    save_parts(folder, {**found, "b.safetensors": {**found["b.safetensors"], name: np.ones(4, np.float32)}})
    load(folder)
    weight_map = {each: file for file, part in found.items() for each in part}
    write_index(folder, {**weight_map, name: "b.safetensors"})
    load(folder)


STRAYS = {
    "adapter": ("adapter_model.safetensors", {"base_model.model.lora_A.weight": np.ones((2, 2), np.float32)}),
    "consolidated": ("consolidated.safetensors", {"tok_embeddings.weight": np.ones((2, 2), np.float32)}),
    "half precision": ("model.fp16.safetensors", {"model.norm.weight": np.ones(32, np.float16)}),
    "optimizer": ("optimizer.safetensors", {"step": np.ones(1, np.float32)}),
    "a later shard": ("model-00002-of-00002.safetensors", {"model.norm.weight": np.ones(32, np.float32)}),
    "macOS": ("._model.safetensors", b"\0\5\26\7"),
    "pickled optimizer": ("optimizer.pt", b"pickle"),
    "pickled twin": ("pytorch_model.bin", b"pickle"),
    "training arguments": ("training_args.bin", b"pickle"),
    "index of shards that are gone": (
        "model.safetensors.index.json",
        b'{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}',
    ),
    "an index that is none": ("model.safetensors.index.json", b"{}"),
}


def add(folder, stray):
    name, content = STRAYS[stray]
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        save_file(content, folder / name)


@pytest.mark.parametrize("stray", STRAYS)
def test_what_lies_beside_the_one_file_changes_nothing(local, stray):
    before = andor.load(str(local))
    add(local, stray)
    after = andor.load(str(local))
    assert after.fingerprint == before.fingerprint
    x = tokens((1, 5), 300)
    assert_close(forward(after.decoder, x), forward(before.decoder, x), 0)


@pytest.mark.parametrize("stray", [name for name in STRAYS if "index" not in name])
def test_what_lies_beside_the_files_of_an_index_changes_nothing(parts, stray):
    folder, found = parts
    save_parts(folder, found)
    add(folder, stray)
    x = tokens((1, 5), 300)
    assert_close(forward(load(folder), x), forward(random_decoder(SETTINGS["llama-gqa"]), x), 0)


@pytest.mark.parametrize("stray", ["adapter", "consolidated", "half precision", "macOS", "pickled optimizer"])
def test_nothing_else_is_taken_for_the_weights(folder, stray):
    (folder / "model.safetensors").unlink()
    add(folder, stray)
    with pytest.raises(
        FileNotFoundError, match=r"no model\.safetensors and no model\.safetensors\.index\.json"
    ) as error:
        load(folder)
    name = STRAYS[stray][0]
    assert (name in str(error.value)) == (name.endswith(".safetensors") and not name.startswith("."))
    assert ("An adapter has to be merged" in str(error.value)) == (stray == "adapter")


@pytest.mark.parametrize("name", ["llama-mha-tied", "gemma3"])
def test_tied_weights_may_be_stored_as_the_head_alone(name, tmp_path):
    settings = SETTINGS[name]
    save_checkpoint(tmp_path, settings, random_decoder(settings), tokenizer=False)
    stored = load_file(tmp_path / "model.safetensors")
    stored["lm_head.weight"] = stored.pop("model.embed_tokens.weight")
    save_file(stored, tmp_path / "model.safetensors")
    x = tokens((1, 5), 300)
    assert_close(forward(load(tmp_path), x), forward(random_decoder(settings), x), 0)
    (tmp_path / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    assert "missing tensor model.embed_tokens.weight" in refusal(tmp_path)


def test_a_stored_head_must_equal_tied_embeddings(tmp_path):
    settings = SETTINGS["llama-mha-tied"]
    save_checkpoint(tmp_path, settings, random_decoder(settings), tokenizer=False)
    stored = load_file(tmp_path / "model.safetensors")
    embedding = stored["model.embed_tokens.weight"]
    save_file({**stored, "lm_head.weight": embedding}, tmp_path / "model.safetensors")
    load(tmp_path)
    save_file({**stored, "lm_head.weight": embedding + 1}, tmp_path / "model.safetensors")
    assert "differs from model.embed_tokens.weight" in refusal(tmp_path)
    save_file({**stored, "lm_head.weight": embedding[:-1]}, tmp_path / "model.safetensors")
    assert "lm_head.weight has shape (299, 32), expected (300, 32)" in refusal(tmp_path)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"])
def test_a_pickled_checkpoint_is_refused_with_the_way_out(folder, file):
    (folder / "model.safetensors").unlink()
    (folder / file).write_bytes(b"{}")
    text = refusal(folder)
    assert f"pickled ({file})" in text and "python -c" in text and f"'{folder}'" in text


def test_the_hub_id_is_converted_where_the_checkpoint_is_from_the_hub(folder, tmp_path):
    snapshot = tmp_path / "models--some-lab--Model-7B--x" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"from_pretrained\('some-lab/Model-7B--x', \*\*options\)"):
        load(snapshot)


def test_the_conversion_command_works(tmp_path):
    torch = pytest.importorskip("torch")
    settings = SETTINGS["llama-mha-tied"]
    folder = save_checkpoint(tmp_path / "pickled", settings, random_decoder(settings))
    stored = {name: torch.tensor(value) for name, value in load_file(folder / "model.safetensors").items()}
    torch.save(stored, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    command = refusal(folder).splitlines()[-1].strip()
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, check=True, capture_output=True)
    converted = andor.load(str(tmp_path / "pickled-safetensors"))
    x = tokens((1, 9), 300)
    assert_close(forward(converted.decoder, x), forward(random_decoder(settings), x), 0)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_cache(local, repository):
    """A cache with the layout of the hub's: snapshots of links to blobs, large ones named by their sha256."""
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in local.iterdir():
        large = file.suffix == ".safetensors"
        name = hashlib.sha256(file.read_bytes()).hexdigest() if large else hashlib.sha1(file.read_bytes()).hexdigest()
        (blobs / name).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blobs / name)
    return snapshot


@pytest.fixture
def local(tmp_path):
    """A checkpoint with its tokenizer."""
    return save_checkpoint(tmp_path / "local", SETTINGS["llama-gqa"], random_decoder(SETTINGS["llama-gqa"]))


def damage(file):
    """One bit of a weight."""
    content = bytearray(file.read_bytes())
    content[-100] ^= 8
    file.write_bytes(content)


def test_a_damaged_file_in_the_hubs_cache_is_not_loaded(local, tmp_path):
    snapshot = hub_cache(local, tmp_path / "models--lab--model")
    good = andor.load(str(snapshot)).fingerprint
    damage(snapshot / "model.safetensors")
    assert andor.models.find(str(snapshot)).fingerprint == good, "believed while nothing is read"
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: .*blobs/[0-9a-f]{64}, and give the same"):
        andor.load(str(snapshot))


def test_names_are_believed_in_the_hubs_cache_only(local, tmp_path):
    snapshot = hub_cache(local, tmp_path / "lab")
    good = andor.load(str(snapshot)).fingerprint
    damage(snapshot / "model.safetensors")
    assert andor.load(str(snapshot)).fingerprint != good


def test_the_commit_and_the_checksum_of_a_hub_checkpoint(local, tmp_path, monkeypatch):
    import huggingface_hub

    commit, snapshot = COMMIT, hub_cache(local, tmp_path / "models--lab--model")
    calls = []

    def download(name, *, revision, allow_patterns):
        calls.append((name, revision))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = andor.load("lab/model@main")
    assert (model.revision, calls) == (commit, [("lab/model", "main")])
    assert andor.load("lab/model").revision == commit and calls[-1] == ("lab/model", None)
    same = andor.load(str(local))
    assert (same.revision, same.fingerprint) == (None, model.fingerprint)
    for name in (f"{local}@main", "tiny-llama@main"):
        with pytest.raises(ValueError, match="unknown model"):
            andor.load(name)


class Offline(Exception):
    """As the hub's own error, which knows the part of a snapshot that is there."""

    def __init__(self, snapshot_path, missing):
        super().__init__(f"{len(missing)} file(s) are missing ({', '.join(missing)})")
        self.snapshot_path = str(snapshot_path)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that cannot be reached: (files of the repository by name, the files of it that were downloaded)."""
    import fnmatch

    import huggingface_hub

    snapshot = tmp_path / "models--lab--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    listing: set[str] = set()

    def download(name, *, revision, allow_patterns):
        wanted = {each for each in listing if any(fnmatch.fnmatch(each, pattern) for pattern in allow_patterns)}
        missing = sorted(each for each in wanted if not (snapshot / each).exists())
        if missing:
            raise Offline(snapshot, missing)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return listing, snapshot


UNNEEDED = {
    "README.md",
    "generation_config.json",
    "preprocessor_config.json",
    "onnx/model.onnx",
    "consolidated.safetensors",
    "pytorch_model.bin",
    "merges.txt",
    "vocab.json",
}


def test_a_cache_that_holds_what_is_needed_is_enough(local, hub):
    listing, snapshot = hub
    for file in local.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    listing.update(UNNEEDED | {file.name for file in local.iterdir()})
    assert andor.load("lab/model").revision == COMMIT
    (snapshot / "tokenizer_config.json").unlink()  # of which the tokens depend
    with pytest.raises(
        ValueError, match=r"holds only a part of 'lab/model', .* reached\. Give .*tokenizer_config\.json"
    ):
        andor.load("lab/model")


def test_a_cache_of_several_files_is_enough_with_all_of_them(local, hub):
    listing, snapshot = hub
    for file in local.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    (snapshot / "model.safetensors").rename(snapshot / "one.safetensors")
    names = load_file(snapshot / "one.safetensors")
    write_index(snapshot, dict.fromkeys(names, "one.safetensors"))
    listing.update(UNNEEDED | {file.name for file in snapshot.iterdir()})
    assert andor.load("lab/model").revision == COMMIT
    (snapshot / "one.safetensors").unlink()
    with pytest.raises(ValueError, match=r"Its weights were never downloaded.*one\.safetensors"):
        andor.load("lab/model")


@pytest.mark.parametrize("listed", [True, False])
def test_a_cache_without_weights_says_that_they_were_never_downloaded(local, hub, listed):
    listing, snapshot = hub
    for file in local.iterdir():
        if file.suffix != ".safetensors":
            (snapshot / file.name).write_bytes(file.read_bytes())
    listing.update({file.name for file in local.iterdir()} if listed else set())
    andor.models.load_config("lab/model")
    with pytest.raises((ValueError, FileNotFoundError), match=r"never downloaded.*without HF_HUB_OFFLINE"):
        andor.load("lab/model")


def test_what_is_downloaded_is_what_is_read(local, tmp_path, monkeypatch):
    import fnmatch

    import huggingface_hub

    snapshot, asked = hub_cache(local, tmp_path / "models--lab--model"), []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, *, revision, allow_patterns: asked.extend(allow_patterns) or str(snapshot),
    )
    andor.load("lab/model")
    needed = {*(file.name for file in local.iterdir()), "tokenizer.model", "merges.txt", "chat_template.jinja"}
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in asked) for name in needed)
    stray = {name for name, _ in STRAYS.values()} - {"model.safetensors.index.json"} | {"model.onnx", "README.md"}
    assert not any(fnmatch.fnmatch(name, pattern) for name in stray for pattern in asked)


def test_remote_code_is_never_run(tmp_path):
    """Neither for the model, whose config is refused, nor for the tokenizer."""
    settings = SETTINGS["llama-gqa"]
    folder = save_checkpoint(tmp_path, settings, random_decoder(settings))
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    for module in ("modeling_x", "tokenization_x"):
        (folder / f"{module}.py").write_text(code)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": [None, "tokenization_x.X"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    try:
        andor.load(str(folder))
    except ValueError as error:
        assert "no tokenizer could be read" in str(error)  # what transformers does with such a file is its choice
    (folder / "config.json").write_text(json.dumps({**settings, "auto_map": {"AutoConfig": "modeling_x.X"}}))
    with pytest.raises(ValueError, match="auto_map="):
        andor.load(str(folder))
    assert not (tmp_path / "ran").exists()


def test_loading_memory(capsys):
    memory = experiment("loading_memory")
    results = memory.main(memory.Config(smoke=True))
    assert results["parameters"] == results["expected parameters"]
    assert 0 < results["beyond the weights"] < results["largest tensor"] + 1e9
    assert "largest tensor" in capsys.readouterr().out
