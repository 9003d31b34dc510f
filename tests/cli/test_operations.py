"""Running a log: publish, audit from outside, status, backup, restore, log lines."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from latentlog.cli.commands import log as log_commands
from latentlog.cli.errors import ExitCode
from latentlog.ledger.home import Home, open_log
from latentlog.ledger.log import Log
from latentlog.ledger.recorder import Recorder
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("home")


def record(home: Home, count: int) -> None:
    with Recorder.open("faces", home=home, block=16) as recorder:
        recorder.seal(recorder.draw(count), conditioning={"prompt": "a face"})


# Publishing and the outsider's audit.


def test_an_outsider_audits_what_was_published_without_a_home(
    run: Run, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run("publish", "site", "--operator", "Example Labs", "--json").json
    assert shown["schema"] == "latentlog/publication/v0"
    assert (tmp_path / "site/checkpoint").read_text() == shown["checkpoint"]["note"]
    assert "Example Labs" in (tmp_path / "site/index.html").read_text()
    (tmp_path / "seen.note").write_text(shown["checkpoint"]["note"])
    record(home, 3)
    run("publish", "site")

    monkeypatch.setenv("LATENTLOG_HOME", str(tmp_path / "nowhere"))
    words = ("audit", "--tiles", "site", "--vkey", home.vkey, "--since", "seen.note")
    done = run(*words, "--json")
    assert (done.exit, done.json["clean"]) == (0, True)
    assert done.json["since"]["size"] == shown["checkpoint"]["size"]
    assert done.json["checkpoint"]["size"] > done.json["since"]["size"]
    assert "extends the checkpoint" in run(*words).out
    assert run("audit", "--tiles", "site", "--json").json["code"] == "home_missing"


def test_audit_since_finds_the_log_rolled_back_or_altered(
    run: Run, home: Home, tmp_path: Path
) -> None:
    run("publish", "old")
    record(home, 3)
    run("publish", "new")
    note = str(tmp_path / "new/checkpoint")
    rolled = run("audit", "--tiles", "old", "--vkey", home.vkey, "--since", note, "--json")
    assert (rolled.exit, rolled.json["code"]) == (ExitCode.INTEGRITY, "rollback_detected")
    bundle = next(path for path in (tmp_path / "new/tile/entries").rglob("*") if path.is_file())
    bundle.write_bytes(bundle.read_bytes().replace(b"faces", b"farce"))
    altered = run("audit", "--tiles", "new", "--json")
    assert (altered.exit, altered.json["code"]) == (ExitCode.INTEGRITY, "invalid_proof")
    assert run("audit", "--since", note, "--json").json["since"]["size"] > 0


def test_a_key_of_a_published_log_needs_the_log(run: Run, home: Home) -> None:
    assert run("audit", "--vkey", home.vkey).exit == ExitCode.USAGE


def test_a_site_is_not_published_into_the_home(run: Run, home: Home) -> None:
    done = run("publish", str(home.path), "--json")
    assert (done.exit, done.json["code"]) == (ExitCode.USAGE, "not_a_site")


# Going on, once each minute.


class Stop(KeyboardInterrupt):
    """Ends a command that goes on until interrupted."""


def test_checkpoint_every_outlasts_an_outage(
    run: Run, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    database = home.path / "ledger.sqlite"
    aside = database.with_name("aside")
    publish = Log.publish

    def broken(log: Log) -> bytes:
        from latentlog.ledger.errors import StorageUnavailable

        raise StorageUnavailable("the disk is full")

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        record(home, 1)
        if len(pauses) == 1:
            monkeypatch.setattr(Log, "publish", broken)
        elif len(pauses) == 2:
            monkeypatch.setattr(Log, "publish", publish)
        elif len(pauses) == 3:
            raise Stop

    monkeypatch.setattr(log_commands.time, "sleep", pause)
    monkeypatch.setenv("LATENTLOG_LOG", "json")
    done = run("checkpoint", "--every", "60s", "--json")
    assert done.exit == ExitCode.INTERRUPTED
    assert pauses == [60.0] * 3
    first, second, error = map(json.loads, done.out.splitlines())
    assert second["size"] > first["size"]
    assert error["code"] == "interrupted"
    [line] = map(json.loads, done.err.splitlines())
    assert line["level"] == "warning"
    assert line["message"] == "trying again later: the disk is full"
    assert line["time"].endswith("Z")
    assert not aside.exists()


# Health.


def test_status_says_when_entries_wait_too_long(run: Run, home: Home) -> None:
    record(home, 1)
    fresh = run("status", "--json")
    assert (fresh.exit, fresh.json["stale"], fresh.json["closed"]) == (0, False, None)
    stale = run("status", "--max-age", "0.000001s", "--json")
    assert (stale.exit, stale.json["stale"]) == (1, True)
    run("checkpoint")
    assert run("status", "--max-age", "0.000001s").exit == 0


# Backup and restore.


def test_backup_and_restore_from_the_command_line(run: Run, home: Home, tmp_path: Path) -> None:
    record(home, 2)
    made = run("backup", "old.sqlite", "--json").json
    assert made["schema"] == "latentlog/backup/v0"
    record(home, 2)
    run("publish", "site")
    for path in home.path.glob("ledger.sqlite*"):
        path.unlink()
    note = str(tmp_path / "site/checkpoint")

    behind = run("restore", "old.sqlite", "--checkpoint", note, "--json")
    assert (behind.exit, behind.json["code"]) == (ExitCode.INTEGRITY, "checkpoint_ahead")
    assert "closed for appends" in behind.json["next"]
    status = run("status", "--json")
    assert (status.exit, status.json["closed"]["code"]) == (1, "database_suspended")
    assert "refused" in run("status").out
    assert run("doctor", "--json").json["next"].startswith("latentlog restore --checkpoint")
    refused = run("draw", "faces", "-n", "1", "--json")
    assert (refused.exit, refused.json["code"]) == (ExitCode.ENVIRONMENT, "database_suspended")
    assert refused.json["next"].startswith("latentlog restore --checkpoint")

    done = run("restore", "--checkpoint", note, "--tiles", "site", "--json")
    assert (done.exit, done.json["epochs_closed"], done.json["epochs_opened"]) == (0, [0], [1])
    assert done.json["recovered"] > 0
    assert run("status").exit == 0
    assert run("draw", "faces", "-n", "1").exit == 0
    with closing(open_log(home)) as log:
        assert log.size > made["entries"]
    run("publish", "site")
    assert run("audit", "--tiles", "site").exit == 0


def test_the_backup_of_a_server_is_its_own_affair(run: Run) -> None:
    url = "postgresql://user:hunter2@127.0.0.1:1/ledger"
    done = run("backup", "x.sqlite", "--db", url, "--json")
    assert (done.exit, done.json["code"]) == (ExitCode.USAGE, "backup_elsewhere")
    assert "pg_dump" in done.json["next"]
    assert "hunter2" not in done.out


# Log lines.


def test_messages_are_json_lines_where_a_collector_wants_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTLOG_LOG", "json")
    done = run("backup", "old.sqlite")
    assert done.out.startswith("old.sqlite holds")
    assert {json.loads(line)["level"] for line in done.err.splitlines()} == {"info"}
    failed = run("backup", "old.sqlite")
    line = json.loads(failed.err)
    assert (line["level"], line["code"]) == ("error", "database_exists")
    assert line["next"]
