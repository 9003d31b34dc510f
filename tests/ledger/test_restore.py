"""Backups taken while recording, and restoring an old one: nothing is ever issued twice."""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from latentlog.ledger import restore as restore_module
from latentlog.ledger.audit import audit
from latentlog.ledger.backup import backup
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import Generation, Reservation
from latentlog.ledger.epochs import epoch_states
from latentlog.ledger.errors import (
    BackupElsewhere,
    CheckpointAhead,
    DatabaseExists,
    DatabaseMissing,
    DatabaseSuspended,
    ForkDetected,
    InvalidProof,
    LedgerError,
    NotNewest,
    RecorderBusy,
    StorageUnavailable,
)
from latentlog.ledger.fetch import site_fetch
from latentlog.ledger.home import Home, open_log, open_vault
from latentlog.ledger.issue import Draw
from latentlog.ledger.publish import Imprint, publish_site
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.restore import Restoration, restore
from tests.builders import make_home
from tests.databases import postgres_url

IMPRINT = Imprint("Example Labs")


def record(home: Home, count: int) -> Draw:
    """Draw and seal `count` latents."""
    with Recorder.open("faces", home=home, block=32) as recorder:
        drawn = recorder.draw(count)
        recorder.seal(drawn, conditioning={"prompt": "a face"})
    return drawn


def publish(home: Home, folder: Path | None = None) -> bytes:
    with closing(open_log(home)) as log:
        note = log.publish()
        if folder is not None:
            publish_site(log, folder, IMPRINT)
    return note


def lose(home: Home) -> None:
    """The disk with the database is gone."""
    for path in home.path.glob("ledger.sqlite*"):
        path.unlink()


def latents(draw: Draw) -> set[Digest]:
    return {Digest.of(row.tobytes()) for row in draw.integers}


def pairs(draw: Draw) -> set[tuple[int, int]]:
    return {(draw.epoch, counter) for counter in draw.counters}


def clean(home: Home) -> None:
    with closing(open_log(home)) as log:
        audit(log).require_clean()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def test_a_backup_is_one_private_file_with_the_log_and_no_record_keys(
    home: Home, tmp_path: Path
) -> None:
    record(home, 5)
    made = backup(home, tmp_path / "old.sqlite")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "old.sqlite"}
    assert made.path.stat().st_mode & 0o777 == 0o600
    with closing(open_log(home)) as log:
        assert made.entries == log.size
    with closing(sqlite3.connect(made.path)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert connection.execute("SELECT count(*) FROM openings").fetchone() == (5,)
    assert "record_keys" not in names
    with pytest.raises(DatabaseExists):
        backup(home, made.path)


def test_a_backup_is_taken_while_recording(home: Home, tmp_path: Path) -> None:
    stop, failures = threading.Event(), []

    def go_on() -> None:
        try:
            with Recorder.open("faces", home=home, block=64) as recorder:
                while not stop.is_set():
                    recorder.seal(recorder.draw(3))
        except LedgerError as error:
            failures.append(error)

    worker = threading.Thread(target=go_on)
    worker.start()
    try:
        sizes = [backup(home, tmp_path / f"{n}.sqlite").entries for n in range(5)]
    finally:
        stop.set()
        worker.join()
    assert not failures
    assert sizes == sorted(sizes)
    for number, size in enumerate(sizes):
        copy = Home.open(home.path, database=f"sqlite:///{tmp_path}/{number}.sqlite")
        with closing(open_log(copy)) as log:
            assert audit(log).entries == size
            audit(log).require_clean()


def test_a_backup_itself_appends_nothing(home: Home, tmp_path: Path) -> None:
    made = backup(home, tmp_path / "old.sqlite")
    copy = Home.open(home.path, database=f"sqlite:///{made.path}")
    with pytest.raises(DatabaseSuspended):
        with Recorder.open("faces", home=copy) as recorder:
            recorder.draw(1)


def test_an_unwritable_destination_is_one_error(home: Home, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        backup(home, tmp_path / "missing" / "old.sqlite")


# Restoring.


def test_an_old_backup_issues_nothing_twice(home: Home, tmp_path: Path) -> None:
    """The whole story: published past the backup, lost, and brought back from the site."""
    first = record(home, 5)
    made = backup(home, tmp_path / "old.sqlite")
    second = record(home, 7)
    note = publish(home, tmp_path / "site")
    lose(home)

    # Somebody just copies the backup back and tries.
    shutil.copy(made.path, home.path / "ledger.sqlite")
    with pytest.raises(DatabaseSuspended):
        record(home, 1)
    lose(home)

    with pytest.raises(CheckpointAhead, match="cannot be made up"):
        restore(home, note, source=made.path)
    with pytest.raises(DatabaseSuspended):
        record(home, 1)

    fetch = site_fetch(tmp_path / "site")
    done = restore(home, note, fetch=fetch)
    assert (done.closed, done.opened) == ([0], [1])
    assert done.recovered > 7
    third = record(home, 20)
    assert not pairs(third) & (pairs(first) | pairs(second))
    assert not latents(third) & (latents(first) | latents(second))
    clean(home)
    publish(home, tmp_path / "site")


def test_what_was_never_published_is_not_issued_again_either(home: Home, tmp_path: Path) -> None:
    record(home, 5)
    note = publish(home)
    made = backup(home, tmp_path / "old.sqlite")
    lost = record(home, 40)
    lose(home)
    done = restore(home, note, source=made.path)
    assert done.recovered == 0
    fresh = record(home, 60)
    assert fresh.epoch == 1
    assert not latents(fresh) & latents(lost)
    clean(home)


def test_a_plain_copy_of_the_file_is_noticed_by_what_was_published(
    home: Home, tmp_path: Path
) -> None:
    record(home, 2)
    shutil.copy(home.path / "ledger.sqlite", tmp_path / "copy")
    record(home, 2)
    publish(home)
    lose(home)
    shutil.copy(tmp_path / "copy", home.path / "ledger.sqlite")
    with pytest.raises(CheckpointAhead):
        record(home, 1)


def test_the_lease_of_a_lost_reservation_is_not_abandoned_again(home: Home, tmp_path: Path) -> None:
    """A crashed session and a queued batch, both of reservations that the backup lacks."""
    note = publish(home)
    made = backup(home, tmp_path / "old.sqlite")
    recorder = Recorder.open("faces", home=home, block=32)
    drawn = recorder.draw(3)
    database = home.path / "ledger.sqlite"
    database.rename(tmp_path / "away")
    recorder._log.store._engine.dispose()  # type: ignore[attr-defined]
    assert recorder.seal(drawn).queued
    recorder._session.close()
    recorder._vault.close()
    recorder._log.close()
    lose(home)
    done = restore(home, note, source=made.path)
    assert [path.parent.name for path in done.lost] == ["lost"]
    fresh = record(home, 3)
    assert fresh.epoch == 1
    assert not latents(fresh) & latents(drawn)
    clean(home)
    with closing(open_log(home)) as log:
        reserved = [e.entry for e in log.entries(kind="reservation")]
    assert [e.epoch for e in reserved if isinstance(e, Reservation)] == [1]


def test_what_is_sealed_while_the_database_is_suspended_is_not_lost(home: Home) -> None:
    note = publish(home)
    with Recorder.open("faces", home=home, block=4) as recorder:
        drawn = recorder.draw(4)
        with recorder._log.store.write() as writer:
            writer.suspend()
        assert recorder.seal(drawn.part(0, 2)).queued
        with pytest.raises(DatabaseSuspended):
            recorder.draw(4)
    done = restore(home, note)
    assert not done.lost
    record(home, 1)
    clean(home)
    with closing(open_log(home)) as log:
        entries = [logged.entry for logged in log.entries(kind="generation", epoch=0)]
    assert [(e.counter, e.late) for e in entries if isinstance(e, Generation)] == [
        (0, True),
        (1, True),
    ]


def test_only_the_newest_checkpoint_is_taken(home: Home, tmp_path: Path) -> None:
    old = publish(home)
    made = backup(home, tmp_path / "old.sqlite")
    record(home, 2)
    new = publish(home, tmp_path / "site")
    lose(home)
    with pytest.raises(NotNewest, match="this home"):
        restore(home, old, source=made.path)
    (home.path / "published.note").unlink()
    with pytest.raises(NotNewest, match="published log"):
        restore(home, old, source=made.path, fetch=site_fetch(tmp_path / "site"))
    assert not (home.path / "ledger.sqlite").exists()
    restore(home, new, source=made.path, fetch=site_fetch(tmp_path / "site"))


def test_a_checkpoint_of_another_history_is_refused(home: Home, tmp_path: Path) -> None:
    made = backup(home, tmp_path / "old.sqlite")
    record(home, 2)
    note = publish(home, tmp_path / "site")
    lose(home)
    tile = next(p for p in (tmp_path / "site/tile/entries").rglob("*") if p.is_file())
    content = bytearray(tile.read_bytes())
    content[-3] ^= 1
    tile.write_bytes(content)
    fetch = site_fetch(tmp_path / "site")
    with pytest.raises(InvalidProof):
        restore(home, note, source=made.path, fetch=fetch)
    with pytest.raises(DatabaseSuspended):
        record(home, 1)


def test_a_database_with_another_history_than_the_checkpoint_stays_closed(
    home: Home, tmp_path: Path
) -> None:
    shutil.copytree(home.path, tmp_path / "twin")
    twin = Home.open(tmp_path / "twin")
    record(home, 2)
    note = publish(home)
    record(twin, 9)
    for _ in range(2):
        with pytest.raises(ForkDetected):
            restore(twin, note)
        with pytest.raises(DatabaseSuspended):
            record(twin, 1)


@pytest.mark.parametrize("more", [0, 7])
def test_a_fork_that_was_signed_twice_is_not_gone_on_from(
    home: Home, tmp_path: Path, more: int
) -> None:
    """The newest checkpoint fits the database; an older one, known here, does not."""
    shutil.copytree(home.path, tmp_path / "twin")
    twin = Home.open(tmp_path / "twin")
    record(home, 2)
    other = publish(home)
    record(twin, 2)
    for _ in range(more):
        record(twin, 1)
    note = publish(twin)
    (twin.path / "published.note").write_bytes(other)
    for _ in range(2):
        with pytest.raises(ForkDetected):
            restore(twin, note)
        with pytest.raises(DatabaseSuspended):
            record(twin, 1)


def test_nothing_that_stands_there_is_overwritten(home: Home, tmp_path: Path) -> None:
    note = publish(home)
    made = backup(home, tmp_path / "old.sqlite")
    with pytest.raises(DatabaseExists) as caught:
        restore(home, note, source=made.path)
    assert "mv " in str(caught.value.next_step)
    record(home, 1)
    with pytest.raises(DatabaseMissing):
        restore(home, publish(home), source=tmp_path / "nothing")


def test_a_home_without_its_database_says_how_to_bring_it_back(home: Home) -> None:
    lose(home)
    with pytest.raises(DatabaseMissing) as caught:
        open_log(home)
    assert str(caught.value.next_step).startswith("latentlog restore BACKUP")


def test_nobody_restores_under_a_running_recorder(home: Home) -> None:
    note = publish(home)
    with Recorder.open("faces", home=home), pytest.raises(RecorderBusy):
        restore(home, note)


STEPS = ("_require_newest", "place_copy", "_catch_up", "_accept", "close_epoch", "open_epoch")
LATER = ("_renew_epochs", "_complete_vault", "_set_aside")


@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("step", [*STEPS, *LATER])
def test_restoring_again_after_an_interruption_ends_it(
    step: str, persisted: bool, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault table of a restoration: interrupted before each step, and after it."""
    first = record(home, 2)
    made = backup(home, tmp_path / "old.sqlite")
    second = record(home, 2)
    note = publish(home, tmp_path / "site")
    lose(home)
    fetch = site_fetch(tmp_path / "site")
    whole = getattr(restore_module, step)

    def interrupted(*given: Any, **named: Any) -> None:
        if persisted:
            whole(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(restore_module, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore(home, note, source=made.path, fetch=fetch)
    with pytest.raises((DatabaseSuspended, DatabaseMissing)):
        record(home, 1)

    placed = (home.path / "ledger.sqlite").exists()
    restore(home, note, source=None if placed else made.path, fetch=fetch)
    third = record(home, 8)
    assert not pairs(third) & (pairs(first) | pairs(second))
    assert not latents(third) & (latents(first) | latents(second))
    clean(home)


def test_a_home_without_its_vault_gets_an_empty_one(home: Home, tmp_path: Path) -> None:
    record(home, 2)
    note = publish(home)
    for path in home.path.glob("vault.sqlite*"):
        path.unlink()
    done: Restoration = restore(home, note)
    assert done.new_vault
    record(home, 1)
    with closing(open_log(home)) as log, closing(open_vault(home)) as vault:
        found = {problem.code for problem in audit(log, vault=vault).problems}
    assert found == {"missing_record_key"}


def test_a_postgresql_log_is_left_to_the_servers_tools(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", database=postgres_url())
    with pytest.raises(BackupElsewhere) as caught:
        backup(home, tmp_path / "old.sqlite")
    assert str(caught.value.next_step).startswith("pg_dump --format=custom")
    record(home, 2)
    note = publish(home)
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(BackupElsewhere, match="restored"):
        restore(home, note, source=tmp_path / "x")
    done = restore(home, note)
    assert (done.closed, done.opened) == ([0], [1])
    assert record(home, 2).epoch == 1
    clean(home)
    with closing(open_log(home)) as log:
        assert [state.open for state in epoch_states(log)] == [False, True]
