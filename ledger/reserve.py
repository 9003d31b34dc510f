"""Reserving counters, and giving an account of those that were not used.

The next free counter is read and its reservation appended under the sequencer's lock, so two
recorders never hold the same one. What was reserved is remembered in the session file first; the
gaps are computed from the log, so an account is right whatever a crash left undone.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Final

from latentlog.ledger.batch import Draft, Sealer
from latentlog.ledger.counters import Span, gaps, high_water, within
from latentlog.ledger.entry import (
    BATCH_LIMIT,
    EPOCH_LATENTS,
    Abandoned,
    EpochClose,
    Reservation,
    decode_entry,
)
from latentlog.ledger.epochs import EpochState, epoch_state
from latentlog.ledger.errors import EpochClosed, EpochFull, ReservationExhausted, StorageUnavailable
from latentlog.ledger.keys import Random
from latentlog.ledger.log import Log
from latentlog.ledger.session import Block, Session
from latentlog.ledger.storage import Reader

EPOCH_AGE: Final = timedelta(hours=24)
"""An epoch older than this issues no more latents (protocol section 1)."""

_PAGE: Final = 256


class Reservations:
    """One recorder's reservations in one log."""

    def __init__(self, log: Log, sealer: Sealer, session: Session, random: Random) -> None:
        self._log: Final = log
        self._sealer: Final = sealer
        self._session: Final = session
        self._random: Final = random

    def reserve(self, epoch: int, count: int, *, least: int, detached: bool = False) -> Span:
        """Reserve `count` counters, or what is left of the epoch if that is at least `least`.

        Raises `EpochClosed`, `EpochFull`, and `ReservationExhausted` while the log is out of
        reach.
        """
        try:
            return self._reserve(epoch, count, least, detached)
        except StorageUnavailable as error:
            raise ReservationExhausted(
                "the reserved latents are used up and the log cannot be reached to reserve more",
                got=error.message,
                next_step="generation goes on when the database is back",
            ) from error

    def _reserve(self, epoch: int, count: int, least: int, detached: bool) -> Span:
        lease = self._random(16)
        block = Block(
            epoch=epoch, lease=lease, after=self._log.size, count=count, detached=detached
        )
        self._session.add(block)
        reserved: list[Reservation] = []

        def build(reader: Reader) -> list[Draft]:
            first, room = self._room(reader, epoch, least)
            entry = Reservation(
                epoch=epoch,
                recorder=self._sealer.name,
                lease=lease,
                first=first,
                count=min(count, room),
            )
            reserved.append(entry)
            return [Draft(entry)]

        try:
            self._log.append_built(build, self._sealer)
        except (EpochClosed, EpochFull):
            self._session.forget({lease})
            raise
        return self._session.resolve(lease, reserved[-1].first, reserved[-1].count).span

    def _room(self, reader: Reader, epoch: int, least: int) -> tuple[int, int]:
        state = epoch_state(reader, epoch)
        if not state.open:
            raise _closed(state)
        self._require_young(state)
        room = EPOCH_LATENTS - state.high_water
        if room < least:
            raise EpochFull(
                f"epoch {epoch} has issued all but {room} of its latents",
                expected=f"room for {least}",
                next_step=_advice(state),
            )
        return state.high_water, room

    def require_issuing(self, state: EpochState) -> None:
        """Return if latents that are reserved already may leave now.

        Raises `EpochFull` for an epoch past its age, `EpochClosed` for one that was closed
        meanwhile. While the log is out of reach its age alone is known.
        """
        self._require_young(state)
        with suppress(StorageUnavailable), self._log.snapshot() as reader:
            if reader.newest(EpochClose.kind, epoch=state.epoch) is not None:
                raise _closed(state)

    def _require_young(self, state: EpochState) -> None:
        if self._log.clock() - state.opened > EPOCH_AGE:
            raise EpochFull(
                f"epoch {state.epoch} was opened more than 24 hours ago and issues no more latents",
                got=f"opened {state.opened.isoformat()}",
                next_step=_advice(state),
            )

    def recover(self) -> None:
        """Account for what an earlier process of this recorder reserved and did not seal.

        Detached blocks stay until each of their counters is accounted for.
        """
        self.adopt()
        done: set[bytes] = set()
        for block in self._session.blocks:
            if not block.detached:
                self.abandon(block.epoch, [block.span], "crashed")
                done.add(block.lease)
            elif self._settled(block):
                done.add(block.lease)
        self._session.forget(done)

    def _settled(self, block: Block) -> bool:
        with self._log.snapshot() as reader:
            span = _below(block.span, high_water(reader, block.epoch))
            return next(gaps(within(reader), block.epoch, span), None) is None

    def end(self, epoch: int, drawn: Iterable[Span], reason: str) -> None:
        """Give up what this session holds: for `reason` what was drawn, the rest as ended."""
        self.abandon(epoch, drawn, reason)
        held = [b for b in self._session.blocks if not b.detached and b.first is not None]
        self.abandon(epoch, [block.span for block in held], "session_ended")
        self._session.forget({block.lease for block in held})

    def adopt(self) -> list[Span]:
        """Look for reservations whose append never answered; return those that are in the log.

        Their latents have not left, so a detached one is nobody's.
        """
        adopted = []
        for block in self._session.blocks:
            if block.first is not None:
                continue
            entry = self._find(block)
            if entry is None:
                self._session.forget({block.lease})
            else:
                found = self._session.resolve(block.lease, entry.first, entry.count, attach=True)
                adopted.append(found.span)
        return adopted

    def _find(self, block: Block) -> Reservation | None:
        with self._log.snapshot() as reader:
            for entry in _reservations(reader, block.after):
                if entry.lease == block.lease and entry.recorder == self._sealer.name:
                    return entry
        return None

    def abandon(self, epoch: int, spans: Iterable[Span], reason: str) -> None:
        """Log what is not accounted for in `spans` as abandoned."""
        spans = list(spans)

        def build(reader: Reader) -> list[Draft]:
            # What was reserved in a database that was lost is not in this one's epoch.
            limit = high_water(reader, epoch)
            unaccounted = (
                gap for span in spans for gap in gaps(within(reader), epoch, _below(span, limit))
            )
            return [
                Draft(Abandoned(epoch=epoch, first=gap.first, count=gap.count, reason=reason))
                for gap in islice(unaccounted, BATCH_LIMIT)
            ]

        while spans and self._log.append_built(build, self._sealer) is not None:
            pass


def _closed(state: EpochState) -> EpochClosed:
    return EpochClosed(f"epoch {state.epoch} is closed", next_step=_advice(state))


def _advice(state: EpochState) -> str:
    return f"latentlog epoch open {state.model}"


def _below(span: Span, limit: int) -> Span:
    return Span(span.first, max(0, min(span.stop, limit) - span.first))


def _reservations(reader: Reader, start: int) -> Iterator[Reservation]:
    while rows := reader.rows(start, _PAGE, kinds=(Reservation.kind,)):
        for row in rows:
            entry = decode_entry(row.body)
            if isinstance(entry, Reservation):
                yield entry
        start = rows[-1].index + 1
