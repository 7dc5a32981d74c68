"""Numbers of a config.json: whether they are numbers, and such as a decoder can have."""

import math
from collections.abc import Mapping

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)

LARGEST_SIZE = 2**40
"""Of any axis. What is merely too large for the memory here is refused with what it takes."""

MOST_LAYERS = 1000


def check_numbers(settings: Mapping) -> None:
    """Refuse settings of the wrong type or size.

    Args:
      settings: of a config.json that has all of `SIZES`, with RoPE as `andor.models.loading` spells it.

    Raises:
      ValueError: names every setting that is wrong.
    """
    optional = ("head_dim",) if settings.get("head_dim") is not None else ()
    bad = {name: "a positive whole number" for name in (*SIZES, *optional) if not _is_size(settings[name])}
    if "num_hidden_layers" not in bad and settings["num_hidden_layers"] > MOST_LAYERS:
        bad["num_hidden_layers"] = f"at most {MOST_LAYERS}"
    if not bad and not optional and settings["hidden_size"] < settings["num_attention_heads"]:
        bad["hidden_size"] = "at least num_attention_heads"
    if not _is_positive(settings["rms_norm_eps"]):
        bad["rms_norm_eps"] = "a positive number"
    if settings["rope_theta"] is not None and not _is_positive(settings["rope_theta"]):
        bad["rope_theta"] = "a positive number"
    if not isinstance(settings.get("tie_word_embeddings", False), bool):
        bad["tie_word_embeddings"] = "true or false"
    first = settings.get("max_window_layers")
    if first is not None and (isinstance(first, bool) or not isinstance(first, int)):
        bad["max_window_layers"] = "a whole number"
    layers = settings.get("layer_types")
    if layers is not None and not (isinstance(layers, list) and all(isinstance(each, str) for each in layers)):
        bad["layer_types"] = "a list of names"
    if bad:
        wrong = "; ".join(f"{name} = {str(settings[name])[:40]!r} must be {what}" for name, what in bad.items())
        raise ValueError(f"config.json is no model's: {wrong}. Download it again.")


def check_rope_scaling(scaling: Mapping) -> None:
    """Refuse numbers of rope_type llama3 that are none, or give no frequencies. Raises ValueError."""
    numbers = all(map(_is_positive, scaling.values())) and _is_size(scaling["original_max_position_embeddings"])
    if not numbers or scaling["high_freq_factor"] <= scaling["low_freq_factor"]:
        raise ValueError(
            f"rope_scaling={str(dict(scaling))[:200]} of config.json must hold positive numbers, "
            "original_max_position_embeddings a whole one, and high_freq_factor the larger of the two. Download it "
            "again."
        )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SIZE


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e30 and math.isfinite(value)
