import dataclasses
import json

import jax.numpy as jnp
import pytest
from flax import nnx
from tiny_models import (
    BASE,
    LLAMA3_ROPE,
    SETTINGS,
    WINDOW,
    assert_close,
    forward,
    random_decoder,
    save_checkpoint,
    tokens,
)

import andor
from andor.models import FAMILIES
from andor.models.config import read_config
from andor.models.decoder import Llama3RopeScaling, Rope
from andor.models.weights import abstract_decoder, count_parameters


def parameters(settings):
    return count_parameters(read_config(settings, FAMILIES[settings["model_type"]]))


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


def sizes(hidden, intermediate, layers, heads, kv_heads, vocabulary, **others):
    """The numbers of a published config.json that decide how many weights there are."""
    return {
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        **others,
    }


QWEN, TIED = {"model_type": "qwen2"}, {"tie_word_embeddings": True}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(QWEN_7B, 7_615_616_512, id="Qwen2.5-7B"),
        pytest.param(LLAMA_8B, 8_030_261_248, id="Llama-3.1-8B"),
        pytest.param(sizes(896, 4864, 24, 14, 2, 151936, **QWEN, **TIED), 494_032_768, id="Qwen2.5-0.5B"),
        pytest.param(sizes(4096, 11008, 32, 32, 32, 32000), 6_738_415_616, id="Llama-2-7B"),
        pytest.param(sizes(2048, 8192, 16, 32, 8, 128256, head_dim=64, **TIED), 1_235_814_400, id="Llama-3.2-1B"),
    ],
)
def test_parameter_counts_of_published_models(settings, expected):
    assert parameters(settings) == expected


def test_published_files_are_read():
    """What the files of the hub hold beside the numbers: Qwen2.5's mrope flag, Llama 2's generation settings."""
    transformers5 = {"layer_types": ["full_attention"] * 28, "sliding_window": None, "pad_token_id": None}
    theta = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    without = {key: value for key, value in QWEN_7B.items() if key != "rope_theta"}
    configs = [
        read_config({**settings, "use_mrope": False, "transformers_version": "x"}, FAMILIES["qwen2"])
        for settings in (QWEN_7B, {**without, **transformers5, **theta})
    ]
    assert configs[0] == configs[1]
    llama2 = sizes(4096, 11008, 32, 32, 32, 32000, max_length=4096, rope_scaling=None, pretraining_tp=1)
    assert read_config(llama2, FAMILIES["llama"]).rope == Rope(10_000.0, None)


def test_both_spellings_of_config_give_one_decoder():
    version4 = {**BASE, "model_type": "llama", "rope_scaling": LLAMA3_ROPE, "torch_dtype": "bfloat16"}
    version5 = {
        key: value for key, value in version4.items() if key not in ("rope_theta", "rope_scaling", "torch_dtype")
    }
    version5 |= {"rope_parameters": {"rope_theta": 321.0, **LLAMA3_ROPE}, "dtype": "bfloat16"}
    old, new = (read_config(settings, FAMILIES["llama"]) for settings in (version4, version5))
    assert old == new
    assert old.rope == Rope(321.0, Llama3RopeScaling(4.0, 1.0, 3.0, 16))


@pytest.mark.parametrize(
    ("model_type", "changes", "named"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("llama", {"attention_bias": True}, "attention_bias=True"),
        ("llama", {"mlp_bias": True}, "mlp_bias=True"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "auto_map="),
        ("llama", {"sliding_window": 8}, "sliding_window=8"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ("llama", {"rope_scaling": {**LLAMA3_ROPE, "beta": 1.0}}, "beta"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "exactly factor, low_freq_factor"),
        ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, r"rope_theta is 5\.0 and 321\.0"),
        (
            "llama",
            {"rope_parameters": LLAMA3_ROPE, "rope_scaling": {"type": "linear", "factor": 2.0}},
            "both rope_parameters and rope_s",
        ),
        ("llama", {"hidden_size": None}, "hidden_size"),
        ("llama", {"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ("llama", {"head_dim": 7}, "even head_dim"),
        ("qwen2", {"use_mrope": True}, "use_mrope=True"),
        ("qwen2", {"attention_bias": True}, "attention_bias=True"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("qwen2", {"brand_new_setting": 1, "another": 2}, "another=2, brand_new_setting=1"),
    ],
)
def test_settings_that_are_not_implemented_are_refused_by_name(model_type, changes, named):
    settings = {key: value for key, value in ({**BASE, **changes}).items() if value is not None}
    with pytest.raises(ValueError, match=named):
        read_config(settings, FAMILIES[model_type])


@pytest.mark.parametrize(
    "changes",
    [
        {"use_sliding_window": False},
        {"max_window_layers": 2},  # the first two layers have full attention, and there are two
        {"sliding_window": None},
        {"layer_types": ["full_attention", "full_attention"]},
    ],
)
def test_a_sliding_window_that_no_layer_has_is_off(changes):
    plain = read_config(BASE, FAMILIES["qwen2"])
    assert read_config({**BASE, **WINDOW, **changes}, FAMILIES["qwen2"]) == plain


@pytest.mark.parametrize(("given", "expected"), [({}, 8), ({"head_dim": None}, 8), ({"head_dim": 12}, 12)])
def test_head_dim_may_be_given(given, expected):
    assert read_config({**BASE, **given}, FAMILIES["llama"]).head_dim == expected


def test_unused_settings_at_their_default_are_accepted():
    read_config({**BASE, "output_hidden_states": False, "chunk_size_feed_forward": 0}, FAMILIES["llama"])


def changed_logits(name: str, change) -> float:
    """Largest change of the logits of random weights by another config."""
    decoder = random_decoder(SETTINGS[name])
    other = nnx.merge(abstract_decoder(change(decoder.config), jnp.float32)[0], nnx.split(decoder)[1])
    x = tokens((1, 40), 300)
    return float(jnp.abs(forward(other, x) - forward(decoder, x)).max())


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("llama-gqa", "rms_norm_eps"),
        ("llama-gqa", "rope.theta"),
        *(("llama-llama3-rope", f"rope.scaling.{field}") for field in list(LLAMA3_ROPE)[1:]),
        ("gemma3", "rope.theta"),
        ("gemma3", "rope.scaling.factor"),
        ("gemma3", "sliding.window"),
        ("gemma3", "sliding.rope.theta"),
        ("gemma3", "query_scalar"),
    ],
)
def test_every_number_of_the_config_changes_the_logits(name, path):
    def doubled(value, fields):
        if not fields:
            return 2 * value
        return dataclasses.replace(value, **{fields[0]: doubled(getattr(value, fields[0]), fields[1:])})

    assert changed_logits(name, lambda config: doubled(config, path.split("."))) > 1e-4


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "silu"},
        {"norm_weight": "float32"},
        {"scaled_embeddings": False},
        {"sliding": None},
    ],
)
def test_every_option_of_a_family_changes_the_logits(change):
    assert changed_logits("gemma3", lambda config: dataclasses.replace(config, **change)) > 1e-4


def test_padding_and_packing_leave_a_sequence_alone():
    decoder = random_decoder(SETTINGS["qwen2-gqa"])
    one, two = tokens((1, 7), 300, seed=1), tokens((1, 5), 300, seed=2)
    packed = jnp.concatenate([one, two], axis=1)
    segments = jnp.array([[1] * 7 + [2] * 5])
    positions = jnp.array([[*range(7), *range(5)]])
    logits = forward(decoder, packed, positions, segments)
    assert_close(logits[:, :7], forward(decoder, one), 1e-5)
    assert_close(logits[:, 7:], forward(decoder, two), 1e-5)


def test_a_baseline_stands_in_for_negative_ids_alone():
    decoder, baseline = random_decoder(SETTINGS["llama-gqa"]), jnp.full(32, 7.0)
    own = decoder.model.embed_tokens.weight[...]
    assert_close(decoder.embed(jnp.array([[0, -1, 5]]), baseline)[0], jnp.stack([own[0], baseline, own[5]]), 0)


def test_load_from_a_directory(tmp_path):
    settings = SETTINGS["llama-gqa"]
    model = andor.load(str(save_checkpoint(tmp_path, settings, random_decoder(settings))))
    assert (model.family, model.dtype, len(model.fingerprint)) == ("llama", jnp.float32, 64)
    assert model.parameters == parameters(settings)
    assert model.tokenizer.mask_token == "<mask>"
    half = andor.load(str(tmp_path), dtype="bfloat16")
    assert half.decoder.model.norm.weight[...].dtype == jnp.bfloat16
    assert half.fingerprint == model.fingerprint


def test_a_model_is_shown_in_one_line():
    model = andor.load("tiny-llama")
    assert repr(model) == f"<LanguageModel 'tiny-llama': llama, {model.parameters:,} parameters, float32>"
    divided = dataclasses.replace(model, name="m" * 300, mesh=andor.mesh.make_mesh(data=1, model=1))
    assert len(repr(divided)) < 250 and repr(divided).endswith("float32 on data=1, model=1>")


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


def test_auto_is_bfloat16_where_float32_does_not_fit(tmp_path, monkeypatch):
    settings = {**SETTINGS["llama-gqa"], "torch_dtype": "bfloat16"}
    folder = str(save_checkpoint(tmp_path, settings, random_decoder(settings)))
    parameters = andor.load(folder).parameters
    assert andor.load(folder).dtype == jnp.float32
    monkeypatch.setattr("andor.models.available_bytes", lambda mesh=None: 3 * parameters)
    assert andor.load(folder).dtype == jnp.bfloat16
    monkeypatch.setattr("andor.models.available_bytes", lambda mesh=None: parameters)
    with pytest.raises(ValueError, match="in bfloat16"):
        andor.load(folder)
