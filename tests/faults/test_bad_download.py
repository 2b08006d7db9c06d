"""Failed downloads are never cached as valid, and a retry succeeds."""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nelbo.data import image_folder, origins
from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.origins import Https
from nelbo.data.store import damage, stores
from nelbo.errors import DataError
from tests.helpers.children import Child
from tests.helpers.pictures import folder, picture
from tests.helpers.server import CONTENT, ENDED, PAGES, SHA256, archive, remote

KILLS = 8
LARGE = os.urandom(4 << 20)
LARGE_SHA256 = hashlib.sha256(LARGE).hexdigest()


@pytest.mark.parametrize(
    "page",
    ["/missing", "/html", "/html.gz", "/other", "/cut.gz", "/bomb.gz", "/short/good", "/short/good.gz", "/endless"]
    + ["/slow", "/reset"],
)
def test_bad_download(server: str, cache: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cached, the error is one line, and the next origin is tried."""
    monkeypatch.setattr(origins, "TIMEOUT", 1)
    with pytest.raises(DataError) as caught:
        fetch([remote(server + page)], "set")
    assert page in str(caught.value) and SHA256 in str(caught.value) and "\n" not in str(caught.value)
    assert {entry.name for entry in (cache / "set").iterdir()} == {".lock"}
    (path,) = fetch([remote(server + page, server + "/good.gz")], "set")
    assert path.read_bytes() == CONTENT


@pytest.mark.usefixtures("cache")
def test_bad_download_that_never_ends(server: str) -> None:
    ENDED.clear()
    with pytest.raises(DataError, match=f"/endless .more than {len(CONTENT) + origins.CHUNK} bytes"):
        fetch([remote(server + "/endless")], "set")
    assert ENDED.wait(30)


def test_bad_download_in_the_cache(server: str, cache: Path) -> None:
    """The error names a corrupt file in the cache, which is kept until the user deletes it."""
    (cache / "set").mkdir(parents=True)
    path = cache / "set" / "file"
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{path}: corrupt data file, its sha256 is .*; delete it"):
        fetch([remote(server + "/good")], "set")
    path.unlink()
    assert fetch([remote(server + "/good")], "set")[0].read_bytes() == CONTENT


def killed_at_random(work: Callable[[], object], check: Callable[[], None], home: Path) -> None:
    """Kill `work` at random times until `KILLS` kills have hit it while it writes, and call `check` after each kill."""
    began = time.perf_counter()
    assert Child(work).wait()[0] == 0
    duration = time.perf_counter() - began
    check()
    random, hits = np.random.default_rng(0), 0
    for _ in range(10 * KILLS):
        child, began = Child(work), time.perf_counter()
        while not glob.glob(f"{home}/.fetching.*/*") and time.perf_counter() - began < duration:
            time.sleep(0.001)
        time.sleep(random.random() * duration)
        child.kill()
        hits += bool(glob.glob(f"{home}/.fetching.*/*"))
        check()
        if hits == KILLS:
            return
    raise AssertionError(f"only {hits} of {10 * KILLS} kills hit a write")


@pytest.mark.parametrize(("page", "published"), [("/large.gz", True), ("/large.tgz", True), ("/large.gz", False)])
def test_bad_download_kill9(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, page: str, published: bool
) -> None:
    """A kill in download, unpacking, check or move leaves only valid files, and the next run removes temporary ones."""
    monkeypatch.setitem(PAGES, "/large.gz", gzip.compress(LARGE, 1))
    monkeypatch.setitem(PAGES, "/large.tgz", archive("folder/file", LARGE))
    origin = Https(server + page, "folder/file" if page == "/large.tgz" else "")
    digest, home = f"sha256:{LARGE_SHA256}" if published else "", cache / "set"
    file = RemoteFile("file", digest, len(LARGE), (origin,))

    def check() -> None:
        if (home / "file").exists():
            assert (home / "file").read_bytes() == LARGE
            (home / "file").unlink()
        if (home / "file.digest").exists():
            assert (home / "file.digest").read_text() == f"sha256:{LARGE_SHA256}\n"
            (home / "file.digest").unlink()

    killed_at_random(lambda: fetch([file], "set"), check, home)
    (path,) = fetch([file], "set")
    assert path.read_bytes() == LARGE
    assert {entry.name for entry in home.iterdir()} - {"file.digest"} == {"file", ".lock"}


def test_bad_download_kill9_while_a_store_is_made(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "pets", 40)

    def work() -> str:
        return image_folder(str(root), 64, 3, 90, 0.25, 0).sha256()

    def check() -> None:
        assert not any(damage(store) for store in stores())
        picture(root / "cat" / "changing.png")  # so that the next run has to build the store again

    killed_at_random(work, check, cache / "image_folder")
    assert Child(work).wait() == (0, work())
    assert {entry.name.split("-")[0] for entry in (cache / "image_folder").iterdir()} == {"pets", ".lock"}


def limited(work: Callable[[], object], size: int) -> tuple[int, str]:
    """Run `work` in a child in which no file can grow beyond `size`, like on a full disk."""

    def child() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return work()

    return Child(child).wait()


@pytest.mark.parametrize("size", [0, 20_000, 49_999])
@pytest.mark.parametrize("page", ["/good", "/good.gz", "/good.tgz"])
def test_bad_download_onto_a_full_disk(server: str, cache: Path, page: str, size: int) -> None:
    origin = Https(server + page, "folder/file" if page == "/good.tgz" else "")
    status, message = limited(lambda: fetch([remote(origin, origin)], "set"), size)
    assert status == 2 and f"{cache / 'set'}: cannot be written" in message and "NELBO_DATA" in message, message
    assert "\n" not in message
    assert {entry.name for entry in (cache / "set").iterdir()} == {".lock"}
    assert fetch([remote(origin)], "set")[0].read_bytes() == CONTENT


@pytest.mark.parametrize("size", [0, 20, 40])
def test_bad_download_whose_digest_does_not_fit(cache: Path, size: int, caplog: pytest.LogCaptureFixture) -> None:
    """A file that the user placed is read; its digest is stored completely or not at all."""
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "file").write_bytes(CONTENT)
    file = remote(digest="", size=None)
    assert limited(lambda: fetch([file], "set")[0].read_bytes() == CONTENT, size) == (0, "True")
    assert {entry.name for entry in (cache / "set").iterdir()} == {".lock", "file"}
    fetch([file], "set")
    (cache / "set" / "file.digest").write_text("")  # as an earlier version or a power failure may have left it
    with pytest.raises(DataError, match="file.digest: not a readable digest .*; delete it if you trust the file"):
        fetch([file], "set")


@pytest.mark.parametrize("size", [0, 3, 200])
def test_bad_download_of_pictures_onto_a_full_disk(tmp_path: Path, cache: Path, size: int) -> None:
    """Images are written before their labels, which are longer if a picture is one pixel."""
    root = folder(tmp_path / "pets")
    status, message = limited(lambda: image_folder(str(root), 1, 1, 90, 0.25, 0), size)
    assert status == 2 and "cannot be written" in message and "NELBO_DATA" in message and "\n" not in message, message
    assert {entry.name for entry in (cache / "image_folder").iterdir()} == {".lock"}
    assert len(image_folder(str(root), 1, 1, 90, 0.25, 0).train) == 9
