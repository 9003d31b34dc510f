"""Train one reference generator, adversarially, on procedural portraits.

Two phases: a variational autoencoder brings the generator near the portraits, then a discriminator
sharpens it. In the second phase an encoder must read the latent back from blurred, noisy, resized
and JPEG-coded portraits, so that every latent direction stays visible and the network cannot
collapse onto a few portraits.

`python examples/reference_models/train.py --name faces --seed 1 --steps 16000`
Runs resume from `OUT/NAME.pt`; the same seed, machine and versions give the same weights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from network import LATENT, Generator, fold
from portraits import SIDE, draw_set, save_grid, to_bytes
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

BATCH: Final = 32
WARMUP_NOISE: Final = 0.3
"""Standard deviation the autoencoder allows a pixel; small ones leave holes in the prior."""
RELAX: Final = (6000, 0.3)
"""From this step on the encoder's error weighs less: by then every direction is visible."""
PORTRAIT_SEED: Final = 20_240_601
JPEG_LUMA: Final = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 "
    "14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 "
    "49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
"""The luminance table of the JPEG standard's annex K, quality 50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one run depends on."""

    name: str
    seed: int
    steps: int
    warmup: int
    out: Path
    portraits: int
    latent_weight: float
    save_every: float


def shrink(
    widths: tuple[int, ...], normal: Callable[[nn.Module], nn.Module], batch: bool
) -> nn.Sequential:
    """Stack stride-2 convolutions from 64×64 to 4×4."""
    layers: list[nn.Module] = []
    for wide, narrow in zip((3, *widths[:-1]), widths, strict=True):
        layers.append(normal(nn.Conv2d(wide, narrow, 4, stride=2, padding=1)))
        if batch:
            layers.append(nn.BatchNorm2d(narrow))
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Read means and log variances of the latent from portraits."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.trunk = shrink((24, 48, 80, 144), lambda layer: layer, batch=True)
        self.mean = nn.Linear(144 * 16, LATENT)
        self.log_variance = nn.Linear(144 * 16, LATENT)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each (B, 128) float32."""
        features = self.trunk(images).flatten(1)
        return self.mean(features).float(), self.log_variance(features).float().clamp(-8.0, 4.0)


class Discriminator(nn.Module):
    """Score portraits; higher means more like a drawn one."""

    def __init__(self) -> None:
        """Build with spectral normalisation on every layer."""
        super().__init__()
        self.trunk = shrink((32, 64, 112, 160), spectral_norm, batch=False)
        self.mixed = spectral_norm(nn.Conv2d(161, 160, 3, padding=1))
        self.score = spectral_norm(nn.Linear(160 * 16, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B,) float32."""
        x = self.trunk(images)
        groups = x.view(-1, 8, *x.shape[1:]).float()
        spread = groups.var(dim=1, unbiased=False).add(1e-6).sqrt().mean(dim=(1, 2, 3))
        spread = spread.repeat_interleave(8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
        x = functional.leaky_relu(self.mixed(torch.cat([x, spread.to(x.dtype)], dim=1)), 0.2)
        score: Tensor = self.score(x.flatten(1))
        return score.float().squeeze(1)


def load_portraits(out: Path, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Map the drawn portraits from `out`, drawing them first where they are missing."""
    path = out / f"portraits-{PORTRAIT_SEED}-{count}.npy"
    if not path.exists():
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, draw_set(count, PORTRAIT_SEED).numpy())
        part.replace(path)
    mapped: np.ndarray[Any, np.dtype[np.uint8]] = np.load(path, mmap_mode="r")
    return mapped


def dct_matrix() -> Tensor:
    """Return the orthonormal 8-point DCT, (8, 8)."""
    k, n = torch.arange(8.0).view(8, 1), torch.arange(8.0).view(1, 8)
    basis = torch.cos(math.pi * (2.0 * n + 1.0) * k / 16.0) * 0.5
    basis[0] /= math.sqrt(2.0)
    return basis


def jpeg(images: Tensor, quality: float) -> Tensor:
    """Imitate JPEG with halved chroma; rounding passes gradients straight through."""
    basis = dct_matrix().to(images.device)
    table = torch.tensor([float(v) for v in JPEG_LUMA.split()], device=images.device).view(8, 8)
    scale = 50.0 / quality if quality < 50.0 else 2.0 - quality / 50.0
    step = (table * scale).clamp(min=1.0) / 127.5
    forward = torch.tensor(
        [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]]
    )
    ycc = torch.einsum("ij,bjhw->bihw", forward.to(images.device), images)
    chroma = functional.interpolate(functional.avg_pool2d(ycc[:, 1:], 2), scale_factor=2.0)
    ycc = torch.cat([ycc[:, :1], chroma], dim=1)
    blocks = ycc.reshape(-1, 3, SIDE // 8, 8, SIDE // 8, 8).permute(0, 1, 2, 4, 3, 5)
    coded = (basis @ blocks @ basis.T) / step
    coded = (coded + (coded.round() - coded).detach()) * step
    blocks = basis.T @ coded @ basis
    ycc = blocks.permute(0, 1, 2, 4, 3, 5).reshape(-1, 3, SIDE, SIDE)
    decoded: Tensor = torch.einsum("ij,bjhw->bihw", forward.inverse().to(images.device), ycc)
    return decoded


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of 7 taps."""
    taps = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / max(sigma, 1e-3)) ** 2)
    kernel = (taps / taps.sum()).to(images.device)
    rows = functional.conv2d(
        functional.pad(images, (3, 3, 3, 3), mode="replicate"),
        kernel.view(1, 1, 1, 7).expand(3, 1, 1, 7),
        groups=3,
    )
    return functional.conv2d(rows, kernel.view(1, 1, 7, 1).expand(3, 1, 7, 1), groups=3)


def distort(images: Tensor, chance: torch.Generator) -> Tensor:
    """Blur, resize or JPEG-code a batch, then add noise; strengths are drawn from `chance`."""
    kind, strength, noise = torch.rand(3, generator=chance).tolist()
    if kind < 0.3:
        images = blur(images, strength)
    elif kind < 0.5:
        side = 40 + int(strength * 24)
        small = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        images = functional.interpolate(small, (SIDE, SIDE), mode="bilinear")
    elif kind < 0.8:
        images = jpeg(images, 60.0 + 35.0 * strength)
    grain = torch.randn(images.shape, generator=chance).to(images.device)
    noisy: Tensor = images + grain * (noise * 16.0 / 255.0)
    return noisy


class Run:
    """One training run: networks, optimisers, randomness and the step count."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        """Start from the seed."""
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.step = settings, device, 0
        self.generator = Generator(normalise=True).to(device)
        self.average = Generator(normalise=True).to(device)
        self.average.load_state_dict(self.generator.state_dict())
        self.encoder, self.discriminator = Encoder().to(device), Discriminator().to(device)
        for network in (self.generator, self.average, self.encoder, self.discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        both = [*self.generator.parameters(), *self.encoder.parameters()]
        self.maker = torch.optim.Adam(both, lr=1e-3, betas=(0.5, 0.99))
        self.critic = torch.optim.Adam(self.discriminator.parameters(), lr=3e-4, betas=(0.0, 0.99))
        self.chance = torch.Generator().manual_seed(settings.seed)

    def parts(self) -> dict[str, Any]:
        """Name everything that has a state dict."""
        return {
            "generator": self.generator,
            "average": self.average,
            "encoder": self.encoder,
            "discriminator": self.discriminator,
            "maker": self.maker,
            "critic": self.critic,
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint; a crash leaves the one before."""
        state = {name: part.state_dict() for name, part in self.parts().items()}
        state |= {"step": self.step, "chance": self.chance.get_state()}
        state["rng"] = torch.get_rng_state()
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step = state["step"]
        self.chance.set_state(state["chance"].cpu())
        torch.set_rng_state(state["rng"].cpu())

    def schedule(self) -> None:
        """Set the learning rates of this step."""
        warm, total = self.settings.warmup, self.settings.steps
        decay = min(1.0, max(0.05, 2.0 * (total - self.step) / max(1, total - warm)))
        rate = 1e-3 if self.step < warm else 3e-4 * decay
        for group in self.maker.param_groups:
            group["lr"] = rate
        for group in self.critic.param_groups:
            group["lr"] = 3e-4 * decay

    def follow(self) -> None:
        """Move the averaged generator towards the current one."""
        keep = min(0.999, (self.step + 1.0) / (self.step + 10.0))
        now = self.generator.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(now[name], 1.0 - keep)

    def pick(self, portraits: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """Draw a batch of portraits, half of them mirrored, (B, 3, 64, 64)."""
        rows = torch.randint(len(portraits), (BATCH,), generator=self.chance).sort().values
        batch = torch.from_numpy(portraits[rows.numpy()]).to(self.device).float() / 127.5 - 1.0
        batch[::2] = batch[::2].flip(3)
        return batch.contiguous(memory_format=torch.channels_last)

    def latents(self) -> Tensor:
        """Draw a batch of latents, (B, 128)."""
        return torch.randn(BATCH, LATENT, generator=self.chance).to(self.device)

    def autocast(self) -> torch.autocast:
        """Compute convolutions in bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def warm(self, real: Tensor) -> dict[str, float]:
        """Take one step of the autoencoder."""
        with self.autocast():
            mean, log_variance = self.encoder(real)
            grain = self.latents()
            latent = mean + grain * torch.exp(0.5 * log_variance)
            rebuilt = self.generator(latent).float()
        error = (rebuilt - real).square().sum(dim=(1, 2, 3)).mean()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(dim=1).mean()
        loss = error / (2.0 * WARMUP_NOISE**2) + divergence
        self.descend(self.maker, loss / 1e3)
        return {"mse": error.item() / real[0].numel(), "kl": divergence.item()}

    def duel(self, real: Tensor) -> dict[str, float]:
        """Take one step of the discriminator, then one of generator and encoder."""
        latent = self.latents()
        with self.autocast():
            fake = self.generator(latent)
            score_real, score_fake = self.discriminator(real), self.discriminator(fake.detach())
        loss_d = functional.relu(1.0 - score_real).mean() + functional.relu(1.0 + score_fake).mean()
        self.descend(self.critic, loss_d)
        self.discriminator.requires_grad_(False)
        distorted = distort(fake.float(), self.chance)
        with self.autocast():
            score = self.discriminator(fake)
            mean, _ = self.encoder(distorted)
        self.discriminator.requires_grad_(True)
        misread = functional.mse_loss(mean, latent)
        weight = self.settings.latent_weight * (RELAX[1] if self.step >= RELAX[0] else 1.0)
        loss_g = -score.mean() + weight * misread
        self.descend(self.maker, loss_g)
        return {"d": loss_d.item(), "g": -score.mean().item(), "misread": misread.item()}

    def descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        """Take one gradient step."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def advance(self, portraits: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, float]:
        """Take one step of whichever phase it is."""
        self.schedule()
        real = self.pick(portraits)
        losses = self.warm(real) if self.step < self.settings.warmup else self.duel(real)
        self.follow()
        self.step += 1
        return losses

    def preview(self, path: Path) -> None:
        """Save a grid of the averaged generator's portraits."""
        chance = torch.Generator().manual_seed(0)
        with torch.no_grad():
            plain = fold(self.average.cpu())
            save_grid(to_bytes(plain(torch.randn(60, LATENT, generator=chance))), path, 10, 2)
        self.average.to(self.device)


def train(settings: Settings, report: Callable[[str], None]) -> None:
    """Run to the end, saving a checkpoint every `save_every` seconds."""
    settings.out.mkdir(parents=True, exist_ok=True)
    portraits = load_portraits(settings.out, settings.portraits)
    run = Run(settings, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    path = settings.out / f"{settings.name}.pt"
    if path.exists():
        run.load(path)
    began = saved = time.monotonic()
    first = run.step
    while run.step < settings.steps:
        losses = run.advance(portraits)
        if run.step % 50 == 0:
            pace = (time.monotonic() - began) / (run.step - first)
            shown = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
            report(f"{settings.name} step {run.step}/{settings.steps} {shown} s/step {pace:.3f}")
        if time.monotonic() - saved > settings.save_every:
            run.save(path)
            run.preview(settings.out / f"{settings.name}.png")
            saved = time.monotonic()
    run.save(path)
    run.preview(settings.out / f"{settings.name}.png")


def parse_settings() -> tuple[Settings, int]:
    """Read settings and the number of threads from the command line."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="faces")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--warmup", type=int, default=1200, help="steps of the autoencoder")
    parser.add_argument("--out", type=Path, default=here / "runs")
    parser.add_argument("--portraits", type=int, default=30_000, help="portraits to draw and keep")
    parser.add_argument("--latent-weight", type=float, default=1.0)
    parser.add_argument("--save-every", type=float, default=180.0, help="seconds")
    parser.add_argument("--threads", type=int, default=1)
    given = vars(parser.parse_args())
    threads = given.pop("threads")
    return Settings(**given), threads


def main() -> None:
    """Train one model and print progress."""
    settings, threads = parse_settings()
    torch.set_num_threads(threads)
    train(settings, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
