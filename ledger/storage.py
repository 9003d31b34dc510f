"""What a log needs of a database: rows that are only ever added, and one head row that moves.

    with store.write() as writer:        # holds the sequencer lock until the block ends
        head = writer.head()
        writer.insert(rows, tiles, openings)
        writer.move_head(head, Head(…))  # compare-and-swap; everything commits together

Nothing stored is trusted: `audit` recomputes all of it. Whoever can write the database directly
can destroy the log, and cannot change it unnoticed once a checkpoint has left the machine.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from latentlog.ledger.digest import Digest


class Row(NamedTuple):
    """An entry as stored: its bytes and, beside them, what is looked up by."""

    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    kind: str
    epoch: int | None
    counter: int | None
    length: int | None
    leaf_hash: bytes
    body: bytes


class TileRow(NamedTuple):
    """A complete tile: 256 hashes of one level of the tree (height 8·level), and their root."""

    level: int
    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    root: bytes
    hashes: bytes


class OpeningRow(NamedTuple):
    """The encrypted opening of the entry at `index`."""

    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    blob: bytes


class CheckpointRow(NamedTuple):
    """A published checkpoint, the signed note byte for byte."""

    size: int
    note: bytes


class KeyRow(NamedTuple):
    """The key to one encrypted opening: which record's, and which blob's (see `blob_id`)."""

    epoch: int
    counter: int
    blob_id: bytes
    record_key: bytes


class Head(NamedTuple):
    """The one row that moves: how far the log has grown and how far it is published."""

    size: int
    frontier: bytes
    published: int | None


class Reader(Protocol):
    """One consistent view of the database."""

    def head(self) -> Head: ...

    def row(self, index: int) -> Row | None: ...

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] = (), epoch: int | None = None
    ) -> Sequence[Row]:
        """At most `limit` rows with `index >= start`, ascending; of these kinds if any is named."""

    def newest(self, kind: str, *, epoch: int | None = None) -> Row | None:
        """The last row of a kind."""

    def by_counter(
        self, epoch: int, kind: str, after: tuple[int, int], limit: int
    ) -> Sequence[Row]:
        """At most `limit` rows of a kind with `(counter, index) > after`, in that order."""

    def at_or_below(self, epoch: int, kind: str, counter: int) -> Row | None:
        """The row of a kind with the greatest counter that is not above `counter`."""

    def leaf_hashes(self, start: int, limit: int) -> Sequence[Digest]: ...

    def tile(self, level: int, index: int) -> TileRow | None: ...

    def tiles(self, level: int, start: int, limit: int) -> Sequence[TileRow]: ...

    def tile_roots(self, level: int, start: int, limit: int) -> Sequence[Digest]: ...

    def checkpoint(self) -> CheckpointRow | None:
        """The newest checkpoint."""

    def checkpoints(self, start: int, limit: int) -> Sequence[CheckpointRow]:
        """At most `limit` checkpoints with `size >= start`, ascending."""

    def document(self, digest: Digest) -> bytes | None: ...

    def opening(self, index: int) -> bytes | None: ...

    def openings(self, start: int, limit: int) -> Sequence[OpeningRow]:
        """At most `limit` openings with `index >= start`, ascending."""

    def suspended(self) -> str | None:
        """Why nothing may be appended: this is a backup, or another server; `None` if it may."""


class Writer(Reader, Protocol):
    """The one process that may write now; its writes commit together, or not at all."""

    def insert(
        self, rows: Sequence[Row], tiles: Sequence[TileRow], openings: Sequence[OpeningRow]
    ) -> None: ...

    def add_checkpoint(self, row: CheckpointRow) -> None: ...

    def add_document(self, digest: Digest, body: bytes) -> None:
        """Store a document; storing it again changes nothing."""

    def suspend(self) -> None:
        """Append nothing here until `adopt`."""

    def adopt(self) -> None:
        """Take over a suspended database."""

    def move_head(self, old: Head, new: Head) -> None:
        """Move the head row from exactly `old` to `new`; raises `AppendRefused`."""


class Store(Protocol):
    """A database of one log."""

    def read(self) -> AbstractContextManager[Reader]: ...

    def write(self) -> AbstractContextManager[Writer]:
        """Take the sequencer lock; commit when the block ends, roll back if it raises.

        Raises `StorageUnavailable` when the database cannot be reached or written. After such an
        error the write may or may not have been committed, and the caller has to look.
        """

    def claim(self, origin: str) -> str:
        """Return the origin this database belongs to, making it `origin` if it has none yet."""

    def close(self) -> None: ...


class Vault(Protocol):
    """Where record keys are kept, apart from the log."""

    def put(self, keys: Sequence[KeyRow]) -> None:
        """Store record keys durably; raises `StorageUnavailable`."""

    def get(self, blobs: Iterable[tuple[int, int, bytes]]) -> list[bytes | None]:
        """Return the key to each (epoch, counter, blob_id), `None` where there is none."""

    def destroy(self, epoch: int, counter: int) -> int:
        """Destroy every key to one record's openings; return how many there were."""

    def close(self) -> None: ...
