"""Any order of appends, publications, failures, restarts and rollbacks, against a plain model.

The model is the list of entries that must be there and the notes that were given out. After every
step the database holds exactly these entries, and every note ever given out speaks of its prefix.
"""

import atexit
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from latentlog.ledger.audit import audit
from latentlog.ledger.batch import Sealer
from latentlog.ledger.checkpoint import verify_checkpoint
from latentlog.ledger.continuity import Continuity
from latentlog.ledger.entry import Abandoned, Entry
from latentlog.ledger.errors import CheckpointAhead, StorageUnavailable
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import leaf_hash, root_of
from latentlog.ledger.note import NoteSigner
from latentlog.ledger.store.sql import SqlStore
from tests.builders import (
    LOG_KEY,
    ORIGIN,
    RECORDER,
    Ticking,
    make_generation,
    make_recording_log,
    make_reservation,
)
from tests.databases import sqlite_url
from tests.fakes import WRITE_STEPS, FailingStore

VERIFIER = NoteSigner(ORIGIN, LOG_KEY).verifier
FIRST = 16


@cache
def template() -> Path:
    """A database with a model, a recorder and an open epoch: made once, copied for each run."""
    folder = Path(tempfile.mkdtemp(prefix="latentlog-machine-"))
    atexit.register(shutil.rmtree, folder, True)
    url = sqlite_url(folder)
    with closing(make_recording_log(SqlStore.create(url), reserved=FIRST)):
        pass
    return Path(url.removeprefix("sqlite:///"))


class LogMachine(RuleBasedStateMachine):
    """One log on disk under everything that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="latentlog-machine-"))
        self.path = self.folder / "ledger.sqlite"
        self.clock = Ticking()
        self.notes: list[bytes] = []
        self.saved: tuple[Path, int] | None = None
        self.numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        shutil.copy(template(), self.path)
        self.open()
        self.bodies = [logged.body for logged in self.log.entries()]
        self.notes.append(self.log.checkpoint().note)
        self.high, self.pending = FIRST, list(range(FIRST))

    def open(self) -> None:
        self.store = FailingStore(SqlStore.open(f"sqlite:///{self.path}"))
        self.log = Log(
            self.store,
            origin=ORIGIN,
            signer=LOG_KEY,
            clock=self.clock,
            continuity=Continuity(self.folder / "published.note", VERIFIER),
        )

    # Steps.

    @rule(count=st.integers(1, 300))
    def reserve(self, count: int) -> None:
        if self.append([make_reservation(self.high, count)]):
            self.pending += range(self.high, self.high + count)
            self.high += count

    @precondition(lambda self: self.pending)
    @rule(count=st.integers(1, 256))
    def seal(self, count: int) -> None:
        taken = self.pending[:count]
        if self.append([make_generation(counter) for counter in taken]):
            self.pending = self.pending[len(taken) :]

    @precondition(lambda self: self.pending)
    @rule()
    def abandon(self) -> None:
        counter = self.pending[-1]
        if self.append([Abandoned(epoch=0, first=counter, count=1, reason="failed")]):
            self.pending.pop()

    @rule()
    def publish(self) -> None:
        try:
            note = self.log.publish()
        except StorageUnavailable:
            note = self.log.checkpoint().note
        self.notes.append(note)

    @rule(step=st.sampled_from(WRITE_STEPS))
    def fail_next(self, step: str) -> None:
        self.store.fail(step)

    @rule()
    def restart(self) -> None:
        """A new process: nothing is remembered but what is on disk."""
        self.store.close()
        self.open()

    @rule()
    def copy_aside(self) -> None:
        path = self.folder / f"saved-{next(self.numbers)}"
        self.store.close()
        shutil.copy(self.path, path)
        self.saved = path, len(self.bodies)
        self.open()

    @precondition(lambda self: self.saved and self.saved[1] < self.published())
    @rule()
    def roll_back(self) -> None:
        """Somebody puts an old copy back, tries to go on, and puts the right one back."""
        assert self.saved is not None
        self.store.close()
        right = self.path.rename(self.folder / "right")
        shutil.copy(self.saved[0], self.path)
        self.open()
        for attempt in (
            lambda: self.log.append([make_reservation(self.high, 1)], RECORDER),
            self.log.publish,
        ):
            with pytest.raises(CheckpointAhead):
                attempt()
        assert self.log.size == self.saved[1]
        self.store.close()
        right.rename(self.path)
        self.open()

    # What must hold.

    @invariant()
    def the_entries_are_there_and_no_others(self) -> None:
        assert [logged.body for logged in self.log.entries()] == self.bodies

    @invariant()
    def the_newest_note_covers_what_was_given_out(self) -> None:
        newest = verify_checkpoint(self.notes[-1], VERIFIER, ORIGIN).checkpoint
        assert newest.root == root_of([leaf_hash(body) for body in self.bodies[: newest.size]])
        assert newest.size >= self.published()

    def teardown(self) -> None:
        try:
            for note in set(self.notes):
                tree = verify_checkpoint(note, VERIFIER, ORIGIN).checkpoint
                assert tree.root == root_of([leaf_hash(body) for body in self.bodies[: tree.size]])
            audit(self.log).require_clean()
        finally:
            self.store.close()
            shutil.rmtree(self.folder)

    # Inner workings.

    def published(self) -> int:
        return max(verify_checkpoint(n, VERIFIER, ORIGIN).checkpoint.size for n in self.notes)

    def append(self, entries: Sequence[Entry], sealer: Sealer = RECORDER) -> bool:
        """Append; after a failure look whether it persisted, as a recorder does."""
        return self.attempt(lambda: self.log.append(entries, sealer), len(entries) + 1)

    def attempt(self, step: Callable[[], object], length: int) -> bool:
        before = len(self.bodies)
        try:
            step()
            assert self.log.size == before + length
        except StorageUnavailable:
            assert self.log.size in (before, before + length)
        self.bodies += [logged.body for logged in self.log.entries(before)]
        return len(self.bodies) > before


def test_the_log_survives_any_order_of_events() -> None:
    run_state_machine_as_test(
        LogMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
