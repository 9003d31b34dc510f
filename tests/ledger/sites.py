"""Published logs for tests: honest ones on disk, and any sequence of bytes as a signed tree."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext
from threading import Thread
from typing import Any
from unittest.mock import patch

from latentlog.ledger.batch import Sealer
from latentlog.ledger.checkpoint import (
    Checkpoint,
    VerifiedCheckpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import Entry, Seal, seal_message
from latentlog.ledger.export import write_tiles
from latentlog.ledger.log import Log
from latentlog.ledger.merkle import Frontier, NodeId, leaf_hash, root_of
from latentlog.ledger.note import NoteSigner
from latentlog.ledger.publish import Imprint, publish_site
from latentlog.ledger.tiles import Fetch, encode_bundle, tiles_of
from tests.builders import LOG_KEY, ORIGIN, RECORDER, START, make_generation, make_recording_log

SIGNER = NoteSigner(ORIGIN, LOG_KEY)
VERIFIER = SIGNER.verifier
OPERATOR = Sealer("operator", LOG_KEY)
IMPRINT = Imprint("Example Labs")


class StaticLog:
    """A signed tree over whatever bytes are given: what a lying operator could publish."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._stored: dict[NodeId, Digest] = {}
        self._frontier = Frontier()

    @property
    def size(self) -> int:
        return len(self.bodies)

    def add(self, *bodies: bytes) -> int:
        """Append bytes as they are; return the index of the first."""
        first = self.size
        for body in bodies:
            self.bodies.append(body)
            for level, index, node in self._frontier.append(leaf_hash(body)):
                self._stored[level, index] = node
        return first

    def batch(self, entries: Sequence[Entry], sealer: Sealer = OPERATOR, **changes: Any) -> int:
        """Append entries and their seal, with `changes` to it; return the index of the first."""
        bodies = [entry.encode() for entry in entries]
        first, root = self.size, root_of([leaf_hash(body) for body in bodies])
        message = seal_message(ORIGIN, first, len(bodies), root, START)
        seal: dict[str, Any] = {
            "signer": sealer.name,
            "key": sealer.key.public,
            "first": first,
            "count": len(bodies),
            "root": root,
            "time": START,
            "signature": sealer.key.sign(message),
        }
        return self.add(*bodies, Seal(**{**seal, **changes}).encode())

    def checkpoint(self) -> VerifiedCheckpoint:
        """Return a signed checkpoint over everything so far."""
        tree = Checkpoint(ORIGIN, self.size, self._frontier.root())
        return verify_checkpoint(sign_checkpoint(tree, [SIGNER]), VERIFIER, ORIGIN)

    def nodes(self, wanted: Sequence[NodeId], /) -> list[Digest]:
        return [self._stored[node] for node in wanted]

    def files(self) -> dict[str, bytes]:
        """Return the static files by path."""
        found = {"checkpoint": self.checkpoint().note}
        for tile in tiles_of(self.size):
            found[tile.path] = b"".join(self.nodes(tile.nodes))
            if tile.level == 0:
                start = tile.index * 256
                found[tile.entries_path] = encode_bundle(self.bodies[start : start + tile.width])
        return found

    def write(self, folder: Path) -> None:
        """Write the static files, without a front page."""
        write_tiles(folder, self.checkpoint(), self.nodes, lambda a, b: self.bodies[a:b])


def grow(log: Log, count: int, *, first: int = 0, batch: int = 100) -> None:
    """Seal `count` generations of reserved counters from `first` on, and sign a checkpoint."""
    for start in range(first, first + count, batch):
        stop = min(start + batch, first + count)
        log.append([make_generation(counter) for counter in range(start, stop)], RECORDER)
    log.publish()


def make_site(folder: Path, count: int = 700) -> Log:
    """Publish a log of `count` generations and a few more entries; return it."""
    log = make_recording_log(reserved=4096)
    grow(log, count)
    publish_site(log, folder, IMPRINT)
    return log


def fetch_from(files: dict[str, bytes]) -> Fetch:
    """Return a `Fetch` over files in memory."""
    return lambda path, limit: files.get(path)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(handler: Any, context: SSLContext | None = None) -> Iterator[str]:
    """Serve a folder, or by a handler class, on the loopback; yield the address."""
    if isinstance(handler, Path):
        handler = partial(_Quiet, directory=str(handler))
    with (
        patch.dict(os.environ, {"no_proxy": "127.0.0.1"}),
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
    ):
        server.daemon_threads = True
        # A client that refuses the certificate is no error of the server.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=partial(server.serve_forever, poll_interval=0.02), daemon=True)
        thread.start()
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


class Scripted(BaseHTTPRequestHandler):
    """A handler whose subclasses write each answer byte by byte."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            # The client hung up, which is what most of these tests want.
            self.close_connection = True

    def answer(self) -> None:
        raise NotImplementedError

    def send(self, text: str | bytes) -> None:
        self.wfile.write(text.encode() if isinstance(text, str) else text)
        self.wfile.flush()
