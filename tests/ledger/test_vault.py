"""Sealed openings: one key opens one blob, and nothing else opens it."""

import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from latentlog.ledger.commitment import OPENING_LIMIT, OpenedField, Opening
from latentlog.ledger.errors import MalformedOpening, UnreadableOpening
from latentlog.ledger.vault import SealedOpening, open_opening, seal_opening

PROMPT = "a mayor taking an envelope"
OPENING = Opening(3, 41, {"conditioning": OpenedField(bytes(32), {"prompt": PROMPT})})
RANDOM = bytes(range(44))
SEALED = seal_opening(OPENING, random=lambda size: RANDOM[:size])


def test_a_sealed_opening_opens_with_its_own_key() -> None:
    assert open_opening(SEALED.record_key, SEALED.blob) == OPENING


def test_the_blob_is_laid_out_as_documented() -> None:
    header = (3).to_bytes(8, "big") + (41).to_bytes(8, "big")
    sealed = AESGCM(RANDOM[:32]).encrypt(
        RANDOM[32:], OPENING.encode(), b"latentlog/opening/v0\0" + header
    )
    assert SEALED == SealedOpening(RANDOM[:32], header + RANDOM[32:] + sealed)


def test_the_blob_hides_the_content_and_repr_hides_the_key() -> None:
    assert PROMPT.encode() not in SEALED.blob
    assert RANDOM[:32] not in SEALED.blob
    assert repr(RANDOM[:4])[2:-1] not in repr(SEALED).replace(repr(SEALED.blob), "")


def test_two_seals_of_one_opening_share_nothing() -> None:
    first, second = seal_opening(OPENING), seal_opening(OPENING)
    assert first.record_key != second.record_key
    assert first.blob[16:] != second.blob[16:]
    with pytest.raises(UnreadableOpening):
        open_opening(second.record_key, first.blob)


def test_every_changed_byte_is_refused() -> None:
    for at in range(len(SEALED.blob)):
        changed = bytearray(SEALED.blob)
        changed[at] ^= 1
        with pytest.raises(UnreadableOpening):
            open_opening(SEALED.record_key, bytes(changed))


@pytest.mark.parametrize("length", [0, 15, 27, 28, 43, len(SEALED.blob) - 1])
def test_a_truncated_blob_is_refused(length: int) -> None:
    with pytest.raises(UnreadableOpening):
        open_opening(SEALED.record_key, SEALED.blob[:length])


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(32), bytes(33)])
def test_another_key_is_refused(key: bytes) -> None:
    with pytest.raises(UnreadableOpening):
        open_opening(key, SEALED.blob)


def test_an_opening_of_another_record_than_the_header_says_is_refused() -> None:
    header = bytes(16)
    sealed = AESGCM(RANDOM[:32]).encrypt(
        bytes(12), OPENING.encode(), b"latentlog/opening/v0\0" + header
    )
    with pytest.raises(UnreadableOpening, match="another record"):
        open_opening(RANDOM[:32], header + bytes(12) + sealed)


def test_oversized_openings_are_refused_when_made_and_when_read() -> None:
    large = replace(OPENING, fields={"compute": OpenedField(bytes(32), {"x": "y" * OPENING_LIMIT})})
    with pytest.raises(MalformedOpening, match="too large"):
        seal_opening(large)
    with pytest.raises(UnreadableOpening):
        open_opening(os.urandom(32), bytes(28 + OPENING_LIMIT + 17))
