"""Transparency log proofs (c2sp.org/tlog-proof): an entry's place in a log, checkable offline.

    c2sp.org/tlog-proof@v1
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=

    example.com/log
    109482
    …

Trusted for nothing until `verify_tlog_proof` returned; the extra line never is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from latentlog.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import MalformedDigest, MalformedProof
from latentlog.ledger.merkle import SIZE_LIMIT, verify_inclusion
from latentlog.ledger.note import NOTE_LIMIT, Verifier, decode_base64, encode_base64

HEADER: Final = "c2sp.org/tlog-proof@v1"
# A path in a tree of less than 2^63 leaves.
HASH_LIMIT: Final = 63
# Room for an opaque line next to the largest note we read.
PROOF_LIMIT: Final = NOTE_LIMIT + 100_000

_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed, unverified proof; the checkpoint stays opaque bytes."""

    index: int
    hashes: tuple[Digest, ...]
    checkpoint_note: bytes
    extra: bytes | None = None


@dataclass(frozen=True, slots=True)
class VerifiedInclusion:
    """A leaf shown to stand at `index` of a signed tree; made only by `verify_tlog_proof`."""

    leaf: Digest
    index: int
    checkpoint: VerifiedCheckpoint


def format_tlog_proof(
    index: int, hashes: Sequence[Digest], checkpoint_note: bytes, extra: bytes | None = None
) -> bytes:
    """Write a proof file (`.tlog-proof`)."""
    lines = [HEADER]
    if extra is not None:
        lines.append(f"extra {encode_base64(extra)}")
    lines.append(f"index {index}")
    lines.extend(map(encode_base64, hashes))
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + checkpoint_note


def parse_tlog_proof(encoded: bytes) -> TlogProof:
    """Parse a proof without verifying it; raises `MalformedProof`."""
    if len(encoded) > PROOF_LIMIT:
        raise MalformedProof("the proof is too large", expected=f"at most {PROOF_LIMIT} bytes")
    head, blank, note = encoded.partition(b"\n\n")
    if not blank or not note:
        raise MalformedProof("the proof holds no checkpoint after a blank line")
    try:
        header, *lines = head.decode("ascii").split("\n")
        if header != HEADER:
            raise MalformedProof("not a tlog-proof", expected=HEADER, got=header[:80])
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "))
        index = _parse_index(lines[0] if lines else "")
        if len(lines) - 1 > HASH_LIMIT:
            raise MalformedProof("more hashes than any tree is high", got=str(len(lines) - 1))
        hashes = tuple(Digest(decode_base64(line)) for line in lines[1:])
    except (ValueError, MalformedDigest):
        raise MalformedProof("a line of the proof is not base64 of the right size") from None
    return TlogProof(index, hashes, note, extra)


def _parse_index(line: str) -> int:
    match = _INDEX.fullmatch(line)
    if not match or int(match[1]) >= SIZE_LIMIT:
        raise MalformedProof("the proof names no canonical index", got=line[:40])
    return int(match[1])


def verify_tlog_proof(
    encoded: bytes, leaf: Digest, verifiers: Verifier | Sequence[Verifier], origin: str
) -> VerifiedInclusion:
    """Verify that `leaf` is an entry of the log `origin` whose keys are `verifiers`.

    Raises `MalformedProof`, `InvalidProof`, and what `verify_checkpoint` raises.
    """
    proof = parse_tlog_proof(encoded)
    verified = verify_checkpoint(proof.checkpoint_note, verifiers, origin)
    tree = verified.checkpoint
    verify_inclusion(leaf, proof.index, tree.size, proof.hashes, tree.root)
    return VerifiedInclusion(leaf, proof.index, verified)
