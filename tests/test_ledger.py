"""Laws of the ledger: what was paid for stays, once, under exactly its own key."""

import multiprocessing
import sqlite3
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from evals import ledger as module
from evals.ledger import Cell, Ledger, Row
from merger.errors import EvalError

CELL = Cell("f0", "sums", "v1", "c0", "s0")
ROW = Row("i0", 0, "42</answer>", "stop", 5, True, True, 1.0, "scorer")


def test_rows_come_back_as_they_went_in(tmp_path):
    """A row read by another process's ledger equals the row written."""
    Ledger(tmp_path / "l.sqlite").put(CELL, [ROW])
    assert Ledger(tmp_path / "l.sqlite").rows(CELL) == {("i0", 0): ROW}


@settings(max_examples=20)
@given(st.text(st.characters()))
def test_any_text_survives(text):
    """Nulls, lone surrogates and emoji come back as they were."""
    store = Ledger(":memory:")
    store.put(CELL, [replace(ROW, text=text)])
    assert store.rows(CELL)["i0", 0].text == text


@pytest.mark.parametrize("field", ["fingerprint", "task", "version", "contract", "settings"])
def test_no_part_of_the_key_is_ignored(field):
    """Two models, tasks, versions, contracts or settings never share a row."""
    store = Ledger(":memory:")
    store.put(CELL, [ROW])
    other = replace(CELL, **{field: "other"})
    assert store.rows(other) == {}
    assert store.missing(other, ["i0"]) == [("i0", 0)]
    assert store.missing(CELL, ["i0"]) == []


def test_the_first_answer_stays_with_its_score():
    """A second worker's answer to the same row changes neither the text nor the score."""
    store = Ledger(":memory:")
    store.put(CELL, [ROW])
    store.put(CELL, [replace(ROW, text="7", correct=0.0)])
    assert store.rows(CELL)["i0", 0] == ROW


def test_a_mended_score_replaces_the_old_one_and_no_text():
    """Scoring again changes the score and leaves the answer."""
    store = Ledger(":memory:")
    store.put(CELL, [ROW])
    store.rescore(CELL, [replace(ROW, text="ignored", correct=0.5, scorer="mended")])
    assert store.rows(CELL)["i0", 0] == replace(ROW, correct=0.5, scorer="mended")


def test_missing_keeps_the_order_asked():
    """What is missing comes back item by item, samples in turn."""
    store = Ledger(":memory:")
    store.put(CELL, [replace(ROW, item="b", sample=1)])
    assert store.missing(CELL, ["b", "a"], 2) == [("b", 0), ("a", 0), ("a", 1)]


def test_scores_average_samples():
    """The score of an item is the mean over its samples."""
    store = Ledger(":memory:")
    store.put(CELL, [ROW, replace(ROW, sample=1, correct=0.0), replace(ROW, item="i1")])
    assert store.scores(CELL) == {"i0": 0.5, "i1": 1.0}
    assert store.scores(CELL, ["i1", "i9"]) == {"i1": 1.0}


def test_cells_items_and_names_are_kept():
    """A ledger says what it holds: cells, item facts and model names."""
    store = Ledger(":memory:")
    store.put(CELL, [ROW])
    store.put(replace(CELL, task="other"), [ROW])
    store.put_items("sums", "v1", {"i0": {"prompt": "6 × 7", "level": 1}})
    store.name("f0", "base")
    store.name("f0", "base")
    assert store.cells(task="sums") == [CELL]
    assert store.items("sums", "v1") == {"i0": {"prompt": "6 × 7", "level": 1}}
    assert store.names() == {"f0": ["base"]}


def _write(path, worker):
    store = Ledger(path)
    for i in range(20):
        store.put(CELL, [replace(ROW, item=f"{worker}/{i}"), replace(ROW, item=f"shared/{i}")])


@pytest.mark.slow
def test_several_processes_share_one_file(tmp_path):
    """Concurrent writers lose nothing and pay for a shared row once."""
    path = tmp_path / "l.sqlite"
    Ledger(path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, w)) for w in range(3)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [p.exitcode for p in workers] == [0, 0, 0]
    assert len(Ledger(path).rows(CELL)) == 3 * 20 + 20


def test_the_file_is_in_wal_mode(tmp_path):
    """Readers do not wait for the writer."""
    Ledger(tmp_path / "l.sqlite").put(CELL, [ROW])
    mode = sqlite3.connect(tmp_path / "l.sqlite").execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


def test_the_schema_compiles_for_postgresql():
    """Every table and both inserts are expressible in PostgreSQL."""
    for table in module._schema.sorted_tables:
        assert "PRIMARY KEY" in str(
            sa.schema.CreateTable(table).compile(dialect=postgresql.dialect())
        )
    insert = postgresql.insert(module._answers).on_conflict_do_nothing()
    assert "ON CONFLICT DO NOTHING" in str(insert.compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize("url", ["nowhere/at/all/l.sqlite", "nosuch://x", "no such"])
def test_a_place_that_cannot_be_opened_is_named(url, tmp_path, monkeypatch):
    """A wrong path or driver is a user's mistake, with the URL in it."""
    monkeypatch.chdir(tmp_path)
    if url == "no such":
        (tmp_path / url).mkdir()
    with pytest.raises(EvalError, match=url.split("/", maxsplit=1)[0]):
        Ledger(url)
