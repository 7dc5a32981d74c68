"""Where two decoders part: outputs of their modules in the order of execution, and the first that differs."""

from collections.abc import Mapping
from contextlib import ExitStack
from unittest import mock

import numpy as np
from flax import nnx

from andor.models.decoder import MLP, Attention, Decoder, RMSNorm

INNER = ("q_norm", "k_norm")
"""Modules within attention, whose axes stand in another order with every family of transformers."""


@nnx.jit
def _outputs(decoder, *arguments):
    names = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(decoder)}
    found = {"model.embed_tokens": decoder.embed(arguments[0])}

    def recording(kind):
        call = kind.__call__

        def recorded(self, *arguments):
            result = call(self, *arguments)
            found[names[id(self)]] = result[0] if isinstance(result, tuple) else result
            return result

        return mock.patch.object(kind, "__call__", recorded)

    with ExitStack() as stack:
        for kind in (Attention, MLP, RMSNorm):
            stack.enter_context(recording(kind))
        found["lm_head"] = decoder(*arguments)
    return found


def outputs(decoder: Decoder, tokens, positions, segments) -> dict[str, np.ndarray]:
    """Embeddings, every norm, attention and MLP, and the logits of one forward pass, by the module's HF name."""
    found = _outputs(decoder, tokens, positions, segments)
    return {name: np.asarray(value, np.float32) for name, value in found.items() if not name.endswith(INNER)}


def torch_outputs(model, *arguments, **options) -> dict[str, np.ndarray]:
    """The same of transformers' PyTorch model, in the order of execution."""
    import torch

    found = {}
    rungs = ("embed_tokens", "self_attn", "mlp", "norm", "layernorm", "lm_head")
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name.endswith(rungs) and not name.endswith(INNER):

                def record(module, inputs, result, name=name):
                    result = result[0] if isinstance(result, tuple) else result
                    found[name] = result.float().numpy()

                stack.callback(module.register_forward_hook(record).remove)
        with torch.no_grad():
            model(*arguments, **options)
    return found


def first_difference(
    ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], tolerance: float, where=None
) -> str | None:
    """What to say of the first module whose outputs differ; None if none do.

    Args:
      ours: from `outputs`.
      reference: from `torch_outputs`; its order is the order of comparison.
      tolerance: of the largest difference, in units of the reference's largest output, if that is above 1.
      where: bool `[b, t]`, the tokens to compare; all by default.
    """
    assert ours.keys() == reference.keys(), ours.keys() ^ reference.keys()
    agreeing = 0
    for name, expected in reference.items():
        rows = np.ones(expected.shape[:2], bool) if where is None else np.asarray(where, bool)
        expected, actual = expected[rows], ours[name][rows]
        difference = np.abs(actual - expected).max()
        if not difference <= tolerance * max(1.0, np.abs(expected).max()):
            return f"{name} is the first module that differs, by {difference:.3g}, after {agreeing} that agree"
        agreeing += 1
    return None
