"""Engines that run cells: the same numbers whatever the engine, and what each must do of its own."""

from __future__ import annotations

import json
import math
import os
import statistics
from pathlib import Path

import pytest

from tests.helpers.slurm import install
from tests.helpers.sweeps import SMALL, processes_in, records, results, sweep, sweep_apart

GRID = ("model.latent_dim=2,4,8", "objective.beta=0.5,1,4", "seed=1,2", "threads=1")
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "callbacks=none", "logger=none", "data=digits")


@pytest.fixture(scope="module")
def by_local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("local")
    done = sweep(folder, *SMALL, *GRID)
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.mark.parametrize(
    "launcher",
    ["basic", *(pytest.param(name, marks=pytest.mark.slow) for name in ("joblib", "submitit_local", "ray"))],
)
def test_the_same_results_whatever_the_launcher(
    tmp_path: Path, by_local: dict[str, dict[str, float]], launcher: str
) -> None:
    done = sweep(tmp_path, *SMALL, *GRID, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    assert len(by_local) == 18 and results(tmp_path) == by_local  # to the last digit


@pytest.mark.parametrize("launcher", ["local", pytest.param("joblib", marks=pytest.mark.slow)])
def test_every_gpu_has_its_cell(tmp_path: Path, launcher: str) -> None:
    """No GPU is needed to see who would have had which."""
    cells = ("seed=1,2,3,4", f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2", "trainer.accelerator=auto")
    done = sweep(tmp_path, *SMALL, *cells, CUDA_VISIBLE_DEVICES="5,7")
    assert done.returncode == 0, done.stderr
    told = list(records(tmp_path).values())
    assert {record["gpu"] for record in told} == {"5", "7"}
    for one in told:  # nobody shares
        for other in told:
            if one is not other and one["gpu"] == other["gpu"]:
                assert one["ended"] <= other["started"] or other["ended"] <= one["started"]  # type: ignore[operator]


def test_cells_of_several_processes(tmp_path: Path) -> None:
    """3 cells x 2 gloo ranks. One fails and says why; an autoencoder draws no noise, so the others are the runs of one
    process with twice the batch. Configs of the user's own and Hydra's settings reach the processes."""
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\noptimizer:\n  lr: 0.003\n")
    train = ("model=autoencoder", "trainer.max_epochs=2", "experiment=mine", "--config-dir", str(tmp_path / "own"))
    ddp = sweep_apart(
        tmp_path / "ddp", *DDP, *train, "model.latent_dim=0,2,8", "data.batch_size=64", "hydra.launcher.n_jobs=2",
        "hydra.job.name=mine",
    )  # fmt: skip
    assert ddp.returncode == 2, ddp.stderr
    assert "error: model.latent_dim=0: must be a whole number of at least 1" in ddp.stderr
    assert not processes_in(tmp_path / "ddp")
    one_process = ("model.latent_dim=2,8", "data.batch_size=128", "trainer.devices=1", "trainer.strategy=auto")
    alone = sweep(tmp_path / "one", *DDP, *train, *one_process)
    assert alone.returncode == 0, alone.stderr
    logs = {log.name for log in (tmp_path / "ddp").glob("*/*.log")}
    assert logs - {"train_ddp_process_1.log"} == {"console.log", "mine.log"}  # that is Lightning's name for a rank
    several, one = results(tmp_path / "ddp"), results(tmp_path / "one")
    assert len(several) == 2 and several.keys() == one.keys()
    for cell, metrics in several.items():
        for key, value in metrics.items():
            assert math.isclose(value, one[cell][key], rel_tol=1e-5), (cell, key)


@pytest.mark.slow
def test_a_vae_of_several_processes_agrees_within_its_noise(tmp_path: Path) -> None:
    """Ranks draw noise of their own: three standard errors over seeds."""
    train = ("model=mlp_vae", "seed=1,2,3,4,5", "trainer.max_epochs=20")
    ddp = sweep(tmp_path / "ddp", *DDP, *train, "data.batch_size=64")
    alone = sweep(tmp_path / "one", *DDP, *train, "data.batch_size=128", "trainer.devices=1", "trainer.strategy=auto")
    assert ddp.returncode == alone.returncode == 0, ddp.stderr + alone.stderr
    for key in ("test/nelbo", "test/kl", "test/reconstruction"):
        found = [[cell[key] for cell in results(tmp_path / name).values()] for name in ("ddp", "one")]
        error = math.sqrt(sum(statistics.variance(values) / len(values) for values in found))
        assert abs(statistics.fmean(found[0]) - statistics.fmean(found[1])) < 3 * error, key


def test_slurm_gets_one_array_with_what_the_config_asks_for(tmp_path: Path) -> None:
    stubs = install(tmp_path / "stubs")
    ask = ("hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=2", "hydra.launcher.setup=[echo hello]")
    done = sweep(
        tmp_path / "sweep", *SMALL, "model.latent_dim=0,2", "hydra/launcher=submitit_slurm", *ask,
        PATH=f"{stubs}:{os.environ['PATH']}",
    )  # fmt: skip
    assert done.returncode == 2 and "1 of 2 cells are not done" in done.stderr, done.stderr
    (script,) = stubs.glob("script-*")
    lines = set(script.read_text().splitlines())
    for option in (
        "--array=0-1%2",
        "--partition=gpu",
        "--gpus-per-node=2",
        "--cpus-per-task=4",
        "--time=1440",
        "--mem=16GB",
    ):
        assert f"#SBATCH {option}" in lines, lines
    assert "echo hello" in lines and "--signal=USR2@120" in " ".join(lines)
    assert [record["state"] for record in records(tmp_path / "sweep").values()] == ["failed", "done"]


def test_the_first_of_two_slurm_tasks_owns_the_cell_and_the_other_waits_for_nothing(tmp_path: Path) -> None:
    """Two gloo ranks a cell: one cell ends well; of the other the first task fails before it meets its fellow."""
    stubs, faults = install(tmp_path / "stubs"), tmp_path / "faults"
    faults.touch()
    two = ("hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=2", "hydra.launcher.cpus_per_task=1")
    done = sweep(
        tmp_path / "sweep", *DDP, *two, "model=mlp_vae", "trainer.max_epochs=1", "model.latent_dim=2,8",
        script="tests/helpers/faulty.py", PATH=f"{stubs}:{os.environ['PATH']}", FAULTS=str(faults),
    )  # fmt: skip
    assert done.returncode == 2 and "error: RuntimeError: out of luck" in done.stderr, done.stderr
    found = records(tmp_path / "sweep")
    assert [record["state"] for record in found.values()] == ["failed", "done"]
    assert list(results(tmp_path / "sweep")) == ["model.latent_dim=8"]
    (log,) = (tmp_path / "sweep").glob("model.latent_dim=8-*/faulty.log")
    assert "another process" not in log.read_text() and "GLOBAL_RANK: 1, MEMBER: 2/2" in log.read_text()


@pytest.mark.slow
def test_ray_on_two_nodes(tmp_path: Path) -> None:
    """A cluster of two nodes on this machine, which the launcher joins."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        join = f"hydra.launcher.ray.init.address={cluster.address}"
        done = sweep(tmp_path, *SMALL, "seed=1,2,3,4", "hydra/launcher=ray", join)
        assert done.returncode == 0, done.stderr
        assert len(results(tmp_path)) == 4
        assert len(cluster.list_all_nodes()) == 2
    finally:
        cluster.shutdown()
        ray.shutdown()


def test_one_model_on_processes_that_torchrun_started(tmp_path: Path) -> None:
    from tests.conftest import python

    run = (
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-port=29713",
        "train.py",
        *DDP,
        "model=mlp_vae",
    )
    lost = python(*run, "trainer.max_epochs=1")
    assert lost.returncode != 0 and "hydra.run.dir: every process must write to the same directory" in lost.stderr
    done = python(*run, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epochs"] == 1 and not processes_in(tmp_path)


def test_a_launcher_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text("import sys\nsys.modules['submitit'] = None\n")
    hidden = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = sweep_apart(tmp_path / "sweep", *SMALL, "seed=1,2", "hydra/launcher=submitit_slurm", **hidden)
    hint = "it needs a package: pip install 'hydra-submitit-launcher>=1.4.0rc3'"
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(hint), done.stderr
    assert "Traceback" not in done.stderr
