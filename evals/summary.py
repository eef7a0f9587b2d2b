"""What the rows of one task say about one model: mean, interval, how the answers ended.

Samples are averaged within their item first, so the interval is over items (Miller, arXiv
2411.00640); such a mean is labelled avg@k. A rate that nobody counted is None, never 0: a command
and a multiple choice tell of no budget that cut an answer.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evals.ledger import Row
from evals.stats import Interval, mean_interval, wilson


@dataclass(frozen=True)
class Summary:
    """What one task says about one model.

    `n` counts items, `measure` is "mean" or "avg@k"; `tokens` are those of an answer, the other
    rates are shares of all answers; None where nothing is known.
    """

    n: int
    measure: str
    mean: float
    ci95: Interval
    format: float | None
    tokens: float | None
    truncated: float | None
    no_answer: float | None


def summarize(rows: Sequence[Row]) -> Summary:
    """Return the summary of one task's rows.

    The interval is Wilson's for one 0/1 answer an item; with several samples, or graded scores, it
    is the t interval over the items' means.
    """
    values = list(item_means(rows).values())
    ended = [row for row in rows if row.finish]
    read = [row for row in rows if row.finish or row.text or not row.parsed]
    return Summary(
        n=len(values),
        measure=measure_of(rows),
        mean=_mean(values) or 0.0,
        ci95=_interval(values, single=len(values) == len(rows)),
        format=_mean(r.format for r in read),
        tokens=_mean(r.n_tokens for r in ended),
        truncated=_mean(r.truncated for r in ended),
        no_answer=_mean(not r.parsed for r in read),
    )


def measure_of(rows: Sequence[Row]) -> str:
    """Return "mean" for one answer an item, "avg@k" for k, "avg@j-k" where items have j to k."""
    counts = set(Counter(row.item for row in rows).values()) or {1}
    if counts == {1}:
        return "mean"
    return "avg@" + "-".join(map(str, sorted({min(counts), max(counts)})))


def item_means(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean score of each item over its samples, in the rows' order."""
    table: dict[str, list[float]] = {}
    for row in rows:
        table.setdefault(row.item, []).append(row.correct)
    return {item: sum(scores) / len(scores) for item, scores in table.items()}


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None


def _interval(values: Sequence[float], *, single: bool) -> Interval:
    """Return the interval of a mean, inside [0, 1] where all the scores are."""
    # Of equal items (none solved in k answers) the t interval is a point, which claims too much.
    equal = len(set(values)) == 1 < len(values)
    shares = all(0 <= value <= 1 for value in values)
    if shares and (equal or (single and {*values} <= {0.0, 1.0})):
        return wilson(sum(values), len(values))
    low, high = mean_interval(values)
    return Interval(max(low, 0.0), min(high, 1.0)) if shares else Interval(low, high)
