"""A generator whose inverse is closed-form, in process, and a record without a database.

    picture = clamp(1/2 + A z), A with orthogonal columns      z = Aᵀ (picture − 1/2) / |column|²

It speaks as a model process does, so that examination and calibration run in milliseconds. What
the channel did is undone by least squares on the pixels as stored; resized pictures are resized
back first.
"""

import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentlog.evidence.exhibit import Exhibit
from latentlog.evidence.measurements import LogCheck, Time
from latentlog.evidence.record import (
    BatchPlace,
    CounterView,
    EpochView,
    LoggedCalibration,
    ModelView,
    OpenedEntry,
)
from latentlog.inversion.forward import Channel
from latentlog.inversion.result import (
    Attempt,
    GeneratorSpec,
    Inversion,
    InversionPlan,
    ModelDescription,
    Observation,
    Residual,
)
from latentlog.ledger.commitment import OpenedField, Opening, commit, value_of
from latentlog.ledger.digest import Digest, pixel_digest
from latentlog.ledger.entry import EpochOpen, Generation, decode_entry
from latentlog.ledger.keystream import EpochKey, Schedule, latent_digest, latent_salt, normal
from latentlog.ledger.outputs import pdq_sketch, to_8bit

SIDE, DIM = 16, 64
SHAPE = (3, SIDE, SIDE)
ORIGIN = "faces.example/log"
DIGEST = Digest.of(b"the linear generator")

Images = npt.NDArray[np.float32]


@functools.cache
def _basis(seed: int) -> npt.NDArray[np.float64]:
    """Smooth orthonormal pictures: JPEG and resizing keep them."""
    rng = np.random.default_rng(seed)
    size = 8
    coarse = rng.standard_normal((DIM, 3, size, size))
    rows = [
        np.stack(
            [np.asarray(Image.fromarray(c.astype(np.float32)).resize((SIDE, SIDE))) for c in p]
        )
        for p in coarse
    ]
    q, _ = np.linalg.qr(np.stack(rows).reshape(DIM, -1).T.astype(np.float64))
    return q


@dataclass
class LinearGenerator:
    """Stands in for `ModelProcess`."""

    seed: int = 0
    digest: str = DIGEST.hex()
    contrast: float = 0.35
    inverted: int = 0

    def __post_init__(self) -> None:
        self.basis = _basis(self.seed)
        self.description = ModelDescription(
            spec=GeneratorSpec(latent_shape=(DIM,), prior="normal", lo=0.0, hi=1.0),
            output_shape=SHAPE,
            digest=self.digest,
            file_sha256="00" * 32,
            format="pt2",
        )

    def __enter__(self) -> "LinearGenerator":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def generate(self, latents: Images) -> Images:
        flat = 0.5 + self.contrast * latents.reshape(-1, DIM).astype(np.float64) @ self.basis.T
        return np.clip(flat, 0.0, 1.0).astype(np.float32).reshape(-1, *SHAPE)

    def transmit(self, images: Images, channel: Channel) -> Images:
        return np.stack([_sent(image, channel) for image in images])

    def invert(
        self,
        observations: Sequence[Observation],
        plan: InversionPlan | None = None,
        *,
        on_step: Any = None,
    ) -> list[Inversion]:
        self.inverted += len(observations)
        return [self._invert(o) for o in observations]

    def residuals(self, images: Images, observation: Observation) -> list[Residual]:
        return [self._residual(image, observation) for image in images]

    def _invert(self, observation: Observation) -> Inversion:
        picture = _returned(observation) - 0.5
        latent = self.basis.T @ picture.ravel() / self.contrast
        image = self.generate(latent[None].astype(np.float32))[0]
        residual = self._residual(image, observation).global_
        return Inversion(
            latent=latent,
            gaussian=latent,
            sd=np.full(DIM, 0.01),
            residual=residual,
            at_floor=residual < 2,
            stop="floor",
            reconstruction=image,
            channel=observation.channel,
            seconds=0.0,
            attempts=(Attempt(start="closed form", residual=residual, stop="floor"),),
        )

    def _residual(self, image: Images, observation: Observation) -> Residual:
        sent = _sent(image, observation.channel)
        noise = 12.0**-0.5
        if observation.channel.codec == "jpeg":
            noise = float(np.mean(observation.channel.tables[0])) / 4.0
        energy = ((sent - observation.pixels) / noise) ** 2
        place = Image.fromarray(energy.mean(axis=2).astype(np.float32))
        grid = np.asarray(place.resize((SIDE, SIDE), Image.Resampling.BOX))
        return Residual(global_=float(np.sqrt(energy.mean())), map=grid)


def _sent(image: Images, channel: Channel) -> Images:
    """What the channel makes of a model's image, before its noise: 0 to 255, (H, W, C)."""
    picture = np.moveaxis(image, 0, -1) * 255.0
    if channel.resize is None:
        return picture
    kernel = Image.Resampling[channel.resize.upper()]
    height, width = channel.size
    planes = [
        np.asarray(Image.fromarray(picture[:, :, c]).resize((width, height), kernel))
        for c in range(picture.shape[2])
    ]
    return np.stack(planes, axis=-1)


def _returned(observation: Observation) -> npt.NDArray[np.float64]:
    """The pixels on the model's own grid again, (C, H, W) in 0 to 1."""
    pixels = observation.pixels.astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(pixels[:, :, c]).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes).astype(np.float64) / 255.0


def view(**changes: Any) -> ModelView:
    sound = ModelView(
        index=1,
        name="faces",
        digest=DIGEST.hex(),
        format="pt2",
        kind="decoder",
        steps=0,
        prior="normal",
        latent_shape=(DIM,),
        output_shape=SHAPE,
        lo=0.0,
        hi=1.0,
    )
    return replace(sound, **changes)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    return _written(pixels, "PNG")


def jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    return _written(pixels, "JPEG", quality=quality)


def _written(pixels: npt.NDArray[np.uint8], form: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **settings)
    return file.getvalue()


def medium(content: bytes, name: str = "medium.png") -> Exhibit:
    return Exhibit(name=name, role="medium", content=content)


@dataclass
class MemoryRecord:
    """A record of one epoch in memory: `sealed` counters are generated, the next are abandoned."""

    sealed: int = 8
    high_water: int = 16
    calibrated: LoggedCalibration | None = None
    checks: tuple[LogCheck, ...] = (LogCheck(name="audit", ok=True, detail="in memory"),)
    disclosed: bool = True
    with_openings: bool = True
    key: EpochKey = field(default_factory=lambda: EpochKey(bytes(range(32))))
    origin: str = ORIGIN
    vkey: str = ""
    checkpoint_note: bytes = b""
    model: LinearGenerator = field(default_factory=LinearGenerator)

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.key.subkey("issue"), DIM)
        self.pictures = self.generated(0, self.sealed)
        self.opened = [self._opening(i) for i in range(self.sealed)]
        salt = bytes(32)
        self.entries: dict[int, bytes] = {
            2: EpochOpen(
                epoch=0,
                model="faces",
                model_digest=DIGEST,
                dim=DIM,
                salt=salt,
                commitment=self.key.commitment(self.origin, DIGEST, 0, salt),
            ).encode()
        }
        for i, opening in enumerate(self.opened):
            self.entries[10 + i] = self._generation(opening).encode()

    @property
    def size(self) -> int:
        return 10 + self.sealed

    def generated(self, first: int, count: int) -> list[npt.NDArray[np.uint8]]:
        images = self.model.generate(normal(self.schedule.latents(first, count)))
        return list(to_8bit(images, 0.0, 1.0).transpose(0, 2, 3, 1))

    def _opening(self, counter: int) -> Opening:
        pixels = self.pictures[counter]
        sketch = pdq_sketch(pixels)
        assert sketch is not None
        contents: dict[str, Any] = {
            "output_file": Digest.of(png(pixels)).hex(),
            "output_pixels": pixel_digest(pixels).hex(),
            "sketch": sketch.hex(),
        }
        fields = {name: OpenedField(bytes(32), value) for name, value in contents.items()}
        salt = latent_salt(self.key.subkey("latent-salt"), counter)
        return Opening(0, counter, {"latent": OpenedField(salt, None), **fields})

    def _generation(self, opening: Opening) -> Generation:
        counter = opening.counter
        digest = latent_digest(self.schedule.latents(counter, 1)[0])
        values = {
            name: digest if name == "latent" else value_of(name, f.content)
            for name, f in opening.fields.items()
        }
        return Generation(
            epoch=0,
            counter=counter,
            source="schedule",
            commitments={
                name: commit(
                    name,
                    value,
                    opening.fields[name].salt,
                    origin=self.origin,
                    epoch=0,
                    counter=counter,
                )
                for name, value in values.items()
            },
        )

    def models(self) -> list[ModelView]:
        return [view()]

    def epochs(self) -> list[EpochView]:
        return [
            EpochView(
                epoch=0,
                model_digest=DIGEST.hex(),
                dim=DIM,
                high_water=self.high_water,
                open_index=2,
                close_index=None,
                key=self.key if self.disclosed else None,
            )
        ]

    def entry(self, index: int) -> bytes:
        return self.entries[index]

    def proof(self, index: int) -> list[Digest]:
        return []

    def batch(self, index: int) -> BatchPlace:
        return BatchPlace(index + 1, [], 0)

    def recorder_entries(self, name: str) -> list[int]:
        return []

    def counter(self, epoch: int, counter: int) -> CounterView:
        if counter < self.sealed:
            sealed_at = Time(at="2026-01-01T00:00:00Z", source="operator")
            return CounterView(
                state="generated", index=10 + counter, sealed_at=sealed_at, related=()
            )
        state = "abandoned" if counter < self.high_water else "never_issued"
        return CounterView(state=state, index=None, sealed_at=None, related=())  # type: ignore[arg-type]

    def generations(self, epoch: int) -> Iterator[tuple[int, int]]:
        return iter([(i, 10 + i) for i in range(self.sealed)])

    def seed_counters(self, epoch: int) -> Iterator[int]:
        entries = (decode_entry(self.entries[10 + i]) for i in range(self.sealed))
        return (e.counter for e in entries if isinstance(e, Generation) and e.source == "seed")

    def openings(self, epoch: int) -> Iterator[OpenedEntry]:
        opened = self.opened if self.with_openings else []
        return iter([OpenedEntry(10 + i, o) for i, o in enumerate(opened)])

    def opening(self, index: int) -> Opening | None:
        return self.opened[index - 10]

    def audit(self) -> Sequence[LogCheck]:
        return self.checks

    def calibration(self, model_digest: str) -> LoggedCalibration | None:
        return self.calibrated

    def control_root(self, model_digest: str) -> Digest:
        return Digest.of(b"root of the first checkpoint after the model")

    def disclosures(self, epochs: Iterable[int]) -> Sequence[str]:
        return ()


def clock() -> datetime:
    return datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
