"""Reading what was sealed with an entry: decrypt its opening and hold it against the entry.

opening = read_opening(log, vault, 41)      opening.fields["conditioning"].content
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from latentlog.ledger.commitment import Opening, open_commitment, value_of
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import Generation, decode_entry
from latentlog.ledger.errors import NoSuchEntry, UnreadableOpening, WrongOpening
from latentlog.ledger.log import Log
from latentlog.ledger.sealing import blob_id
from latentlog.ledger.storage import Vault
from latentlog.ledger.vault import open_opening

_PAGE: Final = 256


class OpenedEntry(NamedTuple):
    """A generation's opening, its commitments opened; all but the latent's, which needs `K_e`."""

    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    counter: int
    opening: Opening


class StoredOpening(NamedTuple):
    """A generation with its encrypted opening and the key to it, as far as they are there."""

    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    body: bytes
    blob: bytes | None
    record_key: bytes | None


def read_opening(log: Log, vault: Vault, index: int) -> Opening:
    """Return the opening of a generation, each commitment opened.

    Raises `NoSuchEntry`, `UnreadableOpening` if it was erased, `WrongOpening`.
    """
    entry = log.entry(index).entry
    if not isinstance(entry, Generation):
        raise NoSuchEntry(f"entry {index} is no generation and has no opening", got=entry.kind)
    blob = log.opening(index)
    [record_key] = vault.get([(entry.epoch, entry.counter, blob_id(blob))])
    if record_key is None:
        raise UnreadableOpening(f"the opening of entry {index} was erased, or its key is not here")
    return verify_opening(log.origin, entry, open_opening(record_key, blob))


def openings(log: Log, vault: Vault, epoch: int, start: int = 0) -> Iterator[OpenedEntry]:
    """Stream an epoch's readable openings in the log's order, each commitment opened.

    Erased ones are left out. Raises `UnreadableOpening`, `WrongOpening`.
    """
    for stored in stored_openings(log, vault, start, epoch=epoch):
        entry = decode_entry(stored.body)
        if stored.blob is None or stored.record_key is None or not isinstance(entry, Generation):
            continue
        opening = open_opening(stored.record_key, stored.blob)
        yield OpenedEntry(stored.index, entry.counter, verify_opening(log.origin, entry, opening))


def stored_openings(
    log: Log, vault: Vault, start: int = 0, *, epoch: int | None = None
) -> Iterator[StoredOpening]:
    """Stream generations with what is stored to open them, a page at a time."""
    while True:
        with log.snapshot() as reader:
            rows = reader.rows(start, _PAGE, kinds=(Generation.kind,), epoch=epoch)
            if not rows:
                return
            width = rows[-1].index - rows[0].index + 1
            blobs = {o.index: o.blob for o in reader.openings(rows[0].index, width)}
        places = {
            row.index: (row.epoch or 0, row.counter or 0, blob_id(blobs[row.index]))
            for row in rows
            if row.index in blobs
        }
        keys = dict(zip(places, vault.get(places.values()), strict=True))
        for row in rows:
            yield StoredOpening(row.index, row.body, blobs.get(row.index), keys.get(row.index))
        start = rows[-1].index + 1


def verify_opening(origin: str, entry: Generation, opening: Opening) -> Opening:
    """Return an opening whose every content is what its entry committed to.

    The latent has no content: check it with the epoch key. Raises `WrongOpening`.
    """
    if (opening.epoch, opening.counter) != (entry.epoch, entry.counter):
        raise WrongOpening(
            "the opening is another record's",
            expected=f"{entry.epoch}/{entry.counter}",
            got=f"{opening.epoch}/{opening.counter}",
        )
    if opening.fields.keys() != entry.commitments.keys():
        raise WrongOpening(
            f"the opening of {entry.epoch}/{entry.counter} has other fields than its entry",
            expected=", ".join(sorted(entry.commitments)),
            got=", ".join(sorted(opening.fields)),
        )
    for name, field in opening.fields.items():
        if name != "latent":
            open_commitment(
                entry.commitments[name],
                name,
                value_of(name, field.content),
                field.salt,
                origin=origin,
                epoch=entry.epoch,
                counter=entry.counter,
            )
        elif entry.source == "seed":
            _open_seed_latent(origin, entry, opening)
    return opening


def _open_seed_latent(origin: str, entry: Generation, opening: Opening) -> None:
    """A pipeline's own latent is stated in its seed record; no key derives it."""
    stated = opening.fields["seed"].content.get("latent")
    open_commitment(
        entry.commitments["latent"],
        "latent",
        Digest.fromhex(stated),
        opening.fields["latent"].salt,
        origin=origin,
        epoch=entry.epoch,
        counter=entry.counter,
    )
