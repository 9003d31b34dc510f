"""SQLite on a network file system is refused, by what /proc/mounts says."""

from pathlib import Path

import pytest

from latentlog.ledger.errors import NetworkFileSystem
from latentlog.ledger.home import Home
from latentlog.ledger.store import mounts
from latentlog.ledger.store.mounts import NETWORK, require_local
from latentlog.ledger.store.sql import SqlStore
from tests.builders import ORIGIN

LOCAL = "proc /proc proc rw 0 0\n/dev/vda / ext4 rw 0 0\n"


@pytest.mark.parametrize("kind", sorted(NETWORK))
def test_every_network_type_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkFileSystem, match=f"{tmp_path}"):
        require_local(tmp_path / "home/ledger.sqlite", f"{LOCAL}server:/x {tmp_path} {kind} rw 0 0")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk"])
def test_local_types_are_not(kind: str, tmp_path: Path) -> None:
    require_local(tmp_path / "ledger.sqlite", f"{LOCAL}x {tmp_path} {kind} rw 0 0")


def test_the_innermost_mount_decides(tmp_path: Path) -> None:
    outer, inner = f"server:/x {tmp_path} nfs4 rw", f"/dev/sdb {tmp_path}/disk ext4 rw"
    require_local(tmp_path / "disk/ledger.sqlite", f"{LOCAL}{inner}\n{outer}\n")
    with pytest.raises(NetworkFileSystem):
        require_local(tmp_path / "diskette/ledger.sqlite", f"{LOCAL}{inner}\n{outer}\n")


def test_a_later_mount_covers_an_earlier_one_at_its_place(tmp_path: Path) -> None:
    nfs, disk = f"server:/x {tmp_path} nfs rw", f"/dev/sdb {tmp_path} ext4 rw"
    require_local(tmp_path / "ledger.sqlite", f"{nfs}\n{disk}")
    with pytest.raises(NetworkFileSystem):
        require_local(tmp_path / "ledger.sqlite", f"{disk}\n{nfs}")


def test_names_with_spaces_and_links_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    escaped = str(folder).replace(" ", "\\040")
    with pytest.raises(NetworkFileSystem):
        require_local(tmp_path / "link/ledger.sqlite", f"{LOCAL}//nas/x {escaped} cifs rw 0 0")


def test_opening_and_creating_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.create(tmp_path / "home", origin=ORIGIN)
    table = tmp_path / "mounts"
    table.write_text(f"{LOCAL}server:/x {tmp_path} nfs4 rw 0 0\n", encoding="utf-8")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    with pytest.raises(NetworkFileSystem) as caught:
        SqlStore.open(home.database_url)
    assert caught.value.kind == "environment"
    with pytest.raises(NetworkFileSystem):
        Home.create(tmp_path / "other", origin=ORIGIN)
    assert not (tmp_path / "other").exists()


def test_a_system_without_the_table_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    require_local(tmp_path / "ledger.sqlite")
