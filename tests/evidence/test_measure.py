"""What a file shows of its own history, as a point that an envelope can hold."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from latentlog.evidence.measure import jpeg_quality, observe, read_medium, spec_of
from latentlog.inversion.errors import InversionError
from tests.evidence.linear import SHAPE, view


def written(
    form: str, *, size: tuple[int, int] = (16, 16), mode: str = "RGB", **settings: Any
) -> bytes:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize(size).convert(mode).save(file, form, **settings)
    return file.getvalue()


def condition(content: bytes) -> tuple[str, float]:
    found = read_medium(content, SHAPE).condition
    return found.distortion, found.strength


def tables(quality: int) -> list[npt.NDArray[np.int64]]:
    picture = Image.open(io.BytesIO(written("JPEG", quality=quality)))
    own = picture.quantization  # type: ignore[attr-defined]
    return [np.asarray(own[i]) for i in (0, 1, 1)]


@pytest.mark.parametrize("quality", range(1, 101))
def test_the_quality_of_standard_tables_is_read_back(quality: int) -> None:
    assert jpeg_quality(tables(quality)) == quality
    assert jpeg_quality(tables(quality)[:1]) == quality


def test_another_programs_tables_have_the_quality_that_is_nowhere_finer() -> None:
    assert 70 <= jpeg_quality([table + 1 for table in tables(80)]) < 80


def test_one_coarse_step_makes_a_table_harsh_in_either_component() -> None:
    for component in range(3):
        own = tables(90)
        own[component][5] = 200
        assert jpeg_quality(own) < 30
        own[component][5] = 256
        assert jpeg_quality(own) == 0


@pytest.mark.parametrize(
    ("content", "point"),
    [
        (written("PNG"), ("png", 0.0)),
        (written("BMP"), ("png", 0.0)),
        (written("PNG", mode="P"), ("png", 0.0)),
        (written("JPEG", quality=83), ("jpeg", 83.0)),
        (written("JPEG", quality=83, subsampling=0), ("jpeg", 83.0)),
        (written("PNG", size=(12, 12)), ("resize", 0.75)),
        (written("PNG", size=(32, 32)), ("enlarge", 2.0)),
        (written("JPEG", size=(12, 12), quality=90), ("resize+jpeg", 90.0)),
        (written("PNG", mode="L"), ("gray", 0.0)),
        (written("JPEG", mode="L", quality=90), ("gray+jpeg", 90.0)),
        (written("WEBP"), ("webp", 0.0)),
        (written("GIF"), ("gif", 0.0)),
    ],
)
def test_the_condition_of_a_file(content: bytes, point: tuple[str, float]) -> None:
    assert condition(content) == point


@pytest.mark.parametrize("size", [(16, 10), (10, 16)])
def test_another_shape_has_no_condition(size: tuple[int, int]) -> None:
    with pytest.raises(InversionError):
        read_medium(written("PNG", size=size), SHAPE)


def test_a_jpeg_is_observed_by_its_own_coefficients() -> None:
    reading = read_medium(written("JPEG", quality=83), SHAPE)
    seen = observe(reading.observed, reading.observed.candidates[0])
    assert seen.coefficients is not None
    assert len(seen.coefficients) == 3
    plain = read_medium(written("PNG"), SHAPE)
    assert observe(plain.observed, plain.observed.candidates[0]).coefficients is None


def test_a_process_is_started_as_the_entry_says() -> None:
    spec = spec_of(view(prior="uniform", lo=-1.0, kind="flow", steps=8))
    assert (spec.prior, spec.lo, spec.hi, spec.kind, spec.steps) == (
        "uniform",
        -1.0,
        1.0,
        "flow",
        8,
    )
