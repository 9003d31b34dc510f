"""Who and what the log knows: registered models, and recorders with their keys.

    add_model(log, ModelEntry(name="faces", …))      add_recorder(log, "local", key.public)

The newest entry of a recorder's name holds; a model is registered once, under one name. Retiring a
recorder abandons what it had reserved, in the same batch.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from latentlog.ledger.batch import Draft
from latentlog.ledger.counters import pending, within
from latentlog.ledger.entry import (
    BATCH_LIMIT,
    OPERATOR,
    Abandoned,
    EpochClose,
    EpochOpen,
    ModelEntry,
    RecorderEntry,
    decode_entry,
)
from latentlog.ledger.errors import AlreadyRegistered, NoSuchModel, NoSuchRecorder
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.log import AppendResult, Log, LoggedEntry, appended
from latentlog.ledger.storage import Reader

_PAGE: Final = 256


def models(log: Log) -> Iterator[tuple[int, ModelEntry]]:
    """Yield every registered model with its index, in the log's order."""
    for logged in log.entries(kind=ModelEntry.kind):
        if isinstance(logged.entry, ModelEntry):
            yield logged.index, logged.entry


def find_model(reader: Reader, name: str) -> LoggedEntry:
    """Return the model of this name; raises `NoSuchModel`."""
    for logged in of_kind(reader, ModelEntry.kind):
        if isinstance(logged.entry, ModelEntry) and logged.entry.name == name:
            return logged
    raise NoSuchModel(f"no model is called {name!r}", next_step=f"latentlog model add {name} …")


def add_model(log: Log, model: ModelEntry) -> AppendResult:
    """Register a model; raises `AlreadyRegistered` if its name or its digest is taken."""

    def build(reader: Reader) -> list[Draft]:
        _require_new(reader, model)
        return [Draft(model)]

    return appended(log.append_built(build))


def _require_new(reader: Reader, model: ModelEntry) -> None:
    for logged in of_kind(reader, ModelEntry.kind):
        known = logged.entry
        if not isinstance(known, ModelEntry):
            continue
        if known.name == model.name:
            raise AlreadyRegistered(
                f"a model called {model.name!r} is registered already, as entry {logged.index}",
                next_step="register it under another name",
            )
        if known.digest == model.digest:
            raise AlreadyRegistered(
                f"this model is registered already, as {known.name!r}, entry {logged.index}",
                next_step=f"latentlog epoch open {known.name}",
            )


def recorders(log: Log) -> dict[str, RecorderEntry]:
    """Return the newest entry of every recorder, by name."""
    return {entry.name: entry for entry in recorder_history(log)}


def recorder_history(log: Log) -> Iterator[RecorderEntry]:
    """Yield every entry about a recorder, oldest first."""
    for logged in log.entries(kind=RecorderEntry.kind):
        if isinstance(logged.entry, RecorderEntry):
            yield logged.entry


def add_recorder(log: Log, name: str, key: PublicKey) -> AppendResult:
    """Register a recorder's key; a retired name may come back with another key.

    Raises `AlreadyRegistered` while the name is active, or if the key was a recorder's before.
    """
    taken = {entry.key: entry.name for entry in recorder_history(log)} | {
        log.verifier.key: OPERATOR
    }

    def build(reader: Reader) -> list[Draft]:
        try:
            known = log.recorder(reader, name)
        except NoSuchRecorder:
            known = None
        if known is not None and (known.state == "active" or known.key == key):
            raise AlreadyRegistered(
                f"recorder {name} is {known.state} already, with key {known.key.hex()[:16]}…",
                next_step="latentlog recorder list",
            )
        if key in taken:
            raise AlreadyRegistered(
                f"the key of {taken[key]} cannot be {name}'s too: seals would not tell them apart",
                next_step=f"latentlog recorder add {name}, with a key of its own",
            )
        return [Draft(RecorderEntry(name=name, key=key, state="active"))]

    return appended(log.append_built(build))


def retire_recorder(log: Log, name: str) -> AppendResult:
    """End a recorder's right to append and abandon all it had reserved; raises `NoSuchRecorder`."""

    def retire(reader: Reader) -> list[Draft]:
        known = log.recorder(reader, name)
        if known.state != "active":
            raise NoSuchRecorder(f"recorder {name} is retired already")
        retired = RecorderEntry(name=name, key=known.key, state="retired")
        # First in the batch: nothing of this recorder can come after what is abandoned here.
        return [Draft(retired), *_abandon(reader, name, BATCH_LIMIT - 1)]

    result = appended(log.append_built(retire))
    while log.append_built(lambda reader: _abandon(reader, name, BATCH_LIMIT)) is not None:
        pass
    return result


def _abandon(reader: Reader, recorder: str, limit: int) -> list[Draft]:
    spans = (
        (epoch, span)
        for epoch in _open_epochs(reader)
        for span in pending(within(reader), epoch, recorder)
    )
    return [
        Draft(Abandoned(epoch=epoch, first=span.first, count=span.count, reason="retired"))
        for epoch, span in islice(spans, limit)
    ]


def _open_epochs(reader: Reader) -> Iterator[int]:
    for logged in of_kind(reader, EpochOpen.kind):
        if isinstance(logged.entry, EpochOpen):
            epoch = logged.entry.epoch
            if reader.newest(EpochClose.kind, epoch=epoch) is None:
                yield epoch


def of_kind(reader: Reader, kind: str) -> Iterator[LoggedEntry]:
    """Yield the entries of a rare kind within one transaction."""
    at = 0
    while rows := reader.rows(at, _PAGE, kinds=(kind,)):
        for row in rows:
            yield LoggedEntry(row.index, decode_entry(row.body), row.body)
        at = rows[-1].index + 1
