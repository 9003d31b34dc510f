"""From a picture to a verified bundle, over a real log in a real home; only the model is small."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from latentlog.evidence.assemble import Signature, make_bundle
from latentlog.evidence.bundle import write_bundle
from latentlog.evidence.calibrate import calibrate
from latentlog.evidence.examine import ExaminedModel, Request, examine
from latentlog.evidence.local_record import LocalRecord, log_calibration
from latentlog.evidence.profiles import PROFILES
from latentlog.evidence.trust import Trust, parse_trust
from latentlog.evidence.verify import Verification, verify
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import ModelEntry
from latentlog.ledger.epochs import open_epoch
from latentlog.ledger.home import Home, open_log
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.keystream import TABLE_DIGEST
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.registry import add_model
from tests.evidence.linear import (
    DIGEST,
    DIM,
    ORIGIN,
    SHAPE,
    LinearGenerator,
    jpeg,
    medium,
    png,
    view,
)

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
EXAMINER = SigningKey(b"the examiner of the whole case!!")


@dataclass
class Court:
    """A log with eight sealed pictures and a calibration, and what a case about it needs."""

    record: LocalRecord
    pictures: npt.NDArray[np.uint8]

    def examined(self, content: bytes) -> dict[str, bytes]:
        [model] = self.record.models()
        found = examine(
            medium(content, "disputed.png"),
            [ExaminedModel(view=model, process=LinearGenerator())],
            self.record,
            Request(seed=b"the examiner's seed"),
            clock=lambda: NOW,
        )
        signature = Signature(
            name="A. Examiner",
            role="accused_party",
            key=EXAMINER,
            created=NOW,
            versions={"latentlog": "0"},
        )
        return make_bundle(found, self.record, signature, with_report=False)

    @property
    def trust(self) -> Trust:
        vkey, key = self.record.vkey, EXAMINER.public.hex()
        return parse_trust(
            f'[logs]\n"{ORIGIN}" = "{vkey}"\n[examiners]\n"A. Examiner" = "{key}"\n'.encode()
        )


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    path: Path = tmp_path_factory.mktemp("court") / "home"
    home = Home.create(path, origin=ORIGIN, clock=lambda: NOW)
    log = open_log(home, clock=lambda: NOW)
    add_model(
        log,
        ModelEntry(
            name="faces",
            digest=DIGEST,
            file_sha256=Digest(bytes(32)),
            format="pt2",
            generator_kind="decoder",
            steps=0,
            prior="normal",
            latent_shape=(DIM,),
            output_shape=SHAPE,
            range=(0.0, 1.0),
            table=TABLE_DIGEST,
        ),
    )
    log.publish()
    open_epoch(log, home.master_key(), "faces", lambda n: b"\7" * n, keep=home.keep_recorder_keys)
    with LocalRecord(log) as record:
        root = record.control_root(DIGEST.hex())
    log = open_log(home, clock=lambda: NOW)
    log_calibration(log, calibrate(LinearGenerator, view(), root, PROFILES["quick"], jobs=1))
    with Recorder.open("faces", home=home, block=16, clock=lambda: NOW) as recorder:
        draw = recorder.draw(8)
        images = LinearGenerator().generate(draw.latents)
        recorder.seal(draw, outputs=images, conditioning={"prompt": "a face"})
    log.publish()
    log.store.close()
    pictures = np.rint(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    with LocalRecord.open(home, clock=lambda: NOW) as record:
        yield Court(record, pictures)


def checked(court: Court, content: bytes, path: Path) -> Verification:
    write_bundle(path / "case.zip", court.examined(content))
    result = verify(path / "case.zip", court.trust)
    assert result.failure is None, result.failure
    assert result.status == "verified"
    return result


def test_an_output_is_produced_and_its_bundle_verifies(court: Court, tmp_path: Path) -> None:
    result = checked(court, png(court.pictures[3]), tmp_path)
    assert result.finding is not None
    assert (result.finding.outcome, result.finding.reason) == ("produced", "digest_and_replay")
    assert result.finding.entry is not None
    assert result.finding.entry.counter == 3
    assert "fields opened" in result.steps[7].detail


def test_a_recompressed_copy_is_produced_and_its_bundle_verifies(
    court: Court, tmp_path: Path
) -> None:
    result = checked(court, jpeg(court.pictures[5], 90), tmp_path)
    assert result.finding is not None
    assert (result.finding.outcome, result.finding.reason) == ("produced", "latent_and_replay")


def test_another_picture_is_not_produced_and_its_bundle_verifies(
    court: Court, tmp_path: Path
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    result = checked(court, png(noise), tmp_path)
    assert result.finding is not None
    assert result.finding.outcome == "not_produced"
    assert result.finding.exclusion


def test_an_altered_copy_is_inconclusive_and_its_bundle_verifies(
    court: Court, tmp_path: Path
) -> None:
    altered = court.pictures[3].copy()
    altered[4:8, 5:9] = 255 - altered[4:8, 5:9]
    result = checked(court, png(altered), tmp_path)
    assert result.finding is not None
    assert (result.finding.outcome, result.finding.reason) == ("inconclusive", "altered_region")
    assert "figures/map.png" in court.examined(png(altered))


def test_an_unreadable_file_is_a_finding_and_its_bundle_verifies(
    court: Court, tmp_path: Path
) -> None:
    result = checked(court, b"not a picture", tmp_path)
    assert result.finding is not None
    assert result.finding.reason == "wrong_format"
