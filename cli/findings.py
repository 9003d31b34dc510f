"""A finding in a few lines of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from latentlog.cli.console import Console

if TYPE_CHECKING:
    from latentlog.evidence.finding import Finding

OUTCOMES: Final = {
    "produced": ("PRODUCED", "bad"),
    "not_produced": ("NOT PRODUCED", "good"),
    "inconclusive": ("INCONCLUSIVE", "doubt"),
}
WIDTH: Final = 100


def finding_lines(console: Console, finding: Finding) -> list[str]:
    """Say outcome, explanation, numbers and envelope."""
    word, style = OUTCOMES[finding.outcome]
    also = f" (also: {', '.join(finding.also)})" if finding.also else ""
    return [
        f"{console.paint(word, style)}: {finding.reason}{also}",
        _wrapped(finding.explanation, indent=""),
        *_numbers(finding),
        *_envelope(finding),
        *(_wrapped(f"assumed: {text}") for text in finding.assumptions),
    ]


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False)


def _numbers(finding: Finding) -> Iterator[str]:
    if finding.entry is not None:
        index = "no entry" if finding.entry.index is None else f"entry {finding.entry.index}"
        yield f"{index}: epoch {finding.entry.epoch}, counter {finding.entry.counter}"
    if finding.multiplicity:
        only = "; this excludes coincidence only" if finding.outcome == "produced" else ""
        yield f"p (family) {finding.p_family} over {finding.multiplicity:,} comparisons{only}"


def _envelope(finding: Finding) -> Iterator[str]:
    for exclusion in finding.exclusion:
        yield f"envelope of {exclusion.model}, joint bound on misses {exclusion.beta:g}:"
        for point in exclusion.envelope:
            covered = "covered" if point.covered else "NOT COVERED"
            missed = f"{point.misses} of {point.trials} missed"
            bound = f"upper 95 % bound {point.upper95:.3g}"
            yield f"  {point.distortion} {point.strength:g}: {missed}, {bound}, {covered}"
