"""`latentlog init`, `db upgrade|current`: making a ledger and bringing an old one up to date."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from latentlog.cli.options import Invocation, command
from latentlog.cli.render import checkpoint_document, without_password
from latentlog.cli.wiring import open_home, open_ledger

app = typer.Typer()
db_app = typer.Typer(help="The database's schema: `upgrade` and `current`.")


@command(
    app,
    panel="Set up",
    examples=[
        "latentlog init --origin example.com/faces",
        "latentlog init --home ./ledger",
        "latentlog init --db postgresql://recorder@db.example.com/latentlog",
    ],
)
def init(
    invocation: Invocation,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The log's unique public name, such as example.com/faces; drawn if not given.",
        ),
    ] = None,
) -> None:
    """Make keys, database and first checkpoint.

    The home appears whole or not at all; nothing that exists is overwritten. A database password
    belongs in LATENTLOG_DB or latentlog.toml, not on the command line.
    """
    from latentlog.ledger.home import Home

    settings = invocation.settings
    home = Home.create(
        settings.home, origin=origin or f"latentlog/{secrets.token_hex(8)}", database=settings.db
    )
    with open_ledger(invocation) as ledger:
        checkpoint = ledger.log.checkpoint()
    database = without_password(home.database_url)
    invocation.console.emit(
        {
            "schema": "latentlog/init/v0",
            "home": str(home.path),
            "origin": home.origin,
            "vkey": home.vkey,
            "database": database,
            "checkpoint": checkpoint_document(checkpoint),
        },
        f"home       {home.path}",
        f"origin     {home.origin}",
        f"vkey       {home.vkey}",
        f"database   {database}",
        f"checkpoint {checkpoint.checkpoint.size} entries",
    )
    invocation.console.say(
        f"keep {home.keys}/master.key secret and backed up: every latent follows from it\n"
        "next: latentlog model add NAME --generator FILE.pt2 --latent-dim N"
    )


@command(db_app, examples=["latentlog db upgrade"])
def upgrade(invocation: Invocation) -> None:
    """Bring the database to this release's schema.

    This never happens by itself. Stop the recorders and take a backup first.
    """
    from latentlog.ledger.store.schema import upgrade_database

    before, after = upgrade_database(open_home(invocation).database_url)
    invocation.console.emit(
        {"schema": "latentlog/db/v0", "before": before, "revision": after},
        f"{before} -> {after}" if before != after else f"{after} (nothing to do)",
    )


@command(db_app, examples=["latentlog db current"])
def current(invocation: Invocation) -> None:
    """Print the schema revision of the database."""
    from latentlog.ledger.store.schema import current_revision

    revision = current_revision(open_home(invocation).database_url)
    invocation.console.emit({"schema": "latentlog/db/v0", "revision": revision}, revision)
