"""The packed forward against the model's own: same numbers, same gradient, prompts read once."""

import pytest
import torch
from transformers import LlamaForCausalLM

from recipes.packed import Text, hidden, lay, products, supported
from recipes.rl.packing import answer_logps
from tests import toys

PROMPTS = [[2, 3, 4], [2, 3, 4], [5, 6, 7, 8, 9], [2, 3, 4], [5, 6, 7, 8, 9]]
ANSWERS = [[5, 1], [6, 7, 8, 9, 1], [4], [7, 7, 1], [3, 1]]


@pytest.fixture
def net(tmp_path):
    return LlamaForCausalLM.from_pretrained(toys.save_model(tmp_path / "m"), dtype="float32")


def padded():
    """Prompts padded on the left, answers on the right, as the trainer has them."""
    p, t = max(map(len, PROMPTS)), max(map(len, ANSWERS))
    rows = [
        ([0] * (p - len(a)) + a + b + [0] * (t - len(b)), [0] * (p - len(a)) + [1] * len(a + b))
        for a, b in zip(PROMPTS, ANSWERS, strict=True)
    ]
    ids = torch.tensor([tokens for tokens, _ in rows])
    return ids, torch.tensor([mask + [0] * (p + t - len(mask)) for _, mask in rows]), t


def test_answers_score_as_by_the_model_itself(net):
    """Log-probabilities, entropies and the gradient are those of a padded batch."""
    ids, mask, kept = padded()
    filled = mask[:, -kept:].bool()
    places = (mask.cumsum(1) - 1).clamp(min=0)
    logits = net(input_ids=ids, attention_mask=mask, position_ids=places).logits[:, -kept - 1 : -1]
    all_logp = (logits / 0.7).log_softmax(-1)
    want = all_logp.gather(2, ids[:, -kept:, None]).squeeze(2)[filled]
    want_entropy = -(all_logp.exp() * all_logp).sum(-1)[filled]
    (want.sum() + want_entropy.sum()).backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    with products("fast"):
        logp, entropy = answer_logps(net, ids, mask, kept, 0.7)
        (logp[filled].sum() + entropy[filled].sum()).backward()
    assert torch.allclose(logp[filled], want, atol=1e-5)
    assert torch.allclose(entropy[filled], want_entropy, atol=1e-5)
    assert not logp[~filled].any()
    for got, expected in zip((p.grad for p in net.parameters()), gradients, strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


def test_rows_of_any_length_keep_their_own_states(net):
    """A row's states do not depend on the rows beside it."""
    texts = [Text([3] * n, [*range(n)], [0] * n) for n in (70, 1, 40, 33)]
    with torch.no_grad():
        run = lay(texts)
        together = hidden(net, run)
        for text, start in zip(texts, run.starts, strict=True):
            n = len(text.tokens)
            own = net.model(input_ids=torch.tensor([text.tokens])).last_hidden_state[0]
            assert torch.allclose(together[start : start + n], own, atol=1e-5)


def test_the_precision_asked_for_ends_with_its_block():
    """What torch was set to before is set again, also after an error."""
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), products("fast"):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before


def test_other_models_are_not_known(net):
    """Products with a bias, or in half precision, are left to the model's own forward."""
    assert supported(net)
    assert not supported(net.bfloat16())
    net.float().config.attention_bias = True
    assert not supported(net)
