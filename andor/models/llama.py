"""Llama 2, 3, 3.1, 3.2 and what is distilled into their shape (DeepSeek-R1-Distill-Llama-8B)."""

from andor.models.config import SIZES
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

REQUIRED = frozenset({*SIZES, "rms_norm_eps", "hidden_act"})
OPTIONAL = frozenset({"head_dim", "rope_scaling", "rope_theta", "tie_word_embeddings"})

# None of these changes the logits of one forward pass without padding.
IGNORED = frozenset(
    {
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "initializer_range",
        "model_type",
        "pretraining_tp",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "_name_or_path",
        # settings of generation, which Llama 2's files have
        "do_sample",
        "max_length",
        "temperature",
        "top_p",
    }
)

FAMILY = Family(
    model_type="llama",
    required=REQUIRED,
    ignored=IGNORED,
    fixed={"hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False,)},
    optional=OPTIONAL,
    qkv_bias=False,
    weights=WEIGHTS,
)
