"""What many tests start from: a clock and randomness that repeat, entries, logs, a home."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from latentlog.ledger.batch import Sealer
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    Abandoned,
    AuditEntry,
    CalibrationEntry,
    DisclosureEntry,
    Entry,
    EpochClose,
    EpochOpen,
    Erasure,
    Generation,
    ModelEntry,
    RecorderEntry,
    Reservation,
)
from latentlog.ledger.epochs import open_epoch
from latentlog.ledger.home import Home, open_log
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.keystream import TABLE_DIGEST
from latentlog.ledger.log import Log
from latentlog.ledger.registry import add_model, add_recorder
from latentlog.ledger.storage import Store
from latentlog.ledger.store.memory import MemoryStore

ORIGIN = "example.com/log"
START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
LOG_KEY = SigningKey(bytes(32))
RECORDER_KEY = SigningKey(bytes([1]) * 32)
MASTER = bytes([2]) * 32
RECORDER = Sealer("local", RECORDER_KEY)


class Ticking:
    """A clock that advances a second each time it is read."""

    def __init__(self, start: datetime = START) -> None:
        self.time = start

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def repeating(label: str) -> Callable[[int], bytes]:
    """Return a source of bytes that is the same in every run."""
    state = [0]

    def random(size: int) -> bytes:
        made = b""
        while len(made) < size:
            state[0] += 1
            made += sha256(f"{label} {state[0]}".encode()).digest()
        return made[:size]

    return random


def digest(label: object) -> Digest:
    """Return the digest of a label: any 32 bytes, recognisable and repeatable."""
    return Digest.of(str(label).encode())


def make_model(name: str = "faces", **changes: object) -> ModelEntry:
    """Return a model entry of an 8-dimensional decoder of 4 × 4 pictures."""
    fields: dict[str, object] = {
        "name": name,
        "digest": digest(f"model {name}"),
        "file_sha256": digest(f"file of {name}"),
        "format": "pt2",
        "generator_kind": "decoder",
        "steps": 0,
        "prior": "normal",
        "latent_shape": (8,),
        "output_shape": (3, 4, 4),
        "range": (-1.0, 1.0),
        "table": TABLE_DIGEST,
    }
    return ModelEntry(**{**fields, **changes})  # type: ignore[arg-type]


def make_generation(counter: int, *, epoch: int = 0, late: bool = False) -> Generation:
    """Return a generation entry whose commitments open to nothing."""
    commitments = {"latent": digest(f"latent {counter}"), "sampler": digest(f"sampler {counter}")}
    return Generation(
        epoch=epoch, counter=counter, source="schedule", commitments=commitments, late=late
    )


def make_reservation(first: int, count: int, *, epoch: int = 0) -> Reservation:
    """Return a reservation by the recorder `local`."""
    lease = digest(f"lease {first}")[:16]
    return Reservation(epoch=epoch, recorder="local", lease=lease, first=first, count=count)


def make_log(store: Store | None = None) -> Log:
    """Return an empty log, in memory unless a store is given."""
    return Log(store or MemoryStore(), origin=ORIGIN, signer=LOG_KEY, clock=Ticking())


def make_recording_log(store: Store | None = None, *, reserved: int = 64) -> Log:
    """Return a log with a model, a recorder, epoch 0 open and its first counters reserved."""
    log = make_log(store)
    add_model(log, make_model())
    add_recorder(log, RECORDER.name, RECORDER_KEY.public)
    open_epoch(log, MASTER, "faces", repeating("epoch"))
    log.append([make_reservation(0, reserved)], RECORDER)
    return log


def make_home(path: Path, model: ModelEntry | None = None, *, database: str | None = None) -> Home:
    """Return a home with one model and an open epoch of it, on SQLite unless told otherwise."""
    home = Home.create(path, origin=ORIGIN, database=database)
    model = model or make_model()
    with closing(open_log(home)) as log:
        add_model(log, model)
        open_epoch(
            log, home.master_key(), model.name, repeating("epoch"), keep=home.keep_recorder_keys
        )
    return home


def every_kind() -> list[Entry]:
    """Return one entry of every kind but the seal."""
    return [
        make_model(),
        RecorderEntry(name="local", key=RECORDER_KEY.public, state="active"),
        EpochOpen(
            epoch=0,
            model="faces",
            model_digest=digest("model faces"),
            dim=8,
            salt=bytes(range(32)),
            commitment=digest("epoch key"),
        ),
        make_reservation(0, 4096),
        make_generation(7),
        make_generation(8, late=True),
        Abandoned(epoch=0, first=8, count=4088, reason="crashed"),
        EpochClose(epoch=0, high_water=4096),
        CalibrationEntry(
            model_digest=digest("model faces"),
            document=digest("calibration"),
            profile="quick",
            beta=0.05,
            pipeline="0.1.0",
            made="here",
        ),
        DisclosureEntry(epochs=(0, 3), recipient=digest("examiner"), case="2026/17"),
        Erasure(index=4, ground="request of the person shown", time=START, after_notice=False),
        AuditEntry(epoch=0, sampled=59, mismatched=0, seed=bytes(16)),
    ]
