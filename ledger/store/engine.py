"""Opening databases: SQLite files and PostgreSQL, and what their failures mean.

SQLite: write-ahead log, every commit on disk before it returns (synchronous=FULL), the write lock
taken when a writing transaction begins, so that it never has to be upgraded half-way. A file that
is not there is never created by opening it.
"""

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    Table,
    create_engine,
    event,
    insert,
    make_url,
)
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.pool import QueuePool

from latentlog.ledger.errors import AppendRefused, DatabaseMissing, StorageUnavailable

# How long a writer waits for the others before it reports that the database is locked.
LOCK_SECONDS: Final = 15

# A commit is on disk before it returns, or a power failure takes back what was promised.
SYNCHRONOUS: Final = "FULL"

_WRITING: Final = "latentlog_writing"
# PostgreSQL: what our append-only triggers raise (restrict_violation).
_REFUSED_STATE: Final = "23001"


def parse_url(url: str) -> URL:
    """Parse a database URL; raises `DatabaseMissing` for what this release cannot open."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseMissing(
            "not a database URL", expected="sqlite:////path/to/ledger.sqlite or postgresql://…"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise DatabaseMissing(
            "this kind of database is not supported",
            expected="sqlite:////path/to/ledger.sqlite or postgresql://…",
            got=parsed.render_as_string(hide_password=True),
        )
    return parsed


def sqlite_path(url: URL) -> Path | None:
    """Return the file of an SQLite URL, `None` for a server's."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def open_engine(url: URL, **pragmas: str) -> Engine:
    """Return an engine for an existing database; `pragmas` are set on each SQLite connection."""
    path = sqlite_path(url)
    if path is None:
        return _postgres(url)
    settings = {
        "synchronous": SYNCHRONOUS,
        "foreign_keys": "ON",
        # REPLACE must not delete a row past the triggers that refuse deletions.
        "recursive_triggers": "ON",
        **pragmas,
    }

    def connect() -> sqlite3.Connection:
        # mode=rw: a missing file is an error, not an empty database.
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        for name, value in settings.items():
            connection.execute(f"PRAGMA {name}={value}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": LOCK_SECONDS}
        )
    except (NoSuchModuleError, ImportError):
        raise StorageUnavailable(
            "PostgreSQL needs the psycopg driver, which is not installed",
            next_step='pip install "latentlog[postgres]"',
        ) from None


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that sees one state of the database."""
    with storage_errors(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that may write; on SQLite it holds the write lock from its first line."""
    with storage_errors(engine), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITING: True})
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            yield connection


def insert_rows(connection: Connection, table: Table, rows: Sequence[NamedTuple]) -> None:
    """Insert rows whose fields are the table's columns, the driver's own way: executemany, or COPY.

    SQLAlchemy's per-row work costs more than SQLite's; our values need no conversion.
    """
    if not rows:
        return
    columns = rows[0]._fields
    if connection.dialect.name == "postgresql":
        _copy_rows(connection, table, columns, rows)
    else:
        statement = _insertion(table, connection.dialect, columns)
        connection.exec_driver_sql(statement, [tuple(row) for row in rows])


@functools.lru_cache(maxsize=16)
def _insertion(table: Table, dialect: Dialect, columns: tuple[str, ...]) -> str:
    return str(insert(table).compile(dialect=dialect, column_keys=columns))


def _copy_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[NamedTuple]
) -> None:
    # Half the time of executemany, and the sequencer lock is held meanwhile.
    names = ", ".join(f'"{column}"' for column in columns)
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


@contextmanager
def storage_errors(engine: Engine) -> Iterator[None]:
    """Turn what the database reports into our errors; ours pass through unchanged."""
    try:
        yield
    except IntegrityError as error:
        raise AppendRefused(f"the database refused a row: {_reason(error)}") from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _REFUSED_STATE:
            raise AppendRefused(f"the database refused a row: {_reason(error)}") from error
        raise unavailable(engine, _reason(error)) from error
    except SQLAlchemyError as error:
        raise unavailable(engine, str(error)) from error
    except engine.dialect.loaded_dbapi.Error as error:
        # COPY goes past SQLAlchemy.
        if isinstance(error, engine.dialect.loaded_dbapi.IntegrityError):
            raise AppendRefused(f"the database refused a row: {_first_line(error)}") from error
        raise unavailable(engine, _first_line(error)) from error


def unavailable(engine: Engine, reason: str) -> StorageUnavailable:
    """Say in one line that a database cannot be used now, why, and what may help."""
    return StorageUnavailable(
        f"the {engine.dialect.name} database cannot be used: {reason[:300]}",
        next_step="free disk space, permissions or the server, then repeat the command",
    )


def _reason(error: DBAPIError) -> str:
    return _first_line(error.orig or error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
