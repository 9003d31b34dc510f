"""Audit of latent commitments by whoever holds epoch keys: each is derived again and compared.

Erased entries are checked too: the latent's salt comes from the epoch key, not from the opening.
"""

from collections.abc import Mapping
from typing import Final

from latentlog.ledger.commitment import commit
from latentlog.ledger.entry import EpochOpen, Generation
from latentlog.ledger.keystream import EpochKey, Schedule, latent_digest, latent_salt
from latentlog.ledger.problems import Problems

# Deriving neighbours together costs little more than deriving one.
_RUN: Final = 256


class LatentAudit:
    """Collects runs of consecutive counters and derives them together."""

    def __init__(self, origin: str, problems: Problems, keys: Mapping[int, EpochKey]) -> None:
        self._origin: Final = origin
        self._problems: Final = problems
        self._keys: Final = keys
        self._schedules: Final[dict[int, tuple[Schedule, bytes]]] = {}
        self._run: list[tuple[int, Generation]] = []

    def open(self, entry: EpochOpen) -> None:
        """Take note of an epoch, if its key is shown."""
        key = self._keys.get(entry.epoch)
        if key is not None:
            schedule = Schedule(key.subkey("issue"), entry.dim)
            self._schedules[entry.epoch] = (schedule, key.subkey("latent-salt"))

    def add(self, index: int, entry: Generation) -> None:
        """Check a generation's latent, at the latest when the run ends."""
        if entry.epoch not in self._schedules or entry.source != "schedule":
            return
        last = self._run[-1][1] if self._run else None
        if last is None or len(self._run) == _RUN or not _follows(last, entry):
            self.flush()
        self._run.append((index, entry))

    def flush(self) -> None:
        """Check what is collected."""
        if not self._run:
            return
        first = self._run[0][1]
        schedule, salt_key = self._schedules[first.epoch]
        latents = schedule.latents(first.counter, len(self._run))
        for (index, entry), latent in zip(self._run, latents, strict=True):
            expected = commit(
                "latent",
                latent_digest(latent),
                latent_salt(salt_key, entry.counter),
                origin=self._origin,
                epoch=entry.epoch,
                counter=entry.counter,
            )
            if entry.commitments["latent"] != expected:
                message = f"the latent of {entry.epoch}/{entry.counter} is not the schedule's"
                self._problems.add(index, "wrong_latent", message)
        self._run = []


def _follows(last: Generation, entry: Generation) -> bool:
    return entry.epoch == last.epoch and entry.counter == last.counter + 1
