"""The one llama-like decoder that all families share.

GQA, RMSNorm, a gated MLP, RoPE, and what a family adds to Llama: q/k/v biases, norms of queries and keys, norms behind
attention and MLP, scaled embeddings, layers that look back a window only.

Modules stand bottom-up and carry the names of the HF checkpoint (`model.layers.0.self_attn.q_proj.weight`), and every
weight keeps HF's orientation `[out, in]` with its axes split, not transposed: loading does no arithmetic. Axis letters
are those of `andor/__init__.py`. RoPE angles are float32, and norm statistics, softmax and logits no less (`wide`),
whatever the weights are.

Whatever goes through the layers does so by `Decoder.walk`. A layer knows its angles and which keys its queries look at;
whoever walks knows where keys and values are kept, and how a layer is compiled. Modules are pytrees: `jax.jit` takes
them as arguments, and compiles once for all layers of a kind (with a window, without).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Llama3RopeScaling:
    """Llama 3.1's stretch of the slow RoPE frequencies (HF `rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclasses.dataclass(frozen=True)
class LinearRopeScaling:
    """All RoPE frequencies divided by a factor (HF `rope_type: linear`; Gemma 3 from 4B on, in its full layers)."""

    factor: float


@dataclasses.dataclass(frozen=True)
class Rope:
    """How positions turn queries and keys: base of the frequencies, and their scaling."""

    theta: float
    scaling: Llama3RopeScaling | LinearRopeScaling | None


@dataclasses.dataclass(frozen=True)
class Sliding:
    """Layers with sliding-window attention.

    Attributes:
      layers: their indices.
      window: positions that a query looks at, its own included.
      rope: of these layers.
    """

    layers: tuple[int, ...]
    window: int
    rope: Rope


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Architecture of one decoder: first what the checkpoint's `config.json` decides, then what its family does.

    Attributes:
      rope: of the layers that look at everything before.
      sliding: the layers that do not; None if there are none.
      query_scalar: scores are divided by its square root; `head_dim` but in some Gemma models.
      activation: of the gate in the MLP.
      norms: where a layer has norms: "before" attention and MLP (Llama), "after" them (OLMo-2), or "around" (Gemma).
      norm_weight: how a norm multiplies with its weight: "rounded", once the numbers are in the dtype of the weights
        (Llama), in "float32" (OLMo-2), or "one_plus": with 1 + weight in float32 (Gemma).
      qk_norm: norms of queries and keys before their rotation: of every "head", or of the whole "projection" (OLMo-2).
      scaled_embeddings: whether input embeddings are multiplied by the square root of `hidden_size` (Gemma).
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope: Rope
    sliding: Sliding | None
    query_scalar: float
    tied_head: bool
    qkv_bias: bool = False
    activation: Literal["silu", "gelu_tanh"] = "silu"
    norms: Literal["before", "after", "around"] = "before"
    norm_weight: Literal["rounded", "float32", "one_plus"] = "rounded"
    qk_norm: Literal["head", "projection"] | None = None
    scaled_embeddings: bool = False

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_attention_heads must be a multiple of num_key_value_heads; got {self.num_heads} and "
                f"{self.num_kv_heads}. Check config.json."
            )
        if self.head_dim % 2:
            raise ValueError(f"RoPE needs an even head_dim; got {self.head_dim}. Check config.json.")

    def axis_sizes(self) -> dict[str, int]:
        """Size of each axis letter that occurs in a weight."""
        return {
            "v": self.vocab_size,
            "d": self.hidden_size,
            "f": self.intermediate_size,
            "k": self.num_kv_heads,
            "g": self.num_heads // self.num_kv_heads,
            "h": self.head_dim,
        }

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """Of the full layers, and of the sliding ones if theirs differs."""
        differs = self.sliding is not None and self.sliding.rope != self.rope
        return (self.rope, self.sliding.rope) if differs else (self.rope,)


def rope_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Angular frequency of each rotated pair of dimensions, in radians per position. float32 `[h / 2]`.

    Su et al. 2021 (arXiv 2104.09864); the scalings follow `transformers.modeling_rope_utils`.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / head_dim
    # Rounded to float32 where PyTorch rounds: at position 100,000 one unit in the last place is 0.006 radians.
    powers = (rope.theta ** exponents.astype(np.float64)).astype(np.float32)
    frequencies = np.float32(1) / powers
    scaling = rope.scaling
    if scaling is None:
        return frequencies
    if isinstance(scaling, LinearRopeScaling):
        return frequencies / np.float32(scaling.factor)
    # Wavelengths beyond the trained context are stretched by `factor`, short ones kept, between the two a linear blend.
    turns = scaling.original_max_position_embeddings / (2 * math.pi / frequencies)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return ((1 - keep) * frequencies / scaling.factor + keep * frequencies).astype(np.float32)


Rotation = tuple[Float[Array, "#b t r"], Float[Array, "#b t r"]]
"""Cosines and sines of the RoPE angles of r = h / 2 pairs; b is 1 where all rows have the same."""


def rotation(config: DecoderConfig, positions: Int[Array, "b t"]) -> tuple[Rotation, ...]:
    """Cosines and sines of position times frequency, float32: one pair for each of `config.ropes`."""

    def of(rope: Rope) -> Rotation:
        frequencies = jnp.asarray(rope_frequencies(rope, config.head_dim))
        angles = positions[..., None].astype(jnp.float32) * frequencies[None, None, :]
        return jnp.cos(angles), jnp.sin(angles)

    return tuple(of(rope) for rope in config.ropes)


def wide(dtype) -> jnp.dtype:
    """What is computed in where this dtype would be too coarse: float32, or float64 of float64."""
    return jnp.promote_types(dtype, jnp.float32)


def apply_rope(x: Float[Array, "b t *heads h"], angles: Rotation):
    """Rotate each half-split pair (x_i, x_{i + h/2}), in `wide`. Shape, dtype of `x`."""
    cos, sin = (each.reshape(*each.shape[:2], *(1,) * (x.ndim - 3), each.shape[2]) for each in angles)
    first, second = jnp.split(x.astype(wide(x.dtype)), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


class Weight(nnx.Module):
    """A named tensor (HF: `<module>.weight`), normally initialised with standard deviation `std`."""

    def __init__(self, shape: tuple[int, ...], std: float, dtype, rngs: nnx.Rngs):
        self.weight = nnx.Param(std * jax.random.normal(rngs.params(), shape, dtype))


class Projection(Weight):
    """A weight with an optional bias over its output axes (HF: `<module>.weight`, `<module>.bias`)."""

    def __init__(self, shape: tuple[int, ...], *, bias: bool, dtype, rngs: nnx.Rngs):
        super().__init__(shape, shape[-1] ** -0.5, dtype, rngs)
        self.bias = nnx.Param(jnp.zeros(shape[:-1], dtype)) if bias else None

    def __call__(self, equation: str, x):
        out = jnp.einsum(equation, x, self.weight[...])
        if self.bias is None:
            return out
        bias = self.bias[...]
        return out + bias.reshape((1,) * (out.ndim - bias.ndim) + bias.shape)


class RMSNorm(nnx.Module):
    """Zhang & Sennrich 2019 (arXiv 1910.07467), over the last axes of the input. Statistics are `wide`."""

    def __init__(self, config: DecoderConfig, shape: tuple[int, ...], *, dtype):
        self.eps, self.product = config.rms_norm_eps, config.norm_weight
        self.weight = nnx.Param((jnp.zeros if self.product == "one_plus" else jnp.ones)(shape, dtype))

    def __call__(self, x: Float[Array, "b t *axes"]) -> Float[Array, "b t *axes"]:
        weight = self.weight[...]
        axes = tuple(range(-weight.ndim, 0))
        weight = weight.reshape((1,) * (x.ndim - weight.ndim) + weight.shape)
        wider = x.astype(wide(x.dtype))
        wider = wider * jax.lax.rsqrt(jnp.mean(jnp.square(wider), axis=axes, keepdims=True) + self.eps)
        if self.product == "rounded":
            return weight * wider.astype(x.dtype)
        weight = weight.astype(wider.dtype)
        return (wider * (1 + weight if self.product == "one_plus" else weight)).astype(x.dtype)


Sees = Callable[[Int[Array, "*rows t"], Int[Array, "*rows u"]], Bool[Array, "*rows t u"]]
"""sees(positions of queries, positions of keys) -> whether a layer's query looks at a key of its own past."""

Attend = Callable[[Float[Array, "b t k g h"], Float[Array, "b t k h"], Float[Array, "b t k h"], Sees, float], tuple]
"""attend(queries, keys, values, sees, scale of scores) -> (values mixed for every query `[b, t, k, g, h]`, what the
caller keeps)."""


def causal(queries: Int[Array, "*rows t"], keys: Int[Array, "*others u"]) -> Bool[Array, "*all t u"]:
    """A query looks at its own position and at all before."""
    return keys[..., None, :] <= queries[..., :, None]


def within(window: int, queries: Int[Array, "*rows t"], keys: Int[Array, "*others u"]) -> Bool[Array, "*all t u"]:
    """A query looks at its own position and at those before, `window` in all (Mistral: arXiv 2310.06825)."""
    return causal(queries, keys) & (keys[..., None, :] > queries[..., :, None] - window)


def mixing_weights(
    scores: Float[Array, "..."], visible: Bool[Array, "..."], scale: float, dtype
) -> Float[Array, "..."]:
    """Softmax over the last axis of the scaled scores of the keys that are visible, then of this dtype."""
    scores = jnp.where(visible, scores * scale, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1).astype(dtype)


def attend_within(q, k, v, sees: Sees, scale: float, *, segments: Int[Array, "#b t"]):
    """Attention among those tokens of a row that are of one segment; keeps nothing."""
    order = jnp.arange(q.shape[1])[None]
    visible = sees(order, order) & (segments[:, :, None] == segments[:, None, :])
    scores = jnp.einsum("btkgh,bukh->bkgtu", q, k, preferred_element_type=wide(q.dtype))
    weights = mixing_weights(scores, visible[:, None, None], scale, q.dtype)
    return jnp.einsum("bkgtu,bukh->btkgh", weights, v), None


class Attention(nnx.Module):
    """Grouped-query attention of one layer; multi-head and multi-query attention are the cases g = 1 and k = 1."""

    def __init__(self, config: DecoderConfig, index: int, *, dtype, rngs: nnx.Rngs):
        size = config.axis_sizes()
        d, k, g, h = size["d"], size["k"], size["g"], size["h"]
        self.q_proj = Projection((k, g, h, d), bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.k_proj = Projection((k, h, d), bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.v_proj = Projection((k, h, d), bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.o_proj = Weight((d, k, g, h), (k * g * h * 2 * config.num_layers) ** -0.5, dtype, rngs)
        normed = {None: None, "head": ((h,), (h,)), "projection": ((k, g, h), (k, h))}[config.qk_norm]
        self.q_norm, self.k_norm = (
            (None, None) if normed is None else (RMSNorm(config, shape, dtype=dtype) for shape in normed)
        )
        slides = config.sliding is not None and index in config.sliding.layers
        self.rope = len(config.ropes) - 1 if slides else 0
        self.window = config.sliding.window if slides else None
        self.scale = config.query_scalar**-0.5

    @jax.named_scope("attention")
    def __call__(self, x: Float[Array, "b t d"], angles: Rotation, attend: Attend):
        q = self.q_proj("btd,kghd->btkgh", x)
        k = self.k_proj("btd,khd->btkh", x)
        v = self.v_proj("btd,khd->btkh", x)
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        sees = causal if self.window is None else functools.partial(within, self.window)
        mixed, kept = attend(apply_rope(q, angles), apply_rope(k, angles), v, sees, self.scale)
        return jnp.einsum("btkgh,dkgh->btd", mixed, self.o_proj.weight[...]), kept


class MLP(nnx.Module):
    """SwiGLU or GeGLU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: DecoderConfig, *, dtype, rngs: nnx.Rngs):
        d, f = config.hidden_size, config.intermediate_size
        self.activation = config.activation
        self.gate_proj = Weight((f, d), d**-0.5, dtype, rngs)
        self.up_proj = Weight((f, d), d**-0.5, dtype, rngs)
        self.down_proj = Weight((d, f), (f * 2 * config.num_layers) ** -0.5, dtype, rngs)

    @jax.named_scope("mlp")
    def __call__(self, x):
        gate = jnp.einsum("btd,fd->btf", x, self.gate_proj.weight[...])
        up = jnp.einsum("btd,fd->btf", x, self.up_proj.weight[...])
        gate = jax.nn.silu(gate) if self.activation == "silu" else jax.nn.gelu(gate, approximate=True)
        return jnp.einsum("btf,df->btd", gate * up, self.down_proj.weight[...])


class DecoderLayer(nnx.Module):
    """Attention and MLP, each added to the residual stream, with norms before them, after them, or both.

    The norms have HF's names: `post_attention_layernorm` is Llama's norm before the MLP, and that after the attention
    in the families that have one there.
    """

    def __init__(self, config: DecoderConfig, index: int, *, dtype, rngs: nnx.Rngs):
        def norm(there: bool) -> RMSNorm | None:
            return RMSNorm(config, (config.hidden_size,), dtype=dtype) if there else None

        self.input_layernorm = norm(config.norms != "after")
        self.self_attn = Attention(config, index, dtype=dtype, rngs=rngs)
        self.post_attention_layernorm = norm(True)
        self.pre_feedforward_layernorm = norm(config.norms == "around")
        self.mlp = MLP(config, dtype=dtype, rngs=rngs)
        self.post_feedforward_layernorm = norm(config.norms != "before")

    def __call__(self, x: Float[Array, "b t d"], angles: Rotation, attend: Attend):
        """(x of the next layer, what `attend` kept)."""
        mixed, kept = self.self_attn(x if self.input_layernorm is None else self.input_layernorm(x), angles, attend)
        if self.post_feedforward_layernorm is None:
            x = x + mixed
            return x + self.mlp(self.post_attention_layernorm(x)), kept
        x = x + self.post_attention_layernorm(mixed)
        read = x if self.pre_feedforward_layernorm is None else self.pre_feedforward_layernorm(x)
        return x + self.post_feedforward_layernorm(self.mlp(read)), kept


class Backbone(nnx.Module):
    """Everything but the head (HF: `model.*`)."""

    def __init__(self, config: DecoderConfig, *, dtype, rngs: nnx.Rngs):
        self.embed_tokens = Weight((config.vocab_size, config.hidden_size), 0.02, dtype, rngs)
        self.layers = nnx.List(
            [DecoderLayer(config, index, dtype=dtype, rngs=rngs) for index in range(config.num_layers)]
        )
        self.norm = RMSNorm(config, (config.hidden_size,), dtype=dtype)


class Decoder(nnx.Module):
    """A causal language model.

    Args:
      config: the architecture.
      dtype: dtype of weights and activations.
      rngs: `nnx.Rngs` with a `params` stream, for the initial weights.
    """

    def __init__(self, config: DecoderConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.config = config
        self.model = Backbone(config, dtype=dtype, rngs=rngs)
        self.lm_head = None if config.tied_head else Weight((config.vocab_size, config.hidden_size), 0.02, dtype, rngs)

    @property
    def head(self) -> Float[Array, "v d"]:
        """Weights of the output head."""
        return (self.model.embed_tokens if self.lm_head is None else self.lm_head).weight[...]

    def embed(
        self, tokens: Int[Array, "b t"], baseline: Float[Array, "d"] | None = None, dtype=None
    ) -> Float[Array, "b t d"]:
        """Input embeddings of token ids; with a baseline, it stands in for negative ids.

        They are of `dtype`, by default that of the weights; a scale is multiplied in it.
        """
        embeddings = self.model.embed_tokens.weight[...][tokens if baseline is None else jnp.maximum(tokens, 0)]
        if baseline is not None:
            baseline = baseline.reshape((1,) * tokens.ndim + baseline.shape)
            embeddings = jnp.where(tokens[..., None] < 0, baseline, embeddings)
        embeddings = embeddings if dtype is None else embeddings.astype(dtype)
        if not self.config.scaled_embeddings:
            return embeddings
        return embeddings * jnp.asarray(self.config.hidden_size**0.5, embeddings.dtype)

    def walk(self, x: Float[Array, "b t d"], angles: tuple[Rotation, ...], through: Callable) -> Float[Array, "b t d"]:
        """Take embeddings through all layers.

        Args:
          x: input embeddings.
          angles: of `rotation`.
          through: called as through(index, layer, x, angles of this layer) for each layer; gives the x of the next one.

        Returns:
          What the last layer gives, before the final norm.
        """
        for index, layer in enumerate(self.model.layers):
            x = through(index, layer, x, angles[layer.self_attn.rope])
        return x

    def hidden(
        self,
        embeddings: Float[Array, "b t d"],
        positions: Int[Array, "b t"] | None = None,
        segments: Int[Array, "b t"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Normalised hidden states that the head reads.

        Args:
          embeddings: input embeddings.
          positions: RoPE position of each token; 0, 1, 2, ... if not given.
          segments: a token attends to earlier tokens of its own segment only (padding, packed rows); all are one
            segment if not given.
        """
        t = embeddings.shape[1]
        positions = jnp.arange(t)[None] if positions is None else positions
        segments = jnp.zeros((1, t), jnp.int32) if segments is None else segments
        attend = functools.partial(attend_within, segments=segments)
        angles = rotation(self.config, positions)
        return self.model.norm(self.walk(embeddings, angles, lambda _, layer, *x: layer(*x, attend)[0]))

    def logits(self, hidden: Float[Array, "*rows d"]) -> Float[Array, "*rows v"]:
        """Next-token logits, `wide`."""
        return jnp.einsum("...d,vd->...v", hidden, self.head, preferred_element_type=wide(hidden.dtype))

    def __call__(self, tokens: Int[Array, "b t"], positions=None, segments=None) -> Float[Array, "b t v"]:
        """Logits at every position; see `hidden` for the arguments."""
        return self.logits(self.hidden(self.embed(tokens), positions, segments))
