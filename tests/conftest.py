"""Settings of all tests: annotations are checked, and implicit rank promotion is an error."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("andor", "beartype.beartype")
