"""Small models for the tests that need no zoo: a linear one with a closed-form inverse, and a tiny
decoder.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from latentlog.inversion.result import GeneratorSpec


class LinearGenerator(nn.Module):
    """x = mid + A z: the posterior of z given x is Gaussian and known."""

    def __init__(self, dim: int, shape: tuple[int, int, int], gain: float = 12.0) -> None:
        super().__init__()
        seed = torch.Generator().manual_seed(7)
        size = shape[0] * shape[1] * shape[2]
        self.shape = shape
        self.register_buffer("matrix", gain * torch.randn(dim, size, generator=seed))

    def forward(self, z: Tensor) -> Tensor:
        return (128.0 + z @ self.matrix).view(-1, *self.shape)


class TinyDecoder(nn.Module):
    """A seeded 16×16 decoder, transposed convolutions and batch norm, output in [-1, 1]."""

    def __init__(self, dim: int = 24, channels: int = 3, seed: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.widen = nn.Linear(dim, 32 * 16)
        self.norm = nn.BatchNorm2d(32)
        self.up = nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.out = nn.ConvTranspose2d(16, channels, 4, 2, 1)
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(1.6)
            self.norm.running_mean.normal_(0, 0.3)
            self.norm.running_var.uniform_(0.3, 1.5)
        self.eval()

    def forward(self, z: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.widen(z.flatten(1)).view(-1, 32, 4, 4)))
        return torch.tanh(self.out(nn.functional.leaky_relu(self.up(x), 0.2)))


TINY = GeneratorSpec(latent_shape=(24,))


def save(network: nn.Module, latent_shape: tuple[int, ...], path: Path) -> Path:
    """Save a network as `.pt2` with a dynamic batch."""
    batch = torch.export.Dim("batch", min=1)
    example = (torch.zeros(2, *latent_shape),)
    program = torch.export.export(network.eval(), example, dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def rewrite(
    source: Path,
    target: Path,
    change: Callable[[str, bytes], bytes | None],
    extra: dict[str, bytes] | None = None,
) -> Path:
    """Copy a `.pt2`, members changed or dropped by `change(name without root, bytes)`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0]
        for info in old.infolist():
            content = change(info.filename.removeprefix(root + "/"), old.read(info))
            if content is not None:
                new.writestr(info.filename, content)
        for name, content in (extra or {}).items():
            new.writestr(f"{root}/{name}", content)
    return target


def edit_json(source: Path, target: Path, member: str, edit: Callable[[dict], None]) -> Path:  # type: ignore[type-arg]
    """Copy a `.pt2` with one JSON member edited in place."""

    def change(name: str, content: bytes) -> bytes:
        if name != member:
            return content
        value = json.loads(content)
        edit(value)
        return json.dumps(value).encode()

    return rewrite(source, target, change)


def tensor_pickle(payload: object) -> bytes:
    """Return what torch.save would write for `payload`, as a `sample_inputs` member."""
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def cosine(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
    """Return the cosine of two vectors."""
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
