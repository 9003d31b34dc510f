"""Every command is documented, every example parses, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from latentlog.cli.app import PROGRAM, app
from latentlog.cli.reference import commands, reference

ROOT = Path(__file__).parents[1]
TREE: Any = typer.main.get_command(app)
COMMANDS = {" ".join(path[1:]): command for path, command in commands(TREE, (PROGRAM,))}
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
    if path.exists()
]
NOW = {
    *("init", "db upgrade", "db current", "keys list", "keys show", "keys trust"),
    *("recorder add", "recorder list", "recorder retire", "model add", "model list"),
    *("epoch open", "epoch close", "epoch list", "generate", "draw", "record"),
    *("checkpoint", "prove", "show", "status", "audit", "erase", "calibrate"),
    *("publish", "backup", "restore"),
    *("examine", "verify", "report", "doctor", "demo"),
}


def shown_lines(text: str) -> Iterator[str]:
    """The command lines in a page's code blocks, continuation lines joined."""
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if f"{PROGRAM} " in line and not line.startswith("#"):
                yield line


def arguments_of(line: str) -> list[str]:
    """The arguments that the shell would give to the last `latentlog` of a line."""
    words = shlex.split(line.split("#")[0])
    words = words[len(words) - 1 - words[::-1].index(PROGRAM) + 1 :]
    for position, word in enumerate(words):
        if word in {"<", ">", ">>", "|"}:
            return words[:position]
    return words


def parse(arguments: list[str]) -> None:
    """Parse a command line without running it; raises what the parser raises."""
    command, context = TREE, None
    while hasattr(command, "commands"):
        context = command.make_context(PROGRAM, list(arguments), parent=context)
        name, command, arguments = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert name is not None
    command.make_context(command.name, list(arguments), parent=context)


def test_the_commands_of_this_release_are_there() -> None:
    assert set(COMMANDS) == NOW


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_help_and_examples_that_parse(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert command.help[0].isupper()
    examples = [line.strip() for line in command.epilog.splitlines()[1:] if line.strip()]
    assert examples
    for example in examples:
        assert f"{PROGRAM} {name}" in example
        parse(arguments_of(example))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name: str) -> None:
    assert not [p.name for p in COMMANDS[name].params if not p.help]


def test_the_reference_is_what_the_commands_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run: python -m latentlog.cli.reference > docs/cli.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_of_a_page_parse(page: Path) -> None:
    for line in shown_lines(page.read_text(encoding="utf-8")):
        parse(arguments_of(line))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    broken = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert not broken
