"""`latentlog verify`: check a bundle offline, in numbered steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from latentlog.cli.console import Console
from latentlog.cli.errors import CliError, ExitCode
from latentlog.cli.files import input_path, read_input
from latentlog.cli.findings import finding_lines
from latentlog.cli.options import Invocation, command

if TYPE_CHECKING:
    from latentlog.evidence.verify import Signer, Step, Verification

app = typer.Typer()

EXIT: Final = {
    "verified": ExitCode.DONE,
    "broken": ExitCode.INTEGRITY,
    "untrusted_signer": ExitCode.UNTRUSTED,
    "not_checkable": ExitCode.INPUT,
}
HEADLINE: Final = {
    "verified": ("VERIFIED", "good"),
    "broken": ("BROKEN", "bad"),
    "untrusted_signer": ("UNTRUSTED SIGNER", "doubt"),
    "not_checkable": ("NOT CHECKABLE HERE", "doubt"),
}


@command(
    app,
    panel="Examine",
    examples=[
        "latentlog verify case.zip --trust trust.toml",
        "latentlog verify - --json < case.zip",
    ],
)
def verify(
    invocation: Invocation,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A zip or folder; - for stdin.")],
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Whom you trust; `latentlog keys trust` writes yours."),
    ] = None,
) -> int:
    """Check a bundle offline, step by step.

    No network, model, database or ledger is needed. What the finding says does not change the exit
    code: 0 verified, 1 broken, 4 whole but signed by nobody you trust, 5 not a bundle of ours.
    Without --trust the keys' fingerprints are printed, for you to compare, and the exit code is 4.
    """
    from latentlog.evidence import verify as recipe
    from latentlog.evidence.trust import load_trust

    trusted = load_trust(trust) if trust else None
    with input_path(bundle) as path:
        require_ours(path)
        result = recipe.verify(path, trusted)
    _print(invocation.console, result)
    return EXIT[result.status]


class NotOurBundle(CliError):
    """A file or folder that is no bundle of this product at all."""

    kind = "input"


def require_ours(path: Path) -> None:
    """Raise `NotOurBundle` for what holds no statement; everything else is `verify`'s to judge."""
    name = "statement.dsse.json"
    ours = (path / name).exists() if path.is_dir() else name.encode() in read_input(path)
    if not ours:
        raise NotOurBundle(
            "this is not a bundle that latentlog wrote", expected=f"a zip or folder with {name}"
        )


def _print(console: Console, result: Verification) -> None:
    failure = result.failure
    document = result.to_json()
    if result.status == "not_checkable" and failure:
        # Not a bundle of ours: that is a failed command, so the error's keys come along.
        document |= {
            "schema": "latentlog/error/v0",
            "code": "not_checkable",
            "message": failure.detail,
            "expected": failure.expected,
            "got": failure.got,
            "next": "latentlog verify --help",
            "exit": int(ExitCode.INPUT),
        }
    console.emit(
        document,
        *(_step(console, step) for step in result.steps),
        *(_signer(signer) for signer in result.signers),
        *_summary(console, result),
    )


def _step(console: Console, step: Step) -> str:
    mark, style = {True: ("ok", "good"), False: ("FAILED", "bad"), None: ("–", "dim")}[step.ok]
    lines = [f"{console.paint(f'{mark:>6}', style)}  ({step.n}) {step.name}"]
    if step.ok is not None and step.detail:
        lines.append(f"             {step.detail}")
    if step.ok is False:
        lines += [f"             expected: {step.expected}"] * bool(step.expected)
        lines += [f"             got: {step.got}"] * bool(step.got)
    return "\n".join(lines)


def _signer(signer: Signer) -> str:
    known = "trusted" if signer.trusted else "not known here: compare it with what you were told"
    return f"{signer.role} {signer.name}: key fingerprint {signer.fingerprint} ({known})"


def _summary(console: Console, result: Verification) -> list[str]:
    word, style = HEADLINE[result.status]
    failure = result.failure
    reason = f": step {failure.n}, {failure.name}" if failure else ""
    lines = [f"{console.paint(word, style)}{reason}"]
    if result.finding:
        lines += finding_lines(console, result.finding)
    return lines
