"""Key files that stay private and whole, and Wycheproof's Ed25519 vectors."""

import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from latentlog.ledger import keys
from latentlog.ledger.errors import (
    BadSignature,
    KeyFileExists,
    KeyFileExposed,
    KeyFileMissing,
    MalformedKey,
)
from latentlog.ledger.keys import PublicKey, SigningKey, load_secret, save_secret
from tests.ledger.vectors import read_json, vector_folder

# RFC 8032 section 7.1, TEST 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_rfc8032_vector() -> None:
    key = SigningKey(SEED)
    assert key.public.hex() == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    key.public.verify(SIGNATURE, b"\x72")
    with pytest.raises(BadSignature):
        key.public.verify(SIGNATURE, b"\x73")


def test_wycheproof_ed25519() -> None:
    groups = read_json(vector_folder("wycheproof") / "ed25519_test.json")["testGroups"]
    tests = [(PublicKey.fromhex(g["publicKey"]["pk"]), t) for g in groups for t in g["tests"]]
    assert len(tests) == 151
    malleable = 0
    for key, test in tests:
        assert test["result"] in ("valid", "invalid")
        try:
            key.verify(bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
            accepted = True
        except BadSignature:
            accepted = False
        assert accepted == (test["result"] == "valid"), test["tcId"]
        malleable += "SignatureMalleability" in test["flags"]
    assert malleable == 8


def test_a_signature_with_s_plus_the_group_order_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(SIGNATURE[32:], "little") + order
    with pytest.raises(BadSignature):
        SigningKey(SEED).public.verify(SIGNATURE[:32] + s.to_bytes(32, "little"), b"\x72")


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:-1], SIGNATURE + b"\0"])
def test_signatures_of_another_length_are_refused(signature: bytes) -> None:
    with pytest.raises(BadSignature):
        SigningKey(SEED).public.verify(signature, b"\x72")


def test_a_key_file_reads_back_and_is_private(tmp_path: Path) -> None:
    key = SigningKey.generate(lambda size: SEED[:size])
    key.save(tmp_path / "log.key")
    assert (tmp_path / "log.key").stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(tmp_path / "log.key").public == key.public
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


def test_openssl_reads_our_key_files(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is missing")
        pytest.skip("openssl is not installed")
    SigningKey(SEED).save(tmp_path / "log.key")
    shown = subprocess.run(
        [openssl, "pkey", "-in", "log.key", "-noout", "-text_pub"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert PUBLIC in "".join(shown.stdout.split()).replace(":", "")


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    save_secret(tmp_path / "master.key", SEED)
    with pytest.raises(KeyFileExists):
        save_secret(tmp_path / "master.key", bytes(32))
    with pytest.raises(KeyFileExists):
        SigningKey(bytes(32)).save(tmp_path / "master.key")
    assert load_secret(tmp_path / "master.key", size=32) == SEED
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_a_crash_while_saving_leaves_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        save_secret(tmp_path / "master.key", SEED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_exposed_key_files_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "log.key"
    SigningKey(SEED).save(path)
    path.chmod(mode)
    with pytest.raises(KeyFileExposed) as refusal:
        SigningKey.load(path)
    assert refusal.value.next_step == f"chmod 600 {path}"
    assert refusal.value.got == f"mode {mode:04o}"


def test_missing_key_files_are_our_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(KeyFileMissing):
            load_secret(path)


def test_a_secret_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    save_secret(tmp_path / "short", b"short")
    save_secret(tmp_path / "long", bytes(5000))
    for name, size in (("short", 32), ("long", None)):
        with pytest.raises(MalformedKey):
            load_secret(tmp_path / name, size=size)


def test_other_files_are_no_signing_keys(tmp_path: Path) -> None:
    foreign = ec.generate_private_key(ec.SECP256R1())
    encrypted = SigningKey(SEED)._key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    files = {
        "empty": b"",
        "raw": SEED,
        "garbage": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "encrypted": encrypted,
        "ecdsa": foreign.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    for name, content in files.items():
        save_secret(tmp_path / name, content)
        with pytest.raises(MalformedKey):
            SigningKey.load(tmp_path / name)


def test_public_keys_are_32_bytes_in_lowercase_hexadecimal() -> None:
    assert PublicKey.fromhex(PUBLIC) == PublicKey(bytes.fromhex(PUBLIC))
    assert len({PublicKey.fromhex(PUBLIC), SigningKey(SEED).public}) == 1
    for wrong in (PUBLIC[:-2], PUBLIC.upper(), PUBLIC + "00", "", "zz" * 32, f" {PUBLIC[1:]}"):
        with pytest.raises(MalformedKey):
            PublicKey.fromhex(wrong)
    with pytest.raises(MalformedKey):
        PublicKey.fromhex(None)  # type: ignore[arg-type]
    with pytest.raises(MalformedKey):
        SigningKey(b"short")


PRIME = 2**255 - 19
D = -121665 * pow(121666, -1, PRIME) % PRIME


def add(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
    """Add two points of edwards25519 (RFC 8032 section 5.1.4, affine)."""
    (x1, y1), (x2, y2) = p, q
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, PRIME)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, PRIME)
    return x % PRIME, y % PRIME


def point_of(y: int) -> tuple[int, int]:
    """Return a point with coordinate y."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    x = x if x * x % PRIME == square else x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert x * x % PRIME == square
    return x, y


def test_keys_of_small_order_are_refused() -> None:
    generator = point_of(min(keys._SMALL_ORDER - {0, 1}))  # of order 8
    point, found = generator, set()
    for _ in range(8):
        for sign in (0, 1):
            with pytest.raises(MalformedKey):
                PublicKey((point[1] | sign << 255).to_bytes(32, "little"))
        found.add(point[1])
        point = add(point, generator)
    assert point == generator
    assert add(generator, point_of(1)) == generator
    assert found == keys._SMALL_ORDER
    for y in range(PRIME, 2**255):
        with pytest.raises(MalformedKey):
            PublicKey(y.to_bytes(32, "little"))


def test_a_signing_key_is_neither_shown_nor_pickled() -> None:
    key = SigningKey(SEED)
    assert SEED.hex() not in repr(key)
    assert PUBLIC in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
