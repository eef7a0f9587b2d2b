"""What a terminal and a pipe show of a search: 80 columns, the best, what racing saved."""

import io

import pytest
from rich.console import Console

from merger.cli.console import box, table
from merger.cli.screen import INSIDE, Panel, line, spark
from search.candidate import Candidate
from search.trial import Trial


def trial(number, value, **facts):
    candidate = Candidate.of({"ded": 0.7, "ind": 0.2, "abd": 0.1}, 1.0 + number / 10, 0.31, "ram")
    facts = {"items": 300, "worker": "host:7", **facts}
    return Trial(number, "COMPLETE", candidate, "gp", (value,), facts, 1.0)


def test_the_box_fits_and_says_where_the_search_stands():
    """Lines are at most 76 wide; they hold the count, the best, the part saved, and the outlook."""
    panel, best = Panel(8, 60, "gp d=5 · A/A noise 0.0%"), trial(1, 0.61)
    panel.tell(best, best)
    worth = {"expected": -0.019, "expected_error": 0.006, "beats": 0.934}
    known = Trial(1, "COMPLETE", best.candidate, "gp", (0.61,), best.facts | worth, 1.0)
    panel.tell(trial(2, 0.4, items=75, raced_out=True), known)
    text = panel.lines()
    assert max(map(len, text)) <= INSIDE
    whole = "\n".join(text)
    for part in (
        "10/60",
        "raced out 1 (50%)",
        "225 answers saved",
        "best  61.0",
        "P(best > reference) 0.93 · expect -1.9 ± 0.6",
        "▓▓░░░░░░   75/300   40.0 out",
    ):
        assert part in whole
    under_way = {"items": 50, "of": 300, "gap": -0.013}
    panel.tell(Trial(3, "RUNNING", best.candidate, "gp", (), under_way, 0.0), None)
    assert panel.lines()[-1].endswith("▓░░░░░░░   50/300  Δ -1.3")


@pytest.mark.parametrize(("total", "count", "part"), [(None, "1", 6), (2, "1/2", 12)])
def test_where_time_is_limited_the_end_is_told_by_it(total, count, part):
    """Trials that nobody counts to are not shown; the bar is of what ends first."""
    panel = Panel(1, total, seconds=1000.0)
    panel.begun -= 250
    assert panel.lines()[0] == f"search {'█' * part:░<24} {count} trials  ETA 12m30s"


def test_a_pipe_gets_a_line_a_trial():
    """A line says what was tried, its score, and why it ended early or failed."""
    best = trial(1, 0.61)
    assert line(best, best).endswith("61.0  best")
    assert line(trial(2, 0.4, items=75, raced_out=True), best).endswith("out at 75")
    failed = Trial(3, "FAIL", best.candidate, "gp", (), {"error": "OutOfMemory: 7 GB\nmore"}, 1.0)
    assert line(failed, best).endswith("failed: OutOfMemory: 7 GB")
    assert max(len(line(t, best)) for t in (best, trial(2, 0.4, raced_out=True))) <= 80


def test_sparks_span_their_range():
    """The least is the lowest block, the largest the highest."""
    assert spark([0.1, 0.5, 0.3]) == "▁█▄" or spark([0.1, 0.5, 0.3]) == "▁█▅"


def test_the_cursor_waits_below_the_box(monkeypatch):
    """A terminal writes ^C on a line of its own, not behind the frame, which would break it."""
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=80)
    monkeypatch.setattr("merger.cli.console.console", lambda: terminal)
    with box("title", lambda: ["inside"]) as refresh:
        refresh()
        assert file.getvalue().endswith("╯\n")


def test_numbers_are_never_folded(capsys):
    """In a narrow place texts give way, between their words, and numbers stay whole."""
    table("", ("name", ">number"), [("seven words " * 7, "[−10.0, +27.8]")])
    lines = capsys.readouterr().out.splitlines()
    assert any("[−10.0, +27.8]" in line for line in lines)
    assert max(map(len, lines)) <= 80
