"""The generator of the reference models: 128 numbers to a portrait of 64×64 pixels.

One architecture serves both models; only their weights differ. `faces()` is the factory to name
where the weights come as safetensors. It has no normalisation layer: those of training are folded
into the weights beside them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

LATENT: Final = 128
WIDTHS: Final = (192, 96, 48, 24)
"""Channels at 4×4, 8×8, 16×16 and 32×32."""
REFINED: Final = (2, 3)
"""Stages that end with a residual convolution."""


class Stage(nn.Module):
    """Double the side, then refine by a residual convolution where asked to."""

    def __init__(self, wide: int, narrow: int, *, refine: bool, normalise: bool) -> None:
        """Build with batch normalisation for training, without it for use."""
        super().__init__()
        self.grow = nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)
        self.grow_norm = nn.BatchNorm2d(narrow) if normalise else nn.Identity()
        self.refine = nn.Conv2d(narrow, narrow, 3, padding=1) if refine else None
        self.refine_norm = nn.BatchNorm2d(narrow) if refine and normalise else nn.Identity()
        self.smooth = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, wide, S, S) to (B, narrow, 2S, 2S)."""
        x = self.smooth(self.grow_norm(self.grow(x)))
        if self.refine is None:
            return x
        added: Tensor = self.smooth(self.refine_norm(self.refine(x)))
        return x + added


class Generator(nn.Module):
    """Map latents (B, 128) to portraits (B, 3, 64, 64) in [-1, 1]."""

    def __init__(self, *, normalise: bool = False) -> None:
        """Build with batch normalisation for training, without it for use."""
        super().__init__()
        self.widen = nn.Linear(LATENT, WIDTHS[0] * 16)
        self.widen_norm = nn.BatchNorm2d(WIDTHS[0]) if normalise else nn.Identity()
        self.smooth = nn.SiLU()
        self.stages = nn.Sequential(
            *(
                Stage(wide, narrow, refine=level in REFINED, normalise=normalise)
                for level, (wide, narrow) in enumerate(pairwise(WIDTHS), start=1)
            )
        )
        self.paint = nn.Conv2d(WIDTHS[-1], 12, 3, padding=1)
        self.unfold = nn.PixelShuffle(2)

    def forward(self, latent: Tensor) -> Tensor:
        """Draw the portraits of `latent`."""
        x: Tensor = self.widen(latent).view(-1, 4, 4, WIDTHS[0])
        x = x.permute(0, 3, 1, 2)  # Channels last in memory: a quarter faster on CPUs.
        x = self.stages(self.smooth(self.widen_norm(x)))
        painted: Tensor = self.unfold(self.paint(x))
        return painted.tanh()  # (B, 3, 64, 64)


def faces() -> Generator:
    """Build the generator without normalisation layers, in evaluation mode."""
    return Generator().eval()


def fold(trained: Generator) -> Generator:
    """Return the same map without normalisation layers: each is folded into the layer before it."""
    plain = faces()
    with torch.no_grad():
        fold_layer(trained.widen, trained.widen_norm, plain.widen, WIDTHS[0])
        for old, new in zip(trained.stages, plain.stages, strict=True):
            assert isinstance(old, Stage)
            assert isinstance(new, Stage)
            fold_layer(old.grow, old.grow_norm, new.grow, new.grow.out_channels)
            if old.refine is not None and new.refine is not None:
                fold_layer(old.refine, old.refine_norm, new.refine, new.refine.out_channels)
        plain.paint.load_state_dict(trained.paint.state_dict())
    return plain


def fold_layer(layer: nn.Module, norm: nn.Module, into: nn.Module, channels: int) -> None:
    """Write `norm` after `layer` into the weights of `into`."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    repeat = len(bias) // channels  # 16 positions behind the linear layer, 1 elsewhere
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    shape = [1] * weight.dim()
    shape[axis] = -1
    wide_scale, wide_shift = scale.repeat(repeat), shift.repeat(repeat)
    into.get_parameter("weight").copy_(weight * wide_scale.view(shape))
    into.get_parameter("bias").copy_(bias * wide_scale + wide_shift)
