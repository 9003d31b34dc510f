"""`latentlog report`: the finding of a bundle as a PDF for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from latentlog.cli.commands.verify import require_ours
from latentlog.cli.errors import CliError
from latentlog.cli.files import STANDARD, input_path, require_absent, write_output
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import require_extra

app = typer.Typer()


class BrokenBundle(CliError):
    """A bundle that does not hold is not reported on."""

    kind = "integrity"


class UnreadableBundle(CliError):
    """Not a bundle of ours, or of a newer release."""

    kind = "input"


@command(
    app,
    panel="Examine",
    examples=[
        "latentlog report case.zip -o report.pdf",
        "latentlog report case.zip -o - > report.pdf",
    ],
)
def report(
    invocation: Invocation,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A zip or folder; - for stdin.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The PDF; - for stdout.")
    ],
    profile: Annotated[
        Literal["generic"], typer.Option(help="Which standard the report answers.")
    ] = "generic",
) -> None:
    """Set the report of a bundle as a PDF (PDF/A-3a, PDF/UA-1).

    The bundle is verified first; one that does not hold is refused. The same bundle gives the
    same bytes.
    """
    from latentlog.evidence.bundle import read_bundle
    from latentlog.evidence.report.pdf import render_report

    require_extra("typst", "PIL")
    require_absent(out)
    with input_path(bundle) as path:
        require_ours(path)
        _require_whole(path)
        pdf = render_report(read_bundle(path).parts)
    write_output(out, pdf)
    if out != STANDARD:
        invocation.console.emit(
            {
                "schema": "latentlog/report/v0",
                "report": str(out),
                "profile": profile,
                "bytes": len(pdf),
            },
            f"{out}, {len(pdf):,} bytes",
        )


def _require_whole(path: Path) -> None:
    from latentlog.evidence.verify import verify

    result = verify(path)
    failure = result.failure
    if failure is None or result.status not in {"broken", "not_checkable"}:
        return
    kind = BrokenBundle if result.status == "broken" else UnreadableBundle
    raise kind(
        f"step {failure.n} fails ({failure.name}): {failure.detail}",
        expected=failure.expected,
        got=failure.got,
        next_step="latentlog verify",
    )
