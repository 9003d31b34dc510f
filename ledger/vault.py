"""Encrypt openings one by one, so that destroying a record key erases one opening and no other.

    blob = u64 epoch ‖ u64 counter ‖ nonce (12) ‖ AES-256-GCM(opening) ‖ tag (16)

The record key is random and used for this blob alone. Blobs may be copied and backed up freely;
record keys live in their own store (`store/vault.py`). Epoch and counter are authenticated, so a
blob cannot be passed off as another record's.
"""

import os
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from latentlog.ledger.commitment import OPENING_LIMIT, Opening
from latentlog.ledger.digest import OPENING, u64
from latentlog.ledger.errors import MalformedOpening, UnreadableOpening
from latentlog.ledger.keys import Random

_HEADER: Final = 16
_NONCE: Final = 12
_TAG: Final = 16


@dataclass(frozen=True, slots=True)
class SealedOpening:
    """An encrypted opening and the one key that opens it, to be stored apart."""

    record_key: bytes = field(repr=False)
    blob: bytes


def seal_opening(opening: Opening, *, random: Random = os.urandom) -> SealedOpening:
    """Encrypt an opening under a fresh random record key."""
    encoded = opening.encode()
    if len(encoded) > OPENING_LIMIT:
        raise MalformedOpening(
            "the opening is too large", expected=f"at most {OPENING_LIMIT} bytes"
        )
    fresh = random(32 + _NONCE)
    record_key, nonce = fresh[:32], fresh[32:]
    header = u64(opening.epoch) + u64(opening.counter)
    sealed = AESGCM(record_key).encrypt(nonce, encoded, OPENING + header)
    return SealedOpening(record_key, header + nonce + sealed)


def open_opening(record_key: bytes, blob: bytes) -> Opening:
    """Decrypt an opening; raises `UnreadableOpening` if key and blob do not belong together."""
    header, nonce, sealed = blob[:_HEADER], blob[_HEADER : _HEADER + _NONCE], blob[28:]
    if len(record_key) != 32 or not _TAG <= len(sealed) <= OPENING_LIMIT + _TAG:
        raise UnreadableOpening("not a sealed opening and its record key")
    try:
        encoded = AESGCM(record_key).decrypt(nonce, sealed, OPENING + header)
    except InvalidTag:
        raise UnreadableOpening("the record key does not open this opening") from None
    opening = Opening.decode(encoded)
    if header != u64(opening.epoch) + u64(opening.counter):
        raise UnreadableOpening("the opening is of another record than its header says")
    return opening
