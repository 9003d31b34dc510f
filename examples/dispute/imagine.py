"""Draw one picture from a generator with a latent of one's own: nothing is logged."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a torch.export archive that you trust")
    parser.add_argument("target", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latent-dim", type=int, default=128)
    parser.add_argument("--range", type=float, nargs=2, default=(-1.0, 1.0), metavar=("LO", "HI"))
    options = parser.parse_args()
    generator = torch.export.load(options.model).module()
    latent = torch.randn(1, options.latent_dim, generator=torch.manual_seed(options.seed))
    with torch.no_grad():
        image = generator(latent)[0]  # (C, H, W)
    lo, hi = options.range
    pixels = ((image - lo) / (hi - lo)).clamp(0, 1).mul(255).round().byte()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy()).save(options.target)
    print(options.target)


if __name__ == "__main__":
    main()
