"""The search against closed forms, and on a tiny decoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special

from latentlog.inversion.distort import distort
from latentlog.inversion.errors import UnsupportedModel
from latentlog.inversion.forward import Channel, Observation, read_channel
from latentlog.inversion.generator import Generator
from latentlog.inversion.invert import Inverter
from latentlog.inversion.levenberg import gauss_newton
from latentlog.inversion.objective import Likelihood, Model
from latentlog.inversion.picture import to_8bit
from latentlog.inversion.posterior import gaussian_posterior
from latentlog.inversion.prior import gaussian_moments, truncated_quantiles
from latentlog.inversion.result import GeneratorSpec, InversionPlan
from latentlog.inversion.transmit import Transmission
from tests.inversion.builders import TINY, LinearGenerator, TinyDecoder, cosine

CPU = torch.device("cpu")
# torch's own derivative rules still use the script compiler that torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


def inverter(network: torch.nn.Module, spec: GeneratorSpec) -> Inverter:
    generator: Generator = network.eval().requires_grad_(False)
    with torch.no_grad():
        shape = generator(torch.zeros(1, *spec.latent_shape)).shape
    return Inverter(generator, spec, (shape[1], shape[2], shape[3]), CPU)


# -- posterior -------------------------------------------------------------------------------


def test_the_normal_posterior_of_a_linear_model_is_the_closed_form() -> None:
    """z ~ N(0, 1), y = A z + noise: v = (AᵀA/s² + 1)⁻¹ Aᵀ y/s², and the model is exactly that."""
    network = LinearGenerator(10, (1, 8, 8))
    spec = GeneratorSpec(latent_shape=(10,), lo=0.0, hi=255.0)
    latent = np.random.default_rng(1).normal(size=10)
    image = network(torch.tensor(latent, dtype=torch.float32)[None])[0].detach().numpy()
    pixels = to_8bit(image, 0.0, 255.0).transpose(1, 2, 0)
    inside = (pixels > 0) & (pixels < 255)
    found = inverter(network, spec).invert(
        [Observation(pixels=pixels, channel=Channel(codec="png", size=(8, 8)))], InversionPlan()
    )[0]
    a = network.matrix.numpy().astype(np.float64).T[inside.ravel()]
    y = pixels.ravel()[inside.ravel()] - 128.0
    information = a.T @ a * 12.0
    expected = np.linalg.solve(information + np.eye(10), a.T @ y * 12.0)
    assert found.at_floor
    assert np.allclose(found.gaussian, expected, atol=3e-3)
    sd = np.sqrt(np.diag(np.linalg.inv(information + np.eye(10))))
    assert np.all(found.sd <= sd * 1.05)


@pytest.mark.parametrize(("mean", "sd"), [(0.3, 0.1), (0.99, 0.05), (1.4, 0.2), (-3.0, 0.5)])
def test_moments_of_the_uniform_prior_agree_with_quadrature(mean: float, sd: float) -> None:
    z = np.linspace(-1, 1, 400_001)[1:-1]
    weight = np.exp(-0.5 * ((z - mean) / sd) ** 2 + 0.5 * ((np.clip(mean, -1, 1) - mean) / sd) ** 2)
    g = special.ndtri((z + 1) / 2)
    expected = (weight * g).sum() / weight.sum()
    spread = math.sqrt((weight * (g - expected) ** 2).sum() / weight.sum())
    v, error = gaussian_moments("uniform", np.array([mean]), np.array([sd]))
    assert v[0] == pytest.approx(expected, abs=0.02 * max(1.0, abs(expected)))
    assert error[0] == pytest.approx(spread, rel=0.08)


def test_values_far_outside_the_box_stay_finite() -> None:
    values = truncated_quantiles(np.array([50.0, -1e6, 0.0]), np.array([0.01, 1.0, 1e-9]))
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 1.0
    assert values[0].min() > 0.99
    assert np.abs(values[2]).max() < 1e-6


def test_the_uniform_posterior_beats_clipping() -> None:
    """Protocol section 4: out-of-box values are used, not clipped; measured .973 against .919."""
    rng = np.random.default_rng(4)
    a = rng.normal(size=(60, 40)) * 0.8
    ours, theirs, gains = [], [], []
    for _ in range(20):
        g = rng.normal(size=40)
        z = 2 * special.ndtr(g) - 1
        y = a @ z + rng.normal(size=60) * 0.6
        information = a.T @ a / 0.36
        optimum = np.linalg.solve(information + 3 * np.eye(40), a.T @ y / 0.36)
        v, sd = gaussian_posterior("uniform", optimum, information)
        free = np.linalg.solve(information + 1e-9 * np.eye(40), a.T @ y / 0.36)
        clipped = special.ndtri((np.clip(free, -0.999, 0.999) + 1) / 2)
        ours.append(cosine(v, g))
        theirs.append(cosine(clipped, g))
        gains.append(np.mean(((v - g) / sd) ** 2))
    assert np.mean(ours) > np.mean(theirs) + 0.02
    assert 0.6 < np.mean(gains) < 1.6, "the reported error is the actual one"


# -- search ----------------------------------------------------------------------------------


def test_a_tiny_decoders_pictures_are_inverted_to_the_floor() -> None:
    network = TinyDecoder()
    search = inverter(network, TINY)
    latents = torch.randn(12, 24, generator=torch.Generator().manual_seed(2))
    images = network(latents).detach().numpy()
    for point, needed in (
        ({"distortion": "png"}, 0.99),
        ({"distortion": "jpeg", "strength": 90}, 0.98),
        ({"distortion": "jpeg", "strength": 75}, 0.95),
        ({"distortion": "resize", "strength": 0.75}, 0.98),
        ({"distortion": "resize+jpeg", "strength": [1.5, 85]}, 0.98),
    ):
        files = [distort(to_8bit(x, -1, 1).transpose(1, 2, 0), point) for x in images]
        observations = [read_channel(f, (3, 16, 16)).observe() for f in files]
        found = search.invert(observations, InversionPlan())
        scores = [
            cosine(f.gaussian, z) for f, z in zip(found, latents.double().numpy(), strict=True)
        ]
        assert np.median(scores) > needed, point
        assert np.mean([f.at_floor for f in found]) >= 0.9, point
        assert all(0.3 < f.residual < 2.0 for f in found)


def test_a_gray_copy_of_a_colour_picture_is_inverted() -> None:
    network = TinyDecoder()
    latent = torch.randn(1, 24, generator=torch.Generator().manual_seed(3))
    image = network(latent).detach().numpy()[0]
    file = distort(to_8bit(image, -1, 1).transpose(1, 2, 0), {"distortion": "gray"})
    found = inverter(network, TINY).invert(
        [read_channel(file, (3, 16, 16)).observe()], InversionPlan()
    )[0]
    assert cosine(found.gaussian, latent[0].double().numpy()) > 0.98


def test_a_picture_of_another_model_misses_the_floor() -> None:
    stranger = TinyDecoder(seed=9).eval()
    with torch.no_grad():
        image = stranger(torch.randn(1, 24, generator=torch.Generator().manual_seed(1))).numpy()[0]
    file = distort(to_8bit(image, -1, 1).transpose(1, 2, 0), {"distortion": "png"})
    plan = InversionPlan(max_starts=5)
    found = inverter(TinyDecoder(), TINY).invert([read_channel(file, (3, 16, 16)).observe()], plan)[
        0
    ]
    assert not found.at_floor
    assert found.residual > 3.0
    assert found.stop in ("converged", "steps")
    assert 1 < len(found.attempts) <= plan.max_starts


def test_results_do_not_depend_on_the_neighbours_and_repeat() -> None:
    network = TinyDecoder()
    latents = torch.randn(3, 24, generator=torch.Generator().manual_seed(6))
    images = network(latents).detach().numpy()
    files = [
        distort(to_8bit(x, -1, 1).transpose(1, 2, 0), {"distortion": "jpeg", "strength": 80})
        for x in images
    ]
    observations = [read_channel(f, (3, 16, 16)).observe() for f in files]
    together = inverter(network, TINY).invert(observations, InversionPlan())
    again = inverter(network, TINY).invert(observations, InversionPlan())
    alone = inverter(network, TINY).invert(observations[1:2], InversionPlan())[0]
    for a, b in zip(together, again, strict=True):
        assert np.array_equal(a.latent, b.latent)
    # A batch of another size may round differently, no more.
    assert cosine(together[1].latent, alone.latent) > 0.999


def test_pictures_through_different_channels_share_a_call() -> None:
    network = TinyDecoder()
    latents = torch.randn(4, 24, generator=torch.Generator().manual_seed(8))
    images = network(latents).detach().numpy()
    points = [
        {"distortion": "png"},
        {"distortion": "jpeg", "strength": 90},
        {"distortion": "resize", "strength": 1.5},
        {"distortion": "png"},
    ]
    observations = [
        read_channel(distort(to_8bit(x, -1, 1).transpose(1, 2, 0), p), (3, 16, 16)).observe()
        for x, p in zip(images, points, strict=True)
    ]
    steps: list[object] = []
    found = inverter(network, TINY).invert(observations, InversionPlan(), on_step=steps.append)
    assert steps
    for f, z, o in zip(found, latents.double().numpy(), observations, strict=True):
        assert f.channel == o.channel
        assert cosine(f.gaussian, z) > 0.97


def test_exact_jacobians_and_difference_quotients_agree() -> None:
    network = TinyDecoder().eval().requires_grad_(False)
    line = Transmission(Channel(codec="png", size=(16, 16)), (3, 16, 16), -1.0, 1.0, CPU)
    model = Model(network, TINY, line, 1 << 20)
    z = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    exact = model.tangents(z, line.linear)
    assert not model.differences
    model.differences = True
    quotients = model.tangents(z, line.linear)
    assert exact.shape == (3, 24, 768)
    assert float((exact - quotients).norm() / exact.norm()) < 0.02


def test_operators_without_forward_derivatives_fall_back_to_quotients() -> None:
    class Warped(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            grid = torch.linspace(-1, 1, 8)
            base = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1)
            flow = base + 0.2 * torch.tanh(z[:, None, None, :2])
            image = (base.prod(-1) + z[:, 2, None, None] * base.sum(-1))[:, None]
            return torch.nn.functional.grid_sample(image, flow, align_corners=True)

    line = Transmission(Channel(codec="png", size=(8, 8)), (1, 8, 8), -1.0, 1.0, CPU)
    model = Model(Warped(), GeneratorSpec(latent_shape=(3,)), line, 1 << 20)
    slope = model.tangents(torch.randn(2, 3), line.linear)
    assert model.differences
    assert bool(torch.isfinite(slope).all())


def test_a_row_never_gets_worse() -> None:
    network = TinyDecoder().eval().requires_grad_(False)
    line = Transmission(Channel(codec="png", size=(16, 16)), (3, 16, 16), -1.0, 1.0, CPU)
    model = Model(network, TINY, line, 1 << 24)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    observation = Observation(pixels=pixels, channel=line.channel)
    likelihood = Likelihood(model, [line.target(observation)], walls=False)
    z = torch.randn(6, 24, generator=torch.Generator().manual_seed(1))
    rows = torch.zeros(6, dtype=torch.long)
    before = likelihood.residual(z, rows).square().sum(-1)
    fit = gauss_newton(likelihood, z, rows, precision=1.0, steps=6)
    assert bool((fit.residual.square().sum(-1) <= before).all())


def test_a_model_that_overflows_far_from_the_origin_does_not_break_the_search() -> None:
    class Overflowing(TinyDecoder):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            image = super().forward(z)
            return torch.where(z.abs().amax(1)[:, None, None, None] > 2.2, float("inf"), image)

    network = Overflowing()
    latent = torch.randn(2, 24, generator=torch.Generator().manual_seed(12)).clamp(-2, 2)
    images = network(latent).detach().numpy()
    observations = [
        read_channel(
            distort(to_8bit(x, -1, 1).transpose(1, 2, 0), {"distortion": "png"}), (3, 16, 16)
        ).observe()
        for x in images
    ]
    found = inverter(network, TINY).invert(observations, InversionPlan(max_starts=5))
    assert all(np.isfinite(f.gaussian).all() and np.isfinite(f.residual) for f in found)


def test_models_with_too_many_coordinates_are_refused() -> None:
    spec = GeneratorSpec(latent_shape=(3, 64, 64))
    search = Inverter(lambda z: z, spec, (3, 64, 64), CPU)
    observation = Observation(
        pixels=np.zeros((64, 64, 3), np.uint8), channel=Channel(codec="png", size=(64, 64))
    )
    with pytest.raises(UnsupportedModel, match="too many"):
        search.invert([observation], InversionPlan())
