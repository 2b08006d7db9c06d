"""`nelbo push`: a finished model, with its model card, to the Hugging Face Hub."""

from __future__ import annotations

from nelbo.commands.parser import Parser, boolean, fail, prepared
from nelbo.errors import NelboError
from nelbo.finished.arguments import AT, numbers, packages

EPILOG = """The model is exported as by nelbo export, and all files are uploaded as one commit. Log in before with
`hf auth login`, or set HF_TOKEN. In Python, nelbo.load("hf://OWNER/NAME") loads what was uploaded as safetensors;
nelbo pull downloads it for the other commands."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "push",
        "run=PATH repo=OWNER/NAME [format=safetensors,onnx] [private=false] [at.NAME=VALUE]",
        "Upload a trained model, with a model card (README.md), to the Hugging Face Hub.",
        EPILOG,
    )
    made.key("run", "PATH", "a run's directory (its best.ckpt) or a checkpoint", required=True)
    made.key("repo", "OWNER/NAME", "the repository, made if it is new; @BRANCH for another branch", required=True)
    made.key("format", "NAME", "safetensors (default), onnx, torch.export; several by commas", default="safetensors")
    made.key("private", "true|false", "a new repository is private unless this is false", type=boolean, default=True)
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that the model is made of", default="")
    return made


def main() -> None:
    """Read the command line and upload; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, settings = parser().read(arguments, others=AT)
        setting = numbers(AT, {key.removeprefix(AT): value for key, value in settings.items()})
        from nelbo.finished.hub import push  # seconds to import, which --help does without
        from nelbo.finished.run import FinishedRun

        run = FinishedRun.open(values.run, packages(values.allow_targets), key="run", setting=setting)
        for line in push(run, values.repo, values.format.split(","), values.private):
            print(line)
    except NelboError as error:
        fail(error)


if __name__ == "__main__":
    main()
