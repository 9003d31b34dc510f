"""Backups of a log, made while it is recorded into, and what is left out of them.

    backup(home, Path("/backup/2026-03-02.sqlite"))     # entries, tree, checkpoints, openings

Openings are in it encrypted, and the keys to them are not: an erasure destroys a record's one key,
and would be undone by a copy of it. Neither are the home's own keys in it; `keys/` changes rarely
and is kept apart, offline. A backup appends nothing until `restore` took it over.
"""

from dataclasses import dataclass
from pathlib import Path

from latentlog.ledger.home import Home
from latentlog.ledger.store.copying import Progress, copy_database


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written where."""

    path: Path
    entries: int


def backup(home: Home, destination: Path, *, on_progress: Progress | None = None) -> Backup:
    """Copy the home's log into a new file; raises what `copy_database` raises."""
    destination = destination.absolute()
    return Backup(destination, copy_database(home.database_url, destination, on_progress))
