"""Damped Gauss–Newton for many rows at once (Levenberg 1944, Marquardt 1963), with a tempered
likelihood.

Each row minimises c(r(z))/τ + ½p|z|², τ = max(mean r², noise floor): far from the solution the
misfit itself is the noise, which lets the prior hold the flat directions until the picture is
explained. A Jacobian costs d forward passes, so each is used for several steps as long as they pay
(chord steps).
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


@dataclass(slots=True)
class Fit:
    """Where the rows stand."""

    z: Tensor
    """(n, d)"""
    residual: Tensor
    """(n, m)"""
    information: Tensor
    """(n, d, d) JᵀWJ at the last Jacobian, W the cost's curvature."""
    cost: Tensor
    """(n,) untempered, the prior included."""
    settled: Tensor
    """(n,) whether the row converged before the steps ran out."""
    jacobians: int = 0


@dataclass(slots=True)
class _Batch:
    """The rows of one Jacobian and its chord steps."""

    z: Tensor
    r: Tensor
    rows: Tensor
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
    fit = Fit(
        z=z.clone(),
        residual=objective.residual(z, rows),
        information=torch.zeros(n, d, d, device=z.device),
        cost=torch.zeros(n, device=z.device),
        settled=torch.zeros(n, dtype=torch.bool, device=z.device),
    )
    damping = torch.full((n,), 1e-3, device=z.device)
    active = torch.arange(n, device=z.device)
    for _ in range(steps):
        if not len(active):
            break
        batch = _take(objective, fit, active, rows, damping)
        before = objective.cost(batch.r, batch.rows)
        fit.information[active] = _use(objective, batch, precision)
        fit.z[active], fit.residual[active], damping[active] = batch.z, batch.r, batch.damping
        fit.jacobians += len(active)
        done = _done(objective, before, batch, stop_below)
        fit.settled[active[done]] = True
        active = active[~done]
    ones = torch.ones(n, device=z.device)
    fit.cost = _total(objective, fit.residual, fit.z, rows, ones, precision)
    return fit


def _take(objective: Objective, fit: Fit, active: Tensor, rows: Tensor, damping: Tensor) -> _Batch:
    r = fit.residual[active]
    return _Batch(
        z=fit.z[active],
        r=r,
        rows=rows[active],
        damping=damping[active],
        tau=_temperature(objective, r),
        moved=torch.zeros(len(active), dtype=torch.bool, device=r.device),
    )


def _temperature(objective: Objective, r: Tensor) -> Tensor:
    return r.square().mean(-1).clamp(min=objective.temperature_floor)


def _use(objective: Objective, batch: _Batch, precision: float) -> Tensor:
    """Take one exact step and as many chord steps as pay, row by row; return the information
    matrices.
    """
    J = objective.jacobian(batch.z)
    slope, weight = objective.slope(batch.r, batch.rows)
    information = _information(J, weight)
    for _ in range(1 + CHORDS):
        now = _total(objective, batch.r, batch.z, batch.rows, batch.tau, precision)
        step, predicted = _step(J, information, slope, batch, precision)
        z = batch.z - step
        r = objective.residual(z, batch.rows)
        gain = now - _total(objective, r, z, batch.rows, batch.tau, precision)
        _move(objective, batch, z, r, gain, predicted)
        if not bool(((~batch.moved) | (gain > PAYING * now)).any()):
            break
        slope, fresh = objective.slope(batch.r, batch.rows)
        if not torch.equal(fresh, weight):
            weight, information = fresh, _information(J, fresh)
    return information


def _information(J: Tensor, weight: Tensor) -> Tensor:
    return (J * weight[:, None, :]) @ J.transpose(1, 2)


def _step(
    J: Tensor, information: Tensor, slope: Tensor, batch: _Batch, precision: float
) -> tuple[Tensor, Tensor]:
    """Return the damped step (n, d) and the gain it promises (n,)."""
    curved = information / batch.tau[:, None, None]
    curved.diagonal(dim1=1, dim2=2).add_(precision)
    gradient = (J @ slope[:, :, None])[:, :, 0] / batch.tau[:, None] + precision * batch.z
    scale = torch.diagonal(curved, dim1=1, dim2=2) * batch.damping[:, None]
    # A model that overflows gives a step of NaN here, which never counts as a gain.
    step = torch.linalg.solve_ex(curved + scale.diag_embed(), gradient).result
    curvature = (step * (curved @ step[:, :, None])[:, :, 0]).sum(-1)
    return step, (step * gradient).sum(-1) - 0.5 * curvature


def _move(
    objective: Objective, batch: _Batch, z: Tensor, r: Tensor, gain: Tensor, predicted: Tensor
) -> None:
    """Accept the rows that gained, and set every row's damping by how well the gain was
    predicted.
    """
    better = gain > 0.0
    trusted = gain > 0.5 * predicted
    kept = torch.where(trusted, batch.damping * 0.2, batch.damping)
    batch.damping = torch.where(better, kept, batch.damping * 8.0).clamp(1e-7, 1e6)
    batch.z = torch.where(better[:, None], z, batch.z)
    batch.r = torch.where(better[:, None], r, batch.r)
    batch.tau = torch.where(better, _temperature(objective, batch.r), batch.tau)
    batch.moved |= better


def _total(
    objective: Objective, r: Tensor, z: Tensor, rows: Tensor, tau: Tensor, precision: float
) -> Tensor:
    return objective.cost(r, rows) / tau + 0.5 * precision * z.square().sum(-1)


def _done(objective: Objective, before: Tensor, batch: _Batch, stop_below: float) -> Tensor:
    after = objective.cost(batch.r, batch.rows)
    gain = (before - after).abs() / before.clamp(min=1e-30)
    mean = batch.r.square().mean(-1)
    calm = gain < SETTLED
    at_floor = (mean <= objective.temperature_floor) & (gain < objective.good_enough)
    stuck = ~batch.moved & (batch.damping > 1e5)
    return (batch.moved & (calm | at_floor)) | stuck | (mean < stop_below)
