"""`latentlog audit` and `latentlog erase`: recomputing the log, and destroying an opening."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from latentlog.cli.console import Console
from latentlog.cli.errors import ExitCode
from latentlog.cli.files import read_input
from latentlog.cli.options import Invocation, command
from latentlog.cli.render import checkpoint_document
from latentlog.cli.wiring import Ledger, open_home, open_ledger

if TYPE_CHECKING:
    from latentlog.ledger.audit import AuditReport
    from latentlog.ledger.keystream import EpochKey

app = typer.Typer()

SHOWN: Final = 20
"""Bad rows that are printed; --json holds more."""
COUNTED: Final = ("entries", "seals", "checkpoints", "epochs", "openings")


@command(
    app,
    panel="The log",
    examples=[
        "latentlog audit",
        "latentlog audit --json",
        "latentlog audit --tiles https://log.example.com/ "
        "--vkey example.com/faces+3f2a91c0+AbCd --since seen.note",
    ],
)
def audit(
    invocation: Invocation,
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL", help="Audit a published log: a folder, or an http(s) address."
        ),
    ] = None,
    vkey: Annotated[
        str | None,
        typer.Option(
            metavar="VKEY", help="The published log's verifier key; this home's if not given."
        ),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(metavar="CHECKPOINT", help="A note seen before, which the log must extend."),
    ] = None,
) -> int:
    """Recompute the whole log from its rows, or somebody's published log from its files.

    Leaf hashes, tree, every checkpoint, every seal, the account of every counter; where the keys
    are on this machine also every latent and every opening. Exit code 1 names each bad row.

    With --tiles neither database nor home is needed: what is trusted is --vkey alone, which should
    come from elsewhere than the files. Keep the file `checkpoint` for the next --since.
    """
    if tiles is not None:
        report, more = _published(invocation, tiles, vkey, since)
    elif vkey is not None:
        raise typer.BadParameter("--vkey belongs to --tiles", param_hint="--vkey")
    else:
        report, more = _own(invocation, since)
    counted = {name: getattr(report, name) for name in COUNTED}
    clean = not report.problems
    document = {
        "schema": "latentlog/audit/v0",
        "clean": clean,
        **counted,
        **more,
        "problems": [problem._asdict() for problem in report.problems],
        "problems_found": report.problems_found,
    }
    invocation.console.emit(
        document,
        ", ".join(f"{number} {name}" for name, number in counted.items()) + " recomputed",
        *_more_lines(more),
        *(f"entry {p.index}: {p.code}: {p.message}" for p in report.problems[:SHOWN]),
        "clean" if clean else f"{report.problems_found} problems",
    )
    return ExitCode.DONE if clean else ExitCode.INTEGRITY


@command(
    app,
    panel="The log",
    examples=['latentlog erase 41 --ground "request of 2026-03-02"'],
)
def erase(
    invocation: Invocation,
    index: Annotated[
        int, typer.Argument(metavar="INDEX", min=0, help="The generation whose opening to erase.")
    ],
    ground: Annotated[str, typer.Option(metavar="TEXT", help="Why; this is public.")],
    after_notice: Annotated[
        bool, typer.Option("--after-notice", help="A dispute about it is known; findings say so.")
    ] = False,
) -> None:
    """Log an erasure, then destroy the record key of a generation's private fields.

    The entry stays, and so does what epoch key and model can regenerate. This cannot be undone.
    """
    from latentlog.ledger.erasure import erase as destroy
    from latentlog.ledger.home import open_vault

    with open_ledger(invocation) as ledger, closing(open_vault(ledger.home)) as vault:
        destroyed = destroy(ledger.log, vault, index, ground, after_notice=after_notice)
        ledger.log.publish()
    invocation.console.emit(
        {"schema": "latentlog/erasure/v0", "index": index, "destroyed": destroyed},
        f"entry {index}: its opening is erased"
        if destroyed
        else f"entry {index}: the erasure is logged; there was no key left to destroy",
    )


def _own(invocation: Invocation, since: Path | None) -> tuple[AuditReport, dict[str, Any]]:
    from latentlog.ledger.audit import audit as recompute
    from latentlog.ledger.checkpoint import verify_checkpoint
    from latentlog.ledger.continuity import require_prefix
    from latentlog.ledger.home import open_vault

    with open_ledger(invocation) as ledger, closing(open_vault(ledger.home)) as vault:
        keys = _epoch_keys(invocation.console, ledger)
        with invocation.console.progress("auditing entries") as advance:
            report = recompute(ledger.log, epoch_keys=keys, vault=vault, on_progress=advance)
        if since is None:
            return report, {}
        seen = verify_checkpoint(read_input(since), ledger.log.verifier, ledger.log.origin)
        with ledger.log.snapshot() as reader:
            require_prefix(reader, reader.head(), seen)
    return report, {"since": checkpoint_document(seen)}


def _published(
    invocation: Invocation, tiles: str, vkey: str | None, since: Path | None
) -> tuple[AuditReport, dict[str, Any]]:
    from latentlog.ledger.checkpoint import verify_checkpoint
    from latentlog.ledger.fetch import site_fetch
    from latentlog.ledger.note import NoteVerifier
    from latentlog.ledger.outsider import audit_site

    verifier = NoteVerifier.parse(vkey or open_home(invocation).vkey)
    seen = None
    if since is not None:
        seen = verify_checkpoint(read_input(since), verifier, verifier.name)
    with invocation.console.progress("auditing entries") as advance:
        site = audit_site(site_fetch(tiles), verifier, since=seen, on_progress=advance)
    return site.audit, {
        "checkpoint": checkpoint_document(site.checkpoint),
        "since": seen and checkpoint_document(seen),
        "sealed": site.sealed and f"{site.sealed:%Y-%m-%dT%H:%M:%SZ}",
        "documents_not_checked": site.documents,
    }


def _more_lines(more: dict[str, Any]) -> Iterator[str]:
    if "checkpoint" in more:
        yield f"checkpoint over {more['checkpoint']['size']} entries, signed by the given key"
    if more.get("since"):
        yield f"extends the checkpoint over {more['since']['size']} entries that was seen before"
    if more.get("sealed"):
        yield f"newest entries sealed at {more['sealed']}, by the signer's own clock"
    if more.get("documents_not_checked"):
        yield f"{more['documents_not_checked']} documents stay with the operator: not checked"


def _epoch_keys(console: Console, ledger: Ledger) -> dict[int, EpochKey]:
    """Derive the epoch keys again where the master key is on this machine.

    A log too broken to read its epochs is still audited: that is when an audit is wanted most.
    """
    from latentlog.ledger.epochs import derive_epoch_key, epoch_states
    from latentlog.ledger.errors import LedgerError

    if not (ledger.home.keys / "master.key").exists():
        return {}
    try:
        master = ledger.home.master_key()
        return {
            state.epoch: derive_epoch_key(ledger.log, master, state.epoch)
            for state in epoch_states(ledger.log)
        }
    except LedgerError as error:
        console.warn(f"latents are not derived again: {error.message}")
        return {}
