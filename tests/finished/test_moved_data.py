"""Data that were moved after training: their new location is typed, and their content is compared with the recorded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nelbo.errors import ConfigError, DataError
from nelbo.finished.data_location import relocated
from nelbo.finished.run import FinishedRun
from tests.helpers.forks import forked
from tests.helpers.pictures import folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its training pictures, which were moved after the training."""
    home = tmp_path_factory.mktemp("moved")
    folder(home / "photos", 60)
    done = forked(
        *("train.py", "model=mlp_vae", "data=image_folder", f"data.root={home / 'photos'}", "data.image_size=8"),
        *("trainer=smoke", "callbacks=none", "logger=none", f"hydra.run.dir={home / 'run'}"),
        NELBO_DATA=str(home / "cache"),
    )
    assert done.returncode == 0, done.stderr
    (home / "photos").rename(home / "new place")
    return home


@pytest.mark.parametrize("script", ["scripts/evaluate.py metrics=[elbo]", "scripts/draw.py reconstructions"])
def test_the_new_location_of_data_can_be_typed(home: Path, script: str) -> None:
    command = (*script.split(), f"run={home / 'run'}")

    def run(*arguments: str) -> tuple[int, str]:
        done = forked(*command, *arguments, NELBO_DATA=str(home / "cache"))
        return done.returncode, done.stderr.strip().removeprefix("error: ")

    hint = "is not a folder of pictures; if the data were moved, give their location: data.root=..."
    assert run() == (2, f"data.root={home / 'photos'}: {hint}")
    assert run(f"data.root='{home / 'new place'}'") == (0, "")
    status, message = run("data.path=x.npy")
    assert status == 2 and message.startswith(
        "data.path=x.npy: is not an option of this data set, which has data.alpha"
    )


def test_data_with_other_content_are_refused_at_any_location(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NELBO_DATA", str(tmp_path / "cache"))
    shutil.copytree(home / "new place", tmp_path / "photos")
    sound = FinishedRun.open(home / "run", moved={"root": str(tmp_path / "photos")})
    assert sound.data.provenance() == sound.provenance
    shutil.copy(tmp_path / "photos" / "cat" / "000.png", tmp_path / "photos" / "cat" / "002.png")
    with pytest.raises(DataError, match="is not the data that it was trained on: data_sha256 was"):
        assert FinishedRun.open(home / "run", moved={"root": str(tmp_path / "photos")}).data, "never"
    for key, value in {"levels": 2, "protocol": "threshold", "seed": 1, "batch_size": 5, "_target_": "x"}.items():
        with pytest.raises(
            ConfigError, match=f"^data.{key}={value}: is fixed by training; only the location of the data"
        ):
            assert FinishedRun.open(home / "run", moved={key: value}).data, "never"


def test_options_are_set_where_the_source_reads_them() -> None:
    hub: dict[str, Any] = {
        "_target_": "nelbo.data.module.ImageData",
        "name": "old/pets",
        "source": {"_target_": "nelbo.data.huggingface", "_partial_": True, "name": "old/pets", "seed": 0},
        "split": None,
        "levels": 256,
    }
    plain = relocated(hub, {"name": "/new/pets", "split": "train", "source": {"streaming": False}})
    assert plain["name"] == "old/pets"  # the name in results
    assert plain["source"] == {**hub["source"], "name": "/new/pets", "streaming": False} and plain["split"] == "train"
    assert hub["split"] is None and hub["source"]["name"] == "old/pets"
    assert plain["max_megapixels"] == 90  # which checkpoints of earlier versions lack
    assert relocated({**hub, "max_megapixels": 300}, None)["max_megapixels"] == 300
    with pytest.raises(ConfigError, match="data.root=x: is not an option of this data set, which has data.channels, "):
        relocated(hub, {"root": "x"})


def test_an_argument_that_was_left_at_the_functions_default_can_be_typed() -> None:
    """For a user's own function, whose signature is inspected only if its package is allowed."""
    own: dict[str, Any] = {
        "_target_": "nelbo.data.module.ImageData",
        "name": "own",
        "source": {"_target_": "tests.helpers.own_package.few_digits", "_partial_": True},
        "levels": 17,
    }
    for typed in ({"count": 200}, {"source": {"count": 200}}):
        assert relocated(own, typed, ["tests."])["source"] == {**own["source"], "count": 200}
    for typed in ({"size": 1}, {"source": {"size": 1}}, {"source": {"_target_": 1}}):
        key = "data.source" if "source" in typed else "data"
        with pytest.raises(ConfigError, match=rf"^{key}\.\w+=1: is not an option of this .*, which has data.count$"):
            relocated(own, typed, ["tests."])
    with pytest.raises(ConfigError, match=r"^data.source._target_=tests.helpers.own_package.few_digits: is not among "):
        relocated(own, {"count": 200})
    assert relocated(own, None)["source"] == own["source"]


def test_data_with_another_value_of_a_default_are_compared_with_the_training_data(tmp_path: Path) -> None:
    own = ("data=digits", "data.source._target_=tests.helpers.own_package.few_digits", "allow_targets=[tests.]")
    small = ("model=mlp_vae", "data.validation_size=50", "trainer=smoke", "callbacks=none", "logger=none")
    done = forked("train.py", *own, *small, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    evaluate = ("scripts/evaluate.py", f"run={tmp_path}", "metrics=[elbo]", "limit=20", own[-1])
    other = forked(*evaluate, "data.count=200")
    assert other.returncode == 2 and "is not the data that it was trained on: data_sha256 was" in other.stderr
    assert forked(*evaluate, "data.count=300").returncode == 0
