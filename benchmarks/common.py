"""What every benchmark shares: the machine, the printed schema, exact intervals."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latentlog.evidence.likelihood import clopper_pearson_lower, clopper_pearson_upper

SCHEMA = "latentlog/benchmark/v0"


def arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse --json and --quick."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="smaller counts, wider intervals")
    return parser.parse_args(argv)


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on, its load included."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def result(
    name: str,
    value: float,
    unit: str,
    *,
    target: float | None = None,
    at_least: bool = True,
    baseline: dict[str, Any] | None = None,
    interval: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return one row; `met` compares the value with the target in the stated direction."""
    met = None if target is None else (value >= target if at_least else value <= target)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "target": target,
        "met": met,
        "baseline": baseline,
        "interval": None if interval is None else list(interval),
    }


def rate_interval(events: int, trials: int) -> tuple[float, float]:
    """Return the two-sided 95 % Clopper–Pearson interval of a rate."""
    return (
        clopper_pearson_lower(events, trials, 0.025),
        clopper_pearson_upper(events, trials, 0.025) if trials else 1.0,
    )


def times(run: Callable[[], object], repeats: int) -> list[float]:
    """Return the wall seconds of each of `repeats` runs, sorted."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)


def report(results: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print the rows, as the schema or as a table."""
    if as_json:
        json.dump({"schema": SCHEMA, "machine": machine(), "results": list(results)}, sys.stdout)
        print()
        return
    for row in results:
        target = "" if row["target"] is None else f"  target {row['target']:g}"
        print(f"{row['name']:32} {row['value']:>14.6g} {row['unit']}{target}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
