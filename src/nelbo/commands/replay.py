"""`nelbo replay`: the last step of a run that diverged, computed again."""

from __future__ import annotations

import sys
from pathlib import Path

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import NelboError
from nelbo.finished.arguments import DATA, packages

NOT_REPRODUCED = 1


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "replay",
        "bundle=FILE [allow_targets=[PACKAGE.,...]] [data.root=NEW]",
        "Compute the last step of a run that diverged again: its terms, its batch, and the first module whose output\n"
        "is not finite.",
        "The exit status is 0 if the step fails again as it did, and 1 if not.",
    )
    made.key("bundle", "FILE", "the crash bundle, such as outputs/.../crash/step-000123.pt", required=True)
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that model or data are made of", default="")
    return made


def main() -> None:
    """Read the command line and replay; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, others = parser().read(arguments, others=DATA)
        moved = {key.removeprefix(DATA): value for key, value in others.items()}
        allow = packages(values.allow_targets)
        from nelbo.finished.replay import replay  # seconds to import, which --help does without
        from nelbo.finished.replay_table import print_replay

        done = replay(Path(values.bundle), allow, moved)
    except NelboError as error:
        fail(error)
    print_replay(done)
    sys.exit(0 if done.is_reproduced else NOT_REPRODUCED)


if __name__ == "__main__":
    main()
