"""Our decoder against transformers' PyTorch models, float32, random checkpoints. Skipped where torch is missing."""

import copy

import numpy as np
import pytest
from ladder import first_difference, outputs, torch_outputs
from tiny_models import SETTINGS, assert_close, forward, random_decoder, save_checkpoint, tokens

import andor
from andor.core import lattice
from andor.prompts import tokenize
from experiments.benchmarks.parity import ARCHITECTURES, random_checkpoint

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM  # noqa: E402  (needs torch)


def torch_logits(model, ids, **kwargs) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids), dtype=torch.long), **kwargs).logits.float().numpy()


def assert_parity(ours, reference, ids, positions=None, padding=None):
    """Logits within 1e-4 on all tokens that are not padding; says which module parts first if they are not."""
    b, t = ids.shape
    positions = np.tile(np.arange(t), (b, 1)) if positions is None else positions
    padding = np.ones((b, t), int) if padding is None else padding
    rows = padding.astype(bool)
    # A mask that is given keeps transformers from reading gaps in the positions as borders of packed texts.
    options = {"position_ids": torch.tensor(positions), "attention_mask": torch.tensor(padding)}
    actual, expected = (
        np.asarray(forward(ours.decoder, ids, positions, padding)),
        torch_logits(reference, ids, **options),
    )
    try:
        assert_close(actual[rows], expected[rows], 1e-4)
    except AssertionError as error:
        torch_ids = torch.tensor(np.asarray(ids), dtype=torch.long)
        rungs = outputs(ours.decoder, ids, positions, padding), torch_outputs(reference, torch_ids, **options)
        raise AssertionError(f"{error}; {first_difference(*rungs, 1e-5, rows)}") from error


@pytest.fixture(params=SETTINGS, scope="module")
def pair(request, tmp_path_factory):
    """(our model, transformers' model), both read from one directory."""
    settings = SETTINGS[request.param]
    folder = save_checkpoint(tmp_path_factory.mktemp("parity"), settings, random_decoder(settings))
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return andor.load(str(folder)), reference


LENGTH = 60  # beyond llama3's original context in these configs, so that the stretched frequencies matter


def test_logits(pair):
    assert_parity(*pair, tokens((3, LENGTH), 300))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_of_checkpoints_that_transformers_writes(name, tmp_path):
    model_type, changes = ARCHITECTURES[name]
    random_checkpoint(tmp_path, model_type, changes, 0)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    assert_parity(andor.load(str(tmp_path)), reference, tokens((3, LENGTH), 512))


def test_long_positions(pair):
    """One unit in the last place of a RoPE frequency would show here."""
    positions = np.stack([np.arange(LENGTH) + 100_000, 1_999 * np.arange(LENGTH), np.arange(LENGTH) + 8_000])
    assert_parity(*pair, tokens((3, LENGTH), 300), positions)


def test_left_padded_logits(pair):
    lengths = np.array([[7], [1], [LENGTH]])
    padding = (np.arange(LENGTH)[None, :] >= LENGTH - lengths).astype(int)
    positions = np.maximum(np.cumsum(padding, axis=1) - 1, 0)
    assert_parity(*pair, tokens((3, LENGTH), 300), positions, padding)


def test_masked_evaluation(pair):
    ours, reference = pair
    prompt = andor.Prompt(
        "the film is not good , but it is never dull .", players=["film", "not good", "never", "dull"]
    )
    values = andor.evaluate(ours, prompt, target=" good")
    tokenized = tokenize(prompt, ours.tokenizer, " good")
    player = tokenized.player_of_token
    absent = ~lattice.masks(prompt.n_players)[:, np.maximum(player, 0)] & (player >= 0)[None, :]
    masked = np.where(absent, tokenized.mask.token_id, tokenized.token_ids[None, :])
    log_p = torch.log_softmax(torch.tensor(torch_logits(reference, masked)[:, -1]).double(), dim=-1)
    (target,) = tokenized.target_ids
    expected = log_p[:, target] - torch.log1p(-torch.exp(log_p[:, target]))
    assert_close(values.v, expected.numpy(), 1e-4)


WITH_WINDOWS = ["llama-gqa-tied-head-dim-llama3-rope", "qwen2-window", "mistral-window", "gemma3"]


@pytest.mark.parametrize("baseline", ["delete", "attention"])
@pytest.mark.parametrize("pair", WITH_WINDOWS, indirect=True)
def test_what_masks_leave_out_is_not_there(pair, baseline):
    """Deleted: a shorter sequence. Not attended to: an attention mask of 0 where a token keeps its position."""
    ours, reference = pair
    prompt = andor.Prompt(
        "the film is not good , but it is never dull .", players=["film", "not good", "never", "dull"]
    )
    values = andor.evaluate(ours, prompt, target=" good", baseline=baseline)
    tokenized = tokenize(prompt, ours.tokenizer, " good")
    ids, player = tokenized.token_ids[None], tokenized.player_of_token
    there = lattice.masks(prompt.n_players)[:, np.maximum(player, 0)] | (player < 0)[None, :]
    if baseline == "delete":
        last = np.concatenate([torch_logits(reference, ids[:, kept])[:, -1] for kept in there])
    else:
        positions = torch.arange(len(player))[None].expand(len(there), -1)
        options = {"attention_mask": torch.tensor(there.astype(int)), "position_ids": positions}
        last = torch_logits(reference, np.repeat(ids, len(there), axis=0), **options)[:, -1]
    log_p = torch.log_softmax(torch.tensor(last).double(), dim=-1)
    (target,) = tokenized.target_ids
    expected = log_p[:, target] - torch.log1p(-torch.exp(log_p[:, target]))
    assert_close(values.v, expected.numpy(), 1e-4)


@pytest.mark.parametrize("name", ["qwen2-gqa", "llama-gqa-tied-head-dim-llama3-rope"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_logits_are_as_close_as_the_dtype_allows(name, dtype, tmp_path):
    settings = SETTINGS[name]
    folder = save_checkpoint(tmp_path, settings, random_decoder(settings))
    ids = tokens((2, 20), 300)
    ours = np.asarray(forward(andor.load(str(folder), dtype=dtype).decoder, ids))
    exact = np.asarray(forward(andor.load(str(folder)).decoder, ids))
    reference = torch_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval(), ids)
    # Both round at every operation; ours must not be further from float32 than the reference by more than a half.
    assert np.abs(ours - exact).mean() <= 1.5 * np.abs(reference - exact).mean()


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ],
)
@pytest.mark.parametrize("pair", ["qwen2-gqa"], indirect=True)
def test_the_ladder_names_the_module_that_is_broken(name, pair):
    ours, reference = pair
    broken = copy.deepcopy(reference)
    with torch.no_grad():
        broken.get_parameter(name)[..., 0] += 1.0
    module = name.removesuffix(".weight").removesuffix(".bias")
    for part in ("self_attn", "mlp"):
        module = module.split(f".{part}.")[0] + f".{part}" if f".{part}." in module else module
    with pytest.raises(AssertionError, match=f"; {module} is the first module that differs"):
        assert_parity(ours, broken, tokens((3, LENGTH), 300))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2", "tiny-llama-overfit"])
def test_embedded_models(name):
    from andor.models import EMBEDDED

    ours = andor.load(name)
    reference = AutoModelForCausalLM.from_pretrained(EMBEDDED / name, dtype=torch.float32).eval()
    ids = tokens((2, 40), 4096)
    assert_close(forward(ours.decoder, ids), torch_logits(reference, ids), 1e-4)
