"""Ed25519 keys and secret files: the only code that touches private keys.

A signing key is a PKCS #8 PEM file, so `openssl pkey -in log.key -text` reads it. A secret (the
master key, recorder keys) is a file of raw bytes. Both are mode 0600, appear whole or not at all,
are never overwritten, and are refused when another user of the machine could read them.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from latentlog.ledger.errors import (
    BadSignature,
    KeyFileExists,
    KeyFileExposed,
    KeyFileMissing,
    MalformedKey,
)

Random = Callable[[int], bytes]

# A PEM Ed25519 key has 119 bytes and recorder keys a few hundred; a larger file is not a key.
KEY_FILE_LIMIT: Final = 4096


# Under a key of small order anyone can sign anything, so its owner could disown what was signed;
# RFC 8032 verifiers accept them. These are the y coordinates of the eight such points.
_PRIME: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    (
        0,
        1,
        _PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    )
)


class PublicKey:
    """An Ed25519 public key, 32 bytes as in RFC 8032; never of small order."""

    __slots__ = ("_key", "encoded")

    def __init__(self, encoded: bytes) -> None:
        if len(encoded) != 32:
            raise MalformedKey("an Ed25519 public key has 32 bytes", got=str(len(encoded)))
        y = int.from_bytes(encoded, "little") & (2**255 - 1)
        if y >= _PRIME or y in _SMALL_ORDER:
            raise MalformedKey("this Ed25519 public key is not canonical or of small order")
        self.encoded: Final = bytes(encoded)
        self._key = Ed25519PublicKey.from_public_bytes(self.encoded)

    @classmethod
    def fromhex(cls, text: str) -> "PublicKey":
        """Parse 64 lowercase hexadecimal digits."""
        try:
            encoded = bytes.fromhex(text)
        except (ValueError, TypeError):
            encoded = b""
        if encoded.hex() != text:
            raise MalformedKey("a public key is written as 64 lowercase hexadecimal digits")
        return cls(encoded)

    def hex(self) -> str:
        return self.encoded.hex()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return only if this key signed `message`; raises `BadSignature`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise BadSignature(f"the signature is not by key {self.hex()[:16]}…") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"PublicKey({self.hex()})"


class SigningKey:
    """An Ed25519 private key; it is never printed, compared or pickled."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise MalformedKey("an Ed25519 seed has 32 bytes", got=str(len(seed)))
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: Final = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, random: Random = os.urandom) -> "SigningKey":
        """Make a fresh key from 32 bytes of `random`."""
        return cls(random(32))

    @classmethod
    def load(cls, path: str | Path) -> "SigningKey":
        """Read a PKCS #8 PEM file; raises `KeyFileMissing`, `KeyFileExposed`, `MalformedKey`."""
        encoded = load_secret(path)
        try:
            key = serialization.load_pem_private_key(encoded, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise MalformedKey(f"{path} is not an unencrypted PEM private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise MalformedKey(f"{path} does not hold an Ed25519 key", expected="Ed25519")
        return cls(key.private_bytes_raw())

    def save(self, path: str | Path) -> None:
        """Write the key as a new PEM file of mode 0600; raises `KeyFileExists`."""
        save_secret(
            path,
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def sign(self, message: bytes) -> bytes:
        """Sign `message`: 64 bytes, deterministic (RFC 8032)."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not serialised except by save()")


def save_secret(path: str | Path, secret: bytes) -> None:
    """Write `secret` to a new file of mode 0600, whole or not at all; raises `KeyFileExists`.

    The content is complete on disk before the name appears (hard link from a temporary name), so a
    crash leaves no truncated key behind the final name.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        raise KeyFileExists(
            f"{path} exists; keys are never overwritten", next_step="move the old key away first"
        ) from None
    finally:
        temporary.unlink()
    _sync_directory(path.parent)


def load_secret(path: str | Path, *, size: int | None = None) -> bytes:
    """Read a secret file, of exactly `size` bytes if given.

    Raises `KeyFileMissing`, `KeyFileExposed` if group or others may read or write it (checked on
    the open file, so it cannot be swapped in between), `MalformedKey` for a wrong size.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise KeyFileExposed(
                    f"{path} is readable by other users of this machine",
                    expected="mode 0600",
                    got=f"mode {os.fstat(file.fileno()).st_mode & 0o777:04o}",
                    next_step=f"chmod 600 {path}",
                )
            secret = file.read(KEY_FILE_LIMIT + 1)
    except OSError as error:
        raise KeyFileMissing(f"cannot read key file {path}: {error.strerror}") from None
    if len(secret) > KEY_FILE_LIMIT or (size is not None and len(secret) != size):
        raise MalformedKey(
            f"{path} is not a key file of this kind",
            expected=f"{size} bytes" if size is not None else f"at most {KEY_FILE_LIMIT} bytes",
            got=f"{len(secret)} bytes",
        )
    return secret


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
