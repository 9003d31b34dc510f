"""The examples on the format pages are real: each is parsed, recomputed and verified here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from latentlog.ledger.checkpoint import verify_checkpoint
from latentlog.ledger.commitment import Opening, commit, value_of
from latentlog.ledger.digest import Digest
from latentlog.ledger.keystream import (
    TABLE_DIGEST,
    Schedule,
    Subkey,
    epoch_key,
    latent_digest,
    latent_salt,
    noise,
)
from latentlog.ledger.merkle import leaf_hash
from latentlog.ledger.note import NoteVerifier
from latentlog.ledger.proof import verify_tlog_proof
from latentlog.ledger.tiles import tiles_of

PAGES = Path(__file__).parents[2] / "docs" / "formats"


def example(page: str, language: str) -> str:
    text = (PAGES / page).read_text()
    return re.search(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1]  # type: ignore[index]


def json_example(page: str) -> Any:
    return json.loads(example(page, "json"))


LOG = NoteVerifier.parse(example("signed-note.md", "vkey").strip())


@pytest.mark.parametrize("page", ["signed-note.md", "checkpoint.md"])
def test_the_note_verifies(page: str) -> None:
    note = example(page, "note").encode()
    assert verify_checkpoint(note, LOG, "example.com/log").checkpoint.size == 5


def test_the_proof_verifies() -> None:
    proof = example("tlog-proof.md", "tlog-proof").encode()
    assert verify_tlog_proof(proof, leaf_hash(b"entry 2"), LOG, "example.com/log").index == 2


def test_the_commitment_is_recomputed() -> None:
    shown = json_example("commitment.md")
    value = value_of(shown["field"], shown["content"])
    assert value.hex() == shown["value"]
    place = {name: shown[name] for name in ("origin", "epoch", "counter")}
    commitment = commit(shown["field"], value, bytes.fromhex(shown["salt"]), **place)
    assert commitment.hex() == shown["commitment"]


def test_the_opening_reads_back() -> None:
    text = example("opening.md", "json").strip().encode()
    assert Opening.decode(text).encode() == text


def test_the_keystream_is_recomputed() -> None:
    shown = json_example("keystream.md")
    salt, model = bytes.fromhex(shown["salt"]), Digest.fromhex(shown["model"])
    key = epoch_key(
        bytes.fromhex(shown["master"]),
        salt,
        origin=shown["origin"],
        model=model,
        epoch=shown["epoch"],
    )
    assert key.secret.hex() == shown["epoch_key"]
    names: list[Subkey] = ["issue", "decoy", "noise", "latent-salt"]
    assert {name: key.subkey(name).hex() for name in names} == {n: shown[n] for n in names}
    assert key.commitment(shown["origin"], model, shown["epoch"], salt).hex() == shown["commitment"]
    schedule, i = Schedule(key.subkey("issue"), shown["dim"]), shown["counter"]
    latent = schedule.latents(i, 1)[0]
    assert schedule.raw(i, 1)[0].tolist() == shown["raw"]
    assert latent.tolist() == shown["latent"]
    assert latent_digest(latent).hex() == shown["latent_digest"]
    assert latent_salt(key.subkey("latent-salt"), i).hex() == shown["latent_salt"]
    assert noise(key.subkey("noise"), i, 1, shown["dim"]).tolist() == shown["noise_1"]
    assert TABLE_DIGEST.hex() in (PAGES / "keystream.md").read_text()


def test_the_tile_paths_are_those_of_300_entries() -> None:
    tiles = list(tiles_of(300))
    paths = [tile.path for tile in tiles] + [t.entries_path for t in tiles if t.level == 0]
    assert sorted(["checkpoint", *paths]) == example("tiles.md", "text").split()
