"""A finished model on the Hugging Face Hub: uploaded with its model card, and downloaded again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from nelbo.checkpoints.hub import MODEL, Reference, api, download, one_line
from nelbo.errors import ConfigError, first_line
from nelbo.finished.destination import refuse_full
from nelbo.finished.export import export
from nelbo.finished.model_card import FILE as CARD
from nelbo.finished.run import FinishedRun


def push(run: FinishedRun, repo: str, formats: Sequence[str], private: bool) -> list[str]:
    """Export a finished model and upload it, with its model card, as one commit.

    Args:
        run: the run.
        repo: the repository, OWNER/NAME or OWNER/NAME@BRANCH, which is made if it does not exist. Files that it has
            already and that are not written now remain.
        formats: what to export, names of `nelbo.finished.export.FORMATS`.
        private: whether a repository that is made can be read by its owner only; one that exists is left as it is.

    Returns:
        What was uploaded, a line each, and the commit's address.

    Raises:
        ConfigError: for another format, or if `repo` is no name of a repository.
        NelboError: if packages are missing, the model cannot be exported, or the hub refuses it.
    """
    reference, hub = Reference.read(repo), api().HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "exported"
        lines = export(run, formats, folder, weights=str(reference))
        with one_line(str(reference)):
            hub.create_repo(reference.repo, private=private, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=reference.repo,
                folder_path=folder,
                revision=reference.revision,
                commit_message=f"Upload {', '.join(formats)} with nelbo",
            )
        return [*(line.removeprefix(f"{folder}/") for line in lines), str(commit.commit_url)]


def pull(repo: str, out: Path) -> list[Path]:
    """Download a model and its card into a folder, from which all commands read the model.

    Args:
        repo: the repository, OWNER/NAME or OWNER/NAME@REVISION.
        out: the folder, which must not exist or be empty.

    Returns:
        The files.

    Raises:
        ConfigError: if `repo` is no name of a repository, or the folder has files in it or cannot be written.
        NelboError: if packages are missing, or the hub has no such model.
    """
    reference = Reference.read(repo)
    try:
        refuse_full(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            files = [download(reference, name, Path(scratch)) for name in (MODEL, CARD)]
            out.mkdir(exist_ok=True)
            return [file.rename(out / file.name) for file in files]
    except OSError as error:
        raise ConfigError(
            "out", out, f"cannot be written: {error.strerror or first_line(error)}", located=True
        ) from error
