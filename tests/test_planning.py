import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import SETTINGS, random_decoder

from andor.devices.mesh import ALONG
from andor.evaluation import planning
from andor.evaluation.tree import TreeEvaluation
from andor.models import FAMILIES
from andor.models.config import read_config
from andor.models.weights import weight_table
from andor.prompts import Mask, TokenizedPrompt

CONFIG = read_config(SETTINGS["llama-gqa"], FAMILIES["llama"])


def prompt_of(n_players: int) -> TokenizedPrompt:
    player_of_token = np.repeat(np.arange(n_players, dtype=np.int32), 2)
    player_of_token[::2] = -1
    tokens = np.arange(2, 2 + 2 * n_players, dtype=np.int32)
    return TokenizedPrompt(tokens, player_of_token, np.array([9], np.int32), Mask("token", 0, "<mask>"))


def plan(prompt, tokens_per_batch=None, **options):
    return planning.plan_tree(CONFIG, 4, prompt, tokens_per_batch, **options)


def memory(tree):
    return planning.memory(CONFIG, 4, tree)


def test_counts():
    planned = plan(prompt_of(4), available=10**9)
    started = np.array([0, 1, 1, 2, 2, 3, 3, 4])
    assert planned.tokens == np.sum(2**started) and planned.naive_tokens == 16 * 8
    # Two operations for each weight that a token meets, and attention besides.
    layers = CONFIG.num_layers * (32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 40)
    weights = 2.0 * (planned.tokens * layers + 16 * 300 * 32)
    assert weights < planning.operations(CONFIG, planned) < 1.5 * weights


def test_memory_is_what_is_allocated():
    """Cache and final states to the byte; no array is larger than what the plan allows a batch."""
    prompt = prompt_of(6)
    planned = plan(prompt, 64, available=10**9)
    evaluation = TreeEvaluation(random_decoder(SETTINGS["llama-gqa"]), planned)
    before = {id(array) for array in jax.live_arrays()}
    steps = evaluation.steps()
    next(steps)
    new = [array.nbytes for array in jax.live_arrays() if id(array) not in before]
    slots = planned.n_slots * CONFIG.num_kv_heads * CONFIG.head_dim * 4
    assert new.count(slots) == 2 * CONFIG.num_layers
    assert memory(planned).cache == slots * 2 * CONFIG.num_layers
    assert memory(planned).final in new
    assert sum(new) <= memory(planned).cache + memory(planned).final + memory(planned).batch


def test_depth_first_and_smaller_batches_when_memory_is_short():
    prompt = prompt_of(12)
    ample = plan(prompt, available=10**10)
    assert ample.split > 0
    assert memory(ample).cache < 0.7 * ample.tokens * CONFIG.num_layers * 2 * CONFIG.num_kv_heads * CONFIG.head_dim * 4
    short = plan(prompt, available=memory(ample).total(1) // 2)
    assert memory(short).total(1) <= memory(ample).total(1) // 2
    assert short.n_rows < ample.n_rows and short.tokens == ample.tokens


def test_the_size_of_batches_that_suits_a_device_is_no_wish():
    prompt = prompt_of(12)
    available = memory(plan(prompt, 64, available=10**10)).total(1)
    assert plan(prompt, default_tokens=8192, available=available).n_rows <= 64
    with pytest.raises(ValueError, match="Ask for smaller batches"):
        plan(prompt, 8192, available=available)


def test_prompts_in_flight_and_shards_take_their_memory():
    tree = plan(prompt_of(6), available=10**9)
    one, two = (planning.memory(CONFIG, 4, tree, shards) for shards in (1, 2))
    assert one.total(2) - one.total(1) == one.cache + one.final
    assert two.cache == one.cache and two.final == 2 * one.final and one.batch < two.batch < 2 * one.batch


def test_what_does_not_fit_is_refused_with_the_number_that_would():
    available = memory(plan(prompt_of(9), available=10**10)).total(1) // 5
    with pytest.raises(ValueError, match=r"the 2\*\*14 masked prompts take .* players fit: name fewer") as refusal:
        plan(prompt_of(14), available=available)
    fewer = int(str(refusal.value).split(" players fit")[0].split()[-1])
    assert 1 <= fewer < 14
    plan(prompt_of(fewer), available=available)
    with pytest.raises(ValueError, match="Not even one player would fit"):
        plan(prompt_of(3), available=1000)


def test_asked_batches_are_kept():
    assert plan(prompt_of(8), 100, available=10**9).n_rows <= 64
    with pytest.raises(ValueError, match="masked prompts take"):
        plan(prompt_of(8), 1 << 20, available=10**6)


@pytest.mark.parametrize("name", SETTINGS)
def test_weights_of_a_device_are_what_the_mesh_divides(name):
    family = FAMILIES[SETTINGS[name]["model_type"]]
    config = read_config(SETTINGS[name], family)
    for model in (1, 2, 4):
        numbers = 0
        for row in weight_table(config, family).values():
            divided = any(ALONG.get(letter) == "model" for letter in row.letters())
            numbers += np.prod(row.our_shape(config.axis_sizes())) // (model if divided else 1)
        assert planning.weights_of_device(config, 2, model) == 2 * numbers


def test_a_share_of_one_device_is_the_plan():
    prompt, weights = prompt_of(6), planning.weights_of_device(CONFIG, 4, 1)
    share = planning.share(CONFIG, 4, prompt, available=10**9 + weights, in_flight=2)
    planned = plan(prompt, available=10**9)
    assert share.memory == memory(planned) and share.beside == memory(planned).total(2)
    assert (share.n_devices, share.weights, share.exchanged) == (1, weights, 0)
    assert share.operations == planning.operations(CONFIG, planned)
    assert share.seconds(1e9) == planning.operations(CONFIG, planned) / 1e9 / planning.EFFICIENCY


def test_masks_change_what_a_plan_is():
    prompt = prompt_of(6)
    left_out = dataclasses.replace(prompt, mask=Mask("delete"))
    drawn = dataclasses.replace(prompt, drawn=np.tile(prompt.token_ids, (3, 1)))
    token, delete, resample = (planning.share(CONFIG, 4, each, available=10**9) for each in (prompt, left_out, drawn))
    of_players = sum(2**player for player in range(6))
    assert delete.tokens == token.tokens - of_players and delete.naive_tokens == token.naive_tokens - 2**6 * 6 // 2
    assert delete.operations < token.operations and delete.memory.cache <= token.memory.cache
    assert (resample.tokens, resample.operations) == (3 * token.tokens, 3 * token.operations)
    assert resample.beside == token.memory.total(2) > token.beside  # a draw is begun before the last one is done


def test_shares_of_a_mesh():
    prompt = prompt_of(8)
    one, over_data, over_model, both = (
        planning.share(CONFIG, 4, prompt, available=10**9, data=data, model=model)
        for data, model in ((1, 1), (4, 1), (1, 2), (4, 2))
    )
    assert over_data.weights == one.weights and one.weights / 2 < over_model.weights < 0.51 * one.weights
    assert both.weights == over_model.weights and both.n_devices == 8
    # Groups share the tree's beginning no more, and each does its part of the rest.
    assert over_data.tree.groups_players == 2
    assert one.tree.tokens < over_data.tree.tokens < 1.1 * one.tree.tokens
    assert 0.2 * one.operations < over_data.operations < 0.3 * one.operations
    assert over_model.operations == one.operations / 2
    assert both.operations == over_data.operations / 2
    # Of each token, two sums in both layers and one after the embedding go to the other device and back.
    assert one.exchanged == over_data.exchanged == 0
    assert over_model.exchanged == over_model.tree.tokens * 5 * 32 * 4
    assert both.exchanged == both.tree.tokens // 4 * 5 * 32 * 4
    assert over_model.beside < one.beside and over_model.memory.cache == one.memory.cache


def test_what_no_mesh_can_take_is_refused():
    prompt = prompt_of(3)
    with pytest.raises(ValueError, match="num_key_value_heads = 2 does not divide by model=4"):
        planning.share(CONFIG, 4, prompt, model=4, available=10**9)
    with pytest.raises(ValueError, match="power of two"):
        planning.share(CONFIG, 4, prompt, data=3, available=10**9)
    with pytest.raises(ValueError, match="8 masks cannot be divided among data=16"):
        planning.share(CONFIG, 4, prompt, data=16, available=10**9)
    weights = [planning.weights_of_device(CONFIG, 4, model) for model in (1, 2)]
    with pytest.raises(ValueError, match=r"on each of 8 devices.*more devices"):
        planning.share(CONFIG, 4, prompt, data=8, available=weights[0] - 1)
    assert planning.share(CONFIG, 4, prompt, model=2, available=weights[1] + 10**7).weights == weights[1]


def test_matrix_rate():
    assert 1e8 < planning.matrix_rate(jnp.float32) < 1e16
