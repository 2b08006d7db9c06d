"""`nelbo draw`: pictures of a finished run."""

from __future__ import annotations

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nelbo.commands.hydra_command import hydra_command
from nelbo.composing.places import SHIPPED
from nelbo.errors import USAGE_ERROR, NelboError
from nelbo.finished.arguments import add_keys, quote_runs
from nelbo.messages.aliases import OPTION_ALIASES
from nelbo.messages.arguments import usage_error
from nelbo.terminal.programs import program

KINDS = sorted(file.stem for file in (SHIPPED / "picture").glob("*.yaml"))


def task(config: DictConfig) -> None:
    """Draw what a composed config asks for, and print where."""
    from nelbo.finished.draw import draw  # seconds to import, which --help and most errors do without

    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    print(draw(HydraConfig.get().runtime.choices["picture"], plain))  # type: ignore[arg-type]


def with_kind(arguments: list[str]) -> list[str]:
    """Return the arguments with the one that names a kind of picture, wherever it stands, as Hydra reads it.

    Raises:
        NelboError: for none, for two, and for another word in its place.
    """
    arguments = [argument.removeprefix("picture=") for argument in arguments]
    kinds = [argument for argument in arguments if argument in KINDS]
    if len(kinds) == 1:
        others = [argument for argument in arguments if argument not in kinds]
        return [f"picture={kinds[0]}", *quote_runs(add_keys(others))]
    how = f"{program('draw')} {'|'.join(KINDS)} run=... [out=FILE]"
    if kinds:
        raise NelboError(f"{' '.join(kinds)}: one kind of picture at a time; usage: {how}")
    if {"--help", "-h"} & set(arguments):
        return arguments
    first = next(iter(arguments), "")
    other_names = {name: options[0] for name, options in OPTION_ALIASES["picture"].items()}
    raise usage_error("" if "=" in first else first, KINDS, how, other_names)


def main() -> None:
    """Read the command line and draw."""
    try:
        sys.argv[1:] = with_kind(sys.argv[1:])
    except NelboError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    hydra_command("draw", task)()


if __name__ == "__main__":
    main()
