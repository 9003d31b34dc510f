"""Taking over a restored, failed-over or moved database, without issuing anything twice.

    (1) the checkpoint given is the log's own, and no older than any known here
    (2) the backup is put in place, where one is named; nothing is overwritten
    (3) the database appends nothing until (8), also if this is interrupted and begun again
    (4) published entries that are missing come from the published files, if these are given
    (5) the database's tree holds the checkpoint and those known here, or nothing goes on
    (6) for each model with an open epoch, one with a fresh key is opened
    (7) the old epochs are closed: what they issued after the backup is not known here
    (8) the database is taken over; what recorders queued for lost reservations is set aside

A latent that left after the backup was made may belong to a reservation that is gone. Its epoch
issues no more, so its counter is never given out again; a verifier finds it past the high-water
mark.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from latentlog.ledger.admission import lost_batches
from latentlog.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from latentlog.ledger.continuity import ADVICE, require_prefix
from latentlog.ledger.epochs import close_epoch, epoch_states, open_epoch
from latentlog.ledger.erasure import complete_erasures
from latentlog.ledger.errors import CheckpointAhead, DatabaseMissing, ForkDetected, NotNewest
from latentlog.ledger.home import Home, open_vault
from latentlog.ledger.keys import Random
from latentlog.ledger.log import Clock, Log, utc_now
from latentlog.ledger.merkle import Frontier, leaf_hash, root_at
from latentlog.ledger.outsider import read_checkpoint
from latentlog.ledger.published import row_of_body
from latentlog.ledger.session import Session
from latentlog.ledger.spool import Spool
from latentlog.ledger.storage import CheckpointRow, Head, Store
from latentlog.ledger.store.copying import Progress, place_copy
from latentlog.ledger.store.sql import SqlStore
from latentlog.ledger.store.vault import VaultStore
from latentlog.ledger.tiles import Fetch, TileReader
from latentlog.ledger.tree import grow

_CHUNK = 1024
LOST = "lost"


@dataclass(frozen=True, slots=True)
class Restoration:
    """What was done."""

    checkpoint: VerifiedCheckpoint
    entries: int
    """How many entries the database held before."""
    recovered: int
    """How many came from the published files."""
    closed: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    lost: list[Path] = field(default_factory=list)
    """Queued batches of reservations that are not in this log, set aside."""
    new_vault: bool = False
    """There was no store of record keys: openings recorded before cannot be opened."""


def restore(
    home: Home,
    note: bytes,
    *,
    source: Path | None = None,
    fetch: Fetch | None = None,
    random: Random = os.urandom,
    clock: Clock = utc_now,
    on_progress: Progress | None = None,
) -> Restoration:
    """Take over the home's database, put there from the backup `source` if that is given.

    `note` is the newest checkpoint that was published, `fetch` reads a copy of the published
    files. Raises `NotNewest`, `CheckpointAhead`, `ForkDetected`, `RecorderBusy`, `DatabaseExists`
    and what signatures, files and databases raise; the database is then not taken over.
    """
    newest = verify_checkpoint(note, home.verifier, home.origin)
    known = _require_newest(home, newest, fetch)
    signer, master = home.log_key(), home.master_key()
    with _no_recorders(home):
        if source is not None:
            _require_backup(source)
            place_copy(source, home.database_url, on_progress)
        store = SqlStore.open(home.database_url)
        with closing(store):
            log = Log(store, origin=home.origin, signer=signer, clock=clock)
            with store.write() as writer:
                writer.suspend()
            before = log.size
            if fetch is not None:
                _catch_up(store, newest, fetch, on_progress)
            _accept(store, newest, known)
            recovered = log.size - before
            closed, opened = _renew_epochs(log, home, master, random)
            new_vault = _complete_vault(home, log)
            lost = _set_aside(home, log)
            with store.write() as writer:
                home.continuity.advance(log.checkpoint().note, log.size)
                writer.adopt()
    return Restoration(newest, before, recovered, closed, opened, lost, new_vault)


def _require_newest(
    home: Home, given: VerifiedCheckpoint, fetch: Fetch | None
) -> list[VerifiedCheckpoint]:
    """Return the other checkpoints known here; raises `NotNewest` if one of them is newer."""
    known = [("this home", home.continuity.newest())]
    if fetch is not None:
        known.append(("the published log", read_checkpoint(fetch, home.verifier)))
    for where, other in known:
        if other is not None and other.checkpoint.size > given.checkpoint.size:
            raise NotNewest(
                f"{where} has a newer checkpoint than the one given",
                expected=f"{other.checkpoint.size} entries or more",
                got=f"{given.checkpoint.size} entries",
                next_step=f"latentlog restore --checkpoint {home.continuity.path}"
                if where == "this home"
                else "take the file `checkpoint` of the published log",
            )
    return [other for _, other in known if other is not None]


def _require_backup(source: Path) -> None:
    if not source.is_file():
        raise DatabaseMissing(f"there is no backup at {source}")


@contextmanager
def _no_recorders(home: Home) -> Iterator[None]:
    """Hold every recorder's lock of this home: one that went on recording would use the old log."""
    with ExitStack() as held:
        for path in sorted((home.path / "sessions").glob("*.lock")):
            session = Session.open(home.session_path(path.stem), path.stem, wait=0)
            held.callback(session.close)
        yield


def _catch_up(
    store: Store, newest: VerifiedCheckpoint, fetch: Fetch, on_progress: Progress | None
) -> None:
    """Append the published entries that are missing, each checked against the signed root.

    Their encrypted openings were never published: they are lost with the database.
    """
    tree = newest.checkpoint
    with store.read() as reader:
        head = reader.head()
    if head.size >= tree.size:
        return
    tiles = TileReader(fetch, tree)
    if root_at(tiles, head.size) != Frontier.decode(head.frontier).root():
        raise ForkDetected(
            f"the {head.size} entries of this database are not those that were published",
            next_step="restore another backup",
        )
    bodies = tiles.entries(head.size)
    while fresh := list(islice(bodies, _CHUNK)):
        with store.write() as writer:
            head = writer.head()
            frontier = Frontier.decode(head.frontier)
            completed = grow(writer, frontier, [leaf_hash(body) for body in fresh])
            rows = [row_of_body(head.size + n, body) for n, body in enumerate(fresh)]
            writer.insert(rows, completed, [])
            writer.move_head(head, Head(frontier.size, frontier.encode(), head.published))
        if on_progress is not None:
            on_progress(frontier.size, tree.size)


def _accept(store: Store, newest: VerifiedCheckpoint, known: Sequence[VerifiedCheckpoint]) -> None:
    """Hold the database against the checkpoint and store it, if it was issued after the backup.

    The older ones that are known must be of the same history: a signed fork is never gone on from.
    """
    tree = newest.checkpoint
    with store.write() as writer:
        head = writer.head()
        try:
            require_prefix(writer, head, newest)
        except CheckpointAhead as error:
            raise CheckpointAhead(
                f"the database ends at {head.size} entries, and the checkpoint covers {tree.size}: "
                "what was published and is missing cannot be made up",
                expected=error.expected,
                got=error.got,
                next_step=f"{ADVICE} --tiles DIR|URL, with any copy of the published files; if "
                "there is none, this log stays closed for appends: start one under a new origin",
            ) from None
        for other in known:
            require_prefix(writer, head, other)
        if head.published is None or head.published < tree.size:
            writer.add_checkpoint(CheckpointRow(tree.size, newest.note))
            writer.move_head(head, head._replace(published=tree.size))


def _renew_epochs(
    log: Log, home: Home, master: bytes, random: Random
) -> tuple[list[int], list[int]]:
    states = [state for state in epoch_states(log) if state.open]
    models = dict.fromkeys(state.model for state in states)
    # Opened first: whoever begins again after an interruption still sees which models had one.
    opened = [
        open_epoch(log, master, model, random, keep=home.keep_recorder_keys).epoch
        for model in models
    ]
    for state in states:
        close_epoch(log, state.epoch)
    log.publish()
    return [state.epoch for state in states], opened


def _complete_vault(home: Home, log: Log) -> bool:
    """Finish erasures that the vault may have missed; make a vault where there is none."""
    try:
        vault = open_vault(home)
    except DatabaseMissing:
        VaultStore.create(home.vault_url).close()
        return True
    with closing(vault):
        complete_erasures(log, vault)
    return False


def _set_aside(home: Home, log: Log) -> list[Path]:
    moved = []
    for folder in sorted((home.path / "queue").glob("*/")):
        spool = Spool(folder)
        with log.snapshot() as reader:
            lost = lost_batches(reader, spool)
        for path in lost:
            aside = folder / LOST
            aside.mkdir(mode=0o700, exist_ok=True)
            moved.append(path.rename(aside / path.name))
    return moved
