"""Checks of interfaces of other packages, whose failures name the package, its installed version and the interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import pytest


@contextmanager
def interface(package: str, name: str) -> Iterator[None]:
    """A context in which any failure is reported as that of an interface.

    Args:
        package: the name of the distribution, such as hydra-core.
        name: the interface, such as `hydra.core.global_hydra.GlobalHydra`.
    """
    try:
        yield
    except Exception as error:
        pytest.fail(f"{package} {version(package)}: {name} has changed: {type(error).__name__}: {error}")
