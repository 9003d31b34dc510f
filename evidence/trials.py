"""Calibration trials on disk: one JSON line each, so that a long run resumes and splits merge.

    {"kind":"trials","model":"ab12…","pipeline":"0.1","root":"9f86…","plan":"starts=4 …","v":0}
    {"distortion":"jpeg","strength":"75","trial":17,"cosine":"0.9981","residual":"1.004", …}

The first line says what the trials belong to; a file of another model, pipeline, plan or control
key is refused. A line cut off by a crash is dropped and its trial run again.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

from latentlog.evidence import strict
from latentlog.evidence.errors import (
    CalibrationMismatch,
    MalformedCalibration,
    MalformedMeasurements,
)
from latentlog.evidence.measurements import ReplayScore

Series = Literal["control", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialKey:
    """Which trial: the point, and the control's counter; foreign pictures count apart."""

    distortion: str
    strength: float
    series: Series
    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One control's scores; a foreign picture has a residual only."""

    key: TrialKey
    residual: float
    cosine: float | None
    replay: ReplayScore | None
    other: ReplayScore | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialsHeader:
    """What the trials of a file belong to."""

    kind: Literal["trials"]
    model: str
    pipeline: str
    root: str
    plan: str
    device: str


class TrialFile:
    """Trials of one run, in memory and, if a path is given, appended to a file as they come."""

    def __init__(self, header: TrialsHeader, path: Path | None = None) -> None:
        self._header = header
        self._path = path
        self._lock = Lock()
        self._trials: dict[TrialKey, Trial] = {}
        if path is not None and path.exists():
            found, whole = _read(path)
            _require_same(header, found.header, path)
            self._trials = {t.key: t for t in found.trials}
            os.truncate(path, whole)
        elif path is not None:
            path.write_text(_line(header), encoding="utf-8")

    def __contains__(self, key: TrialKey) -> bool:
        return key in self._trials

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials.values())

    def add(self, trials: Iterable[Trial]) -> None:
        """Keep trials, on disk before in memory."""
        with self._lock:
            new = [t for t in trials if t.key not in self._trials]
            if self._path is not None and new:
                with self._path.open("a", encoding="utf-8") as file:
                    file.writelines(_line(t) for t in new)
                    file.flush()
                    os.fsync(file.fileno())
            self._trials.update({t.key: t for t in new})


@dataclass(frozen=True, slots=True)
class _Found:
    header: TrialsHeader
    trials: list[Trial]


def merge_trials(paths: Iterable[Path], into: Path) -> int:
    """Merge trial files of one run into a new one and return how many trials it holds.

    Raises `CalibrationMismatch` for files of different runs, or trials that disagree.
    """
    merged: TrialFile | None = None
    for path in paths:
        found, _ = _read(path)
        if merged is None:
            merged = TrialFile(found.header, into)
        _require_same(merged._header, found.header, path)
        for trial in found.trials:
            known = merged._trials.get(trial.key)
            if known is not None and known != trial:
                raise CalibrationMismatch(f"{path.name} disagrees about {trial.key}")
        merged.add(found.trials)
    return len(merged._trials) if merged is not None else 0


def _line(value: TrialsHeader | Trial) -> str:
    return json.dumps(strict.encode(value), separators=(",", ":")) + "\n"


def _read(path: Path) -> tuple[_Found, int]:
    """Return the complete lines of a trial file and how many bytes they take."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    try:
        header = strict.decode(TrialsHeader, json.loads(lines[0]))
        trials = [strict.decode(Trial, json.loads(line)) for line in lines[1:]]
    except (IndexError, ValueError, RecursionError, MalformedMeasurements) as error:
        raise MalformedCalibration(
            f"{path.name} is not a file of calibration trials", got=str(error)[:120]
        ) from error
    return _Found(header, trials), whole


def _require_same(wanted: TrialsHeader, found: TrialsHeader, path: Path) -> None:
    if wanted != found:
        raise CalibrationMismatch(
            f"{path.name} holds the trials of another run",
            expected=str(wanted)[:200],
            got=str(found)[:200],
            next_step="name another file for the trials",
        )
