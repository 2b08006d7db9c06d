"""The command of a single run that corresponds to a job of a sweep."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import OmegaConf

from nelbo.config.quoting import quoted
from nelbo.sweeps.cells.command import config_arguments, plain_command, single_run_overrides


def test_overrides_of_a_single_run() -> None:
    assert single_run_overrides(["sweep=seeds", "seed=1", "trial={number:1}"]) == ["seed=1"]
    assert quoted("it's") == r"'it\'s'"


def test_the_command_contains_all_sources_of_the_config_once() -> None:
    """The places of config files and the settings of Hydra itself, without those of the sweep."""
    sources = [("hydra", "pkg", "hydra.conf"), ("main", "file", "/here/conf"), ("command-line", "file", "/my own")]
    hydra = OmegaConf.create(
        {
            "runtime": {
                "config_sources": [dict(zip(("provider", "schema", "path"), source, strict=True)) for source in sources]
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
    assert plain_command(["train.py"], hydra, Path("/cell")) == [  # type: ignore[arg-type]
        sys.executable, "train.py", "--config-path", "/here/conf", "--config-dir", "/my own", "--config-name", "config",
        "hydra.job.name=mine", "+hydra.job.env_set.A=b", "hydra.searchpath=[file:///more]", "experiment=own",
        "~callbacks.progress", "hydra.sweep.dir='outputs/one two'", "hydra.run.dir=/cell", "resume=auto",
    ]  # fmt: skip
    arguments = ["python", "train.py", "-m", "-cd", "/my own", "seed=1", "--config-name=other", "hydra.searchpath=[x]"]
    assert config_arguments(arguments) == ["-cd", "/my own", "--config-name=other", "hydra.searchpath=[x]"]
