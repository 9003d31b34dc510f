"""`latentlog doctor`: what is configured, what is missing, what to type next."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import typer

from latentlog.cli.console import Console, columns
from latentlog.cli.errors import EXTRA_OF, CliError
from latentlog.cli.options import Invocation, command
from latentlog.cli.render import without_password

if TYPE_CHECKING:
    from latentlog.cli.wiring import Ledger

app = typer.Typer()

PURPOSE: Final = {
    "examine": "generate, calibrate, examine",
    "report": "PDF reports",
    "postgres": "PostgreSQL",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """None where it is absent and nothing is wrong with that."""
    detail: str
    next: str | None = None


@command(app, panel="Help", examples=["latentlog doctor", "latentlog doctor --json"])
def doctor(invocation: Invocation) -> None:
    """Say what is configured, what is missing, and what to type next."""
    lines = [*_installation(), *_ledger(invocation)]
    steps = [line.next for line in lines if line.next]
    document = {
        "schema": "latentlog/doctor/v0",
        "checks": [{"name": x.name, "ok": x.ok, "detail": x.detail, "next": x.next} for x in lines],
        "next": steps[0] if steps else None,
    }
    console = invocation.console
    rows = [(_mark(console, line), line.name, line.detail) for line in lines]
    console.emit(document, *columns(rows), *(f"next: {step}" for step in steps[:1]))


def _mark(console: Console, line: Line) -> str:
    word, style = {True: ("ok     ", "good"), False: ("WRONG  ", "bad"), None: ("missing", "dim")}[
        line.ok
    ]
    return console.paint(word, style)


def _installation() -> Iterator[Line]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Line("latentlog", True, f"{version('latentlog')} on Python {python}")
    for extra, purpose in PURPOSE.items():
        absent = [m for m, e in EXTRA_OF.items() if e == extra and find_spec(m) is None]
        detail = f"{purpose}: pip install 'latentlog[{extra}]'" if absent else purpose
        yield Line(f"extra {extra}", None if absent else True, detail)


def _ledger(invocation: Invocation) -> Iterator[Line]:
    home = invocation.settings.home
    if not home.exists():
        yield Line("home", None, f"nothing at {home}", "latentlog init")
        return
    from latentlog.cli.wiring import open_ledger
    from latentlog.ledger.errors import LedgerError

    try:
        with open_ledger(invocation) as ledger:
            yield Line("home", True, str(ledger.home.path))
            yield from _contents(ledger)
    except (LedgerError, CliError) as error:
        # A broken ledger is what the doctor is asked about, not a failure to answer.
        yield Line("ledger", False, error.message, error.next_step)


def _contents(ledger: Ledger) -> Iterator[Line]:
    from latentlog.ledger.epochs import epoch_states
    from latentlog.ledger.errors import LedgerError
    from latentlog.ledger.registry import models

    log, home = ledger.log, ledger.home
    yield Line("database", True, f"{without_password(home.database_url)}, {log.size} entries")
    yield Line("log", True, log.vkey)
    try:
        log.require_appendable()
    except LedgerError as error:
        yield Line("appends", False, error.message, error.next_step)
    covered = log.checkpoint().checkpoint.size
    behind = log.size - covered
    yield Line(
        "checkpoint",
        None if behind else True,
        f"covers {covered} of {log.size} entries",
        "latentlog checkpoint" if behind else None,
    )
    registered = [entry for _, entry in models(log)]
    if not registered:
        step = "latentlog model add NAME --generator FILE.pt2 --latent-dim N"
        yield Line("model", None, "none is registered", step)
    open_for = {state.model for state in epoch_states(log) if state.open}
    calibrated = set(_calibrated(ledger))
    for model in registered:
        name = f"model {model.name}"
        suffix = ".pt2" if model.format == "pt2" else ".safetensors"
        path = home.model_path(model.digest, suffix)
        if not path.exists():
            yield Line(name, False, f"its file is missing: {path}", f"restore {path}")
        elif model.name not in open_for:
            yield Line(name, None, "no open epoch", f"latentlog epoch open {model.name}")
        elif model.digest not in calibrated:
            step = f"latentlog calibrate {model.name}"
            yield Line(name, None, "no calibration is logged", step)
        else:
            yield Line(name, True, "epoch open, calibration logged")


def _calibrated(ledger: Ledger) -> Iterator[bytes]:
    from latentlog.ledger.entry import CalibrationEntry

    for logged in ledger.log.entries(kind=CalibrationEntry.kind):
        if isinstance(logged.entry, CalibrationEntry):
            yield logged.entry.model_digest
