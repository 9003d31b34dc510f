"""DSSE: the specification's own example, openssl as a second verifier, and every refusal."""

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from latentlog.evidence.dsse import (
    key_id,
    parse_envelope,
    pre_authentication_encoding,
    sign_envelope,
    verify_envelope,
)
from latentlog.evidence.errors import MalformedEnvelope, WrongEnvelope
from latentlog.ledger import canonical
from latentlog.ledger.keys import PublicKey, SigningKey

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
TYPE = "application/vnd.in-toto+json"


def envelope(payload: bytes = b'{"a":1}') -> bytes:
    return sign_envelope(TYPE, payload, KEY)


def test_encoding_is_the_specifications_example() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_encoding_counts_bytes_not_characters() -> None:
    assert pre_authentication_encoding("é", "ü".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xbc"


def test_what_was_signed_verifies() -> None:
    parsed = parse_envelope(envelope(b"any \x00 bytes"))
    assert verify_envelope(parsed, KEY.public, TYPE) == b"any \x00 bytes"


def test_signing_is_deterministic() -> None:
    assert envelope() == envelope()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_openssl_verifies_and_prints_the_same_fingerprint(tmp_path: Path) -> None:
    der = bytes.fromhex("302a300506032b6570032100") + KEY.public.encoded
    (tmp_path / "key.der").write_bytes(der)
    (tmp_path / "pae").write_bytes(pre_authentication_encoding(TYPE, b'{"a":1}'))
    (tmp_path / "sig").write_bytes(parse_envelope(envelope()).signature)
    command = "pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in pae -sigfile sig"
    verified = subprocess.run(
        ["openssl", *command.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Verified Successfully" in verified.stdout
    assert key_id(KEY.public) == hashlib.sha256(der).hexdigest()


def test_refuses_another_type() -> None:
    with pytest.raises(WrongEnvelope, match="another kind"):
        verify_envelope(parse_envelope(envelope()), KEY.public, "application/other")


def test_refuses_another_key() -> None:
    with pytest.raises(WrongEnvelope, match="another key"):
        verify_envelope(parse_envelope(envelope()), OTHER.public, TYPE)


def test_refuses_another_keys_signature_under_a_borrowed_key_id() -> None:
    fields = json.loads(sign_envelope(TYPE, b"x", OTHER))
    fields["signatures"][0]["keyid"] = key_id(KEY.public)
    with pytest.raises(WrongEnvelope, match="does not hold"):
        verify_envelope(parse_envelope(canonical.encode(fields)), KEY.public, TYPE)


def test_refuses_every_changed_byte() -> None:
    good = envelope()
    for position in range(len(good)):
        for bit in (1, 0x80):
            bad = bytearray(good)
            bad[position] ^= bit
            with pytest.raises((MalformedEnvelope, WrongEnvelope)):
                verify_envelope(parse_envelope(bytes(bad)), KEY.public, TYPE)


def test_refuses_any_signature_of_a_wrong_length() -> None:
    fields = json.loads(envelope())
    for length in (0, 1, 63, 65, 1000):
        fields["signatures"][0]["sig"] = base64.b64encode(bytes(length)).decode()
        with pytest.raises(WrongEnvelope):
            verify_envelope(parse_envelope(canonical.encode(fields)), KEY.public, TYPE)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"payload": "e30="}',
        b'{"payload":"e30=","payloadType":"t","signatures":[]}',
        b'{"payload":"e30=","payloadType":"t"}',
        b'{"payload":"e30=","payloadType":1,"signatures":[{"keyid":"k","sig":"AA=="}]}',
        b'{"payload":"e30","payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="}]}',
        b'{"payload":"e31=","payloadType":"t","signatures":[{"keyid":"k","sig":"AB=="}]}',
        b'{"payload":"e30\\u000a=","payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="}]}',
        b'{"extra":1,"payload":"e30=","payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="}]}',
        b'{"payload":"e30=","payloadType":"t","signatures":[{"keyid":"k","sig":"AA==","x":1}]}',
        b'{"payload":"e30=","payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="},{"keyid":"k","sig":"AA=="}]}',
        b'{"payload":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"payload":' + b"9" * 100_000 + b"}",
        b'{"payload":"\xff"}',
        b'{"payload":"\xc3\xa9","payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="}]}',
    ],
)
def test_refuses_anything_else(encoded: bytes) -> None:
    with pytest.raises(MalformedEnvelope):
        parse_envelope(encoded)


def test_key_id_differs_by_key() -> None:
    assert key_id(KEY.public) != key_id(PublicKey(OTHER.public.encoded))
