"""Getting sealed records into the log: now, or through the durable queue when it comes back.

Under the lock each record is looked at once more: sealed after its counter was abandoned, it is
marked late; appended before by an append whose answer was lost, it is recognised by its bytes
(its salts are random) and not appended twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from latentlog.ledger.batch import Draft, Sealer
from latentlog.ledger.counters import (
    Span,
    abandoned_within,
    gaps,
    high_water,
    span_of,
    within,
)
from latentlog.ledger.entry import Generation, Reservation, decode_entry
from latentlog.ledger.errors import (
    AlreadySealed,
    CheckpointAhead,
    ClockBehind,
    DatabaseSuspended,
    ForkDetected,
    NotReserved,
    StorageUnavailable,
)
from latentlog.ledger.log import Log
from latentlog.ledger.sealing import SealedRecord, made_late
from latentlog.ledger.spool import Spool
from latentlog.ledger.storage import Reader

NOT_NOW: Final = (
    StorageUnavailable,
    DatabaseSuspended,
    CheckpointAhead,
    ForkDetected,
    ClockBehind,
)
"""Why a log takes nothing now, and may later: what is sealed meanwhile must not be lost."""


@dataclass(frozen=True, slots=True)
class Admission:
    """One recorder's way into one log."""

    log: Log
    sealer: Sealer
    spool: Spool

    def append(self, batch: Sequence[SealedRecord], *, detached: bool) -> dict[int, int | None]:
        """Append a batch, or queue it; return each counter's entry, `None` if it was queued.

        Counters drawn detached may have been sealed by another process: raises `AlreadySealed`.
        """
        drafts = [record.draft for record in batch]
        counters = [record.counter for record in batch]
        if detached:
            self._require_unqueued(drafts)
        try:
            self.drain()
            return dict(zip(counters, self._append(drafts, look=detached), strict=True))
        except NOT_NOW:
            self.spool.add(drafts)
            return dict.fromkeys(counters)

    def drain(self) -> int:
        """Append what waits in the queue, oldest first; return how many entries that were."""
        drained = 0
        for path, drafts in self.spool.batches():
            self._append(drafts, look=True, again=True)
            self.spool.remove(path)
            drained += len(drafts)
        return drained

    def require_lost(self, epoch: int, span: Span) -> None:
        """Return if this recorder had reserved the counters and they were abandoned since.

        Raises `NotReserved`.
        """
        with self.log.snapshot() as reader:
            waiting = next(gaps(within(reader), epoch, span), None)
            if waiting is not None or not all(
                self._reserved(reader, epoch, counter) for counter in range(span.first, span.stop)
            ):
                raise NotReserved(
                    f"counters {span.first} to {span.stop - 1} of epoch {epoch} were not drawn "
                    f"for recorder {self.sealer.name}, or not all of them",
                    next_step="latentlog draw MODEL -n N",
                )

    def _reserved(self, reader: Reader, epoch: int, counter: int) -> bool:
        row = reader.at_or_below(epoch, Reservation.kind, counter)
        entry = None if row is None else decode_entry(row.body)
        return (
            isinstance(entry, Reservation)
            and entry.recorder == self.sealer.name
            and counter < entry.first + entry.count
        )

    def _append(self, drafts: Sequence[Draft], *, look: bool, again: bool = False) -> list[int]:
        """Append drafts and return their entries.

        `look` for generations that are in the log; `again` allows that they are these very ones.
        """
        found: list[int | None] = []

        def build(reader: Reader) -> list[Draft]:
            found[:] = [_logged(reader, draft, again=again) if look else None for draft in drafts]
            fresh = [draft for draft, at in zip(drafts, found, strict=True) if at is None]
            _require_reserved(reader, fresh)
            return _marked(reader, fresh)

        result = self.log.append_built(build, self.sealer)
        places = count(0 if result is None else result.first)
        return [next(places) if at is None else at for at in found]

    def _require_unqueued(self, drafts: Sequence[Draft]) -> None:
        wanted = {_counter(draft) for draft in drafts}
        for _, queued in self.spool.batches():
            if taken := wanted & {_counter(draft) for draft in queued}:
                epoch, counter = min(taken)
                raise AlreadySealed(f"counter {counter} of epoch {epoch} is sealed and queued")


def _require_reserved(reader: Reader, drafts: Sequence[Draft]) -> None:
    """Refuse what was reserved in a database that was lost: here it would be nobody's."""
    places = [_counter(draft) for draft in drafts]
    for epoch in {epoch for epoch, _ in places}:
        limit, last = high_water(reader, epoch), max(c for e, c in places if e == epoch)
        if last >= limit:
            raise NotReserved(
                f"counter {last} of epoch {epoch} was never reserved in this log",
                expected=f"below {limit}",
                next_step="after a restore: latentlog epoch list, and draw from the new epoch",
            )


def lost_batches(reader: Reader, spool: Spool) -> list[Path]:
    """Return the queued batches that this log cannot take: their reservations are not in it."""
    lost = []
    for path, drafts in spool.batches():
        try:
            _require_reserved(reader, drafts)
        except NotReserved:
            lost.append(path)
    return lost


def _marked(reader: Reader, drafts: list[Draft]) -> list[Draft]:
    """Mark those late whose counter was abandoned: by a retirement, an epoch's end, a restart."""
    if not drafts:
        return drafts
    places = [_counter(draft) for draft in drafts]
    first = min(places)
    span = Span(first[1], max(places)[1] - first[1] + 1)
    lost = abandoned_within(reader, first[0], span)
    if not lost:
        return drafts
    return [
        made_late(draft) if any(span.holds(counter) for span in lost) else draft
        for draft, (_, counter) in zip(drafts, places, strict=True)
    ]


def _logged(reader: Reader, draft: Draft, *, again: bool) -> int | None:
    epoch, counter = _counter(draft)
    rows = reader.by_counter(epoch, Generation.kind, (counter, -1), 1)
    if not rows or span_of(rows[0]).first != counter:
        return None
    # Salts are random: the same bytes are the same sealing.
    if not again or rows[0].body not in (draft.body, made_late(draft).body):
        raise AlreadySealed(
            f"counter {counter} of epoch {epoch} is sealed already, as entry {rows[0].index}"
        )
    return rows[0].index


def _counter(draft: Draft) -> tuple[int, int]:
    entry = draft.entry
    assert isinstance(entry, Generation)
    return entry.epoch, entry.counter
