"""Signed notes (c2sp.org/signed-note): text with one line for every signature.

    example.com/log
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/log Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5…

Name and key ID together name a key. Unknown signers are ignored, which is how witnesses and
rotated keys can be added; a bad signature by a known key refuses the whole note. The text means
nothing until `verify_note` returned it.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from latentlog.ledger.errors import MalformedKey, MalformedNote, UnknownSigner
from latentlog.ledger.keys import PublicKey, SigningKey

# The limits of Go's sumdb/note, so that what Go's tools read we read. The specification wants room
# for 16 signatures of up to 5 kB.
NOTE_LIMIT: Final = 1_000_000
SIGNATURE_LIMIT: Final = 100

ED25519: Final = 0x01

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+(.+)", re.DOTALL)
_SIGNATURE_LINE = re.compile(r"— ([^ ]+) ([^ ]+)")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: who claims to have signed, with which key, and the signature."""

    name: str
    key_id: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed, unverified note. `text` ends in a newline."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A note with at least one valid signature by a known key; made only by `verify_note`."""

    text: str
    signatures: tuple[NoteSignature, ...]
    """The signatures that were verified, one for each known key that signed."""


class Signer(Protocol):
    """What can sign a note: an Ed25519 key here, a witness's cosigner elsewhere."""

    @property
    def name(self) -> str: ...
    @property
    def key_id(self) -> int: ...
    def sign(self, text: bytes) -> bytes: ...


class Verifier(Protocol):
    """What can verify one known key's signature on a note."""

    @property
    def name(self) -> str: ...
    @property
    def key_id(self) -> int: ...
    def verify(self, text: bytes, signature: bytes) -> None:
        """Return only if the signature is good; raise `BadSignature`."""


def key_id(name: str, signature_type: int, public: bytes) -> int:
    """Return the first 4 bytes of SHA-256(name ‖ newline ‖ type ‖ key), big-endian."""
    hashed = sha256(name.encode() + b"\n" + bytes([signature_type]) + public).digest()
    return int.from_bytes(hashed[:4], "big")


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """An Ed25519 key that may sign notes, known by its vkey `name+id+base64(0x01 ‖ key)`."""

    name: str
    key: PublicKey

    def __post_init__(self) -> None:
        require_key_name(self.name)

    @classmethod
    def parse(cls, vkey: str) -> "NoteVerifier":
        """Parse a vkey; raises `MalformedKey`, also for other signature types."""
        parts = _VKEY.fullmatch(vkey)
        if not parts:
            raise MalformedKey("not a verifier key", expected="name+8 hex digits+base64")
        name, identifier, encoded = parts.groups()
        try:
            key = decode_base64(encoded)
        except ValueError:
            raise MalformedKey("the verifier key is not base64") from None
        if len(key) != 33 or key[0] != ED25519:
            raise MalformedKey(
                "not an Ed25519 verifier key", expected="type 0x01 and 32 bytes", got=key[:1].hex()
            )
        verifier = cls(name, PublicKey(key[1:]))
        if f"{verifier.key_id:08x}" != identifier:
            raise MalformedKey(
                "the key ID does not belong to this name and key",
                expected=f"{verifier.key_id:08x}",
                got=identifier,
            )
        return verifier

    @property
    def key_id(self) -> int:
        return key_id(self.name, ED25519, self.key.encoded)

    @property
    def vkey(self) -> str:
        """The text by which this key is handed to others."""
        encoded = encode_base64(bytes([ED25519]) + self.key.encoded)
        return f"{self.name}+{self.key_id:08x}+{encoded}"

    def verify(self, text: bytes, signature: bytes) -> None:
        self.key.verify(signature, text)


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """An Ed25519 key that signs notes under a name."""

    name: str
    key: SigningKey

    def __post_init__(self) -> None:
        require_key_name(self.name)

    @property
    def key_id(self) -> int:
        return self.verifier.key_id

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier(self.name, self.key.public)

    def sign(self, text: bytes) -> bytes:
        return self.key.sign(text)


def require_key_name(name: str) -> None:
    """Refuse names that could not be told apart on a signature line; raises `MalformedKey`."""
    if not name or "+" in name or _CONTROL.search(name) or any(map(str.isspace, name)):
        raise MalformedKey("a key name is not empty and holds neither spaces nor plus", got=name)


def parse_note(encoded: bytes) -> Note:
    """Parse a note without verifying it; raises `MalformedNote`."""
    if len(encoded) > NOTE_LIMIT:
        raise MalformedNote("the note is too large", expected=f"at most {NOTE_LIMIT} bytes")
    try:
        note = encoded.decode()
    except UnicodeDecodeError:
        raise MalformedNote("the note is not UTF-8") from None
    if _CONTROL.search(note):
        raise MalformedNote("the note holds a control character")
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise MalformedNote("the note has no signatures after a blank line")
    signatures = lines[:-1].split("\n")
    if len(signatures) > SIGNATURE_LIMIT:
        raise MalformedNote("too many signatures", expected=f"at most {SIGNATURE_LIMIT}")
    return Note(text + "\n", tuple(map(_parse_signature, signatures)))


def _parse_signature(line: str) -> NoteSignature:
    parts = _SIGNATURE_LINE.fullmatch(line)
    if not parts:
        raise MalformedNote("not a signature line", got=line[:80])
    name, encoded = parts.groups()
    try:
        require_key_name(name)
        signature = decode_base64(encoded)
    except (MalformedKey, ValueError):
        raise MalformedNote("not a signature line", got=line[:80]) from None
    if len(signature) < 5:
        raise MalformedNote("a signature is a key ID of 4 bytes and at least one more")
    return NoteSignature(name, int.from_bytes(signature[:4], "big"), signature[4:])


def format_note(note: Note) -> bytes:
    """Write a note, byte for byte what `parse_note` read; raises `MalformedNote`."""
    lines = [
        f"— {s.name} {encode_base64(s.key_id.to_bytes(4, 'big') + s.signature)}\n"
        for s in note.signatures
    ]
    encoded = f"{note.text}\n{''.join(lines)}".encode()
    if parse_note(encoded) != note:
        raise MalformedNote("this text cannot be signed as a note")
    return encoded


def sign_note(text: str, signers: Sequence[Signer]) -> bytes:
    """Sign `text`, which ends in a newline, with every signer; raises `MalformedNote`."""
    signed = text.encode()
    return format_note(
        Note(text, tuple(NoteSignature(s.name, s.key_id, s.sign(signed)) for s in signers))
    )


def verify_note(encoded: bytes, verifiers: Sequence[Verifier]) -> VerifiedNote:
    """Verify a note against the keys the caller knows.

    Raises `MalformedNote`, `BadSignature` if a known key's signature is bad, and `UnknownSigner`
    if no known key signed.
    """
    note = parse_note(encoded)
    known = _by_identity(verifiers)
    verified: dict[tuple[str, int], NoteSignature] = {}
    for signature in note.signatures:
        identity = (signature.name, signature.key_id)
        if identity in known:
            known[identity].verify(note.text.encode(), signature.signature)
            verified.setdefault(identity, signature)
    if not verified:
        raise UnknownSigner(
            "the note is not signed by any known key",
            expected=", ".join(sorted({name for name, _ in known})),
            got=", ".join(sorted({s.name for s in note.signatures})),
        )
    return VerifiedNote(note.text, tuple(verified.values()))


def _by_identity(verifiers: Sequence[Verifier]) -> dict[tuple[str, int], Verifier]:
    known: dict[tuple[str, int], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise MalformedKey("two verifier keys share one name and key ID", got=verifier.name)
    return known


def encode_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def decode_base64(text: str) -> bytes:
    """Decode standard base64 strictly: `encode_base64` writes it back; raises `ValueError`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if encode_base64(raw) != text:
        raise ValueError("base64 with stray bits")
    return raw
