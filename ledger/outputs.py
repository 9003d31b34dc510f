"""What a generation put out: the digests and the sketch that are committed to.

    Output(file_sha256=Digest.of(png), pixels=array)  →  output_file, output_pixels, sketch

A model's float output is brought to 8 bits by the rule of protocol section 3 first, so that the
digest is that of the picture a user would save without loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentlog.ledger.digest import Digest, pixel_digest
from latentlog.ledger.errors import MalformedOpening

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Output:
    """One output: the digest of the file that was saved, the pixels in it (H, W, C), or both."""

    file_sha256: Digest | None = None
    pixels: Pixels | None = None

    def contents(self) -> dict[str, str]:
        """Return the contents of the committed fields, hexadecimal."""
        found: dict[str, str] = {}
        if self.file_sha256 is not None:
            found["output_file"] = self.file_sha256.hex()
        if self.pixels is not None:
            found["output_pixels"] = pixel_digest(self.pixels).hex()
            if sketch := pdq_sketch(self.pixels):
                found["sketch"] = sketch.hex()
        return found


def as_outputs(outputs: Any, value_range: tuple[float, ...]) -> list[Output]:
    """Return a list of outputs as they are, or a float array (N, C, H, W) in the model's range.

    A tensor of any framework that has `detach` and `cpu` is taken as an array.
    """
    if isinstance(outputs, Sequence) and all(isinstance(output, Output) for output in outputs):
        return list(outputs)
    if hasattr(outputs, "detach"):
        outputs = outputs.detach().cpu().numpy()
    images = np.asarray(outputs)
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.floating):
        raise MalformedOpening(
            "outputs are Output values, or floats of shape (N, C, H, W)",
            got=f"{images.dtype} {images.shape}",
        )
    pixels = to_8bit(images, *value_range).transpose(0, 2, 3, 1)  # (N, H, W, C)
    return [Output(pixels=picture) for picture in pixels]


def to_8bit(images: npt.NDArray[np.floating[Any]], lo: float, hi: float) -> Pixels:
    """Round model outputs: round-half-even of clamp((x − lo)/(hi − lo), 0, 1)·255, in float64."""
    if not np.isfinite(images).all():
        raise MalformedOpening("an output holds values that are not finite")
    scaled = (images.astype(np.float64) - lo) / (hi - lo)
    return np.rint(np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)


def pdq_sketch(pixels: Pixels) -> bytes | None:
    """Return the 32-byte PDQ hash of a picture; `None` where pdqhash is not installed."""
    try:
        import pdqhash
    except ImportError:
        return None
    picture = pixels if pixels.ndim == 3 else pixels[:, :, None]
    rgb = np.ascontiguousarray(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture)
    bits, _quality = pdqhash.compute(rgb)
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes()
