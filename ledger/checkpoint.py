"""Checkpoints (c2sp.org/tlog-checkpoint): what a log says it holds, signed.

    example.com/log                                   origin
    20852163                                          tree size
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=      root hash

Extension lines are refused: nobody can audit them, and our logs never write any.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import MalformedCheckpoint, MalformedDigest, WrongOrigin
from latentlog.ledger.merkle import EMPTY_ROOT, SIZE_LIMIT
from latentlog.ledger.note import (
    Signer,
    Verifier,
    decode_base64,
    encode_base64,
    sign_note,
    verify_note,
)

# Canonical decimal: no sign, no leading zeroes, no digits of other scripts.
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log named `origin` has exactly `size` entries, hashed into `root`."""

    origin: str
    size: int
    root: Digest

    def __post_init__(self) -> None:
        if not self.origin or any(character < " " for character in self.origin):
            raise MalformedCheckpoint("an origin is one non-empty line", got=repr(self.origin)[:80])
        if not 0 <= self.size < SIZE_LIMIT:
            raise MalformedCheckpoint("impossible tree size", got=str(self.size))
        if (self.size == 0) != (self.root == EMPTY_ROOT):
            raise MalformedCheckpoint("size and root disagree about whether the tree is empty")


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint with the signed note it came in, byte for byte.

    Made only by `verify_checkpoint`.
    """

    checkpoint: Checkpoint
    note: bytes


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Write the note text of a checkpoint."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{encode_base64(checkpoint.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Parse a note text; raises `MalformedCheckpoint`."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise MalformedCheckpoint(
            "a checkpoint has three lines and no extension lines", got=f"{len(lines) - 1} lines"
        )
    origin, size, root = lines[:3]
    if not _SIZE.fullmatch(size):
        raise MalformedCheckpoint("the tree size is not a canonical decimal", got=size[:40])
    try:
        return Checkpoint(origin, int(size), Digest(decode_base64(root)))
    except (ValueError, MalformedDigest):
        raise MalformedCheckpoint("the root is not 32 bytes in base64", got=root[:80]) from None


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """Write and sign a checkpoint as a note."""
    return sign_note(format_checkpoint(checkpoint), signers)


def verify_checkpoint(
    note: bytes, verifiers: Verifier | Sequence[Verifier], origin: str
) -> VerifiedCheckpoint:
    """Verify a note by one of the log's own keys as a checkpoint of the log `origin`.

    `verifiers` are keys trusted to speak for the log: a witness's cosignature is no substitute.
    Raises what `verify_note` raises, `MalformedCheckpoint`, and `WrongOrigin`.
    """
    known = verifiers if isinstance(verifiers, Sequence) else [verifiers]
    checkpoint = parse_checkpoint(verify_note(note, known).text)
    if checkpoint.origin != origin:
        raise WrongOrigin(
            "the checkpoint is of another log", expected=origin, got=checkpoint.origin
        )
    return VerifiedCheckpoint(checkpoint, bytes(note))
