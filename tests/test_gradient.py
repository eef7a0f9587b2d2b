"""Starts from losses: one backward gives the gradient of every coefficient, and it points down."""

import pytest
import torch

from evals.generate import Answerer
from search.candidate import Candidate
from search.gradient import by_gradient, by_losses, slopes_of
from tests.toy_models import toy_model, toy_tokenizer

EXPERTS = ("ded", "ind")
KNOWN = [("1 + 1 = ?", "2"), ("2 + 3 = ?", "5"), ("4 + 4 = ?", "8")]


class Toy:
    """A live merge of two experts of a random base: world, holder and changes in one."""

    def __init__(self):
        self.model = toy_model()
        self.base = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.moved = {}
        for seed, expert in enumerate(EXPERTS):
            g = torch.Generator().manual_seed(seed)
            self.moved[expert] = {
                n: 0.05 * torch.randn(p.shape, generator=g) for n, p in self.base.items()
            }
        self.answerer = Answerer(self.model, toy_tokenizer())
        self.holder = self.merged = self

    def change(self, expert, name):
        return self.moved[expert][name]

    def hold(self, candidate):
        shares = {n: candidate.scale * p for n, p in candidate.shares.items()}
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                moved = sum(s * self.moved[e][name] for e, s in shares.items())
                weight.copy_(self.base[name] + moved)

    def loss(self, **weights):
        self.hold(Candidate.of(weights, sum(weights.values())))
        return slopes_of(self, EXPERTS, KNOWN)


def test_the_gradient_is_the_slope():
    """The inner products, summed over layers, are the loss's differences by coefficient."""
    toy, step = Toy(), 1e-2
    _, slopes = toy.loss(ded=0.5, ind=0.5)
    for expert in EXPERTS:
        at = {"ded": 0.5, "ind": 0.5}
        up, down = (toy.loss(**at | {expert: 0.5 + s})[0] for s in (step, -step))
        assert sum(slopes[expert].values()) == pytest.approx((up - down) / (2 * step), rel=0.05)
    assert set(slopes["ded"]) == {"", "0", "1"}
    assert all(p.grad is None for p in toy.model.parameters())
    assert not any(p.requires_grad for p in toy.model.parameters())


def test_descent_lowers_the_loss():
    """The gradient's start has a lower loss than equal shares, and its facts say from where to."""
    toy = Toy()
    start, facts = by_gradient(toy, EXPERTS, KNOWN)
    assert start.source == "gradient"
    assert facts["losses"][-1] < facts["losses"][0]
    weights = {n: start.candidate.scale * p for n, p in start.candidate.shares.items()}
    assert toy.loss(**weights)[0] < toy.loss(ded=0.5, ind=0.5)[0]


def test_the_expert_that_knows_gets_more():
    """Shares by losses favour the expert that finds the answers likelier."""
    toy = Toy()
    losses = {e: toy.loss(**{e: 1.0})[0] for e in EXPERTS}
    shares = by_losses(toy, EXPERTS, KNOWN).candidate.shares
    assert max(shares, key=shares.get) == min(losses, key=losses.get)
