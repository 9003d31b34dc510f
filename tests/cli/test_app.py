"""The one boundary where errors become exit codes, seen from outside."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer

from latentlog.cli import app as boundary
from latentlog.cli.errors import ExitCode, code_of, missing_extra
from latentlog.cli.options import Invocation, command
from latentlog.evidence.errors import EvidenceError
from latentlog.inversion.errors import InversionError
from latentlog.ledger.errors import (
    AuditFailed,
    DatabaseMissing,
    LedgerError,
    MalformedNote,
    UnknownSigner,
)
from tests.builders import make_home


def app_that(body: Callable[[], int | None]) -> typer.Typer:
    """An app with one command, `act`, that does `body`."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(boundary.root)

    @command(app, examples=["latentlog act"])
    def act(
        invocation: Invocation, number: Annotated[int, typer.Option(help="A number.")] = 0
    ) -> int | None:
        """Act."""
        return body()

    return app


def raising(error: BaseException) -> typer.Typer:
    """An app whose command raises `error`."""

    def body() -> None:
        raise error

    return app_that(body)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MalformedNote("not a note"), ExitCode.INPUT),
        (AuditFailed("row 3"), ExitCode.INTEGRITY),
        (UnknownSigner("nobody"), ExitCode.UNTRUSTED),
        (DatabaseMissing("none"), ExitCode.ENVIRONMENT),
        (InversionError("x"), ExitCode.INPUT),
        (EvidenceError("x"), ExitCode.INPUT),
        (FileNotFoundError(errno.ENOENT, "no such file", "a.png"), ExitCode.INPUT),
        (IsADirectoryError(errno.EISDIR, "is a directory", "a"), ExitCode.INPUT),
        (PermissionError(errno.EACCES, "denied", "a"), ExitCode.ENVIRONMENT),
        (OSError(errno.ENOSPC, "full"), ExitCode.ENVIRONMENT),
        (OSError(errno.EROFS, "read-only"), ExitCode.ENVIRONMENT),
        (ModuleNotFoundError("no torch", name="torch"), ExitCode.ENVIRONMENT),
        (ModuleNotFoundError("no such", name="nonesuch"), ExitCode.INTERNAL),
        (MemoryError(), ExitCode.ENVIRONMENT),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError("bug"), ExitCode.INTERNAL),
    ],
)
def test_every_failure_has_its_exit_code_and_says_it_in_json(
    error: BaseException, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert boundary.main(["act", "--json"], raising(error)) == code
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["schema", "code", "message", "expected", "got", "next", "exit"]
    assert document["schema"] == "latentlog/error/v0"
    assert document["exit"] == code


def test_success_returns_what_the_command_returns() -> None:
    assert boundary.main(["act"], app_that(lambda: None)) == 0
    assert boundary.main(["act"], app_that(lambda: ExitCode.INCONCLUSIVE)) == 3


def test_message_names_expected_got_and_next(capsys: pytest.CaptureFixture[str]) -> None:
    error = LedgerError("wrong", expected="a", got="b", next_step="latentlog doctor")
    boundary.main(["act"], raising(error))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: wrong",
        "  expected: a",
        "  got: b",
        "  next: latentlog doctor",
    ]


def test_missing_extra_names_the_install_line() -> None:
    error = missing_extra("typst")
    assert error.next_step == "pip install 'latentlog[report]'"
    assert code_of(error) == "missing_extra"


@pytest.mark.parametrize(
    "arguments", [["nonesuch"], ["act", "--nonesuch"], ["act", "--number", "x"]]
)
def test_wrong_usage_is_exit_2_with_and_without_json(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    app = app_that(lambda: None)
    assert boundary.main(arguments, app) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "--help" in err
    assert boundary.main([*arguments, "--json"], app) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["code"] == "usage"


def test_bug_leaves_a_private_log_without_variables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        secret = "swordfish" + "-0451"
        raise RuntimeError(f"length {len(secret)}")

    assert boundary.main(["act"], app_that(body)) == ExitCode.INTERNAL
    [log] = (tmp_path / "state" / "latentlog").iterdir()
    assert str(log) in capsys.readouterr().err
    assert "RuntimeError: length 14" in log.read_text()
    assert "swordfish-0451" not in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_shared_options_stand_before_or_after_the_command(tmp_path: Path) -> None:
    seen: list[Invocation] = []
    app = typer.Typer()
    app.callback()(boundary.root)

    @command(app, examples=[])
    def act(invocation: Invocation) -> None:
        """Act."""
        seen.append(invocation)

    @command(app, examples=[])
    def other(invocation: Invocation) -> None:
        """Make the app one with several commands."""

    boundary.main(["--home", str(tmp_path), "act", "--json"], app)
    boundary.main(["--quiet", "--home", "elsewhere", "act", "--home", str(tmp_path)], app)
    assert [i.home for i in seen] == [tmp_path, tmp_path]
    assert [i.console.json for i in seen] == [True, False]
    assert [i.console.quiet for i in seen] == [False, True]


def test_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "latentlog.cli", "--help"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == ExitCode.PIPE_CLOSED


def test_interrupt_is_130_and_leaves_no_traceback(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    command = ["checkpoint", "--every", "1h", "--home", str(home.path), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "latentlog.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["size"] == 6
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert json.loads(out)["code"] == "interrupted"
    assert err == ""
