"""DSSE envelopes: a signature over a type and its bytes, wrapped in JSON.

https://github.com/secure-systems-lab/dsse/blob/master/protocol.md. What is signed is never JSON but
the pre-authentication encoding, so no two parsers can disagree about what was signed:

    DSSEv1 28 application/vnd.in-toto+json 1234 {"_type":…

Stricter than DSSE asks: exactly one signature, padded canonical base64, canonical JSON around it,
and the key identifier is the SHA-256 of the key's DER SubjectPublicKeyInfo, which is what
``openssl pkey -pubin -outform DER | sha256sum`` prints.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any, Final

from latentlog.evidence.errors import MalformedEnvelope, WrongEnvelope
from latentlog.ledger import canonical
from latentlog.ledger.errors import LedgerError
from latentlog.ledger.keys import PublicKey, SigningKey

MAX_ENVELOPE: Final = 8 << 20
"""A statement with its measurements is tens of kilobytes; this bounds what a stranger can send."""
SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
"""DER of an Ed25519 SubjectPublicKeyInfo up to the key itself, RFC 8410 section 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A parsed envelope; its payload says nothing until `verify_envelope` returned it."""

    payload_type: str
    payload: bytes
    key_id: str
    signature: bytes


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Encode what a DSSE signature covers (protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(key: PublicKey) -> str:
    """Return the key's fingerprint: SHA-256 of its DER SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(SPKI_PREFIX + key.encoded).hexdigest()


def sign_envelope(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """Sign `payload` and encode the envelope."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return canonical.encode(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": key_id(key.public), "sig": base64.b64encode(signature).decode()}
            ],
        }
    )


def parse_envelope(encoded: bytes) -> Envelope:
    """Parse an envelope of exactly the form `sign_envelope` writes."""
    try:
        fields = canonical.decode(encoded, limit=MAX_ENVELOPE)
    except LedgerError as error:
        raise MalformedEnvelope(f"envelope is not canonical JSON: {error}") from error
    match fields:
        case {
            "payload": str(payload),
            "payloadType": str(payload_type),
            "signatures": [{"keyid": str(key), "sig": str(signature), **more}],
            **rest,
        } if not more and not rest:
            return Envelope(
                payload_type=payload_type,
                payload=_from_base64(payload),
                key_id=key,
                signature=_from_base64(signature),
            )
    raise MalformedEnvelope(
        "envelope has the wrong shape",
        expected="payload, payloadType and exactly one signature",
        got=_shape(fields),
    )


def verify_envelope(envelope: Envelope, key: PublicKey, payload_type: str) -> bytes:
    """Return the payload that `key` signed as `payload_type`, or raise."""
    # The type is signed too; without this comparison a manifest could stand in for a statement.
    if envelope.payload_type != payload_type:
        raise WrongEnvelope(
            "envelope holds another kind of document",
            expected=payload_type,
            got=envelope.payload_type[:100],
        )
    if envelope.key_id != key_id(key):
        raise WrongEnvelope(
            "envelope was signed by another key", expected=key_id(key), got=envelope.key_id[:64]
        )
    try:
        key.verify(envelope.signature, pre_authentication_encoding(payload_type, envelope.payload))
    except LedgerError as error:
        raise WrongEnvelope(f"the signature of key {key_id(key)} does not hold") from error
    return envelope.payload


def _from_base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedEnvelope("envelope holds invalid base64") from error
    # Unused low bits would give one document several spellings.
    if base64.b64encode(raw).decode() != text:
        raise MalformedEnvelope("envelope holds base64 that is not canonical")
    return raw


def _shape(fields: dict[str, Any]) -> str:
    return ", ".join(sorted(fields))[:200]
