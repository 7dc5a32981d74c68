"""Qwen2 and Qwen2.5: Llama's decoder with biases on q, k and v, and sliding-window attention that must be off."""

from andor.models import llama
from andor.models.family import Family, WeightRow

WEIGHTS = (
    *llama.WEIGHTS,
    WeightRow("model.layers.{layer}.self_attn.q_proj.bias", "(k g h)"),
    WeightRow("model.layers.{layer}.self_attn.k_proj.bias", "(k h)"),
    WeightRow("model.layers.{layer}.self_attn.v_proj.bias", "(k h)"),
)

FAMILY = Family(
    model_type="qwen2",
    required=llama.REQUIRED,
    ignored=llama.IGNORED,
    fixed={"hidden_act": ("silu",), "use_mrope": (False,)},  # Qwen2.5's files have use_mrope
    optional=llama.OPTIONAL | {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"},
    qkv_bias=True,
    weights=WEIGHTS,
)
