"""The bare wheel in an empty environment: only base dependencies, no checkout, no network.

The base dependencies are linked from the running environment: exactly those that the wheel's
metadata asks for, so that a heavy library which slipped into the base would be missing here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from latentlog.evidence.bundle import write_bundle
from latentlog.ledger.home import Home, open_log
from latentlog.ledger.registry import add_model
from tests.builders import make_model
from tests.evidence.cases import parts

ROOT = Path(__file__).parents[1]
EXTRAS = {"torch", "scipy", "pillow", "pdqhash", "safetensors", "matplotlib", "typst", "pyhanko"}


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel in it."""

    python: Path
    folder: Path

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `latentlog` of that environment, outside the checkout, with a home of its own."""
        return subprocess.run(
            [self.python.with_name("latentlog"), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LATENTLOG_HOME": str(self.folder / "home")},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )


def base_distributions(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """`name` and everything it needs without extras."""
    if name not in found:
        found[name] = distribution(name)
        for line in found[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                base_distributions(needed.name, found)
    return found


def link_base(site: Path) -> set[str]:
    """Link the base dependencies into `site`; return their names."""
    found = base_distributions("latentlog", {})
    del found["latentlog"]
    for dist in found.values():
        for top in {file.parts[0] for file in dist.files or [] if file.parts[0] != ".."}:
            source = Path(str(dist.locate_file(top)))
            if top != "__pycache__" and source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return set(found)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the checkout, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, because setuptools writes build/ and *.egg-info beside pyproject.toml.
    source = folder / "source"
    source.mkdir()
    for name in ("cli", "evidence", "inversion", "ledger", "migrations", "package"):
        (source / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an empty environment."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)],
        check=True,
        capture_output=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    assert not link_base(site) & EXTRAS
    return Installed(python, folder)


def test_wheel_writes_one_top_level_package_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        names = set(archive.namelist())
    assert {top for top in tops if not top.endswith(".dist-info")} == {"latentlog"}
    assert "latentlog/migrations/env.py" in names
    assert any(name.startswith("latentlog/migrations/versions/0001") for name in names)
    assert "latentlog/evidence/report/template.typ" in names
    assert not any("test" in name for name in names)


def test_bare_installation_starts(installed: Installed) -> None:
    assert installed.run("--version").stdout.startswith("latentlog ")
    assert "Usage" in installed.run("--help").stdout


def test_missing_extra_is_named(installed: Installed) -> None:
    done = installed.run("examine", "x.png", "--all-models", "--out", "x.zip", "--json")
    error = json.loads(done.stdout)
    assert (done.returncode, error["code"]) == (6, "missing_extra")
    assert error["next"] == "pip install 'latentlog[examine]'"


def test_bare_installation_draws_records_and_audits(installed: Installed) -> None:
    assert installed.run("init", "--origin", "example.com/faces").returncode == 0
    register(installed.folder / "home")
    assert installed.run("epoch", "open", "faces").returncode == 0
    drawn = installed.run("draw", "faces", "-n", "3")
    draws = [json.loads(line)["draw"] for line in drawn.stdout.splitlines()]
    assert draws == ["0/0", "0/1", "0/2"]
    (installed.folder / "made.png").write_bytes(b"whatever the service wrote")
    lines = "".join(json.dumps({"draw": d, "output": "made.png"}) + "\n" for d in draws[:2])
    recorded = installed.run("record", "--json", stdin=lines)
    assert [s["draw"] for s in json.loads(recorded.stdout)["sealed"]] == draws[:2]
    audited = json.loads(installed.run("audit", "--json").stdout)
    assert audited["clean"], audited
    assert audited["openings"] == 2


def test_bare_installation_verifies_a_bundle(installed: Installed) -> None:
    bundle = installed.folder / "case.zip"
    write_bundle(bundle, parts("produced"))
    done = installed.run("verify", str(bundle), "--json")
    verification = json.loads(done.stdout)
    assert done.returncode == 4, "nobody said whom to trust"
    assert verification["status"] == "untrusted_signer"
    assert verification["finding"]["outcome"] == "produced"


def register(home: Path) -> None:
    """Register a model without loading one: the bare environment has no torch."""
    log = open_log(Home.open(home))
    add_model(log, make_model("faces"))
    log.publish()
    log.store.close()
