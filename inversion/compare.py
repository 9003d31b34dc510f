"""How far a file is from being the transmitted image of a given output: one number, and one per
place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentlog.inversion.result import Observation
from latentlog.inversion.transmit import Transmission, miss


def compare(
    transmission: Transmission, images: Tensor, observation: Observation
) -> tuple[list[float], npt.NDArray[np.float32]]:
    """Return each image's whitened residual (rms) and its energy over the model's grid
    (B, H, W).
    """
    target = transmission.target(observation)
    residual = miss(transmission.features(images), target.value, target.low, target.high)  # (B, m)
    energy = residual.square()
    values = [float(v) for v in energy.mean(-1).sqrt()]
    field = transmission.energy_map(energy)
    size = transmission.shape[1:]
    maps = torch.nn.functional.interpolate(field[:, None], size=size, mode="nearest")[:, 0]
    return values, maps.cpu().numpy().astype(np.float32)
