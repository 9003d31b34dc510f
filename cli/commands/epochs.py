"""`latentlog epoch`: the spans of latents that share one committed key."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from latentlog.cli.console import columns
from latentlog.cli.options import Invocation, command
from latentlog.cli.render import epoch_document
from latentlog.cli.wiring import find_model, open_ledger

app = typer.Typer(help="Spans of latents that share one committed key: `open`, `close`, `list`.")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A registered model.")]


@command(app, name="open", examples=["latentlog epoch open faces"])
def open_(invocation: Invocation, model: Model) -> None:
    """Commit to the next epoch's key and publish a checkpoint over it.

    No latent of the epoch leaves before that checkpoint.
    """
    from latentlog.ledger.epochs import epoch_state, open_epoch

    with open_ledger(invocation) as ledger:
        find_model(ledger, model)
        opened = open_epoch(
            ledger.log,
            ledger.home.master_key(),
            model,
            os.urandom,
            keep=ledger.home.keep_recorder_keys,
        )
        with ledger.log.snapshot() as reader:
            state = epoch_state(reader, opened.epoch)
        size = ledger.log.checkpoint().checkpoint.size
    invocation.console.emit(
        {"schema": "latentlog/epoch/v0", **epoch_document(state), "checkpoint": size},
        f"epoch {state.epoch} of {model} is open, entry {state.open_index}",
        f"commitment {state.commitment.hex()}",
        f"checkpoint over {size} entries",
    )
    invocation.console.say(f"next: latentlog generate {model} -n 100 --out pictures")


@command(app, examples=["latentlog epoch close faces", "latentlog epoch close faces --epoch 3"])
def close(
    invocation: Invocation,
    model: Model,
    epoch: Annotated[
        int | None, typer.Option(metavar="N", help="Which epoch; the newest open one if not given.")
    ] = None,
) -> None:
    """End an epoch; what is reserved and not sealed is logged as abandoned."""
    from latentlog.ledger.epochs import close_epoch, epoch_state, newest_open_epoch

    with open_ledger(invocation) as ledger:
        find_model(ledger, model)
        number = newest_open_epoch(ledger.log, model).epoch if epoch is None else epoch
        close_epoch(ledger.log, number)
        ledger.log.publish()
        with ledger.log.snapshot() as reader:
            state = epoch_state(reader, number)
    invocation.console.emit(
        {"schema": "latentlog/epoch/v0", **epoch_document(state)},
        f"epoch {number} of {state.model} is closed after {state.high_water} reserved counters",
    )


@command(app, name="list", examples=["latentlog epoch list"])
def list_(invocation: Invocation) -> None:
    """List all epochs."""
    from latentlog.ledger.epochs import epoch_states

    with open_ledger(invocation) as ledger:
        rows = [epoch_document(state) for state in epoch_states(ledger.log)]
    shown = [(r["epoch"], r["model"], r["state"], r["reserved"], r["opened"]) for r in rows]
    invocation.console.emit(
        {"schema": "latentlog/epochs/v0", "epochs": rows},
        *columns([("EPOCH", "MODEL", "STATE", "RESERVED", "OPENED"), *shown]),
    )
