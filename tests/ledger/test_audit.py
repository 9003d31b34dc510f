"""The audit names the row that does not hold, whatever was done to the database."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from latentlog.ledger import log as log_module
from latentlog.ledger import problems
from latentlog.ledger.audit import AuditReport, audit
from latentlog.ledger.batch import Draft, Sealer, row_of, seal_batch
from latentlog.ledger.checkpoint import Checkpoint, sign_checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    Abandoned,
    CalibrationEntry,
    Entry,
    EpochClose,
    EpochOpen,
    Generation,
    RecorderEntry,
    Reservation,
    Seal,
)
from latentlog.ledger.epochs import derive_epoch_key, open_epoch
from latentlog.ledger.errors import AuditFailed
from latentlog.ledger.home import Home, open_log, open_vault
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.keystream import EpochKey
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import Frontier, leaf_hash
from latentlog.ledger.note import NoteSigner
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.registry import add_recorder, retire_recorder
from latentlog.ledger.storage import CheckpointRow, Head
from latentlog.ledger.store import memory
from latentlog.ledger.store.memory import MemoryStore
from tests.builders import (
    LOG_KEY,
    MASTER,
    ORIGIN,
    RECORDER,
    RECORDER_KEY,
    digest,
    make_generation,
    make_home,
    make_log,
    make_model,
    make_recording_log,
    make_reservation,
    repeating,
)
from tests.databases import tampering


def codes(report: AuditReport) -> dict[str, int]:
    """Return the first index of each kind of problem."""
    found: dict[str, int] = {}
    for problem in report.problems:
        found.setdefault(problem.code, problem.index)
    return found


# A log of two epochs, 300 sealed generations with openings, more than one tile, on disk.


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_home(tmp_path_factory.mktemp("template") / "home")
    with Recorder.open("faces", home=home, block=320) as recorder:
        recorder.seal(recorder.draw(300), conditioning={"prompt": "a face"})
    with closing(open_log(home)) as log:
        log.publish()
        document = log.add_document(b"the calibration")
        log.append(
            [
                CalibrationEntry(
                    model_digest=make_model().digest,
                    document=document,
                    profile="quick",
                    beta=0.05,
                    pipeline="0.1.0",
                    made="here",
                )
            ]
        )
        log.publish()
    return home.path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    shutil.copytree(template, tmp_path / "home")
    return Home.open(tmp_path / "home")


@pytest.fixture
def log(home: Home) -> Iterator[Log]:
    with closing(open_log(home)) as opened:
        yield opened


def full_audit(home: Home) -> AuditReport:
    with closing(open_log(home)) as log, closing(open_vault(home)) as vault:
        keys = {0: derive_epoch_key(log, home.master_key(), 0)}
        return audit(log, epoch_keys=keys, vault=vault)


def test_an_untouched_log_is_clean_and_counted(home: Home, log: Log) -> None:
    done: list[tuple[int, int]] = []
    report = audit(log, on_progress=lambda at, size: done.append((at, size)))
    report.require_clean()
    assert report.entries == log.size
    assert report.seals == len(list(log.entries(kind="seal")))
    assert (report.checkpoints, report.epochs, report.openings) == (4, 1, 0)
    assert done[-1] == (log.size, log.size)
    assert [at for at, _ in done] == sorted({at for at, _ in done})
    full = full_audit(home)
    full.require_clean()
    assert full.openings == 300


# Which row is named when one byte of one column is flipped. The log's entries: 0 recorder, 2 model,
# 4 epoch-open, 6 reservation, 8 … 263 generations, 264 seal, 265 … 308, 309 seal, 310 abandoned, …
FLIPS = {
    ("entries", "body", 100): ("altered_row", 100),
    ("entries", "leaf_hash", 100): ("altered_row", 100),
    ("entries", "body", 290): ("altered_row", 290),
    ("entries", "body", 264): ("altered_row", 264),
    ("tiles", "hashes", 0): ("wrong_tile", 0),
    ("tiles", "root", 0): ("wrong_tile", 0),
    ("checkpoints", "note", 6): ("bad_checkpoint", 6),
    ("head", "frontier", None): ("wrong_head", 314),
    ("openings", "blob", 100): ("wrong_opening", 100),
    ("documents", "body", None): ("wrong_document", 312),
}


@pytest.mark.parametrize("place", FLIPS, ids=lambda p: f"{p[0]}.{p[1]}-{p[2]}")
def test_a_flipped_byte_is_found_and_its_row_named(
    home: Home, place: tuple[str, str, int | None]
) -> None:
    table, column, row = place
    key = {"checkpoints": "size"}.get(table, '"index"')
    where = "" if row is None else f" WHERE {key} = {row}"
    with tampering(home.database_url) as connection:
        content = bytearray(connection.scalar(sa.text(f"SELECT {column} FROM {table}{where}")))
        content[len(content) // 2] ^= 1
        connection.execute(
            sa.text(f"UPDATE {table} SET {column} = :content{where}"), {"content": bytes(content)}
        )
    report = full_audit(home)
    code, index = FLIPS[place]
    if table == "openings":
        # The flipped blob is not the one its key is filed under.
        assert codes(report) == {"missing_record_key": index}
    else:
        assert codes(report)[code] == index
    with pytest.raises(AuditFailed) as caught:
        report.require_clean()
    assert caught.value.kind == "integrity"
    if table == "entries":
        assert f"entry {index}" in caught.value.message


@pytest.mark.parametrize("index", [4, 6, 100, 264, 310, 312])
def test_a_row_that_is_no_entry_any_more_is_named(home: Home, index: int) -> None:
    tamper(home, f"UPDATE entries SET body = x'7b7d' WHERE \"index\" = {index}")
    found = codes(full_audit(home) if index != 4 else keyless_audit(home))
    assert found["altered_row"] == found["malformed_entry"] == index


def keyless_audit(home: Home) -> AuditReport:
    with closing(open_log(home)) as log, closing(open_vault(home)) as vault:
        return audit(log, vault=vault)


def test_a_value_of_another_type_is_an_integrity_error(home: Home) -> None:
    tamper(home, "UPDATE entries SET body = 'text' WHERE \"index\" = 100")
    with pytest.raises(AuditFailed, match="another type"):
        full_audit(home)


COLUMNS = {
    "kind": "'recorder'",
    "epoch": "5",
    "counter": "99999",
    "length": "2",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_lies_about_its_body_is_named(home: Home, column: str) -> None:
    tamper(home, f'UPDATE entries SET {column} = {COLUMNS[column]} WHERE "index" = 100')
    assert codes(full_audit(home))["wrong_columns"] == 100


@pytest.mark.parametrize("index", [0, 100, 264, 300, 313])
def test_a_missing_row_is_named(home: Home, index: int) -> None:
    tamper(home, f'DELETE FROM entries WHERE "index" = {index}')
    report = full_audit(home)
    assert codes(report)["missing_row"] == index
    with pytest.raises(AuditFailed, match=f"entry {index}:"):
        report.require_clean()


def test_missing_tiles_checkpoints_openings_and_documents_are_named(home: Home) -> None:
    tamper(
        home,
        "DELETE FROM tiles",
        "DELETE FROM checkpoints WHERE size = 314",
        'DELETE FROM openings WHERE "index" = 9',
        "DELETE FROM documents",
    )
    found = codes(full_audit(home))
    assert found == {
        "missing_tile": 0,
        "wrong_head": 314,
        "missing_opening": 9,
        "wrong_document": 312,
    }


def test_a_truncated_log_contradicts_its_checkpoints(home: Home, log: Log) -> None:
    """Everything after the first checkpoint is removed, and the head row set back to fit."""
    first = make_log()
    for at in (0, 2, 4):
        first.append([log.entry(at).entry])
    tamper(
        home,
        'DELETE FROM openings WHERE "index" >= 6',
        'DELETE FROM entries WHERE "index" >= 6',
        "DELETE FROM tiles",
        "UPDATE head SET size = 6, published = 6",
    )
    found = codes(full_audit(home))
    assert "wrong_head" in found
    assert found["missing_row"] == 6


def test_rows_past_the_head_are_named(home: Home) -> None:
    tamper(
        home,
        "UPDATE head SET size = 310, published = 6",
    )
    assert codes(full_audit(home))["row_past_head"] == 310


def test_a_rewritten_row_is_named_although_its_hash_was_rewritten_too(home: Home) -> None:
    """Body and leaf hash agree; the tile, the seal and the checkpoint do not."""
    body = make_generation(92).encode()
    with tampering(home.database_url) as connection:
        connection.execute(
            sa.text('UPDATE entries SET body = :body, leaf_hash = :leaf WHERE "index" = 100'),
            {"body": body, "leaf": bytes(leaf_hash(body))},
        )
    found = codes(full_audit(home))
    assert found["altered_row"] == 100
    assert found["altered_batch"] == 8
    assert found["forked_checkpoint"] == 312
    assert found["wrong_latent"] == 100


def tamper(home: Home, *statements: str) -> None:
    with tampering(home.database_url) as connection:
        connection.execute(sa.text("DROP INDEX uq_entries_epoch_kind_counter"))
        for statement in statements:
            connection.execute(sa.text(statement))


# Logs whose operator or recorder lies, hashed and sealed as they should be.


class Lying(Log):
    """A log that seals whatever it is given, by whoever wants to."""

    def require_sealer(self, reader: object, sealer: object) -> None:
        pass


@pytest.fixture
def lying() -> Lying:
    """A recording log over a store without constraints."""
    log = make_recording_log(Lax(), reserved=16)
    return Lying(log.store, origin=ORIGIN, signer=LOG_KEY, clock=log.clock)


class Lax(MemoryStore):
    """A store whose unique indexes were dropped."""


@pytest.fixture(autouse=True)
def _without_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_identity", lambda row: row.index)


def keyed(log: Log) -> dict[int, EpochKey]:
    return {0: derive_epoch_key(log, MASTER, 0)}


LIES: dict[str, tuple[list[Entry], str]] = {
    "a counter sealed twice": ([make_generation(1), make_generation(1)], "duplicate_counter"),
    "a counter never reserved": ([make_generation(16)], "not_reserved"),
    "a hole in the reservations": ([make_reservation(20, 4)], "gap"),
    "a counter reserved twice": ([make_reservation(8, 16)], "reserved_twice"),
    "a reservation after its use": (
        [make_generation(16), make_reservation(16, 4)],
        "used_before_reserved",
    ),
    "sealed and then abandoned": (
        [make_generation(2), Abandoned(epoch=0, first=0, count=4, reason="crashed")],
        "abandoned_after_sealing",
    ),
    "abandoned twice": (
        [
            Abandoned(epoch=0, first=0, count=4, reason="crashed"),
            Abandoned(epoch=0, first=2, count=4, reason="crashed"),
        ],
        "abandoned_twice",
    ),
    "sealed late, not marked": (
        [Abandoned(epoch=0, first=0, count=4, reason="crashed"), make_generation(2)],
        "not_marked_late",
    ),
    "marked late without reason": ([make_generation(2, late=True)], "late_without_abandonment"),
    "a closed epoch with counters open": ([EpochClose(epoch=0, high_water=16)], "unaccounted"),
    "a wrong high water": (
        [
            Abandoned(epoch=0, first=0, count=16, reason="epoch_closed"),
            EpochClose(epoch=0, high_water=20),
        ],
        "wrong_high_water",
    ),
    "a reservation after the close": (
        [
            Abandoned(epoch=0, first=0, count=16, reason="epoch_closed"),
            EpochClose(epoch=0, high_water=18),
            make_reservation(16, 2),
        ],
        "reserved_after_close",
    ),
    "an epoch closed twice": (
        [
            Abandoned(epoch=0, first=0, count=16, reason="epoch_closed"),
            EpochClose(epoch=0, high_water=16),
            EpochClose(epoch=0, high_water=16),
        ],
        "wrong_epoch_close",
    ),
    "a generation of no epoch": ([make_generation(0, epoch=7)], "unknown_epoch"),
    "an epoch out of turn": (
        [
            EpochOpen(
                epoch=5,
                model="faces",
                model_digest=make_model().digest,
                dim=8,
                salt=bytes(32),
                commitment=digest("k"),
            )
        ],
        "wrong_epoch_number",
    ),
    "an epoch of another model": (
        [
            EpochOpen(
                epoch=1,
                model="faces",
                model_digest=digest("swapped"),
                dim=8,
                salt=bytes(32),
                commitment=digest("k"),
            )
        ],
        "wrong_model",
    ),
    "a model registered again": ([make_model(digest=digest("swapped"))], "duplicate_model"),
    "a model under another name": (
        [make_model("other", digest=make_model().digest)],
        "duplicate_model",
    ),
    "rules that are not stored": (
        [
            CalibrationEntry(
                model_digest=make_model().digest,
                document=digest("nowhere"),
                profile="quick",
                beta=0.05,
                pipeline="0.1.0",
                made="here",
            )
        ],
        "wrong_document",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_entry_that_breaks_the_rules_is_named(lying: Lying, lie: str) -> None:
    entries, code = LIES[lie]
    first = lying.append(entries).first
    found = codes(audit(lying))
    assert code in found
    assert first <= found[code] < first + len(entries)


def test_a_late_generation_after_an_abandonment_is_as_it_should_be(lying: Lying) -> None:
    lying.append([Abandoned(epoch=0, first=0, count=4, reason="crashed")])
    lying.append([make_generation(2, late=True), make_generation(5)], RECORDER)
    audit(lying).require_clean()


def test_a_latent_from_elsewhere_is_named(lying: Lying) -> None:
    """The recorder sealed a latent that the epoch key does not give."""
    index = lying.append([make_generation(3)], RECORDER).first
    assert codes(audit(lying, epoch_keys=keyed(lying))) == {"wrong_latent": index}
    audit(lying).require_clean()


def test_another_epoch_key_is_named(lying: Lying) -> None:
    other = open_epoch(make_recording_log(), MASTER, "faces", repeating("other")).epoch
    assert other == 1
    report = audit(lying, epoch_keys={0: EpochKey(bytes(32))})
    assert codes(report) == {"wrong_epoch_key": 4}


def test_seals_by_strangers_and_the_retired_are_named(lying: Lying) -> None:
    stranger = SigningKey(bytes([9]) * 32)
    cases: list[tuple[Callable[[], int], str]] = [
        (lambda: seal_of(lying, Sealer("nobody", stranger)), "unknown_recorder"),
        (lambda: seal_of(lying, Sealer("local", stranger)), "wrong_seal_key"),
        (lambda: seal_of(lying, Sealer("operator", stranger)), "wrong_seal_key"),
    ]
    for number, (append, code) in enumerate(cases):
        index = append()
        assert (index, code) in {(p.index, p.code) for p in audit(lying).problems}, number
    retire_recorder(lying, "local")
    index = lying.append([make_generation(9, late=True)], RECORDER).seal_index
    assert codes(audit(lying))["retired_recorder"] == index


def seal_of(log: Log, sealer: Sealer) -> int:
    counter = len(list(log.entries(kind="generation")))
    return log.append([make_generation(counter)], sealer).seal_index


def test_a_recorder_seals_for_itself_only(lying: Lying) -> None:
    reservation = Reservation(epoch=0, recorder="other", lease=bytes(16), first=16, count=4)
    index = lying.append([reservation], RECORDER).seal_index
    assert codes(audit(lying))["wrong_signer"] == index


def test_a_recorder_does_not_seal_anothers_counters(lying: Lying) -> None:
    other = Sealer("other", SigningKey(bytes([5]) * 32))
    add_recorder(lying, other.name, other.key.public)
    index = lying.append([make_generation(3), make_generation(4)], other).seal_index
    assert codes(audit(lying)) == {"wrong_signer": index}


def test_an_operators_entry_sealed_by_a_recorder_is_named(
    lying: Lying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "RECORDER_KINDS", frozenset({"recorder"}))
    rogue = RecorderEntry(name="rogue", key=RECORDER_KEY.public, state="active")
    index = lying.append([rogue], RECORDER).seal_index
    assert codes(audit(lying))["wrong_signer"] == index


def test_a_seal_signed_for_another_batch_is_named(
    lying: Lying, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(
        sealer: Sealer, origin: str, first: int, leaves: list[Digest], time: datetime
    ) -> Seal:
        return seal_batch(sealer, origin, first + changes[0], leaves[changes[1] :], time)

    monkeypatch.setattr(log_module, "seal_batch", elsewhere)
    changes = (1, 1)
    index = lying.append([make_generation(0), make_generation(1)], RECORDER).first
    assert codes(audit(lying)) == {"unsealed": index}
    changes = (-1, 0)
    index = lying.append([make_generation(2)], RECORDER).seal_index
    assert codes(audit(lying))["wrong_seal"] == index


def test_entries_that_no_seal_follows_are_named(lying: Lying) -> None:
    with lying.store.write() as writer:
        old = writer.head()
        draft = Draft(make_generation(0))
        frontier = Frontier.decode(old.frontier)
        frontier.append(draft.leaf)
        writer.insert([row_of(old.size, draft)], [], [])
        writer.move_head(old, Head(frontier.size, frontier.encode(), old.published))
    assert codes(audit(lying)) == {"unsealed": old.size}


def test_a_forked_checkpoint_is_named(lying: Lying) -> None:
    """The operator signs a history that is not this one."""
    lying.append([make_generation(0)], RECORDER)
    with lying.store.write() as writer:
        old = writer.head()
        forked = Checkpoint(ORIGIN, old.size, digest("another history"))
        note = sign_checkpoint(forked, [NoteSigner(ORIGIN, LOG_KEY)])
        writer.add_checkpoint(CheckpointRow(old.size, note))
        writer.move_head(old, old._replace(published=old.size))
    assert codes(audit(lying)) == {"forked_checkpoint": old.size}


def test_a_malformed_entry_is_named(lying: Lying) -> None:
    class Rubbish:
        kind = "generation"
        placement = (0, 1, 1)

        def encode(self) -> bytes:
            return b'{"kind":"generation"}'

    class Loose(Draft):
        def __post_init__(self) -> None:
            object.__setattr__(self, "body", self.entry.encode())
            object.__setattr__(self, "leaf", leaf_hash(self.body))

    draft = Loose(Rubbish())  # type: ignore[arg-type]
    result = lying.append_built(lambda _: [draft], RECORDER)
    assert result is not None
    assert codes(audit(lying))["malformed_entry"] == result.first


def test_problems_are_counted_past_what_is_kept(
    lying: Lying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems, "PROBLEM_LIMIT", 3)
    lying.append([make_generation(n) for n in range(20, 30)], RECORDER)
    report = audit(lying)
    assert (len(report.problems), report.problems_found) == (3, 10)


def test_entries_appended_meanwhile_are_left_to_the_next_audit(lying: Lying) -> None:
    size = lying.size
    report = audit(lying, on_progress=lambda at, total: append_one(lying))
    report.require_clean()
    assert report.entries == size < lying.size
    audit(lying).require_clean()


def append_one(log: Log) -> None:
    counter = len(list(log.entries(kind="generation")))
    log.append([make_generation(counter)], RECORDER)
    log.publish()


def test_an_empty_log_is_clean() -> None:
    log = make_log()
    audit(log).require_clean()
    log.publish()
    report = audit(log)
    report.require_clean()
    assert (report.entries, report.checkpoints) == (0, 1)


def test_a_generation_without_late_in_its_text_is_decoded_as_such() -> None:
    """The audit looks for the bytes of the member; no name or value may look like it."""
    assert b'"late":true' in make_generation(0, late=True).encode()
    assert isinstance(make_generation(0), Generation)
    assert b'"late":true' not in make_generation(0).encode()
