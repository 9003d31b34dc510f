"""A bundle: everything a stranger needs to check one finding, in one file.

    README.txt                      how to check by hand
    statement.dsse.json             the finding, signed by the examiner
    manifest.dsse.json              path, size and SHA-256 of every other part, signed likewise
    ledger/checkpoint.note          the log's signed checkpoint
    ledger/entries/N.json           the cited entries and their seals, exactly as logged
    ledger/entries/N.tlog-proof     inclusion of each in the checkpoint
    ledger/batches/N.json           path from each cited entry to its seal
    openings/N.json                 what opens a cited generation's commitments
    exhibits/…  figures/…           the examined file · the pictures of the report
    report.pdf                      the finding for people

A bundle is a zip (see `container`) or the same files in a folder. Reading proves nothing but form;
`verify` proves the rest.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from latentlog.evidence.container import (
    MAX_BUNDLE,
    MAX_PART,
    MAX_PARTS,
    decode_container,
    encode_container,
    verify_part_name,
)
from latentlog.evidence.dsse import MAX_ENVELOPE
from latentlog.evidence.errors import (
    BundleExists,
    BundleTooLarge,
    CannotWrite,
    MalformedManifest,
    ManifestDisagrees,
    MissingPart,
    NotARegularPart,
    PartTooLarge,
    TooManyParts,
    UnknownPart,
    UnreadableFile,
)
from latentlog.ledger import canonical
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import LedgerError

README: Final = "README.txt"
STATEMENT: Final = "statement.dsse.json"
MANIFEST: Final = "manifest.dsse.json"
CHECKPOINT: Final = "ledger/checkpoint.note"
REPORT: Final = "report.pdf"
MANIFEST_TYPE: Final = "application/vnd.latentlog.manifest+json"

_NUMBER: Final = r"(0|[1-9][0-9]{0,15})"
_LAYOUT: Final[tuple[tuple[re.Pattern[str], int], ...]] = tuple(
    (re.compile(pattern), limit)
    for pattern, limit in (
        (r"README\.txt", 1 << 18),
        (r"(statement|manifest)\.dsse\.json", MAX_ENVELOPE),
        (r"ledger/checkpoint\.note", 1 << 16),
        (rf"ledger/entries/{_NUMBER}\.json", canonical.ENTRY_LIMIT),
        (rf"ledger/entries/{_NUMBER}\.tlog-proof", 1 << 17),
        (rf"ledger/batches/{_NUMBER}\.json", 1 << 12),
        (rf"openings/{_NUMBER}\.json", 1 << 20),
        (r"exhibits/[A-Za-z0-9][A-Za-z0-9._-]*", MAX_PART),
        (r"figures/[a-z0-9-]+\.png", 16 << 20),
        (r"report\.pdf", 64 << 20),
    )
)
_REQUIRED: Final = (README, STATEMENT, MANIFEST, CHECKPOINT)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Parts by path. Well formed; not verified."""

    parts: Mapping[str, bytes]

    def part(self, name: str) -> bytes:
        """Return one part; raises `MissingPart`."""
        try:
            return self.parts[name]
        except KeyError:
            raise MissingPart(f"the bundle lacks {name}") from None

    def numbered(self, folder: str, suffix: str) -> dict[int, bytes]:
        """Return the parts `folder/N suffix` by N, in order."""
        pattern = re.compile(rf"{re.escape(folder)}/{_NUMBER}{re.escape(suffix)}")
        found = ((pattern.fullmatch(name), content) for name, content in self.parts.items())
        numbered = {int(hit[1]): content for hit, content in found if hit}
        return dict(sorted(numbered.items()))


def entry_part(index: int) -> str:
    return f"ledger/entries/{index}.json"


def proof_part(index: int) -> str:
    return f"ledger/entries/{index}.tlog-proof"


def batch_part(index: int) -> str:
    return f"ledger/batches/{index}.json"


def opening_part(index: int) -> str:
    return f"openings/{index}.json"


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle's zip or folder; raises an `UnreadableBundle` that names the defect."""
    path = Path(path)
    try:
        parts = _read_folder(path) if path.is_dir() else decode_container(_read_file(path))
    except OSError as error:
        raise UnreadableFile(f"cannot read {path}: {error.strerror or error}") from error
    return parse_bundle(parts)


def parse_bundle(parts: Mapping[str, bytes]) -> Bundle:
    """Return `parts` as a bundle if the required ones are there and none is over its limit."""
    for name in _REQUIRED:
        if name not in parts:
            raise MissingPart(f"the bundle lacks {name}")
    for name, content in parts.items():
        limit = part_limit(name)
        if limit is not None and len(content) > limit:
            raise PartTooLarge(
                f"{name} is too large", expected=f"at most {limit} bytes", got=str(len(content))
            )
    return Bundle(dict(sorted(parts.items())))


def part_limit(name: str) -> int | None:
    """Return the size limit of a part this version knows, or None for an unknown part."""
    return next((limit for pattern, limit in _LAYOUT if pattern.fullmatch(name)), None)


def verify_layout(bundle: Bundle) -> None:
    """Refuse parts that this version would show unchecked."""
    for name in bundle.parts:
        if part_limit(name) is None:
            raise UnknownPart(
                f"the bundle holds {name}, which this version does not know",
                next_step="verify it with a newer release",
            )


def write_bundle(path: str | Path, parts: Mapping[str, bytes], *, replace: bool = False) -> None:
    """Write the bundle whole or not at all; raises `BundleExists` or `CannotWrite`.

    The name appears only after the bytes are on the disk. A full disk or a crash leaves whatever
    stood at `path` before, and no half bundle.
    """
    path = Path(path)
    encoded = encode_container(parse_bundle(parts).parts)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.part")
    try:
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(_discard, temporary)
            _write_synced(temporary, encoded)
            (os.replace if replace else _rename_new)(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise BundleExists(
            f"{path} exists", next_step="choose another name; bundles are not overwritten"
        ) from None
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error


def encode_manifest(parts: Mapping[str, bytes]) -> bytes:
    """Encode path, size and digest of every part but the manifest itself."""
    return canonical.encode(
        {
            "kind": "manifest",
            "parts": [
                {"path": name, "sha256": Digest.of(content).hex(), "size": len(content)}
                for name, content in sorted(parts.items())
                if name != MANIFEST
            ],
            "v": 0,
        }
    )


def verify_manifest(bundle: Bundle, payload: bytes) -> None:
    """Require that the signed list names exactly the parts that are there, byte for byte."""
    listed = _listed_parts(payload)
    for name in sorted(bundle.parts.keys() - {MANIFEST} | listed.keys()):
        content = bundle.parts.get(name)
        if name not in listed:
            raise ManifestDisagrees(f"the bundle holds {name}, which the manifest does not list")
        if content is None:
            raise ManifestDisagrees(f"the bundle lacks {name}, which the manifest lists")
        (size, digest), found = listed[name], Digest.of(content)
        if len(content) != size or found != digest:
            raise ManifestDisagrees(
                f"{name} was changed after the bundle was signed",
                expected=f"{size} bytes, SHA-256 {digest.hex()}",
                got=f"{len(content)} bytes, SHA-256 {found.hex()}",
            )


def _listed_parts(payload: bytes) -> dict[str, tuple[int, Digest]]:
    listed: dict[str, tuple[int, Digest]] = {}
    try:
        match canonical.decode(payload, limit=MAX_ENVELOPE):
            case {"kind": "manifest", "parts": list(items), "v": 0, **rest} if not rest:
                pass
            case _:
                raise MalformedManifest("manifest has the wrong shape")
        for item in items:
            match item:
                case {"path": str(name), "sha256": str(digest), "size": int(size), **more} if (
                    not more and name not in listed
                ):
                    listed[verify_part_name(name)] = size, Digest.fromhex(digest)
                case _:
                    raise MalformedManifest("manifest lists a part wrongly or twice")
    except LedgerError as error:
        raise MalformedManifest(f"manifest is malformed: {error}") from error
    return listed


def _read_file(path: Path) -> bytes:
    # Non-blocking, so that a named pipe put in the place of a bundle is refused, not waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotARegularPart(f"{path} is not a plain file")
        content = file.read(MAX_BUNDLE + 1)
    if len(content) > MAX_BUNDLE:
        raise BundleTooLarge("bundle is too large", expected=f"at most {MAX_BUNDLE} bytes")
    return content


def _read_folder(root: Path) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    total = 0
    for path in _plain_files(root):
        if len(parts) == MAX_PARTS:
            raise TooManyParts("bundle holds too many parts", expected=f"at most {MAX_PARTS}")
        name = verify_part_name(path.relative_to(root).as_posix())
        parts[name] = _read_file(path)
        total += len(parts[name])
        if total > MAX_BUNDLE:
            raise BundleTooLarge("bundle is too large", expected=f"at most {MAX_BUNDLE} bytes")
    return parts


def _plain_files(folder: Path, depth: int = 4) -> Iterator[Path]:
    """Yield the files below `folder`, following no link out of it."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and depth:
            yield from _plain_files(Path(entry.path), depth - 1)
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        else:
            raise NotARegularPart(f"{entry.path} is neither a plain file nor a folder")


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _rename_new(source: Path, target: Path) -> None:
    """Rename without replacing: a link fails where something stands, a rename would not."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without links; the window between the two calls is the best it offers.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)


def _discard(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
