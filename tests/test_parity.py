"""Our decoder against transformers' PyTorch models, float32, random checkpoints. Skipped where torch is missing."""

import numpy as np
import pytest
from tiny_models import SETTINGS, assert_close, forward, random_decoder, save_checkpoint, tokens

import andor
from andor import lattice
from andor.prompts import tokenize

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM  # noqa: E402  (needs torch)


def torch_logits(model, ids, **kwargs) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids), dtype=torch.long), **kwargs).logits.float().numpy()


@pytest.fixture(params=SETTINGS, scope="module")
def pair(request, tmp_path_factory):
    """(our model, transformers' model), both read from one directory."""
    settings = SETTINGS[request.param]
    folder = save_checkpoint(tmp_path_factory.mktemp("parity"), settings, random_decoder(settings))
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return andor.load(str(folder)), reference


def test_logits(pair):
    ours, reference = pair
    # Longer than llama3's original context in these configs, so that the stretched frequencies matter.
    ids = tokens((3, 60), 300)
    assert_close(forward(ours.decoder, ids), torch_logits(reference, ids), 1e-4)


def test_left_padded_logits(pair):
    ours, reference = pair
    ids = tokens((2, 12), 300)
    padding = np.array([[0] * 5 + [1] * 7, [1] * 12])
    positions = np.maximum(np.cumsum(padding, axis=1) - 1, 0)
    actual = forward(ours.decoder, ids, positions, padding)
    expected = torch_logits(reference, ids, attention_mask=torch.tensor(padding), position_ids=torch.tensor(positions))
    assert_close(np.where(padding[..., None], actual, 0), np.where(padding[..., None], expected, 0), 1e-4)


def test_masked_evaluation(pair):
    ours, reference = pair
    prompt = andor.Prompt(
        "the film is not good , but it is never dull .", players=["film", "not good", "never", "dull"]
    )
    values = andor.evaluate(ours, prompt, target=" good")
    tokenized = tokenize(prompt, ours.tokenizer, " good")
    player = tokenized.player_of_token
    absent = ~lattice.masks(prompt.n_players)[:, np.maximum(player, 0)] & (player >= 0)[None, :]
    masked = np.where(absent, tokenized.baseline_id, tokenized.token_ids[None, :])
    log_p = torch.log_softmax(torch.tensor(torch_logits(reference, masked)[:, -1]).double(), dim=-1)
    (target,) = tokenized.target_ids
    expected = log_p[:, target] - torch.log1p(-torch.exp(log_p[:, target]))
    assert_close(values.v, expected.numpy(), 1e-4)


def test_bfloat16_logits_are_as_close_as_bfloat16_allows(tmp_path):
    settings = SETTINGS["qwen2-gqa"]
    folder = save_checkpoint(tmp_path, settings, random_decoder(settings))
    ids = tokens((2, 20), 300)
    ours = np.asarray(forward(andor.load(str(folder), dtype="bfloat16").decoder, ids))
    exact = np.asarray(forward(andor.load(str(folder)).decoder, ids))
    reference = torch_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval(), ids)
    # Both round at every operation; ours must not be further from float32 than the reference by more than a half.
    assert np.abs(ours - exact).mean() <= 1.5 * np.abs(reference - exact).mean()


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2", "tiny-llama-overfit"])
def test_embedded_models(name):
    from andor.models import EMBEDDED

    ours = andor.load(name)
    reference = AutoModelForCausalLM.from_pretrained(EMBEDDED / name, dtype=torch.float32).eval()
    ids = tokens((2, 40), 4096)
    assert_close(forward(ours.decoder, ids), torch_logits(reference, ids), 1e-4)
