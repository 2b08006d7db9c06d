"""Identity and state of cells, slots of a machine: without a process."""

from __future__ import annotations

import copy
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from nelbo.config.identity import identity
from nelbo.config.quoting import quoted
from nelbo.errors import Stopped
from nelbo.files import write_json
from nelbo.sweeps.cells.command import alone, config_words, plain_command
from nelbo.sweeps.cells.names import cell_name
from nelbo.sweeps.cells.record import Plan, SweepError, cell_lock, grouped_errors, read_cell, read_cells
from nelbo.sweeps.job import needs_processes, run_cell
from nelbo.sweeps.live import duration
from nelbo.sweeps.local import take
from nelbo.sweeps.machine import visible_gpus
from nelbo.sweeps.sweep import Sweep
from tests.helpers.owners import owned_elsewhere
from tests.helpers.sweep_directories import write_sweep

PLAIN: dict[str, Any] = {
    "seed": 1,
    "threads": None,
    "trial": None,
    "objective": {"beta": 1.0},
    "trainer": {"accelerator": "auto", "strategy": "auto", "devices": 1},
    "data": {"num_workers": 0, "batch_size": 64, "root": "here"},
}


def changed(**keys: object) -> dict[str, Any]:
    plain = copy.deepcopy(PLAIN)
    for key, value in keys.items():
        *groups, last = key.split("__")
        holder = plain
        for group in groups:
            holder = holder[group]
        holder[last] = value
    return plain


@pytest.mark.parametrize(
    "same",
    [
        {"trainer__accelerator": "cpu"}, {"trainer__strategy": "ddp"}, {"data__num_workers": 4}, {"threads": 2},
        {"trial": {"number": 3}}, {"objective__beta": 1},
    ],
)  # fmt: skip
def test_facts_of_the_machine_make_no_other_run(same: dict[str, object]) -> None:
    assert identity(changed(**same)) == identity(PLAIN)
    assert list(PLAIN) == list(changed())  # and nothing is taken out of the caller's config
    assert PLAIN["trainer"]["accelerator"] == "auto"


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"objective__beta": 1.5}, {"trainer__devices": 2}, {"data__batch_size": 128}, {"seed": True}]
)
def test_what_decides_the_result_makes_another_run(other: dict[str, object]) -> None:
    assert identity(changed(**other)) != identity(PLAIN)


def test_one_batch_is_not_all_of_them() -> None:
    """1 and 1.0 mean the same where a number is meant, and not where one may type a share."""
    assert identity(changed(trainer__limit_train_batches=1)) != identity(changed(trainer__limit_train_batches=1.0))
    assert identity(changed(trainer__limit_train_batches=5)) == identity(changed(trainer__limit_train_batches=5.0))
    assert identity(changed(data__validation_size=1)) != identity(changed(data__validation_size=1.0))


def test_the_floor_on_steps_counts_where_no_epochs_are_typed() -> None:
    few, many = ({**PLAIN, "budget": {"epochs": 3, "min_steps": steps}} for steps in (10, 2000))
    assert identity(few) != identity(many)
    typed = [{**plain, "trainer": {**plain["trainer"], "max_epochs": 3}} for plain in (few, many)]
    assert identity(typed[0]) == identity(typed[1])


def cell(folder: Path, **record: object) -> str:
    write_json(folder / "cell.json", {"identity": "a" * 16, **record})
    return read_cell(folder, "a" * 16, []).state


def test_states(tmp_path: Path) -> None:
    assert read_cell(tmp_path, "a" * 16, []).state == "pending"
    assert cell(tmp_path, state="failed", error="bad luck") == "failed"
    assert read_cell(tmp_path, "a" * 16, []).error == "bad luck"
    assert read_cell(tmp_path, "b" * 16, []).state == "pending"  # the record is another cell's
    with cell_lock(tmp_path):
        assert cell(tmp_path, state="running") == "running"
    assert cell(tmp_path, state="running") == "failed"
    assert "without a word" in read_cell(tmp_path, "a" * 16, []).error
    metrics = tmp_path / "metrics.json"
    write_json(metrics, {"identity": "b" * 16, "test/nelbo": 1.0})
    assert cell(tmp_path, state="done") == "pending"
    write_json(metrics, {"identity": "a" * 16, "test/nelbo": 1.0})
    assert cell(tmp_path, state="done") == "done" and cell(tmp_path, state="failed") == "done"
    whole = metrics.read_text()
    for cut in range(len(whole) - 2):
        metrics.write_text(whole[:cut])
        assert cell(tmp_path, state="done") == "pending", cut
    metrics.write_text(json.dumps([1]))
    assert cell(tmp_path, state="done") == "pending"


def test_errors_that_differ_by_the_name_of_their_cell_alone_are_one(tmp_path: Path) -> None:
    """As the guard says it, and a disk; each cell keeps the whole sentence."""
    diverged = "training diverged at step 1 (epoch 1, batch 2): kl is nan; lower optimizer.lr"
    replay = "replay: python scripts/replay.py bundle=outputs/s/cell{0}-{0:08x}/crash/step-000001.pt"
    full = "hydra.run.dir=/s/cell{0}-{0:08x}: cannot be written (No space left on device); make room"
    errors = [f"{diverged}; {replay}"] * 3 + [full] * 2
    cells = [
        {"overrides": [f"seed={number}"], "state": "failed", "error": error.format(number)}
        for number, error in enumerate(errors)
    ]
    found = read_cells(write_sweep(tmp_path, cells))
    assert grouped_errors(found) == [
        (3, diverged),
        (2, "hydra.run.dir=/s/CELL: cannot be written (No space left on device); make room"),
    ]
    assert found[1].error == f"{diverged}; {replay.format(1)}"


def test_a_cell_that_runs_on_another_machine_is_neither_dead_nor_started_twice(tmp_path: Path) -> None:
    """The lock is free, for it does not reach; only the owner's file tells."""
    owned_elsewhere(tmp_path, "cell")
    assert cell(tmp_path, state="running") == "running"
    owned_elsewhere(tmp_path, "cell", seconds_ago=3600)
    assert cell(tmp_path, state="running") == "failed"


def test_what_the_launcher_says_is_over_and_has_not_said_so_itself_is_dead(tmp_path: Path) -> None:
    """A moment after a node went down its cell has been heard of a moment ago, but the scheduler knows."""
    write_sweep(tmp_path, [{"overrides": [f"seed={seed}"], "state": "running"} for seed in (1, 2)])
    ours, theirs = read_cells(tmp_path)
    for folder in (ours.folder, theirs.folder):
        owned_elsewhere(folder, "cell")
    sweep = Sweep(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}), None, None, [], [])  # type: ignore[arg-type]
    sweep.plan = Plan.read(tmp_path)
    sweep.close_records({ours.identity: None, theirs.identity: theirs.record["started"]})
    assert [cell.state for cell in sweep.cells()] == ["failed", "running"]
    assert "without a word" in sweep.cells()[0].error


def test_a_signal_that_interrupts_another_librarys_code_stops_the_sweep_all_the_same(tmp_path: Path) -> None:
    """A config in the middle of being composed raises what it likes in the place of `Stopped`."""

    class Interrupted:
        def launch(self, jobs: object, initial_job_idx: int) -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException:
                raise AttributeError("half composed") from None

    write_sweep(tmp_path, [{"overrides": ["seed=1"], "state": "pending"}])
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with Sweep(config, None, Interrupted(), [], []) as sweep, pytest.raises(SystemExit) as ended:  # type: ignore[arg-type]
        sweep.launch([["seed=1"]])
    assert ended.value.code == 128 + signal.SIGTERM


def test_a_rank_but_the_first_neither_locks_nor_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm starts a cell's job in each of its tasks."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    config = OmegaConf.create({})
    with cell_lock(tmp_path):  # the first one's
        assert run_cell(lambda config: 1.5, config, "train.py", str) == 1.5

        def stopped(config: DictConfig) -> float:
            raise Stopped(signal.SIGUSR2)

        with pytest.raises(SystemExit) as ended:
            run_cell(stopped, config, "train.py", str)
        assert ended.value.code == 0  # the first asks Slurm to start the job again, and must not be ended
    assert [file.name for file in tmp_path.iterdir()] == ["cell.lock"]


def test_a_plan_keeps_the_names_that_cells_have(tmp_path: Path) -> None:
    plan = Plan.read(tmp_path)
    assert plan.add("a" * 16, "seed=1", ["seed=1"]) == "seed=1"
    plan.write(tmp_path)
    again = Plan.read(tmp_path)
    assert again.add("a" * 16, "seed=1,objective.beta=1", ["seed=1", "objective.beta=1"]) == "seed=1"
    assert [cell.folder.name for cell in read_cells(tmp_path)] == ["seed=1"]
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        read_cells(tmp_path / "nowhere")


def test_names_hold_what_differs_and_no_two_are_alike() -> None:
    job = ["model=mlp_vae", "model.latent_dim=2", "data.root='/a b/c'"]
    assert cell_name(job, ["model.latent_dim", "data.root"], "0123456789abcdef") == (
        "model.latent_dim=2,data.root=_a_b_c_-01234567"
    )
    assert cell_name(job, [], "0123456789abcdef") == "defaults-01234567"
    long = [f"model.latent_dim={'1' * 500}"]
    assert cell_name(long, ["model.latent_dim"], "0" * 16) != cell_name(long, ["model.latent_dim"], "1" * 16)
    assert len(cell_name(long, ["model.latent_dim"], "0" * 16)) < 140


@pytest.mark.parametrize("letter", ["ä", "漢", "𒀀"])
def test_names_of_cells_fit_file_systems_in_bytes(tmp_path: Path, letter: str) -> None:
    """Whose limit is 255 of them: characters of two, three and four bytes, none cut in two."""
    for length in range(90, 124):
        name = cell_name([f"data.root={letter * length}"], ["data.root"], "0" * 16)
        (tmp_path / f".partial-{name}").mkdir(exist_ok=True)
        shown = name.removeprefix("data.root=").removesuffix("-00000000")
        assert set(shown) == {letter} and len(name.encode()) > 120


def test_a_job_gets_slots_on_different_gpus() -> None:
    free: list[str | None] = ["0", "1", "0", "1"]
    assert take(free, 2) == ["0", "1"] and free == ["0", "1"]
    assert take(free, 3) == [] and free == ["0", "1"]
    assert take(free, 1) == ["0"] and take(free, 2) == [] and take(free, 1) == ["1"] and take(free, 1) == []
    cores: list[str | None] = [None, None]
    assert take(cores, 2) == [None, None] and cores == []


def test_a_job_that_asks_for_more_than_there_is_gets_all_of_it() -> None:
    free: list[str | None] = [None, None]
    assert take(free, 8, all_free=True) == [None, None] and free == []


@pytest.mark.parametrize(
    ("told", "gpus"),
    [
        ("", []), ("3", ["3"]), ("0,2", ["0", "2"]), ("-1", []), ("0,-1,1", ["0"]), ("0, 1", ["0", "1"]), ("0,0", []),
        ("NoDevFiles", []), ("GPU-8f4c,MIG-11", ["GPU-8f4c", "MIG-11"]),
    ],
)  # fmt: skip
def test_visible_gpus_are_those_that_cuda_would_see(
    monkeypatch: pytest.MonkeyPatch, told: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert visible_gpus() == gpus


def test_which_jobs_need_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")  # of an allocation in whose shell one process was started
    assert not needs_processes({"devices": 1, "strategy": "auto"}) and not needs_processes({})
    assert needs_processes({"devices": 2, "strategy": "auto"}) and needs_processes({"devices": "auto"})
    assert needs_processes({"devices": 1, "strategy": "ddp"}) and needs_processes({"devices": 1, "num_nodes": 2})
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")  # srun has started them
    assert not needs_processes({"devices": 2, "strategy": "ddp"})


def test_overrides_of_a_single_run() -> None:
    assert alone(["sweep=seeds", "seed=1", "trial={number:1}"]) == ["seed=1"]
    assert quoted("it's") == r"'it\'s'"


def test_a_job_as_a_command_has_all_that_its_config_is_made_of() -> None:
    """Where configs are and Hydra's own settings, but for those of the sweep; none of them twice."""
    sources = [("hydra", "pkg", "hydra.conf"), ("main", "file", "/here/conf"), ("command-line", "file", "/my own")]
    hydra = OmegaConf.create(
        {
            "runtime": {
                "config_sources": [{"provider": who, "schema": what, "path": path} for who, what, path in sources]
            },
            "job": {"config_name": "config"},
            "sweep": {"dir": "outputs/one two"},
            "overrides": {
                "hydra": [
                    "hydra/launcher=basic", "hydra.launcher.n_jobs=2", "hydra/sweeper=optuna", "hydra.mode=MULTIRUN",
                    "hydra.sweeper.storage=secret", "hydra/sweeper/sampler=random", "hydra.sweep.dir='outputs/one two'",
                    "hydra.job.name=mine", "+hydra.job.env_set.A=b", "hydra.searchpath=[file:///more]",
                ],
                "task": ["sweep=own", "experiment=own", "~callbacks.progress", "trial={number:1}"],
            },
        }
    )  # fmt: skip
    assert plain_command("train.py", hydra, Path("/cell")) == [  # type: ignore[arg-type]
        sys.executable, "train.py", "--config-path", "/here/conf", "--config-dir", "/my own", "--config-name", "config",
        "hydra.job.name=mine", "+hydra.job.env_set.A=b", "hydra.searchpath=[file:///more]", "experiment=own",
        "~callbacks.progress", "hydra.sweep.dir='outputs/one two'", "hydra.run.dir=/cell", "resume=auto",
    ]  # fmt: skip
    words = ["python", "train.py", "-m", "-cd", "/my own", "seed=1", "--config-name=other", "hydra.searchpath=[x]"]
    assert config_words(words) == ["-cd", "/my own", "--config-name=other", "hydra.searchpath=[x]"]


@pytest.mark.parametrize(("seconds", "told"), [(4.2, "4 s"), (99, "99 s"), (600, "10 min"), (7200, "2 h 00 min")])
def test_durations_are_for_people(seconds: float, told: str) -> None:
    assert duration(seconds) == told
