"""Strict canonical JSON (RFC 8785) without floats.

    {"counter":41,"epoch":0,"kind":"generation","v":0}

One value has one encoding, so a digest of the bytes is a digest of the value. Floats are refused:
measurements travel as decimal strings, integers beyond ±(2^53 − 1) too. Decoding accepts only
bytes that encoding would write, which also refuses duplicate keys, white space and escapes that
two parsers might read differently.
"""

import json
import math
from typing import Any, Final

import rfc8785

from latentlog.ledger.errors import MalformedDecimal, NotCanonical

# An entry must fit a tlog-tiles entry bundle, whose length prefix is 16 bits.
ENTRY_LIMIT: Final = 65_535
# Deeper than any of our formats; a bound keeps hostile input from exhausting the stack.
DEPTH_LIMIT: Final = 16
# RFC 8785 numbers are doubles (section 3.2.2.3): exact only up to here.
INTEGER_LIMIT: Final = 2**53 - 1

# With ASCII keys and neither floats nor large integers, the C encoder of the standard library
# writes exactly RFC 8785, several times faster than the pure Python package.
_dumps = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


def encode(value: Any) -> bytes:
    """Encode `value` as RFC 8785; raises `NotCanonical` for what the format may not hold."""
    try:
        if _require_exact(value, DEPTH_LIMIT):
            return _dumps(value).encode()
        return rfc8785.dumps(value)
    except UnicodeEncodeError:
        raise NotCanonical("a string holds a lone surrogate, which is not Unicode text") from None


def _require_exact(value: Any, depth: int) -> bool:
    """Refuse what has no exact encoding; return whether every key is ASCII.

    Other keys go to the package: RFC 8785 section 3.2.3 sorts by UTF-16 code units, Python by
    code points.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        if not -INTEGER_LIMIT <= value <= INTEGER_LIMIT:
            raise NotCanonical(
                "an integer beyond 2^53 - 1 must be written as a decimal string", got=str(value)
            )
        return True
    if depth == 0:
        raise NotCanonical(f"nested deeper than {DEPTH_LIMIT} levels")
    if kind is dict:
        ascii_keys = True
        for key, item in value.items():
            if type(key) is not str:
                raise NotCanonical("object keys must be strings", got=repr(key)[:80])
            ascii_keys &= key.isascii()
            ascii_keys &= _require_exact(item, depth - 1)
        return ascii_keys
    if kind is list or kind is tuple:
        ascii_keys = True
        for item in value:
            ascii_keys &= _require_exact(item, depth - 1)
        return ascii_keys
    if kind is float:
        raise NotCanonical("floats are not exact; write a decimal string", got=repr(value))
    raise NotCanonical("not a JSON value", got=kind.__name__)


def decode(encoded: bytes, *, limit: int = ENTRY_LIMIT) -> dict[str, Any]:
    """Decode a canonical JSON object of at most `limit` bytes; raises `NotCanonical`."""
    if len(encoded) > limit:
        raise NotCanonical(
            "the object is too large", expected=f"at most {limit} bytes", got=f"{len(encoded)}"
        )
    try:
        value = json.loads(encoded.decode())
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not JSON: {error}"[:200]) from None
    if not isinstance(value, dict):
        raise NotCanonical("not a JSON object", got=type(value).__name__)
    if encode(value) != encoded:
        raise NotCanonical("not canonical: encoding the object again gives other bytes")
    return value


def decimal(number: float) -> str:
    """Write a finite float as its shortest decimal string that reads back identically."""
    number = float(number)
    if not math.isfinite(number):
        raise MalformedDecimal("only finite numbers can be recorded", got=repr(number))
    return repr(number)


def parse_decimal(text: str) -> float:
    """Read what `decimal` wrote; raises `MalformedDecimal` for any other spelling."""
    try:
        number = float(text)
    except (ValueError, TypeError):
        raise MalformedDecimal("not a decimal number", got=repr(text)[:80]) from None
    if not math.isfinite(number) or repr(number) != text:
        raise MalformedDecimal(
            "not the shortest decimal form", expected=repr(number), got=repr(text)[:80]
        )
    return number
