"""What can go wrong in the command line itself, and the exit code of every kind of failure.

```
CliError
├── MissingExtra         an optional part of the installation is absent
├── OutputExists         a file or folder that would be overwritten
├── UnreadableInput      a named file that is absent or not a file
├── UnknownName          no model, recorder, epoch or key of that name
├── SystemRefused        disk full, read-only, no permission
└── OutOfMemory
```
"""

from __future__ import annotations

import errno
import os
import re
from enum import IntEnum
from typing import ClassVar, Final

from latentlog.evidence.errors import EvidenceError
from latentlog.inversion.errors import InversionError
from latentlog.ledger.errors import LedgerError


class ExitCode(IntEnum):
    """The stable exit codes (design section 6)."""

    DONE = 0
    INTEGRITY = 1
    USAGE = 2
    INCONCLUSIVE = 3
    UNTRUSTED = 4
    INPUT = 5
    ENVIRONMENT = 6
    INTERNAL = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    """The reader of our output went away: what a shell shows for SIGPIPE."""


BY_KIND: Final = {
    "usage": ExitCode.USAGE,
    "input": ExitCode.INPUT,
    "integrity": ExitCode.INTEGRITY,
    "environment": ExitCode.ENVIRONMENT,
    "untrusted": ExitCode.UNTRUSTED,
}


class CliError(Exception):
    """A failure of the command line itself."""

    kind: ClassVar[str] = "usage"

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        next_step: str | None = None,
    ) -> None:
        """Carry what was expected, what was found and what to type next."""
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = got
        self.next_step = next_step


class MissingExtra(CliError):
    """An optional part of the installation is needed and absent."""

    kind = "environment"


class OutputExists(CliError):
    """A file or folder stands where the command would write."""


class UnreadableInput(CliError):
    """A named file is absent, or is not a file."""

    kind = "input"


class UnknownName(CliError):
    """Nothing in this ledger has that name."""


class SystemRefused(CliError):
    """The operating system refused: disk full, read-only, no permission and the like."""

    kind = "environment"


class OutOfMemory(CliError):
    """The machine has too little memory for the command."""

    kind = "environment"


PackageError = CliError | LedgerError | InversionError | EvidenceError

EXTRA_OF: Final = {
    "torch": "examine",
    "scipy": "examine",
    "PIL": "examine",
    "pdqhash": "examine",
    "safetensors": "examine",
    "matplotlib": "examine",
    "typst": "report",
    "pyhanko": "report",
    "psycopg": "postgres",
}
"""Which extra of pyproject.toml brings an import."""

_STORAGE: Final = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than allowed",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EMFILE: "too many files are open",
    errno.EIO: "the device reported an input/output error",
}
_ABSENT: Final = {
    errno.ENOENT: "no such file",
    errno.EISDIR: "that is a folder, not a file",
    errno.ENOTDIR: "part of the path is not a folder",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ELOOP: "the path is a loop of links",
}


def as_package_error(error: BaseException) -> PackageError | None:
    """Give our own error for `error`, or None when it is a bug."""
    match error:
        case CliError() | LedgerError() | InversionError() | EvidenceError():
            return error
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in EXTRA_OF:
            return missing_extra(name.partition(".")[0])
        case MemoryError():
            return OutOfMemory("out of memory", next_step="close other programs")
        case OSError():
            return _of_system(error)
        case _:
            return None


def missing_extra(module: str) -> MissingExtra:
    """Name the install line that brings `module`."""
    extra = EXTRA_OF[module]
    return MissingExtra(
        f"this command needs the '{extra}' extra",
        expected=f"the Python package {module}",
        got="not installed",
        next_step=f"pip install 'latentlog[{extra}]'",
    )


def _of_system(error: OSError) -> PackageError | None:
    if error.errno is None:
        return None
    where = f": {error.filename}" if error.filename else ""
    if error.errno in _ABSENT:
        return UnreadableInput(_ABSENT[error.errno] + where)
    reason = _STORAGE.get(error.errno, os.strerror(error.errno).lower())
    return SystemRefused(reason + where)


def code_of(error: PackageError) -> str:
    """The stable `code` of an error: its class name in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
