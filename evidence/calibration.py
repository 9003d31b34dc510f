"""The calibration document: every control's scores, and the rules they give at any N.

Rules are logged, not cosines, but the scores are kept: how many controls a look-up over N latents
would leave unnoticed depends on N, which nobody knows before the examination. So `rules_at` counts
them again for each examination, and a verifier with the document counts them once more. Standard
library and canonical JSON only.
"""

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from latentlog.evidence import null, strict
from latentlog.evidence.errors import (
    CalibrationMismatch,
    MalformedCalibration,
    MalformedMeasurements,
)
from latentlog.evidence.measurements import (
    WINDOW_SCALES,
    CalibrationRules,
    GeneratorKind,
    PointRule,
    ReplayScore,
    Rules,
)
from latentlog.ledger import canonical
from latentlog.ledger.errors import LedgerError

SCHEMA: Final = "latentlog/calibration/v0"

# Version of everything that makes a vector, a residual or a limit. A calibration of another
# version says nothing about this one.
PIPELINE: Final = "0.1"

# A court calibration (3,000 controls at fourteen points) takes about 12 MB.
DOCUMENT_LIMIT: Final = 64 << 20

# What another device's rounding may add to a residual. A float32 generator differs between
# processors by some 1e-5 of its range, 1/400 of the 8-bit noise; this leaves room for 16-bit ones.
DEVICE_TOLERANCE: Final = 0.02

# The own-image band starts from this share of the controls whose latent was recovered. Inversions
# that found no good start say nothing about what the model can reach.
BAND_SHARE: Final = 0.95

# How far past its controls a limit lies, as a share of the way from their median to their largest.
# Residuals of true copies end sharply, those of other pictures lie many times higher.
REPLAY_MARGIN: Final = 0.5
BAND_MARGIN: Final = 1.0
_RECOVERED: Final = math.log(1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One named setting of the run: a step count, a library's version."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointScores:
    """The controls of one point, in the order of their counters, none left out."""

    distortion: str
    strength: float
    cosines: tuple[float, ...]
    """Of the recovered vector with the control's own latent."""
    residuals: tuple[float, ...]
    """Of the best inversion."""
    replays: tuple[ReplayScore, ...]
    """Of the control's own output."""
    others: tuple[ReplayScore, ...]
    """Of the next control's output against this control's file: none of these may pass."""
    foreign: tuple[float, ...]
    """Residuals of inverted pictures that are no output of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One model's calibration."""

    schema: str
    model: str
    model_digest: str
    kind: GeneratorKind
    dim: int
    pipeline: str
    profile: str
    beta: float
    made: Literal["here", "elsewhere"]
    control_root: str
    """Root of the first checkpoint after the model's entry, which fixes the control key."""
    device: str
    settings: tuple[Setting, ...]
    points: tuple[PointScores, ...]

    def encode(self) -> bytes:
        """Encode as canonical JSON."""
        return canonical.encode(strict.encode(self))


def decode_calibration(document: bytes, *, model_digest: str | None = None) -> Calibration:
    """Decode a document; raise `MalformedCalibration`, or `CalibrationMismatch` for another model
    or pipeline."""
    try:
        value = canonical.decode(document, limit=DOCUMENT_LIMIT)
        calibration = strict.decode(Calibration, value)
    except (LedgerError, MalformedMeasurements) as error:
        raise MalformedCalibration(
            f"not a calibration document: {error.message}", expected=error.expected, got=error.got
        ) from error
    _require_sound(calibration)
    if calibration.pipeline != PIPELINE:
        raise CalibrationMismatch(
            "the calibration was made by another version of the pipeline",
            expected=PIPELINE,
            got=calibration.pipeline,
            next_step="latentlog calibrate",
        )
    if model_digest is not None and calibration.model_digest != model_digest:
        raise CalibrationMismatch(
            "the calibration is of another model",
            expected=model_digest,
            got=calibration.model_digest,
        )
    return calibration


def take_over(document: bytes, model_digest: str) -> Calibration:
    """Return a calibration that somebody else made of this model, marked as such."""
    calibration = decode_calibration(document, model_digest=model_digest)
    return dataclasses.replace(calibration, made="elsewhere")


def rules_at(document: bytes, n: int, *, entry: int | None, rules: Rules) -> CalibrationRules:
    """Evaluate a calibration document for an examination of N comparisons."""
    return evaluate(
        decode_calibration(document),
        n,
        document=hashlib.sha256(document).hexdigest(),
        entry=entry,
        rules=rules,
    )


def evaluate(
    calibration: Calibration, n: int, *, document: str, entry: int | None, rules: Rules
) -> CalibrationRules:
    """Evaluate a decoded calibration, whose document has the SHA-256 `document`."""
    points = tuple(_point_rule(p, calibration.dim, n, rules) for p in calibration.points)
    return CalibrationRules(
        model_digest=calibration.model_digest,
        document=document,
        entry=entry,
        profile=calibration.profile,
        pipeline=calibration.pipeline,
        made=calibration.made,
        device=calibration.device,
        beta=calibration.beta,
        points=points,
    )


def rounded(x: float) -> float:
    """Round a residual to six digits, which is more than any of them means, and keep it finite."""
    # Past a million noise levels a residual says no more than "not this picture".
    return float(f"{min(max(x, 0.0), 1e6):.6g}") if math.isfinite(x) else 1e6


def replay_limits(scores: tuple[ReplayScore, ...]) -> tuple[float, tuple[float, ...]]:
    """Return the limits that a control's own output keeps to, globally and per window size.

    The largest of n controls, and half as much again as it lies above their median. One more true
    copy exceeds the largest alone at a rate below 1 − 0.05^(1/n), at 95 % confidence.
    """
    local = [_limit([s.local[i] for s in scores], 1.0, REPLAY_MARGIN) for i in range(WINDOW_SCALES)]
    return _limit([s.global_ for s in scores], 1.0, REPLAY_MARGIN), tuple(local)


def reach_band(residuals: tuple[float, ...], cosines: tuple[float, ...], dim: int) -> float:
    """Return the upper end of the own-image band, from the controls whose latent was recovered."""
    found = [
        residual
        for residual, cosine in zip(residuals, cosines, strict=True)
        if null.log_p_bar(cosine, dim) <= _RECOVERED
    ]
    return _limit(found or list(residuals), BAND_SHARE, BAND_MARGIN)


def _limit(values: list[float], share: float, margin: float) -> float:
    """Return the value that holds a share of the controls, moved outwards by a margin."""
    ordered = sorted(values)
    edge = ordered[max(1, math.ceil(share * len(ordered))) - 1]
    middle = ordered[(len(ordered) - 1) // 2]
    return rounded((edge + margin * (edge - middle)) * (1.0 + DEVICE_TOLERANCE))


def _point_rule(p: PointScores, dim: int, n: int, rules: Rules) -> PointRule:
    log_p = [null.family(null.log_p_bar(c, dim), n) for c in p.cosines]
    limit_global, limit_local = replay_limits(p.replays)
    reach = reach_band(p.residuals, p.cosines, dim)
    return PointRule(
        distortion=p.distortion,
        strength=p.strength,
        trials=len(p.cosines),
        # Digest, sketch, replay and range are not credited with noticing what the latent misses:
        # the count can only be too high.
        misses=sum(x >= math.log(rules.p_negative) for x in log_p),
        produced=sum(x <= math.log(rules.p_produced) for x in log_p),
        replay_global=limit_global,
        replay_local=limit_local,
        reach=reach,
        false_replays=sum(
            s.global_ <= limit_global
            and all(x <= y for x, y in zip(s.local, limit_local, strict=True))
            for s in p.others
        ),
        foreign=len(p.foreign),
        foreign_reached=sum(x <= reach for x in p.foreign),
    )


def _require_sound(c: Calibration) -> None:
    _require(c.schema == SCHEMA, "unknown schema", c.schema)
    _require(0.0 < c.beta < 1.0, "beta is not a rate", c.beta)
    _require(c.dim >= null.MIN_DIM, "too few dimensions", c.dim)
    _require(bool(c.points), "no points", 0)
    names = [(p.distortion, p.strength) for p in c.points]
    _require(len(names) == len(set(names)), "a point is listed twice", names)
    for p in c.points:
        sizes = {len(p.cosines), len(p.residuals), len(p.replays), len(p.others)}
        _require(len(sizes) == 1 and bool(p.cosines), f"{p.distortion}: scores left out", sizes)
        _require(all(-1.0 <= x <= 1.0 for x in p.cosines), f"{p.distortion}: a cosine", "")
        _require(min(*p.residuals, *p.foreign, 1.0) >= 0.0, f"{p.distortion}: a residual", "")
        for score in (*p.replays, *p.others):
            _require(len(score.local) == WINDOW_SCALES, f"{p.distortion}: window scales", "")
            _require(min(score.global_, *score.local) >= 0.0, f"{p.distortion}: a residual", "")


def _require(holds: bool, what: str, got: Any) -> None:
    if not holds:
        raise MalformedCalibration(f"calibration document: {what}", got=str(got)[:80])
