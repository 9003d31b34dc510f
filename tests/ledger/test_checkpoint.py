"""Checkpoints: format, strictness, and who may speak for a log."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger.checkpoint import (
    Checkpoint,
    format_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import (
    BadSignature,
    MalformedCheckpoint,
    UnknownSigner,
    WrongOrigin,
)
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.merkle import EMPTY_ROOT
from latentlog.ledger.note import NoteSigner, sign_note

ORIGIN = "example.com/log"
LOG = NoteSigner(ORIGIN, SigningKey(bytes(32)))
WITNESS = NoteSigner("witness.example", SigningKey(b"\x01" * 32))
CHECKPOINT = Checkpoint(ORIGIN, 20852163, Digest.of(b"tree"))
ROOT = base64.b64encode(CHECKPOINT.root).decode()
NOTE = sign_checkpoint(CHECKPOINT, [LOG, WITNESS])

# The example of c2sp.org/tlog-checkpoint.
SPECIFICATION_EXAMPLE = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""


def test_the_specification_example_reads_back() -> None:
    checkpoint = parse_checkpoint(SPECIFICATION_EXAMPLE)
    assert checkpoint.size == 20852163
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert format_checkpoint(checkpoint) == SPECIFICATION_EXAMPLE


def test_the_text_is_three_lines() -> None:
    assert format_checkpoint(CHECKPOINT) == f"{ORIGIN}\n20852163\n{ROOT}\n"


@settings(deadline=None)
@given(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_any_checkpoint_reads_back(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, Digest(root))
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


def test_an_empty_tree_has_the_empty_root() -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert parse_checkpoint(format_checkpoint(empty)) == empty
    for size, root in ((0, Digest(bytes(32))), (1, EMPTY_ROOT)):
        with pytest.raises(MalformedCheckpoint):
            Checkpoint(ORIGIN, size, root)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n1\n{ROOT}",
        f"{ORIGIN}\n1\n{ROOT}\n\n",
        f"{ORIGIN}\n1\n{ROOT}\nextension\n",
        f"{ORIGIN}\n1\n",
        f"\n1\n{ROOT}\n",
        f"{ORIGIN}\n01\n{ROOT}\n",
        f"{ORIGIN}\n+1\n{ROOT}\n",
        f"{ORIGIN}\n-1\n{ROOT}\n",
        f"{ORIGIN}\n1_0\n{ROOT}\n",
        f"{ORIGIN}\n 1\n{ROOT}\n",
        f"{ORIGIN}\n١\n{ROOT}\n",
        f"{ORIGIN}\n\n{ROOT}\n",
        f"{ORIGIN}\n{2**63}\n{ROOT}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{ROOT}\n",
        f"{ORIGIN}\n1\n{ROOT[:-4]}\n",
        f"{ORIGIN}\n1\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n1\n{ROOT} \n",
        f"{ORIGIN}\n1\n{base64.b64encode(bytes(33)).decode()}\n",
        f"{ORIGIN}\n1\n{CHECKPOINT.root.hex()}\n",
        f"{ORIGIN}\r\n1\r\n{ROOT}\r\n",
    ],
)
def test_malformed_checkpoints_are_refused(text: str) -> None:
    with pytest.raises(MalformedCheckpoint):
        parse_checkpoint(text)


def test_a_verified_checkpoint_keeps_its_note_byte_for_byte() -> None:
    verified = verify_checkpoint(NOTE, LOG.verifier, ORIGIN)
    assert verified.checkpoint == CHECKPOINT
    assert verified.note == NOTE
    assert verify_checkpoint(NOTE, [LOG.verifier], ORIGIN) == verified


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(WrongOrigin) as refusal:
        verify_checkpoint(NOTE, LOG.verifier, "example.com/other")
    assert refusal.value.kind == "integrity"


def test_a_witness_cannot_speak_for_the_log() -> None:
    with pytest.raises(UnknownSigner):
        verify_checkpoint(sign_checkpoint(CHECKPOINT, [WITNESS]), LOG.verifier, ORIGIN)


def test_changed_sizes_and_texts_are_refused() -> None:
    with pytest.raises(BadSignature):
        verify_checkpoint(NOTE.replace(b"20852163", b"20852164"), LOG.verifier, ORIGIN)
    with pytest.raises(MalformedCheckpoint):
        verify_checkpoint(sign_note("any text\n", [LOG]), LOG.verifier, ORIGIN)
