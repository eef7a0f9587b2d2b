"""Do these experts descend from this base? Verdicts in words, with the figures behind them.

Fine-tuning moves weights by little, and unrelated models are almost orthogonal in their matrices.
A wrong base shows in what experts have in common: each task vector then is one same way (from that
base to the model they really started from) and a part of its own, so all inner products are equal
and not small. A sibling, itself another expert of that start, has the same way in its own weights,
the other way round; where training drifts along the weights too, that is hidden, but two experts
and a sibling are still three models at one distance from each other, in every layer alike, while a
base lies nearer to its experts than they to each other. Two steps of one run point the same way
while others do not. Thresholds were set on simulated families (tests) and on the embedded one, in
which specialists meet at 0.03.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from merger.geometry.streamed import Geometry
from merger.geometry.sums import Array, Sums

# Cosine of expert and base over matrices: 0.99 and more for fine-tunes, near 0 for strangers.
FOREIGN = 0.5
FAR = 0.9
# Cosine of two task vectors: at COMMON they are one way whatever else holds; from SHARED on if
# three experts or more have equal inner products (ALIKE); from HINT on if the base goes it too.
COMMON, SHARED, HINT = 0.6, 0.3, 0.15
ALIKE = 1.3


class Verdict(NamedTuple):
    """What was found about one expert.

    Kinds: fine, identical, foreign, far, unlike (seen alone); wrong base, sibling base, same run
    (from what it shares with others).
    """

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
    kin = [i for i, v in enumerate(verdicts) if v.kind in ("fine", "far")]
    if len(kin) > 1:
        for i, (kind, why) in _together(geometry, sums, kin).items():
            verdicts[i] = Verdict(geometry.experts[i], kind, why)
    return verdicts


def short(name: str) -> str:
    """Return the last part of a path, which is what tells models apart on a screen."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def labels(names: Sequence[str]) -> list[str]:
    """Return the last parts of paths, with as many more as tell all of them apart."""
    paths, found, depth = [name.rstrip("/") for name in names], list[str](), 0
    while len(set(found)) < len(set(paths)):
        depth += 1
        found = ["/".join(path.split("/")[-depth:]) for path in paths]
    return found


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
    lone = "; one expert alone cannot show a sibling" if len(geometry.experts) == 1 else ""
    return Verdict(name, "fine", f"kin of {base}: {told}{lone}")


def _together(geometry: Geometry, sums: Sums, kin: list[int]) -> dict[int, tuple[str, str]]:
    """Judge experts by what they have in common: expert -> kind and reason, where there is one."""
    dots, base = sums.dots[np.ix_(kin, kin)], short(geometry.base)
    lengths = np.sqrt(np.diag(dots))
    cosines = dots / np.outer(lengths, lengths)
    pairs = np.triu_indices(len(kin), 1)
    inner, angles = dots[pairs], cosines[pairs]
    low, high = float(angles.min()), float(angles.max())
    equal = low > 0 and len(kin) > 2 and inner.max() < ALIKE * inner.min()
    sign = ""
    if low >= HINT and _opposed(-sums.along[kin], float(inner.mean())):
        sign = f"{base} itself went it the other way round"
    elif low >= SHARED and _at_one_distance(dots) and _even(geometry, kin):
        sign = f"{base} lies as far from them as they from each other, in every layer alike"
    if low >= COMMON or (low >= SHARED and equal) or sign:
        way = float(np.sqrt(inner.mean() / sums.base))
        told = f"all task vectors share a way of {way:.3g} |{base}| "
        told += f"(cosines {low:.2f} to {high:.2f})"
        ends = [m for m, i in enumerate(kin) if dots[m, m] < ALIKE * inner.mean()]
        end = f"; {short(geometry.experts[kin[ends[0]]])} lies at its end" if len(ends) == 1 else ""
        if sign:
            text = f"wrong base? {base} looks like a sibling, one more child of their start: {told}"
            return dict.fromkeys(kin, ("sibling base", f"{text}, and {sign}{end}"))
        text = f"wrong base? they started from a model nearer to them than {base}: {told}{end}"
        lone = "; or one was made of the other: a later step, a merge, an adapter"
        return dict.fromkeys(kin, ("wrong base", text + (lone if len(kin) == 2 else "")))
    found = {}
    for m, n in zip(*pairs, strict=True):
        if cosines[m, n] >= COMMON:
            for i, j in ((kin[m], kin[n]), (kin[n], kin[m])):
                text = f"a step of the run of {short(geometry.experts[j])}: their task vectors "
                text += f"meet at cosine {cosines[m, n]:.2f}, others at {low:.2f}"
                found[i] = ("same run", text)
    return found


def _opposed(against: Array, way: float) -> bool:
    """Say whether all experts move against the base by just the square of the way they share."""
    return bool(way > 0 and np.all(against > way / ALIKE**2) and np.all(against < way * ALIKE**2))


def _at_one_distance(dots: Array) -> bool:
    """Say whether experts are as far from each other as from the base."""
    squares = np.diag(dots)
    between = (squares[:, None] + squares - 2 * dots)[np.triu_indices(len(dots), 1)]
    apart = np.sqrt([*squares, *between])
    return bool(apart.max() < ALIKE * apart.min())


def _even(geometry: Geometry, kin: list[int]) -> bool:
    """Say whether the first two experts meet at about one angle in all layers, three or more."""
    i, j = kin[:2]
    layers = [s.dots for name, s in geometry.by_layer().items() if name[-1].isdigit()]
    cosines = [float(d[i, j] / np.sqrt(d[i, i] * d[j, j] or 1)) for d in layers]
    return len(cosines) > 2 and 0 < max(cosines) < ALIKE * min(cosines)
