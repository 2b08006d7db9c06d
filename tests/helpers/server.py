"""A local HTTP server that misbehaves on purpose, and a file to fetch from it."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nelbo.data.fetch import RemoteFile
from nelbo.data.origins import Https, Origin

CONTENT = os.urandom(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def archive(name: str, content: bytes) -> bytes:
    """Return a tar.gz archive with one member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str) -> bytes:
    """Return a tar.gz archive whose member is a symbolic link to `target`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        tar.addfile(member)
    return buffer.getvalue()


PAGES = {
    "/good": CONTENT,
    "/good.tgz": archive("folder/file", CONTENT),
    "/cut.tgz": archive("folder/file", CONTENT)[:-1000],
    "/slip.tgz": archive("../../file", CONTENT),
    "/link.tgz": link("folder/file", "/etc/passwd"),
    "/bomb.tgz": archive("folder/file", bytes(100 * 1024 * 1024)),
    "/good.gz": gzip.compress(CONTENT),
    "/html": b"<html>Not found</html>",
    "/html.gz": b"<html>Not found</html>",
    "/other": os.urandom(50_000),
    "/cut.gz": gzip.compress(CONTENT)[:-1000],
    "/bomb.gz": gzip.compress(bytes(200 * 1024 * 1024)),
}
HITS: Counter[str] = Counter()
"""Number of requests by path."""

ENDED = threading.Event()
"""Set when a client closes the connection of the endless page."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `PAGES`, the first half of them below /short, and some pages with errors."""

    def do_GET(self) -> None:
        HITS[self.path] += 1
        if self.path == "/endless":
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            try:
                for _ in range(4096):
                    self.wfile.write(bytes(1 << 20))
            except OSError:
                ENDED.set()
            return
        if self.path == "/slow":
            time.sleep(60)
        if self.path == "/reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        body = PAGES[self.path.removeprefix("/short")] if self.path.startswith("/short") else PAGES[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path.startswith("/short") else body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def remote(*origins: str | Origin, digest: str = f"sha256:{SHA256}", size: int | None = len(CONTENT)) -> RemoteFile:
    """Return a remote file with the given origins, or addresses."""
    addresses = (Https(origin) if isinstance(origin, str) else origin for origin in origins)
    return RemoteFile("file", digest, size, tuple(addresses))


@contextmanager
def running_server() -> Iterator[str]:
    """Run the server and return its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()
