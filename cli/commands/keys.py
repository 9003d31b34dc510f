"""`latentlog keys`: public keys and fingerprints, and a trust file for those who verify."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from latentlog.cli.console import columns
from latentlog.cli.errors import UnknownName
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import open_home

app = typer.Typer(help="Public keys and fingerprints; private keys are never printed.")


@command(app, name="list", examples=["latentlog keys list"])
def list_(invocation: Invocation) -> None:
    """List the public keys of this home with their fingerprints.

    A fingerprint is the SHA-256 of the DER public key: what
    `openssl pkey -in KEY -pubout -outform DER | sha256sum` prints.
    """
    keys = _public_keys(invocation)
    invocation.console.emit(
        {"schema": "latentlog/keys/v0", "keys": keys},
        *columns([("KEY", "FINGERPRINT"), *((k["name"], k["fingerprint"]) for k in keys)]),
    )


@command(app, examples=["latentlog keys show log", "latentlog keys show recorders/local"])
def show(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `keys list` prints it.")],
) -> None:
    """Print one public key: the log's as a vkey (C2SP signed-note), others in hexadecimal."""
    keys = {key["name"]: key for key in _public_keys(invocation)}
    if name not in keys:
        raise UnknownName(f"no key is called {name!r}", expected=", ".join(keys))
    key = keys[name]
    invocation.console.emit(
        {"schema": "latentlog/key/v0", **key}, key["vkey"] or key["public"], key["fingerprint"]
    )


@command(app, examples=["latentlog keys trust > trust.toml"])
def trust(
    invocation: Invocation,
    examiner: Annotated[
        str, typer.Option(metavar="NAME", help="What to call the examiner of this home.")
    ] = "examiner of this home",
) -> None:
    """Print a trust file that names this home's log and examiner.

    Hand it over by another way than the bundle: a bundle cannot vouch for itself.
    """
    home = open_home(invocation)
    public = home.examiner_key().public.hex()
    invocation.console.emit(
        {
            "schema": "latentlog/trust/v0",
            "logs": {home.origin: home.vkey},
            "examiners": {examiner: public},
        },
        "[logs]",
        f"{json.dumps(home.origin)} = {json.dumps(home.vkey)}",
        "",
        "[examiners]",
        f"{json.dumps(examiner)} = {json.dumps(public)}",
    )


def _public_keys(invocation: Invocation) -> list[dict[str, Any]]:
    from latentlog.evidence.dsse import key_id
    from latentlog.ledger.keys import SigningKey

    home = open_home(invocation)
    return [
        {
            "name": (name := str(path.relative_to(home.keys).with_suffix(""))),
            "public": (key := SigningKey.load(path).public).hex(),
            "fingerprint": key_id(key),
            "vkey": home.vkey if name == "log" else None,
        }
        for path in sorted(home.keys.rglob("*.key"))
        # The master and epoch keys are secrets without a public half.
        if path.name != "master.key" and path.parent.name != "epochs"
    ]
