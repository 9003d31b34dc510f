"""Hold what commands print against the schemas under docs/schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def conform(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that is as its published schema says, if it has a published one."""
    name = str(document["schema"]).removeprefix("latentlog/").replace("/", "-")
    path = FOLDER / f"{name}.json"
    if path.exists():
        jsonschema.validate(document, json.loads(path.read_text(encoding="utf-8")))
    return document
