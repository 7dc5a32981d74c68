"""config.json as it is found: every key of transformers' own classes, what old files lack, every spelling of RoPE."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import LLAMA3_ROPE
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

from andor.models import FAMILIES
from andor.models.bookkeeping import is_bookkeeping
from andor.models.config import FIXED, ROPE_KEYS, read_config
from andor.models.decoder import LinearRopeScaling, Llama3RopeScaling, Rope
from andor.models.family import SIZES

N_LAYERS = 4
LEAST = dict(zip(SIZES, (300, 32, 40, N_LAYERS, 4), strict=True))
WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}

every_family = pytest.mark.parametrize("kind", FAMILIES)


def fields(kind: str) -> dict[str, object]:
    """Setting -> default, of transformers' config class of a family."""
    return {field.name: field.default for field in dataclasses.fields(type(AutoConfig.for_model(kind)))}


def least(kind: str, **others) -> dict:
    """The least file of a family whose heads are shared as they can be, with these settings too."""
    return {**LEAST, "model_type": kind, "num_key_value_heads": 2, **others}


def read(kind: str, config: dict):
    return read_config(config, FAMILIES[kind])


@every_family
def test_every_setting_of_transformers_is_read_or_fixed_or_bookkeeping(kind):
    family = FAMILIES[kind]
    known = {*SIZES, *ROPE_KEYS, "layer_types", *family.defaults, *family.fixed, *FIXED}
    assert {key for key in fields(kind) if not is_bookkeeping(key)} <= known
    assert not {key for key in known if is_bookkeeping(key)}


@every_family
def test_what_a_file_lacks_is_what_transformers_takes(kind):
    family, theirs, instance = FAMILIES[kind], fields(kind), AutoConfig.for_model(kind)
    for key, default in family.defaults.items():
        if key in theirs:
            assert theirs[key] == default, key
        elif key not in ("rope_theta", "rope_local_base_freq", "sliding_window_pattern"):
            assert (key, default) == ("head_dim", None)
    for key, allowed in (FIXED | dict(family.fixed)).items():
        assert theirs.get(key, allowed[0]) in allowed, key
    ropes = instance.rope_parameters
    full, local = ropes.get("full_attention", ropes), ropes.get("sliding_attention", ropes)
    assert full["rope_theta"] == family.defaults["rope_theta"]
    assert local["rope_theta"] == family.defaults.get("rope_local_base_freq", family.defaults["rope_theta"])
    assert getattr(instance, "_sliding_window_pattern", None) == family.defaults.get("sliding_window_pattern")


@every_family
def test_the_file_that_transformers_writes_is_the_one_that_says_nothing(kind):
    config = AutoConfig.for_model(kind, **LEAST, num_key_value_heads=2)
    written = config.to_dict() | {"architectures": ["X"], "dtype": "bfloat16"}
    assert read(kind, written) == read(kind, least(kind))


@every_family
def test_a_setting_that_is_changed_changes_the_decoder_or_is_refused_by_name(kind):
    plain = least(kind, **{key: value for key, value in WINDOWS.items() if key in FAMILIES[kind].defaults})
    before = read(kind, plain)
    checked = 0
    for key, default in fields(kind).items():
        if is_bookkeeping(key) or key in ROPE_KEYS:
            continue
        value = plain.get(key, default)
        if key == "layer_types":
            changed = ["full_attention", "sliding_attention"] * 2
        elif value is None and key in ("head_dim", "sliding_window"):
            changed = 6
        elif isinstance(value, bool) or value is None:
            changed = not value
        else:
            changed = f"{value}x" if isinstance(value, str) else 2 * value
        try:
            assert read(kind, plain | {key: changed}) != before, key
        except ValueError as error:
            assert key in str(error)
        checked += 1
    assert checked > len(SIZES) + 3


@pytest.mark.parametrize("value", ["a", 3, 0.5, True, {"a": [1]}])
def test_bookkeeping_may_say_anything(value):
    generation = {*GenerationConfig().to_dict(), *GenerationConfig._get_default_generation_params()}
    keys = {*generation, *(field.name for field in dataclasses.fields(PreTrainedConfig)), *PreTrainedConfig().to_dict()}
    tools = {"unsloth_fixed", "unsloth_version", "transformers.js_config", "max_sequence_length", "is_llama_config"}
    keys = (keys | tools | {"_name_or_path", "attention_dropout", "torch_dtype"}) - FIXED.keys() - {"model_type"}
    for kind in FAMILIES:
        assert read(kind, least(kind) | dict.fromkeys(keys, value)) == read(kind, least(kind))


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_is_unknown_and_off_is_passed_over(value):
    for kind in FAMILIES:
        assert read(kind, least(kind, rope_interleaved=value, brand_new=value)) == read(kind, least(kind))


def test_what_says_nothing_is_passed_over():
    plain = read("llama", least("llama"))
    for change in ({"quantization_config": {}}, {"is_causal": True}, {"is_causal": None}):
        assert read("llama", least("llama", **change)) == plain
    assert read("llama", least("llama", rope_scaling={"rope_type": "default", "attention_factor": 1.0})) == plain
    mistral = least("mistral", sliding_window=64)
    assert read("mistral", mistral | {"use_sliding_window": False}) == read("mistral", mistral)


def test_every_flag_that_the_masks_of_transformers_ask_for_is_known():
    """What they take for true, no class names: a walk over the fields of classes does not find it."""
    module = importlib.util.find_spec("transformers.masking_utils")  # found, not imported: it needs torch
    asked = set(re.findall(r'getattr\(config, "(\w+)", True\)', Path(module.origin).read_text()))
    assert asked and asked <= FIXED.keys()


@pytest.mark.parametrize("value", [True, 0, 1, 0.5, "on", [1], {"a": 1}])
def test_what_is_unknown_and_on_is_refused_as_unknown(value):
    with pytest.raises(ValueError, match=r"andor does not know, which may change .*: brand_new=") as error:
        read("llama", least("llama", brand_new=value))
    assert "implement" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("llama", {"attention_bias": True}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"quantization_config": {"bits": 4}}),
        ("llama", {"is_causal": False}),
        ("qwen3", {"attention_bias": True}),
        ("mistral", {"hidden_act": "relu"}),
        ("olmo2", {"attention_bias": True}),
        ("gemma3_text", {"final_logit_softcapping": 30.0}),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("gemma3_text", {"hidden_activation": "gelu"}),
    ],
)
def test_what_is_known_and_not_implemented_is_refused_as_such(kind, change):
    ((key, value),) = change.items()
    with pytest.raises(ValueError, match=f"asks for what andor does not implement: {key}=") as error:
        read(kind, least(kind, **change))
    assert repr(value) in str(error.value) and "does not know" not in str(error.value)


def test_both_kinds_of_refusal_come_in_one_error():
    with pytest.raises(ValueError, match=r"not implement: mlp_bias=True, and has .* not know.*: new=2\. If"):
        read("llama", least("llama", mlp_bias=True, new=2))


OPTIONAL = {
    "num_key_value_heads": st.sampled_from([1, 2, 4]),
    "head_dim": st.sampled_from([8, 12]),
    "sliding_window": st.sampled_from([None, 5]),
    "use_sliding_window": st.booleans(),
    "max_window_layers": st.integers(0, 5),
    "sliding_window_pattern": st.integers(1, 4),
    "layer_types": st.lists(
        st.sampled_from(["full_attention", "sliding_attention"]), min_size=N_LAYERS, max_size=N_LAYERS
    ),
    "tie_word_embeddings": st.booleans(),
    "rms_norm_eps": st.just(1e-3),
    "max_position_embeddings": st.just(77),
    "rope_theta": st.just(55.0),
    "rope_local_base_freq": st.just(66.0),
    "rope_scaling": st.sampled_from(
        # transformers' Gemma 3 passes over "type", which stands for rope_type everywhere else
        [None, {"rope_type": "default"}, {"rope_type": "linear", "factor": 2.0}, LLAMA3_ROPE | {"type": "llama3"}]
    ),
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.data())
def test_any_file_is_read_as_transformers_reads_it(kind, data):
    family = FAMILIES[kind]
    keys = [key for key in OPTIONAL if key in (*family.defaults, *ROPE_KEYS)]
    given_settings = data.draw(st.fixed_dictionaries({}, optional={key: OPTIONAL[key] for key in keys}))
    config = {**LEAST, "num_key_value_heads": 2, **given_settings}
    copied = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
    theirs = AutoConfig.for_model(kind, **copied)  # which writes into what it is given
    types = getattr(theirs, "layer_types", None) or ["sliding_attention"] * N_LAYERS
    window = getattr(theirs, "sliding_window", None)
    if "layer_types" in family.defaults and window is None and "sliding_attention" in types:
        with pytest.raises(ValueError, match="sliding_window"):
            read(kind, config)
        return
    ours = read(kind, config)
    assert ours.num_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or 8)
    assert ours.tied_head == theirs.tie_word_embeddings
    assert (ours.rms_norm_eps, ours.max_positions) == (theirs.rms_norm_eps, theirs.max_position_embeddings)
    sliding = tuple(index for index, each in enumerate(types) if each == "sliding_attention" and window is not None)
    assert (() if ours.sliding is None else ours.sliding.layers) == sliding
    ropes = theirs.rope_parameters
    expected = {"full_attention": ours.rope} | ({"sliding_attention": ours.sliding.rope} if sliding else {})
    for layer_type, rope in expected.items():
        spec = ropes.get(layer_type, ropes)
        assert rope.theta == spec["rope_theta"]
        assert {"default": None, "linear": LinearRopeScaling, "llama3": Llama3RopeScaling}[spec["rope_type"]] == (
            None if rope.scaling is None else type(rope.scaling)
        )
        for field in dataclasses.fields(rope.scaling) if rope.scaling else ():
            assert getattr(rope.scaling, field.name) == spec[field.name]


PLAIN, LINEAR, LLAMA3 = (
    Rope(50.0, scaling) for scaling in (None, LinearRopeScaling(2.0), Llama3RopeScaling(4.0, 1.0, 3.0, 16))
)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma3_text"])
@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ({"rope_theta": 50.0}, PLAIN),
        ({"rope_theta": 50, "rope_scaling": None}, PLAIN),
        ({"rope_theta": 50.0, "rope_scaling": {}}, PLAIN),
        ({"rope_theta": 50.0, "rope_scaling": {"type": "default"}}, PLAIN),
        ({"rope_theta": 50.0, "rope_scaling": {"rope_type": "default", "factor": None}}, PLAIN),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}, PLAIN),
        ({"rope_parameters": {"rope_theta": 50.0, "partial_rotary_factor": 1.0}}, PLAIN),
        ({"rope_theta": 50.0, "rope_parameters": {"rope_theta": 50.0}, "partial_rotary_factor": 1.0}, PLAIN),
        ({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 50.0}}}, PLAIN),
        ({"rope_theta": 50.0, "rope_scaling": {"type": "linear", "factor": 2}}, LINEAR),
        ({"rope_theta": 50.0, "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0}}, LINEAR),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0}}, LINEAR),
        (
            {
                "rope_theta": 50.0,
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0},
            },
            LINEAR,
        ),
        ({"rope_theta": 50.0, "rope_scaling": LLAMA3_ROPE}, LLAMA3),
        ({"rope_parameters": {**LLAMA3_ROPE, "rope_theta": 50.0}}, LLAMA3),
        (
            {
                "rope_theta": 50.0,
                "max_position_embeddings": 16,
                "rope_scaling": {k: v for k, v in LLAMA3_ROPE.items() if not k.startswith("original")},
            },
            LLAMA3,
        ),
    ],
)
def test_spellings_of_rope(kind, spelling, expected):
    assert read(kind, least(kind, **spelling)).rope == expected


def test_rope_of_each_type_of_layer():
    old = least("gemma3_text", rope_theta=50.0, rope_local_base_freq=5.0, rope_scaling={"type": "linear", "factor": 2})
    new = least(
        "gemma3_text",
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5.0},
        },
    )
    assert read("gemma3_text", old) == read("gemma3_text", new)
    assert read("gemma3_text", new).ropes == (LINEAR, Rope(5.0, None))
    mistral = read("mistral", least("mistral", rope_theta=50.0))
    assert mistral.sliding.rope == mistral.rope and mistral.ropes == (PLAIN,)


@pytest.mark.parametrize(
    ("spelling", "named"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "dynamic"),
        ({"rope_scaling": {"type": "linear"}}, "linear"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "positive factor"),
        ({"rope_parameters": {"rope_theta": 5.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"rope_parameters": {"rope_theta": -5.0}}, "rope_theta = '-5.0' must be a positive number"),
        ({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}}, r"rope_theta is 6\.0 and 5\.0"),
        ({"rope_parameters": {"full_attention": {}, "rope_theta": 6.0}}, "mixes"),
        ({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_theta": 5.0}}, "they differ"),
    ],
)
def test_rope_that_is_not_implemented_or_contradicts_itself_is_refused(spelling, named):
    for kind in FAMILIES:
        with pytest.raises(ValueError, match=named):
            read(kind, least(kind, **spelling))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"] * 2}),  # windows are off
        ("qwen2", {**WINDOWS, "layer_types": ["full_attention"]}),
        ("qwen2", {**WINDOWS, "layer_types": ["full_attention", "chunked_attention"] * 2}),
        ("gemma3_text", {"sliding_window": None, "layer_types": ["sliding_attention"] * 4}),
        ("mistral", {"layer_types": ["full_attention", "sliding_attention"] * 2}),
        ("llama", {"layer_types": ["sliding_attention"] * 4}),
    ],
)
def test_layer_types_that_make_no_sense_are_refused(kind, change):
    with pytest.raises(ValueError, match="layer_types"):
        read(kind, least(kind, **change))
