"""Parts of a `.pt2` file that run code in a reader that trusts them.

`torch.export.load` unpickles the sample inputs and hands every `expr_str` to sympy, which evaluates
it as Python. Neither is ever loaded here. They are looked at all the same: the file is an exhibit,
its owner may open it elsewhere, and an honest exporter writes nothing of the kind. Torch-free.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from typing import Any, Final

from latentlog.inversion.errors import HostileArchive

MAX_PICKLE: Final = 1 << 20
"""Describing a few tensors takes hundreds of bytes; looking through a megabyte takes a second."""
_SAFE_GLOBALS: Final = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
    r"|torch\.serialization _get_layout|torch (device|Size)|torch\.storage UntypedStorage"
)
_EXPRESSION_TOKEN: Final = re.compile(
    r"\s*(Symbol\('[su]\d{1,9}'"
    r"(?:, (?:positive|integer|nonnegative|negative|zero|finite)=(?:True|False))*\)"
    r"|-?\d{1,19}|(?:Add|Mul|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Integer|Rational|Max|Min|Piecewise"
    r"|ExprCondPair|Eq|Ne|Equality|Unequality|Le|Lt|Ge|Gt|LessThan|StrictLessThan|GreaterThan|StrictGreaterThan"
    r"|And|Or|Not|Identity|TruncToInt|IntTrueDiv|ToFloat|PowByNatural|Where)(?=\()|true|false|True|False"
    r"|[su]\d{1,9}|[(),]|[+\-*]|//)"
)


def require_harmless_sample(data: bytes) -> None:
    """Raise HostileArchive when unpickling the sample inputs would call more than tensor
    rebuilding.
    """
    if not data:
        return
    try:
        inner = zipfile.ZipFile(io.BytesIO(data))
        pickles = [_stored(inner, i) for i in inner.infolist() if i.filename.endswith("data.pkl")]
        names = [name for pickle in pickles for name in _pickled_globals(pickle)]
    except HostileArchive:
        raise
    except Exception as error:
        raise HostileArchive("sample inputs are not plain tensors", got=str(error)) from error
    for name in names:
        if _SAFE_GLOBALS.fullmatch(name) is None:
            raise HostileArchive(
                "loading the sample inputs would run code",
                got=name[:100],
                next_step="ask for a file saved by torch.export.save and nothing else",
            )


def _stored(inner: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read a member that is as large as it says: torch writes it uncompressed."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > MAX_PICKLE:
        raise HostileArchive("sample inputs are not plain tensors", got=info.filename[:100])
    return inner.read(info)


def _pickled_globals(pickle: bytes) -> list[str]:
    """Name every callable that a pickle refers to, without loading it."""
    names = []
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "GLOBAL":
            names.append(str(argument))
        elif opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ_EX"):
            raise HostileArchive("sample inputs are not plain tensors", got=opcode.name)
    return names


def require_harmless_expressions(value: Any) -> None:
    """Raise HostileArchive unless every `expr_str` is arithmetic on named sizes."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            if "expr_str" in item:
                require_expression(item["expr_str"])
            pending.extend(item.values())


def require_expression(text: object) -> None:
    """Raise HostileArchive unless `text` is in the grammar that torch writes; sympy evaluates it
    elsewhere.
    """
    if not isinstance(text, str) or len(text) > 4096:
        raise HostileArchive("malformed size expression", got=str(text)[:100])
    position = 0
    while position < len(text):
        token = _EXPRESSION_TOKEN.match(text, position)
        if token is None:
            raise HostileArchive(
                "a size expression is not arithmetic",
                expected="Symbol('s0', positive=True, integer=True) and the like",
                got=text[:100],
            )
        position = token.end()
    if re.search(r"\*\*|\)\s*\(", text):
        raise HostileArchive("a size expression is not arithmetic", got=text[:100])
