"""Laws of the ledger: what was paid for stays, once, under exactly its own key."""

import multiprocessing
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.ledger import Cell, Ledger, Row, hidden
from merger.errors import EvalError

CELL = Cell("f0", "sums", "v1", "c0", "s0")
ROW = Row("i0", 0, "42</answer>", "stop", 5, True, True, 1.0, "scorer")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """Return a place that several ledgers can open: a file, or a schema on a real server."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return str(tmp_path / "l.sqlite")


def test_rows_come_back_as_they_went_in(url):
    """A row read by another process's ledger equals the row written, whatever the text holds."""
    odd = replace(ROW, item="long" * 200, text="\x00\ud800 \N{PILE OF POO}")
    said = replace(ROW, item="said", correct=True)  # as a grader says it
    Ledger(url).put(CELL, [ROW, odd, said])
    assert Ledger(url).rows(CELL) == {(r.item, 0): r for r in (ROW, odd, said)}


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


def test_the_first_answer_stays_with_its_score(url):
    """A second worker's answer to the same row changes neither the text nor the score."""
    store = Ledger(url)
    store.put(CELL, [ROW])
    store.put(CELL, [replace(ROW, text="7", correct=0.0)])
    assert store.rows(CELL)["i0", 0] == ROW


def test_a_mended_score_replaces_the_old_one_and_no_text(url):
    """Scoring again changes the score and leaves the answer."""
    store = Ledger(url)
    store.put(CELL, [ROW])
    store.rescore(CELL, [replace(ROW, text="ignored", correct=0.5, scorer="mended")])
    assert store.rows(CELL)["i0", 0] == replace(ROW, correct=0.5, scorer="mended")


def test_missing_keeps_the_order_asked():
    """What is missing comes back item by item, samples in turn."""
    store = Ledger(":memory:")
    store.put(CELL, [replace(ROW, item="b", sample=1)])
    assert store.missing(CELL, ["b", "a"], 2) == [("b", 0), ("a", 0), ("a", 1)]


def test_cells_items_and_names_are_kept(url):
    """A ledger says what it holds: cells, item facts and model names."""
    store = Ledger(url)
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
def test_several_processes_share_one_ledger(url):
    """Concurrent writers, the makers of its tables too, lose nothing and pay once for a row."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(url, w)) for w in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [p.exitcode for p in workers] == [0, 0]
    assert len(Ledger(url).rows(CELL)) == 2 * 20 + 20


def test_a_dropped_connection_is_made_again(postgres_url):
    """A server that restarted, or cut an idle connection, costs nothing but a new connection."""
    import psycopg

    store = Ledger(postgres_url)
    store.put(CELL, [ROW])
    with psycopg.connect(postgres_url, autocommit=True, application_name="tests") as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ''"
        )
    assert store.rows(CELL) == {("i0", 0): ROW}


def test_the_file_is_in_wal_mode(tmp_path):
    """Readers do not wait for the writer."""
    Ledger(tmp_path / "l.sqlite").put(CELL, [ROW])
    mode = sqlite3.connect(tmp_path / "l.sqlite").execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


PLACES = ["nowhere/at/all/l.sqlite", "nosuch://x", "no such", "postgresql://x@/y?host=/nowhere"]


def test_a_password_is_not_told():
    """An error names the server and the user, no more."""
    assert hidden("postgresql://me:se/cr@host/db") == "postgresql://me:…@host/db"
    assert hidden("evals.sqlite") == "evals.sqlite"


@pytest.mark.parametrize("url", PLACES)
def test_a_place_that_cannot_be_opened_is_named(url, tmp_path, monkeypatch):
    """A wrong path or driver is a user's mistake, with the URL in it."""
    monkeypatch.chdir(tmp_path)
    if url == "no such":
        (tmp_path / url).mkdir()
    with pytest.raises(EvalError, match=url.split("/", maxsplit=1)[0]):
        Ledger(url)
