"""From the optimum to what is known about the Gaussian latent: the vector v of protocol section 4.

Around the optimum the likelihood is a Gaussian with information JᵀJ. The normal prior joins it
exactly. The uniform prior's box joins it by expectation propagation (Minka, 2001): per coordinate a
Gaussian that has the moments of the box, refined in turn until they agree; then g's moments follow
from each coordinate's cavity.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from latentlog.inversion.prior import PRECISION, gaussian_moments, truncated_quantiles
from latentlog.inversion.result import Prior

FloatArray = npt.NDArray[np.float64]
ROUNDS: Final = 12
STEP: Final = 0.7
_LEAST: Final = 1e-9
"""Smallest precision: a coordinate the picture says nothing about."""


def gaussian_posterior(
    prior: Prior, z: FloatArray, information: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and deviation (d,) of g, given the optimum `z` (d,) and the likelihood's
    information (d, d).
    """
    precision = PRECISION[prior]
    information = _semidefinite(information)
    if prior == "normal":
        covariance = np.linalg.inv(information + precision * np.eye(len(z)))
        return z.copy(), np.sqrt(np.diag(covariance))
    # At the optimum the likelihood's slope balances the surrogate prior's, which fixes its natural
    # mean.
    pull = information @ z + precision * z
    mean, variance = _cavity(information, pull)
    return gaussian_moments(prior, mean, np.sqrt(variance))


def _semidefinite(information: FloatArray) -> FloatArray:
    """Return the matrix without the negative eigenvalues that single precision left in it."""
    values, vectors = np.linalg.eigh((information + information.T) / 2.0)
    result: FloatArray = (vectors * values.clip(0.0)) @ vectors.T
    return result


def _cavity(information: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each coordinate's likelihood (mean, variance), the others' boxes taken
    into account.
    """
    dim = len(pull)
    site_precision = np.full(dim, PRECISION["uniform"])
    site_pull = np.zeros(dim)
    for _ in range(ROUNDS):
        mean, variance = _without_site(information, pull, site_precision, site_pull)
        inside = truncated_quantiles(mean, np.sqrt(variance))
        tilted_mean, tilted_variance = inside.mean(-1), inside.var(-1).clip(1e-12)
        wanted = np.maximum(1.0 / tilted_variance - 1.0 / variance, _LEAST)
        wanted_pull = tilted_mean * (wanted + 1.0 / variance) - mean / variance
        site_precision += STEP * (wanted - site_precision)
        site_pull += STEP * (wanted_pull - site_pull)
    return _without_site(information, pull, site_precision, site_pull)


def _without_site(
    information: FloatArray, pull: FloatArray, site_precision: FloatArray, site_pull: FloatArray
) -> tuple[FloatArray, FloatArray]:
    covariance = np.linalg.inv(information + np.diag(site_precision))
    variance = np.diag(covariance)
    mean = covariance @ (pull + site_pull)
    cavity_precision = np.maximum(1.0 / variance - site_precision, _LEAST)
    return (mean / variance - site_pull) / cavity_precision, 1.0 / cavity_precision
