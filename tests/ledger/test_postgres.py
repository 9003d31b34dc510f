"""Recording into PostgreSQL while connections drop, locks collide and servers change."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from latentlog.ledger.audit import audit
from latentlog.ledger.errors import DatabaseSuspended, ReservationExhausted
from latentlog.ledger.home import Home, make_recorder_key, open_log
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.registry import add_recorder
from latentlog.ledger.restore import restore
from latentlog.ledger.store import engine as engine_module
from latentlog.ledger.store.engine import open_engine, parse_url
from tests.builders import make_home
from tests.databases import postgres_url, tampering

ROOT = Path(__file__).parents[2]
KILLER = Path(__file__).with_name("killed.py")

# Every other session of this database, as when a server restarts or a network fails.
DROP = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home", database=postgres_url())


@pytest.fixture
def server(home: Home) -> Iterator[sa.Engine]:
    engine = open_engine(parse_url(home.database_url))
    yield engine
    engine.dispose()


def drop_connections(server: sa.Engine) -> None:
    with server.connect() as connection:
        connection.execute(DROP)


def audited(home: Home) -> list[int]:
    """Audit the log; return the counters that are sealed."""
    with closing(open_log(home)) as log:
        audit(log).require_clean()
        entries = [logged.entry for logged in log.entries(kind="generation")]
    return sorted(entry.counter for entry in entries)  # type: ignore[union-attr]


def test_dropped_connections_lose_nothing(home: Home, server: sa.Engine) -> None:
    sealed: list[int] = []
    with Recorder.open("faces", home=home, block=64) as recorder:
        for number in range(12):
            if number % 3 == 1:
                drop_connections(server)
            drawn = recorder.draw(2)
            if number % 3 == 2:
                drop_connections(server)
            recorder.seal(drawn)
            sealed += drawn.counters
    assert audited(home) == sealed


def test_a_connection_dropped_within_an_append_loses_nothing(
    home: Home, server: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the rows and the commit: the batch is queued, and appended once."""
    inserted = engine_module.insert_rows
    drops = [1]

    def dropping(*given: object) -> None:
        inserted(*given)  # type: ignore[arg-type]
        if drops:
            drops.pop()
            drop_connections(server)

    with Recorder.open("faces", home=home, block=64) as recorder:
        drawn = recorder.draw(2)
        monkeypatch.setattr("latentlog.ledger.store.sql.insert_rows", dropping)
        assert recorder.seal(drawn).queued
        assert recorder.drain() == 2
    assert audited(home) == [0, 1]


def test_a_deadlock_loses_nothing(home: Home, server: sa.Engine) -> None:
    """Somebody else locks the entries, then wants the head: one of the two is sent away."""
    with Recorder.open("faces", home=home, block=64) as recorder:
        drawn = recorder.draw(2)
        begun = threading.Event()

        def collide() -> None:
            try:
                with server.begin() as connection:
                    connection.execute(sa.text("LOCK TABLE entries IN SHARE MODE"))
                    begun.set()
                    threading.Event().wait(0.3)
                    connection.execute(sa.text("SELECT id FROM head FOR UPDATE"))
            except sa.exc.DBAPIError:
                pass

        other = threading.Thread(target=collide)
        other.start()
        begun.wait()
        recorder.seal(drawn)
        other.join()
        recorder.drain()
    assert audited(home) == [0, 1]


def test_a_lock_that_is_not_given_back_queues_the_batch(
    home: Home, server: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOCK_SECONDS", 1)
    with Recorder.open("faces", home=home, block=64) as recorder:
        drawn = recorder.draw(2)
        with server.begin() as connection:
            connection.execute(sa.text("SELECT id FROM head FOR UPDATE"))
            assert recorder.seal(drawn).queued
    assert audited(home) == [0, 1]


def test_a_recorder_that_meets_another_server_stops_until_it_is_taken_over(
    home: Home, server: sa.Engine
) -> None:
    """As a promoted replica looks: the same rows, another timeline, a new connection."""
    with closing(open_log(home)) as log:
        note = log.publish()
    with Recorder.open("faces", home=home, block=4) as recorder:
        recorder.seal(recorder.draw(4))
        with tampering(home.database_url) as connection:
            connection.execute(
                sa.text("UPDATE meta SET key = 'server:1:00000001' WHERE key LIKE 'server:%'")
            )
        drop_connections(server)
        with suppress(ReservationExhausted, DatabaseSuspended):
            recorder.draw(4)  # the connection that was dropped, unless the pool noticed
        with pytest.raises(DatabaseSuspended):
            recorder.draw(4)
        recorder._session.close()
        done = restore(home, note)
        assert (done.closed, done.opened) == ([0], [1])
    with Recorder.open("faces", home=home) as recorder:
        assert recorder.draw(1).epoch == 1
    assert audited(home) == [0, 1, 2, 3]


def test_several_recorder_processes_append_at_once(home: Home) -> None:
    names = ["a", "b", "c"]
    with closing(open_log(home)) as log:
        for name in names:
            add_recorder(log, name, make_recorder_key(home, name).public)
    runs = [
        subprocess.Popen(
            [sys.executable, str(KILLER), str(home.path), "0", name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    sealed = [int(line) for run in runs for line in run.communicate()[0].split()]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert audited(home) == sorted(sealed)
