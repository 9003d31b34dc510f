"""Latents that a pipeline logged by its seed, drawn again from the generator's name and seed.

Good enough to compare and to replay: torch's own vectorised logarithm differs from numpy's in the
last bit of some values. A generator that is not listed here cannot be compared with, and an
examination says so by name. Promise 1 does not apply to any of them: a seed has 32 bits.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Below this torch draws one value at a time, by another method.
_TORCH_VECTORISED: Final = 16
_MAX_VALUES: Final = 1 << 26


def draw_again(content: Mapping[str, Any], dim: int) -> Floats | None:
    """Return the normal latent (dim,) of an opened `seed` field, or None where it cannot be drawn.

    {"rng": "torch.cpu", "seed": "42", "shape": [1, 100], "latent": "9f86…"}
    """
    try:
        draw = _GENERATORS[content["rng"]]
        seed, size = int(content["seed"]), math.prod(int(n) for n in content["shape"])
    except (KeyError, TypeError, ValueError):
        return None
    if size != dim or not 0 <= seed < 1 << 64 or size > _MAX_VALUES:
        return None
    return draw(seed, size)


def _torch_cpu(seed: int, size: int) -> Floats | None:
    """Draw what `torch.randn(size, generator=Generator().manual_seed(seed))` draws on a CPU."""
    if size < _TORCH_VECTORISED:
        return None
    # torch seeds its Mersenne twister with the lower 32 bits, and uses 24 bits of each word.
    source = np.random.RandomState(seed & 0xFFFFFFFF)
    values = _uniform24(source, size)
    whole = size - size % _TORCH_VECTORISED
    values[:whole] = _box_muller(values[:whole])
    if whole != size:
        values[-_TORCH_VECTORISED:] = _box_muller(_uniform24(source, _TORCH_VECTORISED))
    return values.astype(np.float64)


def _uniform24(source: np.random.RandomState, size: int) -> npt.NDArray[np.float32]:
    words = np.frombuffer(source.bytes(4 * size), dtype="<u4")
    return (words & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)


def _box_muller(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn blocks of 8 + 8 uniforms into 16 normals."""
    blocks = values.reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - blocks[:, 0]))
    angle = np.float32(2.0 * math.pi) * blocks[:, 1]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both.reshape(-1).astype(np.float32)


def _numpy_pcg64(seed: int, size: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(size)


def _numpy_mt19937(seed: int, size: int) -> Floats | None:
    return np.random.RandomState(seed).standard_normal(size) if seed < 1 << 32 else None


_GENERATORS: Final[dict[str, Callable[[int, int], Floats | None]]] = {
    "torch.cpu": _torch_cpu,
    "numpy.pcg64": _numpy_pcg64,
    "numpy.mt19937": _numpy_mt19937,
}
