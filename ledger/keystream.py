"""From keys to latents: the key schedule, the keystream and the canonical integers.

    master ─HKDF(salt; origin, model, epoch)─► K_e ─HKDF─► issue, decoy, noise, latent-salt
    issue  ─AES-256-CTR, latent i at block i·⌈2d/16⌉─► uint16 k ─► T[k]
    T[k] = round(2^24 · Φ⁻¹((k + ½)/65536))

`i` alone selects a latent, so whoever holds `K_e` can enumerate every latent of the epoch. The
integers are the latent; floats appear only at a model's door. The same bits come out on every
machine, which no framework's random generator promises.
"""

import functools
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from statistics import NormalDist
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from latentlog.ledger.digest import (
    EPOCH_COMMITMENT,
    EPOCH_KEY,
    LATENT_SALT,
    SUBKEY,
    Digest,
    lp,
    u64,
)
from latentlog.ledger.errors import LatentOutOfRange, MalformedKey, NotALatent, TableMismatch

SCALE: Final = 1 << 24
TABLE_DIGEST: Final = Digest.fromhex(
    "ba47833601b6c8de64b33839056bcd6b3eb0d549f9d2a2cfc62936ff9c442b90"
)

# At most 2^48 blocks under one key keep AES-CTR within 2^-32 of a random function (birthday bound
# q²/2^129); 2^40 latents is a million times the default epoch.
LATENT_LIMIT: Final = 1 << 40
BLOCK_LIMIT: Final = 1 << 48
# One scan buffer: large enough to hide the call, small enough to stay in a second-level cache.
SCAN_BYTES: Final = 1 << 20

Subkey = Literal["issue", "decoy", "noise", "latent-salt"]
Words = npt.NDArray[np.uint16]
Integers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@functools.cache
def gaussian_table() -> Integers:
    """Return the 65,536 canonical latent integers, ascending, read-only.

    The upper half is computed and mirrored, so T[65535 − k] = −T[k] holds by construction. Raises
    `TableMismatch` if this machine's logarithm rounds so badly that an entry differs.
    """
    inverse = NormalDist().inv_cdf
    upper = [round(SCALE * inverse((k + 0.5) / 65536)) for k in range(32768, 65536)]
    table = np.array([-value for value in reversed(upper)] + upper, dtype="<i4")
    if Digest.of(table.tobytes()) != TABLE_DIGEST:
        raise TableMismatch(
            "this machine computes another latent table",
            expected=TABLE_DIGEST.hex(),
            got=Digest.of(table.tobytes()).hex(),
        )
    table = table.astype(np.int32)
    table.flags.writeable = False
    return table


@dataclass(frozen=True, slots=True)
class RecorderKeys:
    """The three subkeys a recorder needs for one epoch: never the master key or `K_e`.

    Who holds them can draw and commit to latents of this epoch, and of no other.
    """

    issue: bytes = field(repr=False)
    noise: bytes = field(repr=False)
    latent_salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if {len(self.issue), len(self.noise), len(self.latent_salt)} != {32}:
            raise MalformedKey("recorder keys have 32 bytes each")

    def encode(self) -> bytes:
        """Encode for a file of mode 0600: a title and one line a key."""
        lines = [_RECORDER_KEYS, self.issue.hex(), self.noise.hex(), self.latent_salt.hex()]
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def decode(cls, encoded: bytes) -> "RecorderKeys":
        """Decode what `encode` wrote; raises `MalformedKey`."""
        lines = encoded.split(b"\n")
        try:
            keys = cls(*(bytes.fromhex(line.decode()) for line in lines[1:4]))
        except (ValueError, TypeError):
            raise MalformedKey("not a recorder key file") from None
        if keys.encode() != encoded:
            raise MalformedKey("not a recorder key file", expected=_RECORDER_KEYS)
        return keys


_RECORDER_KEYS: Final = "latentlog recorder keys v0"


class EpochKey:
    """`K_e`, from which every secret of an epoch follows; hidden from `repr`."""

    __slots__ = ("secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise MalformedKey("an epoch key has 32 bytes", got=str(len(secret)))
        self.secret: Final = bytes(secret)

    def subkey(self, name: Subkey) -> bytes:
        """Derive one of the epoch's four 32-byte subkeys."""
        if name not in get_args(Subkey):
            raise RuntimeError(f"no subkey is called {name!r}")
        info = lp(SUBKEY) + lp(name.encode())
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self.secret)

    def recorder_keys(self) -> RecorderKeys:
        """Derive what a recorder of this epoch is given."""
        return RecorderKeys(self.subkey("issue"), self.subkey("noise"), self.subkey("latent-salt"))

    def commitment(self, origin: str, model: Digest, epoch: int, salt: bytes) -> Digest:
        """Commit to this key, for the `epoch-open` entry; the key is its own blinding."""
        context = lp(origin.encode()) + lp(model) + u64(epoch) + lp(salt)
        return Digest.of(EPOCH_COMMITMENT + lp(context) + self.secret)

    def __repr__(self) -> str:
        return "EpochKey(…)"


def epoch_key(master: bytes, salt: bytes, *, origin: str, model: Digest, epoch: int) -> EpochKey:
    """Derive an epoch's key from the master key and 32 fresh random bytes.

    The fresh salt is what makes a restored database unable to issue the same latents again.
    """
    if len(master) != 32 or len(salt) != 32:
        raise MalformedKey("master key and epoch salt have 32 bytes each")
    info = lp(EPOCH_KEY) + lp(origin.encode()) + lp(model) + u64(epoch)
    return EpochKey(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(master))


def latent_salt(subkey: bytes, i: int) -> bytes:
    """Derive the salt of latent `i`'s commitment: HKDF-Expand(subkey, label ‖ u64 i), 32 bytes."""
    # One SHA-256 block of output is a single HMAC with the counter byte 1 (RFC 5869 section 2.3).
    return hmac.digest(subkey, LATENT_SALT + u64(i) + b"\x01", sha256)


class Schedule:
    """The latents of one epoch, addressed by counter, for a model of `dim` coordinates."""

    __slots__ = ("_algorithm", "_blocks", "dim")

    def __init__(self, issue_key: bytes, dim: int) -> None:
        if len(issue_key) != 32:
            raise MalformedKey("an issue key has 32 bytes", got=str(len(issue_key)))
        if not 1 <= dim <= BLOCK_LIMIT:
            raise LatentOutOfRange("a latent has at least one coordinate", got=str(dim))
        self.dim: Final = dim
        self._algorithm = AES256(issue_key)
        self._blocks = (2 * dim + 15) // 16

    @property
    def row_bytes(self) -> int:
        """Keystream bytes from one latent to the next: whole AES blocks."""
        return 16 * self._blocks

    def raw(self, first: int, count: int, out: memoryview | None = None) -> Words:
        """Return the uint16 values k of `count` latents, (count, dim), into `out` if given.

        `out` holds at least `count * row_bytes` bytes. Raises `LatentOutOfRange`.
        """
        self._require_range(first, count)
        size = count * self.row_bytes
        buffer = memoryview(bytearray(size)) if out is None else out[:size]
        if len(buffer) < size:
            raise LatentOutOfRange("the buffer is too small", expected=f"{size} bytes")
        if size:
            self._seek(first).update_into(bytes(size), buffer)
        return self._rows(buffer)

    def latents(self, first: int, count: int) -> Integers:
        """Return the canonical integers of `count` latents, (count, dim)."""
        return gaussian_table()[self.raw(first, count)]

    def scan(self, first: int, count: int, chunk: int | None = None) -> Iterator[tuple[int, Words]]:
        """Yield (counter of the first row, (rows, dim) uint16) over `count` latents in order.

        The array is overwritten by the next step: use it or copy it. One cipher context runs
        through the whole scan, near the speed of the hardware.
        """
        self._require_range(first, count)
        if chunk is None:
            chunk = max(1, SCAN_BYTES // self.row_bytes)
        zeros = memoryview(bytes(min(chunk, count) * self.row_bytes))
        buffer = memoryview(bytearray(len(zeros)))
        stream = self._seek(first)
        for start in range(first, first + count, chunk):
            size = min(chunk, first + count - start) * self.row_bytes
            stream.update_into(zeros[:size], buffer)
            yield start, self._rows(buffer[:size])

    def _rows(self, buffer: memoryview) -> Words:
        words = np.frombuffer(buffer, dtype="<u2").reshape(-1, 8 * self._blocks)  # (N, padded)
        return words.astype(np.uint16, copy=False)[:, : self.dim]

    def _seek(self, first: int) -> CipherContext:
        return _stream(self._algorithm, first * self._blocks)

    def _require_range(self, first: int, count: int) -> None:
        end = first + count
        if first < 0 or count < 0 or end > LATENT_LIMIT or end * self._blocks > BLOCK_LIMIT:
            raise LatentOutOfRange(
                "an epoch holds at most 2^40 latents and 2^48 cipher blocks",
                got=f"latents {first} to {end} of {self.dim} coordinates",
            )


def noise(noise_key: bytes, i: int, j: int, dim: int) -> Integers:
    """Return sampler noise `j` of latent `i`, (dim,): the stream at block i·2^64 + j·2^32.

    Each (i, j) owns 2^32 blocks, so noises of different sizes (a StyleGAN layer each) never
    overlap.
    """
    size = 16 * ((2 * dim + 15) // 16)
    if not (0 <= i < LATENT_LIMIT and 0 <= j < 1 << 32 and 1 <= dim and size <= 16 << 32):
        raise LatentOutOfRange("no such noise", got=f"noise {j} of latent {i}, {dim} coordinates")
    stream = _stream(AES256(noise_key), (i << 64) + (j << 32)).update(bytes(size))
    k: Words = np.frombuffer(stream, dtype="<u2")[:dim]
    return gaussian_table()[k]


def _stream(algorithm: AES256, block: int) -> CipherContext:
    return Cipher(algorithm, CTR(block.to_bytes(16, "big"))).encryptor()


def normal(latents: Integers) -> Floats:
    """Convert canonical integers to the float32 values a Gaussian model receives."""
    return latents.astype(np.float32) * np.float32(1 / SCALE)


def uniform(latents: Words | Integers) -> Floats:
    """Convert k (uint16) or canonical integers (int32) to U(−1, 1): (2k − 65535)/65536, exact.

    This is 2Φ(g) − 1 of the Gaussian latent g. Raises `NotALatent` for integers off the table.
    """
    if latents.dtype == np.uint16:
        k = latents.astype(np.int32)
    else:
        table = gaussian_table()
        k = np.searchsorted(table, latents).astype(np.int32)
        if not np.array_equal(table[np.minimum(k, 65535)], latents):
            raise NotALatent("these integers are not in the latent table")
    return (2 * k - 65535).astype(np.float32) * np.float32(1 / 65536)


def latent_digest(latent: Integers) -> Digest:
    """Hash one latent's canonical integers, (dim,), as little-endian int32."""
    return Digest.of(np.ascontiguousarray(latent, dtype="<i4").tobytes())
