"""The root of the command line and the single boundary where errors become exit codes.

The command files declare the commands; none of them loads a layer before it runs. `main` runs one
command line: a package error is printed with what was expected, what was found and what to type
next; a bug is written to a log file whose traceback holds no variables, because these may be keys.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from latentlog.cli.commands import (
    audit,
    backup,
    calibrate,
    demo,
    doctor,
    epochs,
    examine,
    generate,
    keys,
    log,
    models,
    publish,
    record,
    recorders,
    report,
    setup,
    verify,
)
from latentlog.cli.console import log_line, printable, wants_log_lines
from latentlog.cli.errors import BY_KIND, ExitCode, PackageError, as_package_error, code_of
from latentlog.cli.options import DbOption, HomeOption, JsonOption, QuietOption, Shared

PROGRAM: Final = "latentlog"

app = typer.Typer(
    name=PROGRAM,
    help="A plausible-deniability provenance ledger for generative models.",
    epilog="Start with `latentlog doctor`: it says what is set up and what to type next.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {installed_version('latentlog')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    home: HomeOption = None,
    db: DbOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the shared options where they stand before the command's name."""
    context.obj = Shared(home, db, json, quiet)


# Without a name a group's commands stand at the top.
app.add_typer(setup.app)
app.add_typer(models.app, name="model", rich_help_panel="Set up")
app.add_typer(epochs.app, name="epoch", rich_help_panel="Set up")
app.add_typer(recorders.app, name="recorder", rich_help_panel="Set up")
app.add_typer(keys.app, name="keys", rich_help_panel="Set up")
app.add_typer(setup.db_app, name="db", rich_help_panel="Set up")
app.add_typer(generate.app)
app.add_typer(record.app)
app.add_typer(log.app)
app.add_typer(publish.app)
app.add_typer(audit.app)
app.add_typer(backup.app)
app.add_typer(calibrate.app)
app.add_typer(examine.app)
app.add_typer(verify.app)
app.add_typer(report.app)
app.add_typer(doctor.app)
app.add_typer(demo.app)


def main(argv: Sequence[str] | None = None, root: typer.Typer = app) -> int:
    """Run one command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(root, arguments)
        sys.stdout.flush()
    except BaseException as error:
        return _report(error, arguments)
    return code


def _run(root: typer.Typer, arguments: list[str]) -> int:
    command = typer.main.get_command(root)
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
        command.main(prog_name=PROGRAM)
    # Not `command.main`: it turns a closed pipe into exit 1, which here means a broken record.
    with command.make_context(PROGRAM, list(arguments)) as context:
        return int(command.invoke(context) or ExitCode.DONE)


def _report(error: BaseException, arguments: list[str]) -> int:
    """Say what went wrong and give its exit code."""
    match error:
        case typer.Exit():
            return error.exit_code
        case SystemExit() if isinstance(error.__context__, BrokenPipeError):
            # Rich turns a closed pipe into exit 1, which here means a broken record.
            _abandon_stdout()
            return ExitCode.PIPE_CLOSED
        case SystemExit():
            return error.code if isinstance(error.code, int) else ExitCode.DONE
        case KeyboardInterrupt() | typer.Abort():
            return _print_error(arguments, "interrupted", "interrupted", ExitCode.INTERRUPTED)
        case BrokenPipeError():
            _abandon_stdout()
            return ExitCode.PIPE_CLOSED
        case typer.TyperException():
            return _report_usage(error, arguments)
    known = as_package_error(error)
    if known is None:
        return _report_bug(error, arguments)
    return _print_known(known, arguments)


def _print_known(error: PackageError, arguments: list[str]) -> int:
    return _print_error(
        arguments,
        code_of(error),
        error.message,
        BY_KIND[error.kind],
        expected=error.expected,
        got=error.got,
        next_step=error.next_step,
    )


def _report_usage(error: typer.TyperException, arguments: list[str]) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message().removesuffix(".")
    if context and message == "Missing command" and not _wants_json(arguments):
        context.get_help()
    path = context.command_path if context else PROGRAM
    return _print_error(arguments, "usage", message, ExitCode.USAGE, next_step=f"{path} --help")


def _report_bug(error: BaseException, arguments: list[str]) -> int:
    trace = "".join(traceback.format_exception(error))
    path = _write_log(f"{PROGRAM} {installed_version('latentlog')}, Python {sys.version}\n{trace}")
    where = f"the traceback is in {path}" if path else trace
    return _print_error(
        arguments,
        "internal",
        f"internal error ({type(error).__name__}): this is a bug in latentlog",
        ExitCode.INTERNAL,
        next_step=f"report it; {where}",
    )


def _print_error(
    arguments: list[str],
    code: str,
    message: str,
    exit_code: ExitCode,
    *,
    expected: str | None = None,
    got: str | None = None,
    next_step: str | None = None,
) -> int:
    try:
        if _wants_json(arguments):
            document: dict[str, Any] = {
                "schema": "latentlog/error/v0",
                "code": code,
                "message": message,
                "expected": expected,
                "got": got,
                "next": next_step,
                "exit": int(exit_code),
            }
            print(json.dumps(document, ensure_ascii=False), flush=True)
        else:
            lines = {"expected": expected, "got": got, "next": next_step}
            if wants_log_lines():
                print(log_line("error", message, code=code, **lines), file=sys.stderr)
                return exit_code
            print(printable(f"error: {message}"), file=sys.stderr)
            for label, text in lines.items():
                if text:
                    print(printable(f"  {label}: {text}"), file=sys.stderr)
    except BrokenPipeError:
        _abandon_stdout()
    return exit_code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Find --json without the parser, which may be what failed."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before


def _abandon_stdout() -> None:
    # The interpreter flushes stdout at exit and would complain about the closed pipe again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_log(text: str) -> Path | None:
    """Write the log of a bug, or nothing when the disk is the problem."""
    from latentlog.cli.settings import state_folder

    name = f"error-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.log"
    for folder in (state_folder(), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            with open(path, "x", encoding="utf-8", opener=_private) as log:
                log.write(text)
        except OSError:
            continue
        return path
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
