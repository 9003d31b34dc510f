"""The log: append sealed batches, publish signed checkpoints, prove what they hold.

    result = log.append([entry, …], sealer)   # entries first … first+n-1, their seal at first+n
    log.publish()                             # a checkpoint note over everything appended so far
    log.prove(result.first)                   # RFC 6962 inclusion proof for that checkpoint

One append is one transaction under the database's sequencer lock: entries, their seal, completed
tiles, encrypted openings and the head row commit together, so a crash leaves all of a batch or
nothing. Nothing here is kept in memory between calls but the recorders' keys.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from latentlog.ledger.batch import Draft, Sealer, batch_path, row_of, seal_batch
from latentlog.ledger.checkpoint import (
    Checkpoint,
    VerifiedCheckpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from latentlog.ledger.continuity import Continuity
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    BATCH_LIMIT,
    OPERATOR,
    RECORDER_KINDS,
    Entry,
    RecorderEntry,
    Seal,
    decode_entry,
)
from latentlog.ledger.errors import (
    ClockBehind,
    KeyFileMissing,
    NoSuchDocument,
    NoSuchEntry,
    NoSuchRecorder,
    NotPublished,
    RecorderRetired,
    WrongOrigin,
)
from latentlog.ledger.keys import PublicKey, SigningKey
from latentlog.ledger.merkle import Frontier, prove_consistency, prove_inclusion
from latentlog.ledger.note import NoteSigner, NoteVerifier
from latentlog.ledger.storage import (
    CheckpointRow,
    Head,
    OpeningRow,
    Reader,
    Row,
    Store,
    Writer,
)
from latentlog.ledger.tree import grow, node_reader

Clock = Callable[[], datetime]

# Calibration documents hold every trial's scores; nothing else is stored as a document.
DOCUMENT_LIMIT: Final = 64 << 20
_PAGE: Final = 512

CLOCK_SKEW: Final = timedelta(seconds=60)
"""How far clocks of several recorders may differ: a seal then takes the time of the one before."""


def utc_now() -> datetime:
    """Return the machine's time: the default clock."""
    return datetime.now(UTC)


class AppendResult(NamedTuple):
    """Where a batch went: entries from `first`, the seal after the last of them."""

    first: int
    seal_index: int


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry at its place, with its bytes as they are hashed into the tree."""

    index: int
    entry: Entry
    body: bytes


class Batch(NamedTuple):
    """The seal that covers an entry, and the path from the entry to the seal's root."""

    seal: LoggedEntry
    path: list[Digest]
    position: int


Build = Callable[[Reader], Sequence[Draft]]


class Log:
    """One log in one store. Without `signer` it reads, proves and lets recorders append."""

    def __init__(
        self,
        store: Store,
        *,
        origin: str,
        signer: SigningKey | None = None,
        public: PublicKey | None = None,
        clock: Clock = utc_now,
        continuity: Continuity | None = None,
    ) -> None:
        key = signer.public if signer is not None else public
        if key is None:
            raise RuntimeError("a log is known by its signing key or by its public key")
        self.store: Final = store
        self.origin: Final = origin
        self.verifier: Final = NoteVerifier(origin, key)
        self.clock: Final = clock
        self._signer = signer
        self._continuity = continuity
        self._recorders: dict[str, RecorderEntry] = {}
        self._recorders_read = 0
        claimed = store.claim(origin)
        if claimed != origin:
            raise WrongOrigin("the database is another log's", expected=origin, got=claimed)

    @property
    def vkey(self) -> str:
        """The verifier key by which others know this log."""
        return self.verifier.vkey

    @property
    def operator(self) -> Sealer:
        """The sealer of the log's own entries; raises `KeyFileMissing` without the log's key."""
        return Sealer(OPERATOR, self._require_signer())

    @property
    def size(self) -> int:
        with self.store.read() as reader:
            return reader.head().size

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()

    # Appending.

    def append(self, entries: Sequence[Entry], sealer: Sealer | None = None) -> AppendResult:
        """Append 1 to 256 entries and their seal, by the operator unless a sealer is given.

        Raises `StorageUnavailable`, after which the batch may or may not be in the log.
        """
        drafts = [Draft(entry) for entry in entries]
        return appended(self.append_built(lambda _: drafts, sealer))

    def append_built(self, build: Build, sealer: Sealer | None = None) -> AppendResult | None:
        """Append what `build` makes of the log as it stands under the lock; nothing if it is empty.

        Whatever `build` reads cannot change before its entries are in the log. Raises
        `DatabaseSuspended`, `CheckpointAhead` or `ForkDetected` where the database is not the one
        that was published, and `ClockBehind`.
        """
        sealer = sealer or self.operator
        with self.store.write() as writer:
            head = self._require_current(writer)
            drafts = build(writer)
            if not drafts:
                return None
            self.require_sealer(writer, sealer)
            return self._append(writer, head, drafts, sealer)

    def _append(
        self, writer: Writer, old: Head, drafts: Sequence[Draft], sealer: Sealer
    ) -> AppendResult:
        if len(drafts) > BATCH_LIMIT or any(isinstance(d.entry, Seal) for d in drafts):
            raise RuntimeError(f"an append holds at most {BATCH_LIMIT} entries and no seal")
        if sealer.name != OPERATOR and {d.entry.kind for d in drafts} - RECORDER_KINDS:
            raise RuntimeError("a recorder seals reservations, generations and abandonments only")
        leaves = [draft.leaf for draft in drafts]
        time = self._seal_time(writer, old)
        seal = Draft(seal_batch(sealer, self.origin, old.size, leaves, time))
        frontier = Frontier.decode(old.frontier)
        tiles = grow(writer, frontier, [*leaves, seal.leaf])
        rows = [row_of(old.size + n, draft) for n, draft in enumerate([*drafts, seal])]
        openings = [
            OpeningRow(row.index, draft.opening)
            for row, draft in zip(rows, drafts, strict=False)
            if draft.opening is not None
        ]
        writer.insert(rows, tiles, openings)
        writer.move_head(old, Head(frontier.size, frontier.encode(), old.published))
        return AppendResult(old.size, rows[-1].index)

    def require_sealer(self, reader: Reader, sealer: Sealer) -> None:
        """Return if `sealer` may seal now; raises `NoSuchRecorder` or `RecorderRetired`."""
        if sealer.name == OPERATOR:
            if sealer.key.public != self.verifier.key:
                raise RecorderRetired("only the log's own key seals the operator's entries")
            return
        recorder = self.recorder(reader, sealer.name)
        if recorder.state != "active" or recorder.key != sealer.key.public:
            raise RecorderRetired(
                f"recorder {sealer.name} is {recorder.state} with another key or no longer active",
                expected=f"active, key {recorder.key.hex()[:16]}…",
                got=f"{recorder.state}, key {sealer.key.public.hex()[:16]}…",
                next_step="latentlog recorder list",
            )

    def recorder(self, reader: Reader, name: str) -> RecorderEntry:
        """Return the newest `recorder` entry of a name; raises `NoSuchRecorder`."""
        while rows := reader.rows(self._recorders_read, _PAGE, kinds=("recorder",)):
            for row in rows:
                entry = decode_entry(row.body)
                if isinstance(entry, RecorderEntry):
                    self._recorders[entry.name] = entry
            self._recorders_read = rows[-1].index + 1
        if name not in self._recorders:
            raise NoSuchRecorder(
                f"no recorder is called {name!r}", next_step=f"latentlog recorder add {name}"
            )
        return self._recorders[name]

    # Publishing and proving.

    def publish(self) -> bytes:
        """Sign a checkpoint over everything appended so far and return its note.

        Without new entries the newest note is returned again, byte for byte.
        """
        with self.store.write() as writer:
            old, newest = self._require_current(writer), writer.checkpoint()
            if newest is not None and old.published == old.size:
                return newest.note
            root = Frontier.decode(old.frontier).root()
            signer = NoteSigner(self.origin, self._require_signer())
            note = sign_checkpoint(Checkpoint(self.origin, old.size, root), [signer])
            if self._continuity is not None:
                # Before the database says so: what was signed is never forgotten with it.
                self._continuity.advance(note, old.size)
            writer.add_checkpoint(CheckpointRow(old.size, note))
            writer.move_head(old, old._replace(published=old.size))
            return note

    def checkpoint(self) -> VerifiedCheckpoint:
        """Return the newest checkpoint, verified; raises `NotPublished` if there is none."""
        with self.store.read() as reader:
            return self._checkpoint(reader)

    def prove(self, index: int, size: int | None = None) -> list[Digest]:
        """Prove that entry `index` is in the tree of `size`, the newest checkpoint's by default.

        Raises `NotPublished` if that tree does not hold the entry yet.
        """
        with self.store.read() as reader:
            size = self._require_size(reader, size)
            if not 0 <= index < size:
                self._require_row(reader, index)
                raise NotPublished(
                    f"no checkpoint covers entry {index} yet",
                    expected=f"an index below {size}",
                    got=str(index),
                    next_step="latentlog checkpoint",
                )
            return prove_inclusion(node_reader(reader), index, size)

    def prove_consistency(self, old: int, new: int | None = None) -> list[Digest]:
        """Prove that the tree of `old` entries is a prefix of that of `new`, by default newest."""
        with self.store.read() as reader:
            return prove_consistency(node_reader(reader), old, self._require_size(reader, new))

    def batch_of(self, index: int) -> Batch:
        """Return the seal that covers an entry and the path to it.

        Raises `NoSuchEntry`, also for a seal: seals are not sealed.
        """
        with self.store.read() as reader:
            if self._require_row(reader, index).kind == Seal.kind:
                raise NoSuchEntry(f"entry {index} is itself a seal")
            rows = reader.rows(index + 1, 1, kinds=(Seal.kind,))
            if not rows:
                raise NoSuchEntry(f"no seal follows entry {index}", next_step="latentlog audit")
            logged = _logged(rows[0])
            seal = logged.entry
            if not isinstance(seal, Seal) or not seal.first <= index < seal.first + seal.count:
                raise NoSuchEntry(f"no seal covers entry {index}", next_step="latentlog audit")
            leaves = reader.leaf_hashes(seal.first, seal.count)
        return Batch(logged, batch_path(leaves, index - seal.first), index - seal.first)

    # Reading.

    def entry(self, index: int) -> LoggedEntry:
        """Return one entry; raises `NoSuchEntry`."""
        with self.store.read() as reader:
            return _logged(self._require_row(reader, index))

    def entries(
        self, start: int = 0, kind: str | None = None, epoch: int | None = None
    ) -> Iterator[LoggedEntry]:
        """Stream entries in order, a page at a time, those appended meanwhile included."""
        kinds = () if kind is None else (kind,)
        while True:
            # No transaction stays open while the caller works on a page.
            with self.store.read() as reader:
                rows = reader.rows(start, _PAGE, kinds=kinds, epoch=epoch)
            if not rows:
                return
            yield from map(_logged, rows)
            start = rows[-1].index + 1

    def opening(self, index: int) -> bytes:
        """Return the encrypted opening of an entry; raises `NoSuchEntry` if it has none."""
        with self.store.read() as reader:
            self._require_row(reader, index)
            blob = reader.opening(index)
        if blob is None:
            raise NoSuchEntry(f"entry {index} has no opening")
        return blob

    def openings(self, start: int = 0) -> Iterator[OpeningRow]:
        """Stream the encrypted openings of entries from `start` on."""
        while True:
            with self.store.read() as reader:
                rows = reader.openings(start, _PAGE)
            if not rows:
                return
            yield from rows
            start = rows[-1].index + 1

    # Documents: long texts that entries name by digest.

    def add_document(self, body: bytes) -> Digest:
        """Store a document and return its digest; an entry that names it makes it count."""
        if len(body) > DOCUMENT_LIMIT:
            raise NoSuchDocument(
                "the document is too large",
                expected=f"at most {DOCUMENT_LIMIT} bytes",
                got=str(len(body)),
            )
        digest = Digest.of(body)
        with self.store.write() as writer:
            writer.add_document(digest, body)
        return digest

    def document(self, digest: Digest) -> bytes:
        """Return a stored document, its digest recomputed; raises `NoSuchDocument`."""
        with self.store.read() as reader:
            body = reader.document(digest)
        if body is None or Digest.of(body) != digest:
            raise NoSuchDocument(f"no document {digest.hex()[:16]}… is stored, or it was altered")
        return body

    # Inner workings.

    def snapshot(self) -> AbstractContextManager[Reader]:
        """Read several things of one state of the log."""
        return self.store.read()

    def require_appendable(self) -> None:
        """Raise what keeps this database from being appended to, if anything does."""
        with self.store.read() as reader:
            if self._continuity is not None:
                self._continuity.require(reader, reader.head())

    def _require_current(self, writer: Writer) -> Head:
        head = writer.head()
        if self._continuity is not None:
            self._continuity.require(writer, head)
            self._continuity.remember(writer, head)
        return head

    def _seal_time(self, reader: Reader, head: Head) -> datetime:
        """Return the time of the next seal, which is never before that of the last one."""
        now = self.clock().replace(microsecond=0)
        row = reader.row(head.size - 1) if head.size else None
        last = None if row is None or row.kind != Seal.kind else decode_entry(row.body)
        if not isinstance(last, Seal) or last.time <= now:
            return now
        if last.time - now > CLOCK_SKEW:
            raise ClockBehind(
                "this machine's clock is behind the newest entry of the log",
                expected=f"{last.time:%Y-%m-%dT%H:%M:%SZ} or later",
                got=f"{now:%Y-%m-%dT%H:%M:%SZ}",
                next_step="set the clock (timedatectl), then repeat the command",
            )
        return last.time

    def _require_signer(self) -> SigningKey:
        if self._signer is None:
            raise KeyFileMissing("this needs the log's signing key, which is not on this machine")
        return self._signer

    def _checkpoint(self, reader: Reader) -> VerifiedCheckpoint:
        row = reader.checkpoint()
        if row is None:
            raise NotPublished("the log has no checkpoint yet", next_step="latentlog checkpoint")
        return verify_checkpoint(row.note, self.verifier, self.origin)

    def _require_size(self, reader: Reader, size: int | None) -> int:
        if size is None:
            return self._checkpoint(reader).checkpoint.size
        if size > reader.head().size:
            raise NoSuchEntry(f"the log has no {size} entries yet", got=str(reader.head().size))
        return size

    def _require_row(self, reader: Reader, index: int) -> Row:
        row = reader.row(index) if index >= 0 else None
        if row is None:
            raise NoSuchEntry(
                f"there is no entry {index}", expected=f"0 to {reader.head().size - 1}"
            )
        return row


def appended(result: AppendResult | None) -> AppendResult:
    """Return the result of an append that had something to append."""
    if result is None:
        raise RuntimeError("an append holds at least one entry")
    return result


def _logged(row: Row) -> LoggedEntry:
    return LoggedEntry(row.index, decode_entry(row.body), row.body)
