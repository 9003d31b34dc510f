"""What an audit finds: a row, a stable code for what is wrong with it, a sentence."""

from typing import Final, NamedTuple

# A log that is wrong everywhere is told from one wrong row; nobody reads more than this.
PROBLEM_LIMIT: Final = 1000


class Problem(NamedTuple):
    """One thing that does not hold, and the entry that it is to be seen at."""

    index: int  # type: ignore[assignment]  # the entry's place, not tuple.index
    code: str
    message: str


class Problems:
    """The first problems found, and how many there were."""

    def __init__(self) -> None:
        self.found: Final[list[Problem]] = []
        self.count = 0

    def add(self, index: int, code: str, message: str) -> None:
        self.count += 1
        if len(self.found) < PROBLEM_LIMIT:
            self.found.append(Problem(index, code, message))
