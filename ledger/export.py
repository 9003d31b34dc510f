"""Writing a log as static files: nothing unsigned is shown, and nothing shown is taken back.

    tile/entries/001.p/44   tile/0/001.p/44   …   at last `checkpoint`

Every file is written beside its name, synced and moved into place, and the checkpoint comes after
all that it covers has reached the disk: a crash at any instant leaves a folder that still shows
the older checkpoint, whole, and the next export goes on where this one ended. What the database
says is held against the signed root before a byte of it is written.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from latentlog.ledger.checkpoint import Checkpoint, VerifiedCheckpoint, parse_checkpoint
from latentlog.ledger.errors import (
    AuditFailed,
    ForkDetected,
    LedgerError,
    MalformedCheckpoint,
    StorageUnavailable,
)
from latentlog.ledger.files import sync_folder
from latentlog.ledger.merkle import NodeReader, leaf_hash, root_at, root_of
from latentlog.ledger.note import parse_note
from latentlog.ledger.tiles import HEIGHT, WIDTH, Tile, edge_of, encode_bundle, tiles_of

ReadEntries = Callable[[int, int], Sequence[bytes]]
"""Return the entries [start, end)."""


def write_tiles(
    folder: Path, checkpoint: VerifiedCheckpoint, nodes: NodeReader, entries: ReadEntries
) -> None:
    """Bring a static folder up to a checkpoint; only what is new is written.

    Raises `ForkDetected` if the folder already shows something this log's history contradicts,
    `AuditFailed` if `nodes` and `entries` are not what was signed, `StorageUnavailable`.
    """
    tree = checkpoint.checkpoint
    since = _published_size(folder, tree, nodes)
    if root_at(nodes, tree.size) != tree.root:
        raise AuditFailed("the stored tree is not the signed one", next_step="latentlog audit")
    folders: set[Path] = set()
    for tile in tiles_of(tree.size, since=since):
        for path, content in _files_of(tile, nodes, entries):
            _write_once(folder / path, content)
            folders.update(folder / parent for parent in Path(path).parents)
    _sync(folders)
    _drop_partial_tiles(folder, since, tree.size)
    replace_file(folder / "checkpoint", checkpoint.note)
    _sync({folder})


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that every user may read, whole or not at all; raises `StorageUnavailable`."""
    temporary = path.with_name(f".{path.name}.new")
    # Not through a link that somebody left there; readable whatever the operator's umask is.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with _storage(path, "write"):
        make_folder(path.parent)
        with os.fdopen(os.open(temporary, flags, 0o644), "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, that every user may list and read."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _published_size(folder: Path, tree: Checkpoint, nodes: NodeReader) -> int:
    """Return the size last published here, which must be a prefix of `tree`."""
    published = _published(folder / "checkpoint")
    if published is None:
        return 0
    if published.origin != tree.origin or published.size > tree.size:
        raise ForkDetected(
            "the folder shows another log, or a later checkpoint than this database holds",
            expected=f"{tree.origin}, at most {tree.size} entries",
            got=f"{published.origin}, {published.size} entries",
            next_step=f"if the database was restored: latentlog restore --checkpoint "
            f"{folder}/checkpoint --tiles {folder}",
        )
    if root_at(nodes, published.size) != published.root:
        raise ForkDetected(f"the published tree of {published.size} entries is not this log's")
    return published.size


def _published(path: Path) -> Checkpoint | None:
    note = _read(path)
    if note is None:
        return None
    try:
        return parse_checkpoint(parse_note(note).text)
    except LedgerError as error:
        raise MalformedCheckpoint(f"{path} is not a checkpoint: {error.message}") from None


def _files_of(tile: Tile, nodes: NodeReader, entries: ReadEntries) -> Iterator[tuple[str, bytes]]:
    """Yield a tile's files, checked: together with the root, all tiles make one chain."""
    hashes = list(nodes(tile.nodes))
    first = tile.index * WIDTH
    if tile.level == 0:
        bodies = entries(first, first + tile.width)
        if list(map(leaf_hash, bodies)) != hashes:
            _refuse(first, first + tile.width, "the entries are not the ones that were hashed")
        yield tile.entries_path, encode_bundle(bodies)
    if tile.width == WIDTH:
        level = HEIGHT * (tile.level + 1)
        if root_of(hashes) != nodes([(level, tile.index)])[0]:
            span = WIDTH ** (tile.level + 1)
            _refuse(tile.index * span, (tile.index + 1) * span, "the tree is not of one piece")
    yield tile.path, b"".join(hashes)


def _refuse(start: int, stop: int, message: str) -> None:
    raise AuditFailed(
        f"entries {start} to {stop - 1} are not published: {message}", next_step="latentlog audit"
    )


def _write_once(path: Path, content: bytes) -> None:
    written = _read(path)
    if written is None:
        replace_file(path, content)
    elif written != content:
        raise ForkDetected(f"{path} was published with other bytes")


def _read(path: Path) -> bytes | None:
    with _storage(path, "read"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _drop_partial_tiles(folder: Path, since: int, size: int) -> None:
    """Remove the partial tiles that the older tree ended in, where the full one is there now.

    Readers of the older tree fall back to it. Before the checkpoint moves, so that no crash leaves
    them for good.
    """
    for tile in edge_of(since):
        if tile.index < size >> HEIGHT * (tile.level + 1):
            for path in (tile.full.path, tile.full.entries_path)[: 1 if tile.level else 2]:
                shutil.rmtree(folder / f"{path}.p", ignore_errors=True)


def _sync(folders: set[Path]) -> None:
    for folder in sorted(folders):
        with _storage(folder, "write"):
            sync_folder(folder)


@contextmanager
def _storage(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(
            f"cannot {verb} {path}: {error.strerror}",
            next_step="free disk space or permissions, then repeat the command",
        ) from None
