"""Epochs: the spans of latents that share one key, from its commitment to their last account.

    opened = open_epoch(log, master, "faces", os.urandom)   # K_e committed to, and published
    …                                                       # recorders reserve and seal
    close_epoch(log, opened.epoch)                          # abandons the rest, states high water

No latent leaves before a checkpoint covers the `epoch-open` entry, so the schedule was fixed
before its outputs were known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from latentlog.ledger.batch import Draft
from latentlog.ledger.counters import CounterState, high_water, pending, states, within
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    BATCH_LIMIT,
    Abandoned,
    EpochClose,
    EpochOpen,
    ModelEntry,
    Seal,
    decode_entry,
)
from latentlog.ledger.errors import EpochClosed, NoSuchEpoch, WrongOpening
from latentlog.ledger.keys import Random
from latentlog.ledger.keystream import EpochKey, RecorderKeys, epoch_key
from latentlog.ledger.log import AppendResult, Log, appended
from latentlog.ledger.registry import find_model
from latentlog.ledger.storage import Reader

_SALT: Final = 32

KeepKeys = Callable[[int, RecorderKeys], None]
"""Writes an epoch's recorder keys where recorders find them."""


@dataclass(frozen=True, slots=True)
class EpochState:
    """One epoch as the log has it."""

    epoch: int
    model: str
    model_digest: Digest
    dim: int
    salt: bytes
    commitment: Digest
    open_index: int
    opened: datetime
    close_index: int | None
    high_water: int

    @property
    def open(self) -> bool:
        return self.close_index is None


class Totals(NamedTuple):
    """How many counters of an epoch are in which state."""

    reserved: int
    generated: int
    abandoned: int
    pending: int


def open_epoch(
    log: Log,
    master: bytes,
    model_name: str,
    random: Random,
    *,
    keep: KeepKeys = lambda epoch, keys: None,
) -> EpochOpen:
    """Commit to the next epoch's key and publish a checkpoint over the commitment.

    `keep` receives the recorder keys before the commitment is logged: an epoch whose keys were
    lost could issue nothing. Raises `NoSuchModel`.
    """
    made: list[EpochOpen] = []

    def build(reader: Reader) -> list[Draft]:
        last = reader.newest(EpochOpen.kind)
        number = 0 if last is None else _require_open_entry(last.body).epoch + 1
        model = find_model(reader, model_name).entry
        assert isinstance(model, ModelEntry)
        salt = random(_SALT)
        key = epoch_key(master, salt, origin=log.origin, model=model.digest, epoch=number)
        keep(number, key.recorder_keys())
        opened = EpochOpen(
            epoch=number,
            model=model_name,
            model_digest=model.digest,
            dim=model.dim,
            salt=salt,
            commitment=key.commitment(log.origin, model.digest, number, salt),
        )
        made.append(opened)
        return [Draft(opened)]

    log.append_built(build)
    log.publish()
    return made[-1]


def derive_epoch_key(log: Log, master: bytes, epoch: int) -> EpochKey:
    """Derive an epoch's key again and hold it against the logged commitment.

    Raises `NoSuchEpoch`, and `WrongOpening` if this master key is not the one committed to.
    """
    with log.snapshot() as reader:
        state = epoch_state(reader, epoch)
    digest, salt = state.model_digest, state.salt
    key = epoch_key(master, salt, origin=log.origin, model=digest, epoch=epoch)
    if key.commitment(log.origin, digest, epoch, salt) != state.commitment:
        raise WrongOpening(
            f"this master key does not give the key that epoch {epoch} was opened with",
            expected=state.commitment.hex(),
        )
    return key


def close_epoch(log: Log, epoch: int) -> AppendResult:
    """Abandon what is reserved and not sealed, and close the epoch in the same batch.

    Raises `NoSuchEpoch` or `EpochClosed`.
    """
    closed = False

    def build(reader: Reader) -> list[Draft]:
        nonlocal closed
        if not epoch_state(reader, epoch).open:
            raise EpochClosed(f"epoch {epoch} is closed already")
        spans = list(islice(pending(within(reader), epoch), BATCH_LIMIT))
        drafts = [
            Draft(Abandoned(epoch=epoch, first=s.first, count=s.count, reason="epoch_closed"))
            for s in spans
        ]
        closed = len(drafts) < BATCH_LIMIT
        if closed:
            drafts.append(Draft(EpochClose(epoch=epoch, high_water=high_water(reader, epoch))))
        return drafts

    while True:
        result = appended(log.append_built(build))
        if closed:
            return result


def epoch_states(log: Log) -> list[EpochState]:
    """Return every epoch, oldest first."""
    numbers = [logged.entry for logged in log.entries(kind=EpochOpen.kind)]
    with log.snapshot() as reader:
        return [epoch_state(reader, e.epoch) for e in numbers if isinstance(e, EpochOpen)]


def epoch_state(reader: Reader, epoch: int) -> EpochState:
    """Return one epoch; raises `NoSuchEpoch`."""
    row = reader.newest(EpochOpen.kind, epoch=epoch)
    if row is None:
        raise NoSuchEpoch(f"there is no epoch {epoch}", next_step="latentlog epoch open MODEL")
    entry = _require_open_entry(row.body)
    closing = reader.newest(EpochClose.kind, epoch=epoch)
    seal = decode_entry(reader.rows(row.index + 1, 1, kinds=(Seal.kind,))[0].body)
    assert isinstance(seal, Seal)
    return EpochState(
        epoch=epoch,
        model=entry.model,
        model_digest=entry.model_digest,
        dim=entry.dim,
        salt=entry.salt,
        commitment=entry.commitment,
        open_index=row.index,
        opened=seal.time,
        close_index=None if closing is None else closing.index,
        high_water=high_water(reader, epoch),
    )


def newest_open_epoch(log: Log, model: str) -> EpochState:
    """Return the model's newest epoch that is not closed; raises `NoSuchEpoch`."""
    for state in reversed(epoch_states(log)):
        if state.model == model and state.open:
            return state
    raise NoSuchEpoch(
        f"model {model!r} has no open epoch", next_step=f"latentlog epoch open {model}"
    )


def counter_states(log: Log, epoch: int) -> Iterator[CounterState]:
    """Stream what became of every reserved counter, in counter order.

    A counter abandoned and then sealed late appears under both states.
    """
    return (state for _, state in states(log.snapshot, epoch))


def counter_totals(log: Log, epoch: int) -> Totals:
    """Count an epoch's counters by state."""
    counts = {"reserved": 0, "generated": 0, "late": 0, "abandoned": 0}
    for state in counter_states(log, epoch):
        counts[state.state] += state.count
    # One sealed late was abandoned before: it counts as generated, not as both.
    abandoned = counts["abandoned"] - counts["late"]
    generated = counts["generated"] + counts["late"]
    pending = counts["reserved"]
    return Totals(generated + abandoned + pending, generated, abandoned, pending)


def _require_open_entry(body: bytes) -> EpochOpen:
    entry = decode_entry(body)
    assert isinstance(entry, EpochOpen)
    return entry
