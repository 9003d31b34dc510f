"""Whole cases for bundle, verifier and report: a small real log and a finding of each kind.

The log is built from the ledger's pure parts (entries, Merkle tree, notes) without a database, so
that these tests say nothing new when storage changes.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentlog.evidence.assemble import Signature, make_bundle
from latentlog.evidence.calibration import (
    PIPELINE,
    SCHEMA,
    Calibration,
    PointScores,
    rules_at,
)
from latentlog.evidence.exhibit import Exhibit
from latentlog.evidence.finding import Finding, decide
from latentlog.evidence.measurements import (
    Condition,
    CounterScores,
    LogCheck,
    Measurements,
    Rules,
    Time,
)
from latentlog.evidence.record import BatchPlace, LoggedCalibration, Record
from latentlog.evidence.statement import CustodyAction
from latentlog.ledger.checkpoint import Checkpoint, sign_checkpoint
from latentlog.ledger.commitment import OpenedField, Opening, commit, value_of
from latentlog.ledger.digest import Digest, pixel_digest
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
    MODEL,
    NOT_RUN,
    PATCHED_REPLAY,
    counter,
    measurements,
    model,
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

    def batch(self, index: int) -> BatchPlace:
        seal_index, seal = next(
            (i, e) for i, e in enumerate(self.entries) if i > index and isinstance(e, Seal)
        )
        leaves = self.leaves[seal.first : seal.first + seal.count]
        path = prove_inclusion(_reader(leaves), index - seal.first, seal.count)
        return BatchPlace(seal_index, path, index - seal.first)

    def calibration(self, model_digest: str) -> LoggedCalibration | None:
        return LoggedCalibration(index=CALIBRATION, document=DOCUMENT)

    def recorder_entries(self, name: str) -> list[int]:
        entries = enumerate(self.entries)
        return [i for i, e in entries if isinstance(e, RecorderEntry) and e.name == name]

    def opening(self, index: int) -> Opening | None:
        return self.openings.get(index)


def _reader(leaves: Sequence[Digest]) -> Callable[[Sequence[tuple[int, int]]], list[Digest]]:
    def complete(level: int, index: int) -> Digest:
        if level == 0:
            return leaves[index]
        return node_hash(complete(level - 1, 2 * index), complete(level - 1, 2 * index + 1))

    return lambda nodes: [complete(level, index) for level, index in nodes]


def small_log(medium: bytes) -> SmallLog:
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
            document=Digest.of(DOCUMENT),
            profile="quick",
            beta=0.05,
            pipeline=PIPELINE,
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


def _measured(*counters: CounterScores, **changes: Any) -> Measurements:
    rows = [replace(c, index=ENTRY, sealed_at=SEALED) for c in counters]
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
    "grey_zone": lambda: _measured(counter(cosine=0.62, sketch_distance=88)),
    "depends_on_entry": lambda: _measured(
        counter(cosine=CLOSE, replay=BAD_REPLAY, sketch_distance=31)
    ),
    "altered_region": lambda: _measured(
        counter(cosine=CLOSE, replay=replace(PATCHED_REPLAY, global_=1.01), sketch_distance=22)
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


def controls(distortion: str, strength: float, *, found: int = 150) -> PointScores:
    """150 controls of one point, all but some of them found by their latent."""
    cosines = (CLOSE,) * found + (0.5,) * (150 - found)
    return PointScores(
        distortion=distortion,
        strength=strength,
        cosines=cosines,
        residuals=(1.0,) * 149 + (1.2,),
        replays=(GOOD_REPLAY,) * 150,
        others=(BAD_REPLAY,) * 150,
        foreign=(9.0,) * 20,
    )


DOCUMENT: Final = Calibration(
    schema=SCHEMA,
    model="faces",
    model_digest=MODEL,
    kind="decoder",
    dim=DIM,
    pipeline=PIPELINE,
    profile="quick",
    beta=0.05,
    made="here",
    control_root="77" * 32,
    device="cpu",
    settings=(),
    points=(
        controls("png", 0.0),
        controls("jpeg", 95.0),
        controls("jpeg", 90.0, found=149),
        controls("jpeg", 75.0, found=141),
        controls("resize", 0.75, found=149),
    ),
).encode()


CITED: Final = (0, 2, CALIBRATION, 6, 8)
"""Model, recorder, calibration, epoch and reservation of `small_log`."""


def portrait(seed: int = 0, side: int = 64) -> npt.NDArray[np.uint8]:
    """A smooth colourful picture that is nobody's face."""
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(3 * x * k + seed) * np.cos(2 * y * k + 2 * seed) for k in (1, 2, 3)]
    return ((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What `make_bundle` wants of an examination."""

    measurements: Measurements
    rules: Rules
    finding: Finding
    exhibits: tuple[Exhibit, ...]
    pictures: Mapping[str, npt.NDArray[np.uint8]]
    cited: tuple[int, ...]
    seed: str
    custody: tuple[CustodyAction, ...]


def case(outcome: str, *, pixels: npt.NDArray[np.uint8] | None = None) -> tuple[Case, SmallLog]:
    """A whole case of one of OUTCOMES, and the log it is about."""
    shown = portrait() if pixels is None else pixels
    content = png(shown)
    exhibit = Exhibit(
        name="disputed portrait.png",
        role="medium",
        content=content,
        pixels=pixel_digest(shown).hex(),
    )
    measured = OUTCOMES[outcome]()
    counted = rules_at(DOCUMENT, measured.multiplicity, entry=CALIBRATION, rules=Rules())
    rules = Rules(calibrations=(counted,))
    medium = replace(measured.medium, sha256=exhibit.sha256, pixels=exhibit.pixels)
    measured = replace(measured, medium=medium)
    finding = decide(measured, rules)
    noise = np.random.default_rng(1).integers(-3, 4, shown.shape)
    near = np.clip(shown.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    pictures: dict[str, npt.NDArray[np.uint8]] = {"medium": shown}
    pictures["replayed" if finding.entry else "reconstruction"] = near
    if outcome == "altered_region":
        pictures["map"] = np.zeros(shown.shape[:2], np.uint8)
        pictures["map"][20:40, 10:30] = 255
    entry = (ENTRY,) if finding.entry else ()
    made = Case(
        measurements=measured,
        rules=rules,
        finding=finding,
        exhibits=(exhibit,),
        pictures=pictures,
        cited=(*CITED, *entry),
        seed="20260301",
        custody=(CustodyAction(at="2026-03-04T05:00:00Z", step=1, what=exhibit.name),),
    )
    return made, small_log(content)


def signature(**changes: Any) -> Signature:
    sound = Signature(
        name="A. Examiner, Institute of Examples",
        role="independent",
        key=EXAMINER_KEY,
        created=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        versions={"latentlog": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.12.0"},
    )
    return replace(sound, **changes)


def parts(outcome: str, **options: Any) -> dict[str, bytes]:
    made, log = case(outcome)
    return make_bundle(made, cast(Record, log), signature(), **options)
