"""Signed notes: the specification's example, public literals, and every malformed shape."""

import base64
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger.errors import BadSignature, MalformedKey, MalformedNote, UnknownSigner
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.note import (
    NOTE_LIMIT,
    SIGNATURE_LIMIT,
    Note,
    NoteSignature,
    NoteSigner,
    NoteVerifier,
    format_note,
    key_id,
    parse_note,
    sign_note,
    verify_note,
)
from tests.ledger.vectors import read_json, vector_folder

TEXT = "example.com/log\n3\nroot\n"
LOG = NoteSigner("example.com/log", SigningKey(bytes(32)))
WITNESS = NoteSigner("witness.example", SigningKey(b"\x01" * 32))
STRANGER = NoteSigner("stranger.example", SigningKey(b"\x02" * 32))
SIGNED = sign_note(TEXT, [LOG])
LINE = SIGNED.decode().splitlines()[-1]

# The example of the Go documentation (golang.org/x/mod/sumdb/note).
GO_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb\
6KE6RyyBwJnAM=
""".encode()
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def literals(name: str) -> list[str]:
    found: dict[str, list[str]] = read_json(vector_folder("tlog-formats") / "literals.json")
    return found[f"formats/{name}"]


def test_the_specification_example_verifies() -> None:
    folder = vector_folder("c2sp-specs")
    note = (folder / "signed-note-example.note").read_bytes()
    verifier = NoteVerifier.parse((folder / "signed-note-example.vkey").read_text().strip())
    assert verify_note(note, [verifier]).text == "This is an example message.\n"
    assert format_note(parse_note(note)) == note
    with pytest.raises(BadSignature):
        verify_note(note.replace(b"message", b"massage"), [verifier])


def test_the_go_example_verifies() -> None:
    verifier = NoteVerifier.parse(GO_VKEY)
    assert verifier.vkey == GO_VKEY
    verified = verify_note(GO_NOTE, [verifier])
    assert verified.text.count("\n") == 2
    assert [signature.name for signature in verified.signatures] == ["PeterNeumann"]


def test_the_signature_line_is_the_one_of_the_specification() -> None:
    public = LOG.key.public.encoded
    identifier = sha256(b"example.com/log\n\x01" + public).digest()[:4]
    encoded = base64.b64encode(identifier + LOG.key.sign(TEXT.encode())).decode()
    assert SIGNED.decode() == f"{TEXT}\n— example.com/log {encoded}\n"
    assert key_id("example.com/log", 1, public).to_bytes(4, "big") == identifier
    key = base64.b64encode(b"\x01" + public).decode()
    assert LOG.verifier.vkey == f"example.com/log+{identifier.hex()}+{key}"


def test_public_vkeys_are_read_as_their_type_allows() -> None:
    ed25519 = [
        key
        for name in ("note/note_verifier_test.go", "note/note_cosigv1_test.go")
        for key in literals(name)
        if key.startswith(("logandmap+", "PeterNeumann+", "TEST+"))
    ]
    assert len(ed25519) == 3
    assert [NoteVerifier.parse(key).vkey for key in ed25519] == ed25519
    others = [
        key
        for name in ("cosigv1", "verifier", "rfc6962")
        for key in literals(f"note/note_{name}_test.go")
        if key not in ed25519 and "\n" not in key
    ]
    assert len(others) == 11
    for key in others:
        with pytest.raises(MalformedKey):
            NoteVerifier.parse(key)


def test_public_notes_parse_and_keep_their_bytes() -> None:
    notes = [
        note.encode()
        for name in ("verifier", "rfc6962")
        for note in literals(f"note/note_{name}_test.go")
        if "\n\n" in note and "NOT/A/VALID" not in note
    ]
    assert len(notes) == 3
    for note in notes:
        assert format_note(parse_note(note)) == note
        with pytest.raises(UnknownSigner):
            verify_note(note, [LOG.verifier])


def test_unknown_signers_are_ignored_and_known_ones_returned() -> None:
    note = sign_note(TEXT, [STRANGER, WITNESS, LOG])
    verified = verify_note(note, [LOG.verifier, WITNESS.verifier])
    assert [signature.name for signature in verified.signatures] == [WITNESS.name, LOG.name]
    assert len(parse_note(note).signatures) == 3
    with pytest.raises(UnknownSigner) as refusal:
        verify_note(sign_note(TEXT, [STRANGER]), [LOG.verifier])
    assert refusal.value.kind == "untrusted"
    with pytest.raises(UnknownSigner):
        verify_note(SIGNED, [])


def test_a_shared_name_or_id_alone_is_another_key() -> None:
    note = parse_note(SIGNED)
    bad = note.signatures[0]
    same_name = replace(bad, key_id=bad.key_id ^ 1)
    same_id = replace(bad, name="other.example")
    mixed = format_note(Note(TEXT, (same_name, same_id, bad)))
    assert len(verify_note(mixed, [LOG.verifier]).signatures) == 1


def test_one_bad_signature_of_a_known_key_refuses_the_note() -> None:
    good = parse_note(sign_note(TEXT, [LOG, WITNESS]))
    for i in range(2):
        for wrong in (b"\0" * 64, b"x", good.signatures[1 - i].signature):
            signatures = list(good.signatures)
            signatures[i] = replace(signatures[i], signature=wrong)
            with pytest.raises(BadSignature):
                verify_note(
                    format_note(Note(TEXT, tuple(signatures))), [LOG.verifier, WITNESS.verifier]
                )


def test_a_signature_that_is_repeated_counts_once_and_is_verified_each_time() -> None:
    signature = parse_note(SIGNED).signatures[0]
    twice = format_note(Note(TEXT, (signature, signature)))
    assert verify_note(twice, [LOG.verifier]).signatures == (signature,)
    second_bad = format_note(Note(TEXT, (signature, replace(signature, signature=bytes(64)))))
    with pytest.raises(BadSignature):
        verify_note(second_bad, [LOG.verifier])


def test_two_keys_of_one_identity_are_refused() -> None:
    class Impostor:
        name, key_id = LOG.name, LOG.key_id

        def verify(self, text: bytes, signature: bytes) -> None:
            raise AssertionError

    with pytest.raises(MalformedKey):
        verify_note(SIGNED, [LOG.verifier, Impostor()])
    assert verify_note(SIGNED, [LOG.verifier, LOG.verifier]).text == TEXT


def test_a_hundred_signatures_are_accepted_and_no_more() -> None:
    line = parse_note(SIGNED).signatures[0]
    strangers = tuple(
        NoteSignature(f"witness{i}.example", i, b"\x01" * 5000) for i in range(SIGNATURE_LIMIT)
    )
    note = format_note(Note(TEXT, (line, *strangers[1:])))
    assert verify_note(note, [LOG.verifier]).text == TEXT
    with pytest.raises(MalformedNote, match="too many"):
        format_note(Note(TEXT, (line, *strangers)))
    with pytest.raises(MalformedNote, match="too large"):
        parse_note(b"x" * NOTE_LIMIT + SIGNED)


def test_the_text_may_hold_blank_lines_and_any_script() -> None:
    text = "ed è subito sera.\n\n\n— not a signature\n\n"
    note = sign_note(text, [LOG])
    assert verify_note(note, [LOG.verifier]).text == text


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\n",
        TEXT.encode(),
        f"{TEXT}\n".encode(),
        f"{TEXT}{LINE}\n".encode(),
        SIGNED[:-1],
        SIGNED + b"\n",
        SIGNED + b"x\n",
        SIGNED.replace(b"\n", b"\r\n"),
        SIGNED.replace("—".encode(), b"-"),
        SIGNED.replace("— ".encode(), "—".encode()),
        SIGNED.replace("— ".encode(), "—  ".encode()),
        SIGNED.replace("— example".encode(), "—  example".encode()),
        SIGNED.replace("— example.com/log".encode(), "— exa+mple".encode()),
        SIGNED.replace("— example.com/log".encode(), "— exa\u2003mple".encode()),
        SIGNED.replace("— example.com/log".encode(), "— ".encode()),
        SIGNED[:-1] + b" \n",
        SIGNED[:-1] + b" more\n",
        SIGNED[:-2] + b"\n",
        SIGNED[:-5] + b"!!!!\n",
        f"{TEXT}\n— example.com/log AAAAAA==\n".encode(),
        f"{TEXT}\n— example.com/log AAAAAAB=\n".encode(),
        b"\xff" + SIGNED,
        b"a\tb\n" + SIGNED,
        b"a\x00b\n" + SIGNED,
        b"a\x1fb\n" + SIGNED,
    ],
)
def test_malformed_notes_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedNote):
        parse_note(encoded)


def test_base64_with_stray_bits_is_refused() -> None:
    signature = base64.b64encode(bytes(5)).decode()
    assert signature == "AAAAAAA="
    parse_note(f"{TEXT}\n— a AAAAAAA=\n".encode())
    with pytest.raises(MalformedNote):
        parse_note(f"{TEXT}\n— a AAAAAAB=\n".encode())


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "a\x7f\tb\n"])
def test_texts_that_would_not_read_back_are_not_signed(text: str) -> None:
    with pytest.raises(MalformedNote):
        sign_note(text, [LOG])
    with pytest.raises(MalformedNote):
        sign_note(TEXT, [])


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\u2028b", "a\x00b"])
def test_key_names_that_a_line_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(MalformedKey):
        NoteSigner(name, LOG.key)
    with pytest.raises(MalformedKey):
        NoteVerifier(name, LOG.key.public)


def test_malformed_vkeys_are_refused() -> None:
    vkey = LOG.verifier.vkey
    name, identifier, key = vkey.split("+", 2)
    for wrong in (
        "",
        name,
        f"{name}+{identifier}",
        f"{name}+{identifier.upper()}x+{key}",
        f"{name}+00000000+{key}",
        f"other+{identifier}+{key}",
        f"{vkey}=",
        f"{vkey}\n",
        vkey[:-4],
        f"a b+{identifier}+{key}",
        f"{name}+{identifier}+{base64.b64encode(bytes(33)).decode()}",
    ):
        with pytest.raises(MalformedKey):
            NoteVerifier.parse(wrong)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), st.booleans())
@settings(deadline=None)
def test_any_printable_text_reads_back(line: str, blank: bool) -> None:
    text = f"{line}\n\n{line}\n" if blank else f"{line}\n"
    note = sign_note(text, [LOG, WITNESS])
    assert verify_note(note, [WITNESS.verifier]).text == text
    assert format_note(parse_note(note)) == note


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_one_changed_byte_never_yields_another_verified_text(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SIGNED) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = SIGNED[:at] + bytes([byte]) + SIGNED[at + 1 :]
    try:
        assert verify_note(changed, [LOG.verifier]).text == TEXT
    except (MalformedNote, BadSignature, UnknownSigner):
        pass
