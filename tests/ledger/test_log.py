"""The log: batches and seals, checkpoints, proofs, at every step of a failing write."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger.batch import Sealer
from latentlog.ledger.checkpoint import verify_checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import Generation, RecorderEntry, Seal
from latentlog.ledger.errors import (
    KeyFileMissing,
    NoSuchDocument,
    NoSuchEntry,
    NotPublished,
    RecorderRetired,
    StorageUnavailable,
)
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import (
    Frontier,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from latentlog.ledger.registry import add_recorder, retire_recorder
from latentlog.ledger.store.memory import MemoryStore
from latentlog.ledger.store.sql import SqlStore
from latentlog.ledger.tree import grow, node_reader
from tests.builders import (
    LOG_KEY,
    ORIGIN,
    RECORDER,
    START,
    digest,
    make_generation,
    make_log,
    make_model,
    make_recording_log,
)
from tests.databases import sqlite_url
from tests.fakes import WRITE_STEPS, FailingStore


def root_of_rows(log: Log) -> Digest:
    """Compute the root again, from the bodies alone."""
    frontier = Frontier()
    for logged in log.entries():
        frontier.append(leaf_hash(logged.body))
    return frontier.root()


def test_a_batch_is_followed_by_its_seal() -> None:
    log = make_recording_log()
    result = log.append([make_generation(0), make_generation(1)], RECORDER)
    assert result.seal_index == result.first + 2 == log.size - 1
    seal = log.entry(result.seal_index).entry
    assert isinstance(seal, Seal)
    assert (seal.signer, seal.key) == ("local", RECORDER.key.public)
    assert (seal.first, seal.count) == (result.first, 2)
    seal.verify(ORIGIN)
    assert seal.time > START


def test_each_entry_has_a_path_to_its_seal() -> None:
    log = make_recording_log()
    result = log.append([make_generation(n) for n in range(5)], RECORDER)
    for index in range(result.first, result.seal_index):
        batch = log.batch_of(index)
        assert (batch.seal.index, batch.position) == (result.seal_index, index - result.first)
        assert isinstance(batch.seal.entry, Seal)
        leaf = leaf_hash(log.entry(index).body)
        verify_inclusion(leaf, batch.position, 5, batch.path, batch.seal.entry.root)


def test_a_seal_is_in_no_batch() -> None:
    log = make_recording_log()
    with pytest.raises(NoSuchEntry, match="itself a seal"):
        log.batch_of(log.size - 1)


@pytest.mark.parametrize("index", [-1, 10**6])
def test_entries_beyond_the_log_are_named_in_the_error(index: int) -> None:
    log = make_recording_log()
    for read in (log.entry, log.prove, log.batch_of, log.opening):
        with pytest.raises(NoSuchEntry):
            read(index)


def test_only_registered_active_recorders_append() -> None:
    log = make_recording_log()
    stranger = Sealer("local", SigningKey(bytes([9]) * 32))
    with pytest.raises(RecorderRetired):
        log.append([make_generation(0)], stranger)
    with pytest.raises(RecorderRetired):
        log.append([make_generation(0)], Sealer("operator", stranger.key))
    retire_recorder(log, "local")
    before = log.size
    with pytest.raises(RecorderRetired):
        log.append([make_generation(0)], RECORDER)
    assert log.size == before


def test_a_recorder_writes_only_what_is_its_own() -> None:
    log = make_recording_log()
    with pytest.raises(RuntimeError, match="a recorder seals"):
        log.append([make_model("other")], RECORDER)


def test_a_log_without_its_key_reads_and_lets_recorders_append() -> None:
    log = make_recording_log()
    other = Log(log.store, origin=ORIGIN, public=LOG_KEY.public, clock=log.clock)
    other.append([make_generation(0)], RECORDER)
    assert other.checkpoint() == log.checkpoint()
    with pytest.raises(KeyFileMissing):
        other.publish()
    with pytest.raises(KeyFileMissing):
        other.append([make_model("other")])


def test_batches_are_bounded() -> None:
    log = make_recording_log(reserved=300)
    assert log.append([make_generation(n) for n in range(256)], RECORDER)
    with pytest.raises(RuntimeError):
        log.append([make_generation(n) for n in range(256, 300)] * 6, RECORDER)
    with pytest.raises(RuntimeError):
        log.append([], RECORDER)


# Checkpoints and proofs.


def test_the_first_checkpoint_is_of_the_empty_log() -> None:
    log = make_log()
    with pytest.raises(NotPublished):
        log.checkpoint()
    log.publish()
    assert log.checkpoint().checkpoint.size == 0


def test_publishing_twice_gives_the_same_note() -> None:
    log = make_recording_log()
    note = log.publish()
    assert log.publish() == note == log.checkpoint().note
    log.append([make_generation(0)], RECORDER)
    assert log.publish() != note


def test_a_checkpoint_verifies_with_the_vkey_alone() -> None:
    log = make_recording_log()
    verified = verify_checkpoint(log.publish(), log.verifier, ORIGIN)
    assert verified.checkpoint.size == log.size
    assert verified.checkpoint.root == root_of_rows(log)


def test_an_entry_is_proven_only_under_a_checkpoint() -> None:
    log = make_recording_log()
    log.publish()
    index = log.append([make_generation(0)], RECORDER).first
    with pytest.raises(NotPublished) as caught:
        log.prove(index)
    assert caught.value.next_step == "latentlog checkpoint"
    log.publish()
    checkpoint = log.checkpoint().checkpoint
    leaf = leaf_hash(log.entry(index).body)
    verify_inclusion(leaf, index, checkpoint.size, log.prove(index), checkpoint.root)


def test_every_older_checkpoint_is_a_prefix() -> None:
    log = make_recording_log()
    seen = [log.checkpoint().checkpoint]
    for counter in range(5):
        log.append([make_generation(counter)], RECORDER)
        log.publish()
        seen.append(log.checkpoint().checkpoint)
    for old, new in pairwise(seen):
        proof = log.prove_consistency(old.size, new.size)
        verify_consistency(old.size, new.size, proof, old.root, new.root)
    with pytest.raises(NoSuchEntry):
        log.prove_consistency(1, log.size + 1)


class Leaves:
    """A store's tree side over a list of leaves: what `grow` and `node_reader` read."""

    def __init__(self) -> None:
        self.leaves: list[Digest] = []
        self.rows: dict[tuple[int, int], object] = {}

    def leaf_hashes(self, start: int, limit: int) -> list[Digest]:
        return self.leaves[start : start + limit]

    def tile(self, level: int, index: int) -> object:
        return self.rows.get((level, index))

    def tile_roots(self, level: int, start: int, limit: int) -> list[Digest]:
        places = range(start, start + limit)
        return [self.rows[level, i].root for i in places if (level, i) in self.rows]  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch", [1, 2, 255, 256, 257])
def test_stored_tiles_prove_every_entry_across_tile_levels(batch: int) -> None:
    """66,000 leaves: one full tile of level 1, several sizes of batch."""
    reader, frontier, size = Leaves(), Frontier(), 66_000 if batch > 200 else 1_000
    leaves = [Digest(n.to_bytes(32, "big")) for n in range(size)]
    for at in range(0, size, batch):
        fresh = leaves[at : at + batch]
        tiles = grow(reader, frontier, fresh)  # type: ignore[arg-type]
        reader.leaves += fresh
        reader.rows.update({(tile.level, tile.index): tile for tile in tiles})
    assert frontier.size == size
    assert sum(level == 0 for level, _ in reader.rows) == size // 256
    assert sum(level == 1 for level, _ in reader.rows) == size // 65536
    read = node_reader(reader)  # type: ignore[arg-type]
    for index in (0, 1, 255, 256, 511, 700, size // 2, size - 2, size - 1):
        proof = prove_inclusion(read, index, size)
        verify_inclusion(leaves[index], index, size, proof, frontier.root())
    for old in (1, 255, 256, 257, 999):
        proof = prove_consistency(read, old, size)
        verify_consistency(old, size, proof, root_of(leaves[:old]), frontier.root())


@given(st.lists(st.integers(1, 40), max_size=12))
@settings(max_examples=30, deadline=None)
def test_any_batches_give_the_tree_of_their_entries(sizes: list[int]) -> None:
    log = make_log()
    for number, size in enumerate(sizes):
        log.append(
            [
                RecorderEntry(name=f"r{number}-{n}", key=LOG_KEY.public, state="active")
                for n in range(size)
            ]
        )
    log.publish()
    checkpoint = log.checkpoint().checkpoint
    assert checkpoint.size == sum(sizes) + len(sizes)
    assert checkpoint.root == root_of_rows(log)
    for index in range(checkpoint.size):
        leaf = leaf_hash(log.entry(index).body)
        verify_inclusion(leaf, index, checkpoint.size, log.prove(index), checkpoint.root)


# Reading.


def test_entries_are_streamed_by_kind_and_epoch() -> None:
    log = make_recording_log()
    log.append([make_generation(n) for n in range(3)], RECORDER)
    assert [
        e.entry.counter for e in log.entries(kind="generation") if isinstance(e.entry, Generation)
    ] == [0, 1, 2]
    assert list(log.entries(kind="generation", epoch=1)) == []
    assert [e.index for e in log.entries(start=2)] == list(range(2, log.size))
    assert [e.entry.kind for e in log.entries(kind="model")] == ["model"]


def test_streaming_goes_on_over_pages_and_new_entries() -> None:
    log = make_log()
    stream = log.entries()
    for page in range(5):
        log.append(
            [
                RecorderEntry(name=f"r{page}-{n}", key=LOG_KEY.public, state="active")
                for n in range(250)
            ]
        )
        assert [next(stream).index for _ in range(251)] == list(range(251 * page, 251 * page + 251))


def test_documents_are_found_by_their_digest() -> None:
    log = make_log()
    found = log.add_document(b"a calibration")
    assert log.add_document(b"a calibration") == found == Digest.of(b"a calibration")
    assert log.document(found) == b"a calibration"
    with pytest.raises(NoSuchDocument):
        log.document(digest("nothing"))


# Failing writes.


@pytest.mark.parametrize("step", WRITE_STEPS)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_write_that_fails_is_whole_or_absent(step: str, kind: str, tmp_path: Path) -> None:
    """The fault table: every step of an append and of a publication."""
    inner = MemoryStore() if kind == "memory" else SqlStore.create(sqlite_url(tmp_path))
    store = FailingStore(inner)
    log = make_recording_log(store)
    size, note = log.size, log.checkpoint().note

    store.fail(step)
    with pytest.raises(StorageUnavailable):
        log.append([make_generation(0), make_generation(1)], RECORDER)
    persisted = step == "committed"
    assert log.size == size + (3 if persisted else 0)
    assert log.checkpoint().note == note

    log.append([make_generation(2), make_generation(3)], RECORDER)
    if step not in ("insert", "inserted"):
        store.fail(step)
        with pytest.raises(StorageUnavailable):
            log.publish()
        assert (log.checkpoint().note != note) == persisted
    log.publish()
    assert log.checkpoint().checkpoint.root == root_of_rows(log)
    assert store.failures in (1, 2)
    store.close()


def test_two_logs_over_one_database_agree_on_recorders() -> None:
    log = make_recording_log()
    other = Log(log.store, origin=ORIGIN, public=LOG_KEY.public, clock=log.clock)
    other.append([make_generation(0)], RECORDER)
    retire_recorder(log, "local")
    with pytest.raises(RecorderRetired):
        other.append([make_generation(1)], RECORDER)
    fresh = SigningKey(bytes([7]) * 32)
    add_recorder(log, "local", fresh.public)
    other.append([make_generation(2, late=True)], Sealer("local", fresh))
