"""The last step of a run that diverged, made again: its terms, its batch, and the first module that is not finite.

python scripts/replay.py bundle=outputs/.../crash/step-000123.pt     exit status 0 if it fails again as it did, 1 if not
python scripts/replay.py bundle=... allow_targets=[mypackage.]       of a model or data of your own
python scripts/replay.py bundle=... data.root=NEW                    of data that were moved
"""

from __future__ import annotations

import sys
from pathlib import Path

from nelbo.errors import USAGE_ERROR, NelboError
from nelbo.finished.arguments import DATA, packages
from nelbo.messages.words import arguments, print_help
from nelbo.terminal.streams import outlive_readers

USAGE = "usage: python scripts/replay.py bundle=FILE [allow_targets=[PACKAGE.,...]] [data.root=NEW]"
NOT_REPRODUCED = 1


def main(typed: list[str]) -> None:
    """Read `key=value` arguments; bad ones end in one line and exit status 2."""
    print_help(typed, __doc__)
    try:
        given = arguments(typed, ["bundle"], ["allow_targets", DATA], USAGE)
        moved = {key.removeprefix(DATA): given.pop(key) for key in list(given) if key.startswith(DATA)}
        allow = packages(given.get("allow_targets", ""))
        from nelbo.finished.replay import print_replay, replay  # seconds to import, and a usage needs none of it

        done = replay(Path(given["bundle"]), allow, moved)
    except NelboError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    print_replay(done)
    sys.exit(0 if done.is_reproduced else NOT_REPRODUCED)


if __name__ == "__main__":
    outlive_readers()
    main(sys.argv[1:])
