"""Record keys: durable, never overwritten, and gone when they are destroyed."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from latentlog.ledger.errors import DatabaseExists, DatabaseMissing, StorageUnavailable
from latentlog.ledger.storage import KeyRow
from latentlog.ledger.store import engine as engine_module
from latentlog.ledger.store.vault import VaultStore

KEY = b"the record key of 32 bytes, here"


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path}/vault.sqlite"
    VaultStore.create(made).close()
    return made


def test_keys_are_found_by_record_and_blob(url: str) -> None:
    vault = VaultStore.open(url)
    rows = [KeyRow(0, 5, b"a" * 16, KEY), KeyRow(0, 6, b"b" * 16, KEY[::-1])]
    vault.put(rows)
    vault.close()
    vault = VaultStore.open(url)
    assert vault.get([(0, 6, b"b" * 16), (0, 5, b"a" * 16)]) == [KEY[::-1], KEY]
    assert vault.get([(0, 5, b"b" * 16), (1, 5, b"a" * 16), (0, 7, b"a" * 16)]) == [None] * 3
    assert vault.get([]) == []
    vault.close()


def test_sealing_a_counter_again_keeps_the_first_key(url: str) -> None:
    vault = VaultStore.open(url)
    vault.put([KeyRow(0, 5, b"a" * 16, KEY)])
    vault.put([KeyRow(0, 5, b"b" * 16, KEY[::-1])])
    assert vault.get([(0, 5, b"a" * 16), (0, 5, b"b" * 16)]) == [KEY, KEY[::-1]]
    vault.close()


def test_a_destroyed_key_is_in_no_file(url: str, tmp_path: Path) -> None:
    vault = VaultStore.open(url)
    vault.put([KeyRow(0, n, bytes([n]) * 16, KEY if n == 7 else bytes(32)) for n in range(50)])
    assert on_disk(tmp_path)
    assert vault.destroy(0, 7) == 1
    assert not on_disk(tmp_path)
    assert vault.destroy(0, 7) == 0
    assert vault.get([(0, 7, bytes([7]) * 16)]) == [None]
    assert vault.get([(0, 8, bytes([8]) * 16)]) == [bytes(32)]
    vault.close()


def test_a_key_that_a_reader_keeps_in_the_write_ahead_log_is_not_called_gone(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOCK_SECONDS", 0.05)
    vault = VaultStore.open(url)
    vault.put([KeyRow(0, 7, b"a" * 16, KEY)])
    with closing(sqlite3.connect(tmp_path / "vault.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM record_keys").fetchone()
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="still holds it") as caught:
                vault.destroy(0, 7)
        assert caught.value.next_step is not None
        assert vault.get([(0, 7, b"a" * 16)]) == [None]
        assert on_disk(tmp_path)
    assert vault.destroy(0, 7) == 0
    assert not on_disk(tmp_path)
    vault.close()


def on_disk(folder: Path) -> bool:
    return any(KEY in path.read_bytes() for path in folder.iterdir())


def test_the_vault_is_for_its_owner_only_and_made_once(url: str, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "vault.sqlite").stat().st_mode) == 0o600
    with pytest.raises(DatabaseExists):
        VaultStore.create(url)


def test_a_missing_vault_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing):
        VaultStore.open(f"sqlite:///{tmp_path}/vault.sqlite")
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(DatabaseMissing):
        VaultStore.open(f"sqlite:///{tmp_path}/empty.sqlite")
