"""Models of any family register without a line changed: export, start, generate, invert."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from latentlog.inversion.archive import read_archive
from latentlog.inversion.distort import distort
from latentlog.inversion.forward import read_channel
from latentlog.inversion.generator import ProgramGenerator
from latentlog.inversion.picture import to_8bit
from latentlog.inversion.sandbox import ModelProcess, ModelSource
from tests.inversion.builders import cosine, save
from tests.inversion.families import FAMILIES, build


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_read_run_and_inverted(name: str, tmp_path: Path) -> None:
    spec = FAMILIES[name].spec
    network = build(name)
    rng = np.random.default_rng(3)
    latents = rng.uniform(-1, 1, (6, spec.dim)) if spec.prior == "uniform" else None
    z = (rng.normal(size=(6, spec.dim)) if latents is None else latents).astype(np.float32)
    shaped = z.reshape(-1, *spec.latent_shape)
    with torch.no_grad():
        expected = network(torch.from_numpy(shaped)).numpy()
    path = save(network, spec.latent_shape, tmp_path / f"{name}.pt2")
    with ModelProcess.start(ModelSource.pt2(path), spec) as model:
        images = model.generate(shaped)
        assert np.allclose(images, expected, atol=2e-5)
        pixels = to_8bit(images, spec.lo, spec.hi).transpose(0, 2, 3, 1)
        shape = model.description.output_shape
        observations = [
            read_channel(distort(p, {"distortion": "png"}), shape).observe() for p in pixels
        ]
        found = model.invert(observations)
    scores = [cosine(f.latent, t) for f, t in zip(found, z.astype(np.float64), strict=True)]
    assert np.median(scores) > 0.98
    assert np.mean([f.at_floor for f in found]) > 0.8


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_decomposed_exports_are_read_too(name: str, tmp_path: Path) -> None:
    """Exporters that lower a model to core operators first, or leave the batch to torch."""
    spec = FAMILIES[name].spec
    network = build(name)
    example = torch.randn(3, *spec.latent_shape, generator=torch.Generator().manual_seed(1))
    program = torch.export.export(
        network, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},)
    ).run_decompositions()
    torch.export.save(program, tmp_path / "lowered.pt2")
    archive = read_archive(tmp_path / "lowered.pt2")
    generator = ProgramGenerator(archive.program, archive.weights, torch.device("cpu"))
    with torch.no_grad():
        assert torch.allclose(generator(example.clone()), network(example), atol=1e-5)
    tangent = torch.randn(example.shape, generator=torch.Generator().manual_seed(2))
    _, slope = torch.func.jvp(generator.differentiable(), (example,), (tangent,))
    assert bool(torch.isfinite(slope).all())
    assert float(slope.abs().max()) > 0
