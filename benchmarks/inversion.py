"""How well and how fast a model's own pictures come back to their latents, on one thread.

The baseline is descent alone (Adam, four starts, two hundred steps each, best kept), on the same
PNGs in the same run. Processor time is given beside wall time, because other programs share the
machine. Any model can be named; the reference model is the default.
"""

import argparse
import os

# One thread: two are slower on networks this small. The libraries read this when they load.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from common import rate_interval, report, result  # noqa: E402
from scipy.special import ndtri  # noqa: E402

from latentlog.inversion.archive import read_archive  # noqa: E402
from latentlog.inversion.distort import distort  # noqa: E402
from latentlog.inversion.forward import read_channel  # noqa: E402
from latentlog.inversion.generator import ProgramGenerator  # noqa: E402
from latentlog.inversion.invert import Inverter  # noqa: E402
from latentlog.inversion.picture import to_8bit  # noqa: E402
from latentlog.inversion.prior import draw  # noqa: E402
from latentlog.inversion.result import (  # noqa: E402
    GeneratorSpec,
    Inversion,
    InversionPlan,
    Observation,
)
from latentlog.inversion.sandbox import ModelProcess, ModelSource  # noqa: E402

FACES = Path(__file__).parents[1] / "examples" / "reference_models" / "faces.pt2"
POINTS: dict[str, dict[str, Any]] = {
    "png": {"distortion": "png"},
    "jpeg90": {"distortion": "jpeg", "strength": 90},
    "jpeg85": {"distortion": "jpeg", "strength": 85},
    "jpeg75": {"distortion": "jpeg", "strength": 75},
    "resize75": {"distortion": "resize", "strength": 0.75},
}
RECOVERED = 0.99
ADAM_STEPS, ADAM_STARTS = 200, 4


class Bench:
    """One model, its own pictures, and their true latents."""

    def __init__(self, path: Path, spec: GeneratorSpec, count: int) -> None:
        """Load the model and draw its pictures; nothing is timed yet."""
        torch.set_num_threads(1)
        archive = read_archive(path)
        self.path, self.spec = path, spec
        self.generator = ProgramGenerator(archive.program, archive.weights, torch.device("cpu"))
        seed = torch.Generator().manual_seed(20)
        self.latents = draw(spec.prior, count, spec.dim, seed)
        with torch.no_grad():
            images = self.generator(self.latents.reshape(-1, *spec.latent_shape)).numpy()
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        self.pixels = to_8bit(images, spec.lo, spec.hi).transpose(0, 2, 3, 1)
        exact = self.latents.double().numpy()
        self.gaussian = exact if spec.prior == "normal" else ndtri((exact + 1.0) / 2.0)

    def observations(self, point: dict[str, Any], count: int) -> list[Observation]:
        """Write the first pictures as files and read them back."""
        files = [distort(p, point) for p in self.pixels[:count]]
        return [read_channel(f, self.shape).observe() for f in files]

    def rows(self, name: str, point: dict[str, Any], count: int, inverter: Inverter) -> list[Any]:
        """Invert one point's files and return its rows."""
        observations = self.observations(point, count)
        wall, cpu = time.monotonic(), time.process_time()
        found = inverter.invert(observations, InversionPlan())
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        scores = self.scores(found)
        floor = sum(f.at_floor for f in found)
        good = int((scores >= RECOVERED).sum())
        target = 0.95 if name == "png" else None
        quartiles = np.quantile(scores, (0.25, 0.75))
        return [
            result(f"{name}_floor_rate", floor / count, "1", target=target,
                   interval=rate_interval(floor, count)),
            result(f"{name}_cosine_99_rate", good / count, "1", target=target,
                   interval=rate_interval(good, count)),
            result(f"{name}_cosine_median", float(np.median(scores)), "1",
                   interval=(float(quartiles[0]), float(quartiles[1]))),
            result(f"{name}_cpu_s", cpu / count, "s of processor time a picture"),
            result(f"{name}_wall_s", wall / count, "s a picture"),
        ]  # fmt: skip

    def scores(self, found: Sequence[Inversion]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return each inversion's cosine with the true Gaussian latent."""
        v = np.stack([f.gaussian for f in found])
        g = self.gaussian[: len(v)]
        dots = (v * g).sum(1)
        return np.asarray(dots / np.linalg.norm(v, axis=1) / np.linalg.norm(g, axis=1))

    def adam(self, count: int) -> list[Any]:
        """Invert PNGs by descent alone."""
        cpu, scores, levels = time.process_time(), [], []
        for index in range(count):
            target = torch.from_numpy(self.pixels[index].astype(np.float32)).permute(2, 0, 1)
            z = self._descend(target, torch.Generator().manual_seed(index))
            with torch.no_grad():
                rms = (self._levels(z) - target).square().flatten(1).mean(1).sqrt()
            best = int(rms.argmin())
            levels.append(float(rms[best]) * 12**0.5)
            scores.append(torch.cosine_similarity(z[best], self.latents[index], dim=0).item())
        cpu = (time.process_time() - cpu) / count
        return [
            result(
                "adam_cosine_median", float(np.median(scores)), "1 (in the model's coordinates)"
            ),
            result("adam_residual_median", float(np.median(levels)), "times the floor"),
            result("adam_cpu_s", cpu, "s of processor time a picture"),
        ]

    def _levels(self, z: torch.Tensor) -> torch.Tensor:
        images = self.generator(z.reshape(-1, *self.spec.latent_shape))
        return (images - self.spec.lo) * (255.0 / (self.spec.hi - self.spec.lo))

    def _descend(self, target: torch.Tensor, seed: torch.Generator) -> torch.Tensor:
        z = draw(self.spec.prior, ADAM_STARTS, self.spec.dim, seed).requires_grad_(True)
        optimiser = torch.optim.Adam([z], lr=0.05)
        for _ in range(ADAM_STEPS):
            optimiser.zero_grad()
            (self._levels(z) - target).square().mean((1, 2, 3)).sum().backward()
            optimiser.step()
        return z.detach()

    def start_up(self) -> list[Any]:
        """Time the start of the model's process."""
        seconds = []
        for _ in range(3):
            began = time.monotonic()
            ModelProcess.start(ModelSource.pt2(self.path), self.spec).close()
            seconds.append(time.monotonic() - began)
        seconds.sort()
        return [
            result("start_s", seconds[1], "s", target=3.0, at_least=False,
                   interval=(seconds[0], seconds[2]))
        ]  # fmt: skip


def main() -> None:
    """Measure every point, the baseline, and the start."""
    options = _options()
    shape = tuple(int(n) for n in options.latent_shape.split(","))
    lo, hi = (float(x) for x in options.range.split(","))
    spec = GeneratorSpec(latent_shape=shape, prior=options.prior, lo=lo, hi=hi)
    count = options.count or (8 if options.quick else 100)
    bench = Bench(options.model, spec, count)
    rows = bench.start_up()
    inverter = Inverter(bench.generator, spec, bench.shape, torch.device("cpu"))
    began = time.process_time()
    inverter.bank.samples()
    rows.append(result("encoder_samples_cpu_s", time.process_time() - began, "s a model, once"))
    for name, point in POINTS.items():
        rows += bench.rows(name, point, count, inverter)
    rows += bench.adam(min(count, 4 if options.quick else 20))
    report(rows, as_json=options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="smaller counts, wider intervals")
    parser.add_argument("--count", type=int, default=0, help="pictures a point")
    parser.add_argument("--model", type=Path, default=FACES, help="a .pt2 archive")
    parser.add_argument("--prior", choices=("normal", "uniform"), default="normal")
    parser.add_argument("--latent-shape", default="128", help="without the batch: 100 or 100,1,1")
    parser.add_argument("--range", default="-1,1", help="output values of black and white")
    return parser.parse_args()


if __name__ == "__main__":
    main()
