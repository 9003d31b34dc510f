"""The law of the latent: how to draw it, how tightly it binds, and what a recovered value says
about the Gaussian.

Both priors are one Gaussian latent g in two coordinates: normal z = g, uniform z = 2Φ(g) − 1
(protocol section 1).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor

from latentlog.inversion.result import Prior

PRECISION: Final[dict[Prior, float]] = {"normal": 1.0, "uniform": 3.0}
"""One over the prior's variance in the model's coordinates."""
_NODES: Final = 128
"""Quantiles that stand for a coordinate's posterior."""
FloatArray = npt.NDArray[np.float64]


def draw(prior: Prior, count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Draw latents (count, dim) in the model's coordinates."""
    if prior == "normal":
        return torch.randn((count, dim), generator=generator)
    return torch.rand((count, dim), generator=generator) * 2.0 - 1.0


def truncated_quantiles(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Return equally likely values (d, NODES) of Normal(mean, sd) confined to [-1, 1]; mean may lie
    far outside.
    """
    sign = np.where(mean < 0.0, -1.0, 1.0)
    mirrored = np.abs(mean)
    below = special.log_ndtr((-1.0 - mirrored) / sd)[:, None]
    above = special.log_ndtr((1.0 - mirrored) / sd)[:, None]
    share = (np.arange(_NODES) + 0.5) / _NODES
    level = np.logaddexp(below + np.log1p(-share), above + np.log(share))
    values = mirrored[:, None] + sd[:, None] * special.ndtri_exp(np.minimum(level, -1e-300))
    inside = 1.0 - 1e-12
    confined: FloatArray = sign[:, None] * np.clip(values, -inside, inside)
    return confined


def gaussian_moments(
    prior: Prior, mean: FloatArray, sd: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return posterior mean and deviation of g from the *likelihood* of z, Normal(mean, sd) per
    coordinate.

    The likelihood's centre may lie outside the uniform prior's box: that is evidence for its edge,
    not an error.
    """
    if prior == "normal":
        precision = 1.0 + 1.0 / sd**2
        return mean / sd**2 / precision, precision**-0.5
    g = special.ndtri((truncated_quantiles(mean, sd) + 1.0) / 2.0)
    return g.mean(-1), g.std(-1)
