"""The look-up: vectors against every latent an epoch could have issued (protocol.md section 4).

Exhaustive and in constant memory: the keystream of an epoch is walked from counter 0 to 2^20 past
its high-water mark, so that latents drawn outside the record are compared too. Nothing is skipped
and nothing prefiltered, hence N is simply every latent times every vector. A first score in float32
sorts; the sixteen that stay are scored again on the canonical integers, rounded down.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from latentlog.evidence.errors import NothingToExamine
from latentlog.evidence.measurements import Lookup, Source
from latentlog.ledger.keystream import LATENT_LIMIT, SCALE, Integers, Schedule, gaussian_table

Vector = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

# Latents compared past the last one issued: draws that the record does not know of.
OVERRUN: Final = 1 << 20

# How many counters the channel nominates for a replay.
NOMINATED: Final = 16

# Coordinates scored at a time: keystream, floats and their squares stay in the second-level cache.
_CHUNK_ELEMENTS: Final = 200_000

# What rounding can add to a float32 score, and to an exact one; both far below any threshold.
_FLOAT32_SLACK: Final = 1e-5
_EXACT_SLACK: Final = 1e-13


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLatents:
    """One epoch to compare with: its latents and the first counter never reserved."""

    epoch: int
    schedule: Schedule
    high_water: int

    @property
    def count(self) -> int:
        return min(self.high_water + OVERRUN, LATENT_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedLatent:
    """A latent that was logged by its seed, drawn again."""

    epoch: int
    counter: int
    latent: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A counter whose latent is among the closest, with its exact cosine, rounded down."""

    epoch: int
    counter: int
    vector: str
    cosine: float
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one look-up found: per vector its best, and the closest counters over all vectors."""

    lookups: tuple[Lookup, ...]
    candidates: tuple[Candidate, ...]


def look_up(
    vectors: Mapping[str, Vector],
    epochs: Sequence[EpochLatents],
    seeds: Iterable[SeedLatent] = (),
    *,
    keep: int = NOMINATED,
    on_progress: Progress | None = None,
) -> Comparison:
    """Compare every vector with every latent; raise `NothingToExamine` without an epoch.

    A vector that is zero or not finite is compared with nothing: it supports nothing.
    """
    seeds = list(seeds)
    if not epochs and not seeds:
        raise NothingToExamine(
            "no epoch key is there to compare with",
            next_step="import a disclosure, or run where the master key is",
        )
    units = {name: unit_vector(v) for name, v in vectors.items()}
    usable = {name: unit for name, unit in units.items() if unit is not None}
    best = _Best(list(usable), list(usable.values()), keep)
    total = sum(e.count for e in epochs)
    done = 0
    for epoch in epochs if usable else ():
        for first, raw in epoch.schedule.scan(0, epoch.count, _rows(epoch.schedule.dim)):
            best.score(epoch, first, raw)
            done += len(raw)
            if on_progress is not None:
                on_progress(done, total)
    for seed in seeds if usable else ():
        best.score_seed(seed)
    return best.comparison(list(vectors), total + len(seeds))


def exact_cosine(unit: Vector, latent: Integers) -> float:
    """Return the cosine of a unit vector and canonical integers, rounded down.

    1 − ρ² is taken from the residual's norm, which keeps its precision where ρ is near 1.
    """
    q = latent.astype(np.float64)
    norm = math.sqrt(math.fsum(q * q))
    if norm == 0.0:
        return -1.0
    q /= norm
    rho = math.fsum(unit * q)
    residual = unit - rho * q
    away = math.fsum(residual * residual)
    if rho > 0.0:
        rho = min(rho, math.sqrt(max(0.0, 1.0 - away)))
    return max(-1.0, min(1.0, rho) - _EXACT_SLACK)


class _Best:
    """The closest counters so far: a float32 threshold decides what is scored exactly."""

    def __init__(self, names: list[str], units: list[Vector], keep: int) -> None:
        self._names = names
        self._units = units
        self._keep = keep
        self._table = gaussian_table().astype(np.float32) * np.float32(1.0 / SCALE)
        self._columns = [u.astype(np.float32) for u in units]
        self._kept: list[list[Candidate]] = [[] for _ in names]
        self._worst = [-math.inf] * len(names)
        self._buffer = np.empty((0, 0), np.float32)

    def score(self, epoch: EpochLatents, first: int, raw: npt.NDArray[np.uint16]) -> None:
        if self._buffer.shape[0] < len(raw) or self._buffer.shape[1] != raw.shape[1]:
            self._buffer = np.empty(raw.shape, np.float32)
            self._ones = np.ones(raw.shape[1], np.float32)
        latents = self._buffer[: len(raw)]
        np.take(self._table, raw, out=latents, mode="clip")
        dots = [latents @ column for column in self._columns]
        np.multiply(latents, latents, out=latents)
        scale = 1.0 / np.sqrt(latents @ self._ones)
        for which, dot in enumerate(dots):
            self._offer(which, epoch, first, raw, dot * scale)

    def score_seed(self, seed: SeedLatent) -> None:
        for which in range(len(self._names)):
            self._add(which, seed.epoch, seed.counter, seed.latent, "seed")

    def _offer(
        self,
        which: int,
        epoch: EpochLatents,
        first: int,
        raw: npt.NDArray[np.uint16],
        scores: npt.NDArray[np.float32],
    ) -> None:
        above = np.flatnonzero(scores > self._worst[which] - _FLOAT32_SLACK)
        if len(above) > 4 * self._keep:
            above = above[np.argpartition(scores[above], -2 * self._keep)[-2 * self._keep :]]
        for row in above:
            latent = gaussian_table()[raw[row]]
            self._add(which, epoch.epoch, first + int(row), latent, "schedule")

    def _add(self, which: int, epoch: int, counter: int, latent: Integers, source: Source) -> None:
        kept = self._kept[which]
        kept.append(
            Candidate(
                epoch=epoch,
                counter=counter,
                vector=self._names[which],
                cosine=exact_cosine(self._units[which], latent),
                source=source,
            )
        )
        if len(kept) >= 8 * self._keep:
            self._prune(which)

    def _prune(self, which: int) -> None:
        kept = sorted(self._kept[which], key=_closest_first)[: self._keep]
        self._kept[which] = kept
        if len(kept) == self._keep:
            self._worst[which] = kept[-1].cosine

    def comparison(self, vectors: list[str], compared: int) -> Comparison:
        for which in range(len(self._names)):
            self._prune(which)
        best = {n: k[0].cosine for n, k in zip(self._names, self._kept, strict=True) if k}
        lookups = tuple(
            Lookup(
                vector=name,
                compared=compared if name in best else 0,
                cosine=best.get(name, 0.0),
            )
            for name in vectors
        )
        closest: dict[tuple[int, int], Candidate] = {}
        for candidate in sorted((c for k in self._kept for c in k), key=_closest_first):
            closest.setdefault((candidate.epoch, candidate.counter), candidate)
        return Comparison(lookups=lookups, candidates=tuple(closest.values())[: self._keep])


def _closest_first(c: Candidate) -> tuple[float, int, int, str]:
    return (-c.cosine, c.epoch, c.counter, c.vector)


def unit_vector(v: Vector) -> Vector | None:
    """Return a vector scaled to length 1, or None where it has no direction."""
    flat = np.asarray(v, dtype=np.float64).ravel()
    if not (np.isfinite(flat).all() and np.any(flat != 0.0)):
        return None
    # Scaling by the largest value first keeps the squares in range whatever the vector's size.
    flat = flat / np.abs(flat).max()
    unit: Vector = flat / math.sqrt(math.fsum(flat * flat))
    return unit


def _rows(dim: int) -> int:
    return max(1, _CHUNK_ELEMENTS // dim)
