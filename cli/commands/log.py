"""`latentlog checkpoint`, `prove`, `show`, `status`: the log as others see it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentlog.cli.console import Console, columns
from latentlog.cli.errors import CliError, ExitCode
from latentlog.cli.files import STANDARD, write_output
from latentlog.cli.options import Invocation, command
from latentlog.cli.render import body_document, checkpoint_document, without_password
from latentlog.cli.wiring import Ledger, open_ledger

if TYPE_CHECKING:
    from latentlog.ledger.log import Log

app = typer.Typer()

Index = Annotated[int, typer.Argument(metavar="INDEX", min=0, help="An entry's place in the log.")]


class MalformedDuration(CliError):
    """A duration that is not a number with s, m, h or d."""


@command(
    app, panel="The log", examples=["latentlog checkpoint", "latentlog checkpoint --every 60s"]
)
def checkpoint(
    invocation: Invocation,
    every: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Go on, once each 30s, 5m, …, until interrupted."),
    ] = None,
) -> None:
    """Sign a checkpoint over everything appended so far and print its note.

    Without new entries the newest one is printed again. With --every an outage of the database is
    reported and outlasted; anything else ends the command.
    """
    pause = seconds(every) if every else None
    with open_ledger(invocation) as ledger:
        _publish(invocation.console, ledger.log)
        while pause is not None:
            time.sleep(pause)
            with outages_reported(invocation.console):
                if ledger.log.checkpoint().checkpoint.size != ledger.log.size:
                    _publish(invocation.console, ledger.log)


@command(
    app,
    panel="The log",
    examples=["latentlog prove 41", "latentlog prove 41 --out 41.tlog-proof"],
)
def prove(
    invocation: Invocation,
    index: Index,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to write the proof; - for stdout.")
    ] = STANDARD,
) -> None:
    """Prove that an entry is in the log: a c2sp.org/tlog-proof file with the signed checkpoint."""
    from latentlog.ledger.proof import format_tlog_proof

    with open_ledger(invocation) as ledger:
        verified = ledger.log.checkpoint()
        hashes = ledger.log.prove(index, verified.checkpoint.size)
    proof = format_tlog_proof(index, hashes, verified.note)
    if not invocation.console.json:
        write_output(out, proof)
        return
    if out != STANDARD:
        write_output(out, proof)
    invocation.console.record(
        {
            "schema": "latentlog/proof/v0",
            "index": index,
            "hashes": [digest.hex() for digest in hashes],
            "checkpoint": checkpoint_document(verified),
            "proof": proof.decode(),
        }
    )


@command(app, panel="The log", examples=["latentlog show 41", "latentlog show 41 --json"])
def show(invocation: Invocation, index: Index) -> None:
    """Print an entry as it was logged, and the seal that covers it."""
    from latentlog.ledger.entry import Seal
    from latentlog.ledger.merkle import leaf_hash

    with open_ledger(invocation) as ledger:
        logged = ledger.log.entry(index)
        seal = None if isinstance(logged.entry, Seal) else ledger.log.batch_of(index).seal
    document: dict[str, Any] = {
        "schema": "latentlog/entry/v0",
        "index": index,
        "leaf_hash": leaf_hash(logged.body).hex(),
        "entry": body_document(logged.body),
        "seal": None if seal is None else {"index": seal.index, "entry": body_document(seal.body)},
    }
    lines = [f"entry {index}, leaf hash {document['leaf_hash']}"]
    lines += columns(sorted(document["entry"].items()), indent="  ")
    if seal is not None and isinstance(seal.entry, Seal):
        when = f"{seal.entry.time:%Y-%m-%dT%H:%M:%SZ}"
        lines.append(f"sealed by {seal.entry.signer} at {when}, entry {seal.index}")
    invocation.console.emit(document, *lines)


@command(
    app, panel="The log", examples=["latentlog status", "latentlog status --max-age 10m --json"]
)
def status(
    invocation: Invocation,
    max_age: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="Exit 1 if entries have waited longer for a checkpoint."
        ),
    ] = "1h",
) -> int:
    """Print what the log holds and whether everything appended is covered by a checkpoint.

    Exit code 1 when stale: entries older than --max-age are not covered yet; or when nothing can be
    appended, as after a restore.
    """
    limit = timedelta(seconds=seconds(max_age))
    with open_ledger(invocation) as ledger:
        document = _status(ledger)
    waiting = document["oldest_uncovered_s"]
    stale = waiting is not None and waiting > limit.total_seconds()
    document["stale"] = stale = stale or document["closed"] is not None
    invocation.console.emit(document, *_status_lines(document))
    return ExitCode.INTEGRITY if stale else ExitCode.DONE


def _publish(console: Console, log: Log) -> None:
    log.publish()
    verified = log.checkpoint()
    if console.json:
        console.record({"schema": "latentlog/checkpoint/v0", **checkpoint_document(verified)})
    else:
        console.binary(verified.note)


def _status(ledger: Ledger) -> dict[str, Any]:
    from latentlog.ledger.epochs import counter_totals, epoch_states
    from latentlog.ledger.registry import models, recorders

    log = ledger.log
    covered, size = log.checkpoint().checkpoint.size, log.size
    return {
        "schema": "latentlog/status/v0",
        "home": str(ledger.home.path),
        "origin": log.origin,
        "vkey": log.vkey,
        "database": without_password(ledger.home.database_url),
        "entries": size,
        "covered": covered,
        "oldest_uncovered_s": _age(log, covered),
        "closed": _closed(log),
        "models": [entry.name for _, entry in models(log)],
        "recorders": {r.name: r.state for r in recorders(log).values()},
        "epochs": [
            {
                "epoch": state.epoch,
                "model": state.model,
                "state": "open" if state.open else "closed",
                **counter_totals(log, state.epoch)._asdict(),
            }
            for state in epoch_states(log)
        ],
    }


def _closed(log: Log) -> dict[str, Any] | None:
    """What keeps the database from being appended to, if anything does."""
    from latentlog.ledger.errors import LedgerError

    try:
        log.require_appendable()
    except LedgerError as error:
        return {"code": error.code, "message": error.message, "next": error.next_step}
    return None


def _age(log: Log, covered: int) -> float | None:
    """Seconds since the first batch after the checkpoint was sealed, if there is one."""
    from latentlog.ledger.entry import Seal

    for logged in log.entries(covered, kind=Seal.kind):
        assert isinstance(logged.entry, Seal)
        return (log.clock() - logged.entry.time).total_seconds()
    return None


def _status_lines(document: dict[str, Any]) -> list[str]:
    rows = [(name, document[name]) for name in ("home", "origin", "vkey", "database", "entries")]
    waiting = document["entries"] - document["covered"]
    covered = "all entries" if not waiting else f"all but {waiting} entries"
    if document["closed"]:
        rows.append(("appends", f"refused: {document['closed']['message']}"))
    rows += [
        ("checkpoint", f"covers {covered}" + (" (stale)" if document["stale"] else "")),
        ("models", ", ".join(document["models"]) or "none"),
        ("recorders", ", ".join(f"{n} ({s})" for n, s in document["recorders"].items())),
    ]
    lines = columns(rows)
    if document["epochs"]:
        head = [name.upper() for name in document["epochs"][0]]
        lines += ["", *columns([head, *(tuple(epoch.values()) for epoch in document["epochs"])])]
    return lines


@contextmanager
def outages_reported(console: Console) -> Iterator[None]:
    """Turn an outage into a warning, for commands that go on until they are interrupted."""
    from latentlog.ledger.errors import SiteBusy, StorageUnavailable

    try:
        yield
    except (StorageUnavailable, SiteBusy) as error:
        console.warn(f"trying again later: {error.message}")


def seconds(text: str) -> float:
    """Read a duration such as 60s or 24h; raises `MalformedDuration`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text)
    if not found or not float(found[1]):
        raise MalformedDuration("not a duration", expected="such as 30s, 5m, 2h or 1d", got=text)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
