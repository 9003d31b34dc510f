"""What goes where: data, messages, progress, colour."""

from __future__ import annotations

import io
import sys

import pytest

from latentlog.cli import console as module
from latentlog.cli.console import Console, columns, printable


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_off_a_terminal_is_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with Console().progress("counting", 200) as advance:
        for done in range(0, 101, 10):
            now[0] += 3.0
            advance(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["counting: 30 of 200 (15 %)", "counting: 70 of 200 (35 %)"]


def test_quiet_shows_no_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PLAIN_EVERY", 0.0)
    with Console(quiet=True).progress("counting") as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("counting", 3) as advance:
        advance(1)
        advance(2, 4, "counting more")
    assert out.getvalue() == ""
    assert "counting" in err.getvalue()


@pytest.mark.parametrize(
    ("stream", "no_color", "coloured"),
    [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)],
)
def test_colour_is_for_terminals_that_want_it(
    stream: io.StringIO, no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b[" in Console().paint("word", "good")) is coloured


def test_json_mode_prints_the_document_and_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Console(json=True).emit({"a": "é"}, "a line")
    assert capsys.readouterr().out == '{"a": "é"}\n'


def test_quiet_hides_messages_and_not_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    Console(quiet=True).say("by the way")
    Console(quiet=True).warn("careful")
    assert capsys.readouterr().err == "warning: careful\n"


def test_foreign_text_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b]0;title\x07b\u202e") == "a\\x1b]0;title\\x07b\\u202e"
    assert printable("é \x1b[31mred\x1b[0m — 界") == "é \x1b[31mred\x1b[0m — 界"


def test_columns_are_aligned() -> None:
    assert columns([("a", 1), ("long", 20)]) == ["a     1", "long  20"]
