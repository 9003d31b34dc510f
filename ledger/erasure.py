"""Erasing an opening: log that it is done, and on what ground, then destroy its record key.

    erase(log, vault, 41, "GDPR Art. 17, request of 2026-03-02")

The public entry stays, and so does what the epoch key and the model can regenerate; conditioning,
digests and sketch are gone. Between the two steps a crash leaves an erasure that is logged and not
done: erasing again, or `complete_erasures`, finishes it.
"""

from latentlog.ledger.batch import Draft
from latentlog.ledger.entry import Erasure, Generation
from latentlog.ledger.errors import NoSuchEntry
from latentlog.ledger.log import Log
from latentlog.ledger.registry import of_kind
from latentlog.ledger.storage import Reader, Vault


def erase(log: Log, vault: Vault, index: int, ground: str, *, after_notice: bool = False) -> bool:
    """Erase the opening of a generation; return whether there was a key left to destroy.

    `after_notice` says that a dispute was known of, which findings report. The erasure is logged
    once, however often this is called. Raises `NoSuchEntry`.
    """
    entry = log.entry(index).entry
    if not isinstance(entry, Generation):
        raise NoSuchEntry(f"entry {index} is no generation and has no opening", got=entry.kind)

    def build(reader: Reader) -> list[Draft]:
        if index in erased(reader):
            return []
        time = log.clock().replace(microsecond=0)
        return [Draft(Erasure(index=index, ground=ground, time=time, after_notice=after_notice))]

    log.append_built(build)
    return vault.destroy(entry.epoch, entry.counter) > 0


def complete_erasures(log: Log, vault: Vault) -> int:
    """Destroy every key whose erasure was logged; return how many were still there."""
    with log.snapshot() as reader:
        indices = erased(reader)
    destroyed = 0
    for index in sorted(indices):
        entry = log.entry(index).entry
        if isinstance(entry, Generation):
            destroyed += vault.destroy(entry.epoch, entry.counter)
    return destroyed


def erased(reader: Reader) -> set[int]:
    """Return the entries whose erasure is logged."""
    entries = (logged.entry for logged in of_kind(reader, Erasure.kind))
    return {entry.index for entry in entries if isinstance(entry, Erasure)}
