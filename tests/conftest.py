"""Settings of all tests: annotations are checked, and implicit rank promotion is an error."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiled programs of this session, for its two processes and those that tests start.
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="andor-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
for name, value in (
    ("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"]),
    ("jax_persistent_cache_min_compile_time_secs", 0),
    ("jax_persistent_cache_min_entry_size_bytes", -1),
    ("jax_disable_most_optimizations", True),  # compiling is most of the work, and takes less than half of it so
):
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)
install_import_hook("andor", "beartype.beartype")
# `experiments` is not installed. Last on the path, so that the andor that is installed is the one that is tested.
sys.path.append(str(Path(__file__).parent.parent))


def pytest_collection_finish():
    """Garbage is collected often, as by every `andor.compare`, and need not be looked for in what is imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Directories of two small random checkpoints, one of each family. A test that changes one copies it."""
    from tiny_models import SETTINGS, random_decoder, save_checkpoint  # imports andor, so only behind the hook above

    folder = tmp_path_factory.mktemp("models")
    return tuple(
        str(save_checkpoint(folder / name, SETTINGS[name], random_decoder(SETTINGS[name], seed)))
        for seed, name in enumerate(("llama-gqa", "qwen2-gqa"))
    )
