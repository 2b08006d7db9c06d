"""hydra/sweeper=optuna: a search that can be killed, and gives bad trials up."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.sweeps import begin, stop, sweep, wait_for

SEARCH = (
    "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0", "model=mlp_vae", "data=digits", "callbacks=none",
    "logger=none", "trainer=cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def trials(folder: Path) -> list[FrozenTrial]:
    if not (folder / "sweep.json").exists():  # the database is being made: who looks now would make it too
        return []
    study = optuna.load_study(study_name="nelbo", storage=f"sqlite:///{folder}/optuna.db")
    found = study.get_trials()
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    return found


def finished(folder: Path) -> list[FrozenTrial]:
    return [trial for trial in trials(folder) if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def test_a_search_that_is_killed_goes_on_to_its_total(tmp_path: Path) -> None:
    space = ("model.latent_dim=range(2,33)", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "trainer.max_epochs=2")
    process = begin(tmp_path, *SEARCH, *space)
    wait_for(lambda: len(finished(tmp_path)) >= 8 or process.poll() is not None, 120)
    stop(process, signal.SIGKILL)
    before = {trial.number for trial in finished(tmp_path)}
    assert 8 <= len(before) < 20
    done = sweep(tmp_path, *SEARCH, *space)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 20 trials are finished" in done.stderr
    now = trials(tmp_path)
    assert len(finished(tmp_path)) == 20 and not [trial for trial in now if trial.state == TrialState.RUNNING]
    # What was left running has been failed, and asked for again with the same values: those that it had, for the kill
    # may come between the first and the second.
    for stale in (trial for trial in now if trial.state == TrialState.FAIL):
        assert [trial for trial in finished(tmp_path) if trial.params.items() >= stale.params.items()]
    told = json.loads((tmp_path / "optuna.json").read_text())
    complete = [trial for trial in now if trial.state == TrialState.COMPLETE]
    assert told["best"][0]["values"] == [min(trial.values[0] for trial in complete)]
    for trial in complete:  # what the study was told is what the cell measured
        assert trial.values[0] in {
            json.loads(path.read_text())["val/nelbo"] for path in tmp_path.glob("*/metrics.json")
        }
    enough = sweep(tmp_path, *SEARCH, *space)
    assert enough.returncode == 0 and len(trials(tmp_path)) == len(now)


def test_the_pruner_gives_up_a_bad_region(tmp_path: Path) -> None:
    """Learning rates that learn nothing against one that does."""
    space = ("model.latent_dim=8", "seed=range(1,100)", "optimizer.lr=choice(1e-8,2e-3)", "trainer.max_epochs=12")
    pruner = ("hydra.sweeper.pruner.n_startup_trials=3", "hydra.sweeper.pruner.n_warmup_steps=2")
    done = sweep(tmp_path, *SEARCH, *space, *pruner, "hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=14")
    assert done.returncode == 0, done.stderr
    # Three finished trials must be there before any is given up: the first two batches of two run to their end.
    bad = [trial for trial in finished(tmp_path) if trial.params["optimizer.lr"] == 1e-8 and trial.number >= 4]
    assert len(bad) >= 3 and {trial.state for trial in bad} == {TrialState.PRUNED}
    complete = [trial for trial in finished(tmp_path) if trial.state == TrialState.COMPLETE]
    assert min(complete, key=lambda trial: trial.values).params["optimizer.lr"] == 2e-3
    pruned = [trial for trial in trials(tmp_path) if trial.state == TrialState.PRUNED]
    assert all(2 <= trial.last_step < 12 for trial in pruned if trial.last_step is not None)
    states = [json.loads(path.read_text())["state"] for path in tmp_path.glob("*/cell.json")]
    assert states.count("pruned") == len(pruned) > 0 and "failed" not in states


def test_rate_against_distortion_is_a_front(tmp_path: Path) -> None:
    two = ("hydra.sweeper.metric=[val/kl,val/reconstruction]", "hydra.sweeper.n_trials=6", "trainer.max_epochs=3")
    done = sweep(tmp_path, *SEARCH, *two, "objective.beta=tag(log,interval(0.1,10))")
    assert done.returncode == 0 and "needs a single metric" in done.stderr, done.stderr
    front = [best["values"] for best in json.loads((tmp_path / "optuna.json").read_text())["best"]]
    assert len(trials(tmp_path)) == 6 and front
    for rate, distortion in front:
        assert not [other for other in front if other[0] < rate and other[1] < distortion]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("hydra.sweeper.direction=up", "hydra.sweeper.direction=up: must be one of minimize, maximize"),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: must be a whole number of at least 1"),
        ("model.latent_dim=8", "hydra/sweeper=optuna: has nothing to search"),
        ("hydra.sweeper.metric=val/elbo", "hydra.sweeper.metric=val/elbo: is not in metrics.json, which has: "),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(tmp_path: Path, bad: str, words: str) -> None:
    space = () if bad == "model.latent_dim=8" else ("seed=range(1,9)",)
    done = sweep(tmp_path, *SEARCH, "trainer=smoke", "hydra.sweeper.n_jobs=1", *space, bad)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {words}"), done.stderr
    assert "Traceback" not in done.stderr
