"""Two processes of four fake CPU devices each give the values of one device, together and each by itself."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from tiny_models import assert_close

import andor
from andor.devices import processes as hosts

SCRIPT = """
import dataclasses, json, sys
import numpy as np, andor, jax
from andor.devices import processes as hosts
from andor.runs import files, work
from andor.evaluation import evaluate_all
from andor.devices.mesh import make_mesh, read_mesh
from andor.models.tensors import StoredTensor

coordinator, process, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
hosts.initialise(coordinator, 2, process)
hosts.initialise(coordinator, 2, process)
found = {"process": process, "processes": hosts.n_processes(), "first": hosts.is_first()}
found["agreed"], found["least"] = hosts.agree(2**40 + process), hosts.least(2**40 + process)
for name, attempt in {
    "between": lambda: read_mesh("data=2,model=3"),
    "given": lambda: make_mesh(data=2, devices=[jax.devices()[0], jax.devices()[-1]]),
    "others": lambda: make_mesh(devices=jax.devices()[4 * (1 - process) :]),
    "too many": lambda: make_mesh(data=16),
    "again": lambda: hosts.initialise(coordinator, 3, process),
}.items():
    try:
        attempt()
    except ValueError as error:
        found[name] = str(error)

prompt = andor.Prompt(*json.loads(sys.argv[4]))
values = {}
read, numbers = StoredTensor.read, []
StoredTensor.read = lambda *given: (numbers.append(read(*given)), numbers[-1])[1]
# With two devices for a copy of the weights, one of them is in each process.
pairs = [device for pair in zip(jax.devices()[:4], jax.devices()[4:]) for device in pair]
for data, model, devices in ((8, 1, None), (4, 2, pairs)):
    numbers.clear()
    mesh = make_mesh(data=data, model=model, devices=devices)
    loaded = andor.load("tiny-llama", mesh=mesh)
    weight = loaded.decoder.model.layers[0].mlp.gate_proj.weight[...]
    tree = andor.evaluate(loaded, prompt, measure_noise=model > 1)
    values[f"{data} {model}"] = tree.v
    found[f"{data} {model}"] = {
        "spans": hosts.spans(mesh),
        "own parts": sorted({shard.index[0].start or 0 for shard in weight.addressable_shards}),
        "rows": weight.shape[0],
        "read": sum(part.size for part in numbers) / loaded.parameters,
        "target": tree.target,
    }
found["noise"] = tree.forward_noise
values["naive"] = andor.evaluate(loaded, prompt, method="naive").v
qwen, targets = andor.load("tiny-qwen2", mesh=mesh), [" never again"] * 2
both = evaluate_all(qwen, [prompt, prompt], targets=targets, baseline="zero")
values["qwen, zero"], values["qwen, zero, second"] = (each.v for each in both)

# Each by itself, and not in step: one evaluates once, the other twice.
mesh = make_mesh(data=2, model=2)
loaded = andor.load("tiny-llama", mesh=mesh)
for each in evaluate_all(loaded, [prompt] * (1 + process)):
    values["own"] = each.v
found["own"] = {"spans": hosts.spans(mesh), "of": sorted({device.process_index for device in mesh.devices.flat})}

# Whole runs: one model over both processes, of which the first writes; and each process with prompts of its own.
prompts = [dataclasses.replace(prompt, players=prompt.players[:n], id=f"{n} players") for n in (3, 2, 1)]
prompts.append(dataclasses.replace(prompts[0], text=prompt.text.replace("film", "play"), id="another"))
outcomes, evaluated, write_bytes, written = work.outcomes, [], files.write_bytes, []

def counted(*arguments, **options):
    for each in outcomes(*arguments, **options):
        evaluated.append(None if isinstance(each, ValueError) else each.players)
        yield each

def noted(path, *arguments, **options):
    written.append(path.name)
    return write_bytes(path, *arguments, **options)

work.outcomes, files.write_bytes = counted, noted
for name, mesh in {"together": make_mesh(data=4, model=2), "apart": make_mesh(data=2, model=2)}.items():
    evaluated.clear(), written.clear()
    made = andor.compare("tiny-llama", prompts, out=f"{out}/{name}", mesh=mesh)
    hosts.agree(0)  # apart, another may still be at it
    run = andor.read(f"{out}/{name}")
    found[name] = {
        "evaluated": sum(each is not None for each in evaluated),
        "arrays": sum(each.endswith(".npz") for each in written),
        "others": sorted(each for each in written if not each.endswith(".npz")),
        "skipped": [each.id for each in run.skipped],
        "whole": bool(made.summary),
    }
    for each in run.prompts:
        values[f"{name} {each.id}"] = run["tiny-llama", each.id].effects[0]

# What the first refuses before any work, the others refuse too, and nobody waits.
(open(f"{out}/taken", "w").close() if hosts.is_first() else None), hosts.agree(0)
try:
    andor.compare("tiny-llama", prompts, out=f"{out}/taken", mesh=make_mesh(data=4, model=2))
except ValueError as error:
    found["refused"] = str(error)
np.savez(f"{out}/{process}.npz", **values)
json.dump(found, open(f"{out}/{process}.json", "w"))
hosts.agree(0)  # nobody leaves while others work
"""

PROMPT = ("the film is not good , but it is never dull .", ["film", "not", "dull"])


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What each process saw, and its values."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    out = tmp_path_factory.mktemp("hosts")
    # Compilation takes the time here.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, coordinator, str(process), str(out), json.dumps(PROMPT)],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    try:
        said = [process.communicate(timeout=600)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return [(json.loads((out / f"{n}.json").read_text()), np.load(out / f"{n}.npz")) for n in range(2)]


@pytest.fixture(scope="module")
def found(processes):
    return [each[0] for each in processes]


@pytest.fixture(scope="module")
def values(processes):
    return [each[1] for each in processes]


@pytest.fixture(scope="module")
def alone():
    """Values of one device."""
    return andor.evaluate(andor.load("tiny-llama"), andor.Prompt(*PROMPT))


def test_processes_know_each_other(found):
    for process, each in enumerate(found):
        assert (each["process"], each["processes"], each["first"]) == (process, 2, process == 0)
        assert each["agreed"] == each["least"] == 2**40
        assert "called before, for process" in each["again"]


def test_meshes_are_of_all_devices_or_of_one_process(found):
    for each in found:
        for name in ("between", "given"):
            assert "neither all 8 of the 2 processes" in each[name] and "Use 8 or at most 4" in each[name]
        assert "neither all 8" in each["others"]
        assert "needs 16 devices; there are 8" in each["too many"]


@pytest.mark.parametrize("mesh", ["8 1", "4 2"])
def test_one_model_over_two_processes_gives_the_values_of_one_device(found, values, alone, mesh):
    for each, v in zip(found, values, strict=True):
        assert each[mesh]["spans"] and each[mesh]["target"] == alone.target
        assert_close(v[mesh], alone.v, 1e-4)
        assert_close(v["naive"], alone.v, 1e-4)
        assert 0 < each["noise"] < 1e-4


def test_a_process_reads_the_weights_of_its_own_devices(found):
    for process, each in enumerate(found):
        assert each["8 1"]["own parts"] == [0] and each["8 1"]["read"] == 1
        assert each["4 2"]["own parts"] == [process * each["4 2"]["rows"] // 2]
        assert 0.5 < each["4 2"]["read"] < 0.51  # norms are whole everywhere


def test_the_other_family_and_an_embedding_as_baseline(values):
    model = andor.load("tiny-qwen2")
    expected = andor.evaluate(model, andor.Prompt(*PROMPT), target=" never again", baseline="zero").v
    for v in values:
        assert_close(v["qwen, zero"], expected, 1e-4)


def test_processes_with_one_model_get_the_same_values_to_the_bit(values):
    for name in values[0].files:
        if name != "own":
            np.testing.assert_array_equal(values[0][name], values[1][name])
    np.testing.assert_array_equal(values[0]["qwen, zero"], values[0]["qwen, zero, second"])


def test_each_process_can_have_its_own_model(found, values, alone):
    for process in range(2):
        assert found[process]["own"] == {"spans": False, "of": [process]}
        assert_close(values[process]["own"], alone.v, 1e-4)


@pytest.fixture(scope="module")
def run_alone(tmp_path_factory):
    """The run of one device."""
    prompt = andor.Prompt(*PROMPT)
    prompts = [dataclasses.replace(prompt, players=prompt.players[:n], id=f"{n} players") for n in (3, 2, 1)]
    prompts.append(dataclasses.replace(prompts[0], text=prompt.text.replace("film", "play"), id="another"))
    return andor.compare("tiny-llama", prompts, out=tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("name", ["together", "apart"])
def test_whole_runs_of_two_processes(found, values, run_alone, name):
    # Two masks cannot be divided among data=4: that prompt is left out, and the processes stay in step.
    skipped = ["1 players"] if name == "together" else []
    for each, v in zip(found, values, strict=True):
        assert each[name]["skipped"] == skipped
        for _, prompt_id in run_alone:
            if prompt_id not in skipped:
                assert_close(v[f"{name} {prompt_id}"], run_alone["tiny-llama", prompt_id].effects[0], 1e-4)


def test_one_model_over_two_processes_is_written_by_the_first(found):
    first, second = (each["together"] for each in found)
    assert first["evaluated"] == second["evaluated"] == 3 and first["whole"] and second["whole"]
    assert first["arrays"] == 3 + 3 and {"unfinished.json", "recipe.json", "summary.json"} <= set(first["others"])
    assert second["arrays"] == 0 and not second["others"]


def test_two_processes_with_a_model_each_share_the_prompts(found):
    each = [of_process["apart"] for of_process in found]
    assert [x["evaluated"] for x in each] == [2, 2] and [x["arrays"] for x in each] == [2 + 2, 2 + 2]
    assert any(x["whole"] for x in each), "whoever comes last writes the summary"
    assert all(("summary.json" in x["others"]) == x["whole"] for x in each)


def test_what_the_first_refuses_all_refuse(found):
    for each in found:
        assert "taken is a file, and --out names a folder" in each["refused"]


def test_a_process_alone():
    assert (hosts.n_processes(), hosts.is_first(), hosts.agree(7), hosts.least(7)) == (1, True, 7, 7)
    assert not hosts.spans(None)
    array = np.arange(3)
    assert hosts.gather(array) is array


def test_nothing_is_imported_for_a_process_alone():
    code = "import sys; from andor import hosts; print(hosts.is_first(), hosts.agree(3), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "3", "False"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost:1234", 2, None), "all three, or none.*got no process"),
        ((None, None, 0), "got no coordinator and no n_processes"),
        (("localhost", 2, 0), "'host:port'"),
        (("localhost:99999", 2, 0), "'host:port'"),
        ((":1234", 2, 0), "'host:port'"),
        (("localhost:1234", 0, 0), "at least 1; got 0"),
        (("localhost:1234", 2, 2), "from 0 to 1; got 2"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        hosts.initialise(*arguments)


def test_an_environment_that_says_nothing_is_refused():
    code = "from andor import hosts; hosts.initialise()"
    clusters = ("SLURM", "OMPI", "KUBERNETES", "TPU", "JAX_COORDINATOR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(clusters)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "found no TPU pod, Slurm, Open MPI or Kubernetes job in the environment" in done.stderr
