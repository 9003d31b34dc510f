"""Go's own transparency log packages, and none of our code, verify what we publish.

`tests/go/verify.go` uses golang.org/x/mod/sumdb/{note,tlog} alone (Debian: golang,
golang-golang-x-mod-dev).
"""

import os
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from latentlog.ledger.log import Log
from latentlog.ledger.merkle import prove_consistency, prove_inclusion
from latentlog.ledger.note import NoteSigner, format_note, parse_note, sign_note
from latentlog.ledger.proof import format_tlog_proof
from latentlog.ledger.publish import publish_site
from tests.builders import LOG_KEY, RECORDER_KEY
from tests.ledger.sites import IMPRINT, SIGNER, VERIFIER, StaticLog, grow, make_site
from tests.tools import require_folder, require_tool

SOURCE = Path(__file__).parents[1] / "go" / "verify.go"
GOPATH = "/usr/share/gocode"


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Go program, from Debian's sources, without a network."""
    go = require_tool("go", "golang")
    require_folder(f"{GOPATH}/src/golang.org/x/mod/sumdb/tlog", "golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    settings = {
        "GO111MODULE": "off",
        "GOPATH": GOPATH,
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
    }
    subprocess.run(
        [go, "build", "-o", folder / "verify", SOURCE],
        check=True,
        env={**os.environ, **settings},
        timeout=240,
    )
    return folder / "verify"


class Case(NamedTuple):
    """A site that has grown, and what was handed out about it."""

    site: Path
    log: Log
    old: Path
    consistency: Path
    entry: Path
    proof: Path

    @property
    def options(self) -> dict[str, Path]:
        return {
            "site": self.site,
            "old": self.old,
            "consistency": self.consistency,
            "entry": self.entry,
            "proof": self.proof,
        }


@pytest.fixture
def case(tmp_path: Path) -> Case:
    log = make_site(tmp_path / "site", 300)
    old = log.checkpoint()
    grow(log, 500, first=300)
    publish_site(log, tmp_path / "site", IMPRINT)
    index = 421
    files = {
        "old": old.note,
        "consistency": lines(log.prove_consistency(old.checkpoint.size)),
        "entry": log.entry(index).body,
        "proof": format_tlog_proof(index, log.prove(index), log.checkpoint().note),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return Case(tmp_path / "site", log, *(tmp_path / name for name in files))


def lines(hashes: Sequence[bytes]) -> bytes:
    return b"".join(b64encode(item) + b"\n" for item in hashes)


def run(
    verifier: Path, options: dict[str, Path], vkey: str = VERIFIER.vkey
) -> subprocess.CompletedProcess[str]:
    arguments = [f"-{name}={path}" for name, path in options.items()]
    return subprocess.run(
        [verifier, f"-vkey={vkey}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def accepted(verifier: Path, options: dict[str, Path]) -> list[str]:
    done = run(verifier, options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_go_verifies_checkpoint_tiles_and_proofs(verifier: Path, case: Case) -> None:
    size = case.log.size
    assert accepted(verifier, case.options) == [
        f"checkpoint of {size} entries",
        f"entries and tiles of {size} entries",
        "consistency with 311 entries",
        "inclusion of entry 421",
    ]


@pytest.mark.parametrize(
    ("option", "path", "at"),
    [
        ("site", "checkpoint", 20),
        ("site", "checkpoint", -10),
        ("site", "tile/0/000", 40),
        ("site", "tile/0/003.p/48", 0),
        ("site", "tile/1/000.p/3", 70),
        ("site", "tile/entries/000", 30),
        ("site", "tile/entries/003.p/48", -1),
        ("old", "", 20),
        ("consistency", "", 5),
        ("entry", "", 12),
        ("proof", "", 30),
        ("proof", "", 60),
    ],
)
def test_go_refuses_what_was_changed(
    verifier: Path, case: Case, option: str, path: str, at: int
) -> None:
    target = case.options[option] / path if path else case.options[option]
    content = bytearray(target.read_bytes())
    content[at] ^= 1
    target.write_bytes(content)
    done = run(verifier, case.options)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_go_refuses_another_key_and_another_history(verifier: Path, case: Case) -> None:
    stranger = NoteSigner(VERIFIER.name, RECORDER_KEY).verifier.vkey
    assert "no verifiable signatures" in run(verifier, case.options, stranger).stderr
    grow_other = StaticLog()
    grow_other.add(*(b"other %d" % n for n in range(311)))
    case.old.write_bytes(grow_other.checkpoint().note)
    assert run(verifier, case.options).returncode == 1


def test_go_reads_a_note_with_sixteen_more_signatures(verifier: Path, case: Case) -> None:
    """Witnesses cosign: signers that Go does not know must not keep it from the one it knows."""
    text = parse_note(case.old.read_bytes()).text
    witnesses = [NoteSigner(f"witness.example/{n}", LOG_KEY) for n in range(16)]
    case.old.write_bytes(sign_note(text, [*witnesses[:8], SIGNER, *witnesses[8:]]))
    accepted(verifier, case.options)


def test_we_verify_what_go_verifies_byte_for_byte(case: Case) -> None:
    note = case.old.read_bytes()
    assert format_note(parse_note(note)) == note


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512, 65_536, 66_000])
def test_go_reads_trees_of_every_shape(verifier: Path, tmp_path: Path, size: int) -> None:
    """Up to three levels of tiles, with full and partial edges."""
    log, old = StaticLog(), max(1, size * 2 // 3)
    log.add(*(b"entry %d" % n for n in range(old)))
    before = log.checkpoint()
    log.add(*(b"entry %d" % n for n in range(old, size)))
    log.write(tmp_path / "site")
    index = size // 3
    hashes = prove_inclusion(log.nodes, index, size)
    files = {
        "old": before.note,
        "consistency": lines(prove_consistency(log.nodes, old, size)),
        "entry": log.bodies[index],
        "proof": format_tlog_proof(index, hashes, log.checkpoint().note),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    options = {"site": tmp_path / "site", **{name: tmp_path / name for name in files}}
    assert accepted(verifier, options)[-1] == f"inclusion of entry {index}"
