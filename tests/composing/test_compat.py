"""The private and changing interfaces of Hydra and OmegaConf that `nelbo.composing.compat` wraps."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import NoReturn

import hydra
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import (
    check_options,
    compose_again,
    hydra_options,
    is_composing,
    main_options,
    parse_override,
    register_resolver,
    sweep_values,
)
from tests.helpers.forks import ROOT
from tests.helpers.interfaces import interface

CONF = str(ROOT / "conf")
HYDRA, OMEGACONF = "hydra-core", "omegaconf"


class Refused(Exception):
    """Raised by `refuse`."""


def refuse(message: str) -> NoReturn:
    raise Refused(message)


def test_options_by_version() -> None:
    with interface(HYDRA, "hydra.main, initialize_config_dir: version_base"):
        parameters = inspect.signature(hydra.main).parameters
        assert hydra_options().keys() <= parameters.keys()
        assert main_options(["logging.*"]).keys() <= parameters.keys()
        assert hydra_options().keys() <= inspect.signature(initialize_config_dir).parameters.keys()
        with initialize_config_dir(CONF, **hydra_options()):  # warnings are errors in tests
            pass


def test_hydra_gets_the_list_of_what_it_may_instantiate() -> None:
    with interface(HYDRA, "hydra.main: execution_whitelist"):
        options = main_options(["logging.*"])
        if "execution_whitelist" in inspect.signature(hydra.main).parameters:
            assert options == {"execution_whitelist": ("logging.*",)}
        hydra.main(config_path=CONF, config_name="config", **options)(lambda config: None)


def test_overrides_are_parsed() -> None:
    with interface(HYDRA, "hydra.core.override_parser.overrides_parser.OverridesParser.parse_override"):
        override = parse_override("+model.encoder.hidden=[200,'a b']")
        assert override.key_or_group == "model.encoder.hidden" and override.value() == [200, "a b"]
        assert parse_override("objective.beta={linear:{steps:9}}").value() == {"linear": {"steps": 9}}
        assert parse_override("hydra/launcher=local").key_or_group == "hydra/launcher"
        assert parse_override("seed={") is None and parse_override("seed") is None


def test_the_values_of_a_sweep_are_read() -> None:
    with interface(HYDRA, "hydra.core.override_parser.types.ChoiceSweep.list"):
        assert sweep_values(parse_override("seed=1,2").value()) == [1, 2]
        assert sweep_values(parse_override("data=[digits],mnist").value()) == [["digits"], "mnist"]
        for value in ("1", "[1,2]", "{a:1}", "range(1,4)", "text"):
            assert sweep_values(parse_override(f"seed={value}").value()) is None


def test_the_command_line_is_parsed() -> None:
    with interface(HYDRA, "hydra._internal.utils.get_args_parser"):
        check_options(["-m", "seed=1,2", "--config-dir", "mine"], refuse)
        check_options(["model=mlp_vae", "--cfg", "job"], refuse)
        with pytest.raises(Refused, match="^unrecognized arguments: --epochs$"):
            check_options(["seed=1", "--epochs"], refuse)
        with pytest.raises(Refused, match="^argument --cfg/-c: expected one argument$"):
            check_options(["--cfg"], refuse)


def test_the_running_hydra_composes_again() -> None:
    with interface(HYDRA, "hydra.core.global_hydra.GlobalHydra.config_loader().load_configuration"):
        register_resolvers()
        assert not is_composing()
        with initialize_config_dir(CONF, **hydra_options()):
            assert is_composing()
            config = compose_again("config", ["data=digits", "seed=3"])
            expected = compose("config", overrides=["data=digits", "seed=3"])
        assert "hydra" not in config and config == expected
        assert not is_composing()


def test_resolvers_are_registered() -> None:
    with interface(OMEGACONF, "OmegaConf.register_resolver (register_new_resolver in 2.3)"):
        calls: list[int] = []
        register_resolver("nelbo_count", lambda: calls.append(1) or len(calls))
        config = OmegaConf.create({"a": "${nelbo_count:}", "b": "${nelbo_count:}"})
        assert (config.a, config.b) == (1, 2)
        register_resolver("nelbo_count", lambda: calls.append(1) or len(calls), use_cache=True)  # in place of the first
        cached = OmegaConf.create({"a": "${nelbo_count:}", "b": "${nelbo_count:}"})
        assert cached.a == cached.b == 3
        OmegaConf.clear_resolver("nelbo_count")


def test_a_changed_interface_is_named_with_its_package_and_version() -> None:
    with pytest.raises(pytest.fail.Exception) as failure, interface(HYDRA, "hydra.main: version_base"):
        raise AttributeError("no version_base")
    message = str(failure.value)
    assert message.startswith(f"{HYDRA} {version(HYDRA)} has changed `hydra.main: version_base`")
    assert message.endswith("AttributeError: no version_base")
