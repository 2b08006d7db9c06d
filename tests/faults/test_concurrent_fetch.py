"""Several processes that fetch the same data at the same time into an empty cache."""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from nelbo.data import image_folder
from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.origins import Https
from nelbo.data.store import Store
from tests.helpers.children import Child
from tests.helpers.pictures import folder
from tests.helpers.server import HITS, PAGES

TRIES, PROCESSES = 3, 4
CONTENT = os.urandom(2 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("published", [True, False])
def test_concurrent_fetch(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, published: bool) -> None:
    """There is one download, and every process reads the complete file."""
    monkeypatch.setitem(PAGES, "/large.gz", gzip.compress(CONTENT, 1))
    file = RemoteFile("file", f"sha256:{SHA256}" if published else "", len(CONTENT), (Https(server + "/large.gz"),))
    start = multiprocessing.get_context("fork").Barrier(PROCESSES)

    def work(name: str) -> str:
        start.wait()
        (path,) = fetch([file], name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    for number in range(TRIES):
        HITS.clear()
        children = [Child(lambda name=f"set{number}": work(name)) for _ in range(PROCESSES)]  # type: ignore[misc]
        assert [child.wait() for child in children] == [(0, SHA256)] * PROCESSES
        assert HITS["/large.gz"] == 1
        expected = {"file", ".lock"} | (set() if published else {"file.digest"})
        assert {entry.name for entry in (cache / f"set{number}").iterdir()} == expected


def test_concurrent_fetch_into_a_store(tmp_path: Path, cache: Path) -> None:
    """Pictures are converted once into a memory map, which all processes read."""
    root = folder(tmp_path / "pets", 40)
    start = multiprocessing.get_context("fork").Barrier(PROCESSES)

    def work() -> str:
        start.wait()
        return image_folder(str(root), 64, 3, 90, 0.25, 0).sha256()

    results = [child.wait() for child in [Child(work) for _ in range(PROCESSES)]]
    assert results == [(0, image_folder(str(root), 64, 3, 90, 0.25, 0).sha256())] * PROCESSES
    assert {entry.name.split("-")[0] for entry in (cache / "image_folder").iterdir()} == {"pets", ".lock"}


def test_concurrent_fetch_by_threads(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, results, made = folder(tmp_path / "pets"), list[str](), list[int]()
    make = Store._make
    monkeypatch.setattr(Store, "_make", lambda *arguments: (made.append(1), make(*arguments)))
    read = lambda: results.append(image_folder(str(root), 16, 3, 90, 0.25, 0).sha256())  # noqa: E731
    threads = [threading.Thread(target=read) for _ in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == PROCESSES and len(set(results)) == 1 and len(made) == 1
