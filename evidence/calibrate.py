"""Calibrate a model: planted positives through the whole pipeline, at every point of an envelope.

The controls are consecutive latents, none dropped, under a key that follows from the root of the
first checkpoint after the model's entry: whoever registered the model could not choose it, and
nobody can grind a lucky one. Each control is generated, distorted, written to a real file, read
back and inverted; its scores are kept, because the rules are applied later, at the examination's
own N. The same controls go through every point.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import numpy as np
import numpy.typing as npt

from latentlog.evidence.calibration import (
    PIPELINE,
    SCHEMA,
    Calibration,
    PointScores,
    Setting,
    rounded,
)
from latentlog.evidence.errors import CalibrationMismatch
from latentlog.evidence.lookup import exact_cosine, unit_vector
from latentlog.evidence.measure import (
    PLAN,
    Images,
    Inverted,
    Model,
    invert_all,
    latents_for,
    read_medium,
    replay_scores,
)
from latentlog.evidence.measurements import Condition, LiveControls, ReplayScore
from latentlog.evidence.profiles import Point, Profile
from latentlog.evidence.reach import composite
from latentlog.evidence.record import ModelView
from latentlog.evidence.trials import Series, Trial, TrialFile, TrialKey, TrialsHeader
from latentlog.inversion.distort import distort
from latentlog.inversion.picture import to_8bit
from latentlog.inversion.result import InversionPlan
from latentlog.ledger.digest import Digest, lp
from latentlog.ledger.keystream import Integers, Schedule

Start = Callable[[], AbstractContextManager[Model]]
"""Starts one model process; called once per job."""
Progress = Callable[[str, int, int], None]
Pixels = npt.NDArray[np.uint8]

CONTROL_KEY: Final = b"latentlog/control-key/v0\0"

# Controls inverted together. Fixed and always full, because a batch's composition may change the
# last bits of its results: the same trial always travels in the same batch, whatever the profile.
BATCH: Final = 8

# Foreign pictures come from counters that no control uses.
_FOREIGN_FROM: Final = 1 << 32

# The examiner's repeat, unless told otherwise.
LIVE_TRIALS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Trials of one point that are run together."""

    point: Point
    series: Series
    trials: tuple[int, ...]

    def keys(self) -> list[TrialKey]:
        return [
            TrialKey(
                distortion=self.point.distortion,
                strength=self.point.strength,
                series=self.series,
                trial=t,
            )
            for t in self.trials
        ]


def control_schedule(root: Digest, model: ModelView, seed: bytes = b"") -> Schedule:
    """Return the control latents that a checkpoint, and the examiner's seed if any, fix."""
    digest = Digest.fromhex(model.digest)
    return Schedule(Digest.of(CONTROL_KEY + lp(digest) + lp(root) + lp(seed)), model.dim)


def calibrate(
    start: Start,
    model: ModelView,
    root: Digest,
    profile: Profile,
    *,
    plan: InversionPlan | None = None,
    trials: Path | None = None,
    device: str = "cpu",
    versions: Sequence[Setting] = (),
    jobs: int = 2,
    on_step: Progress | None = None,
) -> Calibration:
    """Run every trial that `trials` does not hold yet and return the calibration.

    Deterministic for one device and pipeline, whatever `jobs`. Raises `CalibrationMismatch` if
    `trials` belongs to another run or the model process holds another model.
    """
    plan = plan or PLAN
    file = TrialFile(_header(model, root, plan, device), trials)
    groups = [g for g in _groups(profile) if any(k not in file for k in g.keys())]
    schedule = control_schedule(root, model)
    waiting: SimpleQueue[_Group] = SimpleQueue()
    for group in groups:
        waiting.put(group)
    done = _Counter(profile, groups, on_step)

    def work() -> None:
        with start() as process:
            require_model(process, model)
            while (group := _next(waiting)) is not None:
                file.add(_run(process, schedule, group, plan))
                done.add(group)

    _in_parallel(work, min(jobs, len(groups)))
    return _document(model, root, profile, file, plan, device, versions)


def live_controls(
    process: Model,
    model: ModelView,
    root: Digest,
    point: Point,
    *,
    seed: bytes,
    n: int = LIVE_TRIALS,
    plan: InversionPlan | None = None,
) -> LiveControls:
    """Repeat the calibration at one point with the examiner's own controls."""
    schedule = control_schedule(root, model, seed)
    group = _Group(point=point, series="control", trials=tuple(range(n)))
    found = _controls(process, schedule, group, plan or PLAN)
    return LiveControls(
        distortion=point.distortion,
        strength=point.strength,
        seed=seed.hex(),
        trials=n,
        cosines=tuple(t.cosine for t in found if t.cosine is not None),
        replays=tuple(t.replay for t in found if t.replay is not None),
        residuals=tuple(t.residual for t in found),
    )


def require_model(process: Model, model: ModelView) -> None:
    """Return only if the process holds the registered model; raises `CalibrationMismatch`."""
    if process.description.digest != model.digest:
        raise CalibrationMismatch(
            f"the file is not the registered model {model.name}",
            expected=model.digest,
            got=process.description.digest,
        )


def nearest_point(condition: Condition | None, points: Sequence[Point]) -> Point | None:
    """Return the declared point that a medium's condition is repeated at."""
    same = [p for p in points if condition and p.distortion == condition.distortion]
    if condition is None or not same:
        return None
    strength = condition.strength
    return min(same, key=lambda p: (abs(p.strength - strength), -p.strength))


def _run(process: Model, schedule: Schedule, group: _Group, plan: InversionPlan) -> list[Trial]:
    if group.series == "foreign":
        return _foreign(process, schedule, group, plan)
    return _controls(process, schedule, group, plan)


def _controls(
    process: Model, schedule: Schedule, group: _Group, plan: InversionPlan
) -> list[Trial]:
    """Run planted positives; the batch's next control plays the wrong output."""
    first, count = group.trials[0], len(group.trials)
    # One more than is inverted, so that the last control has a next one too.
    latents = schedule.latents(first, count + 1)
    images = process.generate(latents_for(process, latents))
    inverted = _through(process, _pixels(process, images[:count]), group.point, plan)
    return [
        _control(process, key, images[i : i + 2], latents[i], inverted[i])
        for i, key in enumerate(group.keys())
    ]


def _control(
    process: Model, key: TrialKey, images: Images, latent: Integers, inverted: Inverted
) -> Trial:
    own, other = replay_scores(process, images, inverted.observation)
    return Trial(
        key=key,
        residual=rounded(inverted.inversion.residual),
        cosine=recovered_cosine(inverted, latent),
        replay=own,
        other=other,
    )


def _foreign(process: Model, schedule: Schedule, group: _Group, plan: InversionPlan) -> list[Trial]:
    """Run composites of two outputs each: pictures that no latent gives."""
    first, count = _FOREIGN_FROM + 2 * group.trials[0], len(group.trials)
    images = process.generate(latents_for(process, schedule.latents(first, 2 * count)))
    pixels = _pixels(process, images)
    joined = [composite(pixels[2 * i], pixels[2 * i + 1]) for i in range(count)]
    inverted = _through(process, joined, group.point, plan)
    return [
        Trial(key=k, residual=rounded(x.inversion.residual), cosine=None, replay=None, other=None)
        for k, x in zip(group.keys(), inverted, strict=True)
    ]


def _through(
    process: Model, pixels: Sequence[Pixels], point: Point, plan: InversionPlan
) -> list[Inverted]:
    """Distort, write, read back and invert pictures, as an examination would meet them."""
    strength = int(point.strength) if point.strength.is_integer() else point.strength
    wanted = {"distortion": point.distortion, "strength": strength}
    files = [distort(p, wanted) for p in pixels]
    shape = process.description.output_shape
    return invert_all(process, [read_medium(f, shape) for f in files], plan)


def recovered_cosine(inverted: Inverted, latent: Integers) -> float:
    """Return the cosine of a recovered vector with a latent, rounded down to nine digits."""
    unit = unit_vector(inverted.inversion.gaussian)
    if unit is None:
        return 0.0
    return float(np.floor(exact_cosine(unit, latent) * 1e9) / 1e9)


def _pixels(process: Model, images: Images) -> Sequence[Pixels]:
    spec = process.description.spec
    return list(to_8bit(images, spec.lo, spec.hi).transpose(0, 2, 3, 1))


def _groups(profile: Profile) -> list[_Group]:
    """Return all trials in batches, mildest points first."""
    sizes: tuple[tuple[Series, int], ...] = (
        ("control", profile.controls),
        ("foreign", profile.foreign),
    )
    return [
        _Group(point=point, series=series, trials=tuple(range(at, at + BATCH)))
        for point, (series, size) in product(profile.points, sizes)
        for at in range(0, size, BATCH)
    ]


def _header(model: ModelView, root: Digest, plan: InversionPlan, device: str) -> TrialsHeader:
    return TrialsHeader(
        kind="trials",
        model=model.digest,
        pipeline=PIPELINE,
        root=root.hex(),
        plan=" ".join(f"{s.name}={s.value}" for s in plan_settings(plan)),
        device=device,
    )


def plan_settings(plan: InversionPlan) -> list[Setting]:
    return [Setting(name=name, value=str(value)) for name, value in asdict(plan).items()]


class _Counter:
    """Reports progress: how many trials of all are there."""

    def __init__(self, profile: Profile, groups: list[_Group], on_step: Progress | None) -> None:
        self._total = sum(len(g.trials) for g in _groups(profile))
        self._done = self._total - sum(len(g.trials) for g in groups)
        self._on_step = on_step

    def add(self, group: _Group) -> None:
        self._done += len(group.trials)
        if self._on_step is not None:
            name = f"{group.point.distortion} {group.point.strength:g}"
            self._on_step(name, self._done, self._total)


def _next(waiting: SimpleQueue[_Group]) -> _Group | None:
    try:
        return waiting.get_nowait()
    except Empty:
        return None


def _in_parallel(work: Callable[[], None], jobs: int) -> None:
    # Threads only wait for their model process; the processes do the work.
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        for future in [pool.submit(work) for _ in range(jobs)]:
            future.result()


def _document(
    model: ModelView,
    root: Digest,
    profile: Profile,
    file: TrialFile,
    plan: InversionPlan,
    device: str,
    versions: Sequence[Setting],
) -> Calibration:
    trials = {t.key: t for t in file}
    return Calibration(
        schema=SCHEMA,
        model=model.name,
        model_digest=model.digest,
        kind=model.kind,
        dim=model.dim,
        pipeline=PIPELINE,
        profile=profile.name,
        beta=profile.beta,
        made="here",
        control_root=root.hex(),
        device=device,
        settings=(*plan_settings(plan), *versions),
        points=tuple(_point_scores(p, profile, trials) for p in profile.points),
    )


def _point_scores(point: Point, profile: Profile, trials: dict[TrialKey, Trial]) -> PointScores:
    def first(series: Series, count: int) -> list[Trial]:
        group = _Group(point=point, series=series, trials=tuple(range(count)))
        return [trials[key] for key in group.keys()]

    controls = first("control", profile.controls)
    return PointScores(
        distortion=point.distortion,
        strength=point.strength,
        cosines=tuple(t.cosine for t in controls if t.cosine is not None),
        residuals=tuple(t.residual for t in controls),
        replays=_scores(t.replay for t in controls),
        others=_scores(t.other for t in controls),
        foreign=tuple(t.residual for t in first("foreign", profile.foreign)),
    )


def _scores(scores: Iterable[ReplayScore | None]) -> tuple[ReplayScore, ...]:
    return tuple(s for s in scores if s is not None)
