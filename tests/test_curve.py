"""The learning curve: read back after a kill, thinned for a terminal, drawn as a picture."""

import pytest

from recipes.rl.curve import draw, read_curve, thinned

ROWS = [{"step": n, "reward": float(n), "correct": n / 50, "length": 3.0} for n in range(1, 51)]


def test_a_line_that_a_kill_cut_off_is_no_row(tmp_path):
    """Whole lines end with a line feed; what follows the last one is made again."""
    (tmp_path / "curve.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_curve(tmp_path) == [{"step": 1}, {"step": 2}]


def test_thinning_averages_neighbours():
    """Fifty steps in twenty places: parts of three, the last of two."""
    got = thinned(ROWS, "reward", 20)
    assert len(got) == 17
    assert (got[0], got[-1]) == (2.0, 49.5)
    assert thinned(ROWS[:4], "reward", 20) == [1.0, 2.0, 3.0, 4.0]


def test_a_picture_is_drawn_where_matplotlib_is(tmp_path, monkeypatch):
    """Runs of different length share the axes; without the extra nothing is written."""
    pytest.importorskip("matplotlib")
    assert draw({"ded": ROWS, "ind": ROWS[:7]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    monkeypatch.setattr("recipes.rl.curve.find_spec", lambda name: None)
    assert not draw({"ded": ROWS}, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
