"""What the search minimises: two residuals of one picture, with their Jacobians, for many rows at
once.

`Likelihood` is the measurement: whitened features minus target. It is exact, and blind where an
output saturates: a pixel that is wrongly black has no slope. `PixelLink` compares pixels through a
logit, which gives such pixels their slope back; it finds the basin, and the likelihood finds the
bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import torch
from torch import Tensor

from latentlog.inversion.generator import Generator, ProgramGenerator
from latentlog.inversion.result import GeneratorSpec, Observation
from latentlog.inversion.transmit import Target, Transmission, miss

LINK_SOFTNESS: Final = 1.0
"""Gray levels by which the logit is kept from its poles; 1 and 4 work alike, 32 no longer helps."""
DIFFERENCE: Final = 5e-3
"""Step of a difference quotient in latent units: float32 rounding and curvature weigh about
equally.
"""


class Objective(Protocol):
    """A residual per row, its slopes, and what a residual costs; rows name the picture they belong
    to.
    """

    temperature_floor: float
    """Mean squared residual below which the noise, not the fit, sets the scale."""
    good_enough: float
    """Relative gain of a Jacobian below which a row at that floor has converged."""

    def residual(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return (n, m) for latents (n, d)."""

    def jacobian(self, z: Tensor) -> Tensor:
        """Return the derivative (n, d, m) at `z` of whatever `residual` is a function of."""

    def cost(self, residual: Tensor, rows: Tensor) -> Tensor:
        """Return each row's cost (n,): half a sum of squares, and what else the file forbids."""

    def slope(self, residual: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cost's first and second derivative by residual, both (n, m)."""


class Model:
    """A generator seen through one channel: latents (n, d) to features, and tangents
    through both.
    """

    def __init__(
        self, generator: Generator, spec: GeneratorSpec, line: Transmission, chunk_bytes: int
    ) -> None:
        """Join the two; `chunk_bytes` bounds the working memory of a Jacobian."""
        self.generator = generator
        self.smooth: Generator = (
            generator.differentiable() if isinstance(generator, ProgramGenerator) else generator
        )
        self.spec = spec
        self.line = line
        self.chunk_bytes = chunk_bytes
        self.differences = False

    def images(self, z: Tensor) -> Tensor:
        """Return the images (n, C, H, W) of flat latents (n, d)."""
        with torch.no_grad():
            return self.generator(z.reshape(-1, *self.spec.latent_shape))

    def rows_at_once(self) -> int:
        """Count the rows whose Jacobian fits the working memory."""
        return max(1, self.chunk_bytes // (self.spec.dim * self._bytes_per_tangent()))

    def _bytes_per_tangent(self) -> int:
        # A forward pass holds about two dozen times its output; the features come on top.
        channels, height, width = self.line.shape
        return 4 * (24 * channels * height * width + 3 * len(self.line.deviation))

    def tangents(self, z: Tensor, map_linear: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the derivative (n, d, k) of `map_linear`(model pixels) at `z` (n, d)."""
        if not self.differences:
            try:
                return self._exact(z, map_linear)
            except (NotImplementedError, RuntimeError):
                # An operator without a forward derivative; difference quotients serve the search as
                # well.
                self.differences = True
        return self._quotients(z, map_linear)

    def _pixels(self, z: Tensor) -> Tensor:
        return self.line.to_pixels(self.smooth(z.reshape(-1, *self.spec.latent_shape)))

    def _columns(self, n: int, d: int) -> int:
        return min(d, max(1, self.chunk_bytes // (n * self._bytes_per_tangent())))

    def _exact(self, z: Tensor, map_linear: Callable[[Tensor], Tensor]) -> Tensor:
        """Differentiate in forward mode, column by column; rows do not mix, so one tangent serves
        all of them.
        """
        n, d = z.shape

        def push(direction: Tensor) -> Tensor:
            return map_linear(torch.func.jvp(self._pixels, (z,), (direction.expand(n, d),))[1])

        basis = torch.eye(d, device=z.device)[:, None, :].expand(d, n, d)
        with torch.no_grad():
            slopes: Tensor = torch.func.vmap(push, chunk_size=self._columns(n, d))(basis)
        return slopes.transpose(0, 1)

    def _quotients(self, z: Tensor, map_linear: Callable[[Tensor], Tensor]) -> Tensor:
        n, d = z.shape
        parts = []
        with torch.no_grad():
            for directions in torch.split(
                DIFFERENCE * torch.eye(d, device=z.device), self._columns(n, d)
            ):
                above = self._pixels((z + directions[:, None]).reshape(-1, d))
                below = self._pixels((z - directions[:, None]).reshape(-1, d))
                slope = (above - below) / (2.0 * DIFFERENCE)
                parts.append(map_linear(slope.reshape(len(directions), n, *slope.shape[1:])))
        return torch.cat(parts).transpose(0, 1)


class Likelihood:
    """Whitened features minus target: Gaussian within a rounding cell, and a wall around a JPEG's
    cells.

    Where a file's value is the scale's end, a feature beyond it costs nothing. A quantised
    coefficient is known to lie in its cell up to the noise before the quantiser; without that wall,
    pictures whose coefficients are mostly zero have wrong solutions as cheap as the right one.
    """

    temperature_floor = 1.0

    def __init__(self, model: Model, targets: Sequence[Target], *, walls: bool) -> None:
        """Stack the targets of the pictures that rows refer to; `walls` only where cells are wide
        (JPEG).
        """
        self.model = model
        # A JPEG's empty coefficients lie below the floor from the start: only a still cost says it
        # is over.
        self.good_enough = 0.0 if model.line.jpeg else 0.02
        self.value = torch.stack([t.value for t in targets])
        self.half = torch.stack([t.half for t in targets])
        self.low = torch.stack([t.low for t in targets])
        self.high = torch.stack([t.high for t in targets])
        self.stiffness = model.line.edge.square().reciprocal() if walls else None

    def residual(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return (n, m)."""
        features = self.model.line.features(self.model.images(z))
        return miss(features, self.value[rows], self.low[rows], self.high[rows])

    def jacobian(self, z: Tensor) -> Tensor:
        """Return (n, d, m)."""
        return self.model.tangents(z, self.model.line.linear)

    def cost(self, residual: Tensor, rows: Tensor) -> Tensor:
        """Return (n,)."""
        total = residual.square().sum(-1)
        if self.stiffness is not None:
            total = total + (self._excess(residual, rows).square() * self.stiffness).sum(-1)
        return 0.5 * total

    def slope(self, residual: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cost's derivatives; a feature beyond the scale's end has none."""
        if self.stiffness is None:
            return residual, (residual != 0.0).to(residual.dtype)
        excess = self._excess(residual, rows)
        return residual + excess * self.stiffness, 1.0 + (excess != 0.0) * self.stiffness

    def _excess(self, residual: Tensor, rows: Tensor) -> Tensor:
        half = self.half[rows]
        return residual - residual.clamp(-half, half)


class PixelLink:
    """Logits of the transmitted pixels minus those of the file's."""

    good_enough = 0.02

    def __init__(self, model: Model, observations: Sequence[Observation], softness: float) -> None:
        """Take the files' decoded pixels; `softness` is about their noise in gray levels."""
        self.model = model
        self.softness = softness
        self.temperature_floor = (softness / 64.0) ** 2
        stored = [torch.from_numpy(o.pixels.astype("float32")) for o in observations]
        device = model.line.device
        self.value = self._link(torch.stack(stored).permute(0, 3, 1, 2).to(device)).flatten(1)

    def _link(self, pixels: Tensor) -> Tensor:
        inside = pixels.clamp(0.0, 255.0)
        return torch.log((inside + self.softness) / (255.0 + self.softness - inside))

    def residual(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return (n, m)."""
        return self._link(self._pixels(z)).flatten(1) - self.value[rows]

    def jacobian(self, z: Tensor) -> Tensor:
        """Return (n, d, m)."""
        p = self._pixels(z)
        slope = 1.0 / (p + self.softness) + 1.0 / (255.0 + self.softness - p)
        slope = slope.masked_fill((p < 0.0) | (p > 255.0), 0.0).flatten(1)
        return self.model.tangents(z, self._linear) * slope[:, None, :]

    def cost(self, residual: Tensor, rows: Tensor) -> Tensor:
        """Return (n,)."""
        return 0.5 * residual.square().sum(-1)

    def slope(self, residual: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residual itself, and one."""
        return residual, torch.ones_like(residual)

    def _pixels(self, z: Tensor) -> Tensor:
        line = self.model.line
        return line.mix_pixels(line.to_pixels(self.model.images(z)))

    def _linear(self, pixels: Tensor) -> Tensor:
        return self.model.line.mix_pixels(pixels).flatten(-3)
