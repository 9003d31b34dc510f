"""Runs the migrations on the connection it is given, or, from the `alembic` command, on
`LATENTLOG_DB` (`alembic -x db=URL` overrides it)."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from latentlog.ledger.store import tables

# Any constant will do: it keeps two upgrades of one PostgreSQL server's database apart.
_ADVISORY_LOCK = 0x6C61_7465_6E74


def run(connection: Connection) -> None:
    """Run in one transaction, alone: a second upgrade waits and then finds nothing to do."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
    context.configure(
        connection=connection, target_metadata=tables.metadata, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


def run_from_command() -> None:
    """Open the database that the person at the keyboard named."""
    url = context.get_x_argument(as_dictionary=True).get("db") or os.environ.get("LATENTLOG_DB")
    if not url:
        raise SystemExit("name the database: alembic -x db=URL …, or set LATENTLOG_DB")
    with create_engine(url).begin() as connection:
        run(connection)


shared = context.config.attributes.get("connection")
if shared is not None:
    run(shared)
elif context.is_offline_mode():
    raise SystemExit("offline SQL scripts are not supported: migrations look before they write")
else:
    run_from_command()
