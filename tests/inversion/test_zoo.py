"""Generators that nobody here wrote: same outputs, and their own pictures come back to their
latents.

Skipped where the zoo is absent. Few pictures each; `benchmarks/inversion.py` has the large numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from latentlog.inversion.distort import distort
from latentlog.inversion.forward import read_channel
from latentlog.inversion.picture import to_8bit
from latentlog.inversion.sandbox import ModelProcess, ModelSource
from tests.inversion.builders import cosine
from tests.inversion.zoo import MEMBERS, ZOO, build, export

pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason="../shared/zoo is absent")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("zoo")
    return {
        name: export(build(name), member.spec.latent_shape, folder / f"{name}.pt2")
        for name, member in MEMBERS.items()
    }


@contextmanager
def running(exported: dict[str, Path], name: str) -> Iterator[ModelProcess]:
    with ModelProcess.start(ModelSource.pt2(exported[name]), MEMBERS[name].spec) as model:
        yield model


def latents_of(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Draw latents in the model's coordinates, and their Gaussian."""
    rng = np.random.default_rng(20)
    spec = MEMBERS[name].spec
    if spec.prior == "normal":
        z = rng.standard_normal((count, spec.dim)).astype(np.float32)
        return z, z.astype(np.float64)
    z = rng.uniform(-1, 1, (count, spec.dim)).astype(np.float32)
    return z, ndtri((z.astype(np.float64) + 1) / 2)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_archive_gives_the_references(exported: dict[str, Path], name: str) -> None:
    reference = np.load(ZOO / name / f"{MEMBERS[name].weights}_reference.npz")
    with running(exported, name) as model:
        images = model.generate(reference["z"].reshape(len(reference["z"]), -1))
    assert np.allclose(images, reference["x"].reshape(images.shape), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "point", "count", "needed"),
    [
        ("face32-dcgan-fl", {"distortion": "png"}, 12, 0.99),
        ("face32-dcgan-fl", {"distortion": "jpeg", "strength": 90}, 8, 0.95),
        ("face32-dcgan-fl", {"distortion": "resize", "strength": 0.75}, 4, 0.9),
        ("anime64-dcgan-sb", {"distortion": "png"}, 2, 0.995),
        ("anime64-dcgan-sb", {"distortion": "jpeg", "strength": 75}, 2, 0.99),
        ("mnist28-dcgan", {"distortion": "png"}, 6, 0.98),
        ("mnist28-vae", {"distortion": "png"}, 8, 0.99),
        ("mnist28-vae", {"distortion": "jpeg", "strength": 75}, 8, 0.98),
    ],
)
def test_own_pictures_come_back_to_their_latents(
    exported: dict[str, Path], name: str, point: dict[str, object], count: int, needed: float
) -> None:
    spec = MEMBERS[name].spec
    latents, gaussian = latents_of(name, count)
    with running(exported, name) as model:
        shape = model.description.output_shape
        images = to_8bit(model.generate(latents), spec.lo, spec.hi).transpose(0, 2, 3, 1)
        observations = [read_channel(distort(pixels, point), shape).observe() for pixels in images]
        found = model.invert(observations)
    scores = [cosine(f.gaussian, g) for f, g in zip(found, gaussian, strict=True)]
    assert np.median(scores) > needed
    assert np.mean([f.at_floor for f in found]) >= 0.75
