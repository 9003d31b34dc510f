"""The one zip layout a bundle may have: stored, sorted, dateless, byte for byte reproducible.

A zip file says everything twice (local headers and central directory) and lets the two disagree;
readers that pick different halves see different files, which is how one signed archive is made to
show two contents. So this reader knows exactly one encoding. It walks the file once from the first
byte, requires every field to hold the only allowed value, refuses what it does not know by name,
and finally demands that encoding the parts again gives the same bytes. Nothing is compressed, so
nothing can expand: time and memory are linear in the file, whose size is bounded before it is read.

    PK\\3\\4 20 0 0 0 0x0021 crc32 size size name-length 0 | name | content   … for every part
    PK\\1\\2 … the same again with the offset …              PK\\5\\6 counts, sizes, no comment
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from latentlog.evidence.errors import (
    BadPartName,
    BundleComment,
    BundleTooLarge,
    CompressedPart,
    CorruptPart,
    DataDescriptor,
    DuplicatePart,
    EncryptedPart,
    NotABundle,
    NotARegularPart,
    NotCanonicalBundle,
    PartTooLarge,
    TooManyParts,
    TrailingBytes,
    TruncatedBundle,
    UnsortedParts,
    Zip64Bundle,
)

MAX_BUNDLE: Final = 256 << 20
"""Room for a few large photographs and their figures; read into memory whole."""
MAX_PART: Final = 192 << 20
MAX_PARTS: Final = 2048
MAX_NAME: Final = 120
"""Fits beside any sensible folder on systems that allow 260 characters for a whole path."""

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_CENTRAL_MAGIC: Final = b"PK\x01\x02"
_END_MAGIC: Final = b"PK\x05\x06"
_ZIP64_MAGICS: Final = (b"PK\x06\x06", b"PK\x06\x07")
_VERSION: Final = 20
_MADE_BY: Final = 3 << 8 | _VERSION
"""Unix, so that the mode below is read as one."""
_REGULAR_FILE: Final = 0o100644 << 16
_TIME: Final = 0
_DATE: Final = 1 << 5 | 1
"""1980-01-01, the earliest a zip can say: a bundle's date is in its signed statement."""
_ENCRYPTED: Final = 1 << 0
_DESCRIPTOR: Final = 1 << 3
_NAME_BYTES: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/"
)


class _Part(NamedTuple):
    name: str
    content: bytes
    crc: int
    offset: int


def verify_part_name(name: str) -> str:
    """Return `name` if it is a plain relative path of letters, digits and ``. _ -``."""
    raw = name.encode("utf-8", "surrogateescape")
    segments = name.split("/")
    if not 0 < len(raw) <= MAX_NAME or not _NAME_BYTES.issuperset(raw):
        raise BadPartName(f"bundle part has a forbidden name: {name[:MAX_NAME]!r}")
    # A leading dot covers '.', '..' and hidden files; a trailing one is dropped by Windows, which
    # would make two parts one.
    if any(not s or s[0] in ".-" or s[-1] == "." for s in segments):
        raise BadPartName(f"bundle part has a forbidden name: {name!r}")
    return name


def encode_container(parts: Mapping[str, bytes]) -> bytes:
    """Encode `parts` as the one zip that holds them."""
    encoded = b"".join(_chunks(parts))
    if len(encoded) > MAX_BUNDLE:
        raise _too_large(len(encoded))
    return encoded


def decode_container(data: bytes) -> dict[str, bytes]:
    """Decode a bundle's zip, refusing every byte that `encode_container` would not have written."""
    if len(data) > MAX_BUNDLE:
        raise _too_large(len(data))
    # Either end alone marks a damaged bundle; with neither this is another kind of file.
    if data[:4] != _LOCAL_MAGIC and data[-_END.size :][:4] != _END_MAGIC:
        raise NotABundle("this file is not a bundle: it is not a zip file")
    parts: list[_Part] = []
    offset = 0
    while data[offset : offset + 4] == _LOCAL_MAGIC:
        if len(parts) == MAX_PARTS:
            raise TooManyParts("bundle holds too many parts", expected=f"at most {MAX_PARTS}")
        part = _read_local(data, offset)
        parts.append(part)
        offset += _LOCAL.size + len(part.name) + len(part.content)
    _verify_names([part.name for part in parts])
    start = offset
    for part in parts:
        offset = _read_central(data, offset, part)
    _read_end(data, offset, len(parts), start)
    decoded = {part.name: part.content for part in parts}
    _verify_encoding(decoded, data)
    return decoded


def _chunks(parts: Mapping[str, bytes]) -> Iterator[bytes]:
    _verify_names(sorted(parts))
    directory, offset = bytearray(), 0
    for name in sorted(parts):
        content, raw = parts[name], name.encode("ascii")
        if len(content) > MAX_PART:
            raise _part_too_large(name, len(content))
        part = _Part(name, content, zlib.crc32(content), offset)
        yield _local_header(part) + raw
        yield content
        directory += _central_header(part) + raw
        offset += _LOCAL.size + len(raw) + len(content)
    yield bytes(directory)
    yield _END.pack(_END_MAGIC, 0, 0, len(parts), len(parts), len(directory), offset, 0)


def _verify_encoding(parts: Mapping[str, bytes], data: bytes) -> None:
    """Encode again chunk by chunk, without a second copy of the file in memory."""
    view, offset = memoryview(data), 0
    for chunk in _chunks(parts):
        if view[offset : offset + len(chunk)] != chunk:
            raise NotCanonicalBundle(f"bundle is not encoded canonically at offset {offset}")
        offset += len(chunk)
    if offset != len(data):
        raise TrailingBytes("bundle is followed by other bytes")


def _part_too_large(name: str, size: int) -> PartTooLarge:
    return PartTooLarge(
        f"bundle part {name!r} is too large",
        expected=f"at most {MAX_PART} bytes",
        got=f"{size} bytes",
    )


def _too_large(size: int) -> BundleTooLarge:
    return BundleTooLarge(
        "bundle is too large", expected=f"at most {MAX_BUNDLE} bytes", got=f"{size} bytes"
    )


def _verify_names(names: list[str]) -> None:
    if len(names) > MAX_PARTS:
        raise TooManyParts("bundle holds too many parts", expected=f"at most {MAX_PARTS}")
    seen: set[str] = set()
    for before, name in zip(["", *names], names, strict=False):
        # Two names that differ in case only are one file on many systems.
        if verify_part_name(name).casefold() in seen:
            raise DuplicatePart(f"bundle holds {name} twice")
        if name < before:
            raise UnsortedParts(
                "bundle parts are not in order", expected=f"{name} first", got=f"{before} first"
            )
        seen.add(name.casefold())


def _local_header(part: _Part) -> bytes:
    size = len(part.content)
    return _LOCAL.pack(
        *(_LOCAL_MAGIC, _VERSION, 0, 0, _TIME, _DATE, part.crc, size, size, len(part.name), 0)
    )


def _central_header(part: _Part) -> bytes:
    size = len(part.content)
    common = (_VERSION, 0, 0, _TIME, _DATE, part.crc, size, size, len(part.name), 0, 0)
    return _CENTRAL.pack(_CENTRAL_MAGIC, _MADE_BY, *common, 0, 0, _REGULAR_FILE, part.offset)


def _read_local(data: bytes, offset: int) -> _Part:
    fields = _unpack(_LOCAL, data, offset)
    _, version, flags, method, time, date, crc, packed, size, name_length, extra = fields
    raw = data[offset + _LOCAL.size : offset + _LOCAL.size + name_length]
    label = raw[:MAX_NAME].decode("ascii", "replace")
    _refuse_features(label, flags, method, packed, size, extra)
    if name_length > MAX_NAME:
        raise BadPartName(f"bundle part has too long a name: {label!r}")
    if (version, flags, time, date, packed) != (_VERSION, 0, _TIME, _DATE, size):
        raise NotCanonicalBundle(f"bundle part {label!r} has an unusual header")
    start = offset + _LOCAL.size + name_length
    if start + size > len(data):
        raise TruncatedBundle(
            f"bundle ends inside {label!r}",
            expected=f"{size} bytes",
            got=f"{len(data) - start} bytes",
        )
    name = verify_part_name(raw.decode("ascii", "surrogateescape"))
    content = data[start : start + size]
    if zlib.crc32(content) != crc:
        raise CorruptPart(
            f"{name} was changed after the bundle was written",
            expected=f"CRC-32 {crc:08x}",
            got=f"CRC-32 {zlib.crc32(content):08x}",
        )
    return _Part(name, content, crc, offset)


def _refuse_features(
    label: str, flags: int, method: int, packed: int, size: int, extra: int
) -> None:
    if flags & _ENCRYPTED:
        raise EncryptedPart(f"bundle part {label!r} is encrypted")
    if flags & _DESCRIPTOR:
        raise DataDescriptor(f"bundle part {label!r} states its size after its content")
    if method:
        raise CompressedPart(
            f"bundle part {label!r} is compressed", expected="method 0", got=f"method {method}"
        )
    if 0xFFFFFFFF in (packed, size):
        raise Zip64Bundle(f"bundle part {label!r} uses zip64")
    if size > MAX_PART:
        raise _part_too_large(label, size)
    if extra:
        raise NotCanonicalBundle(f"bundle part {label!r} has an extra field")


def _read_central(data: bytes, offset: int, part: _Part) -> int:
    fields = _unpack(_CENTRAL, data, offset)
    end = offset + _CENTRAL.size + len(part.name)
    expected = _central_header(part) + part.name.encode("ascii")
    if data[offset:end] == expected:
        return end
    magic, attributes = fields[0], fields[-2]
    if magic != _CENTRAL_MAGIC:
        _refuse_unexpected(data, offset)
    if attributes != _REGULAR_FILE:
        raise NotARegularPart(
            f"{part.name} is not a plain file", expected="mode 100644", got=f"{attributes:#x}"
        )
    raise NotCanonicalBundle(f"the bundle's directory disagrees with its content on {part.name}")


def _read_end(data: bytes, offset: int, count: int, start: int) -> None:
    if data[offset : offset + 4] != _END_MAGIC:
        _refuse_unexpected(data, offset)
    fields = _unpack(_END, data, offset)
    if fields[-1]:
        raise BundleComment("bundle carries a zip comment")
    if len(data) > offset + _END.size:
        raise TrailingBytes(
            "bundle is followed by other bytes",
            expected=f"{offset + _END.size} bytes",
            got=f"{len(data)} bytes",
        )
    if fields != (_END_MAGIC, 0, 0, count, count, offset - start, start, 0):
        raise NotCanonicalBundle("the bundle's end record disagrees with its directory")


def _refuse_unexpected(data: bytes, offset: int) -> NoReturn:
    found = data[offset : offset + 4]
    if len(found) < 4:
        raise TruncatedBundle("bundle ends early", got=f"{len(data)} bytes")
    if found in _ZIP64_MAGICS:
        raise Zip64Bundle("bundle uses zip64")
    raise NotCanonicalBundle(f"bundle holds unexpected bytes at offset {offset}", got=found.hex())


def _unpack(layout: struct.Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    if offset + layout.size > len(data):
        raise TruncatedBundle("bundle ends early", got=f"{len(data)} bytes")
    return layout.unpack_from(data, offset)
