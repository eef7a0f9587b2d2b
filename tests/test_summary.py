"""Laws of what one task says about one model."""

from evals.ledger import Row
from evals.stats import wilson
from evals.summary import item_means, measure_of, summarize


def row(item, correct, **changes):
    facts = {"sample": 0, "text": "", "finish": "stop", "n_tokens": 4, "format": True}
    return Row(item=item, correct=correct, **(facts | {"parsed": True} | changes))


def test_the_summary_shows_what_hides_behind_a_mean():
    """Truncation and missing answers stand beside the mean and Wilson's interval."""
    rows = [row("a", 1.0), row("b", 0.0, finish="length", parsed=False, format=False)]
    summary = summarize(rows)
    assert (summary.n, summary.mean, summary.ci95) == (2, 0.5, wilson(1, 2))
    assert (summary.truncated, summary.no_answer, summary.format) == (0.5, 0.5, 0.5)


def test_samples_are_averaged_before_items():
    """With k samples an item counts once, and the interval is over items."""
    rows = [row("a", 1.0), row("a", 0.0, sample=1), row("b", 1.0), row("b", 1.0, sample=1)]
    assert item_means(rows) == {"a": 0.5, "b": 1.0}
    summary = summarize(rows)
    assert (summary.n, summary.mean) == (2, 0.75)
    assert summary.ci95.low < 0.75 < summary.ci95.high


def test_items_that_all_fail_k_times_are_no_certainty():
    """The t interval of equal means is a point: 30 problems unsolved in 32 answers may yet be."""
    rows = [row(str(item), 0.0, sample=k) for item in range(30) for k in range(32)]
    assert summarize(rows).ci95 == wilson(0, 30)


def test_no_rows_are_no_claim():
    """An empty evaluation claims nothing."""
    assert summarize([]).ci95 == (0.0, 1.0)


def test_the_interval_of_shares_stays_between_nought_and_one():
    """One item sampled several times tells nothing of other items; a metric beyond 1 is left."""
    some = [Row("i", k, "", "stop", 1, True, True, k % 2, "s") for k in range(4)]
    assert summarize(some).ci95 == (0.0, 1.0)
    graded = [Row(str(k), 0, "", "stop", 1, True, True, 30.0 + k, "s") for k in range(4)]
    assert summarize(graded).ci95.high > 31


def test_what_nobody_told_is_no_rate():
    """Rows of a command, or of a sample file, do not claim that no answer was cut."""
    silent = [row(str(k), 1.0, finish="", n_tokens=0) for k in range(3)]
    told = summarize(silent)
    assert (told.tokens, told.truncated, told.no_answer, told.format) == (None,) * 4
    read = summarize([row("a", 1.0, finish="", text="4"), *silent])
    assert (read.truncated, read.no_answer) == (None, 0.0)
    assert summarize([*silent, row("a", 0.0, finish="length", n_tokens=8)]).truncated == 1.0


def test_a_mean_over_samples_says_how_many():
    """One answer an item is a mean, eight are avg@8, and unequal numbers are told as they are."""
    rows = [row(item, 1.0, sample=k) for item in "ab" for k in range(8)]
    assert measure_of(rows[:1]) == measure_of([]) == "mean"
    assert (measure_of(rows), summarize(rows).measure) == ("avg@8", "avg@8")
    assert measure_of(rows[4:]) == "avg@4-8"
