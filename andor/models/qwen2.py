"""Qwen2 and Qwen2.5: Llama's decoder with biases on q, k and v, and sliding-window attention that must be off."""

from andor.models import llama
from andor.models.loading import Family, WeightRow

WEIGHTS = (
    *llama.WEIGHTS,
    WeightRow("model.layers.{layer}.self_attn.q_proj.bias", "(k g h)"),
    WeightRow("model.layers.{layer}.self_attn.k_proj.bias", "(k h)"),
    WeightRow("model.layers.{layer}.self_attn.v_proj.bias", "(k h)"),
)

FAMILY = Family(
    model_type="qwen2",
    required=llama.REQUIRED,
    # Window sizes mean nothing while use_sliding_window is false.
    ignored=llama.IGNORED | {"sliding_window", "max_window_layers"},
    fixed={"hidden_act": ("silu",), "use_sliding_window": (False,)},
    optional=llama.OPTIONAL | {"layer_types"},
    qkv_bias=True,
    weights=WEIGHTS,
)
