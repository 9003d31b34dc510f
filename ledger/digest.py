"""SHA-256 digests, length prefixes, and every domain-separation label of the formats.

Labels that open a hash input end in a zero byte, so that none is a prefix of another; labels that
go through `lp` need none. A label is never reused for a second purpose.
"""

import hashlib
import re
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from latentlog.ledger.errors import MalformedDigest

EPOCH_KEY = b"latentlog/epoch-key/v0"
SUBKEY = b"latentlog/subkey/v0"
LATENT_SALT = b"latentlog/latent-salt/v0"
EPOCH_COMMITMENT = b"latentlog/epoch-commitment/v0\0"
COMMITMENT = b"latentlog/commitment/v0\0"
OPENING = b"latentlog/opening/v0\0"
PIXELS = b"latentlog/pixels/v0\0"
SEAL = b"latentlog/seal/v0\0"

_HEX = re.compile(r"[0-9a-f]{64}")


class Digest(bytes):
    """Exactly 32 bytes: a SHA-256 value.

    Raises `MalformedDigest` for any other length.
    """

    __slots__ = ()

    def __new__(cls, value: bytes | bytearray | memoryview) -> "Digest":
        self = super().__new__(cls, value)
        if len(self) != 32:
            raise MalformedDigest("a digest has 32 bytes", expected="32", got=str(len(self)))
        return self

    @classmethod
    def of(cls, content: bytes | bytearray | memoryview) -> "Digest":
        """Hash `content` with SHA-256."""
        return cls(hashlib.sha256(content).digest())

    @classmethod
    def fromhex(cls, text: str, /) -> "Digest":
        """Parse 64 lowercase hexadecimal digits; raises `MalformedDigest` for anything else."""
        if not isinstance(text, str) or not _HEX.fullmatch(text):
            raise MalformedDigest(
                "a digest is written as 64 lowercase hexadecimal digits", got=repr(text)[:80]
            )
        return cls(bytes.fromhex(text))

    def __repr__(self) -> str:
        return f"Digest({self.hex()})"


def lp(part: bytes) -> bytes:
    """Prefix `part` with its length as 4 big-endian bytes."""
    return len(part).to_bytes(4, "big") + part


def u64(number: SupportsIndex) -> bytes:
    """Encode `0 <= number < 2**64` as 8 big-endian bytes."""
    return number.__index__().to_bytes(8, "big")


def pixel_digest(pixels: npt.NDArray[np.uint8]) -> Digest:
    """Hash the shape and rows of an 8-bit picture, (H, W) or (H, W, C) (protocol section 3).

    Two files with the same pixels have the same pixel digest, whatever their compression.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise MalformedDigest(
            "a pixel digest needs 8-bit pixels of shape (H, W) or (H, W, C)",
            got=f"{pixels.dtype} {pixels.shape}",
        )
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if not (0 < channels < 256 and 0 < height < 2**32 and 0 < width < 2**32):
        raise MalformedDigest("picture of impossible shape", got=str(pixels.shape))
    state = hashlib.sha256(PIXELS)
    state.update(height.to_bytes(4, "big") + width.to_bytes(4, "big") + bytes([channels]))
    state.update(np.ascontiguousarray(pixels).data)
    return Digest(state.digest())
