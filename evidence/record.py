"""What an examination may see of one log, declared by its user.

`local_record` provides it over a log and a home on this machine; another implementation reads what
a developer disclosed. The examination never learns which: it asks for latents, openings and proofs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from latentlog.evidence.measurements import GeneratorKind, LogCheck, State, Time
from latentlog.ledger.commitment import Opening
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import OPERATOR, Seal, decode_entry
from latentlog.ledger.keystream import EpochKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A registered model, as its entry says."""

    index: int
    name: str
    digest: str
    format: str
    kind: GeneratorKind
    steps: int
    prior: str
    latent_shape: tuple[int, ...]
    output_shape: tuple[int, int, int]
    lo: float
    hi: float

    @property
    def dim(self) -> int:
        size = 1
        for side in self.latent_shape:
            size *= side
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochView:
    """An epoch; `key` is None where it was not disclosed."""

    epoch: int
    model_digest: str
    dim: int
    high_water: int
    open_index: int
    close_index: int | None
    key: EpochKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterView:
    """What the log says of one counter."""

    state: State
    index: int | None
    """Of its generation entry."""
    sealed_at: Time | None
    related: tuple[int, ...]
    """Reservation and abandonment entries that name the counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCalibration:
    """A calibration document and, where it was logged, its entry."""

    index: int | None
    document: bytes


class BatchPlace(NamedTuple):
    """The seal that covers an entry, and the path from the entry to the seal's root."""

    seal: int
    path: list[Digest]
    position: int


class OpenedEntry(NamedTuple):
    """A generation entry whose opening was disclosed."""

    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    opening: Opening


class Record(Protocol):
    """One log under examination, up to one checkpoint."""

    @property
    def origin(self) -> str: ...

    @property
    def vkey(self) -> str: ...

    @property
    def checkpoint_note(self) -> bytes: ...

    @property
    def size(self) -> int: ...

    def models(self) -> Sequence[ModelView]: ...

    def epochs(self) -> Sequence[EpochView]: ...

    def entry(self, index: int) -> bytes: ...

    def proof(self, index: int) -> list[Digest]:
        """The inclusion proof of an entry in the tree of `checkpoint_note`."""

    def batch(self, index: int) -> BatchPlace: ...

    def recorder_entries(self, name: str) -> Sequence[int]:
        """Every entry that registers or retires a recorder of this name."""

    def counter(self, epoch: int, counter: int) -> CounterView: ...

    def generations(self, epoch: int) -> Iterator[tuple[int, int]]:
        """(counter, index) of every generation entry of an epoch, streamed."""

    def seed_counters(self, epoch: int) -> Iterator[int]:
        """Counters of an epoch whose generation entry logs a seed of its own, streamed."""

    def openings(self, epoch: int) -> Iterator[OpenedEntry]:
        """Every disclosed opening of an epoch, streamed."""

    def opening(self, index: int) -> Opening | None: ...

    def audit(self) -> Sequence[LogCheck]: ...

    def calibration(self, model_digest: str) -> LoggedCalibration | None: ...

    def control_root(self, model_digest: str) -> Digest:
        """The root of the first checkpoint after the model's entry: nobody chose it."""

    def disclosures(self, epochs: Iterable[int]) -> Sequence[str]:
        """Every earlier disclosure of these epochs, in words."""


def citations(record: Record, indices: Iterable[int]) -> tuple[int, ...]:
    """Return entries together with everything that their place in the log rests on.

    Each entry's seal; and where a recorder gave it, the entries that registered the recorder.
    """
    cited: set[int] = set()
    open_ = list(indices)
    while open_:
        index = open_.pop()
        if index in cited:
            continue
        cited.add(index)
        entry = decode_entry(record.entry(index))
        if not isinstance(entry, Seal):
            open_.append(record.batch(index).seal)
        elif entry.signer != OPERATOR:
            open_ += [i for i in record.recorder_entries(entry.signer) if i < index]
    return tuple(sorted(cited))
