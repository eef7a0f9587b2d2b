"""The tables of docs/results.md, from the scores of each seed: `python benchmarks/tables.py`.

Reads docs/tables/seed-N.json (or the files named) and writes build/tables/report.md, the tables
that `merger run tiny-tables` writes itself; prints the hypotheses of docs/results-plan.md. A seed
is one observation, so every p is of an exact two-sided sign test over seeds. "Above" is the
alternative: it must be so against each rival in each place, and the largest p counts. "Not below"
is the null: one rival above is enough to contradict it, and the least p counts, times their number.
Models that a stage did not pair (those of H5) get the wider interval of independent means.
Then Holm over the six. The least p of six seeds is 0.031, and six times that is 0.19: at this size
the corrected test can confirm nothing, and what is left are the intervals of each seed.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from evals.stats import holm, mcnemar_exact
from recipes.story import write_pooled

ROOT = Path(__file__).parents[1]
PLANNED = range(101, 107)
EXPERTS = ("base", "ded", "ind", "abd")
Stages = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """One hypothesis: `one` is above its rivals, or not below them, in each of these stages."""

    name: str
    above: bool
    one: str
    rivals: tuple[str, ...]
    places: tuple[str, ...]


CLAIMS = (
    Claim("H1", True, "merged", EXPERTS, ("harder", "outside")),
    Claim("H2", True, "merged", EXPERTS, ("abilities",)),
    Claim("H3", False, "merged", ("paper", "uniform"), ("abilities",)),
    Claim("H4", False, "merged", ("mixed", "triple", "soup"), ("harder", "abilities")),
    Claim("H5", False, "base", ("coin", "tags"), ("abilities",)),
    Claim("H6", False, "math", ("control", "longer"), ("transfer",)),
)


@dataclass(frozen=True)
class Row:
    """One model against one rival in one place: (difference, low, high) of every seed."""

    place: str
    rival: str
    seeds: tuple[tuple[float, float, float], ...]

    @property
    def counts(self) -> tuple[int, int]:
        """The seeds above 0 and those below."""
        found = [d for d, *_ in self.seeds]
        return sum(d > 0 for d in found), sum(d < 0 for d in found)

    @property
    def p(self) -> float:
        """The two-sided sign test; a seed without a difference says nothing."""
        return mcnemar_exact(*self.counts)


def rows_of(claim: Claim, seeds: Mapping[int, Stages]) -> list[Row]:
    """Return a row for each rival in each place."""
    return [
        Row(place, rival, tuple(_gap(s[place], claim.one, rival) for s in seeds.values()))
        for place in claim.places
        for rival in claim.rivals
    ]


def _gap(stage: Stages, one: str, rival: str) -> tuple[float, float, float]:
    """Return how far `one` is above a rival, paired where the stage paired them."""
    for pair in stage["pairs"]:
        if (pair["a"], pair["b"]) == (one, rival) and pair["task"] in ("mean", "arithmetic"):
            low, high = pair["ci95"]
            return 0 - pair["difference"], 0 - high, 0 - low
    ours, theirs = (_mean(stage, model) for model in (one, rival))
    gap, wide = ours[0] - theirs[0], 1.96 * sqrt(ours[1] + theirs[1])
    return gap, gap - wide, gap + wide


def _mean(stage: Stages, model: str) -> tuple[float, float]:
    """Return the mean over tasks of right-or-wrong scores, and its variance."""
    told = next(row for row in stage["models"] if row["model"] == model)["tasks"].values()
    variance = sum(t["mean"] * (1 - t["mean"]) / t["n"] for t in told) / len(told) ** 2
    return sum(t["mean"] for t in told) / len(told), variance


def p_of(claim: Claim, rows: Sequence[Row]) -> float:
    """Return the p of a claim: evidence for it if it is `above`, against it if it is not."""
    if claim.above:
        return max(r.p if r.counts[0] > r.counts[1] else 1.0 for r in rows)
    return min(1.0, len(rows) * min(r.p if r.counts[0] < r.counts[1] else 1.0 for r in rows))


def agreeing(claim: Claim, rows: Sequence[Row]) -> int:
    """Count the seeds whose intervals all say the claim, or, of "not below", none denies it."""
    seeds = zip(*(row.seeds for row in rows), strict=True)
    return sum(all(low > 0 if claim.above else high >= 0 for _, low, high in s) for s in seeds)


def lines(seeds: Mapping[int, Stages]) -> Iterator[str]:
    """Draw the hypotheses as two tables in markdown."""
    table = {claim: rows_of(claim, seeds) for claim in CLAIMS}
    ps = [p_of(claim, rows) for claim, rows in table.items()]
    yield "| | claim | seeds that agree | p | Holm |\n|---|---|---|---|---|"
    for (claim, rows), p, held in zip(table.items(), ps, holm(ps), strict=True):
        kind = "above" if claim.above else "not below"
        said = f"{claim.one} {kind} {', '.join(claim.rivals)} ({', '.join(claim.places)})"
        agree = f"{agreeing(claim, rows)} of {len(seeds)}"
        yield f"| {claim.name} | {said} | {agree} | {p:.3g} | {held:.3g} |"
    numbers = " | ".join(map(str, seeds))
    yield f"\n| | place | against | {numbers} | above, below | p |"
    yield "|---|---|---|" + "---|" * (len(seeds) + 2)
    for claim, rows in table.items():
        for row in rows:
            cells = [f"{100 * d:+.1f} [{100 * a:+.1f}, {100 * b:+.1f}]" for d, a, b in row.seeds]
            cells = [claim.name, row.place, f"{claim.one} − {row.rival}", *cells]
            cells += ["{}, {}".format(*row.counts), f"{row.p:.3g}"]
            yield f"| {' | '.join(cells)} |"


def main() -> int:
    """Write the tables over seeds and print the hypotheses; 1 while a planned seed is missing."""
    files = [Path(name) for name in sys.argv[1:]] or sorted(ROOT.glob("docs/tables/seed-*.json"))
    seeds = {
        int(re.findall(r"\d+", file.stem)[-1]): json.loads(file.read_text())["stages"]
        for file in files
    }
    out = ROOT / "build/tables"
    out.mkdir(parents=True, exist_ok=True)
    print(f"{write_pooled(out, seeds, PLANNED).relative_to(ROOT)}\n")
    print("\n".join(lines(seeds)))
    if left := [seed for seed in PLANNED if seed not in seeds]:
        print(f"\nNo claim yet: seeds {', '.join(map(str, left))} are missing.")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
