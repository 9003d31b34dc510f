"""Whom a verifier trusts, read from outside the bundle.

A bundle names the keys that signed it, which shows only that it is whole. Who holds those keys is
something the reader learned elsewhere and wrote down in a `trust.toml`:

    [logs]
    "faces.example/log" = "faces.example/log+1a2b3c4d+AQ…"      # C2SP vkey, by origin

    [examiners]
    "A. Examiner, Institute" = "9f86d081884c7d65…"              # Ed25519 public key, hexadecimal

Unknown tables and keys are refused: a misspelt line must not silently trust nobody, or anybody.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from latentlog.evidence.errors import MalformedTrust, UnreadableFile
from latentlog.ledger.errors import LedgerError
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.note import NoteVerifier

MAX_TRUST_FILE: Final = 1 << 20
_EXAMPLE: Final = 'write [logs] "ORIGIN" = "VKEY" and [examiners] "NAME" = "PUBLIC KEY"'


@dataclass(frozen=True, slots=True)
class Trust:
    """Log verifiers by origin, and examiners' names by public key."""

    logs: Mapping[str, NoteVerifier]
    examiners: Mapping[PublicKey, str]


def load_trust(path: str | Path) -> Trust:
    """Read a `trust.toml`; raises `UnreadableFile` or `MalformedTrust`."""
    try:
        with open(path, "rb") as file:
            encoded = file.read(MAX_TRUST_FILE + 1)
    except OSError as error:
        raise UnreadableFile(f"cannot read {path}: {error.strerror}") from error
    if len(encoded) > MAX_TRUST_FILE:
        raise MalformedTrust(f"{path} is too large for a trust file")
    return parse_trust(encoded)


def parse_trust(encoded: bytes) -> Trust:
    """Parse the bytes of a `trust.toml`."""
    try:
        tables = tomllib.loads(encoded.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedTrust(f"trust file is not TOML: {error}"[:300]) from error
    unknown = tables.keys() - {"logs", "examiners"}
    if unknown:
        raise MalformedTrust(
            f"trust file has an unknown table: {min(unknown)!r}", next_step=_EXAMPLE
        )
    logs = {origin: _log(origin, vkey) for origin, vkey in _strings(tables, "logs").items()}
    examiners: dict[PublicKey, str] = {}
    for name, key in _strings(tables, "examiners").items():
        public = _examiner(name, key)
        if public in examiners:
            raise MalformedTrust(f"trust file gives {examiners[public]!r} and {name!r} one key")
        examiners[public] = name
    return Trust(logs, examiners)


def _strings(tables: dict[str, Any], name: str) -> dict[str, str]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise MalformedTrust(f"[{name}] must be a table", next_step=_EXAMPLE)
    for key, value in table.items():
        if not isinstance(value, str):
            raise MalformedTrust(f"[{name}] {key!r} must be a string", next_step=_EXAMPLE)
    return table


def _log(origin: str, vkey: str) -> NoteVerifier:
    try:
        verifier = NoteVerifier.parse(vkey)
    except LedgerError as error:
        raise MalformedTrust(f"the key of log {origin!r} is not a vkey: {error}") from error
    if verifier.name != origin:
        raise MalformedTrust("the vkey names another log", expected=origin, got=verifier.name[:200])
    return verifier


def _examiner(name: str, key: str) -> PublicKey:
    try:
        return PublicKey.fromhex(key)
    except LedgerError as error:
        raise MalformedTrust(f"the key of examiner {name!r} is unusable: {error}") from error
