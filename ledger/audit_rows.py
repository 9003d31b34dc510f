"""Audit of the rows in order: bytes, batches and their seals, the tree, keys and openings.

One pass, a page at a time. What it keeps is what a log of any length has few of: recorders, models,
epochs, erased entries, and the last 256 leaf hashes for the seal that follows them.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from latentlog.ledger.audit_counters import EpochPlace
from latentlog.ledger.audit_latents import LatentAudit
from latentlog.ledger.checkpoint import verify_checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    BATCH_LIMIT,
    OPERATOR,
    RECORDER_KINDS,
    Abandoned,
    CalibrationEntry,
    DisclosureEntry,
    Entry,
    EpochClose,
    EpochOpen,
    Erasure,
    Generation,
    ModelEntry,
    RecorderEntry,
    Reservation,
    Seal,
    decode_entry,
)
from latentlog.ledger.errors import LedgerError
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.keystream import EpochKey
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import Frontier, leaf_hash, root_of
from latentlog.ledger.openings import StoredOpening, stored_openings, verify_opening
from latentlog.ledger.problems import Problems
from latentlog.ledger.storage import CheckpointRow, Head, Row, Vault
from latentlog.ledger.tree import TILE_HEIGHT, TILE_WIDTH
from latentlog.ledger.vault import open_opening

_PAGE: Final = 256
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class RowAudit:
    """One pass over the rows of a log, as it stood when the pass began."""

    def __init__(
        self,
        log: Log,
        problems: Problems,
        epoch_keys: Mapping[int, EpochKey],
        vault: Vault | None,
        *,
        documents: bool,
    ) -> None:
        self._log: Final = log
        self._problems: Final = problems
        self._keys: Final = epoch_keys
        self._documents: Final = documents
        self._latents: Final = LatentAudit(log.origin, problems, epoch_keys)
        self._openings: Final = None if vault is None else OpeningAudit(log, problems, vault)
        self._batches: Final = BatchAudit(log, problems)
        self._tree: Final = TreeAudit(log, problems)
        self._models: Final[dict[str, ModelEntry]] = {}
        self._salts: Final[set[bytes]] = set()
        self._head = Head(0, b"", None)
        self.documents = 0
        self.epochs: Final[dict[int, EpochPlace]] = {}
        self.at = 0

    @property
    def seals(self) -> int:
        return self._batches.seals

    @property
    def checkpoints(self) -> int:
        return self._tree.checkpoints

    @property
    def openings(self) -> int:
        return 0 if self._openings is None else self._openings.opened

    def begin(self) -> int:
        """Fix the size of the log that is audited."""
        with self._log.snapshot() as reader:
            self._head = reader.head()
            stray = reader.rows(self._head.size, 1)
        if stray:
            self._say(stray[0].index, "row_past_head", "a row lies past the head of the log")
        return self._head.size

    def step(self, count: int) -> None:
        """Audit the next page of rows."""
        stop = min(self.at + count, self._head.size)
        with self._log.snapshot() as reader:
            rows = [row for row in reader.rows(self.at, count) if row.index < stop]
            tile = reader.tile(0, self.at // TILE_WIDTH)
        expected = None if tile is None else tile.hashes
        for row in rows:
            while self.at < row.index:
                self._missing()
            self._row(row, expected)
            self.at += 1
        while self.at < stop:
            self._missing()

    def end(self) -> None:
        """Check what is only known after the last row."""
        self._latents.flush()
        self._batches.end(self.at)
        self._tree.end(self._head)
        if self._openings is not None:
            self._openings.run(self._head.size)

    def _missing(self) -> None:
        self._say(self.at, "missing_row", "the row of this entry is missing")
        # A leaf that no entry has: every root from here on will differ.
        self._batches.leaf(self.at, Digest(bytes(32)))
        self._tree.leaf(Digest(bytes(32)))
        self.at += 1

    def _row(self, row: Row, tile: bytes | None) -> None:
        leaf = leaf_hash(row.body)
        place = row.index % TILE_WIDTH * 32
        if leaf != row.leaf_hash or (tile is not None and tile[place : place + 32] != leaf):
            self._say(row.index, "altered_row", "the body is not the one that was hashed")
        try:
            entry: Entry | None = decode_entry(row.body)
        except LedgerError as error:
            self._say(row.index, "malformed_entry", error.message)
            entry = None
        if entry is not None:
            if (row.kind, row.epoch, row.counter, row.length) != (entry.kind, *entry.placement):
                self._say(row.index, "wrong_columns", "the columns say other than the body")
            self._entry(row.index, entry)
        self._batches.row(row.index, leaf, entry)
        self._tree.leaf(leaf)

    def _entry(self, index: int, entry: Entry) -> None:
        match entry:
            case ModelEntry():
                self._model(index, entry)
            case EpochOpen():
                self._epoch_open(index, entry)
            case EpochClose():
                self._epoch_close(index, entry)
            case Generation():
                self._require_epoch(index, entry.epoch)
                self._latents.add(index, entry)
            case Reservation() | Abandoned():
                self._require_epoch(index, entry.epoch)
            case CalibrationEntry():
                self._document(index, entry)
            case DisclosureEntry():
                self._disclosure(index, entry)
            case Erasure():
                self._erasure(index, entry)
            case _:
                pass

    def _model(self, index: int, entry: ModelEntry) -> None:
        same = (known.name for known in self._models.values() if known.digest == entry.digest)
        if entry.name in self._models:
            self._say(index, "duplicate_model", f"model {entry.name} was registered before")
        elif (name := next(same, None)) is not None:
            message = f"model {entry.name} was registered before, as {name}"
            self._say(index, "duplicate_model", message)
        self._models.setdefault(entry.name, entry)

    def _epoch_open(self, index: int, entry: EpochOpen) -> None:
        if entry.epoch != len(self.epochs):
            message = f"epoch {entry.epoch} opened where {len(self.epochs)} is next"
            self._say(index, "wrong_epoch_number", message)
        model = self._models.get(entry.model)
        if model is None or (model.digest, model.dim) != (entry.model_digest, entry.dim):
            self._say(index, "wrong_model", f"epoch {entry.epoch} is of no registered model")
        if entry.salt in self._salts:
            # The salt is what keeps a restored log from issuing the same latents again.
            self._say(index, "repeated_salt", f"epoch {entry.epoch} has an earlier epoch's salt")
        self._salts.add(entry.salt)
        self.epochs.setdefault(entry.epoch, EpochPlace(index))
        self._latents.open(entry)
        key = self._keys.get(entry.epoch)
        if key is not None and entry.commitment != key.commitment(
            self._log.origin, entry.model_digest, entry.epoch, entry.salt
        ):
            message = f"the key shown for epoch {entry.epoch} is not the one committed to"
            self._say(index, "wrong_epoch_key", message)

    def _epoch_close(self, index: int, entry: EpochClose) -> None:
        place = self.epochs.get(entry.epoch)
        if place is None or place.closed is not None:
            self._say(index, "wrong_epoch_close", f"epoch {entry.epoch} is not open")
        else:
            place.closed, place.close = index, entry

    def _require_epoch(self, index: int, epoch: int) -> None:
        if epoch not in self.epochs:
            self._say(index, "unknown_epoch", f"epoch {epoch} was never opened")

    def _disclosure(self, index: int, entry: DisclosureEntry) -> None:
        for epoch in entry.epochs:
            place = self.epochs.get(epoch)
            if place is None:
                self._say(index, "unknown_epoch", f"epoch {epoch} was never opened")
            elif place.closed is None:
                message = f"epoch {epoch} was disclosed while it issued latents"
                self._say(index, "disclosed_while_open", message)

    def _erasure(self, index: int, entry: Erasure) -> None:
        with self._log.snapshot() as reader:
            row = reader.row(entry.index) if entry.index < index else None
        if row is None or row.kind != Generation.kind:
            self._say(index, "wrong_erasure", f"entry {entry.index} is no generation before it")
        elif self._openings is not None:
            self._openings.erased.add(entry.index)

    def _document(self, index: int, entry: CalibrationEntry) -> None:
        self.documents += 1
        if not self._documents:
            return
        try:
            self._log.document(entry.document)
        except LedgerError as error:
            self._say(index, "wrong_document", error.message)

    def _say(self, index: int, code: str, message: str) -> None:
        self._problems.add(index, code, message)


class BatchAudit:
    """Every entry under exactly one seal, by a key that may give it."""

    def __init__(self, log: Log, problems: Problems) -> None:
        self._log: Final = log
        self._problems: Final = problems
        self._leaves: Final[deque[Digest]] = deque(maxlen=BATCH_LIMIT)
        self._entries: Final[deque[Entry | None]] = deque(maxlen=BATCH_LIMIT)
        self._reserved: Final[dict[int, Reservation]] = {}
        self._recorders: Final[dict[str, RecorderEntry]] = {}
        self._keys: Final[dict[PublicKey, str]] = {log.verifier.key: OPERATOR}
        self._sealed: datetime | None = None
        self._first = 0
        self.seals = 0

    def leaf(self, index: int, leaf: Digest) -> None:
        """Take a leaf of which nothing more is known."""
        self._leaves.append(leaf)
        self._entries.append(None)

    def row(self, index: int, leaf: Digest, entry: Entry | None) -> None:
        """Take a row; a seal closes the batch before it."""
        if isinstance(entry, Seal):
            self._seal(index, entry)
            self.seals += 1
            self._leaves.clear()
            self._entries.clear()
            self._first = index + 1
            return
        self._leaves.append(leaf)
        self._entries.append(entry)
        if isinstance(entry, RecorderEntry):
            self._recorders[entry.name] = entry
            owner = self._keys.setdefault(entry.key, entry.name)
            if owner != entry.name:
                message = f"recorder {entry.name} has the key of {owner}: their seals look the same"
                self._say(index, "shared_key", message)

    def end(self, size: int) -> None:
        """Check that nothing is left without a seal."""
        self._unsealed(self._first, size)

    def _seal(self, index: int, seal: Seal) -> None:
        if seal.first + seal.count != index or seal.first < self._first:
            self._say(index, "wrong_seal", "the seal is not over the entries before it")
            return
        self._unsealed(self._first, seal.first)
        leaves = list(self._leaves)[-seal.count :]
        if root_of(leaves) != seal.root:
            message = f"entries {seal.first} to {index - 1} are not the ones that were sealed"
            self._say(seal.first, "altered_batch", message)
        try:
            seal.verify(self._log.origin)
        except LedgerError as error:
            self._say(index, "bad_seal", error.message)
        if self._sealed is not None and seal.time < self._sealed:
            message = f"sealed at {seal.time:{_TIME}}, after a seal of {self._sealed:{_TIME}}"
            self._say(index, "time_runs_back", message)
        self._sealed = seal.time
        self._signer(index, seal)

    def _signer(self, index: int, seal: Seal) -> None:
        if seal.signer == OPERATOR:
            if seal.key != self._log.verifier.key:
                self._say(index, "wrong_seal_key", "the operator's seal is not by the log's key")
            for entry in list(self._entries)[-seal.count :]:
                if isinstance(entry, Generation | Reservation):
                    message = f"the operator sealed a {entry.kind}, which is a recorder's to seal"
                    self._say(index, "wrong_signer", message)
            return
        recorder = self._recorders.get(seal.signer)
        if recorder is None:
            self._say(index, "unknown_recorder", f"recorder {seal.signer} was never registered")
        elif recorder.state != "active":
            self._say(index, "retired_recorder", f"recorder {seal.signer} was retired before")
        elif recorder.key != seal.key:
            self._say(index, "wrong_seal_key", f"the seal is not by the key of {seal.signer}")
        for entry in list(self._entries)[-seal.count :]:
            if entry is not None:
                self._owned(index, seal.signer, entry)

    def _owned(self, index: int, signer: str, entry: Entry) -> None:
        if entry.kind not in RECORDER_KINDS:
            self._say(index, "wrong_signer", f"a recorder sealed a {entry.kind} entry")
        owner = self._reservation(entry)
        if owner is not None and owner.recorder != signer:
            message = f"{signer} sealed a {entry.kind} that is {owner.recorder}'s"
            self._say(index, "wrong_signer", message)

    def _reservation(self, entry: Entry) -> Reservation | None:
        """Return the reservation that gave a recorder the right to this entry, if there is one."""
        epoch, counter, _ = entry.placement
        if isinstance(entry, Reservation) or epoch is None or counter is None:
            return entry if isinstance(entry, Reservation) else None
        last = self._reserved.get(epoch)
        if last is None or not last.first <= counter < last.first + last.count:
            with self._log.snapshot() as reader:
                row = reader.at_or_below(epoch, Reservation.kind, counter)
            found = None if row is None else _reservation_of(row)
            if found is None:
                return None
            self._reserved[epoch] = last = found
        return last if last.first <= counter < last.first + last.count else None

    def _unsealed(self, first: int, stop: int) -> None:
        if first < stop:
            self._say(first, "unsealed", f"no seal covers entries {first} to {stop - 1}")

    def _say(self, index: int, code: str, message: str) -> None:
        self._problems.add(index, code, message)


class TreeAudit:
    """The tree grown again from the leaves: tiles, checkpoints, the head row."""

    def __init__(self, log: Log, problems: Problems) -> None:
        self._log: Final = log
        self._problems: Final = problems
        self._frontier: Final = Frontier()
        self._stored: Final = _checkpoints(log)
        self._next = next(self._stored, None)
        self._layers: Final[dict[int, list[Digest]]] = {0: []}
        self._newest: int | None = None
        self.checkpoints = 0
        self._checkpoint()

    def leaf(self, leaf: Digest) -> None:
        """Take the next leaf."""
        self._layers[0].append(leaf)
        for level, index, node in self._frontier.append(leaf)[TILE_HEIGHT::TILE_HEIGHT]:
            height = level // TILE_HEIGHT
            self._tile(height - 1, index, node, self._layers[height - 1])
            self._layers[height - 1].clear()
            self._layers.setdefault(height, []).append(node)
        self._checkpoint()

    def end(self, head: Head) -> None:
        """Check the head row, and that no checkpoint speaks of entries that are not there."""
        if head.frontier != self._frontier.encode() or head.size != self._frontier.size:
            self._say(head.size, "wrong_head", "the head row is not the tree's edge")
        if head.published != self._newest and self._next is None:
            self._say(head.size, "wrong_head", "the head row names another newest checkpoint")
        if self._next is not None and self._log.size <= head.size:
            message = f"a checkpoint of {self._next.size} entries, and only {head.size} are there"
            self._say(head.size, "missing_row", message)

    def _tile(self, level: int, index: int, root: Digest, hashes: Sequence[Digest]) -> None:
        with self._log.snapshot() as reader:
            tile = reader.tile(level, index)
        first = index << TILE_HEIGHT * (level + 1)
        if tile is None:
            self._say(first, "missing_tile", f"tile {index} of level {level} is missing")
        elif (tile.root, tile.hashes) != (root, b"".join(hashes)):
            self._say(first, "wrong_tile", f"tile {index} of level {level} holds other hashes")

    def _checkpoint(self) -> None:
        size = self._frontier.size
        while self._next is not None and self._next.size <= size:
            row, self._next = self._next, next(self._stored, None)
            self.checkpoints += 1
            self._newest = row.size
            try:
                stated = verify_checkpoint(row.note, self._log.verifier, self._log.origin)
            except LedgerError as error:
                self._say(row.size, "bad_checkpoint", error.message)
                continue
            if (stated.checkpoint.size, stated.checkpoint.root) != (size, self._frontier.root()):
                message = f"the checkpoint of {row.size} entries has a root that they do not give"
                self._say(row.size, "forked_checkpoint", message)

    def _say(self, index: int, code: str, message: str) -> None:
        self._problems.add(index, code, message)


class OpeningAudit:
    """Every stored opening against its entry; erased ones without a key."""

    def __init__(self, log: Log, problems: Problems, vault: Vault) -> None:
        self._log: Final = log
        self._problems: Final = problems
        self._vault: Final = vault
        self.erased: Final[set[int]] = set()
        self.opened = 0

    def run(self, size: int) -> None:
        """Open everything up to `size`."""
        for stored in stored_openings(self._log, self._vault):
            if stored.index >= size:
                return
            self._one(stored, erased=stored.index in self.erased)

    def _one(self, stored: StoredOpening, *, erased: bool) -> None:
        index, body, blob, record_key = stored
        if blob is None:
            self._say(index, "missing_opening", "the opening of this entry is missing")
        elif record_key is None:
            if not erased:
                self._say(index, "missing_record_key", "no key opens it, and no erasure is logged")
        elif erased:
            self._say(index, "erasure_incomplete", "logged as erased, and its key is still there")
        else:
            try:
                entry = decode_entry(body)
                if isinstance(entry, Generation):
                    verify_opening(self._log.origin, entry, open_opening(record_key, blob))
                    self.opened += 1
            except LedgerError as error:
                self._say(index, "wrong_opening", error.message)

    def _say(self, index: int, code: str, message: str) -> None:
        self._problems.add(index, code, message)


def _reservation_of(row: Row) -> Reservation | None:
    try:
        entry = decode_entry(row.body)
    except LedgerError:
        return None
    return entry if isinstance(entry, Reservation) else None


def _checkpoints(log: Log) -> Iterator[CheckpointRow]:
    start = 0
    while True:
        with log.snapshot() as reader:
            rows = reader.checkpoints(start, _PAGE)
        if not rows:
            return
        yield from rows
        start = rows[-1].size + 1
