"""What a report shows of an examination: the medium, and an output sent the medium's way.

A regenerated output is shown after the same resizing, colour reduction and coding that the medium
went through, because only then is a difference between the two a difference.
"""

import numpy as np
import numpy.typing as npt

from latentlog.evidence.measure import Inverted, Model, latents_for
from latentlog.evidence.statement import Shown
from latentlog.ledger.keystream import Integers

Pixels = npt.NDArray[np.uint8]

# Residuals that a map draws as black and as white, in noise levels.
_BLACK, _WHITE = 1.0, 5.0


def show(
    medium: Pixels, process: Model, inverted: Inverted | None, latent: Integers | None
) -> dict[Shown, Pixels]:
    """Return 8-bit pictures (H, W, C): "medium", "replayed" or "reconstruction", "map"."""
    pictures: dict[Shown, Pixels] = {"medium": medium}
    if inverted is None:
        return pictures
    observation = inverted.observation
    image = np.asarray(inverted.inversion.reconstruction, dtype=np.float32)[None]
    if latent is not None:
        image = process.generate(latents_for(process, latent[None]))
        pictures["map"] = _map_picture(process.residuals(image, observation)[0].map)
    sent = process.transmit(image, observation.channel)[0]
    shown: Shown = "reconstruction" if latent is None else "replayed"
    pictures[shown] = np.rint(np.clip(sent, 0.0, 255.0)).astype(np.uint8)
    return pictures


def _map_picture(energy: npt.NDArray[np.float32]) -> Pixels:
    """Draw a residual map (H, W): black is the file's own noise, white five times as much."""
    level = (np.sqrt(np.maximum(energy, 0.0)) - _BLACK) / (_WHITE - _BLACK)
    return np.rint(np.clip(level, 0.0, 1.0) * 255.0).astype(np.uint8)[:, :, None]
