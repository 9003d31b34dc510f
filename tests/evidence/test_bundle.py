"""The container: other tools read it, hostile ones are refused by name, nothing is lost."""

import errno
import io
import os
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.evidence import bundle as bundle_module
from latentlog.evidence import container, errors
from latentlog.evidence.bundle import (
    MANIFEST,
    Bundle,
    encode_manifest,
    parse_bundle,
    read_bundle,
    verify_layout,
    verify_manifest,
    write_bundle,
)
from latentlog.evidence.container import decode_container, encode_container, verify_part_name
from latentlog.ledger import canonical

PARTS = {
    "README.txt": b"read me\n",
    "exhibits/medium.png": bytes(range(256)),
    "ledger/checkpoint.note": b"note",
    "manifest.dsse.json": b"{}",
    "statement.dsse.json": b"{}",
}


def python_zip(**changes: object) -> bytes:
    """The same parts through the standard library, with one property changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in sorted(PARTS.items()):
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            for key, value in changes.items():
                if key != "comment":
                    setattr(member, key, value)
            archive.writestr(member, content)
        archive.comment = changes.get("comment", b"")  # type: ignore[assignment]
    return out.getvalue()


def test_every_byte_is_what_the_standard_library_writes() -> None:
    assert encode_container(PARTS) == python_zip()


def test_decodes_to_the_same_parts() -> None:
    assert decode_container(encode_container(PARTS)) == PARTS


@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed")
def test_unzip_finds_no_fault(tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(encode_container(PARTS))
    subprocess.run(["unzip", "-tq", "b.zip"], cwd=tmp_path, check=True, capture_output=True)


names = st.from_regex(r"[a-z][a-z0-9_-]{0,6}(/[a-z0-9][a-z0-9_-]{0,6}){0,2}", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, st.binary(max_size=40), max_size=6))
def test_any_parts_round_trip(parts: dict[str, bytes]) -> None:
    if not parts:
        return
    assert decode_container(encode_container(parts)) == parts


def test_every_changed_byte_is_refused() -> None:
    good = encode_container(PARTS)
    for position in range(len(good)):
        for bit in (0x01, 0x20, 0x80):
            bad = bytearray(good)
            bad[position] ^= bit
            with pytest.raises(errors.MalformedBundle):
                decode_container(bytes(bad))


def test_every_truncation_is_refused() -> None:
    good = encode_container(PARTS)
    for length in range(len(good)):
        with pytest.raises(errors.MalformedBundle):
            decode_container(good[:length])


def patched(offset: int, layout: str, value: int, data: bytes | None = None) -> bytes:
    changed = bytearray(encode_container(PARTS) if data is None else data)
    struct.pack_into(layout, changed, offset, value)
    return bytes(changed)


def directory() -> int:
    return encode_container(PARTS).index(b"PK\x01\x02")


def zip64_end() -> bytes:
    good = encode_container(PARTS)
    end = good.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 20, 20, 0, 0, 5, 5, 9, directory())
    return good[:end] + record + struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1) + good[end:]


def renamed(name: str) -> bytes:
    raw = encode_container({**PARTS, "exhibits/medium.pnX": b""} | {"exhibits/medium.png": b""})
    assert len(name) == len("exhibits/medium.pnX")
    return raw.replace(b"exhibits/medium.pnX", name.encode())


def symlinked() -> bytes:
    return patched(directory() + 38, "<I", 0o120777 << 16)


def folder_entry() -> bytes:
    return patched(directory() + 38, "<I", 0o040755 << 16)


def overlapping() -> bytes:
    """Two directory entries that share one content: the quine and overlap bombs' trick."""
    good = bytearray(encode_container(PARTS))
    second = good.index(b"PK\x01\x02", directory() + 4)
    struct.pack_into("<I", good, second + 42, 0)
    return bytes(good)


def part_comment() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        member = zipfile.ZipInfo("README.txt", (1980, 1, 1, 0, 0, 0))
        member.external_attr = 0o100644 << 16
        member.comment = b"unsigned words"
        archive.writestr(member, b"")
    return out.getvalue()


DEFECTS: list[tuple[str, Callable[[], bytes], type[errors.MalformedBundle]]] = [
    ("empty file", lambda: b"", errors.NotABundle),
    ("text", lambda: b"hello " * 20, errors.NotABundle),
    ("png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), errors.NotABundle),
    ("compressed", lambda: python_zip(compress_type=zipfile.ZIP_DEFLATED), errors.CompressedPart),
    ("bzip2", lambda: python_zip(compress_type=zipfile.ZIP_BZIP2), errors.CompressedPart),
    ("dated", lambda: python_zip(date_time=(2026, 1, 1, 0, 0, 0)), errors.NotCanonicalBundle),
    ("zip comment", lambda: python_zip(comment=b"hi"), errors.BundleComment),
    ("part comment", lambda: part_comment(), errors.NotCanonicalBundle),
    ("extra field", lambda: python_zip(extra=b"\x01\x02\x00\x00"), errors.NotCanonicalBundle),
    ("from windows", lambda: python_zip(create_system=0), errors.NotCanonicalBundle),
    ("executable", lambda: python_zip(external_attr=0o100755 << 16), errors.NotARegularPart),
    ("encrypted", lambda: patched(6, "<H", 1), errors.EncryptedPart),
    ("data descriptor", lambda: patched(6, "<H", 8), errors.DataDescriptor),
    ("utf-8 flag", lambda: patched(6, "<H", 0x800), errors.NotCanonicalBundle),
    ("zip64 sizes", lambda: patched(18, "<I", 0xFFFFFFFF), errors.Zip64Bundle),
    ("zip64 end", zip64_end, errors.Zip64Bundle),
    ("huge size", lambda: patched(22, "<I", 0xFFFFFFF0), errors.PartTooLarge),
    (
        "size past the end",
        lambda: patched(22, "<I", 0xFFFFFF, patched(18, "<I", 0xFFFFFF)),
        errors.TruncatedBundle,
    ),
    ("long name", lambda: patched(26, "<H", 0xFFFF), errors.BadPartName),
    ("wrong checksum", lambda: patched(14, "<I", 7), errors.CorruptPart),
    ("symbolic link", symlinked, errors.NotARegularPart),
    ("folder", folder_entry, errors.NotARegularPart),
    ("shared content", overlapping, errors.NotCanonicalBundle),
    ("trailing byte", lambda: encode_container(PARTS) + b"\n", errors.TrailingBytes),
    ("two archives", lambda: encode_container(PARTS) * 2, errors.TrailingBytes),
    ("leading byte", lambda: b"\0" + encode_container(PARTS), errors.NotCanonicalBundle),
    ("self-extractor", lambda: b"#!/bin/sh\n" + encode_container(PARTS), errors.NotCanonicalBundle),
    ("duplicate", lambda: renamed("exhibits/medium.png"), errors.DuplicatePart),
    ("duplicate but for case", lambda: renamed("exhibits/MEDIUM.png"), errors.DuplicatePart),
    ("parent folder", lambda: renamed("exhibits/../../abcd"), errors.BadPartName),
    ("absolute", lambda: renamed("/tmp/medium/picture"), errors.BadPartName),
    ("backslash", lambda: renamed("exhibits\\medium.png"), errors.BadPartName),
    ("drive", lambda: renamed("C:xhibits/medium.pn"), errors.BadPartName),
    (
        "nul",
        lambda: renamed("exhibits/mediu\0.png"),
        errors.BadPartName,
    ),
    ("unsorted", lambda: renamed("AAAAAAAA/medium.png"), errors.UnsortedParts),
]


@pytest.mark.parametrize(("make", "error"), [d[1:] for d in DEFECTS], ids=[d[0] for d in DEFECTS])
def test_refuses_by_name(make: Callable[[], bytes], error: type[errors.MalformedBundle]) -> None:
    with pytest.raises(errors.MalformedBundle) as refused:
        decode_container(make())
    assert type(refused.value) is error


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/.b",
        ".a",
        "a.",
        "a./b",
        "-a",
        "a b",
        "a\\b",
        "a:b",
        "a\nb",
        "a\0",
        "é",
        "a\u202eb",
        "x" * 121,
        "~a",
        "a*",
        "%2e%2e/a",
    ],
)
def test_refuses_names_that_could_leave_or_hide(name: str) -> None:
    with pytest.raises(errors.BadPartName):
        verify_part_name(name)


def test_refuses_too_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encode_container(PARTS)
    monkeypatch.setattr(container, "MAX_PARTS", 4)
    with pytest.raises(errors.TooManyParts):
        decode_container(good)
    with pytest.raises(errors.TooManyParts):
        encode_container(PARTS)


def test_refuses_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encode_container(PARTS)
    monkeypatch.setattr(container, "MAX_PART", 255)
    with pytest.raises(errors.PartTooLarge):
        encode_container(PARTS)
    monkeypatch.setattr(container, "MAX_BUNDLE", len(good) - 1)
    with pytest.raises(errors.BundleTooLarge):
        decode_container(good)


def test_hostile_megabytes_cost_no_more_than_they_weigh() -> None:
    """A million headers of empty parts, and one declared enormous: linear, and refused early."""
    header = encode_container({"a": b""})[:31]
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(errors.MalformedBundle):
        decode_container(header * 500_000)
    assert time.process_time() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_reads_a_zip_and_a_folder_alike(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.zip", PARTS)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "folder")
    assert read_bundle(tmp_path / "b.zip") == read_bundle(tmp_path / "folder") == Bundle(PARTS)


def test_folder_with_a_link_out_of_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "README.txt").symlink_to("/etc/passwd")
    with pytest.raises(errors.NotARegularPart):
        read_bundle(tmp_path / "b")
    (tmp_path / "b" / "README.txt").unlink()
    (tmp_path / "b" / "exhibits").symlink_to(tmp_path)
    with pytest.raises(errors.NotARegularPart):
        read_bundle(tmp_path / "b")


def test_deep_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "/".join("abcdefgh")).mkdir(parents=True)
    with pytest.raises(errors.NotARegularPart):
        read_bundle(tmp_path)


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(errors.UnreadableFile) as refused:
        read_bundle(tmp_path / "none.zip")
    assert refused.value.kind == "input"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(errors.NotARegularPart):
        read_bundle(tmp_path / "pipe.zip")


@pytest.mark.parametrize("name", ["README.txt", MANIFEST, "statement.dsse.json"])
def test_required_parts_are_required(name: str) -> None:
    with pytest.raises(errors.MissingPart, match=name):
        parse_bundle({k: v for k, v in PARTS.items() if k != name})


def test_each_part_has_its_own_limit() -> None:
    entry = "ledger/entries/7.json"
    assert parse_bundle({**PARTS, entry: bytes(canonical.ENTRY_LIMIT)}).part(entry)
    with pytest.raises(errors.PartTooLarge):
        parse_bundle({**PARTS, entry: bytes(canonical.ENTRY_LIMIT + 1)})


@pytest.mark.parametrize(
    "name", ["viewer.html", "ledger/entries/07.json", "ledger/entries/a.json", "notes.txt"]
)
def test_unknown_part_is_refused_as_newer(name: str) -> None:
    with pytest.raises(errors.UnknownPart):
        verify_layout(parse_bundle({**PARTS, name: b""}))
    verify_layout(parse_bundle(PARTS))


def test_manifest_names_every_change() -> None:
    payload = encode_manifest(PARTS)
    verify_manifest(Bundle(PARTS), payload)
    without = {k: v for k, v in PARTS.items() if k != "README.txt"}
    for parts, words in (
        ({**PARTS, "README.txt": b"read me!"}, "changed"),
        ({**PARTS, "README.txt": b"read Me\n"}, "changed"),
        (without, "lacks README.txt"),
        ({**PARTS, "figures/more.png": b""}, "does not list"),
    ):
        with pytest.raises(errors.ManifestDisagrees, match=words):
            verify_manifest(Bundle(parts), payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"[]",
        b'{"kind":"manifest","parts":{},"v":0}',
        b'{"kind":"manifest","parts":[{"path":"a","sha256":"00","size":0}],"v":0}',
        b'{"kind":"manifest","parts":[{"path":"../a","sha256":"%s","size":0}],"v":0}' % (b"0" * 64),
        b'{"kind":"manifest","parts":[{"path":"a"}],"v":0}',
        b'{"kind":"manifest","parts":[],"v":0,"x":1}',
    ],
)
def test_malformed_manifest_is_refused(payload: bytes) -> None:
    with pytest.raises(errors.MalformedBundle):
        verify_manifest(Bundle(PARTS), payload)


def test_writing_never_replaces_unasked(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(b"an earlier case")
    with pytest.raises(errors.BundleExists):
        write_bundle(path, PARTS)
    assert path.read_bytes() == b"an earlier case"
    write_bundle(path, PARTS, replace=True)
    assert read_bundle(path) == Bundle(PARTS)
    assert os.listdir(tmp_path) == ["b.zip"]


@pytest.mark.parametrize("call", ["_write_synced", "fsync", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    owner = bundle_module if call.startswith("_") else os
    monkeypatch.setattr(owner, call, refuse)
    with pytest.raises(errors.CannotWrite) as refused:
        write_bundle(tmp_path / "b.zip", PARTS)
    assert refused.value.kind == "environment"
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_really_full_device_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode=0o777: real("/dev/full", os.O_WRONLY))
    with pytest.raises(errors.CannotWrite, match="No space left"):
        write_bundle(tmp_path / "b.zip", PARTS)


def test_file_system_without_links_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    write_bundle(tmp_path / "b.zip", PARTS)
    with pytest.raises(errors.BundleExists):
        write_bundle(tmp_path / "b.zip", PARTS)
    assert os.listdir(tmp_path) == ["b.zip"]


def test_missing_folder_is_an_environment_error(tmp_path: Path) -> None:
    with pytest.raises(errors.CannotWrite):
        write_bundle(tmp_path / "none" / "b.zip", PARTS)
