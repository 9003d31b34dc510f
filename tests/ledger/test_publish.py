"""Publishing: whole after every crash, nothing secret, nothing taken back, a page for people."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from latentlog.ledger.epochs import close_epoch
from latentlog.ledger.errors import (
    AuditFailed,
    ForkDetected,
    MalformedCheckpoint,
    NotASite,
    NotPublished,
    SiteBusy,
    StorageUnavailable,
)
from latentlog.ledger.front_page import _COMMANDS
from latentlog.ledger.log import Log
from latentlog.ledger.outsider import audit_site, read_checkpoint
from latentlog.ledger.publish import Imprint, publish_site
from latentlog.ledger.registry import add_model
from latentlog.ledger.store.memory import MemoryStore
from latentlog.ledger.store.sql import SqlStore
from latentlog.ledger.tiles import TileReader, folder_fetch
from tests.builders import ORIGIN, make_home, make_log, make_model, make_recording_log
from tests.databases import sqlite_url
from tests.ledger.sites import IMPRINT, VERIFIER, files_of, grow, make_site
from tests.tools import require_tool


def shown_size(folder: Path) -> int:
    """Read the whole site as a stranger would; return how many entries it shows."""
    fetch = folder_fetch(folder)
    tree = read_checkpoint(fetch, VERIFIER).checkpoint
    return sum(1 for _ in TileReader(fetch, tree).entries())


def static(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path != "index.html"}


# The files.


def test_a_site_holds_what_the_page_says_and_nothing_else(tmp_path: Path) -> None:
    log = make_site(tmp_path, 300)
    assert {re.sub(r"[0-9]+", "N", path) for path in files_of(tmp_path)} == {
        "checkpoint",
        "index.html",
        "tile/N/N",
        "tile/N/N.p/N",
        "tile/entries/N",
        "tile/entries/N.p/N",
    }
    assert shown_size(tmp_path) == log.size
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


def test_every_user_may_read_the_site_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_site(tmp_path / "srv" / "log", 10)
    finally:
        os.umask(before)
    for path in (tmp_path / "srv").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_publishing_again_changes_nothing_but_the_page(tmp_path: Path) -> None:
    log = make_site(tmp_path, 300)
    before = files_of(tmp_path)
    times = {path: (tmp_path / path).stat().st_mtime_ns for path in before}
    publish_site(log, tmp_path, IMPRINT)
    assert static(files_of(tmp_path)) == static(before)
    written = {p for p in before if (tmp_path / p).stat().st_mtime_ns != times[p]}
    assert written <= {"checkpoint", "index.html"}


def test_partial_tiles_go_when_the_full_one_is_there(tmp_path: Path) -> None:
    log = make_site(tmp_path, 100)
    old = read_checkpoint(folder_fetch(tmp_path), VERIFIER).checkpoint
    for first in (100, 200, 300):
        grow(log, 100, first=first)
        publish_site(log, tmp_path, IMPRINT)
    partial = {path.name for path in tmp_path.rglob("*.p")}
    assert partial == {"001.p", "000.p"}
    assert not (tmp_path / "tile/0/000.p").exists()
    assert not (tmp_path / "tile/entries/000.p").exists()
    # Whoever holds the older checkpoint still finds everything it covers.
    assert sum(1 for _ in TileReader(folder_fetch(tmp_path), old).entries()) == old.size


def test_a_log_without_checkpoint_has_nothing_to_publish(tmp_path: Path) -> None:
    with pytest.raises(NotPublished):
        publish_site(make_log(), tmp_path, IMPRINT)


def test_an_empty_log_can_be_published(tmp_path: Path) -> None:
    log = make_log()
    log.publish()
    shown = publish_site(log, tmp_path, IMPRINT)
    assert shown.sealed is None
    assert shown_size(tmp_path) == 0
    assert "never: the log is empty" in (tmp_path / "index.html").read_text()


# Crashes.


class Crash(BaseException):
    """The process ends here."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """End the process at the n-th write step; return a count of the steps that were reached.

    A file has two: its bytes are about to be synced, and then to be moved into place. A folder
    has one: its names are about to be synced. Another comes after each removal.
    """
    reached = [0]

    def count(real: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            done = real(*arguments, **options) if after else None
            reached[0] += 1
            if reached[0] == step:
                raise Crash
            return done if after else real(*arguments, **options)

        return wrapped

    monkeypatch.setattr(os, "fsync", count(os.fsync, after=False))
    monkeypatch.setattr(Path, "replace", count(Path.replace, after=False))
    monkeypatch.setattr(shutil, "rmtree", count(shutil.rmtree, after=True))
    return lambda: reached[0]


def test_a_crash_at_any_write_leaves_a_whole_site_that_goes_on(tmp_path: Path) -> None:
    log = make_recording_log(reserved=4096)
    grow(log, 200)
    publish_site(log, tmp_path / "before", IMPRINT)
    before = shown_size(tmp_path / "before")
    grow(log, 400, first=200)
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        steps = crash_at(patch, 0)
        publish_site(log, tmp_path / "whole", IMPRINT)
    whole = files_of(tmp_path / "whole")
    assert steps() > 20
    for step in range(1, steps() + 1):
        site = tmp_path / f"crash-{step}"
        shutil.copytree(tmp_path / "before", site)
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, step)
            with pytest.raises(Crash):
                publish_site(log, site, IMPRINT)
        assert shown_size(site) in (before, log.size)
        publish_site(log, site, IMPRINT)
        assert static(files_of(site)) == static(whole), f"after a crash at step {step}"
        shutil.rmtree(site)


def test_the_checkpoint_comes_after_everything_it_covers_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def record_replace(self: Path, target: Path) -> Path:
        events.append(str(target.relative_to(tmp_path)))
        return replace(self, target)

    def record_fsync(descriptor: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if place.is_dir():
            events.append(f"{place.relative_to(tmp_path)}/")
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", record_replace)
    monkeypatch.setattr(os, "fsync", record_fsync)
    make_site(tmp_path, 300)
    shown = events.index("checkpoint")
    for path in [event for event in events[:shown] if not event.endswith("/")]:
        folder = str(Path(path).parent) + "/"
        assert events.index(path) < events.index(folder) < shown
    assert "./" in events[:shown]
    assert events[shown + 1 :] == ["./", "index.html"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError(30, "Read-only")]
)
def test_a_full_or_read_only_disk_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    log = make_site(tmp_path, 100)
    before = files_of(tmp_path)
    grow(log, 300, first=100)

    def full(descriptor: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageUnavailable, match=str(error.strerror)):
            publish_site(log, tmp_path, IMPRINT)
    assert {p: c for p, c in files_of(tmp_path).items() if ".new" not in p} == before
    publish_site(log, tmp_path, IMPRINT)
    assert shown_size(tmp_path) == log.size
    assert not list(tmp_path.rglob(".*"))


# What goes on meanwhile.


def test_entries_appended_meanwhile_wait_for_the_next_time(tmp_path: Path) -> None:
    with closing(SqlStore.create(sqlite_url(tmp_path))) as store:
        log = make_recording_log(store, reserved=4096)
        grow(log, 600)
        size = log.checkpoint().checkpoint.size
        site, seen = tmp_path / "site", []

        def append_more(done: int, total: int) -> None:
            assert total == size
            seen.append(done)
            grow(log, 100, first=500 + 100 * len(seen))

        shown = publish_site(log, site, IMPRINT, on_progress=append_more)
        assert seen == [256, 512, size]
        assert shown.checkpoint.checkpoint.size == shown_size(site) == size
        audit_site(folder_fetch(site), VERIFIER).require_clean()
        publish_site(log, site, IMPRINT)
        assert shown_size(site) == log.size == size + 303


def test_a_reader_meanwhile_sees_the_older_or_the_newer_site(tmp_path: Path) -> None:
    log = make_site(tmp_path, 200)
    older = read_checkpoint(folder_fetch(tmp_path), VERIFIER)
    grow(log, 600, first=200)
    sizes = []

    def read_meanwhile(done: int, total: int) -> None:
        sizes.append(shown_size(tmp_path))

    publish_site(log, tmp_path, IMPRINT, on_progress=read_meanwhile)
    assert set(sizes) == {older.checkpoint.size}
    report = audit_site(folder_fetch(tmp_path), VERIFIER, since=older)
    assert report.checkpoint.checkpoint.size == log.size


def test_two_publishers_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    log = make_recording_log()
    grow(log, 10)
    refused = []

    def publish_too(done: int, total: int) -> None:
        with pytest.raises(SiteBusy) as busy:
            publish_site(log, tmp_path, IMPRINT)
        refused.append(busy.value)

    publish_site(log, tmp_path, IMPRINT, on_progress=publish_too)
    assert refused
    publish_site(log, tmp_path, IMPRINT)


# What is refused.


def test_a_log_is_not_published_into_a_home(tmp_path: Path) -> None:
    make_home(tmp_path / "home")
    log = make_recording_log()
    log.publish()
    before = files_of(tmp_path)
    for folder in (tmp_path / "home", tmp_path / "home/keys", tmp_path / "home/new/site"):
        with pytest.raises(NotASite, match="holds keys"):
            publish_site(log, folder, IMPRINT)
    assert files_of(tmp_path) == before


def test_somebody_elses_front_page_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("my bakery")
    log = make_recording_log()
    log.publish()
    with pytest.raises(NotASite, match="another site"):
        publish_site(log, tmp_path, IMPRINT)
    assert files_of(tmp_path) == {"index.html": b"my bakery"}


def test_a_link_left_in_the_folder_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    site = tmp_path / "site"
    site.mkdir()
    (site / ".checkpoint.new").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageUnavailable):
        make_site(site, 1)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_database_behind_the_site_does_not_publish(tmp_path: Path) -> None:
    """After a restore from a backup the site is ahead, and stays what it is."""
    make_site(tmp_path, 300)
    before = files_of(tmp_path)
    restored = make_recording_log(reserved=4096)
    grow(restored, 200)
    with pytest.raises(ForkDetected, match="later checkpoint"):
        publish_site(restored, tmp_path, IMPRINT)
    other = make_recording_log(reserved=2048)
    grow(other, 700)
    with pytest.raises(ForkDetected, match="not this log's"):
        publish_site(other, tmp_path, IMPRINT)
    assert files_of(tmp_path) == before


def test_a_damaged_checkpoint_file_is_named(tmp_path: Path) -> None:
    log = make_site(tmp_path, 10)
    (tmp_path / "checkpoint").write_bytes(b"half a checkpoi")
    with pytest.raises(MalformedCheckpoint, match=str(tmp_path)):
        publish_site(log, tmp_path, IMPRINT)


def altered(log: Log, change: Callable[[MemoryStore], None]) -> Log:
    """Change the rows behind a log's back."""
    assert isinstance(log.store, MemoryStore)
    change(log.store)
    return log


def change_body(store: MemoryStore) -> None:
    row = store._state.rows[400]
    store._state.rows[400] = row._replace(body=row.body.replace(b"a", b"b", 1))


def change_leaf(store: MemoryStore) -> None:
    row = store._state.rows[600]
    store._state.rows[600] = row._replace(leaf_hash=bytes(32))


def change_tile(store: MemoryStore) -> None:
    tile = store._state.tiles[0, 1]
    store._state.tiles[0, 1] = tile._replace(hashes=bytes(8192))


def change_root(store: MemoryStore) -> None:
    tile = store._state.tiles[0, 1]
    store._state.tiles[0, 1] = tile._replace(root=bytes(32))


@pytest.mark.parametrize("change", [change_body, change_leaf, change_tile, change_root])
def test_a_damaged_database_is_not_published(
    tmp_path: Path, change: Callable[[MemoryStore], None]
) -> None:
    log = make_site(tmp_path, 200)
    before = files_of(tmp_path)
    grow(log, 450, first=200)
    with pytest.raises(AuditFailed) as failed:
        publish_site(altered(log, change), tmp_path, IMPRINT)
    assert failed.value.next_step == "latentlog audit"
    assert (tmp_path / "checkpoint").read_bytes() == before["checkpoint"]
    assert shown_size(tmp_path) < 300


# The page.


class Outline(HTMLParser):
    """Tags, whether they close, and everything that is fetched or run."""

    VOID = frozenset(("meta", "br", "hr", "img", "input", "link"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert not parsed.open
    return parsed


def block(page: str, pattern: str) -> str:
    """Return the text of the first `pre` that fits, as a reader would copy it."""
    texts = ["".join(outline(found).text) for found in re.findall(r"<pre.*?</pre>", page, re.S)]
    return next(text for text in texts if re.search(pattern, text))


def test_the_page_says_what_people_need(tmp_path: Path) -> None:
    log = make_site(tmp_path, 100)
    close_epoch(log, 0)
    log.publish()
    add_model(log, make_model("unsigned-yet"))
    imprint = Imprint("Example Labs", contact="log@example.com", not_covered=("faces-2023",))
    shown = publish_site(log, tmp_path, imprint)
    page = (tmp_path / "index.html").read_text()
    text = " ".join(" ".join(outline(page).text).split())
    for expected in (
        "Example Labs",
        "log@example.com",
        ORIGIN,
        log.vkey,
        f"Entries {shown.checkpoint.checkpoint.size:,}",
        "1 (1 closed)",
        "faces-2023",
        make_model().digest.hex(),
        "less than a minute before this page was written",
        "2026-01-31 09:30",
        "UTC",
        "local active",
        "This page is not signed",
    ):
        assert expected in text
    assert "unsigned-yet" not in page


def test_the_page_runs_and_fetches_nothing_and_reads_aloud(tmp_path: Path) -> None:
    make_site(tmp_path, 100)
    page = (tmp_path / "index.html").read_text()
    tags = outline(page).tags
    names = [tag for tag, _ in tags]
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(names)
    assert not [a for _, attrs in tags for a in attrs if a.startswith("on") or a == "src"]
    assert not re.search(r"url\(|@import|javascript:", page)
    assert ("html", {"lang": "en"}) in tags
    assert names.count("h1") == names.count("main") == names.count("title") == 1
    assert [int(name[1]) for name in names if re.fullmatch(r"h\d", name)][:2] == [1, 2]
    assert names.count("caption") == names.count("table") == 2
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    assert "default-src 'none'" in page


def test_nothing_an_operator_writes_becomes_markup(tmp_path: Path) -> None:
    log = make_recording_log()
    log.publish()
    evil = "<script>alert(1)</script>\"'&"
    publish_site(log, tmp_path, Imprint(evil, contact=evil, not_covered=[evil]))
    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page
    assert "".join(outline(page).text).count(evil) == 3


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_on_the_page_verify_the_checkpoint(tmp_path: Path) -> None:
    openssl = require_tool("openssl")
    make_site(tmp_path, 100)
    page = (tmp_path / "index.html").read_text()
    (tmp_path / "log.pem").write_text(block(page, "BEGIN PUBLIC KEY").lstrip())
    commands = block(page, "pkeyutl")
    done = run(commands, tmp_path)
    assert (done.returncode, "Verified Successfully" in done.stdout) == (0, True), done.stderr
    digest = run(f"{openssl} pkey -pubin -in log.pem -outform DER | sha256sum", tmp_path).stdout
    assert digest.split()[0] in page
    checkpoint = (tmp_path / "checkpoint").read_text()
    (tmp_path / "checkpoint").write_text(checkpoint.replace("\n1", "\n2", 1))
    assert run(commands, tmp_path).returncode != 0


def test_the_commands_hold_for_any_name_of_a_log(tmp_path: Path) -> None:
    name = "it's/$(touch${IFS}pwned)`\"\\;"
    (tmp_path / "checkpoint").write_text(f"text\n\n— other YWJj\n— {name} {'QUJD' * 30}\n")
    script = _COMMANDS.replace("ORIGIN", shlex.quote(name)).split("openssl")[0]
    assert run(script, tmp_path).returncode == 0
    assert not (tmp_path / "pwned").exists()
