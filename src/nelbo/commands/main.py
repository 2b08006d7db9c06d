"""The command `nelbo`: its first word chooses what to do."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

from nelbo import __version__
from nelbo.errors import USAGE_ERROR

COMMANDS = {
    "train": "train a model, or many in a sweep: model=conv_vae data=mnist",
    "evaluate": "measure trained models: run=outputs/...",
    "draw": "draw pictures of a trained model: samples run=outputs/...",
    "explore": "explore the latent space of a trained model on a local page: run=outputs/...",
    "fold": "write one setting of a model that was trained for many: run=... at.beta=0.5 out=FILE",
    "export": "write a trained model as ONNX, torch.export or .safetensors: run=... format=onnx out=FOLDER",
    "push": "upload a trained model to the Hugging Face Hub: run=... repo=OWNER/NAME",
    "pull": "download a model from the Hugging Face Hub: repo=OWNER/NAME out=FOLDER",
    "impute": "fill in the missing values of a table: run=... data.path=FILE out=FILE",
    "sample": "draw rows from a model of tables: run=... rows=1000 out=FILE",
    "list": "the groups of the configs and their options, a line each: list model",
    "data": "list, fetch, show and verify data sets",
    "report": "write the report of a sweep: sweep=outputs/multirun/...",
    "replay": "compute the last step of a run that diverged again: bundle=outputs/.../crash/step-000123.pt",
    "reproduce": "train and evaluate a row of a paper: row=burda2016_vae_short",
}
"""The commands, each a module of this package, and what they do."""

ASKED_BY_SHELL = "_ARGCOMPLETE"
"""The variable with which a shell asks for completions."""

NO_WINDOWS = "error: nelbo's commands need Linux or macOS (fork, POSIX signals); on Windows they run in WSL 2"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the first word."""
    made = argparse.ArgumentParser(
        prog="nelbo",
        description="An experiment framework for variational autoencoders.",
        epilog="nelbo COMMAND --help shows the options of a command.",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"nelbo {__version__}")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help in COMMANDS.items():
        commands.add_parser(name, help=help, add_help=False)
    completion = commands.add_parser("completion", help="print what a shell reads for completion: bash, zsh or fish")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    if ASKED_BY_SHELL in os.environ:
        from nelbo.commands.completion import complete

        complete(made, [commands.choices[name] for name in COMMANDS])
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: what is typed behind `nelbo`; None: those of this process.
    """
    if sys.platform == "win32":
        print(NO_WINDOWS, file=sys.stderr)
        sys.exit(USAGE_ERROR)
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = parser().parse_args(words if words[:1] == ["completion"] else words[:1])
    if parsed.command == "completion":
        from nelbo.commands.completion import script

        print(script(parsed.shell))
        return
    command = parsed.command
    sys.argv[1:] = words[1:]
    begin(f"nelbo.commands.{command}")
    importlib.import_module(f"nelbo.commands.{command}").main()


def begin(module: str) -> None:
    """Let packages in the current directory be imported, and let more processes of this command start its module.

    A console script has its own folder at the front of the path of imports; the current directory comes last here, so
    that nothing in it hides an installed package. Lightning starts the other processes of a run by the name of the main
    module and the arguments, which lack the word that was taken off.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    sys.modules["__main__"].__spec__ = importlib.util.find_spec(module)
