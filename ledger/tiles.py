"""A log as static files (c2sp.org/tlog-tiles): what they are, and reading a stranger's.

    checkpoint                       the newest signed note, written last
    tile/0/x001/234                  256 leaf hashes; tile/1/… holds the roots of such tiles
    tile/0/x001/235.p/17             the 17 leaf hashes past the last full tile
    tile/entries/x001/235.p/17       the entries under them, each after its length (u16)

Every file but the checkpoint is immutable; `export` writes them. Reading trusts the checkpoint's
signature alone: the files may come from any mirror, and each hash and entry is checked against the
signed root before it is returned.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from latentlog.ledger.canonical import ENTRY_LIMIT
from latentlog.ledger.checkpoint import Checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import InvalidProof, MalformedTile, StorageUnavailable, TileMissing
from latentlog.ledger.merkle import NodeId, leaf_hash, root_at, root_of

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
BUNDLE_LIMIT: Final = WIDTH * (2 + ENTRY_LIMIT)
# Tiles a reader keeps: a walk over all entries returns to one tile of each level.
CACHE_TILES: Final = 16

Fetch = Callable[[str, int], bytes | None]
"""Return the file at a path below the log's prefix, of at most so many bytes; None if absent."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One file of hashes: `width` nodes of tree level 8·`level` from `index`·256 on."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where the hashes are."""
        return f"tile/{self.level}/{self._place}"

    @property
    def entries_path(self) -> str:
        """Where the entries under a level 0 tile are."""
        return f"tile/entries/{self._place}"

    @property
    def full(self) -> "Tile":
        """The tile that this one becomes."""
        return Tile(self.level, self.index)

    @property
    def nodes(self) -> list[NodeId]:
        first = self.index * WIDTH
        return [(self.level * HEIGHT, at) for at in range(first, first + self.width)]

    @property
    def _place(self) -> str:
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        path = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        return path if self.width == WIDTH else f"{path}.p/{self.width}"


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Yield the tiles of a tree of `size` entries that the tree of `since` did not have."""
    level = 0
    while size:
        full, partial = divmod(size, WIDTH)
        for index in range(since // WIDTH, full):
            yield Tile(level, index)
        if partial and size != since:
            yield Tile(level, full, partial)
        level, size, since = level + 1, full, since // WIDTH


def edge_of(size: int) -> Iterator[Tile]:
    """Yield the partial tiles of a tree: they have no parent, and together they are its root."""
    level = 0
    while size:
        full, partial = divmod(size, WIDTH)
        if partial:
            yield Tile(level, full, partial)
        level, size = level + 1, full


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Encode entries as an entry bundle."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(encoded: bytes) -> list[bytes]:
    """Decode an entry bundle; raises `MalformedTile`."""
    entries, at = [], 0
    while at < len(encoded):
        start = at + 2
        at = start + int.from_bytes(encoded[at:start], "big")
        entries.append(encoded[start:at])
    if at != len(encoded) or len(entries) > WIDTH:
        raise MalformedTile("an entry bundle does not end where its last entry ends")
    return entries


# Reading.


def folder_fetch(folder: Path) -> Fetch:
    """Return a `Fetch` over a local folder."""

    def fetch(path: str, limit: int) -> bytes | None:
        try:
            with open(folder / path, "rb") as file:
                # `read` allocates what it is asked for, and a bundle's limit is 16 MB.
                content = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageUnavailable(f"cannot read {folder / path}: {error.strerror}") from None
        if len(content) > limit:
            raise MalformedTile(f"{path} is too large", expected=f"at most {limit} bytes")
        return content

    return fetch


class TileReader:
    """A `NodeReader` and entry reader over somebody's static files, for one signed tree.

    Raises `TileMissing`, `MalformedTile`, and `InvalidProof` for hashes or entries that the
    checkpoint does not cover.
    """

    def __init__(self, fetch: Fetch, checkpoint: Checkpoint) -> None:
        self._fetch = fetch
        self._size = checkpoint.size
        self._cache: OrderedDict[tuple[int, int], list[Digest]] = OrderedDict()
        self._edge = {tile.level: self._read(tile) for tile in edge_of(self._size)}
        if root_at(self, self._size) != checkpoint.root:
            raise InvalidProof(
                "the tiles at the tree's edge do not hash to the signed root",
                expected=checkpoint.root.hex(),
            )

    def __call__(self, nodes: Sequence[NodeId], /) -> list[Digest]:
        return [self._node(level, index) for level, index in nodes]

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """Yield the entries from `start` on, each checked against the signed root."""
        for index in range(start // WIDTH, -(-self._size // WIDTH)):
            first = index * WIDTH
            hashes = self._hashes(0, index)
            tile = Tile(0, index, len(hashes))
            entries = self._entries(tile)
            if list(map(leaf_hash, entries)) != hashes:
                raise InvalidProof(f"the entries of {tile.entries_path} are not those of the tree")
            yield from entries[max(0, start - first) :]

    def _node(self, level: int, index: int) -> Digest:
        # A node at the top of a tile is stored as one hash of the tile above.
        height = level % HEIGHT
        first = index << height
        hashes = self._hashes(level // HEIGHT, first // WIDTH)
        part = hashes[first % WIDTH :][: 1 << height]
        if len(part) != 1 << height:
            raise InvalidProof(f"a tree of {self._size} entries has no node {level}/{index}")
        return root_of(part)

    def _hashes(self, level: int, index: int) -> list[Digest]:
        """Return the hashes of a tile, checked against its parent or the tree's edge."""
        count = self._size >> HEIGHT * level
        if index == count // WIDTH and level in self._edge:
            return self._edge[level]
        if not 0 <= index < count // WIDTH:
            raise InvalidProof(f"a tree of {self._size} entries has no tile {level}/{index}")
        if (level, index) in self._cache:
            self._cache.move_to_end((level, index))
            return self._cache[level, index]
        hashes = self._read(Tile(level, index))
        if root_of(hashes) != self._node(HEIGHT * (level + 1), index):
            raise InvalidProof(f"{Tile(level, index).path} is not a part of the signed tree")
        self._cache[level, index] = hashes
        if len(self._cache) > CACHE_TILES:
            self._cache.popitem(last=False)
        return hashes

    def _read(self, tile: Tile) -> list[Digest]:
        content = self._fetch(tile.path, 32 * WIDTH)
        if content is None and tile.width < WIDTH:
            # A log may drop a partial tile once the full one is there.
            content = self._fetch(tile.full.path, 32 * WIDTH)
            content = content and content[: 32 * tile.width]
        if content is None:
            raise TileMissing(f"{tile.path} is not there")
        if len(content) != 32 * tile.width:
            raise MalformedTile(
                f"{tile.path} has the wrong size",
                expected=f"{32 * tile.width} bytes",
                got=f"{len(content)} bytes",
            )
        return [Digest(content[at : at + 32]) for at in range(0, len(content), 32)]

    def _entries(self, tile: Tile) -> list[bytes]:
        content = self._fetch(tile.entries_path, BUNDLE_LIMIT)
        if content is not None:
            return decode_bundle(content)
        if tile.width < WIDTH:
            content = self._fetch(tile.full.entries_path, BUNDLE_LIMIT)
        if content is None:
            raise TileMissing(f"{tile.entries_path} is not there")
        return decode_bundle(content)[: tile.width]
