"""Rows of a stranger's log in a temporary file, found in the ways a `Reader` finds them.

Nothing is refused here: what a log must not hold is exactly what its auditor has to see. The file
has no name, is nobody else's, and is gone when it is closed; SQLite puts it where `SQLITE_TMPDIR`
says (by default /var/tmp) and keeps a few megabytes of it in memory, whatever the log's length.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from latentlog.ledger.errors import StorageUnavailable
from latentlog.ledger.storage import Row

_SCHEMA: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -16384;
    CREATE TABLE entries (
        "index" INTEGER PRIMARY KEY, kind, epoch, counter, length, leaf_hash, body
    );
    CREATE INDEX by_counter ON entries (epoch, kind, counter, "index") WHERE counter IS NOT NULL;
    CREATE INDEX by_kind ON entries (kind, "index") WHERE kind NOT IN ('generation', 'seal');
"""
_FREQUENT: Final = frozenset(("generation", "seal"))
_RARE: Final = "kind NOT IN ('generation', 'seal')"


class ScratchRows:
    """Rows added in order, in a file of their own."""

    def __init__(self) -> None:
        with _storage():
            # An empty name is a private database on disk, deleted with the connection.
            self._database: Final = sqlite3.connect("", isolation_level=None)
            self._database.executescript(_SCHEMA)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows; raises `StorageUnavailable` when the disk is full."""
        with _storage():
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")

    def rows(
        self, start: int, limit: int, kinds: Collection[str] = (), epoch: int | None = None
    ) -> list[Row]:
        """As `Reader.rows`."""
        where = f'"index" >= ?{_kinds_clause(kinds)}{_epoch_clause(epoch)}'
        values = (start, *kinds, *([] if epoch is None else [epoch]), limit)
        return self._select(f'{where} ORDER BY "index" LIMIT ?', values)

    def newest(self, kind: str, epoch: int | None = None) -> Row | None:
        """As `Reader.newest`."""
        where = f"1{_kinds_clause((kind,))}{_epoch_clause(epoch)}"
        values = (kind, *([] if epoch is None else [epoch]))
        return self._first(f'{where} ORDER BY "index" DESC LIMIT 1', values)

    def by_counter(self, epoch: int, kind: str, after: tuple[int, int], limit: int) -> list[Row]:
        """As `Reader.by_counter`."""
        where = 'epoch = ? AND kind = ? AND counter IS NOT NULL AND (counter, "index") > (?, ?)'
        order = 'ORDER BY counter, "index" LIMIT ?'
        return self._select(f"{where} {order}", (epoch, kind, *after, limit))

    def at_or_below(self, epoch: int, kind: str, counter: int) -> Row | None:
        """As `Reader.at_or_below`."""
        where = "epoch = ? AND kind = ? AND counter IS NOT NULL AND counter <= ?"
        order = 'ORDER BY counter DESC, "index" DESC LIMIT 1'
        return self._first(f"{where} {order}", (epoch, kind, counter))

    def close(self) -> None:
        self._database.close()

    def _first(self, where: str, values: Sequence[object]) -> Row | None:
        found = self._select(where, values)
        return found[0] if found else None

    def _select(self, where: str, values: Sequence[object]) -> list[Row]:
        with _storage():
            found = self._database.execute(f"SELECT * FROM entries WHERE {where}", values)
            return [Row(*row) for row in found]


def _kinds_clause(kinds: Collection[str]) -> str:
    if not kinds:
        return ""
    clause = f" AND kind IN ({', '.join('?' * len(kinds))})"
    return clause if _FREQUENT & set(kinds) else f"{clause} AND {_RARE}"


def _epoch_clause(epoch: int | None) -> str:
    return "" if epoch is None else " AND epoch = ?"


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageUnavailable(
            f"the temporary file for the audit cannot be written: {error}",
            next_step="free disk space, or set SQLITE_TMPDIR to a folder that has some",
        ) from None
