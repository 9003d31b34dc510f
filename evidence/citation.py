"""Cited log entries in a bundle: the entry, its place in the log, and the seal that covers it.

    ledger/entries/41.json          the entry, byte for byte as logged
    ledger/entries/41.tlog-proof    its inclusion in the bundle's checkpoint
    ledger/batches/41.json          {"kind":"batch","path":["9f86…"],"seal":44,"v":0}

An entry without a valid seal is a claim that somebody wrote into the log, not one that anybody
answers for; so is one sealed with a key that the log's operator never registered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from latentlog.evidence.bundle import Bundle, batch_part, entry_part, proof_part
from latentlog.evidence.errors import MalformedBatch, NotCited, WrongEntry, WrongLog
from latentlog.evidence.statement import Citation
from latentlog.ledger import canonical
from latentlog.ledger.checkpoint import VerifiedCheckpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import OPERATOR, Entry, RecorderEntry, Seal, decode_entry
from latentlog.ledger.errors import LedgerError
from latentlog.ledger.merkle import leaf_hash, verify_inclusion
from latentlog.ledger.note import NoteVerifier
from latentlog.ledger.proof import format_tlog_proof, verify_tlog_proof

T = TypeVar("T")

MAX_BATCH_PATH: Final = 8
"""A batch has at most 256 entries."""


@dataclass(frozen=True, slots=True)
class VerifiedEntries:
    """Cited entries that are in the log; made only by `verify_entries`."""

    by_index: Mapping[int, Entry]
    bodies: Mapping[int, bytes]

    def of_kind(self, kind: type[T]) -> list[T]:
        """Return the cited entries of one kind, in the log's order."""
        return [entry for entry in self.by_index.values() if isinstance(entry, kind)]


@dataclass(frozen=True, slots=True)
class Batch:
    """Where an entry's seal is, and the path from the entry to the root that it signs."""

    seal: int
    path: tuple[Digest, ...]


def encode_batch(batch: Batch) -> bytes:
    return canonical.encode(
        {"kind": "batch", "path": [h.hex() for h in batch.path], "seal": batch.seal, "v": 0}
    )


def decode_batch(encoded: bytes) -> Batch:
    """Decode a batch part; raises `MalformedBatch`."""
    try:
        fields = canonical.decode(encoded)
        match fields:
            case {"kind": "batch", "path": list(path), "seal": int(seal), "v": 0, **rest} if (
                not rest and seal >= 0 and len(path) <= MAX_BATCH_PATH
            ):
                return Batch(seal, tuple(map(Digest.fromhex, path)))
    except LedgerError as error:
        raise MalformedBatch(f"batch path is malformed: {error}") from error
    raise MalformedBatch("batch path has the wrong shape")


def encode_citation(
    index: int, body: bytes, proof: list[Digest], checkpoint_note: bytes
) -> dict[str, bytes]:
    """Return the parts that show `body` to be entry `index` of the checkpoint's log."""
    return {
        entry_part(index): body,
        proof_part(index): format_tlog_proof(index, proof, checkpoint_note),
    }


def verify_entries(
    bundle: Bundle,
    cited: Iterable[Citation],
    checkpoint: VerifiedCheckpoint,
    log: NoteVerifier,
) -> VerifiedEntries:
    """Require that exactly the cited entries are there, each in the log under `checkpoint`."""
    bodies = bundle.numbered("ledger/entries", ".json")
    kinds = {citation.index: citation.kind for citation in cited}
    if kinds.keys() != bodies.keys():
        odd = min(kinds.keys() ^ bodies.keys())
        raise NotCited(f"entry {odd} is cited and missing, or there and not cited")
    entries: dict[int, Entry] = {}
    for index, body in bodies.items():
        entries[index] = decode_entry(body)
        if entries[index].kind != kinds[index]:
            raise WrongEntry(
                f"entry {index} is of another kind", expected=kinds[index], got=entries[index].kind
            )
        _verify_place(bundle, index, body, checkpoint, log)
    return VerifiedEntries(entries, bodies)


def verify_seals(bundle: Bundle, entries: VerifiedEntries, log: NoteVerifier) -> list[str]:
    """Require a seal for every cited entry, by a key that may give it; return the signers."""
    signers = set()
    for index, entry in entries.by_index.items():
        if isinstance(entry, Seal):
            continue
        batch = decode_batch(bundle.part(batch_part(index)))
        seal = entries.by_index.get(batch.seal)
        if not isinstance(seal, Seal):
            raise NotCited(f"the seal of entry {index} is not in the bundle")
        _verify_batch(index, entries.bodies[index], batch, seal, log)
        # Only generations and what belongs to recording them may be a recorder's word.
        _verify_signer(index, entry, seal, entries, log)
        signers.add(seal.signer)
    batches = bundle.numbered("ledger/batches", ".json").keys()
    if extra := batches - {i for i, e in entries.by_index.items() if not isinstance(e, Seal)}:
        raise NotCited(f"there is a batch path for entry {min(extra)}, which is not cited")
    return sorted(signers)


def _verify_place(
    bundle: Bundle,
    index: int,
    body: bytes,
    checkpoint: VerifiedCheckpoint,
    log: NoteVerifier,
) -> None:
    proof = bundle.part(proof_part(index))
    inclusion = verify_tlog_proof(proof, leaf_hash(body), log, checkpoint.checkpoint.origin)
    if inclusion.checkpoint.note != checkpoint.note:
        raise WrongLog(f"the proof of entry {index} is for another checkpoint")
    if inclusion.index != index:
        raise WrongEntry(
            f"the proof of entry {index} is for another entry",
            expected=str(index),
            got=str(inclusion.index),
        )


def _verify_batch(index: int, body: bytes, batch: Batch, seal: Seal, log: NoteVerifier) -> None:
    # The seal follows its batch directly, so that no entry can be covered by a seal made later.
    if not seal.first <= index < seal.first + seal.count == batch.seal:
        raise WrongEntry(
            f"the seal at {batch.seal} does not cover entry {index}",
            got=f"entries {seal.first} to {seal.first + seal.count - 1}",
        )
    verify_inclusion(leaf_hash(body), index - seal.first, seal.count, batch.path, seal.root)
    seal.verify(log.name)


def _verify_signer(
    index: int, entry: Entry, seal: Seal, entries: VerifiedEntries, log: NoteVerifier
) -> None:
    if seal.signer == OPERATOR:
        if seal.key != log.key:
            raise WrongEntry(
                f"entry {index} is sealed as the operator's with another key",
                expected=log.key.hex(),
                got=seal.key.hex(),
            )
        return
    if entry.kind not in ("reservation", "generation", "abandoned"):
        raise WrongEntry(f"entry {index} is the operator's to write and a recorder sealed it")
    registered = [
        recorder
        for i, recorder in entries.by_index.items()
        if isinstance(recorder, RecorderEntry) and i < index and recorder.name == seal.signer
    ]
    # The newest entry of a name holds, also when it retired the recorder.
    if not registered or registered[-1].state != "active" or registered[-1].key != seal.key:
        raise NotCited(f"no cited entry registers the key of {seal.signer}, which sealed {index}")
