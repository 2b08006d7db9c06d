"""Classes of one's own in a config: from training to evaluation, and only where they are allowed by name."""

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


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start = ("tests/helpers/stopping.py", "nowhere:0:SIGTERM", *SMALL, *OWN, "trainer=smoke", f"hydra.run.dir={folder}")
    refused = forked(*start)
    assert (
        refused.returncode == 2
        and "model.encoder._target_=tests.helpers.own_package.Wide: is not among" in refused.stderr
    )
    done = forked(*start, ALLOWED)
    assert done.returncode == 0, done.stderr
    with pytest.raises(CheckpointError, match=r"model.encoder._target_=tests.helpers.own_package.Wide: is not among"):
        nelbo.load(folder)
    assert type(nelbo.load(folder, allow=("tests.",)).encoder).__name__ == "Wide"

    more = forked(*start, ALLOWED, "resume=auto", "trainer.max_epochs=2")
    assert more.returncode == 0, more.stderr
    evaluate = ("scripts/evaluate.py", f"run={folder}", "metrics=[elbo]", "limit=50")
    assert forked(*evaluate).returncode == 2
    told = forked(*evaluate, ALLOWED)
    assert told.returncode == 0 and "nelbo" in told.stdout, told.stderr


HINT = "is not among the packages whose objects a config may build; if tests is yours, or you trust it: "


def own_parts(folder: Path) -> dict[str, str]:
    """Overrides for data, callbacks and Hydra's callbacks of one's own, by the key that is refused."""
    return {
        "data.source._target_=tests.helpers.own_package.few_digits": "data.validation_size=50",
        "callbacks.note._target_=tests.helpers.own_package.Note": f"+callbacks.note.file={folder / 'note'}",
        "hydra.callbacks.own._target_=tests.helpers.own_package.Started": f"+hydra.callbacks.own.folder={folder}",
    }


def test_data_callbacks_and_hydras_callbacks_of_ones_own_in_every_command(tmp_path: Path) -> None:
    parts = own_parts(tmp_path)
    for key, more in parts.items():
        added = key if key.startswith("data.") else f"+{key}"
        refused = forked("train.py", *SMALL, added, more, "trainer=smoke", f"hydra.run.dir={tmp_path / 'none'}")
        assert (refused.returncode, refused.stderr.strip()) == (2, f"error: {key}: {HINT}{ALLOWED}")
    words = [word for key, more in parts.items() for word in (key if key.startswith("data.") else f"+{key}", more)]
    start = (*SMALL, *words, ALLOWED, "trainer=smoke", "model.latent_dim=2", f"hydra.run.dir={tmp_path / 'run'}")
    done = forked("train.py", *start)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "note").exists() and (tmp_path / "latents-2").exists()
    more = forked("train.py", *start, "resume=auto", "trainer.max_epochs=2")
    assert more.returncode == 0, more.stderr

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
    shown = forked("scripts/data.py", "show", "digits", *words[:2], ALLOWED, f"out={tmp_path / 'x.png'}")
    assert shown.returncode == 0 and "250 train + 50 val" in shown.stdout, shown.stderr

    data = json.dumps(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"])
    with pytest.raises(ConfigError, match="few_digits: is not among"):
        spectrum_of(data)  # what the report of a sweep of linear models asks
    assert len(spectrum_of(data, ("tests.",)).values) == 64

    (tmp_path / "note").unlink()
    swept = sweep(tmp_path / "sweep", "model.latent_dim=3,4", *SMALL, *words, ALLOWED, "trainer=smoke")
    assert swept.returncode == 0, swept.stderr
    assert all((tmp_path / name).exists() for name in ("note", "latents-3", "latents-4"))


def test_a_refusal_names_the_callers_way_to_allow_a_package(tmp_path: Path) -> None:
    """But for packages that are nobody's own: a stranger's checkpoint shall not talk its reader into os.system."""
    checkpoint = read_checkpoint(ROOT / "tests" / "checkpoints" / "format-1" / "mlp_vae.ckpt")
    model = {**checkpoint["nelbo"]["model"], "encoder": {"_target_": "mine.nets.Wide", "_partial_": True}}
    file = tmp_path / "changed.ckpt"
    torch.save({**checkpoint, "nelbo": {**checkpoint["nelbo"], "model": model}}, file)
    with pytest.raises(
        CheckpointError, match=r"if mine is yours, or you trust it: nelbo.load\(..., allow=\(\"mine.\",\)\)$"
    ):
        nelbo.load(file)
    with pytest.raises(CheckpointError, match=r"if mine is yours, or you trust it: allow_targets=\[mine.\]$"):
        FinishedRun.open(file)
    for name in ("os.system", "torch.load", "nelbo.files.atomic", "pytorch_lightning.seed_everything"):
        with pytest.raises(ConfigError, match=r"may build$"):
            build({"_target_": name}, allowed=("nelbo.models.",))


def test_a_package_that_is_not_found_names_the_variable_that_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = user_prefixes("allow_targets", ["absent.", "its_user.", "tests."])
    with pytest.raises(
        ConfigError, match="absent.data.blobs: does not exist: No module named 'absent'; say which folder it "
    ):
        build({"_target_": "absent.data.blobs"}, "data.source", allowed)
    with pytest.raises(ConfigError, match=r"does not exist: No module named 'tests.none'; .* PYTHONPATH=FOLDER python"):
        build({"_target_": "tests.none.blobs"}, "data.source", allowed)
    (tmp_path / "its_user.py").write_text("import needed_by_it\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be imported: No module named 'needed_by_it'; install that, or say "):
        build({"_target_": "its_user.blobs"}, "data.source", allowed)
    done = forked(
        "train.py", "data=digits", "+hydra.callbacks.own._target_=not_there.Own", "allow_targets=[not_there.]"
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    message = (
        "hydra.callbacks.own._target_=not_there.Own: does not exist: No module named 'not_there'; say which folder"
    )
    assert message in done.stderr
