"""The one llama-like decoder that both families share.

GQA, RMSNorm, SwiGLU, RoPE, optional q/k/v biases, optional tied head.

Modules stand bottom-up and carry the names of the HF checkpoint (`model.layers.0.self_attn.q_proj.weight`), and every
weight keeps HF's orientation `[out, in]` with its axes split, not transposed: loading does no arithmetic. Axis letters
are those of `andor/__init__.py`. RoPE angles, norm statistics, softmax and logits are float32 whatever the weights are.

Whatever goes through the layers does so by `Decoder.walk`. A layer knows its angles and which keys its queries look at;
whoever walks knows where keys and values are kept, and how a layer is compiled. Modules are pytrees: `jax.jit` takes
them as arguments, and compiles once for all layers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

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
class DecoderConfig:
    """Architecture of one decoder. No field has a default: the checkpoint's `config.json` decides all of them."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Llama3RopeScaling | None
    qkv_bias: bool
    tied_head: bool

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


def rope_frequencies(config: DecoderConfig) -> np.ndarray:
    """Angular frequency of each rotated pair of dimensions, in radians per position. float32 `[h / 2]`.

    Su et al. 2021 (arXiv 2104.09864); the llama3 scaling follows `transformers.modeling_rope_utils`.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim
    # Rounded to float32 where PyTorch rounds: at position 100,000 one unit in the last place is 0.006 radians.
    powers = (config.rope_theta ** exponents.astype(np.float64)).astype(np.float32)
    frequencies = np.float32(1) / powers
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    # Wavelengths beyond the trained context are stretched by `factor`, short ones kept, between the two a linear blend.
    turns = scaling.original_max_position_embeddings / (2 * math.pi / frequencies)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return ((1 - keep) * frequencies / scaling.factor + keep * frequencies).astype(np.float32)


Rotation = tuple[Float[Array, "#b t r"], Float[Array, "#b t r"]]
"""Cosines and sines of the RoPE angles of r = h / 2 pairs, for all layers; b is 1 where all rows have the same."""


def rotation(config: DecoderConfig, positions: Int[Array, "b t"]) -> Rotation:
    """Cosines and sines of position times frequency, float32."""
    angles = positions[..., None].astype(jnp.float32) * jnp.asarray(rope_frequencies(config))[None, None, :]
    return jnp.cos(angles), jnp.sin(angles)


def apply_rope(x: Float[Array, "b t *heads h"], angles: Rotation):
    """Rotate each half-split pair (x_i, x_{i + h/2}), in float32. Shape, dtype of `x`."""
    cos, sin = (each.reshape(*each.shape[:2], *(1,) * (x.ndim - 3), each.shape[2]) for each in angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
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
    """Zhang & Sennrich 2019 (arXiv 1910.07467). Float32 statistics; the product with the weight is not."""

    def __init__(self, config: DecoderConfig, *, dtype):
        self.eps = config.rms_norm_eps
        self.weight = nnx.Param(jnp.ones(config.hidden_size, dtype))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        x32 = x.astype(jnp.float32)
        x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.eps)
        return self.weight[...][None, None, :] * x32.astype(x.dtype)


Sees = Callable[[Int[Array, "*rows t"], Int[Array, "*rows u"]], Bool[Array, "*rows t u"]]
"""sees(positions of queries, positions of keys) -> whether a layer's query looks at a key of its own past."""

Attend = Callable[[Float[Array, "b t k g h"], Float[Array, "b t k h"], Float[Array, "b t k h"], Sees], tuple]
"""attend(queries, keys, values, sees) -> (values mixed for every query `[b, t, k, g, h]`, what the caller keeps)."""


def causal(queries: Int[Array, "*rows t"], keys: Int[Array, "*others u"]) -> Bool[Array, "*all t u"]:
    """A query looks at its own position and at all before."""
    return keys[..., None, :] <= queries[..., :, None]


def mixing_weights(scores: Float[Array, "..."], visible: Bool[Array, "..."], q) -> Float[Array, "..."]:
    """Softmax over the last axis of the scores of the keys that are visible, in float32; dtype of the queries `q`."""
    scores = jnp.where(visible, scores * q.shape[-1] ** -0.5, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1).astype(q.dtype)


def attend_within(q, k, v, sees: Sees, *, segments: Int[Array, "#b t"]):
    """Attention among those tokens of a row that are of one segment; keeps nothing."""
    order = jnp.arange(q.shape[1])[None]
    visible = sees(order, order) & (segments[:, :, None] == segments[:, None, :])
    scores = jnp.einsum("btkgh,bukh->bkgtu", q, k, preferred_element_type=jnp.float32)
    weights = mixing_weights(scores, visible[:, None, None], q)
    return jnp.einsum("bkgtu,bukh->btkgh", weights, v), None


class Attention(nnx.Module):
    """Grouped-query attention; multi-head and multi-query attention are the cases g = 1 and k = 1."""

    def __init__(self, config: DecoderConfig, *, dtype, rngs: nnx.Rngs):
        size = config.axis_sizes()
        d, k, g, h = size["d"], size["k"], size["g"], size["h"]
        self.q_proj = Projection((k, g, h, d), bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.k_proj = Projection((k, h, d), bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.v_proj = Projection((k, h, d), bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.o_proj = Weight((d, k, g, h), (k * g * h * 2 * config.num_layers) ** -0.5, dtype, rngs)

    @jax.named_scope("attention")
    def __call__(self, x: Float[Array, "b t d"], angles: Rotation, attend: Attend):
        q = apply_rope(self.q_proj("btd,kghd->btkgh", x), angles)
        k = apply_rope(self.k_proj("btd,khd->btkh", x), angles)
        v = self.v_proj("btd,khd->btkh", x)
        mixed, kept = attend(q, k, v, causal)
        return jnp.einsum("btkgh,dkgh->btd", mixed, self.o_proj.weight[...]), kept


class MLP(nnx.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: DecoderConfig, *, dtype, rngs: nnx.Rngs):
        d, f = config.hidden_size, config.intermediate_size
        self.gate_proj = Weight((f, d), d**-0.5, dtype, rngs)
        self.up_proj = Weight((f, d), d**-0.5, dtype, rngs)
        self.down_proj = Weight((d, f), (f * 2 * config.num_layers) ** -0.5, dtype, rngs)

    @jax.named_scope("mlp")
    def __call__(self, x):
        gate = jnp.einsum("btd,fd->btf", x, self.gate_proj.weight[...])
        up = jnp.einsum("btd,fd->btf", x, self.up_proj.weight[...])
        return jnp.einsum("btf,df->btd", jax.nn.silu(gate) * up, self.down_proj.weight[...])


class DecoderLayer(nnx.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: DecoderConfig, *, dtype, rngs: nnx.Rngs):
        self.input_layernorm = RMSNorm(config, dtype=dtype)
        self.self_attn = Attention(config, dtype=dtype, rngs=rngs)
        self.post_attention_layernorm = RMSNorm(config, dtype=dtype)
        self.mlp = MLP(config, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b t d"], angles: Rotation, attend: Attend):
        """(x of the next layer, what `attend` kept)."""
        mixed, kept = self.self_attn(self.input_layernorm(x), angles, attend)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), kept


class Backbone(nnx.Module):
    """Everything but the head (HF: `model.*`)."""

    def __init__(self, config: DecoderConfig, *, dtype, rngs: nnx.Rngs):
        self.embed_tokens = Weight((config.vocab_size, config.hidden_size), 0.02, dtype, rngs)
        self.layers = nnx.List([DecoderLayer(config, dtype=dtype, rngs=rngs) for _ in range(config.num_layers)])
        self.norm = RMSNorm(config, dtype=dtype)


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

    def embed(self, tokens: Int[Array, "b t"], baseline: Float[Array, "d"] | None = None) -> Float[Array, "b t d"]:
        """Input embeddings of token ids; with a baseline, it stands in for negative ids."""
        embeddings = self.model.embed_tokens.weight[...][tokens if baseline is None else jnp.maximum(tokens, 0)]
        if baseline is None:
            return embeddings
        return jnp.where(tokens[..., None] < 0, baseline.reshape((1,) * tokens.ndim + baseline.shape), embeddings)

    def walk(self, x: Float[Array, "b t d"], angles: Rotation, through: Callable) -> Float[Array, "b t d"]:
        """Take embeddings through all layers.

        Args:
          x: input embeddings.
          angles: of `rotation`.
          through: called as through(index, layer, x, angles) for each layer; gives the x of the next one.

        Returns:
          What the last layer gives, before the final norm.
        """
        for index, layer in enumerate(self.model.layers):
            x = through(index, layer, x, angles)
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
        """Next-token logits, float32."""
        return jnp.einsum("...d,vd->...v", hidden, self.head, preferred_element_type=jnp.float32)

    def __call__(self, tokens: Int[Array, "b t"], positions=None, segments=None) -> Float[Array, "b t v"]:
        """Logits at every position; see `hidden` for the arguments."""
        return self.logits(self.hidden(self.embed(tokens), positions, segments))
