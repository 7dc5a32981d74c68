"""OLMo-2: norms behind attention and MLP instead of before them, and over all queries and all keys together."""

from andor.models import llama
from andor.models.family import Family, WeightRow

WEIGHTS = (
    *(row for row in llama.WEIGHTS if "input_layernorm" not in row.name),
    WeightRow("model.layers.{layer}.post_feedforward_layernorm.weight", "d"),
    WeightRow("model.layers.{layer}.self_attn.q_norm.weight", "(k g h)"),
    WeightRow("model.layers.{layer}.self_attn.k_norm.weight", "(k h)"),
)

FAMILY = Family(
    model_type="olmo2",
    defaults={**llama.DEFAULTS, "rms_norm_eps": 1e-5},
    fixed=llama.FIXED,
    weights=WEIGHTS,
    options={"norms": "after", "norm_weight": "float32", "qk_norm": "projection"},
)
