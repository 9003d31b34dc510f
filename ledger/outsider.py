"""The outsider's audit: somebody else's published log, recomputed without their database.

    (0) the checkpoint is signed by the log's key, which came from elsewhere
    (1) it extends the checkpoint that was seen before, if there is one
    (2) every hash and entry of the published files leads to its root
    (3) every row, seal and counter, by the same rules as the operator's own audit (`audit`)

Trusts the verifier key alone. A mirror that serves wrong files is refused by the first of them
that is read; what is right by the files and wrong by the rules is in the report, and is the
signer's doing. (1) is what only an outsider can find: an operator audits one history, and a fork is
two of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from latentlog.ledger.audit import AuditReport, Progress, audit
from latentlog.ledger.checkpoint import Checkpoint, VerifiedCheckpoint, verify_checkpoint
from latentlog.ledger.entry import Seal, decode_entry
from latentlog.ledger.errors import ForkDetected, NotASite, RollbackDetected, WrongOrigin
from latentlog.ledger.keystream import EpochKey
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import root_at
from latentlog.ledger.note import NOTE_LIMIT, NoteVerifier
from latentlog.ledger.published import published_log
from latentlog.ledger.tiles import Fetch, TileReader


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What an outsider recomputed of a published log."""

    checkpoint: VerifiedCheckpoint
    since: Checkpoint | None
    """The older checkpoint that this one was shown to extend."""
    sealed: datetime | None
    """When, by the signer's own clock, the newest entries were sealed."""
    audit: AuditReport
    documents: int
    """Documents that entries name by digest, which nobody could check here."""

    def require_clean(self) -> None:
        """Return only if everything held; raises `AuditFailed` naming the first bad row."""
        self.audit.require_clean()


def read_checkpoint(
    fetch: Fetch, verifier: NoteVerifier, *, origin: str | None = None
) -> VerifiedCheckpoint:
    """Return the checkpoint that a published log shows now; keep its note, whatever follows.

    `origin` is the key's name unless given. Raises `NotASite` and what `verify_checkpoint` raises.
    """
    note = fetch("checkpoint", NOTE_LIMIT)
    if note is None:
        raise NotASite("there is no published log: no file called checkpoint")
    return verify_checkpoint(note, verifier, origin or verifier.name)


def verify_extension(fetch: Fetch, since: VerifiedCheckpoint, newest: VerifiedCheckpoint) -> None:
    """Return only if the tree of `newest` extends that of `since`, recomputed from the tiles.

    A handful of tiles is read. Raises `RollbackDetected` if it is smaller, `ForkDetected` if it is
    another history: the two notes, both signed, are then the evidence.
    """
    old, new = since.checkpoint, newest.checkpoint
    if old.origin != new.origin:
        raise WrongOrigin("checkpoints of two logs", expected=old.origin, got=new.origin)
    if new.size < old.size:
        raise RollbackDetected(
            "the log shows fewer entries than its operator signed before",
            expected=f"at least {old.size} entries",
            got=f"{new.size} entries",
            next_step="keep both checkpoints; ask for the newest again, or look at a mirror",
        )
    root = new.root if old.size == new.size else root_at(TileReader(fetch, new), old.size)
    if root != old.root:
        raise ForkDetected(
            f"the log shows another history of its first {old.size} entries than it signed before",
            expected=f"root {old.root.hex()}",
            got=f"root {root.hex()}",
            next_step="keep both checkpoints: both are signed, and they exclude each other",
        )


def audit_site(
    fetch: Fetch,
    verifier: NoteVerifier,
    *,
    checkpoint: VerifiedCheckpoint | None = None,
    since: VerifiedCheckpoint | None = None,
    epoch_keys: Mapping[int, EpochKey] | None = None,
    on_progress: Progress | None = None,
) -> SiteReport:
    """Audit a published log as of `checkpoint`, by default the one it shows now.

    `epoch_keys` are those disclosed to the auditor. Raises what `read_checkpoint` and
    `verify_extension` raise, and `InvalidProof`, `TileMissing`, `MalformedTile` or
    `SiteUnreachable` when the files are not those of the signed tree.
    """
    newest = checkpoint or read_checkpoint(fetch, verifier)
    if since is not None:
        verify_extension(fetch, since, newest)
    with published_log(fetch, newest, verifier) as log:
        # Documents stay with the operator: that they are absent here says nothing about the log.
        report = audit(log, epoch_keys=epoch_keys, documents=False, on_progress=on_progress)
        return SiteReport(
            checkpoint=newest,
            since=None if since is None else since.checkpoint,
            sealed=_last_sealed(log),
            audit=report,
            documents=report.documents,
        )


def _last_sealed(log: Log) -> datetime | None:
    with log.snapshot() as reader:
        row = reader.newest(Seal.kind)
    entry = None if row is None else decode_entry(row.body)
    return entry.time if isinstance(entry, Seal) else None
