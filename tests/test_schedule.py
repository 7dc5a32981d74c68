"""Prompts are taken one by one, and begun again in smaller batches when the device runs out of memory."""

import itertools
import os
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

import andor
from andor.evaluation import evaluate_all, naive, noise_floor, schedule, tree

TEXT = "the film is not good , but it is never dull . it is a good film , never dull ."
PLAYERS = ("film", "not", "good", "but", "never", "dull")
PROMPTS = [andor.Prompt(TEXT, PLAYERS[:n], target="good", id=f"of {n}") for n in (6, 5, 6, 5)]
SMALL = andor.Prompt(TEXT, ["film"], target="good")
TOKENS = 256


@pytest.fixture(scope="module")
def model(models):
    return andor.load(models[0])


@pytest.fixture(scope="module")
def undisturbed(model):
    """Values in batches of so many tokens at most."""
    sizes = (TOKENS, TOKENS // 2, TOKENS // 4)
    return {tokens: list(evaluate_all(model, PROMPTS, tokens_per_batch=tokens)) for tokens in sizes}


class Faults:
    """Makes some of the calls of some functions fail as a device does that has no memory left."""

    def __init__(self, monkeypatch):
        self.calls, self.failing = 0, frozenset()
        for module, name in ((tree, "_embed"), (tree, "_layer"), (tree, "_read"), (naive, "_batch"), (tree, "gather")):
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name)))

    def wrap(self, function):
        def call(*arguments):
            self.calls += 1
            if self.calls in self.failing:
                # What JAX raises depends on whether the function was called before.
                kind = (jax.errors.JaxRuntimeError, ValueError)[self.calls % 2]
                raise kind("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes.")
            return function(*arguments)

        return call


class Progress:
    def __init__(self):
        self.calls = []

    def __call__(self, index, masks):
        self.calls.append((index, masks))


@pytest.fixture
def faults(monkeypatch):
    return Faults(monkeypatch)


def test_faults_in_any_step_change_nothing_but_the_batches(model, undisturbed, faults):
    list(evaluate_all(model, PROMPTS, tokens_per_batch=TOKENS))
    n_calls, rng = faults.calls, np.random.default_rng(0)
    assert n_calls > 40
    alone = [[call] for call in range(1, n_calls + 1)]
    for failing in alone[::4] + [rng.choice(n_calls, 2, replace=False) + 1 for _ in range(4)]:
        faults.calls, faults.failing = 0, frozenset(map(int, failing))
        progress = Progress()
        with pytest.warns(RuntimeWarning, match="begun again") as told:
            values = list(evaluate_all(model, PROMPTS, tokens_per_batch=TOKENS, progress=progress))
        assert len(told) == len(faults.failing) and len(values) == len(PROMPTS)
        assert [each.players for each in values] == [prompt.words for prompt in PROMPTS]
        before = TOKENS
        for index, each in enumerate(values):
            # Its batches were as before, or half as large, and never larger again.
            sizes = [size for size in undisturbed if np.array_equal(each.v, undisturbed[size][index].v)]
            assert sizes and min(sizes) <= before, failing
            before = max(size for size in sizes if size <= before)
        assert progress.calls == sorted(set(progress.calls))
        assert dict(progress.calls) == {i: 2**p.n_players for i, p in enumerate(PROMPTS)}


def test_values_are_those_of_the_smaller_batches(model, undisturbed, faults):
    faults.failing = {1}
    with pytest.warns(RuntimeWarning, match=f"prompt 'of 6', in batches of {TOKENS} tokens.*at most {TOKENS // 2}"):
        values = list(evaluate_all(model, PROMPTS, tokens_per_batch=TOKENS))
    for each, expected, large in zip(values, undisturbed[TOKENS // 2], undisturbed[TOKENS], strict=True):
        np.testing.assert_array_equal(each.v, expected.v)
        np.testing.assert_allclose(each.v, large.v, atol=1e-5)


@pytest.mark.parametrize("method", ["tree", "naive"])
def test_a_device_that_stays_full_is_given_up(model, faults, method):
    faults.failing = range(1, 10**6)
    with pytest.warns(RuntimeWarning) as told, pytest.raises(ValueError, match="Smaller batches would not help"):
        andor.evaluate(model, PROMPTS[0], method=method, tokens_per_batch=TOKENS)
    assert 1 <= len(told) <= 2


def test_where_others_would_not_know_nothing_is_begun_again():
    def begin(taken, limit):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes.")

    taken = iter([schedule.Taken(0, PROMPTS[0], None)])
    with pytest.raises(RuntimeError, match=r"at its start .*spans processes"):
        next(schedule.run(taken, begin, lambda done, start: None, lambda index, masks: None, again=False))


def test_faults_while_the_noise_is_measured(model, monkeypatch):
    at_a_time = []
    measure = noise_floor._in

    def fails_once(dtype, decoder, prompt, subsets, *rest):
        at_a_time.append(len(subsets))
        if len(at_a_time) == 1:
            raise jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory")
        return measure(dtype, decoder, prompt, subsets, *rest)

    monkeypatch.setattr(noise_floor, "_in", fails_once)
    with pytest.warns(RuntimeWarning, match="CUDA_ERROR_OUT_OF_MEMORY"):
        values = andor.evaluate(model, PROMPTS[0], measure_noise=True)
    assert 0 < values.forward_noise < 1e-3
    assert at_a_time[0] > at_a_time[1] and sum(at_a_time[1:]) == 64


OUT_OF_MEMORY = """
import resource
import jax, jax.numpy as jnp
from andor.evaluation.schedule import _on_device, _OutOfMemory
fill = jax.jit(lambda x: jnp.zeros(1 << 24) + x)
held = [fill(1.0).block_until_ready()]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
try:
    with _on_device():
        held += [fill(1.0).block_until_ready() for _ in range(10)]
except _OutOfMemory as error:
    print(type(error.__cause__).__name__, error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_a_device_that_has_no_memory_left_is_recognised():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], env=environment, capture_output=True, text=True)
    assert "RESOURCE_EXHAUSTED: Out of memory" in done.stdout, done.stderr


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_other_errors_are_not_tried_again(model, monkeypatch, kind):
    """Errors of devices and of other processes are no ValueErrors, which would be the prompt's."""

    def fail(*_):
        raise kind("INTERNAL: something else")

    monkeypatch.setattr(tree, "_layer", fail)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="something else"):
        warnings.simplefilter("error")
        andor.evaluate(model, PROMPTS[0])


def test_prompts_are_taken_when_they_are_begun(model, undisturbed):
    taken, finished, ahead = [], 0, []

    def endless():
        for index, prompt in enumerate(itertools.cycle(PROMPTS)):
            taken.append(index)
            yield prompt

    values = evaluate_all(model, endless(), targets=itertools.repeat(None), tokens_per_batch=TOKENS)
    assert not taken
    for finished, each in enumerate(itertools.islice(values, 8)):
        ahead.append(len(taken) - finished)
        np.testing.assert_array_equal(each.v, undisturbed[TOKENS][finished % len(PROMPTS)].v)
    assert 1 <= min(ahead) <= max(ahead) <= 3, ahead
    assert ahead[0] == 2, "a large prompt is finished while one other is under way"


def test_a_prompt_that_cannot_be_read_does_not_spoil_those_before_it(model, undisturbed):
    bad = andor.Prompt("film " * 600, players=["film"], target="good")
    found = []
    with pytest.raises(ValueError, match="at most 512"):
        for each in evaluate_all(model, iter([*PROMPTS[:2], bad, PROMPTS[2]]), tokens_per_batch=TOKENS):
            found.append(each.v)
    assert len(found) == 2
    np.testing.assert_array_equal(found[1], undisturbed[TOKENS][1].v)


def test_targets_may_be_any_iterable_that_is_long_enough(model):
    targets = (target for target in (" good", " dull"))
    values = evaluate_all(model, iter([SMALL] * 3), targets=targets)
    assert [next(values).target, next(values).target] == [" good", " dull"]
    with pytest.raises(ValueError, match="one for each prompt; got 2, and there are more"):
        next(values)


def test_what_is_no_prompt_is_refused_when_it_comes(model):
    values = evaluate_all(model, iter([SMALL, "a film"]))
    assert len(next(values).v) == 2
    with pytest.raises(ValueError, match=r"an andor\.Prompt; got .*str"):
        next(values)
