"""Networks of `../shared/zoo`, written from its READMEs, and their export to `.pt2`. For tests
only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from latentlog.inversion.result import GeneratorSpec

ZOO = Path(__file__).parents[2] / ".." / "shared" / "zoo"


class Block(nn.Sequential):
    """A convolution, then its batch norm where it has one; the keys are 0 and 1."""


class Face32(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator_deconv = nn.ModuleList(
            [
                Block(nn.ConvTranspose2d(100, 256, 4, bias=False), nn.BatchNorm2d(256)),
                Block(nn.Conv2d(256, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)),
                Block(nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64)),
                Block(nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32)),
                Block(nn.ConvTranspose2d(32, 3, 4, 2, 1)),
            ]
        )

    def forward(self, z: Tensor) -> Tensor:
        x = self.generator_deconv[0](z.view(z.shape[0], 100, 1, 1))
        for block in list(self.generator_deconv)[1:-1]:
            x = nn.functional.leaky_relu(block(x), 0.2)
        return torch.tanh(self.generator_deconv[-1](x))


class Anime64(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(128, 2048)
        widths = [128, 64, 64, 32, 32]
        for i in range(4):
            setattr(self, f"ct{i}", nn.ConvTranspose2d(widths[i], widths[i + 1], 4, 2, 1))
            setattr(self, f"bn{i}", nn.BatchNorm2d(widths[i + 1], eps=1e-3))
        self.ct4 = nn.ConvTranspose2d(32, 3, 4)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).view(-1, 4, 4, 128).permute(0, 3, 1, 2)
        for i in range(4):
            x = getattr(self, f"bn{i}")(torch.relu(getattr(self, f"ct{i}")(x)))
        return torch.sigmoid(self.ct4(x)[:, :, 1:65, 1:65])


class Mnist28(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(100, 128, 7, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(True),
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(True),
            nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z[:, :, None, None])


class MlpGan(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 784)
        )

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(super().forward(z)).view(-1, 1, 28, 28)


class VaeDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(torch.relu(self.fc3(z)))).view(-1, 1, 28, 28)


@dataclass(frozen=True)
class Member:
    """One generator of the zoo."""

    network: Callable[[], nn.Module]
    weights: str
    spec: GeneratorSpec


MEMBERS = {
    "face32-dcgan-fl": Member(
        Face32, "generator", GeneratorSpec(latent_shape=(100,), prior="uniform")
    ),
    "anime64-dcgan-sb": Member(Anime64, "generator", GeneratorSpec(latent_shape=(128,), lo=0.0)),
    "mnist28-dcgan": Member(Mnist28, "generator", GeneratorSpec(latent_shape=(100,))),
    "mnist28-mlpgan": Member(MlpGan, "generator", GeneratorSpec(latent_shape=(64,))),
    "mnist28-vae": Member(VaeDecoder, "vae", GeneratorSpec(latent_shape=(20,), lo=0.0)),
}


def build(name: str) -> nn.Module:
    """Return a zoo member with its weights, in evaluation mode."""
    from safetensors.torch import load_file

    member = MEMBERS[name]
    network = member.network()
    state = load_file(ZOO / name / f"{member.weights}.safetensors")
    wanted = network.state_dict()
    state = {key: value for key, value in state.items() if key in wanted}
    network.load_state_dict(state, strict=False)
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    assert not missing, missing
    return network.eval()


def export(network: nn.Module, latent_shape: tuple[int, ...], path: Path) -> Path:
    """Save a network as `.pt2` with a dynamic batch."""
    example = (torch.zeros(2, *latent_shape),)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, example, dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path
