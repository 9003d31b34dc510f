"""The one place where a hostile picture becomes pixels.

Everything that Pillow would guess, repair or expand is refused instead: truncated files, more
pixels than the bound (known from the header, before anything is decoded), several frames, CMYK, 16
bits, transparency. What is kept beside the pixels is what the file says about its own loss: JPEG's
quantisation tables and sampling factors. Torch-free.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin

from latentlog.inversion.errors import (
    PictureTooLarge,
    UnreadablePicture,
    UnsupportedPicture,
)
from latentlog.inversion.jpeg import MAX_SCANS, read_coefficients

Pixels = npt.NDArray[np.uint8]

MAX_BYTES: Final = 64 << 20
"""A file larger than this is not a picture of at most MAX_PIXELS in any of the formats read here.
"""
MAX_PIXELS: Final = 16 << 20
"""4096×4096: above every generator that can be inverted, below what exhausts a small machine."""
FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Decoders that a hostile file may reach; Pillow's other forty stay out of the way."""
ORIENTATION_TAG: Final = 0x0112


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegCoding:
    """What a JPEG says about its own loss, per component in file order."""

    tables: tuple[tuple[int, ...], ...]
    """64 quantisation steps each, row by row."""
    sampling: tuple[tuple[int, int], ...]
    """(horizontal, vertical) sampling factors."""
    luma: Pixels
    """(H, W) the first component as decoded, before any conversion to RGB."""
    coefficients: tuple[npt.NDArray[np.int32], ...] | None
    """Quantised levels per component (rows, columns, 64); None where the coding is too unusual or
    too large.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded picture."""

    pixels: Pixels
    """(H, W, C), C = 1 or 3, EXIF orientation applied, no colour conversion otherwise."""
    mode: str
    """L or RGB."""
    format: str
    size: tuple[int, int]
    """(width, height) after orientation."""
    sha256: str
    """Of the file, hex."""
    jpeg: JpegCoding | None = None

    @property
    def jpeg_tables(self) -> tuple[tuple[int, ...], ...] | None:
        """Return the quantisation tables per component, if the file is a JPEG."""
        return self.jpeg.tables if self.jpeg else None

    @property
    def subsampling(self) -> str | None:
        """Return the chroma subsampling in the usual notation, if the file is a colour JPEG."""
        if self.jpeg is None or len(self.jpeg.sampling) != 3:
            return None
        names = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
        return names.get(self.jpeg.sampling[0], "other")


def read_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode `data`; raises UnreadablePicture, PictureTooLarge or UnsupportedPicture."""
    if len(data) > MAX_BYTES:
        raise PictureTooLarge(
            "picture file too large", expected=f"at most {MAX_BYTES} bytes", got=f"{len(data)}"
        )
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "half a picture must not pass for a whole one"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(data, max_pixels)
        except UnreadablePicture:
            raise
        except (Image.DecompressionBombError, MemoryError) as error:
            raise PictureTooLarge("picture too large to decode", got=str(error)) from error
        # Pillow's plugins leak almost every exception type on malformed input.
        except Exception as error:
            raise UnreadablePicture(
                "not a readable picture", expected=", ".join(FORMATS), got=str(error)[:200]
            ) from error


def _decode(data: bytes, max_pixels: int) -> Picture:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    _refuse_unsupported(image, data, max_pixels)
    _refuse_repeated_scans(image, data)
    coding = _jpeg_coding(image, data)
    image.load()
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    upright = ImageOps.exif_transpose(image)
    assert upright is not None
    flat = _opaque(upright)
    pixels = np.asarray(flat, dtype=np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    # A turned picture's blocks no longer start at its corner; it is examined as plain pixels.
    return Picture(
        pixels=np.ascontiguousarray(pixels),
        mode=flat.mode,
        format=str(image.format),
        size=flat.size,
        sha256=hashlib.sha256(data).hexdigest(),
        jpeg=coding if orientation in (0, 1) else None,
    )


def _refuse_repeated_scans(image: Image.Image, data: bytes) -> None:
    """Refuse a JPEG that decodes the same blocks over and over: each scan costs a whole pass."""
    # Entropy-coded bytes cannot contain the marker (ITU-T T.81, B.1.1.5), so this counts scans.
    scans = data.count(b"\xff\xda") if image.format == "JPEG" else 0
    if scans > MAX_SCANS:
        raise UnreadablePicture(
            "JPEG with too many scans", expected=f"at most {MAX_SCANS}", got=str(scans)
        )


def _refuse_unsupported(image: Image.Image, data: bytes, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise PictureTooLarge(
            "picture has too many pixels",
            expected=f"at most {max_pixels}",
            got=f"{width}×{height}",
        )
    if width < 1 or height < 1:
        raise UnreadablePicture("picture is empty", got=f"{width}×{height}")
    if getattr(image, "n_frames", 1) != 1:
        raise UnsupportedPicture("picture has several frames", expected="one still picture")
    # Pillow opens 16-bit RGB PNGs as 8-bit RGB without a word; only the header tells.
    deep_png = image.format == "PNG" and len(data) > 24 and data[24] == 16
    if deep_png or image.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA", "RGBX"):
        raise UnsupportedPicture(
            "picture is not 8-bit gray or RGB",
            expected="8 bits a sample, gray or RGB",
            got="16 bits a sample" if deep_png else image.mode,
            next_step="convert a copy and say so; the original stays the exhibit",
        )


def _opaque(image: Image.Image) -> Image.Image:
    """Return `image` as L or RGB; transparency is refused unless it hides nothing."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            raise UnsupportedPicture(
                "picture is partly transparent", expected="opaque pixels", got=image.mode
            )
    gray = image.mode in ("1", "L", "LA")
    return image.convert("L" if gray else "RGB")


def _jpeg_coding(image: Image.Image, data: bytes) -> JpegCoding | None:
    """Read tables, sampling and undeconverted planes of a gray or YCbCr JPEG."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    layers = image.layer  # (component id, horizontal, vertical, table) each
    tables = image.quantization
    if image.mode not in ("L", "RGB") or any(layer[3] not in tables for layer in layers):
        return None
    if image.mode == "RGB" and not _is_ycbcr(image):
        return None
    return JpegCoding(
        tables=tuple(tuple(int(q) for q in tables[layer[3]]) for layer in layers),
        sampling=tuple((int(layer[1]), int(layer[2])) for layer in layers),
        luma=_luma(data),
        coefficients=_coefficients(data),
    )


def _is_ycbcr(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Say whether three components mean YCbCr: Adobe's marker says 0 when they are RGB."""
    return image.info.get("adobe_transform", 1) == 1 and len(image.layer) == 3


def _luma(data: bytes) -> Pixels:
    """Decode the JPEG's first component alone."""
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.draft("L", None)
    return np.array(image, dtype=np.uint8)


def _coefficients(data: bytes) -> tuple[npt.NDArray[np.int32], ...] | None:
    """Read the coefficients, unless the coding is one that only Pillow decodes."""
    try:
        return read_coefficients(data)
    except UnsupportedPicture:
        return None


def to_8bit(images: npt.NDArray[np.floating], lo: float, hi: float) -> Pixels:
    """Round model outputs to 8 bits: round-half-even of clamp((x − lo)/(hi − lo), 0, 1)·255
    (protocol section 3).

    Shapes pass through unchanged; the arithmetic is float64, so that every machine rounds alike.
    """
    scaled = (np.asarray(images, dtype=np.float64) - lo) / (hi - lo)
    return np.rint(np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)
