"""What an examination measured and the rules it was under: the whole input of `finding.decide`.

Frozen, JSON-able, standard library only. One row per counter holds everything that was measured
about it, so that "one and the same counter" is a row and not a join. `strict.encode` writes every
float as a decimal string; `from_json` refuses what it does not know and what contradicts itself.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from latentlog.evidence import strict
from latentlog.evidence.errors import MalformedMeasurements

State = Literal["generated", "abandoned", "reserved", "never_issued"]
Source = Literal["schedule", "seed"]
GeneratorKind = Literal["decoder", "flow", "ddim"]
TimeSource = Literal["rfc3161", "witness", "operator", "stated"]

# Sources of time that do not rest on the word of somebody with an interest in the order.
INDEPENDENT_TIME: tuple[TimeSource, ...] = ("rfc3161", "witness")

# A failed check of this name is shown with a produced finding and does not prevent it: the picture
# came from a counter that the record says was never used.
COUNTER_RECORDED = "counter_recorded"

# The note of a channel that the examiner switched off.
NOT_ASKED = "not asked for"

# The check that every generation from a seed of its own was compared: no silence without it.
LOGGED_SEEDS = "logged_seeds"

WINDOW_SCALES = 3

_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_NAME = re.compile(r"[a-z][a-z0-9_+.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A moment (UTC, whole seconds) and who says so."""

    at: str
    source: TimeSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a file shows of its own history: the distortion inferred, its strength, in words."""

    distortion: str
    strength: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    sha256: str
    pixels: str | None
    """Pixel digest; None where the file could not be decoded."""
    format: str
    mode: str
    width: int
    height: int
    problem: str
    """Why no picture can be compared at all, in words; empty when one can."""
    seen_at: Time | None
    """Earliest proven existence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheck:
    """One check of the record; `ok` is None when it was not run."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One vector against every latent there is."""

    vector: str
    compared: int
    cosine: float
    """The largest cosine found, rounded down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayScore:
    """Whitened residual of the medium against one regenerated output."""

    global_: float
    local: tuple[float, ...]
    """Largest over windows of an eighth, a quarter and a half of the picture's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterScores:
    """Everything measured about one counter that some channel named."""

    epoch: int
    counter: int
    index: int | None
    """Of its generation entry in the log."""
    state: State
    source: Source
    rederived: bool
    """Its latent was derived again from the disclosed epoch key (or the logged seed)."""
    cosine: float | None
    digests: tuple[Literal["file", "pixels"], ...]
    """The sealed digests that equal the medium's."""
    digest_excluded: Literal["", "constant", "several_counters"]
    """Why an equal digest says nothing about this counter."""
    sketch_distance: int | None
    replay: ReplayScore | None
    sealed_at: Time | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRun:
    """Whether a channel ran, over how many records, and what a reader should know about it."""

    run: bool
    compared: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveControls:
    """The examiner's own repeat at the point nearest to the medium."""

    distortion: str
    strength: float
    seed: str
    trials: int
    cosines: tuple[float, ...]
    replays: tuple[ReplayScore, ...]
    residuals: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScores:
    """One model's part of an examination."""

    name: str
    digest: str
    kind: GeneratorKind
    dim: int
    applicable: bool
    """Whether some known transformation leads from this model's output to the medium."""
    condition: Condition | None
    lookups: tuple[Lookup, ...]
    counters: tuple[CounterScores, ...]
    digest_channel: ChannelRun
    sketch_channel: ChannelRun
    replay_channel: ChannelRun
    range_channel: ChannelRun
    residual: float | None
    """Of the best inversion; 1 is the file's own noise."""
    live: LiveControls | None
    disclosed_epochs: tuple[int, ...]
    undisclosed_epochs: tuple[int, ...]
    """Epochs of this model that nothing could be compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    medium: Medium
    models: tuple[ModelScores, ...]
    compared_before: int
    """Comparisons of earlier runs in the same case."""
    log_checks: tuple[LogCheck, ...]
    earlier_disclosures: tuple[str, ...]
    """Every earlier disclosure of these epochs: recipient and case, in words."""

    def to_json(self) -> dict[str, Any]:
        encoded: dict[str, Any] = strict.encode(self)
        return encoded

    @staticmethod
    def from_json(value: object) -> "Measurements":
        """Parse strictly; raise `MalformedMeasurements`."""
        parsed = strict.decode(Measurements, value)
        require_consistent(parsed)
        return parsed

    @property
    def multiplicity(self) -> int:
        """N: every latent compared times every vector, over the whole case."""
        return self.compared_before + sum(x.compared for m in self.models for x in m.lookups)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRule:
    """What the calibration says at one point of the envelope, at the examination's own N."""

    distortion: str
    strength: float
    trials: int
    misses: int
    """Controls that the latent channel would leave unnoticed (p_family at or above the limit)."""
    produced: int
    """Controls that come out as produced."""
    replay_global: float
    replay_local: tuple[float, ...]
    """Largest residuals that a control's own output may have here."""
    reach: float
    """Residuals at or below this are those of the model's own pictures."""
    false_replays: int
    """Controls whose picture passes the replay against another latent's output."""
    foreign: int
    """Pictures that are no output of the model, inverted to measure the range channel's power."""
    foreign_reached: int
    """How many of them were taken for the model's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRules:
    """One model's calibration, evaluated at N."""

    model_digest: str
    document: str
    """SHA-256 of the calibration document."""
    entry: int | None
    """Index of its log entry; None when it was not logged before the examination."""
    profile: str
    pipeline: str
    made: Literal["here", "elsewhere"]
    device: str
    beta: float
    points: tuple[PointRule, ...]

    @property
    def foreign(self) -> int:
        """Count the foreign pictures of all points."""
        return sum(p.foreign for p in self.points)

    @property
    def foreign_reached(self) -> int:
        """Count those of them that were taken for the model's own."""
        return sum(p.foreign_reached for p in self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The decision rule of protocol.md section 6, with its numbers."""

    p_produced: float = 1e-6
    p_negative: float = 1e-3
    required: tuple[tuple[str, float], ...] = field(default=(("png", 0.0), ("jpeg", 90.0)))
    """Points without which no envelope is wide enough for a not-produced."""
    calibrations: tuple[CalibrationRules, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "p_produced": strict.decimal(self.p_produced),
            "p_negative": strict.decimal(self.p_negative),
            "required": [
                {"distortion": d, "strength": strict.decimal(s)} for d, s in self.required
            ],
            "calibrations": [strict.encode(c) for c in self.calibrations],
        }

    @staticmethod
    def from_json(value: object) -> "Rules":
        """Parse strictly; raise `MalformedMeasurements`."""
        wire = strict.decode(_RulesWire, value, "rules")
        rules = Rules(
            p_produced=wire.p_produced,
            p_negative=wire.p_negative,
            required=tuple((p.distortion, p.strength) for p in wire.required),
            calibrations=wire.calibrations,
        )
        require_sane(rules)
        return rules


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    distortion: str
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _RulesWire:
    p_produced: float
    p_negative: float
    required: tuple[_Point, ...]
    calibrations: tuple[CalibrationRules, ...]


def require_consistent(m: Measurements) -> None:
    """Raise `MalformedMeasurements` where measurements contradict themselves."""
    _require(bool(m.models) or bool(m.medium.problem), "no model was examined")
    _require(_HEX.fullmatch(m.medium.sha256) is not None, "the medium's digest is not SHA-256")
    _require(m.medium.pixels is None or bool(_HEX.fullmatch(m.medium.pixels)), "pixel digest")
    _require(m.compared_before >= 0, "a negative number of comparisons")
    _require_unique([c.name for c in m.log_checks], "log check")
    _require_unique([x.digest for x in m.models], "model")
    if m.medium.seen_at is not None:
        _require_time(m.medium.seen_at)
    for model in m.models:
        _require_model(model)


def _require_model(m: ModelScores) -> None:
    _require(_HEX.fullmatch(m.digest) is not None, f"{m.name}: model digest")
    _require(m.dim >= 2, f"{m.name}: fewer than two latent dimensions")
    _require_unique([f"{c.epoch}/{c.counter}" for c in m.counters], "counter")
    _require_unique([x.vector for x in m.lookups], "vector")
    _require(m.applicable or not m.lookups, f"{m.name}: a look-up without a usable medium")
    _require(m.applicable == (m.condition is not None), f"{m.name}: condition and applicability")
    for lookup in m.lookups:
        _require(lookup.compared >= 0 and -1.0 <= lookup.cosine <= 1.0, f"{m.name}: a look-up")
    cosines = [c.cosine for c in m.counters if c.cosine is not None]
    _require(all(-1.0 <= x <= 1.0 for x in cosines), f"{m.name}: a cosine outside [-1, 1]")
    # The best look-up and the rows must tell the same story: neither may hide a hit of the other.
    if cosines or any(x.compared for x in m.lookups):
        best = max((x.cosine for x in m.lookups if x.compared), default=None)
        _require(best == max(cosines, default=None), f"{m.name}: look-ups and counters disagree")
    for counter in m.counters:
        _require_counter(counter)
    for run in (m.digest_channel, m.sketch_channel, m.replay_channel, m.range_channel):
        _require(run.compared >= 0, f"{m.name}: a negative number of comparisons")
    _require(m.residual is None or m.residual >= 0.0, f"{m.name}: a negative residual")
    _require(m.range_channel.run == (m.residual is not None), f"{m.name}: range and residual")
    if m.live is not None:
        _require_live(m.live)


def _require_counter(c: CounterScores) -> None:
    where = f"counter {c.epoch}/{c.counter}"
    _require(c.epoch >= 0 and c.counter >= 0, where)
    _require((c.index is not None) == (c.state == "generated"), f"{where}: index and state")
    _require(c.sketch_distance is None or 0 <= c.sketch_distance <= 256, f"{where}: distance")
    _require(bool(c.digests) or not c.digest_excluded, f"{where}: excluded without a digest")
    if c.replay is not None:
        _require_score(c.replay)
        _require(c.rederived, f"{where}: replayed without its latent")
    if c.sealed_at is not None:
        _require_time(c.sealed_at)


def _require_live(live: LiveControls) -> None:
    sizes = {len(live.cosines), len(live.replays), len(live.residuals)}
    _require(sizes == {live.trials}, "live controls without their scores")
    _require(all(-1.0 <= x <= 1.0 for x in live.cosines), "live control: cosine")
    for score in live.replays:
        _require_score(score)


def _require_score(score: ReplayScore) -> None:
    _require(len(score.local) == WINDOW_SCALES, f"a replay has {WINDOW_SCALES} window scales")
    _require(min(score.global_, *score.local) >= 0.0, "a negative residual")


def require_sane(rules: Rules) -> None:
    """Raise `MalformedMeasurements` for rules that no calibration can have produced."""
    _require(0.0 < rules.p_produced < rules.p_negative <= 1.0, "the limits of p are out of order")
    _require_unique([c.model_digest for c in rules.calibrations], "calibrated model")
    for calibration in rules.calibrations:
        _require(0.0 < calibration.beta < 1.0, "beta is not a rate")
        _require(bool(_HEX.fullmatch(calibration.document)), "calibration document digest")
        _require_unique([f"{p.distortion} {p.strength}" for p in calibration.points], "point")
        for point in calibration.points:
            _require_point(point)


def _require_point(p: PointRule) -> None:
    where = f"calibration point {p.distortion} {strict.decimal(p.strength)}"
    _require(_NAME.fullmatch(p.distortion) is not None, where)
    _require(0 <= p.misses <= p.trials and 0 <= p.produced <= p.trials, where)
    _require(0 <= p.false_replays <= p.trials, where)
    _require(0 <= p.foreign_reached <= p.foreign, where)
    _require(len(p.replay_local) == WINDOW_SCALES, where)
    _require(min(p.replay_global, p.reach, *p.replay_local) >= 0.0, where)


def _require_time(time: Time) -> None:
    _require(_TIME.fullmatch(time.at) is not None, f"not a UTC time: {time.at[:40]}")


def _require_unique(names: list[str], what: str) -> None:
    _require(len(names) == len(set(names)), f"a {what} is listed twice")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise MalformedMeasurements(f"inconsistent: {what}")
