"""Llama 1, 2, 3, 3.1, 3.2, SmolLM2, and what is distilled into their shape (DeepSeek-R1-Distill-Llama-8B)."""

from andor.models.family import Family, WeightRow

WEIGHTS = (
    WeightRow("model.embed_tokens.weight", "v d"),
    WeightRow("model.layers.{layer}.input_layernorm.weight", "d"),
    WeightRow("model.layers.{layer}.self_attn.q_proj.weight", "(k g h) d"),
    WeightRow("model.layers.{layer}.self_attn.k_proj.weight", "(k h) d"),
    WeightRow("model.layers.{layer}.self_attn.v_proj.weight", "(k h) d"),
    WeightRow("model.layers.{layer}.self_attn.o_proj.weight", "d (k g h)"),
    WeightRow("model.layers.{layer}.post_attention_layernorm.weight", "d"),
    WeightRow("model.layers.{layer}.mlp.gate_proj.weight", "f d"),
    WeightRow("model.layers.{layer}.mlp.up_proj.weight", "f d"),
    WeightRow("model.layers.{layer}.mlp.down_proj.weight", "d f"),
    WeightRow("model.norm.weight", "d"),
)

DEFAULTS = {
    "num_key_value_heads": None,  # as many as there are heads
    "head_dim": None,  # hidden_size / num_attention_heads
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}

FIXED = {"hidden_act": ("silu", "swish"), "attention_bias": (False,)}  # two names of one function

FAMILY = Family(model_type="llama", defaults=DEFAULTS, fixed={**FIXED, "mlp_bias": (False,)}, weights=WEIGHTS)
