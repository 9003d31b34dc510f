"""`latentlog backup` and `latentlog restore`: copies of the log, and going on from one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentlog.cli.console import Console
from latentlog.cli.files import read_input
from latentlog.cli.options import Invocation, command
from latentlog.cli.render import checkpoint_document
from latentlog.cli.wiring import open_home

if TYPE_CHECKING:
    from latentlog.ledger.restore import Restoration

app = typer.Typer()


@command(app, panel="The log", examples=["latentlog backup ./ledger-backup.sqlite"])
def backup(
    invocation: Invocation,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="The new file.")],
) -> None:
    """Copy the log into one file, as of one moment, while it is recorded into.

    Left out are the record keys of private fields, so that an erasure is not undone by a copy, and
    the keys of the home. For PostgreSQL the command names the server's own tool.
    """
    from latentlog.ledger.backup import backup as copy

    home = open_home(invocation)
    with invocation.console.progress("copying pages") as advance:
        made = copy(home, destination, on_progress=advance)
    invocation.console.emit(
        {"schema": "latentlog/backup/v0", "path": str(made.path), "entries": made.entries},
        f"{destination} holds {made.entries} entries",
    )
    invocation.console.say(
        f"not in it: {home.keys} and the keys to private fields; keep a copy of the former apart"
    )


@command(
    app,
    panel="The log",
    examples=[
        "latentlog restore ./ledger-backup.sqlite --checkpoint newest.note",
        "latentlog restore ./ledger-backup.sqlite --checkpoint newest.note "
        "--tiles https://log.example.com/",
        "latentlog restore --checkpoint newest.note",
    ],
)
def restore(
    invocation: Invocation,
    checkpoint: Annotated[
        Path,
        typer.Option(metavar="NOTE", help="The newest checkpoint that was published or witnessed."),
    ],
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE", help="A backup to put in place; none if the database is there."
        ),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL", help="A copy of the published files, for entries that are missing."
        ),
    ] = None,
) -> None:
    """Take over a restored or failed-over database, which appends nothing before.

    The database must hold what the newest published checkpoint covers; entries that it lacks come
    from the published files. Every open epoch is closed and a new one opened for its model, so no
    latent is ever issued twice.
    """
    from latentlog.ledger.fetch import site_fetch
    from latentlog.ledger.restore import restore as take_over

    home = open_home(invocation)
    fetch = site_fetch(tiles) if tiles is not None else None
    with invocation.console.progress("restoring") as advance:
        done = take_over(
            home, read_input(checkpoint), source=source, fetch=fetch, on_progress=advance
        )
    _tell(invocation.console, done)


def _tell(console: Console, done: Restoration) -> None:
    document: dict[str, Any] = {
        "schema": "latentlog/restoration/v0",
        "checkpoint": checkpoint_document(done.checkpoint),
        "entries": done.entries,
        "recovered": done.recovered,
        "epochs_closed": done.closed,
        "epochs_opened": done.opened,
        "queued_batches_lost": [str(path) for path in done.lost],
        "new_vault": done.new_vault,
    }
    console.emit(
        document,
        f"{done.entries} entries were there, {done.recovered} came from the published files",
        f"epochs closed: {_numbers(done.closed)}; opened: {_numbers(done.opened)}",
    )
    if done.recovered:
        console.warn("private fields of the recovered entries were not published, and are lost")
    if done.new_vault:
        console.warn("the store of record keys was missing: earlier private fields cannot be read")
    for path in done.lost:
        console.warn(f"a queued batch belongs to a reservation that is lost; it is kept as {path}")
    console.say("next: latentlog audit")


def _numbers(epochs: list[int]) -> str:
    return ", ".join(map(str, epochs)) or "none"
