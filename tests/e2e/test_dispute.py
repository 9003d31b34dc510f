"""One dispute from beginning to end, as somebody would live it at the command line.

A developer registers a model, generates a few faces and logs the calibration that came with the
model. Then five pictures are said to come from that model. Read it top to bottom: each test is one
accusation, and what the examination says to it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentlog.cli.app import main
from tests.cli.schemas import conform

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "examples" / "reference_models"
SCRIPTS = ROOT / "examples" / "dispute"
PHOTOGRAPH = ROOT / "examples" / "photographs" / "astronaut.png"

GENERATED = 24
ACCUSED = 17
"""The counter of the face that circulates."""
SEED = "5eed"
"""The examiner's: the story goes the same way each time."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """A developer's ledger and the folder in which the dispute happens."""

    home: Path
    folder: Path

    def run(self, *arguments: object, exit: int = 0) -> dict[str, Any]:
        """Type `latentlog ARGUMENTS --json` and read what it prints."""
        words = [str(a) for a in arguments]
        said = self.folder / "said"
        with said.open("w") as out, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setenv("LATENTLOG_HOME", str(self.home))
            code = main([*words, "--json", "--quiet"])
        assert code == exit, said.read_text()
        return conform(json.loads(said.read_text()))

    def examine(self, medium: Path, case: str, *, exit: int) -> dict[str, Any]:
        """Examine a picture against the model `faces`; three controls are repeated live."""
        bundle = self.folder / f"{case}.zip"
        options = ("--model", "faces", "--seed", SEED, "--controls", 3, "--out", bundle)
        return self.run("examine", medium, *options, exit=exit)

    def script(self, name: str, *arguments: object) -> None:
        """Run one of the example scripts, as the demo does."""
        command = [sys.executable, SCRIPTS / name, *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True)

    def picture(self, counter: int) -> Path:
        """The picture that was generated under a counter."""
        return self.folder / "pictures" / f"{counter:08d}.png"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A developer registers a model, commits to a key, generates, and logs a calibration."""
    folder = tmp_path_factory.mktemp("dispute")
    ledger = Ledger(folder / "home", folder)
    ledger.run("init", "--origin", "example.com/faces")
    model = MODELS / "faces.pt2"
    added = ledger.run("model", "add", "faces", "--generator", model, "--latent-dim", 128)
    assert added["output_shape"] == [3, 64, 64]
    assert 0 < added["cosine_needed"]["1000000"] < 1
    opened = ledger.run("epoch", "open", "faces")
    assert opened["entry"] < opened["checkpoint"], "no latent leaves before a checkpoint covers it"
    made = ledger.run("generate", "faces", "-n", GENERATED, "--out", folder / "pictures")
    assert (made["first"], made["count"]) == (0, GENERATED)
    logged = ledger.run("calibrate", "faces", "--from", MODELS / "faces.calibration.json")
    assert logged["made"] == "elsewhere"
    return ledger


@pytest.fixture(scope="module")
def produced(ledger: Ledger) -> dict[str, Any]:
    """One of the faces circulates as a JPEG of quality 85, and is examined."""
    jpeg = ledger.folder / "accused.jpg"
    ledger.script("resave.py", ledger.picture(ACCUSED), jpeg, "--quality", 85)
    return ledger.examine(jpeg, "accused", exit=0)


class TestDispute:
    def test_the_ledger_recomputes_and_holds_what_was_generated(self, ledger: Ledger) -> None:
        audit = ledger.run("audit")
        assert audit["clean"]
        assert audit["openings"] == GENERATED
        [epoch] = ledger.run("status")["epochs"]
        assert (epoch["reserved"], epoch["generated"], epoch["pending"]) == (24, 24, 0)

    def test_a_face_of_the_model_saved_as_jpeg_is_produced(
        self, ledger: Ledger, produced: dict[str, Any]
    ) -> None:
        assert produced["outcome"] == "produced"
        assert produced["reason"] == "latent_and_replay"
        assert (produced["entry"]["epoch"], produced["entry"]["counter"]) == (0, ACCUSED)
        assert produced["log10_p_family"] < -6
        assert produced["channels"]["latent"]["cosine"] > 0.9
        shown = ledger.run("show", produced["entry"]["index"])["entry"]
        assert (shown["kind"], shown["counter"]) == ("generation", ACCUSED)

    def test_what_was_compared_is_every_latent_and_a_million_past_the_last(
        self, produced: dict[str, Any]
    ) -> None:
        assert produced["multiplicity"] == GENERATED + 2**20

    def test_a_photograph_of_a_person_is_not_produced(self, ledger: Ledger) -> None:
        finding = ledger.examine(PHOTOGRAPH, "photograph", exit=0)
        assert (finding["outcome"], finding["entry"]) == ("not_produced", None)
        covered = {(p["distortion"], p["covered"]) for p in finding["exclusion"]["envelope"]}
        assert ("png", True) in covered
        assert "within the envelope" in finding["explanation"]

    def test_a_face_of_a_sibling_model_is_not_produced(self, ledger: Ledger) -> None:
        face = ledger.folder / "sibling.png"
        ledger.script("imagine.py", MODELS / "faces-sibling.pt2", face)
        assert ledger.examine(face, "sibling", exit=0)["outcome"] == "not_produced"

    def test_a_face_that_the_model_made_outside_the_record_is_named_as_such(
        self, ledger: Ledger
    ) -> None:
        face = ledger.folder / "unrecorded.png"
        ledger.script("imagine.py", MODELS / "faces.pt2", face)
        finding = ledger.examine(face, "unrecorded", exit=3)
        assert finding["outcome"] == "inconclusive"
        assert finding["reason"] == "reachable_unregistered"

    def test_a_neighbour_of_a_registered_face_depends_on_it(self, ledger: Ledger) -> None:
        face = ledger.folder / "neighbour.png"
        ledger.script("neighbour.py", MODELS / "faces.pt2", ledger.picture(ACCUSED), face)
        finding = ledger.examine(face, "neighbour", exit=3)
        assert (finding["outcome"], finding["reason"]) == ("inconclusive", "depends_on_entry")
        assert finding["entry"]["counter"] == ACCUSED

    def test_the_bundle_convinces_whoever_trusts_the_two_keys(
        self, ledger: Ledger, produced: dict[str, Any]
    ) -> None:
        keys = ledger.run("keys", "trust")
        trust = ledger.folder / "trust.toml"
        trust.write_text(
            "".join(
                f"[{table}]\n" + "".join(f'"{k}" = "{v}"\n' for k, v in keys[table].items())
                for table in ("logs", "examiners")
            )
        )
        shutil.move(ledger.home, ledger.folder / "far away")
        try:
            verified = ledger.run("verify", produced["bundle"], "--trust", trust)
        finally:
            shutil.move(ledger.folder / "far away", ledger.home)
        assert verified["status"] == "verified"
        assert verified["finding"]["entry"]["counter"] == ACCUSED
        untrusted = ledger.run("verify", produced["bundle"], exit=4)
        assert untrusted["status"] == "untrusted_signer"

    def test_a_bundle_with_one_byte_changed_is_refused_and_the_step_named(
        self, ledger: Ledger, produced: dict[str, Any]
    ) -> None:
        changed = ledger.folder / "changed.zip"
        ledger.script("change_byte.py", produced["bundle"], changed)
        verification = ledger.run("verify", changed, exit=1)
        assert verification["status"] == "broken"
        [failed] = [step for step in verification["steps"] if step["ok"] is False]
        assert failed["name"]
        assert failed["detail"]

    def test_the_report_is_two_pages_and_always_the_same(
        self, ledger: Ledger, produced: dict[str, Any]
    ) -> None:
        from pypdf import PdfReader

        first, second = ledger.folder / "1.pdf", ledger.folder / "2.pdf"
        for path in (first, second):
            ledger.run("report", produced["bundle"], "-o", path)
        assert first.read_bytes() == second.read_bytes()
        pages = PdfReader(first).pages
        assert len(pages) == 2
        words = " ".join(pages[0].extract_text().split())
        assert "does not say who copied, altered or circulated it" in words
        assert "match" not in words.lower()


def test_the_accused_picture_is_an_ordinary_picture(ledger: Ledger) -> None:
    with Image.open(ledger.picture(ACCUSED)) as picture:
        assert (picture.size, picture.mode) == ((64, 64), "RGB")
