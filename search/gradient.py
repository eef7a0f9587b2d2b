"""Warm starts from losses: softmax of the experts' own losses, and a few steps of gradient descent.

∂L/∂cᵢ = ⟨∇θ L, τᵢ⟩, so one backward pass gives the gradients of all coefficients, and of every
layer's too; each parameter's gradient is freed as soon as its inner products are taken, so the
memory is that of one more tensor. L is the loss of answers that the experts gave and the verifier
found right (search answers, paid for anyway), not AdaMerging's entropy, which rewards confidence.
Both points are starts like any other: they must win on search items to be kept.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.loglik import log_likelihoods
from merger.names import layer_of
from search.candidate import Candidate
from search.scorers import Scorer
from search.starts import Start, average
from search.world import World

TEMPERATURE = 0.1  # nats a token, of the softmax over losses
MOST, BATCH, STEPS, PACE = 64, 16, 20, 0.08

Trace = tuple[str, str]
Weights = dict[str, float]


def traces(world: World, experts: Sequence[str], n: int) -> list[Trace]:
    """Return prompts with right answers of the experts on the first n search items of a task."""
    found: list[list[Trace]] = []
    for expert in experts:
        answers = world.answers(average([expert]), "search", n)
        for task in world.tasks:
            if not isinstance(task, Scorer):
                items = {item.id: item for item in world.pools.items("search", task)}
                right = [row for row in answers[task.name] if row.correct == 1 and row.text]
                found.append([(world.answerer.prompt(task, items[r.item]), r.text) for r in right])
    mixed = chain.from_iterable(zip_longest(*found))  # no expert or task crowds out the others
    return [trace for trace in mixed if trace][:MOST]


def by_losses(world: World, experts: Sequence[str], known: Sequence[Trace]) -> Start:
    """Return the softmax of the experts' mean losses on these answers."""
    losses = []
    for expert in experts:
        world.holder.hold(average([expert]))
        found = log_likelihoods(world.answerer, known)
        losses.append(-sum(f.total for f in found) / sum(f.n_tokens for f in found))
    shares = np.exp(-(np.array(losses) - min(losses)) / TEMPERATURE)
    weights = dict(zip(experts, (shares / shares.sum()).round(4).tolist(), strict=True))
    return Start("softmax of losses", Candidate.of(weights))


def by_gradient(
    world: World, experts: Sequence[str], known: Sequence[Trace]
) -> tuple[Start, dict[str, Any]]:
    """Descend the loss over the coefficients by Adam; return where it ends, and what it saw.

    The facts hold the loss before and after, and at the start the gradient of every coefficient, by
    layer ("" for what lies outside the layers).
    """
    weights = torch.full((len(experts),), 1 / len(experts), dtype=torch.float64)
    adam = torch.optim.Adam([weights], lr=PACE, betas=(0.9, 0.99), eps=1e-12)
    losses: list[float] = []
    layers: dict[str, dict[str, float]] = {}
    for step in range(1, STEPS + 1):
        held = dict(zip(experts, weights.tolist(), strict=True))
        world.holder.hold(Candidate.of(held, float(weights.sum())))
        part = [known[(step * BATCH + i) % len(known)] for i in range(min(BATCH, len(known)))]
        loss, slopes = slopes_of(world, experts, part)
        layers = layers or slopes
        weights.grad = torch.tensor([sum(slopes[e].values()) for e in experts]).double()
        adam.step()
        weights.clamp_(min=0.0)
        losses.append(loss)
    found = {n: round(w, 4) for n, w in zip(experts, weights.tolist(), strict=True)}
    facts = {"losses": losses, "traces": len(known), "layers": layers, "weights": found}
    return Start("gradient", Candidate.of(found, round(float(weights.sum()), 4))), facts


def slopes_of(
    world: World, experts: Sequence[str], known: Sequence[Trace]
) -> tuple[float, dict[str, dict[str, float]]]:
    """Return the mean loss a token and its gradient by coefficient and layer, in one backward."""
    answerer, merged = world.answerer, world.holder.merged
    slopes: Mapping[str, dict[str, float]] = {e: defaultdict(float) for e in experts}

    def take(name: str, weight: Tensor) -> None:
        layer, gradient = layer_of(name), weight.grad
        place = str(layer.number) if layer else ""
        for expert in experts:
            if gradient is not None:
                change = merged.change(expert, name).to(gradient.device).view_as(gradient)
                slopes[expert][place] += float((gradient.float() * change).sum())
        weight.grad = None

    hooks = []
    for name, weight in answerer.model.named_parameters():
        weight.requires_grad_(True)
        hooks.append(weight.register_post_accumulate_grad_hook(lambda w, name=name: take(name, w)))
    pairs = [_encoded(answerer, trace) for trace in known]
    total, loss = sum(len(said) for _, said in pairs), 0.0
    try:
        for prompt, said in pairs:
            part = _loss(answerer.model, prompt, said) / total
            part.backward()
            loss += float(part.detach())
    finally:
        for hook in hooks:
            hook.remove()
        answerer.model.requires_grad_(False)
    return loss, {e: dict(s) for e, s in slopes.items()}


def _encoded(answerer: Any, trace: Trace) -> tuple[list[int], list[int]]:
    prompt, said = (answerer.tokenizer.encode(t, add_special_tokens=False) for t in trace)
    return prompt, said


def _loss(model: Any, prompt: Sequence[int], said: Sequence[int]) -> Tensor:
    """Return the summed loss of what was said."""
    device = next(model.parameters()).device
    tokens = torch.tensor([[*prompt, *said]], device=device)
    logits = model(input_ids=tokens).logits[0, len(prompt) - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, tokens[0, len(prompt) :], reduction="sum")
