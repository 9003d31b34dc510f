"""Messages between an examination and the process that runs its model: a JSON header and raw
arrays. Never pickle.

Both sides bound what they accept before they allocate; the parent also knows the exact shape of
every answer.

    u32be length ‖ {"op": "generate", "arrays": [["float32", [2, 100]]]} ‖ 800 bytes
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latentlog.inversion.errors import ChildFailed, ChildMisbehaved

Array = npt.NDArray[Any]
DTYPES: Final = ("uint8", "float32", "float64", "int32")
MAX_ARRAYS: Final = 200_000
_BLOCK: Final = 1 << 20


class Pipe:
    """One end of the conversation: two file descriptors, a patience, and what it will accept at
    most.
    """

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        max_header: int,
        max_bytes: int,
        patience: float | None = None,
    ) -> None:
        """Take over both descriptors; `patience` is how many seconds of silence end the
        conversation.
        """
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.max_header = max_header
        self.max_bytes = max_bytes
        self.patience = patience

    def send(self, header: dict[str, Any], arrays: Sequence[Array | bytes] = ()) -> None:
        """Write one message; raises ChildFailed when nobody reads it."""
        buffers = [a if isinstance(a, bytes) else np.ascontiguousarray(a) for a in arrays]
        listed = [
            ["uint8", [len(b)]] if isinstance(b, bytes) else [b.dtype.name, list(b.shape)]
            for b in buffers
        ]
        text = json.dumps({**header, "arrays": listed}, allow_nan=False).encode()
        self._write(struct.pack(">I", len(text)) + text)
        for buffer in buffers:
            if isinstance(buffer, bytes):
                self._write(buffer)
            elif buffer.size:  # An empty array has no bytes, and no view of them either.
                self._write(buffer.data.cast("B"))

    def receive(self, limit: int | None = None) -> tuple[dict[str, Any], list[Array]]:
        """Read one message; raises ChildFailed at its end, ChildMisbehaved when it breaks the
        bounds.
        """
        (length,) = struct.unpack(">I", self._read(4))
        if length > self.max_header:
            raise ChildMisbehaved("message header too long", got=str(length))
        header = _parse_header(bytes(self._read(length)))
        shapes = [_shape(item) for item in header.pop("arrays")]
        total = sum(dtype.itemsize * math.prod(shape) for dtype, shape in shapes)
        most = self.max_bytes if limit is None else limit
        if total > most:
            raise ChildMisbehaved(
                "message too long", expected=f"at most {most} bytes", got=str(total)
            )
        return header, [
            np.frombuffer(self._read(dtype.itemsize * math.prod(shape)), dtype).reshape(shape)
            for dtype, shape in shapes
        ]

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                if self.patience is not None:
                    self._wait(self.write_fd, writing=True)
                view = view[os.write(self.write_fd, view[:_BLOCK]) :]
        except (BrokenPipeError, OSError) as error:
            raise ChildFailed("the model's process ended", got=str(error)) from error

    def _read(self, count: int) -> bytearray:
        data = bytearray(count)
        view, have = memoryview(data), 0
        while have < count:
            if self.patience is not None:
                self._wait(self.read_fd, writing=False)
            got = os.readv(self.read_fd, [view[have : have + _BLOCK]])
            if got == 0:
                raise ChildFailed("the model's process ended")
            have += got
        return data

    def _wait(self, fd: int, *, writing: bool) -> None:
        deadline = time.monotonic() + (self.patience or 0.0)
        while (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(fd, select.POLLOUT if writing else select.POLLIN)
            if poll.poll(left * 1000):
                return
        raise ChildFailed(
            "the model's process does not answer", got=f"{self.patience} s of silence"
        )


def _parse_header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ChildMisbehaved("malformed message", got=str(error)[:100]) from error
    arrays = header.get("arrays") if isinstance(header, dict) else None
    if not isinstance(arrays, list) or len(arrays) > MAX_ARRAYS:
        raise ChildMisbehaved("malformed message", expected="an object with its arrays")
    return header  # type: ignore[no-any-return]


def _shape(item: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    good = (
        isinstance(item, list)
        and len(item) == 2
        and item[0] in DTYPES
        and isinstance(item[1], list)
        and len(item[1]) <= 8
        and all(type(n) is int and 0 <= n < 1 << 34 for n in item[1])
    )
    if not good:
        raise ChildMisbehaved("malformed array in a message", got=str(item)[:100])
    return np.dtype(item[0]), tuple(item[1])
