"""Files as the world makes them: a model's 8-bit picture, through a real codec, at a stated
strength.

For calibration and tests. The codecs and kernels are Pillow's own, so a control meets exactly what
a disputed file may have met; `transmit.py` is checked against the files made here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentlog.inversion.errors import InversionError
from latentlog.inversion.forward import Filter

RESAMPLING: Final[dict[Filter, Image.Resampling]] = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
DISTORTIONS: Final = ("png", "jpeg", "resize", "gray", "crop", "webp")


def distort(pixels: npt.NDArray[np.uint8], point: Mapping[str, Any]) -> bytes:
    """Return the file that `point` makes of pixels (H, W, C).

    `png` keeps them; `jpeg` takes its quality as strength; `resize` its factor, with an optional
    `filter` (the file stays at the new size, as PNG); `gray` reduces colour; `crop` cuts that share
    from every side; `webp` is lossy WebP of that quality. Several are joined by "+", each with its
    own strength in a list: `{"distortion": "resize+jpeg", "strength": [0.75, 90]}`.
    """
    names = str(point["distortion"]).split("+")
    strength = point.get("strength", 0)
    strengths = strength if isinstance(strength, (list, tuple)) else [strength] * len(names)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    for name, value in zip(names, strengths, strict=True):
        if name not in DISTORTIONS:
            raise InversionError("unknown distortion", expected=", ".join(DISTORTIONS), got=name)
        image = _change(image, name, float(value), point)
    return _save(image, names[-1], float(strengths[-1]), point)


def _change(
    image: Image.Image, name: str, strength: float, point: Mapping[str, Any]
) -> Image.Image:
    """Apply one distortion of the pixels; those of the codec happen on saving."""
    width, height = image.size
    if name == "resize":
        size = (max(1, round(width * strength)), max(1, round(height * strength)))
        return image.resize(size, RESAMPLING[point.get("filter", "bicubic")])
    if name == "gray":
        return image.convert("L")
    if name == "crop":
        across, down = round(width * strength), round(height * strength)
        return image.crop((across, down, width - across, height - down))
    return image


def _save(image: Image.Image, name: str, strength: float, point: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    if name == "jpeg":
        options = {k: point[k] for k in ("subsampling", "progressive") if k in point}
        image.save(file, "JPEG", quality=round(strength), **options)
    elif name == "webp":
        image.save(file, "WEBP", quality=round(strength))
    else:
        image.save(file, "PNG")
    return file.getvalue()
