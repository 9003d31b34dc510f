"""The strict reader of `.pt2` files: a hostile zip to a checked program and its weights.

`torch.export.load` unpickles `data/sample_inputs` and evaluates every `expr_str`; a file can run
code through both. So torch never sees the file. This reader accepts the members that
`torch.export.save` writes (torch 2.9 to 2.13: archive version 0, schema 8), takes the graph as data
(`program.py`), takes the weights as raw bytes, and refuses pickled weights, script objects and
compiled code. Sample inputs are not loaded, but a file whose sample inputs would call anything is
refused too, because its owner may hand it to others. Torch-free.

    face/archive_format                        b"pt2"
    face/models/model.json                     the graph
    face/data/weights/model_weights_config.json   name -> {path_name, use_pickle, tensor_meta}
    face/data/weights/weight_0                 raw little-endian storage
    face/data/sample_inputs/model.pt           a pickle; never loaded
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from latentlog.inversion.errors import HostileArchive, MalformedArchive, UnsupportedModel
from latentlog.inversion.payloads import require_harmless_expressions, require_harmless_sample
from latentlog.inversion.program import DTYPES, Program, Weight, build_program, program_digest

MAX_ARCHIVE: Final = 2 << 30
"""The whole file is held in memory; half a billion float32 weights."""
MAX_JSON: Final = 48 << 20
"""Stack traces make graphs long; 48 MiB is a hundred thousand nodes."""
MAX_MEMBERS: Final = 20_000
SAMPLE_INPUTS: Final = "data/sample_inputs/model.pt"
_WEIGHTS: Final = "data/weights/"
_CONSTANTS: Final = "data/constants/"
_PLAIN_MEMBERS: Final = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
    r"|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(model_weights_config\.json|weight_\d{1,6})"
    r"|data/constants/(model_constants_config\.json|tensor_\d{1,6})"
    r"|extra/[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A model file, read and checked: everything the child needs, nothing else."""

    program: Program
    weights: tuple[Weight, ...]
    digest: str
    file_sha256: str


def read_archive(path: str | Path) -> Archive:
    """Read and check a `.pt2` file; raises MalformedArchive, HostileArchive or UnsupportedModel."""
    try:
        size = Path(path).stat().st_size
        if size > MAX_ARCHIVE:
            raise MalformedArchive(
                "model file too large", expected=f"at most {MAX_ARCHIVE} bytes", got=str(size)
            )
        return decode_archive(Path(path).read_bytes())
    except OSError as error:
        raise MalformedArchive(
            "cannot read the model file", got=f"{path}: {error.strerror}"
        ) from error


def decode_archive(data: bytes) -> Archive:
    """Check the bytes of a `.pt2` file, as `read_archive` does."""
    members = _members(data)
    _require_format(members)
    if SAMPLE_INPUTS in members:
        require_harmless_sample(members[SAMPLE_INPUTS]())
    model = _json(members, "models/model.json")
    require_harmless_expressions(model)
    weights = (
        *_payloads(members, _WEIGHTS, "model_weights_config.json"),
        *_payloads(members, _CONSTANTS, "model_constants_config.json"),
    )
    program = build_program(model, {weight.name: weight for weight in weights})
    return Archive(
        program=program,
        weights=weights,
        digest=program_digest(program, weights),
        file_sha256=hashlib.sha256(data).hexdigest(),
    )


# -- the zip -------------------------------------------------------------------------------------


def _members(data: bytes) -> dict[str, Callable[[], bytes]]:
    """List the members under the archive's one root folder, each with a reader of its bytes."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise MalformedArchive(
            "not a .pt2 archive", expected="a zip made by torch.export.save", got=str(error)
        ) from error
    infos = archive.infolist()
    if not 0 < len(infos) <= MAX_MEMBERS:
        raise MalformedArchive("implausible number of members", got=str(len(infos)))
    if any(i.filename == "serialized_exported_program.json" for i in infos):
        raise UnsupportedModel(
            "the model was saved by a torch before 2.9",
            next_step="load it there and save it with torch 2.9 or later",
        )
    root = infos[0].filename.split("/")[0] + "/"
    members: dict[str, Callable[[], bytes]] = {}
    for info in infos:
        name = info.filename.removeprefix(root)
        _require_plain_member(info, name, name in members or not info.filename.startswith(root))
        members[name] = _reader(archive, info)
    return members


def _require_plain_member(info: zipfile.ZipInfo, name: str, misplaced: bool) -> None:
    if re.match(r"data/(constants/(custom|opaque)_obj|aotinductor)|.*\.(so|pkl)$", name):
        raise HostileArchive("the model file holds objects or compiled code", got=name)
    if name in ("data/weights/model.pt", "data/constants/model.pt"):
        raise HostileArchive(
            "the model file holds pickled weights",
            got=name,
            next_step="save it again with torch 2.9 or later",
        )
    if misplaced or _PLAIN_MEMBERS.fullmatch(name) is None or ".." in name:
        raise MalformedArchive("unknown or repeated member", got=info.filename[:200])
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise MalformedArchive("compressed or encrypted member", got=info.filename[:200])
    if info.file_size != info.compress_size:
        raise MalformedArchive("member sizes contradict each other", got=info.filename[:200])


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, EOFError, ValueError, OSError, NotImplementedError) as error:
            raise MalformedArchive("damaged member", got=f"{info.filename}: {error}") from error

    return read


def _require_format(members: dict[str, Callable[[], bytes]]) -> None:
    for name, expected in (("archive_format", b"pt2"), ("archive_version", b"0")):
        got = members[name]() if name in members else b""
        if got.strip() != expected:
            raise MalformedArchive(f"unknown {name}", expected=repr(expected), got=repr(got[:40]))
    if "byteorder" in members and members["byteorder"]() != b"little":
        raise UnsupportedModel("the weights are not little-endian")


def _json(members: dict[str, Callable[[], bytes]], name: str) -> dict[str, Any]:
    if name not in members:
        raise MalformedArchive("missing member", expected=name)
    data = members[name]()
    if len(data) > MAX_JSON:
        raise MalformedArchive("member too large", expected=f"at most {MAX_JSON}", got=name)
    try:
        value = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MalformedArchive("malformed JSON", got=f"{name}: {error}") from error
    if not isinstance(value, dict):
        raise MalformedArchive("malformed JSON", expected="an object", got=name)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("repeated key")
    return value


# -- weights ---------------------------------------------------------------------------------------


def _payloads(
    members: dict[str, Callable[[], bytes]], folder: str, config_name: str
) -> list[Weight]:
    if folder + config_name not in members:
        return []
    config = _json(members, folder + config_name).get("config")
    if not isinstance(config, dict):
        raise MalformedArchive("malformed weights table", got=config_name)
    storages: dict[str, bytes] = {}
    weights = []
    for name, entry in sorted(config.items()):
        weights.append(_payload(members, folder, name, entry, storages))
    return weights


def _payload(
    members: dict[str, Callable[[], bytes]],
    folder: str,
    name: str,
    entry: Any,
    storages: dict[str, bytes],
) -> Weight:
    try:
        pickled, member, meta = (
            entry["use_pickle"],
            folder + entry["path_name"],
            entry["tensor_meta"],
        )
        if pickled is not False:
            raise HostileArchive("a weight is a pickled object", got=name[:200])
        sizes = [item["as_int"] for item in meta["sizes"]]
        strides = [item["as_int"] for item in meta["strides"]]
        offset, layout = meta["storage_offset"]["as_int"], meta["layout"]
        dtype = DTYPES[meta["dtype"]]
    except (KeyError, TypeError) as error:
        raise MalformedArchive("malformed weight", got=f"{name[:200]}: {error}") from error
    if member not in storages:
        if member not in members:
            raise MalformedArchive("missing weight", expected=member[:200])
        storages[member] = members[member]()
    if layout != 7:
        raise UnsupportedModel("a weight is not a dense tensor", got=name[:200])
    content = _gather(storages[member], dtype.width, sizes, strides, offset, name)
    return Weight(name=name, dtype=dtype.name, shape=tuple(sizes), content=content)


def _gather(
    storage: bytes, width: int, sizes: list[Any], strides: list[Any], offset: Any, name: str
) -> bytes:
    """Read a strided view of a storage as contiguous bytes; every bound is checked before numpy
    sees it.
    """
    numbers = (*sizes, *strides, offset)
    if any(type(n) is not int or not 0 <= n < 1 << 40 for n in numbers) or len(sizes) > 8:
        raise MalformedArchive("malformed weight", got=name[:200])
    # An honest weight is no larger than its storage; a stride of 0 would blow a few bytes up.
    if len(sizes) != len(strides) or math.prod(sizes) * width > max(len(storage), width):
        raise MalformedArchive("a weight is larger than its storage", got=name[:200])
    if math.prod(sizes) == 0:
        return b""
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if (last + 1) * width > len(storage):
        raise MalformedArchive("a weight reaches outside its storage", got=name[:200])
    flat = np.frombuffer(storage, dtype=np.dtype(f"V{width}"), count=last + 1)
    view = np.lib.stride_tricks.as_strided(
        flat[offset:], sizes, [stride * width for stride in strides], writeable=False
    )
    return np.ascontiguousarray(view).tobytes()
