import importlib.metadata
import subprocess
import sys

import andor


def test_import_is_lazy():
    """`import andor` imports no jax, so it is quick and allocates no device."""
    check = "import sys, andor; sys.exit(any(name in sys.modules for name in ('jax', 'transformers', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_every_public_name_resolves():
    # A name must not change its meaning once its module is imported, so everything is fetched twice.
    first = {name: getattr(andor, name) for name in andor.__all__}
    assert first == {name: getattr(andor, name) for name in andor.__all__}
    assert all(callable(first[name]) for name in ("load", "evaluate", "extract", "explain", "compare", "read"))


def test_the_version_is_that_of_the_distribution():
    done = subprocess.run([sys.executable, "-m", "andor", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"andor {andor.__version__}\n"
    assert andor.__version__ == importlib.metadata.version("andor")
