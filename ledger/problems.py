"""What an audit finds: a row, a stable code for what is wrong with it, a sentence."""

from typing import Final, NamedTuple

# A log that is wrong everywhere is told from one wrong row; nobody reads more than this.
PROBLEM_LIMIT: Final = 1000

SPANNING: Final = frozenset(
    {"altered_batch", "wrong_tile", "unsealed", "forked_checkpoint", "wrong_head"}
)
"""Codes that speak of many rows: where one row is named as well, it is the cause."""


class Problem(NamedTuple):
    """One thing that does not hold, and the entry that it is to be seen at."""

    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    code: str
    message: str

    @property
    def rank(self) -> tuple[bool, int]:
        """Sorts causes before what follows from them, earlier rows before later ones."""
        return self.code in SPANNING, self.index


class Problems:
    """The first problems found, and how many there were."""

    def __init__(self) -> None:
        self.found: Final[list[Problem]] = []
        self.count = 0

    def add(self, index: int, code: str, message: str) -> None:
        self.count += 1
        if len(self.found) < PROBLEM_LIMIT:
            self.found.append(Problem(index, code, message))
