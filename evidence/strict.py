"""Frozen dataclasses to JSON and back, strictly.

Signed documents hold no floats (RFC 8785 would print them, other languages would round them), so
a float is written as its shortest decimal string: 0.1 <-> "0.1". Unknown keys, missing keys, wrong
types, NaN and infinities are refused. A trailing underscore of a field name is not written
(`global_` <-> "global"). Standard library only: the offline verifier decodes with this.
"""

import dataclasses
import functools
import math
import re
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from latentlog.evidence.errors import MalformedMeasurements

T = TypeVar("T")

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 32
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-][0-9]{2,3})?")


def encode(value: object) -> Any:
    """Return the JSON form of a dataclass, or of anything that one may hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name.rstrip("_"): encode(getattr(value, f.name)) for f in fields}
    if isinstance(value, float):
        return decimal(value)
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"no JSON form for {type(value).__name__}")


def plain(value: object) -> Any:
    """Return the JSON form with numbers for floats: for output, never for anything signed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name.rstrip("_"): plain(getattr(value, f.name)) for f in fields}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value


def decode(cls: type[T], value: object, where: str = "") -> T:
    """Return the dataclass that `value` encodes; raise `MalformedMeasurements` otherwise."""
    result = _decode(cls, value, where or cls.__name__.lower(), 0)
    assert isinstance(result, cls)
    return result


def decimal(x: float) -> str:
    """Format a finite float as the shortest decimal string that reads back the same."""
    if not math.isfinite(x):
        raise MalformedMeasurements("a measurement is not finite", got=repr(x))
    text = repr(float(x))
    return text.removesuffix(".0") if "e" not in text else text


def parse_decimal(text: str) -> float:
    """Parse what `decimal` writes, and nothing else."""
    if len(text) > 40 or not _DECIMAL.fullmatch(text) or decimal(float(text)) != text:
        raise MalformedMeasurements("not a canonical decimal", got=repr(text[:60]))
    return float(text)


def _decode(cls: Any, value: object, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise MalformedMeasurements(f"{where} is nested too deeply")
    origin = get_origin(cls)
    if origin in (Union, types.UnionType):
        inner = [a for a in get_args(cls) if a is not type(None)]
        return None if value is None else _decode(inner[0], value, where, depth + 1)
    if origin is Literal:
        if value not in get_args(cls) or isinstance(value, bool):
            raise _wrong(where, f"one of {', '.join(map(str, get_args(cls)))}", value)
        return value
    if origin is tuple:
        return _decode_tuple(get_args(cls)[0], value, where, depth)
    if dataclasses.is_dataclass(cls):
        return _decode_dataclass(cls, value, where, depth)
    return _decode_scalar(cls, value, where)


def _decode_tuple(item: Any, value: object, where: str, depth: int) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return tuple(_decode(item, v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value))


def _decode_dataclass(cls: Any, value: object, where: str, depth: int) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    fields = _fields(cls)
    if value.keys() != fields.keys():
        raise MalformedMeasurements(
            f"{where} has the wrong keys",
            expected=", ".join(sorted(fields)),
            got=", ".join(sorted(map(str, value))),
        )
    arguments = {
        field: _decode(hint, value[key], f"{where}.{key}", depth + 1)
        for key, (field, hint) in fields.items()
    }
    return cls(**arguments)


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[str, Any]]:
    """Return each JSON key of a dataclass with its field and type."""
    hints = get_type_hints(cls)
    return {f.name.rstrip("_"): (f.name, hints[f.name]) for f in dataclasses.fields(cls)}


def _decode_scalar(cls: Any, value: object, where: str) -> Any:
    if cls is float and isinstance(value, str):
        try:
            return parse_decimal(value)
        except MalformedMeasurements as error:
            raise _wrong(where, "a decimal string", value) from error
    if cls is int and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_INTEGER:
            raise _wrong(where, "an integer within ±2^53", value)
        return value
    if cls in (str, bool) and type(value) is cls:
        return value
    raise _wrong(where, {float: "a decimal string"}.get(cls, f"{cls.__name__}"), value)


def _wrong(where: str, expected: str, value: object) -> MalformedMeasurements:
    return MalformedMeasurements(
        f"{where} has the wrong form", expected=expected, got=repr(value)[:80]
    )
