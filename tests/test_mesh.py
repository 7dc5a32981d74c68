"""Eight fake CPU devices give the same values as one. In a process of its own: devices are counted at the start."""

import json
import os
import subprocess
import sys

import pytest
from tiny_models import SETTINGS, random_decoder, save_checkpoint

from andor.devices.mesh import check_divides, make_mesh, read_mesh, read_sizes

SCRIPT = """
import json, re, andor
from andor.evaluation import tree
from andor.devices.mesh import make_mesh

prompt = andor.Prompt("the film is not good , but it is never dull .", ["film", "not", "good", "dull"], "never again")
long = andor.Prompt("the film is good . " * 12 + prompt.text, ["is not", "good ,", "it", "dull"], target="good")


def sums(function, *arguments):  # of activations over devices, in one compiled function
    shape = ",".join(map(str, (*arguments[1].shape[:2], 128)))
    return len(re.findall(rf"= f32\\[{shape}\\]\\S* all-reduce\\(", function.lower(*arguments).compile().as_text()))


reference = [andor.evaluate(andor.load("tiny-llama"), each).v for each in (prompt, long)]
errors = {}
for data, model in [(8, 1), (4, 2), (1, 2)]:
    loaded = andor.load("tiny-llama", mesh=make_mesh(data=data, model=model))
    weight = loaded.decoder.model.layers[0].mlp.gate_proj.weight[...]
    assert len(weight.sharding.device_set) == data * model
    assert weight.addressable_shards[0].data.shape[0] == weight.shape[0] // model
    before = tree._layer._cache_size()
    for method in ("tree", "naive") if data == 4 else ("tree",):
        values = [andor.evaluate(loaded, each, method=method).v for each in (prompt, long)]
        errors[f"{data} {model} {method}"] = max(float(abs(a - b).max()) for a, b in zip(values, reference))
    assert tree._layer._cache_size() - before <= 4, "layers are compiled again and again"
# What `planning.Share.exchanged` counts.
calls = {}
for name in ("_embed", "_layer"):
    function = getattr(tree, name)
    setattr(tree, name, lambda *given, n=name, f=function: (calls.setdefault(n, sums(f, *given)), f(*given))[1])
andor.evaluate(loaded, prompt)
errors["sums"] = calls
try:
    andor.evaluate(andor.load("tiny-llama", mesh=make_mesh(data=8)), andor.Prompt("a good film", ["good"], "ever"))
except ValueError as error:
    errors["too few"] = str(error)
try:
    andor.load("tiny-llama", mesh=make_mesh(model=8))
except ValueError as error:
    errors["does not divide"] = str(error)
print(json.dumps(errors))
"""


def test_eight_devices_give_the_values_of_one():
    # Compilation takes the time here.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert "cannot be divided among data=8" in errors.pop("too few")
    assert "num_key_value_heads = 2 does not divide by model=8" in errors.pop("does not divide")
    assert errors.pop("sums") == {"_embed": 1, "_layer": 2}
    assert len(errors) == 4 and max(errors.values()) <= 1e-4, errors


NORMS = """
import sys, andor
from andor.devices.mesh import make_mesh

prompt = andor.Prompt("the film is not good , but it is never dull .", ["film", "not", "dull"], "good")
one, two = (andor.evaluate(andor.load(sys.argv[1], mesh=make_mesh(model=n)), prompt).v for n in (1, 2))
assert abs(one - two).max() < 1e-4 and one.max() - one.min() > 0.1
"""


def test_norms_of_whole_projections_are_of_all_devices(tmp_path):
    folder = save_checkpoint(tmp_path, SETTINGS["olmo2-gqa"], random_decoder(SETTINGS["olmo2-gqa"]))
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    arguments = [sys.executable, "-c", NORMS, str(folder)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_meshes_are_read():
    assert dict(read_mesh("data=1, model=1").shape) == dict(read_mesh("model=1").shape) == {"data": 1, "model": 1}


def test_sizes_are_read_without_their_devices():
    assert read_sizes("model=3") == {"data": 1, "model": 3}
    assert read_sizes("data=1024, model=8") == {"data": 1024, "model": 8}
    with pytest.raises(ValueError, match="power of two"):
        read_sizes("data=6")


def test_axes_that_do_not_divide_are_refused():
    check_divides({"data": 8, "model": 4}, "kvd", {"k": 8, "v": 100, "d": 7})
    with pytest.raises(ValueError, match="vocab_size = 99 does not divide by model=4"):
        check_divides({"data": 8, "model": 4}, "kv", {"k": 8, "v": 99})


@pytest.mark.parametrize("text", ["", "4", "data", "data=4;model=2", "data=x", "data=1,data=1", "rows=2", "data=1,"])
def test_meshes_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="written like data=4,model=2"):
        read_mesh(text)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"data": 3}, "power of two"), ({"model": 0}, "at least 1"), ({"data": 1024}, "needs 1024 devices; there are")],
)
def test_bad_meshes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(**sizes)
