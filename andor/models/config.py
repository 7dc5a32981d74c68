"""Reads an HF config.json, and refuses what may change what the model computes in a way that is not implemented.

A family module (`llama.py`, `qwen2.py`, ...) is data: the config keys it handles, and its weight table. The work is
here and in `andor.models.weights`. What a file lacks is what transformers takes for it; a key is read, or may only have
the values that are implemented (`fixed`), or says nothing of the forward pass (`andor.models.bookkeeping`), or is
unknown, which is refused unless it is off (null, false or empty).
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from andor.models.bookkeeping import is_bookkeeping
from andor.models.decoder import DecoderConfig, LinearRopeScaling, Llama3RopeScaling, Rope, Sliding
from andor.models.family import SIZES, Family

LARGEST_SIZE = 2**40
"""Of any axis. What is merely too large for the memory here is refused with what it takes."""

MOST_LAYERS = 1000

ROPE_KEYS = ("rope_parameters", "rope_scaling", "rope_theta", "original_max_position_embeddings")

FIXED = {
    "auto_map": (None,),  # code of its own
    "quantization_config": (None,),
    "quantization": (None,),  # mlx
    "partial_rotary_factor": (None, 1),
    "is_encoder_decoder": (None, False),
    "is_causal": (None, True),  # no class of transformers names it, and their masks ask for it
}
"""As `Family.fixed`, for all families."""

NULLABLE = ("num_key_value_heads", "head_dim", "sliding_window", "layer_types")
"""Settings for which null is not the default, but says something."""


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
      ValueError: a required key is missing, or keys are there that change, or may change, what the model computes in a
        way that is not implemented. All of them are named at once.
    """
    missing = sorted(set(SIZES) - settings.keys())
    if missing:
        raise ValueError(f"config.json of a {family.model_type} model lacks {', '.join(missing)}. Download it again.")
    given = {key: value for key, value in settings.items() if value is not None or key in (*SIZES, *NULLABLE)}
    complete = {**family.defaults, **given}
    full, sliding = _ropes(settings, family)
    check_numbers(complete)
    _refuse(settings, family)
    heads = complete["num_attention_heads"]
    head_dim = complete["head_dim"] or complete["hidden_size"] // heads
    return DecoderConfig(
        vocab_size=complete["vocab_size"],
        hidden_size=complete["hidden_size"],
        intermediate_size=complete["intermediate_size"],
        num_layers=complete["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=complete["num_key_value_heads"] or heads,
        head_dim=head_dim,
        max_positions=complete["max_position_embeddings"],
        rms_norm_eps=float(complete["rms_norm_eps"]),
        rope=full,
        sliding=_sliding(complete, family, sliding),
        query_scalar=float(complete.get("query_pre_attn_scalar", head_dim)),
        tied_head=complete["tie_word_embeddings"],
        **family.options,
    )


def _refuse(settings: Mapping, family: Family) -> None:
    """Raise ValueError for settings that are not implemented or not known."""
    fixed = {**FIXED, **family.fixed}
    read = {*SIZES, *ROPE_KEYS, "layer_types", *family.defaults}
    other = {key: value for key, value in settings.items() if key in fixed and value not in fixed[key]}
    # A flag that is null is off, and so is an object that is empty.
    other = {
        key: value
        for key, value in other.items()
        if not (value is None and False in fixed[key]) and not (value in ({}, []) and None in fixed[key])
    }
    unknown = {
        key: value
        for key, value in settings.items()
        if key not in read and key not in fixed and not is_bookkeeping(key)
        if not (value is None or value is False or value in ("", [], {}))
    }
    reasons = []
    if other:
        reasons.append(f"asks for what andor does not implement: {_listed(other)}")
    if unknown:
        reasons.append(
            f"has settings that andor does not know, which may change what the model computes: {_listed(unknown)}. If "
            "you know that they do not, remove them from the file"
        )
    if reasons:
        raise ValueError(f"config.json of this {family.model_type} model {', and '.join(reasons)}.")


def _listed(settings: Mapping) -> str:
    return ", ".join(f"{key}={repr(value)[:80]}" for key, value in sorted(settings.items()))


def _sliding(settings: Mapping, family: Family, rope: Rope) -> Sliding | None:
    """The layers with sliding-window attention, by `layer_types` or by the rule of the family."""
    n_layers, types, window = (settings.get(key) for key in ("num_hidden_layers", "layer_types", "sliding_window"))
    by_rule = tuple(layer for layer in range(n_layers) if family.slides(settings, layer))
    layers = by_rule if types is None else tuple(layer for layer, kind in enumerate(types) if kind != "full_attention")
    implemented = ("full_attention", "sliding_attention")
    # Other families pass the flag over, as transformers does.
    off = window is None or ("use_sliding_window" in family.defaults and not settings["use_sliding_window"])
    if types is not None and (
        len(types) != n_layers
        or not set(types) <= set(implemented)
        or ("layer_types" not in family.defaults and layers != by_rule)
    ):
        raise ValueError(
            f"config.json of this {family.model_type} model has layer_types={str(types)[:120]}, which andor does not "
            f"implement: it reads {' and '.join(implemented)}, one for each of {n_layers} layers, as this family has "
            "them."
        )
    if not layers:
        return None
    if off:
        raise ValueError(
            f"config.json of this {family.model_type} model has layers with sliding-window attention (layer_types), "
            f"but sliding_window is {window!r}, or use_sliding_window is off. Download it again."
        )
    return Sliding(layers, window, rope)


def _ropes(settings: Mapping, family: Family) -> tuple[Rope, Rope]:
    """RoPE of the layers with full and with sliding-window attention, from any of its spellings.

    transformers 5 writes `rope_parameters`, with the theta in it and perhaps one object per type of layer; 4 wrote
    `rope_theta`, `rope_scaling` and, for Gemma 3, `rope_local_base_freq`.
    """
    theta, local = settings.get("rope_theta"), settings.get("rope_local_base_freq")
    has_local = "rope_local_base_freq" in family.defaults
    read = []
    for spelling in ("rope_parameters", "rope_scaling"):
        given = settings.get(spelling)
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(
                f"config.json has RoPE settings {str(given)[:40]!r}, which are no object. Download it again."
            )
        if not given:
            continue
        by_type = given if any(isinstance(each, Mapping) for each in given.values()) else {"full_attention": given}
        if not all(each is None or isinstance(each, Mapping) for each in by_type.values()):
            raise ValueError(f"{spelling}={str(dict(given))[:200]} mixes settings of all layers and of some of them.")
        full = by_type.get("full_attention") or {}
        sliding = by_type.get("sliding_attention") or ({} if has_local else full)
        read.append((full, sliding))
    read = read or [({}, {})]
    found = []
    for full, sliding in read:
        own = _theta("rope_theta", full, theta, family.defaults["rope_theta"])
        if has_local:
            others = _theta("rope_local_base_freq", sliding, local, family.defaults["rope_local_base_freq"])
        else:
            others = _theta("rope_theta", sliding, theta, family.defaults["rope_theta"])
        found.append((Rope(own, _rope_scaling(full, settings)), Rope(others, _rope_scaling(sliding, settings))))
    if len(found) == 2 and found[0] != found[1]:
        raise ValueError("config.json has both rope_parameters and rope_scaling, and they differ. Remove one of them.")
    return found[0]


def _theta(name: str, rope: Mapping, outside: object, default: float) -> float:
    """Base of the frequencies, given inside the object, outside or not at all."""
    thetas = [each for each in (rope.get("rope_theta"), outside) if each is not None]
    if len(thetas) > 1 and thetas[0] != thetas[1]:
        raise ValueError(f"config.json says {name} is {' and '.join(map(str, thetas))}. Remove one of them.")
    theta = thetas[0] if thetas else default
    if not _is_positive(theta):
        raise ValueError(f"config.json is no model's: {name} = {str(theta)[:40]!r} must be a positive number.")
    return float(theta)


def _rope_scaling(rope: Mapping, settings: Mapping) -> Llama3RopeScaling | LinearRopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    given = {key: value for key, value in rope.items() if value is not None and value is not False}
    given = {key: value for key, value in given.items() if key not in ("rope_type", "type", "rope_theta")}
    for neutral in ("partial_rotary_factor", "attention_factor"):
        if given.get(neutral) == 1:
            del given[neutral]
    if kind == "default" and given.keys() <= {"original_max_position_embeddings"}:
        return None
    if kind == "linear" and given.keys() - {"original_max_position_embeddings"} == {"factor"}:
        if not _is_positive(given["factor"]):
            raise ValueError(f"rope_scaling={str(dict(rope))[:200]} of config.json must have a positive factor.")
        return LinearRopeScaling(float(given["factor"]))
    fields = {field.name: field.type for field in dataclasses.fields(Llama3RopeScaling)}
    if kind == "llama3":  # where the file says nothing of the trained length, transformers takes this
        trained = settings.get("original_max_position_embeddings") or settings.get("max_position_embeddings")
        given = {"original_max_position_embeddings": trained} | given
    if kind != "llama3" or given.keys() != fields.keys():
        raise ValueError(
            f"rope_scaling={str(dict(rope))[:200]} is not implemented; andor reads rope_type 'default', 'linear' with "
            f"a factor, and 'llama3' with exactly {', '.join(fields)}."
        )
    check_rope_scaling(given)
    return Llama3RopeScaling(**{name: kind(given[name]) for name, kind in fields.items()})


def check_numbers(settings: Mapping) -> None:
    """Refuse settings of the wrong type or size.

    Args:
      settings: of a config.json, with the defaults of its family.

    Raises:
      ValueError: names every setting that is wrong.
    """
    sizes = [*SIZES, "max_position_embeddings"]
    sizes += [key for key in ("num_key_value_heads", "head_dim", "sliding_window") if settings.get(key) is not None]
    sizes += [key for key in ("sliding_window_pattern",) if key in settings]
    bad = {name: "a positive whole number" for name in sizes if not _is_size(settings[name])}
    if "num_hidden_layers" not in bad and settings["num_hidden_layers"] > MOST_LAYERS:
        bad["num_hidden_layers"] = f"at most {MOST_LAYERS}"
    if not bad and settings["head_dim"] is None and settings["hidden_size"] < settings["num_attention_heads"]:
        bad["hidden_size"] = "at least num_attention_heads"
    numbers = ("rms_norm_eps", "query_pre_attn_scalar")
    bad |= {name: "a positive number" for name in numbers if name in settings and not _is_positive(settings[name])}
    flags = ("tie_word_embeddings", "use_sliding_window")
    bad |= {name: "true or false" for name in flags if not isinstance(settings.get(name, False), bool)}
    first = settings.get("max_window_layers", 0)
    if isinstance(first, bool) or not isinstance(first, int):
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
