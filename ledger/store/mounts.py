"""Refusing network file systems for SQLite: locks and shared memory do not hold across machines.

Two machines that write one SQLite file over NFS or SMB corrupt it, and a write-ahead log needs
memory that all its users share (sqlite.org/wal.html, "does not work over a network filesystem").
"""

import os
from pathlib import Path
from typing import Final

from latentlog.ledger.errors import NetworkFileSystem

MOUNTS: Final = Path("/proc/self/mounts")

NETWORK: Final = frozenset(
    "9p afs beegfs ceph cifs coda drvfs fuse.ceph fuse.cephfs fuse.davfs2 fuse.gcsfuse "
    "fuse.glusterfs fuse.goofys fuse.juicefs fuse.mount.davfs fuse.rclone fuse.s3fs fuse.smbnetfs "
    "fuse.sshfs glusterfs gpfs lustre ncpfs nfs nfs3 nfs4 pvfs2 smb2 smb3 smbfs vboxsf virtiofs "
    "davfs orangefs ocfs2 gfs2 prl_fs vmhgfs fuse.vmhgfs-fuse".split()
)
"""Types, as /proc/mounts names them, on which several machines may hold one file open."""


def require_local(path: Path, mounts: str | None = None) -> None:
    """Return if `path` lies on a file system of this machine; raises `NetworkFileSystem`.

    `mounts` is the text of /proc/mounts; where the system has none, nothing is known.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
    place, kind = _mount_of(Path(os.path.realpath(path)), mounts)
    if kind in NETWORK:
        raise NetworkFileSystem(
            f"SQLite cannot be used on the network file system at {place}",
            expected="a local disk",
            got=f"{path} on {kind}",
            next_step="put the home on a local disk, or record into PostgreSQL: "
            "latentlog init --db postgresql://…",
        )


def _mount_of(path: Path, mounts: str) -> tuple[str, str]:
    """Return the mount point that holds a path, and its type; a later mount covers an earlier."""
    found = ("/", "")
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = _unescaped(fields[1])
        if path.is_relative_to(place) and len(place) >= len(found[0]):
            found = place, fields[2]
    return found


def _unescaped(field: str) -> str:
    # proc(5): space, tab, newline and backslash are octal escapes.
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
