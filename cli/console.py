"""What the user sees: stdout carries data, stderr carries messages and progress.

With `--json` stdout holds exactly one JSON object (JSON lines where the help text says so), on
failure too. Progress is drawn on a terminal only; elsewhere a plain line says now and then how far
a command is. NO_COLOR is obeyed. With LATENTLOG_LOG=json messages and progress are JSON lines.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO


class Advance(Protocol):
    """Says that `done` units of `total` are done; the label may change on the way."""

    def __call__(self, done: int, total: int | None = None, label: str = "") -> None:
        """Take the state of the work so far."""


PLAIN_EVERY: Final = 10.0
"""Seconds between two plain progress lines where there is no terminal."""

COLOURS: Final = {"good": "32", "bad": "31", "doubt": "33", "strong": "1", "dim": "2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """One command's two streams and how to write on them."""

    json: bool = False
    quiet: bool = False

    @property
    def stdout(self) -> TextIO:
        """The data stream, looked up late so that tests and pipes may replace it."""
        return sys.stdout

    @property
    def stderr(self) -> TextIO:
        """The message stream."""
        return sys.stderr

    def emit(self, document: Mapping[str, Any], *lines: str) -> None:
        """Print the result: `document` with `--json`, otherwise `lines`."""
        if self.json:
            self.record(document)
        else:
            for line in lines:
                print(printable(line), file=self.stdout)

    def record(self, document: Mapping[str, Any]) -> None:
        """Print one JSON object on one line."""
        print(json.dumps(document, ensure_ascii=False, allow_nan=False), file=self.stdout)

    def binary(self, data: bytes) -> None:
        """Print bytes that have a format of their own, unchanged."""
        self.stdout.flush()
        self.stdout.buffer.write(data)
        self.stdout.buffer.flush()

    def say(self, message: str) -> None:
        """Tell the user something that is not the result."""
        if not self.quiet:
            self._message("info", message, printable(message))

    def warn(self, message: str) -> None:
        """Tell the user something that --quiet must not hide."""
        self._message("warning", message, printable(f"warning: {message}"))

    def _message(self, level: str, message: str, plain: str) -> None:
        line = log_line(level, message) if wants_log_lines() else plain
        print(line, file=self.stderr, flush=True)

    def paint(self, text: str, style: str) -> str:
        """Colour `text` where stdout is a terminal that wants colour."""
        return coloured(text, style) if wants_colour(self.stdout) else text

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """Show how far a long step is; the yielded function takes the units done so far."""
        if self.quiet:
            yield _silent
        elif self.stderr.isatty() and not wants_log_lines():
            with _bar(label, total) as advance:
                yield advance
        else:
            yield _plain(label, total, self.stderr)


def wants_log_lines() -> bool:
    """Tell whether LATENTLOG_LOG asks for messages as JSON lines, for a log collector."""
    return os.environ.get("LATENTLOG_LOG") == "json"


def log_line(level: str, message: str, **more: object) -> str:
    """Return one message as one JSON object."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"time": now, "level": level, "message": message, **more}
    return json.dumps(line, ensure_ascii=False)


def wants_colour(stream: TextIO) -> bool:
    """Tell whether `stream` is a terminal and NO_COLOR is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def coloured(text: str, style: str) -> str:
    """Wrap `text` in the escape codes of `style`."""
    return f"\x1b[{COLOURS[style]}m{text}\x1b[0m"


def printable(text: str) -> str:
    """Make control characters visible: names and files of others must not drive the terminal."""
    return _CONTROL.sub(lambda found: found[1] or repr(found[0])[1:-1], text)


_CONTROL: Final = re.compile(
    r"(\x1b\[(?:[012]|3[123])m)|[^\n\t -~\xa1-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Our own colours (kept), or what is neither text nor line structure, text direction included."""


def columns(rows: Sequence[Sequence[object]], *, gap: str = "  ", indent: str = "") -> list[str]:
    """Align `rows` as plain text."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        indent + gap.join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shape = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*shape, console=RichConsole(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=total)

        def advance(done: int, total: int | None = total, label: str = label) -> None:
            bars.update(task, completed=done, total=total, description=label)

        yield advance


def _plain(label: str, total: int | None, stream: TextIO) -> Advance:
    last = time.monotonic()

    def advance(done: int, total: int | None = total, label: str = label) -> None:
        nonlocal last
        if time.monotonic() - last < PLAIN_EVERY:
            return
        last = time.monotonic()
        if wants_log_lines():
            print(log_line("info", label, done=done, total=total), file=stream, flush=True)
            return
        share = f" of {total} ({100 * done // total} %)" if total else ""
        # A step that counts nothing is named, not counted.
        counted = f": {done}{share}" if total is None or total > 1 else ""
        print(f"{label}{counted}", file=stream, flush=True)

    return advance


def _silent(done: int, total: int | None = None, label: str = "") -> None:
    """Show nothing."""
