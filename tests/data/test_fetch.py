"""Fetching, against a server on this machine that misbehaves on purpose."""

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


def test_no_server_and_no_cache_is_one_line_that_says_what_to_do(cache: Path) -> None:
    with pytest.raises(
        DataError, match="not in the cache and cannot be fetched; tried http://127.0.0.1:9/x .*by hand"
    ) as caught:
        fetch([remote("http://127.0.0.1:9/x")], "set")
    assert "\n" not in str(caught.value)


def test_a_file_placed_by_hand_is_taken(cache: Path) -> None:
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "file").write_bytes(CONTENT)
    assert fetch([remote()], "set")[0].read_bytes() == CONTENT


def test_errors_that_are_not_the_disks_are_not_blamed_on_it(cache: Path) -> None:
    with pytest.raises(ConnectionResetError), workspace(cache):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    with pytest.raises(DataError, match="cannot be written .*No space"), workspace(cache):
        raise OSError(errno.ENOSPC, "No space left on device")
