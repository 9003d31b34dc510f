"""Creating a log's database and bringing an older one up to date, through Alembic.

Nothing here runs by itself: opening a database of another schema is an error that names the
command (`latentlog db upgrade`).
"""

import os
from importlib.resources import files

from sqlalchemy import URL, Connection, Engine, inspect, text

from latentlog.ledger.errors import (
    DatabaseExists,
    DatabaseMissing,
    DatabaseTooNew,
    DatabaseTooOld,
    StorageUnavailable,
)
from latentlog.ledger.store.engine import (
    open_engine,
    parse_url,
    reading,
    sqlite_path,
    storage_errors,
    writing,
)
from latentlog.ledger.store.mounts import require_local
from latentlog.ledger.store.tables import REVISIONS

_VERSION_TABLE = "alembic_version"


def create_database(url: str) -> None:
    """Create the tables in a new SQLite file or an empty PostgreSQL database.

    Raises `DatabaseExists` when a log is already there; nothing is overwritten.
    """
    parsed = parse_url(url)
    create_sqlite_file(parsed)
    engine = open_engine(parsed)
    try:
        with writing(engine) as connection:
            if (
                _revision(connection) is not None
                or "entries" in inspect(connection).get_table_names()
            ):
                raise DatabaseExists("this database already holds a log", got=_shown(parsed))
            _upgrade(connection)
    finally:
        engine.dispose()


def create_sqlite_file(url: URL) -> None:
    """Create the empty file of an SQLite URL, mode 0600; raises `DatabaseExists`."""
    path = sqlite_path(url)
    if path is None:
        return
    require_local(path)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise DatabaseExists(f"{path} exists already; nothing was changed") from None
    except OSError as error:
        raise StorageUnavailable(f"cannot create {path}: {error.strerror}") from None
    engine = open_engine(url)
    with storage_errors(engine), engine.connect() as connection:
        # Outside a transaction: the journal mode is a property of the file and stays with it.
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA journal_mode=WAL")
    engine.dispose()


def upgrade_database(url: str) -> tuple[str, str]:
    """Bring a database to this release's schema; return the revisions before and after."""
    engine = open_existing(url)
    try:
        with writing(engine) as connection:
            before = _require_log(connection, parse_url(url))
            if before not in REVISIONS:
                raise _too_new(before)
            _upgrade(connection)
        return before, REVISIONS[-1]
    finally:
        engine.dispose()


def current_revision(url: str) -> str:
    """Return the schema revision of an existing database."""
    engine = open_existing(url)
    try:
        with reading(engine) as connection:
            return _require_log(connection, parse_url(url))
    finally:
        engine.dispose()


def open_existing(url: str, **pragmas: str) -> Engine:
    """Return an engine for a database that is there; raises `DatabaseMissing`."""
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    if path is not None:
        if not path.is_file():
            raise DatabaseMissing(f"there is no database at {path}", next_step="latentlog init")
        require_local(path)
    return open_engine(parsed, **pragmas)


def require_current(connection: Connection, url: URL) -> None:
    """Return if the database has this release's schema.

    Raises `DatabaseMissing`, `DatabaseTooOld` or `DatabaseTooNew`.
    """
    revision = _require_log(connection, url)
    if revision == REVISIONS[-1]:
        return
    if revision in REVISIONS:
        raise DatabaseTooOld(
            "the database was written by an older release",
            expected=f"schema {REVISIONS[-1]}",
            got=f"schema {revision}",
            next_step="latentlog db upgrade",
        )
    raise _too_new(revision)


def _too_new(revision: str) -> DatabaseTooNew:
    return DatabaseTooNew(
        "the database was written by a newer release",
        expected=f"schema {REVISIONS[-1]} or older",
        got=f"schema {revision}",
        next_step="pip install --upgrade latentlog",
    )


def _require_log(connection: Connection, url: URL) -> str:
    revision = _revision(connection)
    if revision is None:
        raise DatabaseMissing(
            "this database holds no log", got=_shown(url), next_step="latentlog init"
        )
    return revision


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    revision = connection.scalar(text(f"SELECT version_num FROM {_VERSION_TABLE}"))
    return None if revision is None else str(revision)


def _upgrade(connection: Connection) -> None:
    # Here, because every other command starts faster without it.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    # Found through the installed package: a wheel has no alembic.ini.
    location = str(files("latentlog.migrations"))
    config.set_main_option("script_location", location.replace("%", "%%"))
    command.upgrade(config, "head")


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)
