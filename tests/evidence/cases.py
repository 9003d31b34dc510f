"""Whole cases for the tests of bundle, verifier and report: a small real log and a finding of each kind.

The log is built from the ledger's pure parts (entries, Merkle tree, notes) without a database, so
that these tests say nothing new when storage changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from latentlog.evidence.measurements import (
    CalibrationRules,
    Condition,
    LogCheck,
    Measurements,
    Rules,
    Time,
)
from latentlog.ledger.checkpoint import Checkpoint, sign_checkpoint
from latentlog.ledger.commitment import Opening, OpenedField, commit, value_of
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    OPERATOR,
    CalibrationEntry,
    Entry,
    EpochOpen,
    Generation,
    ModelEntry,
    RecorderEntry,
    Reservation,
    Seal,
    seal_message,
)
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.merkle import leaf_hash, node_hash, prove_inclusion, root_of
from latentlog.ledger.note import NoteSigner
from tests.evidence.scores import (
    BAD_REPLAY,
    CLOSE,
    DIM,
    GOOD_REPLAY,
    GREY,
    MODEL,
    NOT_RUN,
    PATCHED_REPLAY,
    calibration,
    counter,
    measurements,
    model,
    point,
)

ORIGIN: Final = "faces.example/log"
LOG_KEY: Final = SigningKey(b"log key of the tests, 32 bytes!!")
RECORDER_KEY: Final = SigningKey(b"recorder key of tests, 32 bytes!")
EXAMINER_KEY: Final = SigningKey(b"examiner key of tests, 32 bytes!")
TIME: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def digest_of(word: str) -> Digest:
    return Digest(sha256(word.encode()).digest())


class SmallLog:
    """A log in a list: entries, their seals, and proofs by the textbook's recursion."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.openings: dict[int, Opening] = {}
        self.origin = ORIGIN
        self.signer = NoteSigner(ORIGIN, LOG_KEY)

    def append(self, entries: Sequence[Entry], signer: str, key: SigningKey) -> int:
        first = len(self.entries)
        root = root_of([leaf_hash(entry.encode()) for entry in entries])
        signature = key.sign(seal_message(ORIGIN, first, len(entries), root, TIME))
        seal = Seal(
            signer=signer,
            key=key.public,
            first=first,
            count=len(entries),
            root=root,
            time=TIME,
            signature=signature,
        )
        self.entries += [*entries, seal]
        return first

    def operate(self, *entries: Entry) -> int:
        return self.append(entries, OPERATOR, LOG_KEY)

    @property
    def leaves(self) -> list[Digest]:
        return [leaf_hash(entry.encode()) for entry in self.entries]

    @property
    def vkey(self) -> str:
        return self.signer.verifier.vkey

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def root(self) -> Digest:
        return root_of(self.leaves)

    @property
    def checkpoint_note(self) -> bytes:
        return sign_checkpoint(Checkpoint(ORIGIN, self.size, self.root), [self.signer])

    def entry(self, index: int) -> bytes:
        return self.entries[index].encode()

    def proof(self, index: int) -> list[Digest]:
        return prove_inclusion(_reader(self.leaves), index, self.size)

    def batch(self, index: int) -> tuple[int, list[Digest]]:
        seal_index, seal = next(
            (i, e) for i, e in enumerate(self.entries) if i > index and isinstance(e, Seal)
        )
        leaves = self.leaves[seal.first : seal.first + seal.count]
        path = prove_inclusion(_reader(leaves), index - seal.first, seal.count)
        return seal_index, path

    def opening(self, index: int) -> Opening | None:
        return self.openings.get(index)


def _reader(leaves: Sequence[Digest]) -> Callable[[Sequence[tuple[int, int]]], list[Digest]]:
    def complete(level: int, index: int) -> Digest:
        if level == 0:
            return leaves[index]
        return node_hash(complete(level - 1, 2 * index), complete(level - 1, 2 * index + 1))

    return lambda nodes: [complete(level, index) for level, index in nodes]


def small_log(medium: bytes, document: Digest) -> SmallLog:
    """Model, recorder, epoch, calibration; 39 outputs of which counter 37 is entry 47."""
    log = SmallLog()
    digest = Digest.fromhex(MODEL)
    log.operate(
        ModelEntry(
            name="faces",
            digest=digest,
            file_sha256=digest_of("file"),
            format="pt2",
            generator_kind="decoder",
            steps=0,
            prior="normal",
            latent_shape=(DIM,),
            output_shape=(3, 64, 64),
            range=(-1.0, 1.0),
            table=digest_of("table"),
        )
    )
    log.operate(RecorderEntry(name="gpu-1", key=RECORDER_KEY.public, state="active"))
    log.operate(
        CalibrationEntry(
            model_digest=digest,
            document=document,
            profile="quick",
            beta=0.05,
            pipeline="0",
            made="here",
        )
    )
    log.operate(
        EpochOpen(
            epoch=0,
            model="faces",
            model_digest=digest,
            dim=DIM,
            salt=bytes(32),
            commitment=digest_of("key"),
        )
    )
    log.append(
        [Reservation(epoch=0, recorder="gpu-1", lease=bytes(16), first=0, count=4096)],
        "gpu-1",
        RECORDER_KEY,
    )
    generations = [_generation(log, len(log.entries) + n, n, medium) for n in range(39)]
    log.append(generations, "gpu-1", RECORDER_KEY)
    return log


def _generation(log: SmallLog, index: int, counter: int, medium: bytes) -> Generation:
    content = {
        "conditioning": {"prompt": f"portrait number {counter}"},
        "output_file": (Digest.of(medium) if counter == 37 else digest_of(f"{counter}")).hex(),
    }
    salts = {name: bytes(digest_of(f"salt {name} {counter}")) for name in content}
    log.openings[index] = Opening(
        0, counter, {name: OpenedField(salts[name], content[name]) for name in content}
    )
    commitments = {
        name: commit(
            name,
            value_of(name, content[name]),
            salts[name],
            origin=ORIGIN,
            epoch=0,
            counter=counter,
        )
        for name in content
    }
    latent = commit(
        "latent", digest_of(f"z{counter}"), bytes(32), origin=ORIGIN, epoch=0, counter=counter
    )
    return Generation(
        epoch=0, counter=counter, source="schedule", commitments={**commitments, "latent": latent}
    )


ENTRY: Final = 10 + 37
"""Where `small_log` holds counter 37."""
CALIBRATION: Final = 4

CHECKS: Final = (
    LogCheck(name="audit", ok=True, detail="50 entries, every row recomputed"),
    LogCheck(name="seals", ok=True, detail="6 seals by 2 keys"),
    LogCheck(name="counters", ok=True, detail="4,096 reserved, 39 sealed, none twice"),
    LogCheck(name="overrun", ok=True, detail="1,048,576 latents past the last reserved counter"),
    LogCheck(name="fork", ok=None, detail="no earlier checkpoint was given"),
    LogCheck(name="witnesses", ok=None, detail="no witness is configured"),
    LogCheck(name="timestamps", ok=None, detail="no time-stamping authority is configured"),
)

SEALED: Final = Time(at="2026-03-01T12:00:00Z", source="operator")


def _measured(*counters: object, **changes: object) -> Measurements:
    rows = [replace(c, index=ENTRY, sealed_at=SEALED) for c in counters]  # type: ignore[type-var]
    m = measurements(model(*rows, **changes))
    lookup = replace(m.models[0].lookups[0], compared=1_052_672) if m.models[0].lookups else None
    scored = replace(m.models[0], lookups=(lookup,)) if lookup else m.models[0]
    return replace(m, models=(scored,), log_checks=CHECKS)


def _jpeg() -> Condition:
    return Condition(distortion="jpeg", strength=90.0, words="JPEG, quality 90, 4:2:0")


OUTCOMES: Final[dict[str, Callable[[], Measurements]]] = {
    "produced": lambda: _measured(
        counter(cosine=CLOSE, replay=GOOD_REPLAY, digests=("file",), sketch_distance=0)
    ),
    "produced_latent": lambda: _measured(
        counter(cosine=CLOSE, replay=GOOD_REPLAY, sketch_distance=4), condition=_jpeg()
    ),
    "not_produced": lambda: _measured(counter(sketch_distance=92)),
    "grey_zone": lambda: _measured(counter(cosine=GREY, sketch_distance=88)),
    "depends_on_entry": lambda: _measured(
        counter(cosine=CLOSE, replay=BAD_REPLAY, sketch_distance=31)
    ),
    "altered_region": lambda: _measured(
        counter(cosine=CLOSE, replay=PATCHED_REPLAY, sketch_distance=22)
    ),
    "reachable_unregistered": lambda: _measured(counter(), residual=1.02),
    "power_too_low": lambda: _measured(counter(), range_channel=NOT_RUN, residual=None),
    "replay_only": lambda: _measured(counter(replay=GOOD_REPLAY)),
    "digest_without_replay": lambda: _measured(counter(digests=("file",))),
    "outside_envelope": lambda: _measured(
        counter(), condition=Condition(distortion="jpeg", strength=30.0, words="JPEG, quality 30")
    ),
    "log_check_failed": lambda: replace(
        _measured(counter()),
        log_checks=(
            LogCheck(name="audit", ok=False, detail="entry 9 is not sealed"),
            *CHECKS[1:],
        ),
    ),
    "wrong_format": lambda: replace(
        measurements(
            replace(
                model(live=None, residual=None, range_channel=NOT_RUN),
                applicable=False,
                condition=None,
            )
        ),
        log_checks=CHECKS,
    ),
}


def rules_for(document: Digest, **changes: object) -> Rules:
    points = (
        point("png", 0.0),
        point("jpeg", 95.0),
        point("jpeg", 90.0, produced=148),
        point("jpeg", 75.0, misses=3, produced=121),
        point("resize", 0.75, misses=1, produced=140),
    )
    return Rules(calibrations=(rule(document, points, **changes),))


def rule(document: Digest, points: tuple[object, ...], **changes: object) -> CalibrationRules:
    return replace(
        calibration(*points, document=document.hex(), entry=CALIBRATION),  # type: ignore[arg-type]
        **changes,
    )
