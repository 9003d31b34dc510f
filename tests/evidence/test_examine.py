"""Whole examinations of a linear model's pictures, and of others, over a record in memory."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from latentlog.evidence import lookup
from latentlog.evidence.calibrate import calibrate
from latentlog.evidence.errors import CalibrationMismatch, NothingToExamine
from latentlog.evidence.examine import STEPS, Examination, ExaminedModel, Request, examine
from latentlog.evidence.finding import Measurements, Rules, decide
from latentlog.evidence.measurements import LogCheck, Time
from latentlog.evidence.profiles import Point, Profile
from latentlog.evidence.record import LoggedCalibration
from latentlog.ledger.keystream import EpochKey
from tests.evidence.linear import LinearGenerator, MemoryRecord, clock, jpeg, medium, png, view

Pixels = npt.NDArray[np.uint8]
OVERRUN = 3000
SHORT = Profile(
    name="short",
    trials=59,
    beta=0.05,
    foreign=12,
    points=(
        Point(distortion="png", strength=0.0),
        Point(distortion="jpeg", strength=90.0),
        Point(distortion="jpeg", strength=75.0),
        Point(distortion="resize", strength=0.75),
    ),
)


@pytest.fixture(autouse=True, scope="module")
def small_overrun() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(lookup, "OVERRUN", OVERRUN)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def document() -> bytes:
    root = MemoryRecord().control_root("")
    return calibrate(LinearGenerator, view(), root, SHORT, jobs=1).encode()


@pytest.fixture
def record(document: bytes) -> MemoryRecord:
    return MemoryRecord(calibrated=LoggedCalibration(index=5, document=document))


def run(content: bytes, record: MemoryRecord, **changes: Any) -> Examination:
    request = Request(**{"seed": b"examiner's seed", **changes})
    models = [ExaminedModel(view=view(), process=LinearGenerator())]
    return examine(medium(content), models, record, request, clock=clock)


def noise(side: int = 16, seed: int = 1) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def resized(pixels: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def verdict(found: Examination) -> tuple[str, str]:
    return found.finding.outcome, found.finding.reason


def test_an_untouched_output_is_produced(record: MemoryRecord) -> None:
    found = run(png(record.pictures[3]), record)
    assert verdict(found) == ("produced", "digest_and_replay")
    entry = found.finding.entry
    assert entry is not None
    assert (entry.index, entry.epoch, entry.counter) == (13, 0, 3)
    assert found.finding.p_family == "2.9e-39"
    assert set(found.pictures) == {"medium", "replayed", "map"}
    assert {1, 2, 5, 13} <= set(found.cited)


@pytest.mark.parametrize("quality", [90, 82, 75])
def test_a_recompressed_copy_is_produced(record: MemoryRecord, quality: int) -> None:
    found = run(jpeg(record.pictures[5], quality), record)
    assert verdict(found) == ("produced", "latent_and_replay")
    assert found.finding.channels is not None
    assert found.finding.channels.replay.distortion == "jpeg"


def test_a_resized_copy_is_produced(record: MemoryRecord) -> None:
    found = run(png(resized(record.pictures[2], 12)), record)
    assert verdict(found) == ("produced", "latent_and_replay")
    assert found.pictures["replayed"].shape == (12, 12, 3)


def test_a_photograph_is_never_produced(record: MemoryRecord) -> None:
    rng = np.random.default_rng(4)
    for i in range(6):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = noise(seed=i) if i % 2 else resized(coarse, 16)
        for content in (png(picture), jpeg(picture, 90)):
            found = run(content, record)
            assert verdict(found) == ("not_produced", "nothing_within_envelope")
            assert "reconstruction" in found.pictures


def test_an_altered_copy_is_named_as_such(record: MemoryRecord) -> None:
    altered = record.pictures[3].copy()
    altered[4:8, 5:9] = 255 - altered[4:8, 5:9]
    found = run(png(altered), record)
    assert verdict(found) == ("inconclusive", "altered_region")
    assert found.finding.entry is not None
    assert found.finding.entry.counter == 3
    field = found.pictures["map"][:, :, 0]
    assert field[4:8, 5:9].mean() > 4 * np.delete(field, np.s_[4:8], axis=0).mean()


def test_a_picture_derived_from_an_output_depends_on_its_entry(record: MemoryRecord) -> None:
    dimmed = (record.pictures[3] * 0.8).astype(np.uint8)
    found = run(png(dimmed), record)
    assert verdict(found) == ("inconclusive", "depends_on_entry")


def test_an_abandoned_or_never_issued_counter_is_produced_with_the_check_shown(
    record: MemoryRecord,
) -> None:
    for counter in (12, 15, 16, 16 + OVERRUN - 1):
        [picture] = record.generated(counter, 1)
        found = run(png(picture), record)
        assert found.finding.outcome == "produced"
        checks = {c.name: c.ok for c in found.finding.log_checks}
        assert checks["counter_recorded"] is False


def test_a_latent_of_nobody_s_record_is_reachable(record: MemoryRecord) -> None:
    [picture] = record.generated(16 + OVERRUN + 5, 1)
    found = run(png(picture), record)
    assert verdict(found) == ("inconclusive", "reachable_unregistered")


@pytest.mark.parametrize("content", [b"not a picture", png(noise())[:60], b"\x89PNG\r\n"])
def test_an_unreadable_medium_is_a_finding(record: MemoryRecord, content: bytes) -> None:
    found = run(content, record)
    assert verdict(found) == ("inconclusive", "wrong_format")
    assert found.measurements.models == ()


def test_a_medium_of_another_shape_is_a_finding(record: MemoryRecord) -> None:
    found = run(png(record.pictures[3][:, :10].copy()), record)
    assert verdict(found) == ("inconclusive", "wrong_format")


def test_without_calibration_nothing_is_decided(record: MemoryRecord) -> None:
    record.calibrated = None
    assert run(png(record.pictures[3]), record).finding.reason == "not_calibrated"
    assert run(png(noise()), record).finding.reason == "not_calibrated"


def test_a_failed_audit_withholds_the_verdict(record: MemoryRecord) -> None:
    record.checks = (LogCheck(name="audit", ok=False, detail="entry 9 is not sealed"),)
    for content in (png(record.pictures[3]), png(noise())):
        assert run(content, record).finding.reason == "log_check_failed"


def test_undisclosed_epochs_leave_silence_without_meaning(record: MemoryRecord) -> None:
    record.disclosed = False
    found = run(png(noise()), record)
    assert found.finding.outcome == "inconclusive"
    assert "power_too_low" in (found.finding.reason, *found.finding.also)


def test_a_key_that_was_not_committed_to_is_a_failed_check(record: MemoryRecord) -> None:
    record.key = EpochKey(bytes(32))
    found = run(png(noise()), record)
    assert found.finding.reason == "log_check_failed"
    checks = {c.name: c.ok for c in found.finding.log_checks}
    assert checks["epoch_keys"] is False


def test_an_entry_that_commits_to_another_latent_is_a_failed_check(record: MemoryRecord) -> None:
    record.entries[13], record.entries[14] = record.entries[14], record.entries[13]
    checks = {c.name: c.ok for c in run(png(record.pictures[3]), record).finding.log_checks}
    assert checks["latent_commitments"] is False


def test_a_calibration_under_a_chosen_control_key_is_a_failed_check(document: bytes) -> None:
    chosen = document.replace(MemoryRecord().control_root("").hex().encode(), b"ab" * 32)
    assert chosen != document
    record = MemoryRecord(calibrated=LoggedCalibration(index=5, document=chosen))
    assert run(png(noise()), record).finding.reason == "log_check_failed"


def test_n_counts_every_latent_the_overrun_and_earlier_runs(record: MemoryRecord) -> None:
    found = run(png(noise()), record, compared_before=1000)
    assert found.finding.multiplicity == 1000 + 16 + OVERRUN
    assert found.measurements.models[0].lookups[0].compared == 16 + OVERRUN


def test_the_same_seed_gives_the_same_examination(record: MemoryRecord) -> None:
    content = jpeg(record.pictures[1], 90)
    one, two = run(content, record), run(content, record)
    assert one.measurements == two.measurements
    assert one.finding == two.finding
    assert one.custody == two.custody
    other = run(content, record, seed=b"another")
    assert other.measurements.models[0].live != one.measurements.models[0].live
    assert other.finding.outcome == one.finding.outcome


def test_a_verifier_draws_the_same_finding_from_json(record: MemoryRecord) -> None:
    for content in (png(record.pictures[3]), png(noise()), b"junk"):
        found = run(content, record)
        measurements = Measurements.from_json(found.measurements.to_json())
        rules = Rules.from_json(found.rules.to_json())
        assert decide(measurements, rules).to_json() == found.finding.to_json()


def test_channels_that_were_not_asked_for_are_assumptions(record: MemoryRecord) -> None:
    only = frozenset({"latent", "replay", "range"})
    found = run(png(noise()), record, channels=only)
    assert verdict(found) == ("inconclusive", "power_too_low")
    assert sum("not asked for" in a for a in found.finding.assumptions) == 2
    blind = run(png(noise()), record, channels=frozenset({"digest", "sketch"}))
    assert blind.finding.reason == "power_too_low"


def test_the_sketch_names_an_entry_that_the_latent_cannot(record: MemoryRecord) -> None:
    channels = frozenset({"sketch", "replay", "range"})
    found = run(png(record.pictures[6]), record, channels=channels)
    assert verdict(found) == ("inconclusive", "replay_only")


def test_a_constant_picture_s_digest_names_nobody(record: MemoryRecord) -> None:
    grey = np.full((16, 16, 3), 90, np.uint8)
    opening = record.opened[2]
    from latentlog.ledger.commitment import OpenedField
    from latentlog.ledger.digest import pixel_digest

    fields = {**opening.fields, "output_pixels": OpenedField(bytes(32), pixel_digest(grey).hex())}
    record.opened[2] = replace(opening, fields=fields)
    found = run(png(grey), record)
    assert verdict(found) == ("inconclusive", "digest_without_replay")
    [row] = [c for c in found.measurements.models[0].counters if c.digests]
    assert row.digest_excluded == "constant"


def test_a_digest_sealed_twice_names_nobody(record: MemoryRecord) -> None:
    record.opened[2] = replace(record.opened[2], fields=record.opened[3].fields)
    found = run(png(record.pictures[3]), record)
    assert verdict(found) == ("produced", "latent_and_replay")
    rows = [c for c in found.measurements.models[0].counters if c.digests]
    assert {c.digest_excluded for c in rows} == {"several_counters"}


def test_seen_at_orders_entry_and_medium(record: MemoryRecord) -> None:
    seen = Time(at="2025-01-01T00:00:00Z", source="rfc3161")
    found = run(png(record.pictures[3]), record, seen_at=seen)
    assert found.finding.order_of_time == "not_shown"


def test_the_custody_list_has_every_step_in_order_with_its_time(record: MemoryRecord) -> None:
    seen: list[str] = []
    models = [ExaminedModel(view=view(), process=LinearGenerator())]
    found = examine(
        medium(png(noise())),
        models,
        record,
        Request(seed=b"s"),
        clock=clock,
        on_step=lambda name, done, total: seen.append(name),
    )
    assert list(dict.fromkeys(seen)) == list(STEPS)
    assert [a.step for a in found.custody] == sorted(a.step for a in found.custody)
    assert {a.step for a in found.custody} == set(range(1, len(STEPS) + 1))
    assert {a.at for a in found.custody} == {"2026-05-01T09:30:00Z"}


def test_two_models_are_examined_together(record: MemoryRecord, document: bytes) -> None:
    sibling = view(name="sibling", digest="44" * 32, index=1)
    other = LinearGenerator(seed=9, digest="44" * 32)
    models = [
        ExaminedModel(view=sibling, process=other),
        ExaminedModel(view=view(), process=LinearGenerator()),
    ]
    request = Request(seed=b"s")
    found = examine(medium(png(record.pictures[3])), models, record, request, clock=clock)
    assert (found.finding.outcome, found.finding.model) == ("produced", "faces")
    record.calibrated = None
    request = Request(
        seed=b"s",
        calibrations={view().digest: LoggedCalibration(index=None, document=document)},
    )
    found = examine(medium(png(noise())), models, record, request, clock=clock)
    assert verdict(found) == ("inconclusive", "not_calibrated")


def test_the_wrong_model_file_is_refused(record: MemoryRecord) -> None:
    wrong = ExaminedModel(view=view(), process=LinearGenerator(digest="55" * 32))
    with pytest.raises(CalibrationMismatch):
        examine(medium(png(noise())), [wrong], record, Request(seed=b"s"))
    with pytest.raises(NothingToExamine):
        examine(medium(png(noise())), [], record, Request(seed=b"s"))


def test_no_note_of_the_custody_list_names_the_product(record: MemoryRecord) -> None:
    notes = " ".join(a.what for a in run(png(noise()), record).custody)
    assert not re.search("latentlog", notes, re.I)
