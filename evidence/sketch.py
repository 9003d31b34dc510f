"""The sketch channel: PDQ distance to every disclosed sketch. It nominates, and decides nothing.

A sketch is 256 bits that change little when a picture is compressed or resized. The sixteen
closest entries are replayed; whether one of them fits is for the replay to say.
"""

import heapq
from dataclasses import dataclass
from typing import Final

from latentlog.evidence.record import OpenedEntry

NOMINATED: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Nomination:
    """An entry whose sketch lies near the medium's."""

    distance: int
    epoch: int
    counter: int
    index: int


class SketchScan:
    """Keeps the entries closest to the medium's sketch among the openings it is shown."""

    def __init__(self, sketch: bytes) -> None:
        self._sketch = int.from_bytes(sketch, "big")
        self._closest: list[tuple[int, int, int, int]] = []
        self.compared = 0

    def add(self, entry: OpenedEntry) -> None:
        field = entry.opening.fields.get("sketch")
        if field is None:
            return
        self.compared += 1
        distance = (int(field.content, 16) ^ self._sketch).bit_count()
        place = (-distance, -entry.opening.epoch, -entry.opening.counter, -entry.index)
        if len(self._closest) < NOMINATED:
            heapq.heappush(self._closest, place)
        else:
            heapq.heappushpop(self._closest, place)

    @property
    def nominated(self) -> list[Nomination]:
        """Closest first."""
        return sorted(
            Nomination(distance=-d, epoch=-e, counter=-c, index=-i) for d, e, c, i in self._closest
        )
