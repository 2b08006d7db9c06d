"""The command `data`: list, fetch, show and verify."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nelbo.config.comparison import incomparable
from nelbo.data.catalogue import CATALOGUE
from nelbo.data.fetch import cache_directory
from tests.helpers.downloads import needs
from tests.helpers.forks import ROOT, forked, python

NO_NETWORK = {"PATH": "", "https_proxy": "http://127.0.0.1:9"}
RunData = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunData:
    """A function that runs scripts/data.py in this process and returns its exit status, stdout and stderr."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            status = 0
            try:
                patch.setattr(sys, "argv", ["scripts/data.py", *arguments])
                runpy.run_path(str(ROOT / "scripts" / "data.py"), run_name="__main__")
            except SystemExit as ended:
                status = int(ended.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_every_set_is_in_the_catalogue() -> None:
    options = {path.stem for path in (ROOT / "conf" / "data").glob("*.yaml")}
    of_users = {"image_folder", "arrays", "huggingface", "table", "function", "dataset", "datamodule"}
    assert {name.split()[0] for name in CATALOGUE} == options - of_users


def test_list_shows_which_sets_are_cached(tmp_path: Path, run_data: RunData) -> None:
    status, output, _ = run_data("list", NELBO_DATA=str(tmp_path))
    assert status == 0 and str(tmp_path) in output
    rows = {name: next(line for line in output.splitlines() if f" {name} " in line) for name in CATALOGUE}
    assert "3x32x32" in rows["cifar10"] and "50,000 + 10,000" in rows["cifar10"] and "10 classes" in rows["cifar10"]
    assert "dynamic" in rows["omniglot"] and "static" in rows["binarized_mnist data.protocol=static"]
    assert all(row.split("│")[-2].strip() == "-" for name, row in rows.items() if name != "digits")
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in CATALOGUE["mnist"].files:
        (folder / file.name).write_bytes(bytes(500_000))
    _, output, _ = run_data("list", NELBO_DATA=str(tmp_path))
    assert "2 MB" in next(line for line in output.splitlines() if " mnist " in line)


@needs("mnist")
def test_fetch_and_verify(tmp_path: Path, run_data: RunData) -> None:
    status, output, errors = run_data("fetch", "digits", "nonsense")
    assert status == 2
    assert "digits: raw (pixels as they are, divided by 255; floats unchanged), 1,300 train + 200 val" in output
    assert "297 test, SHA-256 " in output
    assert "nonsense: error: data=nonsense: is not in the catalogue: mnist, " in output
    assert errors == "error: 1 of 2 sets failed: nonsense\n"
    _, output, _ = run_data(
        "fetch", "digits", "binarized_mnist", "data.protocol=static", NELBO_DATA=str(tmp_path), **NO_NETWORK
    )
    assert "binarized_mnist data.protocol=static: error: " in output and "binarized_mnist_train.amat" in output
    status, output, errors = run_data("fetch", "mnist", NELBO_DATA=str(tmp_path), **NO_NETWORK)
    assert status == 2 and "not in the cache and cannot be fetched" in output and len(errors.splitlines()) == 1
    run_data("fetch", "mnist")
    (tmp_path / "mnist").mkdir(exist_ok=True)
    for file in CATALOGUE["mnist"].files:
        os.link(cache_directory() / "mnist" / file.name, tmp_path / "mnist" / file.name)
    assert run_data("verify", "mnist", NELBO_DATA=str(tmp_path))[0] == 0
    damaged = tmp_path / "mnist" / CATALOGUE["mnist"].files[1].name
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:-1])
    status, output, _ = run_data("verify", NELBO_DATA=str(tmp_path))
    assert status == 2 and f"mnist: error: {damaged}: {len(content) - 1} bytes where {len(content)}" in output


@pytest.mark.parametrize("protocol", ["raw", "dynamic"])
def test_a_contact_sheet_is_drawn(tmp_path: Path, run_data: RunData, protocol: str) -> None:
    out = tmp_path / "sheets" / "digits.png"
    status, output, errors = run_data("show", "digits", f"data.protocol={protocol}", f"out={out}")
    assert status == 0 and str(out) in output, errors
    with Image.open(out) as picture:
        assert picture.width > 800 and picture.height > 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python scripts/data.py list|fetch|show|verify"),
        (["fetsh"], "fetsh: unknown argument; did you mean fetch? usage: python scripts/data.py"),
        (["show"], "usage: python scripts/data.py show"),
        (
            ["show", "cifar"],
            "data=cifar: there is no such option; did you mean cifar10 or cifar100? choose from arrays",
        ),
        (["show", "digits", "data.protocl=fixed"], "data.protocl"),
        (["show", "digits", "out=x.xyz"], "out=x.xyz: cannot be written"),
        (["show", "image_folder"], "data.root: has no default; type data.root=..."),
    ],
)
def test_bad_arguments_are_one_line(run_data: RunData, arguments: list[str], message: str) -> None:
    status, output, errors = run_data(*arguments)
    assert status == 2 and errors.startswith(f"error: {message}") and len(errors.splitlines()) == 1, errors


def test_the_script_starts() -> None:
    done = python("scripts/data.py", "list")
    assert done.returncode == 0 and "fashion_mnist" in done.stdout and not done.stderr, done.stderr
    assert forked("scripts/data.py").returncode == 2


def test_results_of_different_protocols_are_not_comparable() -> None:
    one = {"data": "mnist", "protocol": "dynamic", "data_sha256": "a", "test_images": 10, "test/nelbo": 90.0}
    assert not incomparable({"a": one, "b": {**one, "test/nelbo": 91.0, "data": "binarized_mnist"}})
    for key, value in (("protocol", "fixed"), ("data_sha256", "b"), ("test_images", 9)):
        problem = incomparable({"a": one, "b": {**one, key: value}})
        assert problem == f"results of different {key} are not comparable: a mnist {one[key]}, b mnist {value}"
    assert "unknown" in incomparable({"a": one, "b": {}})
