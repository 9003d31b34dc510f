"""What the model's process gives up before it touches the model. Standard library only; Linux.

Every barrier is asked for and none is required: a kernel that refuses one still runs the others,
and the list of those granted is part of the model's description.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWIPC: Final = 0x08000000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def isolate(memory: int) -> list[str]:
    """Give up network, privileges, core dumps, file writing and memory beyond `memory`; return what
    was granted.

    Runs first, in a process with a single thread: the kernel lets only such a one leave its user
    namespace.
    """
    granted = []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        granted.append("privileges")
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0:
        granted.append("network")
    if _limit(resource.RLIMIT_DATA, memory):
        granted.append("memory")
    if _limit(resource.RLIMIT_FSIZE, 0):
        granted.append("file-writing")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 256)
    with contextlib.suppress(OSError):
        os.chdir("/")
    return granted


def _limit(which: int, value: int) -> bool:
    try:
        resource.setrlimit(which, (value, value))
    except (ValueError, OSError):
        return False
    return True
