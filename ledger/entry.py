"""The entries of the log and their bytes: canonical JSON objects with a `kind` and `"v": 0`.

    {"count":4096,"epoch":0,"first":0,"kind":"reservation",
     "lease":"5f2a…","recorder":"local","v":0}            (on one line, without spaces)

The format is final (docs/formats/entries.md): one value has one encoding, decoding refuses unknown
members, and an entry whose fields contradict each other does not decode. An entry says what was
claimed, not that it is true: `audit` and the seals decide that.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, NamedTuple

from latentlog.ledger import canonical
from latentlog.ledger.codec import (
    COMMITMENTS,
    DECIMAL,
    DIGEST,
    FLAG,
    KEY,
    NAME,
    TEXT,
    TIME,
    TRUE,
    Codec,
    format_time,
    hexadecimal,
    integer,
    list_of,
    one_of,
    require_name,
)
from latentlog.ledger.digest import SEAL, Digest, lp, u64
from latentlog.ledger.errors import LedgerError, MalformedEntry
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.keystream import LATENT_LIMIT

OPERATOR: Final = "operator"
"""The signer of the log's own entries; no recorder may bear this name."""

BATCH_LIMIT: Final = 256
"""Most entries under one seal: a batch path has at most 8 hashes."""

EPOCH_LATENTS: Final = 1 << 20
"""Latents an epoch issues before it has to be followed by another, and the most one range names."""


class Placement(NamedTuple):
    """The counters of an epoch that an entry speaks of, if any."""

    epoch: int | None = None
    first: int | None = None
    length: int | None = None


class _Encodable:
    """What all kinds share: the encoding that follows from their table of codecs."""

    __slots__ = ()
    kind: ClassVar[str]
    codecs: ClassVar[Mapping[str, Codec[Any]]]
    optional: ClassVar[frozenset[str]] = frozenset()

    def encode(self) -> bytes:
        """Encode as canonical JSON."""
        value = {"kind": self.kind, "v": 0}
        for name, codec in self.codecs.items():
            content = getattr(self, name)
            if content or name not in self.optional:
                value[name] = codec.format(content)
        return canonical.encode(value)

    @property
    def placement(self) -> Placement:
        return Placement()

    def require_sound(self) -> None:
        """Return unless the fields contradict each other; raises `MalformedEntry`."""


def _recorder_name(value: Any) -> str:
    if value == OPERATOR:
        raise MalformedEntry(f"a recorder may not be called {OPERATOR!r}")
    return require_name(value)


_RECORDER: Final[Codec[str]] = Codec(_recorder_name, str)
_NUMBER: Final = integer(0)
_COUNTER: Final = integer(0, LATENT_LIMIT)
_COUNT: Final = integer(1, EPOCH_LATENTS)
_SIZE: Final = integer(1, 1 << 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry(_Encodable):
    """A generator under examination: its identity, its latent and its output."""

    name: str
    digest: Digest
    file_sha256: Digest
    format: str
    generator_kind: str
    steps: int
    prior: str
    latent_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    range: tuple[float, ...]
    table: Digest

    kind: ClassVar[Literal["model"]] = "model"
    codecs: ClassVar = {
        "name": NAME,
        "digest": DIGEST,
        "file_sha256": DIGEST,
        "format": one_of("pt2", "factory"),
        "generator_kind": one_of("decoder", "flow", "ddim"),
        "steps": integer(0, 1_000_000),
        "prior": one_of("normal", "uniform"),
        "latent_shape": list_of(_SIZE, 1, 8),
        "output_shape": list_of(_SIZE, 3, 3),
        "range": list_of(DECIMAL, 2, 2),
        "table": DIGEST,
    }

    @property
    def dim(self) -> int:
        """Coordinates of one latent."""
        return math.prod(self.latent_shape)

    def require_sound(self) -> None:
        if (self.generator_kind == "decoder") != (self.steps == 0):
            raise MalformedEntry("a decoder has 0 steps, a flow or ddim at least 1")
        if not self.range[0] < self.range[1]:
            raise MalformedEntry("an output range rises", got=str(self.range))
        if self.dim > 1 << 31:
            raise MalformedEntry("a latent of more than 2^31 coordinates")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderEntry(_Encodable):
    """A recorder's key from here on, or its retirement; the newest entry of a name holds."""

    name: str
    key: PublicKey
    state: str

    kind: ClassVar[Literal["recorder"]] = "recorder"
    codecs: ClassVar = {"name": _RECORDER, "key": KEY, "state": one_of("active", "retired")}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOpen(_Encodable):
    """The commitment to an epoch key, before any latent of the epoch leaves."""

    epoch: int
    model: str
    model_digest: Digest
    dim: int
    salt: bytes
    commitment: Digest

    kind: ClassVar[Literal["epoch-open"]] = "epoch-open"
    codecs: ClassVar = {
        "epoch": _NUMBER,
        "model": NAME,
        "model_digest": DIGEST,
        "dim": _SIZE,
        "salt": hexadecimal(32),
        "commitment": DIGEST,
    }

    @property
    def placement(self) -> Placement:
        return Placement(self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation(_Encodable):
    """Counters `first` … `first + count - 1`, taken by a recorder before their latents leave."""

    epoch: int
    recorder: str
    lease: bytes
    first: int
    count: int

    kind: ClassVar[Literal["reservation"]] = "reservation"
    codecs: ClassVar = {
        "epoch": _NUMBER,
        "recorder": _RECORDER,
        "lease": hexadecimal(16),
        "first": _COUNTER,
        "count": _COUNT,
    }

    @property
    def placement(self) -> Placement:
        return Placement(self.epoch, self.first, self.count)

    def require_sound(self) -> None:
        _require_range(self.first, self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(_Encodable):
    """One output: a salted commitment for each of its private fields."""

    epoch: int
    counter: int
    source: str
    commitments: Mapping[str, Digest]
    late: bool = False

    kind: ClassVar[Literal["generation"]] = "generation"
    optional: ClassVar = frozenset({"late"})
    codecs: ClassVar = {
        "epoch": _NUMBER,
        "counter": integer(0, LATENT_LIMIT - 1),
        "source": one_of("schedule", "seed"),
        "commitments": COMMITMENTS,
        "late": TRUE,
    }

    def encode(self) -> bytes:
        """Encode as canonical JSON, written out: nearly all entries are generations."""
        hidden = ",".join([f'"{name}":"{d.hex()}"' for name, d in sorted(self.commitments.items())])
        late = '"late":true,' if self.late else ""
        return (
            f'{{"commitments":{{{hidden}}},"counter":{self.counter},"epoch":{self.epoch},'
            f'"kind":"generation",{late}"source":"{self.source}","v":0}}'
        ).encode()

    @property
    def placement(self) -> Placement:
        return Placement(self.epoch, self.counter, 1)

    def require_sound(self) -> None:
        if (self.source == "seed") != ("seed" in self.commitments):
            raise MalformedEntry("a seed is committed to by entries of source seed, and only them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned(_Encodable):
    """Reserved counters that were not sealed when their session or epoch ended."""

    epoch: int
    first: int
    count: int
    reason: str

    kind: ClassVar[Literal["abandoned"]] = "abandoned"
    codecs: ClassVar = {
        "epoch": _NUMBER,
        "first": _COUNTER,
        "count": _COUNT,
        "reason": one_of("session_ended", "crashed", "retired", "epoch_closed", "failed"),
    }

    @property
    def placement(self) -> Placement:
        return Placement(self.epoch, self.first, self.count)

    def require_sound(self) -> None:
        _require_range(self.first, self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochClose(_Encodable):
    """The end of an epoch; `high_water` is the first counter that was never reserved."""

    epoch: int
    high_water: int

    kind: ClassVar[Literal["epoch-close"]] = "epoch-close"
    codecs: ClassVar = {"epoch": _NUMBER, "high_water": _COUNTER}

    @property
    def placement(self) -> Placement:
        return Placement(self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationEntry(_Encodable):
    """The rules of examination for one model, logged before the examination."""

    model_digest: Digest
    document: Digest
    profile: str
    beta: float
    pipeline: str
    made: str

    kind: ClassVar[Literal["calibration"]] = "calibration"
    codecs: ClassVar = {
        "model_digest": DIGEST,
        "document": DIGEST,
        "profile": NAME,
        "beta": DECIMAL,
        "pipeline": TEXT,
        "made": one_of("here", "elsewhere"),
    }

    def require_sound(self) -> None:
        if not 0 < self.beta < 1:
            raise MalformedEntry("beta is a probability between 0 and 1", got=str(self.beta))


@dataclass(frozen=True, slots=True, kw_only=True)
class DisclosureEntry(_Encodable):
    """Epoch keys about to be handed to a recipient, logged before they are."""

    epochs: tuple[int, ...]
    recipient: Digest
    case: str

    kind: ClassVar[Literal["disclosure"]] = "disclosure"
    codecs: ClassVar = {
        "epochs": list_of(_NUMBER, 1, 1024),
        "recipient": DIGEST,
        "case": TEXT,
    }

    def require_sound(self) -> None:
        if list(self.epochs) != sorted(set(self.epochs)):
            raise MalformedEntry("disclosed epochs are listed once each, ascending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure(_Encodable):
    """The opening of entry `index` is about to be destroyed, on the stated ground."""

    index: int
    ground: str
    time: datetime
    after_notice: bool

    kind: ClassVar[Literal["erasure"]] = "erasure"
    codecs: ClassVar = {
        "index": _NUMBER,
        "ground": TEXT,
        "time": TIME,
        "after_notice": FLAG,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(_Encodable):
    """A random replay audit: sealed entries regenerated, and how many did not come out."""

    epoch: int
    sampled: int
    mismatched: int
    seed: bytes

    kind: ClassVar[Literal["audit"]] = "audit"
    codecs: ClassVar = {
        "epoch": _NUMBER,
        "sampled": _NUMBER,
        "mismatched": _NUMBER,
        "seed": hexadecimal(),
    }

    @property
    def placement(self) -> Placement:
        return Placement(self.epoch)

    def require_sound(self) -> None:
        if self.mismatched > self.sampled:
            raise MalformedEntry("more mismatches than samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal(_Encodable):
    """A signer's Ed25519 signature over the `count` entries from `first`, which it follows."""

    signer: str
    key: PublicKey
    first: int
    count: int
    root: Digest
    time: datetime
    signature: bytes

    kind: ClassVar[Literal["seal"]] = "seal"
    codecs: ClassVar = {
        "signer": NAME,
        "key": KEY,
        "first": _NUMBER,
        "count": integer(1, BATCH_LIMIT),
        "root": DIGEST,
        "time": TIME,
        "signature": hexadecimal(64),
    }

    def verify(self, origin: str) -> None:
        """Return only if `key` signed this batch for the log `origin`; raises `BadSignature`."""
        message = seal_message(origin, self.first, self.count, self.root, self.time)
        self.key.verify(self.signature, message)


Entry = (
    ModelEntry
    | RecorderEntry
    | EpochOpen
    | Reservation
    | Generation
    | Abandoned
    | EpochClose
    | CalibrationEntry
    | DisclosureEntry
    | Erasure
    | AuditEntry
    | Seal
)

_TYPES: Final[tuple[type[Entry], ...]] = (
    ModelEntry,
    RecorderEntry,
    EpochOpen,
    Reservation,
    Generation,
    Abandoned,
    EpochClose,
    CalibrationEntry,
    DisclosureEntry,
    Erasure,
    AuditEntry,
    Seal,
)
KINDS: Final[Mapping[str, type[Entry]]] = {entry.kind: entry for entry in _TYPES}

RECORDER_KINDS: Final = frozenset({Reservation.kind, Generation.kind, Abandoned.kind})
"""What a recorder may seal; everything else is the operator's to write."""


def seal_message(origin: str, first: int, count: int, root: Digest, time: datetime) -> bytes:
    """Return the bytes that a seal signs: the batch's place and root, in this log, at this time."""
    place = lp(origin.encode()) + u64(first) + u64(count)
    return SEAL + place + root + lp(format_time(time).encode())


def decode_entry(encoded: bytes) -> Entry:
    """Decode an entry of at most 65,535 bytes; raises `MalformedEntry` unless it is exactly one."""
    try:
        value = canonical.decode(encoded)
    except LedgerError as error:
        raise MalformedEntry(f"unreadable entry: {error.message}", got=error.got) from None
    kind = value.pop("kind", None)
    version = value.pop("v", None)
    entry_type = KINDS.get(kind) if isinstance(kind, str) else None
    if entry_type is None or type(version) is not int or version != 0:
        raise MalformedEntry(
            "unknown kind or version of entry",
            expected=f"one of {', '.join(KINDS)}, version 0",
            got=f"{kind!r}, version {version!r}"[:120],
        )
    return _build(entry_type, value)


def _build(entry_type: type[Entry], value: dict[str, Any]) -> Entry:
    missing = entry_type.codecs.keys() - value.keys() - entry_type.optional
    unknown = value.keys() - entry_type.codecs.keys()
    if missing or unknown:
        raise MalformedEntry(
            f"a {entry_type.kind} entry has other members",
            expected=", ".join(sorted(entry_type.codecs)),
            got=", ".join(sorted(value))[:200],
        )
    parsed: dict[str, Any] = {}
    for name, content in value.items():
        try:
            parsed[name] = entry_type.codecs[name].parse(content)
        except LedgerError as error:
            raise MalformedEntry(
                f"{name} of a {entry_type.kind} entry: {error.message}",
                expected=error.expected,
                got=error.got,
            ) from None
    entry = entry_type(**parsed)
    entry.require_sound()
    return entry


def _require_range(first: int, count: int) -> None:
    if first + count > LATENT_LIMIT:
        raise MalformedEntry("counters beyond the last latent of an epoch", got=f"{first}+{count}")
