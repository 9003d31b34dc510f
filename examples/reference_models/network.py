"""The generator of the reference models: 128 numbers to a portrait of 64×64 pixels.

One architecture serves both models; only their weights differ. `faces()` is the factory to name when the weights come
as safetensors: `--factory examples.reference_models.network:faces`.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

LATENT: Final = 128
WIDTHS: Final = (160, 112, 56, 28)
"""Channels at 4×4, 8×8, 16×16 and 32×32."""


class Generator(nn.Module):
    """Map latents (B, 128) to portraits (B, 3, 64, 64) in [-1, 1]."""

    def __init__(self, *, normalise: bool = False) -> None:
        """Build with batch normalisation for training, without it for use (see `fold`)."""
        super().__init__()
        self.widen = nn.Linear(LATENT, WIDTHS[0] * 16)
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)
            for a, b in zip(WIDTHS[:-1], WIDTHS[1:], strict=True)
        )
        self.norm = nn.ModuleList(
            nn.BatchNorm2d(width) if normalise else nn.Identity() for width in WIDTHS
        )
        self.paint = nn.Conv2d(WIDTHS[-1], 12, 3, padding=1)
        self.unfold = nn.PixelShuffle(2)
        self.smooth = nn.SiLU()

    def forward(self, latent: Tensor) -> Tensor:
        """Draw the portraits of `latent`."""
        x = self.widen(latent).view(-1, WIDTHS[0], 4, 4)
        x = self.smooth(self.norm[0](x))
        for grow, norm in zip(self.grow, list(self.norm)[1:], strict=True):
            x = self.smooth(norm(grow(x)))
        return self.unfold(self.paint(x)).tanh()  # (B, 3, 64, 64)


def faces() -> Generator:
    """Build the generator without normalisation layers, in evaluation mode."""
    return Generator().eval()
