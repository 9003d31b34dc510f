"""`latentlog audit` and `latentlog erase`: recomputing the log, and destroying an opening."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Final

import typer

from latentlog.cli.console import Console
from latentlog.cli.errors import ExitCode
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import Ledger, open_ledger

if TYPE_CHECKING:
    from latentlog.ledger.keystream import EpochKey

app = typer.Typer()

SHOWN: Final = 20
"""Bad rows that are printed; --json holds more."""
COUNTED: Final = ("entries", "seals", "checkpoints", "epochs", "openings")


@command(app, panel="The log", examples=["latentlog audit", "latentlog audit --json"])
def audit(invocation: Invocation) -> int:
    """Recompute the whole log from its rows.

    Leaf hashes, tree, every checkpoint, every seal, the account of every counter; where the keys
    are on this machine also every latent and every opening. Exit code 1 names each bad row.
    """
    from latentlog.ledger.audit import audit as recompute
    from latentlog.ledger.home import open_vault

    with open_ledger(invocation) as ledger, closing(open_vault(ledger.home)) as vault:
        keys = _epoch_keys(invocation.console, ledger)
        with invocation.console.progress("auditing entries") as advance:
            report = recompute(ledger.log, epoch_keys=keys, vault=vault, on_progress=advance)
    counted = {name: getattr(report, name) for name in COUNTED}
    clean = not report.problems
    document = {
        "schema": "latentlog/audit/v0",
        "clean": clean,
        **counted,
        "problems": [problem._asdict() for problem in report.problems],
        "problems_found": report.problems_found,
    }
    invocation.console.emit(
        document,
        ", ".join(f"{number} {name}" for name, number in counted.items()) + " recomputed",
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
