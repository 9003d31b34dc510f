"""Calibration profiles: how many controls, at which points of the envelope, for which β.

Points are written mildest first; strength is JPEG quality, or the factor of a reduction.
"""

from dataclasses import dataclass
from typing import Final

from latentlog.evidence.likelihood import trials_needed


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """One declared point of the envelope."""

    distortion: str
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    name: str
    trials: int
    """Controls at each point, at least."""
    beta: float
    foreign: int
    """Pictures that are no output, at each point."""
    points: tuple[Point, ...]

    @property
    def controls(self) -> int:
        """How many controls each point gets: as many as a joint bound without a miss needs.

        59 controls without a miss bring one point to 5 %; the bound is joint over the points, so
        two points need 72 and three need 80.
        """
        return max(self.trials, trials_needed(self.beta, len(self.points)))


def _points(*jpeg: int, resize: tuple[float, ...] = ()) -> tuple[Point, ...]:
    return (
        Point(distortion="png", strength=0.0),
        *(Point(distortion="jpeg", strength=float(q)) for q in jpeg),
        *(Point(distortion="resize", strength=f) for f in resize),
    )


PROFILES: Final[dict[str, Profile]] = {
    p.name: p
    for p in (
        Profile(name="demo", trials=59, beta=0.05, foreign=8, points=_points(90)),
        Profile(
            name="quick",
            trials=150,
            beta=0.05,
            foreign=16,
            points=_points(95, 90, 75, resize=(0.75,)),
        ),
        Profile(
            name="standard",
            trials=1000,
            beta=0.01,
            foreign=40,
            points=_points(95, 90, 85, 75, 60, resize=(0.75, 0.5)),
        ),
        Profile(
            name="court",
            trials=3000,
            beta=0.01,
            foreign=104,
            points=_points(95, 90, 85, 75, 60, 50, resize=(0.75, 0.5)),
        ),
    )
}
