"""Words and numbers of a report: the text file, and figures as a reader is used to seeing them."""

import math
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final

from latentlog.evidence.likelihood import LOG10_CAP

LONGEST_NAME: Final = 60
ELLIPSIS: Final = "…"

_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# What the fonts of the layout have. Anything else (other scripts, control and direction marks,
# which could make a name read as another) is written as its code point.
_PRINTABLE: Final = re.compile(
    r"[ -~\u00a0-\u00ac\u00ae-\u017f\u0391-\u03a1\u03a3-\u03c9\u0410-\u044f\u2013\u2014"
    r"\u2018-\u201e\u2026\u2030\u2070\u2074-\u2079\u207b\u2080-\u2089\u2212\u2264\u2265\u00d7¼½⅛]"
)


@cache
def text(language: str = "en") -> dict[str, Any]:
    """Return the report's words in one language."""
    return tomllib.loads((Path(__file__).parent / f"text.{language}.toml").read_text("utf-8"))


def printable(value: str, limit: int = LONGEST_NAME) -> str:
    """Return a stranger's string as the page can show it, shortened in the middle."""
    shown = "".join(c if _PRINTABLE.fullmatch(c) else f"[U+{ord(c):04X}]" for c in value[:2000])
    if len(shown) <= limit:
        return shown
    tail = limit // 3
    return shown[: limit - tail - 1] + ELLIPSIS + shown[-tail:]


def typeset(sentence: str, limit: int) -> str:
    """Return prose of the finding as printed: the typist's apostrophe becomes the printer's."""
    return printable(sentence, limit).replace("'", "’")


def count(number: int) -> str:
    return f"{number:,}"


def rate(value: float) -> str:
    """Write a rate as a percentage, rounded up: a bound must not look smaller than it is."""
    percent = math.ceil(value * 1000.0 - 1e-9) / 10.0
    return f"{percent:.1f}".removesuffix(".0") + "\u00a0%"


def significant(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 1e5 or value == 0.0 else f"{value:.1e}"


def residual(value: float) -> str:
    """Write a residual: two decimals near the noise, fewer far from it."""
    return f"{value:.{2 if value < 10.0 else 1 if value < 100.0 else 0}f}"


def power_of_ten(exponent: int) -> str:
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def probability(p: str, *, explain: bool = False) -> str:
    """Write `null.format_p` for people: 2.9e-39 as the cipher's floor, 1.2e-8 as 1.2 × 10⁻⁸."""
    if math.log10(float(p)) <= -LOG10_CAP + 0.05:
        return str(text()["probability"]["floor"]) if explain else "2⁻¹²⁸"
    digits, _, exponent = p.partition("e")
    return f"{digits} × {power_of_ten(int(exponent))}" if exponent else digits


def threshold(p: float) -> str:
    """Write a limit of p; the rule's are powers of ten."""
    exponent = round(math.log10(p))
    return power_of_ten(exponent) if math.isclose(p, 10.0**exponent) else significant(p)


def ratio(log10: float) -> str:
    """Write a likelihood ratio, rounded down."""
    if log10 < 4.0:
        return count(max(1, math.floor(10.0**log10 + 1e-9)))
    return power_of_ten(math.floor(log10 + 1e-9))
