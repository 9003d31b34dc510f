"""Which database this is: the one that was recorded into, or a copy of it somewhere else.

    backup:5f2a91…            written into every backup; it appends nothing …
    adopted:5f2a91…           … until `latentlog restore` took it over
    server:7312…:00000001     a PostgreSQL cluster and timeline that was appended on

A copy lacks whatever was recorded after it was made. PostgreSQL's timeline changes when a replica
is promoted and when a cluster is recovered to a point in time, its system identifier when a dump
is loaded elsewhere, so a failover is noticed by whoever connects to the new server. A plain copy
of an SQLite file looks like the original: `continuity` is what finds it.
"""

import secrets
from typing import Final

from sqlalchemy import Connection, insert, select, text

from latentlog.ledger.store.tables import meta

_BACKUP: Final = "backup:"
_ADOPTED: Final = "adopted:"
_SERVER: Final = "server:"

# Of the driver's connection: another server is another connection.
_CURRENT: Final = "latentlog_current"

_IDENTITY: Final = text(
    "SELECT (SELECT system_identifier FROM pg_control_system())::text || ':' || "
    "CASE WHEN pg_is_in_recovery() THEN 'replica' "
    "ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END"
)


def suspension(connection: Connection) -> str | None:
    """Say why nothing may be appended to this database, if that is so."""
    if connection.info.get(_CURRENT):
        return None
    keys = set(connection.scalars(select(meta.c.key)))
    if _pending(keys):
        return "this database is a backup that was not taken over yet"
    if connection.dialect.name == "postgresql":
        servers = {key for key in keys if key.startswith(_SERVER)}
        if servers and _server(connection) not in servers:
            return "this database moved to another server, or a replica took over"
    connection.info[_CURRENT] = True
    return None


def suspend(connection: Connection) -> None:
    """Mark a database as a copy, once: `adopt` ends it."""
    keys = set(connection.scalars(select(meta.c.key)))
    if not _pending(keys):
        connection.execute(insert(meta).values(key=_BACKUP + secrets.token_hex(8), value=""))
    connection.info.pop(_CURRENT, None)


def adopt(connection: Connection) -> None:
    """Make this database, where it is now, the one that is appended to."""
    keys = set(connection.scalars(select(meta.c.key)))
    fresh = {_ADOPTED + mark for mark in _pending(keys)}
    if connection.dialect.name == "postgresql":
        fresh.add(_server(connection))
    for key in sorted(fresh - keys):
        connection.execute(insert(meta).values(key=key, value=""))


def _pending(keys: set[str]) -> set[str]:
    marks = {key.removeprefix(_BACKUP) for key in keys if key.startswith(_BACKUP)}
    return {mark for mark in marks if _ADOPTED + mark not in keys}


def _server(connection: Connection) -> str:
    return _SERVER + str(connection.scalar(_IDENTITY))
