"""Many pictures to many latents: multi-start descent, Levenberg–Marquardt, posterior. Runs in the child."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentlog.inversion.generator import Generator
from latentlog.inversion.prior import PRECISION, draw, gaussian_moments
from latentlog.inversion.result import (
    Attempt,
    GeneratorSpec,
    Inversion,
    InversionPlan,
    Observation,
)
from latentlog.inversion.transmit import Target, Transmission, miss


class Inverter:
    """Inverts observations through one generator."""

    def __init__(
        self,
        generator: Generator,
        spec: GeneratorSpec,
        shape: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        """Hold the generator; nothing is computed yet."""
        self.generator = generator
        self.spec = spec
        self.shape = shape
        self.device = device

    def invert(
        self,
        observations: Sequence[Observation],
        plan: InversionPlan,
        *,
        on_step: Callable[[Any], None] | None = None,
    ) -> list[Inversion]:
        """Recover every observation's latent."""
        results = []
        for index, observation in enumerate(observations):
            results.append(self._one(observation, plan, index))
            if on_step is not None:
                on_step({"done": index + 1, "of": len(observations)})
        return results

    def _one(self, observation: Observation, plan: InversionPlan, index: int) -> Inversion:
        began = time.monotonic()
        spec = self.spec
        line = Transmission(observation.channel, self.shape, spec.lo, spec.hi, self.device)
        target = line.target(observation)
        seed = torch.Generator().manual_seed(plan.seed * 1_000_003 + index)
        z = draw(spec.prior, plan.starts, spec.dim, seed).to(self.device)
        z = self._descend(z, line, target, plan.descent_steps)
        z, curvature = self._refine(z, line, target, plan.lm_steps)
        with torch.no_grad():
            image = self.generator(z.view(-1, *spec.latent_shape))
            r = miss(line.features(image), target)
        rms = r.square().mean(-1).sqrt()
        best = int(rms.argmin())
        cov = torch.linalg.inv(curvature[best].double()).cpu().numpy()
        post_var = np.diag(cov)
        p = PRECISION[spec.prior]
        mean = z[best].double().cpu().numpy()
        cavity_precision = np.maximum(1 / post_var - p, 1e-6)
        cavity_mean = mean / post_var / cavity_precision
        v, sd = gaussian_moments(spec.prior, cavity_mean, cavity_precision**-0.5)
        residual = float(rms[best])
        return Inversion(
            latent=mean,
            gaussian=v,
            sd=sd,
            residual=residual,
            at_floor=residual < 1.1,
            stop="floor" if residual < 1.1 else "steps",
            reconstruction=image[best].cpu().numpy(),
            channel=observation.channel,
            seconds=time.monotonic() - began,
            attempts=tuple(
                Attempt(start="random", residual=float(x), stop="steps") for x in rms
            ),
        )

    def _descend(self, z: Tensor, line: Transmission, target: Target, steps: int) -> Tensor:
        p = PRECISION[self.spec.prior]
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, steps + 1):
            z = z.detach().requires_grad_(True)
            r = miss(line.features(self.generator(z.view(-1, *self.spec.latent_shape))), target)
            loss = 0.5 * (r.square().sum() + p * z.square().sum())
            (slope,) = torch.autograd.grad(loss, z)
            first = first.lerp(slope, 0.1)
            second = second.lerp(slope.square(), 0.01)
            rate = 0.1 * (1 - 0.99**step) ** 0.5 / (1 - 0.9**step)
            z = z.detach() - rate * first / (second.sqrt() + 1e-12)
        return z.detach()

    def _refine(
        self, z: Tensor, line: Transmission, target: Target, steps: int
    ) -> tuple[Tensor, Tensor]:
        p = PRECISION[self.spec.prior]
        n, d = z.shape
        eye = torch.eye(d, device=self.device)

        def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                r = miss(line.features(self.generator(x.view(-1, *self.spec.latent_shape))), target)
            return r, 0.5 * (r.square().sum(-1) + p * x.square().sum(-1))

        r, loss = evaluate(z)
        damping = torch.full((n, 1, 1), 1e-2)
        for _ in range(steps):
            J = self._jacobian(z, line)  # (d, n, m)
            J = J.permute(1, 0, 2) * (r != 0)[:, None, :]
            A = J @ J.transpose(1, 2) + p * eye
            g = (J @ r[:, :, None])[:, :, 0] + p * z
            scale = torch.diagonal(A, dim1=1, dim2=2).diag_embed()
            step = torch.linalg.solve(A + damping * scale, g)
            r2, loss2 = evaluate(z - step)
            better = loss2 < loss
            z = torch.where(better[:, None], z - step, z)
            r = torch.where(better[:, None], r2, r)
            gain = loss - loss2
            loss = torch.where(better, loss2, loss)
            damping = torch.where(better[:, None, None], damping * 0.1, damping * 10)
            if bool((gain.abs() < 1e-3 * loss).all()):
                break
        return z, A

    def _jacobian(self, z: Tensor, line: Transmission) -> Tensor:
        n, d = z.shape
        shape = self.spec.latent_shape

        def f(x: Tensor) -> Tensor:
            return line.linear(line.to_pixels(self.generator(x.view(-1, *shape))))

        def push(t: Tensor) -> Tensor:
            return torch.func.jvp(f, (z,), (t.expand(n, d),))[1]

        return torch.func.vmap(push)(torch.eye(d, device=self.device)[:, None, :].expand(d, n, d))
