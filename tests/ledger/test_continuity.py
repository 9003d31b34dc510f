"""A database that fell behind what was published appends nothing; clocks do not run backwards."""

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from latentlog.ledger.audit import audit
from latentlog.ledger.checkpoint import verify_checkpoint
from latentlog.ledger.continuity import Continuity
from latentlog.ledger.entry import RecorderEntry, Seal
from latentlog.ledger.errors import (
    BadSignature,
    CheckpointAhead,
    ClockBehind,
    DatabaseSuspended,
    ForkDetected,
    StorageUnavailable,
)
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.log import Log
from latentlog.ledger.note import NoteSigner
from latentlog.ledger.store import sql
from latentlog.ledger.store.memory import MemoryStore
from latentlog.ledger.store.sql import SqlStore
from tests.builders import LOG_KEY, ORIGIN, START, Ticking
from tests.databases import postgres_url, sqlite_url, tampering
from tests.fakes import WRITE_STEPS, FailingStore

VERIFIER = NoteSigner(ORIGIN, LOG_KEY).verifier


def recorder(number: int) -> RecorderEntry:
    key = SigningKey(bytes([number]) * 32).public
    return RecorderEntry(name=f"r{number}", key=key, state="active")


def guarded(path: Path, store: object | None = None) -> Log:
    """Return a log whose newest checkpoint is kept at `path` as well."""
    continuity = Continuity(path, VERIFIER)
    store = store or MemoryStore()
    return Log(store, origin=ORIGIN, signer=LOG_KEY, clock=Ticking(), continuity=continuity)  # type: ignore[arg-type]


def lengthened(path: Path, *numbers: int) -> Log:
    log = guarded(path)
    for number in numbers:
        log.append([recorder(number)])
    log.publish()
    return log


def test_the_newest_checkpoint_is_kept_outside_the_database(tmp_path: Path) -> None:
    path = tmp_path / "published.note"
    log = lengthened(path, 1, 2)
    assert path.read_bytes() == log.checkpoint().note
    assert path.stat().st_mode & 0o777 == 0o600
    assert verify_checkpoint(path.read_bytes(), VERIFIER, ORIGIN).checkpoint.size == 4


def test_a_database_behind_the_published_checkpoint_appends_and_signs_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "published.note"
    lengthened(path, 1, 2)
    shorter = lengthened(tmp_path / "other", 1)
    behind = guarded(path, shorter.store)
    for attempt in (lambda: behind.append([recorder(3)]), behind.publish):
        with pytest.raises(CheckpointAhead, match="ends at 2 entries, and a checkpoint over 4"):
            attempt()
    assert behind.size == 2


def test_another_history_appends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "published.note"
    lengthened(path, 1)
    other = lengthened(tmp_path / "other", 2, 3)
    with pytest.raises(ForkDetected):
        guarded(path, other.store).append([recorder(4)])


def test_a_home_remembers_checkpoints_that_another_one_signed(tmp_path: Path) -> None:
    signing = lengthened(tmp_path / "signing", 1)
    appending = guarded(tmp_path / "appending", signing.store)
    appending.append([recorder(2)])
    assert (tmp_path / "appending").read_bytes() == signing.checkpoint().note


def test_a_log_notices_while_it_is_open(tmp_path: Path) -> None:
    """The database is replaced under an open log, as a failover does."""
    path = tmp_path / "published.note"
    log = lengthened(path, 1, 2)
    log.store._state = lengthened(tmp_path / "other", 1).store._state  # type: ignore[attr-defined]
    with pytest.raises(CheckpointAhead):
        log.append([recorder(3)])


def test_a_forged_note_stops_appends_instead_of_being_believed(tmp_path: Path) -> None:
    path = tmp_path / "published.note"
    log = lengthened(path, 1)
    path.write_bytes(path.read_bytes().replace(b"\n2\n", b"\n0\n"))
    with pytest.raises(BadSignature):
        guarded(path, log.store).append([recorder(2)])


def test_a_note_that_cannot_be_kept_is_not_given_out(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "published.note"
    log = guarded(path)
    with pytest.raises(StorageUnavailable):
        log.publish()
    with log.snapshot() as reader:
        assert reader.checkpoint() is None


@pytest.mark.parametrize("step", [s for s in WRITE_STEPS if not s.startswith("insert")])
def test_a_failed_publication_never_leaves_the_database_behind(step: str, tmp_path: Path) -> None:
    """The fault table of the two writes: the note outside first, then the database."""
    path = tmp_path / "published.note"
    store = FailingStore(MemoryStore())
    log = guarded(path, store)
    log.append([recorder(1)])
    store.fail(step)
    with pytest.raises(StorageUnavailable):
        log.publish()
    again = guarded(path, store)
    again.append([recorder(2)])
    assert again.publish() == path.read_bytes()
    audit(again).require_clean()


# Which database it is.


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_suspended_database_appends_nothing_until_it_is_taken_over(
    kind: str, tmp_path: Path
) -> None:
    url = sqlite_url(tmp_path) if kind == "sqlite" else postgres_url()
    with closing(SqlStore.create(url)) as store:
        log = guarded(tmp_path / "published.note", store)
        log.append([recorder(1)])
        for _ in range(2):
            with store.write() as writer:
                writer.suspend()
                assert writer.suspended()
            with pytest.raises(DatabaseSuspended) as caught:
                log.append([recorder(2)])
            assert caught.value.next_step == "latentlog restore --checkpoint NEWEST.note"
            with store.write() as writer:
                writer.adopt()
            log.append([recorder(3)])


def test_another_postgresql_server_is_noticed(tmp_path: Path) -> None:
    """A dump loaded elsewhere, or a promoted replica: another identifier, another timeline."""
    url = postgres_url()
    with closing(SqlStore.create(url)) as store:
        guarded(tmp_path / "published.note", store).append([recorder(1)])
    with tampering(url) as connection:
        connection.exec_driver_sql(
            "UPDATE meta SET key = 'server:1:00000001' WHERE key <> 'origin'"
        )
    with closing(SqlStore.open(url)) as store:
        log = guarded(tmp_path / "published.note", store)
        with pytest.raises(DatabaseSuspended, match="another server"):
            log.append([recorder(2)])
        with store.write() as writer:
            writer.adopt()
        log.append([recorder(2)])


# Time.


def seal_times(log: Log) -> list[datetime]:
    entries = [logged.entry for logged in log.entries(kind="seal")]
    return [entry.time for entry in entries if isinstance(entry, Seal)]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_seal_times_never_run_backwards(kind: str, tmp_path: Path) -> None:
    now = [START]
    store = MemoryStore() if kind == "memory" else sql.SqlStore.create(sqlite_url(tmp_path))
    log = Log(store, origin=ORIGIN, signer=LOG_KEY, clock=lambda: now[0])
    for number, step in enumerate((0, -60, 5)):
        now[0] = START + timedelta(seconds=step)
        log.append([recorder(number)])
    assert seal_times(log) == [START, START, START + timedelta(seconds=5)]
    now[0] = START - timedelta(seconds=56)
    with pytest.raises(ClockBehind) as caught:
        log.append([recorder(9)])
    assert caught.value.got == "2026-01-31T09:29:04Z"
    assert log.size == 6
    log.store.close()
