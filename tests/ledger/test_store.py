"""The stores: one set of promises, kept by memory, SQLite and PostgreSQL alike."""

import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import (
    AppendRefused,
    DatabaseExists,
    DatabaseMissing,
    DatabaseTooNew,
    DatabaseTooOld,
    StorageUnavailable,
    WrongOrigin,
)
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import leaf_hash
from latentlog.ledger.storage import CheckpointRow, Head, OpeningRow, Row, Store, TileRow
from latentlog.ledger.store import engine as engine_module
from latentlog.ledger.store import schema
from latentlog.ledger.store.memory import MemoryStore
from latentlog.ledger.store.sql import SqlStore
from tests.builders import LOG_KEY, ORIGIN, RECORDER, digest, make_generation, make_recording_log
from tests.databases import postgres_url, sqlite_url, tampering

MakeStore = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store
    match request.param:
        case "memory":
            made = MemoryStore()
        case "sqlite":
            made = SqlStore.create(sqlite_url(tmp_path))
        case _:
            made = SqlStore.create(postgres_url())
    yield made
    made.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An SQLite log with a few entries, closed."""
    made = sqlite_url(tmp_path)
    store = SqlStore.create(made)
    make_recording_log(store).append([make_generation(0)], RECORDER)
    store.close()
    return made


def make_row(index: int, counter: int | None = None) -> Row:
    body = f"entry {index}".encode()
    kind = "recorder" if counter is None else "generation"
    epoch = None if counter is None else 0
    length = None if counter is None else 1
    return Row(index, kind, epoch, counter, length, leaf_hash(body), body)


def put(store: Store, *rows: Row) -> None:
    with store.write() as writer:
        old = writer.head()
        writer.insert(rows, [], [])
        writer.move_head(old, Head(old.size + len(rows), bytes(8), old.published))


def test_an_empty_store_has_a_head(store: Store) -> None:
    with store.read() as reader:
        assert reader.head() == Head(0, bytes(8), None)
        assert reader.row(0) is None
        assert reader.newest("model") is None
        assert reader.checkpoint() is None


def test_what_is_written_is_read_back(store: Store) -> None:
    rows = [make_row(0), make_row(1, counter=5), make_row(2, counter=6)]
    tile = TileRow(0, 0, digest("root"), bytes(8192))
    with store.write() as writer:
        old = writer.head()
        writer.insert(rows, [tile], [OpeningRow(1, b"blob")])
        writer.add_checkpoint(CheckpointRow(3, b"note"))
        writer.add_document(Digest.of(b"text"), b"text")
        writer.add_document(Digest.of(b"text"), b"text")
        writer.move_head(old, Head(3, b"frontier", 3))
    with store.read() as reader:
        assert reader.head() == Head(3, b"frontier", 3)
        assert [reader.row(i) for i in range(4)] == [*rows, None]
        assert list(reader.rows(1, 10)) == rows[1:]
        assert list(reader.rows(0, 10, kinds=("generation",), epoch=0)) == rows[1:]
        assert list(reader.rows(0, 10, kinds=("recorder",))) == rows[:1]
        assert list(reader.rows(0, 1)) == rows[:1]
        assert reader.newest("generation", epoch=0) == rows[2]
        assert list(reader.by_counter(0, "generation", (5, 1), 9)) == rows[2:]
        assert list(reader.by_counter(0, "generation", (5, -1), 9)) == rows[1:]
        assert reader.at_or_below(0, "generation", 5) == rows[1]
        assert reader.at_or_below(0, "generation", 99) == rows[2]
        assert reader.at_or_below(0, "generation", 4) is None
        assert list(reader.leaf_hashes(1, 9)) == [row.leaf_hash for row in rows[1:]]
        assert reader.tile(0, 0) == tile
        assert reader.tile(0, 1) is None
        assert list(reader.tiles(0, 0, 9)) == [tile]
        assert list(reader.tile_roots(0, 0, 256)) == [tile.root]
        assert list(reader.tile_roots(0, 1, 256)) == []
        assert reader.checkpoint() == CheckpointRow(3, b"note")
        assert list(reader.checkpoints(0, 9)) == [CheckpointRow(3, b"note")]
        assert list(reader.checkpoints(4, 9)) == []
        assert reader.document(Digest.of(b"text")) == b"text"
        assert reader.opening(1) == b"blob"
        assert reader.opening(2) is None
        assert list(reader.openings(0, 9)) == [OpeningRow(1, b"blob")]


def test_a_failed_block_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as writer:
            writer.insert([make_row(0)], [], [])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.read() as reader:
        assert reader.row(0) is None
    put(store, make_row(0))


def test_the_head_moves_only_from_where_it_is(store: Store) -> None:
    put(store, make_row(0))
    with pytest.raises(AppendRefused), store.write() as writer:
        writer.move_head(Head(0, bytes(8), None), Head(2, bytes(8), None))


def test_a_counter_is_generated_once(store: Store) -> None:
    put(store, make_row(0, counter=7))
    with pytest.raises(AppendRefused):
        put(store, make_row(1, counter=7))


def test_an_entry_is_not_written_twice_nor_with_a_hole(store: Store) -> None:
    put(store, make_row(0))
    with pytest.raises(AppendRefused):
        put(store, make_row(0))
    if not isinstance(store, SqlStore) or "sqlite" in repr(store._engine.url):
        with pytest.raises(AppendRefused):
            put(store, make_row(2))


def test_writers_take_turns(store: Store) -> None:
    """Four threads append to one log; every batch is whole and no place is used twice."""
    log = make_recording_log(store, reserved=200)

    def record(first: int) -> None:
        for counter in range(first, first + 10):
            log.append([make_generation(counter)], RECORDER)

    threads = [threading.Thread(target=record, args=(50 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    generations = [e.index for e in log.entries(kind="generation")]
    assert len(generations) == 40
    assert [log.batch_of(i).position for i in generations] == [0] * 40


def test_a_database_belongs_to_one_log(store: Store) -> None:
    Log(store, origin=ORIGIN, signer=LOG_KEY)
    with pytest.raises(WrongOrigin):
        Log(store, origin="another.example/log", signer=LOG_KEY)


# SQLite and PostgreSQL: append-only, and who may create, open and upgrade.


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sa.Engine]:
    """A database with a row in every table; whatever is tried on it is refused."""
    folder = tmp_path_factory.mktemp("guarded")
    url = sqlite_url(folder) if request.param == "sqlite" else postgres_url()
    store = SqlStore.create(url)
    log = make_recording_log(store)
    log.append([make_generation(0)], RECORDER)
    log.publish()
    log.add_document(b"a document")
    with store.write() as writer:
        writer.insert([], [TileRow(0, 0, digest("root"), bytes(8192))], [OpeningRow(0, b"blob")])
    yield store._engine
    store.close()


TABLES = {
    "meta": "value = 'x'",
    "entries": "body = leaf_hash",
    "tiles": "root = hashes",
    "checkpoints": "note = note",
    "documents": "body = digest",
    "openings": "blob = blob",
    "head": "size = 0",
}


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_neither_changed_nor_deleted(guarded: sa.Engine, table: str) -> None:
    for statement in (f"UPDATE {table} SET {TABLES[table]}", f"DELETE FROM {table}"):
        with pytest.raises(sa.exc.DBAPIError, match=r"append-only|forward|stays"):
            run(guarded, statement)


@pytest.mark.parametrize("table", TABLES)
def test_replacing_a_row_is_refused_whatever_the_connection_sets(
    guarded: sa.Engine, table: str
) -> None:
    if guarded.dialect.name != "sqlite":
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            run(guarded, f"TRUNCATE {table} CASCADE")
        return
    for setting in ("ON", "OFF"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            run(
                guarded,
                f"PRAGMA recursive_triggers={setting}",
                f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
            )


def test_replacing_an_entry_by_its_counter_is_refused(guarded: sa.Engine) -> None:
    if guarded.dialect.name != "sqlite":
        pytest.skip("PostgreSQL has no REPLACE")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        run(
            guarded,
            "PRAGMA recursive_triggers=OFF",
            "INSERT OR REPLACE INTO entries SELECT 999, kind, epoch, counter, length, "
            "leaf_hash, body FROM entries WHERE kind = 'generation'",
        )


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def test_opening_never_creates(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing) as caught:
        SqlStore.open(f"sqlite:///{tmp_path}/nowhere.sqlite")
    assert caught.value.next_step == "latentlog init"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["", "ledger.sqlite", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:"]
)
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(DatabaseMissing):
        SqlStore.open(url)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.sqlite", tmp_path / "other.sqlite"
    empty.touch()
    other.write_bytes(b"not a database at all " * 100)
    with pytest.raises(DatabaseMissing):
        SqlStore.open(f"sqlite:///{empty}")
    with pytest.raises(StorageUnavailable, match="not a database"):
        SqlStore.open(f"sqlite:///{other}")


def test_creating_twice_is_refused(url: str) -> None:
    with pytest.raises(DatabaseExists):
        SqlStore.create(url)
    assert SqlStore.open(url).read()


def test_creating_twice_is_refused_on_postgres() -> None:
    url = postgres_url()
    with pytest.raises(DatabaseMissing):
        SqlStore.open(url)
    SqlStore.create(url).close()
    with pytest.raises(DatabaseExists):
        SqlStore.create(url)


def test_the_file_is_for_its_owner_only(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_commits_are_on_disk_before_they_return(url: str) -> None:
    store = SqlStore.open(url)
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


def test_another_schema_is_refused_with_the_command_that_helps(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "REVISIONS", ("0001", "0002"))
    with pytest.raises(DatabaseTooOld) as old:
        SqlStore.open(url)
    assert old.value.next_step == "latentlog db upgrade"
    with tampering(url) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew) as new:
        SqlStore.open(url)
    assert new.value.got == "schema 9999"
    with pytest.raises(DatabaseTooNew):
        schema.upgrade_database(url)


def test_a_current_database_is_upgraded_to_itself(url: str) -> None:
    assert schema.upgrade_database(url) == ("0001", "0001")
    assert schema.current_revision(url) == "0001"


# What the machine may do to us.


def test_a_locked_database_is_an_environment_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOCK_SECONDS", 0.05)
    store = SqlStore.open(url)
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match="locked"):
        put(store, make_row(9))
    other.execute("ROLLBACK")
    other.close()
    store.close()


def test_a_full_disk_is_an_environment_error_and_changes_nothing(url: str) -> None:
    store = SqlStore.open(url)
    log = Log(store, origin=ORIGIN, signer=LOG_KEY)
    before = log.size

    def no_room(connection: sa.Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    sa.event.listen(store._engine, "begin", no_room)

    def fill() -> None:
        for counter in range(1, 60):
            log.append([make_generation(counter)], RECORDER)

    with pytest.raises(StorageUnavailable, match="full") as caught:
        fill()
    assert caught.value.kind == "environment"
    store.close()
    again = Log(SqlStore.open(url), origin=ORIGIN, signer=LOG_KEY)
    assert again.size >= before
    assert again.append([make_generation(63)], RECORDER).first == again.size - 2
    again.store.close()


def test_a_read_only_database_is_an_environment_error(url: str) -> None:
    store = SqlStore.open(url)

    def read_only(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=ON")

    sa.event.listen(store._engine, "begin", read_only)
    with pytest.raises(StorageUnavailable, match="readonly"):
        put(store, make_row(9))
    store.close()


def test_a_database_removed_meanwhile_is_not_made_anew(url: str) -> None:
    store = SqlStore.open(url)
    store._engine.dispose()
    path = Path(url.removeprefix("sqlite:///"))
    path.unlink()
    with pytest.raises(StorageUnavailable):
        put(store, make_row(9))
    assert not path.exists()


def test_an_unreachable_server_is_an_environment_error() -> None:
    with pytest.raises(StorageUnavailable) as caught:
        SqlStore.open("postgresql://nobody:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(caught.value)
