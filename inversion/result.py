"""The values that cross inversion's edge: what is asked, and what was found. Numpy and
floats only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from latentlog.inversion.forward import Channel, Observation

Prior = Literal["normal", "uniform"]
FloatArray = npt.NDArray[np.float64]
FloatImage = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
__all__ = [
    "Attempt",
    "FloatArray",
    "FloatImage",
    "GeneratorSpec",
    "Inversion",
    "InversionPlan",
    "ModelDescription",
    "Observation",
    "Pixels",
    "Prior",
    "Residual",
    "inversion_record",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSpec:
    """What a model's entry says about its generator."""

    latent_shape: tuple[int, ...]
    """Without the batch: (100,) or (100, 1, 1)."""
    prior: Prior = "normal"
    lo: float = -1.0
    hi: float = 1.0
    """The output values that become 0 and 255."""
    kind: str = "decoder"
    steps: int = 0

    @property
    def dim(self) -> int:
        """Count the latent's coordinates."""
        return math.prod(self.latent_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """A loaded model: what it is, byte for byte, and how it is held."""

    spec: GeneratorSpec
    output_shape: tuple[int, int, int]
    """(C, H, W)."""
    digest: str
    """Hex SHA-256 of the canonical graph and the weights."""
    file_sha256: str
    format: Literal["pt2", "factory"]
    isolation: tuple[str, ...] = ()
    """The barriers that the operating system granted: "network", "files", "memory", …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InversionPlan:
    """How hard to look. The defaults suit 28–128 pixels and about a hundred coordinates."""

    starts: int = 4
    """Starts per picture in each round after the first."""
    max_starts: int = 13
    """Starts in all before a picture that misses the floor is given up."""
    approach_steps: int = 8
    """Jacobians spent on finding the basin, per start."""
    lm_steps: int = 12
    """Jacobians spent on the exact likelihood, per start."""
    seed: int = 0
    encoder: bool = True
    """Whether a regression fitted on the model's own samples proposes starts."""
    chunk_bytes: int = 512 << 20
    """Working memory that one batch may take in the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start and where it ended."""

    start: str
    residual: float
    stop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inversion:
    """What the search recovered from one picture."""

    latent: FloatArray
    """(dim,) in the model's own coordinates."""
    gaussian: FloatArray
    """(dim,) posterior mean of the Gaussian latent: the vector v of protocol section 4."""
    sd: FloatArray
    """(dim,) posterior standard deviation of the Gaussian latent."""
    residual: float
    """Root mean square of the whitened residual per degree of freedom; 1.0 = the file's own noise.
    """
    at_floor: bool
    stop: str
    """floor | converged | steps | stalled"""
    reconstruction: FloatImage
    """(C, H, W) in the model's range."""
    channel: Channel
    seconds: float
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """How far a file is from being the transmitted image of a given output."""

    global_: float
    map: FloatImage
    """(H, W) over the model's image grid: whitened energy, mean 1 where the output is the file's
    source.
    """


def inversion_record(inversion: Inversion) -> dict[str, Any]:
    """Return the JSON-able part of an inversion, arrays left out."""
    return {
        "residual": inversion.residual,
        "at_floor": inversion.at_floor,
        "stop": inversion.stop,
        "channel": inversion.channel.to_json(),
        "seconds": inversion.seconds,
        "attempts": [
            {"start": a.start, "residual": a.residual, "stop": a.stop} for a in inversion.attempts
        ],
    }
