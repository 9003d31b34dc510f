"""Where the public test vectors are; tests that need them skip where the folder is absent."""

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "vectors"


def vector_folder(name: str) -> Path:
    """Return the folder of one source of vectors, or skip the test."""
    folder = FOLDER / name
    if not folder.is_dir():
        pytest.skip(f"no public vectors of {name} beside this checkout")
    return folder


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
