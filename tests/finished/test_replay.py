"""The replay of the last step of a run that diverged, from its crash bundle."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nelbo.errors import CheckpointError, ConfigError, NelboError
from nelbo.finished.bundle import KINDS
from nelbo.finished.replay import replay
from nelbo.finished.replay_table import print_replay
from tests.helpers.bundles import make_bundle
from tests.helpers.diverging import (
    Change,
    infinite_gradient,
    infinite_kl,
    infinite_loss,
    spoilt_decoder,
    spoilt_encoder,
)
from tests.helpers.forks import forked
from tests.helpers.guards import ONE_IMAGE

DYNAMIC = ("data.protocol=dynamic", "data.augment.pad_crop=1")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("run"), infinite_loss)


@pytest.mark.parametrize(
    ("change", "overrides"),
    [
        (infinite_loss, DYNAMIC),  # random pixels, all of which must be the same
        (infinite_loss, ("posterior=flow", "prior=mixture", "objective.num_samples=2")),
        (infinite_loss, ("objective.beta={linear:{steps:20}}",)),
        (infinite_loss, ("likelihood=gaussian_fixed", "model.likelihood.sigma={linear:{steps:20,start:1,end:0.5}}")),
        (infinite_kl, ("likelihood=gaussian_optimal",)),  # in training its sigma is fitted to the batch
        (infinite_loss, ("trainer.precision=bf16-mixed",)),
        (infinite_loss, ("likelihood=gaussian_fixed", "rates=many", "nesting=uniform")),
        (infinite_gradient, ONE_IMAGE),
        (spoilt_decoder, ("trainer.accumulate_grad_batches=3", "trainer.max_epochs=5")),
        (infinite_kl, ("likelihood=gaussian_optimal", "trainer.accumulate_grad_batches=3", "trainer.max_epochs=5")),
    ],
    ids=["pixels", "noise", "beta", "sigma", "batch", "precision", "settings", "gradient", "share", "accumulated"],
)
def test_a_step_fails_again_bit_for_bit(tmp_path: Path, change: Change, overrides: tuple[str, ...]) -> None:
    """Finite terms beside the infinite one show that pixels, noise and schedules are the same."""
    done = replay(make_bundle(tmp_path, change, *overrides))
    assert done.is_reproduced and done.is_exact and not done.differences
    assert any(math.isfinite(done.recorded.terms[name]) for name in ("kl", "reconstruction"))
    assert str(done.replayed) == str(done.recorded)


def test_the_first_module_with_an_output_that_is_not_finite_is_named(tmp_path: Path) -> None:
    done = replay(make_bundle(tmp_path, spoilt_encoder))
    assert done.forward == "encoder.layers.1 (Linear)" and done.is_reproduced
    done = replay(make_bundle(tmp_path / "gradient", infinite_gradient, *ONE_IMAGE))
    assert done.forward is None and done.backward == "likelihood (LearnedGaussian)"


def test_the_script_prints_what_failed(file: Path) -> None:
    done = forked("scripts/replay.py", f"bundle={file}")
    assert done.returncode == 0, done.stderr
    assert "reconstruction is inf: reproduced, bit for bit" in done.stdout
    for text in ("nelbo", "kl", "log p(x|z)", "x 8 x 8", "256 of 256"):
        assert text in done.stdout


def test_a_step_that_does_not_fail_again_is_not_reproduced(file: Path, tmp_path: Path) -> None:
    bundle = torch.load(file, weights_only=True)
    bundle["state_dict"]["model.likelihood.project.layers.0.bias"].zero_()
    torch.save(bundle, tmp_path / "healthy.pt")
    done = forked("scripts/replay.py", f"bundle={tmp_path / 'healthy.pt'}")
    assert done.returncode == 1 and "everything is finite: not reproduced" in done.stdout
    bundle["failure"] = {"loss": 1.0, "terms": {"kl": 1.0}, "gradients": []}
    torch.save(bundle, tmp_path / "nothing.pt")
    assert not replay(tmp_path / "nothing.pt").is_reproduced


def test_differences_in_the_last_bits_are_printed(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with another version of torch: the same term is not finite, and another differs slightly."""
    bundle = torch.load(file, weights_only=True)
    bundle["failure"]["terms"]["kl"] *= 1.001
    bundle["last_bits"]["torch"] = "1.0"
    torch.save(bundle, tmp_path / "other.pt")
    done = replay(tmp_path / "other.pt")
    assert done.is_reproduced and not done.is_exact
    print_replay(done)
    printed = capsys.readouterr().out
    assert "reproduced, with other last bits" in printed and "torch 1.0 in training" in printed


def test_images_with_values_that_are_not_finite_are_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = replay(file)
    done.tensors["log p(x|z)"].zero_()[0, 5] = math.inf
    print_replay(done)
    assert f"not finite for training images [{int(done.images[5])}]" in capsys.readouterr().out


@pytest.mark.parametrize("key", list(KINDS))
@pytest.mark.parametrize("value", [None, "text", {}, [1], -1, 10**9, torch.zeros(3)], ids=str)
def test_a_damaged_bundle_is_refused_by_name(file: Path, tmp_path: Path, key: str, value: Any) -> None:
    bundle = torch.load(file, weights_only=True)
    bundle[key] = value
    torch.save(bundle, tmp_path / "damaged.pt")
    try:
        replay(tmp_path / "damaged.pt")
    except NelboError as error:
        assert "\n" not in str(error)
    else:
        assert key in ("epoch", "step") and isinstance(value, int) and value >= 0


def test_a_step_is_replayed_with_the_float32_precision_of_its_training(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = torch.load(file, weights_only=True)
    settings = []
    monkeypatch.setattr(
        "nelbo.finished.replay.float32", lambda setting: settings.append(setting) or contextlib.nullcontext()
    )
    for setting in (None, "tf32"):
        bundle["config"]["float32"] = setting
        torch.save(bundle, tmp_path / "bundle.pt")
        replay(tmp_path / "bundle.pt")
    assert settings == [None, "tf32"]
    for setting in ("half", 1, torch.zeros(3)):
        bundle["config"]["float32"] = setting
        torch.save(bundle, tmp_path / "bundle.pt")
        with pytest.raises(CheckpointError, match="is damaged"):
            replay(tmp_path / "bundle.pt")


@pytest.mark.parametrize("part", ["model", "data", "objective"])
@pytest.mark.parametrize("value", [None, {}, {"_target_": "nelbo.schedules.Linear", "steps": 1}], ids=str)
def test_a_config_without_its_parts_is_refused(file: Path, tmp_path: Path, part: str, value: Any) -> None:
    bundle = torch.load(file, weights_only=True)
    bundle["config"][part] = value
    torch.save(bundle, tmp_path / "damaged.pt")
    with pytest.raises(NelboError):
        replay(tmp_path / "damaged.pt")


@pytest.mark.parametrize("part", ["model", "data", "objective"])
@pytest.mark.parametrize(
    "target", ["os.system", "torch.load", "nelbo.data.fetch.subprocess.run", "nelbo.files.atomic", "builtins.eval"]
)
def test_a_bundle_cannot_build_objects_that_are_not_allowed(file: Path, tmp_path: Path, part: str, target: str) -> None:
    bundle = torch.load(file, weights_only=True)
    bundle["config"][part] = {"_target_": target, "command": f"touch {tmp_path / 'marker'}"}
    bundle["config"]["allow_targets"] = ["os.", "torch.", "builtins.", "nelbo."]
    torch.save(bundle, tmp_path / "hostile.pt")
    with pytest.raises((CheckpointError, ConfigError), match="is not|does not exist"):
        replay(tmp_path / "hostile.pt")
    assert not (tmp_path / "marker").exists()


def test_a_users_own_data_and_objective_are_replayed_if_they_are_allowed(file: Path, tmp_path: Path) -> None:
    """By `allow_targets` of the replay; those in the bundle do not count."""
    bundle = torch.load(file, weights_only=True)
    bundle["config"]["allow_targets"] = ["tests."]
    for part, place in (("source", bundle["config"]["data"]), ("objective", bundle["config"])):
        place[part]["_target_"] = {
            "source": "tests.helpers.own_package.all_digits",
            "objective": "tests.helpers.own_package.Elbo",
        }[part]
        torch.save(bundle, tmp_path / "own.pt")
        with pytest.raises(
            ConfigError, match=r"_target_=tests.helpers.own_package.\w+: is not among .* allow_targets=.tests..$"
        ):
            replay(tmp_path / "own.pt")
        assert replay(tmp_path / "own.pt", ("tests.",)).is_reproduced


def test_a_bundle_whose_data_were_moved_is_replayed(file: Path, tmp_path: Path) -> None:
    bundle = torch.load(file, weights_only=True)
    bundle["config"]["data"]["source"]["_target_"] = "tests.helpers.own_package.digits_in"
    bundle["config"]["data"]["root"] = "/nowhere/at/all"
    torch.save(bundle, tmp_path / "own.pt")
    command = ("scripts/replay.py", f"bundle={tmp_path / 'own.pt'}", "allow_targets=[tests.]")
    refused = forked(*command)
    assert refused.returncode == 2
    assert "data.root=/nowhere/at/all: is not a folder; if the data were moved, give their location: data.root=..." in (
        refused.stderr
    )
    done = forked(*command, f"data.root={tmp_path}")
    assert done.returncode == 0 and "reproduced, bit for bit" in done.stdout, done.stderr


def test_bad_arguments_are_one_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "page.pt").write_text("<html>")
    torch.save({"nelbo": {}}, tmp_path / "checkpoint.pt")
    torch.save({"nelbo_crash": 99}, tmp_path / "later.pt")
    expected = {
        "": "usage: python scripts/replay.py bundle=FILE",
        "bundle=": "usage: python scripts/replay.py bundle=FILE",
        f"run={file}": "usage: python scripts/replay.py bundle=FILE",
        f"bundle={tmp_path / 'none.pt'}": "none.pt: cannot be read: No such file or directory",
        f"bundle={tmp_path}": f"is a directory; the bundles of a run are {tmp_path}/crash/step-*.pt",
        "bundle=https://example.org/x.pt": "are read from local files only",
        f"bundle={tmp_path / 'page.pt'}": "page.pt: not a readable checkpoint",
        f"bundle={tmp_path / 'checkpoint.pt'}": "checkpoint.pt: is not the bundle of a run that diverged",
        f"bundle={tmp_path / 'later.pt'}": "later.pt: has format 99, this nelbo reads 1 and 2",
    }
    for argument, message in expected.items():
        done = forked("scripts/replay.py", *argument.split())
        assert done.returncode == 2 and done.stdout == "", (argument, done.stderr)
        assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1
