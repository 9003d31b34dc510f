"""Running a calibration for the commands: `calibrate`, and `examine` where none is logged."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latentlog.cli.console import Console
from latentlog.cli.wiring import (
    Ledger,
    find_model,
    open_record,
    require_extra,
    start_model,
    view_of,
)

if TYPE_CHECKING:
    from latentlog.evidence.profiles import Profile

DISTORTIONS: Final = frozenset({"png", "jpeg", "resize"})
"""What controls can be put through."""
MEASURED_WITH: Final = ("latentlog", "torch", "numpy", "Pillow")


def measure(
    console: Console,
    ledger: Ledger,
    name: str,
    profile: Profile,
    *,
    jobs: int | None = None,
    trials: Path | None = None,
    trust_code: bool = False,
) -> bytes:
    """Run a profile's controls and return the calibration document.

    Every finished trial is kept in the home, so that an interrupted run goes on where it stopped.
    """
    from latentlog.evidence.calibrate import calibrate
    from latentlog.evidence.calibration import Setting

    require_extra("torch", "scipy", "PIL")
    entry = find_model(ledger, name)
    with open_record(ledger) as record, console.progress("calibrating") as advance:
        view = view_of(record, name)
        calibration = calibrate(
            lambda: start_model(ledger, entry, trust_code=trust_code),
            view,
            record.control_root(view.digest),
            profile,
            trials=trials or _trial_file(ledger, view.digest),
            versions=[Setting(name=p, value=version(p)) for p in MEASURED_WITH],
            jobs=jobs or os.cpu_count() or 1,
            on_step=lambda point, done, total: advance(done, total, f"calibrating, {point}"),
        )
    return calibration.encode()


def _trial_file(ledger: Ledger, digest: str) -> Path:
    folder = ledger.home.path / "calibrations"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{digest}.jsonl"
