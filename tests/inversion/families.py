"""One small seeded network per family of decoders, to show that none needs a line of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from latentlog.inversion.result import GeneratorSpec


class DcganColumn(nn.Sequential):
    """Latents (B, 32, 1, 1); in-place activations; tanh."""

    def __init__(self) -> None:
        super().__init__(
            nn.ConvTranspose2d(32, 48, 4, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(True),
            nn.ConvTranspose2d(48, 24, 4, 2, 1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(True),
            nn.ConvTranspose2d(24, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )


class StyleLike(nn.Module):
    """A mapping network, modulated and demodulated grouped convolutions, bilinear upsampling,
    skips.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            nn.Linear(24, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2)
        )
        self.constant = nn.Parameter(torch.randn(1, 32, 4, 4))
        self.weights = nn.ParameterList(torch.randn(32, 32, 3, 3) for _ in range(2))
        self.styles = nn.ModuleList(nn.Linear(48, 32) for _ in range(2))
        self.colour = nn.ModuleList(nn.Conv2d(32, 3, 1) for _ in range(2))
        self.register_buffer("noise", torch.randn(1, 1, 16, 16), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z / z.pow(2).mean(1, keepdim=True).add(1e-8).sqrt() + 0.5 * z)
        x = self.constant.repeat(z.shape[0], 1, 1, 1)
        image = torch.zeros(z.shape[0], 3, 4, 4, device=z.device)
        for weight, style, colour in zip(self.weights, self.styles, self.colour, strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = F.leaky_relu(self.modulated(x, weight, 1 + 2 * style(w)), 0.2)
            image = F.interpolate(image, scale_factor=2.0, mode="nearest") + colour(x)
        return torch.tanh(image + 0.05 * self.noise)

    @staticmethod
    def modulated(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
        batch, width, height, _ = x.shape
        scaled = weight[None] * style[:, None, :, None, None]
        scaled = scaled * torch.rsqrt(scaled.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8)
        grouped = F.conv2d(
            x.reshape(1, batch * width, height, -1),
            scaled.reshape(batch * 32, width, 3, 3),
            padding=1,
            groups=batch,
        )
        return grouped.view(batch, 32, height, -1)


class LatentDiffusionDecoder(nn.Module):
    """Latents (B, 2, 4, 4); group norm, SiLU, attention, nearest upsampling; unbounded output in
    [0, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2, 32, 3, padding=1)
        self.norm = nn.GroupNorm(4, 32)
        self.query, self.key, self.value = (nn.Conv2d(32, 32, 1) for _ in range(3))
        self.blocks = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in range(2))
        self.leave = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.enter(z)
        h = self.norm(x)
        q, k, v = (f(h).flatten(2).transpose(1, 2) for f in (self.query, self.key, self.value))
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        for block in self.blocks:
            x = F.interpolate(x, scale_factor=2)
            x = x + F.silu(block(F.group_norm(x, 4)))
        return 0.5 + 0.4 * self.leave(F.silu(x))


class ResidualAttention(nn.Module):
    """Spectral norm, residual blocks, pixel shuffle, softmax attention by hand, uniform latents."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.widen = norm(nn.Linear(20, 32 * 16))
        self.mix = norm(nn.Conv2d(32, 32, 3, padding=1))
        self.focus = nn.Conv2d(32, 64, 1)
        self.shuffle = nn.Sequential(nn.Conv2d(32, 128, 3, padding=1), nn.PixelShuffle(2))
        self.paint = nn.Sequential(
            nn.PReLU(32), nn.Conv2d(32, 12, 3, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, z: Tensor) -> Tensor:
        x = 4.0 * self.widen(z).view(-1, 32, 4, 4)
        x = x + F.elu(self.mix(x))
        a, b = self.focus(x).flatten(2).chunk(2, dim=1)
        weights = torch.softmax(torch.bmm(a.transpose(1, 2), b) / 6.0, dim=-1)
        x = x + torch.bmm(x.flatten(2), weights).view_as(x)
        return torch.sigmoid(self.paint(self.shuffle(x)))


class NoGradWithSteps(nn.Module):
    """Exported under no_grad, with a detach, buffers, a lifted constant, and written slices."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 128), nn.GELU(), nn.Linear(128, 3 * 144))

    def forward(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.layers(z).detach()
        x = x.view(z.shape[0], 3, 12, 12) * torch.tensor([1.0, 0.9, 0.8]).view(1, 3, 1, 1)
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        x[:, :, 0] = 0.0
        return torch.tanh(x)


@dataclass(frozen=True)
class Family:
    """A network and how it is declared."""

    network: Callable[[], nn.Module]
    spec: GeneratorSpec


FAMILIES = {
    "dcgan-column": Family(DcganColumn, GeneratorSpec(latent_shape=(32, 1, 1))),
    "style-like": Family(StyleLike, GeneratorSpec(latent_shape=(24,))),
    "latent-decoder": Family(
        LatentDiffusionDecoder, GeneratorSpec(latent_shape=(2, 4, 4), lo=0.0, hi=1.0)
    ),
    "residual-attention": Family(
        ResidualAttention, GeneratorSpec(latent_shape=(20,), prior="uniform", lo=0.0, hi=1.0)
    ),
    "no-grad": Family(NoGradWithSteps, GeneratorSpec(latent_shape=(16,))),
}


def build(name: str) -> nn.Module:
    """Return a family's network with seeded weights that give its pictures contrast."""
    torch.manual_seed(11)
    network = FAMILIES[name].network()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.mul_(2.0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()
