"""Searches (hydra/sweeper=optuna): resuming, pruning, refusals, and the hiding of the URL of the database."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from nelbo.errors import ConfigError
from nelbo.sweeps.cells.record import Plan, SweepError, read_cells
from nelbo.sweeps.measured import KNOWN, NUMBERS, refuse_unknown
from nelbo.sweeps.search import SWEEP, read_space
from nelbo.sweeps.storage import REFERENCE, without_secrets, without_url
from nelbo.sweeps.sweep import Sweep
from tests.helpers.sweeps import start_sweep, stop, sweep, wait_for

SEARCH = (
    "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0", "model=mlp_vae", "data=digits", "callbacks=none",
    "logger=none", "trainer=cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def trials(folder: Path) -> list[FrozenTrial]:
    """Return the trials of the study in a sweep's directory."""
    if not Plan.read(folder).cells:  # the database may not exist yet, and opening it would create it
        return []
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/optuna.db")
    trials = optuna.load_study(study_name="nelbo", storage=storage).get_trials()
    storage.engine.dispose()
    return trials


def finished(folder: Path) -> list[FrozenTrial]:
    """Return the trials that are complete or were pruned."""
    return [trial for trial in trials(folder) if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


@pytest.mark.slow
def test_a_killed_search_is_resumed_to_its_total_number_of_trials(tmp_path: Path) -> None:
    space = ("model.latent_dim=range(2,33)", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "trainer.max_epochs=2")
    process = start_sweep(tmp_path, *SEARCH, *space)
    wait_for(lambda: len(finished(tmp_path)) >= 8 or process.poll() is not None, 120)
    stop(process, signal.SIGKILL)
    before = {trial.number for trial in finished(tmp_path)}
    assert 8 <= len(before) < 20
    done = sweep(tmp_path, *SEARCH, *space)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 20 trials are finished" in done.stderr
    now = trials(tmp_path)
    assert len(finished(tmp_path)) == 20 and not [trial for trial in now if trial.state == TrialState.RUNNING]
    # Trials that were left running have failed and were repeated with the values that they had, not all of them
    # if the kill came between the choices of two values.
    for stale in (trial for trial in now if trial.state == TrialState.FAIL):
        assert [trial for trial in finished(tmp_path) if trial.params.items() >= stale.params.items()]
    written = json.loads((tmp_path / "optuna.json").read_text())
    complete = [trial for trial in now if trial.state == TrialState.COMPLETE]
    assert written["best"][0]["values"] == [min(trial.values[0] for trial in complete)]
    for trial in complete:  # the study has the values that cells measured
        assert trial.values[0] in {
            json.loads(path.read_text())["val/nelbo"] for path in tmp_path.glob("*/metrics.json")
        }
    again = sweep(tmp_path, *SEARCH, *space)
    assert again.returncode == 0 and len(trials(tmp_path)) == len(now)


@pytest.mark.slow
def test_trials_with_bad_values_are_pruned(tmp_path: Path) -> None:
    """A learning rate with which nothing is learned, against one that learns."""
    space = ("model.latent_dim=8", "seed=range(1,100)", "optimizer.lr=choice(1e-8,2e-3)", "trainer.max_epochs=12")
    pruner = ("hydra.sweeper.pruner.n_startup_trials=3", "hydra.sweeper.pruner.n_warmup_steps=2")
    done = sweep(tmp_path, *SEARCH, *space, *pruner, "hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=14")
    assert done.returncode == 0, done.stderr
    # No trial is pruned before three have finished, so the first two batches of two are not.
    bad = [trial for trial in finished(tmp_path) if trial.params["optimizer.lr"] == 1e-8 and trial.number >= 4]
    assert len(bad) >= 3 and {trial.state for trial in bad} == {TrialState.PRUNED}
    complete = [trial for trial in finished(tmp_path) if trial.state == TrialState.COMPLETE]
    assert min(complete, key=lambda trial: trial.values).params["optimizer.lr"] == 2e-3
    pruned = [trial for trial in trials(tmp_path) if trial.state == TrialState.PRUNED]
    assert all(2 <= trial.last_step < 12 for trial in pruned if trial.last_step is not None)
    states = [json.loads(path.read_text())["state"] for path in tmp_path.glob("*/cell.json")]
    assert states.count("pruned") == len(pruned) > 0 and "failed" not in states


def test_two_metrics_give_a_pareto_front(tmp_path: Path) -> None:
    two = ("hydra.sweeper.metric=[val/kl,val/reconstruction]", "hydra.sweeper.n_trials=6", "trainer.max_epochs=3")
    done = sweep(tmp_path, *SEARCH, *two, "objective.beta=tag(log,interval(0.1,10))")
    assert done.returncode == 0 and "needs a single metric" in done.stderr, done.stderr
    front = [best["values"] for best in json.loads((tmp_path / "optuna.json").read_text())["best"]]
    assert len(trials(tmp_path)) == 6 and front
    for rate, distortion in front:
        assert not [other for other in front if other[0] < rate and other[1] < distortion]


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ("hydra.sweeper.direction=up", "hydra.sweeper.direction=up: must be one of minimize, maximize"),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: must be a whole number of at least 1"),
        ("model.latent_dim=8", "hydra/sweeper=optuna: has nothing to search"),
        ("hydra.sweeper.metric=val/elbo", "hydra.sweeper.metric=val/elbo: is not in metrics.json, which has: "),
        ("hydra.sweeper.metric=[val/kl,nelbo]", "hydra.sweeper.metric=nelbo: is not in metrics.json, which has: "),
        ("hydra/sweeper/sampler=grid", "hydra/sweeper/sampler=grid: is not for searches; without "),
        ("hydra.sweeper.storage=null", "hydra.sweeper.storage=null: must be the URL of a database, such as "),
        (
            "hydra.sweeper.storage='what://u:pass@h/x'",
            "hydra.sweeper: study nelbo cannot be opened: NoSuchModuleError: ",
        ),
    ],
)
def test_an_invalid_search_is_refused_before_its_first_trial(tmp_path: Path, invalid: str, message: str) -> None:
    space = () if invalid == "model.latent_dim=8" else ("seed=range(1,9)",)
    done = sweep(tmp_path, *SEARCH, "trainer=smoke", "hydra.sweeper.n_jobs=1", *space, invalid)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {message}"), done.stderr
    assert "Traceback" not in done.stderr and "u:pass@h" not in done.stderr
    assert not list(tmp_path.glob("*/cell.json"))


def test_a_search_accepts_the_metrics_that_runs_have(smoke_run: Path) -> None:
    """Another known metric would be refused only after the first trial; a missing one would be refused wrongly."""
    metrics = json.loads((smoke_run / "metrics.json").read_text())
    assert {key for key in metrics if "/" in key} <= set(KNOWN) and set(NUMBERS) <= set(metrics)
    with pytest.raises(ConfigError, match=r"; did you mean val/nelbo or test/nelbo\?$"):
        refuse_unknown("nelbo", closed=True)
    refuse_unknown("val/my_own", closed=False)  # a user's own callback may log it


SECRET = "hunter2"


@pytest.mark.parametrize(
    "launcher", ["local", *(pytest.param(name, marks=pytest.mark.slow) for name in ("joblib", "submitit_local", "ray"))]
)
def test_no_file_of_a_sweep_contains_the_url_of_its_search(tmp_path: Path, launcher: str) -> None:
    """Neither of successful trials nor of those that diverge and write a crash bundle with their config."""
    storage = f"hydra.sweeper.storage='sqlite:///{tmp_path}/study.db?password={SECRET}'"
    space = ("model.latent_dim=2", "optimizer.lr=choice(2e-3,1e18)", "seed=range(1,99)", "trainer.max_epochs=1")
    folder = tmp_path / "sweep"
    done = sweep(
        folder, "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1", *space, storage,
        "hydra.sweeper.n_trials=4", "model=mlp_vae", "data=digits", "threads=1", f"hydra/launcher={launcher}",
    )  # fmt: skip
    states = [json.loads(path.read_text())["state"] for path in folder.glob("*/cell.json")]
    assert set(states) == {"done", "failed"}, done.stderr
    files = [file for file in folder.rglob("*") if file.is_file()]
    names = " ".join(file.name for file in files)
    kinds = ("events.out.tfevents", "step-0", "overrides.yaml", "hydra.yaml", "cell.json", "train.log", "multirun.yaml")
    assert not [kind for kind in kinds if kind not in names]
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []
    assert SECRET not in done.stderr + done.stdout
    assert "${oc.env:NELBO_STORAGE}" in done.stderr  # in the command that resumes the search


def test_a_recorded_command_does_not_contain_the_url() -> None:
    url = "postgresql://me:pa%20ss@host/db"
    arguments = ["seed=1", f"hydra.sweeper.storage={url}", f"++hydra.sweeper.storage='{url}'", f"+mine={{db:{url}}}"]
    hidden = f"hydra.sweeper.storage={REFERENCE}"
    assert without_url(arguments, url) == ["seed=1", hidden, hidden, f"+mine={{db:{REFERENCE}}}"]
    own = ["hydra.sweeper.storage=${oc.env:MY_DB}"]
    assert without_url(own, url) == own
    message = f"could not connect to {url}: FATAL: the password pa ss (pa%20ss) is wrong"
    assert without_secrets("what://me:[x@h: pass", "what://me:[x@h") == "***: pass"
    assert without_secrets(message, url) == "could not connect to ***: FATAL: the password *** (***) is wrong"


def test_two_searches_of_one_study_leave_each_others_trials_alone(tmp_path: Path) -> None:
    """They have separate directories: a running trial of the other search was not left behind by a kill."""
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="nelbo", storage=url, direction="minimize")
    theirs = study.ask({"seed": optuna.distributions.IntDistribution(1, 8)})
    theirs.set_user_attr(SWEEP, "another directory's")
    done = sweep(
        tmp_path / "sweep", *SEARCH, "trainer=smoke", "seed=range(1,9)", "hydra.sweeper.n_trials=1",
        f"hydra.sweeper.storage='{url}'",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    states = [trial.state for trial in study.get_trials()]
    assert states[theirs.number] == TrialState.RUNNING and states.count(TrialState.COMPLETE) == 1
    token = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["token"]
    assert [trial.user_attrs[SWEEP] for trial in study.get_trials()] == ["another directory's", token]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("seed=1", "hydra/sweeper=optuna: has nothing to search"),
        ("modell.latent_dim=range(2,5)", "modell.latent_dim=range(2,5): there is no such key; did you mean model.lat"),
        ("model=choice(mlp_vae,mlp_vea)", "model=mlp_vea: there is no such option; did you mean mlp_vae?"),
    ],
)
def test_the_corrected_command_runs_in_the_directory_of_one_that_was_refused(
    tmp_path: Path, refused: str, message: str
) -> None:
    """No trial and no database was created, which would have stored the misspelt choices."""
    common = (*SEARCH, "trainer=smoke", "hydra.sweeper.n_trials=1")
    done = sweep(tmp_path, *common, refused)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {message}"), done.stderr
    assert not (tmp_path / "optuna.db").exists() and "report" not in done.stderr
    with pytest.raises(SweepError, match=r"its sweep.json lists no cells: the command ended before it requested any"):
        read_cells(tmp_path)
    corrected = sweep(
        tmp_path, *common, "model=choice(mlp_vae,linear_vae)" if "=choice" in refused else "seed=range(1,9)"
    )
    assert corrected.returncode == 0, corrected.stderr
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.COMPLETE]


def test_the_same_command_runs_in_a_directory_whose_search_was_killed_before_its_first_trial(tmp_path: Path) -> None:
    """The database exists, and no cell is planned yet."""
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with Sweep(config, None, None, [], []):  # type: ignore[arg-type]
        optuna.create_study(study_name="nelbo", storage=f"sqlite:///{tmp_path}/optuna.db", direction="minimize")
    done = sweep(tmp_path, *SEARCH, "trainer=smoke", "hydra.sweeper.n_trials=1", "seed=range(1,9)")
    assert done.returncode == 0 and len(finished(tmp_path)) == 1, done.stderr


def test_values_of_the_command_line_take_precedence_over_the_space_of_a_file() -> None:
    parameters = ["model.latent_dim=range(2,9)", "seed=1", "optimizer.lr=interval(1,2)"]
    sweeper: Any = SimpleNamespace(parameters=lambda: parameters)
    space, fixed, _ = read_space(sweeper, ["model.latent_dim=3", "seed=2", "seed=range(1,9)"])
    assert sorted(space) == ["optimizer.lr", "seed"] and fixed == {"model.latent_dim": "3"}
