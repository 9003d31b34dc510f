"""The outsider's audit: lying mirrors, lying operators, forks, and servers that misbehave."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from latentlog.ledger import tiles
from latentlog.ledger.audit import audit
from latentlog.ledger.batch import Sealer
from latentlog.ledger.checkpoint import (
    Checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from latentlog.ledger.entry import (
    Abandoned,
    CalibrationEntry,
    EpochClose,
    EpochOpen,
    RecorderEntry,
)
from latentlog.ledger.epochs import counter_totals, derive_epoch_key, epoch_states
from latentlog.ledger.errors import (
    AppendRefused,
    AuditFailed,
    BadSignature,
    ForkDetected,
    InvalidProof,
    LedgerError,
    MalformedNote,
    MalformedTile,
    NotASite,
    RollbackDetected,
    SiteUnreachable,
    StorageUnavailable,
    TileMissing,
    UnknownSigner,
    WrongOrigin,
)
from latentlog.ledger.fetch import site_fetch, url_fetch
from latentlog.ledger.home import open_log
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.note import NoteSigner
from latentlog.ledger.outsider import SiteReport, audit_site, read_checkpoint, verify_extension
from latentlog.ledger.publish import publish_site
from latentlog.ledger.published import published_log
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.store.scratch import ScratchRows
from latentlog.ledger.tiles import encode_bundle, folder_fetch
from tests.builders import (
    LOG_KEY,
    ORIGIN,
    RECORDER,
    RECORDER_KEY,
    digest,
    make_generation,
    make_home,
    make_model,
    make_recording_log,
    make_reservation,
)
from tests.ledger.sites import (
    IMPRINT,
    OPERATOR,
    SIGNER,
    VERIFIER,
    Scripted,
    StaticLog,
    fetch_from,
    files_of,
    grow,
    make_site,
    served,
)


def begun(*, reserved: int = 4096) -> StaticLog:
    """Return a log that was begun by the rules: recorder, model, epoch, reservation."""
    log = StaticLog()
    log.batch([RecorderEntry(name="local", key=RECORDER_KEY.public, state="active")])
    log.batch([make_model()])
    model = make_model()
    opened = EpochOpen(
        epoch=0,
        model=model.name,
        model_digest=model.digest,
        dim=model.dim,
        salt=bytes(32),
        commitment=digest("epoch key"),
    )
    log.batch([opened])
    log.batch([make_reservation(0, reserved)], RECORDER)
    return log


@cache
def honest() -> StaticLog:
    """A log of 712 entries: two full tiles, a partial one, and their parent."""
    log = begun()
    for first in range(0, 700, 100):
        log.batch([make_generation(n) for n in range(first, first + 100)], RECORDER)
    return log


def audited(log: StaticLog, **options: object) -> SiteReport:
    return audit_site(fetch_from(log.files()), VERIFIER, **options)  # type: ignore[arg-type]


# Honest logs.


def test_an_outsider_finds_what_the_operator_finds(tmp_path: Path) -> None:
    log = make_site(tmp_path)
    inside = audit(log)
    with served(tmp_path) as address:
        reports = [audit_site(site_fetch(place), VERIFIER) for place in (tmp_path, address)]
    for report in reports:
        report.require_clean()
        assert report.checkpoint == log.checkpoint()
        assert (report.audit.entries, report.audit.seals, report.audit.epochs) == (
            inside.entries,
            inside.seals,
            inside.epochs,
        )
        assert report.sealed is not None
        assert abs(report.sealed - log.clock()).total_seconds() < 60
        assert report.documents == 0


@pytest.mark.parametrize("size", [0, 1, 2])
def test_the_smallest_logs(size: int) -> None:
    log = StaticLog()
    if size:
        log.batch([make_model(f"m{n}") for n in range(size)])
    report = audited(log)
    report.require_clean()
    assert report.audit.entries == log.size
    assert (report.sealed is None) == (size == 0)


def test_a_published_log_reads_as_a_database_does(tmp_path: Path) -> None:
    log = make_site(tmp_path)
    with published_log(folder_fetch(tmp_path), log.checkpoint(), VERIFIER) as stranger:
        assert stranger.size == log.size
        assert list(stranger.entries()) == list(log.entries())
        assert list(stranger.entries(kind="seal")) == list(log.entries(kind="seal"))
        assert list(stranger.entries(600, epoch=0)) == list(log.entries(600, epoch=0))
        assert epoch_states(stranger) == epoch_states(log)
        assert counter_totals(stranger, 0) == counter_totals(log, 0)
        for index in (0, 255, 256, 511, 512, log.size - 2):
            assert stranger.entry(index) == log.entry(index)
            assert stranger.prove(index) == log.prove(index)
        assert stranger.batch_of(300) == log.batch_of(300)
        assert stranger.prove_consistency(300) == log.prove_consistency(300)
        for write in (stranger.publish, lambda: stranger.append([make_model("x")], OPERATOR)):
            with pytest.raises(AppendRefused):
                write()


def test_documents_stay_with_the_operator(tmp_path: Path) -> None:
    log = make_recording_log()
    calibration = CalibrationEntry(
        model_digest=make_model().digest,
        document=log.add_document(b"scores"),
        profile="quick",
        beta=0.05,
        pipeline="0.1.0",
        made="here",
    )
    log.append([calibration])
    log.publish()
    publish_site(log, tmp_path, IMPRINT)
    report = audit_site(folder_fetch(tmp_path), VERIFIER)
    report.require_clean()
    assert (report.documents, report.audit.problems_found) == (1, 0)
    assert b"scores" not in b"".join(files_of(tmp_path).values())


def test_a_flood_of_documents_hides_nothing() -> None:
    log = begun()
    for _ in range(5):
        log.batch(
            [
                CalibrationEntry(
                    model_digest=make_model().digest,
                    document=digest(n),
                    profile="quick",
                    beta=0.05,
                    pipeline="0.1.0",
                    made="here",
                )
                for n in range(250)
            ]
        )
    log.add(make_model("unsealed").encode())
    with pytest.raises(AuditFailed):
        audited(log).require_clean()


def test_whoever_was_shown_an_epoch_key_checks_every_latent(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    with Recorder.open("faces", home=home) as recorder:
        recorder.seal(recorder.draw(20))
    with closing(open_log(home)) as log:
        log.publish()
        publish_site(log, tmp_path / "site", IMPRINT)
        keys = {0: derive_epoch_key(log, home.master_key(), 0)}
        verifier = log.verifier
    fetch = folder_fetch(tmp_path / "site")
    audit_site(fetch, verifier, epoch_keys=keys).require_clean()
    other = make_home(tmp_path / "other")
    with closing(open_log(other)) as log:
        wrong = {0: derive_epoch_key(log, other.master_key(), 0)}
    found = {p.code for p in audit_site(fetch, verifier, epoch_keys=wrong).audit.problems}
    assert found == {"wrong_epoch_key", "wrong_latent"}


def test_progress_counts_entries() -> None:
    seen: list[tuple[int, int]] = []
    audited(honest(), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 715), (512, 715), (715, 715)]


# Lying mirrors.


def places(content: bytes) -> Iterator[int]:
    """Some byte positions: the ends, and every kind between them."""
    step = max(1, len(content) // 7)
    yield from {0, 1, 2, len(content) - 1, *range(0, len(content), step)}


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def test_a_flipped_byte_anywhere_is_refused() -> None:
    files = honest().files()
    assert len(files) == 8
    for path, content in files.items():
        for at in places(content):
            served_files = {**files, path: flipped(content, at, at % 8)}
            with pytest.raises(LedgerError) as found:
                audit_site(fetch_from(served_files), VERIFIER)
            assert found.value.kind in ("integrity", "input", "untrusted"), path


def test_every_byte_of_a_checkpoint_counts() -> None:
    note = honest().checkpoint().note
    for at in range(len(note)):
        for bit in range(8):
            fetch = fetch_from({"checkpoint": flipped(note, at, bit)})
            with pytest.raises((MalformedNote, BadSignature, UnknownSigner)):
                read_checkpoint(fetch, VERIFIER)


def test_a_missing_file_is_named() -> None:
    files = honest().files()
    for path in files:
        fetch = fetch_from({p: content for p, content in files.items() if p != path})
        error = NotASite if path == "checkpoint" else TileMissing
        with pytest.raises(error, match=path):
            audit_site(fetch, VERIFIER)


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 63])
def test_a_truncated_or_padded_file_is_refused(cut: int) -> None:
    files = honest().files()
    for path, content in files.items():
        if path == "checkpoint":
            continue
        for wrong in (content[:cut], content + bytes(cut + 1)):
            with pytest.raises((MalformedTile, InvalidProof)):
                audit_site(fetch_from({**files, path: wrong}), VERIFIER)


def test_a_partial_tile_that_lies_is_refused_though_it_fits_its_entries() -> None:
    """A mirror can make a tile and its entries agree with each other, not with the root."""
    log, other = honest(), begun()
    for first in range(0, 700, 100):
        other.batch([make_generation(n + 1) for n in range(first, first + 100)], RECORDER)
    files, lies = log.files(), other.files()
    for paths in (
        ("tile/0/002.p/203", "tile/entries/002.p/203"),
        ("tile/0/000", "tile/entries/000"),
        ("tile/0/000", "tile/entries/000", "tile/1/000.p/2"),
        ("tile/1/000.p/2",),
    ):
        with pytest.raises(InvalidProof):
            audit_site(fetch_from({**files, **{path: lies[path] for path in paths}}), VERIFIER)


def test_a_full_tile_stands_in_for_a_partial_one_only_if_it_holds_the_same() -> None:
    log, later = honest(), begun()
    for first in range(0, 1000, 100):
        later.batch([make_generation(n) for n in range(first, first + 100)], RECORDER)
    files = {p: c for p, c in log.files().items() if ".p/" not in p or p.startswith("tile/1")}
    full = later.files()
    stand_in = {path: full[path] for path in ("tile/0/002", "tile/entries/002")}
    audit_site(fetch_from({**files, **stand_in}), VERIFIER).require_clean()
    for path, content in stand_in.items():
        lying = {**stand_in, path: flipped(content, 40, 0)}
        with pytest.raises(InvalidProof):
            audit_site(fetch_from({**files, **lying}), VERIFIER)


def test_reordered_entries_are_refused() -> None:
    files, bodies = honest().files(), list(honest().bodies)
    bodies[10], bodies[11] = bodies[11], bodies[10]
    files["tile/entries/000"] = encode_bundle(bodies[:256])
    with pytest.raises(InvalidProof, match="tile/entries/000"):
        audit_site(fetch_from(files), VERIFIER)


def test_a_size_beyond_all_files_is_refused_at_once() -> None:
    """A signed size of 2^62 must not make the reader count to it."""
    tree = Checkpoint(ORIGIN, (1 << 62) + 12345, digest("root"))
    note = sign_checkpoint(tree, [SIGNER])
    with pytest.raises(TileMissing):
        audit_site(fetch_from({**honest().files(), "checkpoint": note}), VERIFIER)


def test_a_folder_of_odd_things_is_refused(tmp_path: Path) -> None:
    honest().write(tmp_path)
    path = tmp_path / "tile/0/000"
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageUnavailable, match="tile/0/000"):
        audit_site(folder_fetch(tmp_path), VERIFIER)
    with pytest.raises(NotASite, match="no file called checkpoint"):
        audit_site(folder_fetch(tmp_path / "tile"), VERIFIER)


# Checkpoints: whose, and of which history.


def test_the_key_comes_from_elsewhere() -> None:
    stranger = NoteSigner(ORIGIN, SigningKey(bytes([9]) * 32)).verifier
    with pytest.raises(UnknownSigner):
        audit_site(fetch_from(honest().files()), stranger)
    renamed = NoteSigner("example.com/other", LOG_KEY)
    note = sign_checkpoint(honest().checkpoint().checkpoint, [renamed])
    with pytest.raises(WrongOrigin):
        audit_site(fetch_from({**honest().files(), "checkpoint": note}), renamed.verifier)


def forked(first: int, count: int = 700) -> StaticLog:
    """Return a log that is as the honest one up to some counter, and differs from there on."""
    log = begun()
    for start in range(0, count, 100):
        shift = 0 if start < first else 5000
        log.batch([make_generation(n + shift) for n in range(start, start + 100)], RECORDER)
    return log


@pytest.mark.parametrize("older", [200, 300, 500, 700])
def test_an_extension_is_recomputed_from_the_tiles(older: int) -> None:
    since = forked(10_000, older).checkpoint()
    report = audited(honest(), since=since)
    report.require_clean()
    assert report.since == since.checkpoint


def test_an_empty_log_is_extended_by_every_other() -> None:
    audited(honest(), since=StaticLog().checkpoint()).require_clean()


@pytest.mark.parametrize("differs", [0, 200, 600])
def test_a_fork_is_refused_wherever_it_began(differs: int) -> None:
    """Both histories are signed and sealed by the rules: only the older checkpoint tells."""
    since = forked(10_000).checkpoint()
    for count in (700, 800):
        other = forked(differs, count)
        with pytest.raises(ForkDetected, match="another history") as fork:
            audited(other, since=since)
        assert fork.value.expected == f"root {since.checkpoint.root.hex()}"


def test_a_smaller_tree_is_refused_even_if_it_is_a_prefix() -> None:
    with pytest.raises(RollbackDetected, match="fewer entries") as rollback:
        audited(forked(10_000, 600), since=honest().checkpoint())
    assert rollback.value.got == "614 entries"


def test_a_fork_is_found_with_a_few_tiles() -> None:
    asked: list[str] = []
    files = honest().files()

    def fetch(path: str, limit: int) -> bytes | None:
        asked.append(path)
        return files.get(path)

    verify_extension(fetch, forked(10_000, 500).checkpoint(), honest().checkpoint())
    assert len(asked) <= 4
    assert not [path for path in asked if "entries" in path]


def test_checkpoints_of_two_logs_are_not_compared() -> None:
    other = NoteSigner("example.com/other", LOG_KEY)
    tree = Checkpoint("example.com/other", 1, digest("root"))
    since = verify_checkpoint(sign_checkpoint(tree, [other]), other.verifier, tree.origin)
    with pytest.raises(WrongOrigin):
        audited(honest(), since=since)


def test_the_checkpoint_in_hand_is_audited_not_the_one_that_came_later() -> None:
    files = {**forked(10_000, 500).files(), **honest().files()}
    older = forked(10_000, 500).checkpoint()
    report = audit_site(fetch_from(files), VERIFIER, checkpoint=older)
    report.require_clean()
    assert report.audit.entries == older.checkpoint.size == 513


# Lying operators: everything is signed, and wrong by the rules.


def problems(log: StaticLog) -> list[tuple[int, str]]:
    report = audited(log)
    if report.audit.problems:
        with pytest.raises(AuditFailed):
            report.require_clean()
    return [(problem.index, problem.code) for problem in report.audit.problems]


def lie(change: Callable[[StaticLog], int]) -> tuple[list[tuple[int, str]], int]:
    log = begun()
    log.batch([make_generation(n) for n in range(5)], RECORDER)
    at = change(log)
    return problems(log), at


STRANGER = Sealer("local", SigningKey(bytes([7]) * 32))
RETIRED = RecorderEntry(name="local", key=RECORDER_KEY.public, state="retired")


@pytest.mark.parametrize(
    ("code", "offset", "change"),
    [
        ("duplicate_counter", 0, lambda g: g.batch([make_generation(3)], RECORDER)),
        ("not_reserved", 0, lambda g: g.batch([make_generation(4096)], RECORDER)),
        (
            "late_without_abandonment",
            0,
            lambda g: g.batch([make_generation(9, late=True)], RECORDER),
        ),
        ("unsealed", 0, lambda g: g.add(make_generation(9).encode())),
        ("bad_seal", 1, lambda g: g.batch([make_generation(9)], RECORDER, signature=bytes(64))),
        ("altered_batch", 0, lambda g: g.batch([make_generation(9)], RECORDER, root=digest(0))),
        ("wrong_seal_key", 1, lambda g: g.batch([make_generation(9)], STRANGER)),
        ("unknown_recorder", 1, lambda g: g.batch([make_generation(9)], Sealer("x", LOG_KEY))),
        ("wrong_seal", 1, lambda g: g.batch([make_generation(9)], RECORDER, count=2)),
        ("wrong_signer", 1, lambda g: g.batch([make_model("other")], RECORDER)),
        ("wrong_epoch_close", 0, lambda g: g.batch([EpochClose(epoch=3, high_water=0)])),
        ("duplicate_model", 0, lambda g: g.batch([make_model()])),
        ("malformed_entry", 0, lambda g: g.add(b'{"kind":"generation","v":0}')),
        ("reserved_twice", 0, lambda g: g.batch([make_reservation(4000, 200)], RECORDER)),
        ("gap", 0, lambda g: g.batch([make_reservation(5000, 10)], RECORDER)),
    ],
)
def test_what_breaks_the_rules_is_reported_where_it_is(
    code: str, offset: int, change: Callable[[StaticLog], int]
) -> None:
    found, at = lie(change)
    assert (at + offset, code) in found


def test_a_retired_recorder_seals_nothing_more() -> None:
    def change(log: StaticLog) -> int:
        log.batch([RETIRED])
        return log.batch([make_generation(9)], RECORDER)

    found, at = lie(change)
    assert found == [(at + 1, "retired_recorder")]


def test_a_counter_is_abandoned_then_sealed_late_once() -> None:
    def change(log: StaticLog) -> int:
        log.batch([Abandoned(epoch=0, first=5, count=4091, reason="crashed")], RECORDER)
        log.batch([make_generation(9, late=True)], RECORDER)
        log.batch([EpochClose(epoch=0, high_water=4096)])
        return log.size

    found, at = lie(change)
    assert found == []

    def again(log: StaticLog) -> int:
        change(log)
        return log.batch([make_generation(9, late=True)], RECORDER)

    found, at = lie(again)
    assert found == [(at, "duplicate_counter")]


def test_a_seal_for_another_log_is_no_seal_here() -> None:
    log = make_recording_log()
    elsewhere = StaticLog()
    elsewhere.add(*(entry.body for entry in log.entries()))
    assert problems(elsewhere) == []
    renamed = NoteSigner("example.com/other", LOG_KEY)
    tree = Checkpoint("example.com/other", elsewhere.size, elsewhere.checkpoint().checkpoint.root)
    files = {**elsewhere.files(), "checkpoint": sign_checkpoint(tree, [renamed])}
    report = audit_site(fetch_from(files), renamed.verifier)
    assert {problem.code for problem in report.audit.problems} == {"bad_seal"}


# Servers.


def test_a_slow_server_is_given_up(tmp_path: Path) -> None:
    honest().write(tmp_path)

    class Slow(Scripted):
        def answer(self) -> None:
            content = (tmp_path / self.path.lstrip("/")).read_bytes()
            self.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n")
            if "entries" not in self.path:
                self.send(content)
                return
            for at in range(len(content)):
                self.send(content[at : at + 1])
                time.sleep(0.02)

    with served(Slow) as address:
        fetch = url_fetch(address, seconds=1.0, attempts=1)
        assert read_checkpoint(fetch, VERIFIER) == honest().checkpoint()
        with pytest.raises(SiteUnreachable, match="tile/entries"):
            audit_site(fetch, VERIFIER)


def test_an_oversized_file_is_refused_without_being_read() -> None:
    class Large(Scripted):
        def answer(self) -> None:
            self.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")

    with served(Large) as address, pytest.raises(MalformedTile, match="checkpoint is too large"):
        audit_site(url_fetch(address, attempts=1), VERIFIER)


def test_a_server_without_a_log_says_so(tmp_path: Path) -> None:
    with served(tmp_path) as address, pytest.raises(NotASite, match="no published log"):
        audit_site(url_fetch(address), VERIFIER)


def test_an_audit_while_the_site_grows_is_of_one_tree(tmp_path: Path) -> None:
    log = make_site(tmp_path, 300)
    before = log.checkpoint()
    counter = iter(range(300, 4000, 100))

    def publish_more(done: int, total: int) -> None:
        grow(log, 100, first=next(counter))
        publish_site(log, tmp_path, IMPRINT)

    report = audit_site(folder_fetch(tmp_path), VERIFIER, on_progress=publish_more)
    report.require_clean()
    assert report.checkpoint == before
    assert read_checkpoint(folder_fetch(tmp_path), VERIFIER).checkpoint.size > report.audit.entries


# Memory.


def peak_of_audit(log: StaticLog, folder: Path) -> int:
    log.write(folder)
    gc.collect()
    tracemalloc.start()
    try:
        audit_site(folder_fetch(folder), VERIFIER).require_clean()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "CACHE_TILES", 2)
    # Both longer than the pages in which counters are read, two of which may be alive at once.
    small, large = begun(reserved=6000), begun(reserved=6000)
    for first in range(0, 6000, 250):
        for log in (small, large) if first < 2500 else (large,):
            log.batch([make_generation(n) for n in range(first, first + 250)], RECORDER)
    peak_of_audit(begun(), tmp_path / "first time")
    grown = peak_of_audit(large, tmp_path / "large") - peak_of_audit(small, tmp_path / "small")
    assert grown < 200_000, "the 3,500 entries more are 850 kB"


def test_a_full_disk_ends_the_audit_with_an_error() -> None:
    rows = ScratchRows()
    rows._database.execute("PRAGMA max_page_count = 20")
    with (
        published_log(fetch_from(honest().files()), honest().checkpoint(), VERIFIER) as log,
        log.snapshot() as reader,
    ):
        page = reader.rows(0, 700)
    with pytest.raises(StorageUnavailable, match="full"):
        rows.add(page)
    rows.close()
