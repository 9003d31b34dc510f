"""The range channel: can the model make this picture at all, whatever the latent?

The residual of the best inversion is 1, the file's own noise, when some latent gives the picture,
and far above it when none does. The band of the model's own pictures is measured per condition
(`calibration.reach_band`). Whether the channel has power is measured too, on composites: pictures
whose left and right halves come from two latents. No latent gives them, and they are closer to the
model's range than a photograph is, so that they are the harder test.
"""

import numpy as np
import numpy.typing as npt


def composite(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Join the left half of one picture (H, W, C) to the right half of another."""
    middle = left.shape[1] // 2
    return np.concatenate([left[:, :middle], right[:, middle:]], axis=1)
