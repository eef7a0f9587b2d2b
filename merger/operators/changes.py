"""Task vectors added to the base: the arithmetic that a whole family of operators ends in.

Two ways to join k sparse or dense changes: add them all, or let each entry elect a sign by majority
and add those that agree (TIES). Both may divide by the weights that took part. A vote of exactly
zero counts as +, as in mergekit. Votes are rounded to the block's dtype, as there, and added in
float64, where that is exact, so that the order of the experts cannot turn an election. Other sums
are float64 too and rounded once, so that a combination of equal tensors with coefficients that sum
to one gives that tensor back bit for bit.
"""

from collections.abc import Iterable, Sequence

from merger import native
from merger.errors import SpecError
from merger.late import Tensor, torch

_FULL = 64  # entries; a multiple of what any processor takes at a time


def weighted_sum(tensors: Sequence[Tensor] | Tensor, weights: Iterable[float]) -> Tensor:
    """Return Σ wᵢ·xᵢ of tensors of any float dtype in float64, added in the order given."""
    if native.suits(tensors):
        return native.weighted_sum(tensors, [*weights])
    shape, entries = tensors[0].shape, tensors[0].numel()
    # Multiplied and added at once, which rounds differently where a vector register is not full:
    # so all are, and no bit depends on the size of a block.
    room = -(-entries // _FULL) * _FULL
    total = torch.zeros(room, dtype=torch.float64, device=tensors[0].device)
    term = torch.zeros_like(total)
    for tensor, weight in zip(tensors, weights, strict=True):
        term[:entries].view(shape).copy_(tensor)
        total.add_(term, alpha=weight)
    return total[:entries].view(shape)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in what changes are taken in: one of bfloat16 as float32."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def normal(weight: Sequence[float]) -> float:
    """Return the sum that weights are divided by; a SpecError where it is zero."""
    if abs(total := sum(weight)) >= 1e-8:
        return total
    told = ", ".join(f"{w:g}" for w in weight)
    law = f"the weights {told} sum to zero and cannot be normalised"
    raise SpecError(law, "Change a weight, or set normalize: false.")


def shares(weight: Sequence[float]) -> list[float]:
    """Return wᵢ / Σ wᵢ."""
    total = normal(weight)
    return [w / total for w in weight]


def factors(weight: Sequence[float], *, normalize: bool, scale: float) -> list[float]:
    """Return scale·wᵢ, divided by Σ wᵢ if asked (and if that is not zero)."""
    total = sum(weight)
    divisor = total if normalize and abs(total) >= 1e-8 else 1.0
    return [w * scale / divisor for w in weight]


def add_all(
    base: Tensor,
    changes: Tensor,
    weight: Sequence[float],
    *,
    normalize: bool,
    scale: float,
) -> Tensor:
    """Return base + Σ fᵢδᵢ, f the factors of the weights, not yet rounded."""
    shares = factors(weight, normalize=normalize, scale=scale)
    return weighted_sum([base, *changes], [1.0, *shares])


def minority(votes: Tensor) -> Tensor:
    """Return the sign bit of Σ votes, (k, rows, cols): whole numbers of the votes' own width.

    Votes joined to it by exclusive or are positive where they share the elected sign. Arithmetic on
    bits takes a fraction of the time of comparisons and masks.
    """
    poll = votes[0].to(torch.float64, copy=True)
    for vote in votes[1:]:
        poll.add_(vote.double())
    kind = torch.int64 if votes.dtype == torch.float64 else torch.int32
    return poll.to(votes.dtype).view(kind).bitwise_and_(torch.iinfo(kind).min)


def add_elected(
    base: Tensor,
    changes: Tensor,
    weight: Sequence[float],
    *,
    normalize: bool,
    scale: float = 1.0,
    weighted: bool = True,
    least: float | None = None,
) -> Tensor:
    """Add the weighted changes whose sign is the elected one.

    An entry that is zero has no sign and takes no part, neither in the sum nor in the divisor.

    Args:
        base: (rows, cols).
        changes: trimmed task vectors (k, rows, cols); they are written over.
        weight: one per expert; a negative weight turns the sign its expert votes for.
        normalize: divide by the sum of the weights that took part, per entry.
        scale: factor on the joined change.
        weighted: let a vote count by its weight (as mergekit does), or as it is (the paper).
        least: what is divided by at least; without it, 0/0 is 0.
    """
    if least is None:
        least = 0.0 if min(weight) < 0 else torch.finfo(base.dtype).tiny
    if native.suits([base, *changes], "float32"):
        how = {"weighted": weighted, "normalize": normalize}
        return native.elect(base, changes, weight, **how, least=least, scale=scale)
    sign = None if weighted else minority(changes)
    changes.mul_(torch.tensor(weight, dtype=base.dtype, device=base.device).view(-1, 1, 1))
    sign = minority(changes) if sign is None else sign
    agreeing = changes.view(sign.dtype).bitwise_xor_(sign).view(base.dtype).clamp_(min=0)
    total = added(agreeing)
    if normalize:
        took_part = agreeing.sign_()
        divisor = took_part[0] * weight[0]
        for one, w in zip(took_part[1:], weight[1:], strict=True):
            divisor.add_(one, alpha=w)  # 0 or w: exact, fused or not
        if least:
            divisor.clamp_(min=least)
        else:
            divisor.masked_fill_(divisor == 0, 1.0)
        total.div_(divisor)
    if scale != 1:
        total.mul_(scale)
    return total.view(sign.dtype).bitwise_xor_(sign).view(base.dtype).add_(base)


def added(changes: Tensor) -> Tensor:
    """Return Σ changes (k, rows, cols) -> (rows, cols), added one by one; new memory."""
    # A reduction over the first axis promises no order.
    total = changes[0] + changes[1] if len(changes) > 1 else changes[0].clone()
    for change in changes[2:]:
        total.add_(change)
    return total
