import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import SETTINGS, random_decoder

from andor.evaluation import planning
from andor.evaluation.tree import TreeEvaluation
from andor.models import FAMILIES
from andor.models.loading import read_config
from andor.prompts import TokenizedPrompt

CONFIG = read_config(SETTINGS["llama-gqa"], FAMILIES["llama"])


def prompt_of(n_players: int) -> TokenizedPrompt:
    player_of_token = np.repeat(np.arange(n_players, dtype=np.int32), 2)
    player_of_token[::2] = -1
    tokens = np.arange(2, 2 + 2 * n_players, dtype=np.int32)
    return TokenizedPrompt(tokens, player_of_token, np.array([9], np.int32), 0)


def plan(prompt, tokens_per_batch=None, **options):
    return planning.plan(CONFIG, 4, planning.plan_tree(CONFIG, 4, prompt, tokens_per_batch, **options))


def test_counts():
    planned = plan(prompt_of(4), available=10**9)
    started = np.array([0, 1, 1, 2, 2, 3, 3, 4])
    assert planned.tokens == np.sum(2**started) and planned.naive_tokens == 16 * 8
    # Two operations for each weight that a token meets, and attention besides.
    layers = CONFIG.num_layers * (32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 40)
    weights = 2.0 * (planned.tokens * layers + 16 * 300 * 32)
    assert weights < planned.operations < 1.5 * weights


def test_memory_is_what_is_allocated():
    """Cache and final states to the byte; no array is larger than what the plan allows a batch."""
    prompt = prompt_of(6)
    planned = plan(prompt, 64, available=10**9)
    evaluation = TreeEvaluation(random_decoder(SETTINGS["llama-gqa"]), planned.tree)
    before = {id(array) for array in jax.live_arrays()}
    steps = evaluation.steps()
    next(steps)
    new = [array.nbytes for array in jax.live_arrays() if id(array) not in before]
    slots = planned.tree.n_slots * CONFIG.num_kv_heads * CONFIG.head_dim * 4
    assert new.count(slots) == 2 * CONFIG.num_layers
    assert planned.memory.cache == slots * 2 * CONFIG.num_layers
    assert planned.memory.final in new
    assert sum(new) <= planned.memory.cache + planned.memory.final + planned.memory.batch


def test_depth_first_and_smaller_batches_when_memory_is_short():
    prompt = prompt_of(12)
    ample = plan(prompt, available=10**10)
    assert ample.tree.split > 0
    assert ample.memory.cache < 0.7 * ample.tokens * CONFIG.num_layers * 2 * CONFIG.num_kv_heads * CONFIG.head_dim * 4
    short = plan(prompt, available=ample.memory.total(1) // 2)
    assert short.memory.total(1) <= ample.memory.total(1) // 2
    assert short.tree.n_rows < ample.tree.n_rows and short.tokens == ample.tokens


def test_the_size_of_batches_that_suits_a_device_is_no_wish():
    prompt = prompt_of(12)
    available = plan(prompt, 64, available=10**10).memory.total(1)
    assert plan(prompt, default_tokens=8192, available=available).tree.n_rows <= 64
    with pytest.raises(ValueError, match="Ask for smaller batches"):
        plan(prompt, 8192, available=available)


def test_prompts_in_flight_and_shards_take_their_memory():
    tree = plan(prompt_of(6), available=10**9).tree
    one, two = (planning.memory(CONFIG, 4, tree, shards) for shards in (1, 2))
    assert one.total(2) - one.total(1) == one.cache + one.final
    assert two.cache == one.cache and two.final == 2 * one.final and one.batch < two.batch < 2 * one.batch


def test_what_does_not_fit_is_refused_with_the_number_that_would():
    available = plan(prompt_of(9), available=10**10).memory.total(1) // 5
    with pytest.raises(ValueError, match=r"the 2\*\*14 masked prompts take .* players fit: name fewer") as refusal:
        plan(prompt_of(14), available=available)
    fewer = int(str(refusal.value).split(" players fit")[0].split()[-1])
    assert 1 <= fewer < 14
    plan(prompt_of(fewer), available=available)
    with pytest.raises(ValueError, match="Not even one player would fit"):
        plan(prompt_of(3), available=1000)


def test_asked_batches_are_kept():
    assert plan(prompt_of(8), 100, available=10**9).tree.n_rows <= 64
    with pytest.raises(ValueError, match="masked prompts take"):
        plan(prompt_of(8), 1 << 20, available=10**6)


def test_matrix_rate():
    assert 1e8 < planning.matrix_rate(jnp.float32) < 1e16
