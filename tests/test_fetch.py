"""Fetching, against a server on this machine that misbehaves on purpose."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from nelbo.data import origins
from nelbo.data.fetch import fetch, workspace
from nelbo.errors import DataError
from tests.server import CONTENT, ENDED, HITS, SHA256, remote

pytestmark = pytest.mark.usefixtures("cache")


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


def test_errors_that_are_not_the_disks_are_not_blamed_on_it(cache: Path) -> None:
    with pytest.raises(ConnectionResetError), workspace(cache):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    with pytest.raises(DataError, match="cannot be written .*No space"), workspace(cache):
        raise OSError(errno.ENOSPC, "No space left on device")


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
