"""What claims on a model's v are held against: v in another order, and a model that has learned nothing."""

import numpy as np
from flax import nnx
from jaxtyping import Float

import andor
from andor.core.explained import Pair
from andor.core.lattice import n_players_of, orders
from andor.models import LanguageModel, find
from andor.models.decoder import Decoder
from andor.runs.explanation import MOST_SHOWN
from andor.solvers.compact import fitted


def permuted(v: Float[np.ndarray, "s"], rng: np.random.Generator) -> Float[np.ndarray, "s"]:
    """v with its values permuted among the masks of equally many words."""
    found, sizes = v.copy(), orders(n_players_of(v))
    for size in range(sizes.max() + 1):
        found[sizes == size] = rng.permutation(v[sizes == size])
    return found


def random_model(name: str, dtype: str, seed: int) -> LanguageModel:
    """A model with the architecture and the tokenizer of another, and random weights."""
    found = find(name)
    jax_dtype = found.dtype_on(None, dtype)
    return LanguageModel(
        name=f"{name}, random weights",
        family=found.family.model_type,
        decoder=Decoder(found.config, dtype=jax_dtype, rngs=nnx.Rngs(seed)),
        tokenizer=found.tokenizer,
        dtype=jax_dtype,
        fingerprint=f"random, seed {seed}",
    )


def optimum_and_compact(v: Float[np.ndarray, "s"]) -> tuple[Pair, Pair]:
    """Effects of v as an explanation has them: of the optimum at the estimated bound, and the compact ones."""
    solution = andor.extract(v)
    return (solution.and_effects, solution.or_effects), fitted(v, solution, MOST_SHOWN)
