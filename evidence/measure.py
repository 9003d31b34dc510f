"""From a file to numbers: the one pipeline that controls and media both go through.

Read the file against a model, infer what happened to it, invert under that channel, and compare
with regenerated pictures. Calibration and examination share these functions, so that a measured
error rate is the error rate of the procedure used. Everything here happens before any latent of the
record is looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from latentlog.evidence.measurements import Condition, ReplayScore
from latentlog.evidence.record import ModelView
from latentlog.evidence.replay import replay_score
from latentlog.inversion.forward import Channel, Observed, read_channel
from latentlog.inversion.picture import Picture
from latentlog.inversion.result import (
    GeneratorSpec,
    Inversion,
    InversionPlan,
    ModelDescription,
    Observation,
    Residual,
)
from latentlog.ledger.keystream import Integers, normal, uniform

Images = npt.NDArray[np.float32]
OnStep = Callable[[dict[str, Any]], None]

# Formats that keep 8-bit pixels as they are; any other lossless-looking one may hide its loss.
_LOSSLESS: Final = ("PNG", "BMP")


# The search that controls and media get alike. Five starts: own pictures of the generators tried
# are found by the first or never, and a picture that no latent gives costs all of them.
PLAN: Final = InversionPlan(max_starts=5)


class Model(Protocol):
    """A generator at work elsewhere: `inversion.sandbox.ModelProcess`, or a test's stand-in."""

    @property
    def description(self) -> ModelDescription: ...

    def generate(self, latents: Images) -> Images: ...

    def invert(
        self,
        observations: Sequence[Observation],
        plan: InversionPlan | None = None,
        *,
        on_step: OnStep | None = None,
    ) -> list[Inversion]: ...

    def residuals(self, images: Images, observation: Observation) -> list[Residual]: ...

    def transmit(self, images: Images, channel: Channel) -> Images: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file read against one model."""

    observed: Observed
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Inverted:
    """A reading under the channel that explains it best, and its inversion."""

    observation: Observation
    inversion: Inversion


def spec_of(view: ModelView) -> GeneratorSpec:
    """Return what a model process is started with, from a model's entry in the record."""
    return GeneratorSpec(
        latent_shape=view.latent_shape,
        prior="uniform" if view.prior == "uniform" else "normal",
        lo=view.lo,
        hi=view.hi,
        kind=view.kind,
        steps=view.steps,
    )


def read_medium(source: bytes | Picture, shape: tuple[int, int, int]) -> Reading:
    """Read a file against a model's output shape (C, H, W).

    Raises `InversionError`: unreadable, or in no form that the model's output can take.
    """
    observed = read_channel(source, shape)
    return Reading(observed=observed, condition=condition_of(observed, shape))


def invert_all(
    model: Model,
    readings: Sequence[Reading],
    plan: InversionPlan,
    *,
    on_step: OnStep | None = None,
) -> list[Inverted]:
    """Invert each reading under the channel that fits it best.

    A file does not say which kernel resized it. The first guess is inverted, the picture it gives
    is sent through every candidate, and where another one leaves less the inversion is repeated.
    The choice sees no latent of the record, so it costs nothing in N.
    """
    first = [observe(r.observed, r.observed.candidates[0]) for r in readings]
    found = model.invert(first, plan, on_step=on_step)
    best = [
        _best_channel(model, reading, inversion)
        for reading, inversion in zip(readings, found, strict=True)
    ]
    again = [i for i, o in enumerate(best) if o.channel != first[i].channel]
    inverted = [Inverted(observation=o, inversion=f) for o, f in zip(first, found, strict=True)]
    for i, inversion in zip(again, model.invert([best[i] for i in again], plan), strict=True):
        if inversion.residual < found[i].residual:
            inverted[i] = Inverted(observation=best[i], inversion=inversion)
    return inverted


def replay_scores(model: Model, images: Images, observation: Observation) -> list[ReplayScore]:
    """Score regenerated pictures (B, C, H, W) against one observed file."""
    return [replay_score(r) for r in model.residuals(images, observation)]


def latents_for(model: Model, canonical: Integers) -> Images:
    """Return canonical latents (B, dim) in the model's own coordinates and shape."""
    spec = model.description.spec
    values = uniform(canonical) if spec.prior == "uniform" else normal(canonical)
    return np.ascontiguousarray(values.reshape(-1, *spec.latent_shape), dtype=np.float32)


def observe(observed: Observed, channel: Channel) -> Observation:
    """Return a file's observation under one assumed channel."""
    coding = observed.picture.jpeg if channel.codec == "jpeg" else None
    return Observation(
        pixels=observed.pixels,
        channel=channel,
        coefficients=coding.coefficients if coding else None,
    )


def condition_of(observed: Observed, shape: tuple[int, int, int]) -> Condition:
    """Return what a file shows of its history, as a point that an envelope can hold.

    Strength grows as the damage shrinks: JPEG quality, the factor of a reduction.
    """
    channel, picture = observed.candidates[0], observed.picture
    parts, strength, words = [], 0.0, []
    factor = channel.size[0] / shape[1]
    if channel.resize is not None:
        parts.append("resize" if factor < 1.0 else "enlarge")
        strength = round(factor, 4)
        words.append(f"resized to {channel.size[1]}×{channel.size[0]}")
    if channel.gray:
        parts.append("gray")
        words.append("reduced to gray")
    if channel.codec == "jpeg":
        parts.append("jpeg" if _usual_sampling(channel) else "jpeg-sampling")
        strength = float(jpeg_quality(channel.tables))
        words.append(_jpeg_words(picture, strength))
    elif picture.format not in _LOSSLESS:
        parts.append(picture.format.lower())
        words.append(picture.format)
    if not parts:
        parts, words = ["png"], [f"8-bit {picture.format}"]
    return Condition(distortion="+".join(parts), strength=strength, words=", ".join(words))


def jpeg_quality(tables: Sequence[Sequence[int]]) -> int:
    """Return the largest quality whose standard tables (annex K) are nowhere finer than a file's.

    The first component is held against the luminance table, every other one against the
    chrominance table. 0 if one step of the file is coarser than at every quality.
    """
    fitting = (q for q in range(100, 0, -1) if _no_coarser(tables, q))
    return next(fitting, 0)


def _best_channel(model: Model, reading: Reading, inversion: Inversion) -> Observation:
    candidates = [observe(reading.observed, c) for c in reading.observed.candidates]
    if len(candidates) == 1:
        return candidates[0]
    image = np.asarray(inversion.reconstruction, dtype=np.float32)[None]
    left = [model.residuals(image, o)[0].global_ for o in candidates]
    return candidates[int(np.argmin(left))]


def _usual_sampling(channel: Channel) -> bool:
    return all(h * v <= 4 for h, v in channel.sampling)


def _jpeg_words(picture: Picture, quality: float) -> str:
    sampling = f", chroma {picture.subsampling}" if picture.subsampling else ""
    return f"JPEG, tables as at quality {quality:.0f}{sampling}"


def _no_coarser(tables: Sequence[Sequence[int]], quality: int) -> bool:
    bases = (_LUMINANCE, *(_CHROMINANCE,) * (len(tables) - 1))
    return all(
        bool((np.asarray(table) <= _standard_table(base, quality)).all())
        for table, base in zip(tables, bases, strict=True)
    )


def _standard_table(base: npt.NDArray[np.int64], quality: int) -> npt.NDArray[np.int64]:
    """Scale a table as libjpeg does, in whole numbers."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table: npt.NDArray[np.int64] = np.clip((base * scale + 50) // 100, 1, 255)
    return table


# ITU-T T.81 annex K.1 and K.2, row by row.
_LUMINANCE: Final = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ],
    dtype=np.int64,
)  # fmt: skip
_CHROMINANCE: Final = np.array(
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
        24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
        *(99,) * 32,
    ],
    dtype=np.int64,
)  # fmt: skip
