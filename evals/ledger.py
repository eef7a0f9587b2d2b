"""The ledger: every answer and every score of every model, committed as it is made.

A *cell* is one model (weight fingerprint) under one task, version, prompt contract and generation
settings; its rows are addressed by item and sample. What was generated and how it was scored stand
in two tables, so that a mended scorer re-scores without generating, and scores are read without
texts. The first answer written stays: two workers who pay for the same row agree afterwards.
SQLite in WAL mode for a path; PostgreSQL by URL (extra `postgres`) where several hosts share one
ledger.
"""

import json
import re
import weakref
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from merger.errors import EvalError

_CELL = ("fingerprint", "task", "version", "contract", "settings")


@dataclass(frozen=True)
class Cell:
    """One model under one task, contract and generation settings: the shared part of row keys."""

    fingerprint: str
    task: str
    version: str
    contract: str
    settings: str


@dataclass(frozen=True)
class Row:
    """One answer and its score.

    `finish` is "stop" or "length", "" where nobody told; `correct` is 0 or 1, or a number between
    them where a metric is graded; `scorer` names the code that scored (another name means the score
    is out of date).
    """

    item: str
    sample: int
    text: str
    finish: str
    n_tokens: int
    format: bool
    parsed: bool
    correct: float
    scorer: str = ""

    @property
    def truncated(self) -> bool:
        """Say whether the token budget ended the answer."""
        return self.finish == "length"


class _Packed(sa.TypeDecorator[str]):
    """Compressed text: long reasoning shrinks about fourfold, and NULs survive PostgreSQL."""

    impl, cache_ok = sa.LargeBinary, True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> bytes:
        """Compress a text, lone surrogates included."""
        return zlib.compress(value.encode("utf-8", "surrogatepass"))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str:
        """Return the text again."""
        return zlib.decompress(value).decode("utf-8", "surrogatepass")


_schema = sa.MetaData()


def _table(name: str, keys: Sequence[str], **columns: Any) -> sa.Table:
    kinds = {key: sa.Integer if key == "sample" else sa.Text for key in keys}
    key = (sa.Column(n, kind, primary_key=True) for n, kind in kinds.items())
    rest = (sa.Column(n, kind, nullable=False) for n, kind in columns.items())
    return sa.Table(name, _schema, *key, *rest)


_ROW = (*_CELL, "item", "sample")
_SAID = {"text": _Packed, "finish": sa.Text, "n_tokens": sa.Integer}
_JUDGED = {"scorer": sa.Text, "format": sa.Boolean, "parsed": sa.Boolean, "correct": sa.Float}
_answers, _scores = _table("answers", _ROW, **_SAID), _table("scores", _ROW, **_JUDGED)
_items = _table("items", ("task", "version", "item"), facts=sa.Text)
_models = _table("models", ("fingerprint", "name"))


class Ledger:
    """A store of rows; one object a process (a fork opens its own)."""

    def __init__(self, url: str | Path) -> None:
        """Open or create a ledger at a path or a SQLAlchemy URL (":memory:" is gone with it)."""
        self.url = _as_url(url)
        try:
            # A server may have dropped a connection since it was last used.
            self._engine = sa.create_engine(self.url, pool_pre_ping="://" in str(url))
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _make_durable)
            weakref.finalize(self, self._engine.dispose)
            _create(self._engine)
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            why = str(error).splitlines()[0]
            law = f"the ledger {hidden(str(url))!r} cannot be opened: {why}"
            remedy = "Name a path in an existing folder, or a SQLAlchemy URL with its driver."
            raise EvalError(law, remedy) from error
        self._insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert

    def put(self, cell: Cell, rows: Sequence[Row]) -> None:
        """Commit answers with their scores; an answer that is there already stays."""
        # Both or neither: a score belongs to the text beside it.
        self._add({table: _written(table, cell, rows) for table in (_answers, _scores)})

    def _add(self, rows: Mapping[sa.Table, Sequence[Mapping[str, Any]]]) -> None:
        """Commit new rows of tables together; what is there already stays."""
        with self._engine.begin() as db:
            for table, made in rows.items():
                if made:
                    db.execute(self._insert(table).on_conflict_do_nothing(), made)

    def rescore(self, cell: Cell, rows: Sequence[Row]) -> None:
        """Commit the scores of rows whose answers are there, over what was there before."""
        if not rows:
            return
        insert = self._insert(_scores)
        values = {n: insert.excluded[n] for n in _JUDGED}
        upsert = insert.on_conflict_do_update(index_elements=_scores.primary_key, set_=values)
        with self._engine.begin() as db:
            db.execute(upsert, _written(_scores, cell, rows))

    def rows(self, cell: Cell, items: Iterable[str] | None = None) -> dict[tuple[str, int], Row]:
        """Return the rows of a cell (of these items, or all) by (item, sample)."""
        wanted = None if items is None else set(items)
        same = sa.and_(*(a == _scores.c[a.name] for a in _answers.primary_key))
        columns = [_answers.c[n] for n in ("item", "sample", *_SAID)]
        columns += [_scores.c[n] for n in _JUDGED]
        query = sa.select(*columns).select_from(_answers.join(_scores, same))
        with self._engine.connect() as db:
            found = [Row(**r) for r in db.execute(query.where(*_where(cell))).mappings()]
        return {(r.item, r.sample): r for r in found if wanted is None or r.item in wanted}

    def missing(self, cell: Cell, items: Sequence[str], samples: int = 1) -> list[tuple[str, int]]:
        """Return the (item, sample) pairs that nobody has paid for yet, in the order asked."""
        query = sa.select(_answers.c.item, _answers.c.sample).where(*_where(cell))
        with self._engine.connect() as db:
            there = {(item, sample) for item, sample in db.execute(query)}
        return [(i, s) for i in items for s in range(samples) if (i, s) not in there]

    def cells(self, **equal: str) -> list[Cell]:
        """Return the cells that hold answers, those with these field values (`task="…"`) only."""
        columns = [_answers.c[n] for n in _CELL]
        query = sa.select(*columns).distinct().order_by(*columns)
        query = query.where(*(_answers.c[n] == v for n, v in equal.items()))
        with self._engine.connect() as db:
            return [Cell(*row) for row in db.execute(query)]

    def put_items(self, task: str, version: str, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what a report shows of items (level, prompt, answer), by item id."""
        place = {"task": task, "version": version}
        made = [place | {"item": i, "facts": json.dumps(dict(f))} for i, f in facts.items()]
        self._add({_items: made})

    def items(self, task: str, version: str) -> dict[str, dict[str, Any]]:
        """Return what is kept of a task's items, by item id."""
        query = sa.select(_items.c.item, _items.c.facts).where(
            _items.c.task == task, _items.c.version == version
        )
        with self._engine.connect() as db:
            return {item: json.loads(facts) for item, facts in db.execute(query)}

    def name(self, fingerprint: str, name: str) -> None:
        """Remember a name people use for a fingerprint."""
        self._add({_models: [{"fingerprint": fingerprint, "name": name}]})

    def names(self) -> dict[str, list[str]]:
        """Return the names given to each fingerprint."""
        query = sa.select(_models.c.fingerprint, _models.c.name).order_by(_models.c.name)
        table: dict[str, list[str]] = {}
        with self._engine.connect() as db:
            for fingerprint, name in db.execute(query):
                table.setdefault(fingerprint, []).append(name)
        return table


def hidden(url: str) -> str:
    """Return a URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:…@", url)


def _as_url(url: str | Path) -> str:
    text = str(url)
    if text == ":memory:":
        return "sqlite://"
    for name in ("postgres://", "postgresql://"):  # without a driver: the one of our extra
        text = text.replace(name, "postgresql+psycopg://", 1) if text.startswith(name) else text
    return text if "://" in text else f"sqlite:///{text}"


def _create(engine: sa.Engine, tries: int = 3) -> None:
    """Create what is missing; another process may be creating it at the same moment."""
    try:
        _schema.create_all(engine)
    except sa.exc.DBAPIError:
        if tries == 1:
            raise
        _create(engine, tries - 1)


def _make_durable(connection: Any, _: Any) -> None:
    """Set what a shared SQLite file needs: readers beside one writer, and patience."""
    cursor = connection.cursor()
    for setting in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=60000"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _where(cell: Cell) -> list[sa.ColumnElement[bool]]:
    return [_answers.c[n] == v for n, v in asdict(cell).items()]


def _written(table: sa.Table, cell: Cell, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as a table's columns; PostgreSQL takes no bool for a number."""
    key = asdict(cell)
    whole = (key | vars(row) | {"correct": float(row.correct)} for row in rows)
    return [{name: facts[name] for name in table.columns.keys()} for facts in whole]  # noqa: SIM118
