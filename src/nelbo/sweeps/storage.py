"""The URL of a search's database, which may hold a password.

It reaches the jobs in an environment variable. No file, log or list of processes of ours has it: in the config, from
which jobs are composed, and in the command line that is written down, a reference to the variable stands in its place.
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
    """Put the URL into the environment, and a reference to that wherever the config of a sweep has it.

    Returns:
        The command line as it may be written down.

    Raises:
        ConfigError: if there is no URL.
    """
    if not isinstance(url, str) or not url:
        raise ConfigError(KEY, url, "must be the URL of a database, such as sqlite:///search.db")
    if _password(url) and any(url in word for word in sys.argv):
        hint = f"{STORAGE}=URL {program('train')} ... '{KEY}={REFERENCE}' hides it"
        log.warning("%s: whoever lists the processes of this machine sees the password; %s", KEY, hint)
    os.environ[STORAGE] = url
    hydra = config.hydra
    typed = [word for word in hydra.overrides.hydra if _key(word) != KEY]
    with read_write(hydra), open_dict(hydra):
        hydra.sweeper.storage = REFERENCE
        hydra.overrides.hydra = [*without_url(typed, url), f"{KEY}={REFERENCE}"]
    HydraConfig.instance().set_config(config)  # it has a copy, which some launchers send to the jobs
    return without_url(sys.argv, url)


def without_url(words: Sequence[str], url: str) -> list[str]:
    """Words of a command line with a reference in place of the URL, also where it was typed with other quoting."""
    return [
        f"{KEY}={REFERENCE}" if _key(word) == KEY and "${" not in word else word.replace(url, REFERENCE)
        for word in words
    ]


def without_secrets(message: str, url: str) -> str:
    """What another library says of the database, without the URL and its password."""
    for secret in (url, _password(url), unquote(_password(url))):
        message = message.replace(secret, "***") if secret else message
    return message


def _password(url: str) -> str:
    match = re.search(r"://[^:/@]*:([^@]*)@", url)
    return match[1] if match else ""


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
