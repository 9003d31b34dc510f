"""Examine a disputed medium: a numbered recipe from a file to a finding (protocol.md section 6).

Everything that makes the recovered vector happens in steps 1 to 5, before any latent of the record
is looked at; so the number of comparisons is what step 7 counts, and nothing else. The report
prints the same numbers. Deterministic for one seed, device and pipeline.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from latentlog.evidence.calibrate import live_controls, nearest_point, require_model
from latentlog.evidence.calibration import Calibration, decode_calibration, evaluate, rounded
from latentlog.evidence.checks import check_control_key, check_counters, check_keys, merged
from latentlog.evidence.compare import (
    ModelUnderTest,
    Openings,
    Wanted,
    channel_runs,
    compare_latents,
    latent_at,
    scan_openings,
    score_counters,
)
from latentlog.evidence.errors import EvidenceError, NothingToExamine
from latentlog.evidence.examination import Action, Examination, ExaminedModel, Request
from latentlog.evidence.exhibit import Exhibit
from latentlog.evidence.finding import Finding, decide
from latentlog.evidence.lookup import Candidate
from latentlog.evidence.measure import (
    Inverted,
    Reading,
    invert_all,
    read_medium,
)
from latentlog.evidence.measurements import (
    NOT_ASKED,
    ChannelRun,
    CounterScores,
    LiveControls,
    LogCheck,
    Lookup,
    Measurements,
    Medium,
    ModelScores,
)
from latentlog.evidence.profiles import Point
from latentlog.evidence.record import LoggedCalibration, ModelView, Record
from latentlog.evidence.show import show
from latentlog.evidence.statement import Shown
from latentlog.inversion.errors import InversionError
from latentlog.inversion.picture import Picture, read_picture
from latentlog.ledger.codec import format_time
from latentlog.ledger.digest import pixel_digest
from latentlog.ledger.keystream import Integers
from latentlog.ledger.outputs import pdq_sketch

STEPS: Final = (
    "take in the medium and its digests",
    "recompute the record",
    "hold the models and the disclosed keys against the record",
    "read off the file what happened to it",
    "recover a latent by inversion, before any latent of the record is looked at",
    "compare the medium with every disclosed digest and sketch",
    "compare the recovered latent with every latent of every epoch, and past their ends",
    "derive the named latents again, regenerate their outputs and compare them with the medium",
    "repeat the calibration next to the medium's own condition",
    "apply the rule",
)

Pixels = npt.NDArray[np.uint8]
__all__ = ["STEPS", "Action", "Examination", "ExaminedModel", "Request", "examine"]

OnStep = Callable[[str, int, int], None]


def examine(
    medium: Exhibit,
    models: Sequence[ExaminedModel],
    record: Record,
    request: Request,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    on_step: OnStep | None = None,
) -> Examination:
    """Follow `STEPS`; raise `EvidenceError` when nothing can be examined at all.

    A medium that cannot be read, or fits no model, gives a finding: it is evidence too.
    """
    if not models:
        raise NothingToExamine("no model was named", next_step="name one with --model")
    return _Examiner(medium, models, record, request, clock, on_step).run()


@dataclass(slots=True, kw_only=True)
class _Part:
    """One model's part, as far as it has come."""

    tested: ModelUnderTest
    calibration: Calibration | None
    logged: LoggedCalibration | None
    reading: Reading | None = None
    inverted: Inverted | None = None
    openings: Openings | None = None
    lookups: tuple[Lookup, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    counters: tuple[CounterScores, ...] = ()
    live: LiveControls | None = None


class _Examiner:
    """Holds what the steps hand on to each other."""

    def __init__(
        self,
        medium: Exhibit,
        models: Sequence[ExaminedModel],
        record: Record,
        request: Request,
        clock: Callable[[], datetime],
        on_step: OnStep | None,
    ) -> None:
        self._medium = medium
        self._models = models
        self._record = record
        self._request = request
        self._clock = clock
        self._on_step = on_step
        self._custody: list[Action] = []
        self._checks: list[LogCheck] = []
        self._step = 0
        self._picture: Picture | None = None
        self._problem = ""
        # The examiner's seed decides the random starts, as everything else that is random.
        start = int.from_bytes(hashlib.sha256(request.seed).digest()[:4], "big") >> 1
        self._plan = replace(request.plan, seed=start)

    def run(self) -> Examination:
        self._take_in()
        self._check_record()
        parts = self._check_models()
        self._read(parts)
        self._invert(parts)
        self._scan_openings(parts)
        self._look_up(parts)
        self._replay(parts)
        self._repeat(parts)
        return self._decide(parts)

    # The steps.

    def _take_in(self) -> None:
        self._begin(f"{self._medium.name}, SHA-256 {self._medium.sha256}")
        try:
            self._picture = read_picture(self._medium.content)
        except InversionError as error:
            self._problem = f"The file is no picture that can be examined: {error}."
            return
        digest = pixel_digest(self._picture.pixels).hex()
        self._medium = replace(self._medium, pixels=digest)

    def _check_record(self) -> None:
        self._begin(f"log {self._record.origin}, {self._record.size} entries")
        self._checks += self._record.audit()

    def _check_models(self) -> list[_Part]:
        self._begin(", ".join(m.view.name for m in self._models))
        epochs = self._record.epochs()
        parts = []
        for model in self._models:
            require_model(model.process, model.view)
            own = tuple(e for e in epochs if e.model_digest == model.view.digest)
            tested = ModelUnderTest(view=model.view, process=model.process, epochs=own)
            logged, calibration = self._calibration(model.view)
            parts.append(_Part(tested=tested, calibration=calibration, logged=logged))
            self._checks.append(check_keys(tested, self._record))
        return parts

    def _read(self, parts: list[_Part]) -> None:
        self._begin("")
        for part in parts if self._picture is not None else ():
            assert self._picture is not None
            try:
                part.reading = read_medium(self._picture, part.tested.view.output_shape)
            except InversionError as error:
                self._note(f"{part.tested.view.name}: {error}")
                continue
            self._note(f"{part.tested.view.name}: {part.reading.condition.words}")

    def _invert(self, parts: list[_Part]) -> None:
        self._begin(f"seed {self._request.seed.hex()}")
        for part in parts:
            if part.reading is None or not self._request.channels & {"latent", "range", "replay"}:
                continue
            process = part.tested.process
            [part.inverted] = invert_all(process, [part.reading], self._plan)
            residual = part.inverted.inversion.residual
            self._note(f"{part.tested.view.name}: residual {residual:.3g}")

    def _scan_openings(self, parts: list[_Part]) -> None:
        self._begin("")
        if self._picture is None or self._medium.pixels is None:
            return
        wanted = Wanted(
            sha256=self._medium.sha256,
            pixels_digest=self._medium.pixels,
            pixels=self._picture.pixels,
            sketch=pdq_sketch(self._picture.pixels),
        )
        for part in parts:
            if part.reading is not None:
                part.openings = scan_openings(part.tested, self._record, wanted, self._progress)

    def _look_up(self, parts: list[_Part]) -> None:
        self._begin("")
        for part in parts:
            if part.inverted is None or part.openings is None:
                continue
            if "latent" in self._request.channels:
                part.lookups, part.candidates = compare_latents(
                    part.tested, part.inverted, part.openings, self._progress
                )
            for lookup in part.lookups:
                self._note(f"{part.tested.view.name}: {lookup.compared} latents compared")

    def _replay(self, parts: list[_Part]) -> None:
        self._begin("")
        for part in parts:
            if part.inverted is None or part.openings is None:
                continue
            part.counters, checks = score_counters(
                part.tested,
                self._record,
                part.inverted,
                part.openings,
                part.candidates,
                self._request.channels,
            )
            self._checks += checks
            self._note(f"{part.tested.view.name}: {len(part.counters)} counters named")

    def _repeat(self, parts: list[_Part]) -> None:
        self._begin(f"{self._request.live_trials} controls")
        for done, part in enumerate(parts):
            self._progress(done, len(parts))
            point = _nearest(part)
            if point is None or not self._request.live_trials:
                continue
            part.live = live_controls(
                part.tested.process,
                part.tested.view,
                self._record.control_root(part.tested.view.digest),
                point,
                seed=self._request.seed,
                n=self._request.live_trials,
                plan=self._plan,
            )

    def _decide(self, parts: list[_Part]) -> Examination:
        self._begin("")
        measurements = self._measurements(parts)
        n = measurements.multiplicity
        rules = replace(
            self._request.rules,
            calibrations=tuple(
                evaluate(
                    p.calibration,
                    n,
                    document=hashlib.sha256(p.logged.document).hexdigest(),
                    entry=p.logged.index,
                    rules=self._request.rules,
                )
                for p in parts
                if p.logged is not None and p.calibration is not None
            ),
        )
        finding = decide(measurements, rules)
        self._note(f"{finding.outcome}, {finding.reason}")
        return Examination(
            finding=finding,
            measurements=measurements,
            rules=rules,
            exhibits=(self._medium, *_documents(parts)),
            pictures=self._pictures(parts, finding),
            cited=self._cited(parts, finding),
            seed=self._request.seed.hex(),
            custody=tuple(self._custody),
        )

    # What the steps share.

    def _begin(self, what: str) -> None:
        self._step += 1
        self._progress(0, 1)
        self._note(what or STEPS[self._step - 1])

    def _note(self, what: str) -> None:
        at = format_time(self._clock())
        self._custody.append(Action(at=at, step=self._step, what=what))

    def _progress(self, done: int, total: int) -> None:
        if self._on_step is not None:
            self._on_step(STEPS[self._step - 1], done, total)

    def _calibration(self, view: ModelView) -> tuple[LoggedCalibration | None, Calibration | None]:
        """Return the calibration that counts for a model; one that does not is a failed check."""
        logged = self._request.calibrations.get(view.digest)
        logged = logged or self._record.calibration(view.digest)
        if logged is None:
            return None, None
        try:
            calibration = decode_calibration(logged.document, model_digest=view.digest)
        except EvidenceError as error:
            self._checks.append(LogCheck(name="calibration", ok=None, detail=str(error)))
            return None, None
        control = check_control_key(calibration, self._record)
        self._checks += [control] if control is not None else []
        return logged, calibration

    def _measurements(self, parts: list[_Part]) -> Measurements:
        models = tuple(self._scores(p) for p in parts) if self._picture is not None else ()
        bare = Measurements(
            medium=self._medium_facts(),
            models=models,
            compared_before=self._request.compared_before,
            log_checks=merged(self._checks),
            earlier_disclosures=tuple(
                self._record.disclosures(e.epoch for p in parts for e in p.tested.epochs)
            ),
        )
        counters = check_counters(bare, self._request.rules)
        return replace(bare, log_checks=merged([*self._checks, counters]))

    def _medium_facts(self) -> Medium:
        picture = self._picture
        return Medium(
            sha256=self._medium.sha256,
            pixels=self._medium.pixels,
            format=picture.format if picture else "",
            mode=picture.mode if picture else "",
            width=picture.size[0] if picture else 0,
            height=picture.size[1] if picture else 0,
            problem=self._problem,
            seen_at=self._request.seen_at,
        )

    def _scores(self, part: _Part) -> ModelScores:
        view, tested = part.tested.view, part.tested
        asked = self._request.channels
        silent = ChannelRun(run=False, compared=0, note="the medium fits no output of this model")
        digests = sketches = replays = silent
        if part.openings is not None:
            digests, sketches, replays = channel_runs(part.openings, part.counters, asked)
        reached = part.inverted is not None and "range" in asked
        return ModelScores(
            name=view.name,
            digest=view.digest,
            kind=view.kind,
            dim=view.dim,
            applicable=part.reading is not None,
            condition=part.reading.condition if part.reading else None,
            lookups=part.lookups,
            counters=part.counters,
            digest_channel=digests,
            sketch_channel=sketches,
            replay_channel=replays,
            range_channel=ChannelRun(
                run=reached,
                compared=int(reached),
                note="" if reached else NOT_ASKED if part.reading else silent.note,
            ),
            residual=rounded(part.inverted.inversion.residual)
            if reached and part.inverted
            else None,
            live=part.live,
            disclosed_epochs=tuple(e.epoch for e in tested.disclosed),
            undisclosed_epochs=tuple(e.epoch for e in tested.epochs if e.key is None),
        )

    def _cited(self, parts: list[_Part], finding: Finding) -> tuple[int, ...]:
        cited = set()
        for part in parts:
            cited.add(part.tested.view.index)
            for epoch in part.tested.disclosed:
                cited |= {i for i in (epoch.open_index, epoch.close_index) if i is not None}
            if part.logged is not None and part.logged.index is not None:
                cited.add(part.logged.index)
        if finding.entry is not None:
            view = self._record.counter(finding.entry.epoch, finding.entry.counter)
            cited |= {*view.related, *(() if view.index is None else (view.index,))}
        return tuple(sorted(i for i in cited if i < self._record.size))

    def _pictures(self, parts: list[_Part], finding: Finding) -> dict[Shown, Pixels]:
        if self._picture is None:
            return {}
        part = next((p for p in parts if p.tested.view.name == finding.model), parts[0])
        latent = self._found_latent(part, finding)
        return show(self._picture.pixels, part.tested.process, part.inverted, latent)

    def _found_latent(self, part: _Part, finding: Finding) -> Integers | None:
        if finding.entry is None or part.openings is None:
            return None
        place = (finding.entry.epoch, finding.entry.counter)
        for c in part.counters:
            if (c.epoch, c.counter) == place:
                return latent_at(part.tested, part.openings, place, c.source)
        return None


def _nearest(part: _Part) -> Point | None:
    """Return the calibrated point that the examiner repeats for this medium."""
    if part.calibration is None or part.reading is None or part.inverted is None:
        return None
    points = [Point(distortion=p.distortion, strength=p.strength) for p in part.calibration.points]
    return nearest_point(part.reading.condition, points)


def _documents(parts: Sequence[_Part]) -> list[Exhibit]:
    return [
        Exhibit(name=f"{p.tested.view.name}.json", role="calibration", content=p.logged.document)
        for p in parts
        if p.logged is not None and p.calibration is not None
    ]
