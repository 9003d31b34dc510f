"""The digest channel: sealed file and pixel digests that equal the medium's (protocol section 5).

An equal digest decides nothing alone: a recorder can seal any digest it likes, so only the replay
of the same counter makes it count. A picture that is constant up to noise says nothing about which
counter made it, and neither does a digest that several counters claim.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from latentlog.evidence.record import OpenedEntry

DigestName = Literal["file", "pixels"]

# Standard deviation, in 8-bit levels, up to which a picture is as good as one colour: many latents
# of a collapsed or saturated generator give such a picture.
CONSTANT_DEVIATION: Final = 2.0

# More equal digests than this are counted and no longer listed: the digest is excluded anyway.
_LISTED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestHit:
    """A counter whose sealed digest equals the medium's."""

    epoch: int
    counter: int
    index: int
    equal: tuple[DigestName, ...]


class DigestScan:
    """Compares the medium's digests with every opening it is shown."""

    def __init__(self, file_sha256: str, pixels: str | None) -> None:
        self._wanted = {"output_file": file_sha256, "output_pixels": pixels}
        self.compared = 0
        self.hits: list[DigestHit] = []
        self._count = 0

    def add(self, entry: OpenedEntry) -> None:
        fields = entry.opening.fields
        sealed = [name for name in self._wanted if name in fields]
        self.compared += bool(sealed)
        equal = [n for n in sealed if fields[n].content == self._wanted[n]]
        if not equal:
            return
        self._count += 1
        if len(self.hits) < _LISTED:
            names: dict[str, DigestName] = {"output_file": "file", "output_pixels": "pixels"}
            self.hits.append(
                DigestHit(
                    epoch=entry.opening.epoch,
                    counter=entry.opening.counter,
                    index=entry.index,
                    equal=tuple(names[n] for n in equal),
                )
            )

    def excluded(
        self, pixels: npt.NDArray[np.uint8]
    ) -> Literal["", "constant", "several_counters"]:
        """Say why equal digests of this picture point to no counter, if they do not."""
        if is_constant(pixels):
            return "constant"
        return "several_counters" if self._count > 1 else ""


def is_constant(pixels: npt.NDArray[np.uint8]) -> bool:
    """Say whether a picture (H, W, C) is one colour up to noise."""
    flat = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64)
    return bool((flat.std(axis=0) <= CONSTANT_DEVIATION).all())
