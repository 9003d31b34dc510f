"""The decision: measurements and rules in, one finding out (protocol.md section 6).

`decide` is a pure function of JSON-able values: an offline verifier runs it again on the signed
statement and must get the same finding. It imports the standard library and its neighbours only.

    produced      one and the same counter passes (latent or digest) and the whole replay
    not_produced  every channel that has power ran and is silent, inside a covered envelope
    inconclusive  otherwise, with a reason; further reasons stand in `also`
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from latentlog.evidence import null, strict
from latentlog.evidence.channels import Channels, report_channels
from latentlog.evidence.explain import assumptions, explanation, order_of_time
from latentlog.evidence.likelihood import Weight, weigh_not_produced, weigh_produced
from latentlog.evidence.measurements import (
    CalibrationRules,
    ChannelRun,
    Condition,
    CounterScores,
    LiveControls,
    LogCheck,
    Lookup,
    Measurements,
    Medium,
    ModelScores,
    PointRule,
    ReplayScore,
    Rules,
    Time,
    require_consistent,
    require_sane,
)
from latentlog.evidence.rule import (
    EnvelopePoint,
    Judged,
    Outcome,
    Row,
    envelope,
    judge,
    rank,
)

__all__ = [
    "CalibrationRules",
    "ChannelRun",
    "Condition",
    "CounterScores",
    "Finding",
    "LiveControls",
    "LogCheck",
    "Lookup",
    "Measurements",
    "Medium",
    "ModelScores",
    "PointRule",
    "ReplayScore",
    "Rules",
    "Time",
    "decide",
]

Order = Literal["shown", "not_shown", "reversed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRef:
    """The counter a finding is about; `index` is None where the log holds no generation of it."""

    index: int | None
    epoch: int
    counter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """What a not-produced would have missed: the declared envelope, point by point."""

    model: str
    beta: float
    envelope: tuple[EnvelopePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    outcome: Outcome
    reason: str
    also: tuple[str, ...]
    """Further reasons that would each have kept the finding inconclusive."""
    explanation: str
    model: str | None
    """The model concerned; None where the finding is about several."""
    models: tuple[str, ...]
    entry: EntryRef | None
    p_family: str
    log10_p_family: float
    log10_p_ideal: float
    """Of the closest latent, before the family; for the appendix."""
    multiplicity: int
    channels: Channels | None
    exclusion: tuple[Exclusion, ...]
    """Empty where it does not apply."""
    order_of_time: Order | None
    assumptions: tuple[str, ...]
    log_checks: tuple[LogCheck, ...]
    weight: Weight | None

    def to_json(self) -> dict[str, Any]:
        """Return the signed form: decimal strings for everything that is not an integer."""
        encoded: dict[str, Any] = strict.encode(self)
        return encoded

    @staticmethod
    def from_json(value: object) -> "Finding":
        """Parse strictly; raise `MalformedMeasurements`."""
        return strict.decode(Finding, value)

    def to_output(self, bundle: str | None = None) -> dict[str, Any]:
        """Return the object that `examine --json` prints (schema latentlog/finding/v0)."""
        numbers = strict.plain(self)
        exclusions = numbers.pop("exclusion")
        return {
            "schema": "latentlog/finding/v0",
            **numbers,
            "log10_p_family": round(self.log10_p_family, 2),
            "log10_p_ideal": round(self.log10_p_ideal, 2),
            "exclusion": exclusions[0] if exclusions else None,
            "exclusions": exclusions,
            "bundle": bundle,
        }


def decide(measurements: Measurements, rules: Rules) -> Finding:
    """Apply the rule; raise `MalformedMeasurements` for input that contradicts itself."""
    require_consistent(measurements)
    require_sane(rules)
    if not measurements.models:
        return _finding(measurements, rules, [], None)
    judged = [judge(measurements, model, rules) for model in measurements.models]
    return _finding(measurements, rules, judged, min(judged, key=rank))


def _finding(m: Measurements, rules: Rules, judged: list[Judged], chosen: Judged | None) -> Finding:
    outcome: Outcome = chosen.outcome if chosen else "inconclusive"
    reasons = chosen.reasons if chosen else ("wrong_format",)
    row = chosen.row if chosen else None
    order = order_of_time(row, m.medium) if outcome == "produced" and row else None
    log_p = min((j.log_p for j in judged), default=0.0)
    alone = outcome != "not_produced" or len(judged) == 1
    return Finding(
        outcome=outcome,
        reason=reasons[0],
        also=reasons[1:],
        explanation=explanation(m, judged, chosen, order),
        model=chosen.model.name if chosen and alone else None,
        models=tuple(j.model.name for j in judged),
        entry=_entry(row),
        p_family=null.format_p(log_p),
        log10_p_family=null.floored(log_p) / math.log(10.0),
        log10_p_ideal=_log10_ideal(judged),
        multiplicity=m.multiplicity,
        channels=report_channels(chosen) if chosen else None,
        exclusion=_exclusions(judged) if outcome != "produced" else (),
        order_of_time=order,
        assumptions=tuple(assumptions(m, judged, chosen)),
        log_checks=m.log_checks,
        weight=_weight(outcome, judged, chosen),
    )


def _entry(row: Row | None) -> EntryRef | None:
    if row is None:
        return None
    return EntryRef(index=row.scores.index, epoch=row.scores.epoch, counter=row.scores.counter)


def _log10_ideal(judged: list[Judged]) -> float:
    best = min(
        (null.log_p_ideal(x.cosine, j.model.dim) for j in judged for x in j.model.lookups),
        default=0.0,
    )
    # An exact cosine of 1 has no logarithm; the figure is an appendix, so it stops at 10^-9999.
    return max(best / math.log(10.0), -9999.0)


def _exclusions(judged: list[Judged]) -> tuple[Exclusion, ...]:
    return tuple(
        Exclusion(model=j.model.name, beta=j.calibration.beta, envelope=envelope(j.calibration))
        for j in judged
        if j.calibration is not None
    )


def _weight(outcome: Outcome, judged: list[Judged], chosen: Judged | None) -> Weight | None:
    if chosen is None or chosen.calibration is None or outcome == "inconclusive":
        return None
    if outcome == "not_produced":
        return weigh_not_produced(max(j.calibration.beta for j in judged if j.calibration))
    points = chosen.calibration.points
    return weigh_produced(
        chosen.row.log_p if chosen.row and chosen.row.latent else None,
        validations=sum(p.trials for p in points),
        events=sum(p.false_replays for p in points),
    )
