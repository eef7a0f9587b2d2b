"""Hypothesis strategies: operators with tensors and knobs from their declared ranges."""

from typing import NamedTuple

import torch
from hypothesis import assume
from hypothesis import strategies as st

from merger.operators import OPERATORS, Block, Operator, Place, Size, run_survey

SHAPES = st.sampled_from([(), (1,), (7,), (64,), (5, 6), (2, 3, 5), (33, 4)])
# How experts differ from the base: everywhere, in few entries (as RL leaves them), on a coarse grid
# (so that magnitudes tie, as bfloat16 does), not at all.
CHANGES = st.sampled_from(["dense", "sparse", "grid", "none"])


class Case(NamedTuple):
    """An operator with everything it needs."""

    op: Operator
    experts: list[torch.Tensor]
    base: torch.Tensor | None
    knobs: dict[str, object]
    keys: tuple[int, ...]

    def merge(self, **options):
        """Merge the case's tensors."""
        options = {"keys": self.keys} | options
        return merge_tensors(self.op.name, self.experts, self.base, **options, **self.knobs)


def merge_tensors(name, experts, base=None, *, keys=(), block_rows=None, **knobs):
    """Merge tensors in memory by blocks of some rows of the last axis, as the engine does files."""
    made, shape = OPERATORS[name], experts[0].shape
    rows = [t.reshape(-1, shape[-1] if shape else 1) for t in experts]
    ground = base.reshape(rows[0].shape) if base is not None and made.base != "unused" else None
    size = Size(*rows[0].shape, len(rows))
    known = {n: k for n, k in made.knobs.items() if k.default is not None}
    given = {n: (k.default,) * len(rows) if k.each else k.default for n, k in known.items()} | knobs
    step = block_rows or max(size.rows, 1)

    def blocks(pick=range):
        for i in pick(-(-size.rows // step)):
            cut = slice(i * step, (i + 1) * step)
            place = Place(i * step * size.cols, tuple(keys) or tuple(range(len(rows))))
            some = None if ground is None else ground[cut]
            yield Block(torch.stack([r[cut] for r in rows]), some, place)

    facts = run_survey(made.surveyed(size, given), blocks)
    done = [made(b.experts, b.base, knobs=given, facts=facts, place=b.place) for b in blocks()]
    return torch.cat(done).to(experts[0].dtype).reshape(shape)


@st.composite
def merges(draw, names=None, changes=CHANGES):
    """Draw an operator with tensors and knob values."""
    op = OPERATORS[draw(st.sampled_from(names or list(OPERATORS)))]
    fewest, most = op.experts
    k = draw(st.integers(fewest, min(4, most or 4)))
    shape, kind = draw(SHAPES), draw(changes)
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    base = torch.randn(shape, generator=g)
    experts = [(base + _change(kind, shape, g)).float() for _ in range(k)]
    knobs = {n: draw(value(knob, k)) for n, knob in op.knobs.items()}
    if "epsilon" in knobs and "density" in knobs:
        spread = zip(knobs["epsilon"], knobs["density"], strict=True)
        knobs["epsilon"] = [min(e, 0.9 * min(d, 1 - d)) if d < 1 else e for e, d in spread]
    assume("weight" not in knobs or sum(knobs["weight"]) > 0.05)
    with_base = op.base == "required" or (op.base == "optional" and draw(st.booleans()))
    return Case(op, experts, base if with_base else None, knobs, tuple(range(k)))


def value(knob, k):
    """Return the strategy of a knob's values, a list where each expert has its own."""
    if knob.choices:
        one = st.sampled_from(knob.choices)
    elif knob.kind is bool:
        one = st.booleans()
    elif knob.kind is int:
        one = st.integers(int(knob.low), int(knob.high))
    else:
        # Three decimals: a weight of 1e-308 is zero in float32, and no one's wish.
        inside = st.floats(knob.low, knob.high).map(lambda v: max(knob.low, round(v, 3)))
        one = inside | st.sampled_from([knob.low, knob.high])
    return st.lists(one, min_size=k, max_size=k) if knob.each else one


def _change(kind, shape, g):
    drawn = torch.randn(shape, generator=g) * 0.3
    if kind == "none":
        return torch.zeros(shape)
    if kind == "sparse":
        return drawn * (torch.rand(shape, generator=g) < 0.3)
    return (drawn * 8).round() / 8 if kind == "grid" else drawn
