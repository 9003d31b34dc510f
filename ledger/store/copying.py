"""Copying an SQLite database while it is recorded into, whole and as of one moment.

The copy is read within one read transaction of the online backup API: writers go on meanwhile and
nothing of theirs gets in. It is marked as a backup before it has its name, so that no copy that
was made here is ever appended to by mistake.
"""

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import select

from latentlog.ledger.errors import BackupElsewhere, DatabaseExists, StorageUnavailable
from latentlog.ledger.files import sync_folder
from latentlog.ledger.store.engine import (
    open_engine,
    parse_url,
    reading,
    sqlite_path,
    storage_errors,
    writing,
)
from latentlog.ledger.store.lineage import suspend
from latentlog.ledger.store.mounts import require_local
from latentlog.ledger.store.schema import open_existing, require_current
from latentlog.ledger.store.tables import head

Progress = Callable[[int, int], None]

# 16 MB a step: often enough for a progress bar.
_PAGES: Final = 4096


def copy_database(source: str, destination: Path, on_progress: Progress | None = None) -> int:
    """Copy the database of an SQLite URL into a new file, 0600; return its number of entries.

    `on_progress(done, total)` counts pages. Raises `DatabaseExists`, `BackupElsewhere` for a
    server's database, `StorageUnavailable`.
    """
    parsed = parse_url(source)
    if sqlite_path(parsed) is None:
        shown = parsed.set(drivername="postgresql").render_as_string(hide_password=True)
        raise BackupElsewhere(
            "a PostgreSQL log is backed up by the server's own tools",
            next_step=f"pg_dump --format=custom --file=ledger.dump {shown!r}",
        )
    _require_absent(destination)
    temporary = destination.with_name(f".{destination.name}.{secrets.token_hex(8)}")
    engine = open_existing(source)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with storage_errors(engine), reading(engine) as connection:
            require_current(connection, parsed)
            # The first read fixes what this transaction sees.
            size = int(connection.scalar(select(head.c.size)) or 0)
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            _copy(raw, temporary, on_progress)
        _mark(temporary)
        _place(temporary, destination)
        return size
    except sqlite3.Error as error:
        raise StorageUnavailable(f"the backup cannot be written: {error}") from None
    except OSError as error:
        raise StorageUnavailable(f"cannot write {destination}: {error.strerror}") from None
    finally:
        engine.dispose()
        for leftover in _files(temporary):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _copy(source: sqlite3.Connection, path: Path, on_progress: Progress | None) -> None:
    def progress(status: int, remaining: int, total: int) -> None:
        if on_progress is not None:
            on_progress(total - remaining, total)

    with closing(sqlite3.connect(path)) as target:
        source.backup(target, pages=_PAGES, progress=progress)
        # One file, to be moved and stored as one.
        target.execute("PRAGMA journal_mode=DELETE")


def _mark(path: Path) -> None:
    engine = open_engine(parse_url(f"sqlite:///{path}"))
    try:
        with writing(engine) as connection:
            suspend(connection)
    finally:
        engine.dispose()


def _place(temporary: Path, destination: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, destination)
    except FileExistsError:
        _require_absent(destination)
        raise
    sync_folder(destination.parent)


def place_copy(source: Path, url: str, on_progress: Progress | None = None) -> int:
    """Put a copy of a backup where an SQLite URL points, and there is nothing yet.

    The backup itself is left alone. Raises what `copy_database` raises.
    """
    path = sqlite_path(parse_url(url))
    if path is None:
        raise BackupElsewhere(
            "a PostgreSQL log is restored by the server's own tools",
            next_step="pg_restore --dbname=NEW_DATABASE ledger.dump, then "
            "latentlog restore --checkpoint NEWEST.note",
        )
    require_local(path)
    for part in _files(path):
        # Another database's write-ahead log would be played into this one.
        _require_absent(part)
    size = copy_database(f"sqlite:///{source.absolute()}", path, on_progress)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return size


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]


def _require_absent(path: Path) -> None:
    if os.path.lexists(path):
        raise DatabaseExists(
            f"{path} exists already; nothing was changed",
            next_step=f"mv it away with the files beside it: mkdir {path.parent}/replaced && "
            f"mv {path}* {path.parent}/replaced/",
        )
