"""Stand-ins that misbehave on purpose: a store that fails at a chosen step of a chosen write."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, cast

from latentlog.ledger.errors import StorageUnavailable
from latentlog.ledger.storage import Reader, Store, Writer

WRITE_STEPS: Final = (
    "begin",
    "insert",
    "inserted",
    "move_head",
    "moved_head",
    "commit",
    "committed",
)
"""The steps of one append, in order. At `committed` the write failed but persisted."""


class FailingStore:
    """A store that reports failure at one step, and keeps failing for `outage` writes."""

    def __init__(self, inner: Store) -> None:
        self.inner: Final = inner
        self.step: str | None = None
        self.outage = 0
        self.failures = 0

    def fail(self, step: str, outage: int = 1) -> None:
        """Fail the next `outage` writes at `step`."""
        self.step, self.outage = step, outage

    def read(self) -> AbstractContextManager[Reader]:
        return self.inner.read()

    @contextmanager
    def write(self) -> Iterator[Writer]:
        self._reach("begin")
        with self.inner.write() as writer:
            yield cast(Writer, _FailingWriter(self, writer))
            self._reach("commit")
        self._reach("committed")

    def claim(self, origin: str) -> str:
        return self.inner.claim(origin)

    def close(self) -> None:
        self.inner.close()

    def _reach(self, step: str) -> None:
        if step == self.step and self.outage > 0:
            self.outage -= 1
            self.failures += 1
            raise StorageUnavailable(f"injected failure at {step}")


class _FailingWriter:
    def __init__(self, store: FailingStore, inner: Writer) -> None:
        self._store: Final = store
        self._inner: Final = inner

    def insert(self, rows: Sequence[Any], tiles: Sequence[Any], openings: Sequence[Any]) -> None:
        self._store._reach("insert")
        self._inner.insert(rows, tiles, openings)
        self._store._reach("inserted")

    def move_head(self, old: Any, new: Any) -> None:
        self._store._reach("move_head")
        self._inner.move_head(old, new)
        self._store._reach("moved_head")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
