"""Static tiles: paths and sizes of the specification, export, and reading what strangers serve."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger import merkle
from latentlog.ledger.checkpoint import (
    Checkpoint,
    VerifiedCheckpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import ForkDetected, InvalidProof, MalformedTile, TileMissing
from latentlog.ledger.export import write_tiles
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.note import NoteSigner
from latentlog.ledger.tiles import (
    Fetch,
    Tile,
    TileReader,
    decode_bundle,
    encode_bundle,
    folder_fetch,
    tiles_of,
)

ORIGIN = "example.com/log"
LOG = NoteSigner(ORIGIN, SigningKey(bytes(32)))
ENTRIES = [b"entry %d" % i for i in range(70_000)]


class Tree:
    """A log in memory, with a salt that makes another history."""

    def __init__(self, size: int, entries: Sequence[bytes] = ENTRIES) -> None:
        frontier = merkle.Frontier()
        self.stored: dict[merkle.NodeId, Digest] = {}
        self.entries = entries
        for entry in entries[:size]:
            for level, index, node in frontier.append(merkle.leaf_hash(entry)):
                self.stored[level, index] = node
        self.checkpoint = Checkpoint(ORIGIN, size, frontier.root())

    @property
    def verified(self) -> VerifiedCheckpoint:
        return verify_checkpoint(sign_checkpoint(self.checkpoint, [LOG]), LOG.verifier, ORIGIN)

    def nodes(self, wanted: Sequence[merkle.NodeId], /) -> list[Digest]:
        return [self.stored[node] for node in wanted]

    def read(self, start: int, end: int) -> Sequence[bytes]:
        return self.entries[start:end]

    def write(self, folder: Path) -> None:
        write_tiles(folder, self.verified, self.nodes, self.read)

    def files(self) -> dict[str, bytes]:
        """The static files without a folder."""
        found = {}
        for tile in tiles_of(self.checkpoint.size):
            found[tile.path] = b"".join(self.nodes(tile.nodes))
            if tile.level == 0:
                start = tile.index * 256
                found[tile.entries_path] = encode_bundle(self.read(start, start + tile.width))
        return found


@cache
def tree(size: int) -> Tree:
    return Tree(size)


def fetch_from(files: dict[str, bytes]) -> Fetch:
    return lambda path, limit: files.get(path)


def test_paths_are_those_of_the_specification() -> None:
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(3, 0, 5).path == "tile/3/000.p/5"
    assert Tile(0, 999).entries_path == "tile/entries/999"
    assert Tile(0, 1000, 255).entries_path == "tile/entries/x001/000.p/255"


def test_a_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    tiles = list(tiles_of(70_000))
    assert [t.path for t in tiles if t.level == 0 and t.width < 256] == ["tile/0/273.p/112"]
    assert sum(t.level == 0 and t.width == 256 for t in tiles) == 273
    assert [t for t in tiles if t.level > 0] == [Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []


@given(st.integers(0, 2**40), st.integers(0, 1000))
@settings(deadline=None)
def test_growing_adds_exactly_the_tiles_that_differ(size: int, more: int) -> None:
    before, after = size, size + more
    added = list(tiles_of(after, since=before))
    assert len(added) <= 2 * 6 + more // 128
    assert all((tile.index * 256 + tile.width) << 8 * tile.level <= after for tile in added)
    assert all((tile.index * 256 + tile.width) << 8 * tile.level > before for tile in added)
    if size < 2000:
        assert set(tiles_of(before)) | set(added) >= set(tiles_of(after))


def test_bundles_read_back() -> None:
    entries = [b"", b"a", b"x" * 65_535]
    encoded = encode_bundle(entries)
    assert encoded.startswith(b"\0\0\0\x01a\xff\xff")
    assert decode_bundle(encoded) == entries
    assert decode_bundle(b"") == []
    for wrong in (encoded[:-1], encoded + b"\0", encoded + b"\0\x01", b"\0\0" * 257):
        with pytest.raises(MalformedTile):
            decode_bundle(wrong)
    with pytest.raises(OverflowError):
        encode_bundle([b"x" * 65_536])


@pytest.mark.parametrize("size", [0, 1, 2, 17, 255, 256, 257, 511, 512, 700])
def test_a_folder_shows_every_entry_and_proves_it(tmp_path: Path, size: int) -> None:
    tree(size).write(tmp_path)
    checkpoint = verify_checkpoint(
        (tmp_path / "checkpoint").read_bytes(), LOG.verifier, ORIGIN
    ).checkpoint
    reader = TileReader(folder_fetch(tmp_path), checkpoint)
    assert list(reader.entries()) == ENTRIES[:size]
    for index in {0, size // 2, size - 1} if size else set():
        proof = merkle.prove_inclusion(reader, index, size)
        leaf = merkle.leaf_hash(ENTRIES[index])
        merkle.verify_inclusion(leaf, index, size, proof, checkpoint.root)
        assert list(reader.entries(index)) == ENTRIES[index:size]


def test_three_levels_of_tiles() -> None:
    big = tree(70_000)
    reader = TileReader(fetch_from(big.files()), big.checkpoint)
    assert list(reader.entries(69_500)) == ENTRIES[69_500:]
    for old in (1, 300, 65_536, 69_999):
        proof = merkle.prove_consistency(reader, old, 70_000)
        old_root = merkle.root_at(reader, old)
        merkle.verify_consistency(old, 70_000, proof, old_root, big.checkpoint.root)
        assert old_root == merkle.root_at(big.nodes, old)


def test_growing_a_folder_gives_the_same_as_writing_it_at_once(tmp_path: Path) -> None:
    for size in (3, 3, 200, 256, 300, 600):
        tree(size).write(tmp_path / "grown")
    tree(600).write(tmp_path / "at once")
    for path in (tmp_path / "at once").rglob("*"):
        if path.is_file():
            grown = tmp_path / "grown" / path.relative_to(tmp_path / "at once")
            assert grown.read_bytes() == path.read_bytes()
    assert not list((tmp_path / "grown").rglob(".*"))


def test_a_full_tile_stands_in_for_a_partial_one() -> None:
    files = tree(700).files()
    late = {**tree(1024).files(), "tile/1/000.p/2": files["tile/1/000.p/2"]}
    assert "tile/0/002.p/188" not in late
    reader = TileReader(fetch_from(late), tree(700).checkpoint)
    assert list(reader.entries()) == ENTRIES[:700]


def test_a_folder_ahead_of_the_database_or_of_another_history_is_a_fork(tmp_path: Path) -> None:
    tree(300).write(tmp_path)
    with pytest.raises(ForkDetected, match="later checkpoint"):
        tree(299).write(tmp_path)
    other = Tree(400, [b"other", *ENTRIES[1:]])
    with pytest.raises(ForkDetected, match="not this log's"):
        other.write(tmp_path)
    stranger = replace(other.verified, checkpoint=replace(other.checkpoint, origin="other"))
    with pytest.raises(ForkDetected, match="another log"):
        write_tiles(tmp_path, stranger, other.nodes, other.read)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(ForkDetected, match="other bytes"):
        other.write(tmp_path)


def test_a_crash_before_the_checkpoint_leaves_the_older_one(tmp_path: Path) -> None:
    tree(300).write(tmp_path)
    older = (tmp_path / "checkpoint").read_bytes()
    growing, reads = tree(700), 0

    def crash(start: int, end: int) -> Sequence[bytes]:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise KeyboardInterrupt
        return growing.read(start, end)

    with pytest.raises(KeyboardInterrupt):
        write_tiles(tmp_path, growing.verified, growing.nodes, crash)
    assert (tmp_path / "checkpoint").read_bytes() == older
    reader = TileReader(folder_fetch(tmp_path), tree(300).checkpoint)
    assert list(reader.entries()) == ENTRIES[:300]
    growing.write(tmp_path)
    assert list(TileReader(folder_fetch(tmp_path), growing.checkpoint).entries()) == ENTRIES[:700]


def test_every_file_that_is_missing_or_changed_is_noticed() -> None:
    shown = tree(700)
    files = shown.files()
    assert len(files) == 7
    for path, content in files.items():
        for wrong, error in (
            (None, TileMissing),
            (content[:-1], MalformedTile),
            (content[:40] + bytes([content[40] ^ 1]) + content[41:], InvalidProof),
        ):
            served = {k: v for k, v in files.items() if k != path}
            if wrong is not None:
                served[path] = wrong
            with pytest.raises(error):
                list(TileReader(fetch_from(served), shown.checkpoint).entries())


def test_no_unchecked_entry_is_ever_returned() -> None:
    shown = tree(700)
    files = shown.files()
    files["tile/entries/001"] = encode_bundle([*ENTRIES[256:511], b"forged"])
    entries = TileReader(fetch_from(files), shown.checkpoint).entries()
    assert list(islice(entries, 256)) == ENTRIES[:256]
    with pytest.raises(InvalidProof):
        next(entries)


def test_a_consistent_forgery_of_tiles_and_entries_is_refused() -> None:
    """Whoever serves the files can make them agree with each other, not with the signed root."""
    shown = tree(700)
    forged = Tree(700, [b"forged", *ENTRIES[1:]]).files()
    with pytest.raises(InvalidProof, match="signed root"):
        TileReader(fetch_from(forged), shown.checkpoint)
    mixed = {**shown.files(), **{p: forged[p] for p in ("tile/0/000", "tile/entries/000")}}
    with pytest.raises(InvalidProof, match="not a part of the signed tree"):
        next(TileReader(fetch_from(mixed), shown.checkpoint).entries())


def test_a_file_larger_than_any_tile_is_not_read(tmp_path: Path) -> None:
    tree(256).write(tmp_path)
    (tmp_path / "tile/0/000").write_bytes(bytes(8193))
    with pytest.raises(MalformedTile, match="too large"):
        list(TileReader(folder_fetch(tmp_path), tree(256).checkpoint).entries())


def test_nodes_outside_the_tree_are_refused() -> None:
    reader = TileReader(fetch_from(tree(300).files()), tree(300).checkpoint)
    for node in ((0, 300), (0, 512), (8, 1), (4, 18), (16, 0)):
        with pytest.raises(InvalidProof):
            reader([node])
