"""`latentlog examine`: from a disputed medium to a signed finding."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from latentlog.cli.calibration import DISTORTIONS, measure
from latentlog.cli.console import Console
from latentlog.cli.errors import CliError, ExitCode
from latentlog.cli.files import STANDARD, read_input, require_absent
from latentlog.cli.findings import finding_lines
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import (
    Ledger,
    find_model,
    open_ledger,
    open_record,
    require_extra,
    start_model,
    view_of,
)

if TYPE_CHECKING:
    from latentlog.evidence.assemble import Signature
    from latentlog.evidence.compare import Channel
    from latentlog.evidence.examine import Examination, ExaminedModel, Request
    from latentlog.evidence.exhibit import Exhibit
    from latentlog.evidence.finding import Finding
    from latentlog.evidence.local_record import LocalRecord
    from latentlog.evidence.profiles import Point
    from latentlog.evidence.record import LoggedCalibration

app = typer.Typer()

CHANNELS: Final[tuple[Channel, ...]] = ("digest", "sketch", "latent", "replay", "range")
VERSIONS: Final = ("latentlog", "torch", "numpy", "scipy", "Pillow", "pdqhash")
SEED_BYTES: Final = 16


class ContradictoryRequest(CliError):
    """Options that do not say what to examine, or how."""


@command(
    app,
    panel="Examine",
    examples=[
        "latentlog examine accused.jpg --model faces --out case.zip",
        "latentlog examine accused.jpg --all-models --out case.zip --json",
        "latentlog examine - --model faces --out case.zip < accused.jpg",
    ],
)
def examine(
    invocation: Invocation,
    medium: Annotated[
        Path, typer.Argument(metavar="MEDIUM", help="The disputed picture; - for stdin.")
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Where to write the signed bundle.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model; may be given repeatedly.")
    ] = None,
    all_models: Annotated[
        bool, typer.Option("--all-models", help="Every registered model.")
    ] = False,
    seed: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="The examiner's seed; drawn and printed if not given."),
    ] = None,
    controls: Annotated[
        int, typer.Option(metavar="N", min=0, help="Controls of the calibration to repeat now.")
    ] = 10,
    channels: Annotated[
        str, typer.Option(metavar="LIST", help=f"Which of {','.join(CHANNELS)} to run.")
    ] = ",".join(CHANNELS),
    seen_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When the medium existed, as stated: 2026-01-31T09:30:00Z."
        ),
    ] = None,
    examiner: Annotated[
        str, typer.Option(metavar="NAME", help="Who examines; stands in the statement.")
    ] = "operator of this log",
    role: Annotated[
        Literal["independent", "court_appointed", "accused_party", "accusing_party"],
        typer.Option(help="What the examiner is to the dispute; page 1 says so."),
    ] = "accused_party",
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run the Python of factory models.")
    ] = False,
) -> int:
    """Examine a disputed picture and write a signed bundle.

    The picture is inverted through each model, what comes out is compared with every latent the
    log could have issued, the closest entries are regenerated and compared with the picture.
    Exit code 0: produced, or not produced; 3: inconclusive. The picture itself is never changed.
    """
    from latentlog.evidence.assemble import make_bundle
    from latentlog.evidence.bundle import write_bundle

    require_extra("torch", "scipy", "PIL")
    require_absent(out)
    exhibit = _take_in(medium)
    request = _request(_seed(seed), controls, channels, seen_at)
    with open_ledger(invocation) as ledger, open_record(ledger) as record, ExitStack() as running:
        names = _names(ledger, model, all_models)
        started = [_start(running, ledger, record, name, trust_code) for name in names]
        unlogged = _uncalibrated(invocation.console, ledger, record, exhibit, started, trust_code)
        request = replace(request, calibrations=unlogged)
        examination = _run(invocation.console, exhibit, started, record, request)
        signature = _signature(ledger, examiner, role)
        with_report = find_spec("typst") is not None
        parts = make_bundle(examination, record, signature, with_report=with_report)
    write_bundle(out, parts)
    _print(invocation.console, examination, out)
    return _exit_code(examination.finding)


def _take_in(path: Path) -> Exhibit:
    """Read the medium; one that is no picture is an error and not a finding."""
    from latentlog.evidence.exhibit import Exhibit
    from latentlog.inversion.picture import read_picture

    content = read_input(path)
    read_picture(content)
    return Exhibit(name="stdin" if path == STANDARD else path.name, role="medium", content=content)


def _request(seed: bytes, controls: int, channels: str, seen_at: str | None) -> Request:
    from latentlog.evidence.examine import Request
    from latentlog.evidence.measurements import Time

    chosen: set[Channel] = set()
    for name in channels.split(","):
        found = next((c for c in CHANNELS if c == name.strip()), None)
        if found is None:
            raise ContradictoryRequest(
                "no such channel", expected=", ".join(CHANNELS), got=name.strip()
            )
        chosen.add(found)
    if seen_at and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", seen_at):
        raise ContradictoryRequest(
            "not a time in UTC", expected="such as 2026-01-31T09:30:00Z", got=seen_at
        )
    return Request(
        seed=seed,
        live_trials=controls,
        channels=frozenset(chosen),
        seen_at=Time(at=seen_at, source="stated") if seen_at else None,
    )


def _seed(text: str | None) -> bytes:
    if text is None:
        return os.urandom(SEED_BYTES)
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if not 1 <= len(seed) <= 64:
        raise ContradictoryRequest(
            "a seed is 1 to 64 bytes in hexadecimal", expected="such as 00ff", got=text[:80]
        )
    return seed


def _names(ledger: Ledger, names: list[str] | None, all_models: bool) -> list[str]:
    from latentlog.ledger.registry import models

    if bool(names) == all_models:
        raise ContradictoryRequest(
            "say which models to examine", expected="--model NAME (repeatable) or --all-models"
        )
    registered = [entry.name for _, entry in models(ledger.log)]
    if all_models and not registered:
        raise ContradictoryRequest(
            "no model is registered yet", next_step="latentlog model add NAME --generator FILE.pt2"
        )
    return list(dict.fromkeys(names or registered))


def _start(
    running: ExitStack, ledger: Ledger, record: LocalRecord, name: str, trust_code: bool
) -> ExaminedModel:
    from latentlog.evidence.examine import ExaminedModel

    entry = find_model(ledger, name)
    process = running.enter_context(start_model(ledger, entry, trust_code=trust_code))
    return ExaminedModel(view=view_of(record, name), process=process)


def _uncalibrated(
    console: Console,
    ledger: Ledger,
    record: LocalRecord,
    exhibit: Exhibit,
    models: list[ExaminedModel],
    trust_code: bool,
) -> dict[str, LoggedCalibration]:
    """Calibrate models that have no logged calibration, at this medium's own condition only.

    Without it no replay could be judged. The finding says that it was not logged before, and its
    one point is never envelope enough for a "not produced".
    """
    from latentlog.evidence.profiles import PROFILES
    from latentlog.evidence.record import LoggedCalibration

    documents = {}
    for model in models:
        if record.calibration(model.view.digest) is not None:
            continue
        point = _condition(exhibit, model)
        if point is None:
            continue
        console.say(
            f"no calibration of {model.view.name} is logged: measuring {point.distortion} "
            f"{point.strength:g} first; the finding says so"
        )
        profile = replace(PROFILES["demo"], name="unlogged", points=(point,))
        document = measure(console, ledger, model.view.name, profile, trust_code=trust_code)
        documents[model.view.digest] = LoggedCalibration(index=None, document=document)
    return documents


def _condition(exhibit: Exhibit, model: ExaminedModel) -> Point | None:
    """Give the medium's condition as a point that controls can be made at, if it is one."""
    from latentlog.evidence.measure import read_medium
    from latentlog.evidence.profiles import Point
    from latentlog.inversion.errors import WrongFormat

    try:
        found = read_medium(exhibit.content, model.view.output_shape).condition
    except WrongFormat:
        return None
    if found.distortion not in DISTORTIONS:
        return None
    return Point(distortion=found.distortion, strength=found.strength)


def _run(
    console: Console,
    exhibit: Exhibit,
    models: list[ExaminedModel],
    record: LocalRecord,
    request: Request,
) -> Examination:
    from latentlog.evidence.examine import examine as follow

    with console.progress("examining") as advance:
        return follow(
            exhibit,
            models,
            record,
            request,
            on_step=lambda what, done, total: advance(done, total, what),
        )


def _signature(
    ledger: Ledger,
    name: str,
    role: Literal["independent", "court_appointed", "accused_party", "accusing_party"],
) -> Signature:
    from latentlog.evidence.assemble import Signature

    return Signature(
        name=name,
        role=role,
        key=ledger.home.examiner_key(),
        created=datetime.now(UTC),
        versions={package: version(package) for package in VERSIONS},
    )


def _exit_code(finding: Finding) -> int:
    return ExitCode.INCONCLUSIVE if finding.outcome == "inconclusive" else ExitCode.DONE


def _print(console: Console, examination: Examination, out: Path) -> None:
    console.emit(
        {**examination.finding.to_output(str(out)), "seed": examination.seed},
        *finding_lines(console, examination.finding),
        f"bundle {out}, examiner's seed {examination.seed}",
    )
    console.say(f"next: latentlog verify {out} --trust trust.toml")
