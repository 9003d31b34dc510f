"""The recorder: nothing issued unreserved, nothing sealed lost, every counter accounted for."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentlog.ledger import recorder as recorder_module
from latentlog.ledger import session as session_module
from latentlog.ledger import spool
from latentlog.ledger.audit import AuditReport, audit
from latentlog.ledger.digest import pixel_digest
from latentlog.ledger.entry import Abandoned, Generation, Reservation
from latentlog.ledger.epochs import close_epoch, counter_totals, derive_epoch_key, open_epoch
from latentlog.ledger.erasure import complete_erasures, erase
from latentlog.ledger.errors import (
    AlreadySealed,
    DatabaseMissing,
    EpochClosed,
    EpochFull,
    MalformedHome,
    MalformedOpening,
    NoSuchEntry,
    NoSuchEpoch,
    NoSuchRecorder,
    NotPublished,
    NotReserved,
    RecorderBusy,
    RecorderRetired,
    ReservationExhausted,
    StorageUnavailable,
    UnreadableOpening,
)
from latentlog.ledger.home import Home, make_recorder_key, open_log, open_vault
from latentlog.ledger.issue import Draw, Seed
from latentlog.ledger.keystream import Schedule, normal, uniform
from latentlog.ledger.log import Clock, Log, utc_now
from latentlog.ledger.openings import openings, read_opening
from latentlog.ledger.outputs import Output, to_8bit
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.registry import add_model, add_recorder, retire_recorder
from latentlog.ledger.storage import KeyRow
from latentlog.ledger.store import engine as engine_module
from latentlog.ledger.store.vault import VaultStore
from tests.builders import digest, make_home, make_model, repeating
from tests.databases import postgres_url
from tests.fakes import WRITE_STEPS, FailingStore

KILLER = Path(__file__).parent / "killed.py"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that every test gets a copy of: making one takes longer than most tests."""
    return make_home(tmp_path_factory.mktemp("template") / "home").path


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out waiting for the disk: processes die here, machines do not lose power."""
    monkeypatch.setattr(engine_module, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    shutil.copytree(template, tmp_path / "home")
    return Home.open(tmp_path / "home")


@pytest.fixture
def log(home: Home) -> Iterator[Log]:
    with closing(open_log(home)) as opened:
        yield opened


def audited(home: Home) -> AuditReport:
    """Audit with every key there is; return the report of a clean log."""
    with closing(open_log(home)) as log, closing(open_vault(home)) as vault:
        keys = {0: derive_epoch_key(log, home.master_key(), 0)}
        report = audit(log, epoch_keys=keys, vault=vault)
        report.require_clean()
        return report


def outputs(count: int) -> list[Output]:
    return [Output(file_sha256=digest(f"file {n}")) for n in range(count)]


def generated(log: Log) -> dict[int, Generation]:
    return {
        e.entry.counter: e.entry
        for e in log.entries(kind="generation")
        if isinstance(e.entry, Generation)
    }


# Drawing.


def test_a_draw_is_reserved_before_it_leaves(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=16) as recorder:
        drawn = recorder.draw(5)
        [reserved] = [e.entry for e in log.entries(kind="reservation")]
        assert isinstance(reserved, Reservation)
        assert (reserved.recorder, reserved.first, reserved.count) == ("local", 0, 16)
        assert (drawn.epoch, drawn.first, drawn.count) == (0, 0, 5)


def test_latents_are_the_schedules_in_the_models_prior(home: Home, log: Log) -> None:
    key = derive_epoch_key(log, home.master_key(), 0)
    add_model(log, make_model("flat", prior="uniform", latent_shape=(2, 2, 2)))
    open_epoch(log, home.master_key(), "flat", repeating("flat"), keep=home.keep_recorder_keys)
    with Recorder.open("faces", home=home) as recorder:
        drawn = recorder.draw(3)
        expected = Schedule(key.subkey("issue"), 8).latents(0, 3)
        assert np.array_equal(drawn.integers, expected)
        assert np.array_equal(drawn.latents, normal(expected))
        assert drawn.latents.dtype == np.float32
        assert not drawn.latents.flags.writeable
        assert np.array_equal(
            recorder.draw(1).integers, Schedule(key.subkey("issue"), 8).latents(3, 1)
        )
    with Recorder.open("flat", home=home) as recorder:
        drawn = recorder.draw(2)
        assert drawn.latents.shape == (2, 2, 2, 2)
        assert np.array_equal(drawn.latents.reshape(2, 8), uniform(drawn.integers))
        part = drawn.part(1, 2)
        assert (part.first, part.count) == (drawn.first + 1, 1)
        assert np.array_equal(part.latents, drawn.latents[1:])


def test_a_used_up_block_is_followed_by_another(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=4) as recorder:
        firsts = [recorder.draw(n).first for n in (3, 1, 2, 3, 1, 9)]
    # The third draw leaves two of the second block, which a later, smaller one takes.
    assert firsts == [0, 3, 4, 8, 6, 12]
    assert counter_totals(log, 0).pending == 0


@pytest.mark.parametrize("count", [0, -1, (1 << 20) + 1])
def test_absurd_draws_are_refused(home: Home, count: int) -> None:
    with Recorder.open("faces", home=home) as recorder, pytest.raises(NotReserved):
        recorder.draw(count)


def test_an_epoch_issues_at_most_its_share(home: Home) -> None:
    with Recorder.open("faces", home=home, block=(1 << 20) - 3) as recorder:
        recorder.draw((1 << 20) - 3)
        assert recorder.draw(2).first == (1 << 20) - 3
        assert recorder.draw(1).first == (1 << 20) - 1
        with pytest.raises(EpochFull) as caught:
            recorder.draw(1)
        assert caught.value.next_step == "latentlog epoch open faces"


def test_an_epoch_issues_for_a_day(home: Home) -> None:
    def tomorrow() -> Any:
        return utc_now() + timedelta(hours=24, minutes=1)

    with Recorder.open("faces", home=home, clock=tomorrow) as recorder, pytest.raises(EpochFull):
        recorder.draw(1)


def test_nothing_is_drawn_before_a_checkpoint_covers_the_epoch(home: Home, log: Log) -> None:
    publish, log.publish = log.publish, lambda: b""  # type: ignore[method-assign]
    open_epoch(log, home.master_key(), "faces", repeating("2"), keep=home.keep_recorder_keys)
    with pytest.raises(NotPublished):
        Recorder.open("faces", home=home)
    publish()
    with Recorder.open("faces", home=home) as recorder:
        assert recorder.draw(1).epoch == 1


def test_a_closed_epoch_issues_nothing(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=2) as recorder:
        recorder.draw(2)
        close_epoch(log, 0)
        with pytest.raises(EpochClosed):
            recorder.draw(1)
    with pytest.raises(NoSuchEpoch):
        Recorder.open("faces", home=home)
    audited(home)


def test_a_running_recorder_stops_inside_its_block(home: Home, log: Log, tmp_path: Path) -> None:
    """At a closed or aged epoch; while the log is out of reach, only at an aged one."""
    later = timedelta()
    with Recorder.open("faces", home=home, clock=lambda: utc_now() + later) as recorder:
        recorder.draw(1)
        close_epoch(log, 0)
        seed = Seed(rng="torch.cpu", seed=1, shape=(1, 8), latent=digest("drawn"))
        for draw in (lambda: recorder.draw(1), lambda: recorder.seal_seed([seed])):
            with pytest.raises(EpochClosed) as caught:
                draw()
            assert (caught.value.kind, caught.value.next_step) == (
                "usage",
                "latentlog epoch open faces",
            )
        database = home.path / "ledger.sqlite"
        database.rename(tmp_path / "away")
        recorder._log.store._engine.dispose()  # type: ignore[attr-defined]
        assert recorder.draw(1).first == 1
        later = timedelta(hours=24, minutes=1)
        with pytest.raises(EpochFull):
            recorder.draw(1)
        (tmp_path / "away").rename(database)
    audited(home)


# Sealing.


def test_what_is_sealed_can_be_opened(home: Home, log: Log) -> None:
    pictures = np.linspace(-1.1, 1.1, 2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    with Recorder.open("faces", home=home) as recorder:
        drawn = recorder.draw(2)
        sealed = recorder.seal(
            drawn,
            outputs=pictures,
            conditioning=[{"prompt": "a"}, None],
            sampler={"scale": 7.5, "seed": 2**60},
            compute={"device": "cpu"},
        )
    assert not sealed.queued
    index = sealed.entries[0]
    assert index is not None
    with closing(open_vault(home)) as vault:
        first = read_opening(log, vault, index)
        assert first.fields["conditioning"].content == {"prompt": "a"}
        assert first.fields["sampler"].content == {"scale": "7.5", "seed": str(2**60)}
        expected = pixel_digest(to_8bit(pictures[0], -1.0, 1.0).transpose(1, 2, 0))
        assert first.fields["output_pixels"].content == expected.hex()
        assert first.fields["latent"].content is None
        opened = list(openings(log, vault, 0))
        assert [o.counter for o in opened] == [0, 1]
        assert "conditioning" not in opened[1].opening.fields
        assert list(openings(log, vault, 1)) == []
        with pytest.raises(NoSuchEntry):
            read_opening(log, vault, 0)
    assert audited(home).openings == 2


def test_eight_bits_are_rounded_half_to_even() -> None:
    values = np.array([0.5, 1.5, 2.5, 254.5, -3.0, 300.0]) / 255.0
    assert to_8bit(values, 0.0, 1.0).tolist() == [0, 2, 2, 254, 0, 255]
    with pytest.raises(MalformedOpening):
        to_8bit(np.array([np.nan]), 0.0, 1.0)


def test_tensors_are_taken_as_they_are(home: Home) -> None:
    class Tensor:
        """What torch looks like from here."""

        def detach(self) -> "Tensor":
            return self

        def cpu(self) -> "Tensor":
            return self

        def numpy(self) -> Any:
            return np.zeros((1, 3, 4, 4), np.float32)

    with Recorder.open("faces", home=home) as recorder:
        assert recorder.seal(recorder.draw(1), outputs=Tensor()).entries


def test_a_sketch_is_sealed_where_pdqhash_is_installed(home: Home, log: Log) -> None:
    pytest.importorskip("pdqhash")
    picture = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    with Recorder.open("faces", home=home) as recorder:
        for pixels in (picture, picture[:, :, 0]):
            recorder.seal(recorder.draw(1), outputs=[Output(pixels=pixels)])
    assert all("sketch" in entry.commitments for entry in generated(log).values())


@pytest.mark.parametrize(
    "arguments",
    [
        {"outputs": outputs(1)},
        {"outputs": np.zeros((2, 3, 4, 4), np.uint8)},
        {"outputs": np.zeros((3, 4, 4), np.float32)},
        {"outputs": np.full((2, 3, 4, 4), np.inf, np.float32)},
        {"conditioning": "a prompt"},
        {"conditioning": [{}]},
        {"sampler": [1, 2]},
        {"compute": {"x": {1, 2}}},
    ],
)
def test_what_cannot_be_sealed_changes_nothing(
    home: Home, log: Log, arguments: dict[str, Any]
) -> None:
    with Recorder.open("faces", home=home) as recorder:
        drawn = recorder.draw(2)
        with pytest.raises(MalformedOpening):
            recorder.seal(drawn, **arguments)
        assert not generated(log)
        assert recorder.seal(drawn, outputs=outputs(2)).entries


def test_a_counter_is_sealed_once_and_only_if_drawn(home: Home) -> None:
    with Recorder.open("faces", home=home) as recorder:
        drawn = recorder.draw(3)
        recorder.seal(drawn.part(0, 1))
        with pytest.raises(AlreadySealed):
            recorder.seal(drawn)
        recorder.seal(drawn.part(1, 3))
        stranger = Draw(0, 100, 1, drawn.latents[:1], drawn.integers[:1])
        with pytest.raises(AlreadySealed):
            recorder.seal(stranger)
        with pytest.raises(NotReserved):
            recorder.seal(Draw(7, 0, 1, drawn.latents[:1], drawn.integers[:1]))


def test_many_are_sealed_in_batches(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home) as recorder:
        sealed = recorder.seal(recorder.draw(600), outputs=outputs(600))
    assert list(sealed.entries) == list(range(600))
    seals = {log.batch_of(index).seal.index for index in sealed.entries.values() if index}
    assert len(seals) == 3
    assert audited(home).openings == 600


def test_a_seed_is_sealed_with_its_own_latent(home: Home, log: Log) -> None:
    seeds = [
        Seed(rng="torch.cpu", seed=2**63 + n, shape=(1, 8), latent=digest(f"drawn {n}"))
        for n in range(2)
    ]
    with Recorder.open("faces", home=home) as recorder:
        sealed = recorder.seal_seed(seeds, outputs=outputs(2))
    entries = generated(log)
    assert [entries[c].source for c in sealed.entries] == ["seed", "seed"]
    with closing(open_vault(home)) as vault:
        opening = read_opening(log, vault, sealed.entries[0] or 0)
    assert opening.fields["seed"].content["seed"] == str(2**63)
    audited(home)


# Ending a session.


def test_what_was_not_sealed_is_abandoned_at_the_end(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=16) as recorder:
        drawn = recorder.draw(4)
        recorder.seal(drawn.part(1, 2))
        recorder.fail(drawn.part(3, 4))
    reasons = {
        (e.entry.first, e.entry.count): e.entry.reason
        for e in log.entries(kind="abandoned")
        if isinstance(e.entry, Abandoned)
    }
    assert reasons == {
        (3, 1): "failed",
        (0, 1): "session_ended",
        (2, 1): "session_ended",
        (4, 12): "session_ended",
    }
    audited(home)


def test_an_exception_marks_its_draws_as_failed(home: Home, log: Log) -> None:
    def work() -> None:
        with Recorder.open("faces", home=home, block=8) as recorder:
            recorder.draw(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    reasons = [
        e.entry.reason for e in log.entries(kind="abandoned") if isinstance(e.entry, Abandoned)
    ]
    assert reasons == ["failed", "session_ended"]


def test_the_next_start_abandons_what_a_crash_left(home: Home, log: Log) -> None:
    crash(Recorder.open("faces", home=home, block=8), lambda r: r.seal(r.draw(3).part(0, 2)))
    assert counter_totals(log, 0).pending == 6
    with Recorder.open("faces", home=home, block=8) as recorder:
        assert recorder.draw(1).first == 8
        assert counter_totals(log, 0) == (16, 2, 6, 8)
    reasons = [
        e.entry.reason for e in log.entries(kind="abandoned") if isinstance(e.entry, Abandoned)
    ]
    assert reasons[0] == "crashed"
    audited(home)


def crash(recorder: Recorder, work: Callable[[Recorder], object]) -> None:
    """Do some work and die: the operating system closes files, nothing else happens."""
    work(recorder)
    recorder._vault.close()
    recorder._log.store.close()
    recorder._session.close()


def test_one_name_records_once_at_a_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LOCK_SECONDS", 0.05)
    with Recorder.open("faces", home=home):
        with pytest.raises(RecorderBusy) as caught:
            session_module.Session.open(home.session_path("local"), "local", wait=0.05)
        assert caught.value.kind == "environment"
    with Recorder.open("faces", home=home):
        pass


def test_strangers_and_the_retired_record_nothing(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=4) as recorder:
        drawn = recorder.draw(2)
        retire_recorder(log, "local")
        with pytest.raises(RecorderRetired):
            recorder.seal(drawn)
    with pytest.raises(RecorderRetired):
        Recorder.open("faces", home=home)
    make_recorder_key(home, "stranger")
    with pytest.raises(NoSuchRecorder):
        Recorder.open("faces", home=home, recorder="stranger")
    audited(home)


def test_a_session_file_that_is_not_ours_is_refused(home: Home) -> None:
    home.session_path("local").write_text("{}")
    with pytest.raises(MalformedHome):
        Recorder.open("faces", home=home)


# Detached: `draw` in one process, `record` in another.


def test_a_detached_draw_waits_for_its_record(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home) as recorder:
        drawn = recorder.reserve_detached(8)
        assert recorder.draw(1).first == 8
    with Recorder.open(home=home) as recorder:
        assert [span for _, span in recorder.detached()] == [(0, 8)]
        sealed = recorder.seal_detached(0, [0, 1, 5], outputs=outputs(3))
        assert list(sealed.entries) == [0, 1, 5]
        with pytest.raises(AlreadySealed):
            recorder.seal_detached(0, [1, 2])
        recorder.abandon_detached(0, 2, 3)
        with pytest.raises(NoSuchEpoch):
            recorder.draw(1)
    assert counter_totals(log, 0).pending == 2
    with Recorder.open(home=home) as recorder:
        recorder.seal_detached(0, [6, 7])
    with Recorder.open(home=home) as recorder:
        assert recorder.detached() == []
    assert np.array_equal(drawn.latents, normal(drawn.integers))
    audited(home)


def test_two_detached_draws_are_recorded_together(home: Home) -> None:
    with Recorder.open("faces", home=home) as recorder:
        recorder.reserve_detached(2)
        recorder.reserve_detached(2)
    with Recorder.open(home=home) as recorder:
        assert recorder.seal_detached(0, [0, 1, 2, 3]).entries
    audited(home)


def test_only_what_was_drawn_for_this_recorder_is_recorded(home: Home) -> None:
    with Recorder.open("faces", home=home, block=8) as recorder:
        recorder.draw(2)
        for counters in ([0], [5], [8], [1 << 30]):
            with pytest.raises(NotReserved):
                recorder.seal_detached(0, counters)
        with pytest.raises(NotReserved):
            recorder.seal_detached(0, [1, 0])
        with pytest.raises(NoSuchEpoch):
            recorder.seal_detached(3, [0])


def test_a_record_after_abandonment_is_late(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=4) as recorder:
        recorder.reserve_detached(2)
        recorder.draw(1)
    close_epoch(log, 0)
    with Recorder.open(home=home) as recorder:
        # The first two waited detached, the third was abandoned when its session ended.
        recorder.seal_detached(0, [0, 2])
    assert {c: e.late for c, e in generated(log).items()} == {0: True, 2: True}
    audited(home)


# The database goes away.


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let recorders work on stores that can be made to fail."""

    def open_failing(home: Home, *, clock: Clock) -> Log:
        store = FailingStore(open_log(home, clock=clock).store)
        return Log(store, origin=home.origin, public=home.verifier.key, clock=clock)

    monkeypatch.setattr(recorder_module, "open_log", open_failing)


def of(recorder: Recorder) -> FailingStore:
    store = recorder._log.store
    assert isinstance(store, FailingStore)
    return store


@pytest.mark.usefixtures("failing")
def test_generation_goes_on_inside_the_block(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=8) as recorder:
        recorder.draw(1)
        of(recorder).fail("begin", outage=100)
        sealed = [recorder.seal(recorder.draw(2), outputs=outputs(2)) for _ in range(3)]
        assert all(s.queued for s in sealed)
        with pytest.raises(ReservationExhausted) as caught:
            recorder.draw(2)
        assert caught.value.kind == "environment"
        assert recorder.draw(1).first == 7
        assert not generated(log)
        of(recorder).outage = 0
        assert recorder.drain() == 6
        assert list(generated(log)) == [1, 2, 3, 4, 5, 6]
    assert audited(home).openings == 6


@pytest.mark.usefixtures("failing")
def test_the_queue_survives_a_crash(home: Home, log: Log) -> None:
    recorder = Recorder.open("faces", home=home, block=8)
    drawn = recorder.draw(3)
    of(recorder).fail("begin", outage=100)
    crash(recorder, lambda r: r.seal(drawn.part(0, 2), outputs=outputs(2)))
    with Recorder.open("faces", home=home, block=8):
        assert list(generated(log)) == [0, 1]
    assert counter_totals(log, 0).pending == 0
    audited(home)


@pytest.mark.usefixtures("failing")
def test_what_was_queued_is_late_after_a_retirement_elsewhere(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home, block=4) as recorder:
        drawn = recorder.draw(2)
        of(recorder).fail("begin", outage=1)
        assert recorder.seal(drawn).queued
        close_epoch(log, 0)
        assert recorder.drain() == 2
    assert {e.late for e in generated(log).values()} == {True}
    audited(home)


@pytest.mark.usefixtures("failing")
def test_a_queued_counter_is_not_queued_again(home: Home) -> None:
    with Recorder.open("faces", home=home) as recorder:
        recorder.reserve_detached(2)
        of(recorder).fail("begin", outage=2)
        assert recorder.seal_detached(0, [0]).queued
        with pytest.raises(AlreadySealed):
            recorder.seal_detached(0, [0, 1])
    audited(home)


@pytest.mark.usefixtures("failing")
def test_an_altered_queue_is_refused(home: Home) -> None:
    recorder = Recorder.open("faces", home=home, block=8)
    drawn = recorder.draw(1)
    of(recorder).fail("begin", outage=100)
    crash(recorder, lambda r: r.seal(drawn))
    [path] = home.queue_path("local").glob("*.batch")
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(MalformedHome, match="altered"):
        Recorder.open("faces", home=home)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("step", WRITE_STEPS)
@pytest.mark.parametrize("write", ["reservation", "seal", "abandonment", "drain"])
def test_every_step_of_every_write_may_fail(home: Home, log: Log, step: str, write: str) -> None:
    """The fault table, "failed but persisted" included; then the process dies."""
    recorder = Recorder.open("faces", home=home, block=4)
    sealed: set[int] = set()

    def seal(drawn: Draw) -> None:
        sealed.update(recorder.seal(drawn, outputs=outputs(drawn.count)).entries)

    seal(recorder.draw(1))
    if write == "reservation":
        recorder.draw(3)
        of(recorder).fail(step)
        with pytest.raises(ReservationExhausted):
            recorder.draw(2)
        seal(recorder.draw(2))
    elif write == "seal":
        of(recorder).fail(step)
        seal(recorder.draw(2))
    elif write == "abandonment":
        of(recorder).fail(step)
        with pytest.raises(StorageUnavailable):
            recorder.fail(recorder.draw(1))
    else:
        of(recorder).fail("begin", outage=1)
        seal(recorder.draw(1))
        of(recorder).fail(step)
        with pytest.raises(StorageUnavailable):
            recorder.drain()
        seal(recorder.draw(1))
    crash(recorder, lambda r: None)
    with Recorder.open("faces", home=home, block=4) as again:
        seal_again = again.draw(1)
        again.seal(seal_again)
    assert sealed < set(generated(log))
    assert counter_totals(log, 0).pending == 0
    assert not list(home.queue_path("local").glob("*"))
    audited(home)


@pytest.mark.parametrize("persisted", [False, True])
def test_no_entry_without_its_record_key(
    home: Home, log: Log, monkeypatch: pytest.MonkeyPatch, persisted: bool
) -> None:
    put = VaultStore.put

    def fail(self: VaultStore, keys: list[KeyRow]) -> None:
        if persisted:
            put(self, keys)
        raise StorageUnavailable("the vault is full")

    with Recorder.open("faces", home=home, block=4) as recorder:
        drawn = recorder.draw(2)
        monkeypatch.setattr(VaultStore, "put", fail)
        with pytest.raises(StorageUnavailable):
            recorder.seal(drawn)
        assert not generated(log)
        monkeypatch.setattr(VaultStore, "put", put)
        assert not recorder.seal(drawn).queued
    assert audited(home).openings == 2


@pytest.mark.usefixtures("failing")
def test_a_disk_too_full_for_the_queue_loses_no_draw(
    home: Home, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise StorageUnavailable(f"cannot write {path}: No space left on device")

    with Recorder.open("faces", home=home, block=4) as recorder:
        drawn = recorder.draw(2)
        of(recorder).fail("begin", outage=1)
        with monkeypatch.context() as patch:
            patch.setattr(spool, "write_durably", full)
            with pytest.raises(StorageUnavailable, match="No space"):
                recorder.seal(drawn)
        assert not recorder.seal(drawn).queued
    audited(home)


# Where the log is.


def test_recording_on_postgres(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", database=postgres_url())
    with Recorder.open("faces", home=home, block=8) as recorder:
        drawn = recorder.draw(3)
        recorder.seal(drawn.part(0, 2), outputs=outputs(2))
        recorder.reserve_detached(2)
    with Recorder.open(home=home) as recorder:
        assert recorder.seal_detached(0, [8]).entries
    assert audited(home).openings == 3


def test_the_environment_names_home_and_database(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTLOG_HOME", str(home.path))
    with Recorder.open("faces") as recorder:
        assert recorder.origin == home.origin
        assert recorder.model == make_model()
    monkeypatch.setenv("LATENTLOG_DB", f"sqlite:///{tmp_path}/nowhere.sqlite")
    with pytest.raises(DatabaseMissing):
        Recorder.open("faces")


# Erasing.


def test_an_erased_opening_is_gone_and_its_entry_is_not(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home) as recorder:
        sealed = recorder.seal(recorder.draw(2), conditioning={"prompt": "a name"})
    index = sealed.entries[1] or 0
    with closing(open_vault(home)) as vault:
        assert erase(log, vault, index, "request of the person shown", after_notice=True)
        with pytest.raises(UnreadableOpening):
            read_opening(log, vault, index)
        assert not erase(log, vault, index, "again")
        assert [o.counter for o in openings(log, vault, 0)] == [0]
        with pytest.raises(NoSuchEntry):
            erase(log, vault, 0, "not a generation")
    assert len(list(log.entries(kind="erasure"))) == 1
    assert audited(home).openings == 1


def test_an_erasure_that_a_crash_interrupted_is_finished(home: Home, log: Log) -> None:
    with Recorder.open("faces", home=home) as recorder:
        sealed = recorder.seal(recorder.draw(1), conditioning={"prompt": "a name"})
    with closing(open_vault(home)) as vault:

        class Dying:
            def destroy(self, epoch: int, counter: int) -> int:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            erase(log, Dying(), sealed.entries[0] or 0, "a request")  # type: ignore[arg-type]
        [problem] = audit(log, vault=vault).problems
        assert (problem.index, problem.code) == (sealed.entries[0], "erasure_incomplete")
        assert complete_erasures(log, vault) == 1
        assert complete_erasures(log, vault) == 0
    audited(home)


# Killed by the operating system.


def kill(home: Home, calls: int) -> list[int]:
    """Record in another process that dies at its `calls`-th call; return what it had sealed."""
    run = subprocess.run(
        [sys.executable, str(KILLER), str(home.path), str(calls)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    return [int(line) for line in run.stdout.splitlines()]


def check_after_kill(home: Home, sealed: list[int]) -> None:
    with Recorder.open("faces", home=home, block=32) as recorder:
        recorder.seal(recorder.draw(1))
    with closing(open_log(home)) as log:
        found = generated(log)
        assert set(sealed) <= set(found)
        assert counter_totals(log, 0).pending == 0
        log.publish()
    audited(home)


# Opening takes about 18,000 calls, a reservation 5,000, sealing 3,500; every sixth draw reserves.
@pytest.mark.parametrize("low", [1, 18_000, 23_000, 30_000, 45_000])
def test_a_killed_recorder_loses_and_hides_nothing(home: Home, low: int) -> None:
    sealed: list[int] = []
    for _ in range(4):
        sealed += kill(home, low + int.from_bytes(os.urandom(3), "big") % 12_000)
    check_after_kill(home, sealed)


@pytest.mark.soak
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_two_hundred_kills(tmp_path: Path, database: str) -> None:
    url = postgres_url() if database == "postgres" else None
    reach = 400_000 if url else 80_000  # loading a driver written in Python takes most of it
    home = make_home(tmp_path / "home", database=url)
    for number in range(200):
        sealed = kill(home, 1 + int.from_bytes(os.urandom(3), "big") % reach)
        if number % 10 == 9:
            check_after_kill(home, sealed)
    check_after_kill(home, [])


def test_several_recorders_append_at_once(home: Home, log: Log) -> None:
    """Processes, not threads: they take turns through the database alone."""
    names = ["a", "b", "c"]
    for name in names:
        add_recorder(log, name, make_recorder_key(home, name).public)
    root = Path(__file__).parents[2]
    runs = [
        subprocess.Popen(
            [sys.executable, str(KILLER), str(home.path), "0", name],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    sealed = [line for run in runs for line in run.communicate()[0].split()]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(sealed) == len(set(sealed)) == len(generated(log))
    assert counter_totals(log, 0).pending == 0
    audited(home)
