"""Latents drawn again from logged seeds, against the generators that drew them."""

import numpy as np
import pytest

from latentlog.evidence.seeded import draw_again


@pytest.mark.parametrize("size", [16, 64, 100, 128, 1001])
@pytest.mark.parametrize("seed", [0, 42, 2**31 + 7])
def test_torch_on_a_cpu_is_drawn_again(size: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed)).numpy()
    again = draw_again({"rng": "torch.cpu", "seed": str(seed), "shape": [1, size]}, size)
    assert again is not None
    assert np.abs(again - drawn).max() < 1e-6


def test_numpy_is_drawn_again() -> None:
    content = {"rng": "numpy.pcg64", "seed": "7", "shape": [50]}
    again = draw_again(content, 50)
    assert again is not None
    assert np.array_equal(again, np.random.default_rng(7).standard_normal(50))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"rng": "torch.cuda", "seed": "1", "shape": [64]},
        {"rng": "torch.cpu", "seed": "x", "shape": [64]},
        {"rng": "torch.cpu", "seed": "1", "shape": [63]},
        {"rng": "torch.cpu", "seed": "-1", "shape": [64]},
        {"rng": "torch.cpu", "seed": "1", "shape": "64"},
        {"rng": ["torch.cpu"], "seed": "1", "shape": [64]},
    ],
)
def test_what_cannot_be_drawn_again_is_none(content: dict[str, object]) -> None:
    assert draw_again(content, 64) is None
