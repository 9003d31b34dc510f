"""That a database goes on from what was published: nothing is appended to one that fell behind.

    published.note        the newest checkpoint this home signed, or appended after

A database that came back from a backup, or whose server was replaced by a replica, may lack entries
that a signed checkpoint covers. Going on from there would make a second history, and would issue
latents again. So the newest checkpoint is also kept outside the database, and every append and
every signature looks at it first. Order: the signed note reaches this file before the database
says that it is published, and only then the caller. A crash in between leaves a note over entries
that are all there.

Who can replace this file and the database together can undo both; what then still shows it are
the copies that others hold: the published site, witnesses, the recorders' own homes.
"""

from pathlib import Path
from typing import Final

from latentlog.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from latentlog.ledger.errors import (
    CheckpointAhead,
    DatabaseSuspended,
    ForkDetected,
    StorageUnavailable,
)
from latentlog.ledger.files import write_durably
from latentlog.ledger.merkle import root_at
from latentlog.ledger.note import NOTE_LIMIT, NoteVerifier
from latentlog.ledger.storage import Head, Reader
from latentlog.ledger.tree import node_reader

PUBLISHED_NOTE: Final = "published.note"

ADVICE: Final = "latentlog restore --checkpoint NEWEST.note"

_Version = tuple[int, int, int]


class Continuity:
    """The newest checkpoint known outside the database, and the database held against it."""

    def __init__(self, path: Path, verifier: NoteVerifier) -> None:
        self.path: Final = path
        self._verifier: Final = verifier
        self._held: _Version | None = None
        self._size = -1

    def newest(self) -> VerifiedCheckpoint | None:
        """Return the newest checkpoint known here; raises what `verify_checkpoint` raises."""
        try:
            with open(self.path, "rb") as file:
                note = file.read(NOTE_LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageUnavailable(f"cannot read {self.path}: {error.strerror}") from None
        return verify_checkpoint(note, self._verifier, self._verifier.name)

    def require(self, reader: Reader, head: Head) -> None:
        """Return if the database may be appended to.

        Raises `DatabaseSuspended` for one that was restored or moved and not taken over yet,
        `CheckpointAhead` or `ForkDetected` for one without the entries that were published.
        """
        suspended = reader.suspended()
        if suspended is not None:
            raise DatabaseSuspended(
                f"nothing is appended: {suspended}",
                expected="the newest published checkpoint",
                next_step=ADVICE,
            )
        version = self._version()
        if version != self._held or head.size < self._size:
            self._hold(reader, head, version)

    def remember(self, reader: Reader, head: Head) -> None:
        """Keep the checkpoint that the database says is published; with the lock held."""
        if head.published is not None and head.published > self._size:
            row = reader.checkpoint()
            if row is not None:
                verify_checkpoint(row.note, self._verifier, self._verifier.name)
                self.advance(row.note, row.size)

    def advance(self, note: bytes, size: int) -> None:
        """Keep a checkpoint of this log's own; called with the sequencer lock held."""
        write_durably(self.path, note)
        self._held, self._size = self._version(), size

    def _hold(self, reader: Reader, head: Head, version: _Version | None) -> None:
        newest = self.newest()
        if newest is not None:
            require_prefix(reader, head, newest)
            self._size = newest.checkpoint.size
        self._held = version

    def _version(self) -> _Version | None:
        # A file is replaced, never written in place: another inode is another note.
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageUnavailable(f"cannot read {self.path}: {error.strerror}") from None
        return found.st_ino, found.st_mtime_ns, found.st_size


def require_prefix(reader: Reader, head: Head, newest: VerifiedCheckpoint) -> None:
    """Return if the database holds every entry of a checkpoint, recomputed from its tree.

    Raises `CheckpointAhead` or `ForkDetected`.
    """
    tree = newest.checkpoint
    if tree.size > head.size:
        raise CheckpointAhead(
            f"the database ends at {head.size} entries, and a checkpoint over {tree.size} was "
            "published: nothing is appended",
            expected=f"at least {tree.size} entries",
            got=f"{head.size} entries",
            next_step=f"bring back the entries from a copy of the published files: {ADVICE} "
            "--tiles DIR|URL; if no copy exists, this log stays closed for appends: start one "
            "under a new origin",
        )
    if root_at(node_reader(reader), tree.size) != tree.root:
        raise ForkDetected(
            f"the first {tree.size} entries are not the ones that were published",
            expected=f"root {tree.root.hex()}",
            next_step=f"restore the database whose history was published: {ADVICE}",
        )
