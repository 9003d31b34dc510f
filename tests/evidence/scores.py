"""Measurements and rules for the tests of the decision, built from a sound examination."""

from dataclasses import replace
from typing import Any

from latentlog.evidence.finding import (
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
)

DIM = 100
MODEL = "ab" * 32

# At N = 4,000 and d = 100 these lie beyond 1e-6, between the limits, and inside chance.
CLOSE, GREY, FAR = 0.99, 0.57, 0.35

GOOD_REPLAY = ReplayScore(global_=1.0, local=(1.4, 1.2, 1.1))
PATCHED_REPLAY = ReplayScore(global_=1.05, local=(9.0, 4.0, 1.6))
BAD_REPLAY = ReplayScore(global_=12.0, local=(30.0, 20.0, 15.0))

RAN = ChannelRun(run=True, compared=4000, note="")
NOT_RUN = ChannelRun(run=False, compared=0, note="not asked for")


def counter(**changes: Any) -> CounterScores:
    sound = CounterScores(
        epoch=0,
        counter=37,
        index=41,
        state="generated",
        source="schedule",
        rederived=True,
        cosine=FAR,
        digests=(),
        digest_excluded="",
        sketch_distance=None,
        replay=BAD_REPLAY,
        sealed_at=None,
    )
    return replace(sound, **changes)


def model(*counters: CounterScores, **changes: Any) -> ModelScores:
    cosines = [c.cosine for c in counters if c.cosine is not None]
    sound = ModelScores(
        name="faces",
        digest=MODEL,
        kind="decoder",
        dim=DIM,
        applicable=True,
        condition=Condition(distortion="png", strength=0.0, words="8-bit PNG"),
        lookups=(Lookup(vector="medium", compared=4000, cosine=max(cosines)),) if cosines else (),
        counters=counters,
        digest_channel=RAN,
        sketch_channel=RAN,
        replay_channel=RAN,
        range_channel=RAN,
        residual=25.0,
        live=live(),
        disclosed_epochs=(0,),
        undisclosed_epochs=(),
    )
    return replace(sound, **changes)


def live(**changes: Any) -> LiveControls:
    sound = LiveControls(
        distortion="png",
        strength=0.0,
        seed="00",
        trials=10,
        cosines=(0.99,) * 10,
        replays=(GOOD_REPLAY,) * 10,
        residuals=(1.0,) * 10,
    )
    return replace(sound, **changes)


def measurements(*models: ModelScores, **changes: Any) -> Measurements:
    sound = Measurements(
        medium=Medium(
            sha256="cd" * 32,
            pixels="ef" * 32,
            format="PNG",
            mode="RGB",
            width=64,
            height=64,
            problem="",
            seen_at=None,
        ),
        models=models,
        compared_before=0,
        log_checks=(
            LogCheck(name="audit", ok=True, detail="4,000 entries"),
            LogCheck(name="timestamps", ok=None, detail="no token"),
        ),
        earlier_disclosures=(),
    )
    return replace(sound, **changes)


def point(distortion: str, strength: float, **changes: Any) -> PointRule:
    sound = PointRule(
        distortion=distortion,
        strength=strength,
        trials=150,
        misses=0,
        produced=149,
        replay_global=1.2,
        replay_local=(2.0, 1.7, 1.5),
        reach=1.3,
        false_replays=0,
        foreign=20,
        foreign_reached=0,
    )
    return replace(sound, **changes)


def calibration(*points: PointRule, **changes: Any) -> CalibrationRules:
    sound = CalibrationRules(
        model_digest=MODEL,
        document="12" * 32,
        entry=5,
        profile="quick",
        pipeline="0",
        made="here",
        device="cpu",
        beta=0.05,
        points=points or (point("png", 0.0), point("jpeg", 90.0), point("jpeg", 75.0)),
    )
    return replace(sound, **changes)


def rules(*calibrations: CalibrationRules) -> Rules:
    return Rules(calibrations=calibrations or (calibration(),))
