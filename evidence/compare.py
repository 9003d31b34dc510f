"""One model's part of an examination: the medium against everything the record holds of it.

Openings first (digests, sketches, logged seeds), then the look-up over every latent, then the
replay of whatever was named. One row per counter comes out; nothing is decided here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from latentlog.evidence.digests import DigestHit, DigestScan
from latentlog.evidence.lookup import Candidate, EpochLatents, SeedLatent, look_up
from latentlog.evidence.measure import Inverted, Model, latents_for, replay_scores
from latentlog.evidence.measurements import (
    LOGGED_SEEDS,
    NOT_ASKED,
    ChannelRun,
    CounterScores,
    LogCheck,
    Lookup,
    ReplayScore,
    Source,
)
from latentlog.evidence.record import EpochView, ModelView, OpenedEntry, Record
from latentlog.evidence.seeded import draw_again
from latentlog.evidence.sketch import Nomination, SketchScan
from latentlog.ledger.commitment import open_commitment
from latentlog.ledger.entry import Generation, decode_entry
from latentlog.ledger.errors import LedgerError
from latentlog.ledger.keystream import SCALE, Integers, Schedule, latent_digest, latent_salt

Channel = Literal["digest", "sketch", "latent", "replay", "range"]
CHANNELS: Final[frozenset[Channel]] = frozenset({"digest", "sketch", "latent", "replay", "range"})
Place = tuple[int, int]
"""Epoch and counter."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for in the openings: the medium's digests, its pixels, its sketch."""

    sha256: str
    pixels_digest: str
    pixels: npt.NDArray[np.uint8]
    sketch: bytes | None


@dataclass(slots=True, kw_only=True)
class Openings:
    """What the disclosed openings of a model's epochs say about the medium."""

    digests: DigestScan
    sketches: SketchScan | None
    excluded: Literal["", "constant", "several_counters"] = ""
    seeds: dict[Place, Integers] = field(default_factory=dict)
    undrawn_seeds: int = 0
    erased_seeds: int = 0
    """Generations from a logged seed of which no opening is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUnderTest:
    """A registered model, its process, and its epochs as the record has them."""

    view: ModelView
    process: Model
    epochs: tuple[EpochView, ...]

    @property
    def disclosed(self) -> list[EpochView]:
        return [e for e in self.epochs if e.key is not None]

    def schedule(self, epoch: int) -> Schedule | None:
        for e in self.epochs:
            if e.epoch == epoch and e.key is not None:
                return Schedule(e.key.subkey("issue"), e.dim)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one model's comparisons gave."""

    lookups: tuple[Lookup, ...] = ()
    counters: tuple[CounterScores, ...] = ()
    digest_channel: ChannelRun
    sketch_channel: ChannelRun
    replay_channel: ChannelRun
    checks: tuple[LogCheck, ...] = ()


def scan_openings(
    tested: ModelUnderTest, record: Record, wanted: Wanted, on_progress: Progress
) -> Openings:
    """Read every disclosed opening of the model's epochs once."""
    found = Openings(
        digests=DigestScan(wanted.sha256, wanted.pixels_digest),
        sketches=SketchScan(wanted.sketch) if wanted.sketch is not None else None,
    )
    opened: set[Place] = set()
    total = sum(e.high_water for e in tested.epochs)
    for done, entry in enumerate(o for e in tested.epochs for o in record.openings(e.epoch)):
        opened.add((entry.opening.epoch, entry.opening.counter))
        found.digests.add(entry)
        if found.sketches is not None:
            found.sketches.add(entry)
        _keep_seed(found, entry, tested.view)
        if done % 1024 == 0:
            on_progress(done, total)
    found.erased_seeds = sum(
        (e.epoch, counter) not in opened
        for e in tested.epochs
        for counter in record.seed_counters(e.epoch)
    )
    found.excluded = found.digests.excluded(wanted.pixels)
    return found


def compare_latents(
    tested: ModelUnderTest, inverted: Inverted, openings: Openings, on_progress: Progress
) -> tuple[tuple[Lookup, ...], tuple[Candidate, ...]]:
    """Look the recovered vector up among every latent of the model's disclosed epochs."""
    epochs = [
        EpochLatents(epoch=e.epoch, schedule=schedule, high_water=e.high_water)
        for e in tested.disclosed
        if (schedule := tested.schedule(e.epoch)) is not None
    ]
    seeds = [SeedLatent(epoch=e, counter=c, latent=z) for (e, c), z in openings.seeds.items()]
    if not epochs and not seeds:
        return (), ()
    found = look_up({"medium": inverted.inversion.gaussian}, epochs, seeds, on_progress=on_progress)
    return found.lookups, found.candidates


def score_counters(
    tested: ModelUnderTest,
    record: Record,
    inverted: Inverted,
    openings: Openings,
    candidates: Sequence[Candidate],
    channels: frozenset[Channel],
) -> tuple[tuple[CounterScores, ...], tuple[LogCheck, ...]]:
    """Return one row per named counter, its output regenerated and compared."""
    hits = {(h.epoch, h.counter): h for h in openings.digests.hits if "digest" in channels}
    scan = openings.sketches if "sketch" in channels else None
    sketches = {(s.epoch, s.counter): s for s in (scan.nominated if scan else ())}
    cosines = {(c.epoch, c.counter): c.cosine for c in candidates}
    places = sorted({*hits, *sketches, *cosines})
    sources = {p: _source(record, p) for p in places}
    latents = {
        p: z for p in places if (z := latent_at(tested, openings, p, sources[p])) is not None
    }
    scores = _replay(tested, inverted, latents) if "replay" in channels else {}
    rows = tuple(
        _row(
            record,
            place,
            source=sources[place],
            cosine=cosines.get(place),
            hit=hits.get(place),
            sketch=sketches.get(place),
            excluded=openings.excluded,
            rederived=place in latents,
            replay=scores.get(place),
        )
        for place in places
    )
    return rows, (_commitment_check(tested, record, rows, latents), seed_check(openings))


def latent_at(
    tested: ModelUnderTest, openings: Openings, place: Place, source: Source
) -> Integers | None:
    """Derive the latent of a counter again, from the epoch key or the logged seed."""
    if source == "seed":
        return openings.seeds.get(place)
    schedule = tested.schedule(place[0])
    return None if schedule is None else schedule.latents(place[1], 1)[0]


def channel_runs(
    openings: Openings, rows: Sequence[CounterScores], channels: frozenset[Channel]
) -> tuple[ChannelRun, ChannelRun, ChannelRun]:
    """Say of digest, sketch and replay channel whether they ran, and over how many records."""
    digests = _run("digest" in channels, openings.digests.compared, "no digest was disclosed")
    scan = openings.sketches
    sketches = (
        _run("sketch" in channels, scan.compared, "no sketch was disclosed")
        if scan is not None
        else ChannelRun(run=False, compared=0, note="pdqhash is not installed")
    )
    replayed = sum(row.replay is not None for row in rows)
    asked = "replay" in channels
    replays = ChannelRun(run=asked, compared=replayed, note="" if asked else NOT_ASKED)
    return digests, sketches, replays


def _run(asked: bool, compared: int, nothing: str) -> ChannelRun:
    note = NOT_ASKED if not asked else "" if compared else nothing
    return ChannelRun(run=asked and compared > 0, compared=compared if asked else 0, note=note)


def _keep_seed(found: Openings, entry: OpenedEntry, view: ModelView) -> None:
    content = entry.opening.fields.get("seed")
    if content is None:
        return
    # Of a uniform prior the log does not say how its pipeline turned numbers into latents.
    drawn = draw_again(content.content, view.dim) if view.prior == "normal" else None
    if drawn is None:
        found.undrawn_seeds += 1
        return
    integers = np.rint(np.clip(drawn, -100.0, 100.0) * SCALE).astype(np.int32)
    found.seeds[entry.opening.epoch, entry.opening.counter] = integers


def _replay(
    tested: ModelUnderTest, inverted: Inverted, latents: dict[Place, Integers]
) -> dict[Place, ReplayScore]:
    if not latents:
        return {}
    stacked = np.stack(list(latents.values()))
    images = tested.process.generate(latents_for(tested.process, stacked))
    scores = replay_scores(tested.process, images, inverted.observation)
    return dict(zip(latents, scores, strict=True))


def _source(record: Record, place: Place) -> Source:
    index = record.counter(*place).index
    if index is None:
        return "schedule"
    entry = decode_entry(record.entry(index))
    return "seed" if isinstance(entry, Generation) and entry.source == "seed" else "schedule"


def _row(
    record: Record,
    place: Place,
    *,
    source: Source,
    cosine: float | None,
    hit: DigestHit | None,
    sketch: Nomination | None,
    excluded: Literal["", "constant", "several_counters"],
    rederived: bool,
    replay: ReplayScore | None,
) -> CounterScores:
    view = record.counter(*place)
    return CounterScores(
        epoch=place[0],
        counter=place[1],
        index=view.index,
        state=view.state,
        source=source,
        rederived=rederived,
        cosine=cosine,
        digests=hit.equal if hit else (),
        digest_excluded=excluded if hit else "",
        sketch_distance=sketch.distance if sketch else None,
        replay=replay,
        sealed_at=view.sealed_at,
    )


def _commitment_check(
    tested: ModelUnderTest,
    record: Record,
    rows: Sequence[CounterScores],
    latents: dict[Place, Integers],
) -> LogCheck:
    """Open the latent commitments of all named entries with the latents derived again."""
    opened, wrong = 0, []
    for row in rows:
        place = (row.epoch, row.counter)
        if row.index is None or place not in latents or row.source == "seed":
            continue
        entry = decode_entry(record.entry(row.index))
        key = next(e.key for e in tested.epochs if e.epoch == row.epoch)
        if not isinstance(entry, Generation) or key is None:
            continue
        try:
            open_commitment(
                entry.commitments["latent"],
                "latent",
                latent_digest(latents[place]),
                latent_salt(key.subkey("latent-salt"), row.counter),
                origin=record.origin,
                epoch=row.epoch,
                counter=row.counter,
            )
            opened += 1
        except (LedgerError, KeyError):
            wrong.append(row.index)
    detail = f"entry {wrong[0]} commits to another latent" if wrong else f"{opened} opened"
    return LogCheck(name="latent_commitments", ok=not wrong, detail=detail)


def seed_check(openings: Openings) -> LogCheck:
    """Say how many generations from logged seeds of their own were compared, and how many not."""
    undrawn, erased = openings.undrawn_seeds, openings.erased_seeds
    missed = []
    if undrawn:
        missed.append(f"{undrawn} logged seeds cannot be drawn again and were not compared")
    if erased:
        missed.append(f"{erased} logged seeds have no opening here and were not compared")
    return LogCheck(
        name=LOGGED_SEEDS,
        ok=None if missed else True,
        detail="; ".join(missed) or f"{len(openings.seeds)} drawn again",
    )
