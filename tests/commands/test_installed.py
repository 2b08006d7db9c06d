"""The package as a user installs it: the command works in any folder, and reads the user's own code and configs."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers.forks import ROOT
from tests.helpers.installed import Installed, install
from tests.helpers.pages import blocks, programs, write_files

SMOKE = ("model=mlp_vae", "data=digits", "trainer=smoke", "threads=1")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("installed"))


def test_the_wheel_has_every_config_and_nothing_else_of_the_repository(installed: Installed) -> None:
    (wheel,) = (installed.environment.parent / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"nelbo/conf/{file.relative_to(ROOT / 'conf')}" for file in (ROOT / "conf").rglob("*.yaml")}
    assert configs <= names and {"nelbo/py.typed", "nelbo/__main__.py"} <= names
    assert {name.split("/")[0] for name in names} == {"nelbo", "hydra_plugins", "nelbo-0.1.0.dist-info"}
    (sdist,) = (installed.environment.parent / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"conf/config.yaml", "train.py", "LICENSE", "README.md", "constraints.txt"} <= packed
    assert not [name for name in packed if name.startswith((".ci/", "outputs/", ".venv/"))]


@pytest.mark.slow
def test_the_command_trains_sweeps_evaluates_draws_and_reports(installed: Installed) -> None:
    done = installed.run("nelbo", "train", *SMOKE, "model.latent_dim=2", "hydra.run.dir=outputs/run")
    assert done.returncode == 0, done.stderr
    home = installed.home / "outputs"
    assert "nats" in done.stdout and json.loads((home / "run" / "metrics.json").read_text())["data"] == "digits"
    resumed = installed.run("nelbo", "train", "resume=outputs/run", "trainer.max_epochs=2")
    assert resumed.returncode == 0 and "resuming from" in resumed.stderr, resumed.stderr
    swept = installed.run("nelbo", "train", "-m", *SMOKE, "model.latent_dim=2,4", "hydra.sweep.dir=outputs/sweep")
    assert swept.returncode == 0 and (home / "sweep" / "report.html").exists(), swept.stderr
    evaluated = installed.run("nelbo", "evaluate", "run=outputs/run", "metrics=[elbo]", "limit=50")
    assert evaluated.returncode == 0 and "negative ELBO" in evaluated.stdout, evaluated.stderr
    drawn = installed.run("nelbo", "draw", "samples", "run=outputs/run")
    assert drawn.stdout.strip() == "outputs/run/pictures/samples.png", drawn.stderr
    reported = installed.run("nelbo", "report", "sweep=outputs/sweep")
    assert reported.stdout.splitlines()[-1] == "report: outputs/sweep/report.html", reported.stderr
    loaded = installed.run("python", "-c", "import nelbo; print(nelbo.load('outputs/run').generate(2).mean.shape)")
    assert loaded.stdout.strip() == "torch.Size([2, 1, 8, 8])", loaded.stderr
    listed = installed.run("python", "-m", "nelbo", "data", "list", COLUMNS="200")
    assert listed.returncode == 0 and "binarized_mnist" in listed.stdout, listed.stderr


@pytest.mark.slow
def test_several_processes_are_started_however_the_command_was(installed: Installed) -> None:
    two = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
    for name, command in (("script", ("nelbo",)), ("module", ("python", "-m", "nelbo"))):
        done = installed.run(*command, "train", *SMOKE, *two, f"hydra.run.dir=outputs/{name}")
        assert done.returncode == 0, done.stderr
        metrics = json.loads((installed.home / "outputs" / name / "metrics.json").read_text())
        assert metrics["environment"]["processes"] == 2


def test_bad_input_is_one_line_that_names_the_command(installed: Installed) -> None:
    for words, message in (
        (("train", "foo=1"), "foo=1: there is no such key; nelbo train --cfg job lists them"),
        (("train", "model.latent_dim=1,2"), "model.latent_dim=1,2: several values are a sweep, which needs -m (nelbo"),
        (("draw", "run=x"), "usage: nelbo draw by_class|every_class|"),
        (("report",), "usage: nelbo report sweep=DIRECTORY"),
    ):
        done = installed.run("nelbo", *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and message in done.stderr, done.stderr


@pytest.mark.slow
def test_the_page_on_parts_of_ones_own_works_as_it_is_written(installed: Installed) -> None:
    write_files("own.md", installed.home)
    (installed.home / "mypackage" / "__init__.py").touch()
    for script in blocks("own.md", "sh"):
        done = installed.run("bash", "-ec", script, OMP_NUM_THREADS="1")
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    (program,) = programs("own.md")
    done = installed.run("python", "-c", program)
    assert done.stdout.strip() == "torch.Size([16, 1, 8, 8])", done.stderr
    for name in ("outputs/two_processes", "outputs/sweep"):
        assert (installed.home / name / "report.html").exists()
    events = list((installed.home / "outputs" / "first").glob("tensorboard/**/events*"))
    assert events and any(b"train/scale" in file.read_bytes() for file in events)


def test_another_package_than_the_allowed_is_refused(installed: Installed, tmp_path: Path) -> None:
    write_files("own.md", installed.home)
    command = ("nelbo", "train", "--config-dir", "conf", "model=residual_vae", "data=digits", "trainer=smoke")
    done = installed.run(*command)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "mypackage.parts.ResidualMLP: is not among" in done.stderr and "allow_targets=[mypackage.]" in done.stderr
