"""The private contents of generations, as callers give them, in the form that is committed to.

    contents_of(2, sampler={"scale": 7.5})  →  [{"sampler": {"scale": "7.5"}}, {…}]

JSON without floats has one encoding everywhere: floats become decimal strings, and so do integers
beyond 2^53 (a 64-bit seed).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latentlog.ledger.canonical import INTEGER_LIMIT, decimal
from latentlog.ledger.errors import MalformedOpening
from latentlog.ledger.issue import Seed
from latentlog.ledger.outputs import Output


def contents_of(
    count: int,
    *,
    outputs: Sequence[Output] | None = None,
    seeds: Sequence[Seed] | None = None,
    **objects: Any,
) -> list[dict[str, Any]]:
    """Return the contents of `count` generations, field by field; raises `MalformedOpening`.

    Each of `objects` is a JSON object for all of them, a sequence with one for each, or `None`.
    """
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, given in objects.items():
        for contents, content in zip(found, _one_each(name, given, count), strict=True):
            if content is not None:
                contents[name] = content
    for contents, output in zip(found, _require_length("outputs", outputs, count), strict=True):
        if output is not None:
            contents |= output.contents()
    for contents, seed in zip(found, _require_length("seeds", seeds, count), strict=True):
        if seed is not None:
            contents["seed"] = seed.content()
    return found


def plain(value: Any) -> Any:
    """Return a JSON value without floats and large integers; raises `MalformedOpening`."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return decimal(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > INTEGER_LIMIT:
        return str(value)
    return value


def _one_each(name: str, given: Any, count: int) -> Sequence[dict[str, Any] | None]:
    if given is None:
        return [None] * count
    if isinstance(given, Mapping):
        # One object for all: the same one, so that it is hashed once.
        return [plain(given)] * count
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise MalformedOpening(
            f"{name} is a JSON object, or a list of them", got=type(given).__name__
        )
    for item in _require_length(name, given, count):
        if item is not None and not isinstance(item, Mapping):
            raise MalformedOpening(f"each {name} is a JSON object", got=type(item).__name__)
    return [None if item is None else plain(item) for item in given]


def _require_length(name: str, given: Sequence[Any] | None, count: int) -> Sequence[Any]:
    if given is None:
        return [None] * count
    if len(given) != count:
        raise MalformedOpening(
            f"{name} of another number than counters", expected=str(count), got=str(len(given))
        )
    return given
