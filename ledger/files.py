"""Small files that must survive a crash: written beside their name, synced, moved into place."""

import os
from pathlib import Path

from latentlog.ledger.errors import StorageUnavailable


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by a file of mode 0600 with `content`, whole or not at all.

    Raises `StorageUnavailable` (disk full, read-only); the old file is then still there.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageUnavailable(
            f"cannot write {path}: {error.strerror}",
            next_step="free disk space or permissions, then repeat the command",
        ) from None


def remove_durably(path: Path) -> None:
    """Remove `path`, if it is there, so that it does not come back after a power failure."""
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageUnavailable(f"cannot remove {path}: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
