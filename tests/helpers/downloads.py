"""Skipping of tests that need published data sets which are neither in the cache nor downloadable."""

from __future__ import annotations

import functools
import os
import tempfile
from unittest import mock

import pytest

from nelbo.data.catalogue import CATALOGUE
from nelbo.data.fetch import fetch
from nelbo.errors import DataError

NO_RETRIES = mock.patch.dict(os.environ, {"npm_config_fetch_retries": "0"})
"""Environment in which npm fails at once without a network, instead of retrying for minutes."""


def needs(*names: str, network: bool = False) -> pytest.MarkDecorator:
    """Return a mark for a test that reads data sets.

    Args:
        names: the data sets.
        network: whether the test downloads them itself, even if they are in the cache.
    """
    return pytest.mark.downloads(*names, network=network)


def skip_without(item: pytest.Item) -> None:
    """Skip a test whose data sets are unavailable, and give the reason."""
    for marker in item.iter_markers("downloads"):
        if marker.kwargs.get("network") and (problem := no_network()):
            pytest.skip(f"needs a network: {problem}")
        for name in marker.args:
            if problem := unavailable(name):
                pytest.skip(f"needs data={name}: {problem}")


@functools.cache
def unavailable(name: str) -> str:
    """Return why a data set is neither in the cache nor downloadable; empty if it is in the cache afterwards."""
    entry = CATALOGUE[name]
    try:
        with NO_RETRIES:
            fetch(entry.files, entry.folder)
    except DataError as error:
        return str(error)
    return ""


@functools.cache
def no_network() -> str:
    """Return why downloads fail; empty if MNIST, a small data set, can be downloaded."""
    entry = CATALOGUE["mnist"]
    with tempfile.TemporaryDirectory() as cache, NO_RETRIES, mock.patch.dict(os.environ, {"NELBO_DATA": cache}):
        try:
            fetch(entry.files, entry.folder)
        except DataError as error:
            return str(error)
    return ""
