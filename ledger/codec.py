"""How the fields of entries travel as JSON: one pair of strict parse and plain format each.

    HEX32.parse("5f2a…") → 32 bytes          HEX32.format(b"…") → "5f2a…"

Parsing raises `MalformedEntry` for every other spelling, so that a value has one encoding.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from latentlog.ledger import canonical
from latentlog.ledger.commitment import FIELDS
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import MalformedEntry
from latentlog.ledger.keys import PublicKey

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HEX = re.compile(r"([0-9a-f]{2})+")
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"

T = TypeVar("T")


class Codec(NamedTuple, Generic[T]):
    """A field's two directions: JSON value to our value, and back."""

    parse: Callable[[Any], T]
    format: Callable[[T], Any]


def format_time(time: datetime) -> str:
    """Write a UTC time as `2026-01-31T09:30:00Z`, whole seconds."""
    return time.astimezone(UTC).strftime(_TIME_FORMAT)


def parse_time(text: str) -> datetime:
    """Read what `format_time` wrote; raises `MalformedEntry`."""
    try:
        time = datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    except (ValueError, TypeError):
        time = None
    if time is None or format_time(time) != text:
        raise MalformedEntry("a time is written as 2026-01-31T09:30:00Z", got=repr(text)[:80])
    return time


def require_name(value: Any) -> str:
    """Return a model's or recorder's name if it is one; raises `MalformedEntry`."""
    if type(value) is not str or not _NAME.fullmatch(value):
        raise MalformedEntry(
            "a name is 1 to 64 lowercase letters, digits, dots, dashes or underscores, "
            "the first a letter or digit",
            got=repr(value)[:80],
        )
    return value


def integer(low: int, high: int = canonical.INTEGER_LIMIT) -> Codec[int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise MalformedEntry(f"not an integer from {low} to {high}", got=repr(value)[:80])
        return value

    return Codec(parse, int)


def hexadecimal(size: int | None = None) -> Codec[bytes]:
    def parse(value: Any) -> bytes:
        if type(value) is not str or not _HEX.fullmatch(value):
            raise MalformedEntry("not lowercase hexadecimal", got=repr(value)[:80])
        content = bytes.fromhex(value)
        if size is not None and len(content) != size:
            raise MalformedEntry(f"not {size} bytes", got=str(len(content)))
        return content

    return Codec(parse, bytes.hex)


def one_of(*words: str) -> Codec[str]:
    def parse(value: Any) -> str:
        if type(value) is not str or value not in words:
            raise MalformedEntry(f"not one of {', '.join(words)}", got=repr(value)[:80])
        return value

    return Codec(parse, str)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedEntry("not true or false", got=repr(value)[:80])
    return value


def _true(value: Any) -> bool:
    if value is not True:
        raise MalformedEntry("present only as true", got=repr(value)[:80])
    return True


def _text(value: Any) -> str:
    # Entries are public and printed on terminals and in reports: no control characters.
    if type(value) is not str or not 0 < len(value) <= 1024 or not value.isprintable():
        raise MalformedEntry("not 1 to 1024 printable characters", got=repr(value)[:80])
    return value


def list_of(codec: Codec[T], low: int, high: int) -> Codec[tuple[T, ...]]:
    def parse(value: Any) -> tuple[T, ...]:
        if type(value) is not list or not low <= len(value) <= high:
            raise MalformedEntry(f"not a list of {low} to {high} elements", got=repr(value)[:80])
        return tuple(codec.parse(item) for item in value)

    return Codec(parse, lambda items: [codec.format(item) for item in items])


def _parse_commitments(value: Any) -> dict[str, Digest]:
    if type(value) is not dict or "latent" not in value or not value.keys() <= set(FIELDS):
        raise MalformedEntry("commitments name a latent and no unknown field")
    return {name: Digest.fromhex(digest) for name, digest in value.items()}


def _format_commitments(commitments: Mapping[str, Digest]) -> dict[str, str]:
    return {name: digest.hex() for name, digest in commitments.items()}


NAME: Final[Codec[str]] = Codec(require_name, str)
TEXT: Final[Codec[str]] = Codec(_text, str)
TIME: Final[Codec[datetime]] = Codec(parse_time, format_time)
DECIMAL: Final[Codec[float]] = Codec(canonical.parse_decimal, canonical.decimal)
DIGEST: Final[Codec[Digest]] = Codec(Digest.fromhex, Digest.hex)
KEY: Final[Codec[PublicKey]] = Codec(PublicKey.fromhex, PublicKey.hex)
FLAG: Final[Codec[bool]] = Codec(_flag, bool)
TRUE: Final[Codec[bool]] = Codec(_true, bool)
COMMITMENTS: Final[Codec[Mapping[str, Digest]]] = Codec(_parse_commitments, _format_commitments)
