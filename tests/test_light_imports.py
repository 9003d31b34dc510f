"""The court's machine has neither GPU nor database: what it needs starts without them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latentlog.evidence.bundle import write_bundle
from tests.evidence.cases import parts

HEAVY = ("torch", "scipy", "matplotlib", "sqlalchemy", "alembic", "PIL", "typst", "pyhanko")

LOADED = """
import json, sys
from latentlog.cli.app import main
code = main(sys.argv[2:])
print("\\n" + json.dumps([code, sorted(set(json.loads(sys.argv[1])) & set(sys.modules))]))
"""

BLOCKED = """
import json, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    names = set(json.loads(sys.argv[1]))
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from latentlog.cli.app import main
sys.exit(main(sys.argv[2:]))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a fresh interpreter, the heavy names as its first argument."""
    return subprocess.run(
        [sys.executable, "-c", script, json.dumps(HEAVY), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["examine", "--help"],
        ["verify", "nothing-here.zip"],
        ["doctor", "--home", "/nonexistent"],
    ],
    ids=" ".join,
)
def test_loads_nothing_heavy(arguments: list[str]) -> None:
    done = run(LOADED, *arguments)
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert code in {0, 5, 6}, done.stderr


@pytest.mark.parametrize("outcome", ["produced", "not_produced"])
def test_verifies_a_bundle_where_heavy_libraries_are_absent(outcome: str, tmp_path: Path) -> None:
    bundle = tmp_path / "case.zip"
    write_bundle(bundle, parts(outcome))
    done = run(BLOCKED, "verify", str(bundle), "--json")
    assert done.returncode == 4, done.stderr
    verification = json.loads(done.stdout)
    assert verification["status"] == "untrusted_signer"
    assert verification["finding"]["outcome"] == outcome
    loaded = json.loads(run(LOADED, "verify", str(bundle)).stdout.splitlines()[-1])
    assert loaded == [4, []]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["examine", "medium.png", "--all-models", "--out", "case.zip"], "examine"),
        (["report", "case.zip", "-o", "report.pdf"], "report"),
    ],
    ids=["examine", "report"],
)
def test_missing_extra_is_one_error_with_the_install_line(arguments: list[str], extra: str) -> None:
    done = run(BLOCKED, *arguments, "--json")
    error = json.loads(done.stdout)
    assert done.returncode == 6, done.stderr
    assert error["code"] == "missing_extra"
    assert f"pip install 'latentlog[{extra}]'" in error["next"]
    assert "Traceback" not in done.stderr
