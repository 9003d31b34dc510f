"""Every error of the ledger, in one tree.

    LedgerError
    ├── input        NotCanonical · every Malformed…: bytes that are not what they claim to be
    ├── integrity    BadSignature · InvalidProof · WrongOpening · WrongOrigin · ForkDetected · …
    ├── untrusted    UnknownSigner
    ├── environment  KeyFileMissing · KeyFileExposed · TableMismatch · DatabaseMissing · …
    └── usage        LatentOutOfRange · NotALatent · KeyFileExists

`kind` decides the exit code, in one place (`cli/app.py`). Bad input is always one of these;
`AssertionError` and `RuntimeError` are bugs.
"""

import re
from typing import ClassVar, Literal

Kind = Literal["usage", "input", "integrity", "environment", "untrusted"]


class LedgerError(Exception):
    """Something about the ledger's bytes, keys or storage is not as it must be."""

    kind: ClassVar[Kind] = "input"

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = got
        self.next_step = next_step

    @property
    def code(self) -> str:
        """The class name in snake_case: the stable name of this error in `--json` output."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()


# Bytes that are not what they claim to be.


class MalformedDigest(LedgerError):
    """Not 32 bytes, or not 64 lowercase hexadecimal digits."""


class NotCanonical(LedgerError):
    """JSON that RFC 8785 would write differently, or a value it may not hold."""


class MalformedDecimal(LedgerError):
    """A decimal string that is not the shortest form of a finite float."""


class MalformedNote(LedgerError):
    """Not a C2SP signed note."""


class MalformedCheckpoint(LedgerError):
    """A note text that is not a C2SP checkpoint."""


class MalformedProof(LedgerError):
    """Not a C2SP tlog-proof, or a proof of impossible shape."""


class MalformedKey(LedgerError):
    """A key file, public key or vkey that cannot be read."""


class MalformedOpening(LedgerError):
    """An opening that cannot be read, or content its field may not hold."""


class MalformedEntry(LedgerError):
    """Bytes that are not a known log entry."""


class MalformedFrontier(LedgerError):
    """A stored tree frontier of the wrong size."""


class MalformedTile(LedgerError):
    """A tile, entry bundle or tile path that breaks c2sp.org/tlog-tiles."""


class MalformedHome(LedgerError):
    """A file of the home (configuration, session, queue) that cannot be read."""


# Bytes that are well formed and wrong.


class BadSignature(LedgerError):
    """A signature that its key did not make over these bytes."""

    kind: ClassVar[Kind] = "integrity"


class InvalidProof(LedgerError):
    """A Merkle proof that does not lead to the root."""

    kind: ClassVar[Kind] = "integrity"


class WrongOpening(LedgerError):
    """A value or salt that does not open the logged commitment."""

    kind: ClassVar[Kind] = "integrity"


class WrongOrigin(LedgerError):
    """A checkpoint of another log."""

    kind: ClassVar[Kind] = "integrity"


class ForkDetected(LedgerError):
    """Two checkpoints of one log that no history reconciles."""

    kind: ClassVar[Kind] = "integrity"


class RollbackDetected(LedgerError):
    """A published log that shows fewer entries than its operator signed before."""

    kind: ClassVar[Kind] = "integrity"


class AuditFailed(LedgerError):
    """Recomputing the log found a row that does not hold."""

    kind: ClassVar[Kind] = "integrity"


class UnreadableOpening(LedgerError):
    """An encrypted opening that its record key does not open, or whose key was destroyed."""

    kind: ClassVar[Kind] = "integrity"


class TileMissing(LedgerError):
    """A published log without a tile or entry bundle that its checkpoint requires."""

    kind: ClassVar[Kind] = "integrity"


class CheckpointAhead(LedgerError):
    """A published checkpoint covers entries that the database does not hold."""

    kind: ClassVar[Kind] = "integrity"


class AppendRefused(LedgerError):
    """The database's own constraints refused a row: an entry exists already, or a head moved."""

    kind: ClassVar[Kind] = "integrity"


class UnknownSigner(LedgerError):
    """No signature by a key the caller trusts."""

    kind: ClassVar[Kind] = "untrusted"


# The machine around the ledger.


class KeyFileMissing(LedgerError):
    """A key file that is not there, or not readable by this user."""

    kind: ClassVar[Kind] = "environment"


class KeyFileExposed(LedgerError):
    """A key file that other users of the machine can read or write."""

    kind: ClassVar[Kind] = "environment"


class TableMismatch(LedgerError):
    """This machine's floating point yields another latent table; nothing may be drawn with it."""

    kind: ClassVar[Kind] = "environment"


class DatabaseMissing(LedgerError):
    """There is no database where one was named; it is never created silently."""

    kind: ClassVar[Kind] = "environment"


class DatabaseTooNew(LedgerError):
    """The database was written by a newer release."""


class DatabaseTooOld(LedgerError):
    """The database needs `latentlog db upgrade`, which never runs by itself."""

    kind: ClassVar[Kind] = "environment"


class HomeMissing(LedgerError):
    """No latentlog home where one was named."""

    kind: ClassVar[Kind] = "environment"


class ReservationExhausted(LedgerError):
    """The reserved block is used up and no further one can be logged now."""

    kind: ClassVar[Kind] = "environment"


class StorageUnavailable(LedgerError):
    """A database or disk that cannot be reached, is full, locked or read-only."""

    kind: ClassVar[Kind] = "environment"


class DatabaseSuspended(LedgerError):
    """A restored or moved database, to which nothing is appended before it is taken over."""

    kind: ClassVar[Kind] = "environment"


class NetworkFileSystem(LedgerError):
    """An SQLite file where other machines could open it too, which would corrupt it."""

    kind: ClassVar[Kind] = "environment"


class ClockBehind(LedgerError):
    """This machine's clock is behind the newest entry of the log."""

    kind: ClassVar[Kind] = "environment"


class SiteUnreachable(LedgerError):
    """A published log whose server does not answer, or not as a file server does."""

    kind: ClassVar[Kind] = "environment"


class SiteBusy(LedgerError):
    """Another process is publishing to the same folder."""

    kind: ClassVar[Kind] = "environment"


class RecorderBusy(LedgerError):
    """Another process is recording under this recorder's name."""

    kind: ClassVar[Kind] = "environment"


# What the caller asked for cannot be.


class LatentOutOfRange(LedgerError):
    """A latent, block or dimension beyond what one epoch may hold."""

    kind: ClassVar[Kind] = "usage"


class NotALatent(LedgerError):
    """Integers that the canonical latent table does not contain."""

    kind: ClassVar[Kind] = "usage"


class KeyFileExists(LedgerError):
    """A key file already stands there; keys are never overwritten."""

    kind: ClassVar[Kind] = "usage"


class DatabaseExists(LedgerError):
    """A database already stands there; it is never overwritten."""

    kind: ClassVar[Kind] = "usage"


class BackupElsewhere(LedgerError):
    """A database server, which is backed up and restored by its own tools."""

    kind: ClassVar[Kind] = "usage"


class NotNewest(LedgerError):
    """A checkpoint that is not the newest one published."""

    kind: ClassVar[Kind] = "usage"


class HomeExists(LedgerError):
    """A home already stands there; it is never overwritten."""

    kind: ClassVar[Kind] = "usage"


class NoSuchEntry(LedgerError):
    """An index beyond the log, or an entry that cannot be used in this way."""

    kind: ClassVar[Kind] = "usage"


class NoSuchDocument(LedgerError):
    """No document of this digest is stored."""

    kind: ClassVar[Kind] = "usage"


class NoSuchModel(LedgerError):
    """No model of this name is registered."""

    kind: ClassVar[Kind] = "usage"


class NoSuchRecorder(LedgerError):
    """No recorder of this name is registered."""

    kind: ClassVar[Kind] = "usage"


class NoSuchEpoch(LedgerError):
    """No epoch of this number, or no open one for this model."""

    kind: ClassVar[Kind] = "usage"


class AlreadyRegistered(LedgerError):
    """A model or recorder of this name exists, or the same one under another name."""

    kind: ClassVar[Kind] = "usage"


class RecorderRetired(LedgerError):
    """A recorder that may no longer append, or whose registered key is another."""

    kind: ClassVar[Kind] = "usage"


class EpochClosed(LedgerError):
    """An epoch that issues no more latents."""

    kind: ClassVar[Kind] = "usage"


class EpochFull(LedgerError):
    """An epoch that has issued its share of latents, or lasted its time."""

    kind: ClassVar[Kind] = "usage"


class NotPublished(LedgerError):
    """An entry that no checkpoint covers yet."""

    kind: ClassVar[Kind] = "usage"


class NotASite(LedgerError):
    """A folder or address that no log can be published to or read from."""

    kind: ClassVar[Kind] = "usage"


class NotReserved(LedgerError):
    """A counter that this recorder did not reserve, or does not hold any more."""

    kind: ClassVar[Kind] = "usage"


class AlreadySealed(LedgerError):
    """A counter whose generation is in the log."""

    kind: ClassVar[Kind] = "usage"
