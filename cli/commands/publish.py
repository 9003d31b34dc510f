"""`latentlog publish`: the log as static files for any web server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentlog.cli.commands.log import outages_reported, seconds
from latentlog.cli.options import Invocation, command
from latentlog.cli.render import checkpoint_document
from latentlog.cli.wiring import Ledger, open_ledger

if TYPE_CHECKING:
    from latentlog.ledger.publish import Imprint

app = typer.Typer()


@command(
    app,
    panel="The log",
    examples=[
        'latentlog publish ./site --operator "Example Labs"',
        'latentlog publish /srv/www/log --operator "Example Labs" --contact log@example.com '
        "--not-covered faces-beta --every 60s",
    ],
)
def publish(
    invocation: Invocation,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that a web server shows.")
    ],
    operator: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who runs the log; its origin if not given."),
    ] = None,
    contact: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How to reach the operator.")
    ] = None,
    not_covered: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A model whose outputs are not recorded; repeatable."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Go on, once each 30s, 5m, …, until interrupted."),
    ] = None,
) -> None:
    """Sign a checkpoint and write the log as static tiles with a page in plain words.

    The files (c2sp.org/tlog-tiles) hold nothing secret and need no server of their own. The folder
    is whole at every moment; publishing again writes only what is new.
    """
    from latentlog.ledger.publish import Imprint

    pause = seconds(every) if every else None
    with open_ledger(invocation) as ledger:
        imprint = Imprint(operator or ledger.log.origin, contact, not_covered or ())
        _publish(invocation, ledger, folder, imprint)
        while pause is not None:
            time.sleep(pause)
            with outages_reported(invocation.console):
                _publish(invocation, ledger, folder, imprint)


def _publish(invocation: Invocation, ledger: Ledger, folder: Path, imprint: Imprint) -> None:
    from latentlog.ledger.publish import publish_site

    ledger.log.publish()
    with invocation.console.progress("publishing entries") as advance:
        shown = publish_site(ledger.log, folder, imprint, on_progress=advance)
    invocation.console.emit(
        {
            "schema": "latentlog/publication/v0",
            "folder": str(folder.absolute()),
            "checkpoint": checkpoint_document(shown.checkpoint),
            "sealed": shown.sealed and f"{shown.sealed:%Y-%m-%dT%H:%M:%SZ}",
            "vkey": ledger.log.vkey,
        },
        f"{folder} shows {shown.checkpoint.checkpoint.size} entries",
        f"anyone checks it with: latentlog audit --tiles {folder} --vkey {ledger.log.vkey}",
    )
