"""tlog-proofs: format, the public literals, and whole proofs over real trees."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger import merkle
from latentlog.ledger.checkpoint import Checkpoint, sign_checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import (
    BadSignature,
    InvalidProof,
    LedgerError,
    MalformedNote,
    MalformedProof,
    UnknownSigner,
    WrongOrigin,
)
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.note import NoteSigner
from latentlog.ledger.proof import (
    HASH_LIMIT,
    TlogProof,
    format_tlog_proof,
    parse_tlog_proof,
    verify_tlog_proof,
)
from tests.ledger.vectors import read_json, vector_folder

ORIGIN = "example.com/log"
LOG = NoteSigner(ORIGIN, SigningKey(bytes(32)))
OTHER = NoteSigner(ORIGIN, SigningKey(b"\x01" * 32))
LEAVES = [merkle.leaf_hash(b"entry %d" % i) for i in range(11)]
HASH = base64.b64encode(LEAVES[0]).decode()


def proof_of(index: int, size: int, signer: NoteSigner = LOG) -> bytes:
    frontier = merkle.Frontier()
    nodes = {n[:2]: n[2] for leaf in LEAVES[:size] for n in frontier.append(leaf)}
    hashes = merkle.prove_inclusion(lambda wanted: [nodes[n] for n in wanted], index, size)
    note = sign_checkpoint(Checkpoint(ORIGIN, size, frontier.root()), [signer])
    return format_tlog_proof(index, hashes, note)


def test_every_entry_of_a_small_log_proves_itself() -> None:
    for size in range(1, len(LEAVES) + 1):
        for index in range(size):
            verified = verify_tlog_proof(proof_of(index, size), LEAVES[index], LOG.verifier, ORIGIN)
            assert (verified.index, verified.leaf) == (index, LEAVES[index])
            assert verified.checkpoint.checkpoint.size == size


def test_the_file_is_laid_out_as_specified() -> None:
    proof = proof_of(1, 3)
    lines = proof.decode().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 1"]
    assert lines[2] == HASH
    assert lines[4:7] == ["", ORIGIN, "3"]
    parsed = parse_tlog_proof(proof)
    assert parsed.checkpoint_note.startswith(ORIGIN.encode())
    assert (
        format_tlog_proof(parsed.index, parsed.hashes, parsed.checkpoint_note, parsed.extra)
        == proof
    )


def test_extra_bytes_are_carried_and_not_trusted() -> None:
    plain = parse_tlog_proof(proof_of(0, 2))
    for extra in (b"batch path", b""):
        proof = format_tlog_proof(0, plain.hashes, plain.checkpoint_note, extra)
        assert parse_tlog_proof(proof).extra == extra
        verify_tlog_proof(proof, LEAVES[0], LOG.verifier, ORIGIN)


def test_public_literals() -> None:
    texts: list[str] = read_json(vector_folder("tlog-formats") / "literals.json")[
        "formats/proof/tlog_proof_test.go"
    ]
    assert len(texts) == 9
    two, extra, none, *malformed = texts
    parsed = parse_tlog_proof((two % (HASH, HASH)).encode())
    assert parsed == TlogProof(5, (LEAVES[0], LEAVES[0]), b"test checkpoint\n")
    parsed = parse_tlog_proof((extra % ("AQID", HASH)).encode())
    assert parsed == TlogProof(10, (LEAVES[0],), b"checkpoint data\n", b"\x01\x02\x03")
    assert parse_tlog_proof(none.encode()) == TlogProof(0, (), b"checkpoint\n")
    for text in malformed:
        with pytest.raises(MalformedProof):
            parse_tlog_proof(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n\nnote\n",
        "c2sp.org/tlog-proof@v1\r\nindex 0\r\n\r\nnote\n",
        "\nc2sp.org/tlog-proof@v1\nindex 0\n\nnote\n",
        "c2sp.org/tlog-proof@v1\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nindex\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex 00\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex 01\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex +1\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex  1\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex 1 \n\nnote\n",
        f"c2sp.org/tlog-proof@v1\nindex {2**63}\n\nnote\n",
        f"c2sp.org/tlog-proof@v1\nindex {'9' * 5000}\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nextra AAB=\nindex 0\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex 0\nextra AAA=\n\nnote\n",
        "c2sp.org/tlog-proof@v1\nextra AAA=\nextra AAA=\nindex 0\n\nnote\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{HASH[:-4]}\n\nnote\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n {HASH}\n\nnote\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{HASH * 2}\n\nnote\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{(HASH + chr(10)) * (HASH_LIMIT + 1)}\nnote\n",
        "c2sp.org/tlog-proof@v1\nindex \N{ARABIC-INDIC DIGIT ONE}\n\nnote\n",
    ],
)
def test_malformed_proofs_are_refused(text: str) -> None:
    with pytest.raises(MalformedProof):
        parse_tlog_proof(text.encode())


def test_oversized_proofs_are_refused_before_they_are_read() -> None:
    with pytest.raises(MalformedProof, match="too large"):
        parse_tlog_proof(proof_of(0, 2) + b"x" * 2_000_000)


def test_each_way_a_proof_can_be_wrong_has_its_own_error() -> None:
    proof = proof_of(4, 7)
    with pytest.raises(InvalidProof):
        verify_tlog_proof(proof, LEAVES[5], LOG.verifier, ORIGIN)
    with pytest.raises(InvalidProof):
        verify_tlog_proof(proof.replace(b"index 4", b"index 5"), LEAVES[4], LOG.verifier, ORIGIN)
    with pytest.raises(UnknownSigner):
        verify_tlog_proof(proof_of(4, 7, OTHER), LEAVES[4], LOG.verifier, ORIGIN)
    with pytest.raises(WrongOrigin):
        verify_tlog_proof(proof, LEAVES[4], LOG.verifier, "example.com/other")
    with pytest.raises(BadSignature):
        verify_tlog_proof(proof.replace(b"\n7\n", b"\n8\n"), LEAVES[4], LOG.verifier, ORIGIN)
    with pytest.raises(MalformedNote):
        verify_tlog_proof(proof[:-1], LEAVES[4], LOG.verifier, ORIGIN)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_refused_or_changes_nothing(data: st.DataObject) -> None:
    proof = proof_of(4, 7)
    at = data.draw(st.integers(0, len(proof) - 1))
    changed = proof[:at] + bytes([data.draw(st.integers(0, 255))]) + proof[at + 1 :]
    try:
        verified = verify_tlog_proof(changed, LEAVES[4], LOG.verifier, ORIGIN)
        assert (verified.index, verified.checkpoint.checkpoint.size) == (4, 7)
    except LedgerError:
        pass


@settings(deadline=None)
@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32).map(Digest), max_size=HASH_LIMIT),
    st.binary(min_size=1),
    st.none() | st.binary(),
)
def test_any_proof_reads_back(
    index: int, hashes: list[Digest], note: bytes, extra: bytes | None
) -> None:
    encoded = format_tlog_proof(index, hashes, note, extra)
    assert parse_tlog_proof(encoded) == TlogProof(index, tuple(hashes), note, extra)
