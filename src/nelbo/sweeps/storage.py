"""Hiding of the URL of a search's database, which may contain a password.

The URL reaches the jobs in an environment variable. It is not written to a file or a log, nor passed in the command
line of a job: in the config, from which jobs are composed, and in the recorded command line it is replaced by a
reference to the variable.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from urllib.parse import unquote

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from nelbo.config.checks import STORAGE
from nelbo.errors import ConfigError
from nelbo.terminal.programs import program

log = logging.getLogger(__name__)
KEY = "hydra.sweeper.storage"
REFERENCE = "${oc.env:" + STORAGE + "}"


def hide(url: object, config: DictConfig) -> list[str]:
    """Put the URL into the environment, and a reference to it wherever the config of a sweep contains it.

    Args:
        url: the URL.
        config: the composed config of the sweep, which is changed.

    Returns:
        The command line to record, with a reference in place of the URL.

    Raises:
        ConfigError: if the URL is empty or not a string.
    """
    if not isinstance(url, str) or not url:
        raise ConfigError(KEY, url, "must be the URL of a database, such as sqlite:///search.db")
    if _password(url) and any(url in argument for argument in sys.argv):
        hint = f"to hide it: {STORAGE}=URL {program('train')} ... '{KEY}={REFERENCE}'"
        log.warning("%s: the password is visible in the list of processes of this machine; %s", KEY, hint)
    os.environ[STORAGE] = url
    hydra = config.hydra
    typed = [override for override in hydra.overrides.hydra if _key(override) != KEY]
    with read_write(hydra), open_dict(hydra):
        hydra.sweeper.storage = REFERENCE
        hydra.overrides.hydra = [*without_url(typed, url), f"{KEY}={REFERENCE}"]
    HydraConfig.instance().set_config(config)  # a copy of the config, which some launchers send to the jobs
    return without_url(sys.argv, url)


def without_url(arguments: Sequence[str], url: str) -> list[str]:
    """Return arguments of a command line with a reference in place of the URL.

    The override of the URL's key is replaced as a whole, because it may be quoted differently from `url`; not if it is
    a reference already.
    """
    return [
        f"{KEY}={REFERENCE}" if _key(argument) == KEY and "${" not in argument else argument.replace(url, REFERENCE)
        for argument in arguments
    ]


def without_secrets(message: str, url: str) -> str:
    """Return an error message of another library with `***` in place of the URL and its password.

    >>> without_secrets("cannot connect to db://me:pw@host, password pw", "db://me:pw@host")
    'cannot connect to ***, password ***'
    """
    for secret in (url, _password(url), unquote(_password(url))):
        message = message.replace(secret, "***") if secret else message
    return message


def _password(url: str) -> str:
    """Return the password in a URL; empty if it has none."""
    match = re.search(r"://[^:/@]*:([^@]*)@", url)
    return match[1] if match else ""


def _key(override: str) -> str:
    """Return the key of an override, without the signs that add or delete."""
    return override.partition("=")[0].lstrip("+~")
