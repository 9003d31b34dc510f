"""Run every benchmark and rewrite the tables of docs/benchmarks.md between their markers.

A table belongs to `<!-- benchmark NAME -->` … `<!-- end NAME -->`; text around it is left alone.
`python benchmarks/run_all.py --quick` runs the small counts, `--only lookup` one benchmark.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import SCHEMA

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"


def main() -> None:
    """Run what was asked for; a benchmark that fails ends the run with its error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller counts, wider intervals")
    parser.add_argument("--only", action="append", help="a benchmark's name; repeatable")
    options = parser.parse_args()
    for name in options.only or benchmarks():
        print(f"benchmark {name} …", file=sys.stderr)
        document = DOCUMENT.read_text(encoding="utf-8")
        table = render(run(name, quick=options.quick), name, quick=options.quick)
        DOCUMENT.write_text(replace(document, name, table), encoding="utf-8")


def benchmarks() -> list[str]:
    """Name every benchmark of this folder."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("common", "run_all"))


def run(name: str, *, quick: bool) -> dict[str, Any]:
    """Run one benchmark in its own process and return what it printed."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *(["--quick"] if quick else [])]
    printed: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout
    )
    if printed.get("schema") != SCHEMA:
        sys.exit(f"{name} printed {printed.get('schema')!r} instead of {SCHEMA!r}")
    return printed


def render(printed: dict[str, Any], name: str, *, quick: bool) -> str:
    """Return one Markdown table with the command and the machine above it."""
    machine = printed["machine"]
    command = f"python benchmarks/{name}.py --json{' --quick' if quick else ''}"
    lines = [
        f"`{command}` on {machine['processor']}, {machine['cores']} cores, "
        f"Python {machine['python']}, load {machine['load_1min']} at the end:",
        "",
        "| name | value | unit | interval | target | met | baseline |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join(lines + [row(result) for result in printed["results"]])


def row(result: dict[str, Any]) -> str:
    """Return one row; a missed target says so in words."""
    interval = "" if result["interval"] is None else " – ".join(map(number, result["interval"]))
    target = "" if result["target"] is None else number(result["target"])
    met = {None: "", True: "yes", False: "**no**"}[result["met"]]
    baseline = result["baseline"]
    if isinstance(baseline, dict):
        baseline = f"{baseline['name']}: {number(baseline['value'])} {baseline['unit']}"
    name, value, unit = result["name"], number(result["value"]), result["unit"]
    return f"| `{name}` | {value} | {unit} | {interval} | {target} | {met} | {baseline or ''} |"


def number(value: float) -> str:
    """Write a figure with four significant digits and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def replace(document: str, name: str, table: str) -> str:
    """Put `table` between the markers of `name`, appending them where they are missing."""
    begin, end = f"<!-- benchmark {name} -->", f"<!-- end {name} -->"
    if begin not in document:
        return f"{document.rstrip()}\n\n## {name}\n\n{begin}\n{table}\n{end}\n"
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{DOCUMENT}: {begin} has no {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


if __name__ == "__main__":
    main()
