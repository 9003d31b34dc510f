"""Calibration: planted positives through the whole pipeline, resumed, split and merged."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentlog.evidence import lookup
from latentlog.evidence.calibrate import (
    BATCH,
    calibrate,
    control_schedule,
    live_controls,
    nearest_point,
)
from latentlog.evidence.calibration import (
    Calibration,
    Setting,
    decode_calibration,
    rules_at,
    take_over,
)
from latentlog.evidence.errors import CalibrationMismatch, MalformedCalibration
from latentlog.evidence.measurements import Condition, Rules
from latentlog.evidence.profiles import PROFILES, Point, Profile
from latentlog.evidence.rule import envelope
from latentlog.evidence.trials import merge_trials
from latentlog.inversion.result import InversionPlan
from latentlog.ledger.digest import Digest
from tests.evidence.linear import DIGEST, LinearGenerator, view

ROOT = Digest.of(b"root")
SMALL = Profile(
    name="small",
    trials=10,
    beta=0.5,
    foreign=10,
    points=(
        Point(distortion="png", strength=0.0),
        Point(distortion="jpeg", strength=90.0),
        Point(distortion="resize", strength=0.75),
    ),
)


def run(**changes: Any) -> Calibration:
    settings = {"jobs": 1, **changes}
    return calibrate(LinearGenerator, view(), ROOT, SMALL, **settings)


@pytest.fixture(scope="module")
def made() -> Calibration:
    return run()


def test_every_control_of_every_point_is_kept(made: Calibration) -> None:
    assert [(p.distortion, p.strength) for p in made.points] == [
        ("png", 0.0), ("jpeg", 90.0), ("resize", 0.75)
    ]  # fmt: skip
    for p in made.points:
        assert {len(p.cosines), len(p.residuals), len(p.replays), len(p.others)} == {10}
        assert len(p.foreign) == 10
        assert min(p.cosines) > 0.9


def test_the_document_survives_encoding(made: Calibration) -> None:
    document = made.encode()
    assert decode_calibration(document) == made
    assert decode_calibration(document, model_digest=DIGEST.hex()) == made
    assert b"." in document
    json.loads(document, parse_float=lambda s: pytest.fail(f"a float: {s}"))


def test_jobs_do_not_change_the_result(made: Calibration) -> None:
    assert run(jobs=3) == made


def test_controls_are_consecutive_latents_of_a_key_fixed_by_the_checkpoint() -> None:
    key = control_schedule(ROOT, view())
    again = control_schedule(ROOT, view())
    assert np.array_equal(key.latents(0, 3), again.latents(0, 3))
    others = [
        control_schedule(Digest.of(b"another root"), view()),
        control_schedule(ROOT, view(digest="11" * 32)),
        control_schedule(ROOT, view(), b"seed"),
    ]
    for other in others:
        assert not np.array_equal(key.latents(0, 1), other.latents(0, 1))


def test_an_interrupted_run_resumes_without_repeating(tmp_path: Path, made: Calibration) -> None:
    path = tmp_path / "trials.jsonl"
    steps = 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trials=path, on_step=stop)
    with path.open("a") as file:
        file.write('{"key":{"distortion":"pn')
    kept = len(path.read_text().splitlines()) - 2
    models: list[LinearGenerator] = []

    def start() -> LinearGenerator:
        models.append(LinearGenerator())
        return models[-1]

    assert calibrate(start, view(), ROOT, SMALL, trials=path, jobs=1) == made
    # Per resize control one more inversion, where another kernel fitted better.
    assert sum(m.inverted for m in models) <= 96 - kept + 32
    assert len(path.read_text().splitlines()) == 97
    finished: list[LinearGenerator] = []
    assert run(trials=path) == made
    assert not finished


def test_split_runs_merge(tmp_path: Path, made: Calibration) -> None:
    halves = []
    for i, points in enumerate((SMALL.points[:2], SMALL.points[2:])):
        halves.append(tmp_path / f"{i}.jsonl")
        part = replace(SMALL, points=points, trials=10)
        calibrate(LinearGenerator, view(), ROOT, part, trials=halves[-1], jobs=1)
    merged = tmp_path / "all.jsonl"
    assert merge_trials(halves, merged) == 96
    assert run(trials=merged) == made


def test_trials_of_another_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    run(trials=path)
    with pytest.raises(CalibrationMismatch):
        calibrate(LinearGenerator, view(), Digest.of(b"other"), SMALL, trials=path)
    with pytest.raises(CalibrationMismatch):
        run(trials=path, plan=InversionPlan(starts=9))
    path.write_text("nonsense\n")
    with pytest.raises(MalformedCalibration):
        run(trials=path)


def test_trials_that_disagree_do_not_merge(tmp_path: Path) -> None:
    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(trials=path)
    lines = path.read_text().splitlines()
    changed = json.loads(lines[1])
    changed["residual"] = "7"
    other.write_text("\n".join([lines[0], json.dumps(changed)]) + "\n")
    with pytest.raises(CalibrationMismatch):
        merge_trials([path, other], tmp_path / "c.jsonl")


def test_another_model_in_the_process_is_refused() -> None:
    with pytest.raises(CalibrationMismatch):
        calibrate(lambda: LinearGenerator(digest="22" * 32), view(), ROOT, SMALL, jobs=1)


def test_more_latents_mean_more_misses(made: Calibration) -> None:
    weak = replace(made, points=(replace(made.points[0], cosines=(0.72,) * 10),))
    few = rules_at(weak.encode(), 1, entry=None, rules=Rules()).points[0]
    many = rules_at(weak.encode(), 10**9, entry=None, rules=Rules()).points[0]
    assert (few.misses, many.misses) == (0, 10)
    assert few.produced == 10
    assert many.produced == 0


def test_wrong_outputs_do_not_pass_the_replay(made: Calibration) -> None:
    for p in rules_at(made.encode(), 10**6, entry=3, rules=Rules()).points:
        assert p.false_replays == 0
        assert p.foreign_reached <= 5
        assert p.misses == 0


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_covers_its_points_when_nothing_is_missed(
    name: str, made: Calibration
) -> None:
    profile = PROFILES[name]
    n = profile.controls
    png = made.points[0]
    filled = tuple(
        replace(
            png,
            distortion=p.distortion,
            strength=p.strength,
            cosines=png.cosines[:1] * n,
            residuals=png.residuals[:1] * n,
            replays=png.replays[:1] * n,
            others=png.others[:1] * n,
        )
        for p in profile.points
    )
    document = replace(made, points=filled, beta=profile.beta).encode()
    rules = rules_at(document, 10**6, entry=1, rules=Rules())
    assert all(p.covered for p in envelope(rules))
    assert n >= profile.trials


def test_the_profiles_are_those_of_the_protocol() -> None:
    assert {p.name: (p.trials, p.beta) for p in PROFILES.values()} == {
        "demo": (59, 0.05), "quick": (150, 0.05), "standard": (1000, 0.01), "court": (3000, 0.01)
    }  # fmt: skip
    for profile in PROFILES.values():
        names = {(p.distortion, p.strength) for p in profile.points}
        assert {("png", 0.0), ("jpeg", 90.0)} <= names


def test_live_controls_follow_the_examiners_seed() -> None:
    point = SMALL.points[1]
    one = live_controls(LinearGenerator(), view(), ROOT, point, seed=b"a")
    assert one == live_controls(LinearGenerator(), view(), ROOT, point, seed=b"a")
    assert one != live_controls(LinearGenerator(), view(), ROOT, point, seed=b"b")
    assert one.trials == len(one.cosines) == len(one.replays) == 10
    assert min(one.cosines) > 0.9


@pytest.mark.parametrize(
    ("distortion", "strength", "nearest"),
    [("jpeg", 93.0, 90.0), ("jpeg", 85.0, 90.0), ("jpeg", 40.0, 80.0), ("blur", 1.0, None)],
)
def test_the_repeat_is_made_at_the_nearest_point(
    distortion: str, strength: float, nearest: float | None
) -> None:
    points = [Point(distortion="jpeg", strength=q) for q in (80.0, 90.0)]
    condition = Condition(distortion=distortion, strength=strength, words="")
    found = nearest_point(condition, points)
    assert (found.strength if found else None) == nearest
    assert nearest_point(None, points) is None


def broken(made: Calibration, **changes: Any) -> bytes:
    return replace(made, **changes).encode()


def test_documents_that_leave_scores_out_are_refused(made: Calibration) -> None:
    p = made.points[0]
    for points in (
        (),
        (p, p),
        (replace(p, cosines=p.cosines[1:]),),
        (replace(p, cosines=(1.5, *p.cosines[1:])),),
        (replace(p, residuals=(-1.0, *p.residuals[1:])),),
    ):
        with pytest.raises(MalformedCalibration):
            decode_calibration(broken(made, points=points))
    for junk in (b"", b"{}", b"[1]", made.encode()[:-1], b" " + made.encode()):
        with pytest.raises(MalformedCalibration):
            decode_calibration(junk)


def test_documents_of_another_pipeline_or_model_are_refused(made: Calibration) -> None:
    with pytest.raises(CalibrationMismatch):
        decode_calibration(broken(made, pipeline="9"))
    with pytest.raises(CalibrationMismatch):
        decode_calibration(made.encode(), model_digest="33" * 32)


def test_a_calibration_taken_over_says_so(made: Calibration) -> None:
    taken = take_over(made.encode(), DIGEST.hex())
    assert taken.made == "elsewhere"
    assert replace(taken, made="here") == made
    with pytest.raises(CalibrationMismatch):
        take_over(made.encode(), "33" * 32)


def test_settings_and_versions_are_in_the_document() -> None:
    made = run(versions=[Setting(name="torch", value="2.11")])
    names = {s.name: s.value for s in made.settings}
    assert names["torch"] == "2.11"
    assert "starts" in names


def test_batches_do_not_outgrow_the_overrun_of_control_counters() -> None:
    assert BATCH < lookup.OVERRUN
