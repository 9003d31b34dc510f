"""Make a neighbour of a published picture, as somebody with the weights could.

Inverts the picture, moves the latent so that it keeps the given cosine with what was found, and
generates again: the result depends on the published picture's latent and is another picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from latentlog.inversion.forward import read_channel
from latentlog.inversion.picture import to_8bit
from latentlog.inversion.result import GeneratorSpec, InversionPlan
from latentlog.inversion.sandbox import ModelProcess, ModelSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a torch.export archive, latents N(0, 1)")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--cosine", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latent-dim", type=int, default=128)
    options = parser.parse_args()
    spec = GeneratorSpec(latent_shape=(options.latent_dim,))
    with ModelProcess.start(ModelSource.pt2(options.model), spec) as model:
        observed = read_channel(options.source, model.description.output_shape)
        [found] = model.invert([observed.observe()], InversionPlan(seed=options.seed))
        moved = turn(found.latent, options.cosine, options.seed)
        [image] = model.generate(moved[None].astype(np.float32))  # (C, H, W)
    pixels = to_8bit(image, spec.lo, spec.hi).transpose(1, 2, 0)
    Image.fromarray(pixels.squeeze()).save(options.target)
    print(options.target)


def turn(latent: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """Return a vector of the same length at the given cosine, in a random direction."""
    aside = np.random.default_rng(seed).standard_normal(latent.shape)
    aside -= latent * (aside @ latent) / (latent @ latent)
    aside *= np.linalg.norm(latent) / np.linalg.norm(aside)
    return cosine * latent + np.sqrt(1 - cosine**2) * aside


if __name__ == "__main__":
    main()
