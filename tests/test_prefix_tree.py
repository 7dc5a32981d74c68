"""The order of evaluation, against the masked prompts written out; no model runs here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from andor.evaluation.prefix_tree import LONG_TRUNK, PrefixTree, bucket
from andor.prompts import Mask, TokenizedPrompt

BASELINE = 7
TOKEN = Mask("token", BASELINE, "<mask>")


def prompt_of(player_of_token, n_targets=1, mask=TOKEN) -> TokenizedPrompt:
    """Tokens that are all different, so that a token tells its position."""
    length = len(player_of_token)
    return TokenizedPrompt(
        np.arange(100, 100 + length, dtype=np.int32),
        np.asarray(player_of_token, np.int32),
        np.arange(5000, 5000 + n_targets, dtype=np.int32),
        mask,
    )


@st.composite
def players(draw, most_players=7):
    """Player of each token: players of 1 to 3 tokens, background of 0 to 4 tokens before, between and behind them."""
    n_players = draw(st.integers(1, most_players))
    background = st.integers(0, 4)
    before = draw(st.one_of(background, st.integers(LONG_TRUNK, LONG_TRUNK + 9)))
    tokens = [-1] * before
    for player in range(n_players):
        tokens += [player] * draw(st.integers(1, 3)) + [-1] * draw(background)
    return tokens


def pasts(tree: PrefixTree) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
    """(group, target token, state) -> the (position, token) that its row attends to, as the batches say it."""
    groups, width = 2**tree.groups_players, 2**tree.width
    slots = np.full((groups, tree.n_slots, 2), -1)
    found = {}
    for batch in tree.batches():
        rows = np.arange(batch.first_slot, batch.first_slot + tree.n_rows)
        slots[:, rows, 0], slots[:, rows, 1] = batch.positions, batch.tokens
        assert batch.keys.shape == (tree.n_rows // width, tree.n_keys)
        assert batch.ancestors.shape == (tree.n_rows // width, width, tree.n_keys)
        assert 0 <= batch.keys.min() and batch.keys.max() < tree.n_slots
        for row, outcomes in zip(np.flatnonzero(batch.final), batch.outcome.T.tolist(), strict=True):
            block, lane = divmod(int(row), width)
            for group, outcome in enumerate(outcomes):
                position = batch.positions[group, row]
                keys = batch.keys[block][batch.ancestors[block, lane] & (batch.key_positions[group, block] <= position)]
                trunk = np.flatnonzero(tree.trunk_slots[group] <= position)
                if outcome < 0:
                    continue
                key = (group, *divmod(outcome, 2**tree.n_players))
                assert key not in found
                found[key] = sorted(map(tuple, slots[group, np.concatenate([trunk, keys])].tolist()))
    return found


def masked_prompt(tree: PrefixTree, group: int, target: int, state: int) -> list[tuple[int, int]]:
    """(position, token) of a masked prompt with the target tokens before this one, by definition."""
    prompt, n_players = tree.prompt, tree.groups_players + tree.n_players
    bits = (group << tree.n_players) | state
    tokens, player = prompt.read()
    length = len(prompt.token_ids) + target
    masked = [each >= 0 and not (bits >> (n_players - 1 - each)) & 1 for each in player[:length].tolist()]
    if not prompt.mask.leaves_out:
        return list(enumerate(np.where(masked, BASELINE, tokens[:length]).tolist()))
    left = [(at, token) for at, token in enumerate(tokens[:length].tolist()) if not masked[at]]
    return left if prompt.mask.kind == "attention" else [(at, token) for at, (_, token) in enumerate(left)]


@settings(max_examples=60, deadline=None)
@given(
    players(),
    st.integers(1, 3),
    st.sampled_from([1, 2, 8, 64, 256]),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from([TOKEN, Mask("delete"), Mask("attention")]),
)
def test_every_row_sees_its_masked_prompt(player_of_token, n_targets, rows, groups_players, split, mask):
    # A prompt ends in background where nobody attends to players, and begins with some where they are deleted.
    player_of_token = [-1] * (mask.kind == "delete") + player_of_token + [-1] * (mask.kind == "attention")
    prompt = prompt_of(player_of_token, n_targets, mask)
    n_players = max(player_of_token) + 1
    tree = PrefixTree(prompt, rows, min(groups_players, n_players))
    tree = PrefixTree(prompt, rows, tree.groups_players, min(split, max(tree.n_players - tree.width - 1, 0)))
    found = pasts(tree)
    assert len(found) == n_targets * 2**n_players
    assert tree.n_final == n_targets * 2**tree.n_players or mask.kind == "delete"
    for key, past in found.items():
        assert past == masked_prompt(tree, *key)


@settings(max_examples=60, deadline=None)
@given(players(most_players=12), st.integers(1, 3))
def test_no_token_is_evaluated_twice(player_of_token, n_targets):
    tree = PrefixTree(prompt_of(player_of_token, n_targets), 256)
    tokens = np.concatenate([player_of_token, np.full(n_targets - 1, -1)])
    assert tree.tokens == sum(2 ** len(set(tokens[: t + 1]) - {-1}) for t in range(len(tokens)))
    assert tree.n_batches * tree.n_rows >= tree.tokens
    left_out = PrefixTree(prompt_of(player_of_token, n_targets, Mask("delete")), 256)
    of_players = sum(2**player for player in player_of_token if player >= 0)
    assert left_out.tokens == tree.tokens - of_players  # they are evaluated only where they are there
    if tree.tokens > 1000:  # rows of padding are few where it matters
        assert tree.n_batches * tree.n_rows < 1.5 * tree.tokens


@pytest.mark.parametrize("split", range(7))
def test_depth_first_holds_fewer_keys(split):
    player_of_token = np.repeat(np.arange(12), 2)
    whole = PrefixTree(prompt_of(player_of_token), 64)
    parts = PrefixTree(prompt_of(player_of_token), 64, split=split)
    assert parts.tokens == whole.tokens and parts.n_batches == whole.n_batches
    assert parts.n_slots <= whole.n_slots // (2 if split >= 2 else 1)


def test_a_long_common_beginning_is_in_no_list():
    tree = PrefixTree(prompt_of([-1] * 200 + [0, -1, 1]), 64)
    assert tree.trunk == 200 and tree.n_keys <= 16
    assert PrefixTree(prompt_of([-1] * LONG_TRUNK + [0, -1, 1]), 64).trunk == 0


def test_long_texts_fetch_few_keys_a_row():
    """A list of keys serves a whole block, also where a state has many tokens of its own."""
    for player_of_token in (
        [0, 1, 2, 3, 4, 5, *[-1] * 300],
        np.where(np.arange(246) % 41 == 0, np.arange(246) // 41, -1).tolist(),
    ):
        tree = PrefixTree(prompt_of(player_of_token), 1024)
        assert tree.width >= 3
        assert tree.n_keys <= 1.6 * len(player_of_token)
        assert tree.n_batches * tree.n_rows < 1.3 * tree.tokens


@pytest.mark.parametrize(("size", "expected"), [(0, 8), (1, 8), (8, 8), (9, 12), (13, 16), (17, 24), (57, 64)])
def test_bucket(size, expected):
    assert bucket(size) == expected


def test_buckets_are_few_and_waste_little():
    buckets = {bucket(size) for size in range(1, 1025)}
    assert len(buckets) <= 15
    assert all(size <= bucket(size) < max(9, 1.5 * size) for size in range(1, 1025))
