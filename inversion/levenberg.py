"""Damped Gauss–Newton for many rows at once (Levenberg 1944, Marquardt 1963), with a tempered likelihood.

Each row minimises ½|r(z)|²/τ + ½p|z|², τ = max(mean r², noise floor): far from the solution the misfit itself is the
noise, which lets the prior hold the flat directions until the picture is explained. A Jacobian costs d forward passes,
so each is used for several steps as long as they pay (chord steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from latentlog.inversion.objective import Objective

CHORDS: Final = 3
"""Further steps with one Jacobian."""
PAYING: Final = 0.2
"""A chord step must remove this share of the objective to earn another."""
SETTLED: Final = 1e-3
"""Relative gain of a whole Jacobian below which a row has converged."""
GOOD_ENOUGH: Final = 0.02
"""The same for rows at the noise floor."""


@dataclass(slots=True)
class Fit:
    """Where the rows stand."""

    z: Tensor
    """(n, d)"""
    residual: Tensor
    """(n, m)"""
    information: Tensor
    """(n, d, d) JᵀJ at the last Jacobian."""
    settled: Tensor
    """(n,) whether the row converged before the steps ran out."""
    jacobians: int = 0


@dataclass(slots=True)
class _Batch:
    """The rows of one Jacobian and its chord steps."""

    z: Tensor
    r: Tensor
    damping: Tensor
    tau: Tensor
    moved: Tensor


def gauss_newton(
    objective: Objective,
    z: Tensor,
    rows: Tensor,
    *,
    precision: float,
    steps: int,
    stop_below: float = 0.0,
) -> Fit:
    """Descend from `z` (n, d), one row per entry of `rows`, with at most `steps` Jacobians each.

    A row stops when it settles, or when its mean squared residual falls below `stop_below`.
    """
    n, d = z.shape
    r = objective.residual(z, rows)
    fit = Fit(z.clone(), r, torch.zeros(n, d, d, device=z.device), torch.zeros(n, dtype=torch.bool))
    damping = torch.full((n,), 1e-3, device=z.device)
    active = torch.arange(n, device=z.device)
    for _ in range(steps):
        if not len(active):
            break
        before = fit.residual[active].square().sum(-1)
        batch = _Batch(
            fit.z[active],
            fit.residual[active],
            damping[active],
            _temperature(objective, fit.residual[active]),
            torch.zeros(len(active), dtype=torch.bool, device=z.device),
        )
        J = objective.jacobian(batch.z, rows[active], batch.r)
        information = J @ J.transpose(1, 2)
        _use(objective, J, information, batch, rows[active], precision)
        fit.z[active], fit.residual[active] = batch.z, batch.r
        fit.information[active], damping[active] = information, batch.damping
        fit.jacobians += len(active)
        done = _done(objective, before, batch, stop_below)
        fit.settled[active[done].cpu()] = True
        active = active[~done]
    return fit


def _temperature(objective: Objective, r: Tensor) -> Tensor:
    return r.square().mean(-1).clamp(min=objective.temperature_floor)


def _use(
    objective: Objective,
    J: Tensor,
    information: Tensor,
    batch: _Batch,
    rows: Tensor,
    precision: float,
) -> None:
    """Take one exact step and as many chord steps as pay, row by row."""
    for _ in range(1 + CHORDS):
        A = information / batch.tau[:, None, None]
        A.diagonal(dim1=1, dim2=2).add_(precision)
        slope = (J @ batch.r[:, :, None])[:, :, 0] / batch.tau[:, None] + precision * batch.z
        scale = torch.diagonal(A, dim1=1, dim2=2) * batch.damping[:, None]
        step = torch.linalg.solve(A + scale.diag_embed(), slope)
        predicted = (step * slope).sum(-1) - 0.5 * (step * (A @ step[:, :, None])[:, :, 0]).sum(-1)
        z = batch.z - step
        r = objective.residual(z, rows)
        now = _cost(batch.r, batch.z, batch.tau, precision)
        gain = now - _cost(r, z, batch.tau, precision)
        better = gain > 0.0
        trusted = gain > 0.5 * predicted
        batch.damping = torch.where(
            better, torch.where(trusted, batch.damping * 0.2, batch.damping), batch.damping * 8.0
        ).clamp(1e-7, 1e6)
        batch.z = torch.where(better[:, None], z, batch.z)
        batch.r = torch.where(better[:, None], r, batch.r)
        batch.tau = torch.where(better, _temperature(objective, batch.r), batch.tau)
        batch.moved |= better
        if not bool(((~better & ~batch.moved) | (better & (gain > PAYING * now))).any()):
            break


def _cost(r: Tensor, z: Tensor, tau: Tensor, precision: float) -> Tensor:
    return 0.5 * (r.square().sum(-1) / tau + precision * z.square().sum(-1))


def _done(objective: Objective, before: Tensor, batch: _Batch, stop_below: float) -> Tensor:
    after = batch.r.square().sum(-1)
    gain = (before - after).abs() / before.clamp(min=1e-30)
    mean = after / batch.r.shape[1]
    calm = gain < SETTLED
    at_floor = (mean <= objective.temperature_floor) & (gain < GOOD_ENOUGH)
    stuck = ~batch.moved & (batch.damping > 1e5)
    return (batch.moved & (calm | at_floor)) | stuck | (mean < stop_below)
