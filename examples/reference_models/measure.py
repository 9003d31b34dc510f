"""Measure an exported reference generator and print one JSON object.

`python examples/reference_models/measure.py --name faces --invert 20` times it on one thread, takes
singular values of its Jacobian in 8-bit units, compares its variety with that of the drawn
portraits, and inverts its own portraits, as PNG and as JPEG of quality 75, from random starts.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from portraits import draw_set, to_bytes
from torch import Tensor
from torch.func import jvp, vmap

LATENT: Final = 128
LEVELS: Final = 127.5
"""8-bit levels per unit of the generator's range."""
PNG_NOISE: Final = 1.0 / math.sqrt(12.0)
"""Standard deviation of rounding to 8 bits, in levels."""

Draw = Callable[[Tensor], Tensor]


def load_program(path: Path) -> Draw:
    """Load a `.pt2` of our own making; a stranger's must go through the strict reader instead."""
    module: Draw = torch.export.load(str(path)).module()
    return module


def jacobian(generator: Draw, latent: Tensor) -> Tensor:
    """Return d(pixels in levels)/d(latent) at one latent (128,), as (pixels, 128)."""
    basis = torch.eye(LATENT)

    def along(direction: Tensor) -> Tensor:
        tangent: Tensor = jvp(generator, (latent[None],), (direction[None],))[1]
        return tangent.flatten() * LEVELS

    columns: Tensor = vmap(along, chunk_size=32)(basis)
    return columns.T


def measure_time(generator: Draw, batch: int = 16, rounds: int = 40) -> dict[str, Any]:
    """Time forward and backward to the latent, in milliseconds of wall clock and of CPU."""
    latent = torch.randn(batch, LATENT, requires_grad=True)
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        generator(latent).square().sum().backward()  # type: ignore[no-untyped-call]
        walls.append((time.perf_counter() - wall) * 1e3)
        cpus.append((time.process_time() - cpu) * 1e3)
    return {
        "batch": batch,
        "threads": torch.get_num_threads(),
        "wall_ms_median": round(statistics.median(walls), 2),
        "wall_ms_fastest": round(min(walls), 2),
        "cpu_ms_median": round(statistics.median(cpus), 2),
    }


def expected_error(singular: Tensor, noise: float) -> float:
    """Return the summed posterior variance of the latent (0 to 128) under white noise."""
    return float((noise**2 / (noise**2 + singular**2)).sum(dim=1).mean())


def measure_singular_values(generator: Draw, latents: Tensor) -> dict[str, Any]:
    """Summarise the Jacobian's singular values, in levels for one unit of latent."""
    spectra = torch.stack([torch.linalg.svdvals(jacobian(generator, z).double()) for z in latents])
    return {
        "latents": len(latents),
        "smallest": round(float(spectra.min()), 3),
        "smallest_by_latent_median": round(float(spectra[:, -1].median()), 3),
        "median": round(float(spectra.median()), 2),
        "largest": round(float(spectra.max()), 1),
        "summed_error_png": round(expected_error(spectra, PNG_NOISE), 5),
        "summed_error_noise_4_levels": round(expected_error(spectra, 4.0), 4),
        "summed_error_noise_8_levels": round(expected_error(spectra, 8.0), 4),
    }


def spread(images: Tensor) -> dict[str, float]:
    """Measure variety of (B, 3, 64, 64) uint8 images by distances per pixel value, in levels."""
    flat = images.float().flatten(1)
    distances = torch.cdist(flat, flat) / math.sqrt(flat.shape[1])
    distances.fill_diagonal_(math.inf)
    nearest = distances.min(dim=1).values
    away = distances[~torch.isinf(distances)]
    return {
        "pixel_sd": round(float(flat.std(dim=0).mean()), 2),
        "pair_rms_median": round(float(away.median()), 2),
        "nearest_rms_smallest": round(float(nearest.min()), 2),
        "nearest_rms_median": round(float(nearest.median()), 2),
    }


def measure_variety(generator: Draw, latents: Tensor) -> dict[str, Any]:
    """Compare the variety of generated and of drawn portraits."""
    with torch.no_grad():
        made = to_bytes(generator(latents))
    drawn = draw_set(len(latents), seed=77)
    gap = (made.float().mean(dim=0) - drawn.float().mean(dim=0)).abs().mean()
    sharpness = [float(i.float().diff(dim=3).abs().mean()) for i in (made, drawn)]
    return {
        "portraits": len(latents),
        "generated": spread(made),
        "drawn": spread(drawn),
        "mean_image_gap": round(float(gap), 2),
        "mean_step_between_neighbours": [round(value, 2) for value in sharpness],
    }


def approach(generator: Draw, target: Tensor, starts: int, steps: int) -> Tensor:
    """Descend by Adam from random starts, and return the closest latent (128,)."""
    latent = (0.5 * torch.randn(starts, LATENT)).requires_grad_(True)
    optimiser = torch.optim.Adam([latent], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        miss = (generator(latent) - target).square().flatten(1).sum(dim=1)
        (miss.sum() + 1e-2 * latent.square().sum()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return latent.detach()[miss.argmin()]


def refine(generator: Draw, latent: Tensor, target: Tensor, steps: int) -> tuple[Tensor, float]:
    """Improve a latent by Levenberg–Marquardt; also return the residual's RMS in levels."""

    def residual(z: Tensor) -> Tensor:
        with torch.no_grad():
            return ((generator(z[None])[0] - target) * LEVELS).flatten()

    damping, now = 1.0, residual(latent)
    for _ in range(steps):
        slope = jacobian(generator, latent)
        normal = slope.T @ slope
        trial = latent - torch.linalg.solve(normal + damping * torch.eye(LATENT), slope.T @ now)
        then = residual(trial)
        if then.norm() < now.norm():
            latent, now, damping = trial, then, damping * 0.1
        else:
            damping *= 30.0
    return latent, float(now.square().mean().sqrt())


def code_as(image: Tensor, form: str) -> Tensor:
    """Write (3, H, W) as a `png` or `jpeg75` file and read it back, in [-1, 1]."""
    levels = to_bytes(image)
    if form == "jpeg75":
        file = io.BytesIO()
        Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=75)
        levels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    return levels.float() / LEVELS - 1.0


def measure_inversion(generator: Draw, latents: Tensor, form: str) -> dict[str, Any]:
    """Invert coded portraits from random starts, knowing nothing of latents or coding."""
    cosines, residuals, began = [], [], time.perf_counter()
    for true in latents:
        with torch.no_grad():
            target = code_as(generator(true[None])[0], form)
        start = approach(generator, target, starts=4, steps=200)
        found, residual = refine(generator, start, target, steps=10)
        cosines.append(float(torch.cosine_similarity(found, true, dim=0)))
        residuals.append(residual)
    return {
        "portraits": len(cosines),
        "recipe": "4 starts, 200 Adam steps, 10 Levenberg-Marquardt steps",
        "share_cosine_0.99": sum(c >= 0.99 for c in cosines) / len(cosines),
        "cosine_median": round(statistics.median(cosines), 5),
        "cosine_smallest": round(min(cosines), 5),
        "residual_rms_median": round(statistics.median(residuals), 4),
        "seconds_each": round((time.perf_counter() - began) / len(cosines), 2),
    }


def measure(path: Path, jacobians: int, variety: int, inversions: int) -> dict[str, Any]:
    """Take every measurement of one exported generator."""
    torch.manual_seed(4)
    generator = load_program(path)
    parameters = sum(v.numel() for v in torch.export.load(str(path)).state_dict.values())
    found: dict[str, Any] = {
        "model": path.stem,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "parameters": parameters,
        "pt2_bytes": path.stat().st_size,
        "safetensors_bytes": path.with_suffix(".safetensors").stat().st_size,
        "time": measure_time(generator),
        "singular_values": measure_singular_values(generator, torch.randn(jacobians, LATENT)),
        "variety": measure_variety(generator, torch.randn(variety, LATENT)),
    }
    if inversions:
        latents = torch.randn(inversions, LATENT)
        for form in ("png", "jpeg75"):
            found[f"inversion_{form}"] = measure_inversion(generator, latents, form)
    return found


def main() -> None:
    """Measure one model and print JSON."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="faces")
    parser.add_argument("--jacobians", type=int, default=8)
    parser.add_argument("--variety", type=int, default=500)
    parser.add_argument("--invert", type=int, default=0, help="portraits to invert; seconds each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(here / f"{given.name}.pt2", given.jacobians, given.variety, given.invert)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
