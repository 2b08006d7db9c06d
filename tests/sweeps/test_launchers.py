"""Launchers: the same results with each of them, and the requirements of each."""

from __future__ import annotations

import json
import math
import os
import statistics
from pathlib import Path

import pytest

from tests.helpers.forks import python
from tests.helpers.slurm import install
from tests.helpers.sweeps import SMALL, processes_in, records, results, sweep, sweep_apart

GRID = ("model.latent_dim=2,8", "objective.beta=0.5,4", "seed=1,2", "threads=1")
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "callbacks=none", "logger=none", "data=digits")


@pytest.fixture(scope="module")
def local_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Return the results of the grid with `local`."""
    folder = tmp_path_factory.mktemp("local")
    done = sweep(folder, *SMALL, *GRID)
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.mark.parametrize(
    "launcher",
    ["basic", *(pytest.param(name, marks=pytest.mark.slow) for name in ("joblib", "submitit_local", "ray"))],
)
def test_results_do_not_depend_on_the_launcher(
    tmp_path: Path, local_results: dict[str, dict[str, float]], launcher: str
) -> None:
    done = sweep(tmp_path, *SMALL, *GRID, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    assert len(local_results) == 8 and results(tmp_path) == local_results  # to the last digit


@pytest.mark.parametrize("launcher", ["local", pytest.param("joblib", marks=pytest.mark.slow)])
def test_cells_that_run_at_once_have_different_gpus(tmp_path: Path, launcher: str) -> None:
    """No GPU is needed: cells record the GPU that they would use."""
    cells = ("seed=1,2,3,4", f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2", "trainer.accelerator=auto")
    done = sweep(tmp_path, *SMALL, *cells, CUDA_VISIBLE_DEVICES="5,7")
    assert done.returncode == 0, done.stderr
    written = list(records(tmp_path).values())
    assert {record["gpu"] for record in written} == {"5", "7"}
    for one in written:
        for other in written:
            if one is not other and one["gpu"] == other["gpu"]:
                assert one["ended"] <= other["started"] or other["ended"] <= one["started"]  # type: ignore[operator]


@pytest.mark.slow
def test_cells_of_several_processes(tmp_path: Path) -> None:
    """3 cells with 2 gloo ranks each; one cell fails with a message.

    An autoencoder draws no noise, so the others have the results of one process with twice the batch size. A user's own
    configs and settings of Hydra reach the processes.
    """
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
    assert logs - {"train_ddp_process_1.log"} == {"console.log", "mine.log"}  # Lightning names the log of a rank
    several, one = results(tmp_path / "ddp"), results(tmp_path / "one")
    assert len(several) == 2 and several.keys() == one.keys()
    for cell, metrics in several.items():
        for key, value in metrics.items():
            assert math.isclose(value, one[cell][key], rel_tol=1e-5), (cell, key)


@pytest.mark.slow
def test_a_vae_with_several_processes_agrees_within_its_noise(tmp_path: Path) -> None:
    """Each rank draws noise of its own: the means agree within three standard errors over seeds."""
    train = ("model=mlp_vae", "seed=1,2,3,4,5", "trainer.max_epochs=20")
    ddp = sweep(tmp_path / "ddp", *DDP, *train, "data.batch_size=64")
    alone = sweep(tmp_path / "one", *DDP, *train, "data.batch_size=128", "trainer.devices=1", "trainer.strategy=auto")
    assert ddp.returncode == alone.returncode == 0, ddp.stderr + alone.stderr
    for key in ("test/nelbo", "test/kl", "test/reconstruction"):
        scores = [[cell[key] for cell in results(tmp_path / name).values()] for name in ("ddp", "one")]
        error = math.sqrt(sum(statistics.variance(values) / len(values) for values in scores))
        assert abs(statistics.fmean(scores[0]) - statistics.fmean(scores[1])) < 3 * error, key


@pytest.mark.slow
def test_slurm_gets_one_job_array_with_the_options_of_the_config(tmp_path: Path) -> None:
    stubs = install(tmp_path / "stubs")
    options = ("hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=2", "hydra.launcher.setup=[echo hello]")
    done = sweep(
        tmp_path / "sweep", *SMALL, "model.latent_dim=0,2", "hydra/launcher=submitit_slurm", *options,
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


@pytest.mark.slow
def test_the_first_of_two_slurm_tasks_owns_the_cell_and_the_other_does_not_wait(tmp_path: Path) -> None:
    """Two cells with two gloo ranks each; the first task of one cell fails before it connects to the other task."""
    stubs, faults = install(tmp_path / "stubs"), tmp_path / "faults"
    faults.touch()
    two = ("hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=2", "hydra.launcher.cpus_per_task=1")
    done = sweep(
        tmp_path / "sweep", *DDP, *two, "model=mlp_vae", "trainer.max_epochs=1", "model.latent_dim=2,8",
        script="tests/helpers/faulty.py", PATH=f"{stubs}:{os.environ['PATH']}", FAULTS=str(faults),
    )  # fmt: skip
    assert done.returncode == 2 and "error: RuntimeError: out of luck" in done.stderr, done.stderr
    states = [record["state"] for record in records(tmp_path / "sweep").values()]
    assert states == ["failed", "done"]
    assert list(results(tmp_path / "sweep")) == ["latent_dim=8"]
    (log,) = (tmp_path / "sweep").glob("latent_dim=8-*/faulty.log")
    assert "another process" not in log.read_text() and "GLOBAL_RANK: 1, MEMBER: 2/2" in log.read_text()


@pytest.mark.slow
def test_ray_does_not_join_the_cluster_of_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep on it would fail as soon as that program ends."""
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(address="local", num_cpus=1, include_dashboard=False)
    try:
        done = sweep(tmp_path, *SMALL, "hydra/launcher=ray")
    finally:
        ray.shutdown()
    assert done.returncode == 0 and len(results(tmp_path)) == 1, done.stderr
    assert "Connecting to existing Ray cluster" not in done.stderr and "Started a local Ray instance" in done.stderr


@pytest.mark.slow
def test_ray_on_two_nodes(tmp_path: Path) -> None:
    """The launcher joins a cluster of two nodes on this machine."""
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


@pytest.mark.slow
def test_torchrun_starts_the_processes_of_one_run(tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    run = (*torchrun, "train.py", *DDP, "model=mlp_vae")
    refused = python(*run, "trainer.max_epochs=1")
    assert refused.returncode != 0
    assert "hydra.run.dir: every process must write to the same directory" in refused.stderr
    done = python(*run, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epochs"] == 1 and not processes_in(tmp_path)


def test_a_launcher_whose_package_is_missing_is_refused_with_the_command_to_install_it(tmp_path: Path) -> None:
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text("import sys\nsys.modules['submitit'] = None\n")
    hidden = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = sweep_apart(tmp_path / "sweep", *SMALL, "seed=1,2", "hydra/launcher=submitit_slurm", **hidden)
    hint = "it needs a package: pip install 'hydra-submitit-launcher>=1.4.0rc3'"
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(hint), done.stderr
    assert "Traceback" not in done.stderr
