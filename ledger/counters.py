"""What became of each counter of an epoch, streamed in counter order.

    reserved  0 … 4095   generation 0, 1, 2, …, 499   abandoned 500 … 4095

Three kinds of entries speak of counters; each is read in counter order, a page at a time, so an
epoch of a million latents takes no more memory than one of ten.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, NamedTuple

from latentlog.ledger.entry import Abandoned, Generation, Reservation, decode_entry
from latentlog.ledger.keystream import LATENT_LIMIT
from latentlog.ledger.storage import Reader, Row

_PAGE: Final = 1024

Open = Callable[[], AbstractContextManager[Reader]]
"""Opens a view for one page: a fresh transaction each time, or the one that is open already."""


State = Literal["reserved", "generated", "late", "abandoned"]


class Span(NamedTuple):
    """Counters `first` … `first + count - 1`."""

    first: int
    count: int  # type: ignore[assignment]  # how many, not tuple.count

    @property
    def stop(self) -> int:
        return self.first + self.count

    def holds(self, counter: int) -> bool:
        return self.first <= counter < self.stop


class CounterState(NamedTuple):
    """What became of a range of counters; `index` is the entry that says so."""

    first: int
    count: int  # type: ignore[assignment]  # how many, not tuple.count
    state: State
    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index


def within(reader: Reader) -> Open:
    """Read every page through one open transaction."""
    return lambda: nullcontext(reader)


def by_counter(open_reader: Open, epoch: int, kind: str, first: int = 0) -> Iterator[Row]:
    """Stream the rows of a kind in counter order, from the one that covers `first` on."""
    with open_reader() as reader:
        below = reader.at_or_below(epoch, kind, first)
    after = (first, -1)
    if below is not None and below.counter is not None and below.counter < first:
        yield below
    while True:
        with open_reader() as reader:
            rows = reader.by_counter(epoch, kind, after, _PAGE)
        if not rows:
            return
        yield from rows
        after = place(rows[-1])


def place(row: Row) -> tuple[int, int]:
    """The order of rows within an epoch: by counter, then by when they were logged."""
    return span_of(row).first, row.index


def span_of(row: Row) -> Span:
    """The counters a row speaks of."""
    return Span(row.counter or 0, row.length or 0)


def accounted(open_reader: Open, epoch: int, first: int = 0) -> Iterator[Row]:
    """Stream what became of counters: generations and abandonments, in counter order."""
    return heapq.merge(
        by_counter(open_reader, epoch, Generation.kind, first),
        by_counter(open_reader, epoch, Abandoned.kind, first),
        key=place,
    )


def gaps(open_reader: Open, epoch: int, span: Span) -> Iterator[Span]:
    """Yield the counters of `span` that are neither sealed nor abandoned."""
    at = span.first
    for row in accounted(open_reader, epoch, span.first):
        taken = span_of(row)
        if taken.first >= span.stop:
            break
        if taken.first > at:
            yield Span(at, taken.first - at)
        at = max(at, taken.stop)
    if at < span.stop:
        yield Span(at, span.stop - at)


def states(open_reader: Open, epoch: int) -> Iterator[tuple[Row, CounterState]]:
    """Stream what became of every reserved counter, each with its reservation, in one pass.

    A counter abandoned and then sealed late appears under both states.
    """
    rows = accounted(open_reader, epoch)
    row = next(rows, None)
    for reservation in by_counter(open_reader, epoch, Reservation.kind):
        block = span_of(reservation)
        at = block.first
        while row is not None and span_of(row).first < block.stop:
            span = _cut(span_of(row), block)
            if span.first > at:
                gap = CounterState(at, span.first - at, "reserved", reservation.index)
                yield reservation, gap
            yield (
                reservation,
                CounterState(*span, _state_of(row, covered=at > span.first), row.index),
            )
            at = max(at, span.stop)
            if span_of(row).stop > block.stop:
                break
            row = next(rows, None)
        if at < block.stop:
            left = CounterState(at, block.stop - at, "reserved", reservation.index)
            yield reservation, left


def pending(open_reader: Open, epoch: int, recorder: str | None = None) -> Iterator[Span]:
    """Yield the reserved counters that are not accounted for, of one recorder or of all."""
    for reservation, state in states(open_reader, epoch):
        if state.state == "reserved" and recorder in (None, _recorder_of(reservation)):
            yield Span(state.first, state.count)


def _state_of(row: Row, *, covered: bool) -> State:
    if row.kind == Generation.kind:
        # Covered already, by an abandonment: only a late generation may follow.
        return "late" if covered else "generated"
    return "abandoned"


def _cut(span: Span, block: Span) -> Span:
    first = max(span.first, block.first)
    return Span(first, max(0, min(span.stop, block.stop) - first))


def _recorder_of(reservation: Row) -> str:
    entry = decode_entry(reservation.body)
    assert isinstance(entry, Reservation)
    return entry.recorder


def high_water(reader: Reader, epoch: int) -> int:
    """Return the first counter of the epoch that was never reserved."""
    last = reader.at_or_below(epoch, Reservation.kind, LATENT_LIMIT)
    return 0 if last is None else span_of(last).stop


def abandoned_within(reader: Reader, epoch: int, span: Span) -> list[Span]:
    """Return the abandoned ranges that touch `span`."""
    found = []
    for row in by_counter(within(reader), epoch, Abandoned.kind, span.first):
        if span_of(row).first >= span.stop:
            break
        if span_of(row).stop > span.first:
            found.append(span_of(row))
    return found
