"""The replay channel: does this counter's own output, sent the medium's way, give the medium?

The latent is derived again from the epoch key, the escrowed model makes the picture, and the
channel inferred for *this* medium is applied to it. What is left, divided by the noise that the
channel has, is a residual near 1 for the true source. The global score is its root mean square over
the picture without the worst quarter, so that it says whether the picture *as a whole* is the
counter's, whatever was done to a corner of it. The local scores are the largest over sliding
windows of three sizes, which nothing can hide from; produced needs both.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from latentlog.evidence.calibration import rounded
from latentlog.evidence.measurements import ReplayScore
from latentlog.inversion.result import Residual

# Window sides as fractions of the picture's shorter side, smallest first.
WINDOWS: Final = (8, 4, 2)

# Largest energy that a map keeps: ten thousand noise levels, squared.
LARGEST: Final = 1e8

# Share of the picture that the global score is taken over: the part that fits best.
KEPT: Final = 0.75


def replay_score(residual: Residual) -> ReplayScore:
    """Reduce a residual's map to the global and the three local scores."""
    return ReplayScore(
        global_=rounded(global_score(residual.map)),
        local=tuple(rounded(x) for x in local_scores(residual.map)),
    )


def global_score(energy: npt.NDArray[np.float32]) -> float:
    """Return the root mean square over the best three quarters of the smallest windows (H, W)."""
    means = np.sort(window_means(energy, WINDOWS[0]).ravel())
    return float(np.sqrt(np.mean(means[: max(1, round(KEPT * means.size))])))


def local_scores(energy: npt.NDArray[np.float32]) -> list[float]:
    """Return, per window size, the largest root mean square over all its places (H, W)."""
    return [float(np.sqrt(np.max(window_means(energy, w), initial=0.0))) for w in WINDOWS]


def window_means(energy: npt.NDArray[np.float32], fraction: int) -> npt.NDArray[np.float64]:
    """Return the mean energy of every window whose side is 1/fraction of the shorter side."""
    side = max(2, round(min(energy.shape) / fraction))
    side = min(side, *energy.shape)
    # An integral image gives every window in four look-ups, whatever its size. Energies past any
    # meaning are capped, or the subtraction would lose the others.
    known = np.nan_to_num(energy.astype(np.float64), nan=LARGEST, posinf=LARGEST)
    total = np.zeros((energy.shape[0] + 1, energy.shape[1] + 1))
    np.cumsum(np.cumsum(np.clip(known, 0.0, LARGEST), axis=0), axis=1, out=total[1:, 1:])
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    means: npt.NDArray[np.float64] = np.maximum(sums, 0.0) / (side * side)
    return means
