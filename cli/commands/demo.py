"""`latentlog demo`: one whole dispute, by the commands it prints."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from latentlog.cli.console import Console, columns
from latentlog.cli.errors import CliError, ExitCode, OutputExists
from latentlog.cli.options import Invocation, command
from latentlog.cli.story import Case, Step, cases, steps
from latentlog.cli.wiring import require_extra

app = typer.Typer()

CHECKOUT: Final = Path(__file__).resolve().parents[2]
MARK: Final = ".latentlog-demo"
"""Stands in a folder that an earlier demo made, which may be replaced."""


class CheckoutMissing(CliError):
    """The demo needs the reference models and scripts of a checkout."""

    kind = "environment"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a step."""

    step: Step
    exit: int
    output: str
    seconds: float

    @property
    def problem(self) -> str | None:
        """What differs from what was expected, if anything."""
        if self.exit != self.step.exit:
            return f"exit code {self.exit} instead of {self.step.exit}"
        absent = [text for text in self.step.prints if text not in self.output]
        return f"the output lacks {absent[0]!r}" if absent else None


@command(app, panel="Help", examples=["latentlog demo", "latentlog demo --out /tmp/dispute"])
def demo(
    invocation: Invocation,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it happens; demo-output if not given.")
    ] = None,
) -> int:
    """Tell one dispute by running the very commands it prints, in a folder it names.

    Needs a checkout. Exit code 1 if any step differs from what the story says.
    """
    require_extra("torch", "PIL", "typst")
    folder = _prepare(Path("demo-output") if out is None else out)
    shown = shlex.quote(os.path.relpath(folder, CHECKOUT))
    console = invocation.console
    _tell(console, f"One dispute, in {folder}. The commands run in {CHECKOUT}.\n")
    _tell(console, f"$ export LATENTLOG_HOME={shown}/ledger")
    started = time.monotonic()
    results = [_run(console, step, shown) for step in steps(shown)]
    _conclude(console, shown, results, time.monotonic() - started)
    return ExitCode.INTEGRITY if any(r.problem for r in results) else ExitCode.DONE


def _prepare(folder: Path) -> Path:
    if not (CHECKOUT / "examples" / "dispute").is_dir():
        raise CheckoutMissing(
            "the demo needs a checkout: its models and scripts are not in the wheel",
            next_step="clone the repository and run make demo",
        )
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise OutputExists(
                f"{folder} exists and is not an earlier demo's; nothing was changed",
                next_step="latentlog demo --out DIR",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return folder


def _run(console: Console, step: Step, shown: str) -> Result:
    """Print a command and run exactly that line."""
    if step.title:
        _tell(console, f"\n{step.title}")
    _tell(console, f"\n$ {step.command}")
    environment = {
        **os.environ,
        "LATENTLOG_HOME": f"{shown}/ledger",
        # `latentlog` and `python` are those of this installation.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("LATENTLOG_DB", None)
    started = time.monotonic()
    process = subprocess.Popen(
        step.command,
        shell=True,
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if console.quiet else None,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        _tell(console, line.rstrip("\n"))
    result = Result(step, process.wait(), "".join(lines), time.monotonic() - started)
    if result.problem:
        _tell(console, console.paint(f"UNEXPECTED: {result.problem}", "bad"))
    return result


def _tell(console: Console, text: str) -> None:
    if not console.json:
        print(text, file=console.stdout, flush=True)


def _conclude(console: Console, shown: str, results: list[Result], seconds: float) -> None:
    failed = [r for r in results if r.problem]
    rows = [_outcome(case, shown, results) for case in cases(shown)]
    table = columns(
        [
            ("CASE", "FINDING", "AS EXPECTED", "BUNDLE", "REPORT"),
            *(
                (
                    row["case"],
                    row["finding"],
                    "yes" if row["as_expected"] else "NO",
                    row["bundle"],
                    row["report"],
                )
                for row in rows
            ),
        ]
    )
    document = {
        "schema": "latentlog/demo/v0",
        "folder": shown,
        "seconds": round(seconds, 1),
        "cases": rows,
        "unexpected": [{"command": r.step.command, "problem": r.problem} for r in failed],
    }
    verdict = "every step went as told" if not failed else f"{len(failed)} steps did not"
    console.emit(document, "", *table, "", f"{len(results)} commands, {seconds:.0f} s: {verdict}")


def _outcome(case: Case, shown: str, results: list[Result]) -> dict[str, Any]:
    bundle = f"{shown}/{case.name}.zip"
    concerned = [r for r in results if bundle in r.step.command]
    [examined] = [r for r in concerned if r.step.command.startswith("latentlog examine")]
    return {
        "case": case.name,
        "expected": case.headline,
        "finding": (examined.output.splitlines() or ["none"])[0],
        "as_expected": not any(r.problem for r in concerned),
        "bundle": bundle,
        "report": f"{shown}/{case.name}.pdf",
    }
