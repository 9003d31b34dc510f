"""A generator that nobody here wrote, as its owner would bring it: one file and three options.

No calibration comes with it. The examination then measures the tolerance of its replay at the
picture's own condition, and says that this was not logged before.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentlog.cli.app import main
from tests.cli.schemas import conform
from tests.inversion.zoo import ZOO, build, export

SHARED = Path(__file__).parents[2] / ".." / "shared"
ACCUSED = 33


@dataclass(frozen=True, slots=True)
class Stranger:
    """A ledger with the strange model, and fifty of its pictures."""

    folder: Path

    def run(self, *arguments: object, exit: int = 0) -> dict[str, Any]:
        """Type `latentlog ARGUMENTS --json` and read what it prints."""
        said = self.folder / "said"
        with said.open("w") as out, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setenv("LATENTLOG_HOME", str(self.folder / "home"))
            code = main([*map(str, arguments), "--json", "--quiet"])
        assert code == exit, said.read_text()
        return conform(json.loads(said.read_text()))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """Register the model by its file, open an epoch, generate."""
    if not (ZOO / "face32-dcgan-fl").is_dir():
        pytest.skip("../shared/zoo is not here")
    folder = tmp_path_factory.mktemp("stranger")
    file = export(build("face32-dcgan-fl"), (100,), folder / "faces.pt2")
    stranger = Stranger(folder)
    stranger.run("init")
    options = ("--prior", "uniform", "--latent-dim", 100, "--range", "-1,1")
    stranger.run("model", "add", "strange", "--generator", file, *options)
    stranger.run("epoch", "open", "strange")
    stranger.run("generate", "strange", "-n", 50, "--out", folder / "pictures")
    return stranger


def test_its_picture_saved_as_jpeg_90_is_produced_with_the_right_counter(
    stranger: Stranger,
) -> None:
    jpeg = stranger.folder / "accused.jpg"
    with Image.open(stranger.folder / "pictures" / f"{ACCUSED:08d}.png") as picture:
        picture.save(jpeg, quality=90)
    bundle = stranger.folder / "case.zip"
    finding = stranger.run("examine", jpeg, "--model", "strange", "--out", bundle, "--seed", "00")
    assert finding["outcome"] == "produced", finding["explanation"]
    assert finding["entry"]["counter"] == ACCUSED
    assert finding["channels"]["latent"]["cosine"] >= 0.9
    assert any("not logged before" in text for text in finding["assumptions"])
    assert stranger.run("verify", bundle, exit=4)["finding"]["outcome"] == "produced"


def test_a_photograph_of_the_same_size_is_never_produced(stranger: Stranger) -> None:
    with np.load(SHARED / "faces" / "portraits64.npz") as portraits:
        photograph = Image.fromarray(portraits["images"][7]).resize((32, 32))
    path = stranger.folder / "photograph.jpg"
    photograph.save(path, quality=90)
    bundle = stranger.folder / "photograph.zip"
    said = stranger.folder / "said"
    with said.open("w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setenv("LATENTLOG_HOME", str(stranger.folder / "home"))
        options = ["--model", "strange", "--out", str(bundle), "--json", "--quiet"]
        assert main(["examine", str(path), *options]) in {0, 3}
    assert json.loads(said.read_text())["outcome"] != "produced"
