"""The recorder: what a developer's service imports. Reserve, generate, seal.

    with Recorder.open("faces") as r:
        d = r.draw(8)                                  # latents of 8 reserved counters
        x = generator(d.latents)
        r.seal(d, outputs=x, conditioning={"prompt": "…"})

Order of writes, so that a crash at any instruction loses and hides nothing: the session file
names the block, then the reservation is logged, then its latents leave; a sealed record's key goes
to the vault, then its entry to the log or, while the database is away, to the durable queue. What
is drawn and not sealed is logged as abandoned when the session ends, or by the next start.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from latentlog.ledger.admission import NOT_NOW, Admission
from latentlog.ledger.batch import Sealer
from latentlog.ledger.contents import contents_of
from latentlog.ledger.counters import Span
from latentlog.ledger.entry import BATCH_LIMIT, EPOCH_LATENTS, ModelEntry
from latentlog.ledger.epochs import epoch_state, newest_open_epoch
from latentlog.ledger.errors import (
    AlreadySealed,
    NoSuchEpoch,
    NotPublished,
    NotReserved,
    StorageUnavailable,
)
from latentlog.ledger.home import Home, open_log, open_vault
from latentlog.ledger.issue import Draw, Issuer, Seed, runs
from latentlog.ledger.keys import Random
from latentlog.ledger.log import Clock, Log, utc_now
from latentlog.ledger.outputs import as_outputs
from latentlog.ledger.registry import find_model
from latentlog.ledger.reserve import Reservations
from latentlog.ledger.sealing import SealedRecord, Unsealed, seal_records
from latentlog.ledger.session import Session
from latentlog.ledger.spool import Spool
from latentlog.ledger.storage import Vault

DEFAULT_BLOCK: Final = 4096


class Sealed(NamedTuple):
    """What was sealed: the entry of each counter, `None` while it waits in the queue."""

    epoch: int
    entries: Mapping[int, int | None]

    @property
    def queued(self) -> bool:
        return None in self.entries.values()


class Recorder:
    """One recorder's session; made by `open`, used by one thread."""

    def __init__(
        self,
        home: Home,
        log: Log,
        vault: Vault,
        session: Session,
        sealer: Sealer,
        random: Random,
    ) -> None:
        self._home: Final = home
        self._log: Final = log
        self._vault: Final = vault
        self._session: Final = session
        self._random: Final = random
        self._reservations: Final = Reservations(log, sealer, session, random)
        self._admission: Final = Admission(log, sealer, Spool(home.queue_path(sealer.name)))
        self._issuers: Final[dict[int, Issuer]] = {}
        self._issuer: Issuer | None = None
        self._block = DEFAULT_BLOCK
        self._free: list[Span] = []
        self._drawn: set[int] = set()
        self.name: Final = sealer.name

    @classmethod
    def open(
        cls,
        model: str | None = None,
        *,
        home: Home | str | Path | None = None,
        recorder: str | None = None,
        block: int = DEFAULT_BLOCK,
        clock: Clock = utc_now,
        random: Random = os.urandom,
    ) -> "Recorder":
        """Start a session, accounting first for what an earlier one left behind.

        `model` names the model to draw for, by its newest open epoch; without it only what was
        drawn detached can be sealed. Latents are reserved `block` at a time. Raises
        `RecorderBusy`, `RecorderRetired`, `NoSuchEpoch`, `NotPublished` and what opening raises.
        """
        home = home if isinstance(home, Home) else Home.open(home)
        name = recorder or home.recorder
        with ExitStack() as opened:
            session = Session.open(home.session_path(name), name)
            opened.callback(session.close)
            log = open_log(home, clock=clock)
            opened.callback(log.store.close)
            vault = open_vault(home)
            opened.callback(vault.close)
            sealer = Sealer(name, home.recorder_key(name))
            with log.snapshot() as reader:
                log.require_sealer(reader, sealer)
            made = cls(home, log, vault, session, sealer, random)
            made._recover()
            if model is not None:
                made._begin(model, block)
            opened.pop_all()
        return made

    def _recover(self) -> None:
        self._admission.drain()
        self._reservations.recover()

    def _begin(self, model: str, block: int) -> None:
        state = newest_open_epoch(self._log, model)
        if state.open_index >= self._log.checkpoint().checkpoint.size:
            raise NotPublished(
                f"no checkpoint covers the opening of epoch {state.epoch}; nothing may be drawn",
                next_step="latentlog checkpoint",
            )
        self._issuer = self._issuer_of(state.epoch)
        self._block = block

    # Drawing.

    @property
    def origin(self) -> str:
        return self._log.origin

    @property
    def model(self) -> ModelEntry:
        """The model that is drawn for."""
        return self._drawing.model

    @property
    def epoch(self) -> int:
        """The epoch that is drawn from."""
        return self._drawing.state.epoch

    def draw(self, n: int) -> Draw:
        """Return the latents of `n` reserved counters.

        Raises `ReservationExhausted` when the block is used up and the log is out of reach,
        `EpochFull` or `EpochClosed` when this epoch issues no more.
        """
        issuer = self._drawing
        span = self._take(n)
        self._drawn.update(range(span.first, span.stop))
        return issuer.draw(span)

    def _take(self, n: int) -> Span:
        _require_count(n)
        self._reservations.require_issuing(self._drawing.state)
        place = self._room_for(n)
        if place is None:
            with suppress(StorageUnavailable):
                # A reservation whose answer was lost; reserving says what is wrong, if anything.
                self._free += self._reservations.adopt()
            place = self._room_for(n)
        if place is None:
            count = max(n, self._block)
            self._free.append(self._reservations.reserve(self.epoch, count, least=n))
            place = len(self._free) - 1
        block = self._free.pop(place)
        if block.count > n:
            self._free.insert(place, Span(block.first + n, block.count - n))
        return Span(block.first, n)

    def _room_for(self, n: int) -> int | None:
        return next((i for i, block in enumerate(self._free) if block.count >= n), None)

    # Sealing.

    def seal(
        self,
        draw: Draw,
        *,
        outputs: Any = None,
        conditioning: Any = None,
        sampler: Any = None,
        compute: Any = None,
    ) -> Sealed:
        """Seal what was made of a draw; when this returns it survives a crash.

        `outputs` is one `Output` for each counter, or floats (N, C, H, W) in the model's range.
        The others are a JSON object for all, or a sequence with one for each; floats in them are
        kept as decimal strings. Appended in batches of 256, each whole or not at all. Raises
        `NotReserved`, `AlreadySealed`.
        """
        issuer = self._drawing
        if draw.epoch != issuer.state.epoch:
            raise NotReserved(f"epoch {draw.epoch} is not this session's")
        self._require_drawn(draw.counters)
        outputs = None if outputs is None else as_outputs(outputs, issuer.model.range)
        contents = contents_of(
            draw.count,
            outputs=outputs,
            conditioning=conditioning,
            sampler=sampler,
            compute=compute,
        )
        latents = issuer.latent_digests(draw.counters)
        return self._seal(issuer, _unsealed(draw.counters, latents, contents))

    def seal_seed(
        self,
        seeds: Sequence[Seed],
        *,
        outputs: Any = None,
        conditioning: Any = None,
        sampler: Any = None,
        compute: Any = None,
    ) -> Sealed:
        """Seal generations of a pipeline that draws its own latents, one reserved counter each."""
        issuer = self._drawing
        outputs = None if outputs is None else as_outputs(outputs, issuer.model.range)
        contents = contents_of(
            len(seeds),
            outputs=outputs,
            conditioning=conditioning,
            sampler=sampler,
            compute=compute,
            seeds=seeds,
        )
        span = self._take(len(seeds))
        counters = range(span.first, span.stop)
        self._drawn.update(counters)
        return self._seal(issuer, _unsealed(counters, [s.latent for s in seeds], contents))

    def fail(self, draw: Draw) -> None:
        """Log a draw whose generation failed as abandoned."""
        self._require_drawn(draw.counters)
        self._reservations.abandon(draw.epoch, [Span(draw.first, draw.count)], "failed")
        self._drawn -= set(draw.counters)

    def drain(self) -> int:
        """Append what waits in the queue; return how many entries that were."""
        return self._admission.drain()

    def _seal(self, issuer: Issuer, records: list[Unsealed], *, detached: bool = False) -> Sealed:
        entries: dict[int, int | None] = {}
        for at in range(0, len(records), BATCH_LIMIT):
            batch = self._commit(issuer, records[at : at + BATCH_LIMIT])
            entries |= self._admission.append(batch, detached=detached)
            if not detached:
                self._drawn.difference_update(record.counter for record in batch)
        return Sealed(issuer.state.epoch, entries)

    def _commit(self, issuer: Issuer, records: list[Unsealed]) -> list[SealedRecord]:
        batch = seal_records(
            records,
            origin=self._log.origin,
            epoch=issuer.state.epoch,
            salt_key=issuer.keys.latent_salt,
            random=self._random,
        )
        self._vault.put([record.key for record in batch])
        return batch

    def _require_drawn(self, counters: Sequence[int]) -> None:
        for counter in counters:
            if counter not in self._drawn:
                raise AlreadySealed(
                    f"counter {counter} was sealed or given up before, or not drawn here"
                )

    # Detached: drawn by one process, sealed by another (`latentlog draw`, `latentlog record`).

    def reserve_detached(self, n: int) -> Draw:
        """Draw `n` latents that outlive this session: they wait until sealed or abandoned."""
        _require_count(n)
        issuer = self._drawing
        span = self._reservations.reserve(self.epoch, n, least=n, detached=True)
        return issuer.draw(span)

    def seal_detached(
        self,
        epoch: int,
        counters: Sequence[int],
        *,
        outputs: Any = None,
        conditioning: Any = None,
        sampler: Any = None,
        compute: Any = None,
    ) -> Sealed:
        """Seal ascending counters that `reserve_detached` gave out, or this recorder lost before.

        A counter that was abandoned meanwhile is sealed late. Raises `NotReserved`,
        `AlreadySealed`.
        """
        if list(counters) != sorted(set(counters)):
            raise NotReserved("counters are sealed in ascending order, each once")
        issuer = self._issuer_of(epoch)
        self._require_ours(epoch, counters)
        outputs = None if outputs is None else as_outputs(outputs, issuer.model.range)
        contents = contents_of(
            len(counters),
            outputs=outputs,
            conditioning=conditioning,
            sampler=sampler,
            compute=compute,
        )
        records = _unsealed(counters, issuer.latent_digests(counters), contents)
        return self._seal(issuer, records, detached=True)

    def abandon_detached(self, epoch: int, first: int, count: int) -> None:
        """Log detached counters that nothing was made of as abandoned; raises `NotReserved`."""
        self._require_ours(epoch, range(first, first + count))
        self._reservations.abandon(epoch, [Span(first, count)], "failed")

    def detached(self) -> list[tuple[int, Span]]:
        """Return the detached blocks that were not fully accounted for at this start."""
        return [(block.epoch, block.span) for block in self._session.blocks if block.detached]

    def _require_ours(self, epoch: int, counters: Sequence[int]) -> None:
        lost = [c for c in counters if not self._session.holds_detached(epoch, c)]
        for span in runs(lost):
            self._admission.require_lost(epoch, span)

    # Ending.

    def close(self, *, failed: bool = False) -> None:
        """End the session: append what waits, abandon what was drawn or reserved and not sealed.

        While the log is out of reach both are left to the next start.
        """
        try:
            self._admission.drain()
            if self._issuer is not None:
                reason = "failed" if failed else "session_ended"
                self._reservations.end(self.epoch, runs(sorted(self._drawn)), reason)
        except NOT_NOW:
            pass  # the next start appends and abandons
        finally:
            self._vault.close()
            self._log.store.close()
            self._session.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(failed=error is not None)

    # Inner workings.

    @property
    def _drawing(self) -> Issuer:
        if self._issuer is None:
            raise NoSuchEpoch("this session draws for no model", next_step='Recorder.open("MODEL")')
        return self._issuer

    def _issuer_of(self, epoch: int) -> Issuer:
        if epoch not in self._issuers:
            with self._log.snapshot() as reader:
                state = epoch_state(reader, epoch)
                model = find_model(reader, state.model).entry
            assert isinstance(model, ModelEntry)
            self._issuers[epoch] = Issuer(state, model, self._home.recorder_keys(epoch))
        return self._issuers[epoch]


def _unsealed(
    counters: Sequence[int], latents: Sequence[Any], contents: Sequence[Mapping[str, Any]]
) -> list[Unsealed]:
    return list(map(Unsealed, counters, latents, contents))


def _require_count(n: int) -> None:
    if not 1 <= n <= EPOCH_LATENTS:
        raise NotReserved(
            "that many latents cannot be drawn", expected=f"1 to {EPOCH_LATENTS}", got=str(n)
        )
