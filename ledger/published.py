"""A stranger's published log as a `Store`: what works on a database works on its static files.

    with published_log(fetch, checkpoint, verifier) as log:
        log.entry(41)        # checked against the signed root before it is returned

Entries and hashes are read through a `TileReader`, so nothing arrives here that the checkpoint
does not cover; the columns beside a body are taken from the body. Rows are copied in order into a
temporary file as far as they are asked for, and into memory never: a log of any length can be
read, by every way a database offers. Documents and openings are not published.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Final

from latentlog.ledger.checkpoint import VerifiedCheckpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import Placement, decode_entry
from latentlog.ledger.errors import AppendRefused, LedgerError
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import frontier_at, leaf_hash
from latentlog.ledger.note import NoteVerifier
from latentlog.ledger.storage import CheckpointRow, Head, OpeningRow, Reader, Row, TileRow, Writer
from latentlog.ledger.store.scratch import ScratchRows
from latentlog.ledger.tiles import HEIGHT, WIDTH, Fetch, Tile, TileReader


@contextmanager
def published_log(
    fetch: Fetch, checkpoint: VerifiedCheckpoint, verifier: NoteVerifier
) -> Iterator[Log]:
    """Open a published log for reading, as it stood at `checkpoint`.

    Raises, now or while it is read, what `fetch` and `TileReader` raise.
    """
    store = PublishedStore(fetch, checkpoint)
    try:
        yield Log(store, origin=checkpoint.checkpoint.origin, public=verifier.key)
    finally:
        store.close()


class PublishedStore:
    """The store of one published tree; never written, and read by one thread."""

    def __init__(self, fetch: Fetch, checkpoint: VerifiedCheckpoint) -> None:
        self._origin: Final = checkpoint.checkpoint.origin
        self._scratch: Final = ScratchRows()
        try:
            self._reader: Final = _PublishedReader(fetch, checkpoint, self._scratch)
        except BaseException:
            self._scratch.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Reader]:
        yield self._reader

    def write(self) -> AbstractContextManager[Writer]:
        raise AppendRefused("somebody else's published log is only read")

    def claim(self, origin: str) -> str:
        return self._origin

    def close(self) -> None:
        self._scratch.close()


class _PublishedReader:
    def __init__(self, fetch: Fetch, checkpoint: VerifiedCheckpoint, rows: ScratchRows) -> None:
        self._note: Final = checkpoint.note
        self._size: Final = checkpoint.checkpoint.size
        self._tiles: Final = TileReader(fetch, checkpoint.checkpoint)
        self._rows: Final = rows
        self._copied = 0

    def head(self) -> Head:
        frontier = frontier_at(self._tiles, self._size)
        return Head(self._size, frontier.encode(), self._size)

    # Rows.

    def row(self, index: int) -> Row | None:
        found = self.rows(index, 1)
        return found[0] if found and found[0].index == index else None

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] = (), epoch: int | None = None
    ) -> Sequence[Row]:
        # With a filter the next row may be anywhere.
        self._copy(self._size if kinds or epoch is not None else start + limit)
        return self._rows.rows(start, limit, kinds, epoch)

    def newest(self, kind: str, *, epoch: int | None = None) -> Row | None:
        self._copy(self._size)
        return self._rows.newest(kind, epoch)

    def by_counter(
        self, epoch: int, kind: str, after: tuple[int, int], limit: int
    ) -> Sequence[Row]:
        self._copy(self._size)
        return self._rows.by_counter(epoch, kind, after, limit)

    def at_or_below(self, epoch: int, kind: str, counter: int) -> Row | None:
        self._copy(self._size)
        return self._rows.at_or_below(epoch, kind, counter)

    def _copy(self, stop: int) -> None:
        """Read entries, a bundle at a time, until those below `stop` are there."""
        while self._copied < min(stop, self._size):
            bodies = list(islice(self._tiles.entries(self._copied), WIDTH))
            self._rows.add([row_of_body(self._copied + n, body) for n, body in enumerate(bodies)])
            self._copied += len(bodies)

    # The tree.

    def leaf_hashes(self, start: int, limit: int) -> Sequence[Digest]:
        return self._layer(0, start, limit)

    def tile(self, level: int, index: int) -> TileRow | None:
        found = self.tiles(level, index, 1)
        return found[0] if found else None

    def tiles(self, level: int, start: int, limit: int) -> Sequence[TileRow]:
        roots = self.tile_roots(level, start, limit)
        return [self._tile(level, start + n, root) for n, root in enumerate(roots)]

    def tile_roots(self, level: int, start: int, limit: int) -> Sequence[Digest]:
        return self._layer(HEIGHT * (level + 1), start, limit)

    def _tile(self, level: int, index: int, root: Digest) -> TileRow:
        return TileRow(level, index, root, b"".join(self._tiles(Tile(level, index).nodes)))

    def _layer(self, height: int, start: int, limit: int) -> list[Digest]:
        stop = min(start + limit, self._size >> height)
        return self._tiles([(height, index) for index in range(start, stop)])

    def checkpoint(self) -> CheckpointRow | None:
        return CheckpointRow(self._size, self._note)

    def checkpoints(self, start: int, limit: int) -> Sequence[CheckpointRow]:
        return [CheckpointRow(self._size, self._note)][: limit if start <= self._size else 0]

    # What is not published.

    def document(self, digest: Digest) -> bytes | None:
        return None

    def opening(self, index: int) -> bytes | None:
        return None

    def openings(self, start: int, limit: int) -> Sequence[OpeningRow]:
        return []

    def suspended(self) -> str | None:
        return "this is somebody else's published log"


def row_of_body(index: int, body: bytes) -> Row:
    """Return an entry as a database would hold it; one that does not decode is of no kind."""
    try:
        entry = decode_entry(body)
    except LedgerError:
        return Row(index, "", *Placement(), leaf_hash(body), body)
    return Row(index, entry.kind, *entry.placement, leaf_hash(body), body)
