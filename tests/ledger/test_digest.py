"""Digests, length prefixes and the pixel digest of protocol section 3."""

import hashlib
import pickle

import numpy as np
import pytest

from latentlog.ledger import digest as module
from latentlog.ledger.digest import Digest, lp, pixel_digest, u64
from latentlog.ledger.errors import LedgerError, MalformedDigest


def test_a_digest_is_32_bytes_and_nothing_else() -> None:
    assert Digest.of(b"abc") == hashlib.sha256(b"abc").digest()
    assert isinstance(Digest.of(b"abc"), Digest)
    for length in (0, 31, 33):
        with pytest.raises(MalformedDigest):
            Digest(bytes(length))


def test_hexadecimal_is_strict() -> None:
    text = Digest.of(b"").hex()
    assert Digest.fromhex(text).hex() == text
    for wrong in (text.upper(), text[:-1], text + "0", " " + text[1:], text[:-1] + "g", "", None):
        with pytest.raises(MalformedDigest):
            Digest.fromhex(wrong)  # type: ignore[arg-type]
    with pytest.raises(MalformedDigest):
        Digest.fromhex(text[:-1] + "\N{FULLWIDTH DIGIT ONE}")


def test_a_digest_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(Digest.of(b"x"))) == Digest.of(b"x")
    assert repr(Digest(bytes(32))) == f"Digest({'0' * 64})"


def test_length_prefixes_keep_parts_apart() -> None:
    assert lp(b"ab") + lp(b"c") != lp(b"a") + lp(b"bc")
    assert lp(b"") == bytes(4)
    assert u64(258) == bytes(6) + b"\x01\x02"
    with pytest.raises(OverflowError):
        u64(-1)


def test_every_label_is_distinct_and_none_is_a_prefix_of_another() -> None:
    labels = [
        value for name, value in vars(module).items() if name.isupper() and type(value) is bytes
    ]
    assert len(labels) == 8
    for label in labels:
        assert label.startswith(b"latentlog/")
        assert [other for other in labels if other.startswith(label)] == [label]


def test_pixel_digest_hashes_shape_and_rows() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    expected = hashlib.sha256(
        b"latentlog/pixels/v0\0" + bytes([0, 0, 0, 2, 0, 0, 0, 3, 3]) + pixels.tobytes()
    ).digest()
    assert pixel_digest(pixels) == expected
    assert pixel_digest(pixels[:, ::-1]) != expected
    assert pixel_digest(np.asfortranarray(pixels)) == expected


def test_gray_pictures_have_one_channel() -> None:
    gray = np.zeros((4, 5), np.uint8)
    assert pixel_digest(gray) == pixel_digest(gray[:, :, None])
    assert pixel_digest(gray) != pixel_digest(gray.T)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2), np.int8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((1, 1, 256), np.uint8),
    ],
)
def test_what_is_not_an_8_bit_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(MalformedDigest):
        pixel_digest(pixels)


def test_errors_have_a_code_and_carry_what_was_expected() -> None:
    error = MalformedDigest("no digest", expected="64 digits", got="3", next_step="look again")
    assert isinstance(error, LedgerError)
    assert (str(error), error.code, error.kind) == ("no digest", "malformed_digest", "input")
    assert (error.expected, error.got, error.next_step) == ("64 digits", "3", "look again")
