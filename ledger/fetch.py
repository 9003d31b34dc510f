"""Reading files from a stranger's server: small, few, and never for longer than was allowed.

    fetch = site_fetch("https://log.example.com/")     # or a folder
    fetch("tile/0/000", 8192)                          # 8192 bytes, or None if it is not there

What arrives is not believed: whoever asks checks it against a signed root. So the server can only
waste our time and memory, and both are bounded: a deadline for each file, however slowly it drips;
a size, redirects and error pages included; three redirects, never from https to http.
"""

import io
import ssl
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from socket import socket
from typing import Any, Final
from urllib.parse import urljoin, urlsplit
from urllib.request import AbstractHTTPHandler, OpenerDirector, ProxyHandler, Request

from latentlog.ledger.errors import MalformedTile, NotASite, SiteUnreachable
from latentlog.ledger.tiles import Fetch, folder_fetch

SECONDS: Final = 60.0
ATTEMPTS: Final = 3
REDIRECTS: Final = 3

# Status line and headers of an answer; http.client reads at most 100 of them.
_HEADER_ROOM: Final = 128 * 1024
_REDIRECTED: Final = frozenset((301, 302, 303, 307, 308))
_ABSENT: Final = frozenset((404, 410))
_PASSING: Final = frozenset((429, 500, 502, 503, 504))


def site_fetch(place: str | Path) -> Fetch:
    """Return a `Fetch` over a published log at an http(s) address or in a folder.

    Raises `NotASite` for anything else.
    """
    if "://" in str(place):
        return url_fetch(str(place))
    if not Path(place).is_dir():
        raise NotASite(f"{place} is not a folder", expected="a folder, or an http(s) address")
    return folder_fetch(Path(place))


def url_fetch(
    address: str,
    *,
    seconds: float = SECONDS,
    attempts: int = ATTEMPTS,
    pause: Callable[[float], None] = time.sleep,
) -> Fetch:
    """Return a `Fetch` over a web server; each attempt at a file ends after `seconds`.

    Failures that may pass are tried again. Raises `NotASite` for an address that is none; the
    `Fetch` raises `SiteUnreachable`, and `MalformedTile` for a file larger than its limit.
    """
    base = _require_address(address)
    context = ssl.create_default_context()

    def fetch(path: str, limit: int) -> bytes | None:
        for attempt in range(attempts):
            if attempt:
                pause(0.5 * 2**attempt)
            try:
                return _Download(limit, seconds, context).get(base + path)
            except _Passing as error:
                failure = error
        raise SiteUnreachable(
            f"{base}{path} cannot be read: {failure}",
            got=f"{attempts} failed attempts",
            next_step="try again later, or audit a mirror: any copy of the files will do",
        )

    return fetch


class _Passing(Exception):
    """A failure that another attempt may not meet."""


def _require_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        extra = parts.query or parts.fragment or parts.username or parts.password
    except ValueError:
        usable, extra = False, ""
    if not usable or extra:
        raise NotASite(
            "not the address of a published log",
            expected="https://host/path/ without user, query or fragment",
            # An address with a password in it is not printed.
            got=None if extra else address[:120],
        )
    return address if address.endswith("/") else address + "/"


class _Download:
    """One attempt at one file, through its redirects."""

    def __init__(self, limit: int, seconds: float, context: ssl.SSLContext) -> None:
        self._limit: Final = limit
        self._deadline: Final = time.monotonic() + seconds
        self._opener: Final = OpenerDirector()
        connect = partial(_open, deadline=self._deadline, room=limit + 1 + _HEADER_ROOM)
        self._opener.add_handler(ProxyHandler())
        self._opener.add_handler(_Handler(connect, context))

    def get(self, url: str) -> bytes | None:
        """Return the file; raises `_Passing`, `SiteUnreachable`, `MalformedTile`."""
        try:
            for _ in range(REDIRECTS + 1):
                answer = self._open(url)
                with answer:
                    if answer.status not in _REDIRECTED:
                        return self._body(url, answer)
                    url = _redirected(url, answer.headers.get("Location", ""))
        except (OSError, HTTPException) as error:
            raise _Passing(str(error) or type(error).__name__) from None
        raise SiteUnreachable(f"{url} redirects more than {REDIRECTS} times")

    def _open(self, url: str) -> HTTPResponse:
        request = Request(url, headers={"User-Agent": "latentlog", "Accept-Encoding": "identity"})
        answer = self._opener.open(request, timeout=max(0.001, self._deadline - time.monotonic()))
        assert isinstance(answer, HTTPResponse)
        return answer

    def _body(self, url: str, answer: HTTPResponse) -> bytes | None:
        if answer.status in _ABSENT:
            return None
        if answer.status in _PASSING:
            raise _Passing(f"the server answers {answer.status}")
        if answer.status != 200 or answer.headers.get("Content-Encoding", "identity") != "identity":
            raise SiteUnreachable(
                f"{url} is not served as a plain file",
                expected="status 200, not compressed",
                got=f"status {answer.status}",
            )
        if (answer.length or 0) > self._limit:
            _refuse_size(url, self._limit)
        content = answer.read(self._limit + 1)
        if len(content) > self._limit:
            _refuse_size(url, self._limit)
        if answer.length:
            raise _Passing("the connection ended before the file did")
        return content


def _refuse_size(url: str, limit: int) -> None:
    raise MalformedTile(f"{url} is too large", expected=f"at most {limit} bytes")


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
    except ValueError:
        target = scheme = ""
    if scheme != "https" and (scheme != "http" or url.startswith("https:")):
        raise SiteUnreachable(
            f"{url} redirects to what is not followed",
            expected="an https address, or http from http",
            got=repr(location)[:120],
        )
    return target


# Below urllib: connections whose answers come from a socket that keeps to a deadline and a size.
# Without it a server could send one byte a minute, or headers and error pages without end.


class _Handler(AbstractHTTPHandler):
    """Opens both schemes; has none for files, FTP or data addresses."""

    handler_order = 500

    def __init__(self, connect: Callable[..., HTTPConnection], context: ssl.SSLContext) -> None:
        super().__init__()
        self._connect = connect
        self._context = context

    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(partial(self._connect, HTTPConnection), request)

    def https_open(self, request: Request) -> HTTPResponse:
        connect = partial(self._connect, HTTPSConnection, context=self._context)
        return self.do_open(connect, request)

    http_request = https_request = AbstractHTTPHandler.do_request_


def _open(
    kind: type[HTTPConnection], host: str, *, deadline: float, room: int, **options: Any
) -> HTTPConnection:
    connection = kind(host, **options)
    connect = connection.connect

    def connect_bounded() -> None:
        connect()
        connection.sock = _BoundedSocket(connection.sock, deadline, room)

    connection.connect = connect_bounded  # type: ignore[method-assign]
    return connection


class _BoundedSocket:
    """A socket whose answers are read through a `_BoundedFile`."""

    def __init__(self, inner: socket, deadline: float, room: int) -> None:
        self._inner = inner
        self._deadline = deadline
        self._room = room

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_BoundedFile(self._inner, self._deadline, self._room))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _BoundedFile(io.RawIOBase):
    def __init__(self, inner: socket, deadline: float, room: int) -> None:
        self._socket = inner
        # A file of the socket keeps it open after urllib has closed the connection.
        self._file = inner.makefile("rb", buffering=0)
        self._deadline = deadline
        self._room = room

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the server takes too long")
        self._socket.settimeout(left)
        view = memoryview(buffer).cast("B")[: self._room + 1]
        count = self._file.readinto(view) or 0
        self._room -= count
        if self._room < 0:
            raise OSError("the server sends more than was asked for")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
