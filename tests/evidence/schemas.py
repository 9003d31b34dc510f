"""Writes the published JSON schemas from the types: `python -m tests.evidence.schemas`.

The schemas under docs/schemas are what other programs are written against; a test compares them
with these, so that a changed type cannot change the published form unnoticed.
"""

import dataclasses
import json
import types
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from latentlog.evidence.finding import Exclusion, Finding
from latentlog.evidence.measurements import Measurements, Rules
from latentlog.evidence.rule import INCONCLUSIVE_REASONS, NEGATIVE_REASONS, POSITIVE_REASONS
from latentlog.evidence.statement import (
    PIXELS,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    Citation,
    CustodyAction,
    Examiner,
    ExhibitReference,
    FigureReference,
    LogReference,
)

FOLDER: Final = Path(__file__).parents[2] / "docs" / "schemas"
REASONS: Final = [*POSITIVE_REASONS, *NEGATIVE_REASONS, *INCONCLUSIVE_REASONS]
OUTCOMES: Final = ["produced", "not_produced", "inconclusive"]

HEX: Final[dict[str, Any]] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TEXT: Final[dict[str, Any]] = {"type": "string"}
TEXT_OR_NULL: Final[dict[str, Any]] = {"type": ["string", "null"]}
DECIMAL: Final[dict[str, Any]] = {
    "description": "The shortest decimal string that reads back as the same IEEE 754 double.",
    "type": "string",
    "pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-][0-9]{2,3})?$",
}
OPEN: Final = "The keys listed as required are stable; others may be added."

Schema = dict[str, Any]


class Types:
    """Schemas of dataclasses, gathered under `$defs`; signed ones are closed, without floats."""

    def __init__(self, *, signed: bool) -> None:
        self.signed = signed
        self.defs: dict[str, Schema] = {"decimal": DECIMAL} if signed else {}

    def of(self, kind: Any) -> Schema:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            inner = self.of(next(a for a in arguments if a is not type(None)))
            if "type" not in inner:
                return {"oneOf": [inner, {"type": "null"}]}
            return {**inner, "type": [inner["type"], "null"]}
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin is tuple:
            return {"type": "array", "items": self.of(arguments[0])}
        if dataclasses.is_dataclass(kind):
            return self._reference(kind)
        if kind is float:
            return {"$ref": "#/$defs/decimal"} if self.signed else {"type": "number"}
        return {"type": {int: "integer", str: "string", bool: "boolean"}[kind]}

    def members(self, kind: Any) -> dict[str, Schema]:
        hints = get_type_hints(kind)
        return {f.name.rstrip("_"): self.of(hints[f.name]) for f in dataclasses.fields(kind)}

    def _reference(self, kind: Any) -> Schema:
        if kind.__name__ not in self.defs:
            self.defs[kind.__name__] = {}
            self.defs[kind.__name__] = closed(self.members(kind), self.signed)
        return {"$ref": f"#/$defs/{kind.__name__}"}


def closed(members: dict[str, Schema], only: bool = True) -> Schema:
    extra = {"additionalProperties": False} if only else {}
    return {"type": "object", "required": sorted(members), **extra, "properties": members}


def array(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def document(name: str, description: str, content: Schema, defs: dict[str, Schema]) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:latentlog:schema:{name}:v0",
        "title": f"latentlog/{name}/v0",
        "description": description,
        **content,
        **({"$defs": dict(sorted(defs.items()))} if defs else {}),
    }


def finding() -> Schema:
    kinds = Types(signed=False)
    exclusion = kinds.of(Exclusion)
    members: dict[str, Schema] = {
        "schema": {"const": "latentlog/finding/v0"},
        **kinds.members(Finding),
        "reason": {"enum": REASONS},
        "also": array({"enum": list(INCONCLUSIVE_REASONS)}),
        "p_family": {
            "description": "At most this chance of a coincidence as close, over all comparisons; "
            "never below 2^-128.",
            **TEXT,
        },
        "multiplicity": {
            "description": "N: every latent compared times every vector, over the whole case.",
            "type": "integer",
        },
        "exclusion": {
            "description": "The first of `exclusions`; null where there is none.",
            "oneOf": [exclusion, {"type": "null"}],
        },
        "exclusions": array(exclusion),
        "bundle": {"description": "The file that was written.", **TEXT_OR_NULL},
    }
    text = f"What `examine --json` prints. {OPEN}"
    return document("finding", text, closed(members, only=False), kinds.defs)


def statement() -> Schema:
    kinds = Types(signed=True)
    rules = kinds.members(Rules)
    # Pairs in the code are objects with names in the signed form.
    point = closed({"distortion": TEXT, "strength": kinds.of(float)})
    predicate = {
        "created": TEXT,
        "examiner": kinds.of(Examiner),
        "log": kinds.of(LogReference),
        "cited": array(kinds.of(Citation)),
        "exhibits": array(kinds.of(ExhibitReference)),
        "figures": array(kinds.of(FigureReference)),
        "custody": array(kinds.of(CustodyAction)),
        "seed": TEXT,
        "measurements": kinds.of(Measurements),
        "rules": closed({**rules, "required": array(point)}),
        "finding": kinds.of(Finding),
        "versions": {"type": "object", "additionalProperties": TEXT},
    }
    digest = {
        "type": "object",
        "required": ["sha256"],
        "additionalProperties": False,
        "properties": {"sha256": HEX, PIXELS: HEX},
    }
    members: dict[str, Schema] = {
        "_type": {"const": STATEMENT_TYPE},
        "subject": array(closed({"digest": digest, "name": TEXT}), minItems=1, maxItems=1),
        "predicateType": {"const": PREDICATE_TYPE},
        "predicate": closed(predicate),
    }
    text = "The in-toto Statement v1 that an examiner signs: the payload of statement.dsse.json."
    return document("statement", text, closed(members), kinds.defs)


def verification() -> Schema:
    step: dict[str, Schema] = {
        "n": {"type": "integer", "minimum": 1},
        "name": TEXT,
        "ok": {"description": "Null where the step was not reached.", "type": ["boolean", "null"]},
        "detail": TEXT,
        "expected": TEXT_OR_NULL,
        "got": TEXT_OR_NULL,
    }
    signer: dict[str, Schema] = {
        "role": {"enum": ["log", "examiner"]},
        "name": TEXT,
        "key": TEXT,
        "fingerprint": {"description": "SHA-256 of the DER public key.", **HEX},
        "trusted": {"type": "boolean"},
    }
    shown: dict[str, Schema] = {
        "schema": {"const": "latentlog/finding/v0"},
        "outcome": {"enum": OUTCOMES},
        "reason": {"enum": REASONS},
    }
    members: dict[str, Schema] = {
        "schema": {"const": "latentlog/verification/v0"},
        "status": {"enum": ["verified", "broken", "untrusted_signer", "not_checkable"]},
        "steps": {
            "description": "Every step, in order; those after a failed one were not reached.",
            **array(closed(step, only=False)),
        },
        "signers": {
            "description": "The keys that the bundle names, to compare with what is known of them.",
            **array(closed(signer, only=False)),
        },
        "finding": {
            "description": "As in latentlog/finding/v0 if the bundle is whole, null otherwise.",
            "oneOf": [{"type": "null"}, closed(shown, only=False)],
        },
    }
    text = f"What `verify --json` prints. {OPEN}"
    return document("verification", text, closed(members, only=False), {})


def error() -> Schema:
    members: dict[str, Schema] = {
        "schema": {"const": "latentlog/error/v0"},
        "code": {
            "description": "The stable name of what went wrong.",
            "type": "string",
            "pattern": "^[a-z0-9_]+$",
        },
        "message": TEXT,
        "expected": TEXT_OR_NULL,
        "got": TEXT_OR_NULL,
        "next": {"description": "What to type next.", **TEXT_OR_NULL},
        "exit": {
            "description": "1 integrity · 2 usage · 4 untrusted signer · 5 unreadable input or "
            "newer schema · 6 environment · 70 internal error · 130 interrupted",
            "enum": [1, 2, 4, 5, 6, 70, 130],
        },
    }
    text = f"What every command prints under `--json` when it fails. {OPEN}"
    return document("error", text, closed(members, only=False), {})


def written() -> dict[Path, str]:
    """Return the files of docs/schemas as they should be."""
    schemas = (finding(), statement(), verification(), error())
    return {
        FOLDER / f"{schema['$id'].split(':')[3]}-v0.json": json.dumps(
            schema, indent=2, ensure_ascii=False
        )
        + "\n"
        for schema in schemas
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, "utf-8")
