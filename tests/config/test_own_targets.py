"""Classes of the user's packages in all commands; they are used only if the user allows the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

import nelbo
from nelbo.checkpoints.record import read_checkpoint
from nelbo.config.build import build, user_prefixes
from nelbo.errors import CheckpointError, ConfigError
from nelbo.finished.run import FinishedRun
from nelbo.sweeps.report.linear import spectrum_of
from tests.helpers.forks import ROOT, forked
from tests.helpers.interrupted import SMALL
from tests.helpers.sweeps import sweep

OWN = ("~model.encoder", "+model.encoder={_target_:tests.helpers.own_package.Wide,_partial_:true,width:12}")
ALLOWED = "allow_targets=[tests.]"


def test_a_network_of_the_users_package_is_trained_loaded_and_evaluated(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start = ("tests/helpers/stopping.py", "nowhere:0:SIGTERM", *SMALL, *OWN, "trainer=smoke", f"hydra.run.dir={folder}")
    refused = forked(*start)
    assert refused.returncode == 2
    assert "model.encoder._target_=tests.helpers.own_package.Wide: is not among" in refused.stderr
    done = forked(*start, ALLOWED)
    assert done.returncode == 0, done.stderr
    with pytest.raises(CheckpointError, match=r"model.encoder._target_=tests.helpers.own_package.Wide: is not among"):
        nelbo.load(folder)
    assert type(nelbo.load(folder, allow=("tests.",)).encoder).__name__ == "Wide"

    resumed = forked(*start, ALLOWED, "resume=auto", "trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    evaluate = ("scripts/evaluate.py", f"run={folder}", "metrics=[elbo]", "limit=50")
    assert forked(*evaluate).returncode == 2
    evaluated = forked(*evaluate, ALLOWED)
    assert evaluated.returncode == 0 and "nelbo" in evaluated.stdout, evaluated.stderr


HINT = "is not among the packages whose objects a config may build; if tests is yours, or you trust it: "


def own_parts(folder: Path) -> dict[str, str]:
    """Return overrides with the user's data function, callback and Hydra callback.

    Each key is an override that is refused, and its value a second override that it needs.
    """
    return {
        "data.source._target_=tests.helpers.own_package.few_digits": "data.validation_size=50",
        "callbacks.note._target_=tests.helpers.own_package.Note": f"+callbacks.note.file={folder / 'note'}",
        "hydra.callbacks.own._target_=tests.helpers.own_package.Started": f"+hydra.callbacks.own.folder={folder}",
    }


def test_data_and_callbacks_of_the_users_package_work_in_every_command(tmp_path: Path) -> None:
    parts = own_parts(tmp_path)
    overrides = []
    for key, option in parts.items():
        added = key if key.startswith("data.") else f"+{key}"
        refused = forked("train.py", *SMALL, added, option, "trainer=smoke", f"hydra.run.dir={tmp_path / 'none'}")
        assert (refused.returncode, refused.stderr.strip()) == (2, f"error: {key}: {HINT}{ALLOWED}")
        overrides += [added, option]
    start = (*SMALL, *overrides, ALLOWED, "trainer=smoke", "model.latent_dim=2", f"hydra.run.dir={tmp_path / 'run'}")
    done = forked("train.py", *start)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "note").exists() and (tmp_path / "latents-2").exists()
    resumed = forked("train.py", *start, "resume=auto", "trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stderr

    run = f"run={tmp_path / 'run'}"
    for script in (
        ("scripts/evaluate.py", "metrics=[elbo]", "+metrics.own._target_=tests.helpers.own_package.Units", "limit=50"),
        ("scripts/draw.py", "reconstructions"),
    ):
        first, *rest = script[1:]
        refused = forked(script[0], first, run, *rest)
        assert refused.returncode == 2 and refused.stderr.strip().endswith(HINT + ALLOWED), refused.stderr
        done = forked(script[0], first, run, *rest, ALLOWED)
        assert done.returncode == 0, done.stderr
    shown = forked("scripts/data.py", "show", "digits", *overrides[:2], ALLOWED, f"out={tmp_path / 'x.png'}")
    assert shown.returncode == 0 and "250 train + 50 val" in shown.stdout, shown.stderr

    data = json.dumps(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"])
    with pytest.raises(ConfigError, match="few_digits: is not among"):
        spectrum_of(data)  # the report of a sweep of linear models calls this
    assert len(spectrum_of(data, ("tests.",)).values) == 64

    (tmp_path / "note").unlink()
    swept = sweep(tmp_path / "sweep", "model.latent_dim=3,4", *SMALL, *overrides, ALLOWED, "trainer=smoke")
    assert swept.returncode == 0, swept.stderr
    assert all((tmp_path / name).exists() for name in ("note", "latents-3", "latents-4"))


def test_the_error_for_a_package_says_how_the_caller_can_allow_it(tmp_path: Path) -> None:
    """Not for packages that are not the user's: no message may advise the user to allow os.system."""
    checkpoint = read_checkpoint(ROOT / "tests" / "checkpoints" / "format-1" / "mlp_vae.ckpt")
    model = {**checkpoint["nelbo"]["model"], "encoder": {"_target_": "mine.nets.Wide", "_partial_": True}}
    file = tmp_path / "changed.ckpt"
    torch.save({**checkpoint, "nelbo": {**checkpoint["nelbo"], "model": model}}, file)
    message = r"if mine is yours, or you trust it: nelbo.load\(..., allow=\(\"mine.\",\)\)$"
    with pytest.raises(CheckpointError, match=message):
        nelbo.load(file)
    with pytest.raises(CheckpointError, match=r"if mine is yours, or you trust it: allow_targets=\[mine.\]$"):
        FinishedRun.open(file)
    for name in ("os.system", "torch.load", "nelbo.files.atomic", "pytorch_lightning.seed_everything"):
        with pytest.raises(ConfigError, match=r"may build$"):
            build({"_target_": name}, allowed=("nelbo.models.",))


def test_the_error_for_a_missing_package_names_pythonpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = user_prefixes("allow_targets", ["absent.", "its_user.", "tests."])
    message = "absent.data.blobs: does not exist: No module named 'absent'; give the folder that it "
    with pytest.raises(ConfigError, match=message):
        build({"_target_": "absent.data.blobs"}, "data.source", allowed)
    with pytest.raises(ConfigError, match=r"does not exist: No module named 'tests.none'; .* PYTHONPATH=FOLDER python"):
        build({"_target_": "tests.none.blobs"}, "data.source", allowed)
    (tmp_path / "its_user.py").write_text("import needed_by_it\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be imported: No module named 'needed_by_it'; install it, or give "):
        build({"_target_": "its_user.blobs"}, "data.source", allowed)
    target = "hydra.callbacks.own._target_=not_there.Own"
    done = forked("train.py", "data=digits", f"+{target}", "allow_targets=[not_there.]")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"{target}: does not exist: No module named 'not_there'; give the folder" in done.stderr
