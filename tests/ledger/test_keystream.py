"""Keys, keystream and canonical latents: golden digests, a certified table, seeking, limits."""

import hmac
from hashlib import sha256
from statistics import NormalDist
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp  # type: ignore[import-untyped]

from latentlog.ledger import keystream
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import (
    LatentOutOfRange,
    MalformedKey,
    NotALatent,
    TableMismatch,
)
from latentlog.ledger.keystream import (
    BLOCK_LIMIT,
    LATENT_LIMIT,
    SCALE,
    EpochKey,
    RecorderKeys,
    Schedule,
    Subkey,
    epoch_key,
    gaussian_table,
    latent_digest,
    latent_salt,
    noise,
    normal,
    uniform,
)

KEY = bytes(range(32))
MODEL = Digest.of(b"a model")
SCHEDULE = Schedule(KEY, 100)


def ecb(key: bytes, first_block: int, blocks: int) -> bytes:
    """The keystream written down literally: AES of each counter block by itself."""
    cipher = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    return b"".join(cipher.update((first_block + i).to_bytes(16, "big")) for i in range(blocks))


GOLDEN_LATENTS = "35c3bcb38f70e19c395a09ae15431304cdbf003e39fdb0925a69a151a34ce1db"
GOLDEN_LATENT_7 = "9e774661df4cf2f9d678725bd0dc1c258cb0047022e69538acea66d36e8f1904"


# The table.


def test_the_table_is_part_of_the_format() -> None:
    table = gaussian_table()
    assert table.shape == (65536,)
    assert table.dtype == np.int32
    assert Digest.of(table.astype("<i4").tobytes()) == keystream.TABLE_DIGEST
    assert keystream.TABLE_DIGEST.hex() == (
        "ba47833601b6c8de64b33839056bcd6b3eb0d549f9d2a2cfc62936ff9c442b90"
    )
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


def test_the_table_is_antisymmetric_and_strictly_increasing() -> None:
    table = gaussian_table()
    np.testing.assert_array_equal(table, -table[::-1])
    assert (np.diff(table) > 0).all()
    assert table[-1] == 72_560_101
    assert table[32768] == 321


def test_the_table_is_certified_to_forty_digits() -> None:
    """No entry is a rounding tie within a hundred times the error of the float computation.

    x − (Φ(x) − p)/φ(x) is one Newton step from the float value: its own error is about the square
    of the float's, 1e-30.
    """
    inverse, table = NormalDist().inv_cdf, gaussian_table()
    with mp.workdps(40):
        worst_error, nearest_tie = 0.0, 1.0
        for k in range(32768, 65536):
            x = mp.mpf(inverse((k + 0.5) / 65536))
            step = (mp.ncdf(x) - (mp.mpf(2 * k + 1) / 131072)) / mp.npdf(x)
            distance = float(abs(SCALE * (x - step) - int(table[k])))
            worst_error = max(worst_error, float(abs(SCALE * step)))
            nearest_tie = min(nearest_tie, 0.5 - distance)
    assert nearest_tie > 100 * worst_error
    assert nearest_tie > 1e-6


def test_a_machine_that_computes_another_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystream, "SCALE", SCALE + 1)
    with pytest.raises(TableMismatch) as refusal:
        gaussian_table.__wrapped__()
    assert refusal.value.kind == "environment"


# The keystream.


def test_ten_golden_latents() -> None:
    latents = SCHEDULE.latents(0, 10)
    assert latents.shape == (10, 100)
    assert Digest.of(latents.astype("<i4").tobytes()).hex() == GOLDEN_LATENTS
    assert latent_digest(latents[7]).hex() == GOLDEN_LATENT_7


@pytest.mark.parametrize("dim", [1, 7, 8, 9, 64, 100, 512])
def test_latent_i_is_the_block_cipher_at_its_own_counter(dim: int) -> None:
    blocks = -(-2 * dim // 16)
    for i in (0, 1, 5, 2**20, 2**40 - 1):
        k = np.frombuffer(ecb(KEY, i * blocks, blocks), "<u2")[:dim]
        np.testing.assert_array_equal(Schedule(KEY, dim).raw(i, 1)[0], k)
        np.testing.assert_array_equal(Schedule(KEY, dim).latents(i, 1)[0], gaussian_table()[k])


@given(st.integers(0, 400), st.integers(0, 60), st.integers(1, 70), st.sampled_from([1, 8, 100]))
@settings(deadline=None)
def test_scanning_and_seeking_give_the_same_latents(
    first: int, count: int, chunk: int, dim: int
) -> None:
    schedule = Schedule(KEY, dim)
    everything = schedule.raw(0, 460)
    scanned = [(start, k.copy()) for start, k in schedule.scan(first, count, chunk)]
    assert [start for start, _ in scanned] == list(range(first, first + count, chunk))
    rows = np.concatenate([np.empty((0, dim), np.uint16), *(k for _, k in scanned)])
    np.testing.assert_array_equal(rows, everything[first : first + count])
    np.testing.assert_array_equal(schedule.raw(first, count), rows)
    np.testing.assert_array_equal(schedule.latents(first, count), gaussian_table()[rows])


def test_a_scan_reuses_one_buffer_of_about_a_megabyte() -> None:
    arrays = [k for _, k in SCHEDULE.scan(0, 20_000)]
    assert len(arrays) == 4
    base = arrays[0].__array_interface__["data"][0]
    assert all(k.__array_interface__["data"][0] == base for k in arrays)
    assert len(list(Schedule(KEY, 3_000_000).scan(0, 2))) == 2


def test_raw_writes_into_a_given_buffer() -> None:
    out = memoryview(bytearray(3 * SCHEDULE.row_bytes + 5))
    k = SCHEDULE.raw(4, 3, out)
    np.testing.assert_array_equal(k, SCHEDULE.raw(4, 3))
    assert np.shares_memory(k, np.frombuffer(out, np.uint8))
    with pytest.raises(LatentOutOfRange):
        SCHEDULE.raw(4, 4, out)


@pytest.mark.parametrize(
    ("dim", "first", "count"),
    [(8, LATENT_LIMIT - 1, 2), (8, -1, 1), (8, 0, -1), (4096, BLOCK_LIMIT // 512, 1)],
)
def test_what_an_epoch_cannot_hold_is_refused(dim: int, first: int, count: int) -> None:
    schedule = Schedule(KEY, dim)
    for refused in (
        lambda: schedule.raw(first, count),
        lambda: schedule.latents(first, count),
        lambda: list(schedule.scan(first, count)),
    ):
        with pytest.raises(LatentOutOfRange):
            refused()


def test_the_last_latents_of_an_epoch_exist() -> None:
    assert Schedule(KEY, 8).raw(LATENT_LIMIT - 1, 1).shape == (1, 8)
    assert Schedule(KEY, 4096).raw(BLOCK_LIMIT // 512 - 1, 1).shape == (1, 4096)
    for dim in (0, -1, BLOCK_LIMIT + 1):
        with pytest.raises(LatentOutOfRange):
            Schedule(KEY, dim)
    with pytest.raises(MalformedKey):
        Schedule(bytes(16), 8)


def test_noises_of_any_size_never_share_a_block() -> None:
    """Noise j of latent i owns the 2^32 blocks from i·2^64 + j·2^32."""
    table = gaussian_table()
    for i, j in ((0, 0), (0, 1), (3, 2), (2**40 - 1, 2**32 - 1)):
        k = np.frombuffer(ecb(KEY, (i << 64) + (j << 32), 3), "<u2")[:20]
        np.testing.assert_array_equal(noise(KEY, i, j, 20), table[k])
        np.testing.assert_array_equal(noise(KEY, i, j, 9), table[k[:9]])
    for i, j, dim in ((-1, 0, 1), (LATENT_LIMIT, 0, 1), (0, -1, 1), (0, 2**32, 1), (0, 0, 0)):
        with pytest.raises(LatentOutOfRange):
            noise(KEY, i, j, dim)


def test_latents_look_gaussian() -> None:
    g = normal(SCHEDULE.latents(0, 2000)).astype(np.float64)
    assert abs(g.mean()) < 0.01
    assert abs(g.std() - 1) < 0.01
    assert abs(np.corrcoef(g[:, 0], g[:, 1])[0, 1]) < 0.1


# Floats at the model's door.


def test_normal_is_the_nearest_float32() -> None:
    table = gaussian_table()
    exact = table.astype(np.float64) / SCALE
    np.testing.assert_array_equal(normal(table), exact.astype(np.float32))
    assert normal(table).dtype == np.float32


def test_uniform_is_exact_from_either_representation() -> None:
    k = np.arange(65536, dtype=np.uint16)
    exact = (2 * k.astype(np.int64) - 65535) / 65536
    for values in (uniform(k), uniform(gaussian_table())):
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, exact)
    inverse = 2 * NormalDist().cdf(float(normal(gaussian_table())[40_000])) - 1
    assert abs(float(uniform(k)[40_000]) - inverse) < 1e-6


@pytest.mark.parametrize("wrong", [0, 322, 2**31 - 1, -(2**31)])
def test_integers_off_the_table_are_no_latent(wrong: int) -> None:
    with pytest.raises(NotALatent):
        uniform(np.array([321, wrong], np.int32))


def test_a_latent_digest_covers_little_endian_integers() -> None:
    latent: npt.NDArray[np.int32] = np.array([1, -2], np.int32)
    assert latent_digest(latent) == sha256(bytes([1, 0, 0, 0, 254, 255, 255, 255])).digest()
    assert latent_digest(cast("npt.NDArray[np.int32]", latent.astype(">i4"))) == latent_digest(
        latent
    )


# Keys.


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with HMAC alone: one block of output."""
    extracted = hmac.digest(salt, secret, sha256)
    return hmac.digest(extracted, info + b"\x01", sha256)


def test_the_key_schedule_is_the_hkdf_written_in_the_protocol() -> None:
    origin, salt = "example.com/log", bytes(range(32, 64))
    info = (
        (b"\0\0\0\x16latentlog/epoch-key/v0" + b"\0\0\0\x0fexample.com/log")
        + (b"\0\0\0\x20" + MODEL)
        + (3).to_bytes(8, "big")
    )
    key = epoch_key(KEY, salt, origin=origin, model=MODEL, epoch=3)
    assert key.secret == hkdf(KEY, salt, info)
    info = b"\0\0\0\x13latentlog/subkey/v0" + b"\0\0\0\x05issue"
    assert key.subkey("issue") == hkdf(key.secret, bytes(32), info)


def test_every_input_of_an_epoch_key_changes_it() -> None:
    def derive(
        master: bytes = KEY,
        salt: bytes = KEY,
        origin: str = "a",
        model: Digest = MODEL,
        epoch: int = 0,
    ) -> bytes:
        return epoch_key(master, salt, origin=origin, model=model, epoch=epoch).secret

    other = bytes(32)
    keys = [
        derive(),
        derive(master=other),
        derive(salt=other),
        derive(origin="b"),
        derive(model=Digest(other)),
        derive(epoch=1),
    ]
    assert len(set(keys)) == len(keys)
    for wrong in ({"master": b"short"}, {"salt": b"short"}):
        with pytest.raises(MalformedKey):
            derive(**wrong)  # type: ignore[arg-type]


def test_subkeys_are_distinct_and_unknown_names_are_a_bug() -> None:
    key = EpochKey(KEY)
    names: list[Subkey] = ["issue", "decoy", "noise", "latent-salt"]
    assert len({key.subkey(name) for name in names} | {key.secret}) == 5
    with pytest.raises(RuntimeError):
        key.subkey("isue")  # type: ignore[arg-type]
    with pytest.raises(MalformedKey):
        EpochKey(b"short")


def test_latent_salts_are_hkdf_expand() -> None:
    for i in (0, 1, 2**40):
        info = b"latentlog/latent-salt/v0" + i.to_bytes(8, "big")
        assert latent_salt(KEY, i) == HKDFExpand(SHA256(), 32, info).derive(KEY)


def test_the_epoch_commitment_binds_the_key_and_its_context() -> None:
    key, salt = EpochKey(KEY), bytes(32)
    made = {
        key.commitment("a", MODEL, 0, salt),
        key.commitment("b", MODEL, 0, salt),
        key.commitment("a", Digest(bytes(32)), 0, salt),
        key.commitment("a", MODEL, 1, salt),
        key.commitment("a", MODEL, 0, KEY),
        EpochKey(bytes(32)).commitment("a", MODEL, 0, salt),
    }
    assert len(made) == 6


def test_secrets_do_not_show_in_repr() -> None:
    key = EpochKey(KEY)
    for shown in (repr(key), repr(key.recorder_keys())):
        assert KEY.hex() not in shown
        assert not any(secret.hex()[:8] in shown for secret in (KEY, key.subkey("issue")))
        assert repr(key.subkey("issue"))[2:10] not in shown


def test_recorder_keys_hold_three_subkeys_and_round_trip() -> None:
    key = EpochKey(KEY)
    keys = key.recorder_keys()
    assert keys == RecorderKeys(key.subkey("issue"), key.subkey("noise"), key.subkey("latent-salt"))
    encoded = keys.encode()
    assert RecorderKeys.decode(encoded) == keys
    assert KEY.hex().encode() not in encoded
    lines = encoded.splitlines(keepends=True)
    for wrong in (
        b"",
        encoded[:-1],
        encoded + b"\n",
        encoded.upper(),
        b"".join(lines[:3]),
        lines[0] + lines[1][2:] + lines[2] + lines[3],
        b"".join(lines[:3]) + lines[3][2:],
        b"".join(lines[:3]) + b"\xff" + lines[3][1:],
    ):
        with pytest.raises(MalformedKey):
            RecorderKeys.decode(wrong)
