"""Many pictures to many latents: guess, approach, refine, and start again where the floor is
missed.

Pictures that went through the same channel share every forward pass. A picture's starts depend on
its own pixels and the plan's seed, not on its neighbours. Runs in the child; `sandbox.py` is the
way in.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from latentlog.inversion.encoder import Encoder, SampleBank
from latentlog.inversion.errors import UnsupportedModel
from latentlog.inversion.forward import Channel
from latentlog.inversion.generator import Generator
from latentlog.inversion.levenberg import Fit, gauss_newton
from latentlog.inversion.objective import LINK_SOFTNESS, Likelihood, Model, PixelLink
from latentlog.inversion.posterior import gaussian_posterior
from latentlog.inversion.prior import PRECISION, draw
from latentlog.inversion.result import (
    Attempt,
    GeneratorSpec,
    Inversion,
    InversionPlan,
    Observation,
)
from latentlog.inversion.transmit import Target, Transmission

OnStep = Callable[[Any], None]
PICTURES_AT_ONCE: Final = 256
"""Pictures whose targets are held in memory together."""
NEAR: Final = 3.0
"""Gray levels (rms) at which the approach hands over to the likelihood."""
SATURATED: Final = 0.1
"""Share of pixels at the scale's ends from which the approach through the link pays."""
LARGEST: Final = 1e9
"""The residual of an output that is not finite."""
MAX_DIM: Final = 4096
"""Coordinates from which exact Jacobians cost hours; such models can be replayed, not inverted."""
FLOOR_SLACK: Final = 0.12
FLOOR_DEVIATIONS: Final = 4.0
"""The floor's tolerance: a fixed part for the model of the noise, and a part for its randomness."""


@dataclass(slots=True)
class _Best:
    """The best attempt at one picture so far."""

    cost: float = np.inf
    residual: float = np.inf
    at_floor: bool = False
    stop: str = "steps"
    z: Tensor | None = None
    information: Tensor | None = None
    attempts: list[Attempt] = field(default_factory=list)
    seconds: float = 0.0


class Inverter:
    """Inverts observations through one generator; keeps the samples its encoders are fitted on."""

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
        self.bank = SampleBank(self._images, spec)
        self.encoders: dict[tuple[Any, ...], Encoder] = {}

    def _images(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            return self.generator(z.reshape(-1, *self.spec.latent_shape).to(self.device))

    def invert(
        self,
        observations: Sequence[Observation],
        plan: InversionPlan,
        *,
        on_step: OnStep | None = None,
    ) -> list[Inversion]:
        """Recover every observation's latent."""
        if self.spec.dim > MAX_DIM:
            raise UnsupportedModel(
                "the model has too many latent coordinates to invert",
                expected=f"at most {MAX_DIM}",
                got=str(self.spec.dim),
            )
        groups: dict[Channel, list[int]] = {}
        for index, observation in enumerate(observations):
            groups.setdefault(observation.channel, []).append(index)
        found: dict[int, Inversion] = {}
        for channel, indices in groups.items():
            line = Transmission(channel, self.shape, self.spec.lo, self.spec.hi, self.device)
            for at in range(0, len(indices), PICTURES_AT_ONCE):
                part = indices[at : at + PICTURES_AT_ONCE]
                search = _Search(self, line, [observations[i] for i in part], plan)
                found.update(zip(part, search.run(on_step), strict=True))
        return [found[index] for index in range(len(observations))]

    def encoder(self, line: Transmission) -> Encoder:
        """Return the encoder for pictures of this size and colour, fitting it the first time."""
        channel = line.channel
        key = (channel.size, channel.gray, channel.resize)
        if key not in self.encoders:
            self.encoders[key] = Encoder(self.bank, line)
        return self.encoders[key]


class _Search:
    """The search for the latents of pictures that share a channel."""

    def __init__(
        self,
        inverter: Inverter,
        line: Transmission,
        observations: list[Observation],
        plan: InversionPlan,
    ) -> None:
        self.spec, self.plan, self.line = inverter.spec, plan, line
        self.inverter = inverter
        self.observations = observations
        self.model = Model(inverter.generator, inverter.spec, line, plan.chunk_bytes)
        self.targets = [line.target(o) for o in observations]
        self.stages = [Likelihood(self.model, self.targets, walls=False)]
        if line.jpeg:
            # The cells' walls come last: met far from the solution, they trap the search.
            self.stages.append(Likelihood(self.model, self.targets, walls=True))
        self.saturated = [_is_saturated(o) for o in observations]
        self.link = PixelLink(self.model, observations, _softness(line))
        self.precision = PRECISION[self.spec.prior]
        self.seeds = [_seed(o, plan.seed) for o in observations]
        self.best = [_Best() for _ in observations]

    def run(self, on_step: OnStep | None) -> list[Inversion]:
        """Run rounds of starts until every picture is at its floor or out of starts."""
        used, round_number = 0, 0
        missing = list(range(len(self.observations)))
        while missing and used < self.plan.max_starts:
            # The encoder's own guess usually suffices, so it goes alone first.
            count = 1 if round_number == 0 else min(self.plan.starts, self.plan.max_starts - used)
            self._round(missing, count, round_number, on_step)
            used, round_number = used + count, round_number + 1
            missing = [i for i in missing if not self.best[i].at_floor]
        return [self._result(i) for i in range(len(self.observations))]

    def _round(self, missing: list[int], count: int, number: int, on_step: OnStep | None) -> None:
        chosen = [self._start(i, number, k) for i in missing for k in range(count)]
        kinds, starts = [kind for kind, _ in chosen], [z for _, z in chosen]
        rows = [i for i in missing for _ in range(count)]
        at_once = max(count, self.model.rows_at_once() // count * count)
        for at in range(0, len(rows), at_once):
            part = slice(at, at + at_once)
            self._attempt(torch.stack(starts[part]), rows[part], kinds[part], again=number > 0)
            if on_step is not None:
                solved = sum(b.at_floor for b in self.best)
                on_step({"round": number, "row": min(at + at_once, len(rows)), "rows": len(rows),
                         "at_floor": solved, "pictures": len(self.best)})  # fmt: skip

    def _start(self, index: int, number: int, which: int) -> tuple[str, Tensor]:
        """Return one start: the guess, a draw around it, or a draw from the prior, in turn."""
        seed = self.seeds[index]
        if self.plan.encoder and (number == 0 or which % 2 == 0):
            encoder = self.inverter.encoder(self.line)
            pixels = torch.from_numpy(self.observations[index].pixels.astype(np.float32))
            guess = encoder.guess(pixels.permute(2, 0, 1)[None].to(self.line.device))
            if number == 0:
                return "encoder", guess[0]
            return "scattered", encoder.scatter(guess, seed)[0]
        z = draw(self.spec.prior, 1, self.spec.dim, seed)
        return "prior", z[0].to(self.line.device)

    def _attempt(self, z: Tensor, rows: list[int], kinds: list[str], *, again: bool) -> None:
        """Approach and refine one batch of starts, and keep what is better than before."""
        began = time.monotonic()
        index = torch.tensor(rows, device=z.device)
        near, misfit = self._approach(z, index, again=again)
        keep = self._promising(misfit, rows)
        fit = self._refine(near[keep], index[keep])
        each = (time.monotonic() - began) / len(rows)
        for i in rows:
            self.best[i].seconds += each
        for j, k in enumerate(keep):
            self._record(rows[k], kinds[k], fit, j)

    def _approach(self, z: Tensor, index: Tensor, *, again: bool) -> tuple[Tensor, Tensor]:
        """Move towards the basin; return the latents and their pixel misfit.

        A first guess goes straight to the likelihood where that sees every pixel's slope.
        """
        far = torch.tensor([again or self.saturated[i] for i in index.tolist()], device=z.device)
        near = z.clone()
        if bool(far.any()):
            fit = gauss_newton(
                self.link,
                z[far],
                index[far],
                precision=self.precision,
                steps=self.plan.approach_steps,
                stop_below=(NEAR / 64.0) ** 2,
            )
            near[far] = fit.z
        return near, self.link.residual(near, index).square().mean(-1)

    def _promising(self, misfit: Tensor, rows: list[int]) -> list[int]:
        """Keep the better half of each picture's starts, at least one."""
        scores = misfit.tolist()
        chosen: list[int] = []
        for i in dict.fromkeys(rows):
            mine = sorted((k for k, row in enumerate(rows) if row == i), key=scores.__getitem__)
            chosen += mine[: (len(mine) + 1) // 2]
        return sorted(chosen)

    def _refine(self, z: Tensor, index: Tensor) -> Fit:
        for stage in self.stages:
            fit = gauss_newton(stage, z, index, precision=self.precision, steps=self.plan.lm_steps)
            z = fit.z
        return fit

    def _record(self, index: int, kind: str, fit: Fit, j: int) -> None:
        best, target = self.best[index], self.targets[index]
        residual, tolerance = _quality(fit.residual[j], target, fit.information[j], self.precision)
        at_floor = residual <= tolerance
        stop = "floor" if at_floor else ("converged" if bool(fit.settled[j]) else "steps")
        best.attempts.append(Attempt(start=kind, residual=residual, stop=stop))
        cost = float(fit.cost[j])
        if best.z is None or cost < best.cost:
            best.cost, best.residual, best.at_floor, best.stop = cost, residual, at_floor, stop
            best.z, best.information = fit.z[j].clone(), fit.information[j].clone()

    def _result(self, index: int) -> Inversion:
        best = self.best[index]
        assert best.z is not None
        assert best.information is not None
        z = best.z.double().cpu().numpy()
        # Where the floor is missed, the misfit itself is the noise.
        information = best.information.double().cpu().numpy() / max(1.0, best.residual**2)
        gaussian, sd = gaussian_posterior(self.spec.prior, z, information)
        return Inversion(
            latent=z,
            gaussian=gaussian,
            sd=sd,
            residual=best.residual,
            at_floor=best.at_floor,
            stop=best.stop,
            reconstruction=self.model.images(best.z[None])[0].cpu().numpy(),
            channel=self.line.channel,
            seconds=best.seconds,
            attempts=tuple(best.attempts),
        )


def _seed(observation: Observation, seed: int) -> torch.Generator:
    """Return a picture's own source of starts."""
    digest = hashlib.sha256(seed.to_bytes(8, "big", signed=True) + observation.pixels.tobytes())
    return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)


def _is_saturated(observation: Observation) -> bool:
    """Say whether so many pixels sit at the scale's ends that their slopes are missed."""
    pixels = observation.pixels
    return bool(((pixels <= 1) | (pixels >= 254)).mean() > SATURATED)


def _softness(line: Transmission) -> float:
    """Return the link's softness: a decoded JPEG's pixels are off by a few levels."""
    if not line.jpeg:
        return LINK_SOFTNESS
    steps = torch.tensor(line.channel.tables[0], dtype=torch.float32)
    return LINK_SOFTNESS + 0.25 * math.sqrt(float(steps.mean()))


def _quality(
    residual: Tensor, target: Target, information: Tensor, precision: float
) -> tuple[float, float]:
    """Return the residual per degree of freedom and what it may be at the floor.

    Features whose rounding cell is open (the scale's ends) or whose level is zero in a JPEG say
    only that the truth is inside; they count when it is not.
    """
    inside = residual.abs() <= target.half
    counted = ~(target.weak & inside)
    d = len(information)
    eye = precision * torch.eye(d, device=information.device)
    fitted = float(torch.linalg.solve_ex(information + eye, information).result.trace())
    count = int(counted.sum())
    freedom = max(count - fitted, 0.25 * count, 1.0)
    value = math.sqrt(float((residual.square() * counted).sum()) / freedom)
    value = value if math.isfinite(value) else LARGEST
    return value, 1.0 + FLOOR_SLACK + FLOOR_DEVIATIONS * 0.45 / math.sqrt(freedom)
