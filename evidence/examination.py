"""What goes into an examination and what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from latentlog.evidence.calibrate import LIVE_TRIALS
from latentlog.evidence.compare import CHANNELS, Channel
from latentlog.evidence.exhibit import Exhibit
from latentlog.evidence.finding import Finding
from latentlog.evidence.measure import PLAN, Model
from latentlog.evidence.measurements import Measurements, Rules, Time
from latentlog.evidence.record import LoggedCalibration, ModelView
from latentlog.evidence.statement import Shown
from latentlog.inversion.result import InversionPlan

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedModel:
    """A registered model and the process that holds it."""

    view: ModelView
    process: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One line of the custody list: when which step was taken, in UTC."""

    at: str
    step: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How to examine; everything that a repetition needs to come to the same numbers."""

    seed: bytes
    plan: InversionPlan = PLAN
    rules: Rules = field(default_factory=Rules)
    channels: frozenset[Channel] = CHANNELS
    live_trials: int = LIVE_TRIALS
    seen_at: Time | None = None
    compared_before: int = 0
    """Comparisons of earlier runs in the same case."""
    calibrations: Mapping[str, LoggedCalibration] = field(default_factory=dict)
    """By model digest, in place of the record's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What an examination leaves: the finding, all it rests on, and what to show."""

    finding: Finding
    measurements: Measurements
    rules: Rules
    exhibits: tuple[Exhibit, ...]
    """The medium first, then the calibration documents."""
    pictures: Mapping[Shown, Pixels]
    """"medium", "replayed" or "reconstruction", "map": 8-bit, (H, W, C)."""
    cited: tuple[int, ...]
    """Log entries that the finding rests on, without their seals."""
    seed: str
    custody: tuple[Action, ...]
