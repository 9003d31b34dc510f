"""Reading from servers that are slow, large, broken or lying about where they are."""

import ssl
import subprocess
import time
from pathlib import Path

import pytest

from latentlog.ledger import fetch
from latentlog.ledger.errors import MalformedTile, NotASite, SiteUnreachable
from latentlog.ledger.fetch import site_fetch, url_fetch
from tests.ledger.sites import Scripted, served
from tests.tools import require_tool


def read(
    address: str, limit: int = 100, *, seconds: float = 5.0, attempts: int = 1
) -> bytes | None:
    return url_fetch(address, seconds=seconds, attempts=attempts, pause=lambda _: None)(
        "file", limit
    )


def test_a_folder_and_its_server_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with served(tmp_path) as address:
        for place in (tmp_path, str(tmp_path), address, address[:-1]):
            assert site_fetch(place)("file", 7) == b"content"
            assert site_fetch(place)("absent", 7) is None
            with pytest.raises(MalformedTile, match="too large"):
                site_fetch(place)("file", 6)


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "data://text",
        "https://",
        "https://user:secret@example.com/",
        "https://example.com/?x",
        "https://example.com/#x",
        "http://[",
        "/nonexistent",
    ],
)
def test_places_that_are_no_site_are_refused(place: str) -> None:
    with pytest.raises(NotASite) as refused:
        site_fetch(place)
    assert "secret" not in str(vars(refused.value))


def test_a_server_that_drips_is_given_up_at_the_deadline() -> None:
    class Drip(Scripted):
        part = "body"

        def answer(self) -> None:
            self.send("HTTP/1.1 200 OK\r\n")
            if self.part == "body":
                self.send("Content-Length: 90\r\n\r\n")
            for _ in range(90):
                self.send("x")
                time.sleep(0.05)

    for part in ("body", "headers"):
        Drip.part = part
        with served(Drip) as address:
            began = time.monotonic()
            with pytest.raises(SiteUnreachable, match=r"takes too long|timed out"):
                read(address, seconds=0.3)
            assert time.monotonic() - began < 2


def test_a_server_that_never_answers_is_given_up() -> None:
    class Silent(Scripted):
        def answer(self) -> None:
            time.sleep(1)

    with served(Silent) as address, pytest.raises(SiteUnreachable, match="timed out"):
        read(address, seconds=0.2)


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    ],
    ids=["announced", "unannounced", "chunked"],
)
def test_a_body_without_end_is_not_read(head: str) -> None:
    class Endless(Scripted):
        sent = 0

        def answer(self) -> None:
            self.send(head)
            while type(self).sent < 50_000_000:
                self.send(bytes(65_536))
                type(self).sent += 65_536

    with served(Endless) as address, pytest.raises(MalformedTile, match="too large"):
        read(address)
    assert Endless.sent < 40_000_000


@pytest.mark.parametrize("status", ["302 Found", "500 Broken", "404 Absent"])
def test_headers_without_end_are_not_read(status: str) -> None:
    class Endless(Scripted):
        def answer(self) -> None:
            self.send(f"HTTP/1.1 {status}\r\n")
            while True:
                self.send("X-Header: " + "x" * 60_000 + "\r\n")

    with served(Endless) as address, pytest.raises(SiteUnreachable):
        read(address)


def test_interim_answers_without_end_are_not_read() -> None:
    class Continuing(Scripted):
        def answer(self) -> None:
            while True:
                self.send("HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    with served(Continuing) as address, pytest.raises(SiteUnreachable, match="more than was asked"):
        read(address)


def test_redirects_are_followed_a_few_times_and_their_pages_not_read() -> None:
    class Redirecting(Scripted):
        times = 3

        def answer(self) -> None:
            step = int(self.path.partition("?")[2] or "0")
            if step == self.times:
                self.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                return
            self.send(f"HTTP/1.1 302 Found\r\nLocation: /file?{step + 1}\r\n\r\n")
            while True:
                self.send(bytes(65_536))

    with served(Redirecting) as address:
        assert read(address) == b"ok"
        Redirecting.times = 4
        with pytest.raises(SiteUnreachable, match="redirects more than 3 times"):
            read(address)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "http://[", "//["]
)
def test_redirects_to_other_schemes_are_not_followed(location: str) -> None:
    class Redirecting(Scripted):
        def answer(self) -> None:
            self.send(f"HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n")

    with served(Redirecting) as address, pytest.raises(SiteUnreachable, match="not followed"):
        read(address)


def test_a_redirect_never_leaves_https() -> None:
    with pytest.raises(SiteUnreachable):
        fetch._redirected("https://example.com/a", "http://example.com/a")
    assert fetch._redirected("http://example.com/a", "https://e/b") == "https://e/b"
    assert fetch._redirected("https://example.com/a/b", "../c") == "https://example.com/c"


@pytest.mark.parametrize(
    "first",
    [
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        "nonsense\r\n\r\n",
    ],
    ids=["busy", "cut off", "no HTTP"],
)
def test_failures_that_may_pass_are_tried_again(first: str) -> None:
    class Recovering(Scripted):
        asked = 0

        def answer(self) -> None:
            type(self).asked += 1
            good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            self.send(good if self.asked % 3 == 0 else first)

    with served(Recovering) as address:
        assert read(address, attempts=3) == b"ok"
        with pytest.raises(SiteUnreachable) as failed:
            read(address, attempts=2)
    assert failed.value.got == "2 failed attempts"
    assert Recovering.asked == 5


@pytest.mark.parametrize(
    "answer",
    [
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "HTTP/1.1 206 Partial\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
    ],
)
def test_what_is_no_plain_file_is_refused_at_once(answer: str) -> None:
    class Odd(Scripted):
        asked = 0

        def answer(self) -> None:
            type(self).asked += 1
            self.send(answer)

    with served(Odd) as address, pytest.raises(SiteUnreachable, match="not served as a plain file"):
        read(address, attempts=3)
    assert Odd.asked == 1


def make_certificate(folder: Path) -> ssl.SSLContext:
    """Make a server's key and self-signed certificate for the loopback."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        f"{require_tool('openssl')} req -x509 -newkey ed25519 -nodes -days 1 -subj /CN=loopback "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_https_needs_a_certificate_that_the_machine_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(Scripted):
        def answer(self) -> None:
            if self.path == "/plain/file":
                self.send("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n")
            elif self.path == "/drip/file":
                self.send("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n")
                for _ in range(90):
                    self.send("x")
                    time.sleep(0.05)
            self.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with served(Answer, make_certificate(tmp_path)) as address:
        with pytest.raises(SiteUnreachable, match="certificate verify failed"):
            read(address)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert read(address) == b"ok"
        with pytest.raises(SiteUnreachable, match="redirects to what is not followed"):
            read(address + "plain")
        with pytest.raises(SiteUnreachable, match=r"takes too long|timed out"):
            read(address + "drip", seconds=0.3)


def test_a_proxy_is_used_where_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy(Scripted):
        def answer(self) -> None:
            self.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.path)}\r\n\r\n{self.path}")

    with served(Proxy) as address:
        monkeypatch.setenv("http_proxy", address)
        assert read("http://log.invalid/") == b"http://log.invalid/file"


def test_a_closed_port_is_named() -> None:
    with served(Scripted) as address:
        pass
    with pytest.raises(SiteUnreachable, match="refused"):
        read(address)
