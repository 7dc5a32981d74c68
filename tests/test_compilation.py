"""Compiled programs are kept between processes; whatever is wrong with the folder costs time and nothing else."""

import os
import subprocess
import sys

PROGRAM = """
import jax
from andor.devices.compilation import keep_compilations

hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.endswith("cache_hits")))
keep_compilations()
print(jax.jit(lambda x: 3 * x + 1)(2.0), sum(hits) > 0)
"""


def run(cache, **environment):
    """(what the program prints, what it warns of) with a cache folder in `cache`."""
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    options = {"capture_output": True, "text": True, "check": True}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | {"XDG_CACHE_HOME": cache} | environment, **options
    )
    return done.stdout.split(), done.stderr


def test_a_second_process_takes_what_the_first_compiled(tmp_path):
    assert run(tmp_path)[0] == ["7.0", "False"]
    entries = [*(tmp_path / "andor").glob("xla-*/*-cache")]
    assert entries
    assert run(tmp_path)[0] == ["7.0", "True"]
    for entry in entries:  # as a process leaves it that is killed while it writes
        entry.write_bytes(entry.read_bytes()[:20])
    assert run(tmp_path)[0][0] == "7.0"


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "andor").write_text("a file")
    printed, warned = run(tmp_path)
    assert printed == ["7.0", "False"] and "compiled programs are not kept" in warned


def test_a_chosen_folder_is_kept(tmp_path):
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))[0] == ["7.0", "False"]
    assert not (tmp_path / "andor").exists()
