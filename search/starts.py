"""Warm starts: the points a search scores before it proposes any of its own.

They are used three times: as baselines of the report, as what the sampler learns from first, and,
since single experts, pairs … and the uniform average are all coalitions of the experts, as an
exact Shapley table that costs nothing more. The paper's 1.0 / 0.2 / 0.1 stands twice: normalised,
as mergekit's `linear` computes it, and with its literal sum as scale, as its equation reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from search.candidate import Candidate
from search.space import Choice, Params, Range, Space

PAPER = {"ded": 1.0, "ind": 0.2, "abd": 0.1}
# Coalitions grow as 2^K: above this many experts only single ones and the whole are scored.
MAX_COALITIONS = 6


@dataclass(frozen=True)
class Start:
    """A candidate with the reason why it is tried; `raced` says whether it may be stopped early."""

    source: str
    candidate: Candidate
    raced: bool = True


def paper_weights(experts: Sequence[str]) -> dict[str, float] | None:
    """Return the paper's weights: by ability where names tell it, else in the order listed.

    None unless there are three experts: the paper gives weights for no other number.
    """
    if len(experts) != len(PAPER):
        return None
    named = {name: w for name in experts for key, w in PAPER.items() if key in name.lower()}
    if len(named) == len(experts) and sorted(named.values()) == sorted(PAPER.values()):
        return named
    return dict(zip(experts, PAPER.values(), strict=True))


def coalitions(experts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every non-empty set of experts, small ones first."""
    sizes = range(1, len(experts) + 1)
    return [members for n in sizes for members in combinations(experts, n)]


def average(members: Sequence[str]) -> Candidate:
    """Return the plain average of these experts."""
    return Candidate.of(dict.fromkeys(members, 1.0))


def references(experts: Sequence[str]) -> dict[str, Candidate]:
    """Return the recipes a winner must beat to replace them, the one that stays first on top."""
    paper = paper_weights(experts)
    table = {"paper": Candidate.of(paper)} if paper else {}
    return table | {"uniform": average(experts)}


def warm_starts(experts: Sequence[str], norms: Mapping[str, float] | None = None) -> list[Start]:
    """Return the starts in the order they are tried, each candidate once.

    `norms` are the lengths of the task vectors, for shares that make every expert's change equally
    long. References come first: every later candidate is raced against one of them.
    """
    different: dict[str, Start] = {}
    for start in _starts(experts, norms):
        different.setdefault(start.candidate.key, start)
    return list(different.values())


def _starts(experts: Sequence[str], norms: Mapping[str, float] | None) -> Iterator[Start]:
    for name, candidate in references(experts).items():
        yield Start(name, candidate, raced=False)
    whole = len(experts) <= MAX_COALITIONS
    for members in coalitions(experts) if whole else [(name,) for name in experts]:
        yield Start("+".join(members), average(members), raced=False)
    paper = paper_weights(experts)
    if paper:
        yield Start("paper sum", Candidate.of(paper, scale=sum(paper.values())))
    if norms and all(norms.get(name, 0) > 0 for name in experts):
        yield Start("equal norm", Candidate.of({name: 1 / norms[name] for name in experts}))
    yield Start("ram", Candidate.of(dict.fromkeys(experts, 1.0), consensus="ram"))


def fill(space: Space, n: int, seed: int) -> list[Params]:
    """Return n points spread evenly over the space (scrambled Sobol; words taken in turn)."""
    from scipy.stats import qmc  # half a second

    if n <= 0:
        return []
    knobs = space.knobs()
    numbers = {name: knob for name, knob in knobs.items() if isinstance(knob, Range)}
    design = qmc.Sobol(len(numbers), scramble=True, rng=seed).random_base2((n - 1).bit_length())
    points: list[Params] = []
    for i, row in enumerate(design[:n]):
        at = zip(numbers.items(), row, strict=True)
        point: Params = {name: knob.at(float(z)) for (name, knob), z in at}
        for name, other in knobs.items():
            if isinstance(other, Choice):
                point[name] = other.words[i % len(other.words)]
        points.append(point)
    return points
