"""What the model's process gives up before it touches the model. Standard library only; Linux.

Every barrier is asked for and none is required: a kernel that refuses one still runs the others,
and the list of those granted is part of the model's description.

| barrier | without it, code that escapes from torch could |
| --- | --- |
| network | send the examined picture or a key away |
| files | read key files of the same user (Landlock) |
| file-writing | leave something behind |
| calls | start programs, look into other processes, open sockets (seccomp) |
| memory | starve the machine |
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Sequence
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWIPC: Final = 0x08000000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38


def isolate(memory: int, readable: Sequence[str]) -> list[str]:
    """Raise every barrier the kernel grants and return their names.

    At most `memory` bytes may be allocated and only paths under `readable` opened; no limit of
    either kind where `memory` is 0, as a GPU's driver needs. Runs first, in a process with a single
    thread: the kernel lets only such a one leave its user namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    barriers = {
        "privileges": libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        "network": libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0,
        "memory": bool(memory) and _limit(resource.RLIMIT_DATA, memory),
        "file-writing": _limit(resource.RLIMIT_FSIZE, 0),
        "files": bool(memory) and _confine_files(libc, readable),
        "calls": _filter_calls(libc),
    }
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 256)
    with contextlib.suppress(OSError):
        os.chdir("/")
    return [name for name, granted in barriers.items() if granted]


def _limit(which: int, value: int) -> bool:
    try:
        resource.setrlimit(which, (value, value))
    except (ValueError, OSError):
        return False
    return True


# -- files: Landlock (Linux 5.13) --------------------------------------------------------------

_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_ACCESS: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF}
"""Every kind of access to files that the kernel's interface version knows."""
_READ_FILE: Final = 0x4
_READ_DIR: Final = 0x8
_SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/urandom",
)


def _confine_files(libc: ctypes.CDLL, readable: Sequence[str]) -> bool:
    """Leave nothing of the file system but reading what Python and torch are made of."""
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    handled = struct.pack("=Q", _ACCESS[min(version, 3)])
    ruleset = libc.syscall(_LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return False
    for path in (*_SYSTEM, *readable):
        with contextlib.suppress(OSError):
            _allow_reading(libc, ruleset, path)
    granted: bool = libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return granted


def _allow_reading(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    access = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
    rule = struct.pack("=Qi", access, descriptor)
    libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0)
    os.close(descriptor)


# -- system calls: seccomp ---------------------------------------------------------------------

_MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's audit number of each machine type."""
_REFUSED: Final = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendto": (44, 206),
    "execve": (59, 221),
    "execveat": (322, 281),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "kill": (62, 129),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
}
"""System calls that arithmetic never makes, with their numbers on the two machines."""
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1
_FOREIGN: Final = 0x40000000
"""x86's second numbering of the same calls starts here."""


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Let the kernel answer EPERM to calls that arithmetic never makes."""
    machine = platform.machine()
    if machine not in _MACHINES:
        return False
    numbers = [both[list(_MACHINES).index(machine)] for both in _REFUSED.values()]
    refused = len(numbers)
    code = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 0, refused + 3, _MACHINES[machine]), (_LOAD, 0, 0, 0)]
    code.append((_JUMP_AT_LEAST, refused + 1, 0, _FOREIGN))
    code += [(_JUMP_EQUAL, refused - i, 0, number) for i, number in enumerate(numbers)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(text))
    program = ctypes.create_string_buffer(header)
    granted: bool = libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0) == 0
    return granted
