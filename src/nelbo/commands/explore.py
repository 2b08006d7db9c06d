"""`nelbo explore`: a page on this machine on which the latent space of trained models is explored."""

from __future__ import annotations

import importlib.util

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import ConfigError, NelboError, integer, number
from nelbo.finished.arguments import AT, DATA, numbers, packages, run_paths

PACKAGES = ("starlette", "uvicorn")
MOST_RUNS = 2
LARGEST_PORT = 65535
MINUTE = 60.0

EPILOG = """The page shows the codes of images on a plane, the posterior of an image, the units with their KLs, and the
picture that is decoded while a point or a unit is moved; levels of a hierarchy, classes of a conditional model, and
beta and K of a model that was trained for many. Two runs of the same data are shown side by side."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "explore",
        "run=PATH [split=test] [port=0] [idle_minutes=60] [at.NAME=VALUE] [data.KEY=VALUE]",
        "Serve a page on 127.0.0.1 on which the latent space of one trained model, or of two, is explored.",
        EPILOG,
    )
    made.key("run", "PATH", "a run's directory (its best.ckpt) or a checkpoint, or two: [PATH,PATH]", required=True)
    made.key("split", "NAME", "the images: test (default), val, train", default="test")
    made.key("images", "N", "images whose codes are shown, at most (500)", type=int, default=500)
    made.key("port", "N", "the port; 0 (default) for a free one, which is printed", type=int, default=0)
    made.key(
        "idle_minutes", "M", "minutes without a request after which it ends (60); 0: never", type=float, default=60
    )
    made.key("device", "NAME", "auto (default), cpu, cuda, ...", default="auto")
    made.key("threads", "N", "CPU threads (1)", type=int, default=1)
    made.key("batch_size", "B", "images that are encoded at once (100)", type=int, default=100)
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that the model is made of", default="")
    return made


def main() -> None:
    """Read the command line and serve; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, others = parser().read(arguments, others=(AT, DATA))
        paths = run_paths(values.run)
        if len(paths) > MOST_RUNS:
            raise ConfigError(
                "run", values.run, f"are {len(paths)} runs; the page has room for {MOST_RUNS}", located=True
            )
        port = integer("port", values.port, minimum=0, maximum=LARGEST_PORT)
        idle_seconds = MINUTE * number("idle_minutes", values.idle_minutes, minimum=0)
        if not all(map(importlib.util.find_spec, PACKAGES)):
            raise NelboError(f"the page needs packages: pip install {' '.join(PACKAGES)}")
        from nelbo.explorer.command import explore  # seconds to import, which --help does without

        ended = explore(
            paths,
            split=values.split,
            images=integer("images", values.images, minimum=1),
            port=port,
            idle_seconds=idle_seconds,
            device=values.device,
            threads=integer("threads", values.threads, minimum=1),
            batch_size=integer("batch_size", values.batch_size, minimum=1),
            setting=numbers(AT, {key.removeprefix(AT): value for key, value in others.items() if key.startswith(AT)}),
            moved={key.removeprefix(DATA): value for key, value in others.items() if key.startswith(DATA)},
            allow=packages(values.allow_targets),
        )
    except NelboError as error:
        fail(error)
    print(ended, flush=True)


if __name__ == "__main__":
    main()
