"""A batch: entries made ready before the lock is taken, and the seal that covers them.

[Draft(entry), Draft(entry, opening), …]  →  seal_batch(…)  →  one `seal` entry after them
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import Entry, Generation, Seal, decode_entry, seal_message
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.merkle import leaf_hash, prove_inclusion, root_of
from latentlog.ledger.storage import Row


@dataclass(frozen=True, slots=True)
class Sealer:
    """Who seals a batch: the operator with the log's key, or a recorder with its own."""

    name: str
    key: SigningKey


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry ready to be appended: encoded and hashed before the lock is taken."""

    entry: Entry
    opening: bytes | None = None
    body: bytes = field(init=False, repr=False)
    leaf: Digest = field(init=False, repr=False)

    def __post_init__(self) -> None:
        body = self.entry.encode()
        if not isinstance(self.entry, Generation):
            # Generations are made by our own code, by the thousand; all else may come from people.
            decode_entry(body)
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "leaf", leaf_hash(body))


def seal_batch(
    sealer: Sealer, origin: str, first: int, leaves: Sequence[Digest], time: datetime
) -> Seal:
    """Sign the batch that begins at `first`, at `time`."""
    root, time = root_of(leaves), time.replace(microsecond=0)
    message = seal_message(origin, first, len(leaves), root, time)
    return Seal(
        signer=sealer.name,
        key=sealer.key.public,
        first=first,
        count=len(leaves),
        root=root,
        time=time,
        signature=sealer.key.sign(message),
    )


def batch_path(leaves: Sequence[Digest], position: int) -> list[Digest]:
    """Prove that leaf `position` is in the batch's own small tree."""
    return prove_inclusion(
        lambda nodes: [root_of(leaves[i << level : (i + 1) << level]) for level, i in nodes],
        position,
        len(leaves),
    )


def row_of(index: int, draft: Draft) -> Row:
    """Return a draft as it is stored at its place."""
    epoch, first, length = draft.entry.placement
    return Row(index, draft.entry.kind, epoch, first, length, draft.leaf, draft.body)
