"""Models on the Hugging Face Hub: references, downloads, and errors of the hub as one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nelbo.errors import ConfigError, NelboError, first_line

PREFIX = "hf://"
MODEL = "model.safetensors"
"""The file of a repository that is read; nothing else in it is."""

INSTALL = "needs packages: pip install huggingface_hub safetensors"
REPO_HINT = "must be OWNER/NAME of letters, digits, '-', '_' and '.', with @REVISION behind it if need be"

_REFERENCE = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """A repository of a model on the hub.

    Args:
        repo: its owner and name, `owner/name`.
        revision: a branch, tag or commit; None for the main branch.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def read(cls, text: object, key: str = "repo") -> Reference:
        """Return the reference that is typed as OWNER/NAME or OWNER/NAME@REVISION, with or without `hf://`.

        Raises:
            ConfigError: for any other text.

        Example:
            >>> Reference.read("hf://someone/conv_vae-mnist@v1")
            Reference(repo='someone/conv_vae-mnist', revision='v1')
        """
        found = _REFERENCE.fullmatch(str(text).removeprefix(PREFIX))
        if found is None:
            raise ConfigError(key, text, REPO_HINT, located=True)
        return cls(found["repo"], found["revision"])

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}{f'@{self.revision}' if self.revision else ''}"


def is_reference(path: str | Path) -> bool:
    """Return whether a path is `hf://...`."""
    return isinstance(path, str) and path.startswith(PREFIX)


def api() -> Any:
    """Return the module huggingface_hub.

    Raises:
        NelboError: if it is not installed.
    """
    try:
        import huggingface_hub
        import safetensors  # noqa: F401 # the files are of this kind
    except ModuleNotFoundError as error:
        raise NelboError(f"the Hugging Face Hub {INSTALL}") from error
    return huggingface_hub


def download(reference: Reference, file: str = MODEL, folder: Path | None = None) -> Path:
    """Return a file of a repository, downloaded into the cache of huggingface_hub or into a folder.

    A file that is in the cache already is not downloaded again; without a network it is used as it is.

    Args:
        reference: the repository.
        file: the name of the file.
        folder: where to write it; None for the cache (`HF_HOME`).

    Raises:
        NelboError: if it cannot be had, with what the hub says.
    """
    module = api()
    with one_line(str(reference), file):
        return Path(module.hf_hub_download(reference.repo, file, revision=reference.revision, local_dir=folder))


@contextlib.contextmanager
def one_line(what: str, file: str = MODEL) -> Iterator[None]:
    """Raise errors of the hub within a block as one line.

    Args:
        what: what the block is about, such as a reference.
        file: the file that it asks for.

    Raises:
        NelboError: for an error of the hub, the network or the disk.
    """
    from huggingface_hub import errors

    network_error: type[Exception] = vars(errors)["HTTPError"]  # of the HTTP library that it uses

    try:
        yield
    except errors.RemoteEntryNotFoundError as error:
        raise NelboError(f"{what}: has no {file}; nelbo push writes it") from error
    except errors.RevisionNotFoundError as error:
        raise NelboError(f"{what}: no such revision") from error
    except errors.RepositoryNotFoundError as error:
        raise NelboError(
            f"{what}: no such repository, or it is not yours to read: hf auth login, or HF_TOKEN"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise NelboError(f"{what}: is not in the cache, and the hub cannot be reached: {_cause(error)}") from error
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = "; log in with hf auth login, or set HF_TOKEN" if status in (None, 401, 403) else ""
        raise NelboError(f"{what}: {first_line(error)}{hint}") from error
    except errors.HFValidationError as error:
        raise ConfigError("repo", what, first_line(error), located=True) from error
    except (OSError, network_error) as error:
        raise NelboError(f"{what}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Return the first line of the innermost cause of an error."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)
