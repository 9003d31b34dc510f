"""The coefficient reader against the codec: rebuilding the picture from the levels gives its
pixels.
"""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageFilter

from latentlog.inversion.errors import UnreadablePicture
from latentlog.inversion.jpeg import read_coefficients
from latentlog.inversion.picture import read_picture
from latentlog.inversion.transmit import dct_matrix


def scene(size: tuple[int, int], mode: str) -> Image.Image:
    noise = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.5)), np.float64)
    strong = np.clip((smooth - 128) * 4 + 128, 0, 255).astype(np.uint8)
    return Image.fromarray(strong).convert(mode)


def coded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def rebuild(levels: np.ndarray, table: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
    rows, columns, _ = levels.shape
    blocks = (levels * np.array(table)).reshape(rows, columns, 8, 8)
    basis = dct_matrix()
    pixels = basis.T @ blocks @ basis + 128.0
    return pixels.transpose(0, 2, 1, 3).reshape(rows * 8, columns * 8)


@pytest.mark.parametrize("size", [(16, 16), (28, 28), (45, 37)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_levels_rebuild_the_luma_plane(size: tuple[int, int], mode: str) -> None:
    for quality, progressive, sampling in product((60, 92), (False, True), (0, 1, 2)):
        data = coded(
            scene(size, mode), quality=quality, progressive=progressive, subsampling=sampling
        )
        picture = read_picture(data)
        assert picture.jpeg is not None
        luma = rebuild(read_coefficients(data)[0], picture.jpeg.tables[0])
        cropped = np.clip(np.rint(luma[: size[0], : size[1]]), 0, 255)
        # libjpeg's integer inverse transform rounds differently by at most one level.
        assert np.abs(cropped - picture.jpeg.luma).max() <= 1


def test_progressive_and_baseline_store_the_same_levels() -> None:
    image = scene((40, 24), "RGB")
    plain, progressive = (coded(image, quality=80, progressive=p) for p in (False, True))
    for a, b in zip(read_coefficients(plain), read_coefficients(progressive), strict=True):
        assert np.array_equal(a, b)


def test_restart_markers_are_followed() -> None:
    image = scene((40, 40), "RGB")
    with_markers = coded(image, quality=80, restart_marker_blocks=2)
    assert b"\xff\xd0" in with_markers
    expected = read_coefficients(coded(image, quality=80))
    for a, b in zip(read_coefficients(with_markers), expected, strict=True):
        assert np.array_equal(a, b)


def test_damage_is_refused_and_never_another_exception() -> None:
    rng = np.random.default_rng(11)
    for progressive in (False, True):
        data = coded(scene((32, 32), "RGB"), quality=85, progressive=progressive)
        for cut in range(0, len(data), 53):
            with pytest.raises(UnreadablePicture):
                read_coefficients(data[:cut])
        for _ in range(150):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), 4):
                broken[at] = rng.integers(0, 256)
            try:
                read_coefficients(bytes(broken))
            except UnreadablePicture:
                continue
