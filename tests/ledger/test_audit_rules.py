"""Rules of single entries that a lying operator breaks with valid seals: each is named."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from latentlog.ledger.audit import audit
from latentlog.ledger.batch import Sealer
from latentlog.ledger.entry import (
    Abandoned,
    CalibrationEntry,
    DisclosureEntry,
    Entry,
    EpochClose,
    EpochOpen,
    Erasure,
    RecorderEntry,
    Reservation,
)
from latentlog.ledger.errors import AlreadyRegistered
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.outsider import SiteReport, audit_site
from latentlog.ledger.registry import add_recorder
from tests.builders import (
    LOG_KEY,
    RECORDER,
    RECORDER_KEY,
    START,
    digest,
    make_generation,
    make_model,
    make_recording_log,
    make_reservation,
)
from tests.ledger.sites import OPERATOR, VERIFIER, StaticLog, fetch_from


def opening(epoch: int, salt: int) -> EpochOpen:
    model = make_model()
    return EpochOpen(
        epoch=epoch,
        model=model.name,
        model_digest=model.digest,
        dim=model.dim,
        salt=bytes([salt]) * 32,
        commitment=digest(f"key {epoch}"),
    )


@pytest.fixture
def log() -> StaticLog:
    """A lawful log: a recorder, a model, epoch 0, four counters reserved and one sealed."""
    made = StaticLog()
    made.batch([RecorderEntry(name="local", key=RECORDER_KEY.public, state="active")])
    made.batch([make_model()])
    made.batch([opening(0, 1)])
    made.batch([make_reservation(0, 4)], RECORDER)
    made.batch([make_generation(0)], RECORDER)
    return made


def report(log: StaticLog) -> SiteReport:
    return audit_site(fetch_from(log.files()), VERIFIER)


def found(log: StaticLog) -> set[tuple[int, str]]:
    return {(problem.index, problem.code) for problem in report(log).audit.problems}


def test_the_log_these_lies_are_added_to_is_clean(log: StaticLog) -> None:
    report(log).require_clean()


STRANGER = Reservation(epoch=0, recorder="ghost", lease=bytes(16), first=4, count=4)


@pytest.mark.parametrize("entry", [make_generation(1), make_reservation(4, 4), STRANGER])
def test_the_operator_seals_no_recorders_entries(log: StaticLog, entry: Entry) -> None:
    """Neither for a recorder that is registered, nor for one that never was."""
    seal = log.batch([entry]) + 1
    assert found(log) == {(seal, "wrong_signer")}


def test_the_operator_may_abandon(log: StaticLog) -> None:
    log.batch([Abandoned(epoch=0, first=1, count=3, reason="retired")])
    report(log).require_clean()


def test_an_unregistered_recorders_seal_is_named(log: StaticLog) -> None:
    seal = log.batch([STRANGER], Sealer("ghost", SigningKey(bytes([8]) * 32))) + 1
    assert found(log) == {(seal, "unknown_recorder")}


CLOSE: list[Entry] = [
    Abandoned(epoch=0, first=1, count=3, reason="epoch_closed"),
    EpochClose(epoch=0, high_water=4),
]


def disclosure(*epochs: int) -> DisclosureEntry:
    return DisclosureEntry(epochs=epochs, recipient=digest("examiner"), case="2026/17")


def erasure(index: int) -> Erasure:
    return Erasure(index=index, ground="on request", time=START, after_notice=False)


LIES: dict[str, tuple[Callable[[], list[Entry]], str]] = {
    "abandoned in an epoch never opened": (
        lambda: [Abandoned(epoch=3, first=0, count=4, reason="crashed")],
        "unknown_epoch",
    ),
    "an open epoch disclosed": (lambda: [disclosure(0)], "disclosed_while_open"),
    "an epoch disclosed that is not there": (lambda: [disclosure(7)], "unknown_epoch"),
    "an erasure beyond the log": (lambda: [erasure(99)], "wrong_erasure"),
    "an erasure of a later entry": (lambda: [erasure(11)], "wrong_erasure"),
    "an erasure of a seal": (lambda: [erasure(9)], "wrong_erasure"),
    "a salt used again": (lambda: [opening(1, 1)], "repeated_salt"),
    "a key shared by two recorders": (
        lambda: [RecorderEntry(name="twin", key=RECORDER_KEY.public, state="active")],
        "shared_key",
    ),
    "a recorder with the log's own key": (
        lambda: [RecorderEntry(name="twin", key=LOG_KEY.public, state="active")],
        "shared_key",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named_at_its_entry(log: StaticLog, lie: str) -> None:
    entries, code = LIES[lie]
    index = log.batch(entries())
    assert found(log) == {(index, code)}


def test_what_looks_alike_and_is_lawful_is_not_named(log: StaticLog) -> None:
    log.batch(CLOSE)
    log.batch([disclosure(0)])
    log.batch([erasure(8)])
    log.batch([opening(1, 2)])
    log.batch([RecorderEntry(name="local", key=RECORDER_KEY.public, state="retired")])
    log.batch([RecorderEntry(name="local", key=RECORDER_KEY.public, state="active")])
    report(log).require_clean()


def test_a_disclosure_in_the_batch_that_closes_comes_after_it(log: StaticLog) -> None:
    log.batch([*CLOSE, disclosure(0)])
    report(log).require_clean()


def test_time_that_runs_backwards_is_named(log: StaticLog) -> None:
    log.batch([make_model("other")], time=START + timedelta(hours=1))
    seal = log.batch([make_model("third")], time=START + timedelta(minutes=59)) + 1
    later = log.batch([make_model("fourth")], time=START + timedelta(hours=2)) + 1
    assert (seal, "time_runs_back") in found(log)
    assert (later, "time_runs_back") not in found(log)


# Documents, which stay with the operator.


CALIBRATION = CalibrationEntry(
    model_digest=make_model().digest,
    document=digest("nowhere"),
    profile="quick",
    beta=0.05,
    pipeline="0.1.0",
    made="here",
)


def test_an_outsider_counts_documents_and_hides_nothing_else(log: StaticLog) -> None:
    index = log.batch([CALIBRATION] * 3 + [erasure(99)])
    outside = report(log)
    assert outside.documents == 3
    assert [(p.index, p.code) for p in outside.audit.problems] == [(index + 3, "wrong_erasure")]


def test_documents_are_left_out_only_where_that_is_asked_for() -> None:
    log = make_recording_log()
    index = log.append([CALIBRATION]).first
    assert [(p.index, p.code) for p in audit(log).problems] == [(index, "wrong_document")]
    without = audit(log, documents=False)
    without.require_clean()
    assert without.documents == 1


def test_two_recorders_cannot_be_registered_with_one_key() -> None:
    log = make_recording_log()
    for key in (RECORDER_KEY.public, log.verifier.key):
        with pytest.raises(AlreadyRegistered, match="cannot be second's too"):
            add_recorder(log, "second", key)
    assert OPERATOR.key.public == log.verifier.key
