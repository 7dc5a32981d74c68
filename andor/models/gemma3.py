"""Gemma 3, text (270M, 1B, and the language part of larger ones saved by itself).

Five layers of six look back a window, with a RoPE base of their own. Norms stand around attention and MLP and multiply
with 1 + weight, queries and keys have norms, the MLP is GeGLU, embeddings are scaled, and the head is tied.
"""

from andor.models import llama
from andor.models.family import Family, WeightRow

WEIGHTS = (
    *llama.WEIGHTS,
    WeightRow("model.layers.{layer}.pre_feedforward_layernorm.weight", "d"),
    WeightRow("model.layers.{layer}.post_feedforward_layernorm.weight", "d"),
    WeightRow("model.layers.{layer}.self_attn.q_norm.weight", "h"),
    WeightRow("model.layers.{layer}.self_attn.k_norm.weight", "h"),
)

DEFAULTS = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "layer_types": None,
}

FIXED = {
    "hidden_activation": ("gelu_pytorch_tanh",),
    "hidden_act": ("gelu_pytorch_tanh",),
    "attention_bias": (False,),
    "final_logit_softcapping": (None,),
    "attn_logit_softcapping": (None,),
    "use_bidirectional_attention": (False, None),
}

FAMILY = Family(
    model_type="gemma3_text",
    defaults=DEFAULTS,
    fixed=FIXED,
    weights=WEIGHTS,
    options={
        "activation": "gelu_tanh",
        "norms": "around",
        "norm_weight": "one_plus",
        "qk_norm": "head",
        "scaled_embeddings": True,
    },
    slides=lambda settings, layer: (layer + 1) % settings["sliding_window_pattern"] != 0,
)
