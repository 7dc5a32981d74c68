"""Mistral: Llama's decoder, with a sliding window in all layers (0.1) or in none (0.2 and later)."""

from andor.models import llama
from andor.models.family import Family

DEFAULTS = {
    **llama.DEFAULTS,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,  # where a file does not say that there is none
}

FAMILY = Family(
    model_type="mistral",
    defaults=DEFAULTS,
    fixed={"hidden_act": ("silu", "swish")},
    weights=llama.WEIGHTS,
    slides=lambda settings, layer: settings["sliding_window"] is not None,
)
