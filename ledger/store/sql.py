"""A log in SQLite or PostgreSQL, through SQLAlchemy Core.

Write order of one append, all in one transaction: the lock, entries, openings, tiles, the head
row. SQLite holds its write lock from the first statement; PostgreSQL locks the head row, so that
several recorder processes append one after the other. A crash before the commit leaves nothing, a
crash after it leaves everything; a commit whose answer was lost may be either, and the caller
looks before it writes again.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, insert, select, tuple_, update
from sqlalchemy.sql import Select

from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import AppendRefused, AuditFailed, DatabaseMissing
from latentlog.ledger.storage import (
    CheckpointRow,
    Head,
    OpeningRow,
    Reader,
    Row,
    TileRow,
    Writer,
)
from latentlog.ledger.store.engine import insert_rows, parse_url, reading, writing
from latentlog.ledger.store.lineage import adopt, suspend, suspension
from latentlog.ledger.store.schema import create_database, open_existing, require_current
from latentlog.ledger.store.tables import (
    RARE_KINDS,
    checkpoints,
    documents,
    entries,
    head,
    meta,
    openings,
    tiles,
)

_FREQUENT: Final = frozenset({"generation", "seal"})

_ROWS: Final = select(*(entries.c[name] for name in Row._fields))
_BY_COUNTER: Final = (
    _ROWS.where(
        entries.c.epoch == bindparam("epoch"),
        entries.c.kind == bindparam("kind"),
        entries.c.counter.is_not(None),
        entries.c.counter >= bindparam("counter"),
        tuple_(entries.c.counter, entries.c.index) > tuple_(bindparam("counter"), bindparam("at")),
    )
    .order_by(entries.c.counter, entries.c.index)
    .limit(bindparam("limit"))
)
_AT_OR_BELOW: Final = (
    _ROWS.where(
        entries.c.epoch == bindparam("epoch"),
        entries.c.kind == bindparam("kind"),
        entries.c.counter.is_not(None),
        entries.c.counter <= bindparam("counter"),
    )
    .order_by(entries.c.counter.desc())
    .limit(1)
)
_LEAVES: Final = (
    select(entries.c.leaf_hash)
    .where(entries.c.index >= bindparam("start"), entries.c.index < bindparam("stop"))
    .order_by(entries.c.index)
)
_ROOTS: Final = (
    select(tiles.c.root)
    .where(
        tiles.c.level == bindparam("level"),
        tiles.c.index >= bindparam("start"),
        tiles.c.index < bindparam("stop"),
    )
    .order_by(tiles.c.index)
)
_HEAD: Final = select(head.c.size, head.c.frontier, head.c.published)
_MOVE_HEAD: Final = (
    update(head)
    .where(
        head.c.size == bindparam("old_size"),
        head.c.frontier == bindparam("old_frontier"),
        head.c.published.is_not_distinct_from(bindparam("old_published")),
    )
    .values(
        size=bindparam("new_size"),
        frontier=bindparam("new_frontier"),
        published=bindparam("new_published"),
    )
)


class SqlStore:
    """A log's database; one object serves any number of threads and transactions."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine

    @classmethod
    def create(cls, url: str) -> "SqlStore":
        """Create the tables where there is no log yet, and open them; raises `DatabaseExists`."""
        create_database(url)
        return cls.open(url)

    @classmethod
    def open(cls, url: str) -> "SqlStore":
        """Open an existing log.

        Raises `DatabaseMissing`, `DatabaseTooOld`, `DatabaseTooNew` or `StorageUnavailable`.
        """
        engine = open_existing(url)
        try:
            with reading(engine) as connection:
                require_current(connection, parse_url(url))
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        with reading(self._engine) as connection:
            yield _SqlReader(connection)

    @contextmanager
    def write(self) -> Iterator[Writer]:
        with writing(self._engine) as connection:
            connection.execute(select(head.c.id).with_for_update())
            yield _SqlWriter(connection)

    def claim(self, origin: str) -> str:
        stored = select(meta.c.value).where(meta.c.key == "origin")
        with reading(self._engine) as connection:
            value = connection.scalar(stored)
        if value is None:
            with writing(self._engine) as connection:
                connection.execute(select(head.c.id).with_for_update())
                value = connection.scalar(stored)
                if value is None:
                    connection.execute(insert(meta).values(key="origin", value=origin))
                    adopt(connection)
                    return origin
        return str(value)

    def close(self) -> None:
        self._engine.dispose()


class _SqlReader:
    """The queries of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection

    def head(self) -> Head:
        row = self._connection.execute(_HEAD).one_or_none()
        if row is None:
            raise DatabaseMissing("the database has lost its head row", next_step="latentlog audit")
        return Head(*row)

    def row(self, index: int) -> Row | None:
        found = self._rows(_ROWS.where(entries.c.index == index))
        return found[0] if found else None

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] = (), epoch: int | None = None
    ) -> Sequence[Row]:
        query = _ROWS.where(entries.c.index >= start)
        if kinds:
            query = query.where(entries.c.kind.in_(kinds))
            if not _FREQUENT & set(kinds):
                query = query.where(RARE_KINDS)
        if epoch is not None:
            query = query.where(entries.c.epoch == epoch)
        return self._rows(query.order_by(entries.c.index).limit(limit))

    def newest(self, kind: str, *, epoch: int | None = None) -> Row | None:
        query = _ROWS.where(entries.c.kind == kind)
        if kind not in _FREQUENT:
            query = query.where(RARE_KINDS)
        if epoch is not None:
            query = query.where(entries.c.epoch == epoch)
        found = self._rows(query.order_by(entries.c.index.desc()).limit(1))
        return found[0] if found else None

    def by_counter(
        self, epoch: int, kind: str, after: tuple[int, int], limit: int
    ) -> Sequence[Row]:
        counter, at = after
        parameters = {"epoch": epoch, "kind": kind, "counter": counter, "at": at, "limit": limit}
        return self._rows(_BY_COUNTER, parameters)

    def at_or_below(self, epoch: int, kind: str, counter: int) -> Row | None:
        parameters = {"epoch": epoch, "kind": kind, "counter": counter}
        found = self._rows(_AT_OR_BELOW, parameters)
        return found[0] if found else None

    def leaf_hashes(self, start: int, limit: int) -> Sequence[Digest]:
        span = {"start": start, "stop": start + limit}
        return [Digest(leaf) for leaf in self._connection.scalars(_LEAVES, span)]

    def tile(self, level: int, index: int) -> TileRow | None:
        found = self.tiles(level, index, 1)
        return found[0] if found and found[0].index == index else None

    def tiles(self, level: int, start: int, limit: int) -> Sequence[TileRow]:
        query = select(tiles).where(tiles.c.level == level, tiles.c.index >= start)
        found = self._connection.execute(query.order_by(tiles.c.index).limit(limit))
        return [TileRow(*row) for row in found]

    def tile_roots(self, level: int, start: int, limit: int) -> Sequence[Digest]:
        span = {"level": level, "start": start, "stop": start + limit}
        return [Digest(root) for root in self._connection.scalars(_ROOTS, span)]

    def checkpoint(self) -> CheckpointRow | None:
        query = select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else CheckpointRow(*row)

    def checkpoints(self, start: int, limit: int) -> Sequence[CheckpointRow]:
        query = select(checkpoints).where(checkpoints.c.size >= start)
        found = self._connection.execute(query.order_by(checkpoints.c.size).limit(limit))
        return [CheckpointRow(*row) for row in found]

    def document(self, digest: Digest) -> bytes | None:
        return self._connection.scalar(
            select(documents.c.body).where(documents.c.digest == bytes(digest))
        )

    def opening(self, index: int) -> bytes | None:
        return self._connection.scalar(select(openings.c.blob).where(openings.c.index == index))

    def openings(self, start: int, limit: int) -> Sequence[OpeningRow]:
        query = select(openings).where(openings.c.index >= start)
        found = self._connection.execute(query.order_by(openings.c.index).limit(limit))
        return [OpeningRow(*row) for row in found]

    def suspended(self) -> str | None:
        return suspension(self._connection)

    def _rows(self, query: Select[Any], parameters: dict[str, object] | None = None) -> list[Row]:
        rows = [Row(*row) for row in self._connection.execute(query, parameters)]
        for row in rows:
            # SQLite stores any type in any column; we write bytes where we read bytes.
            if type(row.body) is not bytes or type(row.leaf_hash) is not bytes:
                raise AuditFailed(f"the row of entry {row.index} holds a value of another type")
        return rows


class _SqlWriter(_SqlReader):
    """The same within the one transaction that holds the sequencer lock."""

    def insert(
        self, rows: Sequence[Row], tiles_: Sequence[TileRow], openings_: Sequence[OpeningRow]
    ) -> None:
        insert_rows(self._connection, entries, rows)
        insert_rows(self._connection, openings, openings_)
        insert_rows(self._connection, tiles, tiles_)

    def add_checkpoint(self, row: CheckpointRow) -> None:
        self._connection.execute(insert(checkpoints).values(row._asdict()))

    def add_document(self, digest: Digest, body: bytes) -> None:
        if self.document(digest) is None:
            self._connection.execute(insert(documents).values(digest=bytes(digest), body=body))

    def suspend(self) -> None:
        suspend(self._connection)

    def adopt(self) -> None:
        adopt(self._connection)

    def move_head(self, old: Head, new: Head) -> None:
        parameters = {f"old_{name}": value for name, value in old._asdict().items()}
        parameters |= {f"new_{name}": value for name, value in new._asdict().items()}
        if self._connection.execute(_MOVE_HEAD, parameters).rowcount != 1:
            raise AppendRefused(
                "the head row was moved by somebody who did not hold the lock",
                expected=f"size {old.size}",
                got=f"size {self.head().size}",
            )
