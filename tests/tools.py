"""Programs from Debian that some tests need: third-party verifiers of what we write."""

import os
import shutil
from pathlib import Path

import pytest


def require_tool(name: str, package: str | None = None) -> str:
    """Return the path of a program; without it skip the test, or fail it where CI is true."""
    found = shutil.which(name)
    if found is None:
        _missing(f"the program {name!r}", package or name)
    assert found is not None
    return found


def require_folder(path: str, package: str) -> Path:
    """Return a folder that a Debian package installs; without it skip or fail as above."""
    if not Path(path).is_dir():
        _missing(path, package)
    return Path(path)


def _missing(what: str, package: str) -> None:
    message = f"{what} is missing: apt-get install {package}"
    if os.environ.get("CI") == "true":
        # A check that silently does not run is worse than one that fails.
        pytest.fail(message)
    pytest.skip(message)
