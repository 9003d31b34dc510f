"""Files named on the command line: `-` is stdin or stdout, and nothing is overwritten unasked."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from latentlog.cli.errors import OutputExists, UnreadableInput

STANDARD: Final = Path("-")
INPUT_LIMIT: Final = 256 << 20
"""Above every medium, bundle and calibration that a command takes; stdin has no size to look at."""


def read_input(path: Path) -> bytes:
    """Read a file, or stdin for `-`; raises `UnreadableInput` past the limit."""
    if path == STANDARD:
        content = sys.stdin.buffer.read(INPUT_LIMIT + 1)
    else:
        with path.open("rb") as file:
            content = file.read(INPUT_LIMIT + 1)
    if len(content) > INPUT_LIMIT:
        raise UnreadableInput(
            f"{path} is too large", expected=f"at most {INPUT_LIMIT} bytes", got="more"
        )
    return content


@contextmanager
def input_path(path: Path) -> Iterator[Path]:
    """Give a path to read from: `path` itself, or a temporary copy of stdin for `-`."""
    if path != STANDARD:
        path.stat()
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="latentlog-") as folder:
        copy = Path(folder) / "stdin"
        copy.write_bytes(read_input(path))
        yield copy


def require_absent(path: Path) -> None:
    """Raise `OutputExists` before work is done for a file that could not be written."""
    if path != STANDARD and os.path.lexists(path):
        raise OutputExists(
            f"{path} exists already; nothing was changed", next_step="name another file"
        )


def write_output(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a new file, whole or not at all, or stdout for `-`; raises `OutputExists`."""
    if path == STANDARD:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb", opener=lambda p, flags: os.open(p, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        require_absent(path)
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
