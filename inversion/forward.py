"""What happened to a picture between the generator and the file: size, colour, codec.

A `Channel` is a description, frozen and JSON-able; `transmit.py` turns it into the differentiable
map and its noise. `read_channel` reads it off the file as far as a file can show it. Torch-free.

    {"codec": "jpeg", "size": [32, 32], "gray": false, "resize": null,
     "sampling": [[2, 2], [1, 1], [1, 1]], "tables": [[8, 6, …], …]}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from latentlog.inversion.errors import WrongFormat
from latentlog.inversion.picture import JpegCoding, Picture, read_picture

Codec = Literal["png", "jpeg"]
Filter = Literal["box", "bilinear", "hamming", "bicubic", "lanczos"]
FILTERS: Final[tuple[Filter, ...]] = ("bicubic", "lanczos", "bilinear", "box", "hamming")
"""Pillow's antialiasing kernels; which one was used, a file does not say."""
GRAY_TOLERANCE: Final = 24
"""Largest channel difference of a JPEG that still counts as a gray picture stored in colour."""
ASPECT_TOLERANCE: Final = 0.51
"""Pixels by which a resized side may miss the model's aspect ratio: rounding, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What is assumed to have happened to a model's image before it became this file."""

    codec: Codec
    size: tuple[int, int]
    """(H, W) of the file."""
    gray: bool = False
    """Whether colour was reduced to luma on the way."""
    resize: Filter | None = None
    """The kernel, where the file's size is not the model's."""
    sampling: tuple[tuple[int, int], ...] = ()
    """JPEG: (horizontal, vertical) sampling factors per component."""
    tables: tuple[tuple[int, ...], ...] = ()
    """JPEG: 64 quantisation steps per component, row by row."""

    def to_json(self) -> dict[str, Any]:
        """Return the description as plain JSON."""
        return {
            "codec": self.codec,
            "size": list(self.size),
            "gray": self.gray,
            "resize": self.resize,
            "sampling": [list(pair) for pair in self.sampling],
            "tables": [list(table) for table in self.tables],
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Channel:
        """Rebuild what `to_json` returned; raises WrongFormat on anything else."""
        try:
            channel = Channel(
                codec=value["codec"],
                size=(int(value["size"][0]), int(value["size"][1])),
                gray=bool(value["gray"]),
                resize=value["resize"],
                sampling=tuple((int(h), int(v)) for h, v in value["sampling"]),
                tables=tuple(tuple(int(q) for q in table) for table in value["tables"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WrongFormat("malformed channel description", got=str(error)) from error
        channel.require_valid()
        return channel

    def require_valid(self) -> None:
        """Raise WrongFormat unless every field is one a channel can have."""
        planes = len(self.tables)
        good = (
            self.codec in ("png", "jpeg")
            and self.resize in (None, *FILTERS)
            and all(1 <= side <= 4096 for side in self.size)
            and (planes in (1, 3) if self.codec == "jpeg" else planes == 0)
            and len(self.sampling) == planes
            and all(1 <= f <= 4 for pair in self.sampling for f in pair)
            and all(len(t) == 64 and all(1 <= q <= 65535 for q in t) for t in self.tables)
        )
        if not good:
            raise WrongFormat("impossible channel description", got=str(self.to_json())[:200])

    def describe(self) -> str:
        """Say in a few plain words what happened."""
        steps = [f"resized ({self.resize})"] if self.resize else []
        steps += ["reduced to gray"] if self.gray else []
        return ", ".join([*steps, "JPEG" if self.codec == "jpeg" else "8-bit PNG"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One picture to invert: the pixels as stored, and what is assumed to have happened to them."""

    pixels: npt.NDArray[np.uint8]
    """(H, W, C) as the file decodes."""
    channel: Channel
    coefficients: tuple[npt.NDArray[np.int32], ...] | None = None
    """JPEG: the file's own quantised levels per component, (rows, columns, 64); None when unread.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A file as read, and every channel that would explain its size, colours and coding."""

    pixels: npt.NDArray[np.uint8]
    """(H, W, C) as the channel's map produces them: C = 1 where colour was reduced."""
    candidates: tuple[Channel, ...]
    """Most plausible first; the one with the smallest residual is the inferred one."""
    picture: Picture

    def observations(self) -> list[Observation]:
        """Return the file as an observation through each candidate channel."""
        return [self.observe(channel) for channel in self.candidates]

    def observe(self, channel: Channel | None = None) -> Observation:
        """Return the file as an observation through `channel`, the most plausible one
        unless named.
        """
        chosen = channel or self.candidates[0]
        coding = self.picture.jpeg
        levels = coding.coefficients if coding and chosen.codec == "jpeg" else None
        kept = levels[: len(chosen.tables)] if levels else None
        return Observation(pixels=self.pixels, channel=chosen, coefficients=kept)


def read_channel(
    source: bytes | str | Path | Picture, model_shape: tuple[int, int, int]
) -> Observed:
    """Read a file against a model's output shape (C, H, W).

    Raises UnreadablePicture, or WrongFormat when no known transformation leads from the model to
    this file.
    """
    picture = _picture_of(source)
    channels, rows, columns = model_shape
    pixels = _in_model_colours(picture, channels)
    height, width = pixels.shape[:2]
    kernels: tuple[Filter | None, ...] = (None,)
    if (height, width) != (rows, columns):
        _require_aspect((rows, columns), (height, width))
        kernels = FILTERS
    gray = channels == 3 and pixels.shape[2] == 1
    coding = picture.jpeg if _codes(picture.jpeg, pixels) else None
    planes = pixels.shape[2]
    candidates = tuple(
        Channel(
            codec="jpeg" if coding else "png",
            size=(height, width),
            gray=gray,
            resize=kernel,
            sampling=coding.sampling[:planes] if coding else (),
            tables=coding.tables[:planes] if coding else (),
        )
        for kernel in kernels
    )
    return Observed(pixels=pixels, candidates=candidates, picture=picture)


def _picture_of(source: bytes | str | Path | Picture) -> Picture:
    if isinstance(source, Picture):
        return source
    return read_picture(source if isinstance(source, bytes) else Path(source).read_bytes())


def _codes(coding: JpegCoding | None, pixels: npt.NDArray[np.uint8]) -> bool:
    """Say whether `coding` is one whose loss `transmit.py` models for these pixels."""
    return coding is not None and (pixels.shape[2] == 1 or len(coding.tables) == 3)


def _in_model_colours(picture: Picture, channels: int) -> npt.NDArray[np.uint8]:
    """Return the pixels as gray where model or picture is gray, else as they are."""
    pixels = picture.pixels
    if pixels.shape[2] == 1 or channels == 3:
        return pixels
    spread = int(np.ptp(pixels.astype(np.int16), axis=2).max())
    if spread > (GRAY_TOLERANCE if picture.format == "JPEG" else 0):
        raise WrongFormat(
            "the picture has colours and the model makes gray pictures",
            expected="gray",
            got=f"channels that differ by up to {spread}",
        )
    if picture.jpeg is not None:
        return picture.jpeg.luma[:, :, None]
    return np.ascontiguousarray(pixels[:, :, :1])


def _require_aspect(model: tuple[int, int], file: tuple[int, int]) -> None:
    """Raise WrongFormat unless `file` is `model` scaled by one factor, sides rounded."""
    (rows, columns), (height, width) = model, file
    factor = max(height / rows, width / columns)
    slack = max(abs(height - rows * factor), abs(width - columns * factor))
    if slack > max(ASPECT_TOLERANCE, ASPECT_TOLERANCE * factor) or not 1 / 8 <= factor <= 16:
        raise WrongFormat(
            "the picture's shape is not the model's",
            expected=f"{columns}×{rows}, or a scaled copy of it",
            got=f"{width}×{height}",
            next_step="crop the picture to the model's frame if it was framed, and say so",
        )
