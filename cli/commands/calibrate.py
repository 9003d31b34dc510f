"""`latentlog calibrate`: measuring what an examination would miss, and logging it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from latentlog.cli.calibration import DISTORTIONS, measure
from latentlog.cli.console import Console, columns
from latentlog.cli.errors import CliError
from latentlog.cli.files import read_input, require_absent, write_output
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import Ledger, find_model, open_ledger, open_record

if TYPE_CHECKING:
    from latentlog.evidence.calibration import Calibration
    from latentlog.evidence.profiles import Point, Profile
    from latentlog.ledger.digest import Digest

app = typer.Typer()

TYPICAL_N: Final = 1 << 20
"""Latents compared in an examination of a small log: the overrun alone."""


class UnknownPoint(CliError):
    """A point of the envelope that cannot be declared."""


@command(
    app,
    panel="Examine",
    examples=[
        "latentlog calibrate faces --profile quick",
        "latentlog calibrate faces --from faces.calibration.json",
        "latentlog calibrate faces --profile demo --points png,jpeg:90,resize:0.75 --jobs 2"
        " --out faces.calibration.json",
    ],
)
def calibrate(
    invocation: Invocation,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A registered model.")],
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Take over a calibration made elsewhere."),
    ] = None,
    profile: Annotated[
        Literal["demo", "quick", "standard", "court"],
        typer.Option(help="How many controls, where, for which miss bound."),
    ] = "quick",
    points: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Other points, such as png,jpeg:90,resize:0.75."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Model processes; one a CPU if not given."),
    ] = None,
    trials: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One JSON line a trial, to resume from; in the home."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the calibration document.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run the Python of a factory model.")
    ] = False,
) -> None:
    """Run planted positives through the whole pipeline and log the rules they give.

    An interrupted run resumes where it stopped. A finding of "not produced" rests on this: it
    prints which share of the model's own pictures would have been missed at every point.
    """
    if out is not None:
        require_absent(out)
    with open_ledger(invocation) as ledger:
        entry = find_model(ledger, model)
        if from_ is None:
            document = measure(
                invocation.console,
                ledger,
                model,
                _profile(profile, points),
                jobs=jobs,
                trials=trials,
                trust_code=trust_code,
            )
        else:
            document = read_input(from_)
        logged = _log(ledger, document, entry.digest, taken_over=from_ is not None)
    if out is not None:
        write_output(out, logged.document)
    _print(invocation.console, logged)


@dataclass(frozen=True, slots=True)
class Logged:
    """A calibration in the log."""

    index: int
    document: bytes
    calibration: Calibration


def _log(ledger: Ledger, content: bytes, digest: Digest, *, taken_over: bool) -> Logged:
    """Log a calibration; where this log did not fix its controls it says "elsewhere"."""
    from latentlog.evidence.calibration import decode_calibration
    from latentlog.ledger.entry import CalibrationEntry

    calibration = decode_calibration(content, model_digest=digest.hex())
    if taken_over:
        with open_record(ledger) as record:
            here = calibration.control_root == record.control_root(digest.hex()).hex()
        calibration = replace(calibration, made="here" if here else "elsewhere")
    document = calibration.encode()
    entry = CalibrationEntry(
        model_digest=digest,
        document=ledger.log.add_document(document),
        profile=calibration.profile,
        beta=calibration.beta,
        pipeline=calibration.pipeline,
        made=calibration.made,
    )
    index = ledger.log.append([entry]).first
    ledger.log.publish()
    return Logged(index, document, calibration)


def _profile(name: str, points: str | None) -> Profile:
    from latentlog.evidence.profiles import PROFILES

    profile = PROFILES[name]
    if points is None:
        return profile
    # A profile is how many controls for which bound; where they were made is listed beside it.
    return replace(profile, points=tuple(_point(text) for text in points.split(",")))


def _point(text: str) -> Point:
    from latentlog.evidence.profiles import Point

    distortion, _, strength = text.strip().partition(":")
    try:
        value = float(strength or 0)
    except ValueError:
        value = -1.0
    if distortion not in DISTORTIONS or value < 0:
        raise UnknownPoint(
            "not a point of an envelope", expected="png, jpeg:QUALITY or resize:FACTOR", got=text
        )
    return Point(distortion=distortion, strength=value)


def _print(console: Console, logged: Logged) -> None:
    from latentlog.evidence.calibration import rules_at
    from latentlog.evidence.measurements import Rules

    index, calibration = logged.index, logged.calibration
    rules = rules_at(logged.document, TYPICAL_N, entry=index, rules=Rules())
    rows = [
        {
            "distortion": p.distortion,
            "strength": p.strength,
            "trials": p.trials,
            "misses": p.misses,
            "produced": p.produced,
        }
        for p in rules.points
    ]
    console.emit(
        {
            "schema": "latentlog/calibration-entry/v0",
            "model": calibration.model,
            "entry": index,
            "profile": calibration.profile,
            "beta": calibration.beta,
            "made": calibration.made,
            "pipeline": calibration.pipeline,
            "document": rules.document,
            "multiplicity": TYPICAL_N,
            "points": rows,
        },
        f"calibration of {calibration.model}, profile {calibration.profile}, made "
        f"{calibration.made}, entry {index}",
        f"the joint bound on what may be missed (beta) is {calibration.beta:g}; "
        f"counted here for {TYPICAL_N:,} compared latents:",
        *columns(
            [
                ("POINT", "CONTROLS", "MISSED", "PRODUCED"),
                *(
                    (
                        f"{r['distortion']} {r['strength']:g}",
                        r["trials"],
                        r["misses"],
                        r["produced"],
                    )
                    for r in rows
                ),
            ],
            indent="  ",
        ),
    )
