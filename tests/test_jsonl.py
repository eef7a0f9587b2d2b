"""Laws of tables in files: what was written is read back, and mistakes have a place."""

import csv

import pytest

from evals.jsonl import check_table, parse_objects, read_objects, write_table
from merger.errors import EvalError, OutputError, UsageError

ROWS = [
    {"id": "a", "text": 'x\u2028y\nz, "q"', "score": 0.5},
    {"id": "b", "text": "é", "score": 1.0},
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_come_back(tmp_path, kind):
    """Separators, quotes and signs inside texts survive."""
    write_table(tmp_path / f"t.{kind}", ROWS)
    assert [row for _, row in read_objects(tmp_path / f"t.{kind}", "rows")] == ROWS


def test_a_mark_at_the_beginning_is_no_text(tmp_path):
    """Some editors begin a file with a byte order mark and end lines in two signs."""
    (tmp_path / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a"}\r\n{"id": "b"}\r\n')
    assert [row for _, row in read_objects(tmp_path / "t.jsonl", "rows")] == [
        {"id": "a"},
        {"id": "b"},
    ]


def test_csv_has_a_head(tmp_path):
    """One line of names, then texts quoted where they must be."""
    write_table(tmp_path / "t.csv", ROWS)
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == [row["text"] for row in ROWS]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_half_a_sign_is_no_reason_to_lose_a_table(tmp_path, kind):
    """A model may end in the middle of a character."""
    write_table(tmp_path / f"t.{kind}", [{"text": "a\ud800"}])
    assert b"a?" in (tmp_path / f"t.{kind}").read_bytes()


def test_mistakes_are_told(tmp_path):
    """Lines by number, files that cannot be read or written, endings of no kind."""
    with pytest.raises(EvalError, match="here:2: '\\[1\\]' is no JSON object"):
        list(parse_objects('{"a": 1}\n[1]', "here", "rows"))
    with pytest.raises(EvalError, match="cannot be read"):
        read_objects(tmp_path / "none.parquet", "rows")
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(tmp_path / "no" / "t.csv", ROWS)
    with pytest.raises(UsageError, match="no kind of table"):
        check_table(tmp_path / "t.xls")
