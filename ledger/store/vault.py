"""The record keys that open encrypted openings, in a database of their own.

    record_keys    epoch 0 · counter 41 · blob_id 9f3c… · record_key 32 bytes

A key is on disk before the log names its record, so no opening is ever lost to a crash; a crash in
between leaves a key that opens nothing. Deleting overwrites the row (`secure_delete`) and empties
the write-ahead log. What a file system or a flash disk keeps of overwritten blocks is beyond a
program's reach: put the vault on an encrypted disk, and leave it out of backups.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Engine, delete, inspect, select

from latentlog.ledger.errors import DatabaseMissing, StorageUnavailable
from latentlog.ledger.storage import KeyRow
from latentlog.ledger.store.engine import (
    insert_rows,
    parse_url,
    reading,
    sqlite_path,
    storage_errors,
    writing,
)
from latentlog.ledger.store.schema import create_sqlite_file, open_existing
from latentlog.ledger.store.tables import record_keys, vault_metadata


class VaultStore:
    """The database of record keys."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine

    @classmethod
    def create(cls, url: str) -> "VaultStore":
        """Create an empty vault; raises `DatabaseExists`."""
        parsed = parse_url(url)
        create_sqlite_file(parsed)
        vault = cls(open_existing(url, secure_delete="ON"))
        with writing(vault._engine) as connection:
            vault_metadata.create_all(connection)
        return vault

    @classmethod
    def open(cls, url: str) -> "VaultStore":
        """Open an existing vault; raises `DatabaseMissing`."""
        vault = cls(open_existing(url, secure_delete="ON"))
        with reading(vault._engine) as connection:
            if not inspect(connection).has_table(record_keys.name):
                raise DatabaseMissing(f"there is no vault at {sqlite_path(parse_url(url)) or url}")
        return vault

    def put(self, keys: Sequence[KeyRow]) -> None:
        """Store record keys durably; raises `StorageUnavailable`."""
        with writing(self._engine) as connection:
            insert_rows(connection, record_keys, keys)

    def get(self, blobs: Iterable[tuple[int, int, bytes]]) -> list[bytes | None]:
        """Return the key to each (epoch, counter, blob_id), `None` where there is none."""
        wanted = list(blobs)
        counters: dict[int, list[int]] = defaultdict(list)
        for epoch, counter, _ in wanted:
            counters[epoch].append(counter)
        found: dict[tuple[int, int, bytes], bytes] = {}
        with reading(self._engine) as connection:
            for epoch, members in counters.items():
                query = select(record_keys).where(
                    record_keys.c.epoch == epoch, record_keys.c.counter.in_(members)
                )
                found |= {row[:3]: row[3] for row in connection.execute(query)}
        return [found.get(blob) for blob in wanted]

    def destroy(self, epoch: int, counter: int) -> int:
        """Destroy every key to one record's openings; return how many there were.

        Raises `StorageUnavailable` while a key may still lie in the write-ahead log; destroying
        again, which then finds no row, finishes it.
        """
        with writing(self._engine) as connection:
            gone = connection.execute(
                delete(record_keys).where(
                    record_keys.c.epoch == epoch, record_keys.c.counter == counter
                )
            ).rowcount
        if self._engine.dialect.name == "sqlite":
            self._empty_write_ahead_log()
        return gone

    def _empty_write_ahead_log(self) -> None:
        """Truncate the write-ahead log, which still holds the page that held the key."""
        with storage_errors(self._engine), self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageUnavailable(
                "the key is deleted, but the vault's write-ahead log still holds it",
                next_step="end other programs that read the vault, then erase again",
            )

    def close(self) -> None:
        self._engine.dispose()
