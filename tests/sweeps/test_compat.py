"""Private interfaces of other packages: when an upgrade changes one, its test names package, version and interface."""

from __future__ import annotations

import ast
import contextvars
import functools
import inspect
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra.utils
import joblib
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_class
from joblib.externals.loky import get_reusable_executor
from omegaconf import OmegaConf

from hydra_plugins.nelbo_sweeps.local_launcher import LocalLauncher
from tests.helpers import interfaces
from tests.helpers.forks import ROOT

try:
    from nelbo.sweeps import compat
except ImportError as error:
    package = packages_distributions()[str(error.name).partition(".")[0]][0]
    raise ImportError(f"{package} {version(package)} has changed, see src/nelbo/sweeps/compat.py: {error}") from error

HYDRA, OPTUNA, SUBMITIT = "hydra-core", "hydra-optuna-sweeper", "hydra-submitit-launcher"
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}

interface = functools.partial(interfaces.interface, wrapped_in="src/nelbo/sweeps/compat.py")
needs_optuna = pytest.mark.skipif(not compat.HAS_OPTUNA, reason="needs the sweep extra: optuna")
needs_submitit = pytest.mark.skipif(not compat.HAS_SUBMITIT, reason="needs the sweep extra: submitit")
needs_ray = pytest.mark.skipif(not find_spec("hydra_plugins.hydra_ray_launcher"), reason="needs the sweep extra: ray")


def test_a_failure_names_package_version_and_interface() -> None:
    message = rf"^hydra-core {version(HYDRA)} has changed `JobReturn.other`.*/compat.py wraps: AttributeError: "
    with pytest.raises(pytest.fail.Exception, match=message), interface(HYDRA, "JobReturn.other"):
        _ = JobReturn().other  # type: ignore[attr-defined]


def test_is_basic_launcher() -> None:
    with interface(HYDRA, "hydra._internal.core_plugins.basic_launcher.BasicLauncher"):
        Plugins.instance()  # looks for plugins, as Hydra does before it makes a launcher
        target = ConfigStore.instance().load("hydra/launcher/basic.yaml").node._target_
        assert compat.is_basic_launcher(get_class(target)())
        assert not compat.is_basic_launcher(LocalLauncher(None, None))


def test_combinations() -> None:
    with interface(HYDRA, "hydra._internal.core_plugins.basic_sweeper.BasicSweeper.split_arguments"):
        overrides = OverridesParser.create().parse_overrides(["seed=1,2", "model=mlp_vae", "beta=range(3,5)"])
        assert compat.combinations(overrides) == [
            ["seed=1", "model=mlp_vae", "beta=3"],
            ["seed=1", "model=mlp_vae", "beta=4"],
            ["seed=2", "model=mlp_vae", "beta=3"],
            ["seed=2", "model=mlp_vae", "beta=4"],
        ]


def test_apply_overrides() -> None:
    with interface(HYDRA, "hydra._internal.config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config"):
        config = OmegaConf.create({"seed": 1, "beta": 2})
        OmegaConf.set_struct(config, True)
        overrides = OverridesParser.create().parse_overrides(["seed=3", "~beta", "+more=4"])
        compat.apply_overrides(overrides, config)
        assert config == {"seed": 3, "more": 4}
        with pytest.raises(HydraException, match="Could not override 'sead'"):
            compat.apply_overrides(OverridesParser.create().parse_overrides(["sead=3"]), config)


def test_outcome() -> None:
    with interface(HYDRA, "JobReturn._return_value"):
        done, failed, error = JobReturn(status=JobStatus.COMPLETED), JobReturn(status=JobStatus.FAILED), OSError("full")
        done.return_value, failed.return_value = 1.5, error
        assert compat.outcome(done) == 1.5 and compat.outcome(failed) is error


def test_allow_instantiation() -> None:
    def instantiate() -> Any:
        return hydra.utils.instantiate({"_target_": "fractions.Fraction", "numerator": 3})

    def widen() -> None:
        if hasattr(hydra.utils, "execution_whitelist"):  # not in Hydra 1.3
            hydra.utils.execution_whitelist(["collections.*"]).__enter__()
            with pytest.raises(InstantiationException):
                instantiate()
        compat.allow_instantiation(["fractions.*"])
        assert instantiate() == 3

    with interface(HYDRA, "hydra.utils.execution_whitelist"):
        contextvars.copy_context().run(widen)


def test_loky_worker() -> None:
    with interface("joblib", "LokyProcess.name"):
        assert compat.loky_worker() is None
        try:
            numbers = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(compat.loky_worker)() for _ in range(2))
        finally:
            get_reusable_executor().shutdown(wait=True)
        assert all(number >= 1 for number in numbers)


@needs_optuna
def test_set_trial_attribute() -> None:
    import optuna

    with interface("optuna", "Study._storage.set_trial_user_attr and Trial._trial_id"):
        study = optuna.create_study()
        compat.set_trial_attribute(study, study.ask(), "asked", True)
        compat.set_trial_attribute(study, study.get_trials()[0], "read", [1])
        assert study.get_trials()[0].user_attrs == {"asked": True, "read": [1]}


@needs_optuna
def test_read_space() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    arguments = ["a=range(2,9)", "b=tag(log,interval(1e-4,1.0))", "c=choice(x,y)", "model.d=3", "~e"]
    with interface(OPTUNA, "hydra_plugins.hydra_optuna_sweeper._impl.create_params_from_overrides"):
        space, fixed, deletions = compat.read_space(arguments)
        assert space == {
            "a": IntDistribution(2, 8),
            "b": FloatDistribution(1e-4, 1.0, log=True),
            "c": CategoricalDistribution(["x", "y"]),
        }
        assert fixed == {"model.d": "3"} and deletions == ["~e"]


@needs_optuna
def test_study_sweeper() -> None:
    import optuna
    from optuna.distributions import BaseDistribution, IntDistribution
    from optuna.trial import FixedTrial

    with interface(OPTUNA, "OptunaSweeper.sweeper"):
        sampler = OmegaConf.create({"_target_": "optuna.samplers.RandomSampler", "seed": 1})
        params = OmegaConf.create({"a": "range(2,9)"})
        sweeper = compat.StudySweeper(sampler, ["minimize", "maximize"], "url", "mine", 20, 2, 1.0, None, params)
        context: Any = SimpleNamespace(config_loader=None)
        config = OmegaConf.create({"hydra": {"launcher": BASIC, "sweep": {"dir": "nowhere"}}})
        sweeper.setup(hydra_context=context, task_function=print, config=config)
        assert sweeper.setting()[:2] == (config, context) and compat.is_basic_launcher(sweeper.setting()[2])
        assert isinstance(sweeper.sampler, optuna.samplers.RandomSampler)
        assert (sweeper.storage, sweeper.study_name, sweeper.n_trials, sweeper.n_jobs) == ("url", "mine", 20, 2)
    with interface(OPTUNA, "OptunaSweeperImpl._get_directions"):
        assert sweeper.directions() == ["minimize", "maximize"]
    with interface(OPTUNA, "OptunaSweeperImpl._process_searchspace_config and ._parse_sweeper_params_config"):
        assert sweeper.parameters() == ["a=range(2,9)"]
        assert compat.StudySweeper(sampler, ["minimize"], "url", "mine", 1, 1, 1.0, None, None).parameters() == []
    with interface(OPTUNA, "OptunaSweeperImpl._configure_trials"):
        space: dict[str, BaseDistribution] = {"a": IntDistribution(2, 8)}
        trial = optuna.create_study().ask()
        fixed, asked = sweeper.suggest([FixedTrial({"a": 5}), trial], space, {"model.d": "3"}, ["~e"])
        assert list(fixed) == ["a=5", "model.d=3", "~e"]
        assert list(asked) == [f"a={trial.params['a']}", "model.d=3", "~e"]


@needs_submitit
def test_submitit_launcher(tmp_path: Path) -> None:
    from hydra_plugins.nelbo_sweeps.submitit_launchers import PatientLocalLauncher

    with interface(SUBMITIT, "BaseSubmititLauncher.params"):
        launcher = PatientLocalLauncher(submitit_folder=str(tmp_path), timeout_min=3, at_once=2, mem_gb=None)
        assert launcher.params["timeout_min"] == 3
    with interface(SUBMITIT, "BaseSubmititLauncher.__call__"):
        arguments = launcher.job_arguments(["seed=1"], 7)
        names = list(inspect.signature(compat.BaseSubmititLauncher.__call__).parameters)
        assert names == ["self", "sweep_overrides", "job_dir_key", "job_num", "job_id", "singleton_state"]
        assert dict(zip(names[1:-1], arguments, strict=False)) == {
            "sweep_overrides": ["seed=1"], "job_dir_key": "hydra.sweep.dir", "job_num": 7, "job_id": "job_id_for_7"
        }  # fmt: skip
    with interface(SUBMITIT, "hydra_plugins.hydra_submitit_launcher.config.BaseQueueConf"):
        shared = launcher.shared_options()
        assert {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"} <= shared
        assert not {"partition", "setup", "signal_delay_s", "max_num_timeout"} & shared


@needs_ray
def test_ray_launcher_takes_what_the_config_gives() -> None:
    """No interface is wrapped: `conf/hydra/launcher/ray.yaml` names the class of the plugin."""
    with interface("hydra-ray-launcher", "RayLauncher", wrapped_in="conf/hydra/launcher/ray.yaml"):
        config = OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / "ray.yaml")
        launcher = get_class(config.pop("_target_"))(**config)
        assert callable(launcher.launch)


def test_sweeps_import_without_the_extra() -> None:
    plugins = [f"hydra_plugins.nelbo_sweeps.{name}" for name in ("optuna_sweeper", "submitit_launchers")]
    modules = ["nelbo.sweeps.compat", *plugins]
    lines = [
        "import importlib, sys",
        "sys.modules.update(dict.fromkeys(['optuna', 'submitit', 'ray']))",
        f"compat, optuna, submitit = map(importlib.import_module, {modules})",
        "assert not compat.HAS_OPTUNA and not compat.HAS_SUBMITIT",
        "assert not hasattr(optuna, 'SearchSweeper') and not hasattr(submitit, 'PatientLocalLauncher')",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FILES = [*(ROOT / "src/nelbo/sweeps").glob("*.py"), *(ROOT / "src/hydra_plugins/nelbo_sweeps").glob("*.py")]


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "compat.py"], ids=lambda file: file.name)
def test_private_names_of_others_are_used_in_compat_only(file: Path) -> None:
    private: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom | ast.Import):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            names = [part for module in modules for part in module.split(".")] + [one.name for one in node.names]
            private += [name for name in names if name.startswith("_") and name != "__future__"]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            private += [] if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") else [node.attr]
    assert not private
