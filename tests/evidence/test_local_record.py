"""The record over a real log in a real home: what an examination sees of it."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from latentlog.evidence.calibration import PIPELINE, SCHEMA, Calibration
from latentlog.evidence.compare import ModelUnderTest, Wanted, scan_openings, seed_check
from latentlog.evidence.errors import CalibrationMissing, NothingToExamine
from latentlog.evidence.local_record import LocalRecord, log_calibration
from latentlog.evidence.measurements import LogCheck
from latentlog.evidence.record import citations
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    CalibrationEntry,
    DisclosureEntry,
    Generation,
    ModelEntry,
    Seal,
    decode_entry,
)
from latentlog.ledger.epochs import close_epoch, open_epoch
from latentlog.ledger.erasure import erase
from latentlog.ledger.home import Home, open_log, open_vault
from latentlog.ledger.issue import Seed
from latentlog.ledger.keystream import TABLE_DIGEST, latent_digest
from latentlog.ledger.merkle import leaf_hash, verify_inclusion
from latentlog.ledger.outputs import Output
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.registry import add_model
from tests.evidence.linear import LinearGenerator

MODEL = Digest.of(b"a model")
NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)


def entry() -> ModelEntry:
    return ModelEntry(
        name="faces",
        digest=MODEL,
        file_sha256=Digest.of(b"its file"),
        format="pt2",
        generator_kind="decoder",
        steps=0,
        prior="normal",
        latent_shape=(32,),
        output_shape=(3, 16, 16),
        range=(-1.0, 1.0),
        table=TABLE_DIGEST,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two epochs: in the first five outputs of eight draws are sealed, nothing in the second."""
    path: Path = tmp_path_factory.mktemp("home") / "ledger"
    home = Home.create(path, origin="faces.example/log", clock=lambda: NOW)
    log = open_log(home, clock=lambda: NOW)
    add_model(log, entry())
    log.publish()
    for _ in range(2):
        opened = open_epoch(
            log, home.master_key(), "faces", os.urandom, keep=home.keep_recorder_keys
        )
        if opened.epoch == 0:
            _record(home)
            close_epoch(log, 0)
    log.append([DisclosureEntry(epochs=(0,), recipient=Digest.of(b"a key"), case="case 7")])
    log.publish()
    log.store.close()
    return home


def _record(home: Home) -> None:
    rng = np.random.default_rng(0)
    with Recorder.open("faces", home=home, block=16, clock=lambda: NOW) as recorder:
        draw = recorder.draw(5)
        pictures = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
        outputs = [Output(pixels=p) for p in pictures]
        recorder.seal(draw, outputs=outputs, conditioning={"prompt": "a face"})
        recorder.draw(3)


@pytest.fixture
def record(home: Home) -> Iterator[LocalRecord]:
    with LocalRecord.open(home) as record:
        yield record


def test_models_and_epochs_are_those_of_the_log(record: LocalRecord) -> None:
    [model] = record.models()
    assert (model.name, model.digest, model.dim) == ("faces", MODEL.hex(), 32)
    first, second = record.epochs()
    assert (first.epoch, first.high_water, second.high_water) == (0, 16, 0)
    assert first.close_index is not None
    assert second.close_index is None
    assert first.key is not None


def test_counters_have_the_states_that_the_log_gives_them(record: LocalRecord) -> None:
    states = [record.counter(0, i).state for i in (0, 4, 5, 15, 16, 10**6)]
    assert states == [
        "generated", "generated", "abandoned", "abandoned", "never_issued", "never_issued"
    ]  # fmt: skip
    sealed = record.counter(0, 3)
    assert sealed.sealed_at is not None
    assert (sealed.sealed_at.at, sealed.sealed_at.source) == ("2026-05-01T09:30:00Z", "operator")
    kinds = {decode_entry(record.entry(i)).kind for i in sealed.related}
    assert kinds == {"reservation"}


def test_the_epoch_key_gives_the_latents_that_entries_commit_to(record: LocalRecord) -> None:
    from latentlog.ledger.commitment import open_commitment
    from latentlog.ledger.keystream import Schedule, latent_salt

    [epoch, _] = record.epochs()
    assert epoch.key is not None
    schedule = Schedule(epoch.key.subkey("issue"), epoch.dim)
    for counter, index in record.generations(0):
        generation = decode_entry(record.entry(index))
        assert isinstance(generation, Generation)
        open_commitment(
            generation.commitments["latent"],
            "latent",
            latent_digest(schedule.latents(counter, 1)[0]),
            latent_salt(epoch.key.subkey("latent-salt"), counter),
            origin=record.origin,
            epoch=0,
            counter=counter,
        )


def test_openings_are_streamed_with_their_entries(record: LocalRecord) -> None:
    opened = list(record.openings(0))
    assert [o.opening.counter for o in opened] == [0, 1, 2, 3, 4]
    assert opened[2].opening.fields["conditioning"].content == {"prompt": "a face"}
    assert record.opening(opened[2].index) == opened[2].opening
    assert list(record.openings(1)) == []


def test_every_citation_has_a_proof_and_a_seal(record: LocalRecord) -> None:
    index = record.counter(0, 3).index
    assert index is not None
    cited = citations(record, [index, *record.counter(0, 3).related, record.models()[0].index])
    from latentlog.ledger.checkpoint import verify_checkpoint
    from latentlog.ledger.note import NoteVerifier

    verified = verify_checkpoint(
        record.checkpoint_note, NoteVerifier.parse(record.vkey), record.origin
    )
    root = verified.checkpoint.root
    for i in cited:
        body = record.entry(i)
        verify_inclusion(leaf_hash(body), i, record.size, record.proof(i), root)
        if not isinstance(decode_entry(body), Seal):
            assert record.batch(i).seal in cited
    kinds = [decode_entry(record.entry(i)).kind for i in cited]
    # The recorder's own registration is cited, because its seal rests on it.
    assert "recorder" in kinds


def test_the_control_root_is_that_of_the_first_checkpoint_after_the_model(
    home: Home, record: LocalRecord
) -> None:
    root = record.control_root(MODEL.hex())
    log = open_log(home)
    with log.snapshot() as reader:
        sizes = [c.size for c in reader.checkpoints(0, 100)]
    log.store.close()
    after = [s for s in sizes if s > record.models()[0].index]
    assert len(after) > 1
    assert root != Digest(record_root(record))
    with pytest.raises(NothingToExamine):
        record.control_root("00" * 32)


def record_root(record: LocalRecord) -> bytes:
    from latentlog.ledger.checkpoint import verify_checkpoint
    from latentlog.ledger.note import NoteVerifier

    verified = verify_checkpoint(
        record.checkpoint_note, NoteVerifier.parse(record.vkey), record.origin
    )
    return bytes(verified.checkpoint.root)


def test_the_audit_is_clean_and_names_what_nobody_vouches_for(record: LocalRecord) -> None:
    checks = {c.name: c.ok for c in record.audit()}
    assert checks == {"audit": True, "witnesses": None, "timestamps": None}


def test_earlier_disclosures_are_told(record: LocalRecord) -> None:
    [told] = record.disclosures([0, 1])
    assert "case 7" in told
    assert list(record.disclosures([1])) == []


def test_the_newest_calibration_counts(home: Home) -> None:
    log = open_log(home)
    with LocalRecord.open(home) as before:
        assert before.calibration(MODEL.hex()) is None
    for body in (b"first", b"second"):
        document = log.add_document(body)
        made = CalibrationEntry(
            model_digest=MODEL,
            document=document,
            profile="demo",
            beta=0.05,
            pipeline="0.1",
            made="here",
        )
        index = log.append([made]).first
    with LocalRecord.open(home) as unpublished:
        assert unpublished.calibration(MODEL.hex()) is None
    log.publish()
    log.store.close()
    with LocalRecord.open(home) as record:
        found = record.calibration(MODEL.hex())
        assert found is not None
        assert (found.index, found.document) == (index, b"second")


def test_a_calibration_is_logged_with_its_document(home: Home) -> None:
    calibration = Calibration(
        schema=SCHEMA,
        model="faces",
        model_digest=MODEL.hex(),
        kind="decoder",
        dim=32,
        pipeline=PIPELINE,
        profile="quick",
        beta=0.05,
        made="elsewhere",
        control_root="00" * 32,
        device="cpu",
        settings=(),
        points=(),
    )
    log = open_log(home)
    index = log_calibration(log, calibration)
    logged = log.entry(index).entry
    assert isinstance(logged, CalibrationEntry)
    assert (logged.profile, logged.made, logged.beta) == ("quick", "elsewhere", 0.05)
    assert log.document(logged.document) == calibration.encode()
    log.store.close()


def test_without_the_master_key_no_epoch_key_is_there(home: Home) -> None:
    log = open_log(home)
    record = LocalRecord(log)
    assert [e.key for e in record.epochs()] == [None, None]
    assert list(record.openings(0)) == []
    wrong = LocalRecord(log, master=bytes(32))
    assert [e.key for e in wrong.epochs()] == [None, None]
    log.store.close()


def test_an_erased_opening_is_not_there(home: Home) -> None:
    log, vault = open_log(home), open_vault(home)
    with LocalRecord.open(home) as record:
        index = record.counter(0, 4).index
        assert index is not None
        erase(log, vault, index, "asked for by the person shown")
        assert record.opening(index) is None
        assert [o.opening.counter for o in record.openings(0)] == [0, 1, 2, 3]
    vault.close()
    log.store.close()


def test_an_erased_seed_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", origin="faces.example/log", clock=lambda: NOW)
    log, vault = open_log(home, clock=lambda: NOW), open_vault(home)
    add_model(log, entry())
    log.publish()
    open_epoch(log, home.master_key(), "faces", os.urandom, keep=home.keep_recorder_keys)
    seeds = [
        Seed(rng="numpy.pcg64", seed=n, shape=(32,), latent=Digest.of(bytes([n]))) for n in range(3)
    ]
    with Recorder.open("faces", home=home, block=16, clock=lambda: NOW) as recorder:
        sealed = recorder.seal_seed(seeds)
        recorder.seal(recorder.draw(2))
    log.publish()
    assert logged_seeds(home) == LogCheck(name="logged_seeds", ok=True, detail="3 drawn again")
    erase(log, vault, sealed.entries[1] or 0, "asked for by the person shown")
    assert logged_seeds(home) == LogCheck(
        name="logged_seeds",
        ok=None,
        detail="1 logged seeds have no opening here and were not compared",
    )
    vault.close()
    log.store.close()


def logged_seeds(home: Home) -> LogCheck:
    """Scan the openings of a home for some medium; return the check of its logged seeds."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    wanted = Wanted(sha256="00" * 32, pixels_digest="00" * 32, pixels=pixels, sketch=None)
    with LocalRecord.open(home) as record:
        tested = ModelUnderTest(
            view=record.models()[0], process=LinearGenerator(), epochs=tuple(record.epochs())
        )
        return seed_check(scan_openings(tested, record, wanted, lambda done, total: None))


def test_a_model_without_a_checkpoint_has_no_control_key_yet(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", origin="faces.example/log")
    log = open_log(home)
    add_model(log, entry())
    record = LocalRecord(log)
    assert list(record.models()) == []
    with pytest.raises((CalibrationMissing, NothingToExamine)):
        record.control_root(MODEL.hex())
    log.store.close()
