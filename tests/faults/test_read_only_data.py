"""A read-only cache works if it contains the data set; otherwise there is one line of error."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nelbo.data import image_folder
from nelbo.data.fetch import fetch
from nelbo.errors import DataError
from tests.helpers.children import Child
from tests.helpers.pictures import folder
from tests.helpers.server import CONTENT, remote

NOBODY = 65534
demoted = pytest.mark.skipif(os.getuid() != 0, reason="needs to run as a user without write permission")


def as_nobody(cache: Path, work: Callable[[], object]) -> tuple[int, str]:
    """Run `work` as a user who may only read; it must not import, as the interpreter itself may be unreadable."""
    for above in cache.parents:
        if str(above).startswith(tempfile.gettempdir() + "/"):
            above.chmod(0o755)

    def child() -> object:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return work()

    return Child(child).wait()


@demoted
@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("published", [True, False])
def test_read_only_data(cache: Path, server: str, present: bool, published: bool) -> None:
    (cache / "set").mkdir(parents=True)
    if present:
        (cache / "set" / "file").write_bytes(CONTENT)
    file = remote(server + "/good") if published else remote(server + "/good", digest="", size=None)
    status, output = as_nobody(cache, lambda: fetch([file], "set")[0].read_bytes() == CONTENT)
    if present:
        assert (status, output) == (0, "True")
    else:
        assert status == 2 and f"{cache / 'set'}: cannot be written" in output and "NELBO_DATA" in output, output
        assert "\n" not in output


@demoted
@pytest.mark.parametrize("present", [True, False])
def test_read_only_data_of_pictures(cache: Path, tmp_path: Path, present: bool) -> None:
    root = folder(tmp_path / "pets")
    if present:
        image_folder(str(root), 16, 3, 90, 0.25, 0)
    status, output = as_nobody(cache, lambda: len(image_folder(str(root), 16, 3, 90, 0.25, 0).train))
    if present:
        assert (status, output) == (0, "9")
    else:
        assert status == 2 and "cannot be written" in output and "NELBO_DATA" in output and "\n" not in output, output


def test_read_only_data_where_no_folder_can_be_created(cache: Path, server: str) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be written .*NELBO_DATA"):
        fetch([remote(server + "/good")], "set")
