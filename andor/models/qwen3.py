"""Qwen3 (dense): Qwen2 without biases, with norms of every query and key, and a head size of its own."""

from andor.models import llama, qwen2
from andor.models.family import Family, WeightRow

WEIGHTS = (
    *llama.WEIGHTS,
    WeightRow("model.layers.{layer}.self_attn.q_norm.weight", "h"),
    WeightRow("model.layers.{layer}.self_attn.k_norm.weight", "h"),
)

FAMILY = Family(
    model_type="qwen3",
    defaults={**qwen2.DEFAULTS, "head_dim": 128},
    fixed=llama.FIXED,
    weights=WEIGHTS,
    options={"qk_norm": "head"},
    slides=qwen2.slides,
)
