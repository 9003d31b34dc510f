"""Pictures of a report: enlarged crisply, differences amplified by a stated factor, as PNG.

Enlarging repeats pixels, it never smooths: what a reader sees is what the file holds. Every factor
that was applied is returned with the picture, because a caption has to state it.
"""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from latentlog.evidence.errors import MissingExtra

Pixels = npt.NDArray[np.uint8]

TARGET_SIDE: Final = 640
"""About 310 dots per inch at the size of the page; small pictures are enlarged up to it."""
LARGEST_SIDE: Final = 1280
"""Larger pictures are reduced for the page; the exhibit itself is in the bundle, untouched."""
LARGEST_GAIN: Final = 16
"""More would make rounding noise look like a difference to somebody who sees no numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One picture for the page, and what was done to it."""

    png: bytes
    width: int
    height: int
    """Of the picture it shows."""
    enlarged: int
    """How many page pixels one of its pixels became, on each side; 1 if none."""
    reduced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Absolute difference of two pictures of one size."""

    pixels: Pixels
    """Amplified by `gain`, clipped at white; black is no difference."""
    gain: int
    largest: int
    """Before amplification, of 255."""
    mean: float


def difference(a: Pixels, b: Pixels) -> Difference | None:
    """Return the amplified difference, or None for pictures of different sizes.

    The gain is the largest power of two, at most 16, that keeps 99.5 % of the values below white.
    """
    a, b = _three_channels(a, b)
    if a.shape != b.shape:
        return None
    apart = np.abs(a.astype(np.int16) - b.astype(np.int16))
    high = float(np.quantile(apart, 0.995))
    gain = 1
    while apart.any() and gain < LARGEST_GAIN and high * gain * 2 <= 255:
        gain *= 2
    return Difference(
        pixels=np.minimum(apart * gain, 255).astype(np.uint8),
        gain=gain,
        largest=int(apart.max()),
        mean=float(apart.mean()),
    )


def figure(pixels: Pixels) -> Figure:
    """Prepare an 8-bit picture, (H, W), (H, W, 1) or (H, W, 3), for the page."""
    pixels = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    height, width = pixels.shape[:2]
    enlarged = max(1, TARGET_SIDE // max(height, width))
    shown = pixels.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    return Figure(
        png=_png(shown, reduce=max(height, width) > LARGEST_SIDE),
        width=width,
        height=height,
        enlarged=enlarged,
        reduced=max(height, width) > LARGEST_SIDE,
    )


def _three_channels(a: Pixels, b: Pixels) -> tuple[Pixels, Pixels]:
    """Compare grey with colour as grey written three times."""
    a, b = (x[:, :, None] if x.ndim == 2 else x for x in (a, b))
    channels = max(a.shape[2], b.shape[2])
    grown = [x.repeat(channels, axis=2) if x.shape[2] == 1 else x for x in (a, b)]
    return grown[0], grown[1]


def _png(pixels: Pixels, *, reduce: bool) -> bytes:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            "the report needs Pillow", next_step='pip install "latentlog[report]"'
        ) from error
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if reduce:
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=False, compress_level=6)
    return out.getvalue()
