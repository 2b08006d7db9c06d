"""Checkpoints of one setting of a model that was trained for many; one run, trained by train.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import nelbo
from nelbo.checkpoints.container import read_plain
from nelbo.checkpoints.record import provenance
from nelbo.commands.fold import main
from nelbo.config.build import MODEL_PREFIXES, build
from nelbo.errors import CheckpointError, ConfigError
from nelbo.finished.fold import write_folded
from nelbo.finished.run import FinishedRun
from nelbo.models import VAE
from tests.helpers.evaluations import train_smoke
from tests.helpers.forks import Done, forked, train_all

TRAINING = ["model=mlp_vae", "data=digits", "data.protocol=threshold", "likelihood=bernoulli"]
SMALL = ["model.latent_dim=4", "model.encoder.hidden=[16,16]", "model.decoder.hidden=[16,16]"]
SETTING = {"beta": 0.05, "latent_dim": 2}
AT = [f"at.{key}={value}" for key, value in SETTING.items()]
SCRIPT = "scripts/fold.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fold")
    train_smoke(home, {"run": [*TRAINING, *SMALL, "rates=many", "nesting=uniform", "trainer.max_steps=30"]})
    return home / "run"


@pytest.fixture(scope="module")
def command(run: Path) -> Done:
    """The command, which writes folded.ckpt into the run's directory."""
    return forked(SCRIPT, f"run={run}", *AT, f"out={run / 'folded.ckpt'}")


@pytest.fixture
def file(run: Path, command: Done) -> Path:
    assert command.returncode == 0, command
    return run / "folded.ckpt"


def test_the_command_writes_an_ordinary_model(run: Path, file: Path, command: Done) -> None:
    many, folded = nelbo.load(run), nelbo.load(file)
    assert type(folded) is VAE and folded.surface is None and folded.latent_dim == 2 and not folded.training
    assert folded.checks_pixels
    bound = many.at(**SETTING)
    x = torch.rand(5, *many.shape).round()
    with torch.no_grad():
        q, whole = folded.encode(x), bound.encode(x)
        torch.testing.assert_close(q.mean, whole.mean[:, :2], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(q.stddev, whole.stddev[:, :2], rtol=1e-5, atol=1e-5)
        z = torch.randn(3, 5, 4)
        log_px = folded.decode(z[..., :2]).log_prob(x)
        torch.testing.assert_close(log_px, bound.decode(z).log_prob(x), rtol=1e-5, atol=1e-5)
    before, after = (sum(parameter.numel() for parameter in model.parameters()) for model in (many, folded))
    assert after < before
    assert command.stdout.strip() == (
        f"{file}: beta=0.05,latent_dim=2, {after:,} parameters; with all settings {before:,}"
    )


def test_its_record_says_where_it_comes_from(run: Path, file: Path) -> None:
    content = read_plain(file)
    source = FinishedRun.open(run)
    record = content["nelbo"]
    assert record["folded"] == {"at": SETTING, "checkpoint": "best.ckpt", "checkpoint_sha256": source.sha256}
    assert provenance(file) == provenance(run) and content["global_step"] == source.step
    same = source.record.keys() - {"model"}
    assert {key: record[key] for key in same} == {key: source.record[key] for key in same}
    assert not {"rates", "nesting"} & record["model"].keys() and record["model"]["latent_dim"] == 2
    ordinary = {**record["model"], "posterior": source.record["model"]["posterior"]}
    tensors = {f"model.{name}" for name in build(ordinary, "model", MODEL_PREFIXES).state_dict()}
    assert content["state_dict"].keys() == tensors | {"model.posterior.log_scale_shift"}


def test_it_is_evaluated_and_drawn_as_a_run_is(run: Path, file: Path) -> None:
    logs = run.parent / "evaluations"
    logs.mkdir()
    measures = ["metrics=[elbo,active_units,collapse]", f"out={run.parent / 'results'}"]
    done = train_all({"folded": [f"run={file}", *measures]}, logs, "scripts/evaluate.py")
    done |= train_all({"samples": ["samples", f"run={file}"]}, logs, "scripts/draw.py")
    done |= train_all({"again": [f"run={file}", *measures, "at.beta=1"]}, logs, "scripts/evaluate.py")
    assert done["folded"].returncode == done["samples"].returncode == 0, done
    assert "at beta=0.05,latent_dim=2" in " ".join(done["folded"].stdout.split())
    assert done["again"].stderr == f"error: at.beta=1: this model takes none ({file})\n"
    assert (run / "pictures" / "samples-beta=0.05,latent_dim=2.png").is_file()
    results = json.loads((run.parent / "results" / "evaluation.json").read_text())
    assert results["at"] == SETTING and results["folded"] == read_plain(file)["nelbo"]["folded"]
    bound = FinishedRun.open(run, setting=SETTING).subject(split="test", device="cpu")
    with torch.no_grad():
        trace = bound.model.trace(bound.images[torch.arange(len(bound.images))], 1)
    assert results["test/rate"] == pytest.approx(float(trace.kl.mean()), rel=1e-5)
    assert results["test/collapse_units"] == 2


def test_a_folded_model_has_the_config_of_its_own_file_and_no_history(run: Path, file: Path) -> None:
    """The config.yaml and the KLs of units beside it are those of the model of all settings."""
    assert (run / "config.yaml").is_file() and FinishedRun.open(run).unit_kl_history
    folded = FinishedRun.open(file)
    assert folded.config["model"] == read_plain(file)["nelbo"]["model"] and "objective" not in folded.config
    assert folded.unit_kl_history == {} and folded.setting_name == "beta=0.05,latent_dim=2"


def test_what_cannot_be_folded_or_written_is_refused_in_one_line(
    run: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new, long = f"out={tmp_path / 'new.ckpt'}", tmp_path / ("x" * 300)
    content = file.read_bytes()
    for words, line in (
        ([f"run={run}", "at.beta=0.5", new], "at.latent_dim=null: is missing: a model is folded at one value of each"),
        ([f"run={run}", "at.latent_dim=2", new], "at.beta=null: is missing: a model is folded at one value of each"),
        ([f"run={run}", "at.beta=50", "at.latent_dim=2", new], "at.beta=50: must be from 0.01 to 10, for which"),
        ([f"run={run}", "at.beta=half", new], "at.beta=half: must be a number"),
        ([f"run={run}", "at.beta=0.5", "at.latent_dim=1.5", new], "at.latent_dim=1.5: must be a whole number"),
        ([f"run={run}", "at.label=3", new], "at.label=3: unknown argument; "),
        ([f"run={file}", new], "model=VAE: has nothing to fold: it is no VAE trained with rates=many or nesting"),
        ([f"run={run}", *AT, f"out={file}"], f"out={file}: exists already; give another name"),
        ([f"run={run}", *AT, f"out={file / 'x'}"], f"out={file / 'x'}: cannot be written: "),
        ([f"run={run}", *AT, f"out={long}"], f"out={long}: cannot be written: "),
        (["run=nowhere", *AT, new], "run=nowhere: no such checkpoint; give a run directory or a .ckpt file"),
        ([new], "run=... is missing; usage: "),
    ):
        monkeypatch.setattr(sys, "argv", [SCRIPT, *words])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert end.value.code == 2 and printed.err.startswith(f"error: {line}"), printed
        assert len(printed.err.splitlines()) == 1 and not printed.out
    assert not (tmp_path / "new.ckpt").exists() and file.read_bytes() == content


def test_a_model_that_a_function_of_ones_own_makes_is_not_written(run: Path, tmp_path: Path) -> None:
    source = FinishedRun.open(run, setting=SETTING)
    own = {**source.record, "model": {"_target_": "own.make", "size": 3}}
    other = FinishedRun(source.file, own, source.step, source.model, setting=source.setting)
    with pytest.raises(ConfigError, match=r"model\._target_=own\.make: cannot be written as a folded model; only nelb"):
        write_folded(other, tmp_path / "x.ckpt")
    parts = {**source.record["model"], "encoder": {"_target_": "own.Net", "_partial_": True}}
    other = FinishedRun(source.file, {**source.record, "model": parts}, source.step, source.model)
    with pytest.raises(CheckpointError, match="its model cannot be built"):
        write_folded(other, tmp_path / "x.ckpt")
    assert not (tmp_path / "x.ckpt").exists()


@pytest.mark.parametrize(
    "folded", [3, {}, {"at": 3}, {"at": {"../x": 1.0}}, {"at": {"beta": "1"}}, {"at": {"beta": 10**400}}]
)
def test_a_record_with_an_invalid_setting_is_refused(file: Path, tmp_path: Path, folded: Any) -> None:
    content = read_plain(file)
    content["nelbo"]["folded"] = folded
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(CheckpointError, match="its record of the setting that it was folded at is invalid"):
        FinishedRun.open(tmp_path / "changed.ckpt")
