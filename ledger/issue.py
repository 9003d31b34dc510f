"""What a recorder hands out: the latents of reserved counters, in the model's own prior.

draw.latents     float32 (n, *latent_shape), what the generator receives
draw.integers    int32 (n, dim), the canonical latents (protocol section 1)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from latentlog.ledger.counters import Span
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import ModelEntry
from latentlog.ledger.epochs import EpochState
from latentlog.ledger.keystream import (
    Floats,
    Integers,
    RecorderKeys,
    Schedule,
    latent_digest,
    normal,
    uniform,
)


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Latents of the counters `first` … `first + count - 1` of an epoch; read-only."""

    epoch: int
    first: int
    count: int
    latents: Floats
    integers: Integers

    @property
    def counters(self) -> range:
        return range(self.first, self.first + self.count)

    def part(self, start: int, stop: int) -> "Draw":
        """Return the draws from `start` up to `stop`, to be generated and sealed by themselves."""
        chosen = self.counters[start:stop]
        return Draw(
            self.epoch,
            chosen.start,
            len(chosen),
            self.latents[start:stop],
            self.integers[start:stop],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A torch-like seed that an existing pipeline drew its latent from, and the latent's digest.

    Such a seed commits to little: promise 1 does not apply to entries that log one.
    """

    rng: str
    seed: int
    shape: tuple[int, ...]
    latent: Digest

    def content(self) -> dict[str, Any]:
        """Return the private content of the `seed` field."""
        return {
            "latent": self.latent.hex(),
            "rng": self.rng,
            "seed": str(self.seed),
            "shape": list(self.shape),
        }


class Issuer:
    """One epoch's latents: what its recorders know of it."""

    def __init__(self, state: EpochState, model: ModelEntry, keys: RecorderKeys) -> None:
        self.state: Final = state
        self.model: Final = model
        self.keys: Final = keys
        self._schedule: Final = Schedule(keys.issue, state.dim)

    def draw(self, span: Span) -> Draw:
        """Return the latents of reserved counters."""
        integers = self._schedule.latents(span.first, span.count)  # (n, dim)
        latents = normal(integers) if self.model.prior == "normal" else uniform(integers)
        latents = latents.reshape(span.count, *self.model.latent_shape)
        integers.flags.writeable = latents.flags.writeable = False
        return Draw(self.state.epoch, span.first, span.count, latents, integers)

    def latent_digests(self, counters: Sequence[int]) -> list[Digest]:
        """Return the digests of latents, derived again: what is sealed is what was issued."""
        digests: list[Digest] = []
        for span in runs(counters):
            digests += map(latent_digest, self._schedule.latents(span.first, span.count))
        return digests


def runs(counters: Sequence[int]) -> list[Span]:
    """Cut ascending counters into spans without holes."""
    found = []
    for _, run in groupby(enumerate(counters), lambda item: item[1] - item[0]):
        members = [counter for _, counter in run]
        found.append(Span(members[0], len(members)))
    return found
