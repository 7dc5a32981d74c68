import jax
import numpy as np
import pytest

import andor
from andor.evaluation import naive, noise_floor, tree
from andor.prompts import tokenize
from experiments.benchmarks import noise_floor as experiment

PROMPT = andor.Prompt("the film is not good , but it is never dull .", ["film", "not", "good", "never"], "never again")


@pytest.fixture(scope="module")
def floats():
    model = andor.load("tiny-qwen2")
    return model, andor.evaluate(model, PROMPT, measure_noise=True)


def test_float32_is_known_to_rounding(floats):
    assert 0 < floats[1].forward_noise < 1e-4


def test_values_that_agree_to_the_bit_are_not_known_exactly(floats):
    naive = andor.evaluate(floats[0], PROMPT, method="naive", measure_noise=True)
    assert naive.forward_noise >= 1.1e-7 * np.max(np.abs(naive.v))


def test_long_prompts_are_evaluated_again_in_batches(floats, monkeypatch):
    model, values = floats
    prompt = tokenize(PROMPT, model.tokenizer, values.target)
    whole = noise_floor.measure(model.decoder, prompt, values.v)
    monkeypatch.setattr(noise_floor, "default_tokens_per_batch", lambda: 40)
    np.testing.assert_allclose(
        noise_floor.measure(model.decoder, prompt, values.v).exact, whole.exact, rtol=0.1, atol=1e-9
    )


def test_half_precision_is_noisier_and_is_seen_to_be(floats):
    values = andor.evaluate(andor.load("tiny-qwen2", dtype="bfloat16"), PROMPT, measure_noise=True)
    assert 1e-3 < values.forward_noise < 0.3
    # Weights are rounded too, which no evaluation of the rounded model can show.
    assert np.max(np.abs(values.v - floats[1].v)) < 1.0


def test_planted_noise_is_measured(floats):
    model, values = floats
    rng = np.random.default_rng(0)
    prompt = tokenize(PROMPT, model.tokenizer, values.target)
    floor = noise_floor.measure(model.decoder, prompt, values.v + 0.1 * rng.normal(size=16))
    assert sorted(floor.subsets.tolist()) == list(range(16))
    assert 0.05 < floor.size < 0.2
    np.testing.assert_allclose(floor.batch, floor.exact, atol=1e-4)
    assert floor.bound == np.abs([floor.batch, floor.exact]).max()  # of all masks, there is nothing to guess
    outlier = values.v.copy()
    outlier[3] += 5.0
    assert noise_floor.measure(model.decoder, prompt, outlier).bound == pytest.approx(5, abs=1e-3)


def test_the_reference_is_float64_where_there_is_one(floats):
    """What another batch of float32 gives differs from float32; float64 does not from itself."""
    model, values = floats
    prompt = tokenize(PROMPT, model.tokenizer, values.target)
    floor = noise_floor.measure(model.decoder, prompt, values.v)
    exact = values.v[floor.subsets] - floor.exact
    assert not np.array_equal(exact, exact.astype(np.float32)) and np.abs(floor.exact).max() < 1e-4


@pytest.mark.parametrize("law", ["normal", "student"])
def test_the_bound_holds_for_all_masks_by_a_sample(law):
    """Of 1024 differences 64 are seen; the bound is beyond the largest of all most of the time, and not far beyond."""
    held, looseness = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        every = rng.normal(size=1024) if law == "normal" else rng.standard_t(1.5, size=1024)
        floor = noise_floor.NoiseFloor(np.arange(64), every[:64], every[:64], 1e-7, 1024)
        held.append(floor.bound >= np.abs(every).max())
        looseness.append(floor.bound / np.abs(every).max())
    assert np.mean(held) > 0.75 and 1 < np.median(looseness) < 5


def test_tf32_of_a_device_reaches_what_is_evaluated(floats, monkeypatch):
    precisions = {"_layer": [], "_batch": []}
    for module, name, function in ((tree, "_layer", tree._layer), (naive, "_batch", naive._batch)):

        def recorded(*given, name=name, function=function):
            precisions[name].append(jax.config.jax_default_matmul_precision)
            return function(*given)

        monkeypatch.setattr(module, name, recorded)
    monkeypatch.setattr(experiment.jax, "default_backend", lambda: "gpu")
    for precision, wanted in (("tf32", "tensorfloat32"), ("float32", "highest")):
        for calls in precisions.values():
            calls.clear()
        experiment.measure(experiment.Config("tiny-qwen2"), precision, PROMPT, floats[1].target)
        assert set(precisions["_layer"]) == {precisions["_batch"][0]} == {wanted}


def test_extract_takes_the_measured_noise(floats):
    values = floats[1]
    solution = andor.extract(values, noise="measured")
    assert solution.noise_bound == values.measured_noise > values.forward_noise
    assert solution.noise_bound == values.forward_bound
    assert np.max(np.abs(solution.noise)) <= solution.noise_bound and solution.converged
    np.testing.assert_array_equal(andor.extract(values).and_effects, andor.extract(values.v).and_effects)


def test_noise_that_was_not_measured_is_refused(floats):
    with pytest.raises(ValueError, match=r"measure_noise=True"):
        andor.extract(andor.evaluate(floats[0], PROMPT), noise="measured")
    with pytest.raises(ValueError, match="takes the Values"):
        andor.extract(floats[1].v, noise="measured")


def test_a_run_with_measured_noise(tmp_path):
    run = andor.compare("tiny-qwen2", [PROMPT], noise="measured", out=tmp_path / "run")
    ((_, explanation),) = run.items()
    values, solution = explanation.values, explanation.solution
    assert solution.noise_bound == values.measured_noise > values.forward_noise
    ((_, read),) = andor.read(tmp_path / "run").items()
    assert read.values.forward_noise == values.forward_noise and read.solution.noise_bound == solution.noise_bound
    assert run.recipe.noise == "measured" and run.path.name == "noise-measured"
