"""The range channel: the band of a model's own pictures, and whether others fall outside it."""

import numpy as np
import pytest

from latentlog.evidence.calibration import reach_band
from latentlog.evidence.measure import Reading, invert_all, read_medium
from latentlog.evidence.reach import composite
from latentlog.inversion.result import InversionPlan
from latentlog.ledger.keystream import Schedule, normal
from latentlog.ledger.outputs import to_8bit
from tests.evidence.linear import DIM, SHAPE, LinearGenerator, png

RECOVERED = (0.999,)
FAILED = (0.1,)


def test_a_composite_is_the_left_of_one_and_the_right_of_another() -> None:
    left = np.zeros((4, 6, 3), np.uint8)
    joined = composite(left, left + 9)
    assert joined[:, :3].max() == 0
    assert joined[:, 3:].min() == 9


def test_the_band_lies_past_the_recovered_controls() -> None:
    residuals = tuple(np.linspace(0.98, 1.02, 100))
    band = reach_band(residuals, RECOVERED * 100, 100)
    assert 1.02 < band < 1.10


def test_inversions_that_failed_do_not_widen_the_band() -> None:
    residuals = tuple(np.linspace(0.98, 1.02, 90)) + (40.0,) * 10
    with_failures = reach_band(residuals, RECOVERED * 90 + FAILED * 10, 100)
    assert with_failures < 1.10


def test_where_nothing_is_recovered_the_band_is_that_of_all() -> None:
    assert reach_band((1.0, 5.0), FAILED * 2, 100) > 5.0


def test_own_pictures_lie_in_the_band_and_composites_and_noise_outside() -> None:
    model = LinearGenerator()
    latents = Schedule(bytes(32), DIM).latents(0, 60)
    pixels = to_8bit(model.generate(normal(latents)), 0.0, 1.0).transpose(0, 2, 3, 1)

    def residuals(pictures: list) -> list[float]:  # type: ignore[type-arg]
        readings: list[Reading] = [read_medium(png(p), SHAPE) for p in pictures]
        return [x.inversion.residual for x in invert_all(model, readings, InversionPlan())]

    own = residuals(list(pixels))
    band = reach_band(tuple(own[:40]), RECOVERED * 40, DIM)
    assert all(r <= band for r in own[40:])
    foreign = residuals([composite(pixels[2 * i], pixels[2 * i + 1]) for i in range(10)])
    assert all(r > band for r in foreign)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert residuals([noise])[0] > 50 * band


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_band_of_few_controls_exists(count: int) -> None:
    assert reach_band((1.0,) * count, RECOVERED * count, 100) == pytest.approx(1.02)
