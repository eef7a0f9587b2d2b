"""Two models on the same items: which items flipped, the difference, and whether it is real.

Answers are matched by item, so the difficulty of items cancels. The test is McNemar's exact one for
right and wrong, else sign flips; beside the difference stand what so many items can see at all
(power 0.8) and what they rule out (two one-sided t tests, Schuirmann 1987). See stats.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.ledger import Row
from evals.stats import Paired, compare
from evals.summary import item_means, measure_of
from merger.errors import EvalError

COLUMNS = (">diff", ">95 %", ">won/\nlost", ">p\nHolm", ">sees", ">rules\nout")
LEGEND = (
    "In points: sees is the difference that so many items show four times out of five (smaller "
    "ones are mostly missed); larger ones than the last are ruled out (two one-sided t tests, 5 %)."
)


@dataclass(frozen=True)
class Comparison:
    """b against a on one task; `gained` and `lost` name the items that only b, only a got right.

    `measure` is "mean" or "avg@k", or both sides' where they differ.
    """

    task: str
    result: Paired
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    measure: str = "mean"

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON values, fractions of 1."""
        told = self.result._asdict() | {"ci95": list(self.result.ci95)}
        return {"task": self.task, "measure": self.measure, **told}

    def cells(self, adjusted: float) -> tuple[str, ...]:
        """Return the comparison as table cells under `COLUMNS`, in points of 100."""
        r = self.result
        p = "<.001" if adjusted < 0.001 else f"{adjusted:.3f}".lstrip("0") if adjusted < 1 else "1"
        interval = f"[{100 * r.ci95.low:+.1f}, {100 * r.ci95.high:+.1f}]"
        points = (f"{100 * one:.1f}" for one in (r.mde, r.margin))
        return (f"{100 * r.difference:+.1f}", interval, f"{r.wins}/{r.losses}", p, *points)


def compare_scores(
    task: str, a: Mapping[str, float], b: Mapping[str, float], measure: str = "mean"
) -> Comparison:
    """Compare scores by item id on the items both have; `EvalError` where there are none."""
    common = sorted(item for item in a if item in b)  # resampling draws by place: one order
    if not common:
        remedy = "Evaluate both with the same split, levels and seed."
        raise EvalError(f"the two share no items of {task}", remedy)
    result = compare([a[i] for i in common], [b[i] for i in common])
    gained = tuple(i for i in common if b[i] > a[i])
    return Comparison(task, result, gained, tuple(i for i in common if b[i] < a[i]), measure)


def compare_rows(task: str, a: Sequence[Row], b: Sequence[Row]) -> Comparison:
    """Compare ledger rows; samples are averaged within their item first."""
    measures = dict.fromkeys((measure_of(a), measure_of(b)))
    return compare_scores(task, item_means(a), item_means(b), ", ".join(measures))


def labelled(task: str, measure: str) -> str:
    """Return a task's name in a table: the plain mean of one answer an item is not said."""
    return task if measure == "mean" else f"{task} {measure}"
