"""Reads an HF config.json, and refuses what would change the logits in a way that is not implemented.

A family module (`llama.py`, `qwen2.py`) is data: the config keys it handles, and its weight table. The work is here and
in `andor.models.weights`.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from andor.models.decoder import DecoderConfig, Llama3RopeScaling
from andor.models.family import SIZES, Family

LARGEST_SIZE = 2**40
"""Of any axis. What is merely too large for the memory here is refused with what it takes."""

MOST_LAYERS = 1000


def read_json(path: Path) -> dict:
    """A JSON file that holds an object. Raises ValueError with the file's name for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}. Download it again.") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a directory, and must be a file. Download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(content).__name__}. Download it again.")
    return content


def read_config(settings: Mapping, family: Family) -> DecoderConfig:
    """Read an HF `config.json` (already parsed); accepts the spellings of transformers 4 and 5.

    Raises:
      ValueError: a required key is missing, or keys are there that would change the logits in a way that is not
        implemented. All of them are named at once.
    """
    settings = _one_spelling(settings)
    missing = sorted(family.required - settings.keys())
    if missing:
        raise ValueError(f"config.json of a {family.model_type} model lacks {', '.join(missing)}. Download it again.")
    check_numbers(settings)
    refused = [f"{key}={settings[key]!r}" for key in (*_unsupported(settings, family), *_windowed(settings))]
    if refused:
        raise ValueError(
            f"config.json of this {family.model_type} model has settings that andor does not implement: "
            f"{', '.join(sorted(refused))}. The logits would be wrong, so the model is not loaded."
        )
    heads = settings["num_attention_heads"]
    return DecoderConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["hidden_size"],
        intermediate_size=settings["intermediate_size"],
        num_layers=settings["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=settings["num_key_value_heads"],
        head_dim=settings.get("head_dim") or settings["hidden_size"] // heads,
        max_positions=settings["max_position_embeddings"],
        rms_norm_eps=float(settings["rms_norm_eps"]),
        rope_theta=float(settings["rope_theta"] or 10_000.0),  # HF's default; Llama 2 files do not name it
        rope_scaling=_rope_scaling(settings["rope_scaling"]),
        qkv_bias=family.qkv_bias,
        tied_head=bool(settings.get("tie_word_embeddings", False)),
    )


def _one_spelling(settings: Mapping) -> dict:
    """transformers 5 writes `rope_parameters` and `dtype`; 4 wrote `rope_theta`, `rope_scaling` and `torch_dtype`."""
    settings = dict(settings)
    new, old = (settings.pop(key, None) for key in ("rope_parameters", "rope_scaling"))
    if new and old and new != old:
        raise ValueError("config.json has both rope_parameters and rope_scaling, and they differ. Remove one of them.")
    rope = new or old or {}
    if not isinstance(rope, Mapping):
        raise ValueError(f"config.json has RoPE settings {str(rope)[:40]!r}, which are no object. Download it again.")
    rope = dict(rope)
    thetas = [each for each in (rope.pop("rope_theta", None), settings.get("rope_theta")) if each is not None]
    if len(thetas) > 1 and thetas[0] != thetas[1]:
        raise ValueError(f"config.json says rope_theta is {' and '.join(map(str, thetas))}. Remove one of them.")
    settings["rope_theta"] = thetas[0] if thetas else None
    settings["rope_scaling"] = rope
    if "dtype" in settings:
        settings["torch_dtype"] = settings.pop("dtype")
    return settings


def _rope_scaling(scaling: Mapping) -> Llama3RopeScaling | None:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    given = set(scaling) - {"rope_type", "type"}
    if kind == "default" and not given:
        return None
    fields = {field.name: field.type for field in dataclasses.fields(Llama3RopeScaling)}
    if kind != "llama3" or given != fields.keys():
        raise ValueError(
            f"rope_scaling={dict(scaling)!r} is not implemented; andor reads rope_type 'default', and 'llama3' with "
            f"exactly {', '.join(fields)}."
        )
    check_rope_scaling({name: scaling[name] for name in fields})
    return Llama3RopeScaling(**{name: kind(scaling[name]) for name, kind in fields.items()})


def _windowed(settings: Mapping) -> list[str]:
    """Keys that together give a layer sliding-window attention, by the rule of transformers' Qwen2Config."""
    if settings.get("layer_types") is not None:
        return [] if set(settings["layer_types"]) == {"full_attention"} else ["layer_types"]
    keys = ("use_sliding_window", "sliding_window", "max_window_layers")
    use, window, first = (
        settings.get(key, default) for key, default in zip(keys, (False, "HF's default", 0), strict=True)
    )
    if not use or window is None or (first or 0) >= settings["num_hidden_layers"]:
        return []
    return [key for key in keys if key in settings]


def _unsupported(settings: Mapping, family: Family) -> list[str]:
    """Keys whose value is neither handled, nor allowed, nor HF's own default for this family."""
    unknown = []
    for key, value in settings.items():
        if key in family.fixed:
            if value not in family.fixed[key]:
                unknown.append(key)
        elif key not in family.required | family.ignored | family.optional:
            unknown.append(key)
    if unknown:
        # transformers is slow to import and only needed for files with keys beyond the usual.
        from transformers import AutoConfig

        defaults = AutoConfig.for_model(family.model_type).to_dict()
        unknown = [
            key for key in unknown if key in family.fixed or key not in defaults or defaults[key] != settings[key]
        ]
    return unknown


def check_numbers(settings: Mapping) -> None:
    """Refuse settings of the wrong type or size.

    Args:
      settings: of a config.json that has all of `SIZES`, with RoPE in the spelling of `_one_spelling`.

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
