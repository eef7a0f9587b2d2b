"""The objectives of Stage A and Stage C in plain torch: the specification, and the tests' oracle.

Stage A is REINFORCE++ as the paper's code ran it (arXiv 2505.10554, 2501.03262): the reward sits on
the last token and gamma is 1, so every token of a response carries the response's reward, and the
returns are whitened over all response tokens of the batch: mean and variance weight a response by
its length. Stage C is GRPO (arXiv 2402.03300): a baseline per group of answers to one prompt. Both
add a k3 estimate of the KL to a frozen reference to the loss, with a plus sign: drift is a cost.
(The code published with the paper subtracts it, so drift was a reward there.)

The engine trains through TRL; the tests hold its numbers against these functions.
"""

import torch
from torch import Tensor


def reinforce_pp_advantage(rewards: Tensor, lengths: Tensor) -> Tensor:
    """Whiten rewards over the tokens of the batch.

    Args:
        rewards: (n,) one reward per response.
        lengths: (n,) tokens per response, at least 2 in all.

    Returns:
        (n,) float32: (r - mean) / sd, mean and unbiased variance weighted by length.
    """
    rewards, weights = rewards.float(), lengths.float()
    tokens = weights.sum()
    mean = (rewards * weights).sum() / tokens
    variance = ((rewards - mean).square() * weights).sum() / (tokens - 1)
    return (rewards - mean) * torch.rsqrt(variance + 1e-8)


def grpo_advantage(rewards: Tensor, group: int, *, eps: float = 1e-4) -> Tensor:
    """Compare each response with the others to the same prompt.

    Args:
        rewards: (n,) with the `group` responses to one prompt side by side.
        group: responses per prompt, at least 2.
        eps: added to the standard deviation; TRL's value (verl has 1e-6).

    Returns:
        (n,) float32: (r - group mean) / (unbiased group sd + eps); a unanimous group gives zeros.
    """
    grouped = rewards.float().view(-1, group)
    centred = grouped - grouped.mean(dim=1, keepdim=True)
    return (centred / (grouped.std(dim=1, keepdim=True) + eps)).flatten()


def k3(logp: Tensor, reference: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token: never negative, zero where the two agree."""
    gap = reference - logp
    return gap.exp() - gap - 1


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats of each row of logits: (..., vocabulary) -> (...)."""
    logp = logits.float().log_softmax(dim=-1)
    return -(logp.exp() * logp).sum(dim=-1)


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average (n, t) values over the tokens that the mask keeps: each token counts the same."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def clipped_loss(logp: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return the PPO surrogate, negated, per token.

    Args:
        logp: (n, t) log-probabilities under the policy, with gradient.
        old: (n, t) the same under the policy that sampled.
        advantages: (n,) one per response.
        clip: the ratio may move the loss within [1 - clip, 1 + clip] only.
    """
    ratio = (logp - old).exp()
    gain = advantages.unsqueeze(1)
    return -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)


def policy_loss(
    logp: Tensor,
    old: Tensor,
    reference: Tensor,
    advantages: Tensor,
    entropies: Tensor,
    mask: Tensor,
    *,
    beta: float = 1e-3,
    bonus: float = 1e-3,
    clip: float = 0.2,
) -> Tensor:
    """Return the whole objective to minimise: surrogate + beta * KL - bonus * entropy.

    All of (n, t) but `advantages`, which is (n,); the result is a scalar, a mean over kept tokens.
    """
    per_token = clipped_loss(logp, old, advantages, clip) + beta * k3(logp, reference)
    return token_mean(per_token, mask) - bonus * token_mean(entropies, mask)
