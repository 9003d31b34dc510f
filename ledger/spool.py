"""The durable queue of sealed records that could not be appended yet.

    "latentlog queue v0\\n" ‖ (lp(entry) ‖ lp(blob))… ‖ SHA-256 of all before

One file for each batch, numbered in the order of sealing. A file appears whole or not at all and
is removed after its batch is in the log; a crash in between leaves a batch that draining
recognises. Files hold encrypted openings only; their keys are in the vault before.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from latentlog.ledger.batch import Draft
from latentlog.ledger.digest import lp
from latentlog.ledger.entry import Generation, decode_entry
from latentlog.ledger.errors import LedgerError, MalformedHome
from latentlog.ledger.files import remove_durably, write_durably

_HEADER: Final = b"latentlog queue v0\n"
_SUFFIX: Final = ".batch"


class Spool:
    """A folder of queued batches, used by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder

    def add(self, drafts: Sequence[Draft]) -> Path:
        """Queue a batch; when this returns it survives a crash."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        waiting = self.paths()
        number = int(waiting[-1].stem) + 1 if waiting else 1
        path = self.folder / f"{number:012d}{_SUFFIX}"
        write_durably(path, _encode(drafts))
        return path

    def paths(self) -> list[Path]:
        """Return the queued files, oldest first."""
        return sorted(self.folder.glob(f"*{_SUFFIX}"))

    def batches(self) -> Iterator[tuple[Path, list[Draft]]]:
        """Yield every queued batch, oldest first; raises `MalformedHome`."""
        for path in self.paths():
            yield path, _decode(path)

    def remove(self, path: Path) -> None:
        """Forget a batch that is in the log."""
        remove_durably(path)


def _encode(drafts: Sequence[Draft]) -> bytes:
    parts = (lp(draft.body) + lp(draft.opening or b"") for draft in drafts)
    content = _HEADER + b"".join(parts)
    return content + sha256(content).digest()


def _decode(path: Path) -> list[Draft]:
    encoded = path.read_bytes()
    content, checksum = encoded[:-32], encoded[-32:]
    if not content.startswith(_HEADER) or sha256(content).digest() != checksum:
        raise MalformedHome(f"{path} is not a queued batch, or was altered")
    parts = list(_split(content[len(_HEADER) :]))
    try:
        entries = [decode_entry(body) for body in parts[::2]]
    except LedgerError as error:
        raise MalformedHome(f"{path} holds an unreadable entry: {error.message}") from None
    if not all(isinstance(entry, Generation) for entry in entries):
        raise MalformedHome(f"{path} holds other entries than generations")
    return [Draft(entry, blob or None) for entry, blob in zip(entries, parts[1::2], strict=True)]


def _split(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 4 + size]
        at += 4 + size
