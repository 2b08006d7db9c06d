"""Failures of tests of private interfaces, which name what an upgrade has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.metadata import version

import pytest


@contextlib.contextmanager
def interface(package: str, name: str, wrapped_in: str = "compat.py of the room") -> Iterator[None]:
    """Fail with the package, its installed version and the interface, if anything in the context fails.

    Args:
        package: the distribution, as pip names it.
        name: of the interface.
        wrapped_in: the file that wraps it.
    """
    try:
        yield
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    pytest.fail(f"{package} {version(package)} has changed `{name}`, which {wrapped_in} wraps: {reason}", pytrace=False)
