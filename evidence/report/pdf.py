"""Set a report as PDF/A-3a and PDF/UA-1: typst, its own fonts, a fixed time, no network.

One report has one encoding: the same parts and the same release of typst give the same bytes, so a
reader can set the report again from the statement and compare.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from latentlog.evidence.errors import MissingExtra, ReportFailed
from latentlog.evidence.report.sections import Report, write_report

_TEMPLATE: Final = Path(__file__).with_name("template.typ")


def render_report(parts: Mapping[str, bytes]) -> bytes:
    """Set the report on a bundle's parts; raises `MissingExtra` without typst."""
    return set_report(write_report(parts))


def set_report(report: Report) -> bytes:
    """Set a written report; raises `ReportFailed` with typst's own words."""
    try:
        import typst
    except ImportError as error:
        raise MissingExtra(
            "the report needs typst", next_step='pip install "latentlog[report]"'
        ) from error
    # Typst reads pictures from files below its root only; nothing else lies there.
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        root = Path(folder)
        shutil.copyfile(_TEMPLATE, root / _TEMPLATE.name)
        for name, png in report.pictures.items():
            (root / name).write_bytes(png)
        try:
            pdf: bytes = typst.compile(
                str(root / _TEMPLATE.name),
                root=folder,
                sys_inputs={"content": json.dumps(report.content, ensure_ascii=False)},
                pdf_standards=["a-3a", "ua-1"],
                ignore_system_fonts=True,
                timestamp=_timestamp(report.content["created"]),
            )
        except typst.TypstError as error:
            raise ReportFailed(f"typst could not set the report: {error}") from error
    # A signature added later (PAdES) needs a line of its own; without it PDF/A breaks.
    return pdf + b"\n"


def _timestamp(created: Mapping[str, Any]) -> int:
    return int(datetime(**created, tzinfo=UTC).timestamp())
