"""Audit of one epoch's counters, by the rule of protocol section 2.

Reservations cover 0, 1, 2 … without holes or overlaps, and come before what they are used for.
Each counter has exactly one of: a generation; an abandonment; an abandonment, then one generation
marked late. A closed epoch leaves none unaccounted for.
"""

from dataclasses import dataclass
from typing import Final

from latentlog.ledger.counters import accounted, by_counter, span_of
from latentlog.ledger.entry import Abandoned, EpochClose, Reservation
from latentlog.ledger.log import Log
from latentlog.ledger.problems import Problems
from latentlog.ledger.storage import Row

_LATE: Final = b'"late":true'


@dataclass
class EpochPlace:
    """Where an epoch was opened and, if it was, closed."""

    opened: int
    closed: int | None = None
    close: EpochClose | None = None


def audit_counters(log: Log, problems: Problems, epoch: int, place: EpochPlace, size: int) -> None:
    """Check every counter of an epoch as the log stood at `size`, in one ordered pass."""
    _Audit(log, problems, epoch, place, size).run()


class _Audit:
    def __init__(
        self, log: Log, problems: Problems, epoch: int, place: EpochPlace, size: int
    ) -> None:
        self._log = log
        self._problems = problems
        self._epoch = epoch
        self._place = place
        self._size = size
        self._abandoned: Row | None = None
        self._generation: Row | None = None

    def run(self) -> None:
        rows = (r for r in accounted(self._log.snapshot, self._epoch) if r.index < self._size)
        row = next(rows, None)
        covered = stop = 0
        for reservation in by_counter(self._log.snapshot, self._epoch, Reservation.kind):
            if reservation.index >= self._size:
                continue
            self._reservation(reservation, expected=stop)
            self._reached(reservation, covered)
            stop = max(stop, span_of(reservation).stop)
            while row is not None and span_of(row).first < stop:
                covered = self._account(row, reservation, covered)
                row = next(rows, None)
            if covered < stop:
                self._require_open(covered, stop)
                covered = stop
        while row is not None:
            self._say(row, "not_reserved", f"counter {row.counter} was never reserved")
            row = next(rows, None)
        if covered > stop and self._abandoned is not None:
            self._say(self._abandoned, "not_reserved", f"counter {stop} was never reserved")
        close = self._place.close
        if close is not None and close.high_water != stop:
            self._problems.add(
                self._place.closed or 0,
                "wrong_high_water",
                f"epoch {self._epoch} was closed at {close.high_water}, reserved up to {stop}",
            )

    def _reservation(self, row: Row, *, expected: int) -> None:
        first = span_of(row).first
        if first > expected:
            self._say(row, "gap", f"counters {expected} to {first - 1} were never reserved")
        elif first < expected:
            self._say(row, "reserved_twice", f"counter {first} was reserved before")
        if self._place.closed is not None and row.index > self._place.closed:
            self._say(row, "reserved_after_close", f"epoch {self._epoch} was closed before")

    def _reached(self, reservation: Row, covered: int) -> None:
        """An abandonment may reach into the next block, if that was reserved before it."""
        lost = self._abandoned
        first = span_of(reservation).first
        if lost is not None and covered > first and lost.index < reservation.index:
            self._say(lost, "used_before_reserved", "counters were reserved later")

    def _account(self, row: Row, reservation: Row, covered: int) -> int:
        span = span_of(row)
        if row.index < reservation.index:
            self._say(row, "used_before_reserved", f"counter {span.first} was reserved later")
        if span.first > covered:
            self._require_open(covered, span.first)
        if row.kind == Abandoned.kind:
            self._abandonment(row)
        else:
            self._generated(row)
        return max(covered, span.stop)

    def _abandonment(self, row: Row) -> None:
        first = span_of(row).first
        if self._abandoned is not None and first < span_of(self._abandoned).stop:
            self._say(row, "abandoned_twice", f"counter {first} was abandoned before")
        if self._generation is not None and span_of(self._generation).first >= first:
            self._say(row, "abandoned_after_sealing", f"counter {first} was sealed before")
        self._require_before_close(row)
        self._abandoned = row

    def _generated(self, row: Row) -> None:
        counter = span_of(row).first
        if self._generation is not None and span_of(self._generation).first == counter:
            self._say(row, "duplicate_counter", f"counter {counter} was sealed before")
        self._generation = row
        late, lost = _LATE in row.body, self._abandoned
        if lost is not None and span_of(lost).holds(counter):
            if row.index < lost.index:
                self._say(lost, "abandoned_after_sealing", f"counter {counter} was sealed before")
            elif not late:
                self._say(row, "not_marked_late", f"counter {counter} was abandoned before")
        elif not late:
            self._require_before_close(row)
        else:
            self._say(row, "late_without_abandonment", f"counter {counter} was not abandoned")

    def _require_before_close(self, row: Row) -> None:
        if self._place.closed is not None and row.index > self._place.closed:
            self._say(row, "accounted_after_close", "the epoch was closed before")

    def _require_open(self, first: int, stop: int) -> None:
        if self._place.closed is not None:
            self._problems.add(
                self._place.closed,
                "unaccounted",
                f"counters {first} to {stop - 1} of closed epoch {self._epoch} are neither sealed "
                "nor abandoned",
            )

    def _say(self, row: Row, code: str, message: str) -> None:
        self._problems.add(row.index, code, f"{message} (epoch {self._epoch})")
