"""Does this expert descend from this base? A verdict in words, with the figures behind it.

Fine-tuning moves weights by little: a few percent of their norm after long supervised training,
less after RL. Unrelated models are almost orthogonal in their matrices. A wrong base (an ancestor
of the right one) shows in what experts have in common: their task vectors all hold the way from
that ancestor, so they point one way. Thresholds lie far from what we know of either side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from merger.geometry.streamed import Geometry
from merger.geometry.sums import Sums

# Cosine of expert and base over matrices: 0.99 and more for fine-tunes, near 0 for strangers.
FOREIGN = 0.5
FAR = 0.9
# Cosine of two task vectors: specialists of one base lie near 0 to 0.5; with a wrong base, if the
# way to the right one is as long as twice the experts' own, at 0.8 and more.
COMMON = 0.75


class Verdict(NamedTuple):
    """What was found about one expert: fine, identical, foreign, far, wrong base or unlike."""

    expert: str
    kind: str
    why: str  # in words and figures

    @property
    def text(self) -> str:
        """Return the reason as a line of its own."""
        return f"{short(self.expert)}: {self.why}"

    @property
    def ok(self) -> bool:
        """Say whether the expert can be merged without a warning."""
        return self.kind in ("fine", "identical")


def lineage(geometry: Geometry) -> list[Verdict]:
    """Judge every expert of a geometry (a sampled one will do)."""
    sums = geometry.total(lambda name: name in geometry.matrices)
    if not sums.numel:
        sums = geometry.total()
    verdicts = [_alone(geometry, sums, i) for i in range(len(geometry.experts))]
    return [_together(geometry, sums, i, v) for i, v in enumerate(verdicts)]


def short(name: str) -> str:
    """Return the last part of a path, which is what tells models apart on a screen."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def _alone(geometry: Geometry, sums: Sums, i: int) -> Verdict:
    name, base = geometry.experts[i], short(geometry.base)
    figures = sums.figures()
    relative, cosine = figures["relative"][i] or 0.0, figures["base_cosine"][i] or 0.0
    told = f"|task vector| is {relative:.3g} of |{base}|, cosine with it {cosine:.3f}"
    unlike = geometry.unlike.get(name, 0)
    if not np.isfinite(sums.dots[i, i] + sums.along[i] + sums.base):
        return Verdict(name, "unlike", "holds values that are not finite")
    if unlike > len(geometry.tensors):
        text = f"another architecture than {base}: {unlike} tensors have no counterpart"
        return Verdict(name, "unlike", text)
    if relative == 0:
        return Verdict(name, "identical", f"every weight equals {base}")
    if cosine < FOREIGN:
        return Verdict(name, "foreign", f"foreign to {base}, no descendant of it: {told}")
    if cosine < FAR:
        text = f"far from {base}: a wrong base, or very long training: {told}"
        return Verdict(name, "far", text)
    return Verdict(name, "fine", f"descends from {base}: {told}")


def _together(geometry: Geometry, sums: Sums, i: int, verdict: Verdict) -> Verdict:
    squares = np.diag(sums.dots)
    others = [j for j in range(len(squares)) if j != i and squares[j] > 0]
    if verdict.kind not in ("fine", "far") or not others:
        return verdict
    cosines = [sums.dots[i, j] / np.sqrt(squares[i] * squares[j]) for j in others]
    if min(cosines) < COMMON:
        return verdict
    lowest = float(min(cosines))
    text = (
        "wrong base? its task vector shares its direction with the other "
        f"experts' (cosine {lowest:.3f} or more): they descend from a model nearer than "
        f"{short(geometry.base)}, or are one expert twice"
    )
    return Verdict(verdict.expert, "wrong base", text)
