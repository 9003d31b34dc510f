"""The rule itself: what each counter and each model amounts to (protocol.md section 6).

Pure functions of `measurements`; `finding` turns the result into the object that is signed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from latentlog.evidence import null
from latentlog.evidence.likelihood import CONFIDENCE, binomial_tail, clopper_pearson_upper
from latentlog.evidence.measurements import (
    COUNTER_RECORDED,
    LOGGED_SEEDS,
    NOT_ASKED,
    CalibrationRules,
    Condition,
    CounterScores,
    Measurements,
    ModelScores,
    PointRule,
    ReplayScore,
    Rules,
)

Outcome = Literal["produced", "not_produced", "inconclusive"]
ReplayVerdict = Literal["pass", "local_fails", "fails", "not_run", "no_threshold"]

# The first that applies is the finding's reason; the others are listed beside it.
INCONCLUSIVE_REASONS = (
    "wrong_format",
    "not_calibrated",
    "altered_region",
    "depends_on_entry",
    "digest_without_replay",
    "replay_only",
    "grey_zone",
    "log_check_failed",
    "outside_envelope",
    "reachable_unregistered",
    "power_too_low",
)
POSITIVE_REASONS = ("digest_and_replay", "latent_and_replay")
NEGATIVE_REASONS = ("nothing_within_envelope",)

# Live controls contradict the calibration when what they show has at most this chance under it.
LIVE_LEVEL = 0.02

# The range channel has power once at most half of all foreign pictures can pass for the model's
# own, at 95 % confidence, measured on at least this many.
MIN_FOREIGN = 8
MAX_FOREIGN_RATE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopePoint:
    distortion: str
    strength: float
    trials: int
    misses: int
    upper95: float
    """Clopper–Pearson, 95 % joint over the points (Bonferroni)."""
    covered: bool
    produced: int
    """Controls that came out as produced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One counter under the rule."""

    scores: CounterScores
    log_p: float
    latent: bool
    digest: bool
    replay: ReplayVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One model under the rule."""

    model: ModelScores
    calibration: CalibrationRules | None
    point: PointRule | None
    outcome: Outcome
    reasons: tuple[str, ...]
    row: Row | None
    log_p: float


def matching_point(condition: Condition | None, points: tuple[PointRule, ...]) -> PointRule | None:
    """Return the calibrated point nearest to a medium's condition, with the limits that hold there.

    Between two points of one distortion the looser of these two limits holds; milder than the
    mildest, the untouched picture (PNG) is the second. Never the loosest of the envelope. None
    where the condition is harsher than everything measured for its distortion.
    """
    if condition is None:
        return None
    strength = condition.strength
    same = sorted(
        (p for p in points if p.distortion == condition.distortion), key=lambda p: p.strength
    )
    harsher = [p for p in same if p.strength <= strength]
    if not harsher:
        return None
    untouched = [p for p in points if p.distortion == "png"]
    milder = [p for p in same if p.strength > strength] or untouched
    if harsher[-1].strength == strength or not milder:
        return harsher[-1]
    between = (harsher[-1], milder[0])
    nearest = min(
        (p for p in between if p.distortion == condition.distortion),
        key=lambda p: (abs(p.strength - strength), -p.strength),
    )
    return replace(
        nearest,
        replay_global=max(p.replay_global for p in between),
        replay_local=tuple(map(max, *(p.replay_local for p in between))),
        reach=max(p.reach for p in between),
        foreign=harsher[-1].foreign,
        foreign_reached=harsher[-1].foreign_reached,
    )


def envelope(calibration: CalibrationRules) -> tuple[EnvelopePoint, ...]:
    """Return the declared points with their joint upper bounds and which of them are covered."""
    alpha = (1.0 - CONFIDENCE) / max(1, len(calibration.points))
    return tuple(
        EnvelopePoint(
            distortion=p.distortion,
            strength=p.strength,
            trials=p.trials,
            misses=p.misses,
            upper95=(upper := clopper_pearson_upper(p.misses, p.trials, alpha)),
            covered=upper <= calibration.beta,
            produced=p.produced,
        )
        for p in calibration.points
    )


def replay_verdict(score: ReplayScore | None, point: PointRule | None) -> ReplayVerdict:
    """Judge one replay by the thresholds of one calibrated point."""
    if score is None:
        return "not_run"
    if point is None:
        return "no_threshold"
    if score.global_ > point.replay_global:
        return "fails"
    within = all(x <= limit for x, limit in zip(score.local, point.replay_local, strict=True))
    return "pass" if within else "local_fails"


def range_has_power(model: ModelScores, point: PointRule | None) -> bool:
    """Say whether being out of the model's range can be seen at all under this condition."""
    if model.kind != "decoder" or point is None or point.foreign < MIN_FOREIGN:
        return False
    upper = clopper_pearson_upper(point.foreign_reached, point.foreign)
    return upper <= MAX_FOREIGN_RATE


def live_contradicts(
    model: ModelScores, calibration: CalibrationRules, n: int, rules: Rules
) -> bool:
    """Say whether the examiner's own repeat is too bad to be true under the calibration."""
    live = model.live
    if live is None or live.trials == 0:
        return False
    repeated = (live.distortion, live.strength)
    point = next((p for p in calibration.points if (p.distortion, p.strength) == repeated), None)
    if point is None:
        return True
    limit = math.log(rules.p_negative)
    missed = sum(null.family(null.log_p_bar(c, model.dim), n) >= limit for c in live.cosines)
    refused = sum(replay_verdict(score, point) != "pass" for score in live.replays)
    miss_rate = clopper_pearson_upper(point.misses, point.trials)
    # The thresholds are the largest of `trials` residuals, so one more exceeds them this rarely.
    refusal_rate = clopper_pearson_upper(0, point.trials)
    return (
        binomial_tail(missed, live.trials, miss_rate) <= LIVE_LEVEL
        or binomial_tail(refused, live.trials, refusal_rate) <= LIVE_LEVEL
    )


def judge(m: Measurements, model: ModelScores, rules: Rules) -> Judged:
    n = m.multiplicity
    calibration = next((c for c in rules.calibrations if c.model_digest == model.digest), None)
    point = matching_point(model.condition, calibration.points) if calibration else None
    rows = [_row(c, model, point, n, rules) for c in model.counters]
    log_p = min(
        (null.family(null.log_p_bar(x.cosine, model.dim), n) for x in model.lookups), default=0.0
    )
    produced = [r for r in rows if r.replay == "pass" and (r.latent or r.digest)]
    found = list(_reasons(m, model, rules, calibration, point, rows, log_p, bool(produced)))
    reasons = tuple(r for r in INCONCLUSIVE_REASONS if r in found)
    row = min(produced or _telling(rows, reasons), key=_row_rank, default=None)
    outcome: Outcome = "inconclusive"
    if not reasons and row is not None and produced:
        outcome, reasons = "produced", ("digest_and_replay" if row.digest else "latent_and_replay",)
    elif not reasons:
        outcome, reasons = "not_produced", NEGATIVE_REASONS
    return Judged(
        model=model,
        calibration=calibration,
        point=point,
        outcome=outcome,
        reasons=reasons,
        row=row,
        log_p=log_p,
    )


def _row(
    c: CounterScores, model: ModelScores, point: PointRule | None, n: int, rules: Rules
) -> Row:
    log_p = 0.0 if c.cosine is None else null.family(null.log_p_bar(c.cosine, model.dim), n)
    return Row(
        scores=c,
        log_p=log_p,
        latent=log_p <= math.log(rules.p_produced),
        digest=bool(c.digests) and not c.digest_excluded,
        replay=replay_verdict(c.replay, point),
    )


def _reasons(
    m: Measurements,
    model: ModelScores,
    rules: Rules,
    calibration: CalibrationRules | None,
    point: PointRule | None,
    rows: list[Row],
    log_p: float,
    produced: bool,
) -> Iterable[str]:
    """Yield every reason that keeps this model's finding from being a verdict."""
    if m.medium.problem or not model.applicable:
        yield "wrong_format"
        return
    if any(c.ok is False and not (produced and c.name == COUNTER_RECORDED) for c in m.log_checks):
        yield "log_check_failed"
    if not _calibration_counts(model, calibration, m.multiplicity, rules):
        yield "not_calibrated"
    elif point is None:
        yield "outside_envelope"
    if produced:
        return
    yield from _positive_traces(rows)
    if any(c.name == LOGGED_SEEDS and c.ok is not True for c in m.log_checks):
        yield "power_too_low"
    if math.log(rules.p_produced) < log_p < math.log(rules.p_negative):
        yield "grey_zone"
    if calibration is not None and point is not None:
        yield from _lack_of_power(model, calibration, point, rules)


def _positive_traces(rows: list[Row]) -> Iterable[str]:
    """Yield what speaks for an entry without amounting to a produced finding."""
    for row in rows:
        named = row.latent or bool(row.scores.digests)
        if row.replay == "local_fails":
            yield "altered_region"
        elif row.replay == "pass":
            yield "replay_only"
        elif row.latent:
            yield "depends_on_entry"
        if named and row.scores.digests and row.replay != "pass":
            yield "digest_without_replay"


def _lack_of_power(
    model: ModelScores, calibration: CalibrationRules, point: PointRule, rules: Rules
) -> Iterable[str]:
    """Yield what keeps silence from meaning anything: range, envelope, channels not run."""
    assert model.condition is not None
    power = range_has_power(model, point)
    if power and model.residual is not None and model.residual <= point.reach:
        yield "reachable_unregistered"
    silent = (
        any(x.compared for x in model.lookups)
        and not _switched_off(model)
        and not model.undisclosed_epochs
        and (model.range_channel.run or not power)
    )
    covered = [p for p in envelope(calibration) if p.covered]
    inside = any(
        p.distortion == model.condition.distortion and p.strength <= model.condition.strength
        for p in covered
    )
    required = all(
        any(p.distortion == d and p.strength <= s for p in covered) for d, s in rules.required
    )
    if not (silent and inside and required):
        yield "power_too_low"


def _switched_off(model: ModelScores) -> bool:
    """Say whether a channel that could have named an entry was left out for no stated reason."""
    runs = (model.digest_channel, model.sketch_channel, model.replay_channel)
    return any(not run.run and run.note in ("", NOT_ASKED) for run in runs)


def _calibration_counts(
    model: ModelScores, calibration: CalibrationRules | None, n: int, rules: Rules
) -> bool:
    if calibration is None or not calibration.points:
        return False
    if calibration.made == "elsewhere" and (model.live is None or not model.live.trials):
        return False
    return not live_contradicts(model, calibration, n, rules)


def _telling(rows: list[Row], reasons: tuple[str, ...]) -> list[Row]:
    """Return the counters that the leading reason is about."""
    named = [r for r in rows if r.latent or r.scores.digests]
    about = {
        "altered_region": [r for r in rows if r.replay == "local_fails"],
        "depends_on_entry": [r for r in rows if r.latent],
        "digest_without_replay": [r for r in rows if r.scores.digests],
        "replay_only": [r for r in rows if r.replay == "pass"],
        "grey_zone": [r for r in rows if r.scores.cosine is not None],
    }
    return about.get(reasons[0], named) if reasons else []


def _row_rank(row: Row) -> tuple[bool, float, int, int]:
    return (not row.digest, row.log_p, row.scores.epoch, row.scores.counter)


def rank(judged: Judged) -> tuple[int, int, float]:
    """Order models: a produced one speaks for all, a not-produced one only when all are."""
    if judged.outcome == "produced":
        return (0, 0, judged.log_p)
    if judged.outcome == "not_produced":
        return (2, 0, judged.log_p)
    return (1, INCONCLUSIVE_REASONS.index(judged.reasons[0]), judged.log_p)
