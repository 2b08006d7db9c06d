"""Fetching of files, from a server on this machine that returns wrong content on purpose."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from nelbo.data.fetch import fetch, workspace
from nelbo.errors import DataError
from tests.helpers.server import CONTENT, HITS, SHA256, remote

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("page", ["/good", "/good.gz"])
def test_a_file_is_fetched_once_and_then_read_from_the_cache(server: str, cache: Path, page: str) -> None:
    before = HITS[page]
    for _ in range(2):
        (path,) = fetch([remote(server + page)], "set")
        assert path == cache / "set" / "file" and path.read_bytes() == CONTENT
    assert HITS[page] == before + 1
    assert [entry.name for entry in path.parent.iterdir() if entry.name != ".lock"] == ["file"]


def test_without_a_published_digest_later_content_is_compared_with_the_first(server: str, cache: Path) -> None:
    file = remote(server + "/good", digest="", size=None)
    (path,) = fetch([file], "set")
    assert path.with_name("file.digest").read_text() == f"sha256:{SHA256}\n"
    assert fetch([file], "set") == [path]
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="corrupt data file, its sha256 is"):
        fetch([file], "set")
    path.unlink()  # as the message says; the new file must have the same content
    with pytest.raises(DataError, match="/other .its sha256 is"):
        fetch([remote(server + "/other", digest="", size=None)], "set")
    placed = cache / "hand" / "file"
    placed.parent.mkdir()
    placed.write_bytes(CONTENT)
    assert fetch([file], "hand") == [placed]
    placed.write_bytes(CONTENT[::-1])
    with pytest.raises(DataError, match="corrupt data file"):
        fetch([file], "hand")


def test_an_md5_digest_is_verified_too(server: str, cache: Path) -> None:
    digest = hashlib.md5(CONTENT).hexdigest()
    assert fetch([remote(server + "/good", digest=f"md5:{digest}", size=None)], "set")[0].read_bytes() == CONTENT
    with pytest.raises(DataError, match="its md5 is"):
        fetch([remote(server + "/good", digest=f"md5:{'0' * 32}", size=None)], "other")


def test_a_file_that_cannot_be_fetched_is_an_error_of_one_line_with_a_hint(cache: Path) -> None:
    with pytest.raises(
        DataError, match="not in the cache and cannot be fetched; tried http://127.0.0.1:9/x .*by hand"
    ) as caught:
        fetch([remote("http://127.0.0.1:9/x")], "set")
    assert "\n" not in str(caught.value)


def test_a_file_placed_in_the_cache_by_hand_is_used(cache: Path) -> None:
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "file").write_bytes(CONTENT)
    assert fetch([remote()], "set")[0].read_bytes() == CONTENT


def test_only_errors_of_the_disk_are_reported_as_such(cache: Path) -> None:
    with pytest.raises(ConnectionResetError), workspace(cache):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    with pytest.raises(DataError, match="cannot be written .*No space"), workspace(cache):
        raise OSError(errno.ENOSPC, "No space left on device")
