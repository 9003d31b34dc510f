"""A recorder's session: which counters it has asked for, remembered across a crash.

    sessions/local.json   {"blocks":[{"after":12,"count":4096,"detached":false,"epoch":0,
                           "first":0,"lease":"5f2a…"}],"recorder":"local","v":0}

A block is written down *before* its reservation is appended, so its first counter may be unknown:
the random lease then finds the reservation in the log, if it got there. The lock beside the file
keeps a second process from taking this recorder's blocks for those of a crash.
"""

import fcntl
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from latentlog.ledger import canonical
from latentlog.ledger.counters import Span
from latentlog.ledger.errors import LedgerError, MalformedHome, RecorderBusy, StorageUnavailable
from latentlog.ledger.files import write_durably

# Commands like `draw` and `record` follow each other quickly; a running service never ends.
LOCK_SECONDS: Final = 5.0

_LIMIT: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Counters asked for under one lease; `first` is `None` until their reservation is seen.

    `after` is a size of the log before the reservation. A detached block outlives its process.
    """

    epoch: int
    lease: bytes
    after: int
    count: int
    first: int | None = None
    detached: bool = False

    @property
    def span(self) -> Span:
        assert self.first is not None
        return Span(self.first, self.count)

    def encode(self) -> dict[str, Any]:
        """Return the JSON object of this block."""
        return {
            "after": self.after,
            "count": self.count,
            "detached": self.detached,
            "epoch": self.epoch,
            "first": self.first,
            "lease": self.lease.hex(),
        }


class Session:
    """The blocks of one recorder, on disk after every change; holds the recorder's lock."""

    def __init__(
        self, path: Path, recorder: str, blocks: tuple[Block, ...], lock: IO[bytes]
    ) -> None:
        self._path: Final = path
        self._recorder: Final = recorder
        self._lock: Final = lock
        self.blocks = blocks

    @classmethod
    def open(cls, path: Path, recorder: str, *, wait: float = LOCK_SECONDS) -> "Session":
        """Take the recorder's lock and read what it left behind; raises `RecorderBusy`."""
        lock = _lock(path.with_suffix(".lock"), recorder, wait)
        try:
            return cls(path, recorder, _read(path, recorder), lock)
        except BaseException:
            lock.close()
            raise

    def add(self, block: Block) -> None:
        """Remember a block that is about to be reserved."""
        self._write((*self.blocks, block))

    def resolve(self, lease: bytes, first: int, count: int, *, attach: bool = False) -> Block:
        """Remember which counters the log gave to a block; `attach` makes it end with us."""
        found = next(block for block in self.blocks if block.lease == lease)
        detached = found.detached and not attach
        resolved = replace(found, first=first, count=count, detached=detached)
        self._write(tuple(resolved if b is found else b for b in self.blocks))
        return resolved

    def forget(self, leases: set[bytes]) -> None:
        """Drop blocks that are accounted for, or were never reserved."""
        if leases:
            self._write(tuple(block for block in self.blocks if block.lease not in leases))

    def holds_detached(self, epoch: int, counter: int) -> bool:
        """Tell whether a counter waits in a detached block."""
        return any(
            block.detached and block.epoch == epoch and block.span.holds(counter)
            for block in self.blocks
        )

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()

    def _write(self, blocks: tuple[Block, ...]) -> None:
        value = {
            "blocks": [block.encode() for block in blocks],
            "recorder": self._recorder,
            "v": 0,
        }
        write_durably(self._path, canonical.encode(value) + b"\n")
        self.blocks = blocks


def _lock(path: Path, recorder: str, wait: float) -> IO[bytes]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnavailable(f"cannot write {path}: {error.strerror}") from None
    file = os.fdopen(descriptor, "r+b", buffering=0)
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise RecorderBusy(
                    f"another process is recording as {recorder}",
                    next_step="latentlog recorder add NAME, and record under that name",
                ) from None
            time.sleep(0.05)


def _read(path: Path, recorder: str) -> tuple[Block, ...]:
    if not path.exists():
        return ()
    try:
        value = canonical.decode(path.read_bytes().removesuffix(b"\n"), limit=_LIMIT)
        if value["v"] != 0 or value["recorder"] != recorder:
            raise MalformedHome(f"{path} is not a session of recorder {recorder}")
        return tuple(_block(item) for item in value["blocks"])
    except (KeyError, TypeError, ValueError, LedgerError) as error:
        raise MalformedHome(f"{path} cannot be read: {error}") from None


def _block(item: dict[str, Any]) -> Block:
    return Block(**{**item, "lease": bytes.fromhex(item["lease"])})
