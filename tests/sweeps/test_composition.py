"""The configs of jobs that share a composition are those that Hydra composes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.sweeps.composition import Composition
from tests.helpers.command_lines import CONF

SMALL = ["model=mlp_vae", "data=digits", "trainer=smoke"]
JOBS = {
    "no override": [],
    "values": [*SMALL, "seed=3", "objective.beta=0.5", "optimizer.lr=1e-4"],
    "values before groups": ["seed=3", "model.latent_dim=7", "objective.beta={linear:{steps:20}}", *SMALL],
    "the same key twice": [*SMALL, "seed=3", "seed=4"],
    "another likelihood": [*SMALL, "likelihood=gaussian_optimal", "seed=1"],
    "an experiment": ["experiment=ppca", "seed=2"],
    "no logger": [*SMALL, "logger=none", "callbacks=none", "seed=2"],
    "an added key": [*SMALL, "+my=3", "model.latent_dim=${my}"],
    "an added or changed key": [*SMALL, "++my=3", "++seed=${my}"],
    "a deleted key": [*SMALL, "~optimizer.lr", "+optimizer.lr=0.1"],
    "a deleted group": [*SMALL, "~scheduler", "seed=1"],
    "a longer list": ["objective=wae", "objective.scales=[1,2]", "model=mlp_vae"],
    "a quoted value": [*SMALL, "init_from='a b=c'", "seed=1"],
    "a key of Hydra": [*SMALL, "hydra.job.chdir=true", "seed=1"],
    "a logger of Hydra": [*SMALL, "hydra/job_logging=none", "seed=1"],
}
ERRORS = {
    "an unknown key": [*SMALL, "sead=3"],
    "an unknown option": ["model=nothing", "seed=3"],
    "a key below a value": [*SMALL, "seed.more=3"],
    "a deletion of nothing": [*SMALL, "~sead"],
    "an addition of what exists": [*SMALL, "+seed=3"],
    "several values": [*SMALL, "seed=1,2"],
    "no package": [*SMALL, "nothing@model=mlp_vae"],
    "another launcher": [*SMALL, "hydra/launcher=basic", "seed=1"],
    "a wrong type": [*SMALL, "hydra.job.num=many"],
}


class CountingLoader:
    """Hydra's config loader, and the overrides of each composition."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader, self.composed = loader, list[list[str]]()

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        self.composed.append(overrides)
        return self.loader.load_sweep_config(master, overrides)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


@pytest.fixture(scope="module")
def hydra() -> Iterator[tuple[CountingLoader, DictConfig]]:
    """Return a loader, and the config of a sweep."""
    setup_globals()
    register_resolvers()
    with initialize_config_dir(str(CONF), **hydra_options()):
        loader = CountingLoader(GlobalHydra.instance().config_loader())
        arguments = ["hydra.sweep.dir=my/sweep", "hydra.launcher.n_jobs=1"]
        yield loader, loader.load_configuration("config", arguments, RunMode.MULTIRUN)


def content(config: DictConfig) -> tuple[str, bool | None, bool | None, object]:
    """Return all values with those of Hydra, unresolved, and what OmegaConf allows to do with them."""
    return (
        OmegaConf.to_yaml(config),
        OmegaConf.is_struct(config),
        OmegaConf.is_readonly(config.hydra),
        OmegaConf.get_type(config.hydra.job),
    )


@pytest.mark.parametrize("name", JOBS)
def test_a_config_is_that_of_hydra(hydra: tuple[CountingLoader, DictConfig], name: str) -> None:
    loader, master = hydra
    composition = Composition(loader, master)  # type: ignore[arg-type]
    composition.compose([*JOBS[name], "seed=100", "model.latent_dim=9"])  # leaves no trace in later configs
    found, expected = composition.compose(JOBS[name]), loader.loader.load_sweep_config(master, JOBS[name])
    assert content(found) == content(expected)


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_that_of_hydra(hydra: tuple[CountingLoader, DictConfig], name: str) -> None:
    loader, master = hydra
    errors = []
    for compose in (Composition(loader, master).compose, lambda job: loader.load_sweep_config(master, list(job))):  # type: ignore[arg-type]
        with pytest.raises(HydraException) as raised:
            compose(ERRORS[name])
        errors.append((type(raised.value), str(raised.value)))
    assert errors[0] == errors[1]


def test_jobs_that_differ_in_values_are_composed_once_and_launched_in_their_directories(
    hydra: tuple[CountingLoader, DictConfig],
) -> None:
    loader, master = hydra
    composition = Composition(loader, master)  # type: ignore[arg-type]
    jobs = [[*SMALL, f"seed={seed}", f"objective.beta={beta}"] for seed in range(3) for beta in (1, 2)]
    loader.composed.clear()

    def launched(job: Sequence[str]) -> list[str]:
        return composition.keep(job, f"hydra.sweep.subdir='{job[-2]}'")

    overrides = [launched(job) for job in jobs]
    taken = [composition.take(each) for each in overrides]
    assert loader.composed == [SMALL]
    for job, each, config in zip(jobs, overrides, taken, strict=True):
        assert each == [*job, f"hydra.sweep.subdir='{job[-2]}'"]
        assert content(config) == content(loader.loader.load_sweep_config(master, each))
    again = composition.take(overrides[0])  # a search launches a job again
    assert content(again) == content(taken[0]) and len(loader.composed) == 2


def test_a_resolver_gives_the_result_that_it_gave_to_the_sweep(hydra: tuple[CountingLoader, DictConfig]) -> None:
    loader, master = hydra
    composition = Composition(loader, master)  # type: ignore[arg-type]
    OmegaConf.update(master, "hydra.job.name", "${now:%f}", force_add=True)
    shown = master.hydra.job.name
    configs = [composition.compose([*SMALL, f"seed={seed}"]) for seed in range(3)]
    for config in configs:
        OmegaConf.update(config, "hydra.job.name", "${now:%f}", force_add=True)
    assert [config.hydra.job.name for config in configs] == [shown] * 3
