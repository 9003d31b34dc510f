"""Forward maps and noise against Pillow's real codecs: the true image misses its file by one noise
level.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from latentlog.inversion.distort import distort
from latentlog.inversion.errors import InversionError, WrongFormat
from latentlog.inversion.forward import FILTERS, Channel, Observed, read_channel
from latentlog.inversion.picture import read_picture, to_8bit
from latentlog.inversion.transmit import Transmission, miss, resize_matrix

CPU = torch.device("cpu")


def scene(size: int, *, channels: int = 3, saturated: bool = False) -> np.ndarray:  # type: ignore[type-arg]
    """A picture with structure at every scale, as floats in [-1, 1], (C, H, W)."""
    rng = np.random.default_rng(size + channels)
    layers = [
        ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), radius) * radius * 2.5
        for radius in (0.7, 2.0, 5.0)
        for _ in range(channels)
    ]
    field = np.stack([sum(layers[c::channels]) for c in range(channels)])
    return np.tanh(field * (6.0 if saturated else 0.6)).astype(np.float32)


def pixels_of(image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return to_8bit(image, -1.0, 1.0).transpose(1, 2, 0)


def misfit(image: np.ndarray, observed: Observed, channel: Channel) -> torch.Tensor:  # type: ignore[type-arg]
    line = Transmission(channel, image.shape, -1.0, 1.0, CPU)
    target = line.target(observed.observe(channel))
    features = line.features(torch.from_numpy(image)[None])
    return miss(features, target.value, target.low, target.high)[0]


def rms(residual: torch.Tensor) -> float:
    return float(residual.square().mean().sqrt())


def test_a_png_misses_its_image_by_its_rounding() -> None:
    image = scene(40)
    observed = read_channel(distort(pixels_of(image), {"distortion": "png"}), image.shape)
    (channel,) = observed.candidates
    assert channel == Channel(codec="png", size=(40, 40))
    assert rms(misfit(image, observed, channel)) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kernel", FILTERS)
@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2.0])
@pytest.mark.parametrize("saturated", [False, True])
def test_a_resized_png_names_its_kernel_and_misses_by_its_rounding(
    kernel: str, factor: float, saturated: bool
) -> None:
    image = scene(32, saturated=saturated)
    point = {"distortion": "resize", "strength": factor, "filter": kernel}
    observed = read_channel(distort(pixels_of(image), point), image.shape)
    misfits = {c.resize: rms(misfit(image, observed, c)) for c in observed.candidates}
    best = min(misfits, key=misfits.__getitem__)
    assert best == kernel
    assert misfits[best] < 1.1
    if not saturated:
        assert misfits[best] > 0.9


@pytest.mark.parametrize("kernel", FILTERS)
def test_resize_matrices_are_pillows(kernel: str) -> None:
    rng = np.random.default_rng(1)
    for before, after in ((28, 21), (21, 28), (32, 7), (7, 40), (64, 63)):
        row = rng.uniform(0, 255, before).astype(np.float32)
        image = Image.fromarray(np.tile(row, (3, 1)))
        resized = np.asarray(image.resize((after, 3), getattr(Image.Resampling, kernel.upper())))
        expected = resize_matrix(before, after, kernel) @ row  # type: ignore[arg-type]
        assert np.allclose(resized[1], expected, atol=0.02)


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("size", [32, 28, 45])
@pytest.mark.parametrize("quality", [95, 75, 30])
def test_a_jpegs_true_image_lies_in_its_quantisation_cells(
    sampling: int, size: int, quality: int
) -> None:
    image = scene(size)
    point = {"distortion": "jpeg", "strength": quality, "subsampling": sampling}
    observed = read_channel(distort(pixels_of(image), point), image.shape)
    (channel,) = observed.candidates
    line = Transmission(channel, image.shape, -1.0, 1.0, CPU)
    target = line.target(observed.observe())
    residual = misfit(image, observed, channel)
    outside = (residual.abs() - target.half).clamp(min=0) / line.edge
    assert float(outside.max()) < 5.0, "a coefficient lies outside its cell by more than the noise"
    nonzero = residual[~target.weak]
    assert rms(nonzero) == pytest.approx(1.0, abs=0.12)


def test_a_gray_jpeg_of_a_colour_model_and_a_colour_jpeg_of_a_gray_model() -> None:
    image = scene(32)
    file = distort(pixels_of(image), {"distortion": "gray+jpeg", "strength": [0, 85]})
    observed = read_channel(file, image.shape)
    assert observed.candidates[0].gray
    assert rms(misfit(image, observed, observed.candidates[0])) < 1.1

    single = scene(32, channels=1)
    colour = np.repeat(pixels_of(single), 3, axis=2)
    observed = read_channel(distort(colour, {"distortion": "jpeg", "strength": 85}), single.shape)
    assert observed.pixels.shape == (32, 32, 1)
    assert len(observed.candidates[0].tables) == 1
    assert rms(misfit(single, observed, observed.candidates[0])) < 1.1


def test_a_resized_gray_jpeg() -> None:
    image = scene(32)
    point = {"distortion": "resize+gray+jpeg", "strength": [0.75, 0, 80]}
    observed = read_channel(distort(pixels_of(image), point), image.shape)
    bicubic = next(c for c in observed.candidates if c.resize == "bicubic")
    assert rms(misfit(image, observed, bicubic)) < 1.1


def test_coefficients_estimated_from_pixels_are_nearly_those_of_the_file() -> None:
    image = scene(32)
    observed = read_channel(
        distort(pixels_of(image), {"distortion": "jpeg", "strength": 85, "subsampling": 0}),
        image.shape,
    )
    channel = observed.candidates[0]
    line = Transmission(channel, image.shape, -1.0, 1.0, CPU)
    exact = line.target(observed.observe())
    observation = observed.observe()
    without = type(observation)(pixels=observation.pixels, channel=channel)
    estimated = line.target(without)
    same = (exact.value - estimated.value).abs() < 1e-3
    assert float(same.float().mean()) > 0.97


def test_transmitted_pixels_are_those_of_the_file() -> None:
    image = scene(32)
    for point in (
        {"distortion": "png"},
        {"distortion": "gray"},
        {"distortion": "resize", "strength": 0.75},
    ):
        observed = read_channel(distort(pixels_of(image), point), image.shape)
        line = Transmission(observed.candidates[0], image.shape, -1.0, 1.0, CPU)
        expected = line.pixels(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
        assert np.abs(expected - observed.pixels).max() < 2.0


def test_the_map_to_features_is_linear_where_nothing_saturates() -> None:
    image = torch.from_numpy(scene(32))[None] * 0.5
    for point in ({"distortion": "jpeg", "strength": 60}, {"distortion": "resize", "strength": 2}):
        observed = read_channel(distort(pixels_of(image[0].numpy()), point), (3, 32, 32))
        line = Transmission(observed.candidates[0], (3, 32, 32), -1.0, 1.0, CPU)
        change = 0.01 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
        slope = line.linear(line.scale * change)
        difference = line.features(image + change) - line.features(image)
        assert torch.allclose(slope, difference, atol=2e-3)


@pytest.mark.parametrize("size", [(32, 30), (40, 32), (600, 600), (3, 3)])
def test_shapes_that_no_resize_explains_are_refused(size: tuple[int, int]) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    with pytest.raises(WrongFormat):
        read_channel(distort(pixels, {"distortion": "png"}), (3, 32, 32))


def test_a_colourful_picture_is_no_output_of_a_gray_model() -> None:
    file = distort(pixels_of(scene(32)), {"distortion": "jpeg", "strength": 90})
    with pytest.raises(WrongFormat, match="colours"):
        read_channel(file, (1, 32, 32))


def test_channels_survive_json_and_impossible_ones_do_not() -> None:
    image = scene(32)
    file = distort(pixels_of(image), {"distortion": "jpeg", "strength": 70})
    channel = read_channel(file, image.shape).candidates[0]
    assert Channel.from_json(channel.to_json()) == channel
    assert "JPEG" in channel.describe()
    for change in (
        {"codec": "gif"},
        {"size": [0, 4]},
        {"size": "x"},
        {"tables": [[1] * 63]},
        {"tables": [[0] * 64] * 3},
        {"sampling": [[9, 9]] * 3},
        {"resize": "nearest"},
        {"codec": "png"},
    ):
        with pytest.raises(WrongFormat):
            Channel.from_json({**channel.to_json(), **change})


def test_unknown_distortions_are_refused() -> None:
    with pytest.raises(InversionError):
        distort(np.zeros((4, 4, 3), np.uint8), {"distortion": "sepia", "strength": 1})


def test_lossy_webp_and_crops_are_made_for_controls() -> None:
    pixels = pixels_of(scene(32))
    assert read_picture(distort(pixels, {"distortion": "webp", "strength": 80})).format == "WEBP"
    cropped = read_picture(distort(pixels, {"distortion": "crop", "strength": 0.125}))
    assert cropped.size == (24, 24)
