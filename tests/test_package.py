import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import andor

ROOT = Path(__file__).parent.parent


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


def test_every_file_of_the_package_is_packaged():
    with (ROOT / "pyproject.toml").open("rb") as file:
        (patterns,) = tomllib.load(file)["tool"]["setuptools"]["package-data"].values()
    package = ROOT / "andor"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files and files <= packaged


def test_hooks_and_tests_ask_for_one_ruff():
    with (ROOT / "pyproject.toml").open("rb") as file:
        (asked,) = (each for each in tomllib.load(file)["project"]["optional-dependencies"]["test"] if "ruff" in each)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r'additional_dependencies: \["(.*)"\]', hooks)) == {asked}
