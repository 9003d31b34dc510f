"""Torch without its compiler.

Some of torch's derivative rules are Python functions marked "never compile this", and the mark
imports `torch._dynamo`: seconds of start-up, a temporary folder, and a machinery that can call a C
compiler, none of which a process that runs a stranger's model should have. A stand-in that marks
nothing takes its place.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any


def _disable(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    return function if function is not None else _disable


def forbid_compilation() -> None:
    """Put the stand-in where torch would import its compiler; harmless when that is
    loaded already.
    """
    if "torch._dynamo" in sys.modules:
        return
    stand_in = types.ModuleType("torch._dynamo")
    stand_in.disable = _disable  # type: ignore[attr-defined]
    sys.modules["torch._dynamo"] = stand_in
