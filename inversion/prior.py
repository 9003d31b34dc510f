"""The law of the latent: how to draw it, how tightly it binds, and what a recovered value says about the Gaussian.

Both priors are one Gaussian latent g in two coordinates: normal z = g, uniform z = 2Φ(g) − 1 (protocol section 1).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentlog.inversion.result import Prior

PRECISION: Final[dict[Prior, float]] = {"normal": 1.0, "uniform": 3.0}
"""One over the prior's variance in the model's coordinates."""
_NODES: Final = 400
"""Quadrature nodes over g for the uniform prior; the integrand is smooth on this scale."""
_REACH: Final = 6.0


def draw(prior: Prior, count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Draw latents (count, dim) in the model's coordinates."""
    if prior == "normal":
        return torch.randn((count, dim), generator=generator)
    return torch.rand((count, dim), generator=generator) * 2.0 - 1.0


def gaussian_moments(
    prior: Prior, mean: npt.NDArray[np.float64], sd: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return posterior mean and deviation of g from the *likelihood* of z, Normal(mean, sd) per coordinate.

    The likelihood's centre may lie outside the uniform prior's box: that is evidence for its edge, not an error.
    """
    if prior == "normal":
        precision = 1.0 + 1.0 / sd**2
        return mean / sd**2 / precision, precision**-0.5
    g = np.linspace(-_REACH, _REACH, _NODES)
    z = np.array([math.erf(x / math.sqrt(2.0)) for x in g])
    log_weight = -0.5 * g**2 - 0.5 * ((z - mean[..., None]) / sd[..., None]) ** 2
    weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    first = (weight * g).sum(-1)
    second = (weight * (g - first[..., None]) ** 2).sum(-1)
    return first, np.sqrt(second)
