"""A log in memory, for tests and experiments: the same promises, lost when the process ends.

A write works on a copy that replaces the state when the block ends, so a failure leaves nothing.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import AppendRefused
from latentlog.ledger.storage import (
    CheckpointRow,
    Head,
    OpeningRow,
    Reader,
    Row,
    TileRow,
    Writer,
)

_EMPTY: Final = Head(0, bytes(8), None)


@dataclass
class _State:
    head: Head = _EMPTY
    rows: list[Row] = field(default_factory=list)
    tiles: dict[tuple[int, int], TileRow] = field(default_factory=dict)
    openings: dict[int, bytes] = field(default_factory=dict)
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    documents: dict[bytes, bytes] = field(default_factory=dict)
    suspended: bool = False

    def copy(self) -> "_State":
        return replace(
            self,
            rows=list(self.rows),
            tiles=dict(self.tiles),
            openings=dict(self.openings),
            checkpoints=list(self.checkpoints),
            documents=dict(self.documents),
        )


class MemoryStore:
    """A log's store without a database."""

    def __init__(self) -> None:
        self._state = _State()
        self._origin: str | None = None
        self._lock: Final = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        yield _MemoryReader(self._state)

    @contextmanager
    def write(self) -> Iterator[Writer]:
        with self._lock:
            state = self._state.copy()
            yield _MemoryWriter(state)
            self._state = state

    def claim(self, origin: str) -> str:
        self._origin = self._origin or origin
        return self._origin

    def close(self) -> None:
        pass


class _MemoryReader:
    def __init__(self, state: _State) -> None:
        self._state: Final = state

    def head(self) -> Head:
        return self._state.head

    def row(self, index: int) -> Row | None:
        rows = self._state.rows
        return rows[index] if 0 <= index < len(rows) else None

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] = (), epoch: int | None = None
    ) -> Sequence[Row]:
        return [row for row in self._state.rows[start:] if _fits(row, kinds, epoch)][:limit]

    def newest(self, kind: str, *, epoch: int | None = None) -> Row | None:
        return next((row for row in reversed(self._state.rows) if _fits(row, (kind,), epoch)), None)

    def by_counter(
        self, epoch: int, kind: str, after: tuple[int, int], limit: int
    ) -> Sequence[Row]:
        return [row for row in self._counted(epoch, kind) if _place(row) > after][:limit]

    def at_or_below(self, epoch: int, kind: str, counter: int) -> Row | None:
        rows = [row for row in self._counted(epoch, kind) if _place(row)[0] <= counter]
        return rows[-1] if rows else None

    def leaf_hashes(self, start: int, limit: int) -> Sequence[Digest]:
        return [Digest(row.leaf_hash) for row in self._state.rows[start : start + limit]]

    def tile(self, level: int, index: int) -> TileRow | None:
        return self._state.tiles.get((level, index))

    def tiles(self, level: int, start: int, limit: int) -> Sequence[TileRow]:
        tiles = self._state.tiles
        return [tiles[key] for key in sorted(tiles) if key[0] == level and key[1] >= start][:limit]

    def tile_roots(self, level: int, start: int, limit: int) -> Sequence[Digest]:
        tiles = self.tiles(level, start, limit)
        return [Digest(tile.root) for tile in tiles if tile.index < start + limit]

    def checkpoint(self) -> CheckpointRow | None:
        return self._state.checkpoints[-1] if self._state.checkpoints else None

    def checkpoints(self, start: int, limit: int) -> Sequence[CheckpointRow]:
        return [row for row in self._state.checkpoints if row.size >= start][:limit]

    def document(self, digest: Digest) -> bytes | None:
        return self._state.documents.get(digest)

    def opening(self, index: int) -> bytes | None:
        return self._state.openings.get(index)

    def openings(self, start: int, limit: int) -> Sequence[OpeningRow]:
        openings = self._state.openings
        return [OpeningRow(i, openings[i]) for i in sorted(openings) if i >= start][:limit]

    def suspended(self) -> str | None:
        return "this log was suspended" if self._state.suspended else None

    def _counted(self, epoch: int, kind: str) -> list[Row]:
        rows = (row for row in self._state.rows if _fits(row, (kind,), epoch))
        return sorted((row for row in rows if row.counter is not None), key=_place)


class _MemoryWriter(_MemoryReader):
    def insert(
        self, rows: Sequence[Row], tiles: Sequence[TileRow], openings: Sequence[OpeningRow]
    ) -> None:
        taken = {_identity(row) for row in self._state.rows if row.counter is not None}
        for row in rows:
            if row.index != len(self._state.rows) or _identity(row) in taken:
                raise AppendRefused(f"the store refused a row: {row.kind} at {row.index}")
            if row.counter is not None:
                taken.add(_identity(row))
            self._state.rows.append(row)
        self._state.tiles.update({(tile.level, tile.index): tile for tile in tiles})
        self._state.openings.update(openings)

    def add_checkpoint(self, row: CheckpointRow) -> None:
        self._state.checkpoints.append(row)

    def add_document(self, digest: Digest, body: bytes) -> None:
        self._state.documents.setdefault(digest, body)

    def suspend(self) -> None:
        self._state.suspended = True

    def adopt(self) -> None:
        self._state.suspended = False

    def move_head(self, old: Head, new: Head) -> None:
        if self._state.head != old:
            raise AppendRefused("the head row was moved by somebody who did not hold the lock")
        self._state.head = new


def _fits(row: Row, kinds: Collection[str], epoch: int | None) -> bool:
    return (not kinds or row.kind in kinds) and (epoch is None or row.epoch == epoch)


def _identity(row: Row) -> tuple[int | None, str, int | None]:
    return row.epoch, row.kind, row.counter


def _place(row: Row) -> tuple[int, int]:
    return row.counter or 0, row.index
