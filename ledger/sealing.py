"""From a counter and what was made of it to what is logged: commitments and an encrypted opening.

    record = sealer_of_epoch.seal(counter, latent digest, {"sampler": {…}, "output_file": "9f…"})
    record.draft     the generation entry, and the encrypted opening to store beside it
    record.key       the record key, for the vault

This is the hot path of recording: a few digests, one canonical object and one encryption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, NamedTuple

from latentlog.ledger.batch import Draft
from latentlog.ledger.commitment import OpenedField, Opening, commit, value_of
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import Generation
from latentlog.ledger.keys import Random
from latentlog.ledger.keystream import latent_salt
from latentlog.ledger.storage import KeyRow
from latentlog.ledger.vault import seal_opening

BLOB_ID: Final = 16
_SALT: Final = 32

Contents = Mapping[str, Any]


class Unsealed(NamedTuple):
    """One generation to be sealed: its counter, its latent's digest, its private contents."""

    counter: int
    latent: Digest
    contents: Contents


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A generation ready for the log, and the key to its opening."""

    draft: Draft
    key: KeyRow

    @property
    def counter(self) -> int:
        return self.key.counter


def seal_records(
    records: Sequence[Unsealed], *, origin: str, epoch: int, salt_key: bytes, random: Random
) -> list[SealedRecord]:
    """Commit to every field of every record and encrypt the openings.

    `salt_key` is the epoch's latent-salt subkey: whoever holds the epoch key can check the latent
    commitment of an entry whose opening was erased.
    """
    salts = _Salts(random, sum(len(record.contents) for record in records))
    # A batch usually shares its sampler and compute records: hash each object once.
    values: dict[int, Digest] = {}
    sealed = []
    for counter, latent, contents in records:
        fields = {"latent": OpenedField(latent_salt(salt_key, counter), None)}
        digests = {"latent": latent}
        for name, content in contents.items():
            fields[name] = OpenedField(salts.next(), content)
            if type(content) is dict:
                if id(content) not in values:
                    values[id(content)] = value_of(name, content)
                digests[name] = values[id(content)]
            else:
                digests[name] = value_of(name, content)
        entry = Generation(
            epoch=epoch,
            counter=counter,
            source="seed" if "seed" in contents else "schedule",
            commitments={
                name: commit(
                    name, digests[name], field.salt, origin=origin, epoch=epoch, counter=counter
                )
                for name, field in fields.items()
            },
        )
        opening = seal_opening(Opening(epoch, counter, fields), random=random)
        key = KeyRow(epoch, counter, blob_id(opening.blob), opening.record_key)
        sealed.append(SealedRecord(Draft(entry, opening.blob), key))
    return sealed


def blob_id(blob: bytes) -> bytes:
    """Return the name under which the vault keeps the key to a blob."""
    return sha256(blob).digest()[:BLOB_ID]


def made_late(draft: Draft) -> Draft:
    """Return the same generation, marked as sealed after its counter was abandoned."""
    assert isinstance(draft.entry, Generation)
    return Draft(replace(draft.entry, late=True), draft.opening)


class _Salts:
    """Fresh 32-byte salts, drawn from the source in one call."""

    __slots__ = ("_at", "_salts")

    def __init__(self, random: Random, count: int) -> None:
        self._salts = random(_SALT * count)
        self._at = 0

    def next(self) -> bytes:
        self._at += _SALT
        return self._salts[self._at - _SALT : self._at]
