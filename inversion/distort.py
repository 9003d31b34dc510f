"""Files as they circulate: 8-bit pixels through real codecs, for controls and tests.

A point of the envelope is named as in the calibration: `{"distortion": "jpeg", "strength": 85}`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentlog.inversion.errors import WrongFormat

Pixels = npt.NDArray[np.uint8]

DISTORTIONS: Final = ("png", "jpeg", "resize")


def distort(pixels: Pixels, point: Mapping[str, Any]) -> bytes:
    """Save (H, W, C) pixels as the file that `point` describes.

    png: lossless, strength 0 · jpeg: quality, 4:2:0 as most programs choose · resize: bicubic by
    the factor, then PNG. Raises `WrongFormat`.
    """
    kind, strength = point["distortion"], float(point["strength"])
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if kind == "png":
        return _save(picture, "PNG")
    if kind == "jpeg":
        return _save(picture, "JPEG", quality=int(strength), subsampling="4:2:0")
    if kind == "resize":
        size = (round(picture.width * strength), round(picture.height * strength))
        return _save(picture.resize(size, Image.Resampling.BICUBIC), "PNG")
    raise WrongFormat(
        f"no distortion is called {kind!r}", expected=", ".join(DISTORTIONS), got=repr(kind)
    )


def _save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
