"""Hiding and binding commitments to the private fields of a generation, and their openings.

    commitment = SHA-256("latentlog/commitment/v0\\0" ‖ lp(context) ‖ salt (32) ‖ value (32))
    context    = lp(field) ‖ lp(origin) ‖ u64 epoch ‖ u64 counter

The salt hides the value even where few values are possible (a prompt, a seed); the context stops
a commitment from being opened as another field, another counter or another log's.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal, get_args

from latentlog.ledger import canonical
from latentlog.ledger.digest import COMMITMENT, Digest, lp, u64
from latentlog.ledger.errors import LedgerError, MalformedOpening, WrongOpening

Field = Literal[
    "latent",
    "conditioning",
    "sampler",
    "output_file",
    "output_pixels",
    "sketch",
    "compute",
    "seed",
]
FIELDS: Final[tuple[Field, ...]] = get_args(Field)

# Prompts and compute records are short; a bound keeps a hostile opening from filling memory.
OPENING_LIMIT: Final = 1 << 20

_OBJECTS: Final = frozenset({"conditioning", "sampler", "compute", "seed"})
_LABELLED_FIELD: Final = {field: lp(field.encode()) for field in FIELDS}


def commit(
    field: str, value: Digest, salt: bytes, *, origin: str, epoch: int, counter: int
) -> Digest:
    """Commit to `value` as `field` of one counter of one epoch of one log.

    `salt` is 32 bytes, secret until the opening is shown, and used once.
    """
    if len(salt) != 32 or len(value) != 32:
        raise MalformedOpening("salt and value of a commitment have 32 bytes each")
    try:
        context = _LABELLED_FIELD[field] + lp(origin.encode()) + u64(epoch) + u64(counter)  # type: ignore[index]
    except (KeyError, OverflowError):
        raise MalformedOpening("no such committed field or counter", got=field) from None
    return Digest(sha256(COMMITMENT + lp(context) + salt + value).digest())


def open_commitment(
    commitment: Digest,
    field: str,
    value: Digest,
    salt: bytes,
    *,
    origin: str,
    epoch: int,
    counter: int,
) -> Digest:
    """Return `value` if it is what `commitment` hides; raises `WrongOpening`."""
    recomputed = commit(field, value, salt, origin=origin, epoch=epoch, counter=counter)
    if not hmac.compare_digest(recomputed, commitment):
        raise WrongOpening(
            f"the {field} shown for {epoch}/{counter} is not the one that was committed to",
            expected=commitment.hex(),
            got=recomputed.hex(),
        )
    return value


@dataclass(frozen=True, slots=True)
class OpenedField:
    """One private field: the salt of its commitment and its content.

    `content` is a JSON object for conditioning, sampler, compute and seed, a lowercase hexadecimal
    string for output_file, output_pixels and sketch, and `None` for the latent, which whoever
    holds the epoch key derives again.
    """

    salt: bytes
    content: Any


@dataclass(frozen=True, slots=True)
class Opening:
    """What a developer keeps secret about one generation, enough to open its commitments."""

    epoch: int
    counter: int
    fields: Mapping[str, OpenedField]

    def encode(self) -> bytes:
        """Encode as canonical JSON."""
        return canonical.encode(
            {
                "counter": self.counter,
                "epoch": self.epoch,
                "fields": {
                    name: {"content": field.content, "salt": field.salt.hex()}
                    for name, field in self.fields.items()
                },
                "kind": "opening",
                "v": 0,
            }
        )

    @classmethod
    def decode(cls, encoded: bytes) -> "Opening":
        """Decode what `encode` wrote; raises `MalformedOpening`."""
        try:
            value = canonical.decode(encoded, limit=OPENING_LIMIT)
        except LedgerError as error:
            raise MalformedOpening(f"unreadable opening: {error.message}") from None
        if value.keys() != {"counter", "epoch", "fields", "kind", "v"}:
            raise MalformedOpening("unknown or missing members in an opening")
        if (value["kind"], value["v"]) != ("opening", 0) or type(value["v"]) is not int:
            raise MalformedOpening("not an opening of version 0")
        fields = value["fields"]
        if type(fields) is not dict or not fields.keys() <= set(FIELDS):
            raise MalformedOpening("unknown fields in an opening")
        return cls(
            epoch=_counter(value["epoch"]),
            counter=_counter(value["counter"]),
            fields={name: _opened_field(name, field) for name, field in fields.items()},
        )


def value_of(field: str, content: Any) -> Digest:
    """Return the 32-byte value that a field's commitment covers; raises `MalformedOpening`.

    An object is hashed as canonical JSON, a digest stands for itself, a sketch (32 bytes) is
    hashed. The latent has no content here: `keystream.latent_digest` gives its value.
    """
    try:
        if field in ("output_file", "output_pixels"):
            return Digest.fromhex(content)
        if field == "sketch":
            return Digest.of(Digest.fromhex(content))
        if field in _OBJECTS and type(content) is dict:
            return Digest.of(canonical.encode(content))
    except LedgerError as error:
        raise MalformedOpening(f"unusable {field}: {error.message}") from None
    raise MalformedOpening(f"no value can be made of this {field}", got=type(content).__name__)


def _opened_field(name: str, field: Any) -> OpenedField:
    if type(field) is not dict or field.keys() != {"content", "salt"}:
        raise MalformedOpening(f"{name} needs exactly a salt and a content")
    try:
        salt = bytes(Digest.fromhex(field["salt"]))
    except LedgerError:
        raise MalformedOpening(f"the salt of {name} is not 32 bytes in hexadecimal") from None
    content = field["content"]
    if name == "latent":
        if content is not None:
            raise MalformedOpening("an opening holds no latent: it is derived from the epoch key")
    elif type(content) is not dict:
        # What canonical JSON held as an object can be encoded again, so it needs no second look.
        value_of(name, content)
    elif name not in _OBJECTS:
        raise MalformedOpening(f"{name} is no object")
    return OpenedField(salt, content)


def _counter(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise MalformedOpening("epoch and counter are non-negative integers", got=repr(value)[:80])
    return value
