"""The RL objectives against numbers worked out by hand and against slow float64 loops."""

import math

import pytest
import torch

from recipes.rl import objectives


def test_whitening_weighs_each_response_by_its_length():
    """Rewards 1, 0 with lengths 1, 3: mean 1/4, variance (9/16 + 3/16) / 3 = 1/4, so sd 1/2."""
    got = objectives.reinforce_pp_advantage(torch.tensor([1.0, 0.0]), torch.tensor([1, 3]))
    assert torch.allclose(got, torch.tensor([1.5, -0.5]), atol=1e-6)


def test_whitening_equals_whitening_token_by_token():
    """Spreading each reward over its tokens and whitening the tokens gives the same advantages."""
    rewards, lengths = torch.tensor([3.0, -0.5, -3.0, 3.0]), torch.tensor([5, 2, 9, 1])
    tokens = rewards.double().repeat_interleave(lengths)
    slow = (rewards.double() - tokens.mean()) / (tokens.var() + 1e-8).sqrt()
    fast = objectives.reinforce_pp_advantage(rewards, lengths)
    assert torch.allclose(fast.double(), slow, atol=1e-6)


def test_equal_rewards_give_no_advantage():
    """Where all answers are worth the same, neither objective moves the policy."""
    same = torch.full((4,), 2.0)
    assert objectives.reinforce_pp_advantage(same, torch.tensor([3, 1, 4, 1])).abs().max() == 0
    assert objectives.grpo_advantage(same, 2).abs().max() == 0


def test_groups_do_not_see_each_other():
    """GRPO's baseline is the group's: (1, 0) and (9, 8) give the same advantages, 1/sqrt(2)."""
    got = objectives.grpo_advantage(torch.tensor([1.0, 0.0, 9.0, 8.0]), 2, eps=0.0)
    half = 0.5 / math.sqrt(0.5)
    assert torch.allclose(got, torch.tensor([half, -half, half, -half]))


def test_k3_is_zero_at_the_reference_and_positive_elsewhere():
    """With a gap of log 2 the estimate is 2 - log 2 - 1, and its mirror 1/2 + log 2 - 1."""
    logp = torch.tensor([0.0, -math.log(2), math.log(2)])
    got = objectives.k3(logp, torch.zeros(3))
    assert got.tolist() == pytest.approx([0, 1 - math.log(2), math.log(2) - 0.5])


def test_a_reference_that_likes_a_token_more_pulls_it_up():
    """The KL term has a plus sign: descending it raises the log-probability of such a token."""
    logp = torch.tensor([[-2.0]], requires_grad=True)
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    loss = objectives.policy_loss(
        logp, logp.detach(), torch.tensor([[-1.0]]), torch.zeros(1), zero, one, beta=1.0, bonus=0.0
    )
    loss.backward()
    assert logp.grad.item() == pytest.approx(1 - math.e)


def test_the_clip_stops_the_gain_but_not_the_correction():
    """Beyond 1 + clip a good answer earns nothing more; a bad one is still pushed down."""
    logp = torch.full((2, 1), math.log(1.5), requires_grad=True)
    loss = objectives.clipped_loss(logp, torch.zeros(2, 1), torch.tensor([1.0, -1.0]), 0.2)
    assert loss.flatten().tolist() == pytest.approx([-1.2, 1.5])
    loss.sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([0.0, 1.5])


def test_entropy_of_a_uniform_row_is_log_of_its_width():
    """Four equal logits have log 4 nats; a certain row has none."""
    rows = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]])
    assert objectives.entropy(rows).tolist() == pytest.approx([math.log(4), 0.0], abs=1e-6)


def test_every_kept_token_counts_the_same():
    """A long response outweighs a short one: the mean is over tokens, not over responses."""
    values = torch.tensor([[1.0, 9.0, 9.0], [4.0, 4.0, 4.0]])
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    assert objectives.token_mean(values, mask) == pytest.approx(13 / 4)
