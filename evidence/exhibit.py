"""An exhibit: one file, its digests, its role in an examination.

    {"name": "medium.png", "role": "medium", "sha256": "9f86…", "size": 8123, "pixels": "2c26…"}

The bytes are kept as they came; nothing is decoded here, so this loads on a machine without Pillow.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentlog.evidence.errors import UnreadableExhibit

Role = Literal["medium", "replayed", "reconstruction", "difference", "map", "calibration"]

# Larger than any picture an examination can use, small enough to hold in memory twice.
MAX_EXHIBIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A file with its role; `pixels` is the pixel digest (hex) of the picture in it, if any."""

    name: str
    role: Role
    content: bytes = field(repr=False)
    pixels: str | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def to_json(self) -> dict[str, str | int | None]:
        return {
            "name": self.name,
            "role": self.role,
            "sha256": self.sha256,
            "size": len(self.content),
            "pixels": self.pixels,
        }


def read_exhibit(path: Path, role: Role = "medium") -> Exhibit:
    """Take a file in as an exhibit; raise `UnreadableExhibit` when that is not possible."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_EXHIBIT_BYTES + 1)
    except OSError as error:
        raise UnreadableExhibit(
            f"cannot read {path.name}", got=error.strerror, next_step="check the path"
        ) from error
    if not content:
        raise UnreadableExhibit(f"{path.name} is empty")
    if len(content) > MAX_EXHIBIT_BYTES:
        raise UnreadableExhibit(
            f"{path.name} is too large", expected=f"at most {MAX_EXHIBIT_BYTES} bytes"
        )
    return Exhibit(name=path.name, role=role, content=content)
