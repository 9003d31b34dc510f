"""Hostile and unusual pictures: each is either read exactly, or refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from latentlog.inversion.errors import (
    PictureTooLarge,
    UnreadablePicture,
    UnsupportedPicture,
)
from latentlog.inversion.picture import read_picture, to_8bit

PIXELS = np.random.default_rng(3).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(header: bytes, body: bytes) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", body)
        + png_chunk(b"IEND", b"")
    )


def test_png_and_bmp_and_lossless_webp_give_the_same_pixels() -> None:
    image = Image.fromarray(PIXELS)
    for data in (saved(image), saved(image, "BMP"), saved(image, "WEBP", lossless=True)):
        picture = read_picture(data)
        assert np.array_equal(picture.pixels, PIXELS)
        assert picture.mode == "RGB"
        assert picture.size == (20, 12)


def test_gray_palette_and_bilevel_are_read() -> None:
    gray = Image.fromarray(PIXELS[:, :, 0])
    assert np.array_equal(read_picture(saved(gray)).pixels[:, :, 0], PIXELS[:, :, 0])
    palette = Image.fromarray(PIXELS // 128 * 255).convert("P")
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read_picture(saved(palette)).pixels, expected)
    bilevel = read_picture(saved(gray.convert("1")))
    assert bilevel.pixels.shape == (12, 20, 1)
    assert set(np.unique(bilevel.pixels)) <= {0, 255}


def test_every_truncation_of_a_png_is_refused() -> None:
    data = saved(Image.fromarray(PIXELS))
    for length in (*range(0, len(data) - 40, 37), len(data) // 2):
        with pytest.raises(UnreadablePicture):
            read_picture(data[:length])


def test_a_truncated_jpeg_is_refused() -> None:
    data = saved(Image.fromarray(PIXELS), "JPEG")
    for length in (4, 100, len(data) // 2, len(data) - 10):
        with pytest.raises(UnreadablePicture):
            read_picture(data[:length])


def test_fifty_thousand_pixels_square_is_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    with pytest.raises(PictureTooLarge) as caught:
        read_picture(png(header, zlib.compress(bytes(1000))))
    assert caught.value.kind == "input"


def test_a_decompression_bomb_within_the_pixel_bound_is_refused() -> None:
    """A header of 64×64 whose data expands to 64 MB."""
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    bomb = png(header, zlib.compress(bytes(64 << 20), 9))
    try:
        picture = read_picture(bomb)
    except UnreadablePicture:
        return
    assert picture.pixels.shape == (64, 64, 3)


def test_the_bound_on_pixels_is_the_callers() -> None:
    with pytest.raises(PictureTooLarge):
        read_picture(saved(Image.fromarray(PIXELS)), max_pixels=100)


def test_animations_are_refused() -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        with pytest.raises(UnsupportedPicture, match="several frames"):
            read_picture(data)


def test_cmyk_is_refused() -> None:
    with pytest.raises(UnsupportedPicture):
        read_picture(saved(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"))


def test_sixteen_bits_are_refused_gray_and_colour() -> None:
    deep = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)
    with pytest.raises(UnsupportedPicture):
        read_picture(saved(deep))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    with pytest.raises(UnsupportedPicture, match="8-bit"):
        read_picture(png(header, zlib.compress(bytes(2 * (1 + 12)))))


def test_alpha_is_refused_unless_it_hides_nothing() -> None:
    alpha = np.full((12, 20, 1), 255, np.uint8)
    opaque = np.concatenate([PIXELS, alpha], axis=2)
    assert np.array_equal(read_picture(saved(Image.fromarray(opaque))).pixels, PIXELS)
    opaque[3, 4, 3] = 254
    with pytest.raises(UnsupportedPicture, match="transparent"):
        read_picture(saved(Image.fromarray(opaque)))
    palette = Image.fromarray(PIXELS).convert("P")
    with pytest.raises(UnsupportedPicture, match="transparent"):
        read_picture(saved(palette, transparency=int(np.asarray(palette)[0, 0])))


def test_exif_orientation_is_applied_and_blocks_forgotten() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(PIXELS), "JPEG", quality=95, exif=exif)
    picture = read_picture(data)
    assert picture.pixels.shape == (20, 12, 3)
    upright = read_picture(saved(Image.fromarray(PIXELS), "JPEG", quality=95))
    assert np.array_equal(picture.pixels, np.rot90(upright.pixels, -1))
    assert picture.jpeg is None
    assert upright.jpeg is not None


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"GIF89a", b"\xff\xd8\xff", b"PK\x03\x04"]
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePicture):
        read_picture(data)


def test_the_name_of_the_format_comes_from_the_bytes() -> None:
    assert read_picture(saved(Image.fromarray(PIXELS), "JPEG")).format == "JPEG"


def test_other_decoders_of_pillow_are_out_of_reach() -> None:
    for kind in ("TIFF", "PPM", "ICO", "TGA"):
        with pytest.raises(UnreadablePicture):
            read_picture(saved(Image.fromarray(PIXELS), kind))


def test_random_damage_never_leaks_another_exception() -> None:
    rng = np.random.default_rng(5)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        data = bytearray(saved(Image.fromarray(PIXELS), kind))
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), 3):
                broken[at] = rng.integers(0, 256)
            try:
                read_picture(bytes(broken))
            except UnreadablePicture:
                continue


def test_eight_bits_are_rounded_half_to_even_and_clamped() -> None:
    values = np.array([-9.0, 0.5, 1.5, 2.5, 254.5, 255.4, 999.0], dtype=np.float32)
    assert to_8bit(values, 0.0, 255.0).tolist() == [0, 0, 2, 2, 254, 255, 255]
    assert to_8bit(np.array([-1.0, 0.0, 1.0], np.float32), -1.0, 1.0).tolist() == [0, 128, 255]


def test_a_jpeg_that_repeats_its_last_scan_is_refused_before_it_is_decoded() -> None:
    """Each scan of a progressive JPEG costs a pass over the picture; 33 bytes buy one."""
    gray = Image.fromarray(np.zeros((64, 64), np.uint8))
    whole = saved(gray, "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnreadablePicture, match="too many scans"):
        read_picture(whole[:-2] + scan * 200 + whole[-2:])
