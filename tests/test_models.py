import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from tiny_models import BASE, LLAMA3_ROPE, SETTINGS, assert_close, forward, random_decoder, save_checkpoint, tokens

import andor
from andor.models import FAMILIES
from andor.models.decoder import Decoder, Llama3RopeScaling
from andor.models.loading import abstract_decoder, load_decoder, read_config


def parameters(settings):
    _, state = abstract_decoder(read_config(settings, FAMILIES[settings["model_type"]]), jnp.bfloat16)
    return sum(leaf.size for leaf in jax.tree.leaves(state))


QWEN_7B = {
    "model_type": "qwen2",
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
LLAMA_8B = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-5,
    "rope_scaling": {**LLAMA3_ROPE, "factor": 8.0, "original_max_position_embeddings": 8192},
    "rope_theta": 5e5,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}


def test_parameter_counts_of_the_target_models():
    assert parameters(QWEN_7B) == 7_615_616_512
    assert parameters(LLAMA_8B) == 8_030_261_248


@pytest.mark.parametrize("name", SETTINGS)
def test_checkpoint_round_trip(name, tmp_path):
    settings = SETTINGS[name]
    decoder = random_decoder(settings)
    save_checkpoint(tmp_path, settings, decoder, tokenizer=False)
    family = FAMILIES[settings["model_type"]]
    loaded = load_decoder(tmp_path, read_config(settings, family), family, jnp.float32)
    x = tokens((2, 9), settings["vocab_size"])
    assert_close(forward(loaded, x), forward(decoder, x), 0)


def test_both_spellings_of_config_give_one_decoder():
    version4 = {**BASE, "model_type": "llama", "rope_scaling": LLAMA3_ROPE, "torch_dtype": "bfloat16"}
    version5 = {
        key: value for key, value in version4.items() if key not in ("rope_theta", "rope_scaling", "torch_dtype")
    }
    version5 |= {"rope_parameters": {"rope_theta": 321.0, **LLAMA3_ROPE}, "dtype": "bfloat16"}
    old, new = (read_config(settings, FAMILIES["llama"]) for settings in (version4, version5))
    assert old == new
    assert old.rope_theta == 321.0
    assert old.rope_scaling == Llama3RopeScaling(4.0, 1.0, 3.0, 16)


@pytest.mark.parametrize(
    ("model_type", "changes", "named"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("llama", {"attention_bias": True}, "attention_bias=True"),
        ("llama", {"mlp_bias": True}, "mlp_bias=True"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "linear"),
        ("llama", {"hidden_size": None}, "hidden_size"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window=True"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("qwen2", {"brand_new_setting": 1, "another": 2}, "another=2, brand_new_setting=1"),
    ],
)
def test_settings_that_are_not_implemented_are_refused_by_name(model_type, changes, named):
    settings = {key: value for key, value in ({**BASE, **changes}).items() if value is not None}
    with pytest.raises(ValueError, match=named):
        read_config(settings, FAMILIES[model_type])


def test_unused_settings_at_their_default_are_accepted():
    read_config({**BASE, "output_hidden_states": False, "chunk_size_feed_forward": 0}, FAMILIES["llama"])


@pytest.mark.parametrize("field", ["rms_norm_eps", "rope_theta"])
def test_every_number_of_the_config_changes_the_logits(field):
    decoder = random_decoder(SETTINGS["llama-gqa"])
    _, state = nnx.split(decoder)
    changed = dataclasses.replace(decoder.config, **{field: 3 * getattr(decoder.config, field)})
    other = nnx.merge(nnx.split(Decoder(changed, rngs=nnx.Rngs(0)))[0], state)
    x = tokens((1, 12), 300)
    assert float(jnp.abs(forward(other, x) - forward(decoder, x)).max()) > 1e-3


@pytest.mark.parametrize("name", list(LLAMA3_ROPE)[1:])
def test_every_number_of_the_rope_scaling_changes_the_logits(name):
    decoder = random_decoder(SETTINGS["llama-llama3-rope"])
    _, state = nnx.split(decoder)
    scaling = dataclasses.replace(decoder.config.rope_scaling, **{name: 2 * getattr(decoder.config.rope_scaling, name)})
    changed = dataclasses.replace(decoder.config, rope_scaling=scaling)
    other = nnx.merge(nnx.split(Decoder(changed, rngs=nnx.Rngs(0)))[0], state)
    x = tokens((1, 40), 300)
    assert float(jnp.abs(forward(other, x) - forward(decoder, x)).max()) > 1e-4


def test_padding_and_packing_leave_a_sequence_alone():
    decoder = random_decoder(SETTINGS["qwen2-gqa"])
    one, two = tokens((1, 7), 300, seed=1), tokens((1, 5), 300, seed=2)
    packed = jnp.concatenate([one, two], axis=1)
    segments = jnp.array([[1] * 7 + [2] * 5])
    positions = jnp.array([[*range(7), *range(5)]])
    logits = forward(decoder, packed, positions, segments)
    assert_close(logits[:, :7], forward(decoder, one), 1e-5)
    assert_close(logits[:, 7:], forward(decoder, two), 1e-5)


def broken_checkpoint(tmp_path, change):
    settings = SETTINGS["llama-gqa"]
    save_checkpoint(tmp_path, settings, random_decoder(settings), tokenizer=False)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    return lambda: load_decoder(tmp_path, read_config(settings, FAMILIES["llama"]), FAMILIES["llama"], jnp.float32)


def test_all_weight_problems_come_in_one_error(tmp_path):
    def change(tensors):
        del tensors["model.norm.weight"]
        tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(8, np.float32)
        tensors["model.layers.1.mlp.up_proj.weight"] = np.ones((32, 40), np.float32)
        tensors["model.layers.0.mlp.up_proj.weight"] = np.ones((40, 32), np.int32)

    load = broken_checkpoint(tmp_path, change)
    with pytest.raises(ValueError) as error:
        load()
    text = str(error.value)
    assert "missing tensor model.norm.weight" in text
    assert "unknown tensor model.layers.0.self_attn.q_norm.weight" in text
    assert "model.layers.1.mlp.up_proj.weight has shape (32, 40), expected (40, 32) = [f d]" in text
    assert "model.layers.0.mlp.up_proj.weight has dtype int32" in text


def test_a_tensor_in_two_files_is_refused(tmp_path):
    load = broken_checkpoint(tmp_path, lambda tensors: None)
    save_file({"model.norm.weight": np.ones(32, np.float32)}, tmp_path / "second.safetensors")
    with pytest.raises(ValueError, match=r"model\.norm\.weight is in more than one file"):
        load()


def test_a_stored_head_must_equal_tied_embeddings(tmp_path):
    settings = SETTINGS["llama-mha-tied"]
    save_checkpoint(tmp_path, settings, random_decoder(settings), tokenizer=False)
    tensors = load_file(tmp_path / "model.safetensors")

    def load():
        return load_decoder(tmp_path, read_config(settings, FAMILIES["llama"]), FAMILIES["llama"], jnp.float32)

    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}, tmp_path / "model.safetensors")
    load()
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="differs from model"):
        load()


def test_sharded_checkpoints_follow_their_index(tmp_path):
    settings = SETTINGS["qwen2-gqa"]
    decoder = random_decoder(settings)
    save_checkpoint(tmp_path, settings, decoder, tokenizer=False)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    family = FAMILIES["qwen2"]
    loaded = load_decoder(tmp_path, read_config(settings, family), family, jnp.float32)
    x = tokens((1, 6), 300)
    assert_close(forward(loaded, x), forward(decoder, x), 0)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors"):
        load_decoder(tmp_path, read_config(settings, family), family, jnp.float32)


def test_load_from_a_directory(tmp_path):
    settings = SETTINGS["llama-gqa"]
    model = andor.load(str(save_checkpoint(tmp_path, settings, random_decoder(settings))))
    assert (model.family, model.dtype, len(model.fingerprint)) == ("llama", jnp.float32, 64)
    assert model.parameters == parameters(settings)
    assert model.tokenizer.mask_token == "<mask>"
    half = andor.load(str(tmp_path), dtype="bfloat16")
    assert half.decoder.model.norm.weight[...].dtype == jnp.bfloat16
    assert half.fingerprint == model.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [("tiny-lama", "unknown model 'tiny-lama'"), ("", "unknown model ''"), ("no/such/dir", "unknown model")],
)
def test_unknown_models_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        andor.load(name)


def test_load_errors_of_a_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        andor.load(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        andor.load(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="gpt2"):
        andor.load(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS["llama-gqa"]))
    with pytest.raises(FileNotFoundError, match="safetensors"):
        andor.load(str(tmp_path))
    with pytest.raises(ValueError, match="dtype"):
        andor.load(str(tmp_path), dtype="int8")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", b"\x10\x00", "damaged"),
        ("config.json", b"[]", "must hold a JSON object"),
        ("tokenizer.json", b"{}", "no tokenizer could be read"),
        ("model.safetensors.index.json", b"{}", "no weight_map"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, message):
    settings = SETTINGS["llama-gqa"]
    save_checkpoint(tmp_path, settings, random_decoder(settings))
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        andor.load(str(tmp_path))


def test_weights_larger_than_memory_are_refused(tmp_path):
    settings = {**SETTINGS["llama-gqa"], "vocab_size": 10**12}
    save_checkpoint(tmp_path, SETTINGS["llama-gqa"], random_decoder(SETTINGS["llama-gqa"]))
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="GB of memory are free"):
        andor.load(str(tmp_path))
