"""The learning curve: read back after a kill, thinned for a terminal, drawn as a picture."""

import json

import pytest

from merger.errors import RecipeError
from recipes.rl.curve import draw, read_curve, read_record, thinned

SAME = {"format": 1.0, "worked": 1.0, "length": 3.0}
ROWS = [{"step": n, "reward": float(n), "correct": n / 50, **SAME} for n in range(1, 51)]


def test_a_line_that_a_kill_cut_off_is_no_row(tmp_path):
    """Whole lines end with a line feed; what follows the last one is made again."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS[:2])
    (tmp_path / "curve.jsonl").write_text(lines + '{"ste')
    assert read_curve(tmp_path) == ROWS[:2]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"step": 2}', b"\xff", b"null", b""])
def test_a_damaged_folder_is_named(line, tmp_path):
    """Whatever a disk or a hand made of a curve or of its settings is told in two lines."""
    (tmp_path / "curve.jsonl").write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + line + b"\n")
    with pytest.raises(RecipeError, match=r"curve\.jsonl:2 is damaged"):
        read_curve(tmp_path)
    (tmp_path / "settings.json").write_bytes(line[:6])
    with pytest.raises(RecipeError, match=r"settings\.json is damaged"):
        read_record(tmp_path)


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
