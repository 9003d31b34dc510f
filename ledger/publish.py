"""Publishing a log: its static files and front page, into a folder that a web server shows.

    publish_site(log, Path("/srv/log"), Imprint(operator="Example Labs"))

    checkpoint  index.html  tile/…            (nothing else, and nothing that is secret)

Any web server will do: no file needs a content type, a header or a script. The folder may be
copied while it is written, because every state of it is whole (`export`). Publishing twice changes
nothing but the time on the page; two processes at once do not get into each other's way.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from latentlog.ledger.checkpoint import VerifiedCheckpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import EpochClose, EpochOpen, ModelEntry, RecorderEntry, Seal
from latentlog.ledger.errors import NotASite, SiteBusy, StorageUnavailable
from latentlog.ledger.export import ReadEntries, make_folder, replace_file, write_tiles
from latentlog.ledger.front_page import FrontPage, render
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import NodeId, NodeReader
from latentlog.ledger.tree import node_reader

Progress = Callable[[int, int], None]
T = TypeVar("T", ModelEntry, RecorderEntry, EpochOpen, EpochClose)

PAGE: Final = "index.html"
# What a home holds: published with it, the keys would be too.
_PRIVATE: Final = ("latentlog.toml", "keys")


@dataclass(frozen=True, slots=True)
class Imprint:
    """What only the operator can say: who they are, and which of their models are not here."""

    operator: str
    contact: str | None = None
    not_covered: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Publication:
    """What is shown now."""

    checkpoint: VerifiedCheckpoint
    sealed: datetime | None
    """When the newest entry shown was sealed."""
    written: datetime


def publish_site(
    log: Log, folder: Path, imprint: Imprint, *, on_progress: Progress | None = None
) -> Publication:
    """Bring a folder up to the log's newest checkpoint, and write its front page.

    `on_progress(done, total)` counts entries. Raises `NotPublished` without a checkpoint,
    `NotASite`, `SiteBusy`, and what `write_tiles` raises; the folder then shows what it did before.
    """
    folder = folder.absolute()
    _require_public(folder)
    with _lock(folder):
        _require_ours(folder)
        checkpoint = log.checkpoint()
        total = checkpoint.checkpoint.size
        write_tiles(folder, checkpoint, _nodes(log), _entries(log, total, on_progress))
        page = _front_page(log, checkpoint, imprint)
        replace_file(folder / PAGE, render(page).encode())
    return Publication(checkpoint, page.sealed, page.written)


def _require_public(folder: Path) -> None:
    for place in (folder, *folder.parents):
        if any((place / name).exists() for name in _PRIVATE[: 2 if place == folder else 1]):
            raise NotASite(
                f"{place} holds keys: a log is not published into it",
                expected="a folder for public files alone",
                next_step="latentlog publish /srv/www/log",
            )


def _require_ours(folder: Path) -> None:
    """Refuse to replace somebody's front page: ours is never there without a checkpoint."""
    if (folder / PAGE).exists() and not (folder / "checkpoint").exists():
        raise NotASite(
            f"{folder} shows another site already", next_step="publish into a folder of its own"
        )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder against other publishers: the slower one would show an older checkpoint."""
    try:
        make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageUnavailable(f"cannot open {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SiteBusy(f"another process is publishing to {folder}") from None
        yield
    finally:
        os.close(descriptor)


def _nodes(log: Log) -> NodeReader:
    def nodes(wanted: Sequence[NodeId], /) -> Sequence[Digest]:
        # A transaction for each tile: what is read never changes, and writers are not held up.
        with log.snapshot() as reader:
            return node_reader(reader)(wanted)

    return nodes


def _entries(log: Log, total: int, on_progress: Progress | None) -> ReadEntries:
    def entries(start: int, stop: int) -> Sequence[bytes]:
        with log.snapshot() as reader:
            bodies = [row.body for row in reader.rows(start, stop - start)]
        if on_progress is not None:
            on_progress(stop, total)
        return bodies

    return entries


def _front_page(log: Log, checkpoint: VerifiedCheckpoint, imprint: Imprint) -> FrontPage:
    size = checkpoint.checkpoint.size
    recorders = {entry.name: entry for _, entry in _shown(log, RecorderEntry, size)}
    return FrontPage(
        operator=imprint.operator,
        contact=imprint.contact,
        verifier=log.verifier,
        checkpoint=checkpoint.checkpoint,
        sealed=_sealed(log, size),
        written=log.clock(),
        models=list(_shown(log, ModelEntry, size)),
        not_covered=imprint.not_covered,
        recorders=list(recorders.values()),
        epochs=sum(1 for _ in _shown(log, EpochOpen, size)),
        epochs_closed=sum(1 for _ in _shown(log, EpochClose, size)),
    )


def _shown(log: Log, kind: type[T], size: int) -> Iterator[tuple[int, T]]:
    """Yield the entries of a kind that the checkpoint covers."""
    for logged in log.entries(kind=kind.kind):
        if logged.index >= size:
            return
        if isinstance(logged.entry, kind):
            yield logged.index, logged.entry


def _sealed(log: Log, size: int) -> datetime | None:
    entry = log.entry(size - 1).entry if size else None
    return entry.time if isinstance(entry, Seal) else None
