"""A channel as a differentiable map and its noise: from a model's image to the numbers a file
stores.

Everything but the last rounding is linear in the pixels, so a channel is one linear map to
*features* (pixels for PNG, 8×8 DCT coefficients for JPEG), divided by the standard deviation of
each feature's noise. In these units a file's own image misses its target by about 1 per feature.
The noise is rounding throughout: of the model's output to 8 bits, of every pass of a resize, of the
colour conversion, and of the quantiser (q²/12).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentlog.inversion.errors import WrongFormat
from latentlog.inversion.forward import Channel, Filter
from latentlog.inversion.result import Observation

ROUNDING: Final = 1.0 / 12.0
"""Variance of rounding to an integer."""
LUMA: Final = (0.299, 0.587, 0.114)
YCBCR: Final = (
    LUMA,
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
"""JFIF's colour matrix."""
EDGE: Final = 0.2
"""Least noise assumed before a quantiser, in its own units; a sharper wall would trap the search.
"""
MAX_DENOMINATOR: Final = 32
"""Weights that are multiples of 1/32 or coarser round with a bias worth correcting."""
DCT_ARITHMETIC: Final = 0.01
"""Variance that libjpeg's integer DCT adds, in squared coefficients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a file says about each feature, in units of the feature's noise."""

    value: Tensor
    """(m,)"""
    half: Tensor
    """(m,) half the rounding cell around `value` that holds the truth."""
    low: Tensor
    high: Tensor
    """(m,) whether the value is the scale's end, so that the truth may lie beyond."""
    weak: Tensor
    """(m,) whether the value says little more than its cell: the scale's end, or a level of zero.
    """


class Transmission:
    """The linear map of one channel for one model's images."""

    def __init__(
        self,
        channel: Channel,
        model_shape: tuple[int, int, int],
        lo: float,
        hi: float,
        device: torch.device,
    ) -> None:
        """Build the map for images of `model_shape` (C, H, W) in [lo, hi]."""
        self.channel = channel
        self.shape = model_shape
        self.lo, self.scale = lo, 255.0 / (hi - lo)
        self.device = device
        self.jpeg = channel.codec == "jpeg"
        self._resize = _resizers(channel, model_shape, device)
        self._colour = _colour_matrix(channel, model_shape[0], device)
        self._dct = torch.tensor(dct_matrix(), dtype=torch.float32, device=device)
        self.deviation = self._deviation()  # (m,)
        self.edge = self._edge()  # (m,)

    # -- the map -----------------------------------------------------------------------------------

    def to_pixels(self, images: Tensor) -> Tensor:
        """Scale model outputs (…, C, H, W) so that the range becomes 0 to 255, unclamped."""
        return (images - self.lo) * self.scale

    def pixels(self, images: Tensor) -> Tensor:
        """Return the expected file pixels (B, C', H', W'), 0 to 255, before the codec."""
        mixed = self._resized_rounded(self.to_pixels(images).clamp(0.0, 255.0))
        if self.channel.gray and mixed.shape[-3] == 3:
            mixed = _mix(mixed, torch.tensor([LUMA], device=self.device))
        return mixed.clamp(0.0, 255.0)

    def mix_pixels(self, pixels: Tensor) -> Tensor:
        """Apply the channel's resize and reduction to gray to pixels (…, C, H, W); linear."""
        resized = self._resized(pixels)
        if self.channel.gray and resized.shape[-3] == 3:
            return _mix(resized, torch.tensor([LUMA], device=self.device))
        return resized

    def linear(self, pixels: Tensor) -> Tensor:
        """Map pixels, or differences of pixels, (…, C, H, W) to whitened features (…, m)."""
        return self._whitened(self._resized(pixels))

    def _whitened(self, resized: Tensor) -> Tensor:
        mixed = resized if self._colour is None else _mix(resized, self._colour)
        if not self.jpeg:
            return mixed.flatten(-3) / self.deviation
        planes = [self._block_dct(mixed[..., c, :, :], c) for c in range(mixed.shape[-3])]
        return torch.cat([plane.flatten(-3) for plane in planes], dim=-1) / self.deviation

    def features(self, images: Tensor) -> Tensor:
        """Map model images (…, C, H, W) to whitened features (…, m), comparable with a target's
        value.
        """
        pixels = self.to_pixels(images)
        if not self.jpeg and self._resize is None:
            return self._whitened(pixels)
        # Saturated pixels are rounded all to the same side, the scale's end: their error is no
        # noise.
        ends = pixels.masked_fill(pixels < 0.5, 0.0).masked_fill(pixels > 254.5, 255.0)
        resized = self._resized_rounded(ends)
        return self._whitened(resized.clamp(0.0, 255.0) if self.jpeg else resized)

    def _resized_rounded(self, pixels: Tensor) -> Tensor:
        """Resize as Pillow does: clamped between the passes, and rounded up where
        halves are exact.
        """
        if self._resize is None:
            return pixels
        vertical, horizontal = self._resize
        across = (pixels @ horizontal.T + rounding(horizontal)[0]).clamp(0.0, 255.0)
        return vertical @ across + rounding(vertical)[0][:, None]

    def _resized(self, pixels: Tensor) -> Tensor:
        if self._resize is None:
            return pixels
        vertical, horizontal = self._resize
        return vertical @ (pixels @ horizontal.T)

    def _block_dct(self, plane: Tensor, component: int) -> Tensor:
        """Subsample a full-size plane as libjpeg does and return its coefficients (…, rows,
        columns, 64).
        """
        small = _subsample(plane, *_grid(self.channel, component))
        rows, columns = small.shape[-2] // 8, small.shape[-1] // 8
        blocks = small.reshape(*small.shape[:-2], rows, 8, columns, 8).transpose(-3, -2)
        levels: Tensor = (self._dct @ blocks @ self._dct.T).flatten(-2)
        return levels  # (…, rows, columns, 64)

    def energy_map(self, energy: Tensor) -> Tensor:
        """Lay squared features (B, m) out over the file: (B, H', W'), averaged over channels or
        within blocks.
        """
        height, width = self.channel.size
        if not self.jpeg:
            return energy.reshape(len(energy), -1, height, width).mean(1)
        total = torch.zeros((len(energy), height, width), device=self.device)
        at = 0
        for component in range(self._planes()):
            grid = _grid(self.channel, component)
            block = energy[:, at : at + 64 * grid.blocks].reshape(-1, grid.blocks, 64).mean(-1)
            at += 64 * grid.blocks
            field = block.reshape(-1, grid.height // 8, grid.width // 8)
            down, across = grid.pool
            field = field.repeat_interleave(8 * down, 1).repeat_interleave(8 * across, 2)
            total += field[:, :height, :width]
        return total / self._planes()

    # -- its noise ---------------------------------------------------------------------------------

    def _deviation(self) -> Tensor:
        """Return the standard deviation of every feature's noise, in features (m,)."""
        noise = self._resize_noise()  # (H', W') before colour
        weights = YCBCR if self.jpeg and self._planes() == 3 else (LUMA,)
        if self._colour is None:
            gains = [1.0] * self.shape[0]
        else:
            gains = [sum(w * w for w in row) for row in weights]
        if not self.jpeg:
            extra = ROUNDING if self.channel.gray and self.shape[0] == 3 else 0.0
            planes = [noise * gain + extra for gain in gains]
            return torch.stack(planes).flatten().sqrt()
        mean = float(noise.mean())
        parts = [self._coefficient_noise(c, mean * g) for c, g in enumerate(gains)]
        return torch.cat(parts).sqrt()

    def _edge(self) -> Tensor:
        """Return how sharp the rounding cells' edges are: the noise before the last rounding,
        whitened (m,).
        """
        if not self.jpeg:
            return torch.full_like(self.deviation, EDGE)
        steps = torch.cat([self._steps(c) for c in range(self._planes())])
        before = self.deviation.square() - steps.square() * ROUNDING
        return before.clamp(min=EDGE**2).sqrt() / self.deviation

    def _coefficient_noise(self, component: int, variance: float) -> Tensor:
        """Return the variance of a component's coefficients, flattened like
        `_block_dct`'s result.
        """
        grid = _grid(self.channel, component)
        pooled = variance + (ROUNDING if self._colour is not None else 0.0)
        if grid.pool != (1, 1):
            pooled = pooled / math.prod(grid.pool) + ROUNDING
        steps = torch.tensor(
            self.channel.tables[component], dtype=torch.float32, device=self.device
        )
        each = steps.square() * ROUNDING + pooled + DCT_ARITHMETIC
        return each.repeat(grid.blocks)

    def _resize_noise(self) -> Tensor:
        """Return the variance (H', W') of rounding before the codec, per resized pixel."""
        height, width = self.channel.size
        if self._resize is None:
            return torch.full((height, width), ROUNDING, device=self.device)
        vertical, horizontal = self._resize
        # The image is rounded before the resize, between its two passes, and after it.
        before = ROUNDING * horizontal.square().sum(1) + rounding(horizontal)[1]
        return vertical.square().sum(1)[:, None] * before[None, :] + rounding(vertical)[1][:, None]

    def _planes(self) -> int:
        return (
            len(self.channel.tables) if self.jpeg else (1 if self.channel.gray else self.shape[0])
        )

    # -- the file ----------------------------------------------------------------------------------

    def target(self, observation: Observation) -> Target:
        """Turn a file into what `features` should return for its source; raises WrongFormat."""
        pixels = torch.from_numpy(observation.pixels.astype(np.float32)).to(self.device)
        if tuple(pixels.shape) != (*self.channel.size, self._planes()):
            raise WrongFormat(
                "the picture is not what its channel says",
                expected=str((*self.channel.size, self._planes())),
                got=str(tuple(pixels.shape)),
            )
        pixels = pixels.permute(2, 0, 1)
        if self.jpeg:
            return self._jpeg_target(observation, pixels)
        flat = pixels.flatten()
        return Target(
            value=flat / self.deviation,
            half=0.5 / self.deviation,
            low=flat <= 0.0,
            high=flat >= 255.0,
            weak=(flat <= 0.0) | (flat >= 255.0),
        )

    def _jpeg_target(self, observation: Observation, pixels: Tensor) -> Target:
        steps = torch.cat([self._steps(c) for c in range(self._planes())])
        offset = torch.cat([self._level(c) for c in range(self._planes())])
        if observation.coefficients is not None:
            levels = self._levels(observation.coefficients)
        else:
            levels = self._levels_from_pixels(pixels, steps, offset)
        nothing = torch.zeros_like(steps, dtype=torch.bool)
        return Target(
            value=(levels * steps + offset) / self.deviation,
            half=0.5 * steps / self.deviation,
            low=nothing,
            high=nothing,
            weak=levels == 0.0,
        )

    def _steps(self, component: int) -> Tensor:
        table = torch.tensor(
            self.channel.tables[component], dtype=torch.float32, device=self.device
        )
        return table.repeat(_grid(self.channel, component).blocks)

    def _level(self, component: int) -> Tensor:
        """Return what the level shift adds: 128 a pixel, 1024 a block's mean; chroma is centred
        already.
        """
        one = torch.zeros(64, device=self.device)
        one[0] = 1024.0 if component == 0 else 0.0
        return one.repeat(_grid(self.channel, component).blocks)

    def _levels(self, coefficients: tuple[npt.NDArray[Any], ...]) -> Tensor:
        parts = []
        for component, levels in enumerate(coefficients[: self._planes()]):
            grid = _grid(self.channel, component)
            if levels.shape != (grid.height // 8, grid.width // 8, 64):
                raise WrongFormat("the coefficients do not fit the picture", got=str(levels.shape))
            parts.append(torch.from_numpy(levels.astype(np.float32)).flatten().to(self.device))
        return torch.cat(parts)

    def _levels_from_pixels(self, pixels: Tensor, steps: Tensor, offset: Tensor) -> Tensor:
        """Estimate the quantised levels from decoded pixels: exact but where colours
        were clipped.
        """
        mixed = pixels
        if self._planes() == 3:
            mixed = _mix(pixels, torch.tensor(YCBCR, device=self.device))
        planes = [self._block_dct(mixed[c], c).flatten() for c in range(mixed.shape[0])]
        return ((torch.cat(planes) - offset) / steps).round()


# -- geometry --------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """A JPEG component's samples: the size its blocks cover, and how many pixels (down, across) one
    averages.
    """

    height: int
    width: int
    pool: tuple[int, int]

    @property
    def blocks(self) -> int:
        """Count its 8×8 blocks."""
        return self.height // 8 * (self.width // 8)


def _grid(channel: Channel, component: int) -> Grid:
    """Return the grid of a JPEG component: its blocks cover the picture, no more (ITU-T T.81,
    A.1.1).
    """
    most_h = max(h for h, _ in channel.sampling)
    most_v = max(v for _, v in channel.sampling)
    h, v = channel.sampling[component]
    if len(channel.sampling) == 1 or most_h % h or most_v % v:
        h, v, most_h, most_v = 1, 1, 1, 1
    height, width = channel.size
    rows = math.ceil(math.ceil(height * v / most_v) / 8)
    columns = math.ceil(math.ceil(width * h / most_h) / 8)
    return Grid(rows * 8, columns * 8, (most_v // v, most_h // h))


def _subsample(plane: Tensor, height: int, width: int, pool: tuple[int, int]) -> Tensor:
    """Pad and average a plane (…, H, W) as libjpeg does: columns before averaging, rows
    after it.
    """
    down, across = pool
    wide = _repeat_last(plane, width * across, -1)
    tall = _repeat_last(wide, math.ceil(plane.shape[-2] / down) * down, -2)
    if pool != (1, 1):
        rows, columns = tall.shape[-2] // down, tall.shape[-1] // across
        tall = tall.reshape(*tall.shape[:-2], rows, down, columns, across).mean(dim=(-3, -1))
    return _repeat_last(tall, height, -2)


def _repeat_last(plane: Tensor, size: int, dim: int) -> Tensor:
    missing = size - plane.shape[dim]
    if missing <= 0:
        return plane
    last = plane.narrow(dim, plane.shape[dim] - 1, 1)
    shape = list(last.shape)
    shape[dim] = missing
    return torch.cat([plane, last.expand(shape)], dim=dim)


def _mix(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Apply a colour matrix (C', C) to pixels (…, C, H, W)."""
    return torch.einsum("kc,...chw->...khw", matrix.to(pixels.dtype), pixels)


def _colour_matrix(channel: Channel, channels: int, device: torch.device) -> Tensor | None:
    if channels == 1:
        if len(channel.tables) == 3:
            raise WrongFormat("a gray model's picture is stored in colour")
        return None
    if channel.gray or len(channel.tables) == 1:
        return torch.tensor([LUMA], device=device)
    return torch.tensor(YCBCR, device=device) if channel.codec == "jpeg" else None


def dct_matrix() -> npt.NDArray[np.float64]:
    """Return the orthonormal 8-point DCT-II matrix (8, 8)."""
    k, n = np.arange(8)[:, None], np.arange(8)[None, :]
    matrix: npt.NDArray[np.float64] = 0.5 * np.cos(np.pi * (2 * n + 1) * k / 16)
    matrix[0] = math.sqrt(0.125)
    return matrix


# -- resizing --------------------------------------------------------------------------------------


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    return math.sin(x) / x * (0.54 + 0.46 * math.cos(x))


def _cubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * a if x < 2.0 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(math.pi * x) / (math.pi * x)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0


KERNELS: Final[dict[Filter, tuple[Callable[[float], float], float]]] = {
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Pillow's kernels and their supports (libImaging/Resample.c)."""


def resize_matrix(before: int, after: int, kernel: Filter) -> npt.NDArray[np.float64]:
    """Return the (after, before) matrix of Pillow's antialiased resize along one side."""
    weigh, support = KERNELS[kernel]
    scale = before / after
    stretch = max(scale, 1.0)
    matrix = np.zeros((after, before))
    for row in range(after):
        centre = (row + 0.5) * scale
        first = max(0, int(centre - support * stretch + 0.5))
        last = min(before, int(centre + support * stretch + 0.5))
        weights = [weigh((x - centre + 0.5) / stretch) for x in range(first, last)]
        matrix[row, first:last] = np.array(weights) / sum(weights)
    return matrix


def rounding(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (after,) of the error of rounding half up, per row of weights.

    Averages of a few integers fall on halves far too often for the error to be uniform: the mean
    of two is rounded up every second time, by a half. Weights in multiples of 1/k err by multiples
    of 1/k; only an even k has the half itself.
    """
    bias = torch.zeros(len(matrix), device=matrix.device)
    variance = torch.full_like(bias, ROUNDING)
    for k in range(MAX_DENOMINATOR, 0, -1):
        scaled = matrix * k
        exact = ((scaled - scaled.round()).abs() < 1e-4).all(1)
        bias[exact] = 0.5 / k if k % 2 == 0 else 0.0
        variance[exact] = ROUNDING * (1.0 - 1.0 / k**2)
    return bias, variance


def _resizers(
    channel: Channel, model_shape: tuple[int, int, int], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    sides = list(zip(model_shape[1:], channel.size, strict=True))
    if channel.resize is None:
        if tuple(model_shape[1:]) != channel.size:
            raise WrongFormat("the channel's size needs a resize", got=str(channel.size))
        return None
    vertical, horizontal = (
        torch.tensor(resize_matrix(a, b, channel.resize), dtype=torch.float32, device=device)
        for a, b in sides
    )
    return vertical, horizontal


def miss(features: Tensor, value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return features (…, m) minus value; zero where the value is the scale's end and the feature
    beyond.
    """
    residual = features - value
    beyond = (low & (residual < 0)) | (high & (residual > 0))
    return residual.masked_fill(beyond, 0.0)
