"""What is particular to one model family, as data: the config keys it handles, and its weight table."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence

from andor.models.tensors import Ranges


@dataclasses.dataclass(frozen=True)
class WeightRow:
    """One row of a weight table.

    Attributes:
      name: HF tensor name; `{layer}` stands for every layer index. The same name, split at dots, is our module path.
      axes: axis letters in HF's order; letters in parentheses are one flattened axis of the HF tensor and separate axes
        of ours: `"(k g h) d"` is `[k*g*h, d]` in the file and `[k, g, h, d]` in the decoder.
    """

    name: str
    axes: str

    def hf_axes(self) -> tuple[str, ...]:
        """Letters of each axis of the tensor in the checkpoint: ("kgh", "d")."""
        groups = re.findall(r"\(([^)]*)\)|(\S+)", self.axes)
        return tuple((group or single).replace(" ", "") for group, single in groups)

    def hf_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the tensor in the checkpoint."""
        return tuple(math.prod(sizes[letter] for letter in axis) for axis in self.hf_axes())

    def hf_ranges(self, sizes: Mapping[str, int], index: tuple[slice, ...]) -> Ranges:
        """What part of the tensor in the checkpoint a slice of the parameter is."""
        spans = {letter: each.indices(sizes[letter]) for letter, each in zip(self.letters(), index, strict=True)}
        ranges = []
        for first, *others in self.hf_axes():
            assert all(spans[each] == (0, sizes[each], 1) for each in others), "only the first of a group is divided"
            inner = math.prod(sizes[each] for each in others)
            ranges.append((spans[first][0] * inner, spans[first][1] * inner))
        return tuple(ranges)

    def letters(self) -> str:
        """Axes of the parameter in the decoder."""
        return re.sub(r"\W", "", self.axes)

    def our_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the parameter in the decoder."""
        return tuple(sizes[axis] for axis in self.letters())


@dataclasses.dataclass(frozen=True)
class Family:
    """What is particular to one model family.

    Attributes:
      model_type: HF `model_type`.
      defaults: config keys that are read beside `SIZES` and RoPE's, with what transformers takes where a file lacks
        them.
      fixed: config keys that may only have the given values, because nothing else is implemented.
      weights: the weight table, without the head.
      options: fields of `DecoderConfig` in which the family differs from Llama.
      slides: whether a layer has sliding-window attention, by the settings (with defaults) and its index, where there
        are no `layer_types`.
    """

    model_type: str
    defaults: Mapping[str, object]
    fixed: Mapping[str, tuple]
    weights: Sequence[WeightRow]
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    slides: Callable[[Mapping, int], bool] = lambda settings, layer: False


HEAD = WeightRow("lm_head.weight", "v d")

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
"""Config keys that every file must have: no default would be this model's."""
