"""`nelbo data`: which data sets there are; fetches them ahead, shows and verifies them."""

from __future__ import annotations

import logging

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.composing.command import Command
from nelbo.composing.places import PRIMARY, SHIPPED
from nelbo.errors import NelboError
from nelbo.messages.arguments import usage_error
from nelbo.messages.explain import explain
from nelbo.terminal.programs import program

VERBS = ("list", "fetch", "show", "verify")
OTHER_VERBS = {
    **dict.fromkeys(("download", "get", "pull", "prepare"), "fetch"),
    **dict.fromkeys(("check", "validate"), "verify"),
    **dict.fromkeys(("view", "plot", "draw", "look"), "show"),
    **dict.fromkeys(("ls", "sets"), "list"),
}
"""Other words for the verbs."""

EXAMPLES = """verbs:
  list                       all data sets
  fetch [mnist cifar10 ...]  without names: everything
  show cifar10 [data.protocol=...] [out=cifar10.png]
  verify [mnist cifar10 ...] without names: everything in the cache, memory maps too"""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "data",
        f"{'|'.join(VERBS)} [set ...]",
        "Which data sets there are; fetch them ahead, look at one, verify their files.",
        EXAMPLES,
    )
    made.add_argument("verb", nargs="?", default="", help="what to do")
    made.add_argument("sets", nargs="*", help="data sets, each with overrides of its config behind it")
    return made


def main() -> None:
    """Read the command line and do what its verb says; bad arguments end in one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arguments = prepared()
    try:
        values, _ = parser().read(arguments)
        if values.verb not in VERBS:
            raise usage_error(values.verb, VERBS, f"{program('data')} {'|'.join(VERBS)} [set ...]", OTHER_VERBS)
        run(values.verb, [name.removeprefix("data=") for name in values.sets])  # as it is typed behind `train`
    except (NelboError, HydraException, OmegaConfBaseException) as error:
        fail(explain(error, Command(program("train"), SHIPPED, PRIMARY)))


def run(verb: str, names: list[str]) -> None:
    """Do what a verb says."""
    from nelbo.commands.data_sets import fetch_sets, join_overrides, list_sets, show_set, verify_sets  # slow to import

    if verb == "list":
        list_sets()
    elif verb == "show":
        show_set(names)
    else:  # as `list` prints them: binarized_mnist data.protocol=static
        {"fetch": fetch_sets, "verify": verify_sets}[verb](join_overrides(names))


if __name__ == "__main__":
    main()
