"""What every command shares: `--home`, `--db`, `--json`, `--quiet`, and how a command is declared.

`@command(app, examples=[…])` adds the shared options to the command's own, builds the `Invocation`
that it takes first, and puts the examples under its help. Shared options may also stand before the
command's name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from latentlog.cli.console import Console

if TYPE_CHECKING:
    from latentlog.cli.settings import Settings

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The ledger's folder (LATENTLOG_HOME).",
        rich_help_panel="Shared",
    ),
]
DbOption = Annotated[
    str | None,
    typer.Option(
        "--db", metavar="URL", help="The database (LATENTLOG_DB).", rich_help_panel="Shared"
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print JSON on stdout, also on failure.", rich_help_panel="Shared"),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No messages and no progress.", rich_help_panel="Shared"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One run of one command: its console and the shared options."""

    console: Console
    home: Path | None = None
    db: str | None = None

    @property
    def settings(self) -> Settings:
        """The settings with flag, environment and default resolved."""
        from latentlog.cli.settings import resolve

        return resolve(self.home, self.db)


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared options as they stood before the command's name."""

    home: Path | None = None
    db: str | None = None
    json: bool = False
    quiet: bool = False


Body = Callable[..., int | None]


def command(
    app: typer.Typer, *, examples: Sequence[str], name: str | None = None, panel: str | None = None
) -> Callable[[Body], Body]:
    """Register the decorated function, which takes an `Invocation` first, as a command of `app`."""

    def register(body: Body) -> Body:
        app.command(
            name or body.__name__.replace("_", "-"),
            help=_paragraphs(body),
            epilog=_epilog(examples),
            rich_help_panel=panel,
        )(with_shared_options(body))
        return body

    return register


def with_shared_options(body: Body) -> Body:
    """Add the shared options to the signature and collect them into the `Invocation`."""
    hints = get_type_hints(body, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name]) for p in inspect.signature(body).parameters.values()
    ][1:]

    def run(context: typer.Context, **given: Any) -> int | None:
        shared = Shared(*(given.pop(name) for name in _SHARED))
        return body(_invocation(context.find_object(Shared) or Shared(), shared), **given)

    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own),
        *_SHARED.values(),
    ]
    run.__name__, run.__doc__ = body.__name__, body.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _invocation(before: Shared, after: Shared) -> Invocation:
    return Invocation(
        console=Console(json=before.json or after.json, quiet=before.quiet or after.quiet),
        home=after.home or before.home,
        db=after.db or before.db,
    )


def _keyword(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )


_SHARED = {
    "home": _keyword("home", HomeOption, None),
    "db": _keyword("db", DbOption, None),
    "json": _keyword("json", JsonOption, False),
    "quiet": _keyword("quiet", QuietOption, False),
}


def _paragraphs(body: Body) -> str:
    # Rich keeps the source's line breaks; the terminal's width decides instead.
    paragraphs = inspect.cleandoc(body.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _epilog(examples: Sequence[str]) -> str:
    # Typer joins single newlines: an empty line keeps each example on its own.
    return "\n\n".join(["Examples:", *(f"  {example}" for example in examples)])
