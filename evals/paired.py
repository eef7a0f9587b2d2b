"""Two models on the same items: which items flipped, the difference, and whether it is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.ledger import Row
from evals.runner import item_means
from evals.stats import Paired, compare
from merger.errors import EvalError

COLUMNS = ("task", ">n", ">diff", "95 %", ">p", ">won/lost", ">mde")


@dataclass(frozen=True)
class Comparison:
    """b against a on one task; `gained` and `lost` name the items that only b, only a got right."""

    task: str
    result: Paired
    gained: tuple[str, ...]
    lost: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON values, fractions of 1."""
        r = self.result
        ends: dict[str, Any] = {"task": self.task, "n": r.n, "difference": r.difference}
        ends |= {"ci95": list(r.ci95), "p": r.p, "wins": r.wins, "losses": r.losses}
        return ends | {"mde": r.mde}

    def cells(self) -> tuple[str, ...]:
        """Return the comparison as table cells under `COLUMNS`, in points of 100."""
        r = self.result
        p = "<.001" if r.p < 0.001 else f"{r.p:.3f}".lstrip("0") if r.p < 1 else "1"
        interval = f"[{100 * r.ci95.low:+.1f}, {100 * r.ci95.high:+.1f}]"
        head = (self.task, str(r.n), f"{100 * r.difference:+.1f}", interval, p)
        return (*head, f"{r.wins}/{r.losses}", f"{100 * r.mde:.1f}")


def compare_scores(task: str, a: Mapping[str, float], b: Mapping[str, float]) -> Comparison:
    """Compare scores by item id on the items both have; `EvalError` where there are none."""
    common = [item for item in a if item in b]
    if not common:
        raise EvalError(
            f"the two share no items of {task}",
            "Evaluate both with the same split, levels and seed.",
        )
    result = compare([a[i] for i in common], [b[i] for i in common])
    gained = tuple(i for i in common if b[i] > a[i])
    return Comparison(task, result, gained, tuple(i for i in common if b[i] < a[i]))


def compare_rows(task: str, a: Sequence[Row], b: Sequence[Row]) -> Comparison:
    """Compare ledger rows; samples are averaged within their item first."""
    return compare_scores(task, item_means(a), item_means(b))
