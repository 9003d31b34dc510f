"""A record as an examination sees it, over a log and the keys on this machine.

Everything is read as of the newest checkpoint: what it does not cover cannot be proven to anybody,
so it is not shown. Openings whose record key was erased are simply not there.
"""

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from latentlog.evidence.calibration import Calibration
from latentlog.evidence.errors import CalibrationMissing, NothingToExamine
from latentlog.evidence.measurements import LogCheck, State, Time
from latentlog.evidence.record import (
    BatchPlace,
    CounterView,
    EpochView,
    LoggedCalibration,
    ModelView,
    OpenedEntry,
)
from latentlog.ledger.audit import audit
from latentlog.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from latentlog.ledger.codec import format_time
from latentlog.ledger.commitment import Opening
from latentlog.ledger.counters import Span, span_of
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    Abandoned,
    CalibrationEntry,
    DisclosureEntry,
    Generation,
    ModelEntry,
    RecorderEntry,
    Reservation,
    Seal,
    decode_entry,
)
from latentlog.ledger.epochs import EpochState, derive_epoch_key, epoch_states
from latentlog.ledger.errors import (
    KeyFileMissing,
    MalformedOpening,
    NoSuchEntry,
    UnreadableOpening,
    WrongOpening,
)
from latentlog.ledger.home import Home, open_log, open_vault
from latentlog.ledger.keystream import EpochKey
from latentlog.ledger.log import Clock, Log, utc_now
from latentlog.ledger.openings import read_opening, stored_openings, verify_opening
from latentlog.ledger.registry import models
from latentlog.ledger.storage import Reader
from latentlog.ledger.store.vault import VaultStore
from latentlog.ledger.vault import open_opening


class LocalRecord:
    """`Record` over a `Log`; with the master key its latents, with the vault its openings."""

    def __init__(
        self, log: Log, *, master: bytes | None = None, vault: VaultStore | None = None
    ) -> None:
        """Look at `log` as of its newest checkpoint; raises `NotPublished` if it has none."""
        self._log = log
        self._master = master
        self._vault = vault
        self._checkpoint: VerifiedCheckpoint = log.checkpoint()

    @classmethod
    def open(cls, home: Home, *, clock: Clock = utc_now) -> Self:
        """Open a home's own log, with whatever keys the home holds."""
        log = open_log(home, clock=clock)
        try:
            return cls(log, master=_master_key(home), vault=open_vault(home))
        except BaseException:
            log.store.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.store.close()
        if self._vault is not None:
            self._vault.close()

    # The log.

    @property
    def origin(self) -> str:
        return self._log.origin

    @property
    def vkey(self) -> str:
        return self._log.vkey

    @property
    def checkpoint_note(self) -> bytes:
        return self._checkpoint.note

    @property
    def size(self) -> int:
        return self._checkpoint.checkpoint.size

    def entry(self, index: int) -> bytes:
        return self._log.entry(index).body

    def proof(self, index: int) -> list[Digest]:
        return self._log.prove(index, self.size)

    def batch(self, index: int) -> BatchPlace:
        batch = self._log.batch_of(index)
        return BatchPlace(batch.seal.index, batch.path, batch.position)

    def audit(self) -> Sequence[LogCheck]:
        """Recompute the whole log; what nobody else vouches for yet is named as not checked."""
        keys = {e.epoch: e.key for e in self.epochs() if e.key is not None}
        report = audit(self._log, epoch_keys=keys, vault=self._vault)
        first = next(iter(report.problems), None)
        detail = (
            f"{report.entries} entries, {report.seals} seals, {report.checkpoints} checkpoints"
            if first is None
            else f"problems found: {report.problems_found}, the first: {first.message}"
        )
        return (
            LogCheck(name="audit", ok=first is None, detail=detail),
            LogCheck(name="witnesses", ok=None, detail="no cosigned checkpoint is known here"),
            LogCheck(name="timestamps", ok=None, detail="no timestamp token is known here"),
        )

    # What was registered.

    def models(self) -> Sequence[ModelView]:
        return [_model_view(i, entry) for i, entry in models(self._log) if i < self.size]

    def epochs(self) -> Sequence[EpochView]:
        return [self._epoch_view(e) for e in epoch_states(self._log) if e.open_index < self.size]

    def recorder_entries(self, name: str) -> Sequence[int]:
        return [
            logged.index
            for logged in self._log.entries(kind=RecorderEntry.kind)
            if isinstance(logged.entry, RecorderEntry) and logged.entry.name == name
        ]

    def disclosures(self, epochs: Iterable[int]) -> Sequence[str]:
        wanted = set(epochs)
        return [
            f"recipient {entry.recipient.hex()[:16]}… in case {entry.case} (entry {logged.index})"
            for logged in self._log.entries(kind=DisclosureEntry.kind)
            if isinstance(entry := logged.entry, DisclosureEntry) and wanted & set(entry.epochs)
        ]

    # Counters.

    def counter(self, epoch: int, counter: int) -> CounterView:
        with self._log.snapshot() as reader:
            generated = _covering(reader, epoch, Generation.kind, counter)
            others = [
                index
                for kind in (Reservation.kind, Abandoned.kind)
                if (index := _covering(reader, epoch, kind, counter)) is not None
            ]
            abandoned = _covering(reader, epoch, Abandoned.kind, counter) is not None
        related = tuple(i for i in others if i < self.size)
        if generated is not None and generated < self.size:
            return CounterView(
                state="generated",
                index=generated,
                sealed_at=self._sealed_at(generated),
                related=related,
            )
        state: State = "abandoned" if abandoned else "reserved" if related else "never_issued"
        return CounterView(state=state, index=None, sealed_at=None, related=related)

    def generations(self, epoch: int) -> Iterator[tuple[int, int]]:
        for logged in self._log.entries(kind=Generation.kind, epoch=epoch):
            if logged.index >= self.size:
                return
            if isinstance(logged.entry, Generation):
                yield logged.entry.counter, logged.index

    def seed_counters(self, epoch: int) -> Iterator[int]:
        for logged in self._log.entries(kind=Generation.kind, epoch=epoch):
            if logged.index >= self.size:
                return
            if isinstance(logged.entry, Generation) and logged.entry.source == "seed":
                yield logged.entry.counter

    # Openings.

    def openings(self, epoch: int) -> Iterator[OpenedEntry]:
        """Stream what can be opened; one that does not open its entry is the audit's to report."""
        if self._vault is None:
            return
        for stored in stored_openings(self._log, self._vault, epoch=epoch):
            if stored.index >= self.size:
                return
            entry = decode_entry(stored.body)
            if (
                stored.blob is None
                or stored.record_key is None
                or not isinstance(entry, Generation)
            ):
                continue
            try:
                opening = open_opening(stored.record_key, stored.blob)
                yield OpenedEntry(stored.index, verify_opening(self.origin, entry, opening))
            except (UnreadableOpening, WrongOpening, MalformedOpening):
                continue

    def opening(self, index: int) -> Opening | None:
        if self._vault is None:
            return None
        try:
            return read_opening(self._log, self._vault, index)
        except (NoSuchEntry, UnreadableOpening):
            return None

    # Calibration.

    def calibration(self, model_digest: str) -> LoggedCalibration | None:
        newest = None
        for logged in self._log.entries(kind=CalibrationEntry.kind):
            entry = logged.entry
            if (
                isinstance(entry, CalibrationEntry)
                and entry.model_digest.hex() == model_digest
                and logged.index < self.size
            ):
                newest = (logged.index, entry.document)
        if newest is None:
            return None
        index, digest = newest
        return LoggedCalibration(index=index, document=self._log.document(digest))

    def control_root(self, model_digest: str) -> Digest:
        registered = [m.index for m in self.models() if m.digest == model_digest]
        if not registered:
            raise NothingToExamine("no such model is registered", got=model_digest)
        with self._log.snapshot() as reader:
            rows = reader.checkpoints(min(registered) + 1, 1)
        if not rows:
            raise CalibrationMissing(
                "no checkpoint covers the model's entry yet", next_step="latentlog checkpoint"
            )
        verified = verify_checkpoint(rows[0].note, self._log.verifier, self.origin)
        return verified.checkpoint.root

    def _epoch_view(self, state: EpochState) -> EpochView:
        return EpochView(
            epoch=state.epoch,
            model_digest=state.model_digest.hex(),
            dim=state.dim,
            high_water=state.high_water,
            open_index=state.open_index,
            close_index=state.close_index,
            key=self._epoch_key(state.epoch),
        )

    def _epoch_key(self, epoch: int) -> EpochKey | None:
        """Derive an epoch's key; None without the master key, or with one of another lineage."""
        if self._master is None:
            return None
        try:
            return derive_epoch_key(self._log, self._master, epoch)
        except WrongOpening:
            return None

    def _sealed_at(self, index: int) -> Time | None:
        seal = self._log.batch_of(index).seal.entry
        # The seal's time is the word of whoever sealed: no independent source.
        return (
            Time(at=format_time(seal.time), source="operator") if isinstance(seal, Seal) else None
        )


def log_calibration(log: Log, calibration: Calibration) -> int:
    """Store a calibration's document, append its entry and return the entry's index."""
    made = CalibrationEntry(
        model_digest=Digest.fromhex(calibration.model_digest),
        document=log.add_document(calibration.encode()),
        profile=calibration.profile,
        beta=calibration.beta,
        pipeline=calibration.pipeline,
        made=calibration.made,
    )
    return log.append([made]).first


def _master_key(home: Home) -> bytes | None:
    try:
        return home.master_key()
    except KeyFileMissing:
        return None


def _model_view(index: int, entry: ModelEntry) -> ModelView:
    channels, height, width = entry.output_shape
    low, high = entry.range
    return ModelView(
        index=index,
        name=entry.name,
        digest=entry.digest.hex(),
        format=entry.format,
        kind=entry.generator_kind,  # type: ignore[arg-type]  # the entry's codec allows these only
        steps=entry.steps,
        prior=entry.prior,
        latent_shape=entry.latent_shape,
        output_shape=(channels, height, width),
        lo=low,
        hi=high,
    )


def _covering(reader: Reader, epoch: int, kind: str, counter: int) -> int | None:
    """Return the entry of a kind whose range holds a counter."""
    row = reader.at_or_below(epoch, kind, counter)
    if row is None or not Span(*span_of(row)).holds(counter):
        return None
    return row.index
