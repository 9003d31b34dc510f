"""`latentlog recorder`: who may seal generations."""

from __future__ import annotations

from typing import Annotated

import typer

from latentlog.cli.console import columns
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import open_ledger

app = typer.Typer(help="Who may seal generations: `add`, `list`, `retire`.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The recorder's name; it is public.")]


@command(app, examples=["latentlog recorder add worker-1"])
def add(invocation: Invocation, name: Name) -> None:
    """Make a recorder's key and register it."""
    from latentlog.ledger.home import make_recorder_key
    from latentlog.ledger.registry import add_recorder

    with open_ledger(invocation) as ledger:
        key = make_recorder_key(ledger.home, name).public
        index = add_recorder(ledger.log, name, key).first
        ledger.log.publish()
    invocation.console.emit(
        {"schema": "latentlog/recorder/v0", "name": name, "key": key.hex(), "entry": index},
        f"recorder {name}: key {key.hex()}, entry {index}",
    )


@command(app, name="list", examples=["latentlog recorder list"])
def list_(invocation: Invocation) -> None:
    """List the registered recorders."""
    from latentlog.ledger.registry import recorders

    with open_ledger(invocation) as ledger:
        known = recorders(ledger.log)
    rows = [{"name": r.name, "state": r.state, "key": r.key.hex()} for r in known.values()]
    invocation.console.emit(
        {"schema": "latentlog/recorders/v0", "recorders": rows},
        *columns([("RECORDER", "STATE", "KEY"), *(tuple(row.values()) for row in rows)]),
    )


@command(app, examples=["latentlog recorder retire worker-1"])
def retire(invocation: Invocation, name: Name) -> None:
    """End a recorder's right to seal; what it had reserved is logged as abandoned."""
    from latentlog.ledger.registry import retire_recorder

    with open_ledger(invocation) as ledger:
        index = retire_recorder(ledger.log, name).first
        ledger.log.publish()
    invocation.console.emit(
        {"schema": "latentlog/recorder/v0", "name": name, "state": "retired", "entry": index},
        f"recorder {name} is retired, entry {index}",
    )
