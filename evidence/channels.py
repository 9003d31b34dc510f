"""What each channel showed, as a finding reports it. Shape only; `rule` judged it before."""

from dataclasses import dataclass
from typing import TypedDict

from latentlog.evidence import null
from latentlog.evidence.measurements import ChannelRun, Lookup
from latentlog.evidence.rule import Judged, ReplayVerdict, range_has_power


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestResult:
    run: bool
    compared: int
    note: str
    equal: int
    """Counters with a sealed digest equal to the medium's."""
    excluded: int
    """Those of them whose digest says nothing about the counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchResult:
    run: bool
    compared: int
    note: str
    nominated: int
    closest: int | None
    """Smallest Hamming distance, of 256 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentResult:
    run: bool
    compared: int
    cosine: float | None
    p_family: str
    vectors: tuple[Lookup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    run: bool
    compared: int
    note: str
    verdict: ReplayVerdict | None
    """Of the counter that the finding is about."""
    global_: float | None
    local: tuple[float, ...] | None
    limit_global: float | None
    limit_local: tuple[float, ...] | None
    distortion: str | None
    """The calibrated point whose limits were applied."""
    strength: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeResult:
    run: bool
    compared: int
    note: str
    power: bool
    residual: float | None
    limit: float | None
    reachable: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    digest: DigestResult
    sketch: SketchResult
    latent: LatentResult
    replay: ReplayResult
    range: RangeResult


def report_channels(judged: Judged) -> Channels:
    """Return each channel's figures for the model that a finding is about."""
    model, rows = judged.model, judged.model.counters
    distances = [c.sketch_distance for c in rows if c.sketch_distance is not None]
    return Channels(
        digest=DigestResult(
            **_run(model.digest_channel),
            equal=sum(bool(c.digests) for c in rows),
            excluded=sum(bool(c.digest_excluded) for c in rows),
        ),
        sketch=SketchResult(
            **_run(model.sketch_channel),
            nominated=len(distances),
            closest=min(distances, default=None),
        ),
        latent=_latent(judged),
        replay=_replay(judged),
        range=_range(judged),
    )


def _latent(j: Judged) -> LatentResult:
    compared = sum(x.compared for x in j.model.lookups)
    return LatentResult(
        run=compared > 0,
        compared=compared,
        cosine=max((x.cosine for x in j.model.lookups), default=None),
        p_family=null.format_p(j.log_p),
        vectors=j.model.lookups,
    )


def _replay(j: Judged) -> ReplayResult:
    score = j.row.scores.replay if j.row else None
    return ReplayResult(
        **_run(j.model.replay_channel),
        verdict=j.row.replay if j.row else None,
        global_=score.global_ if score else None,
        local=score.local if score else None,
        limit_global=j.point.replay_global if j.point else None,
        limit_local=j.point.replay_local if j.point else None,
        distortion=j.point.distortion if j.point else None,
        strength=j.point.strength if j.point else None,
    )


def _range(j: Judged) -> RangeResult:
    residual, limit = j.model.residual, j.point.reach if j.point else None
    return RangeResult(
        **_run(j.model.range_channel),
        power=range_has_power(j.model, j.point),
        residual=residual,
        limit=limit,
        reachable=None if residual is None or limit is None else residual <= limit,
    )


class _Run(TypedDict):
    run: bool
    compared: int
    note: str


def _run(channel: ChannelRun) -> _Run:
    return _Run(run=channel.run, compared=channel.compared, note=channel.note)
