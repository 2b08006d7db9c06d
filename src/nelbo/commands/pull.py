"""`nelbo pull`: a model from the Hugging Face Hub, for all commands."""

from __future__ import annotations

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import NelboError, path


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "pull",
        "repo=OWNER/NAME out=FOLDER",
        "Download a model that nelbo push uploaded to the Hugging Face Hub, with its model card.",
        "Then give the file to any command: nelbo evaluate run=FOLDER/model.safetensors",
    )
    made.key("repo", "OWNER/NAME", "the repository; @REVISION for a branch, tag or commit", required=True)
    made.key("out", "FOLDER", "a new folder", required=True)
    return made


def main() -> None:
    """Read the command line and download; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values = parser().read(arguments)[0]
        out = path("out", values.out)
        from nelbo.finished.hub import pull  # seconds to import, which --help does without

        for file in pull(values.repo, out):
            print(file)
    except NelboError as error:
        fail(error)


if __name__ == "__main__":
    main()
