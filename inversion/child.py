"""The process a model runs in: reads requests, answers with arrays. Holds no key, no database, no
network.

Started by `sandbox.py`; `main` isolates itself before it imports anything that could start a
thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from latentlog.inversion.service import Service

MAX_REQUEST_HEADER: Final = 256 << 20
MAX_REQUEST: Final = 4 << 30


def main(memory: int, threads: int, readable: list[str]) -> None:
    """Serve requests from standard input until it closes."""
    from latentlog.inversion.isolation import isolate

    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    # A model or a library that prints must not write into the conversation.
    os.dup2(null, 0)
    os.dup2(null, 1)
    granted = isolate(memory, readable)

    from latentlog.inversion.errors import ChildFailed
    from latentlog.inversion.service import Service
    from latentlog.inversion.wire import Pipe

    pipe = Pipe(read_fd, write_fd, max_header=MAX_REQUEST_HEADER, max_bytes=MAX_REQUEST)
    service = Service(granted, threads)
    while True:
        try:
            header, arrays = pipe.receive()
        except ChildFailed:
            sys.exit(0)
        _answer(service, pipe.send, header, arrays)


def _answer(
    service: Service, send: Callable[..., None], header: dict[str, Any], arrays: list[Any]
) -> None:
    from latentlog.inversion.errors import InversionError

    try:
        reply, results = service.answer(header, arrays, lambda step: send({"step": step}))
    except InversionError as error:
        send(_failure(type(error).__name__, error))
    except MemoryError:
        send({"error": "ChildFailed", "message": "the model's process ran out of memory"})
    # Whatever the model raises is its own fault and must not end the conversation.
    except Exception as error:
        text = f"{type(error).__name__}: {error}"[:500]
        kind = "ran out of memory" if "alloc" in text else "failed"
        send({"error": "ChildFailed", "message": f"the model's process {kind}", "got": text})
    else:
        send({"ok": True, **reply}, results)


def _failure(name: str, error: Any) -> dict[str, Any]:
    return {
        "error": name,
        "message": error.message,
        "expected": error.expected,
        "got": error.got,
        "next_step": error.next_step,
    }
