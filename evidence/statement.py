"""The signed statement: an in-toto Statement v1 about one file, and what the finding rests on.

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "photo.jpg", "digest": {"sha256": "9f86…", "latentlog-pixels": "2c26…"}}],
     "predicateType": "urn:latentlog:finding:v0",
     "predicate": {"finding": …, "measurements": …, "rules": …, "log": …, "cited": …, …}}

Canonical JSON without floats: a measurement is its shortest decimal string. Finding, measurements
and rules are all there, so that a reader can draw the finding again (docs/formats/statement.md).
Parsing proves form; what the statement says is proved, as far as it can be, by `verify`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from latentlog.evidence import strict
from latentlog.evidence.dsse import MAX_ENVELOPE
from latentlog.evidence.errors import EvidenceError, MalformedStatement, NewerSchema
from latentlog.evidence.finding import Finding
from latentlog.evidence.measurements import Measurements, Rules
from latentlog.ledger import canonical
from latentlog.ledger.errors import LedgerError
from latentlog.ledger.keys import PublicKey

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:latentlog:finding:v0"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
PIXELS: Final = "latentlog-pixels"

Role = Literal["independent", "court_appointed", "accused_party", "accusing_party"]
"""What the examiner is to the dispute."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examiner:
    """Who signed; `key` is the Ed25519 public key in hexadecimal."""

    name: str
    role: Role
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReference:
    """The log as the examiner saw it: its key and the checkpoint in the bundle."""

    origin: str
    vkey: str
    size: int
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A log entry that the finding rests on."""

    index: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExhibitReference:
    """A file of the bundle and its part in the examination."""

    path: str
    name: str
    role: str
    sha256: str
    size: int
    pixels: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyAction:
    """When which step of the examination was taken, by the examiner's clock."""

    at: str
    step: int
    what: str


Shown = Literal["medium", "replayed", "reconstruction", "difference", "map"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureReference:
    """A picture for the report and what was done to it, so that a caption can say so."""

    path: str
    shows: Shown
    width: int
    height: int
    """Of what it shows, before enlarging."""
    enlarged: int
    reduced: bool
    gain: int
    """Of a difference: the factor it was amplified by; 1 for every other picture."""
    largest: int
    """Of a difference: the largest one of any pixel, of 255, before amplifying; else 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A finding and all that it was drawn from."""

    created: str
    examiner: Examiner
    log: LogReference
    cited: tuple[Citation, ...]
    exhibits: tuple[ExhibitReference, ...]
    figures: tuple[FigureReference, ...]
    measurements: Measurements
    rules: Rules
    finding: Finding
    seed: str
    custody: tuple[CustodyAction, ...]
    versions: Mapping[str, str]

    @property
    def medium(self) -> ExhibitReference:
        """The file that the statement is about."""
        return next(exhibit for exhibit in self.exhibits if exhibit.role == "medium")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """The predicate without the parts that parse themselves."""

    created: str
    examiner: Examiner
    log: LogReference
    cited: tuple[Citation, ...]
    exhibits: tuple[ExhibitReference, ...]
    figures: tuple[FigureReference, ...]
    seed: str
    custody: tuple[CustodyAction, ...]


_FIGURE: Final = re.compile(r"figures/[a-z0-9-]+\.png")
_PARSED_APART: Final = {"finding", "measurements", "rules", "versions"}


def encode_statement(statement: Statement) -> bytes:
    """Encode a statement as the bytes to be signed."""
    medium = statement.medium
    digest = {"sha256": medium.sha256} | ({PIXELS: medium.pixels} if medium.pixels else {})
    plain = _Plain(**{name: getattr(statement, name) for name in _Plain.__slots__})
    return canonical.encode(
        {
            "_type": STATEMENT_TYPE,
            "predicate": strict.encode(plain)
            | {
                "finding": statement.finding.to_json(),
                "measurements": statement.measurements.to_json(),
                "rules": statement.rules.to_json(),
                "versions": dict(statement.versions),
            },
            "predicateType": PREDICATE_TYPE,
            "subject": [{"digest": digest, "name": medium.name}],
        }
    )


def claimed_key(payload: bytes) -> PublicKey:
    """Return the key that an unverified payload says it was signed with."""
    try:
        fields = canonical.decode(payload, limit=MAX_ENVELOPE)
    except LedgerError as error:
        raise MalformedStatement(f"statement is not canonical JSON: {error}") from error
    match fields:
        case {"predicate": {"examiner": {"key": str(key)}}}:
            return PublicKey.fromhex(key)
    raise MalformedStatement("the statement names no examiner's key")


def decode_statement(payload: bytes) -> Statement:
    """Decode a signed payload; raises `MalformedStatement`, or `NewerSchema`."""
    try:
        fields = canonical.decode(payload, limit=MAX_ENVELOPE)
    except LedgerError as error:
        raise MalformedStatement(f"statement is not canonical JSON: {error}") from error
    _require_known_schema(fields)
    match fields:
        case {"subject": [dict(subject)], "predicate": dict(predicate)} if len(fields) == 4:
            statement = _decode_predicate(predicate)
        case _:
            raise MalformedStatement("statement needs exactly one subject and a predicate")
    _require_sound(statement, subject)
    return statement


def _require_known_schema(fields: dict[str, Any]) -> None:
    if fields.get("_type") != STATEMENT_TYPE:
        raise MalformedStatement(
            "not an in-toto statement", expected=STATEMENT_TYPE, got=repr(fields.get("_type"))[:80]
        )
    kind = fields.get("predicateType")
    if kind == PREDICATE_TYPE:
        return
    if isinstance(kind, str) and re.fullmatch(r"urn:latentlog:finding:v[0-9]+", kind):
        raise NewerSchema(
            "the statement is of a newer schema",
            expected=PREDICATE_TYPE,
            got=kind[:80],
            next_step="verify it with a newer release",
        )
    raise MalformedStatement(
        "the statement is not a finding", expected=PREDICATE_TYPE, got=repr(kind)[:80]
    )


def _decode_predicate(predicate: dict[str, Any]) -> Statement:
    try:
        plain = strict.decode(
            _Plain, {k: v for k, v in predicate.items() if k not in _PARSED_APART}, "predicate"
        )
        return Statement(
            **{name: getattr(plain, name) for name in _Plain.__slots__},
            finding=Finding.from_json(predicate.get("finding")),
            measurements=Measurements.from_json(predicate.get("measurements")),
            rules=Rules.from_json(predicate.get("rules")),
            versions=_versions(predicate.get("versions")),
        )
    except EvidenceError as error:
        raise MalformedStatement(
            f"statement is malformed: {error}", expected=error.expected, got=error.got
        ) from error


def _versions(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise MalformedStatement("versions must be an object of strings")
    return value


def _require_sound(statement: Statement, subject: dict[str, Any]) -> None:
    """Refuse a statement whose parts name different things."""
    media = [exhibit for exhibit in statement.exhibits if exhibit.role == "medium"]
    if len(media) != 1:
        raise MalformedStatement("a statement is about exactly one medium", got=str(len(media)))
    if not _TIME.fullmatch(statement.created):
        raise MalformedStatement("not a UTC time", got=statement.created[:40])
    medium, measured = media[0], statement.measurements.medium
    digest = {"sha256": measured.sha256} | ({PIXELS: measured.pixels} if measured.pixels else {})
    if subject != {"digest": digest, "name": medium.name}:
        raise MalformedStatement("the subject is not the file that was measured")
    if (medium.sha256, medium.pixels) != (measured.sha256, measured.pixels):
        raise MalformedStatement("the exhibit is not the file that was measured")
    # Figures become files beside the report's layout: nothing else may be named as one.
    for figure in statement.figures:
        if not _FIGURE.fullmatch(figure.path):
            raise MalformedStatement("not the path of a figure", got=figure.path[:80])
        least = min(figure.width, figure.height, figure.enlarged, figure.gain)
        if least < 1 or not 0 <= figure.largest <= 255:
            raise MalformedStatement(f"{figure.path} is described impossibly")
    indices = [citation.index for citation in statement.cited]
    if indices != sorted(set(indices)):
        raise MalformedStatement("cited entries are listed once each, ascending")
