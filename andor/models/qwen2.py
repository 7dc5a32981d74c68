"""Qwen2 and Qwen2.5: Llama's decoder with biases on q, k and v, and windows in the last layers, off in most files."""

from andor.models import llama
from andor.models.family import Family, WeightRow

WEIGHTS = (
    *llama.WEIGHTS,
    WeightRow("model.layers.{layer}.self_attn.q_proj.bias", "(k g h)"),
    WeightRow("model.layers.{layer}.self_attn.k_proj.bias", "(k h)"),
    WeightRow("model.layers.{layer}.self_attn.v_proj.bias", "(k h)"),
)

DEFAULTS = {
    **llama.DEFAULTS,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}


def slides(settings, layer: int) -> bool:
    """The layers from `max_window_layers` on, if windows are on."""
    return bool(
        settings["use_sliding_window"]
        and settings["sliding_window"] is not None
        and layer >= settings["max_window_layers"]
    )


FAMILY = Family(
    model_type="qwen2",
    defaults=DEFAULTS,
    fixed={"hidden_act": ("silu", "swish"), "use_mrope": (False,)},  # Qwen2.5's files have use_mrope
    weights=WEIGHTS,
    options={"qkv_bias": True},
    slides=slides,
)
