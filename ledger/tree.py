"""The stored side of the Merkle tree: complete tiles of 256 hashes, and the rows past them.

    tile (0, 3)    leaf hashes 768 … 1023             its root is hash 3 of tile (1, 0)
    tile (1, 0)    the roots of tiles (0, 0) … (0, 255)

A tile is written once, when its last hash is known, and never changes. The part of a level that
fills no tile yet is read from the level below: entries for level 0, tile roots above. So a node of
any size of tree is at most one read and 255 hashes away, and the log needs no memory of its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import AuditFailed
from latentlog.ledger.merkle import Frontier, NodeId, NodeReader, node_hash
from latentlog.ledger.storage import Reader, TileRow

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT

TileId = tuple[int, int]


def node_reader(reader: Reader) -> NodeReader:
    """Return a reader of complete nodes that fetches each tile it needs once."""

    def read(nodes: Sequence[NodeId]) -> list[Digest]:
        wanted: dict[TileId, list[int]] = defaultdict(list)
        for place, (level, index) in enumerate(nodes):
            wanted[_tile_of(level, index)].append(place)
        found: dict[int, Digest] = {}
        for tile, places in wanted.items():
            hashes = _tile_hashes(reader, *tile)
            for place in places:
                found[place] = _node_in_tile(hashes, *nodes[place])
        return [found[place] for place in range(len(nodes))]

    return read


def grow(reader: Reader, frontier: Frontier, leaves: Sequence[Digest]) -> list[TileRow]:
    """Append leaves to `frontier`; return the tiles they complete, in order."""
    first = frontier.size
    tiles: list[TileRow] = []
    roots: dict[TileId, Digest] = {}
    for leaf in leaves:
        for level, index, node in frontier.append(leaf)[TILE_HEIGHT::TILE_HEIGHT]:
            tile = (level // TILE_HEIGHT - 1, index)
            start = index * TILE_WIDTH
            if tile[0] == 0:
                hashes = _joined(reader.leaf_hashes(start, TILE_WIDTH), leaves, start - first)
            else:
                hashes = _joined_roots(reader, tile[0] - 1, start, roots)
            tiles.append(TileRow(*tile, node, b"".join(hashes)))
            roots[tile] = node
    return tiles


def _joined(stored: Sequence[Digest], fresh: Sequence[Digest], offset: int) -> Sequence[Digest]:
    """Complete the 256 leaves from `offset` in `fresh`; a negative one starts in the database."""
    if offset >= 0:
        return fresh[offset : offset + TILE_WIDTH]
    return [*stored[:-offset], *fresh[: TILE_WIDTH + offset]]


def _joined_roots(
    reader: Reader, level: int, start: int, fresh: dict[TileId, Digest]
) -> list[Digest]:
    stored = list(reader.tile_roots(level, start, TILE_WIDTH))
    missing = range(start + len(stored), start + TILE_WIDTH)
    return stored + [fresh[(level, index)] for index in missing]


def _tile_of(level: int, index: int) -> TileId:
    return level // TILE_HEIGHT, index >> (TILE_HEIGHT - level % TILE_HEIGHT)


def _tile_hashes(reader: Reader, level: int, index: int) -> bytes:
    """Return the hashes of a tile, or of what there is of it at the right edge."""
    tile = reader.tile(level, index)
    if tile is not None:
        return tile.hashes
    start = index * TILE_WIDTH
    if level == 0:
        return b"".join(reader.leaf_hashes(start, TILE_WIDTH))
    return b"".join(reader.tile_roots(level - 1, start, TILE_WIDTH))


def _node_in_tile(hashes: bytes, level: int, index: int) -> Digest:
    """Compute the node from its 2^(level mod 8) hashes in the tile."""
    width = 1 << level % TILE_HEIGHT
    first = index * width % TILE_WIDTH
    layer = [hashes[at * 32 : at * 32 + 32] for at in range(first, first + width)]
    if len(layer[-1]) != 32:
        raise AuditFailed(f"the stored tree lacks node {index} of level {level}")
    while len(layer) > 1:
        layer = [node_hash(a, b) for a, b in zip(layer[::2], layer[1::2], strict=True)]
    return Digest(layer[0])
